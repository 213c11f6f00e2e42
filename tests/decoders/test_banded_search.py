"""The solvers of banded ridge beside himalaya called by hand, and blocks of voxels."""

import dask.array
import numpy as np
import pytest
from himalaya.backend import get_backend
from himalaya.kernel_ridge import MultipleKernelRidgeCV
from himalaya.ridge import GroupRidgeCV
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import Ridge

from neurorecon.decoders import BandedRidge, candidate_mixtures
from neurorecon.decoders.persistence import load_decoder
from neurorecon.errors import InputError, UnknownNameError

BANDS = {"gabor": slice(0, 8), "category": slice(8, 11), "motion": slice(11, 16)}
TOLERANCE = {"float32": 1e-4, "float64": 1e-8}
ALPHAS = np.logspace(-1, 5, 13)


def problem(n_samples=50, n_targets=6, seed=0):
    """Targets driven by one band each."""
    generator = np.random.default_rng(seed)
    X = generator.standard_normal((n_samples + 30, 16)) * np.repeat([1.0, 20.0, 0.1], [8, 3, 5]) + 2
    Y = np.empty((len(X), n_targets))
    for target in range(n_targets):
        part = list(BANDS.values())[target % 3]
        Y[:, target] = ((X - 2) / X.std(axis=0))[:, part] @ generator.standard_normal(16)[part]
    Y += generator.standard_normal(Y.shape) + 5
    return X[:n_samples], Y[:n_samples], X[n_samples:], Y[n_samples:]


def centered_and_scaled(X, X_train):
    """Bands as BandedRidge sees them, by hand."""
    deviations, train = X - X_train.mean(axis=0), X_train - X_train.mean(axis=0)
    return [deviations[:, part] / np.sqrt((train[:, part] ** 2).sum(axis=1).mean()) for part in BANDS.values()]


def kernels(X, X_train):
    pairs = zip(centered_and_scaled(X, X_train), centered_and_scaled(X_train, X_train), strict=True)
    return np.stack([left @ right.T for left, right in pairs])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_gradient_is_himalayas(dtype):
    X, Y, X_new, _ = problem()
    options = {"max_iter": 5, "initial_deltas": 0.0, "max_iter_inner_hyper": 2}
    ours = BandedRidge(BANDS, solver="gradient", solver_params=options, cv=3, dtype=dtype).fit(X, Y)
    spread = Y.std(axis=0)
    theirs = MultipleKernelRidgeCV(
        kernels="precomputed",
        solver="hyper_gradient",
        cv=3,
        random_state=0,
        solver_params={**options, "progress_bar": False},
    ).fit(kernels(X, X), (Y - Y.mean(axis=0)) / spread)
    assert ours.solver_ == "gradient"
    np.testing.assert_allclose(np.log(ours.band_weights_), theirs.deltas_, atol=TOLERANCE[dtype])
    np.testing.assert_allclose(ours.cv_scores_ / spread**2, theirs.cv_scores_, rtol=10 * TOLERANCE[dtype])
    # himalaya's weights are good to 1e-4; ours are those of scikit-learn's exact solution.
    by_himalaya = theirs.predict(kernels(X_new, X)) * spread + Y.mean(axis=0)
    np.testing.assert_allclose(ours.predict(X_new), by_himalaya, atol=1e-3)
    weights = ours.band_weights_.T
    for target in range(Y.shape[1]):
        train, new = (np.tensordot(weights[target], part, 1) for part in (kernels(X, X), kernels(X_new, X)))
        exact = KernelRidge(alpha=1.0, kernel="precomputed").fit(train, Y[:, target] - Y[:, target].mean())
        expected = exact.predict(new) + Y[:, target].mean()
        np.testing.assert_allclose(
            ours.predict(X_new)[:, target], expected, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype]
        )


def test_gradient_improves_on_where_it_starts():
    X, Y, X_new, Y_new = problem(n_targets=9)
    start = BandedRidge(BANDS, n_iter=np.full((1, 3), 1 / 3), solver="random_search").fit(X, Y)
    found = BandedRidge(BANDS, solver="gradient", solver_params={"max_iter": 15}).fit(X, Y)
    assert (found.cv_scores_[-1] >= found.cv_scores_[0]).mean() > 0.8
    assert found.cv_scores_[-1].mean() > start.cv_scores_[-1].mean()
    assert (found.best_band() == np.tile(list(BANDS), 3)).mean() > 0.8
    np.testing.assert_allclose(found.mixtures_.sum(axis=0), 1)
    balanced = Y_new - Y_new.mean(axis=0) + found.intercept_
    np.testing.assert_allclose(
        found.score(X_new, balanced, split=True).sum(axis=0), found.score(X_new, balanced), atol=1e-4
    )


def test_gradient_on_one_band_is_ridge_regression_with_the_alpha_found():
    X, Y, X_new, _ = problem()
    model = BandedRidge(solver="gradient", dtype="float64", cv=2, solver_params={"max_iter": 3}).fit(X, Y[:, 0])
    ridge = Ridge(model.alphas_[0] * model.kernel_scales_[0]).fit(X, Y[:, 0])
    np.testing.assert_allclose(model.predict(X_new), ridge.predict(X_new), atol=1e-8)


def test_gradient_keeps_constant_targets():
    X, Y, X_new, _ = problem()
    Y[:, 1] = 0.3
    model = BandedRidge(BANDS, solver="gradient", solver_params={"max_iter": 2}).fit(X, Y)
    np.testing.assert_allclose(model.predict(X_new)[:, 1], 0.3, atol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_group_ridge_is_himalayas_and_the_search_on_kernels(dtype):
    X, Y, X_new, Y_new = problem()
    model = BandedRidge(BANDS, dtype=dtype, cv=4).fit(X, Y)
    assert model.solver_ == "group_ridge"
    mixtures = np.maximum(candidate_mixtures(3), 1e-12)  # himalaya cannot leave a band out
    theirs = GroupRidgeCV(
        groups="input",
        fit_intercept=True,
        cv=4,
        solver_params={"n_iter": mixtures, "alphas": ALPHAS, "progress_bar": False},
    ).fit(centered_and_scaled(X, X), Y)
    expected = theirs.predict(centered_and_scaled(X_new, X))
    tolerance = {"rtol": TOLERANCE[dtype], "atol": TOLERANCE[dtype]}
    np.testing.assert_allclose(model.predict(X_new), expected, **tolerance)
    on_kernels = BandedRidge(BANDS, solver="random_search", dtype=dtype, cv=4).fit(X, Y)
    np.testing.assert_array_equal(model.mixtures_ == 0, on_kernels.mixtures_ == 0)
    np.testing.assert_allclose(model.mixtures_, on_kernels.mixtures_, rtol=1e-5)
    np.testing.assert_allclose(model.alphas_, on_kernels.alphas_, rtol=1e-6)
    np.testing.assert_allclose(model.cv_scores_, on_kernels.cv_scores_, rtol=TOLERANCE[dtype])
    for split in (False, True):
        np.testing.assert_allclose(model.predict(X_new, split), on_kernels.predict(X_new, split), **tolerance)
        np.testing.assert_allclose(
            model.score(X_new, Y_new, split, "correlation"),
            on_kernels.score(X_new, Y_new, split, "correlation"),
            **tolerance,
        )
    np.testing.assert_allclose(model.coef_, on_kernels.coef_, **tolerance)


def test_group_ridge_survives_constant_bands_and_the_disk(tmp_path):
    X, Y, X_new, _ = problem()
    X[:, 11:], X_new[:, 11:] = 0.1, 0.1
    model = BandedRidge(BANDS).fit(X, Y)
    np.testing.assert_array_equal(model.predict(X_new, split=True)[2], 0)
    on_kernels = BandedRidge(BANDS, solver="random_search").fit(X, Y)
    np.testing.assert_allclose(model.predict(X_new), on_kernels.predict(X_new), atol=1e-4)
    loaded = load_decoder(model.save(tmp_path / "decoder"))
    np.testing.assert_array_equal(loaded.predict(X_new), model.predict(X_new))


def test_the_solver_goes_by_the_shape():
    X, Y, _, _ = problem()
    assert BandedRidge(BANDS).fit(X, Y).solver_ == "group_ridge"
    assert BandedRidge(BANDS).fit(X[:20], Y[:20]).solver_ == "random_search"
    assert BandedRidge(BANDS).fit_kernels(kernels(X, X), Y).solver_ == "random_search"


@pytest.mark.parametrize("solver", ["random_search", "gradient", "group_ridge"])
def test_voxel_blocks_change_nothing(solver):
    X, Y, X_new, _ = problem(n_targets=7)
    options = {"solver": solver, "dtype": "float64", "cv": 2}
    if solver == "gradient":  # it stops when the last voxel of a block stands still
        options["solver_params"] = {"max_iter": 2, "tol": None}
    whole = BandedRidge(BANDS, **options).fit(X, Y)
    blocks = BandedRidge(BANDS, voxel_block=3, **options).fit(X, Y)
    lazy = BandedRidge(BANDS, voxel_block=3, **options).fit(X, dask.array.from_array(Y, chunks=(25, 2)))
    for model in (blocks, lazy):
        np.testing.assert_allclose(model.predict(X_new), whole.predict(X_new), atol=1e-8)
        np.testing.assert_allclose(model.band_weights_, whole.band_weights_, rtol=1e-6)
        assert model.cv_scores_.shape == whole.cv_scores_.shape
        np.testing.assert_allclose(model.cv_scores_, whole.cv_scores_, atol=1e-8)


class Counted:
    """Targets that say how many were read at once, and how often."""

    def __init__(self, values):
        self.values, self.read = values, []
        self.shape, self.dtype, self.ndim = values.shape, values.dtype, values.ndim

    def __getitem__(self, key):
        found = self.values[key]
        self.read.append(found.shape)
        return found


def test_lazy_targets_are_read_once_and_in_blocks():
    X, Y, _, _ = problem(n_targets=7)
    lazy = Counted(Y)
    BandedRidge(BANDS, voxel_block=3).fit(X, lazy)
    assert lazy.read == [(50, 3), (50, 3), (50, 1)]


def test_another_fit_leaves_nothing_of_the_one_before():
    X, Y, X_new, _ = problem()
    model = BandedRidge(BANDS).fit(X, Y)
    model.fit_kernels(kernels(X, X), Y)
    assert not hasattr(model, "primal_coef_")
    with pytest.raises(InputError, match="fitted to kernels"):
        model.predict(X_new)
    model.fit(X, Y)
    assert not hasattr(model, "dual_coef_")
    with pytest.raises(InputError, match="cannot predict from kernels"):
        model.predict_kernels(kernels(X_new, X))


def test_wrong_parameters_are_explained_and_himalayas_backend_is_as_it_was():
    X, Y, _, _ = problem()
    before = get_backend().name
    with pytest.raises(UnknownNameError, match="gradient"):
        BandedRidge(BANDS, solver="gradiant").fit(X, Y)
    with pytest.raises(InputError, match="needs features"):
        BandedRidge(BANDS, solver="group_ridge").fit_kernels(kernels(X, X), Y)
    for solver in ("random_search", "gradient", "group_ridge"):
        with pytest.raises(InputError, match="does not take"):
            BandedRidge(BANDS, solver=solver, solver_params={"step": 3}).fit(X, Y)
        with pytest.raises(InputError, match="does not take"):
            BandedRidge(BANDS, solver=solver, solver_params={"cv": 3}).fit(X, Y)
    with pytest.raises(InputError, match="at least one voxel"):
        BandedRidge(BANDS, voxel_block=0).fit(X, Y)
    with pytest.raises(UnknownNameError, match="correlation"):
        BandedRidge(BANDS).fit(X, Y).score(X, Y, metric="corelation")
    assert get_backend().name == before
