"""Recipes: TOML in, checked dataclasses out, one sentence for every mistake."""

from pathlib import Path

import pytest

from lightmatch.errors import TrainingError
from lightmatch.networks.lightglue import LightGlueConfig
from lightmatch.training.recipe import LightPointRecipe, Recipe, read_recipe

RECIPES = Path(__file__).parents[2] / "recipes"

SMALL = """
name = "small"
seed = 3
[features]
name = "sift"
options = { contrast_threshold = 0.01 }
[lightglue]
features = "sift"
descriptor_dim = 64
num_heads = 1
width_confidence = 0
[groups]
homographies = 5
[homographies]
size = [320, 240]
[worlds]
fov_deg = [50, 60]
[sampling]
num_points = [64, 128]
[optimization]
steps = 7
"""


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "recipe.toml"
    path.write_text(text)
    return path


def test_tables_become_checked_values(tmp_path: Path) -> None:
    recipe = read_recipe(write(tmp_path, SMALL))
    assert isinstance(recipe, Recipe)
    assert (recipe.name, recipe.seed, recipe.optimization.steps) == ("small", 3, 7)
    assert recipe.features.options == {"contrast_threshold": 0.01}
    assert isinstance(recipe.network, LightGlueConfig)
    assert recipe.network.descriptor_dim == 64 and recipe.network.num_layers == 9  # the default
    assert recipe.network.width_confidence == 0.0
    assert recipe.homographies.size == (320, 240) and recipe.sampling.num_points == (64, 128)
    assert recipe.worlds.fov_deg == (50, 60)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("steps = 7", "steps = 7\nstep = 8"), "optimization: expected only the keys .*learning_rate.*; got step"),
        (("steps = 7", "learning_rate = 1"), r"optimization\.steps: expected a value, got none"),
        (("steps = 7", 'steps = "many"'), r"optimization\.steps: expected a whole number, got 'many'"),
        (("steps = 7", "steps = true"), r"optimization\.steps: expected a whole number, got True"),
        (("[50, 60]", "[50]"), r"worlds\.fov_deg: expected a list of 2, got \[50\]"),
        (("[homographies]", "[homography]"), "expected only the keys .*homographies.*; got homography"),
        (('name = "small"', ""), "name: expected a value, got none"),
        (("descriptor_dim = 64", "descriptor_dim = 0"), r"lightglue: .*descriptor_dim: expected at least 1, got 0"),
        (("[lightglue]", "[matcher]"), r"name of its family, such as \[lightglue\] .*; got \[matcher\]"),
        (("[lightglue]", "[superglue]\nfeatures = 'sift'\n[lightglue]"), "expected one table of a matcher"),
        (('features = "sift"\ndesc', 'features = "disk"\ndesc'), "expected a network for its features, 'sift'"),
        (("seed = 3", "seed ="), "expected a recipe in TOML, could not read it"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, change: tuple[str, str], says: str) -> None:
    with pytest.raises(TrainingError, match=rf"recipe\.toml: .*{says}"):
        read_recipe(write(tmp_path, SMALL.replace(*change)))


def test_options_of_the_loss_beside_a_matcher_that_takes_none_are_refused(tmp_path: Path) -> None:
    text = 'name = "small"\n[superglue]\nfeatures = "sift"\n[optimization]\nsteps = 7\n'
    assert isinstance(read_recipe(write(tmp_path, text)), Recipe)
    with pytest.raises(TrainingError, match=r"beside \[superglue\], which has none, got .*geometry=0\.5"):
        read_recipe(write(tmp_path, text + "[objective]\ngeometry = 0.5\n"))


def test_a_missing_recipe_is_named(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"nowhere\.toml: expected a recipe, found no file"):
        read_recipe(tmp_path / "nowhere.toml")


@pytest.mark.parametrize("path", sorted(RECIPES.rglob("*.toml")), ids=lambda path: path.stem)
def test_the_recipes_of_the_repository_are_sound(path: Path) -> None:
    recipe = read_recipe(path)
    if isinstance(recipe, Recipe):
        assert recipe.sampling.early_steps < recipe.optimization.steps
    else:
        assert recipe.teachers.describers and not recipe.lightpoint.spaces  # which are those of the describers


def test_a_recipe_may_be_for_features(tmp_path: Path) -> None:
    path = write(tmp_path, 'name = "points"\n[lightpoint]\nchannels = [8, 16, 16, 32]\n[optimization]\nsteps = 3')
    recipe = read_recipe(path)
    assert isinstance(recipe, LightPointRecipe) and recipe.lightpoint.channels == (8, 16, 16, 32)


def test_batches_of_more_keypoints_than_views_have_are_refused(tmp_path: Path) -> None:
    changed = SMALL.replace('name = "sift"', 'name = "sift"\nmax_keypoints = 512', 1)
    read_recipe(write(tmp_path, changed))
    with pytest.raises(TrainingError, match=r"at most features.max_keypoints = 512 .* got 1024"):
        read_recipe(write(tmp_path, changed.replace("[64, 128]", "[64, 1024]")))


def test_a_weight_for_a_teacher_that_does_not_take_part_is_refused(tmp_path: Path) -> None:
    text = 'name = "x"\n[lightpoint]\n[optimization]\nsteps = 1\n[objective]\nteacher_weights = { %s = 2.0 }\n'
    read_recipe(write(tmp_path, text % "aliked"))
    with pytest.raises(TrainingError, match=r"teacher_weights of teachers.describers.*got disk"):
        read_recipe(write(tmp_path, text % "disk"))
