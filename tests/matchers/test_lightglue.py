"""LightGlue on values: lists of unequal pairs, symmetry, odd sizes, files, misuse."""

import random
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sharpened import IMAGE_SIZE, random_pair, sharpened_lightglue

from lightmatch.errors import FeatureMismatchError, InvalidValueError, WeightsError
from lightmatch.extractors.sift import Sift
from lightmatch.matchers.learned import PASS_LIMITS, PassLimits, passes
from lightmatch.matchers.lightglue import LightGlue
from lightmatch.networks.adaptive import Tokens
from lightmatch.networks.assignment import mutual_matches
from lightmatch.networks.lightglue import LightGlueConfig, LightGlueNetwork
from lightmatch.types import FeatureKind, Features, Image, Matches
from lightmatch.weights import write_tensors

KIND = FeatureKind("sift", 128, has_scale_orientation=True)
SMALL = LightGlueConfig(descriptor_dim=64, num_layers=6, num_heads=2)
TOLERANCE = 2e-4


@pytest.fixture(scope="module")
def matcher() -> LightGlue:
    return sharpened_lightglue(SMALL)


def unequal_pairs() -> list[tuple[Features, Features]]:
    counts = [
        (120, 60, 10),
        (3, 0, 0),
        (200, 0, 90),
        (0, 1, 0),
        (40, 0, 0),
        (0, 0, 5),
        (2, 0, 40),
        (1, 0, 1),
        (80, 9, 9),
    ]
    return [random_pair(KIND, *count, seed, ease=0.2 * seed) for seed, count in enumerate(counts)]


def test_autocast_changes_nothing(matcher: LightGlue) -> None:
    """A matcher has a precision of its own."""
    pair = random_pair(KIND, 60, 20, 30, 1, ease=0.8)
    expected, assignment = matcher(*pair), matcher.log_assignment(*pair)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = matcher(*pair)
        assert torch.equal(matcher.log_assignment(*pair), assignment)
    assert len(found) > 20
    assert torch.equal(found.indices, expected.indices) and torch.equal(found.scores, expected.scores)


@pytest.mark.parametrize("change", ["dtype", "device"])
def test_defaults_of_pytorch_change_nothing(change: str) -> None:
    """As some programs set them for their own tensors."""
    pair = random_pair(KIND, 60, 20, 30, 1, ease=0.8)
    image = Image(np.random.default_rng(0).integers(0, 255, (90, 90, 3), np.uint8))
    places = torch.tensor([[20.0, 30.0], [50.0, 60.0]])

    empty, sift, made = pair[0].select(torch.zeros(0, dtype=torch.int64)), Sift(), LightGlue(SMALL)

    def everything() -> list[torch.Tensor]:
        matcher = LightGlue(SMALL) if change == "dtype" else made
        found = sift(image)
        parameter = next(matcher.network.parameters())
        return [
            parameter[:0].detach(),
            matcher(*pair).scores[:0],
            matcher(pair[0], empty).scores,
            found.descriptors,
            sift.describe(image, places).scores,
        ]

    expected = everything()
    try:
        if change == "dtype":
            torch.set_default_dtype(torch.float64)
        else:
            torch.set_default_device("meta")
        found = everything()
    finally:
        torch.set_default_dtype(torch.float32)
        torch.set_default_device(None)
    for one, wanted in zip(found, expected, strict=True):
        assert one.dtype == wanted.dtype and one.device == wanted.device and torch.equal(one, wanted)


def assert_equal_but_for_thresholds(a: Matches, b: Matches, threshold: float) -> None:
    """Same matches and scores; only one whose score lies at the filter's threshold may come and go."""
    scores_a = {tuple(pair): float(score) for pair, score in zip(a.indices.tolist(), a.scores, strict=True)}
    scores_b = {tuple(pair): float(score) for pair, score in zip(b.indices.tolist(), b.scores, strict=True)}
    for pair in scores_a.keys() | scores_b.keys():
        if pair in scores_a and pair in scores_b:
            assert abs(scores_a[pair] - scores_b[pair]) <= TOLERANCE
        else:
            score = scores_a.get(pair, scores_b.get(pair, 0.0))
            assert abs(score - threshold) <= TOLERANCE
    assert a.stop_layer == b.stop_layer
    for layers_a, layers_b in ((a.layers0, b.layers0), (a.layers1, b.layers1)):
        assert layers_a is not None and layers_b is not None
        assert torch.equal(layers_a, layers_b)


@pytest.mark.parametrize("mechanisms", [(0.95, 0.99), (0.95, None), (None, 0.99), (None, None)])
def test_a_pair_in_a_list_equals_its_single_call(
    mechanisms: tuple[float | None, float | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PASS_LIMITS, "cpu", PassLimits(points=1 << 14, padding=100.0))  # all of them in one pass
    depth, width = mechanisms
    matcher = sharpened_lightglue(replace(SMALL, depth_confidence=depth, width_confidence=width))
    pairs = unequal_pairs()
    alone = [matcher(*pair) for pair in pairs]
    for seed in range(3):
        order = list(range(len(pairs)))
        random.Random(seed).shuffle(order)
        together = matcher.match_batch([pairs[number] for number in order])
        for number, matches in zip(order, together, strict=True):
            assert_equal_but_for_thresholds(matches, alone[number], SMALL.filter_threshold)

    # Said of pairs that do different things.
    assert sum(len(matches) for matches in alone) > 100
    if depth is not None:
        assert len({matches.stop_layer for matches in alone}) > 3
    if width is not None:
        assert sum(int((m.layers0 < m.stop_layer).sum()) for m in alone if m.layers0 is not None) > 10  # type: ignore[operator]


def test_the_assignment_gives_the_matches_of_all_layers_and_points() -> None:
    matcher = sharpened_lightglue(replace(SMALL, depth_confidence=None, width_confidence=None))
    for pair in unequal_pairs():
        assignment, matches = matcher.log_assignment(*pair), matcher(*pair)
        assert assignment.shape == (len(pair[0]), len(pair[1]))
        indices, scores = mutual_matches(assignment, SMALL.filter_threshold)
        assert torch.equal(indices, matches.indices)
        torch.testing.assert_close(scores, matches.scores)
    with pytest.raises(FeatureMismatchError):
        matcher.log_assignment(*random_pair(FeatureKind("disk", 128), 3, 3, 3, 0))


def test_many_pairs_take_several_passes(matcher: LightGlue, monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = unequal_pairs()
    limits = PassLimits(points=300, padding=2.0)
    monkeypatch.setitem(PASS_LIMITS, "cpu", limits)
    groups = list(passes(list(range(len(pairs))), pairs, limits))
    assert len(groups) > 2 and [number for group in groups for number in group] == list(range(len(pairs)))
    for group in groups:
        padded = sum(max(len(pairs[number][side]) for number in group) for side in (0, 1)) * len(group)
        real = sum(len(features) for number in group for features in pairs[number])
        assert (padded <= 300 and padded <= 2 * real) or len(group) == 1
    for pair, matches in zip(pairs, matcher.match_batch(pairs), strict=True):
        assert_equal_but_for_thresholds(matches, matcher(*pair), SMALL.filter_threshold)


def test_images_of_several_pairs_are_prepared_once(matcher: LightGlue, monkeypatch: pytest.MonkeyPatch) -> None:
    images = [features for seed in range(3) for features in random_pair(KIND, 20 + seed, 5, 9, seed)]
    pairs = [(images[i], images[j]) for i in range(6) for j in range(i)]
    alone = [matcher(*pair) for pair in pairs]
    prepared = []
    prepare = LightGlueNetwork.prepare
    monkeypatch.setattr(
        LightGlueNetwork, "prepare", lambda self, *inputs: (prepared.append(1), prepare(self, *inputs))[1]
    )
    for matches, expected in zip(matcher.match_batch(pairs), alone, strict=True):
        assert_equal_but_for_thresholds(matches, expected, SMALL.filter_threshold)
    assert len(prepared) == len(images)

    # With room for few of them some are prepared again, to the same end.
    monkeypatch.setattr("lightmatch.matchers.lightglue._MOST_SHARED", 3)
    for matches, expected in zip(matcher.match_batch(pairs), alone, strict=True):
        assert_equal_but_for_thresholds(matches, expected, SMALL.filter_threshold)
    assert len(prepared) > 2 * len(images)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_threads_share_a_matcher(dtype: torch.dtype) -> None:
    matcher = sharpened_lightglue(SMALL)
    matcher.network.compute_in(dtype)
    pairs = [random_pair(KIND, 60 + 5 * seed, 10, 5, seed) for seed in range(12)]
    alone = [matcher(*pair) for pair in pairs]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda pair: matcher(*pair), pairs * 3))
    for matches, expected in zip(together, alone * 3, strict=True):
        assert_equal_but_for_thresholds(matches, expected, SMALL.filter_threshold)


def test_no_pairs_give_no_results(matcher: LightGlue) -> None:
    assert matcher.match_batch([]) == []


def test_swapping_the_images_swaps_the_columns(matcher: LightGlue) -> None:
    for features0, features1 in unequal_pairs():
        forward, backward = matcher(features0, features1), matcher(features1, features0)
        assert {(i, j) for i, j in forward.indices.tolist()} == {(i, j) for j, i in backward.indices.tolist()}
        by_pair = {(j, i): s for (i, j), s in zip(backward.indices.tolist(), backward.scores.tolist(), strict=True)}
        for pair, score in zip(forward.indices.tolist(), forward.scores.tolist(), strict=True):
            assert abs(by_pair[tuple(pair)] - score) <= TOLERANCE
        assert forward.stop_layer == backward.stop_layer


@pytest.mark.parametrize("count0", [0, 1, 2])
@pytest.mark.parametrize("count1", [0, 1, 2, 7])
def test_few_keypoints(matcher: LightGlue, count0: int, count1: int) -> None:
    common = min(count0, count1)
    features0, features1 = random_pair(KIND, common, count0 - common, count1 - common, seed=1)
    matches = matcher(features0, features1)
    assert len(matches) <= common
    assert matches.layers0 is not None and matches.layers0.shape == (count0,)
    assert matches.layers1 is not None and matches.layers1.shape == (count1,)
    assert (matches.stop_layer == 0) == (common == 0)


def test_layers_tell_who_was_pruned(matcher: LightGlue) -> None:
    features0, features1 = random_pair(KIND, 150, 80, 20, seed=0, ease=0.2)
    matches = matcher(features0, features1)
    assert matches.stop_layer is not None and matches.layers0 is not None and matches.layers1 is not None
    assert 1 <= int(matches.layers0.min()) < int(matches.layers0.max()) == matches.stop_layer
    # A match is made of points that stayed to the end.
    assert bool((matches.layers0[matches.indices[:, 0]] == matches.stop_layer).all())
    assert bool((matches.layers1[matches.indices[:, 1]] == matches.stop_layer).all())


def test_pruning_spares_small_images() -> None:
    matcher = sharpened_lightglue(replace(SMALL, pruning_min_points=100))
    small, large = random_pair(KIND, 60, 30, 100, seed=0)
    matches = matcher(small, large)
    assert matches.layers0 is not None and matches.layers1 is not None
    assert Counter(matches.layers0.tolist()) == {matches.stop_layer: 90}
    assert int(matches.layers1.min()) < int(matches.layers1.max())


@pytest.mark.parametrize(
    ("device", "dtype"),
    [
        ("cpu", torch.bfloat16),
        ("cpu", torch.float16),
        *(
            pytest.param("cuda", dtype, marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA"))
            for dtype in (torch.float32, torch.bfloat16, torch.float16)
        ),
    ],
    ids=str,
)
@pytest.mark.parametrize("adaptive", [False, True])
def test_other_precisions_and_devices_find_nearly_the_same(
    tmp_path: Path, device: str, dtype: torch.dtype, adaptive: bool
) -> None:
    exact = sharpened_lightglue(SMALL if adaptive else replace(SMALL, depth_confidence=None, width_confidence=None))
    exact.save(tmp_path / "w.safetensors")
    other = LightGlue.from_checkpoint(tmp_path / "w.safetensors", device=device, dtype=dtype)
    assert {(p.dtype, p.device.type) for p in other.network.transformers.parameters()} == {(dtype, device)}
    assert {p.dtype for p in other.network.log_assignment.parameters()} == {torch.float32}
    pair = random_pair(KIND, 150, 20, 20, seed=0)
    a, b = exact(*pair), other(*pair)
    assert b.device == pair[0].device
    found, found_other = ({tuple(m) for m in matches.indices.tolist()} for matches in (a, b))
    assert len(found & found_other) > 0.8 * len(found | found_other)
    scores, scores_other = (dict(zip(map(tuple, m.indices.tolist()), m.scores.tolist(), strict=True)) for m in (a, b))
    assert max(abs(scores[match] - scores_other[match]) for match in found & found_other) < 0.15
    if not adaptive:
        assert a.stop_layer == b.stop_layer == SMALL.num_layers


def test_pruned_points_count_as_settled_for_the_exit() -> None:
    """Section 3.3: the share is of ALL points, so that the same unsettled few weigh less after pruning."""
    config = replace(SMALL, depth_confidence=0.5)
    network = sharpened_lightglue(config).network
    torch.nn.init.zeros_(network.token_confidence[0].token[0].weight)  # type: ignore[index]
    torch.nn.init.constant_(network.token_confidence[0].token[0].bias, -9.0)  # type: ignore[index]  # no one is settled
    features0, features1 = random_pair(KIND, 20, 0, 0, seed=0)
    images = [network.prepare(f.descriptors, torch.zeros(20, 4)) for f in (features0, features1)]
    batch = [Tokens.start([image]) for image in images]
    half = torch.arange(20)[None] < 8
    pruned = [tokens.keep(half) for tokens in batch]
    with torch.no_grad():
        assert network.match(batch[0], batch[1], config)[0].stop_layer > 1
        assert network.match(pruned[0], pruned[1], config)[0].stop_layer == 1  # 16 of 40 unsettled, not 16 of 16


def test_a_pair_pruned_to_nothing_spoils_no_neighbour() -> None:
    matcher = sharpened_lightglue(replace(SMALL, depth_confidence=None))
    for head in matcher.network.log_assignment:
        head.matchability.bias.data -= 6.0  # type: ignore[union-attr, operator]
    pairs = [random_pair(KIND, count, 0, 0, seed) for seed, count in enumerate((2, 60, 1, 3, 90, 2))]
    alone = [matcher(*pair) for pair in pairs]
    emptied = [m for m in alone if m.stop_layer is not None and m.stop_layer < SMALL.num_layers]
    assert 0 < len(emptied) < len(pairs) and all(len(matches) == 0 for matches in emptied)
    for matches, single in zip(matcher.match_batch(pairs), alone, strict=True):
        assert_equal_but_for_thresholds(matches, single, SMALL.filter_threshold)


def test_matches_can_be_used_in_training(matcher: LightGlue) -> None:
    weight = torch.ones((), requires_grad=True)
    (weight * matcher(*random_pair(KIND, 60, 0, 0, seed=0)).scores).sum().backward()
    assert weight.grad is not None


def test_loading_leaves_the_random_numbers_alone(matcher: LightGlue, tmp_path: Path) -> None:
    matcher.save(tmp_path / "w.safetensors")
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    LightGlue.from_checkpoint(tmp_path / "w.safetensors")
    assert torch.equal(torch.rand(3), expected)


def official_names(matcher: LightGlue, old: bool) -> dict[str, torch.Tensor]:
    """Weights under the names of the released files."""
    names = dict(matcher.network.state_dict())
    names["confidence_thresholds"] = torch.zeros(matcher.config.num_layers)
    if old:
        names = {
            name.replace(f"transformers.{layer}.{block}.", f"{block}.{layer}."): tensor
            for name, tensor in names.items()
            for layer, block in [
                (name.split(".")[1], name.split(".")[2]) if name.startswith("transformers") else ("", "")
            ]
        }
        assert any(name.startswith("self_attn.0.") for name in names)
    return names


@pytest.mark.parametrize("generation", ["old", "new"])
def test_official_checkpoints_of_both_generations(tmp_path: Path, generation: str) -> None:
    matcher = sharpened_lightglue(replace(SMALL, positions="xy_scale_orientation"))
    path = tmp_path / "sift_lightglue.pth"
    torch.save(official_names(matcher, old=generation == "old"), path)
    loaded = LightGlue.from_checkpoint(path, features="sift")
    assert loaded.config == matcher.config
    pair = unequal_pairs()[0]
    assert torch.equal(loaded(*pair).scores, matcher(*pair).scores)


def test_a_checkpoint_of_the_released_size(tmp_path: Path) -> None:
    """SuperPoint's: 256 wide, no input projection, 11.85 M parameters (Lindenberger et al. 2023)."""
    released = LightGlue(LightGlueConfig("superpoint", 256, input_projection=False, positions="xy"))
    path = tmp_path / "superpoint_lightglue.pth"
    torch.save(official_names(released, old=True), path)
    loaded = LightGlue.from_checkpoint(path, features="superpoint", depth_confidence=None)
    assert loaded.config == replace(released.config, depth_confidence=None)
    assert round(sum(p.numel() for p in loaded.network.parameters()) / 1e6, 2) == 11.85


def test_a_damaged_checkpoint_is_refused(matcher: LightGlue, tmp_path: Path) -> None:
    names = official_names(matcher, old=False)
    missing = {n: t for n, t in names.items() if n != "log_assignment.3.final_proj.bias"}
    for tensors, says in (
        (missing, r"1 missing: log_assignment\.3\.final_proj\.bias"),
        ({**names, "extra": torch.zeros(1)}, "1 unknown: extra"),
        ({**names, "input_proj.bias": torch.zeros(3)}, r"1 of another shape: input_proj\.bias"),
        ({"some": torch.zeros(1)}, "expected a LightGlue checkpoint"),
    ):
        torch.save(tensors, tmp_path / "bad.pth")
        with pytest.raises(WeightsError, match=says):
            LightGlue.from_checkpoint(tmp_path / "bad.pth", features="sift")
    (tmp_path / "cut.pth").write_bytes((tmp_path / "bad.pth").read_bytes()[:100])
    for name in ("cut.pth", "absent.pth"):
        with pytest.raises(WeightsError, match=name):
            LightGlue.from_checkpoint(tmp_path / name, features="sift")


def test_our_own_files_carry_their_config(matcher: LightGlue, tmp_path: Path) -> None:
    path = tmp_path / "ours.safetensors"
    matcher.save(path, recipe="random")
    loaded = LightGlue.from_checkpoint(path)
    assert loaded.config == matcher.config
    pair = unequal_pairs()[0]
    assert torch.equal(loaded(*pair).scores, matcher(*pair).scores)
    with pytest.raises(FeatureMismatchError, match="'disk'"):
        LightGlue.from_checkpoint(path, features="disk")
    with pytest.raises(InvalidValueError, match="num_layers"):
        LightGlue.from_checkpoint(path, num_layers=3)


@pytest.mark.parametrize("config", ["not json", "[1]", '{"num_layers": "9"}', '{"num_layers": 0}'])
def test_a_damaged_config_is_refused(matcher: LightGlue, tmp_path: Path, config: str) -> None:
    write_tensors(tmp_path / "w.safetensors", matcher.network.state_dict(), {"config": config})
    with pytest.raises(WeightsError, match=r"w\.safetensors: config of LightGlue: .*expected"):
        LightGlue.from_checkpoint(tmp_path / "w.safetensors")


def test_the_hash_is_checked(matcher: LightGlue, tmp_path: Path) -> None:
    matcher.save(tmp_path / "w.safetensors")
    with pytest.raises(WeightsError, match="SHA-256"):
        LightGlue.from_checkpoint(tmp_path / "w.safetensors", sha256="00")


def test_a_pth_must_be_told_its_features(matcher: LightGlue, tmp_path: Path) -> None:
    torch.save(official_names(matcher, old=False), tmp_path / "x.pth")
    with pytest.raises(WeightsError, match="name them with `features`"):
        LightGlue.from_checkpoint(tmp_path / "x.pth")


def test_weights_that_are_not_there() -> None:
    with pytest.raises(WeightsError, match=r"no embedded lightglue weights for 'unheard-of'.*from_checkpoint"):
        LightGlue.from_pretrained("unheard-of")


def test_features_of_another_kind_are_refused(matcher: LightGlue) -> None:
    same_width = FeatureKind("aliked", 128)
    aliked = random_pair(same_width, 5, 0, 0, seed=0)
    with pytest.raises(FeatureMismatchError, match=r"made for 'sift'.*got 'aliked'"):
        matcher(*aliked)
    bare = random_pair(FeatureKind("sift", 128), 5, 0, 0, seed=0)
    with pytest.raises(FeatureMismatchError, match="needs scales and orientations"):
        matcher(*bare)
    good = random_pair(KIND, 5, 0, 0, seed=0)
    with pytest.raises(FeatureMismatchError):  # before any work on the good one
        matcher.match_batch([good, aliked])


def test_scales_count_in_pixels_of_the_image_they_are_given_in(matcher: LightGlue) -> None:
    """A photo at twice the resolution has doubled keypoints and scales, and the same matches."""
    pair = random_pair(KIND, 80, 10, 10, seed=0)

    def doubled(features: Features) -> Features:
        assert features.scales is not None
        size = (2 * IMAGE_SIZE[0], 2 * IMAGE_SIZE[1])
        return replace(features, keypoints=2 * features.keypoints, scales=2 * features.scales, image_size=size)

    small, large = matcher(*pair), matcher(*(doubled(features) for features in pair))
    assert torch.equal(small.indices, large.indices)
    torch.testing.assert_close(small.scores, large.scores, atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"num_layers": 0}, "num_layers"),
        ({"descriptor_dim": 30, "num_heads": 4}, "descriptor_dim"),
        ({"positions": "polar"}, "positions"),
        ({"depth_confidence": -1.0}, "None switches it off"),
        ({"filter_threshold": None}, "filter_threshold"),
    ],
)
def test_bad_configs(change: dict, says: str) -> None:
    with pytest.raises(InvalidValueError, match=says):
        replace(SMALL, **change)
