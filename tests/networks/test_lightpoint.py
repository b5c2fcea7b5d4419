"""LightPoint's network: maps of the right size, mirrored alike, folded alike; and places to a fraction of a pixel."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from lightmatch.errors import InvalidValueError
from lightmatch.networks.lightpoint import (
    LightPointConfig,
    LightPointNetwork,
    brightness,
    local_maxima,
    sample_cells,
    standardize,
    subpixel_offsets,
)

SMALL = LightPointConfig(
    16, (8, 8, 16, 16), merged_channels=16, score_channels=8, sample_channels=12, samples=4, spaces=(("aliked", 24),)
)


def make_network(config: LightPointConfig = SMALL) -> LightPointNetwork:
    """Random weights and statistics, in double precision, to be read off."""
    torch.manual_seed(0)
    network = LightPointNetwork(config).double().eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None and module.running_var is not None
            nn.init.normal_(module.running_mean, std=0.3)
            nn.init.uniform_(module.running_var, 0.2, 2.0)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.3)
    nn.init.normal_(network.descriptor.offset2.weight, std=0.3)
    return network


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize(("height", "width"), [(16, 16), (16, 64), (80, 48)])
def test_any_multiple_of_16_gives_maps_of_its_size(height: int, width: int) -> None:
    with torch.no_grad():
        logits, cells = make_network()(noise(2, 1, height, width))
    assert logits.shape == (2, height, width)
    assert cells.shape == (2, 12, height // 4, width // 4)


def test_it_has_about_900_thousand_parameters() -> None:
    assert 0.8e6 < sum(parameter.numel() for parameter in LightPointNetwork().parameters()) < 0.9e6


@torch.no_grad()
def test_folding_keeps_the_maps_and_leaves_no_normalisation() -> None:
    network, images = make_network(), noise(2, 1, 48, 64)
    expected = network(images)
    folded = network.fold()
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    for got, want in zip(folded(images), expected, strict=True):
        assert float(want.std()) > 0.01
        torch.testing.assert_close(got, want, atol=1e-5, rtol=1e-5)


def symmetrise(network: LightPointNetwork, axis: int) -> None:
    """Make every kernel its own mirror image along `axis`, -1 for x and -2 for y.

    Those of the last convolution come in four, for the pixels (0, 0), (0, 1), (1, 0), (1, 1) of each 2 × 2 in rows
    and columns: mirrored, they change places.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.weight.copy_((module.weight + module.weight.flip(axis)) / 2)
    last = network.score3
    assert last.bias is not None
    nn.init.normal_(last.weight)
    nn.init.normal_(last.bias)
    partner = [1, 0, 3, 2] if axis == -1 else [2, 3, 0, 1]
    last.weight.copy_((last.weight + last.weight.flip(axis)[partner]) / 2)
    last.bias.copy_((last.bias + last.bias[partner]) / 2)


def symmetrise_head(network: LightPointNetwork, axis: int) -> None:
    """Make the samples of a keypoint in the mirrored map the mirror image of its samples."""
    head, count = network.descriptor, network.config.samples
    partner = torch.arange(count).view(math.isqrt(count), -1).flip(axis).flatten()
    weight, around = head.offset2.weight.view(count, 2, -1), head.around.weight.view(-1, count, SMALL.sample_channels)
    sign = torch.tensor([-1.0, 1.0] if axis == -1 else [1.0, -1.0]).double()[:, None]
    weight.copy_((weight + sign * weight[partner]) / 2)
    around.copy_((around + around[:, partner]) / 2)


@pytest.mark.parametrize("axis", [-1, -2])
@torch.no_grad()
def test_kernels_that_are_symmetrical_mirror_the_maps_with_the_image(axis: int) -> None:
    """No stride, pooling, doubling or shuffle moves anything: a mirrored image has the mirrored keypoints."""
    network, image = make_network(), noise(1, 1, 48, 80)
    maps = network(image)
    for asymmetrical, mirrored in zip(maps, network(image.flip(axis)), strict=True):
        assert float((asymmetrical.flip(axis) - mirrored).abs().max()) > 0.01
    symmetrise(network, axis)
    logits, cells = network(image)
    logits1, cells1 = network(image.flip(axis))
    torch.testing.assert_close(logits1.flip(axis), logits, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(cells1.flip(axis), cells, atol=1e-5, rtol=1e-5)

    def places(logits: Tensor) -> Tensor:
        image, y, x = local_maxima(logits, 2).nonzero(as_tuple=True)
        return torch.stack((x, y), 1) + subpixel_offsets(logits, image, x, y)

    def mirror(places: Tensor) -> Tensor:
        turned = places.clone()
        turned[:, -1 - axis] = image.shape[axis] - 1 - places[:, -1 - axis]
        return turned

    found, found1 = places(logits), places(logits1)
    distances = torch.cdist(found.double(), mirror(found1).double())
    assert len(found) == len(found1) > 20 and float(distances.min(1).values.max()) < 1e-3
    partner = found1[distances.argmin(1)]

    def apart() -> float:
        return float((network.describe(cells, found[None]) - network.describe(cells1, partner[None])).abs().max())

    assert apart() > 0.01
    symmetrise_head(network, axis)
    assert apart() < 2e-3


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@torch.no_grad()
def test_descriptors_in_another_space_have_unit_length(dtype: torch.dtype) -> None:
    network = make_network().to(dtype)
    found = network.in_space(nn.functional.normalize(noise(5, 16), dim=1).to(dtype), "aliked")
    assert found.shape == (5, 24)
    torch.testing.assert_close(found.norm(dim=1), torch.ones(5))


@pytest.mark.parametrize(
    "config",
    [
        {"descriptor_dim": 0},
        {"channels": (8, 8, 8)},
        {"channels": (8, 8, 8, 0)},
        {"score_channels": 0},
        {"merged_channels": 0},
        {"sample_channels": 0},
    ],
)
def test_odd_widths_are_refused(config: dict) -> None:
    with pytest.raises(InvalidValueError, match="LightPointConfig: expected positive widths, four of them"):
        LightPointConfig(**config)


@pytest.mark.parametrize("samples", [0, 15])
def test_samples_must_fill_a_square(samples: int) -> None:
    with pytest.raises(InvalidValueError, match=f"expected samples to be a square, got {samples}"):
        LightPointConfig(samples=samples)


def test_standardised_images_do_not_tell_brightness_and_contrast() -> None:
    grey = 0.5 + 0.1 * noise(2, 1, 20, 30)
    image, contrast = standardize(grey), grey.std((2, 3), correction=0)
    torch.testing.assert_close(image.mean((2, 3)), torch.zeros_like(contrast))
    torch.testing.assert_close(image.std((2, 3), correction=0), contrast / (contrast + 0.01))
    torch.testing.assert_close(standardize(0.9 * grey + 0.05), image, atol=0.05, rtol=0)
    for blank in (torch.full((1, 1, 8, 8), 0.3), torch.full((1, 1, 1, 1), 0.3)):
        torch.testing.assert_close(standardize(blank), torch.zeros_like(blank), atol=1e-4, rtol=0)


def test_brightness_is_the_mean_and_the_standard_deviation_of_each_image() -> None:
    grey = 0.5 + 0.1 * noise(2, 1, 20, 30).float()
    std, mean = torch.std_mean(grey, (2, 3), correction=0, keepdim=True)
    torch.testing.assert_close(brightness(grey), (mean, std), atol=1e-7, rtol=0)


def test_pixels_outside_do_not_count() -> None:
    grey = noise(1, 1, 20, 30)
    inside = torch.zeros(1, 1, 20, 30, dtype=torch.bool)
    inside[..., :12, :17] = True
    torch.testing.assert_close(
        standardize(grey, brightness(grey, inside))[..., :12, :17], standardize(grey[..., :12, :17])
    )


def surface(size: tuple[int, int], x: float | Tensor, y: float | Tensor) -> tuple[Tensor, Tensor]:
    """Squared distances (1, h, w) of every pixel from (x, y) px, along x and y."""
    row, column = torch.arange(size[0]).double()[:, None], torch.arange(size[1]).double()
    return ((column - x) ** 2).expand(1, *size), ((row - y) ** 2).expand(1, *size)


def pixel(x: int, y: int) -> tuple[Tensor, Tensor, Tensor]:
    """Image, x and y as `subpixel_offsets` takes them."""
    return torch.tensor([0]), torch.tensor([x]), torch.tensor([y])


@pytest.mark.parametrize(("x", "y"), [(4.0, 3.0), (4.3, 2.6), (3.51, 3.49), (4.5, 2.5)])
def test_the_top_of_a_parabola_is_found_exactly(x: float, y: float) -> None:
    along_x, along_y = surface((7, 9), x, y)
    offsets = subpixel_offsets(2 - 0.7 * along_x - 0.2 * along_y, *pixel(4, 3))
    torch.testing.assert_close(offsets, torch.tensor([[x - 4, y - 3]], dtype=torch.float64))


@pytest.mark.parametrize(("x", "y"), [(4.0, 3.0), (4.3, 2.6), (3.51, 3.49)])
def test_the_top_of_a_bell_of_scores_is_found(x: float, y: float) -> None:
    """Where scores are low their logits are their logarithms, and those of a bell a parabola."""
    along_x, along_y = surface((7, 9), x, y)
    bell = torch.exp(-(along_x + along_y) / 2)
    for highest, error_px in ((1e-6, 1e-6), (0.5, 0.03)):
        offsets = subpixel_offsets((highest * bell).logit(), *pixel(4, 3))
        torch.testing.assert_close(offsets, torch.tensor([[x - 4, y - 3]]).double(), atol=error_px, rtol=0)


def test_the_place_follows_the_top_and_so_does_its_gradient() -> None:
    top = torch.tensor([4.2, 2.9], dtype=torch.float64, requires_grad=True)
    along_x, along_y = surface((7, 9), top[0], top[1])
    offsets = subpixel_offsets(-along_x - along_y, *pixel(4, 3))
    for axis in (0, 1):
        (gradient,) = torch.autograd.grad(offsets[0, axis], top, retain_graph=True)
        torch.testing.assert_close(gradient, torch.eye(2).double()[axis])


def test_no_place_is_more_than_half_a_pixel_away() -> None:
    flat = subpixel_offsets(torch.zeros(1, 3, 3), *pixel(1, 1))
    assert torch.equal(flat, torch.zeros(1, 2))
    ramp = subpixel_offsets(torch.arange(9.0).view(1, 3, 3), *pixel(1, 1))
    assert torch.equal(ramp, torch.full((1, 2), 0.5))


@pytest.mark.parametrize("radius", [1, 2, 4])
@pytest.mark.parametrize("step", [0.0, 0.25])
def test_maxima_are_the_highest_around_and_apart(radius: int, step: float) -> None:
    """With steps, as half precision makes them, many neighbours are equal."""
    logits = noise(2, 40, 60)
    if step:
        logits = (logits / step).round() * step
    peaks = local_maxima(logits, radius)
    assert peaks.dtype == torch.bool and int(peaks.sum()) > 30
    assert not bool(peaks[:, :radius].any() | peaks[:, -radius:].any())
    assert not bool(peaks[:, :, :radius].any() | peaks[:, :, -radius:].any())
    for image, y, x in peaks.nonzero().tolist():
        around = (image, slice(y - radius, y + radius + 1), slice(x - radius, x + radius + 1))
        assert logits[image, y, x] == logits[around].max() and int(peaks[around].sum()) == 1
    if not step:
        windows = logits.unfold(1, 2 * radius + 1, 1).unfold(2, 2 * radius + 1, 1).amax((3, 4))
        inner = slice(radius, -radius)
        assert torch.equal(peaks[:, inner, inner], logits[:, inner, inner] == windows)


def test_of_equal_neighbours_the_first_is_taken_and_either_has_the_same_place() -> None:
    logits = torch.zeros(1, 9, 9)
    logits[0, 4, 3:5] = 1.0
    assert local_maxima(logits, 2)[0, 3:6, 2:6].nonzero().tolist() == [[1, 1]]
    places = [subpixel_offsets(logits, *pixel(x, 4)) + torch.tensor([x, 4]) for x in (3, 4)]
    assert places[0].tolist() == places[1].tolist() == [[3.5, 4.0]]


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (4, 40), (30, 30)])
def test_what_is_flat_or_all_border_has_no_maximum(size: tuple[int, int]) -> None:
    assert not bool(local_maxima(torch.zeros(1, *size), 2).any())


def test_samples_are_exact_in_the_middle_of_cells() -> None:
    cells = noise(2, 6, 5, 7)
    row, column = torch.meshgrid(torch.arange(5), torch.arange(7), indexing="ij")
    middles = 4 * torch.stack((column, row), -1).expand(2, -1, -1, -1).double() + 1.5  # of pixels 0 to 3: 1.5
    torch.testing.assert_close(sample_cells(cells, middles), cells.permute(0, 2, 3, 1))


def test_samples_are_taken_where_the_places_are() -> None:
    """Cells that hold the position of their middle."""
    cells = tell_middles(6, 9)
    least, most = cells.amin((2, 3)), cells.amax((2, 3))
    places = least + torch.rand(1, 10, 5, 2, generator=torch.Generator().manual_seed(0)).double() * (most - least)
    torch.testing.assert_close(sample_cells(cells, places), places)


def test_beyond_the_middle_of_the_last_cell_its_value_holds() -> None:
    cells = noise(1, 6, 4, 4)
    corners = torch.tensor([[[[-0.5, -0.5], [15.5, 15.5]]]]).double()
    torch.testing.assert_close(sample_cells(cells, corners)[0, 0], cells[0, :, [0, 3], [0, 3]].mT)


def test_a_descriptor_reads_its_samples_where_the_keypoint_says() -> None:
    """What lies at the keypoint chooses the places: here (x, y) cells away, with x = place / 40 px."""
    network = LightPointNetwork(replace(SMALL, sample_channels=2, samples=1, descriptor_dim=2)).double()
    head, cells = network.descriptor, tell_middles(12, 16)
    for layer in (head.offset1, head.middle):
        nn.init.zeros_(layer.bias)
    nn.init.eye_(head.offset1.weight)
    nn.init.eye_(head.offset2.weight)
    head.offset2.weight.data /= 40
    nn.init.zeros_(head.offset2.bias)
    nn.init.zeros_(head.middle.weight)
    nn.init.eye_(head.around.weight)
    keypoints = torch.tensor([[[10.0, 20.0], [40.0, 8.0]]]).double()
    with torch.no_grad():
        found, described = head(cells, keypoints), network.describe(cells, keypoints)
    torch.testing.assert_close(found, keypoints * (1 + 4 / 40))
    torch.testing.assert_close(described.double(), nn.functional.normalize(found, dim=-1), atol=1e-6, rtol=0)


@torch.no_grad()
def test_a_shift_by_a_cell_shifts_the_descriptors() -> None:
    network, cells = make_network(), noise(1, 12, 14, 16)
    keypoints = 26 + 6 * torch.rand(1, 30, 2, generator=torch.Generator().manual_seed(0)).double()
    shifted = network.describe(cells[:, :, 1:, 1:], keypoints - 4)
    torch.testing.assert_close(shifted, network.describe(cells, keypoints))
    assert float((shifted - network.describe(cells, keypoints - 4)).abs().max()) > 0.01


def test_samples_start_on_a_square_about_the_keypoint() -> None:
    start = LightPointNetwork().descriptor.offset2.bias.detach().view(16, 2)
    assert start[[0, -1]].tolist() == [[-2.25, -2.25], [2.25, 2.25]] and float(start.sum()) == 0


def tell_middles(height: int, width: int) -> Tensor:
    """Cells (1, 2, height, width) with the place of their middles, x and y px."""
    column, row = 4 * torch.arange(width).double() + 1.5, 4 * torch.arange(height).double() + 1.5
    return torch.stack((column.expand(height, width), row[:, None].expand(height, width)))[None]
