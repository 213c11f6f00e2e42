import numpy as np
import pytest
from scipy.signal import lfilter

from neurorecon.errors import InputError, UnknownNameError
from neurorecon.stats import choose_exchange, lag_one_autocorrelation, ordered_test
from neurorecon.stats.exchange import center_by, circular_shifts, residual_autocorrelation

RANDOM = (0.01, 0.1)
SMOOTH = (0.6, 0.1)


def _choose(asked=None, n=80, runs=None, sessions=None, **options):
    runs = np.zeros(n, dtype=int) if runs is None else runs
    sessions = np.zeros(n, dtype=int) if sessions is None else sessions
    options = {"series": False, "autocorrelation": RANDOM, **options}
    return choose_exchange(asked, stimuli=np.arange(n), runs=runs, sessions=sessions, **options)


@pytest.mark.parametrize(
    ("options", "unit"),
    [
        ({}, "stimulus"),
        ({"autocorrelation": None}, "stimulus"),
        ({"fixed_order": True}, "stimulus"),
        ({"autocorrelation": SMOOTH, "fixed_order": True}, "shift"),
        ({"series": True, "runs": np.arange(400) // 100, "n": 400}, "shift"),
        ({"confounded": True, "sessions": np.arange(80) // 20}, "session"),
        ({"confounded": True, "sessions": np.arange(80)}, "stimulus"),  # one stimulus each: nothing can trade places
        ({"confounded": True}, "stimulus"),  # a single session
    ],
)
def test_the_design_decides(options, unit):
    found = _choose(**options)
    assert found.unit == unit
    assert found.valid
    assert found.reason


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"series": True, "shared_runs": True}, "same runs"),
        ({"series": True, "n": 39}, "too few"),
        ({"autocorrelation": SMOOTH, "fixed_order": True, "shared_runs": True}, "same runs"),
    ],
)
def test_where_no_test_is_valid_it_says_why_and_whoever_asks_gets_one(options, word):
    found = _choose(**options)
    assert not found.valid
    assert word in found.warnings[0]
    asked = _choose("shift", **options)
    assert asked.valid
    assert asked.warnings == found.warnings
    assert "asked" in asked.reason


@pytest.mark.parametrize(
    ("asked", "options", "word"),
    [
        ("stimulus", {"series": True}, "too small"),
        ("stimulus", {"autocorrelation": SMOOTH}, "similar features"),
        ("stimulus", {"confounded": True, "sessions": np.arange(80) // 20}, "offsets"),
        (None, {"n": 4}, "only 4 stimuli"),
        (None, {"series": True, "n": 80}, "one run"),
        (None, {"series": True, "runs": np.arange(80) // 20}, "shortest run has 20"),
        ("run", {"series": True, "runs": np.arange(80) // 20}, "few orders"),
    ],
)
def test_assumptions_that_the_data_violate_are_named(asked, options, word):
    found = _choose(asked, **options)
    assert found.valid
    assert word in " ".join(found.warnings)


def test_an_unknown_unit():
    with pytest.raises(UnknownNameError, match="stimulus, session, run, shift"):
        _choose("block")


def test_autocorrelation_of_features_in_the_order_of_presentation():
    random = np.random.default_rng(0)
    features = lfilter([1], [1, -0.7], random.standard_normal((400, 8)), axis=0)
    runs = np.arange(400) // 50
    observed, limit = lag_one_autocorrelation(features, np.arange(400), runs)
    assert observed == pytest.approx(0.7, abs=0.06)
    assert limit < 0.1
    shuffled, _ = lag_one_autocorrelation(features, random.permutation(400), runs)
    assert shuffled < 0.1
    assert lag_one_autocorrelation(np.ones((5, 2)), np.arange(5), np.zeros(5)) == (0.0, 1.0)


def test_shifts_include_0_and_few_of_them_are_all_returned_once():
    drawn = circular_shifts([30, 40], 1000, 0)
    assert drawn.shape == (1000, 2)
    assert drawn.min() == 0
    assert drawn.max(axis=0).tolist() == [29, 39]
    every = circular_shifts([3, 4], 1000, 0)
    assert len(np.unique(every, axis=0)) == len(every) == 11
    assert every.any(axis=1).all()
    with pytest.raises(InputError, match="cannot be shifted"):
        circular_shifts([1, 1], 10, 0)


def test_the_autocorrelation_of_residuals_is_unbiased_in_short_runs():
    random = np.random.default_rng(0)
    for rho in (0.0, 0.5, 0.8):
        noise = lfilter([1], [1, -rho], random.standard_normal((60 + 40, 6000)), axis=0)[60:]
        runs = np.zeros(40, dtype=int)
        estimate = residual_autocorrelation(np.zeros_like(noise), center_by(noise, runs), runs)
        assert estimate.mean() == pytest.approx(rho, abs=0.04)


def _written_out(predicted, measured, runs, shifts):
    """Return the whitened correlation of each voxel for each shift, the slow way."""
    scores = np.empty((len(shifts), measured.shape[1]))
    for voxel in range(measured.shape[1]):
        f, y = predicted[:, voxel].copy(), measured[:, voxel].copy()
        for run in np.unique(runs):
            f[runs == run] -= f[runs == run].mean()
            y[runs == run] -= y[runs == run].mean()
        left = y - f * (f @ y) / (f @ f)
        inside = np.flatnonzero(runs[1:] == runs[:-1])
        length = len(runs) / len(np.unique(runs))
        rho = (length * (left[inside] @ left[inside + 1]) / (left @ left) + 1) / (length - 3)
        white = []
        for run in np.unique(runs):
            a, b = (series[runs == run] for series in (f, y))
            white.append([part[1:] - rho * part[:-1] for part in (a, b)])
            white[-1] = [part - part.mean() for part in white[-1]]
        norm = np.sqrt(sum((a**2).sum() for a, _ in white) * sum((b**2).sum() for _, b in white))
        for number, shift in enumerate(shifts):
            moved = [np.dot(a, np.roll(b, step)) for (a, b), step in zip(white, shift, strict=True)]
            scores[number, voxel] = sum(moved) / norm
    return scores


def test_the_ordered_test_agrees_with_shifting_each_series():
    random = np.random.default_rng(0)
    runs = np.repeat([3, 1, 2], [20, 30, 25])
    predicted, measured = random.standard_normal((2, 75, 3)).cumsum(axis=1) / 3
    measured[:, 0] += predicted[:, 0]
    found = ordered_test(predicted, measured, runs, n_permutations=200, seed=4, groups=np.ones((1, 3), dtype=bool))
    order = np.argsort(runs, kind="stable")
    shifts = np.concatenate([np.zeros((1, 3), dtype=int), circular_shifts([29, 24, 19], 200, 4)])
    wanted = _written_out(predicted[order], measured[order], np.sort(runs), shifts)
    np.testing.assert_allclose(found.observed, wanted[0], atol=1e-10)
    np.testing.assert_allclose(found.p, (1 + (wanted[1:] >= wanted[0] - 1e-12).sum(axis=0)) / 201)
    np.testing.assert_allclose(found.groups.null[0], wanted[1:].mean(axis=1), atol=1e-10)


def test_whole_runs_trade_places_with_runs_of_their_length():
    random = np.random.default_rng(0)
    runs = np.repeat(np.arange(4), 20)
    predicted = random.standard_normal((2, 80, 5))
    measured = predicted.sum(axis=0) + random.standard_normal((80, 5))
    found = ordered_test(predicted, measured, runs, unit="run")
    assert found.n_permutations == 23
    np.testing.assert_allclose(found.p, 1 / 24)
    np.testing.assert_allclose(found.split.observed.sum(axis=0), found.observed)
    with pytest.raises(InputError, match="cannot be permuted"):
        ordered_test(predicted[:, :50], measured[:50], np.repeat([0, 1], [20, 30]), unit="run")


def test_bands_that_predict_nothing_and_voxels_that_do_not_vary():
    random = np.random.default_rng(0)
    runs, predicted = np.repeat(np.arange(2), 40), random.standard_normal((80, 3))
    measured = random.standard_normal((80, 3))
    predicted[:, 0], measured[:, 1] = 0.1, 7.1
    found = ordered_test(predicted, measured, runs, n_permutations=50)
    assert found.observed[0] == 0
    assert found.p[0] == 1
    assert np.isnan(found.p[1])
    with pytest.raises(InputError, match="must be finite"):
        ordered_test(predicted, np.full((80, 3), np.nan), runs)
    with pytest.raises(InputError, match="do not match"):
        ordered_test(predicted, measured[:70], runs)
