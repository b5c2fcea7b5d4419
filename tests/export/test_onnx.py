"""Exported files under onnxruntime against the matchers they were made from."""

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from sharpened import random_pair, sharpened_lightglue, sharpened_superglue
from typer.testing import CliRunner

from lightmatch.cli.app import app
from lightmatch.errors import InvalidValueError, LightmatchError, MissingDependencyError
from lightmatch.export import export_onnx, open_session
from lightmatch.export.extractor_graphs import LightPointGraph
from lightmatch.extractors.lightpoint import LightPoint, LightPointAsAliked, LightPointExtractorConfig, write_lightpoint
from lightmatch.extractors.sift import Sift, SiftConfig
from lightmatch.extractors.superpoint import SuperPointConfig, SuperPointOpen
from lightmatch.images import load_image
from lightmatch.matchers import LightGlue, NearestNeighbor
from lightmatch.networks.lightglue import LightGlueConfig
from lightmatch.networks.lightpoint import LightPointConfig, LightPointNetwork, standardize
from lightmatch.networks.superglue import SuperGlueConfig
from lightmatch.networks.superpoint import SuperPointNetwork
from lightmatch.types import FeatureBatch, FeatureKind, Features, Image, Matches

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

SIFT = FeatureKind("sift", 128, True)
SUPERPOINT = FeatureKind("superpoint_open", 256, False)
SMALL = LightGlueConfig(
    "sift",
    128,
    descriptor_dim=64,
    num_layers=3,
    num_heads=2,
    positions="xy_scale_orientation",
    depth_confidence=None,
    width_confidence=None,
)
Pair = tuple[Features, Features]


class Runtime:
    """A file under onnxruntime, fed with Features."""

    def __init__(self, path: Path) -> None:
        self.session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        self.inputs = [value.name for value in self.session.get_inputs()]

    def __call__(self, pairs: Sequence[Pair]) -> list[tuple[dict[tuple[int, int], float], int]]:
        """Of each pair the matches with their scores, and the layers run; all pairs in one padded batch."""
        feed: dict[str, Any] = {}
        for side in (0, 1):
            batch = FeatureBatch.from_features([pair[side] for pair in pairs])
            values = {**batch.numpy(), "mask": batch.valid.numpy(), "size": batch.image_sizes.float().numpy()}
            feed |= {f"{name}{side}": value for name, value in values.items()}
        named = {name: feed[name] for name in self.inputs}
        matches, scores, layers, *rest = self.session.run(None, named)
        self.probabilities = rest[0] if rest else None  # of the last call, (pairs, points of image 0)
        return [
            ({(int(i), int(row[i])): float(score[i]) for i in np.flatnonzero(row >= 0)}, int(layer))
            for row, score, layer in zip(matches, scores, layers, strict=True)
        ]


def scores_of(matches: Matches) -> dict[tuple[int, int], float]:
    pairs = [(i, j) for i, j in matches.indices.tolist()]
    return dict(zip(pairs, matches.scores.tolist(), strict=True))


def assert_same(got: dict[tuple[int, int], float], expected: Matches, tolerance: float, threshold: float) -> None:
    """Same matches and scores; only one whose score lies at the threshold may come and go."""
    other = scores_of(expected)
    for pair in got.keys() | other.keys():
        assert abs(got.get(pair, threshold) - other.get(pair, threshold)) <= tolerance


def unequal_pairs(kind: FeatureKind = SIFT) -> list[Pair]:
    """Different numbers of points, difficulties and so exits."""
    counts = [(120, 60, 10, 0.9), (30, 0, 20, 0.0), (150, 0, 90, 0.5), (1, 0, 0, 0.3), (80, 50, 0, 0.1)]
    return [random_pair(kind, *count[:3], seed, ease=count[3]) for seed, count in enumerate(counts)]


def exported(*arguments: object) -> str:
    """What `lightmatch export` says, in this process: another one would compile the exporter's modules again."""
    done = CliRunner().invoke(app, ["export", *map(str, arguments)])
    assert done.exception is None
    return done.stdout


@pytest.fixture(scope="module")
def scene_features(scene_photos: Path) -> list[Features]:
    extractor = Sift(SiftConfig(max_keypoints=700))
    return [extractor(load_image(photo)) for photo in sorted(scene_photos.iterdir())]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[LightGlue, Runtime, Path]:
    """The first layers of the weights inside the package, with their calibration, and what became of them."""
    whole = LightGlue.from_pretrained("sift")
    assert whole.config.calibration is not None
    first, second = whole.config.calibration.layers[:2]
    calibration = replace(whole.config.calibration, layers=(replace(first, reject_ratio=None), second))
    matcher = LightGlue(replace(whole.config, num_layers=3, calibration=calibration))
    weights = whole.network.state_dict()
    matcher.network.load_state_dict({name: weights[name] for name in matcher.network.state_dict()})
    path = tmp_path_factory.mktemp("onnx") / "lightglue.onnx"
    export_onnx(matcher, path)
    return matcher, Runtime(path), path


@pytest.fixture(scope="module")
def half(tmp_path_factory: pytest.TempPathFactory) -> tuple[LightGlue, Path]:
    """A matcher of SuperPoint's features at full depth, and its file in half precision, by the command line."""
    matcher = sharpened_lightglue(
        replace(SMALL, features="superpoint_open", input_dim=256, num_layers=1, positions="xy")
    )
    folder = tmp_path_factory.mktemp("onnx")
    matcher.save(folder / "small.safetensors")
    spec = f"lightglue:{folder / 'small.safetensors'}"
    said = exported(spec, "--features", SUPERPOINT.name, "--half", "-o", folder / "half.onnx")
    assert "half.onnx" in said and "MiB" in said
    return matcher, folder / "half.onnx"


@pytest.mark.skipif("CUDAExecutionProvider" in onnxruntime.get_available_providers(), reason="onnxruntime for GPUs")
def test_a_gpu_that_onnxruntime_does_not_compute_on_is_not_the_cpu(tmp_path: Path) -> None:
    with pytest.raises(InvalidValueError, match="install onnxruntime-gpu"):
        open_session(tmp_path / "any.onnx", "cuda")


def test_trained_weights_let_pairs_leave_reject_them_and_drop_points(
    trained: tuple[LightGlue, Runtime, Path], scene_features: list[Features]
) -> None:
    matcher, runtime, _ = trained
    pairs = [(scene_features[0], other) for other in scene_features]  # the first with itself: easy
    other = random_pair(SIFT, 300, 0, 0, seed=1)[0]
    pairs += [(scene_features[0].select(torch.tensor([0])), other.select(torch.tensor([0])))]  # a point each
    pairs += [(scene_features[0], other)]  # nothing in common
    expected = matcher.match_batch(pairs)
    assert sum(map(len, expected)) > 1000 and {one.stop_layer for one in expected} == {2, 3}
    assert len(expected[0]) > 600 and expected[0].stop_layer == 2
    assert len(expected[-1]) == 0 and expected[-1].stop_layer == 2
    assert any(one.layers0 is not None and len(one.layers0.unique()) > 1 for one in expected)
    for found in ([runtime([pair])[0] for pair in pairs], runtime(pairs)):
        for got, want in zip(found, expected, strict=True):
            assert_same(got[0], want, 1e-3, matcher.config.filter_threshold)
            assert got[1] == want.stop_layer
    assert runtime.probabilities is not None
    for row, want in zip(runtime.probabilities, expected, strict=True):
        assert want.probabilities is not None
        dense = np.zeros(len(row), np.float32)
        dense[want.indices[:, 0]] = want.probabilities
        assert np.median(np.abs(dense - row)[want.indices[:, 0]]) < 1e-3 if len(want) else not row.any()
        assert np.count_nonzero(np.abs(dense - row) > 0.02) < 0.01 * len(row)


def test_in_a_batch_each_pair_leaves_by_itself(
    trained: tuple[LightGlue, Runtime, Path], scene_features: list[Features]
) -> None:
    matcher, runtime, _ = trained
    pairs = [(scene_features[0], scene_features[n].select(torch.arange(700 - 90 * n))) for n in (1, 3, 5)]
    for got, want in zip(runtime(pairs), matcher.match_batch(pairs), strict=True):
        assert_same(got[0], want, 1e-3, matcher.config.filter_threshold)
        assert got[1] == want.stop_layer


def test_files_say_what_they_are_and_are_no_larger_than_their_weights(
    trained: tuple[LightGlue, Runtime, Path],
) -> None:
    matcher, runtime, path = trained
    stored = runtime.session.get_modelmeta().custom_metadata_map
    assert stored["model"] == "LightGlue" and stored["features"] == "sift"
    assert json.loads(stored["config"])["depth_confidence"] == matcher.config.depth_confidence
    weights = sum(parameter.numel() * 4 for parameter in matcher.network.parameters())
    assert path.stat().st_size < 1.1 * weights
    assert list(path.parent.iterdir()) == [path]  # no weights in a file beside it


def test_pairs_of_any_number_of_points_leave_one_by_one(tmp_path: Path) -> None:
    matcher = sharpened_lightglue(replace(SMALL, num_layers=2, depth_confidence=0.7))
    matcher.network.train()
    export_onnx(matcher, tmp_path / "m.onnx")
    assert matcher.network.training  # as it was
    matcher.network.eval()
    pairs = unequal_pairs()
    expected = matcher.match_batch(pairs)
    assert sum(map(len, expected)) > 150 and len({one.stop_layer for one in expected}) > 1
    runtime = Runtime(tmp_path / "m.onnx")
    for got in (runtime(pairs), [runtime([pair])[0] for pair in pairs]):
        for (matches, layers), want in zip(got, expected, strict=True):
            assert_same(matches, want, 1e-3, SMALL.filter_threshold)
            assert layers == want.stop_layer


def test_at_full_depth_in_half_precision(half: tuple[LightGlue, Path]) -> None:
    matcher, path = half
    pairs = unequal_pairs(SUPERPOINT)
    expected = matcher.match_batch(pairs)
    assert sum(map(len, expected)) > 150
    for (matches, layers), want in zip(Runtime(path)(pairs), expected, strict=True):
        assert_same(matches, want, 0.03, matcher.config.filter_threshold)
        assert layers == want.stop_layer == 1
    assert path.stat().st_size < 3.4 * sum(parameter.numel() for parameter in matcher.network.parameters())


def test_superglue_matches_alike(tmp_path: Path) -> None:
    config = SuperGlueConfig(
        "sift", 128, 64, num_layers=1, keypoint_encoder_dims=(8, 16), num_heads=2, sinkhorn_iterations=6
    )
    matcher = sharpened_superglue(config)
    export_onnx(matcher, tmp_path / "m.onnx")
    pairs = unequal_pairs()
    expected = matcher.match_batch(pairs)
    assert sum(map(len, expected)) > 150
    for (matches, layers), want in zip(Runtime(tmp_path / "m.onnx")(pairs), expected, strict=True):
        assert_same(matches, want, 1e-3, config.filter_threshold)
        assert layers == 1


def photo_in_grey(scene_photos: Path) -> torch.Tensor:
    pixels = load_image(scene_photos / "view_0.png").pixels[:352, :, :1]
    return torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255


def enliven(network: torch.nn.Module, photo: torch.Tensor) -> None:
    """Normalise random weights by the statistics of a photo: what they make of it then varies from place to place."""
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        network.train()(photo)


@pytest.fixture(scope="module")
def superpoint(scene_photos: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[SuperPointOpen, Path]:
    folder = tmp_path_factory.mktemp("superpoint")
    torch.manual_seed(1)
    network = SuperPointNetwork(normalized=True)
    enliven(network, photo_in_grey(scene_photos))
    torch.save(network.state_dict(), folder / "superpoint.pth")
    settings = SuperPointConfig(weights=folder / "superpoint.pth", max_keypoints=200)
    extractor = SuperPointOpen(settings)
    export_onnx(extractor, folder / "superpoint.onnx")
    return extractor, folder / "superpoint.onnx"


@pytest.mark.parametrize("size", [(480, 360), (237, 141), (64, 40), (16, 12)])  # the last has fewer pixels than 200
def test_superpoint_finds_the_same(
    superpoint: tuple[SuperPointOpen, Path], scene_photos: Path, size: tuple[int, int]
) -> None:
    extractor, path = superpoint
    image = Image(cv2.resize(load_image(scene_photos / "view_0.png").pixels, size))
    mask = np.ones(size[::-1], bool)
    mask[:, : size[0] // 4] = False
    expected = extractor(image, mask)
    padding = ((0, -size[1] % 8), (0, -size[0] % 8))
    padded = np.pad(image.pixels, (*padding, (0, 0)), "edge")
    feed = {
        "images": padded.transpose(2, 0, 1)[None].astype(np.float32) / 255,
        "size": np.array([size], np.float32),
        "allowed": np.pad(mask, padding, constant_values=True)[None],
    }
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    keypoints, scores, descriptors, real = (part[0] for part in session.run(None, feed))
    count = int(real.sum())
    assert count == len(expected) and real[:count].all() and (count > 0 or max(size) < 20)
    places = {tuple(place): n for n, place in enumerate(keypoints[:count].tolist())}
    order = [places[tuple(place)] for place in expected.keypoints.tolist()]
    np.testing.assert_allclose(scores[order], expected.scores, atol=1e-5)
    np.testing.assert_allclose(descriptors[order], expected.descriptors, atol=1e-4)


@pytest.fixture(scope="module")
def lightpoint_weights(scene_photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(1)
    network = LightPointNetwork(LightPointConfig(channels=(8, 16, 16, 16), spaces=(("aliked", 128),)))
    enliven(network, standardize(photo_in_grey(scene_photos)))
    path = tmp_path_factory.mktemp("lightpoint") / "lightpoint.safetensors"
    write_lightpoint(network, path, {})
    return path


def create_lightpoint(kind: type[LightPoint], weights: Path, precision: str = "float32") -> LightPoint:
    return kind(LightPointExtractorConfig(weights=weights, precision=precision, max_keypoints=200))


def lightpoint_feed(images: Sequence[Image], masks: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    """Images of any sizes in one batch."""
    width, height = np.max([image.size for image in images], 0)
    edges = [((0, height - image.size[1]), (0, width - image.size[0])) for image in images]
    pixels = [np.pad(image.pixels, (*edge, (0, 0)), "edge") for image, edge in zip(images, edges, strict=True)]
    return {
        "images": np.stack(pixels).transpose(0, 3, 1, 2).astype(np.float32) / 255,
        "size": np.array([image.size for image in images], np.float32),
        "allowed": np.stack([np.pad(m, edge, constant_values=True) for m, edge in zip(masks, edges, strict=True)]),
    }


def assert_same_features(got: Sequence[np.ndarray], expected: Features) -> None:
    """Same keypoints; of nearly equal scores the order may differ, and which of the last is kept.

    got: keypoints, scores, descriptors and mask of one image, as the graph gives them.
    """
    keypoints, scores, descriptors, real = got
    count = int(real.sum())
    assert count == len(expected) and real[:count].all() and np.isfinite(keypoints).all()
    assert np.isfinite(descriptors).all() and (scores[count:] == 0).all()
    np.testing.assert_allclose(scores[:count], expected.scores, atol=1e-5)
    distances = torch.cdist(torch.from_numpy(keypoints[:count]).double(), expected.keypoints.double())
    found, partner = (distances < 1e-3).nonzero(as_tuple=True)
    assert len(found) == len(found.unique()) >= count - 2
    np.testing.assert_allclose(descriptors[found], expected.descriptors[partner], atol=1e-4)


@pytest.fixture(scope="module")
def lightpoint(lightpoint_weights: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[LightPoint, Any]:
    extractor, path = create_lightpoint(LightPointAsAliked, lightpoint_weights), tmp_path_factory.mktemp("onnx") / "lp"
    export_onnx(extractor, path)
    return extractor, onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


# Of one pixel, of less than a cell, and with fewer keypoints than 200 too.
@pytest.mark.parametrize("size", [(480, 352), (237, 141), (64, 40), (17, 16), (5, 3), (1, 1)])
def test_lightpoint_finds_the_same_at_any_size(
    lightpoint: tuple[LightPoint, Any], scene_photos: Path, size: tuple[int, int]
) -> None:
    extractor, session = lightpoint
    image = Image(cv2.resize(load_image(scene_photos / "view_0.png").pixels, size))
    mask = np.ones(size[::-1], bool)
    mask[:, : size[0] // 4] = False
    expected = extractor(image, mask)
    assert len(expected) > 0 or max(size) < 20
    assert_same_features([part[0] for part in session.run(None, lightpoint_feed([image], [mask]))], expected)


def test_lightpoint_in_a_batch_of_different_sizes(lightpoint: tuple[LightPoint, Any], scene_photos: Path) -> None:
    """As alone, for both sizes end in the same cells of 16 px."""
    extractor, session = lightpoint
    photo = load_image(scene_photos / "view_0.png").pixels
    images = [Image(np.ascontiguousarray(pixels)) for pixels in (photo[:160, :240], photo[100:250, 200:430])]
    got = session.run(None, lightpoint_feed(images, [np.ones(image.size[::-1], bool) for image in images]))
    for row, image in enumerate(images):
        assert_same_features([part[row] for part in got], extractor(image))


def assert_about_the_same(path: Path, weights: Path, photo: Path) -> None:
    """The keypoints of a graph in half precision against those of the network in single precision."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    image = load_image(photo)
    keypoints = session.run(None, lightpoint_feed([image], [np.ones(image.size[::-1], bool)]))[0][0]
    expected = create_lightpoint(LightPoint, weights)(image).keypoints
    distances = torch.cdist(torch.from_numpy(keypoints).double(), expected.double()).min(1).values
    assert float((distances < 0.25).double().mean()) > 0.9


def test_lightpoint_of_bfloat16_is_written_in_single_precision(lightpoint_weights: Path) -> None:
    graph = LightPointGraph(create_lightpoint(LightPoint, lightpoint_weights, "bfloat16"))
    assert {parameter.dtype for parameter in graph.parameters()} == {torch.float32}


def test_the_example_matches_two_photos_without_torch(
    superpoint: tuple[SuperPointOpen, Path],
    half: tuple[LightGlue, Path],
    trained: tuple[LightGlue, Runtime, Path],
    scene_photos: Path,
    tmp_path: Path,
) -> None:
    """From one graph straight into the other."""
    extractor, path = superpoint
    matcher, matcher_path = half
    whole = load_image(scene_photos / "view_0.png").pixels
    images = [Image(np.ascontiguousarray(pixels)) for pixels in (whole[:, 16:], whole[:-24])]
    for number, image in enumerate(images):
        cv2.imwrite(str(tmp_path / f"{number}.ppm"), image.pixels[..., ::-1])
    example = Path(__file__).parents[2] / "examples" / "onnx_match.py"
    files = [path, matcher_path, tmp_path / "0.ppm", tmp_path / "1.ppm"]
    done = subprocess.run([sys.executable, example, *files], capture_output=True, text=True, check=True)
    rows = np.array([line.split() for line in done.stdout.splitlines()], float)
    features0, features1 = map(extractor, images)
    points0, points1 = matcher(features0, features1).points(features0, features1)
    expected = {tuple(row) for row in torch.cat((points0, points1), 1).tolist()}
    got = {tuple(row) for row in rows[:, :4].tolist()}
    assert len(got & expected) > 0.9 * len(got | expected) > 5  # half precision moves scores about the threshold
    wrong = [path, trained[2], *files[2:]]
    refused = subprocess.run([sys.executable, example, *wrong], capture_output=True, text=True, check=False)
    assert refused.returncode == 1 and "gives superpoint_open features, the matcher takes sift" in refused.stderr


def test_the_example_with_opencvs_sift_matches_two_photos(
    trained: tuple[LightGlue, Runtime, Path], superpoint: tuple[SuperPointOpen, Path], scene_photos: Path
) -> None:
    matcher, _, path = trained
    photos = [scene_photos / f"view_{number}.png" for number in (0, 1)]
    example = Path(__file__).parents[2] / "examples" / "onnx_sift.py"
    done = subprocess.run([sys.executable, example, path, *photos], capture_output=True, text=True, check=True)
    got = np.array([line.split() for line in done.stdout.splitlines()], float)
    features = [Sift()(load_image(photo)) for photo in photos]
    expected = torch.cat(matcher(*features).points(*features), 1).double()
    distances = torch.cdist(torch.from_numpy(got[:, :4]), expected)
    assert len(expected) > 200 and abs(len(got) - len(expected)) < 0.02 * len(expected)
    assert float((distances.min(0).values < 1e-3).double().mean()) > 0.98
    wrong = [superpoint[1], *photos]
    refused = subprocess.run([sys.executable, example, *wrong], capture_output=True, text=True, check=False)
    assert refused.returncode == 1 and "expected a matcher for sift features, got one for superp" in refused.stderr


def test_what_has_no_graph_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        InvalidValueError, match=r"expected a matcher or an extractor with a graph, such as .*, got Near"
    ):
        export_onnx(NearestNeighbor(), tmp_path / "m.onnx")
    assert not list(tmp_path.iterdir())


def test_without_onnxscript_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(MissingDependencyError, match=r"\.\[onnx\]"):
        export_onnx(sharpened_lightglue(SMALL), tmp_path / "m.onnx")


def test_lightpoint_on_the_command_line(lightpoint_weights: Path, scene_photos: Path, tmp_path: Path) -> None:
    file = tmp_path / "lightpoint.onnx"
    exported(f"lightpoint_aliked:{lightpoint_weights}", "--half", "--max-keypoints", 200, "-o", file)
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    image = Image(np.zeros((20, 30, 3), np.uint8))
    keypoints, _, descriptors, _ = session.run(None, lightpoint_feed([image], [np.ones((20, 30), bool)]))
    assert keypoints.shape == (1, 200, 2) and descriptors.shape == (1, 200, 128)
    stored = session.get_modelmeta().custom_metadata_map
    assert stored["model"] == "LightPointAsAliked" and json.loads(stored["config"])["precision"] == "float16"
    assert_about_the_same(file, lightpoint_weights, scene_photos / "view_0.png")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["best"], "model: expected a matcher (lightglue, "),
        (["sift"], "an extractor that can be exported (lightpoint, "),
        (["nearest"], "got NearestNeighbor"),
        (["lightglue", "--to", "pdf"], "--to: expected onnx"),
        (["lightglue:absent.safetensors"], "absent.safetensors"),
        (["lightglue", "--max-keypoints", "9"], "--max-keypoints: expected none with lightglue"),
        (["superpoint_open", "--features", "sift"], "--features: expected none with superpoint_open"),
        (["lightglue,fast"], "got 'fast'"),
    ],
)
def test_a_mistake_on_the_command_line_is_named(arguments: list[str], says: str, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["export", *arguments, "-o", str(tmp_path / "x.onnx")])
    assert isinstance(done.exception, LightmatchError) and says in str(done.exception)
    assert not list(tmp_path.iterdir())
