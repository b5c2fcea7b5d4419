"""Starting a LightGlue from one trained on other features."""

from __future__ import annotations

from typing import cast

import torch
from torch import nn
from torch.nn.functional import normalize

from lightmatch.errors import TrainingError
from lightmatch.matchers import LightGlue


def copy_layers(matcher: LightGlue, donor: LightGlue) -> LightGlue:
    """`matcher`, changed: with the weights of `donor`, made for other features, but for those that read descriptors.

    Of the encoding of positions it takes the part that both have.

    Raises TrainingError where the networks are not of one size.
    """
    expected, got = ((c.descriptor_dim, c.num_layers, c.num_heads) for c in (matcher.config, donor.config))
    if expected != got:
        raise TrainingError(
            f"weights for {donor.config.features!r}: expected the recipe's width, layers and heads, {expected},"
            f" got {got}; change the recipe, or start without them"
        )
    own = matcher.network.state_dict()
    for name, tensor in donor.network.state_dict().items():
        if name.startswith("posenc."):  # x and y come first, scale and orientation behind them
            common = min(own[name].shape[1], tensor.shape[1])
            own[name][:, :common] = tensor[:, :common]
        elif not name.startswith("input_proj."):
            own[name].copy_(tensor)
    return matcher


def read_through_head(matcher: LightGlue, donor: LightGlue, head: nn.Linear) -> None:
    """Set the input projection of `matcher` to that of `donor` after `head`.

    head: maps LightPoint's descriptors, which `matcher` reads, to those of the features that `donor` reads.

    The head's results are brought to unit length, which a linear map cannot do: they are divided by their length for
    descriptors of random direction.
    """
    into, first = (cast(nn.Linear, found.network.input_proj) for found in (matcher, donor))
    weight, bias = head.weight.float(), head.bias.float()
    directions = normalize(torch.randn((1000, weight.shape[1]), generator=torch.Generator().manual_seed(0)), dim=1)
    length = (directions @ weight.mT + bias).norm(dim=1).mean()
    with torch.no_grad():
        into.weight.copy_(first.weight @ weight / length)
        into.bias.copy_(first.weight @ bias / length + first.bias)
