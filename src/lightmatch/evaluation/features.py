"""Features of the images of an evaluation: extracted once, kept on disk, shared by all pairs and matchers."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path

import torch

from lightmatch.extractors import Extractor
from lightmatch.images import load_image, resize_to_fit
from lightmatch.runtime.files import file_state
from lightmatch.types import Features, Image
from lightmatch.weights import read_tensors, write_tensors


@dataclass(frozen=True, eq=False)
class ExtractedImage:
    """Features of an image as it is matched, and their run time."""

    features: Features  # in pixels of the resized image; highest score first
    original_size: tuple[int, int]  # (width, height) px upright, before resizing
    extract_ms: float


@dataclass(frozen=True)
class FeatureFiles:
    """Features of images as files in a folder.

    Images are shrunk to `image_size` px of the long side before extraction and never enlarged.
    A file is named after the image (path, size and date of the file, or its pixels), the extractor, its options, its
    weights and its code.
    """

    folder: Path
    extractor: Extractor
    image_size: int

    @cached_property
    def fingerprint(self) -> str:
        """Hash of extractor, options, weights and code: everything but the images."""
        config, code = self.extractor.config, code_hash("extractors", "images", "networks")
        name, weights = type(self.extractor).__name__, self.extractor.weights_digest()
        return short_hash(code, name, repr(config), str(self.image_size), weights)

    def path(self, image: Path | Image) -> Path:
        """The file of the features of an image, whether or not it exists."""
        return self.folder / self.fingerprint / f"{image_key(image)}.safetensors"

    def extract(self, image: Path | Image) -> None:
        """Extract and write features unless the file exists. Raises ImageReadError where the photo cannot be read."""
        path = self.path(image)
        if path.exists():
            return
        photo = _photo(image)
        small = resize_to_fit(photo, self.image_size)
        start = time.perf_counter()
        features = self.extractor(small)
        extract_ms = 1000 * (time.perf_counter() - start)
        tensors = {
            field.name: value
            for field in fields(features)
            if isinstance(value := getattr(features, field.name), torch.Tensor)
        }
        numbers = torch.tensor([*features.image_size, *photo.size, extract_ms], dtype=torch.float64)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_tensors(path, {**tensors, "numbers": numbers}, {})

    def shrink(self, image: Path | Image) -> Image:
        """The image as it is extracted and matched. Raises ImageReadError where the photo cannot be read."""
        return resize_to_fit(_photo(image), self.image_size)

    def load(self, image: Path | Image, max_keypoints: int) -> ExtractedImage:
        """Read the `max_keypoints` features of the highest score; `extract` must have been called."""
        tensors, _ = read_tensors(self.path(image))
        *sizes, extract_ms = tensors.pop("numbers").tolist()
        width, height, original_width, original_height = map(int, sizes)
        kept = {name: tensor[:max_keypoints] for name, tensor in tensors.items()}
        features = Features(**kept, image_size=(width, height), kind=self.extractor.kind)
        return ExtractedImage(features, (original_width, original_height), extract_ms)


def _photo(image: Path | Image) -> Image:
    return load_image(image) if isinstance(image, Path) else image


def image_key(image: Path | Image) -> str:
    """Hash of the image: of its path, size and date, or of its pixels."""
    if isinstance(image, Image):
        return short_hash(repr(image.size), image.pixels.tobytes())
    return short_hash(str(image.resolve()), repr(file_state(image)))


def code_hash(*names: str) -> str:
    """Hash of the source of modules and packages of lightmatch. names: relative to the package, as "geometry"."""
    root = Path(__file__).parents[1]
    files = [file for name in names for file in (root / f"{name}.py", *sorted((root / name).rglob("*.py")))]
    return short_hash(*(file.read_bytes() for file in files if file.is_file()))


def short_hash(*parts: str | bytes) -> str:
    """SHA-256 of the parts, the first 16 hexadecimal digits."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "big") + data)
    return digest.hexdigest()[:16]
