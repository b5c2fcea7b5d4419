"""The weights of matchers: those inside the package, and those that others published."""

from __future__ import annotations

from pathlib import Path

from lightmatch.errors import WeightsError
from lightmatch.weights.fetch import obtain_weights
from lightmatch.weights.records import RECORDS

PRETRAINED_FOLDER = Path(__file__).parents[1] / "pretrained"


def pretrained_names(family: str) -> list[str]:
    """Names of the weights inside the package for one family of networks, such as "lightglue"."""
    prefix = f"{family}-"
    return sorted(path.stem.removeprefix(prefix) for path in PRETRAINED_FOLDER.glob(f"{prefix}*.safetensors"))


def pretrained_path(family: str, name: str) -> Path:
    """File of the embedded weights `name`; WeightsError lists what there is when it is not one of them."""
    names = pretrained_names(family)
    if name not in names:
        have = f"available: {', '.join(names)}" if names else "this version of the package embeds none"
        raise WeightsError(
            f"no embedded {family} weights for {name!r} ({have});"
            f" load a file with from_checkpoint(path, features={name!r}), of your own or of LightGlue's authors:"
            " https://github.com/cvg/LightGlue/releases/tag/v0.1_arxiv"
        )
    return PRETRAINED_FOLDER / f"{family}-{name}.safetensors"


def matcher_weights(family: str, name: str) -> Path:
    """File of the embedded weights `name`, else of the published ones, which are fetched where they are not here.

    Raises WeightsError where there are neither, or where they cannot be had.
    """
    published = {record.name: record for record in RECORDS}.get(f"{family}-{name}")
    if published is None or name in pretrained_names(family):
        return pretrained_path(family, name)
    return obtain_weights(published)
