"""What every extractor inherits, seen through one that finds given keypoints."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch

from lightmatch.errors import InvalidValueError
from lightmatch.extractors import available_extractors, create_extractor
from lightmatch.extractors.base import (
    Extractor,
    ExtractorConfig,
    check_mask,
    features_to_size,
    register,
    registrations,
    select_strongest,
    strongest_first,
)
from lightmatch.types import FeatureKind, Features, Image

PLAIN = FeatureKind("plain", descriptor_dim=1)


class EveryPixel(Extractor):
    """One keypoint for each pixel that may have one, stronger to the right."""

    kind = PLAIN

    def _extract(self, image: Image, mask: np.ndarray | None) -> Features:
        width, height = image.size
        allowed = np.ones((height, width), bool) if mask is None else mask
        y, x = torch.from_numpy(allowed).nonzero().float().unbind(1)
        return Features(torch.stack((x, y), 1), x.clone(), y[:, None].clone(), image.size, PLAIN)

    def _describe(self, image: Image, features: Features) -> torch.Tensor:
        return features.keypoints[:, 1:]


def blank(width: int, height: int) -> Image:
    return Image(np.zeros((height, width, 3), np.uint8))


def test_keypoints_come_back_in_pixels_of_the_original():
    # 8 x 4 is worked on as 4 x 2: the centre of the last small pixel covers the original's last two.
    features = EveryPixel(ExtractorConfig(max_image_size=4))(blank(8, 4))
    assert features.image_size == (8, 4)
    assert len(features) == 8
    assert features.keypoints[0].tolist() == [6.5, 0.5]


def test_the_strongest_are_kept_strongest_first():
    features = EveryPixel(ExtractorConfig(max_keypoints=3))(blank(5, 2))
    assert features.keypoints.tolist() == [[4, 0], [4, 1], [3, 0]]


@pytest.mark.parametrize("dtype", [bool, np.uint8])
def test_no_keypoint_lies_on_a_masked_pixel_at_any_size(dtype):
    rng = np.random.default_rng(0)
    mask = (rng.random((37, 50)) > 0.1).astype(dtype)
    for long_side in (50, 33, 20, 7):
        config = ExtractorConfig(max_image_size=long_side, max_keypoints=10_000)
        x, y = EveryPixel(config)(blank(50, 37), mask).keypoints.add(0.5).long().unbind(1)
        assert mask[y, x].all()
    assert len(EveryPixel(ExtractorConfig(max_keypoints=10_000))(blank(50, 37), mask)) == np.count_nonzero(mask)


@pytest.mark.parametrize(
    "mask",
    [np.ones((5, 4), bool), np.ones((4, 5, 1), bool), np.ones((4, 5), np.float32), [[1] * 5] * 4],
    ids=["turned", "with channel", "float", "list"],
)
def test_a_mask_of_another_form_is_refused(mask):
    with pytest.raises(InvalidValueError, match=r"mask: expected .* \(4, 5\)"):
        check_mask(mask, (5, 4))


def test_equal_scores_are_ordered_by_the_ties_in_turn():
    scores = torch.tensor([1.0, 2, 2, 2, 2])
    first, second = torch.tensor([0.0, 5, 3, 5, 5]), torch.tensor([0.0, 2, 9, 1, 2])
    assert strongest_first(scores, first, second).tolist() == [2, 3, 1, 4, 0]


def test_the_choice_does_not_depend_on_the_order_given():
    generator = torch.Generator().manual_seed(0)
    places = torch.cartesian_prod(torch.arange(10.0), torch.arange(10.0))
    features = Features(places, torch.randint(3, (100,), generator=generator).float(), places[:, :1], (10, 10), PLAIN)
    shuffled = features.select(torch.randperm(100, generator=generator))
    assert torch.equal(select_strongest(shuffled, 40).keypoints, select_strongest(features, 40).keypoints)


def test_features_to_size_is_undone_by_the_way_back():
    kind = FeatureKind("scaled", descriptor_dim=1, has_scale_orientation=True)
    ones = torch.ones(2)
    features = Features(torch.tensor([[0.0, 0], [7, 3]]), ones, ones[:, None], (8, 4), kind, ones, ones)
    larger = features_to_size(features, (16, 8))
    assert larger.scales is not None and larger.orientations is not None
    assert larger.keypoints.tolist() == [[0.5, 0.5], [14.5, 6.5]]
    assert larger.scales.tolist() == [2, 2]
    assert larger.orientations.tolist() == [1, 1]
    assert torch.equal(features_to_size(larger, (8, 4)).keypoints, features.keypoints)


def test_create_extractor_hands_its_options_to_the_config():
    assert "sift" in available_extractors()
    extractor = create_extractor("sift", max_keypoints=7, max_image_size=99)
    assert extractor.kind.name == "sift"
    assert (extractor.config.max_keypoints, extractor.config.max_image_size) == (7, 99)


def test_create_extractor_says_what_there_is():
    with pytest.raises(InvalidValueError, match=r"expected one of .*sift.*, got 'swift'"):
        create_extractor("swift")
    with pytest.raises(InvalidValueError, match=r"among .*max_image_size.*, got max_size"):
        create_extractor("sift", max_size=3)


def test_a_region_is_worked_on_alone_and_its_keypoints_are_those_of_the_photo():
    mask = np.ones((6, 10), bool)
    mask[3] = False
    features = EveryPixel(ExtractorConfig())(blank(10, 6), mask, region=(2, 3, 5, 5))
    assert features.image_size == (10, 6)
    assert sorted(features.keypoints.tolist()) == [[2, 4], [3, 4], [4, 4]]
    # The long side that is worked on is the region's.
    finer = EveryPixel(ExtractorConfig(max_image_size=4))(blank(16, 16), region=(8, 4, 12, 8))
    assert len(finer) == 16 and finer.keypoints.amin(0).tolist() == [8, 4]


@pytest.mark.parametrize("region", [(0, 0, 0, 4), (-1, 0, 3, 3), (0, 0, 11, 3), (0, 0, 3)])
def test_a_region_outside_the_photo_is_refused(region):
    with pytest.raises(InvalidValueError, match=r"region: expected .* inside the image of 10 x 6"):
        EveryPixel(ExtractorConfig())(blank(10, 6), region=region)


def test_several_images_come_back_in_order():
    masks = [None, np.zeros((2, 3), bool), None]
    found = EveryPixel(ExtractorConfig()).extract_batch([blank(2, 1), blank(3, 2), blank(3, 2)], masks)
    assert [len(features) for features in found] == [2, 0, 6]
    with pytest.raises(InvalidValueError, match="masks: expected one for each of 2 images, got 1"):
        EveryPixel(ExtractorConfig()).extract_batch([blank(2, 1), blank(2, 1)], [None])


def test_given_keypoints_are_all_described_in_their_order():
    # 8 x 4 is worked on as 4 x 2, where y = 2.5 is y = 1.
    keypoints = torch.tensor([[7.0, 2.5], [0, 0.5], [7, 2.5]])
    features = EveryPixel(ExtractorConfig(max_image_size=4, max_keypoints=1)).describe(blank(8, 4), keypoints)
    assert torch.equal(features.keypoints, keypoints) and features.scores.tolist() == [1, 1, 1]
    assert features.descriptors.tolist() == [[1], [0], [1]]
    edge = EveryPixel(ExtractorConfig()).describe(blank(8, 4), torch.tensor([[7.5, 3.5], [-0.5, -0.5]]))
    assert edge.descriptors.tolist() == [[3.5], [-0.5]]
    assert len(EveryPixel(ExtractorConfig()).describe(blank(8, 4), torch.empty(0, 2))) == 0


@pytest.mark.parametrize("place", [(8.0, 1.0), (3.0, -0.6), (float("nan"), 1.0)])
def test_keypoints_outside_the_image_are_refused(place):
    with pytest.raises(InvalidValueError, match=r"inside the image of 8 x 4 px, got .* \(number 1\)"):
        EveryPixel(ExtractorConfig()).describe(blank(8, 4), torch.tensor([(1.0, 1.0), place]))


@pytest.mark.parametrize("field", ["max_keypoints", "max_image_size"])
def test_limits_must_be_positive(field):
    with pytest.raises(InvalidValueError, match=f"{field}: expected at least 1"):
        ExtractorConfig(**{field: 0})


def test_a_name_is_registered_once():
    @dataclass(frozen=True, kw_only=True)
    class Config(ExtractorConfig):
        pass

    create_extractor("sift")
    before = registrations()
    with pytest.raises(InvalidValueError, match="'sift'"):
        register("sift", Config)(EveryPixel)
    assert registrations() == before
