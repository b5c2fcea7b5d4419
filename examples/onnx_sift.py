"""Match two photos by OpenCV's SIFT and onnxruntime: python onnx_sift.py lightglue.onnx a.jpg b.jpg.

The file is what `lightmatch export lightglue -o lightglue.onnx` writes. Prints x0 y0 x1 y1 score of each match, px.
Large photos are best shrunk to 1600 px before.
"""

import sys

import cv2
import numpy as np
import onnxruntime


def extract(path, number):
    """The matcher's inputs for image 0 or 1."""
    grey = cv2.cvtColor(cv2.imread(path), cv2.COLOR_BGR2GRAY)
    found, descriptors = cv2.SIFT.create(2048, contrastThreshold=0.02).detectAndCompute(grey, None)
    if not found:
        sys.exit(f"{path}: expected a photo with keypoints, got none; take another")
    x, y, scales, angles = np.array([(*point.pt, point.size, point.angle) for point in found], np.float32).T
    inputs = {
        "keypoints": np.stack((x, y), 1) - 0.25,  # OpenCV puts them ¼ px too far right and down
        "descriptors": np.sqrt(descriptors / descriptors.sum(1, keepdims=True)),  # RootSIFT
        "scales": scales,
        "orientations": np.deg2rad(angles),
        "size": np.array(grey.shape[::-1], np.float32),
        "mask": np.ones(len(x), bool),
    }
    return {f"{name}{number}": value[None] for name, value in inputs.items()}


if len(sys.argv) != 4:
    sys.exit(__doc__)
matcher = onnxruntime.InferenceSession(sys.argv[1])
kind = matcher.get_modelmeta().custom_metadata_map["features"]
if kind != "sift":
    sys.exit(f"{sys.argv[1]}: expected a matcher for sift features, got one for {kind}; export that for sift")
feed = {**extract(sys.argv[2], 0), **extract(sys.argv[3], 1)}
matches, scores, layers, *_ = matcher.run(None, feed)
for i in np.flatnonzero(matches[0] >= 0):
    print(*feed["keypoints0"][0, i], *feed["keypoints1"][0, matches[0, i]], scores[0, i])
