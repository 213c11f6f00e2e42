"""Nested cross-validation, and blocks of voxels."""

import dask.array
import numpy as np
import pytest
from sklearn.model_selection import GroupKFold

from neurorecon.decoders import (
    BandedRidge,
    correlation_score,
    correlation_score_split,
    fit_by_voxel_block,
    group_folds,
    nested_cross_validation,
    r2_score,
    r2_score_split,
)
from neurorecon.errors import InputError

BANDS = {"gabor": slice(0, 12), "category": slice(12, 20)}


def problem(n_samples=40, n_targets=5, seed=0):
    generator = np.random.default_rng(seed)
    X = generator.standard_normal((n_samples, 20)) * np.repeat([1.0, 30.0], [12, 8]) + 3
    Y = (X[:, :12] - 3) @ generator.standard_normal((12, n_targets)) + 2 * generator.standard_normal(
        (n_samples, n_targets)
    )
    return X, Y + 7, np.arange(n_samples) // 2


def test_nested_cross_validation_is_what_a_loop_over_folds_does():
    X, Y, groups = problem()
    model = BandedRidge(BANDS, cv=3, solver="random_search", dtype="float64")
    found = nested_cross_validation(model, X, Y, groups, outer=4)
    predicted, own = np.empty_like(Y), np.empty_like(Y)
    contributions = np.empty((2, *Y.shape))
    for number, (train, test) in enumerate(GroupKFold(4).split(X, Y, groups)):
        fitted = BandedRidge(BANDS, cv=3, solver="random_search", dtype="float64").fit(
            X[train], Y[train], groups[train]
        )
        predicted[test] = fitted.predict(X[test])
        contributions[:, test], own[test] = fitted.predict(X[test], split=True), fitted.intercept_
        np.testing.assert_allclose(found.fold_r2[number], fitted.score(X[test], Y[test]), atol=1e-8)
        np.testing.assert_allclose(found.mixtures[number], fitted.mixtures_, rtol=1e-8)
        np.testing.assert_allclose(found.alphas[number], fitted.alphas_)
    np.testing.assert_allclose(found.predictions, predicted, atol=1e-8)
    np.testing.assert_allclose(found.r2, r2_score(Y, predicted), atol=1e-10)
    np.testing.assert_allclose(found.correlation, correlation_score(Y, predicted), atol=1e-10)
    np.testing.assert_allclose(found.split_r2, r2_score_split(Y - own, contributions), atol=1e-8)
    np.testing.assert_allclose(found.split_correlation, correlation_score_split(Y - own, contributions), atol=1e-8)
    assert found.bands == list(BANDS)
    assert not hasattr(model, "mixtures_")


def test_kernels_blocks_and_lazy_responses_give_the_same():
    X, Y, groups = problem()
    model = BandedRidge(BANDS, cv=3, dtype="float64")
    whole = nested_cross_validation(model, X, Y, groups, outer=3)
    kernels = {name: X[:, part] @ X[:, part].T for name, part in BANDS.items()}
    lazy = dask.array.from_array(Y, chunks=(10, 2))
    blocks = nested_cross_validation(
        BandedRidge(cv=3, dtype="float64"),
        y=lazy,
        groups=groups,
        kernels=kernels,
        outer=3,
        voxel_block=2,
        return_predictions=False,
    )
    assert blocks.predictions is None
    for name in ("r2", "correlation", "split_r2", "split_correlation", "fold_r2", "mixtures", "alphas"):
        np.testing.assert_allclose(getattr(blocks, name), getattr(whole, name), atol=1e-7)


def test_one_given_fold_is_a_train_and_a_test_set():
    X, Y, groups = problem()
    train, test = group_folds(40, groups, 4)[0]
    model = BandedRidge(BANDS, cv=3, dtype="float64", solver="random_search")
    found = nested_cross_validation(model, X, Y, groups, outer=[(train, test)])
    fitted = model.fit(X[train], Y[train], groups[train])
    np.testing.assert_allclose(found.r2, fitted.score(X[test], Y[test]), atol=1e-8)
    shares = r2_score_split(Y[test], fitted.predict(X[test], split=True))
    np.testing.assert_allclose(found.split_r2, shares, atol=1e-8)
    assert np.isnan(found.predictions[train]).all()
    assert np.isfinite(found.predictions[test]).all()


def test_repeats_never_straddle_folds_at_either_level():
    """Features that name the stimulus predict its repeats perfectly, and other stimuli not at all."""
    generator = np.random.default_rng(0)
    X = np.repeat(generator.standard_normal((30, 90)), 2, axis=0)
    Y = np.repeat(generator.standard_normal((30, 4)), 2, axis=0)
    order = generator.permutation(60)
    stimulus = np.repeat(np.arange(30), 2)[order]
    leaking = nested_cross_validation(BandedRidge(), X[order], Y[order], outer=6)
    grouped = nested_cross_validation(BandedRidge(), X[order], Y[order], stimulus, outer=6)
    assert leaking.r2.mean() > 0.5
    assert grouped.r2.max() < 0.2
    # The search within each fold sees the same.
    assert np.median(grouped.alphas) > 10 * np.median(leaking.alphas)


def test_wrong_input_is_explained():
    X, Y, groups = problem()
    model = BandedRidge(BANDS)
    with pytest.raises(InputError, match="either features or kernels"):
        nested_cross_validation(model, y=Y)
    with pytest.raises(InputError, match="different numbers of samples"):
        nested_cross_validation(model, X, Y[1:])
    with pytest.raises(InputError, match="more than once"):
        nested_cross_validation(model, X, Y, outer=[(np.arange(20), np.arange(20, 40))] * 2)
    with pytest.raises(InputError, match="both sides"):
        nested_cross_validation(model, X, Y, groups, outer=[(np.arange(21), np.arange(21, 40))])
    with pytest.raises(InputError, match="list of"):
        nested_cross_validation(BandedRidge(BANDS, cv=group_folds(40, None, 2)), X, Y)
    with pytest.raises(InputError, match="needs features"):
        nested_cross_validation(BandedRidge(BANDS, solver="group_ridge"), X, Y)
    with pytest.raises(InputError, match="array of finite numbers"):
        nested_cross_validation(model, X * np.nan, Y)


def test_blocks_of_voxels_are_fitted_one_by_one():
    X, Y, groups = problem()
    kernels = {name: X[:, part] @ X[:, part].T for name, part in BANDS.items()}
    model = BandedRidge(dtype="float64", cv=2)
    whole = BandedRidge(dtype="float64", cv=2).fit_kernels(kernels, Y, groups)
    blocks = []
    for block, fitted in fit_by_voxel_block(model, kernels, dask.array.from_array(Y), groups, voxel_block=2):
        np.testing.assert_allclose(fitted.dual_coef_, whole.dual_coef_[:, block], atol=1e-8)
        blocks.append((block.start, block.stop))
    assert blocks == [(0, 2), (2, 4), (4, 5)]
