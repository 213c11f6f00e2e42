"""`neurorecon compare`: several reconstructions in one table, with paired differences and a contact sheet."""

import json

import numpy as np
import pandas as pd
import pytest

import neurorecon as nr


@pytest.fixture(scope="module")
def images(small, tmp_path_factory):
    """Images of the test stimuli: nearly right, and noisy."""
    store, folder = nr.open_store(small.path), tmp_path_factory.mktemp("images")
    table = store.stimuli
    ids = table.loc[(table["kind"] == "image") & (table["split"] == "test"), "id"].tolist()
    seen = store.images(ids).values / 255
    random = np.random.default_rng(0)
    for name, noise in (("good", 0.05), ("bad", 0.6)):
        values = np.clip(seen + random.normal(0, noise, seen.shape), 0, 1).astype(np.float32)
        np.savez(folder / f"{name}.npz", stimulus=ids[::-1], reconstructed=values[::-1])
    return folder, ids


def test_two_systems(call, small, images, tmp_path):
    folder, ids = images
    found = call(
        "compare", folder / "bad.npz", f"best={folder / 'good.npz'}", "--store", small.path, "--reference", "bad",
        "--metric", "pixcorr", "--metric", "psnr", "--permutations", "19", "--bootstraps", "200", "--out",
        tmp_path / "found", "--json", "--quiet",
    )  # fmt: skip
    assert found.exit_code == 0, found.exception
    scores = {score["name"]: score["value"] for score in json.loads(found.stdout)["scores"]}
    assert scores["best pixcorr"] > 0.9 > scores["bad pixcorr"]
    differences = pd.read_csv(tmp_path / "found" / "comparison_differences.csv")
    assert differences[["system", "control"]].to_numpy().tolist() == [["best", "bad"]] * 2
    expected = scores["best pixcorr"] - scores["bad pixcorr"]
    assert differences.loc[0, "difference"] == pytest.approx(expected)
    assert differences.loc[0, "low"] <= expected <= differences.loc[0, "high"]
    assert (differences["p"] < 0.01).all()
    record = json.loads((tmp_path / "found" / "comparison.json").read_text())
    assert str(folder) not in json.dumps(record)  # no path of this machine, also not behind NAME=
    names = {path.name for path in (tmp_path / "found").iterdir()}
    assert {"comparison_contact_sheet.png", "comparison_scores.csv", "comparison_scores.tex"} <= names
    assert len(pd.read_csv(tmp_path / "found" / "comparison_stimuli.csv")) == len(ids)


def test_mistakes_are_one_message(call, small, images, tmp_path):
    good = images[0] / "good.npz"
    for arguments, said in (
        ([good, good], "needs a name of its own"),
        ([f"oracle={good}"], "not that of a control"),
        ([good, "--reference", "better"], "unknown reference 'better'"),
        ([f"other={tmp_path / 'nothing'}"], "there are no images here"),
    ):
        found = call("compare", *arguments, "--store", small.path, "--metric", "mse", "--out", tmp_path / "found")
        assert found.exit_code == 2, arguments
        assert said in found.stderr
        assert not (tmp_path / "found").exists()
