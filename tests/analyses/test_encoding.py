import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import r2_score

from neurorecon.analyses.design import EncodingSettings
from neurorecon.analyses.encoding import (
    EncodingBlock,
    _contributions,
    fit_encoding,
    fold_groups,
    gather,
    refit_units,
    winning_band,
)
from neurorecon.analyses.maps import voxelwise_maps
from neurorecon.decoders.banded import BandedRidge
from neurorecon.decoders.kernels import delayed_kernel
from neurorecon.decoders.samples import SampleTable, load_samples
from neurorecon.stats import Exchange

DELAYS = (1, 2, 3)
SETTINGS = EncodingSettings(n_permutations=20)


def _samples(random, runs, stimuli, voxels=4):
    shown = np.concatenate([random.permutation(stimuli) for _ in range(runs)])
    labels = np.repeat(np.arange(runs), stimuli)
    responses = random.standard_normal((len(shown), voxels)).astype(np.float32)
    return SampleTable(responses, pd.DataFrame(), labels, [f"s{number}" for number in range(stimuli)], shown)


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
    padded = np.pad(contributions, ((0, 0), (0, 0), (0, 1), (0, 0)))
    summed = sum(padded[:, delay, shown] for delay, shown in enumerate(held_out))
    np.testing.assert_allclose(summed, explicit - nothing, atol=1e-10)


@pytest.fixture(scope="module")
def fitted(miniature):
    from neurorecon.analyses import design

    store = miniature(subjects=1, videos=30, images=60)
    train, test = (load_samples(store, "subj01", None, split, "videos") for split in ("train", "test"))
    masks = store.roi_masks("subj01")
    products = design.grams(store, ["category", "gabor"], train.stimuli, test.stimuli)
    rois = np.array(list(masks.values()))
    held_out, found = fit_encoding(products, train, test, DELAYS, series=True, settings=SETTINGS, rois=rois)
    return held_out, found, masks


def test_scores_are_those_of_scikit_learn_and_numpy(fitted):
    held_out, found, _ = fitted
    joint = held_out.predicted.sum(axis=0)
    about_mean = r2_score(held_out.measured, joint, multioutput="raw_values")
    np.testing.assert_allclose(held_out.shares.sum(axis=0), about_mean, atol=1e-4)
    np.testing.assert_allclose(found.observed, about_mean, atol=1e-4)
    np.testing.assert_allclose(found.split.observed, held_out.shares, atol=1e-4)
    np.testing.assert_allclose(held_out.measured.mean(axis=0), 0, atol=1e-5)
    with_mean = r2_score(held_out.measured + held_out.offset, joint, multioutput="raw_values")
    np.testing.assert_allclose(held_out.r2_sklearn, with_mean, atol=1e-4)
    r = [np.corrcoef(a, b)[0, 1] for a, b in zip(joint.T, held_out.measured.T, strict=True)]
    np.testing.assert_allclose(held_out.correlation, r, atol=1e-5)


def test_a_voxel_that_does_not_vary_in_the_test_samples_is_left_out_everywhere():
    """Its sum of squares is a rounding error: R2 of an ROI was -3.5e14 in one table and -3.13 in another."""
    random = np.random.default_rng(0)
    train, test = _samples(random, 1, 40), _samples(random, 1, 20)
    test.responses[:, 1] = 1000.1
    features = random.standard_normal((60, 3))
    products = features[None, :40] @ features[:40].T, features[None, 40:] @ features[:40].T
    everyone = np.ones((1, 4), dtype=bool)
    held_out, found = fit_encoding(products, train, test, (0,), series=False, settings=SETTINGS, rois=everyone)
    block = EncodingBlock.of(held_out, found, everyone, SETTINGS)
    assert np.isnan(block.r2).tolist() == [False, True, False, False]
    for values in (block.r, block.r2_sklearn, block.split[0], block.p[0]):
        assert np.isnan(values).tolist() == [False, True, False, False]
    score = gather([block], {"all": everyone[0]}).rois["all"]
    assert score.joint.estimate == pytest.approx(np.nanmean(block.r2))
    assert score.observed[0] == pytest.approx(np.nanmean(block.r2), abs=1e-5)


def _gathered(fitted, masks, confidence=0.95):
    held_out, found, _ = fitted
    runs = np.zeros(len(held_out.measured), dtype=int)
    block = EncodingBlock.of(held_out, found, np.array(list(masks.values())), SETTINGS, runs)
    return gather([block], masks, runs=runs, confidence=confidence).rois


def test_means_of_rois_and_their_intervals(fitted):
    held_out, found, masks = fitted
    scores = _gathered(fitted, masks)
    narrow = _gathered(fitted, masks, 0.5)
    for number, (name, score) in enumerate(scores.items()):
        split = found.split.observed[:, masks[name]].mean(axis=1)
        np.testing.assert_allclose(score.bands.estimate, split, atol=1e-4)
        assert score.joint.estimate == pytest.approx(found.observed[masks[name]].mean(), abs=1e-4)
        assert score.r == pytest.approx(held_out.correlation[masks[name]].mean(), abs=1e-4)
        np.testing.assert_allclose(score.observed[0], found.groups.observed[number], rtol=1e-6)
        assert score.p[0] == found.groups.p[number]
        np.testing.assert_allclose(score.p[1:], found.split.groups.p[:, number])
        assert score.voxels == masks[name].sum()
        for wide, small in ((score.joint, narrow[name].joint), (score.bands, narrow[name].bands)):
            assert (wide.low < small.low).all()
            assert (small.high < wide.high).all()
    nobody = dict.fromkeys(masks, np.zeros(found.observed.shape, dtype=bool))
    assert _gathered(fitted, nobody) == {}


def test_samples_of_one_fold_belong_together():
    random = np.random.default_rng(0)
    many, few = _samples(random, 6, 5), _samples(random, 2, 30)
    np.testing.assert_array_equal(fold_groups(many, series=False), many.shown)
    np.testing.assert_array_equal(fold_groups(many, series=True), many.runs)
    stretches = fold_groups(few, series=True)
    assert len(set(stretches)) == 10
    assert (np.diff(stretches) >= 0).all()


def test_shifts_follow_the_time_of_the_samples_not_their_place_in_the_table():
    random = np.random.default_rng(3)
    features = random.standard_normal((120, 3)).cumsum(axis=0)
    responses = (features[:, :2] + random.standard_normal((120, 2)).cumsum(axis=0)).astype(np.float32)
    train = SampleTable(
        responses[:60], pd.DataFrame(), np.zeros(60, dtype=int), [str(n) for n in range(60)], np.arange(60)
    )
    found = []
    for order in (np.arange(60), random.permutation(60)):
        test = SampleTable(
            responses[60:][order], pd.DataFrame(), np.zeros(60, dtype=int), [str(n) for n in order], np.arange(60),
            times=2.0 * order,
        )  # fmt: skip
        shown = features[60:][order]
        products = (features[None, :60] @ features[:60].T, shown[None] @ features[:60].T)
        exchange = Exchange("shift", "")
        found.append(fit_encoding(products, train, test, (0,), series=False, settings=SETTINGS, exchange=exchange)[1])
    np.testing.assert_allclose(found[0].observed, found[1].observed, rtol=1e-4)
    np.testing.assert_array_equal(found[0].p, found[1].p)


def test_the_winning_band():
    split = np.array([[0.3, 0.1, np.nan, 0.2], [0.1, 0.2, 0.1, 0.1]])
    winner = winning_band(split, np.array([True, True, True, False]))
    assert winner.tolist() == [0, 1, 1, -1]


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
        voxelwise_maps(store, kind="betas")
    for wrong in ({"n_permutations": 0}, {"fdr": 0.0}, {"fdr": 1.0}):
        with pytest.raises(InputError, match="is out of range"):
            voxelwise_maps(store, **wrong)


def _runs_of(lengths):
    random = np.random.default_rng(0)
    labels = np.repeat(np.arange(len(lengths)), lengths)
    shown = random.integers(0, 12, len(labels))
    responses = random.standard_normal((len(labels), 3)).astype(np.float32)
    return SampleTable(responses, pd.DataFrame(), labels, [f"s{number}" for number in range(12)], shown)


def test_runs_of_different_length_trade_stretches_as_long_as_the_shortest_one():
    equal = _runs_of([30] * 5)
    np.testing.assert_array_equal(pd.factorize(refit_units(equal, True))[0], equal.runs)
    trials = _samples(np.random.default_rng(0), 2, 7)
    np.testing.assert_array_equal(refit_units(trials, False), trials.shown)
    different = _runs_of([30, 31, 65, 32, 33])
    units = refit_units(different, True)
    sizes = np.unique(units, return_counts=True)[1].tolist()
    assert sorted(sizes) == [1, 2, 3, 5, *[30] * 6]
    # Stretches are within runs and in order: the second stretch of the long run are its volumes 30 to 59.
    long = np.flatnonzero(different.runs == 2)
    assert len(np.unique(units[long[30:60]])) == 1
    assert units[long[29]] != units[long[30]] != units[long[60]]


def test_refits_of_runs_of_different_length_can_be_tested():
    train, test = _runs_of([30, 31, 65, 32, 33]), _runs_of([40])
    features = [np.random.default_rng(1).standard_normal((12, width)) for width in (3, 5)]
    grams = np.stack([part @ part.T for part in features])
    settings = EncodingSettings(n_permutations=9, null="refit")
    held_out, tested = fit_encoding((grams, grams), train, test, DELAYS, series=True, settings=settings)
    assert tested.n_permutations == 9
    # One function per number: the predictions shown are those that were tested.
    shares = (held_out.predicted * (2 * held_out.measured - held_out.predicted.sum(axis=0))).sum(axis=1)
    shares = shares / (held_out.measured**2).sum(axis=0)
    np.testing.assert_allclose(tested.split.observed, shares, atol=1e-4)
    np.testing.assert_allclose(tested.observed, shares.sum(axis=0), atol=1e-4)
