import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

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
    assert sorted(str(path.relative_to(tmp_path)) for path in folder.iterdir()) == sorted(answer["files"])
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


def test_without_figures(call, small, tmp_path):
    found = call("reconstruct", "--store", small.path, "--subject", "subj01", "--task", "images", "--permutations", "9",
                 "--no-figures", "--json", "--quiet")  # fmt: skip
    assert found.exit_code == 0, found.exception
    assert {path.suffix for path in (tmp_path / "results" / "reconstruct_small_images").iterdir()} == {
        ".csv",
        ".json",
        ".npz",
    }


def test_decoders_are_kept_and_read_again(call, small, tmp_path):
    common = ["reconstruct", "--store", small.path, "--subject", "subj01", "--task", "images", "--permutations", "9",
              "--json", "--quiet"]  # fmt: skip
    first = call(*common, "--roi", "early", "--decoders", "kept")
    assert first.exit_code == 0, first.exception
    assert (tmp_path / "kept" / "subj01" / "decoders" / "images" / "decoder.json").is_file()
    again = call(*common, "--system", tmp_path / "kept" / "subj01")
    assert again.exit_code == 0, again.exception
    assert json.loads(again.stdout)["scores"] == json.loads(first.stdout)["scores"]
    other = call(*common, "--roi", "V1", "--decoders", "kept")
    assert other.exit_code == 2
    assert "cannot resume" in other.stderr


def test_mistakes_are_one_message(call, small):
    for arguments, said in (
        (["--system", "linear-pixel"], "did you mean 'linear-pixels'"),
        (["--option", "alphas"], "KEY=VALUE"),
        (["--option", "alpha=1"], "alphas, standardize"),
        (["--metric", "ssim"], "ssim_gray_columns"),
        (["--exchange", "mood"], "stimulus, category, session, run, shift"),
        (["--cross-validate", "mood"], "category, stimulus, session, run"),
        (["--format", "bmp"], "unknown figure format"),
    ):
        found = call("reconstruct", "--store", small.path, "--task", "images", "--permutations", "9", *arguments)
        assert found.exit_code == 2
        assert said in found.stderr


def test_former_names_of_metrics_are_accepted(call, small):
    with pytest.warns(FutureWarning, match="'pixcorr' now"):
        found = call("reconstruct", "--store", small.path, "--subject", "subj01", "--task", "images",
                     "--permutations", "9", "--metric", "pixel_correlation", "--json", "--quiet")  # fmt: skip
    assert [score["name"] for score in json.loads(found.stdout)["scores"]] == ["subj01 pixcorr"]
