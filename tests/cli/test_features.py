"""neurorecon features: whose networks, what is printed, and mistakes that change nothing."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

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
    """A store for one test, which may write into it: 10 images, 4 videos."""
    shutil.copytree(built, tmp_path / "own" / "miniature.icechunk")
    return tmp_path / "own" / "miniature.icechunk"


def test_all_targets(call, path, random_models):
    found = call("features", "--target", "all", "--store", path, "--models", random_models, "--device", "cpu")
    assert found.exit_code == 0, found.stderr
    lines = found.stdout.strip().splitlines()
    by_name = {"clip_bigg", "ip_adapter", "ip_adapter_sd15", "kandinsky_image"}  # not bundled
    everything = [name for name in FEATURES.builtin if name not in by_name]
    assert [line.partition(":")[0] for line in lines] == everything
    assert any(line.startswith("clip_vision: 14 x 17 x 16 (stimulus, token, channel); 14 stimuli, ") for line in lines)
    assert all(line.endswith("per second") for line in lines)
    assert "stimulus/s" in found.stderr  # the progress bar
    store = nr.open_store(path)
    assert set(store.targets_available) == set(everything)
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


# -- features of one's own, and whose networks ------------------------------------------------------------------------


def test_features_of_a_file_become_a_band(call, own, tmp_path):
    store = nr.open_store(own.path)
    table = store.stimuli[["id"]].assign(conv1=np.arange(len(store.stimuli)) % 7, conv2=1.5, size=2.0)
    table.sample(frac=1, random_state=0).to_csv(tmp_path / "alexnet.csv", index=False)
    options = ["--from", "alexnet.csv", "--name", "alexnet", "--store", own.path]
    found = call("features", *options, "--columns", "conv1, conv2")
    assert found.exit_code == 0, found.stderr
    assert f"alexnet: {len(table)} x 2 (stimulus, feature); stored, from alexnet.csv" in found.stdout
    values = nr.open_store(own.path).targets("alexnet", stimuli=table["id"])
    np.testing.assert_allclose(values[:, 0], table["conv1"])
    again = call("features", *options)
    assert again.exit_code == 2
    assert "already has a target 'alexnet'" in again.stderr
    made = call("maps", "--store", own.path, "--bands", "alexnet,gabor", "--task", "images", "--no-zscore", "--subject",
                "subj01", "--permutations", 19, "--no-figures", "--json", "--quiet", "--out", "out")  # fmt: skip
    assert made.exit_code == 0, made.stderr
    (record,) = [json.loads(path.read_text()) for path in (tmp_path / "out").glob("*.json")]
    assert record["settings"]["standardize_features"] is False
    assert record["weights"]["alexnet"]["name"] == "alexnet.csv"
    assert set(record["settings"]["alphas_at_edge"]) == {"smallest", "largest", "targets", "grid"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--from", "a.npy"], "need a name"),
        (["--from", "a.npy", "--name", "a", "--target", "gabor"], "nothing is computed"),
        (["--name", "a"], "belong to features of your own"),
        (["--from", "a.npy", "--name", "a"], "3, 2.* for 14 stimuli"),
        (["--from", "none.npy", "--name", "a"], "does not exist"),
        (["--from", "a.npy", "--name", "a b"], "invalid name of a target"),
    ],
)
def test_own_features_that_cannot_be_used(call, path, tmp_path, arguments, said):
    np.save(tmp_path / "a.npy", np.zeros((3, 2)))
    before = nr.open_store(path).snapshot
    found = call("features", "--store", path, *arguments)
    assert found.exit_code == 2, found.output
    assert re.search(said, found.stderr)
    assert nr.open_store(path).snapshot == before


def test_measured_data_need_a_choice_and_bundled_networks_warn_once(call, tmp_path):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, (40, 32, 32, 3), dtype=np.uint8)
    responses = rng.standard_normal((40, 6)).astype(np.float32)
    store = nr.build_from_arrays(
        tmp_path / "lab.icechunk", responses, np.arange(40).astype(str), images=images, test_share=0.25, progress=False
    )
    options = ["--target", "clip_image", "--store", store.location, "--device", "cpu"]
    refused = call("features", *options)
    assert refused.exit_code == 2
    assert "--models published, or --models FOLDER" in refused.stderr
    made = call("features", *options, "--models", "bundled")
    assert made.exit_code == 0, made.stderr
    assert made.stderr.count("warning: clip_image: made by the bundled networks") == 1
    maps = call("maps", "--store", store.location, "--permutations", 19, "--no-figures", "--out", "out")
    assert maps.exit_code == 0, maps.stderr
    assert maps.stderr.count("warning: clip_image: made by the bundled networks") == 1
    assert "clip_image" in call("info", store.location).stdout


def test_a_recipe_of_measured_data_names_the_weights_before_it_is_built(call, tmp_path):
    assert call("datasets", "miniature", "arrays", "--out", "arr").exit_code == 0
    (tmp_path / "arr" / "SIMULATED").unlink()
    recipe = (Path(__file__).parents[2] / "stores" / "arrays.toml").read_text(encoding="utf-8")
    (tmp_path / "arrays.toml").write_text('targets = ["clip_image"]\n' + recipe)
    refused = call("build", "arrays.toml", "--root", "arr")
    assert refused.exit_code == 2
    assert "clip_image, of the recipe 'arrays'" in refused.stderr
    assert not list(tmp_path.glob("*.icechunk"))
    (tmp_path / "arrays.toml").write_text('targets = ["clip_image"]\nmodels = "bundled"\n' + recipe)
    built = call("build", "arrays.toml", "--root", "arr")
    assert built.exit_code == 0, built.stderr
    assert "warning: clip_image: made by the bundled networks" in built.stderr


def test_help_shows_what_values_stand_for(call):
    for command in ("maps", "classify", "reconstruct", "evaluate", "plan", "features"):
        text = call(command, "--help").stdout
        assert not [line for line in text.splitlines() if re.match(r" +(-., )?--\S+ <", line)]
        assert command != "maps" or "--roi ROI" in text


def test_an_interrupted_command_says_whether_anything_is_saved(call, own, monkeypatch):
    import neurorecon.analyses.maps as module
    import neurorecon.features.extract as extraction

    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "compute_maps", stop)
    found = call("maps", "--store", own.path)
    assert (found.exit_code, "interrupted; nothing was saved" in found.stderr) == (130, True)
    write = extraction._write_target

    def stop_later(writer, store, extractor, *rest):
        if extractor.name == "category":
            raise KeyboardInterrupt
        return write(writer, store, extractor, *rest)

    monkeypatch.setattr(extraction, "_write_target", stop_later)
    options = ["--store", own.path, "--target", "optical_flow"]
    monkeypatch.setattr(extraction, "_is_there", lambda *_: False)
    found = call("features", *options, "--target", "category")
    assert (found.exit_code, "finished work is saved" in found.stderr) == (130, True)
    found = call("features", "--store", own.path, "--target", "category")
    assert "interrupted; nothing was saved" in found.stderr
