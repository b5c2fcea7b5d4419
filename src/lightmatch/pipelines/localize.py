"""A new photo against a finished model: read, extract, compare, match, place."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from lightmatch.colmap.models import registered_images, registered_names
from lightmatch.colmap.options import MAX_SEED
from lightmatch.errors import ImageReadError, InvalidValueError, ReconstructionError
from lightmatch.extractors import create_extractor
from lightmatch.images import common_levels, load_image
from lightmatch.images.working_copies import write_working_copy
from lightmatch.inputs import PhotoFacts, read_facts
from lightmatch.matchers import Matcher, create_matcher
from lightmatch.pairing import describe, learn_vocabulary, sample_descriptors, sample_size, similarities
from lightmatch.pipelines.finished import FinishedRun
from lightmatch.pipelines.progress import Progress
from lightmatch.reconstruction import guess_impossible_focal_length
from lightmatch.sfm.absolute_pose import NoPose, PoseOptions
from lightmatch.sfm.placement import PairMatcher, PlacedPhoto, place_photo
from lightmatch.types import Features, Image, Matches

if TYPE_CHECKING:
    from pycolmap import Camera, Reconstruction


CameraFrom = Literal["model", "exif", "guess"]

_CAMERA_MODEL = "SIMPLE_RADIAL"  # of photos whose camera the model does not know
_NO_LENS = (None, None, None, None)
_USUAL_SHARE = 0.5  # of the matches that agree with the pose: where it is less, the photo may be mirrored
_FEWEST_MIRRORED = 50


@dataclass(frozen=True)
class LocalizeConfig:
    """How to localise. Features and matcher are those that the model was made with."""

    num_candidates: int = 40  # photos of the model that are matched with: all, or those that look most like it
    seed: int = 0
    device: str = "cpu"
    precision: str = "auto"  # of the matcher

    def __post_init__(self) -> None:
        if self.num_candidates < 1:
            raise InvalidValueError(f"num_candidates: expected at least 1, got {self.num_candidates}")
        if not 0 <= self.seed <= MAX_SEED:
            raise InvalidValueError(f"seed: expected 0…{MAX_SEED}, got {self.seed}")


@dataclass(frozen=True, eq=False)
class LocalizeResult:
    """Where a photo was taken."""

    photo: Path
    placed: PlacedPhoto
    camera_from: CameraFrom  # "model": intrinsics of a photo with the same lens; "exif", "guess": refined
    metric: bool  # whether units of the model are metres
    unit: str  # for people
    seconds: dict[str, float]  # by stage

    def to_json(self) -> dict[str, Any]:
        """Plain values, for JSON: see `PlacedPhoto` for what they mean."""
        placed, camera = self.placed, self.placed.camera
        return {
            "photo": str(self.photo),
            "cam_from_world": placed.cam_from_world.tolist(),
            "center": placed.center.tolist(),
            "unit": self.unit,
            "metric": self.metric,
            "covariance": {
                "rows": ["rotation x, rad", "rotation y, rad", "rotation z, rad", "centre x", "centre y", "centre z"],
                "about": "turn about the camera's own axes, centre in the world in units of the model",
                "values": placed.covariance.tolist(),
            },
            "position_std": placed.position_std,
            "rotation_std_deg": placed.rotation_std_deg,
            "num_inliers": placed.num_inliers,
            "num_correspondences": placed.num_correspondences,
            "error_px": placed.error_px,
            "camera": {
                "from": self.camera_from,
                "model": camera.model_name,
                "width": camera.width,
                "height": camera.height,
                "params": list(camera.params),  # COLMAP's, the corner of the first pixel at (0, 0)
                "focal_std_px": placed.focal_std_px,
                "shape": placed.shape,  # "cropped: …", "stretched: …", or null
            },
            "inliers_by_photo": dict(placed.inliers_by_candidate),
            "inliers": [
                {"pixel": pixel, "point": point}
                for pixel, point in zip(placed.inlier_pixels.tolist(), placed.point_ids.tolist(), strict=True)
            ],
            "seconds": self.seconds,
        }


def localize(
    output: str | Path,
    photo: str | Path,
    config: LocalizeConfig | None = None,
    *,
    progress: Progress | None = None,
) -> LocalizeResult:
    """Find where `photo` was taken, in the best model of a finished reconstruction; nothing is written.

    output: what `reconstruct` wrote. The photo is compared with all photos of the model up to 40, else with the 40 that
    look most like it. Its intrinsics are those of a photo of the model with the same camera, focal length and size, by
    EXIF; else they are refined, from EXIF, from a photo of that size whose camera is as unknown, or from a guess
    of 1.2 times the longer side.
    Raises ReconstructionError where there is no finished model or the photo does not match it, ImageReadError where
    it cannot be read.
    """
    output, photo = Path(output), Path(photo)
    config, progress = config or LocalizeConfig(), progress or Progress()
    finished = FinishedRun.of(output)
    extractor = create_extractor(
        finished.config.features, max_keypoints=finished.config.max_keypoints, device=config.device
    )
    matcher = create_matcher(finished.config.matcher, extractor.kind, device=config.device, precision=config.precision)
    max_pixels = finished.config.max_pixels
    image = load_image(photo, max_pixels, finished.levels or common_levels([photo], max_pixels))
    with progress.stage("extract", 1) as step:
        features = extractor(image)
        step()
    camera, camera_from = camera_of_photo(photo, image, finished.model, finished.layout.images)
    names = registered_names(finished.model)
    if len(names) > config.num_candidates:
        names = _most_alike(features, names, finished, config, progress)
    others = {name: finished.features_of(name) for name in names}

    def place(found: Features, counted: PairMatcher) -> PlacedPhoto | NoPose:
        return place_photo(
            found,
            camera,
            finished.model,
            names,
            others,
            counted,
            PoseOptions(intrinsics="known" if camera_from == "model" else "guess", any_camera=True, seed=config.seed),
        )

    with progress.stage("match", len(names)) as step:
        answer = place(features, _Counted(matcher, step))
    if answer.num_inliers < _USUAL_SHARE * answer.num_correspondences:
        # Of things that are alike on both sides, a mirrored photo matches the other side.
        back = place(extractor(Image(np.ascontiguousarray(image.pixels[:, ::-1]))), matcher)
        if isinstance(back, PlacedPhoto) and back.num_inliers > max(_FEWEST_MIRRORED, 2 * answer.num_inliers):
            raise ReconstructionError(
                f"{photo}: expected a photo as it was taken, got a mirrored one: {back.num_inliers} matches agree with"
                f" one pose where it is mirrored back, {answer.num_inliers} as it is; mirror it back"
            )
    if isinstance(answer, NoPose):
        raise ReconstructionError(
            f"{photo}: {answer.sentence} (compared with {len(names)} photos of {output}); take one of the same place"
            " that overlaps the model's photos, or reconstruct again with this one among them"
        )
    # A camera that was found from the matches alone has nothing of the model's, or of EXIF's.
    is_freed = answer.focal_std_px is not None if camera_from == "model" else answer.camera.model != camera.model
    camera_from = "guess" if is_freed else camera_from
    return LocalizeResult(
        photo, answer, camera_from, finished.frame.metric, finished.frame.unit, dict(progress.seconds)
    )


def _most_alike(
    features: Features, names: Sequence[str], finished: FinishedRun, config: LocalizeConfig, progress: Progress
) -> list[str]:
    """The photos of the model that look most like a new one, sorted by name."""
    with progress.stage("compare", 2 * len(names)) as step:
        num, samples = sample_size(len(names)), []
        for name in names:
            samples.append(sample_descriptors(finished.features_of(name), num, config.seed))
            step()
        vocabulary = learn_vocabulary(samples, seed=config.seed)
        described = []
        for name in names:  # read twice, so that one photo's features are held at a time
            described.append(describe(finished.features_of(name), vocabulary))
            step()
    described.append(describe(features, vocabulary))
    ((_, alike),) = similarities(np.stack(described), [len(names)])
    order = alike[0, : len(names)].argsort(descending=True, stable=True)
    return sorted(names[int(index)] for index in order[: config.num_candidates])


def camera_of_photo(photo: Path, image: Image, model: Reconstruction, images: Path) -> tuple[Camera, CameraFrom]:
    """The camera of a photo, for its upright size, and where its intrinsics come from.

    A photo without facts of its lens in EXIF starts from the camera of photos of its size that have none either.
    model: whose photos, in the folder `images`, may share the camera.
    """
    import pycolmap

    lens = _lens(read_facts(photo))
    tried: set[int] = set()  # photos that share a camera share their lens
    for name, camera_id in [(image.name, image.camera_id) for image in registered_images(model)]:
        camera = model.camera(camera_id)
        if camera_id in tried or (camera.width, camera.height) != image.size:
            continue
        if _lens(read_facts(images / name)) == lens:
            return pycolmap.Camera(camera.todict()), "guess" if lens == _NO_LENS else "model"
        tried.add(camera_id)
    camera = _camera_from_exif(photo, image)
    return camera, "exif" if camera.has_prior_focal_length else "guess"


def _lens(facts: PhotoFacts) -> tuple[str | None, float | None, float | None, float | None]:
    """What must agree for two photos of one size to share intrinsics."""
    known = facts.camera is not None and (facts.focal_mm is not None or facts.focal_35mm is not None)
    return (facts.camera, facts.focal_mm, facts.focal_35mm, facts.digital_zoom or 1.0) if known else _NO_LENS


def _camera_from_exif(photo: Path, image: Image) -> Camera:
    """As COLMAP enters a photo: the focal length from EXIF or else 1.2 times the longer side, nothing distorted."""
    import pycolmap

    options = pycolmap.ImageReaderOptions()
    options.camera_model = _CAMERA_MODEL
    with tempfile.TemporaryDirectory() as scratch:
        copy = write_working_copy(photo, image, Path(scratch, f"photo{photo.suffix}"))
        camera = pycolmap.infer_camera_from_image(copy, options)
    guess_impossible_focal_length(camera)
    if (camera.width, camera.height) != image.size:
        raise ImageReadError(
            f"cannot use {photo}: expected {image.size} px, COLMAP reads {camera.width, camera.height}"
        )
    return camera


class _Counted:
    """A matcher that reports how many pairs it has done."""

    def __init__(self, matcher: Matcher, step: Callable[[], None]) -> None:
        self._matcher = matcher
        self._step = step

    def match_batch(self, pairs: Sequence[tuple[Features, Features]]) -> list[Matches]:
        found = self._matcher.match_batch(pairs)
        for _ in found:
            self._step()
        return found
