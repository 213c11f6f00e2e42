import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.linear_model import Ridge
from sklearn.metrics import r2_score as sklearn_r2_score
from sklearn.model_selection import GroupKFold
from sklearn.utils.estimator_checks import check_estimator

from neurorecon.decoders import BandedRidge, candidate_mixtures, group_folds
from neurorecon.decoders.solvers import himalaya_backend
from neurorecon.errors import InputError, UnknownNameError

BANDS = {"gabor": slice(0, 30), "category": slice(30, 36), "motion": slice(36, 50)}
TOLERANCE = {"float32": 1e-4, "float64": 1e-8}


def problem(n_samples=60, n_targets=9, seed=0, noise=0.5, constant=False):
    """Targets driven by one band each: 0 by gabor, 1 by category, 2 by motion, 3 by gabor ..."""
    generator = np.random.default_rng(seed)
    X = generator.standard_normal((n_samples + 40, 50)) * np.repeat([1.0, 30.0, 0.1], [30, 6, 14]) + 2
    if constant:
        X[:, 36:] = 0.7
    standardized = (X - X.mean(axis=0)) / np.maximum(X.std(axis=0), 1e-9)
    Y = np.empty((len(X), n_targets))
    for target in range(n_targets):
        part = list(BANDS.values())[target % 3]
        weights = generator.standard_normal(50)[part]
        Y[:, target] = standardized[:, part] @ weights / np.sqrt(len(weights))
    Y += noise * generator.standard_normal(Y.shape) + 5
    return X[:n_samples], Y[:n_samples], X[n_samples:], Y[n_samples:]


def raw_kernels(X, X_train):
    return np.stack([X[:, part] @ X_train[:, part].T for part in BANDS.values()])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("n_samples", [25, 60], ids=["fewer samples than features", "more"])
@pytest.mark.parametrize("grouped", [False, True])
def test_agrees_with_himalaya(dtype, n_samples, grouped):
    from himalaya.kernel_ridge import MultipleKernelRidgeCV

    X, Y, X_new, _ = problem(n_samples)
    groups = np.arange(n_samples) // 2 if grouped else None
    ours = BandedRidge(BANDS, dtype=dtype, cv=4).fit(X, Y, groups=groups)
    # himalaya's NumPy backend in double precision, given kernels that were centered and scaled by hand.
    centered, centered_new = X - X.mean(axis=0), X_new - X.mean(axis=0)
    scale = np.array([(centered[:, part] ** 2).sum() / n_samples for part in BANDS.values()])[:, None, None]
    theirs = MultipleKernelRidgeCV(
        kernels="precomputed",
        fit_intercept=True,
        cv=GroupKFold(4).split(X, groups=groups) if grouped else 4,
        solver_params={
            "n_iter": candidate_mixtures(3),
            "alphas": np.logspace(-1, 5, 13),
            "progress_bar": False,
        },
    )
    theirs.cv = list(theirs.cv) if grouped else 4
    with np.errstate(divide="ignore"):
        theirs.fit(raw_kernels(centered, centered) / scale, Y)
    kernels = raw_kernels(centered_new, centered) / scale
    predicted = theirs.predict(kernels)
    np.testing.assert_allclose(ours.predict(X_new), predicted, atol=TOLERANCE[dtype], rtol=TOLERANCE[dtype])
    np.testing.assert_allclose(ours.band_weights_, np.exp(theirs.deltas_), rtol=1e-5)
    np.testing.assert_allclose(ours.cv_scores_, theirs.cv_scores_, rtol=TOLERANCE[dtype])
    # himalaya refuses to split what has an intercept; ours leaves it out of the split.
    theirs.set_params(fit_intercept=False)
    split = ours.predict(X_new, split=True)
    np.testing.assert_allclose(split, theirs.predict(kernels, split=True), atol=10 * TOLERANCE[dtype])


@settings(max_examples=15, deadline=None)
@given(
    n_samples=st.integers(6, 40),
    n_targets=st.integers(1, 5),
    constant=st.booleans(),
    fit_intercept=st.booleans(),
    seed=st.integers(0, 99),
)
def test_is_ridge_on_scaled_features(n_samples, n_targets, constant, fit_intercept, seed):
    X, Y, X_new, _ = problem(n_samples, n_targets, seed, constant=constant)
    model = BandedRidge(BANDS, dtype="float64", cv=3, fit_intercept=fit_intercept).fit(X, Y)
    for target in range(n_targets):
        scale = np.zeros(50)
        for band, part in enumerate(BANDS.values()):
            scale[part] = np.sqrt(model.band_weights_[band, target] / model.kernel_scales_[band])
        ridge = Ridge(1.0, fit_intercept=fit_intercept, solver="svd").fit(X * scale, Y[:, target])
        np.testing.assert_allclose(model.predict(X_new)[:, target], ridge.predict(X_new * scale), atol=1e-7)
        weights = np.concatenate([model.coef(name)[:, target] for name in BANDS])
        np.testing.assert_allclose(weights, ridge.coef_ * scale, atol=1e-8)
    np.testing.assert_allclose(model.coef_.T[BANDS["category"]], model.coef("category"))


def test_one_band_is_ridge_regression_with_the_alpha_found():
    X, Y, X_new, _ = problem()
    model = BandedRidge(dtype="float64").fit(X, Y)
    assert model.band_names_ == ["all"]
    for target in range(Y.shape[1]):
        ridge = Ridge(model.alphas_[target] * model.kernel_scales_[0]).fit(X, Y[:, target])
        np.testing.assert_allclose(model.predict(X_new)[:, target], ridge.predict(X_new), atol=1e-8)


def test_kernels_and_features_give_the_same():
    X, Y, X_new, Y_new = problem()
    groups = np.arange(60) // 3
    features = BandedRidge(BANDS, dtype="float64").fit(X, Y, groups=groups)
    kernels = BandedRidge(BANDS, dtype="float64").fit_kernels(raw_kernels(X, X), Y, groups=groups)
    named = BandedRidge(dtype="float64").fit_kernels(dict(zip(BANDS, raw_kernels(X, X), strict=True)), Y, groups=groups)
    new = raw_kernels(X_new, X)
    for model in (kernels, named):
        assert model.band_names_ == list(BANDS)
        np.testing.assert_allclose(model.predict_kernels(new), features.predict(X_new), atol=1e-8)
        np.testing.assert_allclose(
            model.score_kernels(new, Y_new, split=True), features.score(X_new, Y_new, split=True), atol=1e-8
        )
    np.testing.assert_allclose(
        named.predict_kernels(dict(zip(BANDS, new, strict=True)), split=True),
        features.predict(X_new, split=True),
        atol=1e-8,
    )


def test_units_and_sizes_of_bands_do_not_matter():
    X, Y, X_new, _ = problem()
    model = BandedRidge(BANDS, dtype="float64").fit(X, Y)
    wide = np.hstack([X[:, :30], np.tile(X[:, 30:36], 4), 1000 * X[:, 36:]])
    wide_new = np.hstack([X_new[:, :30], np.tile(X_new[:, 30:36], 4), 1000 * X_new[:, 36:]])
    labels = ["gabor"] * 30 + ["category"] * 24 + ["motion"] * 14
    other = BandedRidge(labels, dtype="float64").fit(wide, Y)
    np.testing.assert_allclose(other.predict(wide_new), model.predict(X_new), atol=1e-8)
    np.testing.assert_allclose(other.band_weights_, model.band_weights_)


def test_the_band_that_drives_a_target_wins():
    X, Y, X_new, Y_new = problem(n_targets=60)
    model = BandedRidge(BANDS).fit(X, Y)
    truth = np.tile(list(BANDS), 20)
    assert (model.best_band() == truth).mean() > 0.9
    assert (model.best_band(model.score(X_new, Y_new, split=True)) == truth).mean() > 0.95
    assert model.best_band(np.full((3, 1), np.nan)).tolist() == [""]


def test_scores_are_sklearns_and_shares_sum_to_the_joint_score():
    X, Y, X_new, Y_new = problem()
    model = BandedRidge(BANDS, dtype="float64").fit(X, Y)
    expected = sklearn_r2_score(Y_new, model.predict(X_new), multioutput="raw_values")
    np.testing.assert_allclose(model.score(X_new, Y_new), expected)
    balanced = Y_new - Y_new.mean(axis=0) + model.intercept_
    shares = model.score(X_new, balanced, split=True)
    np.testing.assert_allclose(shares.sum(axis=0), model.score(X_new, balanced))
    contributions = model.predict(X_new, split=True)
    np.testing.assert_allclose(contributions.sum(axis=0) + model.intercept_, model.predict(X_new), atol=1e-10)
    np.testing.assert_allclose(model.predict(X, split=True).mean(axis=1), 0, atol=1e-10)


def test_repeats_never_straddle_a_fold():
    generator = np.random.default_rng(0)
    X = np.repeat(generator.standard_normal((30, 60)), 2, axis=0)
    Y = np.repeat(generator.standard_normal((30, 5)), 2, axis=0)
    order = generator.permutation(60)
    stimulus = np.repeat(np.arange(30), 2)[order]
    leaking = BandedRidge().fit(X[order], Y[order])
    grouped = BandedRidge().fit(X[order], Y[order], groups=stimulus)
    variance = Y.var(axis=0)
    assert (leaking.cv_scores_.max(axis=0) > -0.3 * variance).all()
    assert (grouped.cv_scores_.max(axis=0) < -0.85 * variance).all()


def test_targets_of_any_scale_choose_the_same():
    X, Y, _, _ = problem()
    model = BandedRidge(BANDS, dtype="float64").fit(X, Y)
    scaled = BandedRidge(BANDS, dtype="float64").fit(X, Y * 1e-6)
    np.testing.assert_allclose(scaled.band_weights_, model.band_weights_)
    np.testing.assert_allclose(scaled.cv_scores_, model.cv_scores_ * 1e-12, rtol=1e-8)
    np.testing.assert_allclose(scaled.predict(X), model.predict(X) * 1e-6, rtol=1e-6)


def test_constant_targets_are_predicted_and_not_scored():
    X, Y, X_new, Y_new = problem()
    Y[:, 1], Y_new[:, 1] = 0.3, 0.3
    model = BandedRidge(BANDS).fit(X, Y)
    np.testing.assert_allclose(model.predict(X_new)[:, 1], 0.3, atol=1e-6)
    assert np.isnan(model.score(X_new, Y_new)[1])
    assert np.isnan(model.score(X_new, Y_new, split=True)[:, 1]).all()


def test_a_constant_band_contributes_nothing():
    X, Y, X_new, _ = problem(constant=True)
    model = BandedRidge(BANDS).fit(X, Y)
    np.testing.assert_array_equal(model.predict(X_new, split=True)[2], 0)
    np.testing.assert_array_equal(model.coef("motion"), 0)


def test_batches_change_nothing(monkeypatch):
    X, Y, X_new, _ = problem()
    whole = BandedRidge(BANDS, dtype="float64").fit(X, Y).predict(X_new)
    some = BandedRidge(BANDS, dtype="float64", n_targets_batch=2).fit(X, Y).predict(X_new)
    monkeypatch.setattr("neurorecon.decoders.banded_search._BATCH_BYTES", 2**18)
    small = BandedRidge(BANDS, dtype="float64").fit(X, Y).predict(X_new)
    np.testing.assert_allclose(some, whole, atol=1e-10)
    np.testing.assert_allclose(small, whole, atol=1e-10)


def test_same_seed_same_bits():
    X, Y, X_new, _ = problem()
    one, other = (BandedRidge(BANDS, n_iter=14, random_state=3).fit(X, Y).predict(X_new) for _ in range(2))
    np.testing.assert_array_equal(one, other)


def test_candidates():
    three = candidate_mixtures(3)
    np.testing.assert_allclose(three.sum(axis=1), 1)
    np.testing.assert_array_equal(three[:3], np.eye(3))
    assert any(np.allclose(row, 1 / 3) for row in three)
    assert len(np.unique(three, axis=0)) == len(three) == 10
    assert candidate_mixtures(1).tolist() == [[1.0]]
    np.testing.assert_array_equal(candidate_mixtures(3, 20)[:10], three)
    np.testing.assert_array_equal(candidate_mixtures(3, 20, 1), candidate_mixtures(3, 20, 1))
    assert (candidate_mixtures(3, 20, 1)[10:] != candidate_mixtures(3, 20, 2)[10:]).any()
    assert candidate_mixtures(3, 4).shape == (4, 3)
    seven = candidate_mixtures(7)
    np.testing.assert_array_equal(seven[:7], np.eye(7))
    np.testing.assert_allclose(seven.sum(axis=1), 1)


def test_mixtures_can_be_given():
    X, Y, _, _ = problem()
    model = BandedRidge(BANDS, n_iter=np.eye(3)).fit(X, Y)
    assert model.cv_scores_.shape == (3, 9)
    assert (np.isclose(model.mixtures_, 1) | np.isclose(model.mixtures_, 0)).all()
    with pytest.raises(InputError, match="mixtures of bands"):
        BandedRidge(BANDS, n_iter=np.eye(2)).fit(X, Y)


def test_himalayas_backend_is_as_it_was():
    from himalaya.backend import get_backend, set_backend

    X, Y, _, _ = problem(20)
    for before in ("numpy", "torch"):
        set_backend(before)
        try:
            BandedRidge(BANDS).fit(X, Y)
            assert get_backend().name == before
            with pytest.raises(RuntimeError, match="inside"), himalaya_backend("cpu"):
                raise RuntimeError("inside")
            assert get_backend().name == before
        finally:
            set_backend("numpy")


def test_is_a_scikit_learn_estimator():
    model = BandedRidge({"one": slice(0, 2), "two": [2, 3]}, alphas=[1.0, 10.0], cv=3)
    X = np.random.default_rng(0).standard_normal((30, 4))
    copy = clone(model).fit(X, X[:, 0])
    assert copy.predict(X).shape == (30,)
    assert copy.predict(X, split=True).shape == (2, 30)
    assert copy.coef_.shape == (4,)


def test_passes_scikit_learns_checks():
    check_estimator(BandedRidge(cv=2, dtype="float64"), on_skip=None)


@pytest.mark.parametrize(
    ("bands", "message"),
    [
        ({"one": slice(0, 30)}, "each feature must be in exactly one band"),
        ({"one": slice(0, 50), "two": [3]}, "each feature must be in exactly one band"),
        ({"one": slice(0, 50), "two": slice(0, 0)}, "each feature must be in exactly one band"),
        ({"one": [60]}, "features that do not exist"),
        (["one"] * 49, "does not match the features"),
    ],
)
def test_wrong_bands_are_explained(bands, message):
    X, Y, _, _ = problem()
    with pytest.raises(InputError, match=message):
        BandedRidge(bands).fit(X, Y)


def test_wrong_input_is_explained():
    X, Y, _, _ = problem()
    kernels = raw_kernels(X, X)
    model = BandedRidge(BANDS).fit_kernels(kernels, Y)
    broken = Y.copy()
    broken[0, 0] = np.nan
    with pytest.raises(InputError, match="fitted to kernels"):
        model.predict(X)
    with pytest.raises(InputError, match="fitted to kernels"):
        model.coef("gabor")
    with pytest.raises(InputError, match="wrong shape"):
        model.predict_kernels(kernels[:2])
    with pytest.raises(InputError, match="not the bands that were fitted"):
        model.predict_kernels(dict(zip("abc", kernels, strict=True)))
    with pytest.raises(InputError, match="wrong shape"):
        BandedRidge().fit_kernels(kernels[:, :5], Y)
    with pytest.raises(InputError, match="not symmetric"):
        BandedRidge().fit_kernels(kernels + np.arange(60), Y)
    with pytest.raises(InputError, match="NaN or infinity"):
        BandedRidge().fit_kernels(kernels * np.nan, Y)
    with pytest.raises(InputError, match="NaN or infinity"):
        BandedRidge(BANDS).fit(X, broken)
    with pytest.raises(InputError, match="different numbers of samples"):
        BandedRidge(BANDS).fit(X, Y[1:])
    with pytest.raises(InputError, match="above 0"):
        BandedRidge(BANDS, alphas=[0.0, 1.0]).fit(X, Y)
    with pytest.raises(UnknownNameError, match="gabor"):
        BandedRidge(BANDS).fit(X, Y).coef("gabo")
    with pytest.raises(InputError, match="shares do not match"):
        model.best_band(np.zeros((2, 9)))


def test_folds_can_be_given():
    X, Y, X_new, _ = problem()
    folds = group_folds(60, np.arange(60) // 4, 3)
    given_folds = BandedRidge(BANDS, cv=folds).fit(X, Y).predict(X_new)
    by_groups = BandedRidge(BANDS, cv=3).fit(X, Y, groups=np.arange(60) // 4).predict(X_new)
    np.testing.assert_array_equal(given_folds, by_groups)
