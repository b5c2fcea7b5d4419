"""A small data set in the HPatches layout, made from one picture."""

from pathlib import Path

import cv2
import numpy as np

H = np.array([[0.95, 0.12, 10.0], [-0.1, 0.97, 24.0], [1e-4, 5e-5, 1.0]])


def write_planar_set(folder: Path, picture: Path, num_views: int = 2) -> Path:
    """Photo 1 and views of it through `H` and, from the third on, milder ones; returns the folder."""
    folder.mkdir(parents=True)
    first = cv2.imread(str(picture))
    assert first is not None
    height, width = first.shape[:2]
    cv2.imwrite(str(folder / "1.png"), first)
    for number in range(2, num_views + 1):
        matrix = H if number == 2 else np.eye(3) + (H - np.eye(3)) / number
        cv2.imwrite(str(folder / f"{number}.png"), cv2.warpPerspective(first, matrix, (width, height)))
        np.savetxt(folder / f"H_1_{number}", matrix)
    return folder
