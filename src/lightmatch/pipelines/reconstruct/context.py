"""What all stages of a run share: where files go, options, the cache, progress, and who computes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from lightmatch.pipelines.progress import Progress
from lightmatch.pipelines.reconstruct.config import ReconstructConfig
from lightmatch.runtime.cache import Cache
from lightmatch.runtime.executor import Executor, Threads
from lightmatch.runtime.threads import MOST_WORKERS

I = TypeVar("I")  # noqa: E741
R = TypeVar("R")


@dataclass(frozen=True)
class Layout:
    """The names of files and folders in a folder of results; see docs/output-files.md."""

    folder: Path

    @property
    def images(self) -> Path:
        """Upright working copies of photos, and frames of videos."""
        return self.folder / "images"

    @property
    def masks(self) -> Path:
        """Masks of the working copies."""
        return self.folder / "masks"

    @property
    def store(self) -> Path:
        """The cache: features, matches and finished stages."""
        return self.folder / "store"

    @property
    def picture_keys(self) -> Path:
        """Keys of the pictures' features in the cache, by name: for `lightmatch localize`."""
        return self.store / "pictures.json"

    @property
    def panoramic_frames(self) -> Path:
        """Frames of panoramic videos before they are cut into views."""
        return self.store / "panoramas"

    @property
    def sparse(self) -> Path:
        """Models in COLMAP's binary format, the best in 0."""
        return self.folder / "sparse"

    @property
    def sparse_text(self) -> Path:
        """The best model in COLMAP's text format."""
        return self.folder / "sparse_text"

    @property
    def database(self) -> Path:
        """COLMAP's database."""
        return self.folder / "database.db"

    @property
    def trajectories(self) -> Path:
        """One file for each video."""
        return self.folder / "trajectories"

    @property
    def panoramas(self) -> Path:
        """Poses of panoramas."""
        return self.folder / "panoramas.json"

    @property
    def orientations(self) -> Path:
        """Rotations of a camera that only rotated."""
        return self.folder / "orientations.json"

    @property
    def splat(self) -> Path:
        """What splat trainers read."""
        return self.folder / "splat"

    @property
    def overview(self) -> Path:
        """A drawing of cameras and points."""
        return self.folder / "overview.png"

    @property
    def summary(self) -> Path:
        """What the run did and found."""
        return self.folder / "summary.json"


@dataclass(frozen=True, eq=False)
class Run:
    """One run: each stage takes it, and what the stages before it made."""

    layout: Layout
    config: ReconstructConfig
    cache: Cache
    progress: Progress = field(default_factory=Progress)
    executor: Executor = field(default_factory=Threads)

    @classmethod
    def of(
        cls, folder: Path, config: ReconstructConfig, progress: Progress | None = None, executor: Executor | None = None
    ) -> Run:
        """The run that writes to `folder`; silent, and on threads of this process, by default."""
        layout = Layout(folder)
        return cls(layout, config, Cache(layout.store), progress or Progress(), executor or Threads())

    def map(
        self,
        stage: str,
        job: Callable[[I], R],
        items: Iterable[I],
        *,
        steps: Callable[[I], int] = lambda item: 1,
        most: int = MOST_WORKERS,
    ) -> list[R]:
        """Apply a job to all items, as one stage of the progress; results in the order of the items.

        steps: of the progress that an item stands for. most: items worked on at a time.
        """
        items = list(items)
        found: list[R] = []
        with (
            self.progress.stage(stage, sum(map(steps, items))) as step,
            closing(self.executor.map(job, items, most)) as results,
        ):
            for item, result in zip(items, results, strict=True):
                found.append(result)
                for _ in range(steps(item)):
                    step()
        return found
