"""Names of matchers, and that a score threshold does what the matcher's own option does."""

from pathlib import Path

import pytest
import torch

from lightmatch.errors import InvalidValueError, WeightsError
from lightmatch.evaluation.methods import create_method
from lightmatch.extractors.sift import SIFT
from lightmatch.matchers import LightGlue, Matcher, NearestNeighbor, SuperGlue
from lightmatch.networks.lightglue import LightGlueConfig
from lightmatch.networks.superglue import SuperGlueConfig
from lightmatch.types import Features


def random_features(count: int, seed: int) -> Features:
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> torch.Tensor:
        return torch.rand(shape, generator=generator)

    descriptors = torch.nn.functional.normalize(draw(count, 128) ** 8, dim=1)
    return Features(draw(count, 2) * 100, draw(count), descriptors, (100, 100), SIFT, draw(count) * 9, draw(count) * 6)


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    config = LightGlueConfig(descriptor_dim=32, num_layers=2, num_heads=1, filter_threshold=0.02)
    LightGlue(config).save(tmp_path / "a,b.safetensors")
    return tmp_path / "a,b.safetensors"


def assert_same_above(name: str, matcher: Matcher) -> None:
    features0, features1 = random_features(60, 0), random_features(50, 1)
    method = create_method(name, SIFT)
    proposed, want = method.matcher(features0, features1), matcher(features0, features1)
    kept = proposed.scores > method.min_score
    assert len(want) > 0 and torch.equal(proposed.indices[kept], want.indices)


@pytest.mark.parametrize(
    ("name", "ratio"), [("mutual", None), ("ratio:0.95", 0.95), ("ratio:0.98", 0.98), ("ratio:1", 1.0)]
)
def test_ratios_are_thresholds_on_one_set_of_proposals(name: str, ratio: float | None) -> None:
    assert_same_above(name, NearestNeighbor(ratio=ratio))
    assert create_method(name, SIFT).fingerprint == "nearest"


def test_one_way_leaves_out_the_way_back() -> None:
    assert_same_above("oneway:0.97", NearestNeighbor(ratio=0.97, mutual=False))
    features0, features1 = random_features(60, 0), random_features(50, 1)
    counts = [len(create_method(f"{form}:1", SIFT).matcher(features0, features1)) for form in ("oneway", "ratio")]
    assert counts[0] == 60 > counts[1]


def test_lightglue_proposes_below_its_threshold(weights: Path) -> None:
    name = f"lightglue:{weights}"
    assert_same_above(name, LightGlue.from_checkpoint(weights))
    assert create_method(name, SIFT).min_score == 0.02


def test_precision_is_an_option(weights: Path) -> None:
    plain, half, both = (
        create_method(f"lightglue:{weights}{o}", SIFT) for o in ("", ",bfloat16", ",full,bfloat16@0.5")
    )
    assert [c.matcher.dtype for c in (plain, half, both)] == [torch.float32, torch.bfloat16, torch.bfloat16]  # type: ignore[attr-defined]
    assert len({plain.fingerprint, half.fingerprint, both.fingerprint}) == 3
    assert both.matcher.config.depth_confidence is None and both.min_score == 0.5  # type: ignore[attr-defined]
    assert len(half.matcher(random_features(60, 0), random_features(50, 1))) > 0


def test_full_switches_off_what_adapts(weights: Path) -> None:
    adaptive, full = (create_method(f"lightglue:{weights}{end}", SIFT) for end in ("", ",full"))
    assert isinstance(adaptive.matcher, LightGlue) and isinstance(full.matcher, LightGlue)
    assert adaptive.matcher.config.depth_confidence == 0.95
    assert (full.matcher.config.depth_confidence, full.matcher.config.width_confidence) == (None, None)
    assert adaptive.fingerprint != full.fingerprint


def test_superglue_is_one_too(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = SuperGlueConfig("sift", 128, 32, 1, 1, keypoint_encoder_dims=(8,), filter_threshold=0.001)
    SuperGlue(config).save(tmp_path / "s.safetensors")
    name = f"superglue:{tmp_path / 's.safetensors'}"
    assert_same_above(name, SuperGlue.from_checkpoint(tmp_path / "s.safetensors"))
    assert create_method(name, SIFT).fingerprint.startswith("superglue-")


def test_a_threshold_behind_a_learned_matcher(weights: Path) -> None:
    own, strict = (create_method(f"lightglue:{weights},full{end}", SIFT) for end in ("", "@0.85"))
    assert strict.min_score == 0.85 and strict.name.endswith("@0.85")
    assert strict.fingerprint == own.fingerprint  # the same proposals
    with pytest.raises(InvalidValueError, match="behind a learned matcher alone"):
        create_method("ratio:0.8@0.5", SIFT)


def test_other_weights_have_another_fingerprint(weights: Path) -> None:
    before = create_method(f"lightglue:{weights}", SIFT).fingerprint
    LightGlue(LightGlueConfig(descriptor_dim=32, num_layers=2, num_heads=1)).save(weights)
    assert create_method(f"lightglue:{weights}", SIFT).fingerprint != before


@pytest.mark.parametrize(
    "name",
    [
        "",
        "near",
        "mutual,bfloat16",
        "lightglue,int8",
        "lightglue,float16,bfloat16",
        "nearest",
        "mutual:1",
        "mutual,full",
        "superglue",
        "ratio",
        "ratio:x",
        "ratio:0",
        "ratio:0.8,full",
    ],
)
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(InvalidValueError, match="expected mutual, ratio:R or oneway:R with 0 < R ≤ 1"):
        create_method(name, SIFT)


def test_absent_weights_are_named() -> None:
    with pytest.raises(WeightsError, match=r"absent\.safetensors: expected a file of weights"):
        create_method("lightglue:absent.safetensors", SIFT)
