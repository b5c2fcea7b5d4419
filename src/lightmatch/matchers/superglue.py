"""SuperGlue as people use it, the predecessor to compare LightGlue with."""

from __future__ import annotations

import re
from collections.abc import Mapping
from copy import copy
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from lightmatch.errors import WeightsError
from lightmatch.matchers.family import register
from lightmatch.matchers.learned import LearnedFamily, LearnedMatcher
from lightmatch.matchers.spec import MatcherSpec
from lightmatch.matchers.transformers_files import superglue_from_transformers
from lightmatch.networks.assignment import mutual_matches
from lightmatch.networks.superglue import SuperGlueConfig, SuperGlueNetwork, keypoint_inputs
from lightmatch.types import FeatureBatch, Features, Matches

# The released files do not say it, but have this one head width and are for these features.
_OFFICIAL_HEAD_DIM = 64
_OFFICIAL_FEATURES = "superpoint"
_OFFICIAL_URL = "https://github.com/magicleap/SuperGluePretrainedNetwork"


class SuperGlue(LearnedMatcher[SuperGlueConfig, SuperGlueNetwork]):
    """Matches by attention of fixed depth and optimal transport.

    `from_checkpoint` takes official files for SuperPoint's features where no others are named.
    Source: Sarlin, DeTone, Malisiewicz, Rabinovich: SuperGlue: Learning Feature Matching with Graph Neural
    Networks, CVPR 2020.
    """

    _config_type = SuperGlueConfig
    _network_type = SuperGlueNetwork
    graph = "lightmatch.export.matcher_graphs:SuperGlueGraph"
    run_options = ("sinkhorn_iterations", "filter_threshold")

    def __init__(
        self,
        config: SuperGlueConfig | None = None,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """As for LightGlue: random weights, in float32, bfloat16 or float16."""
        super().__init__(config, device=device, dtype=dtype)
        self.network.kenc.float()  # a place in half precision is off by pixels

    def with_options(self, **run_options: Any) -> Self:
        """As in the base class."""
        other = super().with_options(**run_options)
        other.network = copy(self.network)  # with the same weights
        other.network.num_iterations = other.config.sinkhorn_iterations
        return other

    @classmethod
    def _read_official(
        cls, tensors: Mapping[str, Tensor], features: str | None, path: str | Path
    ) -> tuple[SuperGlueConfig, dict[str, Tensor]]:
        tensors = superglue_from_transformers(tensors, _OFFICIAL_HEAD_DIM) or tensors
        # A convolution of width 1 is a linear map.
        linear = {name: tensor.squeeze(-1) if tensor.ndim == 3 else tensor for name, tensor in tensors.items()}
        return _config_from_tensors(linear, features or _OFFICIAL_FEATURES, path), linear

    def _match_padded(self, pairs: list[tuple[Features, Features]], shared: dict[int, Any]) -> list[Matches]:
        batch0 = self._batch([features0 for features0, _ in pairs])
        batch1 = self._batch([features1 for _, features1 in pairs])
        log_p = self.network(
            batch0.descriptors,
            batch1.descriptors,
            _positions(batch0),
            _positions(batch1),
            _padding(batch0),
            _padding(batch1),
        )
        return [
            self._to_matches(row[: len(features0), : len(features1)])
            for row, (features0, features1) in zip(log_p, pairs, strict=True)
        ]

    def _to_matches(self, log_probability: Tensor) -> Matches:
        """Matches of one pair: log_probability (m, n), without dustbins."""
        indices, scores = mutual_matches(log_probability, self.config.filter_threshold)
        num_layers = self.config.num_layers
        layers0, layers1 = (indices.new_full((count,), num_layers) for count in log_probability.shape)
        return Matches(indices, scores, num_layers, layers0, layers1)


def _positions(batch: FeatureBatch) -> Tensor:
    return keypoint_inputs(batch.keypoints, batch.scores, batch.image_sizes)


def _padding(batch: FeatureBatch) -> Tensor | None:
    """Which points are real; None where all are, for attention without a mask is faster."""
    return None if bool(batch.valid.all()) else batch.valid


@register("superglue")
class SuperGlueFamily(LearnedFamily):
    """SuperGlue with weights from a file.

    The authors' files are for research only, and no hash of them is known, so they are not fetched.
    """

    usage = "superglue:FILE[,PRECISION][@SCORE]"
    config = "lightmatch.networks.superglue:SuperGlueConfig"
    objective = "lightmatch.training.losses:superglue_objective"
    matcher_type = SuperGlue

    def check(self, spec: MatcherSpec) -> None:
        """As in the base class."""
        if not spec.source:
            raise self.refuse(
                spec,
                "no FILE; train one, or download superglue_outdoor.pth, for SuperPoint's features and research only,"
                f" from {_OFFICIAL_URL}",
            )
        super().check(spec)


def _config_from_tensors(tensors: Mapping[str, Tensor], features: str, path: str | Path) -> SuperGlueConfig:
    """The size of the network, read off its weights."""
    steps = {int(m[1]) for name in tensors if (m := re.match(r"gnn\.layers\.(\d+)\.", name))}
    encoder = {
        int(m[1]): len(tensor)
        for name, tensor in tensors.items()
        if (m := re.fullmatch(r"kenc\.encoder\.(\d+)\.weight", name)) and tensor.ndim == 2
    }
    try:
        descriptor_dim, input_dim = tensors["final_proj.weight"].shape
        input_proj = tensors.get("input_proj.weight")
        return SuperGlueConfig(
            features=features,
            input_dim=input_dim if input_proj is None else input_proj.shape[1],
            descriptor_dim=descriptor_dim,
            num_layers=len(steps) // 2,
            num_heads=descriptor_dim // _OFFICIAL_HEAD_DIM,
            keypoint_encoder_dims=tuple(encoder[number] for number in sorted(encoder)[:-1]),
        )
    except (KeyError, ValueError, IndexError) as error:
        raise WeightsError(
            f"{path}: expected a SuperGlue checkpoint, its final_proj and gnn.layers do not tell the network's size"
            f" ({error}); its names begin with {', '.join(sorted(tensors)[:3])}"
        ) from error
