"""Where everything lies in a folder that `reconstruct` writes to."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


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
    def best_model(self) -> Path:
        """The best model."""
        return self.sparse / "0"

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

    @property
    def report(self) -> Path:
        """The page to look at."""
        return self.folder / "report.html"
