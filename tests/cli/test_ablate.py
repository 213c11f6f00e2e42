"""`neurorecon ablate`."""

import json

import pandas as pd
import pytest

FAST = ["--metric", "pixcorr", "--metric", "two_way", "--permutations", "19", "--bootstraps", "99"]
SYSTEM = ["--system", "linear-pixels", "--set", "alphas=100"]


def test_cells_of_both_subjects(call, small, tmp_path):
    found = call(
        "ablate", *SYSTEM, "--store", small.path, "--vary", "rois=V1,visual", "--vary", "alphas=1,10000", "--vary",
        "subjects", "--stimuli", "6", *FAST, "--out", tmp_path / "ablate", "--json", "--quiet",
    )  # fmt: skip
    assert found.exit_code == 0, found.stderr
    cells = ["full", "V1 alone", "visual alone", "alphas=1", "alphas=10000"]
    tables = {}
    for subject, other in (("subj01", "subj02"), ("subj02", "subj01")):
        table = pd.read_csv(tmp_path / "ablate" / f"{subject}_linear-pixels_ablation_cells.csv")
        assert table["cell"].drop_duplicates().tolist() == [*cells, other]
        assert (table["n"] == 6).all()
        tables[subject] = table.set_index(["cell", "metric"])
    one, two = (
        tables[subject].loc[(row, "pixcorr"), "mean"] for subject, row in (("subj01", "subj02"), ("subj02", "full"))
    )
    assert one == pytest.approx(two)
    assert len(json.loads(found.stdout)["scores"]) == 2 * 2 * 6
    assert (tmp_path / "ablate" / "subj01_linear-pixels_ablation_scores.png").is_file()
    record = json.loads((tmp_path / "ablate" / "subj01_linear-pixels_ablation.json").read_text())
    assert record["settings"]["vary"] == ["rois=V1,visual", "alphas=1,10000", "subjects"]
    again = call(
        "ablate", *SYSTEM, "--store", small.path, "--subject", "subj01", "--vary", "rois=V1", "--stimuli", "6", *FAST,
        "--out", tmp_path / "ablate", "--no-figures",
    )  # fmt: skip
    assert "SIMULATED responses" in again.stdout
    assert "V1 alone" in again.stdout
    assert "alphas=1" not in again.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--vary", "colors=red"], "variation 'colors'"),
        (["--vary", "rois=V9"], "V9"),
        (["--vary", "noise"], "has no first stage"),
        (["--vary", "targets"], "nothing to vary"),
        (["--format", "bmp"], "bmp"),
    ],
)
def test_errors_are_one_message_and_nothing_is_written(call, small, tmp_path, arguments, said):
    found = call("ablate", *SYSTEM, "--store", small.path, *FAST, *arguments, "--out", tmp_path / "found")
    assert found.exit_code == 2
    assert said in found.stderr
    assert "Traceback" not in found.stderr
    assert not (tmp_path / "found").exists()
