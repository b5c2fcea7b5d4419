"""Unprojection of pixels with depth, projection, and warping into another view.

A depth map is (…, height, width), the z coordinate in the camera's frame; values that are not finite or
not positive are holes. Depth and translation share one unit of length.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from lightmatch.errors import InvalidValueError
from lightmatch.geometry.coordinates import (
    normalize_pixels,
    pixels_from_normalized,
    require_shape,
    to_homogeneous,
    transform_points,
)


def unproject(points: Tensor, depth: Tensor, K: Tensor) -> Tensor:
    """Pixels with depth → points in the camera's frame.

    points: (…, n, 2) px. depth: (…, n). K: (…, 3, 3). Returns (…, n, 3), in the unit of depth.
    """
    require_shape("depth", depth, None)
    return to_homogeneous(normalize_pixels(points, K)) * depth[..., None]


def project(points_cam: Tensor, K: Tensor) -> tuple[Tensor, Tensor]:
    """Points in the camera's frame → pixels and depth: the inverse of `unproject`.

    points_cam: (…, n, 3). K: (…, 3, 3). Returns points (…, n, 2) px, inf where a point is not in front of the
    camera, and depth (…, n), its z, of either sign.
    """
    require_shape("points_cam", points_cam, None, 3)
    depth = points_cam[..., 2]
    in_front = (depth > 0)[..., None]
    normalized = points_cam[..., :2] / torch.where(in_front, depth[..., None], 1)
    return torch.where(in_front, pixels_from_normalized(normalized, K), torch.inf), depth


def sample_depth(
    depth_map: Tensor,
    points: Tensor,
    *,
    mode: Literal["nearest", "bilinear"] = "bilinear",
    edge_tolerance: float = 0.05,
) -> tuple[Tensor, Tensor]:
    """Depth at pixels: (depth, valid), (…, n) each.

    depth_map: (…, height, width). points: (…, n, 2) px. valid: False outside the image (more than half a pixel
    from the outermost centres) and where the nearest pixel is a hole; depth is 0 there.
    "bilinear" interpolates the inverse depth, which on a plane is exact. Where one of the four pixels is a
    hole, or their depths differ by more than `edge_tolerance` of the largest, it takes the nearest pixel: a
    mean of object and background would be a point where nothing is.
    Raises InvalidValueError on another mode or an empty map.
    """
    require_shape("depth_map", depth_map, None, None)
    require_shape("points", points, None, 2)
    if mode not in ("nearest", "bilinear"):
        raise InvalidValueError(f"sample_depth: expected mode 'nearest' or 'bilinear', got {mode!r}")
    height, width = depth_map.shape[-2:]
    if not height or not width:
        raise InvalidValueError(f"depth_map: expected at least one pixel, got shape {tuple(depth_map.shape)}")
    flat = torch.where(depth_map.isfinite() & (depth_map > 0), depth_map, 0).flatten(-2)
    batch = torch.broadcast_shapes(depth_map.shape[:-2], points.shape[:-2])
    flat = flat.expand(*batch, -1)
    x, y = points.expand(*batch, -1, 2).unbind(-1)
    inside = (x >= -0.5) & (y >= -0.5) & (x < width - 0.5) & (y < height - 0.5)
    x, y = torch.where(inside, x, 0), torch.where(inside, y, 0)

    def look_up(column: Tensor, row: Tensor) -> Tensor:
        index = row.long().clamp(0, height - 1) * width + column.long().clamp(0, width - 1)
        return flat.gather(-1, index)

    depth = look_up((x + 0.5).floor(), (y + 0.5).floor())
    if mode == "bilinear":
        left, top = x.floor(), y.floor()
        corners = torch.stack([look_up(left + i, top + j) for j in (0, 1) for i in (0, 1)])
        right_share, bottom_share = x - left, y - top
        shares = torch.stack(
            [
                (1 - right_share) * (1 - bottom_share),
                right_share * (1 - bottom_share),
                (1 - right_share) * bottom_share,
                right_share * bottom_share,
            ]
        )
        lowest, highest = corners.amin(0), corners.amax(0)
        smooth = (lowest > 0) & (highest - lowest <= edge_tolerance * highest)
        inverse = (shares / torch.where(smooth, corners, 1)).sum(0)
        depth = torch.where(smooth, 1 / inverse, depth)
    valid = inside & (depth > 0)
    return torch.where(valid, depth, 0), valid


def warp_with_depth(
    points0: Tensor,
    depth_map0: Tensor,
    K0: Tensor,
    depth_map1: Tensor,
    K1: Tensor,
    cam1_from_cam0: Tensor,
    *,
    relative_tolerance: float = 0.05,
    mode: Literal["nearest", "bilinear"] = "bilinear",
) -> tuple[Tensor, Tensor]:
    """Where the pixels of image 0 lie in image 1, and whether they are seen there.

    points0: (…, n, 2) px. depth_map0, depth_map1: (…, height, width). K0, K1: (…, 3, 3).
    cam1_from_cam0: (…, 3, 4). Returns points1 (…, n, 2) px, inf without depth in image 0 or behind camera 1,
    and visible (…, n) bool: inside image 1, and there depth map 1 agrees with the depth of the point within
    `relative_tolerance` of the map's value. A point behind a nearer surface (occluded), or over a hole, is
    not visible, though points1 has its place.
    """
    depth0, known = sample_depth(depth_map0, points0, mode=mode)
    in_cam1 = transform_points(cam1_from_cam0, unproject(points0, depth0, K0))
    points1, depth_expected = project(in_cam1, K1)
    points1 = torch.where(known[..., None], points1, torch.inf)
    depth1, seen = sample_depth(depth_map1, points1, mode=mode)
    agrees = (depth_expected - depth1).abs() <= relative_tolerance * depth1
    return points1, known & seen & agrees
