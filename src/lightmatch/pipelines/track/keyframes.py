"""The keyframes of a run on disk: a COLMAP model, their images, and their features, so that a later run goes on."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lightmatch.colmap.models import extract_colors
from lightmatch.runtime import codec
from lightmatch.runtime.files import replacing_folder
from lightmatch.runtime.store import FeatureStore, digest
from lightmatch.tracking import Tracker
from lightmatch.tracking.export import colmap_model
from lightmatch.tracking.sequences import SequenceFrame
from lightmatch.video.reading import Frame
from lightmatch.video.writing import write_jpeg

if TYPE_CHECKING:
    from lightmatch.pipelines.track.earlier_map import EarlierMap

MODEL, IMAGES, KEYFRAMES, MAP = "sparse", "images", "keyframes", "map.json"


@dataclass(frozen=True)
class MapFacts:
    """What a map is made with."""

    features: str
    matcher: str
    is_metric: bool  # whether its unit is the metre
    shift_px: float = 0.0  # as of `tracking.TrackedCamera`


@dataclass(frozen=True)
class KeyframeFacts:
    """What is known of the keypoints of a keyframe beside their features."""

    depths: tuple[float | None, ...]  # m, where measured


def feature_key(name: str) -> str:
    """Of the features of a keyframe in their store. name: of its image."""
    return digest("keyframe", name)


class KeyframeFiles:
    """Writes the keyframes of a tracker while it makes them."""

    def __init__(self, output: Path, tracker: Tracker, facts: MapFacts, earlier: EarlierMap | None = None) -> None:
        """facts: of the map. earlier: whose keyframes become part of the output."""
        self._output, self._facts = output, facts
        self._store = FeatureStore(output / KEYFRAMES)
        self._shift_px = tracker.camera.shift_px
        self._is_stale = False  # whether depths were written that mean something else now
        self.names: dict[int, str] = {}  # of images, by keyframe
        self._recent: dict[float, SequenceFrame] = {}  # by time: that may become keyframes
        if earlier is not None:
            self._copy(tracker, earlier)
        self._new_names = self._unused_names()

    def _copy(self, tracker: Tracker, earlier: EarlierMap) -> None:
        for number, name in earlier.names.items():
            self._keep(tracker, number, name)
            (self._output / IMAGES / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(earlier.images / name, self._output / IMAGES / name)

    def offer(self, given: SequenceFrame) -> None:
        """A frame that is about to be tracked: it may become a keyframe."""
        self._recent.setdefault(given.timestamp, given)  # others of the same time are passed over

    def write(self, tracker: Tracker) -> None:
        """Write the keyframes that are new in the map, of frames that were offered."""
        for number, keyframe in list(tracker.map.keyframes.items()):
            if number in self.names:
                continue
            image = self._recent[keyframe.timestamp].image
            assert image is not None
            path = self._output / IMAGES / next(self._new_names)
            path.parent.mkdir(parents=True, exist_ok=True)
            write_jpeg(Frame(number, keyframe.timestamp, image.pixels), path)
            self._keep(tracker, number, path.name)
        self._is_stale |= tracker.camera.shift_px != self._shift_px
        self._shift_px = tracker.camera.shift_px
        needed = tracker.times_needed
        self._recent = {when: frame for when, frame in self._recent.items() if when in needed}

    def save(self, tracker: Tracker, *, colors: bool) -> None:
        """Write the map as it is now, and remove the files of keyframes that it dropped.

        colors: whether points have those of the images, which are all read for them.
        """
        codec.write(self._output / MAP, replace(self._facts, shift_px=tracker.camera.shift_px), indent=2)
        model = colmap_model(tracker.map, tracker.camera, self.names)
        if colors:
            extract_colors([model], self._output / IMAGES)
        with replacing_folder(self._output / MODEL / "0") as folder:
            model.write_binary(folder)
        for number in self.names.keys() - tracker.map.keyframes.keys():
            name = self.names.pop(number)
            (self._output / IMAGES / name).unlink(missing_ok=True)
            self._store.remove(feature_key(name))
        if self._is_stale:
            for number, name in self.names.items():
                self._keep(tracker, number, name)
            self._is_stale = False

    def _keep(self, tracker: Tracker, number: int, name: str) -> None:
        keyframe = tracker.map.keyframes[number]
        depths = np.full(len(keyframe.places), np.nan)
        if tracker.camera.baseline is not None:
            depths = tracker.camera.depth_of(keyframe.places, keyframe.right_x)
        facts = KeyframeFacts(tuple(None if np.isnan(depth) else float(depth) for depth in depths))
        self._store.write(feature_key(name), keyframe.features, facts)
        self.names[number] = name  # last: Ctrl-C may come before

    def _unused_names(self) -> Iterator[str]:
        taken = {Path(name).stem for name in self.names.values()}
        for count in itertools.count():
            if f"{count:06d}" not in taken:
                yield f"{count:06d}.jpg"
