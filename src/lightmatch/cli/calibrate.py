"""`lightmatch calibrate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lightmatch.cli.console import ERR, say
from lightmatch.cli.options import Device, Features, Matcher, Precision, Seed
from lightmatch.cli.progress import BarProgress
from lightmatch.runtime.devices import pick_device


def calibrate(
    photos: Annotated[list[Path], typer.Option(help="Folder of photos like those to be matched; repeatable.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="File of weights to write (.safetensors).")],
    features: Features = "sift",
    matcher: Matcher = "lightglue",
    max_keypoints: Annotated[
        list[int] | None,
        typer.Option(min=1, help="Keypoints per photo; of several numbers each pair draws one. [default: 2048]"),
    ] = None,
    agreement: Annotated[
        float, typer.Option(help="Share of the confident matches of the full network that stays, mean over pairs.")
    ] = 0.99,
    false_rejections: Annotated[
        float, typer.Option(help="Share of overlapping pairs that may be rejected early, at most.")
    ] = 0.01,
    pairs: Annotated[int, typer.Option(min=2, help="Pairs of photos to calibrate on.")] = 1500,
    device: Device = "auto",
    precision: Precision = "auto",
    seed: Seed = 0,
) -> None:
    """Choose when LightGlue may stop early, and how probable it is that a match is right, on photos of your own.

    No camera is calibrated here: `reconstruct` finds intrinsics.

    Example: `lightmatch calibrate --photos photos/ --agreement 0.99 -o mine.safetensors`

    No ground truth is needed. `--features sift --matcher lightglue:mine.safetensors` uses the result; name the features
    that you calibrated for. Both shares hold with a probability of 95 % each, for pairs like those of the photos.
    """
    from lightmatch.evaluation.calibration import CalibrationOptions
    from lightmatch.pipelines.calibrate import CalibrateConfig, calibrate_on_photos

    config = CalibrateConfig(
        features=features,
        matcher=matcher,
        max_keypoints=tuple(max_keypoints or (2048,)),
        num_pairs=pairs,
        device=pick_device(device),
        precision=precision,
        options=CalibrationOptions(agreement, false_rejections, seed=seed),
    )
    result = calibrate_on_photos(photos, output, config, progress=BarProgress(ERR))
    for step in result.steps[-2:]:  # those before were more cautious
        holds = "holds" if step.p_value <= config.options.error else "may not hold"
        say(
            f"{step.mean_layers:.2f} layers and {step.agreement:.1%} of the confident matches of overlapping pairs;"
            f" {step.false_rejections:.1%} of them and {step.right_rejections:.1%} of the others rejected: {holds}"
        )
    if (errors := result.score_errors) is not None:
        say(
            f"expected calibration error of the matches, on pairs that took no part: {errors.scores:.3f} by their"
            f" scores, {errors.probabilities:.3f} by their probabilities"
        )
    say(f"{output}: {result.calibration.summary()}")
