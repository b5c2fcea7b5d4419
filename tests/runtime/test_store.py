"""Features and matches on disk: whole or absent, never another's."""

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from lightmatch.errors import InvalidValueError
from lightmatch.extractors import create_extractor
from lightmatch.runtime.places import Folder, Objects
from lightmatch.runtime.store import FeatureStore, MatchStore, StoredMatches, digest
from lightmatch.types import Features, Matches


def test_threads_may_write_the_same_record(tmp_path: Path) -> None:
    place = Folder(tmp_path)
    tensors = {"values": torch.arange(50_000)}
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda _: place.write("ab/same.safetensors", tensors, {}), range(60)))
    assert torch.equal(place.read("ab/same.safetensors")[0]["values"], tensors["values"])
    assert [path.name for path in (tmp_path / "ab").iterdir()] == ["same.safetensors"]


def features(count: int = 5) -> Features:
    kind = create_extractor("sift", max_keypoints=8).kind
    generator = torch.Generator().manual_seed(count)
    return Features(
        torch.rand(count, 2, generator=generator) * 40,
        torch.rand(count, generator=generator),
        torch.nn.functional.normalize(torch.rand(count, kind.descriptor_dim, generator=generator), dim=1),
        (60, 40),
        kind,
        scales=torch.rand(count, generator=generator) + 1,
        orientations=torch.rand(count, generator=generator),
    )


def stored(*indices: tuple[int, int], stop_layer: int | None = 3) -> StoredMatches:
    pairs = torch.tensor(indices, dtype=torch.long).reshape(-1, 2)
    return StoredMatches(Matches(pairs, torch.linspace(0.5, 1, len(pairs)), stop_layer), 0.25, True)


def the_file(folder: Path) -> Path:
    (path,) = folder.rglob("*.safetensors")
    return path


@pytest.fixture(params=["folder", "objects"])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> Path | str:
    """A folder, and the same as object storage sees it."""
    return tmp_path if request.param == "folder" else f"file://{tmp_path}"


def test_features_come_back_as_they_were(where: Path | str) -> None:
    store = FeatureStore(where)
    key = store.key("photo", "extractor")
    assert key not in store and store.read(key) is None
    store.write(key, features(), {"name": "фото"})
    found = FeatureStore(where).read_with(key, dict[str, str])
    assert found is not None and found.facts == {"name": "фото"}
    for name in ("keypoints", "scores", "descriptors", "scales", "orientations"):
        assert torch.equal(getattr(found.features, name), getattr(features(), name))
    assert (found.features.image_size, found.features.kind) == ((60, 40), features().kind)


def test_a_record_that_another_process_removes_meanwhile_is_absent(
    where: Path | str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where two find it damaged: it is there when it is looked for, and gone when it is read."""
    for place in (Folder, Objects):
        monkeypatch.setattr(place, "__contains__", lambda *_: True)
    assert FeatureStore(where).read("a" * 64) is None


def test_no_keypoints_are_features_too(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path)
    store.write(store.key("blank", "e"), features(0))
    found = store.read(store.key("blank", "e"))
    assert found is not None and len(found) == 0


@pytest.mark.parametrize("damage", ["cut short", "one bit", "empty", "noise"])
def test_a_damaged_record_counts_as_absent_and_is_removed(
    tmp_path: Path, where: Path | str, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    store = FeatureStore(where)
    key = store.key("photo", "extractor")
    store.write(key, features())
    path = the_file(tmp_path)
    content = bytearray(path.read_bytes())
    content[-3] ^= 4
    path.write_bytes(
        {"cut short": content[: len(content) // 2], "one bit": content, "empty": b"", "noise": os.urandom(900)}[damage]
    )
    assert store.read(key) is None
    assert "damaged record" in caplog.text and not path.exists()
    store.write(key, features())
    assert store.read(key) is not None


def test_a_record_under_another_name_is_not_believed(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path)
    right, wrong = store.key("a", "e"), store.key("b", "e")
    store.write(right, features())
    target = tmp_path / wrong[:2] / f"{wrong}.safetensors"
    target.parent.mkdir(parents=True, exist_ok=True)
    the_file(tmp_path).rename(target)
    assert store.read(wrong) is None


def test_a_write_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = FeatureStore(tmp_path)

    def full(tensors: object, path: Path, metadata: object) -> None:
        Path(path).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("lightmatch.runtime.places.save_file", full)
    with pytest.raises(OSError, match="No space left"):
        store.write(store.key("a", "e"), features())
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_matches_of_a_block_come_back_one_by_one(where: Path | str) -> None:
    store = MatchStore(where)
    keys = [store.key("a", other, "m") for other in "bcd"]
    given = [stored((0, 1), (2, 3)), replace(stored(stop_layer=None), worth_verifying=False), stored((4, 4))]
    store.write(keys, given)
    again = MatchStore(where)
    found = again.read([keys[2], keys[0], store.key("a", "x", "m"), keys[1]])
    assert set(found) == set(keys)
    for key, value in zip(keys, given, strict=True):
        assert torch.equal(found[key].matches.indices, value.matches.indices)
        assert torch.equal(found[key].matches.scores, value.matches.scores)
        assert found[key].matches.stop_layer == value.matches.stop_layer
        assert (found[key].probability, found[key].worth_verifying) == (0.25, value.worth_verifying)


def test_pairs_of_a_damaged_block_are_missing_and_others_not(tmp_path: Path, where: Path | str) -> None:
    store = MatchStore(where)
    first, second = store.key("a", "b", "m"), store.key("a", "c", "m")
    store.write([first], [stored((0, 0), (1, 1), (2, 2))])
    path = the_file(tmp_path)
    store.write([second], [stored((1, 1))])
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert set(store.read([first, second])) == {second}
    assert first not in store and second in store


def test_an_address_of_an_unknown_file_system_is_refused() -> None:
    with pytest.raises(InvalidValueError, match="nonsense://bucket: expected the address of object storage"):
        FeatureStore("nonsense://bucket")


def test_keys_tell_everything_apart() -> None:
    store = FeatureStore(Path("nowhere"))
    keys = {
        store.key("a", "b"),
        store.key("b", "a"),
        store.key("a", "b", "m"),
        store.key("ab", ""),
        store.key("", "ab"),
    }
    assert len(keys) == 5
    assert digest("1") != digest(1) != digest(b"1") != digest("1", None)
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
