"""Evaluation pairs from published data sets: one module per layout, detected from the files in the folder."""

from lightmatch.evaluation.datasets.camera_list import read_camera_list
from lightmatch.evaluation.datasets.colmap import read_colmap
from lightmatch.evaluation.datasets.homographies import read_hpatches, read_oxford
from lightmatch.evaluation.datasets.image_matching_challenge import read_imc
from lightmatch.evaluation.datasets.layouts import detect_layout, read_pairs
from lightmatch.evaluation.datasets.marked_points import read_marked_points
from lightmatch.evaluation.datasets.pair_lists import (
    read_json_list,
    read_megadepth,
    read_scannet,
    read_text_list,
)
from lightmatch.evaluation.datasets.rendered import worlds
from lightmatch.evaluation.datasets.strecha import read_strecha, read_strecha_camera

__all__ = [
    "detect_layout",
    "read_camera_list",
    "read_colmap",
    "read_hpatches",
    "read_imc",
    "read_json_list",
    "read_marked_points",
    "read_megadepth",
    "read_oxford",
    "read_pairs",
    "read_scannet",
    "read_strecha",
    "read_strecha_camera",
    "read_text_list",
    "worlds",
]
