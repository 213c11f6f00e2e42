import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from neurorecon.figures import read_provenance


@pytest.mark.parametrize(
    ("arguments", "numbers"),
    [
        (["--roi", "early"], {"pixel_correlation": 8, "pairwise_identification": 8}),
        (
            ["--cross-validate", "category", "--roi", "V1"],
            # 24 training images shown once, 8 test images shown three times
            {
                "stimulus_mean_pixel_correlation": 32,
                "pairwise_identification": 32,
                "single_sample_pixel_correlation": 48,
            },
        ),
    ],
    ids=["split", "cross-validated"],
)
def test_images_are_reconstructed(call, small, tmp_path, arguments, numbers):
    found = call("reconstruct", "--store", small.path, "--subject", "subj01", "--task", "images",
                 "--permutations", "19", *arguments, "--json", "--quiet")  # fmt: skip
    assert found.exit_code == 0, found.exception
    assert found.stderr == ""
    assert found.stdout.count("\n") == 1
    answer = json.loads(found.stdout)
    for score in answer["scores"]:
        assert {"name", "value", "null_mean", "null_max", "p", "n"} <= set(score)
    assert {score["name"].removeprefix("subj01 "): score["n"] for score in answer["scores"]} == numbers
    stimuli = next(iter(numbers.values()))
    folder = tmp_path / "results" / "reconstruct_small"
    assert sorted(str(path.relative_to(tmp_path)) for path in folder.iterdir()) == sorted(answer["files"])
    with np.load(folder / "subj01_linear-pixels_rebuilt.npz", allow_pickle=False) as arrays:
        assert arrays["seen"].shape == arrays["reconstructed"].shape == (stimuli, 64, 64, 3)
        assert 0 <= arrays["reconstructed"].min() <= arrays["reconstructed"].max() <= 1
        table = pd.read_csv(folder / "subj01_linear-pixels_stimuli.csv")
        assert table["stimulus"].tolist() == arrays["stimulus"].tolist()
    assert table["pixel_correlation"].mean() == pytest.approx(answer["scores"][0]["value"], abs=1e-4)
    with Image.open(folder / "subj01_linear-pixels_panel.png") as image:
        assert np.asarray(image.convert("L")).std() > 5
    for suffix in ("png", "svg", "pdf"):
        record = read_provenance(folder / f"subj01_linear-pixels_panel.{suffix}")
        assert record["snapshot"] == answer["snapshot"]
        assert record["simulated"] is True
    stored = json.loads((folder / "subj01_linear-pixels.json").read_text())
    assert stored["scores"] == answer["scores"]
