"""Tone mapping: 10-bit PQ and HLG frames (high dynamic range) → 8-bit sRGB.

A photo viewer, a feature detector and a splat trainer expect display-referred sRGB. HDR pixels read as if they were
that come out grey and flat (PQ) or too bright (HLG). The way from one to the other, per pixel:

1. code → light of the display: PQ by the EOTF of SMPTE ST 2084 (ITU-R BT.2100-2, table 4), HLG by the inverse OETF and
   the OOTF of ITU-R BT.2100-2, table 5, for the nominal display of 1000 cd/m² (system gamma 1.2).
2. highlights: the EETF of Report ITU-R BT.2390-4, pages 20–21 (since then annex 5 of BT.2408-7), from a peak of
   1000 cd/m² down to the white of an SDR picture, taken as 203 cd/m², the HDR reference white of BT.2408. It is applied
   to the largest of the three channels and all three are scaled alike, which keeps the hue. Up to 87 cd/m² it changes
   nothing.
3. BT.2020 → BT.709 primaries in linear light, what falls outside clipped (Report ITU-R BT.2407, section 2).
4. linear → sRGB: IEC 61966-2-1.

Nothing of it depends on a frame's content or on its metadata: the same light gives the same pixel in every frame.
"""

from __future__ import annotations

from functools import cache
from typing import Literal

import cv2
import numpy as np

from lightmatch.errors import InvalidValueError

Transfer = Literal["sdr", "pq", "hlg"]

SDR_WHITE = 203.0  # cd/m², BT.2408
PQ_PEAK = 10000.0  # cd/m², ST 2084
HDR_PEAK = 1000.0  # cd/m²: the display most HDR video is made on, and the nominal one of HLG

BT709_FROM_BT2020 = np.array(
    [[1.660491, -0.587641, -0.072850], [-0.124550, 1.132900, -0.008349], [-0.018151, -0.100579, 1.118730]]
)

_BT2020_LUMA = np.array([[0.2627, 0.6780, 0.0593]])
_FULL_SCALE = 255 * 256  # what swscale writes for white in 16-bit RGB: eight bits and eight of fraction


def pq_eotf(code: np.ndarray | float) -> np.ndarray:
    """Light in cd/m² of PQ codes 0…1. Any shape, float64. Source: ITU-R BT.2100-2, table 4."""
    m1, m2, c1, c2, c3 = _PQ
    power = np.power(np.clip(code, 0, 1), 1 / m2)
    return PQ_PEAK * np.power(np.maximum(power - c1, 0) / (c2 - c3 * power), 1 / m1)


def pq_inverse_eotf(light: np.ndarray | float) -> np.ndarray:
    """PQ codes 0…1 of light in cd/m², 0…10000: the inverse of `pq_eotf`. Source: as there."""
    m1, m2, c1, c2, c3 = _PQ
    power = np.power(np.clip(light, 0, PQ_PEAK) / PQ_PEAK, m1)
    return np.power((c1 + c2 * power) / (1 + c3 * power), m2)


_PQ = (2610 / 16384, 2523 / 4096 * 128, 3424 / 4096, 2413 / 4096 * 32, 2392 / 4096 * 32)


def hlg_inverse_oetf(code: np.ndarray) -> np.ndarray:
    """Light of the scene, 0…1, of HLG codes 0…1. Any shape, float64. Source: ITU-R BT.2100-2, table 5."""
    a = 0.17883277
    b, c = 1 - 4 * a, 0.5 - a * np.log(4 * a)
    code = np.clip(code, 0, 1)
    return np.where(code <= 0.5, code * code / 3, (np.exp((code - c) / a) + b) / 12)


def compress_highlights(light: np.ndarray) -> np.ndarray:
    """Light of an HDR display → light of one that ends at SDR_WHITE, both in cd/m². Any shape, float64.

    Rises monotonically; HDR_PEAK and all above become SDR_WHITE. Source: Report ITU-R BT.2390-4, pages 20–21,
    with black at 0 on both displays.
    """
    peak = pq_inverse_eotf(HDR_PEAK)
    highest = pq_inverse_eotf(SDR_WHITE) / peak
    knee = 1.5 * highest - 0.5
    level = np.minimum(pq_inverse_eotf(light) / peak, 1)
    t = np.maximum(level - knee, 0) / (1 - knee)
    spline = (2 * t**3 - 3 * t**2 + 1) * knee + (t**3 - 2 * t**2 + t) * (1 - knee) + (-2 * t**3 + 3 * t**2) * highest
    return np.where(level < knee, light, pq_eotf(np.where(level < knee, level, spline) * peak))


def tone_map(codes: np.ndarray, transfer: Transfer, bt2020: bool = True) -> np.ndarray:
    """HDR pixels as 8-bit sRGB.

    codes: (h, w, 3) uint16, R'G'B' in the scale of swscale's rgb48, whose white is 65280. transfer: "pq" or "hlg".
    bt2020: whether the primaries are those of BT.2020, else of BT.709.
    Returns (h, w, 3) uint8 sRGB. Raises InvalidValueError on another transfer or dtype.
    """
    if transfer not in ("pq", "hlg") or codes.dtype != np.uint16:
        raise InvalidValueError(
            f"tone_map: expected uint16 codes of transfer 'pq' or 'hlg', got {codes.dtype} and {transfer!r};"
            " SDR pixels need no tone mapping"
        )
    light = _linear_table(transfer)[codes]
    if transfer == "hlg":
        luminance = cv2.transform(light, _BT2020_LUMA.astype(np.float32))
        light *= (HDR_PEAK / SDR_WHITE) * np.power(luminance, np.float32(0.2)).reshape(*light.shape[:2], 1)
    brightest = np.maximum(np.maximum(light[..., 0], light[..., 1]), light[..., 2])
    light *= _gain_table()[_table_index(brightest / (PQ_PEAK / SDR_WHITE))][..., None]
    if bt2020:
        light = cv2.transform(light, BT709_FROM_BT2020.astype(np.float32))
    return _srgb_table()[_table_index(light)]


def _table_index(part: np.ndarray) -> np.ndarray:
    """0…1 → 0…65535, clipped; the array given is used up."""
    np.multiply(part, 65535, out=part)
    np.add(part, 0.5, out=part)
    return np.clip(part, 0, 65535, out=part).astype(np.uint16)


@cache
def _linear_table(transfer: Transfer) -> np.ndarray:
    """(65536,) float32: light by code; of the display in units of SDR_WHITE for PQ, of the scene for HLG."""
    codes = np.minimum(np.arange(65536) / _FULL_SCALE, 1)
    light = pq_eotf(codes) / SDR_WHITE if transfer == "pq" else hlg_inverse_oetf(codes)
    return light.astype(np.float32)


@cache
def _gain_table() -> np.ndarray:
    """(65536,) float32: by how much light is scaled down, for levels from 0 to PQ_PEAK in even steps."""
    light = np.maximum(np.arange(65536) * (PQ_PEAK / 65535), 1e-3)
    return (compress_highlights(light) / light).astype(np.float32)


@cache
def _srgb_table() -> np.ndarray:
    """(65536,) uint8: sRGB by linear light. Source: IEC 61966-2-1."""
    linear = np.arange(65536) / 65535
    encoded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * np.power(linear, 1 / 2.4) - 0.055)
    return np.rint(255 * encoded).astype(np.uint8)
