"""Features of imaginary places: cheap, and it is known who saw what."""

import numpy as np
import torch

from lightmatch.pairing import describe, learn_vocabulary, sample_descriptors
from lightmatch.types import FeatureKind, Features

PLAIN = FeatureKind("aliked-n16", 128)


def place(seed: int, num_points: int = 400, kind: FeatureKind = PLAIN) -> torch.Tensor:
    """The descriptors of all there is to see at one place, (n, d)."""
    generator = torch.Generator().manual_seed(seed)
    return torch.nn.functional.normalize(torch.randn(num_points, kind.descriptor_dim, generator=generator), dim=1)


def photo(descriptors: torch.Tensor, seed: int, kind: FeatureKind = PLAIN, noise: float = 0.3) -> Features:
    """A photo that sees the given points of a place, each a little different, anywhere in the picture."""
    generator = torch.Generator().manual_seed(seed)
    count = len(descriptors)
    seen = descriptors + noise / kind.descriptor_dim**0.5 * torch.randn(descriptors.shape, generator=generator)
    return Features(
        keypoints=torch.rand(count, 2, generator=generator) * torch.tensor([319.0, 239.0]),
        scores=torch.rand(count, generator=generator),
        descriptors=torch.nn.functional.normalize(seen, dim=1),
        image_size=(320, 240),
        kind=kind,
        scales=torch.full((count,), 4.0) if kind.has_scale_orientation else None,
        orientations=torch.zeros(count) if kind.has_scale_orientation else None,
    )


def walk(num_photos: int, seed: int = 0, kind: FeatureKind = PLAIN) -> list[Features]:
    """Photos along a way: each sees 100 points, half of them those of the photo before."""
    points = place(seed, 50 * (num_photos + 1), kind)
    return [photo(points[50 * i : 50 * i + 100], 1000 * seed + i, kind) for i in range(num_photos)]


def describe_all(photos: list[Features], num_words: int = 200, seed: int = 0) -> np.ndarray:
    """Descriptors of the photos, by a vocabulary of their own."""
    vocabulary = learn_vocabulary([sample_descriptors(f, 1000, i) for i, f in enumerate(photos)], num_words, seed)
    return np.stack([describe(f, vocabulary) for f in photos])
