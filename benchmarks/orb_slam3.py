"""ORB-SLAM3 (Campos et al. 2021) on the sequences of track.py, to compare with.

Usage: pip install pyorbslam3; python benchmarks/orb_slam3.py --data FOLDER --vocabulary-photos FOLDER
It is under the GPL and no dependency of this project: only run here, from its package on PyPI. Its vocabulary is not in
the package, so one of the same kind (Gálvez-López & Tardós 2012; a tree of ORB descriptors with 10 branches, here four
levels instead of six) is trained from photos first. Adds to benchmarks/results/track.json and docs/track.md.
"""

from __future__ import annotations

import argparse
import importlib
import json
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict
from itertools import chain
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pycolmap
from common import RESULTS, describe_machine
from pages import write_page
from track_measure import errors_of_run
from track_sequences import DEPTHS, ONE, Run, plaza_runs, real_runs

from lightmatch.images import is_image_file
from lightmatch.images.walk import list_files
from lightmatch.types import Image

RESULT = RESULTS / "track.json"

_BRANCHES, _LEVELS = 10, 4
_PHOTOS, _PER_PHOTO, _LONG_PX = 400, 500, 960
_DEPTH_SCALE = 1000.0
_FAR = 60.0  # baselines: points beyond are not taken from one pair


def train_vocabulary(photos: list[Path], path: Path) -> None:
    """Write a vocabulary in DBoW2's text format, from at most 400 photos."""
    step = max(1, len(photos) // _PHOTOS)
    descriptors, of_photo = [], []
    orb = cv2.ORB.create(_PER_PHOTO)
    for number, photo in enumerate(photos[::step][:_PHOTOS]):
        grey = cv2.imread(str(photo), cv2.IMREAD_GRAYSCALE)
        if grey is None:
            continue
        scale = min(1.0, _LONG_PX / max(grey.shape))
        grey = cv2.resize(grey, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        _, found = orb.detectAndCompute(grey, None)
        if found is not None:
            descriptors.append(found)
            of_photo.append(np.full(len(found), number))
    bits = np.unpackbits(np.concatenate(descriptors), axis=1).astype(np.float32)
    owner = np.concatenate(of_photo)
    cv2.setRNGSeed(0)
    lines, num_photos = [f"{_BRANCHES} {_LEVELS} 0 0"], len(descriptors)
    level = [(0, np.arange(len(bits)))]  # node, descriptors below it
    for depth in range(1, _LEVELS + 1):
        below = []
        for parent, rows in level:
            for center, own in _split(bits, rows):
                is_leaf = depth == _LEVELS or len(own) <= 1
                weight = np.log(num_photos / len(np.unique(owner[own]))) if is_leaf else 0.0
                values = " ".join(map(str, np.packbits(center > 0.5).tolist()))
                lines.append(f"{parent} {int(is_leaf)} {values} {weight:.6g}")
                if not is_leaf:
                    below.append((len(lines) - 1, own))
        level = below
    path.write_text("\n".join(lines) + "\n")


def _split(bits: np.ndarray, rows: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Clusters of descriptors: the centre (256,) and the rows of each."""
    count = min(_BRANCHES, len(rows))
    if count <= 1:
        yield from ((bits[row], rows[[place]]) for place, row in enumerate(rows))
        return
    stop = (cv2.TERM_CRITERIA_MAX_ITER, 10, 0.0)
    _, labels, centers = cv2.kmeans(bits[rows], count, None, stop, 1, cv2.KMEANS_PP_CENTERS)  # type: ignore[call-overload]
    for label in range(count):
        own = rows[labels[:, 0] == label]
        if len(own):
            yield centers[label], own


def settings(run: Run) -> str:
    """Its file of settings: those of its own examples, in their older form, in which rectified pairs do not end it."""
    (fx, _, cx), (_, fy, cy), _ = run.camera.K.tolist()
    width, height = run.camera.image_size
    rate = round(1 / float(np.median(np.diff(run.times))))
    lines = [
        "%YAML:1.0",
        'Camera.type: "PinHole"',
        *(f"Camera.{name}: {value:.6f}" for name, value in (("fx", fx), ("fy", fy), ("cx", cx), ("cy", cy))),
        *(f"Camera.{name}: 0.0" for name in ("k1", "k2", "p1", "p2")),
        f"Camera.width: {width}",
        f"Camera.height: {height}",
        f"Camera.fps: {max(rate, 1)}.0",
        "Camera.RGB: 1",
        f"ORBextractor.nFeatures: {1000 if run.kind == ONE else 1200}",
        "ORBextractor.scaleFactor: 1.2",
        "ORBextractor.nLevels: 8",
        "ORBextractor.iniThFAST: 20",
        "ORBextractor.minThFAST: 7",
        *(f"Viewer.{name}: {value}" for name, value in _VIEWER.items()),
    ]
    if run.camera.baseline is not None:
        lines += [f"Camera.bf: {fx * run.camera.baseline:.6f}", f"ThDepth: {_FAR}"]
    if run.kind == DEPTHS:
        lines.append(f"DepthMapFactor: {_DEPTH_SCALE}")
    return "\n".join(lines) + "\n"


_VIEWER = {
    "KeyFrameSize": 0.05,
    "KeyFrameLineWidth": 1.0,
    "GraphLineWidth": 0.9,
    "PointSize": 2.0,
    "CameraSize": 0.08,
    "CameraLineWidth": 3.0,
    "ViewpointX": 0.0,
    "ViewpointY": -0.7,
    "ViewpointZ": -1.8,
    "ViewpointF": 500.0,
}


def measure_orb_slam3(run: Run, vocabulary: Path) -> dict[str, Any]:
    """A row of the table: poses as it gave them, and as its map has them at the end. Frames come at their own pace."""
    orb = importlib.import_module("pyorbslam3")
    sensor = {ONE: orb.Sensor.MONOCULAR, DEPTHS: orb.Sensor.RGBD}.get(run.kind, orb.Sensor.STEREO)
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch, "settings.yaml")
        file.write_text(settings(run))
        slam = orb.Slam(vocabulary, file, sensor)
        live, seconds, times = [], [], run.times - run.times[0]
        started = time.perf_counter()
        for number, (frame, moment) in enumerate(zip(run.frames, times, strict=True)):
            time.sleep(max(0.0, moment - (time.perf_counter() - started)))
            image = _pixels(frame.image)
            begun = time.perf_counter()
            if run.kind == ONE:
                found = slam.track_monocular(image, float(moment))
            elif run.kind == DEPTHS:
                depth = np.zeros(image.shape[:2], np.float32) if frame.depth is None else frame.depth
                found = slam.track_rgbd(image, (_DEPTH_SCALE * depth).astype(np.float32), float(moment))
            else:
                found = slam.track_stereo(image, _pixels(frame.right), float(moment))
            seconds.append(time.perf_counter() - begun)
            if found.pose_valid:
                live.append((number, np.array(found.pose_cw, np.float64)[:3]))
        slam.shutdown()
        end = _at_the_end(slam, run, times, Path(scratch, "trajectory.txt")) if live else []
    milliseconds = 1000 * np.array(seconds)
    return {
        "name": run.name,
        "kind": run.kind,
        "num_frames": len(run.frames),
        "tracked": len(live) / len(run.frames),
        "milliseconds": [float(np.median(milliseconds)), float(np.percentile(milliseconds, 95))],
        "frames_per_second": len(run.frames) / float(milliseconds.sum() / 1000),
        "walked_m": run.walked_m,
        **asdict(errors_of_run(run, end, run.is_metric)),
        "live_ate_m": errors_of_run(run, live, run.is_metric).ate_m,
    }


def _at_the_end(slam: Any, run: Run, times: np.ndarray, path: Path) -> list[tuple[int, np.ndarray]]:
    """Frame and cam_from_world (3, 4), as its largest map has them: of all frames, with one camera of keyframes."""
    save = slam.save_keyframe_trajectory_tum if run.kind == ONE else slam.save_trajectory_tum
    save(str(path))
    poses = []
    for time_s, *numbers in np.loadtxt(path, ndmin=2).tolist():
        world_from_cam = pycolmap.Rigid3d(pycolmap.Rotation3d(np.array(numbers[3:])), np.array(numbers[:3]))
        poses.append((int(np.abs(times - time_s).argmin()), np.array(world_from_cam.inverse().matrix())))
    return poses


def _pixels(image: Image | None) -> np.ndarray:
    assert image is not None
    return np.ascontiguousarray(image.pixels)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the evaluation sets")
    parser.add_argument("--vocabulary-photos", type=Path, required=True, help="folder of photos to train it from")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "lightmatch-benchmark-track")
    arguments = parser.parse_args()
    vocabulary = arguments.work / "vocabulary.txt"
    if not vocabulary.is_file():
        vocabulary.parent.mkdir(parents=True, exist_ok=True)
        train_vocabulary([p for p in list_files(arguments.vocabulary_photos) if is_image_file(p)], vocabulary)
    rows = []
    for run in chain(real_runs(arguments.data), plaza_runs()):
        rows.append(measure_orb_slam3(run, vocabulary))
        print(rows[-1], flush=True)
    results = json.loads(RESULT.read_text(encoding="utf-8"))
    results["orb_slam3"] = {"machine": describe_machine(), "rows": rows}
    RESULT.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    write_page("track")


if __name__ == "__main__":
    main()
