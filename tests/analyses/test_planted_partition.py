"""Whether variance partitioning of the simulated brain finds the unique and common variance that was planted.

Planted is what the same bands explain in the voxels' signals without noise, times the noise ceiling: the part of the
measured variance that each combination of bands makes up.
"""

import numpy as np
import pandas as pd
import pytest

import neurorecon as nr
from neurorecon.analyses import design
from neurorecon.analyses.partition import partition_variance
from neurorecon.datasets.recipe import Recipe
from neurorecon.decoders.banded import BandedRidge
from neurorecon.decoders.validation import r2_score
from neurorecon.registry import DATASETS

BANDS = ["category", "gabor"]
MODELS = {("category",): [0], ("gabor",): [1], ("category", "gabor"): [0, 1]}
OPTIONS = {"subjects": 1, "voxels": 600, "train_images": 400, "test_images": 100, "train_videos": 0, "test_videos": 0}
SIGNAL = 4.0


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Images with more signal than usual, so that few of them will do."""
    recipe = Recipe(name="planted", reader="scenes", targets=BANDS, options={**OPTIONS, "signal": SIGNAL})
    return nr.build(recipe, tmp_path_factory.mktemp("planted") / "planted.icechunk", progress=False)


@pytest.fixture(scope="module")
def signals(store):
    """Return the noise-free signal of each stimulus in each voxel of the store, by split."""
    reader = DATASETS.load("scenes")
    data = reader(None, reader.Options(**OPTIONS, signal=1000 * SIGNAL)).subject("subj01")
    rows = pd.Series(np.arange(len(data.voxels)), index=pd.MultiIndex.from_frame(data.voxels[["hemisphere", "vertex"]]))
    voxels = rows[pd.MultiIndex.from_frame(store.voxels("subj01")[["hemisphere", "vertex"]])].to_numpy()
    responses = pd.DataFrame(data.read_responses(0, len(data.samples))[:, voxels].astype(float))
    return {
        split: responses[(data.samples["split"] == split).to_numpy()]
        .groupby(data.samples.loc[data.samples["split"] == split, "stimulus"].to_numpy(), sort=False)
        .mean()
        for split in ("train", "test")
    }


@pytest.fixture(scope="module")
def planted(store, signals):
    """Return planted variance, (combination, voxel): of category alone, of gabor alone, common to both."""
    train, test = signals["train"], signals["test"]
    within, across = design.grams(store, BANDS, list(train.index), list(test.index))
    r2 = {}
    for names, rows in MODELS.items():
        model = BandedRidge().fit_kernels(within[rows], train.to_numpy())
        r2[names] = r2_score(test.to_numpy(), model.predict_kernels(across[rows]))
    category, gabor, both = r2.values()
    shares = np.stack([both - gabor, both - category, category + gabor - both])
    return shares * store.noise_ceiling("subj01", None, "images")


def test_unique_and_common_variance_lie_within_the_intervals(store, planted):
    found = partition_variance(store, bands=BANDS, task="images", n_bootstraps=1000)
    masks, rows = store.roi_masks("subj01"), {"category": 0, "gabor": 1, "category+gabor": 2}
    rois = found.rois[found.rois["n"] >= 10]
    truth = np.array([np.nanmean(planted[rows[row.bands]][masks[row.roi]]) for row in rois.itertuples()])
    # Where a band adds nothing, its interval is as narrow as rounding.
    inside = (rois["low"] - 0.01 <= truth) & (truth <= rois["high"] + 0.01)
    assert len(rois) >= 30
    assert inside.mean() >= 0.9
    np.testing.assert_allclose(rois["value"], truth, atol=0.1)
    by_roi = rois.assign(truth=truth).set_index(["roi", "bands"])
    # Early ROIs hold nothing that only categories explain, ROIs of faces and bodies much.
    assert by_roi.loc[("V1", "category"), "value"] < 0.02
    assert by_roi.loc[("V1", "gabor"), "value"] > 0.4
    assert by_roi.loc[("FFA", "category"), "low"] > 0.1
    assert by_roi.loc[("EBA", "category"), "value"] > 5 * by_roi.loc[("EBA", "gabor"), "value"]


def test_voxels_agree_too(store, planted):
    found = partition_variance(store, bands=BANDS, task="images", n_bootstraps=50)
    known = np.isfinite(planted).all(axis=0) & (found.table["noise_ceiling"] > 0.5).to_numpy()
    for number in range(3):
        assert np.corrcoef(planted[number, known], found.partition.values[number, known])[0, 1] > 0.8
    ratio = found.table["normalized_r2"][known]
    assert 0.6 < ratio.mean() < 1.02
