"""Each data set of 2026 from its folder to maps by four commands, and to reconstructions, on its miniature."""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

STORES = Path(__file__).parents[2] / "stores"

#: By data set: subject, task, and ROIs whose maps are compared, where the first responds to what a target says.
SETS = {
    "things": ("sub-01", "images", "gabor", "V1", "rFFA"),
    "laion_fmri": ("sub-01", "images", "gabor", "V1", "FFA1"),
    "bold_moments": ("sub-01", "videos", "gabor", "V1v", "BA2"),
}


@pytest.fixture
def built(call, tmp_path, request):
    """The store of a miniature, built by the recipe of the repository."""
    name = request.param
    shutil.copy(STORES / f"{name}.toml", tmp_path)
    assert call("datasets", "miniature", name, "--out", "miniature", "--quiet").exit_code == 0
    found = call("build", f"{name}.toml", "--root", "miniature", "--json", "--quiet")
    assert found.exit_code == 0, found.stderr
    assert json.loads(found.stdout)["info"]["simulated"] is True
    return name


@pytest.mark.parametrize("built", SETS, indirect=True)
def test_from_the_folder_to_maps(call, tmp_path, built):
    subject, task, target, early, late = SETS[built]
    made = call("features", "--target", target, "--quiet")
    assert made.exit_code == 0, made.stderr
    mapped = call(
        "maps", "--subject", subject, "--task", task, "--bands", target, "--permutations", "99", "--no-figures",
        "--json", "--quiet",
    )  # fmt: skip
    assert mapped.exit_code == 0, mapped.stderr
    folder = tmp_path / "results" / f"maps_{built}_all"
    table = pd.read_csv(next(folder.glob(f"{subject}_encoding_rois.csv"))).set_index("roi")["value"]
    assert table[early] > 0.2, table
    assert table[early] > table[late], table
    exported = call("export", "--bids", folder, "bids", "--json", "--quiet")
    assert exported.exit_code == 0, exported.stderr
    files = [Path(name) for name in json.loads(exported.stdout)["files"]]
    image = next(name for name in files if name.name.endswith("desc-encoding_statmap.nii.gz"))
    assert image.name.startswith(f"sub-{subject[-2:]}_task-{task}_stat-")
    assert json.loads(image.with_name(image.name.replace(".nii.gz", ".json")).read_text())["SimulatedData"] is True


@pytest.mark.parametrize("built", SETS, indirect=True)
def test_from_the_folder_to_reconstructions(call, tmp_path, built):
    subject, task, *_ = SETS[built]
    system = "linear-frames" if task == "videos" else "linear-pixels"
    made = call(
        "reconstruct", "--system", system, "--subject", subject, "--task", task, "--permutations", "99",
        "--metric", "pixcorr", "--no-figures", "--json", "--quiet", "--out", "made",
    )  # fmt: skip
    assert made.exit_code == 0, made.stderr
    score = json.loads(made.stdout)["scores"][0]
    assert score["value"] > 0.2
    assert score["p"] <= 0.05
