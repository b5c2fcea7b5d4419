"""Dense maps of COLMAP's stereo folder: by hand, and there and back."""

from pathlib import Path

import numpy as np
import pytest
import torch

from lightmatch.colmap.dense_maps import read_colmap_array, write_colmap_array
from lightmatch.errors import InvalidValueError


def test_array_by_hand(tmp_path: Path) -> None:
    """Width 3, height 2: x runs fastest."""
    path = tmp_path / "a.jpg.geometric.bin"
    path.write_bytes(b"3&2&1&" + np.arange(6, dtype="<f4").tobytes())
    assert read_colmap_array(path).tolist() == [[0, 1, 2], [3, 4, 5]]
    path.write_bytes(b"2&1&3&" + np.arange(6, dtype="<f4").tobytes())
    # One plane for each channel: the first pixel has 0, 2, 4.
    assert read_colmap_array(path).tolist() == [[[0, 2, 4], [1, 3, 5]]]


@pytest.mark.parametrize("shape", [(5, 7), (4, 6, 3)])
def test_array_there_and_back(tmp_path: Path, shape: tuple[int, ...]) -> None:
    array = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    write_colmap_array(array, tmp_path / "a.bin")
    assert torch.equal(read_colmap_array(tmp_path / "a.bin"), array)


@pytest.mark.parametrize("content", [b"", b"3&2&1&", b"3&2&1&" + bytes(23), b"x&2&1&" + bytes(24), b"\xff\xd8"])
def test_damaged_array(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.bin").write_bytes(content)
    with pytest.raises(InvalidValueError, match=r"a\.bin: expected COLMAP's"):
        read_colmap_array(tmp_path / "a.bin")


def test_missing_array(tmp_path: Path) -> None:
    with pytest.raises(InvalidValueError, match="check the path"):
        read_colmap_array(tmp_path / "none.bin")
    with pytest.raises(InvalidValueError, match="got 1 axes"):
        write_colmap_array(torch.zeros(3), tmp_path / "a.bin")
