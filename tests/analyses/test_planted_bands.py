"""Whether banded ridge finds what each band adds, where it is known: weights planted on the features of the videos.

The features are those of the simulated data set, correlated between bands as they are there; what they add to each
voxel is drawn here, so that shares and unique variance are known without a model of the brain.
"""

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.linear_model import LinearRegression

from neurorecon.decoders import BandedRidge, bands_of_rois, r2_score, r2_score_split
from neurorecon.errors import InputError

pytestmark = pytest.mark.xdist_group("scenes")

#: Percentile intervals from 60 test videos hold the truth somewhat less often than their 95 %.
COVERAGE = 0.85

BANDS, WIDTH, VOXELS, DRAWS = ("category", "gabor", "motion"), 4, 60, 400

#: Each voxel is driven by one band, a third as much by the next, and not by the third.
STRENGTH = np.array([[1.5, 0.0, 0.5], [0.5, 1.5, 0.0], [0.0, 0.5, 1.5]])


@pytest.fixture(scope="module")
def planted(videos):
    """Features of each band, what each adds to each voxel (training videos first), responses, and who trains."""
    generator = np.random.default_rng(0)
    ids = [videos.targets("motion", split)["stimulus"].values.tolist() for split in ("train", "test")]
    features, contributions = [], []
    for band, strength in zip(BANDS, STRENGTH, strict=True):
        train, test = (videos.targets(band, stimuli=part).values.reshape(len(part), -1) for part in ids)
        reduced = PCA(WIDTH, whiten=True, svd_solver="randomized", random_state=0).fit(train)
        features.append(reduced.transform(np.concatenate([train, test])).astype(np.float64))
        weights = generator.standard_normal((WIDTH, VOXELS)) / 2 * np.tile(strength, VOXELS // 3)
        contributions.append(features[-1] @ weights)
    contributions = np.stack(contributions)
    responses = contributions.sum(axis=0) + generator.standard_normal(contributions.shape[1:])
    training = np.arange(len(responses)) < len(ids[0])
    return features, contributions, responses, training


def _fit(features, responses, training, chosen=BANDS):
    parts = [part for name, part in zip(BANDS, features, strict=True) if name in chosen]
    labels = np.repeat(chosen, WIDTH)
    X = np.hstack(parts)
    model = BandedRidge(labels, dtype="float64", random_state=0).fit(X[training], responses[training])
    return model, X[~training]


def _covered(draws, truth):
    """Share of 95 % bootstrap intervals, over draws of the test videos, that hold the truth."""
    low, high = np.percentile(draws, [2.5, 97.5], axis=0)
    return np.mean((low <= truth) & (truth <= high))


def _resampled(n_samples):
    return np.random.default_rng(1).integers(0, n_samples, (DRAWS, n_samples))


def test_the_planted_band_wins(planted):
    features, _, responses, training = planted
    model, new = _fit(features, responses, training)
    truth = np.tile(BANDS, VOXELS // 3)
    shares = model.score(new, responses[~training], split=True)
    assert (model.best_band(shares) == truth).mean() >= 0.95


def test_planted_shares_lie_in_their_intervals(planted):
    """The product measure of what was planted, over all videos, against that of the predictions of test videos."""
    features, contributions, responses, training = planted
    model, new = _fit(features, responses, training)
    predicted, measured = model.predict(new, split=True), responses[~training] - model.intercept_
    centered = contributions - contributions.mean(axis=1, keepdims=True)
    signal = centered.sum(axis=0)
    truth = (centered * signal).mean(axis=1) / ((signal**2).mean(axis=0) + 1)
    draws = np.stack([r2_score_split(measured[rows], predicted[:, rows]) for rows in _resampled(len(measured))])
    assert _covered(draws, truth) >= COVERAGE
    np.testing.assert_allclose(draws.mean(axis=(0, 2)), truth.mean(axis=1), atol=0.05)


def test_planted_unique_variance_lies_in_its_intervals(planted):
    """What the joint prediction loses without a band, against what least squares loses on signals without noise."""
    features, contributions, responses, training = planted
    signal = contributions.sum(axis=0)
    total = signal.var(axis=0) + 1
    model, new = _fit(features, responses, training)
    joint, measured = model.predict(new), responses[~training]
    rows = _resampled(len(measured))
    for number, band in enumerate(BANDS):
        others = np.hstack([part for place, part in enumerate(features) if place != number])
        left = signal - LinearRegression().fit(others, signal).predict(others)
        truth = left.var(axis=0) / total
        without, new_without = _fit(features, responses, training, [name for name in BANDS if name != band])
        reduced = without.predict(new_without)
        draws = np.stack([r2_score(measured[row], joint[row]) - r2_score(measured[row], reduced[row]) for row in rows])
        assert _covered(draws, truth) >= COVERAGE, band
        assert np.abs(draws.mean() - truth.mean()) < 0.05, band


def test_rois_of_a_store_are_bands_of_voxels(videos):
    """Decoding from faces' and places' ROIs and V1, volumes at two delays: each category from the ROI that has it."""
    rois, masks = ["V1", "FFA", "PPA"], videos.roi_masks("subj01")
    options = {"task": "videos", "average": None, "delays": (2, 3)}
    X, y = videos.pairs("subj01", "category", rois, "train", **options)
    X_new, y_new = videos.pairs("subj01", "category", rois, "test", **options)
    bands = bands_of_rois(masks, rois, voxels=X["voxel"])
    assert {name: len(part) for name, part in bands.items()} == {name: 2 * masks[name].sum() for name in rois}
    categories = y["feature"].values.tolist()
    model = BandedRidge(bands).fit(X.values, y.values, groups=X["run"].values)
    best = dict(zip(categories, model.best_band(model.score(X_new.values, y_new.values, split=True)), strict=True))
    assert (best["face"], best["room"]) == ("FFA", "PPA")


def test_rois_that_share_voxels_are_refused_as_bands(videos):
    masks = videos.roi_masks("subj01")
    shared = (masks["LO"] & masks["EBA"]).sum()
    assert shared > 0
    with pytest.raises(InputError, match=f"LO and EBA share {shared}"):
        bands_of_rois(masks, ["LO", "EBA"], rest="other")
