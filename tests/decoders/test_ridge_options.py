"""Renormalized predictions, selected voxels, missing targets, targets and coordinates on disk."""

import json
import subprocess
import sys

import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.model_selection import KFold

from neurorecon.decoders import RidgeDecoder, load_decoder
from neurorecon.errors import InputError, UnknownNameError

ALPHAS = np.logspace(0, 4, 5)

SHAPES = pytest.mark.parametrize("shape", [(20, 35), (35, 20)], ids=["n<p", "n>p"])


def problem(n_samples, n_voxels, n_targets=6, seed=0):
    generator = np.random.default_rng(seed)
    X = generator.standard_normal((n_samples + 5, n_voxels))
    Y = X @ generator.standard_normal((n_voxels, n_targets)) / np.sqrt(n_voxels) + 3
    Y += generator.standard_normal(Y.shape) * np.geomspace(0.1, 5, n_targets)
    return X[:n_samples], Y[:n_samples], X[n_samples:]


def moments(values, weights):
    mean = np.average(values, axis=0, weights=weights)
    return mean, np.sqrt(np.average((values - mean) ** 2, axis=0, weights=weights))


@SHAPES
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("center", [False, True])
@pytest.mark.parametrize("renorm", ["train", "test"])
def test_predictions_get_the_moments_of_the_training_targets(shape, weighted, center, renorm):
    X, Y, X_new = problem(*shape)
    weights = np.ones(len(X))
    if weighted:
        weights = np.r_[0.0, 0.0, np.random.default_rng(1).random(len(X) - 2) + 0.1]
    stimulus = np.arange(len(X)) // 2
    predicted = Ridge(3.0, fit_intercept=center).fit(X, Y, sample_weight=weights).predict(X_new)
    mean, deviation = moments(predicted, None)
    if renorm == "train":
        left_out = np.empty_like(Y)
        for train, test in KFold(stimulus[-1] + 1).split(np.arange(stimulus[-1] + 1)):
            kept, out = np.isin(stimulus, train), np.isin(stimulus, test)
            model = Ridge(3.0, fit_intercept=center).fit(X[kept], Y[kept], sample_weight=weights[kept])
            left_out[out] = model.predict(X[out])
        mean, deviation = moments(left_out, weights)
    target_mean, target_deviation = moments(Y, weights)
    expected = (predicted - mean) / deviation * target_deviation + target_mean
    settings = {"renorm": renorm, "fit_intercept": center, "target_block": 4}
    arguments = {"groups": stimulus, "sample_weight": weights if weighted else None}
    for dtype, tolerance in (("float64", 1e-8), ("float32", 1e-4)):
        ours = RidgeDecoder(3.0, dtype=dtype, **settings)
        atol = tolerance * np.abs(expected).max()
        np.testing.assert_allclose(ours.fit(X, Y, **arguments).predict(X_new), expected, atol=atol)
        np.testing.assert_allclose(ours.fit_and_predict(X, Y, X_new, **arguments), expected, atol=atol)


def test_renormalization_by_test_moments_needs_several_predictions(tmp_path):
    X, Y, X_new = problem(20, 35)
    with pytest.raises(InputError, match="one sample have no standard deviation"):
        RidgeDecoder(renorm="test").fit(X, Y).predict(X_new[:1])
    decoder = RidgeDecoder(ALPHAS, alpha_per="target", renorm="train").fit(X, Y)
    one, all_ = decoder.predict(X_new[:1]), decoder.predict(X_new)
    np.testing.assert_allclose(one, all_[:1], rtol=1e-5)
    np.testing.assert_array_equal(load_decoder(decoder.save(tmp_path)).predict(X_new), all_)
    assert not hasattr(decoder.set_params(renorm=None).fit(X, Y), "target_deviation_")
    with pytest.raises(UnknownNameError, match="renormalization"):
        RidgeDecoder(renorm="trian").fit(X, Y)


def test_targets_that_cannot_be_predicted_get_their_mean():
    X, Y, X_new = problem(20, 35)
    Y[:, 1] = 7.0
    for renorm in ("train", "test"):
        np.testing.assert_allclose(RidgeDecoder(renorm=renorm).fit(X, Y).predict(X_new)[:, 1], 7.0, rtol=1e-5)


@SHAPES
@pytest.mark.parametrize("renorm", [None, "train", "test"])
def test_how_well_left_out_samples_are_predicted(shape, renorm, tmp_path):
    X, Y, X_new = problem(*shape)
    Y[:, 1] = 7.0
    groups = np.arange(len(X)) // 2
    predicted = np.empty_like(Y)
    for group in np.unique(groups):
        held = groups == group
        predicted[held] = Ridge(5.0).fit(X[~held], Y[~held]).predict(X[held])
    expected = [
        0.0 if column == 1 else np.corrcoef(*pair)[0, 1]
        for column, pair in enumerate(zip(Y.T, predicted.T, strict=True))
    ]
    options = {"renorm": renorm, "dtype": "float64"}
    decoder = RidgeDecoder(5.0, score_left_out=True, **options).fit(X, Y, groups)
    np.testing.assert_allclose(decoder.left_out_correlation_, expected, atol=1e-8)
    plain = RidgeDecoder(5.0, **options).fit(X, Y, groups)
    np.testing.assert_array_equal(decoder.predict(X_new), plain.predict(X_new))
    assert not hasattr(plain, "left_out_correlation_")
    np.testing.assert_array_equal(
        load_decoder(decoder.save(tmp_path)).left_out_correlation_, decoder.left_out_correlation_
    )
    streamed = RidgeDecoder(5.0, score_left_out=True, **options)
    np.testing.assert_allclose(
        streamed.fit_and_predict(X, Y, X_new, groups), plain.fit_and_predict(X, Y, X_new, groups), atol=1e-10
    )
    np.testing.assert_allclose(streamed.left_out_correlation_, expected, atol=1e-8)


def correlations(X, Y):
    with np.errstate(invalid="ignore"):
        both = np.corrcoef(X.T, Y.T)[: X.shape[1], X.shape[1] :]
    return np.nan_to_num(np.abs(both)).mean(axis=1)


@SHAPES
@pytest.mark.parametrize("alpha_per", ["all", "target"])
def test_voxels_are_selected_in_the_training_samples_of_each_fold(shape, alpha_per):
    X, Y, X_new = problem(*shape)
    expected = np.zeros((len(ALPHAS), Y.shape[1]))
    for train, test in KFold(4).split(X):
        chosen = np.sort(np.argsort(-correlations(X[train], Y[train]))[:8])
        for row, alpha in zip(expected, ALPHAS, strict=True):
            predicted = Ridge(alpha).fit(X[train][:, chosen], Y[train]).predict(X[test][:, chosen])
            row += ((Y[test] - predicted) ** 2).mean(axis=0) / 4
    ours = RidgeDecoder(ALPHAS, alpha_per=alpha_per, cv=4, select_voxels=8, dtype="float64").fit(X, Y)
    scores = expected if alpha_per == "target" else expected.mean(axis=1)
    np.testing.assert_allclose(-ours.cv_scores_, scores, rtol=1e-8)
    chosen = np.sort(np.argsort(-correlations(X, Y))[:8])
    np.testing.assert_array_equal(ours.selected_voxels_, chosen)
    theirs = Ridge(ours.alpha_).fit(X[:, chosen], Y)
    np.testing.assert_allclose(ours.predict(X_new), theirs.predict(X_new[:, chosen]), atol=1e-8)
    np.testing.assert_allclose(ours.fit_and_predict(X, Y, X_new), theirs.predict(X_new[:, chosen]), atol=1e-8)
    ours.fit(X, Y)
    np.testing.assert_allclose(ours.coef_[:, chosen], theirs.coef_, atol=1e-8)
    assert ours.coef_.shape == (6, shape[1])
    assert not np.delete(ours.coef_, chosen, axis=1).any()
    assert np.isnan(np.delete(ours.haufe_patterns(), chosen, axis=1)).all()


def test_rules_of_selection():
    X, Y, _ = problem(20, 35)
    X[:, 4] = 2.0
    values = correlations(X, np.delete(Y, 0, axis=1))
    Y[:, 0] = 1.0
    values *= 5 / 6
    for rule, expected in (
        (0.2, np.argsort(-values)[:7]),
        (">0.15", np.flatnonzero(values > 0.15)),
        (99, np.arange(35)),
    ):
        decoder = RidgeDecoder(select_voxels=rule, cv="gcv").fit(X, Y)
        np.testing.assert_array_equal(decoder.selected_voxels_, np.sort(expected))
    assert not hasattr(decoder.set_params(select_voxels=None).fit(X, Y), "selected_voxels_")
    with pytest.raises(InputError, match="no voxel correlates"):
        RidgeDecoder(select_voxels=">0.99").fit(X, Y)
    for rule in (0, 1.5, "0.1", ">x", True):
        with pytest.raises(InputError, match="cannot be selected by this rule"):
            RidgeDecoder(select_voxels=rule).fit(X, Y)


def test_selection_outside_the_folds_would_find_what_is_not_there():
    generator = np.random.default_rng(0)
    X, Y = generator.standard_normal((40, 2000)), generator.standard_normal((40, 1))
    chosen = RidgeDecoder(select_voxels=20).fit(X, Y).selected_voxels_
    inside = RidgeDecoder([10.0, 1e6], select_voxels=20).fit(X, Y)
    outside = RidgeDecoder([10.0, 1e6]).fit(X[:, chosen], Y)
    assert outside.cv_scores_[0] > -0.6 * Y.var()
    assert inside.cv_scores_[0] < -0.9 * Y.var()


@SHAPES
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("alpha_per", ["all", "target"])
@pytest.mark.parametrize("cv", [3, "gcv"])
def test_missing_targets_are_fitted_on_the_samples_that_have_them(shape, weighted, alpha_per, cv):
    X, Y, X_new = problem(*shape)
    Y[3, 1] = np.nan
    Y[5:9, 2:4] = np.nan
    weights = np.random.default_rng(1).random(len(X)) + 0.1 if weighted else None
    settings = {"alpha_per": alpha_per, "cv": cv, "missing": "omit", "target_block": 4}
    ours = RidgeDecoder(ALPHAS, dtype="float64", **settings).fit(X, Y, sample_weight=weights)
    single = RidgeDecoder(ours.alpha_, missing="omit") if alpha_per == "all" else None
    for target, alpha in enumerate(np.broadcast_to(ours.alpha_, 6)):
        has = ~np.isnan(Y[:, target])
        kept = None if weights is None else weights[has]
        theirs = Ridge(alpha).fit(X[has], Y[has, target], sample_weight=kept)
        np.testing.assert_allclose(ours.predict(X_new)[:, target], theirs.predict(X_new), atol=1e-8)
        np.testing.assert_allclose(ours.coef_[target], theirs.coef_, atol=1e-8)
        if single is not None:
            found = single.fit(X, Y, sample_weight=weights).predict(X_new)[:, target]
            np.testing.assert_allclose(found, theirs.predict(X_new), atol=3e-4)
        elif cv == "gcv":
            alone = RidgeDecoder(ALPHAS, cv=cv, dtype="float64").fit(X[has], Y[has, target], sample_weight=kept)
            np.testing.assert_allclose(ours.cv_scores_[:, target], alone.cv_scores_, rtol=1e-8)
    np.testing.assert_allclose(
        ours.fit_and_predict(X, Y, X_new, sample_weight=weights), ours.predict(X_new), atol=1e-10
    )


def test_missing_targets_that_cannot_be_fitted_are_explained():
    X, Y, _ = problem(100, 5, 80)
    with pytest.raises(InputError, match="contain NaN"):
        RidgeDecoder().fit(X, np.where(np.eye(100, 80), np.nan, Y))
    with pytest.raises(InputError, match="too many patterns"):
        RidgeDecoder(missing="omit").fit(X, np.where(np.eye(100, 80), np.nan, Y))
    with pytest.raises(InputError, match="contain infinity"):
        RidgeDecoder(missing="omit").fit(X, np.where(np.eye(100, 80), np.inf, Y))
    lonely = Y[:, :2].copy()
    lonely[1:, 1] = np.nan
    with pytest.raises(InputError, match="missing in nearly all"):
        RidgeDecoder(missing="omit").fit(X, lonely)
    lonely[1:20, 1] = 0.0
    with pytest.raises(InputError, match="all in one fold"):
        RidgeDecoder(ALPHAS, missing="omit", cv=5).fit(X, lonely)
    with pytest.raises(InputError, match="cannot be combined"):
        RidgeDecoder(missing="omit", renorm="train").fit(X, Y)
    with pytest.raises(UnknownNameError, match="missing targets"):
        RidgeDecoder(missing="drop").fit(X, Y)


def test_coordinates_may_be_kept_on_disk(tmp_path):
    X, Y, X_new = problem(20, 35, 24)
    for cv in (3, "gcv"):
        decoder = RidgeDecoder(ALPHAS, cv=cv, alpha_per="target", target_block=5).fit(X, Y)
        expected = decoder.predict(X_new)
        decoder.fit(X, Y, coordinates=tmp_path / "coordinates.npy")
        assert isinstance(decoder.coordinates_, np.memmap)
        np.testing.assert_array_equal(decoder.predict(X_new), expected)
        blocks = {columns.start: values for columns, values in decoder.predict_blocks(X_new)}
        np.testing.assert_array_equal(np.concatenate([blocks[start] for start in sorted(blocks)], axis=1), expected)
    assert load_decoder(decoder.save(tmp_path / "decoder")).coordinates_.shape == decoder.coordinates_.shape


PEAK = """
import json, resource, sys
import numpy as np
from neurorecon.decoders import RidgeDecoder

class Drawn:
    shape, dtype = (100, 350_000), np.dtype("float32")
    values = np.random.default_rng(0).standard_normal((100, 1000)).astype(np.float32)
    def __getitem__(self, key):
        return np.tile(self.values, 1 + (key[1].stop - key[1].start) // 1000)[:, : key[1].stop - key[1].start]

generator = np.random.default_rng(0)
X, X_new = generator.standard_normal((120, 150)).astype(np.float32), generator.standard_normal((50, 150))
decoder = RidgeDecoder(10.0, target_block=20_000)
decoder.fit(X[:100], Drawn.values)
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
before = peak()
decoder.fit(X[:100], Drawn(), coordinates=sys.argv[1] + "/coordinates.npy")
out = np.lib.format.open_memmap(sys.argv[1] + "/out.npy", mode="w+", dtype=np.float32, shape=(50, 350_000))
decoder.predict(X_new, out=out)
fitted = peak() - before
decoder.fit_and_predict(X[:100], Drawn(), X_new, out=out)
print(json.dumps([fitted, peak() - before]))
"""


def test_350_000_targets_take_the_memory_of_two_blocks(tmp_path):
    found = subprocess.run(
        [sys.executable, "-c", PEAK, str(tmp_path)], check=True, capture_output=True, text=True, timeout=600
    )
    fitted, smoothed = json.loads(found.stdout)
    # Targets and coordinates are 134 MiB each, predictions 67 MiB; a block of targets is 8 MiB.
    assert fitted < 60
    assert smoothed < 60
