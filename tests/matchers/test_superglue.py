"""SuperGlue on values, and against its peer on the same weights."""

import random
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from sharpened import random_pair, sharpened_superglue
from torch import Tensor

import lightmatch as lm
from lightmatch.errors import FeatureMismatchError, InvalidValueError, WeightsError
from lightmatch.matchers.superglue import SuperGlue
from lightmatch.networks.superglue import SuperGlueConfig
from lightmatch.types import FeatureKind, Features, Matches

SUPERPOINT = FeatureKind("superpoint", 256)
SIFT = FeatureKind("sift", 128, has_scale_orientation=True)
SMALL = SuperGlueConfig("sift", 128, descriptor_dim=192, num_layers=3, keypoint_encoder_dims=(8, 16))
TOLERANCE = 2e-4


@pytest.fixture(scope="module")
def matcher() -> SuperGlue:
    return sharpened_superglue(SMALL)


def unequal_pairs() -> list[tuple[Features, Features]]:
    counts = [(120, 60, 10), (3, 0, 0), (200, 0, 90), (0, 1, 0), (0, 0, 5), (2, 0, 40), (1, 0, 1), (80, 9, 9)]
    return [random_pair(SIFT, *count, seed, ease=0) for seed, count in enumerate(counts)]


def scores_of(matches: Matches) -> dict[tuple[int, ...], float]:
    return dict(zip(map(tuple, matches.indices.tolist()), matches.scores.tolist(), strict=True))


def assert_same(a: dict[tuple[int, ...], float], b: dict[tuple[int, ...], float], threshold: float) -> None:
    """Same matches and scores; only one whose score lies at the threshold may come and go."""
    for pair in a.keys() | b.keys():
        assert abs(a.get(pair, threshold) - b.get(pair, threshold)) <= TOLERANCE


def test_it_matches_what_the_images_share(matcher: SuperGlue) -> None:
    features0, features1 = random_pair(SIFT, 150, 40, 40, seed=3, ease=0)
    matches = matcher(features0, features1)
    points0, points1 = matches.points(features0, features1)
    right = ((points1 - points0 - torch.tensor([30.0, -20.0])).abs() < 1e-3).all(1)  # common points moved by this
    assert len(matches) > 100 and float(right.float().mean()) > 0.95


def test_a_pair_in_a_list_equals_its_single_call(matcher: SuperGlue) -> None:
    pairs = unequal_pairs()
    alone = [matcher(*pair) for pair in pairs]
    assert sum(map(len, alone)) > 200
    order = list(range(len(pairs)))
    random.Random(0).shuffle(order)
    for number, matches in zip(order, matcher.match_batch([pairs[i] for i in order]), strict=True):
        assert_same(scores_of(matches), scores_of(alone[number]), SMALL.filter_threshold)


def test_other_options_share_the_weights_and_leave_the_matcher_as_it_was(matcher: SuperGlue) -> None:
    pair = random_pair(SIFT, 150, 40, 40, seed=3, ease=0)
    before = matcher(*pair)
    other = matcher.with_options(sinkhorn_iterations=1, filter_threshold=0.0)
    assert next(other.network.parameters()) is next(matcher.network.parameters())
    assert other.weights_digest() != matcher.weights_digest()
    assert scores_of(other(*pair)) != scores_of(before) == scores_of(matcher(*pair))
    with pytest.raises(InvalidValueError, match=r"expected options among sinkhorn_iterations, .*, got num_layers"):
        matcher.with_options(num_layers=2)


def test_swapping_the_images_swaps_the_columns(matcher: SuperGlue) -> None:
    """The scores but nearly: a hundred iterations that end with the columns still distinguish the sides."""
    for features0, features1 in unequal_pairs():
        there, back = scores_of(matcher(features0, features1)), scores_of(matcher(features1, features0))
        assert there.keys() == {(i, j) for j, i in back}
        assert all(abs(score - back[j, i]) < 2e-3 for (i, j), score in there.items())


def test_all_layers_are_run(matcher: SuperGlue) -> None:
    matches = matcher(*random_pair(SIFT, 10, 2, 3, seed=0))
    assert matches.stop_layer == 3 and matches.layers0 is not None and matches.layers1 is not None
    assert matches.layers0.tolist() == [3] * 12 and matches.layers1.tolist() == [3] * 13


def test_rounding_lifts_no_score_above_1(matcher: SuperGlue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matcher.network, "forward", lambda *_: torch.tensor([[[1e-6]]]))
    assert matcher(*random_pair(SIFT, 1, 0, 0, seed=0)).scores.tolist() == [1.0]


@pytest.mark.parametrize("counts", [(0, 0), (0, 7), (7, 0)])
def test_no_keypoints(matcher: SuperGlue, counts: tuple[int, int]) -> None:
    matches = matcher(*random_pair(SIFT, 0, *counts, seed=0))
    assert len(matches) == 0 and matches.stop_layer == 0


def test_features_of_another_kind_are_refused(matcher: SuperGlue) -> None:
    with pytest.raises(FeatureMismatchError, match=r"this SuperGlue was made for 'sift'.*got 'aliked'"):
        matcher(*random_pair(FeatureKind("aliked", 128), 5, 0, 0, seed=0))


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
def test_other_precisions_and_devices_find_nearly_the_same(
    matcher: SuperGlue, tmp_path: Path, device: str, dtype: torch.dtype
) -> None:
    matcher.save(tmp_path / "w.safetensors")
    other = SuperGlue.from_checkpoint(tmp_path / "w.safetensors", device=device, dtype=dtype)
    assert other.network.final_proj.weight.dtype == dtype
    assert {p.dtype for p in other.network.kenc.parameters()} == {torch.float32}  # places stay exact
    pair = random_pair(SIFT, 150, 20, 20, seed=0, ease=0)
    a, b = scores_of(matcher(*pair)), scores_of(other(*pair))
    assert len(a.keys() & b.keys()) > 0.9 * len(a.keys() | b.keys())
    assert max(abs(a[match] - b[match]) for match in a.keys() & b.keys()) < 0.15


def test_our_own_files_carry_their_config(matcher: SuperGlue, tmp_path: Path) -> None:
    path = tmp_path / "ours.safetensors"
    matcher.save(path, recipe="random")
    loaded = SuperGlue.from_checkpoint(path)
    assert loaded.config == matcher.config
    pair = unequal_pairs()[0]
    assert torch.equal(loaded(*pair).scores, matcher(*pair).scores)
    faster = SuperGlue.from_checkpoint(path, sinkhorn_iterations=20)
    assert faster.network.num_iterations == 20
    with pytest.raises(FeatureMismatchError, match="'disk'"):
        SuperGlue.from_checkpoint(path, features="disk")
    with pytest.raises(InvalidValueError, match="num_layers"):
        SuperGlue.from_checkpoint(path, num_layers=3)
    with pytest.raises(
        WeightsError, match=r"ours\.safetensors: config of LightGlue: expected only the keys .*; got keypoint_encoder"
    ):
        lm.LightGlue.from_checkpoint(path)


def official_layout(matcher: SuperGlue) -> dict[str, Tensor]:
    """Weights as in the released files, where linear maps are convolutions of width 1."""
    return {n: t[..., None] if t.ndim == 2 else t for n, t in matcher.network.state_dict().items()}


def test_official_checkpoints(tmp_path: Path) -> None:
    released = sharpened_superglue(SuperGlueConfig())
    tensors = official_layout(released)
    assert tensors["gnn.layers.17.mlp.0.weight"].shape == (512, 512, 1)
    assert tensors["kenc.encoder.12.weight"].shape == (256, 256, 1) and tensors["bin_score"].shape == ()
    path = tmp_path / "superglue_outdoor.pth"
    torch.save(tensors, path)
    loaded = lm.SuperGlue.from_checkpoint(path, filter_threshold=0.1)
    assert loaded.config == replace(released.config, filter_threshold=0.1)
    pair = random_pair(SUPERPOINT, 40, 5, 9, seed=0, ease=0)
    assert scores_of(released(*pair)).items() <= scores_of(loaded(*pair)).items()

    missing = {name: tensor for name, tensor in tensors.items() if name != "bin_score"}
    for spoilt, says in (
        (missing, "1 missing: bin_score"),
        ({**tensors, "extra": torch.zeros(1)}, "1 unknown: extra"),
        ({"some": torch.zeros(1)}, "expected a SuperGlue checkpoint"),
    ):
        torch.save(spoilt, path)
        with pytest.raises(WeightsError, match=says):
            SuperGlue.from_checkpoint(path)


def transformers_weights(ours: SuperGlue) -> dict[str, Tensor]:
    """Our names → transformers'; its heads are blocks of channels, ours interleaved."""
    renamed: dict[str, Tensor] = {}
    blocks = torch.arange(ours.config.descriptor_dim).unflatten(0, (-1, ours.config.num_heads)).T.flatten()
    for name, tensor in ours.network.state_dict().items():
        if ".attn.proj" in name:
            tensor = tensor[blocks]
        elif ".attn.merge.weight" in name:
            tensor = tensor[:, blocks]
        for old, new in {
            "kenc": "keypoint_encoder",
            "attn.proj.0": "attention.self.query",
            "attn.proj.1": "attention.self.key",
            "attn.proj.2": "attention.self.value",
            "attn.merge": "attention.output.dense",
            "final_proj": "final_projection.final_proj",
        }.items():
            name = name.replace(old, new)
        parts = name.split(".")
        if "encoder.encoder." in name or ".mlp." in name:  # linear, norm and ReLU are one block there
            place = int(parts[-2])
            is_last = place == (12 if parts[-3] == "encoder" else 3)
            parts[-2] = str(place // 3) + ("" if is_last else (".linear", ".batch_norm")[place % 3])
        renamed[".".join(parts)] = tensor
    return renamed


@pytest.mark.parametrize("sharpened", [True, False])
def test_transformers_agrees_on_the_same_weights(sharpened: bool) -> None:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = SuperGlueConfig(filter_threshold=0)  # plain random weights score 0.005
    ours = sharpened_superglue(config) if sharpened else SuperGlue(config)
    peer = transformers.SuperGlueForKeypointMatching(
        transformers.SuperGlueConfig(keypoint_detector_config=transformers.SuperPointConfig())
    ).eval()
    loaded = peer.load_state_dict(transformers_weights(ours), strict=False)
    assert not loaded.unexpected_keys
    assert all(name.startswith("keypoint_detector.") for name in loaded.missing_keys)

    num_compared = 0
    for seed, (num_common, num_only) in enumerate([(100, 50), (20, 0), (1, 0)]):
        # The peer lets padding into its transport: only images of one count can be compared.
        pair = random_pair(SUPERPOINT, num_common, num_only, num_only, seed, ease=0)
        keypoints, descriptors, scores = (
            torch.stack([getattr(features, name) for features in pair])[None]
            for name in ("keypoints", "descriptors", "scores")
        )
        width_px, height_px = pair[0].image_size
        with torch.inference_mode():
            found, found_scores, *_ = peer._match_image_pair(keypoints, descriptors, scores, height_px, width_px)
        matches = ours(*pair)
        index0 = (found[0, 0] >= 0).nonzero()[:, 0]
        assert torch.equal(matches.indices, torch.stack((index0, found[0, 0, index0]), -1))
        torch.testing.assert_close(matches.scores, found_scores[0, 0, index0], atol=1e-4, rtol=1e-3)
        num_compared += len(matches)
    assert num_compared > (100 if sharpened else 20)
