"""Features on disk: in pixels of the shrunk image, once each, and fewer of them are the strongest."""

from pathlib import Path

import torch

from lightmatch.evaluation.features import FeatureFiles, image_key
from lightmatch.extractors import create_extractor
from lightmatch.extractors.sift import Sift
from lightmatch.images import load_image, resize_to_fit


def store(folder: Path, max_keypoints: int = 200, image_size: int = 240) -> FeatureFiles:
    return FeatureFiles(folder, create_extractor("sift", max_keypoints=max_keypoints), image_size)


def test_features_are_those_of_the_shrunk_image(scene_photos: Path, tmp_path: Path) -> None:
    kept, photo = store(tmp_path), scene_photos / "view_0.png"
    kept.extract(photo)
    found = kept.load(photo, 200)
    want = kept.extractor(resize_to_fit(load_image(photo), 240))
    assert found.original_size == (480, 360) and found.features.image_size == want.image_size == (240, 180)
    assert found.extract_ms > 0
    for name, tensor in want.numpy().items():
        assert name in ("kind", "image_size") or (found.features.numpy()[name] == tensor).all()


def test_the_strongest_of_many_are_what_a_smaller_limit_finds(scene_photos: Path, tmp_path: Path) -> None:
    photo = scene_photos / "view_1.png"
    many, few = store(tmp_path / "many"), store(tmp_path / "few", max_keypoints=50)
    many.extract(photo)
    few.extract(photo)
    assert torch.equal(many.load(photo, 50).features.descriptors, few.load(photo, 50).features.descriptors)
    assert len(many.load(photo, 200).features) > 50


def test_an_image_is_extracted_once(scene_photos: Path, tmp_path: Path) -> None:
    kept, photo = store(tmp_path), load_image(scene_photos / "view_0.png")
    kept.extract(photo)
    written = kept.path(photo).stat().st_mtime_ns
    kept.extract(photo)
    assert kept.path(photo).stat().st_mtime_ns == written


def test_what_changes_the_features_changes_the_file(scene_photos: Path, tmp_path: Path) -> None:
    photo, copy = scene_photos / "view_0.png", tmp_path / "copy.png"
    copy.write_bytes(photo.read_bytes())
    names = [store(tmp_path).path(photo), store(tmp_path, image_size=120).path(photo)]
    names += [store(tmp_path, max_keypoints=50).path(photo), store(tmp_path).path(copy)]
    assert len(set(names)) == 4
    before = image_key(copy)
    copy.write_bytes((scene_photos / "view_1.png").read_bytes())
    assert image_key(copy) != before
    assert image_key(load_image(photo)) != image_key(load_image(copy))


class SiftWithWeights(Sift):
    """An extractor whose weights can change under one configuration."""

    def __init__(self, weights: str) -> None:
        super().__init__()
        self.weights = weights

    def weights_digest(self) -> str:
        return self.weights


def test_other_weights_change_the_file(tmp_path: Path) -> None:
    names = [FeatureFiles(tmp_path, SiftWithWeights(weights), 240).fingerprint for weights in "aab"]
    assert names[0] == names[1] != names[2]
