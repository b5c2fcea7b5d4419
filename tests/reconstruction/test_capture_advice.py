"""What a set lacks: gaps in the ring, parts that hang on one photo, matches that no third photo sees."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from seen_points import see, verify, write_database

from lightmatch.colmap.models import ModelArrays
from lightmatch.geometry.coordinates import invert_rigid
from lightmatch.reconstruction.diagnostics.capture_advice import (
    advise,
    find_gaps,
    find_weak_links,
    hanging_parts,
    matches_seen_twice,
    ring_centre,
)
from lightmatch.reconstruction.priors.cameras import CameraPriors, IntrinsicsPrior, enter_intrinsics
from lightmatch.scenes import look_at, pinhole

UP = np.array([0.0, 0.0, 1.0])


def ring(angles_deg: list[float], outwards: bool = False) -> ModelArrays:
    angle = torch.tensor(angles_deg, dtype=torch.float64).deg2rad()
    eyes = torch.stack([4 * angle.cos(), 4 * angle.sin(), 1 + 0 * angle], 1)
    poses = look_at(eyes, 2 * eyes if outwards else torch.zeros_like(eyes))
    names = [f"{round(degrees):03}.jpg" for degrees in angles_deg]
    points = np.zeros((0, 3))
    return ModelArrays(names, invert_rigid(poses)[:, :, 3].numpy(), poses[:, :, :3].numpy(), points, points)


def test_the_ring_has_a_centre_unless_cameras_look_away() -> None:
    centre = ring_centre(ring([0, 70, 130, 200, 300]))
    assert centre is not None
    np.testing.assert_allclose(centre, 0, atol=1e-9)
    assert ring_centre(ring([0, 70, 130, 200, 300], outwards=True)) is None
    assert ring_centre(ring([0, 0.1, 0.2])) is None  # all look one way


def test_gaps_are_found_where_matches_do_not_bridge_them() -> None:
    model = ring([*range(0, 100, 20), *range(140, 360, 20)])  # 60° open between 80° and 140°
    (gap,) = find_gaps(model, UP, {})
    assert gap.kind == "gap" and gap.photos == ("080.jpg", "140.jpg")
    assert "60°" in gap.sentence and "take 3 more" in gap.sentence
    assert find_gaps(model, UP, {("080.jpg", "140.jpg"): 99}) == [gap]
    assert find_gaps(model, UP, {("140.jpg", "080.jpg"): 100}) == []
    turned = np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0]])  # the same in a world whose up is y
    other = model._replace(centers=model.centers @ turned.T, rotations=model.rotations @ turned.T)
    assert len(find_gaps(other, turned @ UP, {})) == 1


def test_a_gap_over_the_direction_where_angles_begin_is_bridged_too() -> None:
    """Its width, 360° less a difference, is rounded: the photo at its end must not fall behind that end."""
    steps = (0, 45, 47, 50, 52, 55, 72, 97, 136, 155, 183, 244, 259, 264, 278, 300)
    model = ring([(127.08 + step) % 360 for step in steps])
    ends = (model.names[-1], model.names[0])
    assert ends in [gap.photos for gap in find_gaps(model, UP, {})]
    assert ends not in [gap.photos for gap in find_gaps(model, UP, {ends: 100})]


def test_an_arc_is_no_ring_with_a_gap() -> None:
    assert find_gaps(ring(list(range(0, 181, 20))), UP, {}) == []  # half a circle, before a facade
    open_ring = find_gaps(ring(list(range(0, 280, 20))), UP, {})  # 100° open: may be closed
    assert [gap.photos for gap in open_ring] == [("260.jpg", "000.jpg")]
    assert find_gaps(ring(list(range(0, 360, 20))), UP, {}) == []


def test_what_hangs_on_one_photo() -> None:
    def graph(*edges: str) -> dict[str, set[str]]:
        nodes = sorted({node for edge in edges for node in edge})
        return {n: {a if b == n else b for a, b in edges if n in (a, b)} for n in nodes}

    assert hanging_parts(graph("ab", "bc", "ca")) == {}
    assert hanging_parts(graph("ab", "bc", "ca", "cd")) == {"c": ("d",)}
    assert hanging_parts(graph("ab", "bc", "ca", "cd", "de", "ec")) == {"c": ("d", "e")}
    assert hanging_parts(graph("ab", "bc", "ca", "cd", "de", "ef", "fd")) == {"c": ("a", "b"), "d": ("e", "f")}
    # Whole parts apart do not hang on anyone; the larger part of a root is the rest.
    assert hanging_parts(graph("ab", "cd", "de", "ec")) == {}
    assert hanging_parts(graph("ab", "ac", "ad", "cd")) == {"a": ("b",)}
    chain = {str(n): {str(m) for m in (n - 1, n + 1) if 0 <= m < 5000} for n in range(5000)}
    (largest,) = hanging_parts(chain, 1).values()  # without running out of stack
    assert len(largest) == 2499


def test_hanging_parts_agree_with_taking_photos_away() -> None:
    rng = np.random.default_rng(0)

    def reach(graph: dict[str, set[str]], start: str, without: str) -> set[str]:
        seen, todo = {start}, [start]
        while todo:
            new = graph[todo.pop()] - seen - {without}
            seen |= new
            todo += new
        return seen

    for _ in range(60):
        names = [chr(97 + n) for n in range(9)]
        graph: dict[str, set[str]] = {name: set() for name in names}
        for i, j in np.argwhere(np.triu(rng.random((9, 9)) < 0.22, 1)):
            graph[names[i]].add(names[j])
            graph[names[j]].add(names[i])
        found = hanging_parts(graph)
        for point in names:
            rest = reach(graph, point, "") - {point}
            cuts = any(reach(graph, other, point) != rest for other in rest)
            assert (point in found) == cuts
            if cuts:
                part = set(found[point])
                assert part == set().union(*(reach(graph, node, point) for node in part))
                assert len(part) <= len(rest) / 2


def test_weak_links_count_strong_pairs_only() -> None:
    photos = ["a", "b", "c", "d", "e"]
    strong = {("a", "b"): 90, ("b", "c"): 90, ("a", "c"): 90, ("c", "d"): 30, ("d", "e"): 80, ("a", "outside"): 500}
    links = find_weak_links(photos, {**strong, ("b", "d"): 29})
    assert [link.photos for link in links] == [("c", "d", "e"), ("d", "e")]
    assert "2 photos (d to e) hang on c alone" in links[0].sentence and "e matches only d" in links[1].sentence
    assert find_weak_links(photos, {**strong, ("b", "d"): 30, ("b", "e"): 40}) == []


def test_matches_that_no_third_photo_sees(tmp_path: Path) -> None:
    size = (320, 240)
    K = pinhole(60.0, size).double()
    angles = [math.radians(degrees) for degrees in (0, 12, 24)]
    eyes = torch.tensor([[5 * math.cos(a), 5 * math.sin(a), 1.0] for a in angles], dtype=torch.float64)
    poses = look_at(eyes, torch.zeros_like(eyes))
    common = 0.7 * torch.randn((150, 3), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    seen = see(["a.png", "b.png", "c.png"], poses, K, size, common, share=1.0, noise_px=0.2)
    # c.png loses all but a few of its keypoints' matches.
    few = seen.matches["b.png", "c.png"]
    kept = {("a.png", "b.png"): seen.matches["a.png", "b.png"]}
    kept["b.png", "c.png"] = type(few)(few.indices[:40], few.scores[:40])
    path = write_database(tmp_path, seen._replace(matches=kept), [["a.png", "b.png", "c.png"]])
    enter_intrinsics(path, CameraPriors("k", {"*": (IntrinsicsPrior("SIMPLE_PINHOLE", (float(K[0, 0]), 160, 120)),)}))
    verify(path)
    counts = matches_seen_twice(path, ["a.png", "b.png", "c.png"])
    alone, total = counts["a.png", "b.png"]
    assert total > 130 and total - 41 <= alone <= total - 35
    assert counts["b.png", "c.png"][0] <= 2  # these are in a.png too
    (advice,) = [a for a in advise(ring([0, 12, 24]), UP, {}, counts) if a.kind == "seen twice"]
    assert advice.photos == ("a.png", "b.png") and f"({alone} of {total} matches)" in advice.sentence
    assert matches_seen_twice(path, ["a.png"]) == {}


@pytest.mark.parametrize("count", [1, 2, 3])
def test_few_photos_get_no_nonsense(count: int) -> None:
    assert find_gaps(ring([0.0, 20.0, 40.0][:count]), UP, {}) == []
