"""`--features auto`: LightPoint where SIFT leaves photos out."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from told_progress import ToldProgress

from lightmatch.pipelines.layout import Layout
from lightmatch.pipelines.localize import localize
from lightmatch.pipelines.progress import Progress
from lightmatch.pipelines.reconstruct import ReconstructConfig, read_summary, reconstruct
from lightmatch.pipelines.reconstruct.fallback import fallback_features, is_worthwhile
from lightmatch.pipelines.reconstruct.report import page_data
from lightmatch.pipelines.reconstruct.summary import FeaturesTrial

CONFIG = ReconstructConfig(max_keypoints=1024, guided_keypoints=0, splat=False, seed=0)


def motion_blurred(pixels: np.ndarray, length: int = 21) -> np.ndarray:
    return cv2.filter2D(pixels, -1, np.full((1, length), 1 / length, np.float32))


def write_photos(source: Path, folder: Path, blurred: Iterator[int] | range) -> Path:
    folder.mkdir()
    for number in range(6):
        pixels = cv2.imread(str(source / f"view_{number}.png"))
        assert pixels is not None
        cv2.imwrite(str(folder / f"view_{number}.png"), motion_blurred(pixels) if number in blurred else pixels)
    return folder


@pytest.fixture(scope="module")
def half_blurred(scene_photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_photos(scene_photos, tmp_path_factory.mktemp("blurred") / "photos", range(4, 6))


@pytest.fixture(scope="module")
def output(half_blurred: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, progress = tmp_path_factory.mktemp("auto") / "out", ToldProgress()
    reconstruct(half_blurred, folder, CONFIG, progress=progress)
    assert progress.said[-1].startswith("2 of 6 photos are left out, and lightpoint matches 2 of them")
    return folder


def test_lightpoint_registers_photos_that_sift_leaves_out(output: Path) -> None:
    summary = read_summary(output)
    assert summary.features_tried == (FeaturesTrial("sift", 4), FeaturesTrial("lightpoint", 6))
    assert summary.num_registered == 6 and not summary.not_registered
    assert summary.config.features == "lightpoint"
    step = page_data(output).history[0]
    assert (step.step, step.kept) == ("features", "lightpoint") and "sift: 4 photos" in step.candidates


def test_the_result_is_that_of_lightpoint_alone(output: Path, half_blurred: Path, tmp_path: Path) -> None:
    alone = tmp_path / "alone"
    reconstruct(half_blurred, alone, replace(CONFIG, features="lightpoint"))
    for name in ("images.bin", "points3D.bin", "cameras.bin"):
        assert (Layout(alone).best_model / name).read_bytes() == (Layout(output).best_model / name).read_bytes()


def test_a_photo_is_localized_with_the_features_that_were_kept(output: Path, scene_photos: Path) -> None:
    assert localize(output, scene_photos / "view_5.png").placed.num_inliers > 100


def test_a_second_run_finds_the_stages_of_both_attempts(output: Path, half_blurred: Path) -> None:
    def stages() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in Layout(output).store.glob("stages/*/value.json")}

    before = stages()
    assert sum(path.parent.name.startswith("mapped") for path in before) == 2
    progress = Progress()
    summary = reconstruct(half_blurred, output, CONFIG, overwrite=True, progress=progress)
    assert summary.features_tried == read_summary(output).features_tried and len(summary.features_tried) == 2
    assert stages() == before
    assert not {"map", "verify"} & progress.seconds.keys()


def test_photos_that_sift_cannot_start_a_model_from(scene_photos: Path, tmp_path: Path) -> None:
    photos = write_photos(scene_photos, tmp_path / "photos", range(6))
    for number in (1, 2, 3, 5):
        (photos / f"view_{number}.png").unlink()
    summary = reconstruct(photos, tmp_path / "out", CONFIG)
    assert summary.features_tried == (FeaturesTrial("sift", 0), FeaturesTrial("lightpoint", 2))


def test_a_photo_of_something_else_causes_no_second_attempt(scene_photos: Path, tmp_path: Path) -> None:
    photos = write_photos(scene_photos, tmp_path / "photos", range(0))
    noise = np.random.default_rng(0).integers(0, 255, (45, 60, 3), np.uint8)
    cv2.imwrite(str(photos / "other.png"), cv2.resize(noise, (480, 360), interpolation=cv2.INTER_CUBIC))
    progress = ToldProgress()
    summary = reconstruct(photos, tmp_path / "out", CONFIG, progress=progress)
    assert summary.num_registered == 6 and [photo.name for photo in summary.not_registered] == ["other.png"]
    assert summary.features_tried == () and summary.config.features == "sift" and not progress.said


def test_what_the_user_chose_is_not_replaced() -> None:
    second = fallback_features(CONFIG, None)
    assert second is not None and second.features == "lightpoint"
    named: tuple[dict[str, Any], ...] = (
        {"features": "sift"},
        {"matcher": "nearest:0.8"},
        {"matcher": "lightglue,full"},
        {"imported": Path("database.db")},
        {"mirrored": "flip-back"},
    )
    assert all(fallback_features(replace(CONFIG, **options), None) is None for options in named)


def test_few_of_many_photos_are_not_worth_a_second_attempt() -> None:
    assert is_worthwhile(1, 10) and is_worthwhile(20, 1000)
    assert not is_worthwhile(19, 1000) and not is_worthwhile(0, 10)
