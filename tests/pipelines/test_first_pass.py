"""Pairs matched by few keypoints first, and which of them are matched again by all."""

from itertools import combinations
from pathlib import Path

import pytest
import torch
from whole_runs import first_photos

from lightmatch.inputs import find_inputs
from lightmatch.pipelines.output import is_output
from lightmatch.pipelines.reconstruct import ReconstructConfig, first_pass, reconstruct
from lightmatch.pipelines.reconstruct.context import Run
from lightmatch.pipelines.reconstruct.first_pass import expected_share, is_worthwhile, pairs_to_match_again
from lightmatch.pipelines.reconstruct.matching import match_pairs
from lightmatch.pipelines.reconstruct.models import loaded_models
from lightmatch.pipelines.reconstruct.pictures import gather
from lightmatch.reconstruction.disambiguation.find import DoppelgangerReport
from lightmatch.runtime.store import StoredMatches
from lightmatch.types import Matches

Pair = tuple[str, str]


def stored(count: int, probability: float = 1.0) -> StoredMatches:
    matches = Matches(torch.arange(count)[:, None].repeat(1, 2), torch.ones(count))
    return StoredMatches(matches, probability, count >= 8)


def again(counts: dict[Pair, int], num_keypoints: int = 2000) -> frozenset[Pair]:
    names = {name for pair in counts for name in pair}
    return pairs_to_match_again(
        [(pair, stored(count)) for pair, count in counts.items()], dict.fromkeys(names, num_keypoints)
    )


def ring(size: int, reach: int) -> dict[Pair, int]:
    """Matches of all pairs of pictures taken around something; those more than `reach` apart have none."""
    found = {}
    for i, j in combinations(range(size), 2):
        apart = min(j - i, size - j + i)
        found[f"{i:02d}", f"{j:02d}"] = 400 - 20 * apart if apart <= reach else 0
    return found


def test_pictures_with_many_good_partners_keep_the_best() -> None:
    chosen = again(ring(40, 8))
    assert chosen == {pair for pair, count in ring(40, 3).items() if count}  # three on either side


def test_pictures_with_few_good_partners_are_matched_with_all() -> None:
    counts = ring(40, 8)
    for pair in counts:
        if "07" in pair:
            counts[pair] = min(counts[pair], 30)
    chosen = again(counts)
    assert {pair for pair in chosen if "07" in pair} == {pair for pair in counts if "07" in pair}
    assert len(chosen) < 200
    unsure = [(pair, stored(count, 0.5)) for pair, count in counts.items()]
    assert (
        len(pairs_to_match_again(unsure, dict.fromkeys(sorted({name for pair in counts for name in pair}), 999))) == 780
    )


def test_a_pair_that_closes_a_loop_is_matched_by_all() -> None:
    counts = ring(40, 8)
    row = {pair: count if int(pair[1]) - int(pair[0]) <= 8 else 0 for pair, count in counts.items()}
    row["00", "39"], row["01", "38"] = 20, 15  # the walk ends where it began
    chosen = again(row)
    assert ("00", "39") in chosen and ("01", "38") in chosen and len(chosen) < 150
    row["20", "28"] = 30  # no loop: its pictures have good partners in common
    assert ("20", "28") not in again(row)


def test_pictures_of_few_keypoints_are_done() -> None:
    assert not again(ring(40, 8), first_pass.KEYPOINTS)
    assert again(ring(40, 8), first_pass.KEYPOINTS + 1)


def test_it_is_worthwhile_where_pictures_are_in_many_pairs() -> None:
    assert is_worthwhile(17, 136, 2048) and not is_worthwhile(16, 120, 2048) and not is_worthwhile(60, 1770, 512)
    assert expected_share(100, 4950) < 0.3 < expected_share(40, 780) < expected_share(17, 136) < 0.7
    assert expected_share(5, 10) == 1.0


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A first pass for few photos of few keypoints."""
    for name, value in {"KEYPOINTS": 160, "_MANY_PAIRS": 4, "_PARTNERS": 1, "_GOOD_MATCHES": 20}.items():
        monkeypatch.setattr(first_pass, name, value)


CONFIG = ReconstructConfig("sift", max_keypoints=512, guided_keypoints=1024, seed=0, splat=False)


@pytest.mark.usefixtures("small")
def test_good_pairs_are_matched_by_all_keypoints_and_the_others_by_few(scene_photos: Path, tmp_path: Path) -> None:
    photos = first_photos(6, scene_photos, tmp_path / "photos")
    run = Run.of(tmp_path / "out", CONFIG)
    with loaded_models(CONFIG) as models:
        gathered = gather(run, find_inputs([photos], output=run.layout.folder, is_output=is_output), models.extractor)
        pairs = list(combinations([picture.name for picture in gathered.pictures], 2))
        by_all = match_pairs(run, gathered.pictures, pairs, models.matcher)
        matched = match_pairs(run, gathered.pictures, pairs, models.matcher, few_first=True)
    assert by_all.by_few == frozenset() and 0 < len(matched.by_few) < len(pairs) and set(matched.pairs) == set(pairs)
    for pair, found in matched.read():
        same = torch.equal(found.matches.indices, by_all.of(pair).matches.indices)
        assert same if pair not in matched.by_few else bool((found.matches.indices < 160).all())


@pytest.mark.usefixtures("small")
def test_where_places_may_look_alike_all_pairs_are_matched_by_all(
    scene_photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos = first_photos(5, scene_photos, tmp_path / "photos")
    monkeypatch.setattr(first_pass, "KEYPOINTS", 100)
    by_few = reconstruct(photos, tmp_path / "few", CONFIG)
    monkeypatch.setattr(DoppelgangerReport, "is_ambiguous", True)
    by_all = reconstruct(photos, tmp_path / "all", CONFIG)
    assert by_few.num_registered == by_all.num_registered == 5
    counts = [sum(pair.num_matches for pair in each.pairs) for each in (by_few, by_all)]
    assert 0 < 1.1 * counts[0] < counts[1]

    def verified() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in (tmp_path / "all/store/stages").glob("verified*/value.json")}

    before = verified()
    reconstruct(photos, tmp_path / "all", CONFIG, overwrite=True)
    assert verified() == before and len(before) == 2  # of few keypoints and of all: none is made again
