"""A system of another package, in 20 lines, gets everything that ours have."""

import inspect
import json

import numpy as np
import pandas as pd
import pytest
import xarray
from typer.testing import CliRunner

import neurorecon as nr
from neurorecon.errors import UnknownNameError
from neurorecon.testing import system_checks


def test_it_is_found_by_its_entry_point(third_party):
    system = nr.load_system("latent-ridge", alpha=10.0)
    assert system.get_params() == {"alpha": 10.0, "models": "bundled"}
    assert len(inspect.getsource(type(system)).splitlines()) <= 20
    with pytest.raises(UnknownNameError, match="alpha, models"):
        nr.load_system("latent-ridge", alhpa=10.0)


def test_unknown_systems_are_answered_with_all_that_there_are(third_party):
    with pytest.raises(UnknownNameError, match=r"linear-pixels, .*latent-ridge"):
        nr.load_system("latent-rigde")


@pytest.mark.parametrize("check", system_checks(), ids=str)
def test_it_keeps_the_contract(third_party, scenes, check):
    check(nr.load_system("latent-ridge"), scenes)


@pytest.mark.parametrize(
    ("how", "stimuli"), [([], 16), (["--cross-validate", "category"], 76)], ids=["split", "cross-validated"]
)
def test_the_command_does_everything_with_it(third_party, scenes, tmp_path, how, stimuli):
    from neurorecon.cli.main import app

    found = CliRunner().invoke(
        app,
        ["reconstruct", "--store", scenes.location, "--system", "latent-ridge", "--set", "alpha=2000",
         "--metric", "pixcorr", "--metric", "ssim_gray2d", "--metric", "two_way", "--permutations", "49",
         "--out", str(tmp_path), "--json", "--quiet", *how],
    )  # fmt: skip
    assert found.exit_code == 0, found.output
    answer = json.loads(found.stdout)
    names = ["pixcorr", "ssim_gray2d", "two_way"]
    assert [score["name"] for score in answer["scores"]] == [f"subj01 {name}" for name in names]
    for score in answer["scores"]:
        assert score["n"] == stimuli
        assert score["n_permutations"] == 49
        assert score["null_mean"] <= score["null_max"]
    scores = {score["name"].removeprefix("subj01 "): score for score in answer["scores"]}
    assert scores["two_way"]["value"] > 0.5
    assert scores["pixcorr"]["p"] <= (0.3 if how else 0.05)  # a category that was left out is harder
    files = {path.name for path in tmp_path.iterdir()}
    figures = {f"subj01_latent-ridge_{name}.png" for name in ("panel", *(f"null_{name}" for name in names))}
    tables = {"subj01_latent-ridge.json", "subj01_latent-ridge_stimuli.csv", "subj01_latent-ridge_reconstructions.npz"}
    assert figures | tables <= files
    with np.load(tmp_path / "subj01_latent-ridge_reconstructions.npz") as arrays:
        assert arrays["reconstructed"].shape == (stimuli, 64, 64, 3)
    with xarray.open_zarr(tmp_path / "subj01_latent-ridge_reconstructions.zarr", consolidated=False) as kept:
        controls = {"mean_response", "another_trial", "mean_training_image", "oracle"}
        assert set(kept) - {"reconstructed"} == (set() if how else controls)
    if not how:  # compared with its controls, by a path of their own
        table = pd.read_csv(tmp_path / "subj01_latent-ridge_comparison_scores.csv")
        means = table.set_index(["reconstruction", "metric"])["mean"]
        for name in names:
            assert means["latent-ridge", name] == pytest.approx(scores[name]["value"], rel=1e-5)
        assert means["oracle", "pixcorr"] > means["latent-ridge", "pixcorr"] > means["another trial", "pixcorr"]
        assert "Controls" in (tmp_path / "subj01_latent-ridge_report.html").read_text()
        weights = json.loads((tmp_path / "subj01_latent-ridge.json").read_text())["weights"]
        assert weights["vqvae"]["name"] == "bundled-autoencoder"
    settings = json.loads((tmp_path / "subj01_latent-ridge.json").read_text())["settings"]
    assert settings["null"] == "exchanged pairs"
    assert settings["options"] == {"alpha": 2000, "models": "bundled"}
