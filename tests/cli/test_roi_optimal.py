"""`neurorecon roi-optimal`, with a system whose only target are the images."""

import json

import numpy as np
import pandas as pd


def test_images_of_rois(call, small, tmp_path):
    arguments = [
        "roi-optimal", "--store", small.path, "--system", "linear-pixels", "--band", "gabor", "--roi", "V1", "--roi",
        "FFA+OFA", "--subject", "subj02", "--seeds", "2", "--permutations", "19", "--random-sets", "3", "--json",
        "--quiet",
    ]  # fmt: skip
    found = call(*arguments)
    assert found.exit_code == 0, found.exception
    answer = json.loads(found.stdout)
    assert [(row["subject"], row["roi"], row["images"]) for row in answer["rois"]] == [
        ("subj02", "V1", 2), ("subj02", "FFA+OFA", 2),
    ]  # fmt: skip
    folder = tmp_path / "results" / "roi-optimal_small_V1_FFA+OFA_seeds-2_random-3"
    stem = "subj02_linear-pixels_roi_optimal"
    assert str(folder / f"{stem}_grid.png") in {str(tmp_path / path) for path in answer["files"]}
    table = pd.read_csv(folder / f"{stem}_images.csv")
    assert table["roi"].tolist() == ["V1"] * 2 + ["FFA+OFA"] * 2
    assert table["seed"].tolist() == [0, 1] * 2
    assert table.loc[table["roi"] == "V1", "expected"].isna().all()
    right = table.loc[table["roi"] == "FFA+OFA"]
    assert (right["expected"] == (right["verdict"] == "face")).all()
    record = json.loads((folder / f"{stem}.json").read_text())
    assert record["settings"]["method"] == "pattern"
    assert "judge probe" in record["weights"]
    assert [score["n_permutations"] for score in answer["scores"]] == [3, 3, 3]
    with np.load(folder / f"{stem}_images.npz") as saved:
        assert saved["images"].shape[:2] == (2, 2)
    again = call(*arguments[:-2], "--out", tmp_path / "again", "--no-figures")
    assert again.exit_code == 0, again.exception
    assert "linear-pixels, method pattern, 1.5 typical deviations from the mean target" in again.stdout
    assert not list((tmp_path / "again").glob("*.png"))


def test_mistakes_change_nothing(call, small, state, tmp_path):
    before = state(small.path)
    usual = ["roi-optimal", "--store", small.path, "--system", "linear-pixels", "--band", "gabor", "--out"]
    for arguments, said in (
        (["--roi", "V9"], "unknown ROI 'V9'"),
        (["--roi", "V1", "--method", "magic"], "unknown method 'magic'"),
        (["--roi", "V1", "--method", "gradient"], "a generator that can be differentiated"),
        (["--roi", "V1", "--target", "clip_text"], "unknown target of the system 'linear-pixels'"),
        (["--roi", "V1", "--factor", "-1"], "factor is out of range"),
        (["--roi", "V1", "--judge", "pixcorr"], "names no categories"),
        (["--roi", "V1", "--mean-of", "rumor"], "unknown mean_of"),
    ):
        found = call(*usual, tmp_path / "found", *arguments)
        assert found.exit_code == 2, arguments
        assert said in found.stderr
        assert not (tmp_path / "found").exists()
    assert state(small.path) == before
