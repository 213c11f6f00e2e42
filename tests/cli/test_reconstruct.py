import hashlib
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray
from PIL import Image

import neurorecon as nr
from neurorecon.figures import read_provenance


@pytest.mark.parametrize(
    ("arguments", "numbers"),
    [
        (["--roi", "early"], {"pixcorr": 8, "two_way": 8}),
        (
            ["--cross-validate", "category", "--roi", "V1"],
            # 24 training images shown once, 8 test images shown three times
            {
                "stimulus_mean_pixcorr": 32,
                "two_way": 32,
                "single_sample_pixcorr": 48,
            },
        ),
    ],
    ids=["split", "cross-validated"],
)
def test_images_are_reconstructed(call, small, tmp_path, arguments, numbers):
    found = call("reconstruct", "--store", small.path, "--subject", "subj01", "--task", "images",
                 "--permutations", "19", "--format", "png,svg,pdf", *arguments, "--json", "--quiet")  # fmt: skip
    assert found.exit_code == 0, found.exception
    assert found.stderr == ""
    assert found.stdout.count("\n") == 1
    answer = json.loads(found.stdout)
    for score in answer["scores"]:
        assert {"name", "value", "null_mean", "null_max", "p", "n"} <= set(score)
    assert {score["name"].removeprefix("subj01 "): score["n"] for score in answer["scores"]} == numbers
    stimuli = next(iter(numbers.values()))
    folder = tmp_path / Path(answer["files"][0]).parent
    assert folder.name in ("reconstruct_small_early_images", "reconstruct_small_V1_images_category")
    written = sorted(str(path.relative_to(tmp_path)) for path in folder.iterdir() if path.name != "parts")
    assert written == sorted(answer["files"])
    with np.load(folder / "subj01_linear-pixels_reconstructions.npz", allow_pickle=False) as arrays:
        assert arrays["seen"].shape == arrays["reconstructed"].shape == (stimuli, 64, 64, 3)
        assert 0 <= arrays["reconstructed"].min() <= arrays["reconstructed"].max() <= 1
        table = pd.read_csv(folder / "subj01_linear-pixels_stimuli.csv")
        assert table["stimulus"].tolist() == arrays["stimulus"].tolist()
    assert table["pixcorr"].mean() == pytest.approx(answer["scores"][0]["value"], abs=1e-4)
    with Image.open(folder / "subj01_linear-pixels_panel.png") as image:
        assert np.asarray(image.convert("L")).std() > 5
    for suffix in ("png", "svg", "pdf"):
        record = read_provenance(folder / f"subj01_linear-pixels_panel.{suffix}")
        assert record["snapshot"] == answer["snapshot"]
        assert record["simulated"] is True
    stored = json.loads((folder / "subj01_linear-pixels.json").read_text())
    assert stored["scores"] == answer["scores"]
    assert "extra" not in stored
    assert stored["settings"]["metrics"] == ["pixcorr", "two_way"]


def test_some_stimuli(call, small, tmp_path):
    common = ["reconstruct", "--store", small.path, "--subject", "subj01", "--task", "images", "--roi", "early"]
    quick = ["--permutations", "9", "--no-figures", "--quiet", "--json"]
    found = call(*common, "--stimuli", "4", *quick)
    assert found.exit_code == 0, found.exception
    assert {score["n"] for score in json.loads(found.stdout)["scores"]} == {4}
    assert (tmp_path / "results" / "reconstruct_small_early_images_stimuli-4").is_dir()
    found = call(*common, "--stimuli", "4", "--cross-validate", "category", *quick)
    assert found.exit_code == 2
    assert "cross-validation uses all stimuli" in found.stderr


def test_without_figures(call, small, tmp_path):
    found = call("reconstruct", "--store", small.path, "--subject", "subj01", "--task", "images", "--permutations", "9",
                 "--no-figures", "--json", "--quiet")  # fmt: skip
    assert found.exit_code == 0, found.exception
    folder = tmp_path / "results" / "reconstruct_small_images"
    assert {path.suffix for path in folder.iterdir() if path.is_file()} == {".csv", ".tex", ".json", ".npz"}
    folders = {"subj01_linear-pixels_images", "subj01_linear-pixels_reconstructions.zarr", "parts"}
    assert {path.name for path in folder.iterdir() if path.is_dir()} == folders


def test_decoders_are_kept_and_read_again(call, small, tmp_path):
    common = ["reconstruct", "--store", small.path, "--subject", "subj01", "--task", "images", "--permutations", "9",
              "--json", "--quiet"]  # fmt: skip
    first = call(*common, "--roi", "early", "--decoders", "kept")
    assert first.exit_code == 0, first.exception
    (made,) = (tmp_path / "kept").iterdir()
    assert made.name.startswith("subj01_linear-pixels_")
    assert (made / "decoders" / "images" / "decoder.json").is_file()
    again = call(*common, "--system", made)
    assert again.exit_code == 0, again.exception
    assert json.loads(again.stdout)["scores"] == json.loads(first.stdout)["scores"]
    other = call(*common, "--roi", "V1", "--decoders", "kept")  # beside the first, which stays as it is
    assert other.exit_code == 0, other.exception
    assert len(list((tmp_path / "kept").iterdir())) == 2
    wrong = call(*common, "--system", made, "--center", "session")
    assert wrong.exit_code == 2
    assert "as they were for its fit" in wrong.stderr


def _fits_nothing(*arguments, **keywords):
    raise AssertionError("this was fitted before")


def test_a_fit_is_found_and_reused(call, small, tmp_path, monkeypatch):
    common = ["--store", small.path, "--subject", "subj01", "--roi", "early", "--task", "images", "--set", "cv=5",
              "--json", "--quiet"]  # fmt: skip
    made = call("fit", *common)
    assert made.exit_code == 0, made.exception
    (about,) = json.loads(made.stdout)["fits"]
    assert (about["subject"], about["task"], about["roi"], about["centered"]) == ("subj01", "images", "early", "no")
    manifest = json.loads((tmp_path / about["folder"] / "manifest.json").read_text())
    assert manifest["parameters"]["cv"] == 5
    assert manifest["snapshot"] == json.loads(made.stdout)["snapshot"]
    assert set(manifest["files"]) == {
        str(path.relative_to(tmp_path / about["folder"]))
        for path in (tmp_path / about["folder"]).rglob("*")
        if path.is_file() and path.name != "manifest.json"
    }
    monkeypatch.setattr("neurorecon.decoders.ridge.RidgeDecoder.fit", _fits_nothing)
    monkeypatch.setattr("neurorecon.decoders.ridge.RidgeDecoder.fit_and_predict", _fits_nothing)
    found = call("reconstruct", *common, "--permutations", "9", "--no-figures")
    assert found.exit_code == 0, found.exception
    found = call("reconstruct", *common, "--permutations", "9", "--no-figures", "--center", "run")
    assert isinstance(found.exception, AssertionError)  # other responses need another fit
    twice = call("fit", *common, "--system", about["folder"])
    assert twice.exit_code == 2
    assert "fitted already" in twice.stderr


def test_what_is_written_and_its_manifest(call, small, tmp_path):
    arguments = ["reconstruct", "--store", small.path, "--subject", "subj01", "--task", "images", "--roi", "early",
                 "--permutations", "9", "--out", "found", "--quiet", "--json"]  # fmt: skip
    found = call(*arguments)
    assert found.exit_code == 0, found.exception
    folder, stem = tmp_path / "found", "subj01_linear-pixels"
    manifest = json.loads((folder / f"{stem}.json").read_text())
    assert manifest["command"].startswith("neurorecon reconstruct")
    assert manifest["settings"]["options"]["cv"] == 10
    assert manifest["settings"]["centering"]["center"] is None
    assert {"snapshot", "seed", "versions"} <= set(manifest)
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    expected = {name for name in files if not name.startswith("parts/")} - {f"{stem}.json"}
    assert set(manifest["files"]) == expected
    for name, digest in manifest["files"].items():
        assert hashlib.sha256(files[name].read_bytes()).hexdigest() == digest
    with np.load(folder / f"{stem}_reconstructions.npz") as arrays:
        images, ids = arrays["reconstructed"], arrays["stimulus"].tolist()
    with xarray.open_zarr(folder / f"{stem}_reconstructions.zarr", consolidated=False) as stored:
        assert stored["reconstructed"].dims == ("stimulus", "y", "x", "rgb")
        assert stored["stimulus"].values.tolist() == ids
        np.testing.assert_array_equal(stored["reconstructed"].values, images)
    for name, image in zip(ids, images, strict=True):
        with Image.open(folder / f"{stem}_images" / f"{name}.png") as file:
            assert np.abs(np.asarray(file) / 255 - image).max() <= 0.5 / 255 + 1e-6
    scores = pd.read_csv(folder / f"{stem}_scores.csv").set_index("score")
    answer = json.loads(found.stdout)["scores"][0]
    for column, name in (("value", "value"), ("null mean", "null_mean"), ("p", "p"), ("mean image", "baseline")):
        assert scores.loc["pixcorr", column] == pytest.approx(answer[name], rel=1e-5)
    latex = (folder / f"{stem}_scores.tex").read_text()
    assert "two\\_way" in latex
    assert f"{answer['value']:.3f}" in latex
    page = (folder / f"{stem}_report.html").read_text()
    assert "two_way" in page
    assert "data:image/png" in page
    assert ids[0] in page
    # Once more without figures: those of the first run are deleted, but not what somebody changed or added.
    (folder / f"{stem}_panel.png").write_bytes(b"mine")
    (folder / f"{stem}_images" / "notes.png").write_bytes(b"mine too")
    again = call(*arguments, "--no-figures")
    assert again.exit_code == 0, again.exception
    left = {path.name for path in folder.iterdir()}
    assert f"{stem}_null_pixcorr.png" not in left
    assert f"{stem}_report.html" not in left
    assert (folder / f"{stem}_panel.png").read_bytes() == b"mine"
    assert (folder / f"{stem}_images" / "notes.png").read_bytes() == b"mine too"


def test_single_trials(call, small, tmp_path):
    common = ["reconstruct", "--store", small.path, "--subject", "subj01", "--task", "images", "--roi", "early",
              "--set", "alphas=1000", "--permutations", "9", "--no-figures", "--quiet", "--json"]  # fmt: skip
    found = call(*common, "--single-trials", "--out", "trials")
    assert found.exit_code == 0, found.exception
    scores = {score["name"].removeprefix("subj01 "): score for score in json.loads(found.stdout)["scores"]}
    assert {name: score["n"] for name, score in scores.items()} == {
        "stimulus_mean_pixcorr": 8, "two_way": 8, "single_sample_pixcorr": 24,
    }  # fmt: skip
    store = nr.open_store(small.path)
    folder = tmp_path / "trials"
    with xarray.open_zarr(folder / "subj01_linear-pixels_reconstructions.zarr", consolidated=False) as kept:
        trials, shown = kept["trials"].values, np.array(kept["trial_stimulus"].values.tolist())
        means = {name: trials[shown == name].mean(axis=0) for name in kept["stimulus"].values.tolist()}
        np.testing.assert_allclose(kept["reconstructed"].values, list(means.values()), atol=1e-6)
    # Independently: one ridge regression, and the responses to each trial as the store returns them.
    system = nr.load_system("linear-pixels", alphas=1000.0).fit(store, "subj01", "early", task="images")
    responses = store.responses("subj01", "early", "test", task="images")
    expected = system.reconstruct(responses.values)
    np.testing.assert_array_equal(responses["stimulus"].values.astype(str), shown)
    np.testing.assert_allclose(trials, expected.values, atol=1e-6)
    names = {path.name for path in (folder / "subj01_linear-pixels_trials").iterdir()}
    assert len(names) == 24
    assert f"{shown[0]}_trial1.png" in names


def test_targets_that_had_to_be_computed_are_in_the_record(call, own, tmp_path):
    before = nr.open_store(own.path).snapshot
    common = ["--store", own.path, "--subject", "subj01", "--task", "images", "--system", "takagi", "--roi", "early",
              "--quiet", "--json"]  # fmt: skip
    wrong = call("reconstruct", *common[:-4], "--roi", "nowhere", "--quiet")
    assert wrong.exit_code == 2
    assert nr.open_store(own.path).snapshot == before
    found = call("fit", *common, "--set", 'rois={"vqvae": null, "clip_text_sd": null}')
    assert found.exit_code == 0, found.exception
    store = nr.open_store(own.path)
    assert {"vqvae", "clip_text_sd"} <= set(store.targets_available)
    assert json.loads(found.stdout)["snapshot"] == store.snapshot != before
    (about,) = json.loads(found.stdout)["fits"]
    manifest = json.loads((tmp_path / about["folder"] / "manifest.json").read_text())
    assert manifest["snapshot"] == store.snapshot
    assert manifest["weights"]["vqvae"]["name"] == "bundled-autoencoder"


def test_systems_are_listed(call):
    found = call("systems", "--json")
    assert found.exit_code == 0, found.exception
    (pixels,) = [row for row in json.loads(found.stdout)["systems"] if row["name"] == "linear-pixels"]
    assert pixels["kinds"] == ["image"]
    assert pixels["parameters"]["cv"] == 10
    assert pixels["targets"] == [{"name": "images", "source": "images", "roi": None, "required": True}]
    assert pixels["weights"] == []
    assert "cv=10" in call("systems", "linear-pixels").stdout
    wrong = call("systems", "linear-pixel")
    assert wrong.exit_code == 2
    assert "did you mean 'linear-pixels'" in wrong.stderr


def test_the_former_name_of_set(call, small):
    common = ["reconstruct", "--store", small.path, "--system", "linear-pixels", "--task", "images"]
    found = call(*common, "--option", "alpha=1")
    assert found.exit_code == 2
    assert "--option is called --set now" in found.stderr


def test_mistakes_are_one_message(call, small):
    for arguments, said in (
        (["--system", "linear-pixel"], "did you mean 'linear-pixels'"),
        (["--set", "alphas"], "KEY=VALUE"),
        (["--set", "alpha=1"], "alphas, standardize"),
        (["--set", "cv=3", "--set", "cv=4"], "given twice"),
        (["--models", "published"], "unknown parameter of the system 'linear-pixels': 'models'"),
        (["--preset", "released"], "alphas, standardize"),
        (["--center", "mood"], "session, run, auto"),
        (["--single-trials", "--cross-validate", "category"], "leave one of them out"),
        (["--metric", "ssim"], "ssim_gray_columns"),
        (["--exchange", "mood"], "stimulus, category, session, run, shift"),
        (["--cross-validate", "mood"], "category, stimulus, session, run"),
        (["--format", "bmp"], "unknown figure format"),
    ):
        found = call("reconstruct", "--store", small.path, "--task", "images", "--permutations", "9", *arguments)
        assert found.exit_code == 2
        assert said in found.stderr


def test_former_names_of_metrics_are_accepted(call, small):
    found = call("reconstruct", "--store", small.path, "--subject", "subj01", "--task", "images",
                 "--permutations", "9", "--metric", "pixel_correlation", "--json")  # fmt: skip
    assert "warning: the metric 'pixel_correlation' is called 'pixcorr' now" in found.stderr
    assert [score["name"] for score in json.loads(found.stdout)["scores"]] == ["subj01 pixcorr"]
