"""The content of the page as plain values, without COLMAP; everything but the photos is optional."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from lightmatch.errors import InvalidValueError


@dataclass(frozen=True)
class PagePhoto:
    """A photo, registered in a model or not."""

    name: str
    size: tuple[int, int] | None = None  # (width, height) px; None where it could not be read
    thumbnail: bytes = b""  # JPEG; empty where there is none
    preview: bytes = b""  # JPEG, larger
    num_keypoints: int | None = None
    reason: str = ""  # why it is in no model
    advice: str = ""  # what to do about it
    is_duplicate: bool = False  # whether it is left out as a copy of another photo of the run
    position_uncertainty: float | None = None  # one standard deviation, in the unit of the model
    rotation_uncertainty_deg: float | None = None


@dataclass(frozen=True)
class PageLens:
    """A camera as photos share it: model and parameters."""

    model: str
    size: tuple[int, int]  # (width, height) px
    params: tuple[tuple[str, float], ...]  # by name, px where they are
    focal_px: float | None = None
    field_of_view_deg: float | None = None  # horizontal


@dataclass(frozen=True, eq=False)
class PageModel:
    """Cameras and points of one reconstruction; c cameras, p points, m observations ordered by camera."""

    name: str
    photos: np.ndarray  # (c,) rows in PageData.photos
    lenses: np.ndarray  # (c,) rows in `lens_table`
    cam_from_world: np.ndarray  # (c, 3, 4)
    half_sizes: np.ndarray  # (c, 2) half width and half height of the picture at depth 1
    lens_table: tuple[PageLens, ...]
    points: np.ndarray  # (p, 3)
    colors: np.ndarray  # (p, 3) uint8 RGB
    errors_px: np.ndarray  # (p,) mean reprojection error; NaN where it is not known
    track_lengths: np.ndarray  # (p,) photos that see the point
    starts: np.ndarray  # (c + 1,) where each camera's observations begin in the next three
    observed: np.ndarray  # (m,) rows in `points`
    places: np.ndarray  # (m, 2) share of the photo's width and height, 0…1 from corner to corner
    residuals_px: np.ndarray  # (m, 2) projection of the point minus keypoint
    up: tuple[float, float, float] = (0.0, -1.0, 0.0)  # direction in the world
    num_points: int | None = None  # of the model; more than `points` where those are a sample
    num_observations: np.ndarray | None = None  # (c,) of each camera in the model; None where `observed` has them all

    def __post_init__(self) -> None:
        num_cameras, num_points, num_seen = len(self.photos), len(self.points), len(self.observed)
        expected = {
            "lenses": (num_cameras,),
            "cam_from_world": (num_cameras, 3, 4),
            "half_sizes": (num_cameras, 2),
            "points": (num_points, 3),
            "colors": (num_points, 3),
            "errors_px": (num_points,),
            "track_lengths": (num_points,),
            "starts": (num_cameras + 1,),
            "places": (num_seen, 2),
            "residuals_px": (num_seen, 2),
        }
        for name, shape in expected.items():
            require_array(f"PageModel.{name}", getattr(self, name), shape)
        if self.num_observations is not None:
            require_array("PageModel.num_observations", self.num_observations, (num_cameras,))
        require_rows("PageModel.observed", self.observed, num_points)
        require_rows("PageModel.lenses", self.lenses, len(self.lens_table))
        _require_starts("PageModel.starts", self.starts, num_seen)

    @property
    def centers(self) -> np.ndarray:
        """(c, 3) the projection centres of the cameras."""
        return -np.einsum("cji,cj->ci", self.cam_from_world[:, :, :3], self.cam_from_world[:, :, 3])


@dataclass(frozen=True, eq=False)
class PagePairs:
    """Pairs of photos that were matched; p pairs, l lines ordered by pair."""

    photos: np.ndarray  # (p, 2) rows in PageData.photos
    num_matches: np.ndarray  # (p,) before verification
    num_inliers: np.ndarray  # (p,) verified matches, those of guided matching too
    starts: np.ndarray  # (p + 1,) where each pair's lines begin
    lines: np.ndarray  # (l, 4) x0 y0 x1 y1, shares of each photo's width and height: a sample of the inliers
    probability: np.ndarray | None = None  # (p,) that the photos overlap; NaN where it is not known
    num_verified: np.ndarray | None = None  # (p,) of `num_matches`, before guided matching; None: `num_inliers`
    num_found: int | None = None  # pairs with inliers; more than are here where these are a sample

    def __post_init__(self) -> None:
        num_pairs = len(self.photos)
        expected = {
            "photos": (num_pairs, 2),
            "num_matches": (num_pairs,),
            "num_inliers": (num_pairs,),
            "starts": (num_pairs + 1,),
            "lines": (len(self.lines), 4),
        }
        for name, shape in expected.items():
            require_array(f"PagePairs.{name}", getattr(self, name), shape)
        for name in ("probability", "num_verified"):
            if getattr(self, name) is not None:
                require_array(f"PagePairs.{name}", getattr(self, name), (num_pairs,))
        _require_starts("PagePairs.starts", self.starts, len(self.lines))


@dataclass(frozen=True)
class PageDoppelganger:
    """Two photos that match, but cannot show the same place; their matches were dropped."""

    photo0: int  # rows in PageData.photos
    photo1: int
    reason: str = ""


@dataclass(frozen=True)
class PageStep:
    """A decision on the way: what was tried, whether it was kept, and why."""

    step: str
    candidates: str = ""
    kept: str = ""
    why: str = ""


@dataclass(frozen=True)
class PageFigure:
    """A number of the whole run."""

    label: str
    value: str
    note: str = ""


@dataclass(frozen=True, eq=False)
class PageData:
    """Everything the page shows."""

    title: str
    photos: tuple[PagePhoto, ...]
    models: tuple[PageModel, ...] = ()
    more_models: tuple[str, ...] = ()  # a line for each that is named, but not shown
    pairs: PagePairs | None = None
    doppelgangers: tuple[PageDoppelganger, ...] = ()
    figures: tuple[PageFigure, ...] = ()
    frame: tuple[tuple[str, str], ...] = ()  # what is known of the coordinate frame
    unit: str = ""  # of lengths, such as m; empty where the scale is arbitrary
    warnings: tuple[str, ...] = ()
    advice: tuple[str, ...] = ()
    history: tuple[PageStep, ...] = ()
    seconds: tuple[tuple[str, float], ...] = ()  # by stage, in order
    options: tuple[tuple[str, str], ...] = ()
    # Keypoints that see no point, a sample: ordered by photo, as shares of its width and height.
    idle_starts: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))  # (photos + 1,), or empty
    idle_places: np.ndarray = field(default_factory=lambda: np.zeros((0, 2)))  # (k, 2)

    def __post_init__(self) -> None:
        num_photos = len(self.photos)
        for model in self.models:
            require_rows("PageModel.photos", model.photos, num_photos)
        if self.pairs is not None:
            require_rows("PagePairs.photos", self.pairs.photos, num_photos)
        lookalikes = np.array([[pair.photo0, pair.photo1] for pair in self.doppelgangers], np.int64)
        require_rows("PageDoppelganger.photos", lookalikes, num_photos)
        require_array("PageData.idle_places", self.idle_places, (len(self.idle_places), 2))
        if len(self.idle_starts):
            require_array("PageData.idle_starts", self.idle_starts, (num_photos + 1,))
            _require_starts("PageData.idle_starts", self.idle_starts, len(self.idle_places))


def require_array(name: str, array: np.ndarray, shape: tuple[int, ...]) -> None:
    """Raise InvalidValueError unless `array` has this shape."""
    if array.shape != shape:
        raise InvalidValueError(f"{name}: expected an array of shape {shape}, got {array.shape}")


def require_rows(name: str, rows: np.ndarray, count: int) -> None:
    """Raise InvalidValueError unless all of `rows` are rows of a table of `count`."""
    if rows.size and not (rows.min() >= 0 and rows.max() < count):
        raise InvalidValueError(f"{name}: expected rows 0…{count - 1}, got {rows.min()}…{rows.max()}")


def _require_starts(name: str, starts: np.ndarray, total: int) -> None:
    if not len(starts) or starts[0] != 0 or starts[-1] != total or (np.diff(starts) < 0).any():
        raise InvalidValueError(f"{name}: expected ascending offsets from 0 to {total}, got {starts.tolist()[:8]}…")
