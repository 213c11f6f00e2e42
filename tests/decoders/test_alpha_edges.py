"""Alphas at the ends of their grid: counted, and a warning where a better one may lie beyond it."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from neurorecon.decoders.alphas import alphas_at_edges
from neurorecon.decoders.banded import BandedRidge
from neurorecon.decoders.nested import nested_cross_validation
from neurorecon.decoders.ridge import RidgeDecoder
from neurorecon.errors import AlphaEdgeWarning


def _data(signal, samples=120, features=200, targets=40, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((samples, features))
    y = rng.standard_normal((samples, targets))
    return X, y if not signal else signal * X @ rng.standard_normal((features, targets)) / np.sqrt(features) + y


def test_counts_and_what_they_are_compared_with():
    chosen = np.array([0.1, 0.1, 1.0, 100.0, 100.0, np.nan])
    found = alphas_at_edges(chosen, [0.1, 1, 10, 100])
    assert (found.smallest, found.largest, found.targets, found.grid) == (2, 2, 5, (0.1, 100.0))
    assert "smallest alpha in 2 of 5 targets" in found.message()
    assert "smallest alpha in 2 of 5 voxels" in found.message("voxels")
    assert "below 0.1 and above 100" in found.message()
    where = np.array([True, True, True, True, False, False])
    assert alphas_at_edges(chosen, [0.1, 1, 10, 100], predicts=where).largest == 1
    assert alphas_at_edges(np.full(100, 1.0), [0.1, 1, 10]).message() is None
    few = np.where(np.arange(100) < 4, 0.1, 1.0)
    assert alphas_at_edges(few, [0.1, 1, 10]).message() is None
    assert alphas_at_edges(5.0, [5.0]).message() is None  # not chosen
    assert found.record() == {"smallest": 2, "largest": 2, "targets": 5, "grid": [0.1, 100.0]}


@pytest.mark.parametrize("model", ["ridge", "banded on kernels", "banded on features"])
def test_which_ends_are_worth_a_warning(model):
    def fit(signal, alphas, features=200):
        X, y = _data(signal, features=features)
        if model == "ridge":
            decoder = RidgeDecoder(alpha=[alpha * features for alpha in alphas], alpha_per="target")
        else:
            solver = "random_search" if model.endswith("kernels") else "group_ridge"
            decoder = BandedRidge(alphas=alphas, solver=solver)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            decoder.fit(X, y)
        return [str(one.message) for one in caught if one.category is AlphaEdgeWarning]

    # Noise chooses the largest alpha, where the prediction is the mean: that is right, and nothing lies beyond it.
    assert not fit(0.0, [0.1, 10, 1e3, 1e5])
    # The same grid without its end: the prediction is not the mean yet.
    (said,) = fit(0.0, [0.01, 0.1, 1])
    assert "the largest alpha in" in said
    assert "above" in said
    # A strong signal of many features in a grid that begins too late.
    (said,) = fit(30.0, [3.0, 30.0, 300.0])
    assert "the smallest alpha in" in said
    # With few features the smallest alpha is no regularization, and a smaller one would change nothing.
    assert not fit(30.0, [1e-6, 1, 1e3], features=5)


def test_one_warning_for_all_folds_and_blocks():
    X, y = _data(30.0)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        nested_cross_validation(BandedRidge(alphas=[3.0, 30.0]), X, y, outer=3, voxel_block=15)
    (said,) = [one for one in caught if one.category is AlphaEdgeWarning]
    assert "of 120 targets" in str(said.message)
