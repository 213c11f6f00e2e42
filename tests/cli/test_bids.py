"""A BIDS data set from the folder to maps, by four commands."""

import json
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd

STORES = Path(__file__).parents[2] / "stores"


def test_from_the_folder_to_maps(call, tmp_path, printed_commands):
    shutil.copy(STORES / "bids.toml", tmp_path)
    miniature, build, features, maps = printed_commands("bids")
    assert call(*miniature).exit_code == 0
    built = call(*build, "--json", "--quiet")
    assert built.exit_code == 0, built.stderr
    info = json.loads(built.stdout)["info"]
    assert info["simulated"] is True
    made = call(*features, "--quiet")
    assert made.exit_code == 0, made.stderr
    mapped = call(*maps, "--permutations", "99", "--no-figures", "--json", "--quiet")
    assert mapped.exit_code == 0, mapped.stderr
    scores = json.loads(mapped.stdout)["scores"]
    assert {score["name"].split()[0] for score in scores} == {"sub-01", "sub-02"}
    folder = tmp_path / "results" / "maps_bids_all"
    table = pd.read_csv(folder / "sub-01_encoding_voxels.csv", index_col="voxel")
    # Three quarters of the voxels see images, the last quarter holds noise.
    order = table.sort_values(["i", "j", "k"])["r2"].to_numpy()
    assert order[:72].mean() > 0.1 > order[72:].mean()
    image = nibabel.load(folder / "sub-01_encoding_maps.nii.gz")
    run = next((tmp_path / "bids-miniature").rglob("*_desc-preproc_bold.nii.gz"))
    np.testing.assert_allclose(image.affine, nibabel.load(run).affine)
    assert image.shape[:3] == nibabel.load(run).shape[:3]


def test_a_mistake_gives_one_message_and_no_store(call, tmp_path):
    shutil.copy(STORES / "bids.toml", tmp_path)
    assert call("datasets", "miniature", "bids", "--out", "bids-miniature", "--quiet").exit_code == 0
    before = sorted(tmp_path.rglob("*"))
    events = next((tmp_path / "bids-miniature").rglob("sub-02*run-3_events.tsv"))
    events.write_text(events.read_text().replace("onset", "start"))
    found = call("build", "bids.toml", "--root", "bids-miniature", "--json")
    assert found.exit_code == 2
    assert f"{events.name} lacks onset" in found.stderr
    assert found.stderr.count("neurorecon: error:") == 1
    assert sorted(tmp_path.rglob("*")) == before


def test_from_the_folder_to_reconstructions(call, tmp_path):
    """There are no ROIs of the system, so it decodes from all voxels."""
    shutil.copy(STORES / "bids.toml", tmp_path)
    assert call("datasets", "miniature", "bids", "--out", "bids-miniature", "--quiet").exit_code == 0
    assert call("build", "bids.toml", "--root", "bids-miniature", "--quiet").exit_code == 0
    whole = ("--system", "takagi", "--models", "bundled", "--subject", "sub-01", "--set", "steps=2", "--quiet")
    refused = call("reconstruct", *whole)
    assert refused.exit_code == 2
    assert "does not have the ROI that 'vqvae' is decoded from" in refused.stderr
    alone = (*whole, "--set", "rois={}")
    assert call("fit", *alone).exit_code == 0
    made = call("reconstruct", *alone, "--out", "made", "--permutations", "99", "--no-figures", "--json")
    assert made.exit_code == 0, made.stderr
    scores = {score["name"]: score for score in json.loads(made.stdout)["scores"]}
    assert scores["sub-01 pixcorr"]["value"] > 0.4
    assert scores["sub-01 pixcorr"]["p"] <= 0.02
    again = call("evaluate", "made", "--metric", "pixcorr", "--permutations", "99", "--json", "--quiet", "--no-figures")
    (score,) = json.loads(again.stdout)["scores"]
    assert abs(score["value"] - scores["sub-01 pixcorr"]["value"]) < 1e-6
