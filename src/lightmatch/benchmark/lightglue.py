"""LightGlue in several settings, and the same network in other packages.

Those of another size than the weights in the package have random weights, which take the same time at full depth.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from functools import cache
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lightmatch.benchmark.runners import ANYWHERE, Call, Runner, spec_runner
from lightmatch.export import export_onnx, matcher_inputs, open_session
from lightmatch.matchers import LightGlue
from lightmatch.networks.lightglue import LightGlueConfig
from lightmatch.runtime.devices import fast_dtype
from lightmatch.types import FeatureBatch, Features

LARGE = LightGlueConfig(positions="xy_scale_orientation", depth_confidence=None, width_confidence=None)


@dataclass(frozen=True)
class _OfLarge:
    """Prepares the network of the paper's size. A class, for other processes are to receive it."""

    dtype: torch.dtype | None = None

    def __call__(self, features0: Features, features1: Features, device: str) -> Call:
        matcher = _large(device, self.dtype or fast_dtype(device))
        features0, features1 = features0.to(device), features1.to(device)
        return lambda: matcher(features0, features1)


def _large(device: str = "cpu", dtype: torch.dtype = torch.float32) -> LightGlue:
    """A network of the paper's size with random weights, always the same ones."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return LightGlue(LARGE, device=device, dtype=dtype)


def _kornia(features0: Features, features1: Features, device: str) -> Call:
    from kornia.feature import LightGlue as KorniaLightGlue

    peer: Any = KorniaLightGlue(
        features=None,  # type: ignore[arg-type]  # so it is called without weights of its own
        input_dim=128,
        add_scale_ori=True,
        depth_confidence=-1,
        width_confidence=-1,
        flash=True,
    )
    peer.load_state_dict(_large().network.state_dict(), strict=False)
    peer = peer.eval().to(device)

    def side(features: Features) -> dict[str, Tensor]:
        batch = FeatureBatch.from_features([features.to(device)])
        assert batch.scales is not None and batch.orientations is not None
        named = {"keypoints": batch.keypoints, "descriptors": batch.descriptors, "image_size": batch.image_sizes}
        return {**named, "scales": batch.scales, "oris": batch.orientations}

    data = {"image0": side(features0), "image1": side(features1)}

    def call() -> Any:
        with torch.inference_mode():
            return peer(data)

    return call


def _transformers(features0: Features, features1: Features, device: str) -> Call:
    from transformers import LightGlueConfig as Config
    from transformers import LightGlueForKeypointMatching, SuperPointConfig

    config = Config(keypoint_detector_config=SuperPointConfig(), depth_confidence=-1.0, width_confidence=-1.0)
    peer: Any = LightGlueForKeypointMatching(config)
    peer.eval().to(device)
    count = min(len(features0), len(features1))  # it takes no unequal pairs
    both = [features.select(torch.arange(count)).to(device) for features in (features0, features1)]
    keypoints = torch.stack([features.keypoints for features in both])[None]
    descriptors = torch.stack([features.descriptors.repeat(1, 2) for features in both])[None]  # it takes 256
    mask = torch.ones(1, 2, count, dtype=torch.int64, device=device)
    width, height = features0.image_size

    def call() -> Any:
        with torch.inference_mode():
            return peer._match_image_pair(keypoints, descriptors, height, width, mask=mask)

    return call


@cache
def _exported() -> bytes:
    """The graph of the weights inside the package, which takes many seconds."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "lightglue.onnx"
        export_onnx(LightGlue.from_pretrained("sift"), path)
        return path.read_bytes()


def _onnxruntime(features0: Features, features1: Features, device: str) -> Call:
    session = open_session(_exported(), device)
    inputs = matcher_inputs(session, features0, features1)
    return lambda: session.run(None, inputs)


def _is_installed(distribution: str) -> bool:
    """By its name in the package index: onnxruntime's for GPUs is imported under the same name as that for CPUs."""
    return any(True for _ in distributions(name=distribution))


RUNNERS = (
    spec_runner("lightglue", "weights inside, fastest precision"),
    spec_runner("lightglue,float32", "weights inside, float32"),
    spec_runner("lightglue,full", "weights inside, all layers and points"),
    spec_runner("lightglue,full,float32", "weights inside, all layers and points, float32"),
    Runner("lightglue-large", "256 × 9, fastest precision", (), False, ANYWHERE, _OfLarge()),
    Runner("lightglue-large-float32", "256 × 9, float32", (), False, ANYWHERE, _OfLarge(torch.float32)),
    Runner("kornia", "256 × 9, float32", ("kornia",), False, ANYWHERE, _kornia),
    Runner("transformers", "256 × 9, float32, without scales", ("transformers",), False, ANYWHERE, _transformers),
    Runner(
        "onnxruntime",
        "weights inside, float32, exported",
        ("onnxruntime", "onnxscript"),
        True,
        ("cpu", "cuda") if _is_installed("onnxruntime-gpu") else ("cpu",),
        _onnxruntime,
    ),
)
