"""Features, matches and two-view geometries in other tools' files, and in plain .npz: docs/interchange.md."""

from lightmatch.colmap.database_files import (
    ImageKeypoints,
    VerifiedPair,
    read_colmap_cameras,
    read_colmap_features,
    read_colmap_keypoints,
    read_colmap_matches,
    read_colmap_verified,
)
from lightmatch.colmap.database_writing import write_colmap_database
from lightmatch.interchange.hloc import (
    count_hloc_keypoints,
    read_hloc_features,
    read_hloc_keypoints,
    read_hloc_matches,
    write_hloc_features,
    write_hloc_matches,
)
from lightmatch.interchange.npz import read_features_npz, read_matches_npz, write_features_npz, write_matches_npz

__all__ = [
    "ImageKeypoints",
    "VerifiedPair",
    "count_hloc_keypoints",
    "read_colmap_cameras",
    "read_colmap_features",
    "read_colmap_keypoints",
    "read_colmap_matches",
    "read_colmap_verified",
    "read_features_npz",
    "read_hloc_features",
    "read_hloc_keypoints",
    "read_hloc_matches",
    "read_matches_npz",
    "write_colmap_database",
    "write_features_npz",
    "write_hloc_features",
    "write_hloc_matches",
    "write_matches_npz",
]
