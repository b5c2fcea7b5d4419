"""What all stages of a run share: the folder of results, options, the cache, progress, and who computes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from lightmatch.pipelines.layout import Layout
from lightmatch.pipelines.progress import Progress
from lightmatch.pipelines.reconstruct.config import ReconstructConfig
from lightmatch.runtime.cache import Cache
from lightmatch.runtime.executor import Executor, Threads
from lightmatch.runtime.threads import MOST_WORKERS

I = TypeVar("I")  # noqa: E741
R = TypeVar("R")


@dataclass(frozen=True, eq=False)
class Run:
    """One run: each stage takes it, and what the stages before it made."""

    layout: Layout
    config: ReconstructConfig
    cache: Cache
    progress: Progress = field(default_factory=Progress)
    executor: Executor = field(default_factory=Threads)
    variant: str = ""  # where photos are reconstructed in a second way: its stages are kept beside those of the first

    def stage_name(self, stage: str) -> str:
        """The name in the cache of a stage that depends on the features."""
        return f"{stage}_{self.variant}" if self.variant else stage

    @classmethod
    def of(
        cls, folder: Path, config: ReconstructConfig, progress: Progress | None = None, executor: Executor | None = None
    ) -> Run:
        """The run that writes to `folder`; silent, and on threads of this process, by default.

        Raises InvalidValueError where `config.store` is no address of object storage.
        """
        layout = Layout(folder)
        cache = Cache.with_records_at(layout.store, config.store)
        return cls(layout, config, cache, progress or Progress(), executor or Threads())

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
        with self.progress.stage(stage, sum(map(steps, items))) as step:
            return self.map_within(step, job, items, steps=steps, most=most)

    def map_within(
        self,
        step: Callable[[], None],
        job: Callable[[I], R],
        items: Iterable[I],
        *,
        steps: Callable[[I], int] = lambda item: 1,
        most: int = MOST_WORKERS,
    ) -> list[R]:
        """As `map`, within a stage of more than that. step: called for each step of the stage's progress."""
        items = list(items)
        found: list[R] = []
        with closing(self.executor.map(job, items, most)) as results:
            for item, result in zip(items, results, strict=True):
                found.append(result)
                for _ in range(steps(item)):
                    step()
        return found
