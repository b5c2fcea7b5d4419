"""Descriptors of any width to states of the network's."""

from torch import nn


def descriptor_projection(input_dim: int, dim: int, gain: float = 1.0) -> nn.Linear:
    """A linear map that starts as a rotation, times `gain`: no two descriptors come closer by chance."""
    projection = nn.Linear(input_dim, dim)
    nn.init.orthogonal_(projection.weight, gain)
    nn.init.zeros_(projection.bias)
    return projection
