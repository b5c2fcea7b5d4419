"""The matchers others published, by name: files of their layouts, with random weights, from the user's folder."""

import os
from pathlib import Path

import pytest
import torch
from sharpened import random_pair

from lightmatch.errors import FeatureMismatchError, InvalidValueError, WeightsError
from lightmatch.matchers import LightGlue, SuperGlue, create_matcher
from lightmatch.networks.lightglue import LightGlueConfig
from lightmatch.networks.superglue import SuperGlueConfig
from lightmatch.types import FeatureKind
from lightmatch.weights import BY_HAND, RECORDS, WeightsRecord, weights_record

DISK, XFEAT, SUPERPOINT = FeatureKind("disk", 128), FeatureKind("xfeat", 64), FeatureKind("superpoint", 256)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where files given by hand lie; nothing else is there, and no network."""
    monkeypatch.setenv("LIGHTMATCH_WEIGHTS", str(tmp_path))
    monkeypatch.setenv("LIGHTMATCH_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
        monkeypatch.setenv(name.upper(), "http://127.0.0.1:9")
    return tmp_path


def test_lightglue(folder: Path) -> None:
    config = LightGlueConfig("disk", 128, num_layers=9, positions="xy")
    unread = {f"log_assignment.{layer}.r": torch.ones(()) for layer in range(9)}  # the released file has them
    torch.save(LightGlue(config).network.state_dict() | unread, folder / "disk_lightglue.pth")
    matcher = create_matcher(f"lightglue:{folder / 'disk_lightglue.pth'}", DISK)
    assert isinstance(matcher, LightGlue) and matcher.config == config
    assert matcher(*random_pair(DISK, 20, 30, 10, seed=0)).stop_layer is not None


def test_lighterglue_whose_file_holds_the_extractor_too(folder: Path) -> None:
    config = LightGlueConfig("xfeat", 64, descriptor_dim=96, num_layers=6, num_heads=1, positions="xy")
    tensors = {f"matcher.{name}": t for name, t in LightGlue(config).network.state_dict().items()}
    tensors |= {"extractor.model.net.norm.weight": torch.zeros(3), "matcher.confidence_thresholds": torch.zeros(6)}
    torch.save(tensors, folder / "xfeat-lighterglue.pt")
    matcher = create_matcher(f"lightglue:{folder / 'xfeat-lighterglue.pt'}", XFEAT)
    assert isinstance(matcher, LightGlue) and matcher.config == config
    assert len(matcher(*random_pair(XFEAT, 20, 30, 10, seed=0)).scores) <= 20


def test_superglue_is_for_the_features_its_file_was_made_for(folder: Path) -> None:
    torch.save(SuperGlue(SuperGlueConfig()).network.state_dict(), folder / "superglue_outdoor.pth")
    matcher = create_matcher(f"superglue:{folder / 'superglue_outdoor.pth'}")
    assert isinstance(matcher, SuperGlue) and matcher.config.num_layers == SuperGlueConfig().num_layers
    with pytest.raises(FeatureMismatchError, match="made for 'superpoint' features"):
        matcher(*random_pair(DISK, 9, 9, 9, seed=0))


def test_what_cannot_be_fetched_says_what_to_put_where() -> None:
    with pytest.raises(WeightsError, match=r"disk_lightglue\.pth"):
        create_matcher("lightglue", DISK)


def test_every_record_has_a_name_and_a_file_of_its_own() -> None:
    for part in ("name", "file"):
        values = [getattr(record, part) for record in RECORDS]
        assert len(set(values)) == len(values)
    assert all(url.startswith("https://") for record in RECORDS for url in record.urls)
    assert all(not record.commercial_use for record in RECORDS if "Magic Leap" in record.license)
    assert os.sep not in weights_record("disk").file


def test_a_file_of_that_name_with_another_hash_is_not_taken(folder: Path) -> None:
    torch.save(LightGlue(LightGlueConfig("disk", 128)).network.state_dict(), folder / "disk_lightglue.pth")
    with pytest.raises(WeightsError, match="lightglue-disk: cannot be fetched"):
        create_matcher("lightglue", DISK)


@pytest.mark.parametrize("sha256", ["", "5be8", "G" * 64])
def test_a_record_without_a_hash_cannot_be_written(sha256: str) -> None:
    with pytest.raises(InvalidValueError, match="'mine': expected the file's SHA-256, 64 lower-case"):
        WeightsRecord("mine", "mine.pth", ("https://example.org/mine.pth",), "MIT", "none", sha256)


def test_files_without_a_known_hash_are_never_fetched() -> None:
    for name, (url, license) in BY_HAND.items():
        with pytest.raises(WeightsError, match=f"{name}: .*no SHA-256 of it is known: download") as caught:
            weights_record(name)
        assert url in str(caught.value) and license in str(caught.value)
        assert str(caught.value).endswith(
            {
                "superpoint-open": "option `weights`",
                "dedode-descriptor-b": "option `weights`",
                "dedode-detector-l-v2": "option `detector_weights`",
            }.get(name, "matcher superglue:FILE")
        )
