"""What came of a reconstruction, and why photos were left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from pycolmap import Reconstruction

_FEW_KEYPOINTS = 50
_FEW_TO_START = 100  # COLMAP's init_min_num_inliers
_FEW_MATCHES = 30  # COLMAP's abs_pose_min_num_inliers: fewer cannot place a photo


class LeftOut(NamedTuple):
    """A photo that is not in the model."""

    name: str
    reason: str


@dataclass(frozen=True)
class ReconstructionSummary:
    """The numbers of one reconstruction; `to_json` is what summary.json holds."""

    num_images: int  # photos found, readable or not
    num_registered: int
    not_registered: tuple[LeftOut, ...]
    num_points: int
    num_observations: int
    mean_track_length: float
    mean_reprojection_error_px: float
    num_models: int
    num_cameras: int
    num_pairs: int
    num_verified_pairs: int
    seconds: dict[str, float]  # by stage

    def to_json(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {**asdict(self), "not_registered": [photo._asdict() for photo in self.not_registered]}


def summarize(
    models: Sequence[Reconstruction],
    sources: Mapping[str, str],
    unreadable: Sequence[LeftOut],
    num_keypoints: Mapping[str, int],
    num_pairs: int,
    verified: Mapping[tuple[str, str], int],
    seconds: Mapping[str, float],
) -> ReconstructionSummary:
    """Numbers of the first model, and a reason for each photo it lacks.

    models: at least one. sources: the photo behind each name in the models. num_keypoints: by name.
    verified: matches by pair of names.
    """
    best = models[0]
    registered = _names(best)
    elsewhere = {name: number for number, model in reversed(list(enumerate(models))) for name in _names(model)}
    left_out = [
        LeftOut(sources[name], _reason(name, count, verified, registered, elsewhere.get(name)))
        for name, count in num_keypoints.items()
        if name not in registered
    ]
    return ReconstructionSummary(
        num_images=len(num_keypoints) + len(unreadable),
        num_registered=len(registered),
        not_registered=(*left_out, *unreadable),
        num_points=best.num_points3D(),
        num_observations=best.compute_num_observations(),
        mean_track_length=best.compute_mean_track_length(),
        mean_reprojection_error_px=best.compute_mean_reprojection_error(),
        num_models=len(models),
        num_cameras=best.num_cameras(),
        num_pairs=num_pairs,
        num_verified_pairs=len(verified),
        seconds=dict(seconds),
    )


def no_model_reason(num_keypoints: Mapping[str, int], verified: Mapping[tuple[str, str], int]) -> str:
    """Why nothing could be registered, and what to do, in one sentence."""
    poor = [name for name, count in num_keypoints.items() if count < _FEW_KEYPOINTS]
    if len(num_keypoints) - len(poor) < 2:
        return (
            f"{len(poor)} of {len(num_keypoints)} have fewer than {_FEW_KEYPOINTS} keypoints;"
            " take sharp photos of textured things, or raise --max-keypoints"
        )
    if not verified:
        return (
            "no two photos share enough verified matches;"
            " take photos that overlap by half or more, or raise --max-keypoints"
        )
    best = max(verified.values())
    if best < _FEW_TO_START:
        return (
            f"no pair has more than {best} verified matches, and a model starts from {_FEW_TO_START};"
            " raise --max-keypoints, or take photos that overlap more"
        )
    return (
        f"photos match (up to {best} matches in a pair), but none could start a model: they may show the same view;"
        " move sideways between photos rather than turning on the spot"
    )


def _names(model: Reconstruction) -> set[str]:
    return {model.image(image_id).name for image_id in model.reg_image_ids()}


def _reason(
    name: str,
    num_keypoints: int,
    verified: Mapping[tuple[str, str], int],
    registered: set[str],
    model: int | None,
) -> str:
    if num_keypoints < _FEW_KEYPOINTS:
        return f"only {num_keypoints} keypoints: blurred, dark or without texture, or --max-keypoints is too low"
    if model is not None:
        return f"placed in another model, sparse/{model}, that shares too little with this one"
    partners = {pair[1 - pair.index(name)]: count for pair, count in verified.items() if name in pair}
    if not partners:
        return "no verified matches with any photo: it may show something else"
    inside = {other: count for other, count in partners.items() if other in registered}
    if not inside:
        return f"matches only photos that are not in the model ({', '.join(sorted(partners)[:3])})"
    other = max(inside, key=lambda photo: inside[photo])
    if inside[other] < _FEW_MATCHES:
        return f"too few verified matches: at most {inside[other]} (with {other})"
    return f"{inside[other]} matches with {other}, but its position could not be fixed"
