import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import r2_score

from neurorecon.analyses.design import Samples, delayed_kernel
from neurorecon.analyses.encoding import (
    _contributions,
    _predicted,
    fit_encoding,
    fold_groups,
    names_of,
    roi_scores,
    winning_band,
)
from neurorecon.analyses.maps import voxelwise_maps
from neurorecon.decoders.banded import BandedRidge

DELAYS = (1, 2, 3)


def _samples(random, runs, stimuli, voxels=4):
    shown = np.concatenate([random.permutation(stimuli) for _ in range(runs)])
    labels = np.repeat(np.arange(runs), stimuli)
    responses = random.standard_normal((len(shown), voxels)).astype(np.float32)
    return Samples(responses, pd.DataFrame(), labels, [f"s{number}" for number in range(stimuli)], shown)


def test_contributions_add_up_to_the_prediction_from_the_delayed_kernel():
    random = np.random.default_rng(0)
    train, test = _samples(random, 6, 12), _samples(random, 2, 7)
    bands = [random.standard_normal((19, width)) for width in (5, 9)]
    grams = np.stack([part[:12] @ part[:12].T for part in bands])
    across = np.stack([part[12:] @ part[:12].T for part in bands])
    seen, held_out = train.at_delays(DELAYS), test.at_delays(DELAYS)
    kernels = np.stack([delayed_kernel(gram, seen, seen) for gram in grams])
    model = BandedRidge({"a": slice(0), "b": slice(0)}, n_iter=5, dtype="float64")
    model.fit_kernels(kernels, train.responses, groups=train.runs)
    explicit = model.predict_kernels(np.stack([delayed_kernel(gram, held_out, seen) for gram in across]), split=True)
    nothing = model.predict_kernels(np.zeros((2, len(test.shown), len(train.shown))), split=True)
    contributions = _contributions(model, across, seen, len(train.shown))
    assert contributions.shape == (2, len(DELAYS), 7, 4)
    np.testing.assert_allclose(_predicted(contributions, held_out), explicit - nothing, atol=1e-10)


@pytest.fixture(scope="module")
def fitted(miniature):
    from neurorecon.analyses import design

    store = miniature(subjects=1, videos=30, images=60)
    train, test = (design.load_samples(store, "subj01", None, split, "films") for split in ("train", "test"))
    masks = store.roi_masks("subj01")
    fit = fit_encoding(store, ["category", "gabor"], train, test, DELAYS, series=True,
                       rois=np.array(list(masks.values())), n_permutations=20, seed=0)  # fmt: skip
    return fit, masks


def test_the_score_is_that_of_scikit_learn(fitted):
    fit, _ = fitted
    expected = r2_score(fit.measured, fit.predicted.sum(axis=0), multioutput="raw_values")
    np.testing.assert_allclose(fit.test.observed, expected, atol=1e-4)
    np.testing.assert_allclose(fit.test.split.observed.sum(axis=0), fit.test.observed, atol=1e-4)
    np.testing.assert_allclose(fit.measured.mean(axis=0), 0, atol=1e-5)


def test_means_of_rois_and_their_intervals(fitted):
    fit, masks = fitted
    found = roi_scores(fit, masks, series=True, block=5, seed=0)
    for name, score in found.items():
        split = fit.test.split.observed[:, masks[name]].mean(axis=1)
        np.testing.assert_allclose(score.bands, split, atol=1e-4)
        assert score.joint == pytest.approx(fit.test.observed[masks[name]].mean(), abs=1e-4)
        assert score.voxels == masks[name].sum()
        assert (score.low <= score.bands).all()
        assert (score.bands <= score.high).all()
    again = roi_scores(fit, masks, series=True, block=5, seed=0)
    np.testing.assert_array_equal(found["V1"].low, again["V1"].low)
    nobody = np.zeros(len(fit.alpha), dtype=bool)
    assert roi_scores(fit, {"none": nobody}, series=True, block=5, seed=0) == {}


def test_samples_of_one_fold_belong_together():
    random = np.random.default_rng(0)
    many, few = _samples(random, 6, 5), _samples(random, 2, 30)
    np.testing.assert_array_equal(fold_groups(many, series=False), many.shown)
    np.testing.assert_array_equal(fold_groups(many, series=True), many.runs)
    stretches = fold_groups(few, series=True)
    assert len(set(stretches)) == 10
    assert (np.diff(stretches) >= 0).all()


def test_the_winning_band():
    split = np.array([[0.3, 0.1, np.nan, 0.2], [0.1, 0.2, 0.1, 0.1]])
    winner = winning_band(split, np.array([True, True, True, False]))
    assert winner.tolist() == [0, 1, 1, -1]
    assert list(names_of(["a", "b"], winner)) == ["a", "b", "b", ""]


def test_the_same_seed_gives_the_same_map(miniature):
    store = miniature(subjects=1)
    first, second, other = (
        voxelwise_maps(store, task="images", bands=["category", "gabor"], n_permutations=30, seed=seed)
        for seed in (1, 1, 2)
    )
    pd.testing.assert_frame_equal(first.table, second.table)
    pd.testing.assert_frame_equal(first.rois, second.rois)
    assert first.scores == second.scores
    assert not first.table["p"].equals(other.table["p"])


def test_maps_need_held_out_stimuli_and_sensible_settings(miniature):
    from neurorecon.errors import InputError, UnknownNameError

    store = miniature(subjects=1)
    with pytest.raises(UnknownNameError, match="unknown kind of map"):
        voxelwise_maps(store, kind="weights")
    for wrong in ({"n_permutations": 0}, {"level": 0.0}, {"level": 1.0}):
        with pytest.raises(InputError, match="make no test"):
            voxelwise_maps(store, **wrong)
