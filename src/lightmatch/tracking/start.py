"""The first map of one camera without depths: two frames with parallax enough between them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from lightmatch.extractors import Extractor
from lightmatch.geometry.ransac import SearchOptions
from lightmatch.geometry.robust import estimate_relative_pose
from lightmatch.matchers import Matcher
from lightmatch.tracking.camera import TrackedCamera
from lightmatch.tracking.flow import FlowImage, follow
from lightmatch.tracking.keyframes import one_to_one
from lightmatch.tracking.map import Keyframe, Map
from lightmatch.tracking.triangulation import triangulate
from lightmatch.types import Features, Image

_KEPT = 0.4  # of the reference's keypoints that must still be followed; with fewer, there is a new reference
_MOVED = 0.03  # of the image's diagonal, in the median, before parallax is looked for
_PARALLAX_DEG = 1.0  # in the median of the points
_POINTS = 80  # of the first map, at least
_AGREE = 0.6  # of the matches must make points in front of both cameras
_ANGLE_DEG = 0.5  # of a single point
_SEARCH_PX = 1.0
_AGAIN = 3  # frames between two tries


@dataclass(eq=False)
class _Reference:
    timestamp: float
    features: Features
    image: FlowImage
    places: np.ndarray  # (n, 2) px, where its keypoints are in the latest frame
    alive: np.ndarray  # (n,) numbers of those that are still followed
    latest: FlowImage
    frames: int = 0


class Start:
    """Waits for parallax: a camera that only turns, or stands, makes no map."""

    def __init__(self, camera: TrackedCamera, extractor: Extractor, matcher: Matcher, seed: int) -> None:
        self._camera, self._extractor, self._matcher, self._seed = camera, extractor, matcher, seed
        self._reference: _Reference | None = None

    @property
    def since(self) -> float | None:
        """The time of the frame that others are compared with."""
        return None if self._reference is None else self._reference.timestamp

    def step(self, timestamp: float, image: Image, flow: FlowImage) -> Map | str:
        """The map, of two keyframes, the second of which is this frame; or why there is none yet."""
        reference = self._reference
        if reference is None:
            return self._begin(timestamp, image, flow)
        places, good = follow(reference.latest, flow, reference.places)
        reference.places, reference.alive, reference.latest = places[good], reference.alive[good], flow
        reference.frames += 1
        if len(reference.alive) < _KEPT * len(reference.features):
            return self._begin(timestamp, image, flow)
        first = reference.features.keypoints.numpy()[reference.alive]
        moved = float(np.median(np.linalg.norm(reference.places - first, axis=1)))
        if moved < _MOVED * float(np.hypot(*self._camera.image_size)):
            return "the camera has not moved enough yet to see depth"
        if reference.frames % _AGAIN:
            return "waiting for parallax"
        return self._try(reference, timestamp, image, flow)

    def _begin(self, timestamp: float, image: Image, flow: FlowImage) -> str:
        features = self._extractor(image)
        keypoints = features.keypoints.numpy().astype(np.float64)
        self._reference = _Reference(timestamp, features, flow, keypoints, np.arange(len(features)), flow)
        if len(features) < _POINTS:
            self._reference = None
            return f"{len(features)} keypoints: too little texture to start"
        return "the first frame"

    def _try(self, reference: _Reference, timestamp: float, image: Image, flow: FlowImage) -> Map | str:
        features = self._extractor(image)
        indices = one_to_one(self._matcher(reference.features, features).indices.numpy())
        places = [
            self._camera.ideal(f.keypoints.numpy()[indices[:, side]].astype(np.float64))
            for side, f in enumerate((reference.features, features))
        ]
        seen = np.isfinite(places[0]).all(1) & np.isfinite(places[1]).all(1)  # where the lens has a ray
        indices, places = indices[seen], [side[seen] for side in places]
        if len(indices) < _POINTS:
            return f"{len(indices)} matches with the first frame: too few to start"
        K = torch.from_numpy(self._camera.K)
        first, second = (torch.from_numpy(each) for each in places)
        geometry = estimate_relative_pose(first, second, K, K, SearchOptions(_SEARCH_PX, seed=self._seed))
        if geometry.cam1_from_cam0 is None:
            return "no motion explains the matches with the first frame"
        pose0, pose1 = np.eye(3, 4), geometry.cam1_from_cam0.numpy().astype(np.float64)
        inliers = geometry.inliers.numpy()
        found = triangulate(self._camera, pose0, pose1, places[0][inliers], places[1][inliers])
        good = found.good(_ANGLE_DEG, 2 * _SEARCH_PX)
        angle = float(np.median(found.angles_deg[np.isfinite(found.errors_px)])) if inliers.any() else 0.0
        if angle < _PARALLAX_DEG:
            return f"parallax of {angle:.1f}°: the camera turned more than it moved"
        if good.sum() < _POINTS or good.sum() < _AGREE * inliers.sum():
            return f"{int(good.sum())} points: too few to start"
        scale = float(np.median(found.xyz[good][:, 2]))  # the unit: the median depth
        pose1 = np.column_stack((pose1[:, :3], pose1[:, 3] / scale))
        mapped = Map()
        for time, pose, f, seen in (
            (reference.timestamp, pose0, reference.features, reference.image),
            (timestamp, pose1, features, flow),
        ):
            ideal = self._camera.ideal(f.keypoints.numpy().astype(np.float64))
            mapped.add_keyframe(Keyframe(time, pose, f, ideal, np.full(len(f), np.nan), seen))
        for (i, j), xyz in zip(indices[inliers][good].tolist(), found.xyz[good] / scale, strict=True):
            mapped.add_point(xyz, [(0, i), (1, j)])
        return mapped
