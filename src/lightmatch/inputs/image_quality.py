"""Image quality for matching: blur, exposure and texture, measured on the pixels.

Thresholds were set on eight sets of real and rendered photos and on copies of them that were blurred, darkened and
brightened; the numbers beside each are what was measured there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np

from lightmatch.images import resize_to_fit
from lightmatch.types import Image

Flaw = Literal["dark", "overexposed", "blank", "blurred"]

MEASURED_PX = 512  # long side; what is sharp at this size is sharp enough to match
_REBLUR_PX = 9

_DARK_LEVEL = 50  # sharp photos in daylight: 140 and more; at an eighth of the light: 32 and less
_WHITE_SHARE = 0.6  # real photos: up to 0.31; eight times overexposed: mostly 0.75 and more
_TEXTURE_SHARE = 0.05  # real photos: 0.2 and more; walls and skies, noise and all: 0.03 and less
_BLUR = 0.5  # real photos: up to 0.42; blurred over 0.4 % of the long side, or moved by 2 %: 0.5 and more
_BLUR_ABOVE_OTHERS = 0.1  # photos of one camera differ by up to 0.04; blurred over 0.2 % or moved by 1 %: 0.1 and more
_MIN_OTHERS = 4


@dataclass(frozen=True)
class PictureQuality:
    """Measures of one picture at 512 px."""

    blur: float  # 0 sharp … 1 blurred: Crete et al. 2007
    sharpness: float  # variance of the Laplacian, grey levels²; depends on what is shown
    white_level: float  # 99th percentile of grey, 0…255
    white_share: float  # of pixels at 250 or more
    black_share: float  # of pixels at 5 or less
    texture_share: float  # of pixels where grey changes by 2 levels a pixel or more
    entropy_bits: float  # of the grey levels, 0…8

    def describe(self, flaw: Flaw) -> str:
        """The number behind a flaw, in words."""
        if flaw == "dark":
            return f"its brightest parts reach {self.white_level:.0f} of 255"
        if flaw == "overexposed":
            return f"{self.white_share:.0%} of it is white"
        if flaw == "blank":
            return f"grey changes in {self.texture_share:.1%} of it"
        return f"blur {self.blur:.2f} on a scale from 0 to 1"


def picture_quality(image: Image) -> PictureQuality:
    """Measure a picture. The same picture at another resolution gives nearly the same, from 512 px on.

    Blur: how much of the differences between neighbours a second blur leaves as they are, along the worse of the two
    axes: a sharp picture loses most of them, a blurred one little, whatever it shows. Source: Crete et al. 2007, "The
    blur effect: perception and estimation with a new no-reference perceptual blur metric", equations 1 to 6.
    """
    grey = cv2.cvtColor(resize_to_fit(image, MEASURED_PX).pixels, cv2.COLOR_RGB2GRAY)
    shares = np.bincount(grey.ravel(), minlength=256) / grey.size
    smooth = cv2.GaussianBlur(grey.astype(np.float32), (0, 0), 1.0)
    slope = np.hypot(cv2.Sobel(smooth, cv2.CV_32F, 1, 0), cv2.Sobel(smooth, cv2.CV_32F, 0, 1)) / 8
    used = shares[shares > 0]
    return PictureQuality(
        blur=max(_blur(grey.astype(np.float32)), _blur(grey.T.astype(np.float32))),
        sharpness=float(cv2.Laplacian(grey, cv2.CV_32F).var()),
        white_level=float(np.searchsorted(np.cumsum(shares), 0.99)),
        white_share=float(shares[250:].sum()),
        black_share=float(shares[:6].sum()),
        texture_share=float((slope >= 2).mean()),
        entropy_bits=float(-(used * np.log2(used)).sum()),
    )


def _blur(grey: np.ndarray) -> float:
    """The blur index along the rows of (h, w)."""
    if grey.shape[1] < 2:
        return 0.0
    differences = np.abs(np.diff(grey, axis=1))
    left = np.abs(np.diff(cv2.blur(np.ascontiguousarray(grey), (_REBLUR_PX, 1)), axis=1))
    total = float(differences.sum())
    lost = float(np.maximum(0.0, differences - left).sum())
    return 1 - lost / total if total else 0.0


def find_flaws(quality: Mapping[str, PictureQuality], cameras: Sequence[Sequence[str]] = ()) -> dict[str, Flaw]:
    """The worst flaw of each picture that has one.

    cameras: groups of photos of one camera: one that is blurred well above the median of its group is flagged before
    it passes the threshold that holds for all.
    """
    usual: dict[str, float] = {}
    for names in cameras:
        blurs = [quality[name].blur for name in names if name in quality]
        if len(blurs) >= _MIN_OTHERS:
            usual |= dict.fromkeys(names, float(np.median(blurs)))
    found: dict[str, Flaw] = {}
    for name, measured in quality.items():
        if measured.white_level < _DARK_LEVEL:
            found[name] = "dark"
        elif measured.white_share > _WHITE_SHARE:
            found[name] = "overexposed"
        elif measured.texture_share < _TEXTURE_SHARE:
            found[name] = "blank"
        elif measured.blur > min(_BLUR, usual.get(name, 1.0) + _BLUR_ABOVE_OTHERS):
            found[name] = "blurred"
    return found
