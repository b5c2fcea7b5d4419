"""A matcher of images in a reconstruction: places of several pairs are merged to keypoints, and make tracks."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import stand_in_vismatch

from lightmatch.pipelines.progress import Progress
from lightmatch.pipelines.reconstruct import ReconstructConfig, read_summary, reconstruct

CONFIG = ReconstructConfig(matcher="vismatch:dense", max_keypoints=2048, splat=False, seed=0)


@pytest.fixture
def photos(scene_photos: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(5):
        (folder / f"view_{number}.png").write_bytes((scene_photos / f"view_{number}.png").read_bytes())
    return folder


def test_a_reconstruction(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in_vismatch.install(monkeypatch)
    summary = reconstruct(photos, tmp_path / "out", CONFIG)
    assert summary.num_registered == 5
    # Without merging, no place would be seen by three photos.
    assert summary.model.num_points > 100 and summary.model.mean_track_length > 2.5
    assert summary.model.mean_reprojection_error_px < 1
    assert read_summary(tmp_path / "out") == summary
    assert summary.config.matcher == "vismatch:dense" and summary.config.max_keypoints == 2048
    assert all(pair.probability is None for pair in summary.pairs)
    assert (tmp_path / "out" / "report.html").is_file()


def test_pairs_that_were_matched_are_not_matched_again(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in_vismatch.install(monkeypatch)

    class Stopped(Progress):
        """Ends the run once the pairs are matched."""

        def show(self, name: str, total: int):
            if name == "verify":
                raise KeyboardInterrupt
            return super().show(name, total)

    with pytest.raises(KeyboardInterrupt):
        reconstruct(photos, tmp_path / "out", CONFIG, progress=Stopped())

    def refuse(*_: object) -> None:
        raise AssertionError("matched again")

    monkeypatch.setattr(stand_in_vismatch.Matcher, "__call__", refuse)
    assert reconstruct(photos, tmp_path / "out", CONFIG).num_registered == 5


def test_nothing_is_matched_where_masks_are_black(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in_vismatch.install(monkeypatch)
    masks = tmp_path / "masks"
    masks.mkdir()
    height, width = cv2.imread(str(photos / "view_0.png")).shape[:2]  # type: ignore[union-attr]
    mask = np.full((height, width), 255, np.uint8)
    mask[:, : width // 2] = 0
    for path in photos.iterdir():
        cv2.imwrite(str(masks / path.name), mask)
    config = ReconstructConfig(matcher="vismatch:sift-nn", splat=False, seed=0, masks=masks)
    reconstruct(photos, tmp_path / "out", config)
    import pycolmap

    with pycolmap.Database.open(tmp_path / "out" / "database.db") as opened:
        x = np.concatenate([np.array(opened.read_keypoints(i.image_id))[:, 0] for i in opened.read_all_images()])
    assert len(x) > 50 and x.min() > width // 2 - 2
