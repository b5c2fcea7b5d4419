"""The LightPoint inside the package: where its keypoints lie, and that they are found again."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

import lightmatch as lm
from lightmatch.geometry.homography import transfer
from lightmatch.types import Image


@pytest.fixture(scope="module")
def photo(scene_photos: Path) -> Image:
    return lm.load_image(scene_photos / "view_0.png")


@pytest.mark.parametrize("axis", [0, 1])
def test_keypoints_of_the_mirrored_photo_are_the_mirrored_keypoints(photo: Image, axis: int) -> None:
    """No constant shift, which ALIKED's networks have and a student would learn."""
    extractor = lm.create_extractor("lightpoint", max_keypoints=500)
    found, mirrored = extractor(photo), extractor(Image(np.ascontiguousarray(np.flip(photo.pixels, axis))))
    back = mirrored.keypoints.clone()
    back[:, 1 - axis] = photo.size[1 - axis] - 1 - back[:, 1 - axis]
    distance = torch.cdist(found.keypoints, back)
    nearest, partner = distance.min(1)
    same = nearest < 2
    assert float(same.float().mean()) > 0.7
    shift = (back[partner] - found.keypoints)[same].median(0).values
    assert float(shift.abs().max()) < 0.15


@pytest.mark.parametrize("angle_deg", [0, 40])
def test_neighbours_by_descriptor_are_the_same_place_after_a_warp(photo: Image, angle_deg: float) -> None:
    width, height = photo.size
    rotation = cv2.getRotationMatrix2D((width / 2, height / 2), angle_deg, 0.9)
    warped = Image(np.asarray(cv2.warpAffine(photo.pixels, rotation, photo.size, flags=cv2.INTER_AREA)))
    H = torch.eye(3, dtype=torch.float64)
    H[:2] = torch.from_numpy(rotation)
    extractor = lm.create_extractor("lightpoint", max_keypoints=500)
    features0, features1 = extractor(photo), extractor(warped)
    matches = lm.NearestNeighbor(ratio=None)(features0, features1)
    points0, points1 = matches.points(features0, features1)
    carried = transfer(H, points0.double())
    inside = ((carried > 0) & (carried < torch.tensor(photo.size))).all(1)
    right = (carried - points1).norm(dim=1)[inside] < 2
    assert int(right.sum()) > 100 and float(right.double().mean()) > 0.8


def test_keypoints_keep_their_distance_and_come_strongest_first(photo: Image) -> None:
    found = lm.create_extractor("lightpoint", max_keypoints=1000)(photo)
    assert len(found) > 300 and bool((found.scores.diff() <= 0).all())
    distance = torch.cdist(found.keypoints, found.keypoints).fill_diagonal_(torch.inf)
    assert float(distance.min()) > 1.9  # 3 px between pixels, less what two parabolas may take


def test_the_space_of_aliked_is_for_its_released_matcher(photo: Image) -> None:
    ours, mapped = (lm.create_extractor(name, max_keypoints=100)(photo) for name in ("lightpoint", "lightpoint_aliked"))
    assert mapped.kind.name == "aliked" and mapped.descriptors.shape[1] == 128
    assert torch.equal(ours.keypoints, mapped.keypoints)
