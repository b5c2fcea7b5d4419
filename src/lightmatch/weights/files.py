"""Files of weights: read safely, loaded strictly, written whole.

safetensors are ours; foreign .pth files are read with weights_only=True, so that they can run no code.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from lightmatch.errors import WeightsError
from lightmatch.runtime.files import file_digest, replacing


def read_tensors(
    path: str | Path, sha256: str | None = None, part: str | None = None
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors by name, on the CPU, and the file's metadata (empty for .pth).

    path: .safetensors, or a .pth/.pt/.ckpt state dict. sha256: the expected hash, checked before reading.
    part: where a .pth file holds more than one state dict, the name of the one to read.
    """
    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"{path}: expected a file of weights, found none; check the path")
    if sha256 is not None:
        found = file_digest(path)
        if found != sha256.lower():
            raise WeightsError(f"{path}: expected SHA-256 {sha256}, got {found}; fetch the file again")
    try:
        if path.suffix == ".safetensors":
            return _read_safetensors(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # every reader has its own family of errors
        raise WeightsError(
            f"{path}: expected a .safetensors file or a PyTorch state dict, could not read it ({_first_line(error)})"
        ) from error
    if part is not None and isinstance(content, Mapping):
        content = content.get(part, content)
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        raise WeightsError(f"{path}: expected a state dict (names to tensors), got {type(content).__name__}")
    return dict(content), {}


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118


def write_tensors(
    path: str | Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str], *, shared: bool = False
) -> None:
    """Write a .safetensors file; one that is there is replaced at once. shared: as for `replacing`."""
    from safetensors.torch import save_file

    whole = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with replacing(Path(path), shared=shared) as unfinished:
        save_file(whole, unfinished, metadata=dict(metadata))


def tensors_digest(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of the values of tensors in their order, 64 hexadecimal digits."""
    digest = hashlib.sha256()
    for tensor in tensors.values():
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def load_strictly(
    network: nn.Module, tensors: Mapping[str, Tensor], source: str | Path, *, derived: Collection[str] = ()
) -> None:
    """Load every tensor into `network`; WeightsError names what is missing, left over or of another shape.

    derived: names of buffers that the network computes itself, and that a file may hold or lack.
    """
    own = {name: tensor for name, tensor in network.state_dict().items() if name not in derived}
    tensors = {name: tensor for name, tensor in tensors.items() if name not in derived}
    missing = sorted(own.keys() - tensors.keys())
    unknown = sorted(tensors.keys() - own.keys())
    reshaped = sorted(n for n in own.keys() & tensors.keys() if own[n].shape != tensors[n].shape)
    faults = {"missing": missing, "unknown": unknown, "of another shape": reshaped}
    if any(faults.values()):
        listed = "; ".join(f"{len(n)} {fault}: {_some(n)}" for fault, n in faults.items() if n)
        raise WeightsError(f"{source}: expected the weights of {type(network).__name__}, got {listed}")
    network.load_state_dict(tensors, strict=not derived)


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "")


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
