"""How alpha is chosen: folds, runs, generalized cross-validation; for all targets, for each, for groups."""

import numpy as np
import pytest
import xarray
from sklearn.linear_model import Ridge, RidgeCV
from sklearn.model_selection import GridSearchCV, KFold, LeaveOneGroupOut

from neurorecon.decoders import RidgeDecoder
from neurorecon.decoders import alphas as leave_out
from neurorecon.errors import InputError
from neurorecon.stats import refit_permutation_test

ALPHAS = np.logspace(-1, 4, 6)


def problem(n_samples, n_voxels, n_targets=6, seed=0):
    generator = np.random.default_rng(seed)
    X = generator.standard_normal((n_samples + 5, n_voxels))
    Y = X @ generator.standard_normal((n_voxels, n_targets)) / np.sqrt(n_voxels) + 3
    Y += generator.standard_normal(Y.shape) * np.geomspace(0.1, 20, n_targets)
    return X[:n_samples], Y[:n_samples], X[n_samples:]


def weights_of(n_samples, *, zeros):
    weights = np.random.default_rng(1).random(n_samples) + 0.1
    weights[:3] = 0 if zeros else 1
    return weights


def generalized(X, Y, alpha, weights, center):
    """The formula, from the smoother itself."""
    weights = np.ones(len(X)) if weights is None else weights
    roots = np.sqrt(weights)[:, None]
    inputs = (X - center * np.average(X, axis=0, weights=weights)) * roots
    smoother = inputs @ np.linalg.solve(inputs.T @ inputs + alpha * np.eye(X.shape[1]), inputs.T)
    if center:
        smoother += roots @ roots.T / weights.sum()
    residual = roots * Y - smoother @ (roots * Y)
    n_samples = (weights > 0).sum()
    return n_samples**2 / weights.sum() * (residual**2).sum(axis=0) / (n_samples - np.trace(smoother)) ** 2


@pytest.mark.parametrize("shape", [(20, 35), (35, 20)], ids=["n<p", "n>p"])
@pytest.mark.parametrize("zeros", [None, False, True], ids=["unweighted", "weights", "weights of zero"])
@pytest.mark.parametrize("center", [True, False])
def test_generalized_cross_validation_is_its_formula(shape, zeros, center):
    X, Y, X_new = problem(*shape)
    weights = None if zeros is None else weights_of(len(X), zeros=zeros)
    expected = np.array([generalized(X, Y, alpha, weights, center) for alpha in ALPHAS])
    for alpha_per, scores in (("target", expected), ("all", expected.mean(axis=1))):
        for dtype, tolerance in (("float64", 1e-8), ("float32", 1e-4)):
            settings = {"cv": "gcv", "alpha_per": alpha_per, "fit_intercept": center, "dtype": dtype, "target_block": 4}
            ours = RidgeDecoder(ALPHAS, **settings).fit(X, Y, sample_weight=weights)
            np.testing.assert_allclose(-ours.cv_scores_, scores, rtol=tolerance)
            np.testing.assert_array_equal(ours.alpha_, ALPHAS[scores.argmin(axis=0)])
            theirs = Ridge(ours.alpha_, fit_intercept=center).fit(X, Y, sample_weight=weights)
            np.testing.assert_allclose(ours.predict(X_new), theirs.predict(X_new), atol=tolerance * 30)


def test_generalized_cross_validation_is_sklearns_leaving_one_out_where_leverages_are_equal():
    # On a Fourier basis every sample has the same leverage, so the mean leverage is each your own.
    n_samples = 24
    angles = 2 * np.pi * np.outer(np.arange(n_samples), np.arange(1, 6)) / n_samples
    X = np.concatenate([np.cos(angles), np.sin(angles)], axis=1)
    Y = np.random.default_rng(0).standard_normal((n_samples, 5))
    theirs = RidgeCV(ALPHAS, store_cv_results=True, alpha_per_target=True).fit(X, Y)
    ours = RidgeDecoder(ALPHAS, cv="gcv", alpha_per="target", dtype="float64").fit(X, Y)
    np.testing.assert_allclose(-ours.cv_scores_, theirs.cv_results_.mean(axis=0).T, rtol=1e-8)
    np.testing.assert_array_equal(ours.alpha_, theirs.alpha_)


@pytest.mark.parametrize("shape", [(20, 35), (35, 20)], ids=["n<p", "n>p"])
def test_generalized_cross_validation_chooses_the_alphas_of_the_refit_test(shape):
    X, Y, X_new = problem(*shape, n_targets=40)
    decoder = RidgeDecoder(ALPHAS, cv="gcv", alpha_per="target", dtype="float64").fit(X, Y)
    Y_new = np.random.default_rng(1).standard_normal((len(X_new), 40))
    refit = refit_permutation_test(X, Y, X_new, Y_new, alphas=ALPHAS, n_permutations=1, dtype="float64")
    np.testing.assert_array_equal(decoder.alpha_, refit.alphas)
    assert len(np.unique(refit.alphas)) > 1


def test_generalized_cross_validation_refuses_repeats():
    X, Y, _ = problem(20, 10)
    RidgeDecoder(ALPHAS, cv="gcv").fit(X, Y, groups=np.arange(20))
    with pytest.raises(InputError, match="these have repeats"):
        RidgeDecoder(ALPHAS, cv="gcv").fit(X, Y, groups=np.arange(20) // 2)


@pytest.mark.parametrize("shape", [(20, 35), (35, 20)], ids=["n<p", "n>p"])
@pytest.mark.parametrize("cv", [3, "gcv"])
def test_groups_of_targets_choose_as_if_they_were_alone(shape, cv):
    X, Y, X_new = problem(*shape, 12)
    named = xarray.DataArray(Y.reshape(-1, 3, 4), dims=("sample", "token", "channel"))
    token = np.repeat([0, 1, 2], 4)
    alone = np.empty(12)
    scores = np.empty((len(ALPHAS), 3))
    for number in range(3):
        decoder = RidgeDecoder(ALPHAS, cv=cv, dtype="float64").fit(X, Y[:, token == number])
        alone[token == number], scores[:, number] = decoder.alpha_, decoder.cv_scores_
    for alpha_per in (0, -2, "token", token, token.reshape(3, 4), np.array(["a", "b", "c"])[token]):
        together = RidgeDecoder(ALPHAS, cv=cv, alpha_per=alpha_per, dtype="float64", target_block=5).fit(X, named)
        np.testing.assert_array_equal(together.alpha_, alone)
        np.testing.assert_allclose(together.cv_scores_, scores, rtol=1e-9)
    assert len(set(alone)) > 1
    expected = Ridge(alone).fit(X, Y).predict(X_new).reshape(-1, 3, 4)
    np.testing.assert_allclose(together.predict(X_new), expected, atol=1e-8)
    np.testing.assert_allclose(together.fit_and_predict(X, named, X_new), expected, atol=1e-8)


@pytest.mark.parametrize("alpha_per", [2, -3, "voxel", None, True, np.zeros(5), 0.5])
def test_groups_that_are_none_are_explained(alpha_per):
    X, Y, _ = problem(10, 4, 6)
    with pytest.raises(InputError, match="share alpha"):
        RidgeDecoder(ALPHAS, alpha_per=alpha_per).fit(X, Y.reshape(10, 2, 3))


@pytest.mark.parametrize("shape", [(24, 35), (35, 20)], ids=["n<p", "n>p"])
def test_leaving_out_runs_is_sklearns(shape):
    X, Y, _ = problem(*shape)
    runs = np.sort(np.random.default_rng(0).integers(0, 4, len(X)))
    theirs = GridSearchCV(Ridge(), {"alpha": ALPHAS}, cv=LeaveOneGroupOut(), scoring="neg_mean_squared_error")
    theirs.fit(X, Y, groups=runs)
    for cv in ("leave-one-group-out", LeaveOneGroupOut()):
        ours = RidgeDecoder(ALPHAS, cv=cv, dtype="float64").fit(X, Y, groups=runs)
        np.testing.assert_allclose(ours.cv_scores_, theirs.cv_results_["mean_test_score"], rtol=1e-8)
    for cv, groups in (("leave-one-group-out", None), ("leave-one-group-out", np.zeros(len(X))), ("kfold", runs)):
        with pytest.raises(InputError, match="cross-validation is not possible"):
            RidgeDecoder(ALPHAS, cv=cv).fit(X, Y, groups=groups)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("alpha_per", ["all", "target"])
@pytest.mark.parametrize("folds", ["halves", "single samples", "fewer samples", "weak alpha"])
def test_folds_from_one_factorization_are_refits(weighted, alpha_per, folds, monkeypatch):
    X, Y, _ = problem(20, 35)
    weights = weights_of(20, zeros=False) if weighted else np.ones(20)
    alphas = np.r_[1e-9, ALPHAS] if folds == "weak alpha" else ALPHAS
    cv = {"halves": KFold(2), "single samples": KFold(20)}.get(folds, KFold(4))
    splits = list(cv.split(X))
    if folds == "fewer samples":
        splits = [(train[::2], test) for train, test in splits]
    expected = np.zeros((len(alphas), 6))
    for train, test in splits:
        for row, alpha in zip(expected, alphas, strict=True):
            model = Ridge(alpha, solver="svd").fit(X[train], Y[train], sample_weight=weights[train])
            row += np.average((Y[test] - model.predict(X[test])) ** 2, axis=0, weights=weights[test]) / len(splits)
    # Operators of one alpha at a time, so that targets are read several times.
    monkeypatch.setattr(leave_out, "_OPERATOR_BYTES", 1)
    settings = {"cv": splits, "alpha_per": alpha_per, "dtype": "float64", "target_block": 4}
    ours = RidgeDecoder(alphas, **settings).fit(X, Y, sample_weight=weights if weighted else None)
    np.testing.assert_allclose(-ours.cv_scores_, expected if alpha_per == "target" else expected.mean(1), rtol=1e-7)


def test_torch_chooses_the_same():
    X, Y, _ = problem(20, 35)
    for cv in (4, "gcv"):
        numpy, torch = (
            RidgeDecoder(ALPHAS, cv=cv, alpha_per="target", dtype="float64", device=device).fit(X, Y)
            for device in ("cpu", "torch")
        )
        np.testing.assert_allclose(torch.cv_scores_, numpy.cv_scores_, rtol=1e-9)


def test_a_fold_without_weight_to_fit_on_is_explained():
    X, Y, _ = problem(20, 35)
    with pytest.raises(InputError, match="weight of zero"):
        RidgeDecoder(ALPHAS, cv=2).fit(X, Y, sample_weight=np.repeat([1.0, 0.0], 10))
