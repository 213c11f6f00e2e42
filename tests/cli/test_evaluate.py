import json

import numpy as np


def test_our_reconstructions_with_other_metrics(call, small, tmp_path):
    made = call("reconstruct", "--store", small.path, "--subject", "subj01", "--task", "images", "--quiet",
                "--permutations", "9", "--out", tmp_path / "made", "--set", "alphas=[100,1000]",
                "--json")  # fmt: skip
    assert made.exit_code == 0, made.exception
    file = tmp_path / "made" / "subj01_linear-pixels_reconstructions.npz"
    found = call("evaluate", file, "--store", small.path, "--metric", "pixcorr", "--metric", "ssim_gray_columns",
                 "--permutations", "9", "--out", tmp_path / "scores", "--format", "svg", "--json",
                 "--quiet")  # fmt: skip
    assert found.exit_code == 0, found.exception
    scores = json.loads(found.stdout)["scores"]
    assert [score["name"] for score in scores] == ["pixcorr", "ssim_gray_columns"]
    same = json.loads(made.stdout)["scores"][0]
    assert scores[0]["value"] == same["value"]
    assert scores[0]["p"] == same["p"]
    names = {path.name for path in (tmp_path / "scores").iterdir()}
    assert {"images.json", "images_stimuli.csv", "images_reconstructions.npz", "images_panel.svg"} <= names
    assert not [name for name in names if name.endswith((".png", ".pdf"))]
    settings = json.loads((tmp_path / "scores" / "images.json").read_text())["settings"]
    assert settings["kind"] == "evaluation"
    assert settings["baseline"] == "train"
    assert "roi" not in settings


def test_a_folder_of_results_with_several_seeds(call, small, tmp_path):
    arguments = ["--store", small.path, "--subject", "subj01", "--permutations", "9", "--no-figures", "--json",
                 "--quiet"]  # fmt: skip
    made = call("reconstruct", *arguments, "--task", "images", "--roi", "V1", "--set", "cv=3", "--seeds", "2",
                "--out", tmp_path / "made")  # fmt: skip
    assert made.exit_code == 0, made.exception
    expected = json.loads(made.stdout)["scores"]
    assert [len(score["seed_values"]) for score in expected] == [2, 2]
    for where in ("made", "made/subj01_linear-pixels_reconstructions.zarr"):
        found = call("evaluate", tmp_path / where, *arguments, "--out", tmp_path / "scores")
        assert found.exit_code == 0, found.exception
        scores = json.loads(found.stdout)["scores"]
        assert [(score["value"], score["p"], score["seed_values"]) for score in scores] == [
            (score["value"], score["p"], score["seed_values"]) for score in expected
        ]
    tables = {path.name for path in (tmp_path / "scores").iterdir()}
    assert {f"images_{name}.{kind}" for name in ("scores", "stimuli") for kind in ("csv", "tex")} <= tables
    assert "sd over seeds" in (tmp_path / "scores" / "images_scores.csv").read_text()
    call("reconstruct", *arguments[:2], *arguments[4:], "--subject", "subj02", "--task", "images", "--roi", "V1",
         "--set", "cv=3", "--out", tmp_path / "made")  # fmt: skip
    found = call("evaluate", tmp_path / "made", *arguments)
    assert found.exit_code == 2
    assert "this folder holds several results" in found.stderr


def test_mistakes_are_one_message(call, small, tmp_path):
    np.savez(tmp_path / "theirs.npz", stimulus=["nobody"], reconstructed=np.zeros((1, 8, 8, 3)))
    for arguments, said in (
        (["nothing"], "there are no images here"),
        (["theirs.npz", "--store", small.path], "belong to no stimulus"),
        (["theirs.npz", "--store", small.path, "--metric", "ssim"], "unknown metric"),
        (["theirs.npz", "--store", small.path, "--metric", "0_way"], "at least two candidates"),
    ):
        found = call("evaluate", *arguments)
        assert found.exit_code == 2, found.exception
        assert said in found.stderr


def test_images_that_are_not_finite_are_refused_before_anything_is_written(call, small, tmp_path):
    ids = ["test0000", "test0001", "test0002"]
    images = np.full((3, 8, 8, 3), 0.5)
    images[1, 0, 0, 0] = np.nan
    np.savez(tmp_path / "theirs.npz", stimulus=ids, reconstructed=images)
    found = call("evaluate", tmp_path / "theirs.npz", "--store", small.path, "--no-figures")
    assert found.exit_code == 2, found.exception
    assert "1 of 3 images hold NaN" in found.stderr
    assert ids[1] in found.stderr
    assert not (tmp_path / "results").exists()
