"""Real data from the folder that was downloaded to the numbers of a reconstruction, by two commands."""

import json
from pathlib import Path


def test_figures_are_reconstructed_from_v1(call, miyawaki_folder, tmp_path):
    recipe = tmp_path / "miyawaki2008.toml"
    recipe.write_text((Path(__file__).parents[2] / "stores" / "miyawaki2008.toml").read_text())
    built = call("build", recipe, "--root", miyawaki_folder, "--json", "--quiet")
    assert built.exit_code == 0, built.stderr
    assert json.loads(built.stdout)["info"]["simulated"] is False
    found = call("reconstruct", "--system", "linear-pixels", "--cross-validate", "category",
                 "--permutations", "200", "--format", "pdf", "--json")  # fmt: skip
    assert found.exit_code == 0, found.stderr
    assert "built last in this folder" in found.stderr
    scores = {score["name"].split(" ", 1)[1]: score for score in json.loads(found.stdout)["scores"]}
    assert scores["stimulus_mean_pixcorr"]["value"] >= 0.78
    assert scores["two_way"]["value"] >= 0.75
    assert scores["two_way"]["n"] == 10
    for score in scores.values():
        assert score["p"] <= 0.01
        assert score["value"] > score["null_max"]
        assert score["value"] > score["baseline"] + 0.1
    (folder,) = (tmp_path / "results").glob("reconstruct_miyawaki2008*")
    record = json.loads((folder / "subj01_linear-pixels.json").read_text())
    assert record["simulated"] is False
    assert (folder / "subj01_linear-pixels_panel.pdf").read_bytes().startswith(b"%PDF")
