import pickle
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from random_values import PLAIN, SIFT, assert_equal_features, assert_equal_matches, random_features, random_matches

from lightmatch.errors import InvalidValueError
from lightmatch.interchange import read_features_npz, read_matches_npz, write_features_npz, write_matches_npz
from lightmatch.types import FeatureKind, Matches


@pytest.mark.parametrize("kind", [SIFT, PLAIN], ids=lambda kind: kind.name)
@pytest.mark.parametrize("count", [0, 1, 300])
def test_features_come_back_bit_by_bit(kind: FeatureKind, count: int, tmp_path: Path) -> None:
    features = random_features(count, kind)
    write_features_npz(tmp_path / "a.npz", features)
    assert_equal_features(read_features_npz(tmp_path / "a.npz"), features)
    assert [file.name for file in tmp_path.iterdir()] == ["a.npz"]


def test_the_arrays_are_plain_numpy_under_the_names_of_the_fields(tmp_path: Path) -> None:
    features = random_features(5)
    write_features_npz(tmp_path / "a.npz", features)
    with np.load(tmp_path / "a.npz", allow_pickle=False) as stored:
        assert stored["keypoints"].dtype == np.float32 and stored["keypoints"].shape == (5, 2)
        assert stored["descriptors"].shape == (5, 128)
        assert stored["image_size"].tolist() == [640, 480]
        assert str(stored["kind"]) == "sift" and str(stored["format"]) == "lightmatch-features"


@pytest.mark.parametrize("names", [None, ("a/0 1.jpg", "ü.png")])
def test_matches_come_back_with_their_names(names: tuple[str, str] | None, tmp_path: Path) -> None:
    matches = random_matches(40, 50, 30)
    write_matches_npz(tmp_path / "m.npz", matches, names)
    got, got_names = read_matches_npz(tmp_path / "m.npz")
    assert_equal_matches(got, matches)
    assert got.stop_layer is None and got.layers0 is None and got_names == names


def test_what_a_layered_matcher_knows_comes_back_too(tmp_path: Path) -> None:
    plain = random_matches(4, 3, 2)
    layers = torch.tensor([5, 5, 2, 1]), torch.tensor([5, 3, 5])
    matches = Matches(plain.indices, plain.scores, 5, *layers, probabilities=torch.tensor([0.25, 0.75]))
    write_matches_npz(tmp_path / "m.npz", matches)
    got, _ = read_matches_npz(tmp_path / "m.npz")
    assert got.stop_layer == 5 and got.layers0 is not None and got.layers1 is not None
    assert got.layers0.tolist() == [5, 5, 2, 1] and got.layers1.tolist() == [5, 3, 5]
    assert got.probabilities is not None and got.probabilities.tolist() == [0.25, 0.75]


def test_features_are_not_taken_for_matches(tmp_path: Path) -> None:
    write_features_npz(tmp_path / "a.npz", random_features(3))
    with pytest.raises(InvalidValueError, match="expected lightmatch-matches of version 1, got lightmatch-features"):
        read_matches_npz(tmp_path / "a.npz")


def test_a_pickle_inside_is_not_run(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[Path]]:
            return Path.touch, (tmp_path / "ran",)

    whole = {"format": "lightmatch-features", "version": 1, "kind": np.array([Evil()], object)}
    np.savez(tmp_path / "a.npz", allow_pickle=True, **whole)
    with pytest.raises(InvalidValueError, match=r"a\.npz"):
        read_features_npz(tmp_path / "a.npz")
    assert not (tmp_path / "ran").exists()
    with np.load(tmp_path / "a.npz", allow_pickle=True) as stored:  # it would have
        assert stored["kind"] is not None
    assert (tmp_path / "ran").exists()


def test_damaged_and_foreign_files_are_refused_with_a_sentence(tmp_path: Path) -> None:
    write_features_npz(tmp_path / "whole.npz", random_features(50))
    whole = (tmp_path / "whole.npz").read_bytes()
    spoilt = bytearray(whole)
    spoilt[len(whole) // 2] ^= 0xFF
    np.savez(tmp_path / "foreign.npz", keypoints=np.zeros((3, 2)))
    for name, content in {"short.npz": whole[:-300], "spoilt.npz": bytes(spoilt), "empty.npz": b""}.items():
        (tmp_path / name).write_bytes(content)
    locked, packed = bytearray(whole), bytearray(whole)  # say of every array that it is encrypted, or packed oddly
    for header, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        for found in re.finditer(re.escape(header), whole):
            locked[found.start() + flags] |= 1
            packed[found.start() + flags + 2] = 99
    (tmp_path / "locked.npz").write_bytes(locked)
    (tmp_path / "packed.npz").write_bytes(packed)
    (tmp_path / "pickle.npz").write_bytes(pickle.dumps({"keypoints": 1}))
    made = ("short", "spoilt", "empty", "pickle", "foreign", "locked", "packed")
    for name in (*(f"{each}.npz" for each in made), "missing.npz"):
        with pytest.raises(InvalidValueError, match=f"{name}: expected"):
            read_features_npz(tmp_path / name)


def test_a_later_version_and_unknown_arrays_are_refused(tmp_path: Path) -> None:
    fields = {"format": "lightmatch-matches", "indices": np.zeros((0, 2), np.int64), "scores": np.zeros(0, np.float32)}
    np.savez(tmp_path / "later.npz", **fields, version=2)
    with pytest.raises(InvalidValueError, match="a newer lightmatch may read it"):
        read_matches_npz(tmp_path / "later.npz")
    np.savez(tmp_path / "more.npz", **fields, version=1, weights=np.zeros(3))
    with pytest.raises(InvalidValueError, match="got format, indices, scores, version, weights"):
        read_matches_npz(tmp_path / "more.npz")


def test_an_error_while_writing_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_features_npz(tmp_path / "a.npz", random_features(3))
    before = (tmp_path / "a.npz").read_bytes()

    def full(*_: object, **__: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(OSError, match="no space left"):
        write_features_npz(tmp_path / "a.npz", random_features(4))
    assert (tmp_path / "a.npz").read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["a.npz"]
