import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import LinearRegression, Ridge

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


def test_products_in_single_precision_serve_strong_alphas():
    X, Y, X_test = problem(40, 60)
    largest = np.linalg.norm(X - X.mean(axis=0), 2) ** 2
    for share, tolerance in ((1e-1, 1e-5), (1e-3, 1e-3)):
        expected = Ridge(share * largest).fit(X, Y).predict(X_test)
        found = RidgeSmoother(X, X_test, dtype="float64", gram_dtype="float32").predict(Y, share * largest)
        np.testing.assert_allclose(found, expected, atol=tolerance)


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
