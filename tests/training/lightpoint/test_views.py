"""Labels are made once; views transform them exactly; a batch depends on seed and step alone."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from lightmatch.errors import InvalidValueError
from lightmatch.extractors import create_extractor
from lightmatch.geometry.homography import transfer
from lightmatch.training.lightpoint.cut import full_from_small, gaussian_targets
from lightmatch.training.lightpoint.detection import predict_maps
from lightmatch.training.lightpoint.teachers import SHIFT_PX, LabelStore, TeacherLabels
from lightmatch.training.lightpoint.views import StudentViews, StudentViewsConfig
from lightmatch.types import Image

SIFT = create_extractor("sift", max_keypoints=200)


@pytest.fixture
def store(scene_photos: Path, tmp_path: Path) -> LabelStore:
    photos = sorted(scene_photos.glob("*.png"))[:3]
    return LabelStore(tmp_path / "labels", photos, SIFT, {"sift": SIFT})


def views(store: LabelStore, **changes: object) -> StudentViews:
    plain = {"pairs_per_step": 2, "sizes": ((160, 128),), "points": 64}
    return StudentViews(store, StudentViewsConfig(**(plain | changes)), seed=3)  # type: ignore[arg-type]


def test_labels_are_computed_once_and_cached(store: LabelStore) -> None:
    first = store.labels(0, 1)
    assert store.path(0, 1).exists()
    silent = LabelStore(store.folder, store.photos, None, {})  # type: ignore[arg-type]
    again = silent.labels(0, 1)
    assert torch.equal(first.keypoints, again.keypoints) and torch.equal(first.scores, again.scores)
    assert first.descriptors["sift"].shape == (len(first.keypoints), 128)
    torch.testing.assert_close(
        again.descriptors["sift"].norm(dim=1), torch.ones(len(again.keypoints)), atol=2e-3, rtol=0
    )


def test_photos_of_one_name_in_different_folders_have_files_of_their_own(tmp_path: Path) -> None:
    photos = [tmp_path / folder / "same.png" for folder in ("a", "b")]
    store = LabelStore(tmp_path, photos, SIFT, {})
    assert store.path(0, 0) != store.path(1, 0) != store.path(1, 1)


def test_a_teacher_describes_the_place_and_not_the_place_its_network_is_off_by(store: LabelStore) -> None:
    described = []

    class Spy:
        kind = SIFT.kind

        def describe(self, image: Image, keypoints: torch.Tensor) -> object:
            described.append(keypoints)
            return SIFT.describe(image, keypoints)

    LabelStore(store.folder, store.photos, SIFT, {"aliked": Spy()}).make_labels(store.image(0, 0))  # type: ignore[dict-item]
    found = SIFT(store.image(0, 0)).keypoints
    inside = (found[:, 0] > 2) & (found[:, 0] < 477)
    torch.testing.assert_close(
        (described[0] - found)[inside], torch.tensor(SHIFT_PX["aliked"]).expand(int(inside.sum()), 2)
    )
    assert SHIFT_PX["aliked"] != (0, 0)


def test_the_same_step_gives_the_same_batch_and_another_gives_another(store: LabelStore) -> None:
    one, same, other = views(store)[5], views(store)[5], views(store)[6]
    assert torch.equal(one.images, same.images) and torch.equal(one.targets, same.targets)
    assert one.images.shape == (4, 1, 128, 160) and not torch.equal(one.images, other.images)


def test_both_views_show_the_same_places(store: LabelStore) -> None:
    batch = views(store, any_rotation_share=1.0)[0]
    both = batch.valid[0::2] & batch.valid[1::2]
    carried = transfer(batch.homographies, batch.points[0::2])
    assert int(both.sum()) > 10
    torch.testing.assert_close(carried[both], batch.points[1::2][both], atol=1e-2, rtol=0)


def test_targets_are_gaussians_whose_logarithm_peaks_at_the_keypoint() -> None:
    target = gaussian_targets(torch.tensor([[10.3, 7.8]], dtype=torch.float64), torch.tensor([0.8]), (20, 16))
    assert float(target.max()) < 0.8 and divmod(int(target.argmax()), 20) == (8, 10)
    left, middle, right = target[8, 9:12].log()
    offset = 0.5 * (right - left) / (2 * middle - left - right)
    assert float(offset) == pytest.approx(0.3, abs=1e-4)


def test_half_of_a_photo_lies_edge_on_edge() -> None:
    images = {0: np.zeros((10, 20, 3)), 1: np.zeros((5, 10, 3))}
    # The first pixel of the half covers the first two of the whole, whose middle is at 0.5.
    assert (full_from_small(images, 1) @ [0, 0, 1])[:2].tolist() == [0.5, 0.5]
    assert (full_from_small(images, 0) == np.eye(3)).all()


def test_sizes_that_the_network_cannot_take_are_refused() -> None:
    with pytest.raises(InvalidValueError, match="multiples of 16"):
        StudentViewsConfig(sizes=((100, 80),))


def test_labels_without_keypoints_give_a_batch(tmp_path: Path) -> None:
    photo = tmp_path / "blank.png"
    cv2.imwrite(str(photo), np.full((300, 400, 3), 90, np.uint8))
    store = LabelStore(tmp_path, [photo], SIFT, {"sift": SIFT})
    batch = views(store)[0]
    assert batch.points.shape == (4, 0, 2) and float(batch.targets.max()) == 0
    assert isinstance(TeacherLabels.load(store.path(0, 0)), TeacherLabels)


def test_views_of_a_photo_that_is_smaller_than_they_are(tmp_path: Path) -> None:
    photo = tmp_path / "small.png"
    cv2.imwrite(str(photo), np.random.default_rng(0).integers(0, 255, (40, 50, 3), dtype=np.uint8))
    store = LabelStore(tmp_path / "labels", [photo], SIFT, {"sift": SIFT})
    for step in range(4):
        assert views(store, plain_share=0.0, scale=(0.4, 1.6))[step].images.isfinite().all()


def test_what_lies_outside_of_a_photo_changes_nothing(store: LabelStore) -> None:
    """A view is as bright as its photo, and beyond the photo's edge is what is beyond the edge of a view."""
    batch = views(store, plain_share=0.0)[0]
    seen: list[torch.Tensor] = []

    def network(images: torch.Tensor) -> None:
        seen.append(images)

    for value in (0.0, 1.0):
        grey = torch.where(batch.inside[:, None], batch.images, value)
        predict_maps(network, replace(batch, images=grey))  # type: ignore[arg-type]
    assert not batch.inside.all() and torch.equal(*seen) and not seen[0][~batch.inside[:, None]].any()
    part = seen[0][0][batch.inside[None, 0]]
    assert float(part.mean()) == pytest.approx(0, abs=1e-3) and float(part.std()) == pytest.approx(1, abs=0.2)
