"""neurorecon features: whose networks, what is printed, and mistakes that change nothing."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

import neurorecon as nr
from neurorecon.datasets.recipe import Recipe
from neurorecon.registry import DATASETS, FEATURES
from neurorecon.store.build import build_store
from neurorecon.testing.miniature import MiniatureReader


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    DATASETS.register("miniature", MiniatureReader)
    recipe = Recipe(name="miniature", reader="miniature", options={"subjects": 1, "images": 10, "videos": 4})
    return build_store(recipe, tmp_path_factory.mktemp("stores") / "miniature.icechunk", progress=False)


@pytest.fixture
def path(built, tmp_path):
    """A store for one test, which may write into it: 10 images, 4 films."""
    shutil.copytree(built, tmp_path / "own" / "miniature.icechunk")
    return tmp_path / "own" / "miniature.icechunk"


def test_all_targets(call, path, random_models):
    found = call("features", "--target", "all", "--store", path, "--models", random_models, "--device", "cpu")
    assert found.exit_code == 0, found.stderr
    lines = found.stdout.strip().splitlines()
    assert [line.partition(":")[0] for line in lines] == FEATURES.builtin
    assert any(line.startswith("clip_vision: 14 x 17 x 16 (stimulus, token, channel); 14 stimuli, ") for line in lines)
    assert all(line.endswith("per second") for line in lines)
    assert "stimulus/s" in found.stderr  # the progress bar
    store = nr.open_store(path)
    assert set(store.targets_available) == set(FEATURES.builtin)
    assert not [finding for finding in nr.check_store(store) if finding.problem]


def test_as_a_user(user, path, tmp_path):
    found = user("features", "--store", path, "--target", "gabor", "--target", "category", cwd=tmp_path)
    assert found.returncode == 0, found.stderr
    assert found.stdout.startswith("gabor: 14 x 1440 (stimulus, feature); 14 stimuli, ")
    assert "stimulus/s" in found.stderr
    assert "Traceback" not in found.stderr


def test_once_computed_is_there(call, path, random_models):
    options = ["--store", path, "--models", random_models, "--json", "--quiet"]
    first = json.loads(
        call("features", "--target", "vdvae", "--target", "vqvae", "--groups", 2, "--seed", 3, *options).stdout
    )
    assert first["targets"]["vdvae"]["computed"] == 14
    assert first["targets"]["vdvae"]["made_by"]["groups"] == 2
    assert first["targets"]["vqvae"]["made_by"]["seed"] == 3
    again = json.loads(call("features", "--target", "vdvae", "--groups", 2, "--seed", 3, *options).stdout)
    assert (again["targets"]["vdvae"]["computed"], again["snapshot"]) == (0, first["snapshot"])
    other = call("features", "--target", "vdvae", "--seed", 3, *options)
    assert other.exit_code == 2
    assert "groups = 2" in other.stderr
    assert nr.open_store(path).snapshot == first["snapshot"]
    replaced = json.loads(call("features", "--target", "vdvae", "--overwrite", *options).stdout)
    assert replaced["targets"]["vdvae"]["made_by"]["groups"] == 4


def test_half_precision_and_small_batches(call, path, random_models):
    options = ["--store", path, "--models", random_models, "--device", "cpu"]
    found = call("features", "--target", "clip_image", "--precision", "bfloat16", "--batch", 3, *options)
    assert found.exit_code == 0, found.stderr
    assert "clip_image: 14 x 16 (stimulus, feature); 14 stimuli" in found.stdout
    values = nr.open_store(path).targets("clip_image")
    assert values.attrs["precision"] == "bfloat16"
    assert np.isfinite(values).all()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--target", "clip_vision", "--models", "nowhere"], ["folder of models does not exist", "nowhere"]),
        (["--target", "gabor", "--groups", "3"], ["none of these targets takes this setting", "groups=3"]),
        (["--target", "clip_image", "--precision", "half"], ["unknown precision 'half'", "bfloat16"]),
        (["--target", "clip_image", "--device", "gpu"], ["cannot run on this device", "'gpu'"]),
        (["--target", "gabor", "--scheduler", "slurm"], ["no such scheduler", "tcp://host:8786"]),
        (["--target", "vdvae", "--groups", "99"], ["invalid number of VDVAE groups", "1 to 6"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_mistakes_leave_the_store_as_it_was(call, path, random_models, arguments, said):
    before = nr.open_store(path).snapshot
    models = [] if "--models" in arguments else ["--models", random_models]
    found = call("features", "--store", path, *arguments, *models)
    assert found.exit_code == 2, found.output
    for words in said:
        assert words in found.stderr
    assert found.stderr.count("neurorecon: error:") == 1
    assert nr.open_store(path).snapshot == before


def test_missing_weights_say_what_to_type(call, path, tmp_path, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "nothing"))
    monkeypatch.delenv("NEURORECON_WEIGHTS", raising=False)
    before = nr.open_store(path).snapshot
    found = call(
        "features", "--store", path, "--target", "category", "--target", "clip_vision", "--models", "published"
    )
    assert found.exit_code == 2
    assert "neurorecon weights pull clip-vit-l14" in found.stderr
    after = nr.open_store(path)
    assert (after.snapshot, after.targets_available) == (before, [])
