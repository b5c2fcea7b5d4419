"""What holds for every extractor with a network, with random weights; and that kornia run directly finds the same."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from torch import nn

import lightmatch as lm
from lightmatch.errors import InvalidValueError, WeightsError
from lightmatch.extractors import extractor_registration
from lightmatch.extractors.learned import LearnedExtractor
from lightmatch.extractors.lightpoint import write_lightpoint
from lightmatch.networks.lightpoint import LightPointNetwork
from lightmatch.networks.superpoint import SuperPointNetwork
from lightmatch.types import Image
from lightmatch.weights import WeightsRecord

kornia = pytest.importorskip("kornia.feature")

Create = Callable[..., LearnedExtractor]

# Thresholds that random weights reach.
OPTIONS: dict[str, dict[str, Any]] = {
    "aliked_t16": {"detection_threshold": 0.01},
    "disk": {"detection_threshold": -1e3},
    "xfeat": {"detection_threshold": 0.0},
    "dedode_b": {},
    "superpoint_open": {"detection_threshold": 0.0},
    "lightpoint": {"detection_threshold": 0.0, "precision": "float32"},
}


def networks(name: str) -> dict[str, nn.Module]:
    """By option, the networks with random weights whose files the extractor asks for."""
    torch.manual_seed(0)
    if name == "dedode_b":
        both = kornia.DeDoDe("L", "B", torch.float32)
        return {"weights": both.descriptor, "detector_weights": both.detector}
    makers = {
        "aliked_t16": lambda: kornia.ALIKED("aliked-t16"),
        "disk": kornia.DISK,
        "xfeat": lambda: kornia.XFeat().net,
        "superpoint_open": lambda: SuperPointNetwork(True),
        "lightpoint": LightPointNetwork,
    }
    return {"weights": makers[name]()}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Path]]:
    folder, made = tmp_path_factory.mktemp("weights"), {}
    for name in OPTIONS:
        made[name] = {}
        for option, network in networks(name).items():
            made[name][option] = folder / f"{name}-{option}.pth"
            if isinstance(network, LightPointNetwork):
                made[name][option] = folder / f"{name}.safetensors"
                write_lightpoint(network, made[name][option], {})
                continue
            state = network.state_dict()
            torch.save({"extractor": state} if name == "disk" else state, made[name][option])
    return made


@pytest.fixture(scope="module")
def create(files: dict[str, dict[str, Path]]) -> Create:
    """Makes the extractor of a name with random weights, the same one for the same options."""

    @cache
    def made(name: str, **options: object) -> LearnedExtractor:
        chosen: dict[str, Any] = OPTIONS[name] | files[name] | options
        extractor = lm.create_extractor(name, **chosen)
        assert isinstance(extractor, LearnedExtractor)
        return extractor

    return made


def texture(width: int, height: int, seed: int = 0) -> Image:
    colours = np.random.default_rng(seed).standard_normal((height, width, 3))
    return Image(np.clip(128 + 300 * cv2.GaussianBlur(colours, (0, 0), 2), 0, 255).astype(np.uint8))


def as_tensor(image: Image) -> torch.Tensor:
    return torch.from_numpy(image.pixels).permute(2, 0, 1)[None] / 255


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("size", [(5, 3), (33, 20), (97, 64)])
def test_any_size_works(name: str, size: tuple[int, int], create: Create) -> None:
    features = create(name)(texture(*size))
    assert features.image_size == size and features.descriptors.shape[1] == features.kind.descriptor_dim
    assert bool(((features.keypoints >= 0) & (features.keypoints <= torch.tensor(size) - 1)).all())
    lengths = features.descriptors.norm(dim=1)
    torch.testing.assert_close(lengths, torch.ones_like(lengths))
    if min(size) > 60:
        assert len(features) > 20


@pytest.mark.parametrize("name", OPTIONS)
def test_nothing_lies_under_the_mask_or_beyond_the_limit(name: str, create: Create) -> None:
    image, mask = texture(128, 96), np.zeros((96, 128), bool)
    nothing = create(name)(image, mask)
    assert len(nothing) == 0 and nothing.descriptors.shape == (0, nothing.kind.descriptor_dim)
    mask[:, 64:] = True
    features = create(name)(image, mask)
    # Sub-pixel places may leave the mask by half the window.
    assert len(features) > 20 and float(features.keypoints[:, 0].min()) > 62
    few = create(name, max_keypoints=10)(image, mask)
    assert len(few) == 10
    if name != "dedode_b":  # whose scores depend on `max_keypoints` only where keypoints are spread
        torch.testing.assert_close(few.scores, features.scores[:10])  # the last bit may differ with their number


@pytest.mark.parametrize("name", OPTIONS)
def test_weights_of_another_network_are_refused(name: str, create: Create, files: dict[str, dict[str, Path]]) -> None:
    other = files["disk" if name != "disk" else "xfeat"]["weights"]
    with pytest.raises(WeightsError, match="expected"):
        create(name, weights=other)


def test_disk_finds_what_kornia_finds(create: Create) -> None:
    image = texture(128, 96)
    ours = create("disk", max_keypoints=50)(image)
    network = networks("disk")["weights"].eval()
    with torch.no_grad():
        theirs = network(as_tensor(image), n=50, score_threshold=-1e3)[0]
    order = theirs.detection_scores.argsort(descending=True, stable=True)
    assert len(ours) == 50
    torch.testing.assert_close(ours.keypoints, theirs.keypoints[order])
    torch.testing.assert_close(ours.scores, theirs.detection_scores[order])
    torch.testing.assert_close(ours.descriptors, theirs.descriptors[order])


def test_xfeat_finds_what_kornia_finds(create: Create) -> None:
    image = texture(128, 96)
    ours = create("xfeat", max_keypoints=50)(image)
    torch.manual_seed(0)
    theirs = kornia.XFeat().eval().detectAndCompute(as_tensor(image), top_k=50, detection_threshold=0.0)[0]
    assert len(ours) == len(theirs["scores"]) == 50
    torch.testing.assert_close(ours.scores, theirs["scores"])
    torch.testing.assert_close(ours.keypoints, theirs["keypoints"])
    torch.testing.assert_close(ours.descriptors, theirs["descriptors"])


def test_dedode_finds_what_kornia_finds(create: Create) -> None:
    image = texture(100, 75)
    ours = create("dedode_b", max_keypoints=50)(image)
    torch.manual_seed(0)
    both = kornia.DeDoDe("L", "B", torch.float32)
    keypoints, scores, descriptors = (part[0] for part in both(as_tensor(image), n=50))
    torch.testing.assert_close(ours.scores, scores)
    torch.testing.assert_close(ours.keypoints, keypoints - 0.5)
    torch.testing.assert_close(ours.descriptors, nn.functional.normalize(descriptors, dim=1))


@pytest.mark.parametrize("name", OPTIONS)
def test_a_batch_gives_what_single_calls_give(name: str, create: Create) -> None:
    extractor = create(name, max_keypoints=40)
    images = [texture(96, 64, 0), texture(64, 96, 1), texture(96, 64, 2)]
    mask = np.ones((64, 96), bool)
    mask[:, :48] = False
    masks = [None, None, mask]
    for found, image, given in zip(extractor.extract_batch(images, masks), images, masks, strict=True):
        single = extractor(image, given)
        assert len(found) == len(single) > 10
        assert not found.descriptors.is_inference()  # a matcher can be trained on them, as on those of single calls
        torch.testing.assert_close(found.keypoints, single.keypoints, atol=1e-3, rtol=0)
        torch.testing.assert_close(found.descriptors, single.descriptors, atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", OPTIONS)
def test_threads_share_an_extractor(name: str, create: Create) -> None:
    extractor = create(name, max_keypoints=40)
    images = [texture(96 + 16 * (seed % 3), 64, seed) for seed in range(6)]
    alone = [extractor(image) for image in images]
    with ThreadPoolExecutor(3) as pool:
        together = list(pool.map(extractor, images * 2))
    for found, expected in zip(together, alone * 2, strict=True):
        torch.testing.assert_close(found.keypoints, expected.keypoints, atol=1e-3, rtol=0)
        torch.testing.assert_close(found.descriptors, expected.descriptors, atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", OPTIONS)
def test_found_keypoints_are_described_again(name: str, create: Create) -> None:
    image, extractor = texture(96, 64), create(name, max_keypoints=40)
    found = extractor(image)
    order = torch.arange(len(found)).flip(0)
    again = extractor.describe(image, found.keypoints[order], scores=found.scores[order])
    torch.testing.assert_close(again.descriptors, found.descriptors[order], atol=1e-4, rtol=0)
    assert torch.equal(again.scores, found.scores[order])


def test_tiles_find_what_the_whole_finds(create: Create) -> None:
    image = texture(300, 270)
    whole, tiled = (create("superpoint_open", max_keypoints=300, tile_size=size)(image) for size in (None, 384))
    torch.testing.assert_close(tiled.scores, whole.scores)
    # Convolutions of another size round otherwise, which may swap keypoints of nearly the same score.
    same = torch.cdist(tiled.keypoints, whole.keypoints, compute_mode="donot_use_mm_for_euclid_dist") == 0
    in_tiled, in_whole = same.nonzero(as_tuple=True)
    assert len(tiled) == len(whole) == 300 and len(in_tiled) >= 295
    torch.testing.assert_close(tiled.descriptors[in_tiled], whole.descriptors[in_whole], atol=1e-4, rtol=0)


def test_tiles_without_keypoints_stay_empty(create: Create, monkeypatch: pytest.MonkeyPatch) -> None:
    """ALIKED falls back to the mean score of an image that has none above the threshold; not tile by tile."""
    options = {"max_keypoints": 100_000, "detection_threshold": 0.2}
    both = [create("aliked_t16", tile_size=size, **options) for size in (None, 448)]
    for extractor in both:  # the red of a pixel is its score
        maps = extractor.network.extract_dense_map
        red = partial(lambda maps, pixels: (maps(pixels)[0], pixels[:, :1]), maps)
        monkeypatch.setattr(extractor.network, "extract_dense_map", red)
    noise = np.random.default_rng(0).integers(0, 65, (64, 900, 3), np.uint8)  # the threshold is 51
    noise[:, 300:] //= 2
    mask = np.ones((64, 900), bool)
    mask[:, :310] = False
    whole, tiled = ([extractor(Image(noise)), extractor(Image(noise), mask)] for extractor in both)
    for one, other in zip(whole, tiled, strict=True):
        distances = torch.cdist(one.keypoints.double(), other.keypoints.double())
        assert len(one) == len(other) and bool((distances < 1e-3).any(1).all())
    assert int((whole[0].scores <= 0.2).sum()) > 10  # of places between pixels, whose own maximum is higher
    assert len(whole[0]) > 300 and len(whole[1]) == 0
    assert len(both[1](Image(noise // 2))) > 300


def test_dedode_refuses_tiles(create: Create) -> None:
    with pytest.raises(InvalidValueError, match="tile_size: expected none for DeDoDe"):
        create("dedode_b", tile_size=448)


@pytest.mark.parametrize("name", OPTIONS)
def test_places_on_the_border_are_described(name: str, create: Create) -> None:
    corners = torch.tensor([[-0.5, -0.5], [95.5, 63.5], [95.5, 0.0]])
    described = create(name).describe(texture(96, 64), corners)
    assert bool(described.descriptors.isfinite().all())


@pytest.mark.parametrize("name", ["aliked_t16", "disk", "xfeat", "superpoint"])
def test_a_constructor_fetches_nothing(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only `create_extractor` does, before any work."""
    fetched: list[str] = []

    def refuse(record: WeightsRecord) -> Path:
        fetched.append(record.name)
        raise WeightsError("no network")

    monkeypatch.setenv("LIGHTMATCH_HOME", str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.delenv("LIGHTMATCH_WEIGHTS", raising=False)
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    monkeypatch.setattr("lightmatch.extractors.learned.obtain_weights", refuse)
    extractor_type = extractor_registration(name).extractor_type
    with pytest.raises(WeightsError, match=r"on this machine, found none.*run: lightmatch weights fetch"):
        extractor_type()
    assert fetched == []
    with pytest.raises(WeightsError, match="no network"):
        lm.create_extractor(name)
    assert fetched == [extractor_type.record_name]


@pytest.mark.parametrize("name", ["superpoint_open", "dedode_b"])
def test_weights_without_a_known_hash_are_named_by_hand(name: str) -> None:
    with pytest.raises(WeightsError, match=r"no SHA-256 of it is known: download https://.*option `weights`"):
        lm.create_extractor(name)


def test_a_file_of_weights_stands_behind_the_name(files: dict[str, dict[str, Path]]) -> None:
    image, file = texture(97, 64), files["lightpoint"]["weights"]
    options: dict[str, Any] = {"max_keypoints": 20, "detection_threshold": 0.0, "precision": "float32"}
    by_name = lm.create_extractor(f"lightpoint:{file}", **options)
    by_option = lm.create_extractor("lightpoint", weights=file, **options)
    assert by_name.weights_digest() == by_option.weights_digest() != lm.create_extractor("lightpoint").weights_digest()
    assert torch.equal(by_name(image).descriptors, by_option(image).descriptors)


@pytest.mark.parametrize(
    ("spec", "options", "says"),
    [
        ("sift:a.pth", {}, "expected sift without a file: it has no weights"),
        ("lightpoint:", {}, "expected a file behind the colon"),
        ("lightpoint:a", {"weights": "b"}, "the option `weights` names them too"),
        ("surf:a", {}, "expected one of aliked, .* got 'surf'"),
    ],
)
def test_a_wrong_file_is_told(spec: str, options: dict[str, str], says: str) -> None:
    with pytest.raises(InvalidValueError, match=says):
        lm.create_extractor(spec, **options)  # type: ignore[arg-type]
