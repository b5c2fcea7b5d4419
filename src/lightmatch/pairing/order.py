"""Exhaustive and sequential pairs."""

from lightmatch.errors import InvalidValueError

OVERLAP = 10  # neighbours in a sequence


def exhaustive(num_images: int) -> list[tuple[int, int]]:
    """Every photo with every other: n(n−1)/2 pairs."""
    return [(i, j) for i in range(num_images) for j in range(i + 1, num_images)]


def sequential(num_images: int, overlap: int = OVERLAP) -> list[tuple[int, int]]:
    """Each photo with the next `overlap` ones, and with those 2, 4, 8, … times as far.

    The farther ones hold long sequences together where a few neighbours fail, at little cost.
    """
    if overlap < 1:
        raise InvalidValueError(f"sequential.overlap: expected at least 1, got {overlap}")
    near = list(range(1, overlap + 1))
    far = [overlap << power for power in range(1, max(num_images, 1).bit_length())]
    return [(i, i + step) for i in range(num_images) for step in near + far if i + step < num_images]
