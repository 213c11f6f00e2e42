"""`neurorecon audit` and `neurorecon shuffle`: systems, and folders that were made outside."""

import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import neurorecon as nr

FAST = ["--metric", "pixcorr", "--metric", "two_way", "--permutations", "19"]
CHEAP = [*FAST, "--bootstraps", "99"]


def test_a_system_on_the_split_of_the_store(call, small, tmp_path):
    found = call(
        "audit", "--system", "linear-pixels", "--set", "alphas=100", "--store", small.path, "--subject", "subj01",
        *CHEAP, "--refits", "3", "--out", tmp_path / "audit", "--json", "--quiet",
    )  # fmt: skip
    assert found.exit_code == 0, found.stderr
    verdicts = pd.read_csv(tmp_path / "audit" / "subj01_linear-pixels_audit_verdicts.csv")
    assert verdicts["metric"].tolist() == ["pixcorr", "two_way"]
    assert verdicts["re-paired p"].between(0.25, 1).all()
    rows = pd.read_csv(tmp_path / "audit" / "subj01_linear-pixels_audit_rows.csv")
    assert {"oracle", "another trial", "same category", "nearest training image"} <= set(rows["row"])
    said = json.loads(found.stdout)["scores"]
    assert {score["verdict"] for score in said} == set(verdicts["verdict"])
    assert (tmp_path / "audit" / "subj01_linear-pixels_audit_report.html").is_file()


@pytest.fixture(scope="module")
def outside(small, tmp_path_factory):
    """A folder as other toolboxes write it: PNG files of their own names, two of each stimulus, and a table."""
    folder = tmp_path_factory.mktemp("outside")
    store = nr.open_store(small.path)
    table = store.stimuli
    ids = table.loc[(table["kind"] == "image") & (table["split"] == "test"), "id"].tolist()
    made = nr.reconstruct(store, "linear-pixels", "subj01", n_permutations=9, controls=False, options={"alphas": 100.0})
    images = dict(zip(made.stimuli, np.round(255 * made.reconstructed).astype(np.uint8), strict=True))
    rows = []
    (folder / "png").mkdir()
    for number, name in enumerate(ids):
        for sample in range(2):
            file = f"{number}_sample{sample}.png"
            noisy = images[name].astype(int) + np.random.default_rng(sample).integers(-9, 9, images[name].shape)
            Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8)).resize((96, 96)).save(folder / "png" / file)
            rows.append({"file": file, "stimulus": name})
    pd.DataFrame(rows).to_csv(folder / "map.csv", index=False)
    return folder


def test_a_folder_made_outside(call, small, outside, tmp_path):
    found = call(
        "audit", outside / "png", "--table", outside / "map.csv", "--store", small.path, *CHEAP, "--out",
        tmp_path / "audit",
    )  # fmt: skip
    assert found.exit_code == 0, found.stderr
    assert "not computed: oracle (it takes the system that made these images)" in found.stdout
    rows = pd.read_csv(tmp_path / "audit" / "subj01_images_audit_rows.csv").set_index(["row", "metric"])
    assert rows.loc[("linear-pixels", "pixcorr"), "mean"] > rows.loc[("mean training image", "pixcorr"), "mean"]
    assert rows.loc[("images", "pixcorr"), "mean"] > rows.loc[("permutation null", "pixcorr"), "mean"]
    page = (tmp_path / "audit" / "subj01_images_audit_report.html").read_text()
    assert "not computed, because it takes the system that made these images" in page
    record = (tmp_path / "audit" / "subj01_images_audit.json").read_text()
    assert str(outside) not in record  # no path of this machine
    scored = call(
        "evaluate", outside / "png", "--table", outside / "map.csv", "--store", small.path, *FAST, "--json", "--quiet",
        "--out", tmp_path / "evaluate",
    )  # fmt: skip
    values = {score["name"]: score["value"] for score in json.loads(scored.stdout)["scores"]}
    assert values["pixcorr"] == pytest.approx(rows.loc[("images", "pixcorr"), "mean"], abs=1e-5)


def test_shuffle(call, small, tmp_path):
    found = call(
        "shuffle", "--system", "linear-pixels", "--set", "alphas=100", "--store", small.path, "--subject", "subj01",
        "--metric", "pixcorr", "--permutations", "3", "--out", tmp_path / "shuffle",
    )  # fmt: skip
    assert found.exit_code == 0, found.stderr
    table = pd.read_csv(tmp_path / "shuffle" / "subj01_linear-pixels_shuffle_targets.csv")
    assert table["exchanged target"].tolist() == ["images"]
    assert table["p"].between(0.25, 1).all()


def test_mistakes_are_one_message(call, small, outside, tmp_path):
    listed = pd.read_csv(outside / "map.csv")
    listed[["file"]].to_csv(tmp_path / "nameless.csv", index=False)
    listed.iloc[1:].to_csv(tmp_path / "uneven.csv", index=False)
    listed.assign(file=listed["file"].replace("0_sample0.png", "gone.png")).to_csv(tmp_path / "gone.csv", index=False)
    listed.assign(file="../" + listed["file"]).to_csv(tmp_path / "above.csv", index=False)
    listed.assign(stimulus="x" + listed["stimulus"]).to_csv(tmp_path / "strange.csv", index=False)
    png = outside / "png"
    for arguments, said in (
        ([png, "--system", "takagi"], "images or a system are audited, not both"),
        ([png, "--set", "alphas=1"], "images or a system are audited, not both"),
        (["--table", outside / "map.csv"], "a table lists the files of a folder"),
        ([outside / "map.csv", "--table", outside / "map.csv"], "a table lists the files of a folder"),
        ([png, "--table", tmp_path / "nameless.csv"], "which image belongs to which stimulus"),
        ([png, "--table", tmp_path / "uneven.csv"], "different numbers of images"),
        ([png, "--table", tmp_path / "gone.csv"], "1 of 16 files that the table lists are not in the folder"),
        ([png, "--table", tmp_path / "above.csv"], "16 of 16 files that the table lists are not in the folder"),
        ([png, "--table", tmp_path / "strange.csv"], "belong to no stimulus"),
        ([png, "--table", tmp_path / "none.csv"], "none.csv"),
        ([png], "belong to no stimulus"),
        (["--system", "nobody"], "unknown system 'nobody'"),
        (["--system", "linear-pixels", "--split", "tau"], "unknown split 'tau'"),
        (["--system", "linear-pixels", "--metric", "beauty"], "beauty"),
    ):
        found = call("audit", *arguments, "--store", small.path, "--out", tmp_path / "found")
        assert found.exit_code == 2, arguments
        assert said in found.stderr, (arguments, found.stderr)
        assert not (tmp_path / "found").exists()
    found = call(
        "shuffle", "--system", "linear-pixels", "--target", "clip", "--store", small.path, "--out", tmp_path / "found"
    )
    assert found.exit_code == 2
    assert "unknown target of the system 'linear-pixels' 'clip'" in found.stderr
    assert not (tmp_path / "found").exists()
