import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neurorecon.datasets.recipe import Recipe, load_recipe
from neurorecon.errors import InputError, MissingFileError, NeuroreconError, UnknownNameError
from neurorecon.registry import DATASETS

STORES = Path(__file__).parents[1] / "stores"


@pytest.mark.parametrize("path", sorted(STORES.glob("*.toml")), ids=lambda path: path.name)
def test_recipes_of_the_repository_are_valid(path):
    recipe = load_recipe(path)
    assert recipe.name == path.stem
    DATASETS.load(recipe.reader).Options(**recipe.options)


def test_the_embedded_recipe_is_the_one_spelled_out():
    written, embedded = load_recipe(STORES / "scenes.toml"), load_recipe("scenes")
    assert written.targets == embedded.targets
    options = DATASETS.load("scenes").Options
    assert options(**written.options) == options(**embedded.options)
    assert set(written.options) == set(options.model_fields)
    assert written.digest() == embedded.digest()


def test_every_key_is_documented():
    readme = (STORES / "README.md").read_text()
    documented = set(re.findall(r"^\| `\[?([a-z_]+)\]?`", readme, flags=re.M))
    keys = set(Recipe.model_fields)
    for name in DATASETS.builtin:
        keys |= set(DATASETS.load(name).Options.model_fields)
    assert keys == documented


def _write(tmp_path, text):
    path = tmp_path / "recipe.toml"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name = ", "cannot be read"),
        ('name = "a"', "reader: Field required"),
        ('name = "a"\nreader = "scenes"\nvoxels = 3', "voxels: Extra inputs"),
        ('name = "../a"\nreader = "scenes"', "name: String should match"),
        ('name = "a"\nreader = "scenes"\ntargets = "gabor"', "targets: Input should be a valid list"),
    ],
)
def test_bad_recipes(tmp_path, text, message):
    with pytest.raises(InputError, match=message):
        load_recipe(_write(tmp_path, text))


def test_bad_options_name_the_keys_that_exist(tmp_path):
    recipe = load_recipe(_write(tmp_path, 'name = "a"\nreader = "scenes"\n[options]\nvoxel = 5\nsubjects = 0'))
    with pytest.raises(InputError, match=r"2 wrong keys[\s\S]*voxel: Extra[\s\S]*keys: .*train_images"):
        recipe.open()


def test_recipes_that_are_not_there(tmp_path):
    with pytest.raises(MissingFileError, match=r"no such recipe[\s\S]*one of: scenes, miyawaki2008"):
        load_recipe(tmp_path / "nothing.toml")
    unknown = load_recipe(_write(tmp_path, 'name = "a"\nreader = "scene"'))
    with pytest.raises(UnknownNameError, match="did you mean 'scenes'"):
        unknown.open()


def test_a_relative_root_counts_from_the_recipe(tmp_path):
    path = _write(tmp_path, 'name = "a"\nreader = "miyawaki2008"\nroot = "data"')
    assert load_recipe(path).root == str(tmp_path / "data")
    assert load_recipe(path, root="/elsewhere").root == "/elsewhere"
    with pytest.raises(MissingFileError, match="folder of the data set 'miyawaki2008' is not there"):
        load_recipe(path).open()


@given(st.text(max_size=60))
def test_any_text_is_a_recipe_or_a_clear_error(tmp_path_factory, text):
    path = tmp_path_factory.mktemp("recipes") / "any.toml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(NeuroreconError, match="recipe"):
        load_recipe(path)


def test_a_data_set_without_files_takes_no_root():
    with pytest.raises(InputError, match="read from no folder"):
        load_recipe("scenes", root="/anywhere").open()
