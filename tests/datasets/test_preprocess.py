"""Detrending against numpy's polynomials, scaling against scipy's."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from neurorecon.datasets.runs import detrend, zscore
from neurorecon.errors import InputError


@given(length=st.integers(8, 60), order=st.integers(0, 5), seed=st.integers(0, 99))
def test_detrending_leaves_the_residual_of_a_polynomial(length: int, order: int, seed: int) -> None:
    run = np.random.default_rng(seed).standard_normal((length, 3)) + 50
    times = np.linspace(-1, 1, length)
    fitted = np.polynomial.legendre.legfit(times, run, order)
    expected = run - np.polynomial.legendre.legval(times, fitted).T
    np.testing.assert_allclose(detrend(run, order), expected, atol=1e-8)


def test_no_order_no_change() -> None:
    run = np.random.default_rng(0).random((5, 2))
    np.testing.assert_array_equal(detrend(run, -1), run)


def test_a_run_shorter_than_the_polynomial_is_refused() -> None:
    with pytest.raises(InputError, match="too short"):
        detrend(np.zeros((5, 2)), 4)


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_scaling_agrees_with_scipy_and_keeps_the_type(kind: type) -> None:
    run = (np.random.default_rng(1).standard_normal((40, 4)) * 3 + 100).astype(kind)
    scaled = zscore(run)
    assert scaled.dtype == kind
    np.testing.assert_allclose(scaled, stats.zscore(run.astype(float)), atol=1e-5)


def test_a_constant_voxel_becomes_zero() -> None:
    run = np.full((10, 2), 0.1, dtype=np.float32)
    run[:, 1] = np.arange(10)
    assert (zscore(run)[:, 0] == 0).all()
    assert zscore(run)[:, 1].std() == pytest.approx(1, abs=1e-5)
