"""Random features and matches, for round trips."""

import torch

from lightmatch.types import FeatureKind, Features, Matches

SIFT = FeatureKind("sift", 128, True)
PLAIN = FeatureKind("superpoint", 256, False)


def random_features(
    count: int, kind: FeatureKind = SIFT, size: tuple[int, int] = (640, 480), seed: int = 0
) -> Features:
    """Keypoints everywhere in the image; descriptors as the kind has them, SIFT's without negative numbers."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> torch.Tensor:
        return torch.rand(*shape, generator=generator)

    descriptors = draw(count, kind.descriptor_dim)
    if kind.name != "sift":
        descriptors = descriptors - 0.5
    return Features(
        keypoints=draw(count, 2) * (torch.tensor(size) - 1),
        scores=draw(count),
        descriptors=torch.nn.functional.normalize(descriptors, dim=1),
        image_size=size,
        kind=kind,
        scales=1 + 30 * draw(count) if kind.has_scale_orientation else None,
        orientations=(draw(count) - 0.5) * 6.28 if kind.has_scale_orientation else None,
    )


def random_matches(count0: int, count1: int, num: int, seed: int = 0) -> Matches:
    """One to one."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randperm(count0, generator=generator)[:num].sort().values
    columns = torch.randperm(count1, generator=generator)[:num]
    return Matches(torch.stack((rows, columns), 1), torch.rand(num, generator=generator))


def assert_equal_features(got: Features, expected: Features) -> None:
    """Bit by bit."""
    assert got.kind == expected.kind and got.image_size == expected.image_size
    for name in ("keypoints", "scores", "descriptors", "scales", "orientations"):
        one, other = getattr(got, name), getattr(expected, name)
        assert (one is None) == (other is None)
        assert one is None or torch.equal(one, other), name


def assert_equal_matches(got: Matches, expected: Matches) -> None:
    """Bit by bit, but for what only a layered matcher knows."""
    assert torch.equal(got.indices, expected.indices)
    assert torch.equal(got.scores, expected.scores)
