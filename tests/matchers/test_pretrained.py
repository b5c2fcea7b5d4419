"""The weights inside the package: small, with a card, and better than nearest neighbours on scenes they never saw."""

from pathlib import Path

import pytest
import torch

import lightmatch as lm
from lightmatch.geometry.coordinates import compose_rigid, invert_rigid
from lightmatch.geometry.correspondence import Correspondence, Projection, correspond, project_by_depth
from lightmatch.matchers import Matcher
from lightmatch.scenes import RenderedScene
from lightmatch.types import Features
from lightmatch.weights import PRETRAINED_FOLDER, read_tensors

FILES = sorted(PRETRAINED_FOLDER.glob("*.safetensors"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_each_file_is_small_and_has_a_card(path: Path) -> None:
    tensors, metadata = read_tensors(path)
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float16}
    assert path.stat().st_size < 6e6
    card = path.with_suffix(".md").read_text()
    for part in ("## Data", "## Recipe", "## Scores", "## Limits", f"recipes/{path.stem}/"):
        assert part in card
    assert metadata["recipe"] and metadata["seed"]


@pytest.fixture(scope="module")
def pairs(scene: RenderedScene, scene_photos: Path) -> list[tuple[Features, Features, Correspondence]]:
    """Every two of six neighbouring views of the procedural world, with the truth."""
    extractor = lm.create_extractor("sift", max_keypoints=1024)
    features = [extractor(lm.load_image(scene_photos / f"view_{view}.png")) for view in range(6)]

    def project(i: int, j: int) -> Projection:
        motion = compose_rigid(scene.cam_from_world[j], invert_rigid(scene.cam_from_world[i]))
        return project_by_depth(features[i].keypoints, scene.depth[i], scene.K[i], scene.depth[j], scene.K[j], motion)

    return [
        (
            features[i],
            features[j],
            correspond(features[i].keypoints, features[j].keypoints, project(i, j), project(j, i)),
        )
        for i in range(6)
        for j in range(i + 1, 6)
    ]


def test_it_finds_more_than_the_ratio_test_at_the_same_precision(
    pairs: list[tuple[Features, Features, Correspondence]],
) -> None:
    def curve(matcher: Matcher) -> tuple[torch.Tensor, torch.Tensor]:
        """Precision and recall, over all pairs, of the matches above each score."""
        found = [(matcher(features0, features1), truth) for features0, features1, truth in pairs]
        order = torch.cat([matches.scores for matches, _ in found]).argsort(descending=True)
        labeled = [truth.correct_and_incorrect(matches.indices) for matches, truth in found]
        right, wrong = (torch.cat([flags[k] for flags in labeled])[order].cumsum(0) for k in (0, 1))
        return right / (right + wrong).clamp_min(1), right / sum(len(truth.matches) for _, truth in found)

    precision, recall = curve(lm.LightGlue.from_pretrained("sift"))
    ratio_precision, ratio_recall = (float(values[-1]) for values in curve(lm.NearestNeighbor(0.8)))
    at_ratio_precision = float(recall[precision >= ratio_precision].max())
    assert at_ratio_precision > ratio_recall + 0.1, (ratio_precision, ratio_recall, at_ratio_precision)


def test_easy_pairs_take_less_layers_for_almost_the_same(
    pairs: list[tuple[Features, Features, Correspondence]],
) -> None:
    adaptive = lm.LightGlue.from_pretrained("sift")
    full = lm.LightGlue.from_pretrained("sift", depth_confidence=None, width_confidence=None)
    features0, features1, truth = pairs[0]
    some, every = adaptive(features0, features1), full(features0, features1)
    right, most = (int(truth.correct_and_incorrect(matches.indices)[0].sum()) for matches in (some, every))
    assert some.stop_layer is not None and some.stop_layer < full.config.num_layers
    assert right > 0.95 * most > 0
