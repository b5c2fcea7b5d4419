"""Errors of a trajectory against the truth: absolute (ATE) and relative (RPE).

Sturm et al., A benchmark for the evaluation of RGB-D SLAM systems, IROS 2012. The numbers are those of evo, which
`evo_errors` asks for them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from lightmatch.geometry.alignment import Similarity, align_points
from lightmatch.geometry.poses import center_of, composed, relative

INTERVAL_S = 1.0  # of the relative error
_OFF = 0.2  # of the interval, at most: that two frames are nearer or farther
_SAME_S = 1e-6  # between times that are the same but for rounding
_FEWEST = 3  # poses, to be aligned


@dataclass(frozen=True, eq=False)
class Trajectory:
    """Poses with their times and true poses."""

    times: np.ndarray  # (n,) s
    poses: np.ndarray  # (n, 3, 4) cam_from_world
    true: np.ndarray  # (n, 3, 4) cam_from_world, m

    @property
    def centers(self) -> np.ndarray:
        """(n, 3)."""
        return centers_of(self.poses)


@dataclass(frozen=True)
class Errors:
    """None where too few poses are known."""

    ate_m: float | None  # root mean square distance of the centres after alignment
    rpe_m_per_s: float | None  # root mean square error of the motion during a second
    scale: float | None  # of the similarity that fits best


def centers_of(poses: np.ndarray) -> np.ndarray:
    """(n, 3) centres of cam_from_world (n, 3, 4)."""
    return np.array([center_of(pose) for pose in poses]).reshape(-1, 3)


def errors_of(found: Trajectory, is_metric: bool) -> Errors:
    """After the similarity that fits best; of a metric trajectory, the rigid motion that does."""
    if len(found.times) < _FEWEST or np.ptp(found.centers, axis=0).max() == 0:
        return Errors(None, None, None)
    ours, true = torch.from_numpy(found.centers), torch.from_numpy(centers_of(found.true))
    fit = align_points(ours, true)
    scale = float(fit.scale)
    if is_metric:
        fit = Similarity(torch.ones(()).double(), fit.rotation, true.mean(0) - fit.rotation @ ours.mean(0))
    off = (fit.apply(ours) - true).norm(dim=1)
    return Errors(float(off.square().mean().sqrt()), _relative(found, float(fit.scale)), scale)


def _relative(found: Trajectory, scale: float) -> float | None:
    """Root mean square of the translation by which motions over the interval differ from the true ones, m per s."""
    squares = []
    for start, other in _pairs(found.times):
        ours, true = (relative(poses[start], poses[other]) for poses in (found.poses, found.true))
        ours[:, 3] *= scale
        back = composed(_inverse(true), ours)
        squares.append(float((back[:, 3] ** 2).sum()) / (found.times[other] - found.times[start]) ** 2)
    return float(np.sqrt(np.mean(squares))) if squares else None


def _pairs(times: np.ndarray) -> list[tuple[int, int]]:
    """Each frame and the one nearest to an interval later, where there is one."""
    if len(times) < 2:
        return []
    later = times + INTERVAL_S
    after = np.clip(np.searchsorted(times, later), 1, len(times) - 1)
    nearest = np.where(np.abs(times[after - 1] - later) <= np.abs(times[after] - later), after - 1, after)
    known = (np.abs(times[nearest] - later) <= _OFF * INTERVAL_S) & (later <= times[-1] + _SAME_S)
    return [(int(first), int(nearest[first])) for first in np.flatnonzero(known)]


def _inverse(pose: np.ndarray) -> np.ndarray:
    return np.column_stack((pose[:, :3].T, center_of(pose)))


def evo_errors(found: Trajectory, is_metric: bool, frames: int) -> Errors:
    """As evo says. frames: that lie the interval apart; times are even."""
    from evo.core import metrics
    from evo.core.trajectory import PoseTrajectory3D

    ours, true = (
        PoseTrajectory3D(
            poses_se3=[np.vstack((_inverse(pose), [0, 0, 0, 1])) for pose in poses], timestamps=found.times
        )
        for poses in (found.poses, found.true)
    )
    _, _, scale = ours.align(true, correct_scale=not is_metric)
    values = []
    for metric in (
        metrics.APE(metrics.PoseRelation.translation_part),
        metrics.RPE(metrics.PoseRelation.translation_part, frames, metrics.Unit.frames, all_pairs=True),
    ):
        metric.process_data((true, ours))
        values.append(float(metric.get_statistic(metrics.StatisticsType.rmse)))
    return Errors(values[0], values[1] / INTERVAL_S, float(scale))
