"""``--refine``: the system that is named becomes its refinement; a wrong setting is one error, nothing is written."""

from __future__ import annotations

import json

import pytest

import neurorecon as nr
from neurorecon.cli.reconstruct import refined
from neurorecon.datasets.recipe import Recipe


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """Twenty-four training and eight test images of one subject."""
    options = {"subjects": 1, "voxels": 200, "train_images": 24, "test_images": 8, "train_videos": 0, "test_videos": 0}
    recipe = Recipe(name="tiny", reader="scenes", targets=["vqvae", "clip_text_sd"], options=options)
    place = tmp_path_factory.mktemp("tiny") / "s.icechunk"
    nr.build(recipe, place, progress=False)
    return place


def test_settings_of_a_refinement_are_parameters_of_the_system_refined():
    assert refined("takagi", {"guidance": 2}, None) == ("takagi", {"guidance": 2})
    name, options = refined("takagi", {"guidance": 2}, ["best_of=4", "again=[0.5,0.3]"])
    assert name == "refined"
    assert options == {"system": "takagi", "options": {"guidance": 2}, "best_of": 4, "again": [0.5, 0.3]}


def test_a_refined_system_is_reconstructed_and_says_so(call, tiny, tmp_path):
    asked = ["reconstruct", "--store", tiny, "--system", "takagi", "--set", "steps=2", "--no-controls", "--no-figures"]
    asked += ["--metric", "pixcorr", "--permutations", "19", "--out", tmp_path / "found", "--json", "--quiet"]
    wrong = call(*asked, "--refine", "bestof=2")
    assert wrong.exit_code == 2
    assert "bestof" in wrong.stderr
    assert not (tmp_path / "found").exists()
    found = call(*asked, "--refine", "best_of=2", "--refine", "average=1")
    assert found.exit_code == 0, found.exception
    record = json.loads((tmp_path / "found" / "subj01_refined.json").read_text())
    assert record["settings"]["options"]["system"] == "takagi"
    assert record["settings"]["options"]["best_of"] == 2
