"""Doppelgängers: which pairs of photos of places that look alike are dropped, and what that does to the model.

Usage: python benchmarks/disambiguation.py --cache FOLDER [--ordinary NAME=RUN …] [--only CASE …]

Scenes with copies are rendered, matched and verified once, into the cache. A pair is false where less than half of its
verified matches lead to the same point of the scene by true depth and pose. RUN: output folders of
`lightmatch reconstruct` on ordinary photos, where nothing should be dropped; without any, the earlier ones stay.
Writes benchmarks/results/disambiguation.json and the tables of docs/disambiguation.md.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sqlite3
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from common import describe_machine, fill_table
from pages import write_page
from torch import Tensor

from lightmatch.colmap.database_files import read_colmap_verified
from lightmatch.extractors import create_extractor
from lightmatch.geometry.alignment import Similarity, align_points
from lightmatch.geometry.coordinates import compose_rigid, invert_rigid, pixels_from_colmap, rotation_angle_deg
from lightmatch.geometry.depth import warp_with_depth
from lightmatch.images import load_image
from lightmatch.matchers import Matcher, create_matcher
from lightmatch.pairing import classify_overlap, exhaustive, share_images
from lightmatch.pipelines.reconstruct import first_pass
from lightmatch.pipelines.reconstruct.summary import read_summary
from lightmatch.reconstruction import MatchDatabase, map_incrementally, model_arrays
from lightmatch.reconstruction.disambiguation.find import DoppelgangerReport, drop_pairs, find_doppelgangers
from lightmatch.runtime.store import StoredMatches
from lightmatch.runtime.threads import use_threads
from lightmatch.scenes.doppelgangers import DoppelgangerKind, doppelganger_scene
from lightmatch.types import Features, Matches

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "disambiguation.json"
MAX_KEYPOINTS = 1024
TRUE_ERROR_PX = 5.0
FEW_MATCHES = 30  # COLMAP places no photo by fewer
MISPLACED = 0.1  # of the extent of the true cameras


class Case(NamedTuple):
    """One scene of the benchmark."""

    kind: DoppelgangerKind
    seed: int
    num_views: int
    num_landmarks: int

    @property
    def name(self) -> str:
        """Such as pavilion-0-20-8."""
        return f"{self.kind}-{self.seed}-{self.num_views}-{self.num_landmarks}"


CASES = (
    Case("pavilion", 0, 20, 8),
    Case("islands", 0, 20, 8),
    Case("tower", 0, 20, 8),
    Case("street", 0, 18, 7),
    Case("colonnade", 0, 18, 8),
    Case("plaza", 0, 16, 4),
    Case("facades", 0, 16, 6),
    Case("street", 1, 18, 5),
    Case("pavilion", 1, 20, 8),
    Case("islands", 1, 20, 8),
    Case("tower", 1, 20, 8),
    Case("colonnade", 1, 18, 8),
)


def prepare(case: Case, folder: Path) -> None:
    """Photos, truth and verified matches of a scene, made once."""
    if (folder / "prepared.json").exists():
        return
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "images").mkdir(parents=True)
    scene = doppelganger_scene(case.kind, case.seed, case.num_views, num_landmarks=case.num_landmarks)
    names = [f"{number:02d}.png" for number in range(case.num_views)]
    for name, pixels in zip(names, scene.rgb, strict=True):
        cv2.imwrite(str(folder / "images" / name), pixels.numpy()[..., ::-1])
    np.savez_compressed(folder / "truth.npz", K=scene.K, cam_from_world=scene.cam_from_world, depth=scene.depth)
    extractor = create_extractor("sift", max_keypoints=MAX_KEYPOINTS)
    matcher = create_matcher("lightglue", extractor.kind)
    features = {name: extractor(load_image(folder / "images" / name)) for name in names}
    pairs = [(names[i], names[j]) for i, j in exhaustive(len(names))]
    start = time.perf_counter()
    matches = _match(matcher, features, pairs)
    seconds = time.perf_counter() - start
    few = {name: found.strongest(first_pass.KEYPOINTS) for name, found in features.items()}
    first = _match(matcher, few, pairs)
    stored = [
        (pair, StoredMatches(found, overlap.probability, overlap.worth_verifying))
        for pair, found in first.items()
        for overlap in [classify_overlap(few[pair[0]], few[pair[1]], found)]
    ]
    again = first_pass.pairs_to_match_again(stored, {name: len(found) for name, found in features.items()})
    in_two_passes = {pair: (matches if pair in again else first)[pair] for pair in pairs}
    for database, found in {"database.db": matches, "two_passes.db": in_two_passes}.items():
        made = MatchDatabase(folder / database, folder / "images", [names], "SIMPLE_RADIAL")
        made.write(features, found.items())
        made.verify(seed=0)
    by_few = sorted(set(pairs) - again)
    (folder / "prepared.json").write_text(json.dumps({"match_seconds": round(seconds, 2), "by_few": by_few}))


def _match(
    matcher: Matcher, features: dict[str, Features], pairs: list[tuple[str, str]]
) -> dict[tuple[str, str], Matches]:
    matches = {}
    for block in share_images(pairs, 4):
        found = matcher.match_batch([(features[first], features[second]) for first, second in block])
        matches |= dict(zip(block, found, strict=True))
    return matches


class Truth(NamedTuple):
    """What the renderer knows of b views."""

    K: Tensor
    cam_from_world: Tensor
    depth: Tensor

    @classmethod
    def read(cls, folder: Path) -> Truth:
        """From truth.npz."""
        with np.load(folder / "truth.npz") as file:
            return cls(*(torch.from_numpy(file[name]) for name in cls._fields))

    def true_share(self, view0: int, view1: int, points0: Tensor, points1: Tensor) -> float:
        """Part of matches (k, 2) px that lead to one point of the scene."""
        cam1_from_cam0 = compose_rigid(self.cam_from_world[view1], invert_rigid(self.cam_from_world[view0]))
        depths = (self.depth[view0], self.K[view0], self.depth[view1], self.K[view1])
        warped, _ = warp_with_depth(points0, *depths, cam1_from_cam0)
        return float(((warped - points1).norm(dim=1) < TRUE_ERROR_PX).float().mean())


def label_pairs(database: Path, truth: Truth) -> dict[tuple[str, str], tuple[int, float]]:
    """Number of verified matches and the part of them that is true, by pair of names."""
    keypoints = _keypoints(database)
    labels = {}
    for (name0, name1), pair in read_colmap_verified(database).items():
        index = pair.matches.indices
        if name0 > name1 or not len(index):  # pairs are read in either order
            name0, name1, index = name1, name0, index.flip(1)
        if len(index) and (name0, name1) not in labels:
            views = (int(Path(name0).stem), int(Path(name1).stem))
            ends = (keypoints[name0][index[:, 0]], keypoints[name1][index[:, 1]])
            labels[name0, name1] = (len(index), truth.true_share(*views, *ends))
    return labels


def _keypoints(database: Path) -> dict[str, Tensor]:
    with sqlite3.connect(database) as opened:
        rows = opened.execute("SELECT name, rows, cols, data FROM images JOIN keypoints USING (image_id)").fetchall()
    return {
        name: pixels_from_colmap(torch.from_numpy(np.frombuffer(data, np.float32).reshape(rows, columns)[:, :2].copy()))
        for name, rows, columns, data in rows
    }


def score_pairs(report: DoppelgangerReport, labels: dict[tuple[str, str], tuple[int, float]]) -> dict[str, Any]:
    """How right the dropped pairs are, of all pairs and of those with enough matches to place a photo."""
    dropped = set(report.dropped)
    scores: dict[str, Any] = {}
    for key, least in (("all", 0), ("strong", FEW_MATCHES)):
        kept = {pair: share for pair, (count, share) in labels.items() if count >= least}
        false = {pair for pair, share in kept.items() if share < 0.5}
        hit, lost = len(dropped & false), len(dropped & (kept.keys() - false))
        scores[key] = {
            "pairs": len(kept),
            "false": len(false),
            "dropped": hit + lost,
            "true_dropped": lost,
            "precision": round(hit / (hit + lost), 4) if hit + lost else None,
            "recall": round(hit / len(false), 4) if false else None,
        }
    direct = [pair.names for pair in report.suspicious if pair.drop and pair.direct]
    scores["direct"] = {"dropped": len(direct), "true_dropped": sum(labels[pair][1] >= 0.5 for pair in direct)}
    return scores


def map_and_score(database: Path, images: Path, truth: Truth) -> dict[str, Any]:
    """Models of a database and how near the cameras of the first are to the truth."""
    models = map_incrementally(database, images, seed=0)
    num_views = len(truth.K)
    everywhere = {name for model in models for name in model_arrays(model).names}
    result: dict[str, Any] = {
        "models": len(models),
        "registered_first": models[0].num_reg_images() if models else 0,
        "registered_any": len(everywhere),
        "of": num_views,
    }
    worst: list[float] = []
    for model in models:
        found = model_arrays(model)
        views = [int(Path(name).stem) for name in found.names]
        true_centres = invert_rigid(truth.cam_from_world.double())[:, :, 3]
        extent = float((true_centres.amax(0) - true_centres.amin(0)).norm())
        similarity = _robust_alignment(torch.from_numpy(found.centers), true_centres[views], 0.05 * extent)
        off = (similarity.apply(torch.from_numpy(found.centers)) - true_centres[views]).norm(dim=1) / extent
        turned = torch.from_numpy(found.rotations) @ similarity.rotation.mT
        angles = rotation_angle_deg(turned, truth.cam_from_world[views, :, :3].double())
        if not worst:
            result |= {
                "median_position_percent": round(100 * float(off.median()), 3),
                "max_position_percent": round(100 * float(off.max()), 3),
                "max_rotation_deg": round(float(angles.max()), 3),
            }
        worst.append(float((off > MISPLACED).sum()))
    result["misplaced"] = int(sum(worst))
    result["folded"] = result["misplaced"] > 0
    return result


def _robust_alignment(source: Tensor, target: Tensor, near: float) -> Similarity:
    """The similarity under which most points come near their targets, fitted to those."""
    generator = torch.Generator().manual_seed(0)
    best, most = align_points(source, target), -1
    for _ in range(300):
        chosen = torch.randperm(len(source), generator=generator)[:3]
        if float((target[chosen][0] - target[chosen][1:]).norm(dim=1).min()) < 1e-6:
            continue
        similarity = align_points(source[chosen], target[chosen])
        inside = (similarity.apply(source) - target).norm(dim=1) < near
        if int(inside.sum()) > max(most, 3):
            best, most = align_points(source[inside], target[inside]), int(inside.sum())
    return best


def run_case(case: Case, folder: Path) -> dict[str, Any]:
    """Everything about one scene."""
    truth = Truth.read(folder)
    labels = label_pairs(folder / "database.db", truth)
    start = time.perf_counter()
    report = find_doppelgangers(folder / "database.db")
    seconds = time.perf_counter() - start
    prepared = json.loads((folder / "prepared.json").read_text())
    by_few = dict.fromkeys(map(tuple, prepared["by_few"]), first_pass.KEYPOINTS)
    result: dict[str, Any] = {
        **case._asdict(),
        "seconds": round(seconds, 2),
        "match_seconds": prepared["match_seconds"],
        "told_in_two_passes": find_doppelgangers(folder / "two_passes.db", by_few).is_ambiguous,
        "pairs": score_pairs(report, labels),
    }
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        checked = Path(scratch) / "database.db"
        shutil.copy(folder / "database.db", checked)
        result["without"] = map_and_score(checked, folder / "images", truth)
        drop_pairs(checked, report.dropped)
        result["with"] = map_and_score(checked, folder / "images", truth)
    return result


def run_ordinary(named: str) -> dict[str, Any]:
    """How many pairs of ordinary photos are dropped: should be none."""
    name, _, path = named.partition("=")
    # Before pairs are matched again by the model's poses; of all keypoints, or else of few.
    folder = min(Path(path, "store", "stages").glob("verified*-*"))
    start = time.perf_counter()
    report = find_doppelgangers(folder / "database.db")
    seconds = time.perf_counter() - start
    before = read_summary(Path(path)).doppelgangers  # dropped by the run: no longer verified in the database
    return {
        "name": name,
        "pairs": report.num_pairs + len(before),
        "classified": report.num_classified,
        "suspicious": len(report.suspicious),
        "dropped": len(report.dropped) + len(before),
        "seconds": round(seconds, 2),
    }


def scene_table(results: dict[str, Any]) -> list[str]:
    """Lines of Markdown: decisions on pairs of 30 matches or more, and models before and after."""
    lines = [
        "| scene | false of verified pairs | dropped | true ones among them | precision | recall"
        " | misplaced before | after | seconds | seen by few keypoints |",
        "|---|" + "---:|" * 9,
    ]
    for name, run in results["scenes"].items():
        pairs = run["pairs"]["strong"]
        percent = ["–" if pairs[key] is None else f"{100 * pairs[key]:.0f} %" for key in ("precision", "recall")]
        models = [f"{run[key]['misplaced']} of {run[key]['registered_any']}" for key in ("without", "with")]
        lines.append(
            f"| {name} | {pairs['false']} of {pairs['pairs']} | {pairs['dropped']} | {pairs['true_dropped']}"
            f" | {' | '.join(percent)} | {' | '.join(models)} | {run['seconds']:.1f}"
            f" | {'yes' if run['told_in_two_passes'] else 'no'} |"
        )
    return lines


def ordinary_table(results: dict[str, Any]) -> list[str]:
    """Lines of Markdown: photos of ordinary places."""
    lines = ["| photos | verified pairs | decided by missing points | dropped |", "|---|---:|---:|---:|"]
    return lines + [
        f"| {run['name']} | {run['pairs']} | {run['classified']} | {run['dropped']} |" for run in results["ordinary"]
    ]


def page(text: str, results: dict[str, Any]) -> str:
    """docs/disambiguation.md with its tables from disambiguation.json."""
    text = fill_table(text, "scenes: benchmarks/disambiguation.py", scene_table(results))
    return fill_table(text, "ordinary: benchmarks/disambiguation.py", ordinary_table(results))


def main() -> None:
    """Prepare, classify, map, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--ordinary", nargs="*", metavar="NAME=RUN", default=[])
    parser.add_argument("--only", nargs="*", default=[])
    arguments = parser.parse_args()
    use_threads(1)
    results: dict[str, Any] = {"machine": describe_machine(), "scenes": {}, "ordinary": []}
    if RESULTS.exists() and not arguments.ordinary:
        old = json.loads(RESULTS.read_text())
        results |= {"ordinary": old["ordinary"], "ordinary_machine": old.get("ordinary_machine", old["machine"])}
    for folder in arguments.ordinary:
        results["ordinary"].append(run_ordinary(folder))
        print(results["ordinary"][-1], flush=True)
    for case in CASES:
        if arguments.only and case.name not in arguments.only:
            continue
        prepare(case, arguments.cache / case.name)
        results["scenes"][case.name] = run = run_case(case, arguments.cache / case.name)
        print(case.name, json.dumps({key: run[key] for key in ("pairs", "without", "with")}), flush=True)
        if not arguments.only:
            RESULTS.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    if not arguments.only:
        write_page("disambiguation")


if __name__ == "__main__":
    main()
