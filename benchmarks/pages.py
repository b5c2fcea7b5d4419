"""Which pages of docs/ are made from measured numbers: by which script, with which arguments, from which results.

A script that measures writes its file in results/ and then its page, by `write_page`. What a page says is a function of
the results alone: `page(text, *results)` in the script (or in the module named beside it) takes the page as it is and
the contents of the results files, and gives the page as it must be. `run.py --check` holds all pages to that.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common import DOCS, RESULTS


@dataclass(frozen=True)
class Page:
    """A page of docs/, or a picture in one, and what makes it.

    In commands `{data}` stands for the folder of data sets (LIGHTMATCH_DATA), `{work}` for a folder that keeps what can
    be used again, and `{weights}` for a file of weights.
    """

    path: str  # below docs/
    script: str  # of benchmarks/, without .py
    arguments: tuple[str, ...] = ()  # a command each: a script may have to run more than once
    results: tuple[str, ...] = ()  # below results/; that of the script's name where nothing is said
    writer: str = ""  # the module whose `page` makes the text; the script where nothing is said
    before: tuple[str, ...] = ()  # commands that must have run, whose output the script reads

    @property
    def result_files(self) -> tuple[Path, ...]:
        """What the page is made from."""
        return tuple(RESULTS / name for name in self.results or (f"{self.script}.json",))

    @property
    def is_text(self) -> bool:
        """Whether it can be compared with what the results say; pictures differ from one Matplotlib to the next."""
        return self.path.endswith(".md")

    @property
    def commands(self) -> tuple[str, ...]:
        """Everything to be run to measure anew and write the page."""
        runs = tuple(
            f"python benchmarks/{self.script}.py {arguments}".rstrip() for arguments in self.arguments or ("",)
        )
        return self.before + runs

    def text(self) -> str:
        """The page as its results say it must be."""
        module = importlib.import_module(self.writer or self.script)
        contents = [json.loads(path.read_text(encoding="utf-8")) for path in self.result_files]
        return module.page((DOCS / self.path).read_text(encoding="utf-8"), *contents)


_RECONSTRUCT = "lightmatch reconstruct {data}/eval/%s -o {work}/%s --seed 0"
_LIGHTPOINT_PHOTOS = "--photos {data}/train2/images --photos {data}/train3 --scenes {data}/train3"

PAGES = (
    Page("cluster.md", "cluster", ("--work {work}",), results=("cluster.json", "scale.json")),
    Page(
        "exits.md",
        "exits",
        tuple(f"--features {name} --work {{work}}/{name}" for name in ("sift", "lightpoint")),
    ),
    Page("features.md", "features_auto", results=("features_auto.json", "reconstruct_sets.json")),
    Page("features-curves.png", "features_curves", ("--work {work}",)),
    Page(
        "features-table.md",
        "features_table",
        ("--keypoints 512 1024 2048 --work {work}",),
        writer="features_page",
    ),
    Page("interchange.md", "colmap_outside"),
    Page("lightglue-sift.md", "lightglue_sift", ("--work {work}",)),
    Page(
        "lightpoint-ablation.md",
        "lightpoint_ablation",
        (f"{_LIGHTPOINT_PHOTOS} --from {{weights}} --cache {{work}} --steps 160",),
    ),
    Page("localization.md", "localize", ("--keep {work}",)),
    Page(
        "onnx.md",
        "onnx_runtime",
        (
            "--threads 1 --photos "
            + " ".join(f"{{data}}/eval/strecha/fountain-P11/images/{n:04d}.jpg" for n in (4, 5, 6, 7)),
        ),
    ),
    Page("pairing.md", "pairing", ("--cache {work}",), writer="pairing_page"),
    Page("panoramas.md", "panoramas", ("--keep {work}",)),
    Page(
        "match-probability.md",
        "match_probability",
        tuple(f"--features {name} --work {{work}}" for name in ("sift", "lightpoint")),
    ),
    Page("images/match-probability.png", "match_probability"),
    Page(
        "paper_claims.md",
        "paper_claims",
        ("--photos {data}/train/images --textures {data}/train2/textures --work {work}",),
    ),
    Page("precision.md", "precision", ("--work {work}",)),
    Page("reconstruction.md", "reconstruct_sets", results=("reconstruct_sets.json", "lund_door_truth.json")),
    Page("scale.md", "scale", ("--work {work}",)),
    Page("sift.md", "sift_backends"),
    Page("speed.md", "speed", writer="speed_page"),
    Page(
        "splats.md",
        "densify",
        (
            "--demo {work}/demo --set castle={work}/castle --set fountain-P11={work}/fountain-P11"
            " --set lund_door={work}/lund_door",
        ),
        before=(
            "lightmatch demo --output {work}/demo",
            _RECONSTRUCT % ("sfm_sceaux_castle", "castle"),
            _RECONSTRUCT % ("strecha/fountain-P11", "fountain-P11"),
            _RECONSTRUCT % ("lund_door", "lund_door"),
        ),
    ),
    Page("track.md", "track", ("--data {data}/eval --work {work}",), writer="track_page"),
    Page("disambiguation.md", "disambiguation", ("--cache {work}",)),
    Page("video.md", "video_frames", ("--seeds 0 1",)),
)

# Results measured where the tree differed from its commit: which, and why they still stand here. A file leaves this
# list when it is measured again from a clean tree; nothing may join it.
NOT_CLEAN = {
    "lightglue_sift.json": "hours of matching on all visible sets; two tables were added from the page, rounded",
    "paper_claims.json": "hours of training",
    "speed.json": "times of an idle machine",
    "disambiguation.json": "its ordinary photos need nine reconstructions",
}


def page_of(name: str) -> Page:
    """The page of this name, with or without its ending, or of this script. Raises KeyError where there is none."""
    for page in PAGES:
        if name in (page.path, page.path.rpartition(".")[0], page.script):
            return page
    raise KeyError(name)


def write_page(script: str) -> None:
    """Write the page of a script from its results."""
    page = page_of(script)
    (DOCS / page.path).write_text(page.text(), encoding="utf-8")


def commits(results: Any) -> Iterator[str]:
    """Every commit that a results file names, at whatever depth."""
    if isinstance(results, dict):
        if isinstance(results.get("commit"), str):
            yield results["commit"]
        results = list(results.values())
    if isinstance(results, list):
        for value in results:
            yield from commits(value)
