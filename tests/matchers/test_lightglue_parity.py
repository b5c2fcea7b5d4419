"""On identical weights, peers give the same matches and scores in every mode."""

import pytest
import torch
from sharpened import random_pair, sharpened_lightglue

from lightmatch.matchers.lightglue import LightGlue
from lightmatch.networks.lightglue import LightGlueConfig
from lightmatch.types import FeatureKind, Features, Matches

SUPERPOINT = FeatureKind("superpoint", 256)
SIFT = FeatureKind("sift", 128, has_scale_orientation=True)
MODES = {"both": (0.95, 0.99), "depth": (0.95, None), "width": (None, 0.99), "neither": (None, None)}
PAIRS: list[tuple[int, int, int, float]] = [  # common points, only in 0, only in 1, ease
    (150, 80, 20, 0.0),
    (150, 20, 80, 0.6),
    (60, 10, 90, 0.4),
    (40, 40, 40, 1.0),
    (5, 0, 3, 0.5),
    (1, 0, 0, 0.5),
    (1, 1, 0, 0.5),
]


def make_pairs(kind: FeatureKind) -> list[tuple[Features, Features]]:
    return [random_pair(kind, both, only0, only1, seed, ease) for seed, (both, only0, only1, ease) in enumerate(PAIRS)]


def make_matcher(kind: FeatureKind, mode: str) -> LightGlue:
    depth, width = MODES[mode]
    return sharpened_lightglue(
        LightGlueConfig(
            features=kind.name,
            input_dim=kind.descriptor_dim,
            input_projection=kind.descriptor_dim != 256,
            positions="xy_scale_orientation" if kind.has_scale_orientation else "xy",
            depth_confidence=depth,
            width_confidence=width,
        )
    )


def assert_same(ours: Matches, indices: torch.Tensor, scores: torch.Tensor) -> None:
    assert torch.equal(ours.indices, indices)
    torch.testing.assert_close(ours.scores, scores, atol=1e-4, rtol=0)


def assert_decided_both_ways(seen: list[Matches], mode: str) -> None:
    """A comparison means something only if matches, exits and pruning all occurred, and did not."""
    depth, width = MODES[mode]
    assert sum(len(matches) for matches in seen) > 60
    assert any(bool((matches.scores < 0.9).any()) for matches in seen)
    stops = {matches.stop_layer for matches in seen}
    assert (len(stops) > 2 and min(filter(None, stops)) < 9) if depth else stops == {9}
    num_pruned = sum(int((m.layers0 < m.stop_layer).sum()) for m in seen)  # type: ignore[operator]
    assert (num_pruned > 10) if width else num_pruned == 0


def kornia_input(features: Features) -> dict[str, torch.Tensor]:
    data = {
        "keypoints": features.keypoints[None],
        "descriptors": features.descriptors[None],
        "image_size": torch.tensor([features.image_size]),
    }
    if features.scales is not None and features.orientations is not None:
        data |= {"scales": features.scales[None], "oris": features.orientations[None]}
    return data


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", [SUPERPOINT, SIFT], ids=lambda kind: kind.name)
def test_kornia(kind: FeatureKind, mode: str) -> None:
    kornia_feature = pytest.importorskip("kornia.feature")
    ours = make_matcher(kind, mode)
    depth, width = MODES[mode]
    peer = kornia_feature.LightGlue(
        features=None,
        input_dim=kind.descriptor_dim,
        add_scale_ori=kind.has_scale_orientation,
        depth_confidence=depth or -1,
        width_confidence=width or -1,
        flash=True,  # False would turn fused attention off in the whole process
    ).eval()
    loaded = peer.load_state_dict(ours.network.state_dict(), strict=False)
    assert loaded.missing_keys == ["confidence_thresholds"] and not loaded.unexpected_keys

    seen = []
    for features0, features1 in make_pairs(kind):
        with torch.inference_mode():
            theirs = peer({"image0": kornia_input(features0), "image1": kornia_input(features1)})
        matches = ours(features0, features1)
        assert_same(matches, theirs["matches"][0], theirs["scores"][0])
        assert matches.stop_layer is not None
        if matches.stop_layer < theirs["stop"]:  # an image has no points left: we stop, the peer runs on in vain
            assert mode == "width" and len(matches) == 0
            continue
        assert matches.stop_layer == theirs["stop"]
        if width is not None:
            assert matches.layers0 is not None and matches.layers1 is not None
            assert torch.equal(matches.layers0, theirs["prune0"][0])
            assert torch.equal(matches.layers1, theirs["prune1"][0])
        seen.append(matches)

    assert_decided_both_ways(seen, mode)


def transformers_weights(ours: LightGlue) -> dict[str, torch.Tensor]:
    """Our names → transformers'; its query, key and value are separate, ours interleaved per head."""
    renamed: dict[str, torch.Tensor] = {}
    config = ours.config
    for name, tensor in ours.network.state_dict().items():
        stem, _, leaf = name.rpartition(".")
        if ".Wqkv" in name:
            layer = stem.replace("transformers", "transformer_layers").replace("self_attn.Wqkv", "self_attention")
            heads = tensor.unflatten(0, (config.num_heads, -1, 3))
            for part, target in enumerate(("q_proj", "k_proj", "v_proj")):
                renamed[f"{layer}.{target}.{leaf}"] = heads[:, :, part].flatten(0, 1)
            continue
        if ".to_qk" in name:
            layer = stem.replace("transformers", "transformer_layers").replace("cross_attn.to_qk", "cross_attention")
            renamed[f"{layer}.q_proj.{leaf}"] = renamed[f"{layer}.k_proj.{leaf}"] = tensor
            continue
        for old, new in {
            "posenc.Wr": "positional_encoder.projector",
            "input_proj": "input_projection",
            "transformers": "transformer_layers",
            "self_attn.out_proj": "self_attention.o_proj",
            "cross_attn.to_v": "cross_attention.v_proj",
            "cross_attn.to_out": "cross_attention.o_proj",
            "self_attn.ffn": "self_mlp",
            "cross_attn.ffn": "cross_mlp",
            "mlp.0": "mlp.fc1",
            "mlp.1": "mlp.layer_norm",
            "mlp.3": "mlp.fc2",
            "log_assignment": "match_assignment_layers",
            "final_proj": "final_projection",
            "token.0": "token",
        }.items():
            name = name.replace(old, new)
        renamed[name] = tensor
    return renamed


@pytest.mark.parametrize("mode", ["both", "neither"])  # the peer cannot switch on one alone
def test_transformers(mode: str) -> None:
    transformers = pytest.importorskip("transformers")
    ours = make_matcher(SUPERPOINT, mode)
    depth, width = MODES[mode]
    detector = transformers.SuperPointConfig(descriptor_decoder_dim=256)
    peer = transformers.LightGlueForKeypointMatching(
        transformers.LightGlueConfig(
            keypoint_detector_config=detector,
            depth_confidence=depth or -1.0,
            width_confidence=width or -1.0,
            filter_threshold=ours.config.filter_threshold,
        )
    ).eval()
    loaded = peer.load_state_dict(transformers_weights(ours), strict=False)
    assert not loaded.unexpected_keys
    assert all(name.startswith("keypoint_detector.") for name in loaded.missing_keys)

    num_compared = 0
    seen = []
    for features0, features1 in make_pairs(SUPERPOINT):
        length = max(len(features0), len(features1))
        keypoints, descriptors = torch.zeros(1, 2, length, 2), torch.zeros(1, 2, length, 256)
        mask = torch.zeros(1, 2, length, dtype=torch.int64)
        for side, features in enumerate((features0, features1)):
            keypoints[0, side, : len(features)] = features.keypoints
            descriptors[0, side, : len(features)] = features.descriptors
            mask[0, side, : len(features)] = 1
        width_px, height_px = features0.image_size
        with torch.inference_mode():
            found, scores, *_ = peer._match_image_pair(keypoints, descriptors, height_px, width_px, mask=mask)
        found0, scores0 = found.reshape(2, -1)[0][: len(features0)], scores.reshape(2, -1)[0][: len(features0)]
        theirs = torch.stack((torch.arange(len(found0)), found0), -1)
        matches = ours(features0, features1)
        # The peer overwrites the last keypoint's entry when the two images are pruned by different counts,
        # padding being index −1: it is left out on both sides.
        spoilt = length - 1 if width is not None else length
        fair = (found0 >= 0) & (theirs != spoilt).all(1)
        kept = (matches.indices != spoilt).all(1)
        assert torch.equal(matches.indices[kept], theirs[fair])
        torch.testing.assert_close(matches.scores[kept], scores0[fair], atol=1e-4, rtol=0)
        num_compared += int(kept.sum())
        seen.append(matches)
    assert num_compared > 100
    assert_decided_both_ways(seen, mode)
