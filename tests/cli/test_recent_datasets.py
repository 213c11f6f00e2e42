"""Each data set of 2026 from its folder to maps by four commands, and to reconstructions, on its miniature."""

import json
from pathlib import Path

import pandas as pd
import pytest

STORES = Path(__file__).parents[2] / "stores"

#: By data set: subject, task, target, and two ROIs of which the first is better predicted by it.
SETS = {
    "things": ("sub-01", "images", "clip_image", "rFFA", "V1"),
    "laion_fmri": ("sub-01", "images", "clip_image", "FFA1", "V1"),
    "bold_moments": ("sub-01", "videos", "gabor", "V1v", "BA2"),
}


@pytest.mark.parametrize("name", SETS)
def test_from_the_folder_to_maps_and_reconstructions(call, tmp_path, name):
    def run(*arguments):
        found = call(*arguments, "--quiet")
        assert found.exit_code == 0, found.stderr
        return found

    subject, task, target, better, worse = SETS[name]
    chosen = ("--subject", subject, "--task", task, "--permutations", "19", "--no-figures", "--json")
    recipe = (STORES / f"{name}.toml").read_text().replace("image_size = 256", "image_size = 64")
    (tmp_path / f"{name}.toml").write_text(recipe)
    run("datasets", "miniature", name, "--out", "miniature")
    built = run("build", f"{name}.toml", "--root", "miniature", "--json")
    assert json.loads(built.stdout)["info"]["simulated"] is True
    run("features", "--target", target)
    run("maps", *chosen, "--bands", target, "--out", "maps")
    table = pd.read_csv(tmp_path / "maps" / f"{subject}_encoding_rois.csv").set_index("roi")["value"]
    assert table[better] > max(0.2, table[worse] + 0.2), table
    exported = json.loads(run("export", "--bids", "maps", "bids", "--json").stdout)["files"]
    image = next(Path(file) for file in exported if file.endswith("desc-encoding_statmap.nii.gz"))
    assert image.name.startswith(f"sub-01_task-{task}_stat-")
    assert json.loads(image.with_name(image.name.replace(".nii.gz", ".json")).read_text())["SimulatedData"] is True
    system, metric = ("linear-frames", "ssim_frames") if task == "videos" else ("linear-pixels", "pixcorr")
    made = run("reconstruct", "--system", system, *chosen, "--metric", metric, "--out", "made")
    score = json.loads(made.stdout)["scores"][0]
    assert score["value"] > 0.2
    assert score["p"] <= 0.05
