import os
from pathlib import Path

import pytest
from command import run


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LIGHTMATCH_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path / "home"


def test_list_names_licence_and_place(home: Path) -> None:
    out = run("weights", "list").stdout
    for word in ("aliked-n16rot", "BSD-3-Clause", "2.7", str(home / "weights")):
        assert word in out


def test_a_damaged_file_is_found(home: Path) -> None:
    (home / "weights").mkdir(parents=True)
    (home / "weights" / "aliked-t16.pth").write_bytes(b"x")
    assert "delete it and fetch it again" in run("weights", "verify", code=1).stderr


def test_files_by_hand_verify(home: Path, real_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIGHTMATCH_WEIGHTS", os.pathsep.join(["/nowhere", str(real_data / "weights" / "aliked")]))
    out = run("weights", "fetch", "aliked-t16", "aliked-n32").stdout
    assert out.count(str(real_data)) == 2 and not home.exists()


def test_an_unknown_name_lists_those_known() -> None:
    assert "aliked-n16" in run("weights", "fetch", "aliked-n17", code=1).stderr
