import json
import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from neurorecon.datasets.recipe import Recipe, load_recipe
from neurorecon.errors import InputError, MissingFileError, NeuroreconError, UnknownNameError
from neurorecon.registry import DATASETS

#: A busy machine is no failure.
PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

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
    cells = re.findall(r"^\| (`[^|]+`) \|", readme, flags=re.M)  # several keys may share a row
    documented = {key for cell in cells for key in re.findall(r"`\[?(?:options\.)?([a-z_]+)\]?`", cell)}
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
    with pytest.raises(InputError, match=r"2 invalid keys[\s\S]*voxel: Extra[\s\S]*keys: .*train_images"):
        recipe.open()


def test_recipes_that_are_not_there(tmp_path):
    with pytest.raises(MissingFileError, match=r"recipe does not exist[\s\S]*one of: scenes, miyawaki2008"):
        load_recipe(tmp_path / "nothing.toml")
    unknown = load_recipe(_write(tmp_path, 'name = "a"\nreader = "scene"'))
    with pytest.raises(UnknownNameError, match="did you mean 'scenes'"):
        unknown.open()


def test_a_relative_root_counts_from_the_recipe(tmp_path):
    path = _write(tmp_path, 'name = "a"\nreader = "miyawaki2008"\nroot = "data"')
    assert load_recipe(path).root == str(tmp_path / "data")
    assert load_recipe(path, root="/elsewhere").root == "/elsewhere"
    with pytest.raises(MissingFileError, match="folder of the data set 'miyawaki2008' does not exist"):
        load_recipe(path).open()


@PATIENT
@given(st.text(max_size=60))
def test_any_text_is_a_recipe_or_a_clear_error(tmp_path_factory, text):
    path = tmp_path_factory.mktemp("recipes") / "any.toml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(NeuroreconError, match="recipe"):
        load_recipe(path)


TEXT = st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=12)
NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,10}", fullmatch=True)
OPTIONS = st.fixed_dictionaries(
    {},
    optional={
        "transpose": st.booleans(),
        "repetition_time": st.floats(0.1, 10),
        "test_stimuli": st.lists(TEXT, max_size=3),
        "seed": st.integers(0, 2**31),
        "bad_voxels": st.sampled_from(["drop", "keep"]),
        "shape": st.lists(st.integers(1, 300), min_size=3, max_size=3),
        "units": TEXT,
    },
)


def _toml(name, targets, groups, options):
    """Write a recipe of the reader of arrays; JSON's strings, numbers and lists are TOML's."""
    lines = [f"name = {json.dumps(name)}", 'reader = "arrays"', f"targets = {json.dumps(targets)}", "[roi_groups]"]
    lines += [f"{json.dumps(key)} = {json.dumps(value, ensure_ascii=False)}" for key, value in groups.items()]
    lines += ["[options]"]
    return "\n".join(lines + [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in options.items()])


@settings(PATIENT, max_examples=40)
@given(NAMES, st.lists(NAMES, max_size=2), st.dictionaries(NAMES, st.lists(TEXT, max_size=2), max_size=2), OPTIONS)
def test_what_is_written_is_what_is_read(tmp_path_factory, name, targets, groups, options):
    path = tmp_path_factory.getbasetemp() / "any.toml"
    path.write_text(_toml(name, targets, groups, options), encoding="utf-8")
    recipe = load_recipe(path)
    assert (recipe.name, recipe.targets, recipe.roi_groups, recipe.options) == (name, targets, groups, options)
    found = recipe.checked_options()
    assert {key: getattr(found, key) for key in options} == options
    turned = Recipe(name=name, reader="arrays", roi_groups=groups, options=dict(reversed(options.items())))
    assert turned.digest() == recipe.digest()  # neither the order of the keys nor the targets change the numbers
    other = turned.model_copy(update={"options": {**options, "seed": options.get("seed", 0) + 1}})
    assert other.digest() != recipe.digest()


@settings(PATIENT, max_examples=40)
@given(NAMES, st.sampled_from(["options", "recipe"]))
def test_any_unknown_key_is_named(tmp_path_factory, key, where):
    options = set(DATASETS.load("arrays").Options.model_fields)
    assume(key not in (options if where == "options" else set(Recipe.model_fields)))
    path = tmp_path_factory.getbasetemp() / "any.toml"
    path.write_text(
        'name = "a"\nreader = "arrays"\n' + ("[options]\n" if where == "options" else "") + f'"{key}" = 1\n'
    )
    with pytest.raises(InputError, match=f"{re.escape(key)}: Extra inputs"):
        load_recipe(path).checked_options()


def test_a_data_set_without_files_takes_no_root():
    with pytest.raises(InputError, match="not read from a folder"):
        load_recipe("scenes", root="/anywhere").open()
