"""A recipe: everything that decides what a training run learns, in one TOML file.

Where the data lies is not part of it: the same recipe trains on anyone's photos.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from lightmatch.errors import InvalidValueError, TrainingError
from lightmatch.matchers import available_matchers, matcher_family
from lightmatch.networks.lightglue import LightGlueConfig
from lightmatch.networks.lightpoint import LightPointConfig
from lightmatch.networks.superglue import SuperGlueConfig
from lightmatch.runtime import codec
from lightmatch.runtime.discovery import resolve
from lightmatch.training.batches import PairSampling
from lightmatch.training.homographies import HomographyConfig
from lightmatch.training.lightpoint.joint import JointConfig
from lightmatch.training.lightpoint.objective import StudentObjectiveConfig
from lightmatch.training.lightpoint.scenes import ScenePairsConfig
from lightmatch.training.lightpoint.views import StudentViewsConfig
from lightmatch.training.losses import LightGlueObjectiveConfig
from lightmatch.training.matched import MatchedConfig
from lightmatch.training.optimization import OptimizationConfig
from lightmatch.training.posed import PosedConfig
from lightmatch.training.worlds import WorldsConfig


@dataclass(frozen=True)
class FeaturesRecipe:
    """Which features the matcher is for."""

    name: str = "sift"
    max_keypoints: int = 2048  # of a view; batches take the strongest of them
    options: dict[str, Any] = field(default_factory=dict)  # of the extractor


@dataclass(frozen=True)
class PhotosRecipe:
    """How photos are split."""

    validation_share: float = 0.05
    id_pattern: str = "(.*)"  # the first group of this in a file's name says which photo it shows
    exclude_pattern: str | None = None  # photos whose names begin like this are left out
    exclude_folders: tuple[str, ...] = ()  # photos directly in folders of these names are left out


@dataclass(frozen=True)
class GroupsRecipe:
    """How many groups of views each source gives; 0 leaves a source out."""

    homographies: int = 0
    worlds: int = 0
    posed: int = 0
    matched: int = 0
    validation: int = 16  # of each source that is used, from photos and worlds held out
    validation_points: int = 512  # keypoints of a view in validation


@dataclass(frozen=True)
class Recipe:
    """See the fields of each part for what can be set."""

    name: str
    optimization: OptimizationConfig
    network: Any  # config of the matcher, from the table with the name of its family, such as [lightglue]
    seed: int = 0
    description: str = ""
    features: FeaturesRecipe = FeaturesRecipe()
    objective: LightGlueObjectiveConfig = field(default_factory=LightGlueObjectiveConfig)
    photos: PhotosRecipe = PhotosRecipe()
    groups: GroupsRecipe = GroupsRecipe()
    homographies: HomographyConfig = field(default_factory=HomographyConfig)
    worlds: WorldsConfig = field(default_factory=WorldsConfig)
    posed: PosedConfig = field(default_factory=PosedConfig)
    matched: MatchedConfig = field(default_factory=MatchedConfig)
    sampling: PairSampling = field(default_factory=PairSampling)
    expected: dict[str, float] = field(default_factory=dict)  # scores that a run of this recipe has reached

    def __post_init__(self) -> None:
        if self.network.features != self.features.name:
            raise TrainingError(
                f"recipe {self.name!r}: expected a network for its features, {self.features.name!r},"
                f" got one for {self.network.features!r}"
            )
        most = max(*self.sampling.num_points, self.groups.validation_points)
        if most > self.features.max_keypoints:
            raise TrainingError(
                f"recipe {self.name!r}: expected at most features.max_keypoints = {self.features.max_keypoints}"
                f" keypoints of a view in a batch, got {most} in sampling.num_points or groups.validation_points"
            )
        if isinstance(self.network, SuperGlueConfig) and self.objective != LightGlueObjectiveConfig():
            raise TrainingError(
                f"recipe {self.name!r}: expected no options of the loss beside [superglue], which has none,"
                f" got {self.objective}; leave out the table [objective]"
            )


@dataclass(frozen=True)
class TeachersRecipe:
    """Which published extractors LightPoint learns from."""

    detector: str = "aliked_n16rot"
    describers: tuple[str, ...] = ("aliked", "aliked_n16rot")
    max_keypoints: int = 1024  # of a photo
    long_side: int = 640  # px: larger photos are shrunk to it, before teachers and student see them
    options: dict[str, Any] = field(default_factory=dict)  # of the detector


@dataclass(frozen=True)
class LightPointRecipe:
    """How LightPoint is trained."""

    name: str
    lightpoint: LightPointConfig
    optimization: OptimizationConfig
    seed: int = 0
    description: str = ""
    teachers: TeachersRecipe = TeachersRecipe()
    photos: PhotosRecipe = PhotosRecipe()
    views: StudentViewsConfig = field(default_factory=StudentViewsConfig)
    scenes: ScenePairsConfig = field(default_factory=ScenePairsConfig)
    objective: StudentObjectiveConfig = field(default_factory=StudentObjectiveConfig)
    expected: dict[str, float] = field(default_factory=dict)  # scores that a run of this recipe has reached

    def __post_init__(self) -> None:
        if unknown := sorted(self.objective.teacher_weights.keys() - set(self.teachers.describers)):
            raise TrainingError(
                f"recipe {self.name!r}: expected objective.teacher_weights of teachers.describers,"
                f" {', '.join(self.teachers.describers)}; got {', '.join(unknown)}"
            )


@dataclass(frozen=True, kw_only=True)
class JointRecipe(LightPointRecipe):
    """How LightPoint and the LightGlue on it are trained together."""

    lightglue: LightGlueConfig
    joint: JointConfig = field(default_factory=JointConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        expected, got = (
            ("lightpoint", self.lightpoint.descriptor_dim),
            (self.lightglue.features, self.lightglue.input_dim),
        )
        if expected != got:
            raise TrainingError(
                f"recipe {self.name!r}: expected a LightGlue for features {expected[0]!r} of width {expected[1]},"
                f" got one for {got[0]!r} of width {got[1]}"
            )


_ADVICE = "correct the recipe"


def read_recipe(path: Path) -> Recipe | LightPointRecipe:
    """A recipe from TOML.

    Raises TrainingError where it is missing, is no TOML, or has an unknown key, a missing one or a value of another
    type, with the file and the place in it.
    """
    try:
        with path.open("rb") as file:
            table = tomllib.load(file)
    except FileNotFoundError as error:
        raise TrainingError(f"{path}: expected a recipe, found no file; the folder recipes/ has examples") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, IsADirectoryError) as error:
        raise TrainingError(f"{path}: expected a recipe in TOML, could not read it ({error})") from error
    features, matcher = "lightpoint" in table, "lightglue" in table
    kind = JointRecipe if features and matcher else LightPointRecipe if features else Recipe
    try:
        if kind is Recipe:
            table = _with_network(table, str(path))
        return codec.from_json(kind, table, str(path), advice=_ADVICE)
    except InvalidValueError as error:
        raise TrainingError(str(error)) from error


def _with_network(table: dict[str, Any], where: str) -> dict[str, Any]:
    """The table of the matcher as its family's config, under "network"."""
    other = {each.name for each in fields(Recipe)} - {"network"}
    tables = [name for name, value in table.items() if isinstance(value, dict) and name not in other]
    matchers = (name for name in tables if name in available_matchers())
    families = {name: config for name in matchers if (config := matcher_family(name).config)}
    if len(families) != 1 or "network" in tables:
        raise InvalidValueError(
            f"{where}: expected one table of a matcher with the name of its family, such as [lightglue] or"
            f" [superglue]; got {' and '.join(f'[{name}]' for name in tables) or 'none'}; {_ADVICE}"
        )
    ((name, config),) = families.items()
    made = codec.from_json(resolve(config), table[name], f"{where}: {name}", advice=_ADVICE)
    return {key: value for key, value in table.items() if key != name} | {"network": made}
