"""Matchers by name, and what may stand behind the colon."""

from pathlib import Path

import pytest
import torch

import lightmatch as lm
from lightmatch.errors import InvalidValueError, WeightsError
from lightmatch.evaluation.methods import create_method
from lightmatch.matchers import available_matchers, create_matcher
from lightmatch.types import FeatureKind

KIND = FeatureKind("sift", 128, has_scale_orientation=True)


def test_a_file_of_weights_or_a_ratio_stands_behind_the_colon(tmp_path: Path) -> None:
    config = lm.LightGlueConfig(features="sift", input_dim=128, descriptor_dim=32, num_layers=1, num_heads=1)
    lm.LightGlue(config).save(tmp_path / "own:1.safetensors")
    mine = create_matcher(f"lightglue:{tmp_path / 'own:1.safetensors'}", KIND)
    assert isinstance(mine, lm.LightGlue) and mine.config.descriptor_dim == 32
    nearest = create_matcher("nearest:0.7", KIND)
    assert isinstance(nearest, lm.NearestNeighbor) and nearest.ratio == 0.7


def test_nearest_neighbours_are_called_as_evaluate_calls_them() -> None:
    kind = FeatureKind("plain", 16)
    generator = torch.Generator().manual_seed(0)
    first = torch.nn.functional.normalize(torch.randn(60, 16, generator=generator), dim=1)
    other = torch.nn.functional.normalize(first + 0.3 * torch.randn(60, 16, generator=generator), dim=1)
    pair = [lm.Features(torch.rand(60, 2), torch.ones(60), descriptors, (9, 9), kind) for descriptors in (first, other)]
    for name in ("mutual", "ratio:0.8", "ratio:0.95"):
        method = create_method(name, kind)
        there = method.matcher(*pair)
        here = create_matcher(name, kind)(*pair)
        assert torch.equal(here.indices, there.indices[there.scores > method.min_score]) and len(here)


def test_what_cannot_stand_there_is_said() -> None:
    for wrong in ("mutual:0.8", "ratio", "ratio:much"):
        with pytest.raises(InvalidValueError, match="matcher: expected"):
            create_matcher(wrong, KIND)
    with pytest.raises(InvalidValueError, match=r"expected a ratio behind nearest:.*'much'"):
        create_matcher("nearest:much", KIND)
    with pytest.raises(InvalidValueError, match="superglue_indoor alone, or superglue:FILE"):
        create_matcher("superglue_indoor:x.pth", KIND)
    with pytest.raises(InvalidValueError, match=f"expected one of {', '.join(available_matchers())}, got 'brute:0.8'"):
        create_matcher("brute:0.8", KIND)
    with pytest.raises(WeightsError, match=r"none\.safetensors"):
        create_matcher("lightglue:none.safetensors", KIND)
