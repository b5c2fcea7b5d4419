"""What a run says it will cost."""

from pathlib import Path

import pytest
from told_progress import ToldProgress

from lightmatch.inputs import bytes_per_keypoint
from lightmatch.pipelines.reconstruct.checks import announce_costs
from lightmatch.pipelines.reconstruct.config import ReconstructConfig
from lightmatch.pipelines.reconstruct.context import Run
from lightmatch.pipelines.reconstruct.costs import expected_seconds
from lightmatch.pipelines.reconstruct.extraction import Picture
from lightmatch.pipelines.reconstruct.first_pass import expected_share
from lightmatch.reconstruction import PictureQuality
from lightmatch.types import FeatureKind

SIFT = FeatureKind("sift", 128, True)


def pictures_in(run: Run, count: int) -> list[Picture]:
    run.layout.images.mkdir(parents=True)
    quality = PictureQuality(0.1, 1000.0, 240.0, 0.0, 0.0, 0.9, 7.0)
    found = []
    for number in range(count):
        name = f"{number}.jpg"
        (run.layout.images / name).write_bytes(bytes(50_000))
        found.append(Picture(name, name, name, name, (480, 360), 1300, name, quality))
    return found


def test_the_costs_are_told_with_this_machines_pace(tmp_path: Path) -> None:
    progress = ToldProgress()
    run = Run.of(tmp_path, ReconstructConfig(splat=False), progress)
    pictures = pictures_in(run, 200)
    share = expected_share(200, 2000)  # of pairs, by few keypoints first
    expected = expected_seconds([picture.image_size for picture in pictures], 2000, 1300, share)
    progress.forecast._taken["extract"] = 3 * expected["extract"]
    announce_costs(run, pictures, 2000, SIFT, few_first=True)
    left = progress.forecast.seconds_left()
    assert left == pytest.approx(3 * (sum(expected.values()) - expected["extract"]))
    (said,) = progress.said
    assert said.startswith("200 pictures, 2000 pairs: about ") and said.endswith(" MB on disk")
    keypoints_mb = 200 * 1300 * bytes_per_keypoint(SIFT) / 1e6
    assert float(said.split()[-4]) > keypoints_mb


def test_short_runs_say_nothing(tmp_path: Path) -> None:
    progress = ToldProgress()
    run = Run.of(tmp_path, ReconstructConfig(), progress)
    announce_costs(run, pictures_in(run, 3), 3, SIFT)
    progress.forecast._taken["extract"] = 11.0
    assert not progress.said


def test_more_pictures_pairs_and_keypoints_cost_more() -> None:
    few = expected_seconds([(480, 360)] * 10, 45, 500)
    assert sum(expected_seconds([(480, 360)] * 20, 45, 500).values()) > sum(few.values())
    assert sum(expected_seconds([(480, 360)] * 10, 90, 500).values()) > sum(few.values())
    assert sum(expected_seconds([(480, 360)] * 10, 45, 2000).values()) > sum(few.values())
    assert sum(expected_seconds([(480, 360)] * 10, 45, 500, 0.5).values()) < sum(few.values())
    assert expected_seconds([(4000, 3000)] * 10, 45, 500)["extract"] > 5 * few["extract"]
