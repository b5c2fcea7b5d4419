"""Finished stages are there again, unfinished ones never; and a folder is worked in by one run alone."""

from pathlib import Path

import pytest
from filelock import FileLock

from lightmatch.errors import ReconstructionError
from lightmatch.pipelines.output import is_output, resumable_output
from lightmatch.runtime.stages import Stages


def test_values_are_made_once_for_a_key(tmp_path: Path) -> None:
    made = []

    def make() -> dict[str, object]:
        made.append(1)
        return {"numbers": (1, 2), "name": "фото"}

    stages = Stages(tmp_path)
    assert (
        stages.values("pairs", "a" * 64, make)
        == stages.values("pairs", "a" * 64, make)
        == {
            "numbers": [1, 2],
            "name": "фото",
        }
    )
    assert len(made) == 1
    stages.values("pairs", "b" * 64, make)
    assert len(made) == 2 and len(list(tmp_path.iterdir())) == 1  # the older one is forgotten


def test_damaged_values_are_made_again(tmp_path: Path) -> None:
    stages = Stages(tmp_path)
    stages.values("pairs", "a" * 64, lambda: [1])
    (path,) = tmp_path.iterdir()
    path.write_text("[1")
    assert stages.values("pairs", "a" * 64, lambda: [2]) == [2]


def test_a_folder_is_whole_or_made_again(tmp_path: Path) -> None:
    stages = Stages(tmp_path)

    def fail(folder: Path) -> None:
        (folder / "half").write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stages.folder_of("mapped", "a" * 64, fail)
    whole = stages.folder_of("mapped", "a" * 64, lambda folder: (folder / "model").touch())
    assert [path.name for path in whole.iterdir()] == ["model"]
    assert stages.folder_of("mapped", "a" * 64, fail) == whole
    stages.forget("mapped")
    with pytest.raises(KeyboardInterrupt):
        stages.folder_of("mapped", "a" * 64, fail)


def test_one_run_works_in_a_folder(tmp_path: Path) -> None:
    with (
        resumable_output(tmp_path / "out", overwrite=False),
        pytest.raises(ReconstructionError, match="that no other run works in, one does"),
        resumable_output(tmp_path / "out", overwrite=True),
    ):
        pass
    assert is_output(tmp_path / "out")


def test_a_run_that_died_holds_no_lock(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), resumable_output(tmp_path / "out", overwrite=False):
        raise ZeroDivisionError
    with resumable_output(tmp_path / "out", overwrite=False):  # unfinished: goes on without being told
        assert FileLock(tmp_path / "out" / ".lightmatch.lock").lock_file
    with (
        pytest.raises(ReconstructionError, match="results of an earlier run"),
        resumable_output(tmp_path / "out", False),
    ):
        pass
