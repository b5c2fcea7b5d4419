import hashlib
from pathlib import Path

import pytest
import torch

from lightmatch.errors import WeightsError
from lightmatch.weights import load_strictly, read_tensors, write_tensors


def test_safetensors_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    write_tensors(path, {"a": torch.eye(3).T[:2]}, {"note": "hi"})
    tensors, metadata = read_tensors(path)
    assert torch.equal(tensors["a"], torch.eye(3)[:2]) and metadata == {"note": "hi"}
    assert [p.name for p in tmp_path.iterdir()] == ["w.safetensors"]


def test_the_hash_is_checked_first(tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    torch.save({"a": torch.zeros(2)}, path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert read_tensors(path, sha256=digest)[0]["a"].shape == (2,)
    with pytest.raises(WeightsError, match=r"expected SHA-256 00.*fetch the file again"):
        read_tensors(path, sha256="00")


class _Attack:
    def __reduce__(self) -> tuple:
        return (Path.touch, (Path("attacked"),))


def test_a_pth_runs_no_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"a": _Attack()}, "w.pth")
    with pytest.raises(WeightsError, match=r"w\.pth"):
        read_tensors("w.pth")
    assert not Path("attacked").exists()


@pytest.mark.parametrize("content", [[1, 2], {"a": 3}])
def test_not_a_state_dict(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match="state dict"):
        read_tensors(tmp_path / "w.pth")


def test_strict_loading_names_every_fault() -> None:
    layer = torch.nn.Linear(2, 3)
    with pytest.raises(
        WeightsError, match=r"file: .*Linear.*1 missing: bias; 1 unknown: other; 1 of another shape: weight"
    ):
        load_strictly(layer, {"weight": torch.zeros(1), "other": torch.zeros(1)}, "file")
