"""Matchers by their specifications: what each part means, and what is said of those that mean nothing."""

from pathlib import Path

import pytest
import torch
from sharpened import random_pair

import lightmatch as lm
from lightmatch.errors import InvalidValueError, WeightsError
from lightmatch.matchers import (
    Matcher,
    MatcherSetup,
    MatcherSpec,
    available_matchers,
    create_matcher,
    matcher_family,
    parse_matcher,
    takes_images,
)
from lightmatch.matchers.family import register
from lightmatch.runtime.discovery import resolve
from lightmatch.types import FeatureKind

KIND = FeatureKind("sift", 128, has_scale_orientation=True)


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("lightglue", MatcherSpec("lightglue")),
        ("lightglue,bfloat16", MatcherSpec("lightglue", options=("bfloat16",))),
        ("lightglue:a,b@1.pth,full@0.8", MatcherSpec("lightglue", "a,b@1.pth", ("full",), 0.8)),
        ("lightglue:C:\\w.pth", MatcherSpec("lightglue", "C:\\w.pth")),
        ("lightglue,full,float16@0", MatcherSpec("lightglue", "", ("full", "float16"), 0.0)),
        ("nearest", MatcherSpec("nearest")),
        ("nearest:0.8", MatcherSpec("nearest", "0.8")),
        ("nearest:0.8,oneway", MatcherSpec("nearest", "0.8", ("oneway",))),
        ("nearest:none", MatcherSpec("nearest", "none")),
        ("superglue:s.pth,float16", MatcherSpec("superglue", "s.pth", ("float16",))),
        ("vismatch:roma", MatcherSpec("vismatch", "roma")),
    ],
)
def test_text_and_specification_say_the_same(text: str, spec: MatcherSpec) -> None:
    assert parse_matcher(text) == spec and str(spec) == text and parse_matcher(spec) is spec


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "with a family among lightglue, nearest, superglue, vismatch, got ''"),
        ("brute:0.8", "with a family among .*, got 'brute'"),
        ("lightglue:", "expected a source behind the colon, got none; leave the colon out"),
        ("lightglue,int8", "expected each of the options full, .* at most once, got 'int8'; leave it out"),
        ("lightglue,full,full", "at most once, got 'full'"),
        ("lightglue,float16,bfloat16", "got two precisions, float16 and bfloat16; leave one out"),
        ("lightglue@2", "expected a score of 0…1 behind @, got '2'"),
        ("nearest:much", "nearest:RATIO with 0 < RATIO ≤ 1, or nearest:none; .*got 'much'"),
        ("nearest:0", "got '0'"),
        ("nearest:nan", "got 'nan'"),
        ("nearest,full", "options oneway at most once, got 'full'"),
        ("nearest@0.5", "got a score, @0.5; leave it out"),
        ("superglue", "expected superglue:FILE.*got no FILE; .*download"),
        ("vismatch", "expected vismatch:NAME.*got no NAME"),
    ],
)
def test_what_means_nothing_is_refused_in_one_sentence(text: str, says: str) -> None:
    with pytest.raises(InvalidValueError, match=says) as caught:
        parse_matcher(text)
    assert str(caught.value).startswith("matcher") and "\n" not in str(caught.value)


def test_sources_options_and_scores_reach_the_matcher(tmp_path: Path) -> None:
    config = lm.LightGlueConfig(features="sift", input_dim=128, descriptor_dim=32, num_layers=1, num_heads=1)
    lm.LightGlue(config).save(tmp_path / "own:1.safetensors")
    mine = create_matcher(f"lightglue:{tmp_path / 'own:1.safetensors'},full,bfloat16@0.7", KIND)
    assert isinstance(mine, lm.LightGlue) and mine.config.descriptor_dim == 32 and mine.dtype == torch.bfloat16
    assert (mine.config.depth_confidence, mine.config.width_confidence, mine.config.filter_threshold) == (
        None,
        None,
        0.7,
    )
    for text, ratio, mutual in (
        ("nearest", 0.8, True),
        ("nearest:0.7", 0.7, True),
        ("nearest:none", None, True),
        ("nearest:0.9,oneway", 0.9, False),
    ):
        nearest = create_matcher(text, KIND)
        assert isinstance(nearest, lm.NearestNeighbor) and (nearest.ratio, nearest.mutual) == (ratio, mutual)
    with pytest.raises(WeightsError, match=r"none\.safetensors"):
        create_matcher("lightglue:none.safetensors", KIND)


def test_the_precision_of_the_specification_goes_before_that_of_the_caller(tmp_path: Path) -> None:
    config = lm.LightGlueConfig(features="sift", input_dim=128, descriptor_dim=32, num_layers=1, num_heads=1)
    lm.LightGlue(config).save(tmp_path / "own.safetensors")
    text = f"lightglue:{tmp_path / 'own.safetensors'}"
    cases = [
        (text, "auto", torch.float32),
        (text, "float16", torch.float16),
        (f"{text},float32", "float16", torch.float32),
    ]
    for spec, precision, dtype in cases:
        matcher = create_matcher(spec, precision=precision)
        assert isinstance(matcher, lm.LightGlue) and matcher.dtype == dtype


@pytest.mark.parametrize("text", ["nearest:none", "nearest:0.95", "nearest:0.95,oneway", "lightglue,float32@0.05"])
def test_an_evaluation_counts_the_matches_that_the_matcher_gives(text: str) -> None:
    pair = random_pair(KIND, 60, 20, 20, 0)
    spec = parse_matcher(text)
    found = matcher_family(spec.family).propose(spec, MatcherSetup("sift"))
    assert isinstance(found.matcher, Matcher)
    there, here = found.matcher(*pair), create_matcher(text, KIND)(*pair)
    assert torch.equal(here.indices, there.indices[there.scores > found.min_score]) and len(here)


def test_what_a_family_refers_to_is_there() -> None:
    for name in available_matchers():
        family = matcher_family(name)
        assert family.name == name and family.usage.startswith(name)
        for reference in (family.config, family.objective, family.runners):
            assert reference is None or resolve(reference)
    assert [name for name in available_matchers() if matcher_family(name).takes == "images"] == ["vismatch"]
    assert takes_images("vismatch:roma") and not takes_images("nearest:0.8")


def test_a_name_is_registered_once() -> None:
    with pytest.raises(InvalidValueError, match="'nearest', which is taken"):
        register("nearest")(type(matcher_family("nearest")))
