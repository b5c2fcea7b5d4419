"""Jobs can leave the process: what a spawned one finds is the same, to the bit, as what threads find."""

import multiprocessing
import shutil
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
import pytest
import torch
from stand_in_vismatch import SiftOfImagesSource
from whole_runs import first_photos, written_by

from lightmatch.colmap.database_files import read_colmap_verified
from lightmatch.inputs import find_inputs
from lightmatch.pipelines.output import is_output
from lightmatch.pipelines.reconstruct import ReconstructConfig
from lightmatch.pipelines.reconstruct.context import Run
from lightmatch.pipelines.reconstruct.image_matching import match_images
from lightmatch.pipelines.reconstruct.matching import match_pairs
from lightmatch.pipelines.reconstruct.models import loaded_models
from lightmatch.pipelines.reconstruct.pictures import FeaturesByName, gather
from lightmatch.pipelines.reconstruct.verification import verify_pairs
from lightmatch.runtime.executor import Executor, Sequential, Threads
from lightmatch.runtime.threads import num_threads, use_threads

I = TypeVar("I")  # noqa: E741
R = TypeVar("R")

CONFIG = ReconstructConfig("sift", max_keypoints=256, guided_keypoints=0, seed=0)


class SpawnedProcess:
    """Each job in one other process, which has nothing but what is pickled."""

    def __init__(self, pool: ProcessPoolExecutor) -> None:
        self.pool = pool
        self.jobs: list[str] = []

    def map(self, job: Callable[[I], R], items: Iterable[I], most: int = 1) -> Generator[R, None, None]:
        self.jobs.append(job.func.__name__ if isinstance(job, partial) else job.__name__)
        yield from self.pool.map(job, items)


@pytest.fixture(scope="module")
def pool() -> Iterator[ProcessPoolExecutor]:
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, context, initializer=use_threads, initargs=(1,)) as pool:
        yield pool


@pytest.fixture
def process(pool: ProcessPoolExecutor) -> SpawnedProcess:
    return SpawnedProcess(pool)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = num_threads()
    use_threads(1)
    yield
    use_threads(before)


def found_by(executor: Executor, photos: Path, output: Path) -> list[torch.Tensor]:
    """Features, matches and two-view geometry of the photos of a folder."""
    run = Run.of(output, CONFIG, executor=executor)
    with loaded_models(CONFIG) as models:
        gathered = gather(run, find_inputs([photos], output=output, is_output=is_output), models.extractor)
        pair = ("view_0.png", "view_1.png")
        assert tuple(picture.name for picture in gathered.pictures) == pair
        matched = match_pairs(run, gathered.pictures, [pair], models.matcher)
    verified = verify_pairs(run, gathered.pictures, matched, None)
    geometry = read_colmap_verified(verified.database)[pair]
    features = FeaturesByName.of(run, gathered.pictures)
    tensors = [part for name in pair for part in (features[name].keypoints, features[name].descriptors)]
    tensors += [matched.of(pair).matches.indices, matched.of(pair).matches.scores]
    return [*tensors, geometry.matches.indices, geometry.geometry.matrix, geometry.geometry.inliers]


@pytest.fixture(scope="module")
def photos(scene_photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return first_photos(2, scene_photos, tmp_path_factory.mktemp("two"))


def test_every_executor_finds_the_same_bits(process: SpawnedProcess, photos: Path, tmp_path: Path) -> None:
    threads = found_by(Threads(), photos, tmp_path / "threads")
    assert len(threads[4]) > 50 and len(threads[6]) > 50  # matches, and those that agree with one geometry
    for executor in (process, Sequential()):
        others = found_by(executor, photos, tmp_path / type(executor).__name__)
        for ours, theirs in zip(threads, others, strict=True):
            assert torch.equal(ours, theirs)


def test_images_are_matched_in_a_process_too(process: SpawnedProcess, photos: Path, tmp_path: Path) -> None:
    found = []
    for executor in (Threads(), process):
        run = Run.of(tmp_path / type(executor).__name__, CONFIG, executor=executor)
        with loaded_models(CONFIG, matching=False) as models:
            gathered = gather(run, find_inputs([photos], output=tmp_path, is_output=is_output), models.extractor)
        pair = ("view_0.png", "view_1.png")
        pictures, matched = match_images(run, gathered.pictures, [pair], SiftOfImagesSource())
        features = FeaturesByName.of(run, pictures)
        found.append([matched.of(pair).matches.indices, *(features[name].keypoints for name in pair)])
    assert process.jobs[-1] == "match_image_pair" and len(found[0][0]) > 50
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(*found, strict=True))


def test_panoramas_are_cut_in_a_process_too(process: SpawnedProcess, tmp_path: Path) -> None:
    folder, config = tmp_path / "photos", replace(CONFIG, panorama="yes")
    folder.mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (128, 256, 3), np.uint8)
    cv2.imwrite(str(folder / "around.png"), noise)
    found = []
    for executor in (Threads(), process):
        run = Run.of(tmp_path / type(executor).__name__, config, executor=executor)
        with loaded_models(config, matching=False) as models:
            gather(run, find_inputs([folder], output=tmp_path / "out", is_output=is_output), models.extractor)
        views = sorted(path for path in run.layout.images.rglob("*") if path.is_file())
        found.append([(path.relative_to(run.layout.images), path.read_bytes()) for path in views])
    assert process.jobs[0] == "cut_panorama" and len(found[0]) >= 6
    assert found[0] == found[1]


def test_a_process_writes_the_same_model_and_dense_cloud(
    process: SpawnedProcess, scene_photos: Path, tmp_path: Path
) -> None:
    photos = first_photos(4, scene_photos, tmp_path / "photos")
    threads = written_by(Threads(), photos, tmp_path / "threads")
    assert sum(name.endswith(".geometric.bin") for name in threads) == 4
    assert {"sparse/0/points3D.bin", "splat/init.ply", "matches of view_0.png and view_1.png"} <= set(threads)
    others = written_by(process, photos, tmp_path / "process")
    geometry = {"extract_picture", "match_block", "verify_block", "rematch_pair"}
    assert set(process.jobs) == geometry | {"find_depth", "fuse_view", "write_splat_image"}
    assert threads.keys() == others.keys()
    assert [name for name, content in threads.items() if others[name] != content] == []


def test_work_done_in_a_process_is_not_done_again(process: SpawnedProcess, photos: Path, tmp_path: Path) -> None:
    found_by(process, photos, tmp_path)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "store").rglob("*.safetensors")}
    found_by(Threads(), photos, tmp_path)
    assert len(before) == 3
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "store").rglob("*.safetensors")}


def test_a_photo_that_cannot_be_read_is_left_out_by_a_process_too(
    process: SpawnedProcess, photos: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "photos"
    shutil.copytree(photos, folder)
    (folder / "view_1.png").write_bytes(b"no picture")
    run = Run.of(tmp_path / "out", CONFIG, executor=process)
    with loaded_models(CONFIG) as models:
        gathered = gather(run, find_inputs([folder], output=run.layout.folder, is_output=is_output), models.extractor)
    assert [picture.name for picture in gathered.pictures] == ["view_0.png"]


def test_other_machines_find_every_file_by_its_absolute_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.pth").touch()
    given = ReconstructConfig(
        "xfeat:x.pt", matcher="lightglue:mine.pth,full@0.8", masks=Path("masks"), known=Path("known.json")
    )
    config = given.with_absolute_paths()
    assert config.features == f"xfeat:{tmp_path}/x.pt"
    assert ReconstructConfig("sift").with_absolute_paths().features == "sift"
    assert config.matcher == f"lightglue:{tmp_path}/mine.pth,full@0.8" and config.matcher_file == tmp_path / "mine.pth"
    assert (config.masks, config.known) == (tmp_path / "masks", tmp_path / "known.json")
    for named in ("lightglue,full", "nearest:0.8"):
        assert ReconstructConfig(matcher=named).with_absolute_paths() == ReconstructConfig(matcher=named)
