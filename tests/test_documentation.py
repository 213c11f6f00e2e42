"""The examples of the README and of the docs run as they are printed, and what they claim is checked.

The examples of docs/extending.md are in tests/systems/test_extending.py.
"""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import typer

import neurorecon
import neurorecon as nr
from neurorecon.cli.main import app
from neurorecon.datasets.recipe import Recipe

ROOT = Path(neurorecon.__file__).parents[1]

#: Python examples that cannot run here, by page and first line that tells them apart.
CANNOT_RUN = {
    ("docs/scale.md", "scheduler="): "needs a cluster and NSD",
    ("docs/extending.md", ""): "run in tests/systems/test_extending.py and tests/decoders/test_contract.py",
}


def _pages():
    if not (ROOT / "README.md").is_file():
        pytest.skip("installed without its documentation")
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def _blocks(page, *languages):
    return re.findall(rf"```(?:{'|'.join(languages)})\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    """The embedded data set, small."""
    options = {"subjects": 1, "voxels": 1200, "train_images": 200, "test_images": 40, "train_films": 80}
    recipe = Recipe(
        name="scenes", reader="scenes", targets=["gabor", "category", "motion", "vdvae"],
        options={**options, "test_films": 30},
    )  # fmt: skip
    return nr.build(recipe, tmp_path_factory.mktemp("docs") / "scenes.icechunk", progress=False)


@pytest.fixture
def folder(scenes, tmp_path, monkeypatch):
    """A working folder in which ``stores/scenes.icechunk`` is the small store, which ``nr.build("scenes")`` opens."""
    (tmp_path / "stores").mkdir()
    (tmp_path / "stores" / "scenes.icechunk").symlink_to(scenes.location, target_is_directory=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(nr, "build", lambda name: {"scenes": scenes}[name])
    return tmp_path


def test_the_readme(folder):
    (example,) = _blocks(_pages()[0], "python")
    names = {}
    exec(example, names)
    assert names["X"].dims == ("sample", "voxel")
    assert set(names["X"]["task"].values) == {"images"}  # trial estimates alone, not joined with volumes of the videos
    assert names["X"]["stimulus"].values.tolist() == names["Y"]["stimulus"].values.tolist()
    assert len(names["X"]) == 200
    # The decoder works: early visual cortex of the simulation is driven by Gabor energy.
    assert names["decoder"].score(names["X_test"].values, names["Y_test"].values) > 0.15
    assert {"joint", "low", "high", "p", "ceiling"} <= set(names["found"].rois)
    assert (folder / "results" / "MT").is_dir()
    assert np.isfinite(names["image"].get_fdata() if hasattr(names["image"], "get_fdata") else 0).any()


def test_features(folder, scenes, monkeypatch):
    """Of docs/features.md: slices of a target; networks have tests of their own."""
    _, example = _blocks(ROOT / "docs" / "features.md", "python")
    names = {"store": scenes}
    exec(example, names)
    assert 0 <= names["start"] < names["stop"] <= names["latents"].sizes["feature"]


def test_reconstruction(folder):
    (example,) = _blocks(ROOT / "docs" / "reconstruction.md", "python")
    names = {}
    exec(example, names)
    assert names["images"].dims == ("stimulus", "y", "x", "rgb")
    # The two ways give the same images and the same scores.
    found, images = names["found"], names["images"]
    assert images["stimulus"].values.tolist() == found.stimuli
    np.testing.assert_allclose(images.values, found.reconstructed, atol=1e-5)
    assert names["scores"].scores[0].value == pytest.approx(found.scores[0].value, abs=1e-4)
    assert found.scores[0].p < 0.05
    written = {path.name for path in (folder / "results" / "pixels").iterdir()}
    page = (ROOT / "docs" / "reconstruction.md").read_text(encoding="utf-8")
    for name in ("_reconstructions.zarr", "_reconstructions.npz", "_images", "_panel.png", "_report.html", ".json"):
        assert name in page
        assert f"subj01_linear-pixels{name}" in written


def test_no_other_page_has_examples_that_nobody_runs():
    run = {ROOT / "README.md", ROOT / "docs" / "features.md", ROOT / "docs" / "reconstruction.md"}
    for page in _pages():
        for block in _blocks(page, "python"):
            where = str(page.relative_to(ROOT))
            known = any(where == name and marker in block for name, marker in CANNOT_RUN)
            assert page in run or known, f"{where}: no test runs this example:\n{block}"


def _command_lines():
    for page in _pages():
        for block in _blocks(page, "sh", "bash", "console", "shell"):
            for line in block.replace("\\\n", " ").splitlines():
                words = line.split(" #")[0].strip().removeprefix("$ ")
                if words.startswith("neurorecon "):
                    yield page.relative_to(ROOT), words


def test_every_printed_command_is_understood():
    """Commands, options and choices exist; what they do is tested in tests/cli."""
    group = typer.main.get_command(app)
    checked = 0
    for page, line in _command_lines():
        words = [word for word in shlex.split(line)[1:] if word not in ("[", "]", "...")]
        command, context = group, group.make_context("neurorecon", words[:1], resilient_parsing=True)
        while hasattr(command, "commands") and words and words[0] in command.commands:
            command, words = command.commands[words[0]], words[1:]
        assert not hasattr(command, "commands") or not words or words[0].startswith("-"), f"{page}: {line}"
        if not hasattr(command, "commands"):
            try:
                command.make_context(command.name, words, parent=context)
            except Exception as error:
                raise AssertionError(f"{page}: {line}\n{error}") from error
        checked += 1
    assert checked >= 20
