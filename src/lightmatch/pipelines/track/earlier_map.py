"""The map of an earlier run, of `track` or of `reconstruct`, to go on with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from lightmatch.errors import ReconstructionError
from lightmatch.pipelines.finished import FinishedRun
from lightmatch.pipelines.track.keyframes import IMAGES, KEYFRAMES, MAP, MODEL, KeyframeFacts, MapFacts, feature_key
from lightmatch.reconstruction import read_model
from lightmatch.runtime import codec
from lightmatch.runtime.store import FeatureStore
from lightmatch.tracking import TrackedCamera
from lightmatch.tracking.earlier import map_of_model
from lightmatch.tracking.map import Map
from lightmatch.types import Features


@dataclass(frozen=True, eq=False)
class EarlierMap:
    """A map, and where its images lie."""

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
        mapped, names = map_of_model(model, camera, _FeaturesOfRun(finished), most=most)
        facts = MapFacts(finished.config.features, finished.config.matcher, finished.frame.metric)
        return EarlierMap(mapped, names, finished.layout.images, facts)
    facts, store = codec.read(MapFacts, output / MAP), FeatureStore(output / KEYFRAMES)
    features, depths = {}, {}
    for name in sorted(image.name for image in model.images.values()):
        found = store.read_with(feature_key(name), KeyframeFacts)
        if found is None:
            raise ReconstructionError(
                f"{output}: expected the features of {name} in {KEYFRAMES}, found none; track again"
            )
        features[name] = found.features
        depths[name] = np.array([np.nan if depth is None else depth for depth in found.facts.depths])
    turned = replace(camera, shift_px=facts.shift_px)  # as it is tracked: where it sees a depth depends on it
    mapped, names = map_of_model(model, turned, features, depths)
    return EarlierMap(mapped, names, output / IMAGES, facts)


class _FeaturesOfRun(Mapping[str, Features]):
    """Of the photos of a reconstruction, each read when it is asked for."""

    def __init__(self, finished: FinishedRun) -> None:
        self._finished = finished

    def __getitem__(self, name: str) -> Features:
        return self._finished.all_features_of(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._finished.keys)

    def __len__(self) -> int:
        return len(self._finished.keys)
