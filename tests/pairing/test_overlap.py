from dataclasses import replace

import pytest
import torch
from random_values import PLAIN, SIFT, random_features, random_matches

from lightmatch.extractors import create_extractor
from lightmatch.matchers import create_matcher
from lightmatch.pairing import classify_overlap, overlap_probability
from lightmatch.pairing.evidence import PairEvidence, gather_evidence, locality
from lightmatch.pairing.overlap import CALIBRATED, LIGHTGLUE, OTHERS, OverlapClassifier, evidence_terms
from lightmatch.scenes import build_world, look_at, pinhole, render
from lightmatch.scenes.textures import fractal_noise
from lightmatch.types import Features, Image, Matches


def matches_of(indices: list[list[int]], scores: list[float]) -> Matches:
    return Matches(torch.tensor(indices, dtype=torch.int64).reshape(-1, 2), torch.tensor(scores))


def turned(features: Features, degrees: float, scale: float) -> Features:
    """The same photo, turned about its middle and scaled."""
    angle = torch.deg2rad(torch.tensor(degrees))
    rotation = torch.stack([torch.stack([angle.cos(), -angle.sin()]), torch.stack([angle.sin(), angle.cos()])])
    middle = torch.tensor(features.image_size) / 2
    assert features.orientations is not None and features.scales is not None
    return replace(
        features,
        keypoints=(features.keypoints - middle) @ rotation.T * scale + middle,
        orientations=features.orientations + angle,
        scales=features.scales * scale,
    )


def identity(count: int) -> Matches:
    return Matches(torch.arange(count)[:, None].expand(-1, 2).contiguous(), torch.ones(count))


def test_neighbours_of_a_turned_copy_stay() -> None:
    points = torch.rand(200, 2, generator=torch.Generator().manual_seed(0)) * 500
    rotation = torch.tensor([[0.0, -2.0], [2.0, 0.0]])
    assert locality(points, points @ rotation.T + 7) == pytest.approx(1)


def test_neighbours_of_chance_do_not() -> None:
    """Over many draws the mean is 0, whatever the number of matches."""
    generator = torch.Generator().manual_seed(0)
    for count in (5, 30, 300):
        draws = [locality(*torch.rand(2, count, 2, generator=generator)) for _ in range(100)]
        assert sum(draws) / 100 == pytest.approx(0, abs=0.05)


def test_two_neighbours_of_four_by_hand() -> None:
    """On a line 0 1 3 7, one neighbour each: 1 0 1 3. Swapping the ends keeps that of none but the middle two."""
    points = torch.tensor([[0.0, 0.0], [1, 0], [3, 0], [7, 0]])
    moved = torch.tensor([[7.0, 0.0], [1, 0], [3, 0], [0, 0]])  # neighbours 2, 3, 1, 1
    near = [(1, 2), (0, 3), (1, 1), (2, 1)]
    kept = sum(a == b for a, b in near) / 4
    assert locality(points, moved) == pytest.approx((kept - 1 / 3) / (2 / 3))


@pytest.mark.parametrize("count", [0, 1, 2])
def test_two_matches_have_no_neighbourhood(count: int) -> None:
    assert locality(torch.rand(count, 2), torch.rand(count, 2)) == 0


def test_evidence_counts_what_is_right() -> None:
    matches, features = matches_of([[0, 3], [5, 1]], [0.5, 1.0]), random_features(100, seed=1)
    other = random_features(50, seed=2)
    assert gather_evidence(features, other, matches) == PairEvidence(2, 2.0, 0.0)
    said = replace(matches, probabilities=torch.tensor([0.25, 0.5]))
    assert gather_evidence(features, other, said) == PairEvidence(2, 0.75, 0.0)


def test_many_matches_are_looked_at_by_the_best() -> None:
    """Of 3000 matches, 1024 good ones with high scores: the others are not looked at."""
    features = random_features(3000)
    shuffled = torch.cat((torch.arange(1024), 1024 + torch.randperm(1976, generator=torch.Generator().manual_seed(0))))
    scores = torch.where(torch.arange(3000) < 1024, 0.9, 0.1)
    matches = Matches(torch.stack((torch.arange(3000), shuffled), 1), scores)
    assert gather_evidence(features, features, matches).locality == pytest.approx(1)


def test_no_matches_no_overlap() -> None:
    empty = random_features(0)
    nothing = matches_of([], [])
    for f0, f1 in ((empty, empty), (empty, random_features(9)), (random_features(9), random_features(9))):
        for matches in (nothing, replace(nothing, stop_layer=0)):
            overlap = classify_overlap(f0, f1, matches)
            assert overlap.probability < 0.1 and not overlap.worth_verifying


@pytest.mark.parametrize("stop_layer", [None, 5])
def test_a_copy_overlaps_and_chance_does_not(stop_layer: int | None) -> None:
    features, other = random_features(500), random_features(500, seed=5)
    copy = replace(identity(500), stop_layer=stop_layer)
    assert overlap_probability(features, turned(features, 30, 1.2), copy) > 0.95
    chance = replace(random_matches(500, 500, 12), stop_layer=stop_layer)
    chance = replace(chance, scores=0.3 * chance.scores)
    overlap = classify_overlap(features, other, chance)
    assert overlap.probability < 0.4


def test_more_of_the_same_makes_it_surer() -> None:
    features = random_features(1000)
    for stop_layer in (None, 5):
        said = [
            overlap_probability(features, features, replace(identity(count), stop_layer=stop_layer))
            for count in (5, 20, 80, 320)
        ]
        assert said == sorted(said)


def test_probabilities_count_and_scores_do_not() -> None:
    features = random_features(300)
    high = identity(60)
    low = replace(high, scores=torch.full((60,), 0.2))

    def said(matches: Matches) -> float:
        return overlap_probability(features, features, matches)

    for stop_layer in (None, 5):
        assert said(replace(high, stop_layer=stop_layer)) == said(replace(low, stop_layer=stop_layer))
    sure, unsure = (replace(high, probabilities=torch.full((60,), p)) for p in (0.9, 0.1))
    assert said(sure) > 0.98 > 0.9 > said(unsure)


def test_the_order_of_the_photos_does_not_matter() -> None:
    f0, f1, matches = random_features(80, seed=1), random_features(90, PLAIN, seed=2), random_matches(80, 90, 40)
    order = matches.indices[:, 1].argsort()
    back = Matches(matches.indices.flip(1)[order], matches.scores[order])
    assert overlap_probability(f0, f1, matches) == pytest.approx(overlap_probability(f1, f0, back))


def test_the_regression_is_one() -> None:
    nothing = PairEvidence(0, 0.0, 0.0)
    assert OverlapClassifier((0.5, 1.0, 0.0, 0.0), 0.1).probability(nothing) == pytest.approx(
        1 / (1 + 2.718281828**-0.5)
    )
    assert OverlapClassifier((-1e6, 0.0, 0.0, 0.0), 0.1).probability(nothing) == 0
    assert evidence_terms(PairEvidence(9, 4.0, 0.5)) == pytest.approx((1, 1.609438, 1.791759, 1.098612))
    assert evidence_terms(PairEvidence(9, 9.0, -0.5))[2:] == (0, 0)


def test_what_is_improbable_or_of_few_matches_is_skipped() -> None:
    model = OverlapClassifier((-4.0, 0.0, 0.0, 2.0), 0.5)
    assert not model.classify(PairEvidence(100, 100.0, 0.03)).worth_verifying
    assert model.classify(PairEvidence(100, 100.0, 0.5)).worth_verifying
    assert model.classify(PairEvidence(8, 8.0, 1.0)).worth_verifying
    assert not model.classify(PairEvidence(7, 7.0, 1.0)).worth_verifying


# Evidence as LightGlue finds it on SIFT: means over pairs of the training, and single ones.
OVERLAPPING = PairEvidence(110, 70.0, 0.52)
OTHER = PairEvidence(28, 4.0, 0.1)
CLEARLY_OTHER = PairEvidence(26, 2.0, 0.0)


def test_the_trained_models_tell_overlapping_pairs_from_others() -> None:
    assert CALIBRATED.classify(OVERLAPPING).worth_verifying and CALIBRATED.probability(OVERLAPPING) > 0.9
    assert CALIBRATED.probability(OTHER) < 0.2
    assert not CALIBRATED.classify(CLEARLY_OTHER).worth_verifying


@pytest.mark.parametrize("trained", [CALIBRATED, LIGHTGLUE, OTHERS])
def test_better_neighbours_make_the_trained_models_surer(trained: OverlapClassifier) -> None:
    said = [trained.probability(replace(OTHER, locality=locality)) for locality in (0.0, 0.2, 0.5, 1.0)]
    assert said == sorted(said) and said[0] < said[-1]


@pytest.fixture(scope="module")
def views() -> list[Features]:
    """Two neighbouring views over a plaza, and one the other way that shows nothing of theirs."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.stack([fractal_noise(generator, 256, 24, 3, channels=3).permute(1, 2, 0) for _ in range(8)])
    world = build_world(generator, textures=(127 + 100 * noise).clamp(0, 255).to(torch.uint8))
    eyes = torch.tensor([[5.0, -1.0, 2.0], [5.0, 1.0, 2.0], [4.0, 5.0, 2.0]])
    targets = torch.tensor([[-3.0, -2.0, 0.5], [-3.0, -2.0, 0.5], [5.0, 8.0, 1.0]])
    size = (320, 240)
    K = pinhole(65.0, size).expand(3, 3, 3).contiguous()
    seen = render(world, K, look_at(eyes, targets), size, supersampling=1)
    extractor = create_extractor("sift", max_keypoints=512)
    return [extractor(Image(pixels.numpy())) for pixels in seen.rgb]


@pytest.mark.parametrize("name", ["lightglue", "nearest"])
def test_views_of_a_world(views: list[Features], name: str) -> None:
    """Neighbours overlap and are verified; views of different sides of the plaza are distinguished."""
    left, right, other = views
    matcher = create_matcher(name, SIFT)
    same, different = (
        classify_overlap(left, right, matcher(left, right)),
        classify_overlap(left, other, matcher(left, other)),
    )
    assert same.worth_verifying and same.probability > 0.9
    assert different.probability < 0.3
