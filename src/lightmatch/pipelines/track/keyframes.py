"""The keyframes of a run on disk: a COLMAP model, their images, and their features, so that a later run goes on."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lightmatch.errors import ReconstructionError
from lightmatch.pipelines.finished import FinishedRun
from lightmatch.reconstruction import read_model
from lightmatch.runtime import codec
from lightmatch.runtime.store import FeatureStore, digest
from lightmatch.tracking import TrackedCamera, Tracker, TrackerConfig
from lightmatch.tracking.earlier import map_of_model
from lightmatch.tracking.export import colmap_model
from lightmatch.tracking.map import Keyframe, Map
from lightmatch.tracking.sequences import SequenceFrame
from lightmatch.video.reading import Frame
from lightmatch.video.writing import write_jpeg

MODEL, IMAGES, KEYFRAMES, MAP = "sparse", "images", "keyframes", "map.json"


@dataclass(frozen=True)
class MapFacts:
    """What a map is made with."""

    features: str
    matcher: str
    is_metric: bool  # whether its unit is the metre
    shift_px: float = 0.0  # as of `tracking.TrackedCamera`


@dataclass(frozen=True)
class _KeyframeFacts:
    right_x: tuple[float | None, ...]  # px, as of `tracking.map.Keyframe`


@dataclass(frozen=True, eq=False)
class EarlierMap:
    """A map of an earlier run of `track` or `reconstruct`."""

    map: Map
    names: dict[int, str]  # of the images, by keyframe
    images: Path  # their folder
    facts: MapFacts


def model_of(output: Path) -> Path:
    """The folder of the COLMAP model that `track` and `reconstruct` write. Raises ReconstructionError without one."""
    model = output / MODEL / "0"
    if not model.is_dir():
        raise ReconstructionError(
            f"{output}: expected what `lightmatch track` or `lightmatch reconstruct` wrote, found no {MODEL}/0 in it"
        )
    return model


def read_map(output: Path, camera: TrackedCamera, most: int) -> EarlierMap:
    """A map to track in, from what `track` or `reconstruct` wrote. most: keypoints of a keyframe.

    Raises ReconstructionError where there is none, or its features are not there.
    """
    model = read_model(model_of(output))
    if not (output / MAP).is_file():
        finished = FinishedRun.of(output)
        features = {image.name: finished.all_features_of(image.name) for image in model.images.values()}
        mapped, names = map_of_model(model, camera, features, most=most)
        facts = MapFacts(finished.config.features, finished.config.matcher, finished.frame.metric)
        return EarlierMap(mapped, names, finished.layout.images, facts)
    facts, store = codec.read(MapFacts, output / MAP), FeatureStore(output / KEYFRAMES)
    features, right_x = {}, {}
    for name in sorted(image.name for image in model.images.values()):
        found = store.read_with(digest(name), _KeyframeFacts)
        if found is None:
            raise ReconstructionError(
                f"{output}: expected the features of {name} in {KEYFRAMES}, found none; track again"
            )
        features[name] = found.features
        right_x[name] = np.array([np.nan if x is None else x for x in found.facts.right_x])
    mapped, names = map_of_model(model, camera, features, right_x)
    return EarlierMap(mapped, names, output / IMAGES, facts)


class KeyframeFiles:
    """Writes the keyframes of a tracker while it makes them."""

    def __init__(self, output: Path, config: TrackerConfig, earlier: EarlierMap | None = None) -> None:
        """earlier: whose keyframes become part of the output too."""
        self._output, self._config = output, config
        self._is_metric = earlier is not None and earlier.facts.is_metric
        self._store = FeatureStore(output / KEYFRAMES)
        self.names: dict[int, str] = {}  # of images, by keyframe
        self._recent: list[SequenceFrame] = []  # that may become keyframes
        for number, name in {} if earlier is None else earlier.names.items():
            assert earlier is not None
            self._keep(number, earlier.map.keyframes[number], name)
            (output / IMAGES / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(earlier.images / name, output / IMAGES / name)
        self._new_names = self._unused_names()

    def is_metric(self, tracker: Tracker) -> bool:
        """Whether the unit of the map is the metre."""
        return self._is_metric or tracker.camera.baseline is not None

    def write(self, tracker: Tracker, given: SequenceFrame | None = None) -> None:
        """Write the keyframes that are new in the map. given: the frame that was just tracked."""
        if given is not None:
            self._recent.append(given)
        for number, keyframe in list(tracker.map.keyframes.items()):
            if number in self.names:
                continue
            image = next(frame.image for frame in self._recent if frame.timestamp == keyframe.timestamp)
            assert image is not None
            self._keep(number, keyframe, next(self._new_names))
            path = self._output / IMAGES / self.names[number]
            path.parent.mkdir(parents=True, exist_ok=True)
            write_jpeg(Frame(number, keyframe.timestamp, image.pixels), path)
        oldest = tracker.oldest_needed
        while self._recent and oldest is not None and self._recent[0].timestamp < oldest:
            self._recent.pop(0)

    def save(self, tracker: Tracker) -> None:
        """Write the map as it is now, and remove the files of keyframes that it dropped."""
        folder = self._output / MODEL / "0"
        folder.mkdir(parents=True, exist_ok=True)
        model = colmap_model(tracker.map, tracker.camera, self.names)
        model.extract_colors_for_all_images(self._output / IMAGES)
        model.write_binary(folder)
        facts = MapFacts(self._config.features, self._config.matcher, self.is_metric(tracker), tracker.camera.shift_px)
        codec.write(self._output / MAP, facts, indent=2)
        for number in self.names.keys() - tracker.map.keyframes.keys():
            name = self.names.pop(number)
            (self._output / IMAGES / name).unlink(missing_ok=True)
            self._store.remove(digest(name))

    def _keep(self, number: int, keyframe: Keyframe, name: str) -> None:
        self.names[number] = name
        facts = _KeyframeFacts(tuple(None if np.isnan(x) else float(x) for x in keyframe.right_x))
        self._store.write(digest(name), keyframe.features, facts)

    def _unused_names(self) -> Iterator[str]:
        taken = {Path(name).stem for name in self.names.values()}
        for count in itertools.count():
            if f"{count:06d}" not in taken:
                yield f"{count:06d}.jpg"
