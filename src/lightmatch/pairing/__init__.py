"""Which photos to match with which: pairs of places in a list, the lower first."""

from lightmatch.pairing.blocks import share_images
from lightmatch.pairing.order import exhaustive, sequential

__all__ = ["exhaustive", "sequential", "share_images"]
