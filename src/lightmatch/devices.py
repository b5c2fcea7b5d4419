"""Which device a name means on this machine."""

import torch

from lightmatch.errors import InvalidValueError


def pick_device(name: str) -> str:
    """The device meant by `name`: "auto" is CUDA where there is one, else the CPU.

    A device that is not there raises InvalidValueError.
    """
    present = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        return "cuda" if present["cuda"] else "cpu"
    kind, _, number = name.partition(":")
    count = torch.cuda.device_count() if kind == "cuda" else 1
    if not present.get(kind, False) or (number and not (number.isdecimal() and int(number) < count)):
        have = ", ".join(device for device, there in present.items() if there)
        raise InvalidValueError(f"device: expected auto or one of {have} on this machine, got {name!r}")
    return name
