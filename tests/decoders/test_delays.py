"""Delays inside runs."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import block_diag, toeplitz
from sklearn.base import clone
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import check_estimator

from neurorecon.decoders import BandedRidge, Delayer, delayed_kernel, rows_at_delays
from neurorecon.decoders.kernels import delays_in_volumes
from neurorecon.errors import InputError

lengths = st.lists(st.integers(1, 7), min_size=1, max_size=4)
delays = st.lists(st.integers(-4, 8), min_size=1, max_size=4, unique=True)


def shifts(run_lengths, delay):
    """The matrix that delays samples, by scipy: one Toeplitz block a run."""
    blocks = []
    for length in run_lengths:
        column, row = np.zeros(length), np.zeros(length)
        if 0 <= delay < length:
            column[delay] = 1
        if 0 <= -delay < length:
            row[-delay] = 1
        blocks.append(toeplitz(column, row))
    return block_diag(*blocks)


@settings(max_examples=60, deadline=None)
@given(run_lengths=lengths, steps=delays, seed=st.integers(0, 99))
def test_delays_are_shifts_inside_runs(run_lengths, steps, seed):
    runs = np.repeat(np.arange(len(run_lengths))[::-1], run_lengths)
    X = np.random.default_rng(seed).standard_normal((len(runs), 3))
    expected = np.hstack([shifts(run_lengths, step) @ X for step in steps])
    delayer = Delayer(steps).fit(X)
    delayed = delayer.transform(X, runs=runs)
    np.testing.assert_array_equal(delayed, expected)
    rows = rows_at_delays(len(runs), steps, runs)
    np.testing.assert_allclose(delayed_kernel(X @ X.T, rows, rows), expected @ expected.T, atol=1e-12)
    by_delay = delayer.by_delay(delayed.T)
    np.testing.assert_array_equal(by_delay[0].T, shifts(run_lengths, steps[0]) @ X)


@settings(max_examples=40, deadline=None)
@given(run_lengths=lengths, steps=delays, seed=st.integers(0, 99))
def test_volumes_left_out_still_count(run_lengths, steps, seed):
    generator = np.random.default_rng(seed)
    runs = np.repeat(np.arange(len(run_lengths)), run_lengths)
    volumes = np.concatenate([np.arange(length) + 5 for length in run_lengths])
    X = generator.standard_normal((len(runs), 2))
    shown = generator.random(len(runs)) < 0.6
    shown[0] = True
    # As if nothing had been shown where volumes were left out.
    whole = Delayer(steps).fit_transform(np.where(shown[:, None], X, 0), runs=runs)[shown]
    part = Delayer(steps).fit_transform(X[shown], runs=runs[shown], volumes=volumes[shown])
    np.testing.assert_array_equal(part, whole)


def test_bands_and_precision_are_kept():
    X = np.arange(12, dtype=np.float32).reshape(4, 3)
    delayer = Delayer((1, 2))
    delayed = delayer.fit_transform(X)
    assert delayed.dtype == np.float32
    bands = delayer.bands({"a": slice(0, 1), "b": [1, 2]})
    assert {name: part.tolist() for name, part in bands.items()} == {"a": [0, 3], "b": [1, 2, 4, 5]}
    with pytest.raises(InputError, match="not weights of the delayed"):
        delayer.by_delay(np.zeros((4, 2)))


def test_delays_in_seconds():
    assert delays_in_volumes((2.0, 4.0, 8.0), 2.0).tolist() == [1, 2, 4]
    assert delays_in_volumes((2.0, 4.0), 1.3).tolist() == [2, 3]
    with pytest.raises(InputError, match="same volume"):
        delays_in_volumes((2.0, 2.5), 2.0)
    with pytest.raises(InputError, match="must be positive"):
        delays_in_volumes((2.0,), 0.0)
    for wrong in ((), (1.5,), (np.nan,)):
        with pytest.raises(InputError, match="cannot be used"):
            delays_in_volumes(wrong)


def test_runs_that_cannot_be_told_apart_are_explained():
    X = np.zeros((6, 1))
    delayer = Delayer().fit(X)
    with pytest.raises(InputError, match="not consecutive"):
        delayer.transform(X, runs=[1, 1, 2, 2, 1, 1])
    with pytest.raises(InputError, match="same volume"):
        delayer.transform(X, volumes=[0, 1, 2, 2, 3, 4])
    with pytest.raises(InputError, match="one label for each"):
        delayer.transform(X, runs=[1, 2])
    with pytest.raises(InputError, match="whole number"):
        delayer.transform(X, volumes=np.arange(6) + 0.5)


def test_delayed_features_recover_a_response_that_comes_late():
    generator = np.random.default_rng(0)
    runs = np.repeat(np.arange(5), 40)
    X = generator.standard_normal((200, 4))
    truth = np.array([[0.0, 0.0], [1.0, -0.5], [0.5, 1.0]])  # delay, feature of band a
    delayed = Delayer((1, 2, 3)).fit_transform(X, runs=runs)
    y = delayed.reshape(200, 3, 4)[:, :, :2].reshape(200, -1) @ truth.ravel() + 0.1 * generator.standard_normal(200)
    delayer = Delayer((1, 2, 3)).fit(X)
    bands = delayer.bands({"a": slice(0, 2), "b": slice(2, 4)})
    model = BandedRidge(bands, dtype="float64").fit(delayed, y, groups=runs)
    assert model.best_band().tolist() == ["a"]
    np.testing.assert_allclose(delayer.by_delay(model.coef_)[:, :2], truth, atol=0.05)
    # The kernel of the undelayed features, delayed, is the same model.
    rows = rows_at_delays(200, (1, 2, 3), runs)
    kernels = {
        name: delayed_kernel(X[:, part] @ X[:, part].T, rows, rows)
        for name, part in {"a": slice(0, 2), "b": slice(2, 4)}.items()
    }
    from_kernels = BandedRidge(dtype="float64").fit_kernels(kernels, y, groups=runs)
    np.testing.assert_allclose(from_kernels.predict_kernels(kernels), model.predict(delayed), atol=1e-8)


def test_is_a_scikit_learn_transformer():
    late = {
        "check_methods_sample_order_invariance": "samples are a time series",
        "check_methods_subset_invariance": "samples are a time series",
    }
    check_estimator(Delayer(), on_skip=None, expected_failed_checks=late)
    X = np.random.default_rng(0).standard_normal((30, 2))
    pipeline = make_pipeline(clone(Delayer((0, 1))), BandedRidge(cv=2)).fit(X, X[:, 0])
    assert pipeline.predict(X).shape == (30,)
