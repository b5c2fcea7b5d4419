"""`lightmatch calibrate` on photos of a rendered scene."""

import re
from pathlib import Path

import pytest
import torch
from command import run

from lightmatch.errors import InvalidValueError
from lightmatch.matchers import LightGlue
from lightmatch.pipelines.calibrate import CalibrateConfig, calibrate_on_photos


def test_weights_are_written_with_their_thresholds(scene_photos: Path, tmp_path: Path) -> None:
    written = tmp_path / "mine.safetensors"
    options = ["--max-keypoints", "128", "--max-keypoints", "256", "--pairs", "12", "--device", "cpu"]
    done = run("calibrate", "--photos", scene_photos, *options, "-o", written)
    assert re.search(r"6\.00 layers and \d\d\.\d% of the confident matches of overlapping pairs", done.stdout)
    assert "no early exits, no rejections" in done.stdout  # twelve pairs show nothing
    matcher, before = LightGlue.from_checkpoint(written), LightGlue.from_pretrained("sift")
    weights = before.network.state_dict()
    assert all(torch.equal(value, weights[name]) for name, value in matcher.network.state_dict().items())
    calibration = matcher.config.calibration
    assert calibration is not None
    assert calibration.num_pairs == 8
    assert "sift, 128 or 256 keypoints" in calibration.source


def test_matchers_without_layers_are_refused(scene_photos: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidValueError, match="LightGlue"):
        calibrate_on_photos([scene_photos], tmp_path / "m.safetensors", CalibrateConfig(matcher="nearest"))


def test_too_few_photos_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidValueError, match="three photos"):
        calibrate_on_photos([tmp_path], tmp_path / "m.safetensors")
