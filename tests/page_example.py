"""A page of exact values: six cameras around a cloud, one photo left out, names that try to break the page."""

import io

import numpy as np
from PIL import Image

from lightmatch.report.page import (
    PageData,
    PageDoppelganger,
    PageFigure,
    PageLens,
    PageModel,
    PagePairs,
    PagePhoto,
    PageStep,
)

NAMES = (
    "</script><img src=x onerror=alert(1)>.jpg",
    'it\'s "quoted" & <b>bold</b>.jpg',
    "дом/площадь 🏛️.jpg",
    "写真/東京.jpg",
    "صورة.jpg",
    "plain.jpg",
    "left out.jpg",
)
SIZE = (320, 240)
FOCAL = 300.0
NUM_CAMERAS = 6


def jpeg(long_side: int, shade: int) -> bytes:
    buffer = io.BytesIO()
    ramp = np.linspace(0, 255, long_side, dtype=np.uint8)
    pixels = np.stack(np.broadcast_arrays(ramp[None], ramp[: long_side * 3 // 4, None], np.uint8(shade)), -1)
    Image.fromarray(pixels).save(buffer, "JPEG", quality=80)
    return buffer.getvalue()


def example_model(name: str = "sparse/0", num_cameras: int = NUM_CAMERAS, num_points: int = 80) -> PageModel:
    """Cameras on a circle of radius 4 that look at the middle; all of them see all points."""
    rng = np.random.default_rng(0)
    points = rng.uniform(-1, 1, (num_points, 3))
    poses, places, residuals = [], [], []
    for angle in np.linspace(0, 2 * np.pi, num_cameras, endpoint=False):
        center = 4 * np.array([np.sin(angle), 0, -np.cos(angle)])
        forward = -center / 4
        down = np.array([0.0, 1.0, 0.0])
        rotation = np.stack((np.cross(down, forward), down, forward))
        pose = np.concatenate((rotation, (-rotation @ center)[:, None]), 1)
        seen = points @ rotation.T + pose[:, 3]
        poses.append(pose)
        places.append((FOCAL * seen[:, :2] / seen[:, 2:] + np.array(SIZE) / 2) / SIZE)
        residuals.append(rng.normal(0, 0.5, (num_points, 2)))
    residuals_px = np.concatenate(residuals)
    return PageModel(
        name=name,
        photos=np.arange(num_cameras),
        lenses=np.zeros(num_cameras, np.int64),
        cam_from_world=np.stack(poses),
        half_sizes=np.tile(np.array(SIZE) / 2 / FOCAL, (num_cameras, 1)),
        lens_table=(PageLens("SIMPLE_PINHOLE", SIZE, (("f", FOCAL), ("cx", 160.0), ("cy", 120.0)), FOCAL, 56.1),),
        points=points,
        colors=rng.integers(40, 256, (num_points, 3)).astype(np.uint8),
        errors_px=np.linalg.norm(residuals_px, axis=1).reshape(num_cameras, num_points).mean(0),
        track_lengths=np.full(num_points, num_cameras),
        starts=np.arange(num_cameras + 1) * num_points,
        observed=np.tile(np.arange(num_points), num_cameras),
        places=np.concatenate(places),
        residuals_px=residuals_px,
        up=(0.0, -1.0, 0.0),
    )


def example_page(*, optional: bool = True) -> PageData:
    """The page, with all that may be absent or without it."""
    photos = tuple(
        PagePhoto(
            name,
            SIZE,
            jpeg(96, 40 * i),
            jpeg(240, 40 * i),
            num_keypoints=100 + i,
            reason="too few verified matches: <i>12</i>" if i == NUM_CAMERAS else "",
            advice="take one photo in between" if i == NUM_CAMERAS else "",
            position_uncertainty=0.01 * (i + 1) if i < NUM_CAMERAS else None,
            rotation_uncertainty_deg=0.1 if i < NUM_CAMERAS else None,
        )
        for i, name in enumerate(NAMES)
    )
    if not optional:
        bare = tuple(PagePhoto(photo.name) for photo in photos)
        return PageData(title="bare", photos=bare, models=(example_model(),))
    model = example_model()
    both = [(i, j) for i in range(NUM_CAMERAS) for j in range(i + 1, NUM_CAMERAS)]
    per_pair = 20
    places = model.places.reshape(NUM_CAMERAS, -1, 2)
    lines = [np.concatenate((places[i, :per_pair], places[j, :per_pair]), 1) for i, j in both]
    return PageData(
        title="<Tour> & 'Co' 🗼",
        photos=photos,
        models=(model, example_model("sparse/1", 3, 30)),
        more_models=("sparse/2",),
        pairs=PagePairs(
            photos=np.array(both),
            num_matches=np.arange(len(both)) + 60,
            num_inliers=np.arange(len(both)) + 30,
            starts=np.arange(len(both) + 1) * per_pair,
            lines=np.concatenate(lines),
            probability=np.linspace(0.5, 1, len(both)),
        ),
        doppelgangers=(PageDoppelganger(0, 3, "the façade <repeats>"),),
        figures=(PageFigure("Held-out score", "0.93"), PageFigure("Points", "80")),
        frame=(("Metric", "yes"), ("Upright", "gravity")),
        unit="m",
        warnings=("two photos look <alike>",),
        advice=("walk around the corner",),
        history=(PageStep("camera model", "SIMPLE_RADIAL, OPENCV", "OPENCV", "held-out error fell"),),
        seconds=(("extract", 1.5), ("match", 75.0)),
        options=(("Features", "sift"), ("Seed", "")),
        idle_starts=np.arange(len(NAMES) + 1) * 3,
        idle_places=np.random.default_rng(1).uniform(0, 1, (3 * len(NAMES), 2)),
    )
