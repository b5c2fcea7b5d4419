"""Files of weights: those in the package, those published elsewhere, and how to read and write them."""

from lightmatch.weights.fetch import find_weights, local_weights, obtain_weights, verify_weights, weights_folder
from lightmatch.weights.files import load_strictly, read_tensors, tensors_digest, write_tensors
from lightmatch.weights.pretrained import PRETRAINED_FOLDER, matcher_weights, pretrained_names, pretrained_path
from lightmatch.weights.records import BY_HAND, RECORDS, WeightsRecord, weights_record

__all__ = [
    "BY_HAND",
    "PRETRAINED_FOLDER",
    "RECORDS",
    "WeightsRecord",
    "find_weights",
    "load_strictly",
    "local_weights",
    "matcher_weights",
    "obtain_weights",
    "pretrained_names",
    "pretrained_path",
    "read_tensors",
    "tensors_digest",
    "verify_weights",
    "weights_folder",
    "weights_record",
    "write_tensors",
]
