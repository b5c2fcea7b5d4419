"""Match two photos with onnxruntime and NumPy alone: python onnx_match.py superpoint.onnx lightglue.onnx a.ppm b.ppm.

Any decoder will do in place of `read_ppm`; photos of one pair may differ in size.
"""

import sys
from pathlib import Path

import numpy as np
import onnxruntime


def read_ppm(path):
    """A binary PPM without comments, (h, w, 3) uint8."""
    with Path(path).open("rb") as file:
        header = [file.readline().split() for _ in range(3)]
        width, height = map(int, header[1])
        return np.frombuffer(file.read(), np.uint8).reshape(height, width, 3)


def extract(session, pixels, number):
    """The matcher's inputs for image 0 or 1."""
    size = np.array([pixels.shape[1::-1]], np.float32)
    padded = np.pad(pixels, ((0, -pixels.shape[0] % 8), (0, -pixels.shape[1] % 8), (0, 0)), "edge")
    images = padded.transpose(2, 0, 1)[None].astype(np.float32) / 255
    found = session.run(None, {"images": images, "size": size, "allowed": np.ones((1, *padded.shape[:2]), bool)})
    inputs = dict(zip(("keypoints", "scores", "descriptors", "mask"), found, strict=True), size=size)
    return {f"{name}{number}": value for name, value in inputs.items()}


if len(sys.argv) != 5:
    sys.exit(__doc__)
extractor, matcher = (onnxruntime.InferenceSession(path) for path in sys.argv[1:3])
kinds = [session.get_modelmeta().custom_metadata_map["features"] for session in (extractor, matcher)]
if len(set(kinds)) > 1:
    sys.exit(f"the extractor gives {kinds[0]} features, the matcher takes {kinds[1]}: export those of one kind")
side0, side1 = (extract(extractor, read_ppm(path), number) for number, path in enumerate(sys.argv[3:5]))
wanted = {value.name for value in matcher.get_inputs()}
matches, scores, layers, *_ = matcher.run(None, {k: v for k, v in {**side0, **side1}.items() if k in wanted})
for i in np.flatnonzero(matches[0] >= 0):
    print(*side0["keypoints0"][0, i], *side1["keypoints1"][0, matches[0, i]], scores[0, i])
