"""Keypoints of LightPoint in the views of a batch, and their projections into the other view of the pair."""

from __future__ import annotations

import torch
from torch import Tensor

from lightmatch.extractors.learned import strongest_pixels
from lightmatch.geometry.coordinates import pairwise_distances
from lightmatch.geometry.correspondence import Projection, Visibility
from lightmatch.geometry.homography import transfer
from lightmatch.networks.lightpoint import (
    LightPointMaps,
    LightPointNetwork,
    brightness,
    local_maxima,
    standardize,
    subpixel_offsets,
)
from lightmatch.training.lightpoint.cut import on_photo
from lightmatch.training.lightpoint.views import StudentBatch
from lightmatch.types import FeatureKind, Features

_RADIUS_PX = 2  # of the window in which a keypoint must be the maximum


def predict_maps(network: LightPointNetwork, batch: StudentBatch) -> LightPointMaps:
    """The output of the network for the views of a batch.

    What lies outside of a photo takes no part in its brightness, and is what convolutions see beyond the edge of one.
    """
    inside = batch.inside[:, None]
    images = standardize(batch.images, brightness(batch.images, inside)) * inside
    return network(images.contiguous(memory_format=torch.channels_last))


def detect(network: LightPointNetwork, maps: LightPointMaps, batch: StudentBatch, row: int, count: int) -> Features:
    """The `count` strongest keypoints of one view, where the photo is. Gradients reach the descriptors alone."""
    logits = maps.logits.detach()
    peaks = local_maxima(logits[row : row + 1], _RADIUS_PX)[0] & batch.inside[row]
    pixels, scores = strongest_pixels(logits[row], peaks, count)
    x, y = pixels.unbind(1)
    places = pixels + subpixel_offsets(logits, torch.full_like(x, row), x, y)
    descriptors = network.describe(maps.cells[row : row + 1], places[None])[0]
    height, width = logits.shape[1:]
    kind = FeatureKind("lightpoint", descriptors.shape[1])
    return Features(places, scores.sigmoid(), descriptors, (width, height), kind)


def project_to_other_view(batch: StudentBatch, row: int, places: Tensor, near_px: float) -> Projection:
    """Project points (n, 2) px of the view `row` into the other view of its pair.

    Between views of one photo by their homography. Between photos of a scene only points within `near_px` of a point
    that the teachers matched are known: they take its match.
    """
    other = row ^ 1
    if bool(batch.warped[row // 2]):
        homography = batch.homographies[row // 2]
        points = transfer(homography if row < other else torch.linalg.inv(homography), places)
        seen = on_photo(batch.inside[other], points)
        return Projection(points, torch.where(seen, int(Visibility.VISIBLE), int(Visibility.HIDDEN)).byte())
    known = batch.valid[row].nonzero()[:, 0]
    unknown = torch.full((len(places),), int(Visibility.UNKNOWN), device=places.device).byte()
    if not len(known):
        return Projection(torch.zeros_like(places), unknown)
    distance, nearest = pairwise_distances(places, batch.points[row, known]).min(1)
    nearest = known[nearest]
    found = torch.where(batch.valid[other, nearest], int(Visibility.VISIBLE), int(Visibility.HIDDEN)).byte()
    return Projection(batch.points[other, nearest], torch.where(distance < near_px, found, unknown))
