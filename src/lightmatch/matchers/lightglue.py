"""LightGlue as people use it: Features in, Matches out, weights from a file."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from lightmatch.errors import FeatureMismatchError, InvalidValueError, WeightsError
from lightmatch.matchers.base import Matcher, register
from lightmatch.networks.adaptive import Tokens
from lightmatch.networks.lightglue import LightGlueConfig, LightGlueNetwork, PairMatches
from lightmatch.networks.rotary import position_inputs
from lightmatch.types import FeatureBatch, FeatureKind, Features, Matches
from lightmatch.weights import load_strictly, pretrained_path, read_tensors, write_tensors

# Padded points of both images in one pass: bounds the memory.
_POINTS_PER_PASS = 1 << 14

_RUN_OPTIONS = ("depth_confidence", "width_confidence", "filter_threshold", "pruning_min_points")


class LightGlue(Matcher):
    """Matches by attention within and between two images, with adaptive depth and width.

    Source: Lindenberger, Sarlin, Pollefeys: LightGlue: Local Feature Matching at Light Speed, ICCV 2023.
    """

    def __init__(
        self,
        config: LightGlueConfig | None = None,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """Random weights; for trained ones see `from_pretrained` and `from_checkpoint`.

        dtype: float32, bfloat16 or float16; positions, confidences and probabilities stay float32.
        """
        if dtype not in (torch.float32, torch.bfloat16, torch.float16):
            raise InvalidValueError(f"LightGlue.dtype: expected float32, bfloat16 or float16, got {dtype}")
        self.config = config or LightGlueConfig()
        self.network = LightGlueNetwork(self.config).to(device, dtype).eval()

    @classmethod
    def from_pretrained(
        cls,
        features: str,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        **run_options: Any,
    ) -> Self:
        """The weights inside the package for these features; WeightsError where there are none.

        run_options: depth_confidence, width_confidence, filter_threshold, pruning_min_points.
        """
        path = pretrained_path("lightglue", features)
        return cls.from_checkpoint(path, features, device=device, dtype=dtype, **run_options)

    @classmethod
    def from_checkpoint(
        cls,
        path: str | Path,
        features: str | None = None,
        *,
        sha256: str | None = None,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        **run_options: Any,
    ) -> Self:
        """A file of our own (.safetensors), or an official one (.pth, old or new key names), strictly.

        features: name of the features the weights belong to; needed for .pth, which does not say.
        sha256: the file's expected hash, checked before it is read. run_options: as for `from_pretrained`.
        """
        unknown = run_options.keys() - set(_RUN_OPTIONS)
        if unknown:
            raise InvalidValueError(
                f"expected options among {', '.join(_RUN_OPTIONS)}, got {', '.join(sorted(unknown))};"
                " the size of the network comes from the file"
            )
        tensors, metadata = read_tensors(path, sha256)
        if "config" in metadata:
            config = _config_from_json(metadata["config"], path)
            if features not in (None, config.features):
                raise FeatureMismatchError(
                    f"{path}: expected weights for {features!r}, got weights for {config.features!r};"
                    " leave `features` out or load another file"
                )
        elif features is None:
            raise WeightsError(f"{path}: the file does not say which features it is for; name them with `features`")
        else:
            tensors = _modern_names(tensors)
            config = _config_from_tensors(tensors, features, path)
        with torch.random.fork_rng(devices=[]):  # the random weights that are about to be replaced cost no one else's
            matcher = cls(replace(config, **run_options), device=device, dtype=dtype)
        load_strictly(matcher.network, tensors, path)
        return matcher

    def save(self, path: str | Path, **metadata: str) -> None:
        """Write weights and config to a .safetensors file that `from_checkpoint` reads back."""
        metadata = {**metadata, "config": json.dumps(asdict(self.config))}
        write_tensors(path, self.network.state_dict(), metadata)

    @torch.no_grad()
    def match_batch(self, pairs: Sequence[tuple[Features, Features]]) -> list[Matches]:
        """Matches of each pair; every pair stops at its own layer and drops its own points."""
        for pair in pairs:
            for features in pair:
                self._check_kind(features)
        results: dict[int, Matches] = {}
        waiting = []
        for number, (features0, features1) in enumerate(pairs):
            if min(len(features0), len(features1)) == 0:
                results[number] = _empty_result(features0, features1)
            else:
                waiting.append(number)
        # Pairs of like size share a pass, so that padding costs little.
        waiting.sort(key=lambda number: sorted(map(len, pairs[number])))
        for group in _passes(waiting, pairs):
            found = self._match_padded([pairs[number] for number in group])
            for number, match in zip(group, found, strict=True):
                results[number] = _to_matches(match, pairs[number][0].device)
        return [results[number] for number in range(len(pairs))]

    def _match_padded(self, pairs: list[tuple[Features, Features]]) -> list[PairMatches]:
        tokens0 = self._tokens([features0 for features0, _ in pairs])
        tokens1 = self._tokens([features1 for _, features1 in pairs])
        return self.network.match(tokens0, tokens1, self.config)

    def _tokens(self, features: list[Features]) -> Tokens:
        device = self.network.posenc.Wr.weight.device
        batch = FeatureBatch.from_features([f.to(device) for f in features])
        positions = position_inputs(
            self.config.positions, batch.keypoints, batch.image_sizes, batch.scales, batch.orientations
        )
        return self.network.start(batch.descriptors, positions, [len(f) for f in features])

    def _check_kind(self, features: Features) -> None:
        kind, config = features.kind, self.config
        if (kind.name, kind.descriptor_dim) != (config.features, config.input_dim):
            raise FeatureMismatchError(
                f"this LightGlue was made for {config.features!r} features ({config.input_dim} wide),"
                f" got {kind.name!r} ({kind.descriptor_dim} wide); use an extractor and weights made for each other"
            )
        if config.positions != "xy" and not kind.has_scale_orientation:
            raise FeatureMismatchError(
                f"this LightGlue needs scales and orientations, {kind.name!r} features have none;"
                " extract them, or use weights made for positions alone"
            )


@register("lightglue")
def _create(kind: FeatureKind, device: str) -> LightGlue:
    return LightGlue.from_pretrained(kind.name, device=device)


def _passes(numbers: list[int], pairs: Sequence[tuple[Features, Features]]) -> list[list[int]]:
    """Groups of pairs, in order, each within the bound on padded points."""
    groups: list[list[int]] = []
    longest = [0, 0]
    for number in numbers:
        grown = [max(old, len(features)) for old, features in zip(longest, pairs[number], strict=True)]
        if groups and sum(grown) * (len(groups[-1]) + 1) <= _POINTS_PER_PASS:
            groups[-1].append(number)
            longest = grown
        else:
            groups.append([number])
            longest = [len(features) for features in pairs[number]]
    return groups


def _to_matches(match: PairMatches, device: torch.device) -> Matches:
    return Matches(match.indices, match.scores, match.stop_layer, match.layers0, match.layers1).to(device)


def _empty_result(features0: Features, features1: Features) -> Matches:
    device = features0.device

    def layers(features: Features) -> Tensor:
        return torch.zeros(len(features), dtype=torch.int64, device=device)

    none = torch.empty((0, 2), dtype=torch.int64, device=device)
    return Matches(none, torch.empty(0, device=device), 0, layers(features0), layers(features1))


def _config_from_json(text: str, path: str | Path) -> LightGlueConfig:
    try:
        values = json.loads(text)
        unknown = values.keys() - {field.name for field in fields(LightGlueConfig)}
        if not unknown:
            return LightGlueConfig(**values)
    except (ValueError, TypeError, AttributeError) as error:
        raise WeightsError(f"{path}: expected a LightGlue config inside, it is damaged ({error})") from error
    raise WeightsError(
        f"{path}: its config names {', '.join(sorted(unknown))}, unknown to this version; update lightmatch"
    )


def _modern_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Key names of the newer generation, whichever the file has; derived buffers left out.

    Old: self_attn.N.* and cross_attn.N.*. New: transformers.N.self_attn.* and transformers.N.cross_attn.*.
    LighterGlue prefixes all with "matcher.".
    """
    renamed = {}
    for name, tensor in tensors.items():
        name = re.sub(r"^(self_attn|cross_attn)\.(\d+)\.", r"transformers.\2.\1.", name.removeprefix("matcher."))
        if name != "confidence_thresholds":
            renamed[name] = tensor
    return renamed


def _config_from_tensors(tensors: Mapping[str, Tensor], features: str, path: str | Path) -> LightGlueConfig:
    """The size of the network, read off its weights."""
    layers = {int(m[1]) for name in tensors if (m := re.match(r"transformers\.(\d+)\.", name))}
    input_proj = tensors.get("input_proj.weight")
    try:
        half_head_dim, position_dim = tensors["posenc.Wr.weight"].shape
        descriptor_dim = tensors["log_assignment.0.final_proj.weight"].shape[0]
        return LightGlueConfig(
            features=features,
            input_dim=descriptor_dim if input_proj is None else input_proj.shape[1],
            input_projection=input_proj is not None,
            positions="xy" if position_dim == 2 else "xy_scale_orientation",
            descriptor_dim=descriptor_dim,
            num_layers=len(layers),
            num_heads=descriptor_dim // (2 * half_head_dim),
        )
    except (KeyError, ValueError, IndexError, ZeroDivisionError) as error:
        raise WeightsError(
            f"{path}: expected a LightGlue checkpoint, its posenc.Wr and log_assignment do not tell the network's size"
            f" ({error}); its names begin with {', '.join(sorted(tensors)[:3])}"
        ) from error
