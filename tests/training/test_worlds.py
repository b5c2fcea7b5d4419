"""Views of procedural worlds: varied, overlapping, and with the truth where the pixels are."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from PIL import Image as PillowImage

from lightmatch.errors import InvalidValueError
from lightmatch.extractors import Extractor, create_extractor
from lightmatch.extractors.base import ExtractorConfig
from lightmatch.geometry.coordinates import rotation_angle_deg
from lightmatch.geometry.correspondence import Visibility
from lightmatch.scenes import RenderedScene
from lightmatch.training.overlap import depth_overlap, fitting_pairs
from lightmatch.training.views import ViewGroup
from lightmatch.training.worlds import WorldsConfig, WorldSource
from lightmatch.types import FeatureKind, Features, Image

CONFIG = WorldsConfig((160, 120), 4, num_textures=6, painted_textures=1, texture_size=128)


class Grid(Extractor):
    """A keypoint every 8 px, whatever the picture shows."""

    kind = FeatureKind("grid", 2, has_scale_orientation=False)

    def __init__(self) -> None:
        super().__init__(ExtractorConfig())

    def _extract(self, image: Image, mask: np.ndarray | None) -> Features:
        width, height = image.size
        y, x = torch.meshgrid(torch.arange(4.0, height, 8), torch.arange(4.0, width, 8), indexing="ij")
        points = torch.stack((x, y), -1).reshape(-1, 2)
        return Features(points, torch.ones(len(points)), torch.ones((len(points), 2)), image.size, self.kind)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> WorldSource:
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for number in range(3):
        noise = rng.integers(0, 255, (25, 32, 3), np.uint8)
        pixels = cv2.resize(noise, (256, 200), interpolation=cv2.INTER_CUBIC)
        PillowImage.fromarray(np.asarray(pixels)).save(folder / f"{number}.png")
    return WorldSource(sorted(folder.iterdir()), seed=4, config=CONFIG)


@pytest.fixture(scope="module")
def groups(source: WorldSource) -> list[ViewGroup]:
    return [source.group(index, Grid()) for index in range(4)]


@pytest.fixture(scope="module")
def scenes(source: WorldSource) -> list[RenderedScene]:
    """What the groups were made of."""
    return [source.scene(index) for index in range(4)]


def test_colours_agree_at_true_correspondences(scenes: list[RenderedScene], groups: list[ViewGroup]) -> None:
    """A visible keypoint has much the same colour in both views, save for the exposure; 4 px beside, it has not."""
    right, beside = [], []
    for scene, group in zip(scenes, groups, strict=True):
        images = [cv2.GaussianBlur(pixels.numpy(), (0, 0), 1.0).mean(-1) for pixels in scene.rgb]
        places = group.features[0].keypoints
        for view in range(1, len(images)):
            seen = group.visibility[view, : len(places)] == Visibility.VISIBLE
            if seen.sum() < 30:
                continue
            colours0 = look_up(images[0], places[seen])
            for shift, found in ((0, right), (4, beside)):
                colours1 = look_up(images[view], group.projections[view, : len(places)][seen] + shift)
                found.append(np.corrcoef(colours0, colours1)[0, 1])
    assert len(right) >= 6
    assert np.median(right) > 0.8 > np.median(beside) + 0.2


def look_up(image: np.ndarray, points: torch.Tensor) -> np.ndarray:
    x, y = points.float().numpy().T[:, None]
    return cv2.remap(image.astype(np.float32), x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)[0]


def test_sky_is_known_to_be_sky(scenes: list[RenderedScene], groups: list[ViewGroup]) -> None:
    """Bare sky is hidden by every surface and out of every view that does not show it; it is never unknown."""
    num_sky = 0
    for scene, group in zip(scenes, groups, strict=True):
        points = group.features[0].keypoints.long()
        # Sky all around: no surface within 5 px.
        near = torch.nn.functional.max_pool2d(scene.depth[:1], 11, 1, 5)[0]
        sky = near[points[:, 1], points[:, 0]] == 0
        known = group.visibility[:, : len(points)][:, sky] != Visibility.UNKNOWN
        assert known.all()
        num_sky += int(sky.sum())
    assert num_sky > 20


def test_views_overlap_and_differ(scenes: list[RenderedScene]) -> None:
    angles, fits = [], []
    for scene in scenes:
        overlap = depth_overlap(scene.depth, scene.K, scene.cam_from_world).numpy()
        off_diagonal = ~np.eye(len(overlap), dtype=bool)
        fits.append(fitting_pairs(overlap, *CONFIG.overlap)[off_diagonal].mean())
        rotations = scene.cam_from_world[:, :, :3]
        angles.append(rotation_angle_deg(rotations[:, None], rotations[None])[torch.from_numpy(off_diagonal)])
        assert scene.rgb.float().std((1, 2, 3)).min() > 8  # there is something to see
    assert np.mean(fits) > 0.7
    spread = torch.cat(angles)
    assert spread.min() < 15 and spread.max() > 40


def test_real_features_find_true_matches(source: WorldSource) -> None:
    group = replace(source, config=replace(CONFIG, size=(320, 240))).group(1, create_extractor("sift"))
    every = [torch.arange(len(f)) for f in group.features]
    features0, features1, truth = group.pair(0, 1, every[0], every[1])
    matches = truth.label(features0, features1, 3.0, 5.0).matches
    like = features0.descriptors @ features1.descriptors.mT
    assert len(matches) > 20
    assert like[matches[:, 0], matches[:, 1]].median() > like.median() + 0.1


def test_a_group_is_a_matter_of_seed_and_index(source: WorldSource, groups: list[ViewGroup]) -> None:
    again = source.group(2, Grid())
    assert torch.equal(again.projections, groups[2].projections)
    other = replace(source, seed=5).group(2, Grid())
    assert not torch.equal(other.projections, groups[2].projections)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_another_device_shows_the_same(source: WorldSource) -> None:
    here, there = source.scene(0), replace(source, device="cuda").scene(0)
    torch.testing.assert_close(here.cam_from_world, there.cam_from_world)
    assert (here.rgb.int() - there.rgb.int()).abs().float().mean() < 0.5
    assert not there.rgb.is_cuda


def test_bad_arguments() -> None:
    with pytest.raises(InvalidValueError, match="views_per_group"):
        WorldsConfig(views_per_group=1)
    with pytest.raises(InvalidValueError, match="overlap"):
        WorldsConfig(overlap=(0.8, 0.1))
    with pytest.raises(InvalidValueError, match="photos"):
        WorldSource([])
