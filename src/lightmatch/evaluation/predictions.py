"""Cache of the matches of all pairs by one method: computed once, written to a file, scored with any threshold."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from lightmatch.evaluation.features import FeatureFiles, code_hash, image_key, short_hash
from lightmatch.evaluation.methods import Method
from lightmatch.evaluation.pairs import EvaluationPair
from lightmatch.matchers import ImageMatcher
from lightmatch.weights import read_tensors, write_tensors


@dataclass(frozen=True, eq=False)
class Prediction:
    """The matches of one pair, in pixels of the images as they were matched."""

    indices: Tensor | None  # (k, 2) int64, into the features; None of a matcher of images, which has none
    scores: Tensor  # (k,) float32
    points0: Tensor  # (k, 2) float32 px
    points1: Tensor  # (k, 2) float32 px
    num_keypoints: tuple[int, int]
    match_ms: float
    stop_layer: int | None = None  # layers run, of a matcher that has layers

    def above(self, min_score: float) -> Prediction:
        """The matches with a score above `min_score`."""
        kept = self.scores > min_score
        joined = {name: getattr(self, name) for name in _JOINED}
        return replace(self, **{name: value[kept] for name, value in joined.items() if value is not None})


_JOINED = ("indices", "scores", "points0", "points1")


def predictions_path(
    folder: Path, pairs: Sequence[EvaluationPair], store: FeatureFiles, max_keypoints: int, method: Method
) -> Path:
    """The file of the predictions, named by a hash of images, features, matcher and code.

    Device and number of threads are hashed too, since the file has run times.
    """
    images = [key for pair in pairs for key in (pair.scene, pair.name, image_key(pair.image0), image_key(pair.image1))]
    circumstances = code_hash("geometry", "matchers", "networks"), method.device, str(torch.get_num_threads())
    state = short_hash(*images, store.fingerprint, str(max_keypoints), *circumstances)
    return folder / f"{method.fingerprint}-{state}.safetensors"


def predict(
    pairs: Sequence[EvaluationPair],
    store: FeatureFiles,
    max_keypoints: int,
    method: Method,
    path: Path,
    step: Callable[[], None] = lambda: None,
) -> list[Prediction]:
    """The predictions of the file `path`; if it does not exist, they are computed and written first.

    The features must have been extracted. Pairs are not batched, so that each has its own run time. step: called
    after each pair.
    """
    if not path.exists():
        predictions = []
        for pair in pairs:
            predictions.append(_match(pair, store, max_keypoints, method))
            step()
        path.parent.mkdir(parents=True, exist_ok=True)
        _write(path, pairs, predictions)
        return predictions
    predictions = read_predictions(path)
    for _ in pairs:
        step()
    return predictions


def _match(pair: EvaluationPair, store: FeatureFiles, max_keypoints: int, method: Method) -> Prediction:
    if isinstance(method.matcher, ImageMatcher):
        return _match_images(pair, store, method.matcher)
    features0, features1 = (store.load(image, max_keypoints).features for image in (pair.image0, pair.image1))
    start = time.perf_counter()
    found = method.matcher(features0, features1)  # on the CPU: no synchronisation needed
    match_ms = 1000 * (time.perf_counter() - start)
    points0, points1 = found.points(features0, features1)
    counts = len(features0), len(features1)
    return Prediction(found.indices, found.scores, points0, points1, counts, match_ms, found.stop_layer)


def _match_images(pair: EvaluationPair, store: FeatureFiles, matcher: ImageMatcher) -> Prediction:
    image0, image1 = (store.shrink(image) for image in (pair.image0, pair.image1))
    start = time.perf_counter()
    found = matcher(image0, image1)
    match_ms = 1000 * (time.perf_counter() - start)
    return Prediction(None, found.scores, found.points0, found.points1, (len(found), len(found)), match_ms)


def _write(path: Path, pairs: Sequence[EvaluationPair], predictions: Sequence[Prediction]) -> None:
    """One file: the concatenated matches of all pairs, and the number of matches of each pair."""
    names = [name for name in _JOINED if all(getattr(p, name) is not None for p in predictions)]
    joined = {name: torch.cat([getattr(p, name) for p in predictions]) for name in names}
    per_pair = {
        "num_matches": torch.tensor([len(p.scores) for p in predictions]),
        "num_keypoints": torch.tensor([p.num_keypoints for p in predictions]),
        "match_ms": torch.tensor([p.match_ms for p in predictions], dtype=torch.float64),
    }
    layers = [p.stop_layer for p in predictions if p.stop_layer is not None]
    if layers:
        per_pair["stop_layer"] = torch.tensor(layers)
    pair_names = json.dumps([[pair.scene, pair.name] for pair in pairs], ensure_ascii=False)
    write_tensors(path, {**joined, **per_pair}, {"pairs": pair_names})


def read_predictions(path: Path) -> list[Prediction]:
    """The predictions of a file written by `predict`, in the order of its pairs."""
    tensors, _ = read_tensors(path)
    lengths = tensors["num_matches"].tolist()
    parts = [tensors[name].split(lengths) if name in tensors else [None] * len(lengths) for name in _JOINED]
    counts = [(int(a), int(b)) for a, b in tensors["num_keypoints"].tolist()]
    layers = tensors["stop_layer"].tolist() if "stop_layer" in tensors else [None] * len(counts)
    rows = zip(*parts, counts, tensors["match_ms"].tolist(), layers, strict=True)
    return [Prediction(*row) for row in rows]
