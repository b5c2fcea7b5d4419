"""ALIKED: its adapter with random weights, and with the released ones where they are at hand."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

import lightmatch as lm
from lightmatch.errors import WeightsError
from lightmatch.extractors.aliked import Aliked, AlikedConfig, AlikedN16Rot, AlikedN32, AlikedT16
from lightmatch.types import Image

kornia = pytest.importorskip("kornia.feature")


def texture(width: int, height: int, seed: int = 0) -> Image:
    colours = np.random.default_rng(seed).standard_normal((height, width, 3))
    return Image(np.clip(128 + 300 * cv2.GaussianBlur(colours, (0, 0), 2), 0, 255).astype(np.uint8))


@pytest.fixture(scope="module")
def random_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "aliked-t16.pth"
    torch.save(kornia.ALIKED("aliked-t16").state_dict(), path)
    return path


def random_aliked(weights: Path, **settings: object) -> AlikedT16:
    return AlikedT16(AlikedConfig(weights=weights, detection_threshold=0.01, **settings))  # type: ignore[arg-type]


@pytest.mark.parametrize("extractor_type", [Aliked, AlikedN16Rot, AlikedN32, AlikedT16])
def test_released_weights_give_what_kornia_gives(extractor_type: type[Aliked], real_data: Path) -> None:
    name = extractor_type.record_name
    path = real_data / "weights" / "aliked" / f"{name}.pth"
    image = lm.load_image(real_data / "eval/lightglue_assets/sacre_coeur1.jpg")
    image = Image(np.ascontiguousarray(cv2.resize(image.pixels, (333, 250), interpolation=cv2.INTER_AREA)))
    ours = extractor_type(AlikedConfig(weights=path))(image)
    peer = kornia.ALIKED(name, 2048)
    peer.load_state_dict(torch.load(path, weights_only=True), strict=False)
    with torch.no_grad():
        theirs = peer.eval()(torch.from_numpy(image.pixels).permute(2, 0, 1)[None] / 255)[0]
    order = theirs.keypoint_scores.argsort(descending=True, stable=True)
    assert len(ours) == len(order) > 100 and ours.kind == extractor_type.kind
    torch.testing.assert_close(ours.scores, theirs.keypoint_scores[order])
    torch.testing.assert_close(ours.keypoints, theirs.keypoints[order], atol=1e-3, rtol=0)
    torch.testing.assert_close(ours.descriptors, theirs.descriptors[order], atol=1e-5, rtol=0)


def test_real_photos_match(real_data: Path) -> None:
    weights = real_data / "weights" / "aliked" / "aliked-n16rot.pth"
    aliked = lm.create_extractor("aliked_n16rot", max_keypoints=1024, max_image_size=1024, weights=weights)
    photo0, photo1 = (real_data / f"eval/lightglue_assets/sacre_coeur{n}.jpg" for n in (1, 2))
    result = lm.match(photo0, photo1, aliked, lm.NearestNeighbor(0.98))
    # Chance would make about 10 of 200 matches agree on a fundamental matrix.
    assert len(result.matches) > 120 and result.geometry.num_inliers > 30


def test_a_blank_image_has_no_keypoint(random_weights: Path) -> None:
    features = random_aliked(random_weights)(Image(np.full((64, 96, 3), 128, np.uint8)))
    assert len(features) < 20  # what padding makes of the border
    nothing = random_aliked(random_weights)(texture(64, 64), np.zeros((64, 64), bool))
    assert len(nothing) == 0 and nothing.descriptors.shape == (0, 64)


def test_weights_of_another_size_are_refused(random_weights: Path) -> None:
    with pytest.raises(WeightsError, match=r"aliked-t16\.pth: expected the weights of ALIKED, got .* of another shape"):
        Aliked(AlikedConfig(weights=random_weights))
