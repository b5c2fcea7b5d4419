"""SIFT on blobs whose place, size and direction are known, and on noise."""

import pickle
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from lightmatch.errors import InvalidValueError
from lightmatch.extractors.sift import Sift, SiftConfig, mirror_sift, negate_sift, root_sift
from lightmatch.images import load_image
from lightmatch.types import Features, Image

FIELDS = ("keypoints", "scores", "descriptors", "scales", "orientations")


def blobs(*centres: tuple[float, float], size: tuple[int, int] = (160, 120), sigma: float = 4.0) -> Image:
    """Bright Gaussian blobs on dark."""
    x, y = np.arange(size[0])[None], np.arange(size[1])[:, None]
    light = sum(np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / (2 * sigma**2)) for cx, cy in centres)
    return as_image(40 + 170 * np.asarray(light))


def texture(seed: int = 0, size: tuple[int, int] = (240, 180)) -> Image:
    """Smooth noise of several scales: hundreds of keypoints."""
    rng = np.random.default_rng(seed)
    noise = sum(s * cv2.GaussianBlur(rng.standard_normal(size[::-1]), (0, 0), s) for s in (1.5, 3.0, 6.0))
    return as_image(128 + 60 * np.asarray(noise))


def as_image(grey: np.ndarray) -> Image:
    return Image(np.repeat(np.clip(grey, 0, 255).round().astype(np.uint8)[..., None], 3, 2))


def field(features: Features, name: str) -> Tensor:
    value = getattr(features, name)
    assert isinstance(value, Tensor)
    return value


def assert_same(features: Features, expected: Features) -> None:
    for name in FIELDS:
        assert torch.equal(field(features, name), field(expected, name)), name


@pytest.fixture
def opencv_threads() -> Iterator[None]:
    before = cv2.getNumThreads()
    yield
    cv2.setNumThreads(before)


def test_blobs_are_found_where_they_are():
    centres = [(40.0, 30.0), (110.25, 40.5), (60.5, 90.75)]
    found = Sift()(blobs(*centres)).keypoints
    distances = torch.cdist(torch.tensor(centres), found).min(1).values
    assert distances.max() < 0.05  # OpenCV's own answer is 0.35 px off


@pytest.mark.parametrize("axis", [0, 1], ids=["upside down", "mirrored"])
def test_no_side_of_the_image_is_preferred(axis):
    image = texture()
    flipped = Image(np.ascontiguousarray(np.flip(image.pixels, axis)))
    back = torch.tensor(image.size) - 1.0
    points, mirrored = Sift()(image).keypoints, Sift()(flipped).keypoints
    mirrored[:, 1 - axis] = back[1 - axis] - mirrored[:, 1 - axis]
    distances, nearest = torch.cdist(points, mirrored).min(1)
    same = distances < 1
    assert same.float().mean() > 0.8
    offset = (mirrored[nearest] - points)[same].median(0).values
    assert offset.abs().max() < 0.02  # OpenCV's own answer gives 0.5


@pytest.mark.parametrize("change", ["mirrored", "negative"])
def test_features_of_a_changed_picture_need_no_picture(change):
    image = texture()
    pixels = image.pixels[:, ::-1] if change == "mirrored" else 255 - image.pixels
    derived = {"mirrored": mirror_sift, "negative": negate_sift}[change](Sift()(image))
    extracted = Sift()(Image(np.ascontiguousarray(pixels)))
    angle = field(derived, "orientations")[:, None] - field(extracted, "orientations")
    apart = torch.cdist(derived.keypoints, extracted.keypoints) + 10 * (1 - angle.cos())
    distance, partner = apart.min(1)
    same = distance < 0.5
    assert same.float().mean() > 0.8
    likeness = (derived.descriptors * extracted.descriptors[partner]).sum(1)[same]
    assert likeness.median() > 0.99 and (likeness > 0.95).float().mean() > 0.95


def test_scales_and_places_follow_the_resolution():
    # The same blob, drawn at twice the resolution and shrunk again by max_image_size.
    fine = blobs((100.5, 80.5), size=(320, 240), sigma=8)
    coarse = Sift(SiftConfig(max_image_size=160))(fine).select(torch.tensor([0]))
    full = Sift()(fine).select(torch.tensor([0]))
    assert coarse.image_size == (320, 240)
    assert torch.allclose(coarse.keypoints, full.keypoints, atol=0.1)
    assert torch.allclose(field(coarse, "scales"), field(full, "scales"), rtol=0.05)
    # A Gaussian blob of σ is strongest in the DoG at about 0.88 σ; the scale is its diameter.
    assert field(full, "scales").item() == pytest.approx(2 * 0.88 * 8, rel=0.05)


def test_orientations_turn_clockwise_with_the_image():
    image = texture()
    turned = Image(np.ascontiguousarray(np.rot90(image.pixels, -1)))  # clockwise on screen
    features, after = Sift()(image), Sift()(turned)
    x, y = features.keypoints.unbind(1)
    expected = torch.stack((image.size[1] - 1 - y, x), 1)
    distances, nearest = torch.cdist(expected, after.keypoints).min(1)
    turn = field(after, "orientations")[nearest] - field(features, "orientations")
    turn = torch.remainder(turn[distances < 0.1], 2 * torch.pi)
    assert len(turn) > 100
    assert turn.median().item() == pytest.approx(torch.pi / 2, abs=0.02)


def test_root_sift_by_hand():
    assert root_sift(torch.tensor([[9.0, 16.0], [0.0, 0.0]])).tolist() == [pytest.approx([0.6, 0.8]), [0.0, 0.0]]


def test_descriptors_have_unit_norm_and_scores_fall():
    features = Sift()(texture())
    assert len(features) > 200
    assert torch.allclose(features.descriptors.norm(dim=1), torch.ones(len(features)))
    assert (features.descriptors >= 0).all()
    assert (features.scores > 0).all()
    assert (features.scores.diff() <= 0).all()
    assert ((field(features, "orientations") >= 0) & (field(features, "orientations") < 2 * torch.pi)).all()


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (16, 1), (1, 300), (64, 64)])
@pytest.mark.parametrize("upright", [False, True])
def test_nothing_to_see_gives_empty_features(size, upright):
    image = as_image(np.full(size[::-1], 90))
    features = Sift(SiftConfig(upright=upright))(image, np.ones(size[::-1], bool))
    assert_same(Sift(SiftConfig(upright=upright))(image), features)
    assert len(features) == 0
    assert features.image_size == size
    assert features.descriptors.shape == (0, 128)


def test_same_bits_whatever_the_number_of_threads(opencv_threads):
    image = texture(size=(480, 360))
    cv2.setNumThreads(1)
    expected = Sift()(image)
    for threads in (1, 3, 8):
        cv2.setNumThreads(threads)
        assert_same(Sift()(image), expected)


def test_a_lower_limit_gives_the_first_of_more():
    image = texture()
    everything = Sift()(image)
    for count in (1, 10, 11, 12, 100):  # some of these cut between orientations of one place
        assert_same(Sift(SiftConfig(max_keypoints=count))(image), everything.select(torch.arange(count)))


@pytest.mark.parametrize("upright", [False, True])
def test_a_mask_takes_keypoints_away_and_changes_no_other(upright):
    image = texture()
    mask = np.zeros(image.size[::-1], np.uint8)
    mask[40:140, 90:200] = 255
    sift = Sift(SiftConfig(upright=upright, max_keypoints=10_000))
    everything = sift(image)
    x, y = everything.keypoints.add(0.5).long().unbind(1)
    kept = torch.from_numpy(mask[y, x] > 0)
    assert 0 < kept.sum() < len(kept)
    assert_same(sift(image, mask), everything.select(kept))
    # The limit counts what the mask leaves.
    assert len(Sift(SiftConfig(upright=upright, max_keypoints=20))(image, mask)) == 20


def test_a_large_keypoint_looks_the_same_without_its_small_neighbours():
    image = texture()
    sift = Sift(SiftConfig(max_keypoints=10_000))
    everything = sift(image)
    large = everything.select(field(everything, "scales").argmax()[None])
    x, y = large.keypoints.add(0.5).long()[0].tolist()
    mask = np.zeros(image.size[::-1], bool)
    mask[y, x] = True
    alone = sift(image, mask)
    assert (field(alone, "scales") > 10).all()
    assert any(torch.equal(row, large.descriptors[0]) for row in alone.descriptors)


def test_upright_gives_one_keypoint_of_orientation_0_for_each_place():
    image = texture()
    turned, upright = Sift()(image), Sift(SiftConfig(upright=True))(image)
    places = {
        (*point, scale)
        for point, scale in zip(turned.keypoints.tolist(), field(turned, "scales").tolist(), strict=True)
    }
    assert len(places) < len(turned)
    found = [(*p, s) for p, s in zip(upright.keypoints.tolist(), field(upright, "scales").tolist(), strict=True)]
    assert sorted(found) == sorted(places)
    assert (field(upright, "orientations") == 0).all()


def test_upright_describes_with_the_gradients_as_they_stand():
    # Turning the image leaves an ordinary descriptor as it is, and changes an upright one.
    image = blobs((80, 60), (96, 60), size=(160, 120))
    turned = Image(np.ascontiguousarray(np.rot90(image.pixels, 2)))

    def likeness(upright: bool) -> float:
        one, other = (Sift(SiftConfig(upright=upright))(i) for i in (image, turned))
        # Any keypoint on the left blob, which the half turn takes to (79, 59).
        a = one.descriptors[torch.cdist(one.keypoints, torch.tensor([[80.0, 60.0]]))[:, 0] < 2]
        b = other.descriptors[torch.cdist(other.keypoints, torch.tensor([[79.0, 59.0]]))[:, 0] < 2]
        return float((a @ b.T).max())

    assert likeness(upright=False) > 0.97
    assert likeness(upright=True) < 0.9


def test_a_higher_contrast_threshold_drops_the_weak():
    image = texture()
    low, high = (Sift(SiftConfig(contrast_threshold=t))(image) for t in (0.02, 0.1))
    assert 0 < len(high) < len(low)
    assert high.scores.min() >= 0.1 / 3 * 0.999
    assert_same(high, low.select(torch.arange(len(high))))


@pytest.mark.parametrize(
    ("option", "value"), [("contrast_threshold", -1), ("edge_threshold", 0.5), ("num_octave_layers", 0)]
)
def test_settings_out_of_range_are_refused(option, value):
    with pytest.raises(InvalidValueError, match=f"SiftConfig.{option}: expected .*, got {value}"):
        SiftConfig(**{option: value})


def test_it_can_be_sent_to_another_process():
    image = texture()
    assert_same(pickle.loads(pickle.dumps(Sift()))(image), Sift()(image))


def test_a_photo_gives_as_many_keypoints_as_asked_for(real_data: Path):
    image = load_image(real_data / "eval" / "oxford_affine" / "graf" / "img1.png")
    features = Sift(SiftConfig(max_keypoints=1000))(image)
    assert len(features) == 1000
    assert ((features.keypoints >= -0.5) & (features.keypoints < torch.tensor(image.size) - 0.5)).all()
