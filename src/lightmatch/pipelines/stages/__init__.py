"""Stages of a reconstruction by themselves, in the files of COLMAP and hloc.

extract features → choose pairs → match → verify, written for another program to go on with; and read back
(`imported`), for `reconstruct` to go on with what another program found.
"""

from lightmatch.pipelines.stages.config import StageConfig, StageResult
from lightmatch.pipelines.stages.run import match_all, write_features, write_pairs

__all__ = ["StageConfig", "StageResult", "match_all", "write_features", "write_pairs"]
