"""How a model came about: what was tried at each step, what was kept and why."""

from __future__ import annotations

from dataclasses import dataclass

from lightmatch.reconstruction.mapping.history import MappingHistory
from lightmatch.reconstruction.refinement.steps import RefinementHistory


@dataclass(frozen=True)
class ModelHistory:
    """All steps from verified matches to the best model."""

    mapping: MappingHistory | None  # None where the poses were given
    refinement: RefinementHistory
    known_poses: str | None = None  # the file that the poses are from; None where they were estimated
    rig_warnings: tuple[str, ...] = ()  # rigs that could not be derived from the first model

    @property
    def outlier_cameras(self) -> tuple[str, ...]:
        """Names of the photos that were removed for lying where they cannot be."""
        return () if self.mapping is None else tuple(photo.name for photo in self.mapping.removed_photos)

    @property
    def edited_photos(self) -> frozenset[str]:
        """Names of photos that look cropped or stretched: those that mapping found, and those re-registered."""
        registered = {trial.name for trial in self.refinement.reregistrations if trial.kept and trial.shape}
        return frozenset(registered.union(() if self.mapping is None else self.mapping.edited_photos))
