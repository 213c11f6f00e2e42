import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import LinearRegression, Ridge, RidgeCV
from sklearn.model_selection import GridSearchCV, GroupKFold, KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

from neurorecon.decoders import RidgeDecoder, load_decoder
from neurorecon.decoders.ridge_maps import DualRidge
from neurorecon.errors import InputError

TOLERANCE = {"float32": 1e-4, "float64": 1e-8}


def problem(n_samples, n_voxels, n_targets, kind="full", seed=0, noise=1.0):
    """Responses of a kind, targets with an offset, and responses to predict from."""
    generator = np.random.default_rng(seed)
    X = generator.standard_normal((n_samples + 7, n_voxels))
    if kind == "rank deficient":
        X = X[:, : max(1, n_voxels // 3)] @ generator.standard_normal((max(1, n_voxels // 3), n_voxels))
    elif kind == "constant column":
        X[:, 0] = 4.0
    elif kind == "duplicated":
        X[:, -1] = X[:, 0]
    elif kind == "repeated samples":
        X[1 : n_samples // 2] = X[0]
    elif kind == "offset":
        X += 100
    Y = X @ generator.standard_normal((n_voxels, n_targets)) / np.sqrt(n_voxels) + 3
    Y += noise * generator.standard_normal(Y.shape)
    return X[:n_samples], Y[:n_samples], X[n_samples:]


kinds = st.sampled_from(["full", "rank deficient", "constant column", "duplicated", "repeated samples", "offset"])


@settings(max_examples=80, deadline=None)
@given(
    n_samples=st.integers(2, 40),
    n_voxels=st.integers(1, 60),
    n_targets=st.sampled_from([1, 2, 11]),
    kind=kinds,
    log_alpha=st.floats(-2, 5),
    dtype=st.sampled_from(["float32", "float64"]),
    solver=st.sampled_from(["auto", "dual", "primal"]),
    fit_intercept=st.booleans(),
    seed=st.integers(0, 999),
)
def test_agrees_with_sklearns_ridge(
    n_samples, n_voxels, n_targets, kind, log_alpha, dtype, solver, fit_intercept, seed
):
    X, Y, X_new = problem(n_samples, n_voxels, n_targets, kind, seed)
    alpha = 10.0**log_alpha
    if kind == "offset" and not fit_intercept:
        alpha *= 1e4
    ours = RidgeDecoder(alpha, dtype=dtype, solver=solver, fit_intercept=fit_intercept).fit(X, Y)
    # What single precision does to the inputs is not at issue: both see the same numbers.
    X, Y, X_new = (values.astype(dtype).astype(np.float64) for values in (X, Y, X_new))
    theirs = Ridge(alpha, fit_intercept=fit_intercept, solver="svd").fit(X, Y)
    scale = max(1.0, np.abs(Y).max())
    predicted, expected = ours.predict(X_new), theirs.predict(X_new).reshape(-1, n_targets)
    np.testing.assert_allclose(predicted / scale, expected / scale, atol=TOLERANCE[dtype])
    np.testing.assert_allclose(ours.coef_, theirs.coef_.reshape(n_targets, -1), atol=TOLERANCE[dtype] * scale)


@settings(max_examples=30, deadline=None)
@given(n_samples=st.integers(3, 30), n_voxels=st.integers(1, 60), kind=kinds, seed=st.integers(0, 99))
def test_agrees_with_sklearns_kernel_ridge(n_samples, n_voxels, kind, seed):
    X, Y, X_new = problem(n_samples, n_voxels, 3, kind, seed)
    ours = RidgeDecoder(5.0, fit_intercept=False, dtype="float64", solver="dual").fit(X, Y)
    theirs = KernelRidge(alpha=5.0).fit(X, Y)
    np.testing.assert_allclose(ours.predict(X_new), theirs.predict(X_new), atol=1e-7)
    # Dual coefficients are unique up to directions that no response varies along.
    np.testing.assert_allclose(X.T @ ours.dual_coef_, X.T @ theirs.dual_coef_, atol=1e-7)


def test_without_regularization_it_is_least_squares():
    X, Y, X_new = problem(40, 10, 3)
    ours = RidgeDecoder(0.0, dtype="float64").fit(X, Y)
    np.testing.assert_allclose(ours.predict(X_new), LinearRegression().fit(X, Y).predict(X_new), atol=1e-9)
    # With fewer samples than voxels, the solution of least norm.
    X, Y, _ = problem(10, 40, 3)
    weights = np.linalg.pinv(X - X.mean(axis=0)) @ (Y - Y.mean(axis=0))
    np.testing.assert_allclose(RidgeDecoder(0.0, dtype="float64").fit(X, Y).coef_.T, weights, atol=1e-9)


def test_single_precision_survives_weak_regularization():
    # Dual coefficients in single precision would be off by about max(eigenvalue) / alpha * 1e-7.
    X, Y, X_new = problem(200, 300, 5, noise=0.1)
    X[:, :3] *= 100
    X_new[:, :3] *= 100
    X, Y, X_new = (values.astype(np.float32).astype(np.float64) for values in (X, Y, X_new))
    expected = Ridge(1e-3).fit(X, Y).predict(X_new)
    np.testing.assert_allclose(RidgeDecoder(1e-3).fit(X, Y).predict(X_new), expected, rtol=1e-4, atol=1e-4)


ALPHAS = np.logspace(-2, 4, 13)


@pytest.mark.parametrize("shape", [(60, 30), (30, 60)], ids=["primal", "dual"])
@pytest.mark.parametrize("grouped", [False, True])
def test_alpha_is_the_one_that_sklearns_grid_search_finds(shape, grouped):
    X, Y, _ = problem(*shape, 8, noise=2.0)
    groups = np.random.default_rng(0).integers(0, 12, len(X)) if grouped else None
    folds = GroupKFold(4) if grouped else KFold(4)
    theirs = GridSearchCV(Ridge(), {"alpha": ALPHAS}, cv=folds, scoring="neg_mean_squared_error")
    theirs.fit(X, Y, groups=groups)
    for dtype in ("float32", "float64"):
        ours = RidgeDecoder(ALPHAS, cv=4, dtype=dtype).fit(X, Y, groups=groups)
        assert ours.alpha_ == theirs.best_params_["alpha"]
        expected = theirs.cv_results_["mean_test_score"]
        np.testing.assert_allclose(ours.cv_scores_, expected, rtol=TOLERANCE[dtype])


def test_alpha_per_target_is_a_search_for_each():
    X, Y, X_new = problem(40, 60, 6, noise=np.array([0.1, 0.5, 1, 2, 5, 20]))
    ours = RidgeDecoder(ALPHAS, alpha_per="target", dtype="float64", target_block=4).fit(X, Y)
    for target in range(6):
        theirs = GridSearchCV(Ridge(), {"alpha": ALPHAS}, cv=KFold(5), scoring="neg_mean_squared_error")
        theirs.fit(X, Y[:, target])
        assert ours.alpha_[target] == theirs.best_params_["alpha"]
        np.testing.assert_allclose(ours.predict(X_new)[:, target], theirs.predict(X_new), atol=1e-8)
    assert len(np.unique(ours.alpha_)) > 2
    joint = RidgeDecoder(ALPHAS, dtype="float64").fit(X, Y)
    np.testing.assert_allclose(ours.cv_scores_.mean(axis=1), joint.cv_scores_)


def test_agrees_with_ridgecv_leaving_one_out():
    X, Y, X_new = problem(25, 40, 3)
    theirs = RidgeCV(ALPHAS, scoring="neg_mean_squared_error").fit(X, Y)
    ours = RidgeDecoder(ALPHAS, cv=25, dtype="float64").fit(X, Y)
    # RidgeCV centers once with all samples, we within each fold: same choice, as neither depends on it much.
    assert ours.alpha_ == theirs.alpha_
    np.testing.assert_allclose(ours.predict(X_new), theirs.predict(X_new), atol=1e-8)


@pytest.mark.parametrize(
    ("shape", "n_targets", "kind", "folds"),
    [
        ((30, 50), 7, "full", 5),
        ((50, 30), 7, "full", 5),
        ((30, 50), 7, "rank deficient", 5),
        ((50, 30), 7, "rank deficient", 5),
        ((30, 50), 7, "constant column", 5),
        ((30, 50), 1, "full", 5),
        ((12, 20), 3, "full", 12),
    ],
)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_agrees_with_himalaya(shape, n_targets, kind, folds, dtype):
    from himalaya.backend import get_backend
    from himalaya.kernel_ridge import KernelRidgeCV

    X, Y, X_new = (values.astype(dtype) for values in problem(*shape, n_targets, kind, noise=1.5))
    assert get_backend().name == "numpy"
    # Without means: himalaya centers once with all samples, we within each fold.
    double = (values.astype(np.float64) for values in (X, Y))
    theirs = KernelRidgeCV(ALPHAS, cv=KFold(folds), warn=False).fit(*double)
    settings = {"cv": folds, "alpha_per": "target", "fit_intercept": False, "dtype": dtype}
    ours = RidgeDecoder(ALPHAS, **settings).fit(X, Y)
    np.testing.assert_allclose(ours.alpha_, theirs.best_alphas_, rtol=1e-10)
    expected = theirs.predict(X_new.astype(np.float64))
    scale = max(1.0, np.abs(expected).max())
    np.testing.assert_allclose(ours.predict(X_new) / scale, expected / scale, atol=TOLERANCE[dtype])
    np.testing.assert_allclose(ours.fit_and_predict(X, Y, X_new) / scale, expected / scale, atol=TOLERANCE[dtype])


def test_of_equal_scores_the_largest_alpha_is_taken():
    X, _, _ = problem(20, 5, 1)
    assert RidgeDecoder([1.0, 100.0, 10.0]).fit(X, np.ones((20, 2))).alpha_ == 100.0


def test_repeats_never_straddle_a_fold():
    # Each stimulus twice, with the same noise: ungrouped, memory of the repeat looks like prediction.
    generator = np.random.default_rng(0)
    X = np.repeat(generator.standard_normal((30, 100)), 2, axis=0)
    Y = np.repeat(generator.standard_normal((30, 4)), 2, axis=0)
    order = generator.permutation(60)
    X, Y, stimulus = X[order], Y[order], np.repeat(np.arange(30), 2)[order]
    leaking, grouped = RidgeDecoder(ALPHAS).fit(X, Y), RidgeDecoder(ALPHAS).fit(X, Y, groups=stimulus)
    variance = Y.var(axis=0).mean()
    assert leaking.cv_scores_.max() > -0.2 * variance
    assert grouped.cv_scores_.max() < -0.95 * variance
    assert leaking.alpha_ < 1 < 100 < grouped.alpha_


@settings(max_examples=25, deadline=None)
@given(n_voxels=st.integers(1, 40), integer=st.booleans(), seed=st.integers(0, 99), cv=st.booleans())
def test_sample_weights_are_sklearns(n_voxels, integer, seed, cv):
    X, Y, X_new = problem(25, n_voxels, 3, seed=seed)
    generator = np.random.default_rng(seed)
    weights = generator.integers(0, 4, 25) if integer else generator.random(25) + 0.1
    weights[:2] = 1
    ours = RidgeDecoder(2.0, dtype="float64").fit(X, Y, sample_weight=weights)
    theirs = Ridge(2.0).fit(X, Y, sample_weight=weights)
    np.testing.assert_allclose(ours.predict(X_new), theirs.predict(X_new), atol=1e-8)
    centered = X - np.average(X, axis=0, weights=weights)
    np.testing.assert_allclose(centered.T @ ours.dual_coef_, ours.coef_.T, atol=1e-8)
    if cv and integer:
        repeated = np.repeat(np.arange(25), weights)
        chosen = RidgeDecoder(ALPHAS, cv=3, dtype="float64").fit(X, Y, np.arange(25) % 3, weights)
        again = RidgeDecoder(ALPHAS, cv=3, dtype="float64").fit(X[repeated], Y[repeated], repeated % 3)
        np.testing.assert_allclose(chosen.predict(X_new), again.predict(X_new), atol=1e-8)


def test_targets_keep_their_shape_and_blocks_change_nothing():
    X, Y, X_new = problem(30, 50, 24)
    whole = RidgeDecoder(ALPHAS).fit(X, Y)
    shaped = RidgeDecoder(ALPHAS, target_block=5).fit(X, Y.reshape(30, 2, 3, 4))
    predicted = shaped.predict(X_new)
    assert predicted.shape == (7, 2, 3, 4)
    np.testing.assert_allclose(predicted.reshape(7, 24), whole.predict(X_new), rtol=1e-4, atol=1e-5)
    assert shaped.coef_.shape == (2, 3, 4, 50)
    vector = RidgeDecoder(1.0).fit(X, Y[:, 0])
    assert vector.predict(X_new).shape == (7,)
    assert vector.coef_.shape == (50,)


def test_targets_on_disk_are_read_in_blocks(tmp_path):
    import dask.array
    import xarray

    X, Y, X_new = problem(30, 50, 40)
    Y = Y.reshape(30, 4, 10).astype(np.float32)
    expected = RidgeDecoder(ALPHAS, target_block=8).fit(X, Y).predict(X_new)
    memory = np.memmap(tmp_path / "targets", dtype=np.float32, mode="w+", shape=Y.shape)
    memory[:] = Y
    loaded = []

    def load(block):
        loaded.append(block.size)
        return block

    chunked = dask.array.from_array(Y, chunks=(30, 4, 2)).map_blocks(load, dtype=np.float32, meta=Y[:0])
    named = xarray.DataArray(chunked, dims=("sample", "token", "channel"))
    for lazy in (memory, chunked, named):
        decoder = RidgeDecoder(ALPHAS, target_block=8).fit(X, lazy)
        np.testing.assert_array_equal(decoder.predict(X_new), expected)
    assert max(loaded) < Y.size


def test_torch_gives_the_same():
    X, Y, X_new = problem(30, 50, 12)
    for per_target in ("all", "target"):
        numpy = RidgeDecoder(ALPHAS, dtype="float64", alpha_per=per_target).fit(X, Y)
        torch = RidgeDecoder(ALPHAS, dtype="float64", alpha_per=per_target, device="torch").fit(X, Y)
        np.testing.assert_array_equal(numpy.alpha_, torch.alpha_)
        np.testing.assert_allclose(torch.predict(X_new), numpy.predict(X_new), atol=1e-10)
        assert isinstance(torch.coordinates_, np.ndarray)


def test_patterns_are_covariance_times_weights():
    X, Y, _ = problem(40, 15, 3)
    decoder = RidgeDecoder(3.0, dtype="float64").fit(X, Y)
    expected = np.cov(X.T) @ decoder.coef_.T
    np.testing.assert_allclose(decoder.haufe_patterns().T, expected, atol=1e-10)
    decoded = decoder.predict(X)
    covariance = (X - X.mean(axis=0)).T @ (decoded - decoded.mean(axis=0)) / (len(X) - 1)
    np.testing.assert_allclose(decoder.haufe_patterns(slice(1, 2)).T, covariance[:, 1:2], atol=1e-10)


def test_patterns_find_the_informative_voxel_where_weights_do_not():
    # The example of Haufe et al. (2014): voxel 1 holds noise alone, that of voxel 0.
    generator = np.random.default_rng(0)
    signal, noise = generator.standard_normal((2, 2000))
    decoder = RidgeDecoder(1e-3, dtype="float64").fit(np.stack([signal + noise, noise], axis=1), signal)
    assert abs(decoder.coef_[1]) > 0.9
    np.testing.assert_allclose(decoder.haufe_patterns()[0], [1.0, 0.0], atol=0.1)


def test_scores():
    X, Y, _ = problem(40, 15, 6)
    decoder = RidgeDecoder(1.0, dtype="float64").fit(X, Y.reshape(40, 2, 3))
    reference = Ridge(1.0).fit(X, Y)
    np.testing.assert_allclose(decoder.score(X, Y.reshape(40, 2, 3)), reference.score(X, Y))
    assert decoder.score_targets(X, Y.reshape(40, 2, 3)).shape == (2, 3)
    np.testing.assert_allclose(decoder.score_targets(X, Y.reshape(40, 2, 3)).mean(), reference.score(X, Y))


def test_is_a_scikit_learn_estimator():
    X, Y, X_new = problem(30, 10, 3)
    decoder = RidgeDecoder(alpha=[1.0, 10.0], cv=3, dtype="float64")
    assert clone(decoder).get_params() == decoder.get_params()
    pipeline = make_pipeline(StandardScaler(), decoder).fit(X, Y, ridgedecoder__groups=np.arange(30) // 3)
    reference = make_pipeline(StandardScaler(), Ridge(pipeline[-1].alpha_)).fit(X, Y)
    np.testing.assert_allclose(pipeline.predict(X_new), reference.predict(X_new), atol=1e-8)
    search = GridSearchCV(RidgeDecoder(dtype="float64"), {"alpha": [0.1, 10.0]}).fit(X, Y)
    assert search.best_estimator_.n_features_in_ == 10
    with pytest.raises(NotFittedError):
        RidgeDecoder().predict(X)


def test_passes_scikit_learns_checks():
    check_estimator(RidgeDecoder(dtype="float64"), on_skip=None)
    check_estimator(RidgeDecoder([0.1, 10.0], cv=2, dtype="float64"), on_skip=None)
    # They ask for double precision and compare to 1e-7, which single precision cannot give.
    precision = {
        "check_regressor_multioutput": "asks for float64",
        "check_sample_weight_equivalence_on_dense_data": "asks for 1e-7",
    }
    check_estimator(RidgeDecoder(), on_skip=None, expected_failed_checks=precision)


def test_means_far_above_the_variation_cost_no_precision():
    X, Y, X_new = problem(40, 60, 3)
    X, X_new = X.astype(np.float32), X_new.astype(np.float32)
    shifted, shifted_new = X + np.float32(1024), X_new + np.float32(1024)
    expected = Ridge(1.0).fit(shifted.astype(float), Y).predict(shifted_new.astype(float))
    np.testing.assert_allclose(RidgeDecoder(1.0).fit(shifted, Y).predict(shifted_new), expected, atol=1e-4)


@pytest.mark.parametrize("n_voxels", [30, 6], ids=["dual", "primal"])
def test_forgotten_samples_change_nothing_that_is_predicted(n_voxels, tmp_path):
    random = np.random.default_rng(1)
    X, y = random.standard_normal((12, n_voxels)), random.standard_normal((12, 3))
    weight = random.uniform(0.5, 2, 12)
    whole = RidgeDecoder(2.0, dtype="float64").fit(X, y, sample_weight=weight)
    whole.save(tmp_path / "whole")
    ours = load_decoder(tmp_path / "whole").forget_samples()
    ours.save(tmp_path / "ours")
    ours = load_decoder(tmp_path / "ours")
    for found in ("coef_", "x_mean_", "intercept_"):
        np.testing.assert_array_equal(getattr(ours, found), getattr(whole, found))
    np.testing.assert_array_equal(ours.predict(X), whole.predict(X))
    np.testing.assert_array_equal(ours.haufe_patterns(), whole.haufe_patterns())
    assert not any(len(part) == len(X) and part.size for part in vars(ours).values() if isinstance(part, np.ndarray))
    for use in (lambda: ours.dual_coef_, lambda: DualRidge.of(ours, np.arange(3), y, y.std(axis=0))):
        with pytest.raises(InputError, match="does not hold its training samples"):
            use()


def test_refitting_forgets():
    X, Y, _ = problem(30, 10, 3)
    decoder = RidgeDecoder([1.0, 10.0]).fit(X, Y)
    assert hasattr(decoder, "cv_scores_")
    assert not hasattr(decoder.set_params(alpha=1.0).fit(X, Y), "cv_scores_")


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"alpha": -1.0}, "non-negative number"),
        ({"alpha": []}, "non-negative number"),
        ({"alpha": [1.0, np.nan]}, "non-negative number"),
        ({"solver": "svd"}, "unknown solver"),
        ({"dtype": "float16"}, "unknown precision"),
        ({"device": "gpu"}, "cannot run on this device"),
        ({"device": "mps"}, "double precision"),
        ({"alpha": [1.0, 2.0], "cv": 1}, "at least two folds"),
    ],
)
def test_wrong_parameters_are_explained(parameters, message):
    X, Y, _ = problem(10, 4, 2)
    with pytest.raises(InputError, match=message):
        RidgeDecoder(**parameters).fit(X, Y)


def test_wrong_data_are_explained():
    X, Y, _ = problem(10, 4, 2)
    broken = X.copy()
    broken[3, 2] = np.nan
    missing = Y.copy()
    missing[0, 1] = np.inf
    with pytest.raises(InputError, match="NaN"):
        RidgeDecoder().fit(broken, Y)
    with pytest.raises(InputError, match="targets contain NaN or infinity"):
        RidgeDecoder().fit(X, missing)
    with pytest.raises(InputError, match="different numbers of samples"):
        RidgeDecoder().fit(X, Y[:-1])
    with pytest.raises(InputError, match="one label for each sample"):
        RidgeDecoder([1.0, 2.0]).fit(X, Y, groups=np.arange(3))
    with pytest.raises(InputError, match="features"):
        RidgeDecoder().fit(X, Y).predict(X[:, :2])
    with pytest.raises(InputError, match="NaN"):
        RidgeDecoder().fit(X, Y).predict(broken)
    with pytest.raises(InputError, match="sample weights must be"):
        RidgeDecoder().fit(X, Y, sample_weight=-np.ones(10))
    with pytest.raises(InputError, match="not numbers"):
        RidgeDecoder().fit(X, np.full((10, 1), "house"))


@pytest.mark.skipif("__import__('torch').cuda.is_available()")
def test_a_missing_graphics_card_is_one_clear_error():
    with pytest.raises(InputError, match="no GPU"):
        RidgeDecoder(device="cuda").fit(np.eye(4), np.eye(4))
