"""A photo of 100 megapixels, whole and in tiles: seconds, keypoints and peak memory beyond the photo itself.

Usage: python benchmarks/large_photo.py --photo some.jpg [--features sift …] [--tile-size 2048]
Prints a table. The photo is repeated, mirrored, until it is large enough; each run has a process of its own.
"""

from __future__ import annotations

import argparse
import multiprocessing
import time
from pathlib import Path

import numpy as np

from lightmatch.benchmark import process_memory
from lightmatch.extractors import create_extractor
from lightmatch.images import load_image
from lightmatch.types import Image

SIZE = (11_600, 8_700)  # px


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photo", type=Path, required=True)
    parser.add_argument("--features", action="append")
    parser.add_argument("--tile-size", type=int, default=2048)
    parser.add_argument("--whole", action="store_true", help="without tiles too, which takes many gigabytes")
    parser.add_argument("--keypoints", type=int, default=20_000)
    arguments = parser.parse_args()
    print("| features | tiles | keypoints | seconds | MiB beyond the photo |")
    print("|---|---|---:|---:|---:|")
    context = multiprocessing.get_context("spawn")
    for name in arguments.features or ["sift"]:
        for tile_size in [arguments.tile_size, *([None] if arguments.whole else [])]:
            with context.Pool(1) as pool:
                found, seconds, mib = pool.apply(measure, (arguments.photo, name, tile_size, arguments.keypoints))
            print(f"| {name} | {tile_size or 'none'} | {found} | {seconds:.0f} | {mib:.0f} |", flush=True)


def measure(photo: Path, name: str, tile_size: int | None, keypoints: int) -> tuple[int, float, float]:
    """Keypoints found, seconds, and MiB by which the peak of memory grew."""
    extractor = create_extractor(name, max_keypoints=keypoints, max_image_size=max(SIZE), tile_size=tile_size)
    image = large_photo(load_image(photo).pixels)
    before = process_memory("VmHWM")
    start = time.perf_counter()
    features = extractor(image)
    seconds = time.perf_counter() - start
    return len(features), seconds, (process_memory("VmHWM") - before) / 2**20


def large_photo(pixels: np.ndarray) -> Image:
    """The photo and its mirror images side by side and below each other, cut to SIZE."""
    block = np.concatenate((pixels, pixels[:, ::-1]), 1)
    block = np.concatenate((block, block[::-1]), 0)
    across, down = (-(-size // have) for size, have in zip(SIZE, (block.shape[1], block.shape[0]), strict=True))
    return Image(np.ascontiguousarray(np.tile(block, (down, across, 1))[: SIZE[1], : SIZE[0]]))


if __name__ == "__main__":
    main()
