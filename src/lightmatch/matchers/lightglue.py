"""LightGlue as people use it: Features in, Matches out, weights from a file."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from lightmatch.errors import FeatureMismatchError, WeightsError
from lightmatch.matchers.family import MatcherSetup, register
from lightmatch.matchers.learned import PRECISIONS, LearnedFamily, LearnedMatcher
from lightmatch.matchers.spec import MatcherSpec
from lightmatch.matchers.transformers_files import lightglue_from_transformers
from lightmatch.networks.adaptive import PreparedImage, Tokens
from lightmatch.networks.lightglue import LightGlueConfig, LightGlueNetwork
from lightmatch.networks.rotary import position_inputs
from lightmatch.runtime.devices import fast_dtype
from lightmatch.types import Features, Matches
from lightmatch.weights import matcher_weights, pretrained_names

# Images kept in their prepared form during one call: bounds the memory.
_MOST_SHARED = 64
_FULL = "full"
_DEFAULT_FEATURES = "sift"


class LightGlue(LearnedMatcher[LightGlueConfig, LightGlueNetwork]):
    """Matches by attention within and between two images; every pair stops at its own layer and drops its own points.

    `from_checkpoint` reads official files of both generations of key names; they do not say which features
    they are for.
    Source: Lindenberger, Sarlin, Pollefeys: LightGlue: Local Feature Matching at Light Speed, ICCV 2023.
    """

    _config_type = LightGlueConfig
    _network_type = LightGlueNetwork
    graph = "lightmatch.export.matcher_graphs:LightGlueGraph"
    run_options = (
        "depth_confidence",
        "exit_rule",
        "width_confidence",
        "filter_threshold",
        "pruning_min_points",
        "calibration",
    )

    @classmethod
    def from_pretrained(
        cls,
        features: str,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        **run_options: Any,
    ) -> Self:
        """The weights for these features: those inside the package, else those of LightGlue's authors, fetched once.

        Raises WeightsError where there are none, or where they cannot be had.
        run_options: fields of LightGlueConfig: calibration, filter_threshold, pruning_min_points; or depth_confidence,
        width_confidence, exit_rule, which replace the calibration of the weights by the thresholds of the paper.
        """
        path = matcher_weights("lightglue", features)
        return cls.from_checkpoint(path, features, device=device, dtype=dtype, **run_options)

    @classmethod
    def _with_options(cls, config: LightGlueConfig, options: Mapping[str, Any]) -> LightGlueConfig:
        by_hand = {"depth_confidence", "width_confidence", "exit_rule"} & options.keys()
        changes: dict[str, Any] = {"calibration": None, **options} if by_hand else {**options}
        return replace(config, **changes)

    @classmethod
    def _read_official(
        cls, tensors: Mapping[str, Tensor], features: str | None, path: str | Path
    ) -> tuple[LightGlueConfig, dict[str, Tensor]]:
        if features is None:
            raise WeightsError(f"{path}: the file does not say which features it is for; name them with `features`")
        renamed = lightglue_from_transformers(tensors, path) or _modern_names(tensors)
        return _config_from_tensors(renamed, features, path), renamed

    def match_batch(self, pairs: Sequence[tuple[Features, Features]]) -> list[Matches]:
        """As in the base class."""
        found = super().match_batch(pairs)
        if self.config.calibration is None or self.config.calibration.scores is None:
            return found
        # Pairs without matches may have left before there was a score.
        return [one if len(one) else replace(one, probabilities=torch.empty_like(one.scores)) for one in found]

    def _match_padded(self, pairs: list[tuple[Features, Features]], shared: dict[int, Any]) -> list[Matches]:
        images = {id(features): features for pair in pairs for features in pair}
        if len(shared) + len(images) > _MOST_SHARED:
            shared.clear()
        shared.update((key, self.prepare(features)) for key, features in images.items() if key not in shared)
        tokens0, tokens1 = (Tokens.start([shared[id(pair[side])] for pair in pairs]) for side in (0, 1))
        return [Matches(*found) for found in self.network.match(tokens0, tokens1, self.config)]

    def log_assignment(self, features0: Features, features1: Features) -> Tensor:
        """Log-probability (m, n) of every match of one pair, by all layers and all points, on the device of features0.

        `mutual_matches` of networks.assignment makes matches of it.
        """
        for features in (features0, features1):
            self._check_kind(features)
        if min(len(features0), len(features1)) == 0:
            return torch.empty((len(features0), len(features1)), device=features0.device)
        tokens0, tokens1 = (Tokens.start([self.prepare(features)]) for features in (features0, features1))
        with self._in_own_precision():
            return self.network.assignment(tokens0, tokens1)[0].to(features0.device)

    def prepare(self, features: Features) -> PreparedImage:
        """What all pairs of an image share, computed once: its states before the first look at another image."""
        batch = self._batch([features])
        positions = position_inputs(
            self.config.positions, batch.keypoints, batch.image_sizes, batch.scales, batch.orientations
        )
        with self._in_own_precision():
            return self.network.prepare(batch.descriptors[0], positions[0])

    def _check_kind(self, features: Features) -> None:
        super()._check_kind(features)
        if self.config.positions != "xy" and not features.kind.has_scale_orientation:
            raise FeatureMismatchError(
                f"this LightGlue needs scales and orientations, {features.kind.name!r} features have none;"
                " extract them, or use weights made for positions alone"
            )


@register("lightglue")
class LightGlueFamily(LearnedFamily):
    """LightGlue: the weights for the features inside the package, else the authors', or those of a file.

    ,full: all layers and all points for every pair.
    """

    usage = "lightglue or lightglue:FILE, each with [,full][,PRECISION][@SCORE]"
    options = (_FULL, *PRECISIONS)
    config = "lightmatch.networks.lightglue:LightGlueConfig"
    objective = "lightmatch.training.losses:lightglue_objective"
    runners = "lightmatch.benchmark.lightglue:RUNNERS"
    matcher_type = LightGlue
    default_features = _DEFAULT_FEATURES

    def path(self, spec: MatcherSpec, setup: MatcherSetup) -> Path:
        """As in the base class. Raises WeightsError where there are none for these features, or they cannot be had."""
        return Path(spec.source) if spec.source else matcher_weights("lightglue", self._features(setup))

    def run_options(self, spec: MatcherSpec) -> dict[str, Any]:
        """As in the base class."""
        everything = {"depth_confidence": None, "width_confidence": None} if _FULL in spec.options else {}
        return super().run_options(spec) | everything

    def fastest_dtype(self, spec: MatcherSpec, setup: MatcherSetup) -> torch.dtype:
        """Half precision was measured with the weights inside the package alone."""
        inside = not spec.source and self._features(setup) in pretrained_names("lightglue")
        return fast_dtype(setup.device) if inside else torch.float32

    def _features(self, setup: MatcherSetup) -> str:
        return setup.features or _DEFAULT_FEATURES

    def adaptive(self, spec: MatcherSpec) -> bool:
        """As in the base class."""
        return _FULL not in spec.options


def _modern_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Key names of the newer generation, whichever the file has; derived buffers left out.

    Old: self_attn.N.* and cross_attn.N.*. New: transformers.N.self_attn.* and transformers.N.cross_attn.*.
    LighterGlue's file holds XFeat too, under "extractor."; the matcher's names begin with "matcher.". The file for DISK
    holds a factor "log_assignment.N.r" that the released network does not read; all of them are 1.
    """
    inner = {name.removeprefix("matcher."): t for name, t in tensors.items() if name.startswith("matcher.")}
    renamed = {}
    for name, tensor in (inner or tensors).items():
        name = re.sub(r"^(self_attn|cross_attn)\.(\d+)\.", r"transformers.\2.\1.", name)
        if name != "confidence_thresholds" and not re.fullmatch(r"log_assignment\.\d+\.r", name):
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
