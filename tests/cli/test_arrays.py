"""Four commands from a folder of plain arrays to maps; and mistakes, as a user meets them."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from neurorecon.testing.layouts.arrays import write_arrays

RECIPE = """
name = "arrays"
reader = "arrays"
"""


@pytest.mark.timeout(1200)
def test_four_commands_from_arrays_to_maps(call, tmp_path, printed_commands):
    shutil.copy(Path(__file__).parents[2] / "stores" / "arrays.toml", tmp_path)
    *first, maps = printed_commands("arrays")
    for command in first:
        found = call(*command, "--quiet")
        assert found.exit_code == 0, found.stderr
    found = call(*maps, "--subject", "sub01", "--json", "--quiet")
    assert found.exit_code == 0, found.stderr
    answer = json.loads(found.stdout)
    folder = tmp_path / "results" / "maps_arrays_all"
    rois = pd.read_csv(folder / "sub01_encoding_rois.csv", comment="#").set_index("roi")
    assert set(rois.index) == {"V1", "V2", "early", "FFA", "PPA"}
    for roi in ("FFA", "PPA"):  # categories were planted there
        assert rois.loc[roi, "joint"] > 0.3
        assert rois.loc[roi, "p"] < 0.05
    assert json.loads((folder / "sub01_encoding.json").read_text())["simulated"] is True
    assert (folder / "sub01_encoding_maps.nii.gz").is_file()
    assert answer["store"] == "arrays.icechunk"


def _swap(folder):
    path = folder / "sub01" / "responses.npy"
    np.save(path, np.load(path).T)


def _overlap(folder):
    path = folder / "sub02" / "samples.csv"
    table = pd.read_csv(path)
    table.loc[table["split"] == "test", "split"] = ["train", *["test"] * (int((table["split"] == "test").sum()) - 1)]
    table.to_csv(path, index=False)


def _not_a_number(folder):
    path = folder / "sub02" / "responses.npy"
    np.save(path, np.full_like(np.load(path), np.nan))


MISTAKES = {
    "axes": (_swap, ["the axes of", "are swapped", "transpose = true"]),
    "cut": (lambda folder: (folder / "images.npy").write_bytes(b"\x93NUMPY"), ["images.npy cannot be read"]),
    "overlap": (_overlap, ["in more than one split"]),
    "values": (_not_a_number, ["no voxel of sub02 can be used"]),
    "design": (lambda folder: (folder / "sub01" / "samples.csv").unlink(), ["contains no table of samples"]),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_gives_one_message_and_no_store(call, tmp_path, name):
    spoil, said = MISTAKES[name]
    spoil(write_arrays(tmp_path / "lab"))
    before = sorted(tmp_path.rglob("*"))
    found = call("build", "arrays", "--root", "lab", "--out", "lab.icechunk")
    assert found.exit_code == 2, found.exception
    for words in said:
        assert words in found.stderr
    assert found.stderr.count("neurorecon: error:") == 1
    assert "Traceback" not in found.stderr
    assert sorted(tmp_path.rglob("*")) == before
