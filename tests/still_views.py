"""Training groups without photos: random points that do not move between the views."""

import torch

from lightmatch.extractors import Extractor
from lightmatch.geometry.correspondence import project_by_homography
from lightmatch.training.views import ViewGroup
from lightmatch.types import FeatureKind, Features

KIND = FeatureKind("toy", 8, has_scale_orientation=True)
SIZE = (100, 80)


def toy_features(count: int, seed: int) -> Features:
    """`count` random keypoints with descriptors of unit length."""
    generator = torch.Generator().manual_seed(seed)
    return Features(
        keypoints=torch.rand((count, 2), generator=generator) * torch.tensor(SIZE),
        scores=torch.arange(count, 0, -1.0),
        descriptors=torch.nn.functional.normalize(torch.randn((count, 8), generator=generator), dim=1),
        image_size=SIZE,
        kind=KIND,
        scales=torch.full((count,), 4.0),
        orientations=torch.rand(count, generator=generator),
    )


def still_group(counts: list[int], seed: int = 0) -> ViewGroup:
    """Views that do not move; those of equal count are equal, and every point lies where it lay."""
    views = [toy_features(count, seed) for count in counts]
    project = [[project_by_homography(torch.eye(3), f.keypoints, SIZE) for _ in views] for f in views]
    return ViewGroup.from_projections(views, project)


class StillSource:
    """Makes groups without an extractor; counts how many."""

    def __init__(self, counts: list[int]) -> None:
        self.counts, self.made = counts, 0

    def group(self, index: int, extractor: Extractor) -> ViewGroup:
        """Another random set of points for every index."""
        self.made += 1
        return still_group(self.counts, index)
