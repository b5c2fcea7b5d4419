import sys
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from random_values import PLAIN, SIFT, assert_equal_features, assert_equal_matches, random_features, random_matches

from lightmatch.errors import InvalidValueError, MissingDependencyError
from lightmatch.interchange import (
    count_hloc_keypoints,
    read_hloc_features,
    read_hloc_matches,
    write_hloc_features,
    write_hloc_matches,
)
from lightmatch.types import FeatureKind, Features

h5py = pytest.importorskip("h5py")


def hloc_features(path: Path, name: str, features: Features, *, as_half: bool) -> None:
    """As hloc's extract_features.main writes them; its as_half halves every array of float32."""
    arrays = {
        "keypoints": features.keypoints.numpy(),
        "descriptors": features.descriptors.numpy().T,
        "scores": features.scores.numpy(),
    }
    if as_half:
        arrays = {name: value.astype(np.float16) for name, value in arrays.items()}
    with h5py.File(path, "a", libver="latest") as file:
        group = file.create_group(name)
        for key, value in arrays.items():
            group.create_dataset(key, data=value)
        group.create_dataset("image_size", data=np.array(features.image_size))
        group["keypoints"].attrs["uncertainty"] = 1.5


def hloc_matches(path: Path, place: str, matches0: list[int], scores: list[float] | None = None) -> None:
    """As hloc's match_features.writer_fn has them: 16 bits each."""
    with h5py.File(path, "a", libver="latest") as file:
        group = file.create_group(place)
        group.create_dataset("matches0", data=np.array(matches0, np.int16))
        if scores is not None:
            group.create_dataset("matching_scores0", data=np.array(scores, np.float16))


@pytest.mark.parametrize("kind", [SIFT, PLAIN], ids=lambda kind: kind.name)
def test_features_come_back(kind: FeatureKind, tmp_path: Path) -> None:
    names = ["a.jpg", "left/wing/b 1.jpg", "left/c.png", "ü.jpg"]
    features = {name: random_features(17 * n, kind, seed=n) for n, name in enumerate(names)}
    write_hloc_features(tmp_path / "f.h5", features)
    got = read_hloc_features(tmp_path / "f.h5", kind)
    assert set(got) == set(names) and len(got) == 4 and "left/c.png" in got
    for name in names:
        assert_equal_features(got[name], features[name])
    assert count_hloc_keypoints(tmp_path / "f.h5") == {name: 17 * n for n, name in enumerate(names)}


def test_files_have_hlocs_layout(tmp_path: Path) -> None:
    features = random_features(5, PLAIN)
    write_hloc_features(tmp_path / "f.h5", {"day/a.jpg": features}, uncertainty_px=2.0)
    with h5py.File(tmp_path / "f.h5") as file:
        group = file["day"]["a.jpg"]
        assert set(group) == {"keypoints", "descriptors", "scores", "image_size"}
        assert group["keypoints"].shape == (5, 2) and group["keypoints"].dtype == np.float32
        assert group["descriptors"].shape == (256, 5)  # hloc has them the other way round
        assert group["keypoints"].attrs["uncertainty"] == 2.0
        assert group["image_size"][:].tolist() == [640, 480]


def test_half_descriptors_keep_keypoints_exact(tmp_path: Path) -> None:
    features = random_features(50)
    write_hloc_features(tmp_path / "f.h5", {"a.jpg": features}, half_descriptors=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        got = read_hloc_features(tmp_path / "f.h5", SIFT)["a.jpg"]
    assert torch.equal(got.keypoints, features.keypoints)
    assert torch.equal(got.descriptors, features.descriptors.half().float())


def test_sift_is_sigma_and_degrees_there(tmp_path: Path) -> None:
    features = random_features(5)
    assert features.scales is not None and features.orientations is not None
    write_hloc_features(tmp_path / "f.h5", {"a.jpg": features})
    with h5py.File(tmp_path / "f.h5") as file:
        np.testing.assert_allclose(file["a.jpg/scales"][:], features.scales / 2)
        np.testing.assert_allclose(file["a.jpg/oris"][:], np.rad2deg(features.orientations.double().numpy()))


def test_a_file_of_hloc_in_half_precision_is_read_and_told_of_once(tmp_path: Path) -> None:
    size = (4000, 3000)
    features = {name: random_features(200, PLAIN, size, seed) for seed, name in enumerate(["db/a.jpg", "db/b.jpg"])}
    for name, value in features.items():
        hloc_features(tmp_path / "f.h5", name, value, as_half=True)
    with pytest.warns(UserWarning, match=r"f\.h5: keypoints are in half precision.* 2 px apart") as caught:
        got = read_hloc_features(tmp_path / "f.h5", PLAIN)
    assert len(caught) == 1 and caught[0].filename == __file__
    for name, value in features.items():
        off = (got[name].keypoints - value.keypoints).abs().max()
        assert 0.5 < off <= 1  # half a step of 2 px
        assert got[name].descriptors.dtype == torch.float32
        torch.testing.assert_close(got[name].descriptors, value.descriptors, atol=1e-3, rtol=0)


def test_hlocs_own_sift_counts_from_the_corner(tmp_path: Path) -> None:
    features = random_features(20, PLAIN)
    moved = replace(features, keypoints=features.keypoints + 0.5)
    hloc_features(tmp_path / "f.h5", "a.jpg", moved, as_half=False)
    got = read_hloc_features(tmp_path / "f.h5", PLAIN, first_pixel=0.5)["a.jpg"]
    torch.testing.assert_close(got.keypoints, features.keypoints, atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", ["", ".", "./a.jpg", "a/./b.jpg", "a/", "/a.jpg", "a//b.jpg", "../a.jpg"])
def test_names_that_would_come_back_as_others_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidValueError, match="relative to its folder"):
        write_hloc_features(tmp_path / "f.h5", {name: random_features(3)})
    with pytest.raises(InvalidValueError, match="relative to its folder"):
        write_hloc_matches(tmp_path / "m.h5", {(name, "b"): random_matches(3, 3, 2)}, {name: 3, "b": 3})
    assert not list(tmp_path.iterdir())


def test_descriptors_in_training_are_written(tmp_path: Path) -> None:
    features = random_features(5)
    trained = replace(features, descriptors=features.descriptors.clone().requires_grad_())
    write_hloc_features(tmp_path / "f.h5", {"a.jpg": trained})
    assert_equal_features(read_hloc_features(tmp_path / "f.h5", SIFT)["a.jpg"], features)


def test_a_file_of_hloc_in_full_precision_is_read_without_a_word(tmp_path: Path) -> None:
    features = random_features(20, PLAIN)
    hloc_features(tmp_path / "f.h5", "a.jpg", features, as_half=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        got = read_hloc_features(tmp_path / "f.h5", PLAIN)
        assert_equal_features(got["a.jpg"], features)


def test_features_of_another_kind_are_refused(tmp_path: Path) -> None:
    write_hloc_features(tmp_path / "f.h5", {"a.jpg": random_features(5, PLAIN)})
    with pytest.raises(InvalidValueError, match=r"a\.jpg/descriptors: expected shape \(128, 5\).*got \(256, 5\)"):
        read_hloc_features(tmp_path / "f.h5", FeatureKind("disk", 128, False))["a.jpg"]
    with pytest.raises(InvalidValueError, match=r"a\.jpg: expected a dataset scales"):
        read_hloc_features(tmp_path / "f.h5", FeatureKind("sift", 256, True))["a.jpg"]


def test_matches_come_back_in_either_order(tmp_path: Path) -> None:
    counts = {"in/a.jpg": 40, "b.jpg": 30, "c.jpg": 0}
    matches = {("in/a.jpg", "b.jpg"): random_matches(40, 30, 20), ("b.jpg", "c.jpg"): random_matches(30, 0, 0)}
    write_hloc_matches(tmp_path / "m.h5", matches, counts)
    got = read_hloc_matches(tmp_path / "m.h5", counts)
    assert set(got) == set(matches)
    for pair, expected in matches.items():
        assert_equal_matches(got[pair], expected)
    assert ("b.jpg", "in/a.jpg") in got and ("in/a.jpg", "c.jpg") not in got
    turned = got["b.jpg", "in/a.jpg"]
    forward = matches["in/a.jpg", "b.jpg"].indices.tolist()
    assert sorted(turned.indices.tolist()) == sorted([j, i] for i, j in forward)
    with h5py.File(tmp_path / "m.h5") as file:
        assert list(file["in-a.jpg"]) == ["b.jpg"]  # hloc's name of the pair
        assert file["in-a.jpg/b.jpg/matches0"].shape == (40,)


@pytest.mark.parametrize("place", ["in-a.jpg/b_1.jpg", "in-a.jpg_b_1.jpg"])
def test_names_of_pairs_new_and_old_are_read(place: str, tmp_path: Path) -> None:
    hloc_matches(tmp_path / "m.h5", place, [-1, 2, 0, -1], [0, 0.5, 0.25, 0])
    got = read_hloc_matches(tmp_path / "m.h5", {"in/a.jpg": 4, "b_1.jpg": 3, "other.jpg": 9})
    matches = got["in/a.jpg", "b_1.jpg"]
    assert matches.indices.tolist() == [[1, 2], [2, 0]] and matches.scores.tolist() == [0.5, 0.25]


def test_matches_without_scores_count_in_full(tmp_path: Path) -> None:
    hloc_matches(tmp_path / "m.h5", "a.jpg/b.jpg", [1, -1])
    assert read_hloc_matches(tmp_path / "m.h5", {"a.jpg": 2, "b.jpg": 2})["a.jpg", "b.jpg"].scores.tolist() == [1]


def test_of_several_matches_of_a_keypoint_the_best_stays_when_turned(tmp_path: Path) -> None:
    hloc_matches(tmp_path / "m.h5", "a.jpg/b.jpg", [1, 1, 0], [0.25, 0.5, 0.125])
    matches = read_hloc_matches(tmp_path / "m.h5", {"a.jpg": 3, "b.jpg": 2})["b.jpg", "a.jpg"]
    assert matches.indices.tolist() == [[0, 2], [1, 1]] and matches.scores.tolist() == [0.125, 0.5]


def test_matches_of_other_features_are_refused(tmp_path: Path) -> None:
    hloc_matches(tmp_path / "m.h5", "a.jpg/b.jpg", [1, 7, -1])
    with pytest.raises(InvalidValueError, match=r"expected shape \(4\).*does it belong to these features"):
        read_hloc_matches(tmp_path / "m.h5", {"a.jpg": 4, "b.jpg": 9})["a.jpg", "b.jpg"]
    with pytest.raises(InvalidValueError, match="belong to other features"):
        read_hloc_matches(tmp_path / "m.h5", {"a.jpg": 3, "b.jpg": 7})["a.jpg", "b.jpg"]
    with pytest.raises(InvalidValueError, match=r"expected two of the 1 images .* another name"):
        read_hloc_matches(tmp_path / "m.h5", {"a.jpg": 3})


def test_names_that_hloc_cannot_tell_apart_are_refused(tmp_path: Path) -> None:
    counts = {"in/a.jpg": 4, "in-a.jpg": 4}
    with pytest.raises(InvalidValueError, match="names that differ when '-' stands for '/'"):
        write_hloc_matches(tmp_path / "m.h5", {}, counts)
    hloc_matches(tmp_path / "m.h5", "a_b_c", [0])
    with pytest.raises(InvalidValueError, match="2 ways to read it"):
        read_hloc_matches(tmp_path / "m.h5", {"a": 1, "b_c": 1, "a_b": 1, "c": 1})


def test_pairs_that_make_no_sense_are_refused_and_nothing_is_written(tmp_path: Path) -> None:
    counts = {"a": 5, "b": 5}
    one = random_matches(5, 5, 5)
    for bad, words in (
        ({("a", "b"): one, ("b", "a"): one}, "every pair once"),
        ({("a", "a"): one}, "two images"),
        ({("a", "c"): one}, "keypoints are known, got c"),
        ({("a", "b"): random_matches(6, 6, 6)}, "expected indices below 5 and 5"),
    ):
        with pytest.raises(InvalidValueError, match=words):
            write_hloc_matches(tmp_path / "m.h5", bad, counts)
    assert not list(tmp_path.iterdir())


def test_damaged_and_foreign_files_are_refused_with_a_sentence(tmp_path: Path) -> None:
    write_hloc_features(tmp_path / "whole.h5", {"a.jpg": random_features(50)})
    (tmp_path / "short.h5").write_bytes((tmp_path / "whole.h5").read_bytes()[:2000])
    (tmp_path / "text.h5").write_text("no HDF5")
    for name in ("short.h5", "text.h5", "missing.h5"):
        with pytest.raises(InvalidValueError, match=f"{name}: expected hloc's HDF5 file"):
            read_hloc_features(tmp_path / name, SIFT)
    with pytest.raises(InvalidValueError, match="expected groups with a dataset matches0"):
        read_hloc_matches(tmp_path / "whole.h5", {"a.jpg": 50})


def test_without_h5py_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(MissingDependencyError, match=r"\.\[hloc\]"):
        write_hloc_features(tmp_path / "f.h5", {})
