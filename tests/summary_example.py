"""The summary of a small run, to be changed by `dataclasses.replace`."""

from lightmatch.pipelines.reconstruct import ReconstructConfig, Summary
from lightmatch.reconstruction import (
    FrameSummary,
    MappingHistory,
    ModelHistory,
    ModelSummary,
    PhotosSummary,
)
from lightmatch.reconstruction.mapping.held_out import PhotoScore, ScoreSummary
from lightmatch.reconstruction.refinement.steps import RefinementHistory

SCORE = ScoreSummary(0.9, 0.8, 0.9, 0.95, 0.4, 120, 118, 40)

SUMMARY = Summary(
    photos=PhotosSummary(num_images=3, num_registered=3, not_registered=(), sources={"a.jpg": "a.jpg"}),
    model=ModelSummary(
        num_cameras=1, num_points=100, num_observations=300, mean_track_length=3.0, mean_reprojection_error_px=0.7123
    ),
    num_models=1,
    frame=FrameSummary(metric=False, unit="mean distance of the cameras from their middle"),
    history=ModelHistory(
        MappingHistory(3, 3, 200, 40, 2, 1.5, best="global", score=SCORE),
        RefinementHistory(12, SCORE, {"a.jpg": PhotoScore(40, 0.95, 0.9)}),
    ),
    config=ReconstructConfig("sift", seed=0),
    seconds={"extract": 1.5},
)
