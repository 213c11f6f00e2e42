import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import LinearRegression, Ridge, RidgeCV

from neurorecon.decoders import RidgeDecoder, RidgeSmoother
from neurorecon.errors import InputError

TOLERANCE = {"float32": 1e-4, "float64": 1e-8}


def problem(n_samples, n_voxels, n_targets=5, kind="full", seed=0):
    generator = np.random.default_rng(seed)
    X = generator.standard_normal((n_samples + 4, n_voxels))
    if kind == "rank deficient":
        X = X[:, : max(1, n_voxels // 3)] @ generator.standard_normal((max(1, n_voxels // 3), n_voxels))
    elif kind == "constant column":
        X[:, 0] = 4.0
    Y = X @ generator.standard_normal((n_voxels, n_targets)) / np.sqrt(n_voxels) + 3
    return X[:n_samples], Y[:n_samples] + generator.standard_normal((n_samples, n_targets)), X[n_samples:]


@settings(max_examples=40, deadline=None)
@given(
    n_samples=st.integers(2, 30),
    n_voxels=st.integers(1, 40),
    n_targets=st.sampled_from([1, 5]),
    kind=st.sampled_from(["full", "rank deficient", "constant column"]),
    log_alpha=st.floats(-1, 5),
    dtype=st.sampled_from(["float32", "float64"]),
    solver=st.sampled_from(["auto", "dual", "primal"]),
    center=st.booleans(),
    weighted=st.booleans(),
    seed=st.integers(0, 99),
)
def test_agrees_with_sklearns_ridge(
    n_samples, n_voxels, n_targets, kind, log_alpha, dtype, solver, center, weighted, seed
):
    X, Y, X_test = (values.astype(dtype) for values in problem(n_samples, n_voxels, n_targets, kind, seed))
    weights = np.random.default_rng(seed).random(n_samples) + 0.1 if weighted else None
    smoother = RidgeSmoother(X, X_test, sample_weight=weights, fit_intercept=center, solver=solver, dtype=dtype)
    X, Y, X_test = (values.astype(np.float64) for values in (X, Y, X_test))
    theirs = Ridge(10.0**log_alpha, fit_intercept=center, solver="svd").fit(X, Y, sample_weight=weights)
    expected = theirs.predict(X_test).reshape(-1, n_targets)
    scale = max(1.0, np.abs(Y).max())
    np.testing.assert_allclose(smoother.predict(Y, 10.0**log_alpha) / scale, expected / scale, atol=TOLERANCE[dtype])
    if center:
        np.testing.assert_allclose(smoother.matrix(10.0**log_alpha).sum(axis=1), 1.0, atol=1e-9)


def test_agrees_with_kernel_ridge_and_with_the_decoder():
    X, Y, X_test = problem(20, 40)
    found = RidgeSmoother(X, X_test, fit_intercept=False, dtype="float64").predict(Y, 2.0)
    np.testing.assert_allclose(found, KernelRidge(alpha=2.0).fit(X, Y).predict(X_test), atol=1e-8)
    for device in ("cpu", "torch"):
        decoder = RidgeDecoder(2.0, dtype="float64", device=device)
        np.testing.assert_allclose(decoder.fit_and_predict(X, Y, X_test), decoder.fit(X, Y).predict(X_test), atol=1e-10)


@pytest.mark.parametrize("shape", [(30, 10), (10, 30)], ids=["n>p", "n<p"])
def test_without_regularization_it_is_least_squares(shape):
    X, Y, X_test = problem(*shape)
    found = RidgeSmoother(X, X_test, dtype="float64").predict(Y, 0.0)
    np.testing.assert_allclose(found, LinearRegression().fit(X, Y).predict(X_test), atol=1e-8)


def test_single_precision_keeps_what_a_large_alpha_leaves():
    """Predictions of a voxel without signal hardly vary, but a correlation divides by how much they do."""
    X, Y, X_test = (values.astype(np.float32) for values in problem(80, 60, seed=4))
    Y -= Y.mean(axis=0)
    found = RidgeSmoother(X, X_test).predict(Y, 1e7)
    expected = Ridge(1e7, solver="svd").fit(X.astype(np.float64), Y.astype(np.float64)).predict(X_test)
    found, expected = (values - values.mean(axis=0, dtype=np.float64) for values in (found, expected))
    np.testing.assert_allclose(found, expected, atol=1e-4 * expected.std(axis=0).min())


def test_products_in_single_precision_serve_strong_alphas():
    X, Y, X_test = problem(40, 60)
    largest = np.linalg.norm(X - X.mean(axis=0), 2) ** 2
    for share, tolerance in ((1e-1, 1e-5), (1e-3, 1e-3)):
        expected = Ridge(share * largest).fit(X, Y).predict(X_test)
        found = RidgeSmoother(X, X_test, dtype="float64", gram_dtype="float32").predict(Y, share * largest)
        np.testing.assert_allclose(found, expected, atol=tolerance)


@pytest.mark.parametrize("shape", [(60, 25), (40, 90)], ids=["n>p", "n<p"])
@pytest.mark.parametrize("device", ["cpu", "torch"])
def test_alphas_are_those_of_sklearns_leave_one_out(shape, device):
    X, Y, X_test = problem(*shape, n_targets=30, seed=3)
    Y[:, ::3] = np.random.default_rng(0).standard_normal(Y[:, ::3].shape)
    alphas = np.logspace(-1, 4, 11)
    theirs = RidgeCV(alphas, alpha_per_target=True).fit(X, Y)
    smoother = RidgeSmoother(X, X_test, dtype="float64", device=device)
    found = smoother.choose_alpha(Y, alphas, target_block=7)
    np.testing.assert_array_equal(found, theirs.alpha_)
    assert len(np.unique(found)) > 3
    np.testing.assert_allclose(smoother.predict(Y, found), theirs.predict(X_test), atol=1e-8)


@pytest.mark.parametrize("weighted", [False, True])
def test_alphas_leave_out_whole_groups(weighted):
    """Beside fits without each group."""
    X, Y, _ = problem(36, 50, n_targets=8, seed=5)
    groups = np.arange(36) // 3
    weights = np.random.default_rng(1).random(36) + 0.2 if weighted else None
    alphas = np.logspace(0, 3, 7)
    errors = np.zeros((7, 8))
    for row, alpha in enumerate(alphas):
        for group in range(12):
            held = groups == group
            share = np.ones(36) if weights is None else weights
            model = Ridge(alpha, solver="svd").fit(X[~held], Y[~held], sample_weight=share[~held])
            errors[row] += share[held] @ (model.predict(X[held]) - Y[held]) ** 2
    found = RidgeSmoother(X, X[:2], sample_weight=weights, dtype="float64").choose_alpha(Y, alphas, groups=groups)
    np.testing.assert_array_equal(found, alphas[errors.argmin(axis=0)])


def test_alphas_of_many_samples_are_those_of_a_thousand_left_out():
    """Their leave-one-out errors, from scikit-learn's of all samples."""
    X, Y, _ = problem(2500, 12, n_targets=6, seed=2)
    Y[:, 3:] += 20 * np.random.default_rng(0).standard_normal((2500, 3))
    alphas = np.logspace(-1, 5, 13)
    theirs = RidgeCV(alphas, store_cv_results=True).fit(X, Y)
    rows = np.linspace(0, 2499, 1000).round().astype(int)
    best = alphas[theirs.cv_results_[rows].mean(axis=0).argmin(axis=1)]
    found = RidgeSmoother(X, X[:2], dtype="float64").choose_alpha(Y, alphas)
    np.testing.assert_array_equal(found, best)


def test_alphas_need_samples_of_as_many_rows_and_groups():
    X, Y, X_test = problem(20, 30)
    smoother = RidgeSmoother(X, X_test)
    with pytest.raises(InputError, match="different numbers of samples"):
        smoother.choose_alpha(Y[:-1], [1.0, 10.0])
    with pytest.raises(InputError, match="two groups or more"):
        smoother.choose_alpha(Y, [1.0, 10.0], groups=np.zeros(20))


def test_each_target_may_have_its_own_alpha():
    X, Y, X_test = problem(20, 30)
    alphas = np.array([1.0, 10.0, 1.0, 100.0, 10.0])
    found = RidgeSmoother(X, X_test, dtype="float64").predict(Y, alphas, target_block=2)
    np.testing.assert_allclose(found, Ridge(alphas).fit(X, Y).predict(X_test), atol=1e-9)


def test_targets_far_from_zero_cost_no_precision():
    X, Y, X_test = problem(20, 30)
    Y = (Y + 1000).astype(np.float32)
    expected = Ridge(3.0).fit(X, Y.astype(float)).predict(X_test)
    np.testing.assert_allclose(RidgeSmoother(X, X_test).predict(Y, 3.0), expected, atol=2e-4)


@pytest.mark.parametrize("kind", ["memory map", "zarr", "zarr, flattened", "array"])
def test_predictions_are_written_in_blocks(tmp_path, kind):
    import zarr

    X, Y, X_test = problem(20, 30, 24)
    shape = (4, 24) if kind == "zarr, flattened" else (4, 2, 3, 4)
    if kind == "memory map":
        out = np.memmap(tmp_path / "out", dtype=np.float32, mode="w+", shape=shape)
    elif kind == "array":
        out = np.empty(shape, np.float32)
    else:
        out = zarr.create_array(tmp_path / "out.zarr", shape=shape, dtype="float32", chunks=(4, *shape[1:]))
    targets = zarr.create_array(tmp_path / "y.zarr", shape=(20, 2, 3, 4), dtype="float32")
    targets[:] = Y.reshape(20, 2, 3, 4).astype(np.float32)
    decoder = RidgeDecoder(3.0, target_block=5)
    expected = decoder.fit(X, Y).predict(X_test)
    assert decoder.fit_and_predict(X, targets, X_test, out=out) is out
    np.testing.assert_allclose(np.asarray(out[:]).reshape(4, 24), expected, rtol=1e-5, atol=1e-5)
    assert decoder.fit(X, targets).predict(X_test, out=out) is out
    np.testing.assert_allclose(np.asarray(out[:]).reshape(4, 24), expected, rtol=1e-5, atol=1e-5)


def test_wrong_data_are_explained():
    X, Y, X_test = problem(20, 30)
    with pytest.raises(InputError, match="different voxels"):
        RidgeSmoother(X, X_test[:, :3])
    with pytest.raises(InputError, match="finite numbers"):
        RidgeSmoother(X, X_test * np.nan)
    with pytest.raises(InputError, match="numbers of samples"):
        RidgeSmoother(X, X_test).predict(Y[:4], 1.0)
    with pytest.raises(InputError, match="do not fit into `out`"):
        RidgeSmoother(X, X_test).predict(Y, 1.0, out=np.empty((4, 6)))
    shaped = np.zeros((20, 2, 3))
    with pytest.raises(InputError, match="in blocks"):
        RidgeSmoother(X, X_test).predict(shaped, 1.0, out=np.empty((4, 3, 2)).transpose(0, 2, 1))
