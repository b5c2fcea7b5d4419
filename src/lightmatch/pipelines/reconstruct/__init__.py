"""Photos and videos → cameras, points, and a page: the stages of `lightmatch reconstruct`, in the order they run.

jobs → panoramas → pictures → pairs → matching → verification → mapping → results → summary → report. attempt.py joins
those up to mapping, fallback.py does it again with other features where photos are left out, run.py joins all.
"""

from lightmatch.pipelines.reconstruct.config import ReconstructConfig
from lightmatch.pipelines.reconstruct.run import reconstruct
from lightmatch.pipelines.reconstruct.summary import Summary, read_summary

__all__ = ["ReconstructConfig", "Summary", "read_summary", "reconstruct"]
