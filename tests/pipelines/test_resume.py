"""A run that was stopped goes on where it was, and ends with the bits of one that was not."""

import errno
import shutil
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from safetensors.torch import save_file
from torch import Tensor

from lightmatch.errors import ReconstructionError
from lightmatch.interchange import read_colmap_keypoints
from lightmatch.matchers import LightGlue
from lightmatch.pipelines.progress import Progress
from lightmatch.pipelines.reconstruct import ReconstructConfig, reconstruct
from lightmatch.reconstruction.mapping.held_out import Comparison
from lightmatch.reconstruction.refinement import steps
from lightmatch.reconstruction.refinement.steps import RematchTrial

CONFIG = ReconstructConfig(max_keypoints=512, guided_keypoints=1024, seed=0)
RESULTS = ("sparse/0/cameras.bin", "sparse/0/images.bin", "sparse/0/points3D.bin", "splat/init.ply", "points.ply")


class Stopping(Progress):
    """Ctrl-C at one step of one stage."""

    def __init__(self, stage: str, at: int) -> None:
        super().__init__()
        self._stage, self._at = stage, at

    @contextmanager
    def show(self, name: str, total: int) -> Generator[Callable[[], None]]:
        left = self._at

        def step() -> None:
            nonlocal left
            left -= 1
            if name == self._stage and left < 0:
                raise KeyboardInterrupt

        if name == self._stage and left == 0:
            raise KeyboardInterrupt
        yield step


@pytest.fixture(scope="module")
def photos(scene_photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("four")
    for number in range(4):
        shutil.copy(scene_photos / f"view_{number}.png", folder)
    return folder


@pytest.fixture(scope="module")
def finished(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("finished") / "out"
    reconstruct(photos, output, CONFIG)
    return output


@pytest.fixture
def again(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "again"))


def written(folder: Path) -> dict[str, int]:
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def test_stopped_in_every_stage(photos: Path, finished: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    stops = [
        ("extract", 2),
        ("match", 1),
        ("verify", 0),
        ("map", 2),
        ("refine", 1),
        ("write", 0),
        ("dense", 3),
        ("splat", 1),
    ]
    before: dict[str, int] = {}
    for stage, at in stops:
        with pytest.raises(KeyboardInterrupt):
            reconstruct(photos, output, CONFIG, progress=Stopping(stage, at))
        kept = written(output / "store/features") | written(output / "store/matches")
        kept |= {name: time for name, time in written(output / "store/stages").items() if name.startswith("mapped-")}
        assert before.items() <= kept.items()  # finished work is never done again
        before = kept
    assert any(name.startswith("mapped-") for name in before)  # refinement starts from the models that are there
    reconstruct(photos, output, CONFIG)
    for name in RESULTS:
        assert (output / name).read_bytes() == (finished / name).read_bytes(), name
    assert not list((output / "store").rglob("*.partial*"))


def test_changed_options_recompute_what_they_must(photos: Path, again: Path) -> None:
    features, matches = again / "store/features", again / "store/matches"
    kept = [written(features), written(matches)]
    reconstruct(photos, again, replace(CONFIG, seed=1, splat=False), overwrite=True)
    assert [written(features), written(matches)] == kept
    assert not (again / "splat").exists()
    reconstruct(photos, again, replace(CONFIG, max_keypoints=256, splat=False), overwrite=True)
    assert written(features) == kept[0]
    assert kept[1].items() < written(matches).items()


def test_matches_of_a_rejected_model_are_not_written(
    photos: Path, again: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def rejected(*_: object) -> RematchTrial:
        return RematchTrial("more points", Comparison(-1.0, -1.0, -1.0), False, "rejected")

    shutil.rmtree(next((again / "store/stages").glob("refined-*")))
    with monkeypatch.context() as patch:
        patch.setattr(steps, "_compared", rejected)
        reconstruct(photos, again, replace(CONFIG, splat=False), overwrite=True)
    for _ in range(2):  # as found by the run itself, and from the cache
        counts = [len(found.xy) for found in read_colmap_keypoints(again / "database.db").values()]
        assert len(counts) == 4 and max(counts) <= CONFIG.max_keypoints
        reconstruct(photos, again, replace(CONFIG, splat=False), overwrite=True)


def test_a_photo_more_costs_its_own_work_alone(photos: Path, again: Path, scene_photos: Path, tmp_path: Path) -> None:
    more = Path(shutil.copytree(photos, tmp_path / "more"))
    shutil.copy(scene_photos / "view_4.png", more)
    kept = written(again / "store/features")
    summary = reconstruct(more, again, replace(CONFIG, splat=False), overwrite=True)
    assert summary.num_registered == 5
    assert len(written(again / "store/features")) == len(kept) + 1
    assert kept.items() < written(again / "store/features").items()


def test_damaged_files_are_made_again(photos: Path, again: Path, finished: Path) -> None:
    for store in ("features", "matches"):
        path = min((again / "store" / store).rglob("*.safetensors"))
        path.write_bytes(path.read_bytes()[:-9])
    (again / "images/view_2.png").write_bytes(b"not a photo any more")
    for stage in (again / "store/stages").glob("verified-*"):
        shutil.rmtree(stage)
    reconstruct(photos, again, CONFIG, overwrite=True)
    for name in RESULTS:
        assert (again / name).read_bytes() == (finished / name).read_bytes(), name


def test_matches_with_a_changed_byte_are_never_left_out(photos: Path, again: Path, finished: Path) -> None:
    path = min((again / "store/matches").rglob("*.safetensors"))
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))  # the header, which says what is there, is whole
    shutil.rmtree(next((again / "store/stages").glob("verified-*")))
    with pytest.raises(ReconstructionError, match="expected their matches in the store, found none or damaged ones"):
        reconstruct(photos, again, CONFIG, overwrite=True)
    reconstruct(photos, again, CONFIG, overwrite=True)
    for name in RESULTS:
        assert (again / name).read_bytes() == (finished / name).read_bytes(), name


def test_other_weights_in_the_same_file_match_again(photos: Path, tmp_path: Path) -> None:
    weights, output = tmp_path / "mine.safetensors", tmp_path / "out"
    config = replace(CONFIG, matcher=f"lightglue:{weights}", splat=False)
    matcher = LightGlue.from_pretrained("sift")
    matcher.save(weights)
    reconstruct(photos, output, config)
    kept = written(output / "store/matches")
    reconstruct(photos, output, config, overwrite=True)
    assert written(output / "store/matches") == kept
    matcher.config = replace(matcher.config, filter_threshold=0.5)
    matcher.save(weights)
    reconstruct(photos, output, config, overwrite=True)
    assert kept.items() < written(output / "store/matches").items()


def test_masks_of_an_earlier_run_are_not_used(photos: Path, tmp_path: Path) -> None:
    output, masks, name = tmp_path / "out", {}, "view_0.png"
    for side in ("left", "right"):
        pixels = np.full((360, 480), 255, np.uint8)
        pixels[:, :40] = 0
        masks[side] = tmp_path / side
        masks[side].mkdir()
        cv2.imwrite(str(masks[side] / f"{name}.png"), pixels if side == "left" else pixels[:, ::-1])

    def mask_after(given: Path | None) -> bytes | None:
        reconstruct(photos, output, replace(CONFIG, masks=given, splat=False), overwrite=True)
        path = output / "masks" / f"{name}.png"
        return path.read_bytes() if path.is_file() else None

    first, second = mask_after(masks["left"]), mask_after(masks["right"])
    assert first is not None and second is not None and first != second
    assert mask_after(masks["left"]) == first  # features are those of the first run, and so must be the mask
    assert mask_after(None) is None


def test_a_full_disk_is_told_and_loses_nothing(
    photos: Path, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output, written_files = tmp_path / "out", 0

    def full(tensors: dict[str, Tensor], path: Path, metadata: dict[str, str]) -> None:
        nonlocal written_files
        written_files += 1
        if written_files > 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        save_file(tensors, path, metadata)

    with monkeypatch.context() as patch:
        patch.setattr("lightmatch.runtime.places.save_file", full)
        with pytest.raises(ReconstructionError, match="its disk is full; make room and start the same command again"):
            reconstruct(photos, output, CONFIG)
    reconstruct(photos, output, CONFIG)
    assert (output / RESULTS[1]).read_bytes() == (finished / RESULTS[1]).read_bytes()
