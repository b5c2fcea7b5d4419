"""Matches of another program's files: which pairs are taken from them."""

from pathlib import Path

import numpy as np
import pycolmap
import torch
from random_values import random_features, random_matches

from lightmatch.colmap.database import open_database
from lightmatch.interchange import write_colmap_database
from lightmatch.pipelines.reconstruct.imported import Imported

INLIERS = np.stack((np.arange(8), np.arange(8)), 1).astype(np.uint32)


def test_verified_pairs_are_taken_with_a_matrix_or_without(tmp_path: Path) -> None:
    kinds = ["UNDEFINED", "DEGENERATE", "CALIBRATED", "UNCALIBRATED", "PLANAR", "WATERMARK", "MULTIPLE"]
    features = {name: random_features(20, seed=number) for number, name in enumerate(["first", *kinds])}
    pairs = {("first", kind): random_matches(20, 20, 12) for kind in kinds}
    path = tmp_path / "d.db"
    write_colmap_database(path, features, pairs)
    with pycolmap.Database.open(path) as database:
        for number, kind in enumerate(kinds, start=2):
            config = getattr(pycolmap.TwoViewGeometryConfiguration, kind)
            database.write_two_view_geometry(1, number, pycolmap.TwoViewGeometry(config=config, inlier_matches=INLIERS))
    taken = Imported.open(path).pairs
    assert {other for _, other in taken} == {"CALIBRATED", "UNCALIBRATED", "PLANAR", "MULTIPLE"}
    assert all(len(matches) == 8 for matches in taken.values())


def test_pairs_matched_again_by_known_poses_come_back_whole(tmp_path: Path) -> None:
    features = {name: random_features(20, seed=number) for number, name in enumerate("abc")}
    path = tmp_path / "d.db"
    write_colmap_database(path, features, {("a", "b"): random_matches(20, 20, 12)})
    apart, in_one_place = torch.eye(3, 4), torch.eye(3, 4)
    apart[0, 3] = 2.0
    with open_database(path, write=True) as opened:
        opened.replace_verified(("a", "b"), INLIERS, apart)
        opened.replace_verified(("b", "c"), INLIERS, in_one_place)
    taken = Imported.open(path).pairs
    assert {pair: len(matches) for pair, matches in taken.items()} == {("a", "b"): 8, ("b", "c"): 8}
