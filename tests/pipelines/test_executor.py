"""Jobs can leave the process: what a spawned one finds is the same, to the bit, as what threads find."""

import multiprocessing
import shutil
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import TypeVar

import pytest
import torch

from lightmatch.colmap.database_files import read_colmap_verified
from lightmatch.inputs import find_inputs
from lightmatch.pipelines.output import is_output
from lightmatch.pipelines.reconstruct import ReconstructConfig
from lightmatch.pipelines.reconstruct.context import Run
from lightmatch.pipelines.reconstruct.matching import match_pairs
from lightmatch.pipelines.reconstruct.models import loaded_models
from lightmatch.pipelines.reconstruct.pictures import FeaturesByName, gather
from lightmatch.pipelines.reconstruct.verification import verify_pairs
from lightmatch.runtime.executor import Executor, Sequential, Threads
from lightmatch.runtime.threads import num_threads, use_threads

I = TypeVar("I")  # noqa: E741
R = TypeVar("R")

CONFIG = ReconstructConfig(max_keypoints=256, guided_keypoints=0, seed=0)


class SpawnedProcess:
    """Each job in one other process, which has nothing but what is pickled."""

    def map(self, job: Callable[[I], R], items: Iterable[I], most: int = 1) -> Generator[R, None, None]:
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(1, context, initializer=use_threads, initargs=(1,)) as pool:
            yield from pool.map(job, items)


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
    folder = tmp_path_factory.mktemp("two")
    for number in range(2):
        shutil.copy(scene_photos / f"view_{number}.png", folder)
    return folder


@pytest.mark.parametrize("executor", [SpawnedProcess(), Sequential()], ids=["process", "sequential"])
def test_every_executor_finds_the_same_bits(executor: Executor, photos: Path, tmp_path: Path) -> None:
    threads = found_by(Threads(), photos, tmp_path / "threads")
    others = found_by(executor, photos, tmp_path / "others")
    assert len(threads[4]) > 50 and len(threads[6]) > 50  # matches, and those that agree with one geometry
    for ours, theirs in zip(threads, others, strict=True):
        assert torch.equal(ours, theirs)


def test_work_done_in_a_process_is_not_done_again(photos: Path, tmp_path: Path) -> None:
    found_by(SpawnedProcess(), photos, tmp_path)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "store").rglob("*.safetensors")}
    found_by(Threads(), photos, tmp_path)
    assert len(before) == 3
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "store").rglob("*.safetensors")}


def test_a_photo_that_cannot_be_read_is_left_out_by_a_process_too(photos: Path, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    shutil.copytree(photos, folder)
    (folder / "view_1.png").write_bytes(b"no picture")
    run = Run.of(tmp_path / "out", CONFIG, executor=SpawnedProcess())
    with loaded_models(CONFIG) as models:
        gathered = gather(run, find_inputs([folder], output=run.layout.folder, is_output=is_output), models.extractor)
    assert [picture.name for picture in gathered.pictures] == ["view_0.png"]
