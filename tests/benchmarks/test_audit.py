"""Audits on the embedded data set: a system that was fitted on wrong pairs is at the null of refits in every row.

    pytest -m benchmark -s tests/benchmarks/test_audit.py

A third of the training images, because 400 fits are made. About ten minutes on one core.
"""

import numpy as np
import pytest
from scipy import stats

import neurorecon as nr
from neurorecon.datasets.recipe import Recipe
from neurorecon.decoders.samples import Recordings
from neurorecon.parallel import Compute
from neurorecon.systems.linear_pixels import LinearPixels

#: Wrong pairings, and refits behind each p-value.
SEEDS, REFITS = 20, 199

#: One alpha, so that a fit takes a second; the largest one of the candidates regularizes most.
ALPHA = 1e4

METRICS = ["pixcorr", "two_way", "mse"]

pytestmark = pytest.mark.benchmark


def test_wrong_pairs(tmp_path):
    options = {"subjects": 1, "train_images": 600, "train_videos": 1, "test_videos": 1}
    store = nr.build(
        Recipe(name="scenes", reader="scenes", targets=["clip_image"], options=options), tmp_path / "s.icechunk"
    )
    quiet = {"splits": (), "compute": Compute(progress=False), "n_bootstraps": 200}
    right = nr.audit(store, LinearPixels(alphas=ALPHA), "subj01", "visual", metrics=METRICS, n_refits=REFITS, **quiet)
    train = Recordings.read(store, "subj01", "visual", task="images", split="train")
    p = {row: [] for row in ("re-paired null", "permutation null", "category-matched null", "another trial")}
    for seed in range(SEEDS):
        order = np.random.default_rng(1000 + seed).permutation(len(train.table))
        wrong = LinearPixels(alphas=ALPHA).fit(store, "subj01", samples=train, stimuli=train.stimuli[order])
        found = nr.audit(store, wrong, "subj01", metrics=METRICS, **quiet)
        for name in METRICS:
            value = found.verdicts.set_index("metric").loc[name, "value"]
            null = right.null[f"split of the store {name} re-paired null"]
            sign = -1 if name == "mse" else 1
            p["re-paired null"].append((1 + (sign * null >= sign * value).sum()) / (1 + REFITS))
            rows = found.table[found.table["metric"] == name].set_index("row")["left_p"]
            for row in p.keys() - {"re-paired null"}:
                p[row].append(rows[row])
    for row, values in p.items():
        low = np.mean(np.array(values) < 0.01)
        print(f"wrong pairs, {row}: share of p < .01 {low:.3f}, mean p {np.mean(values):.2f} ({len(values)} tests)")
    refits = np.array(p["re-paired null"])
    assert stats.binom.sf((refits < 0.01).sum() - 1, len(refits), 0.01) > 0.01
    assert (right.verdicts["re-paired p"] <= 1 / (1 + REFITS)).all()
