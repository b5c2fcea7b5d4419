"""What a finished reconstruction left, for verbs that go on from it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lightmatch.errors import InvalidValueError, ReconstructionError
from lightmatch.images import Levels
from lightmatch.pipelines.layout import Layout
from lightmatch.pipelines.output import is_finished, is_output
from lightmatch.pipelines.reconstruct.config import ReconstructConfig
from lightmatch.pipelines.reconstruct.summary import read_summary
from lightmatch.reconstruction import FrameSummary, read_model
from lightmatch.runtime import codec
from lightmatch.runtime.cache import Cache
from lightmatch.runtime.store import FeatureStore
from lightmatch.types import Features

if TYPE_CHECKING:
    from pycolmap import Reconstruction


@dataclass(frozen=True, eq=False)
class FinishedRun:
    """A model, and the features that it is made of."""

    layout: Layout
    model: Reconstruction
    keys: dict[str, str]  # of features, by photo
    store: FeatureStore
    config: ReconstructConfig  # of which features, matcher and max_keypoints hold for the new photo too
    frame: FrameSummary
    levels: Levels | None  # that its photos were read with; None also where an earlier version did not note them

    @classmethod
    def of(cls, output: Path) -> FinishedRun:
        """Read a folder that `reconstruct` wrote. Raises ReconstructionError where it is not finished or not whole."""
        layout = Layout(output)
        inside = next((up for up in output.resolve().parents if is_output(up) and is_finished(up)), None)
        if inside is not None and not is_output(output):
            raise ReconstructionError(f"{output}: expected a reconstruction's folder, got one in it; name {inside}")
        if not layout.best_model.is_dir() or not is_finished(output):
            found = "an unfinished run" if is_output(output) else "none" if output.is_dir() else "no such folder"
            raise ReconstructionError(
                f"{output}: expected the output of a finished reconstruction, found {found}; run:"
                f" lightmatch reconstruct PHOTOS -o {output}"
            )
        summary = read_summary(output)
        try:
            keys = codec.read(dict[str, str], layout.picture_keys)
        except (OSError, InvalidValueError) as error:
            raise ReconstructionError(
                f"{output}: expected store/pictures.json as reconstruct writes it, got {error};"
                " reconstruct again into the same folder with --overwrite"
            ) from error
        if summary.config.imported is not None:
            raise ReconstructionError(
                f"{output}: expected a model of features extracted here, this one is of keypoints from"
                f" {summary.config.imported}, which have no descriptors; reconstruct without --from"
            )
        model, store = read_model(layout.best_model), Cache(layout.store).features
        return cls(layout, model, keys, store, summary.config, summary.frame, summary.levels)

    def features_of(self, name: str) -> Features:
        """Those of a photo that the matcher gets. Raises ReconstructionError where they are absent or damaged."""
        return self.all_features_of(name).strongest(self.config.max_keypoints)

    def all_features_of(self, name: str) -> Features:
        """Those of a photo, in the order of its points in the model. Raises ReconstructionError as `features_of`."""
        found = self.store.read(self.keys[name]) if name in self.keys else None
        if found is None:
            raise ReconstructionError(
                f"{name}: expected its features in {self.layout.store}, found none or damaged ones;"
                " reconstruct again into the same folder with --overwrite, what is whole is kept"
            )
        return found
