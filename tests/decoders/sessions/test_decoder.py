import dask.array as da
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV, PredefinedSplit
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

from neurorecon.decoders import RidgeDecoder, UpdatingRidge, load_decoder, standardize_sessions
from neurorecon.errors import InputError, MissingFileError, UnknownNameError
from neurorecon.testing import check_decoder

TOLERANCE = {"float32": 1e-4, "float64": 1e-8}
ALPHAS = np.logspace(-2, 4, 7)


def sessions(sizes, n_voxels, n_targets, seed=0, drift=1.0):
    """Sessions with means that drift, and the responses of one more."""
    generator = np.random.default_rng(seed)
    weights = generator.standard_normal((n_voxels, n_targets)) / np.sqrt(n_voxels)
    made = []
    for size in (*sizes, 6):
        X = generator.standard_normal((size, n_voxels))
        Y = X @ weights + generator.standard_normal((size, n_targets)) + drift * generator.standard_normal(n_targets)
        made.append((X + drift * generator.standard_normal(n_voxels), Y))
    return made[:-1], made[-1][0]


def together(parts):
    return tuple(np.concatenate(arrays) for arrays in zip(*parts, strict=True))


def added(model, parts, groups=None):
    for number, (X, Y) in enumerate(parts):
        model.partial_fit(X, Y, None if groups is None else groups[number])
    return model


@settings(max_examples=40, deadline=None)
@given(
    sizes=st.lists(st.integers(2, 15), min_size=1, max_size=5),
    n_voxels=st.integers(1, 50),
    log_alpha=st.floats(-2, 5),
    drift=st.sampled_from([0.0, 1.0, 30.0]),
    fit_intercept=st.booleans(),
    solver=st.sampled_from(["auto", "dual", "primal"]),
    dtype=st.sampled_from(["float32", "float64"]),
    seed=st.integers(0, 999),
)
def test_sessions_added_are_sklearns_ridge_of_all(
    sizes, n_voxels, log_alpha, drift, fit_intercept, solver, dtype, seed
):
    parts, X_new = sessions(sizes, n_voxels, 3, seed, drift)
    alpha = 10.0**log_alpha * (1 if fit_intercept else 1 + drift**2)
    ours = added(UpdatingRidge(alpha, fit_intercept=fit_intercept, solver=solver, dtype=dtype, target_block=2), parts)
    X, Y = (values.astype(dtype).astype(float) for values in together(parts))
    X_new = X_new.astype(dtype).astype(float)
    theirs = Ridge(alpha, fit_intercept=fit_intercept, solver="svd").fit(X, Y)
    scale = max(1.0, np.abs(Y).max())
    # Dual coefficients in single precision cancel where sessions lie far apart and the penalty is small: rounding moves
    # the kernel by so much of the penalty, whatever solves it.
    far = np.square(X - (X.mean(axis=0) if fit_intercept else 0.0)).sum(axis=1).max()
    atol = max(TOLERANCE[dtype], float(np.finfo(dtype).eps * far / alpha))
    np.testing.assert_allclose(ours.predict(X_new) / scale, theirs.predict(X_new) / scale, atol=atol)
    np.testing.assert_allclose(ours.coef_, theirs.coef_, atol=atol * scale)


@pytest.mark.parametrize("solver", ["dual", "primal", "auto"])
@pytest.mark.parametrize("alpha_per", ["all", "target", ["a", "b", "a", "b"]], ids=["all", "target", "labels"])
@pytest.mark.parametrize("grouped", [False, True])
def test_alpha_is_chosen_again_as_a_new_fit_would(solver, alpha_per, grouped):
    parts, X_new = sessions([20, 16, 18], 40, 4)
    # Stimuli come back in later sessions.
    groups = [np.random.default_rng(number).integers(0, 25, len(X)) for number, (X, _) in enumerate(parts)]
    model = UpdatingRidge(ALPHAS, alpha_per=alpha_per, solver=solver, dtype="float64", target_block=3)
    for number in range(3):
        X, Y = parts[number]
        model.partial_fit(X, Y, groups[number] if grouped else None)
        X, Y = together(parts[: number + 1])
        cv = PredefinedSplit(model.folds_)
        again = RidgeDecoder(ALPHAS, cv=cv, alpha_per=alpha_per, dtype="float64")
        again.fit(X, Y, np.concatenate(groups[: number + 1]) if grouped else None)
        np.testing.assert_array_equal(model.alpha_, again.alpha_)
        np.testing.assert_allclose(model.cv_scores_, again.cv_scores_, rtol=1e-8)
        np.testing.assert_allclose(model.predict(X_new), again.predict(X_new), atol=1e-8)
    theirs = GridSearchCV(Ridge(), {"alpha": ALPHAS}, cv=cv, scoring="neg_mean_squared_error").fit(X, Y[:, 0])
    assert np.atleast_1d(model.alpha_)[0] == theirs.best_params_["alpha"] or alpha_per != "target"
    assert model.solver_ == ("primal" if solver == "auto" else solver)


@pytest.mark.parametrize("alpha", [5.0, ALPHAS])
@pytest.mark.parametrize("n_voxels", [10, 80])
def test_the_order_of_sessions_does_not_matter(alpha, n_voxels):
    parts, X_new = sessions([12, 20, 9, 14], n_voxels, 5)
    groups = [np.arange(len(X)) % 11 for X, _ in parts]
    order = [2, 0, 3, 1]
    one = added(UpdatingRidge(alpha, dtype="float64"), parts, groups)
    other = added(UpdatingRidge(alpha, dtype="float64"), [parts[i] for i in order], [groups[i] for i in order])
    np.testing.assert_allclose(one.predict(X_new), other.predict(X_new), atol=1e-9)
    assert one.alpha_ == other.alpha_


@pytest.mark.parametrize("solver", ["dual", "primal"])
def test_drifting_means_far_from_zero_cost_no_precision(solver):
    parts, X_new = sessions([30, 25, 28], 40, 3)
    parts = [(X + 1e4 + 5 * number, Y - 1e3 * number) for number, (X, Y) in enumerate(parts)]
    ours = added(UpdatingRidge(10.0, solver=solver, dtype="float64"), parts)
    expected = Ridge(10.0, solver="svd").fit(*together(parts)).predict(X_new + 1e4)
    np.testing.assert_allclose(ours.predict(X_new + 1e4), expected, rtol=1e-8)


@pytest.mark.parametrize("alpha", [10.0, ALPHAS], ids=["fixed", "chosen"])
@pytest.mark.parametrize("solver", ["dual", "primal"])
def test_sessions_ten_thousand_deviations_apart_are_still_one_fit(alpha, solver):
    parts, _ = sessions([30, 25, 28], 40, 3, drift=1e4)
    parts = [(X, Y - Y.mean(axis=0)) for X, Y in parts]
    ours = added(UpdatingRidge(alpha, solver=solver, dtype="float64"), parts)
    X_new = parts[-1][0] + 0.1
    theirs = Ridge(ours.alpha_, solver="svd").fit(*together(parts))
    # What is left are the rounding errors of products of numbers of 1e4.
    np.testing.assert_allclose(ours.predict(X_new), theirs.predict(X_new), atol=1e-5)
    np.testing.assert_allclose(ours.coef_, theirs.coef_, atol=1e-5)


def test_each_session_is_standardized_by_itself():
    parts, X_new = sessions([15, 18, 12], 30, 3)
    parts = [(X * (number + 1), Y) for number, (X, Y) in enumerate(parts)]
    for X, _ in parts:
        X[:, 4] = 0.1  # a constant voxel
    model = added(UpdatingRidge(3.0, standardize=True, dtype="float64"), parts)
    scaled = [StandardScaler().fit_transform(X) for X, _ in parts]
    theirs = Ridge(3.0, solver="svd").fit(np.concatenate(scaled), together(parts)[1])
    np.testing.assert_allclose(model.predict(parts[1][0], session=2), theirs.predict(scaled[1]), atol=1e-8)
    new = StandardScaler().fit_transform(X_new)
    np.testing.assert_allclose(model.predict(X_new, session="new"), theirs.predict(new), atol=1e-8)
    assert np.isfinite(model.predict(X_new[:1])).all()
    labels = np.repeat([0, 1, 2], [15, 18, 12])
    np.testing.assert_allclose(standardize_sessions(together(parts)[0], labels), np.concatenate(scaled), atol=1e-12)
    with pytest.raises(InputError, match="one sample has no standard deviation"):
        model.predict(X_new[:1], session="new")
    with pytest.raises(UnknownNameError, match="unknown session '7'"):
        model.predict(X_new, session=7)


def test_fit_takes_sessions_by_label_and_forgets():
    parts, X_new = sessions([15, 18], 30, 3)
    X, Y = together(parts)
    model = added(UpdatingRidge(2.0, dtype="float64"), parts[:1])
    model.fit(X, Y, sessions=np.repeat(["a", "b"], [15, 18]))
    assert [each["name"] for each in model.sessions_] == ["a", "b"]
    np.testing.assert_array_equal(model.predict(X_new), added(clone(model), parts).predict(X_new))


def test_another_alpha_is_taken_up_by_all_sessions():
    parts, X_new = sessions([15, 18, 9], 60, 3)
    model = added(UpdatingRidge(2.0, dtype="float64"), parts[:2])
    model.set_params(alpha=50.0).partial_fit(*parts[2])
    expected = Ridge(50.0, solver="svd").fit(*together(parts)).predict(X_new)
    np.testing.assert_allclose(model.predict(X_new), expected, atol=1e-8)


@pytest.mark.parametrize("alpha", [2.0, ALPHAS])
@pytest.mark.parametrize("n_voxels", [20, 90])
@pytest.mark.parametrize("in_folder", [False, True])
def test_a_decoder_goes_on_after_it_was_saved(tmp_path, alpha, n_voxels, in_folder):
    parts, X_new = sessions([15, 18, 9], n_voxels, 4)
    folder = str(tmp_path / "rows") if in_folder else None
    model = added(UpdatingRidge(alpha, folder=folder, standardize=True), parts[:2])
    loaded = load_decoder(model.save(tmp_path / "decoder"))
    assert loaded.predict(X_new).tobytes() == model.predict(X_new).tobytes()
    went_on = loaded.partial_fit(*parts[2])
    expected = added(UpdatingRidge(alpha, standardize=True), parts).predict(X_new)
    np.testing.assert_array_equal(went_on.predict(X_new), expected)
    # What was saved before is as it was.
    np.testing.assert_array_equal(load_decoder(tmp_path / "decoder").predict(X_new), model.predict(X_new))


def test_two_decoders_do_not_go_on_in_one_folder(tmp_path):
    parts, X_new = sessions([15, 18, 9], 90, 4)
    one = added(UpdatingRidge(2.0, folder=str(tmp_path / "rows")), parts[:1])
    other = load_decoder(one.save(tmp_path / "decoder"))
    files = sorted((tmp_path / "rows").iterdir())
    with pytest.raises(InputError, match="NaN"):
        one.partial_fit(parts[1][0], np.full_like(parts[1][1], np.nan))
    assert sorted((tmp_path / "rows").iterdir()) == files
    one.partial_fit(*parts[1])
    with pytest.raises(InputError, match="another decoder has gone on"):
        other.partial_fit(*parts[2])
    # The same session again, after a crash, say.
    np.testing.assert_array_equal(other.partial_fit(*parts[1]).predict(X_new), one.predict(X_new))


def test_targets_on_disk_are_kept_where_they_are(tmp_path):
    parts, X_new = sessions([15, 18], 60, 6)
    lazy = [(X, da.from_array(Y.reshape(len(Y), 2, 3), chunks=(5, 1, 3))) for X, Y in parts]
    model = added(UpdatingRidge(2.0, target_block=4), lazy)
    expected = added(UpdatingRidge(2.0), parts).predict(X_new)
    np.testing.assert_allclose(model.predict(X_new).reshape(-1, 6), expected, atol=1e-6)
    with pytest.raises(InputError, match="cannot be written"):
        model.save(tmp_path / "decoder")
    in_folder = added(UpdatingRidge(2.0, folder=str(tmp_path / "rows")), lazy)
    loaded = load_decoder(in_folder.save(tmp_path / "decoder"))
    (tmp_path / "rows").rename(tmp_path / "moved")
    with pytest.raises(MissingFileError, match="set_params"):
        loaded.predict(X_new)
    moved = loaded.set_params(folder=str(tmp_path / "moved"))
    np.testing.assert_array_equal(moved.predict(X_new), model.predict(X_new))


def test_a_session_that_does_not_fit_changes_nothing(tmp_path):
    parts, X_new = sessions([15, 18, 12], 60, 3)
    model = added(UpdatingRidge(2.0), parts[:2])
    before = model.predict(X_new)
    X, Y = parts[2]
    broken = Y.copy()
    broken[3, 1] = np.nan
    for wrong, message in [
        ((X[:, :9], Y), "features"),
        ((X, Y[:5]), "different numbers of samples"),
        ((X, Y[:, :2]), "not those of earlier sessions"),
        ((X, broken), "NaN or infinity"),
        ((np.where(X > 2, np.nan, X), Y), "NaN"),
    ]:
        with pytest.raises(InputError, match=message):
            model.partial_fit(*wrong)
    with pytest.raises(InputError, match="of this name was fitted"):
        model.partial_fit(X, Y, session="2")
    np.testing.assert_array_equal(model.predict(X_new), before)
    np.testing.assert_array_equal(
        model.partial_fit(X, Y).predict(X_new), added(UpdatingRidge(2.0), parts).predict(X_new)
    )


def test_wrong_parameters_are_explained(tmp_path):
    parts, _ = sessions([15, 18], 30, 3)
    with pytest.raises(UnknownNameError, match="unknown solver"):
        added(UpdatingRidge(solver="svd"), parts)
    with pytest.raises(InputError, match="need a number of folds"):
        added(UpdatingRidge(ALPHAS, cv=PredefinedSplit([0, 1])), parts)
    with pytest.raises(InputError, match="at least two folds"):
        UpdatingRidge(ALPHAS).partial_fit(*parts[0], groups=np.zeros(15))
    with pytest.raises(InputError, match="made already"):
        added(UpdatingRidge(1.0), parts).set_params(alpha=ALPHAS).partial_fit(*parts[0], session="again")
    added(UpdatingRidge(1.0, folder=str(tmp_path)), parts[:1])
    with pytest.raises(InputError, match="sessions of another decoder"):
        added(UpdatingRidge(1.0, folder=str(tmp_path)), parts)


@pytest.mark.parametrize("alpha", [1e-3, 1e3])
def test_rounding_errors_of_many_sessions_do_not_add_up(alpha):
    generator = np.random.default_rng(0)
    X = generator.standard_normal((440, 500)).astype(np.float32)
    X[:, :3] *= 20
    Y = (X[:, 3:9] @ generator.standard_normal((6, 4)) + generator.standard_normal((440, 4))).astype(np.float32)
    model = UpdatingRidge(alpha).fit(X[:400], Y[:400], sessions=np.arange(400) // 10)
    expected = (
        Ridge(alpha, solver="svd").fit(X[:400].astype(float), Y[:400].astype(float)).predict(X[400:].astype(float))
    )
    np.testing.assert_allclose(model.predict(X[400:]), expected, atol=1e-4 * np.abs(Y).max())


def test_it_is_an_estimator_of_scikit_learns_and_a_decoder_of_ours():
    check_estimator(UpdatingRidge(dtype="float64"), on_skip=None)
    for solver in ("dual", "primal"):
        check_decoder(UpdatingRidge([0.1, 1.0, 10.0], cv=3, solver=solver))
    check_decoder(UpdatingRidge(1.0, solver="dual"))
