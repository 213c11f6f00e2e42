"""Refit permutation tests beside refitting with himalaya and scikit-learn, permutation by permutation."""

import numpy as np
import pytest
from himalaya.kernel_ridge import KernelRidgeCV
from himalaya.ridge import Ridge, RidgeCV
from scipy import stats
from sklearn.linear_model import Ridge as ReferenceRidge
from sklearn.model_selection import GroupKFold

from neurorecon.decoders.banded import BandedRidge
from neurorecon.decoders.validation import correlation_score, r2_score
from neurorecon.errors import InputError, UnknownNameError
from neurorecon.stats import (
    max_statistic_p,
    permutation_p,
    refit_permutation_test,
    refit_permutation_test_kernels,
    refit_warnings,
)
from neurorecon.stats.permutation import UnitPermutations

ALPHAS = np.logspace(-1, 4, 6)


def data(seed=0, n=40, n_test=15, features=12, voxels=7, signal=0.3):
    random = np.random.default_rng(seed)
    x = random.standard_normal((n + n_test, features)) * np.linspace(0.2, 2, features) + 3
    weights = signal * random.standard_normal((features, voxels))
    y = x @ weights + random.standard_normal((n + n_test, voxels)) + 5
    return x[:n], y[:n], x[n:], y[n:]


def agrees(test, scores, tolerance):
    """Compare with scores of fits one after the other: first the order shown, then the permuted ones."""
    observed, null = scores[0], np.stack(scores[1:])
    np.testing.assert_allclose(test.observed, observed, rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(test.null_mean, null.mean(axis=0), rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(test.null_max, null.max(axis=1), rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(test.p, permutation_p(observed, null), atol=1e-12)


@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-8), ("float32", 1e-4)])
@pytest.mark.parametrize("features", [12, 60], ids=["n>p", "n<p"])
@pytest.mark.parametrize(("statistic", "score"), [("r2", r2_score), ("correlation", correlation_score)])
def test_folds_give_the_numbers_of_himalaya(dtype, tolerance, features, statistic, score):
    x, y, x_test, y_test = data(features=features)
    units = np.arange(40) // 2
    folds = list(GroupKFold(4).split(x, groups=units))
    keywords = {"alphas": ALPHAS, "cv": folds, "units": units, "n_permutations": 4, "seed": 3}
    keywords |= {"statistic": statistic, "dtype": dtype}
    test = refit_permutation_test(x, y, x_test, y_test, **keywords)
    reference = RidgeCV if features == 12 else KernelRidgeCV
    models = [
        reference(alphas=ALPHAS, cv=folds, fit_intercept=True).fit(x, y[rows])
        for rows in (np.arange(40), *UnitPermutations(40, 4, 3, units))
    ]
    agrees(test, [score(y_test, model.predict(x_test)) for model in models], tolerance)
    np.testing.assert_allclose(test.alphas, models[0].best_alphas_)
    dual = refit_permutation_test_kernels(x @ x.T, y, x_test @ x.T, y_test, **keywords)
    np.testing.assert_allclose(dual.null_max, test.null_max, rtol=tolerance, atol=tolerance)
    np.testing.assert_array_equal(dual.p, test.p)


@pytest.mark.parametrize("features", [12, 60], ids=["n>p", "n<p"])
def test_generalized_cross_validation_is_that_of_the_smoother_of_scikit_learn(features):
    x, y, x_test, y_test = data(features=features)
    smoothers = [ReferenceRidge(alpha).fit(x, np.eye(40)).predict(x) for alpha in ALPHAS]
    scores, first = [], None
    for rows in (np.arange(40), *UnitPermutations(40, 4, 3)):
        permuted = y[rows]
        losses = [((permuted - h @ permuted) ** 2).sum(0) / np.trace(np.eye(40) - h) ** 2 for h in smoothers]
        best = ALPHAS[np.argmin(losses, axis=0)]
        first = best if first is None else first
        model = Ridge(alpha=best, fit_intercept=True).fit(x, permuted) if features == 12 else None
        if model is None:  # himalaya's Ridge is not for more features than samples
            fits = [ReferenceRidge(alpha).fit(x, permuted[:, v]).predict(x_test) for v, alpha in enumerate(best)]
            scores.append(r2_score(y_test, np.stack(fits, axis=1)))
        else:
            scores.append(r2_score(y_test, model.predict(x_test)))
    for dtype, tolerance in (("float64", 1e-8), ("float32", 1e-4)):
        test = refit_permutation_test(x, y, x_test, y_test, alphas=ALPHAS, n_permutations=4, seed=3, dtype=dtype)
        agrees(test, scores, tolerance)
        np.testing.assert_array_equal(test.alphas, first)
    assert len(np.unique(first)) > 1


@pytest.mark.parametrize("device", ["cpu", "torch"])
def test_bands_with_fixed_mixtures_are_those_of_banded_ridge(device):
    x, y, x_test, y_test = data(features=10, voxels=6, n_test=30)
    bands = {"a": slice(0, 4), "b": slice(4, 10)}
    mixtures = np.array([[0.8, 0.2], [1.0, 0.0]])
    member = np.array([0, 1, 0, 0, 1, 0])
    test = refit_permutation_test(
        x, y, x_test, y_test, alphas=[3.0], bands=bands, mixtures=mixtures[member].T,
        n_permutations=4, dtype="float64", device=device,
    )  # fmt: skip
    joint, shares = [], []
    for rows in (np.arange(40), *UnitPermutations(40, 4, 0)):
        scores, split = np.empty(6), np.empty((2, 6))
        for number, mixture in enumerate(mixtures):
            voxels = member == number
            model = BandedRidge(bands, alphas=[3.0], n_iter=mixture[None], dtype="float64")
            model.fit(x, y[rows][:, voxels])
            scores[voxels] = r2_score(y_test[:, voxels], model.predict(x_test))
            true = y_test[:, voxels]
            parts = model.predict(x_test, split=True)
            against = 2 * (true - y[:, voxels].mean(0)) - parts.sum(0)
            split[:, voxels] = (parts * against).sum(1) / ((true - true.mean(0)) ** 2).sum(0)
        joint.append(scores)
        shares.append(split)
    agrees(test, joint, 1e-8)
    null = np.stack(shares[1:])
    np.testing.assert_allclose(test.split.observed, shares[0], atol=1e-8)
    np.testing.assert_allclose(test.split.p, permutation_p(shares[0], null), atol=1e-12)
    np.testing.assert_allclose(test.split.null_max, null.max(axis=2).T, atol=1e-8)
    kernels = [np.stack([rows[:, band] @ x[:, band].T for band in bands.values()]) for rows in (x, x_test)]
    dual = refit_permutation_test_kernels(
        kernels[0], y, kernels[1], y_test, alphas=3.0, mixtures=mixtures[member].T, n_permutations=4, dtype="float64"
    )
    np.testing.assert_allclose(dual.split.null_max, test.split.null_max, atol=1e-8)


CANDIDATES = np.array([[0.5, 0.5], [1, 0], [0, 1]])


@pytest.mark.parametrize("device", ["cpu", "torch"])
def test_mixtures_are_searched_again_in_every_permutation_as_himalaya_does(device):
    x, y, x_test, y_test = data(features=10, voxels=60, n_test=30)
    bands = {"a": slice(0, 4), "b": slice(4, 10)}
    folds = list(GroupKFold(4).split(x, groups=np.arange(40) // 2))
    keywords = {"alphas": ALPHAS, "cv": folds, "n_permutations": 4, "dtype": "float64", "device": device}
    test = refit_permutation_test(x, y, x_test, y_test, bands=bands, mixtures="search", **keywords)
    joint, shares, models = [], [], []
    total = ((y_test - y_test.mean(axis=0)) ** 2).sum(axis=0)
    for rows in (np.arange(40), *UnitPermutations(40, 4, 0)):
        model = BandedRidge(
            bands, alphas=ALPHAS, n_iter=CANDIDATES, cv=folds, dtype="float64", solver="random_search"
        ).fit(x, y[rows])
        parts = model.predict(x_test, split=True)
        against = 2 * (y_test - y.mean(axis=0)) - parts.sum(axis=0)
        shares.append((parts * against).sum(axis=1) / total)
        joint.append(r2_score(y_test, model.predict(x_test)))
        models.append(model)
    # The search matters: most voxels choose another mixture somewhere.
    assert (np.stack([model.mixtures_ for model in models]).std(axis=0).max(axis=0) > 0.1).mean() > 0.5
    agrees(test, joint, 1e-6)
    np.testing.assert_allclose(test.mixtures, models[0].mixtures_, atol=1e-10)
    np.testing.assert_allclose(test.alphas, models[0].alphas_)
    null = np.stack(shares[1:])
    np.testing.assert_allclose(test.split.observed, shares[0], atol=1e-6)
    np.testing.assert_allclose(test.split.p, permutation_p(shares[0], null), atol=1e-12)
    np.testing.assert_allclose(test.split.null_max, null.max(axis=2).T, atol=1e-6)
    kernels = [np.stack([rows[:, band] @ x[:, band].T for band in bands.values()]) for rows in (x, x_test)]
    dual = refit_permutation_test_kernels(kernels[0], y, kernels[1], y_test, candidates=CANDIDATES, **keywords)
    np.testing.assert_allclose(dual.null_max, test.null_max, atol=1e-8)
    np.testing.assert_array_equal(dual.mixtures, test.mixtures)


@pytest.mark.parametrize("alphas", [ALPHAS, [3.0]], ids=["alphas", "one alpha"])
def test_mixture_and_alpha_have_the_lowest_generalized_error_of_all(alphas):
    x, y, x_test, y_test = data(features=10, voxels=60)
    bands = {"a": slice(0, 4), "b": slice(4, 10)}
    test = refit_permutation_test(
        x, y, x_test, y_test, alphas=alphas, bands=bands, mixtures="search", n_permutations=3, dtype="float64"
    )
    centered = (x - x.mean(axis=0), x_test - x.mean(axis=0))
    losses, predictions = [], []
    for mixture in CANDIDATES:
        scales = [
            (mixture[number] / centered[0][:, band].var(axis=0).sum()) for number, band in enumerate(bands.values())
        ]
        weighted = [
            np.concatenate(
                [part[:, band] * scale**0.5 for band, scale in zip(bands.values(), scales, strict=True)], axis=1
            )
            for part in centered
        ]
        for alpha in alphas:
            h = ReferenceRidge(alpha).fit(weighted[0], np.eye(40)).predict(weighted[0])
            losses.append(((y - h @ y) ** 2).sum(axis=0) / np.trace(np.eye(40) - h) ** 2)
            predictions.append(ReferenceRidge(alpha).fit(weighted[0], y).predict(weighted[1]))
    best = np.argmin(losses, axis=0)
    np.testing.assert_array_equal(test.mixtures, CANDIDATES[best // len(alphas)].T)
    np.testing.assert_allclose(test.alphas, np.asarray(alphas)[best % len(alphas)])
    predicted = np.stack(predictions)[best, :, np.arange(60)].T
    np.testing.assert_allclose(test.observed, r2_score(y_test, predicted), atol=1e-8)
    assert len(np.unique(best)) > 1


def test_a_search_is_the_same_in_parts_and_over_few_scores(monkeypatch):
    x, y, x_test, y_test = data(features=10, voxels=150)
    rois = np.arange(150) < [[70], [20]]
    bands = {"a": slice(0, 4), "b": slice(4, 10)}
    keywords = {"alphas": ALPHAS, "n_permutations": 20, "groups": rois, "bands": bands, "dtype": "float64"}
    whole = refit_permutation_test(x, y, x_test, y_test, mixtures="search", **keywords)
    monkeypatch.setattr("neurorecon.stats.refit._SCORE_BYTES", 0)
    parts = refit_permutation_test(x, y, x_test, y_test, mixtures="search", **keywords)
    for name in ("observed", "p", "null_mean", "null_max", "alphas", "mixtures"):
        np.testing.assert_allclose(getattr(whole, name), getattr(parts, name), atol=1e-12)
    np.testing.assert_allclose(whole.groups.null, parts.groups.null, atol=1e-12)
    # One candidate is a fixed mixture, and a band that never varies is not chosen alone.
    fixed, one = (
        refit_permutation_test(x, y, x_test, y_test, **keywords, **given)
        for given in ({"mixtures": np.full((2, 150), 0.5)}, {"candidates": CANDIDATES[:1]})
    )
    np.testing.assert_array_equal(fixed.p, one.p)
    x[:, :4] = x_test[:, :4] = 7
    constant = refit_permutation_test(x, y, x_test, y_test, mixtures="search", **keywords)
    alone = refit_permutation_test(x[:, 4:], y, x_test[:, 4:], y_test, alphas=ALPHAS, n_permutations=20)
    assert np.isfinite(constant.null_max).all()
    assert (constant.observed > alone.observed - 0.1).mean() > 0.9


def test_there_may_be_fewer_orders_than_were_asked_for(monkeypatch):
    """All five orders of three runs, as if enumerated."""
    orders = np.array([[0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]])
    monkeypatch.setattr("neurorecon.stats.permutation.stimulus_permutations", lambda *_: orders)
    x, y, x_test, y_test = data(n=42)
    test = refit_permutation_test(
        x, y, x_test, y_test, alphas=ALPHAS, units=np.arange(42) // 14, n_permutations=999, groups=np.ones((1, 7))
    )
    assert test.n_permutations == len(test.null_max) == 5
    assert test.groups.null.shape == (1, 5)
    assert np.isfinite(test.groups.p).all()
    assert test.p.min() >= 1 / 6
    np.testing.assert_allclose(test.p * 6, np.round(test.p * 6))


def test_covariance_is_that_of_predictions_and_responses():
    x, y, x_test, y_test = data(features=10, n_test=5)
    bands = {"a": slice(0, 4), "b": slice(4, 10)}
    keywords = {"alphas": 3.0, "bands": bands, "candidates": CANDIDATES[:1], "n_permutations": 19, "dtype": "float64"}
    test = refit_permutation_test(x, y, x_test, y_test, statistic="covariance", **keywords)
    model = BandedRidge(bands, alphas=[3.0], n_iter=CANDIDATES[:1], dtype="float64").fit(x, y)
    centered = y_test - y_test.mean(axis=0)
    wanted = (model.predict(x_test, split=True) * centered).mean(axis=1) / y_test.var(axis=0)
    np.testing.assert_allclose(test.split.observed, wanted, atol=1e-8)
    np.testing.assert_allclose(test.observed, wanted.sum(axis=0), atol=1e-8)
    assert test.statistic == "covariance"
    # p does not depend on what responses are measured in.
    small = refit_permutation_test(x, y / 1e6, x_test, y_test / 1e6, statistic="covariance", **keywords)
    np.testing.assert_array_equal(small.p, test.p)


def test_units_that_are_too_short_or_too_few_are_warned_of():
    assert refit_warnings(np.arange(300) // 30, ordered=True, shown=np.arange(300)) == ()
    assert refit_warnings(np.arange(300), ordered=False) == ()
    (short,) = refit_warnings(np.arange(300) // 10, ordered=True)
    assert "stretches of 10 samples" in short
    (few,) = refit_warnings(np.arange(300) // 100, ordered=True, n_permutations=999)
    assert "3 of 3 units can trade places, in 6 orders: p is at least 0.17" in few
    # Two runs of 100 volumes and two of 50: four orders, within sessions one.
    lengths = np.repeat(np.arange(4), [100, 100, 50, 50])
    assert "4 of 4 units can trade places, in 4 orders" in refit_warnings(lengths, ordered=True)[0]
    by_session = refit_warnings(lengths, ordered=True, within=np.repeat([0, 1, 2], [200, 50, 50]))
    assert "2 of 4 units can trade places, in 2 orders" in by_session[0]
    (same,) = refit_warnings(np.arange(300) // 30, ordered=True, shown=np.arange(300) % 30)
    assert "nothing changes" in same


@pytest.mark.parametrize("statistic", ["r2", "correlation"])
def test_p_is_uniform_under_the_null_and_a_planted_effect_is_found(statistic):
    random = np.random.default_rng(1)
    x, noise = random.standard_normal((130, 15)), random.standard_normal((130, 400))
    session = np.repeat([0, 1], 50)
    noise[:50] += 3  # a baseline of the first session, in training only
    x[:50] += 1
    y = noise.copy()
    y[:, :100] += 0.8 * x @ random.standard_normal((15, 100))
    test = refit_permutation_test(
        x[:100], y[:100], x[100:], y[100:], alphas=np.logspace(0, 3, 4), within=session,
        n_permutations=199, statistic=statistic,
    )  # fmt: skip
    assert stats.kstest(test.p[100:], "uniform").pvalue > 0.01
    assert (test.p[:100] <= 0.05).mean() > 0.9
    corrected = max_statistic_p(test.observed, test.null_max)
    assert (corrected[100:] <= 0.05).mean() < 0.01
    assert (corrected[:100] <= 0.05).mean() > 0.8


def test_series_are_permuted_by_runs_because_samples_would_not_do():
    random = np.random.default_rng(2)
    kernel = np.exp(-np.arange(12) / 4)

    def smooth(shape):
        white = random.standard_normal((shape[0] + 11, shape[1]))
        return np.stack([kernel @ white[t : t + 12] for t in range(shape[0])])

    x, y = smooth((360, 6)), smooth((360, 400))
    runs = np.arange(300) // 15
    arguments = (x[:300], y[:300], x[300:], y[300:])
    keywords = {"alphas": 1.0, "n_permutations": 99}
    by_run = refit_permutation_test(*arguments, units=runs, **keywords)
    by_sample = refit_permutation_test(*arguments, **keywords)
    extreme = [((test.p <= 0.05) | (test.p >= 0.95)).mean() for test in (by_run, by_sample)]
    # A tenth of the p-values of noise should be as extreme; models of traded volumes are too flat.
    assert extreme[0] < 0.2
    assert extreme[1] > 0.35


def test_blocks_of_voxels_files_and_torch_change_nothing(monkeypatch, tmp_path):
    x, y, x_test, y_test = data(voxels=150)
    rois = np.arange(150) < [[70], [20]]
    keywords = {"alphas": ALPHAS, "n_permutations": 60, "groups": rois, "dtype": "float64"}
    whole = refit_permutation_test(x, y, x_test, y_test, **keywords)
    monkeypatch.setattr("neurorecon.stats.refit._BLOCK_BYTES", 0)
    stored = np.memmap(tmp_path / "responses", dtype=np.float64, mode="w+", shape=y.shape)
    stored[:] = y
    blocks = refit_permutation_test(x, stored, x_test, y_test, **keywords)
    torch = refit_permutation_test(x, y, x_test, y_test, device="torch", **keywords)
    for other in (blocks, torch):
        for name in ("observed", "p", "null_mean", "null_max", "alphas"):
            np.testing.assert_allclose(getattr(whole, name), getattr(other, name), atol=1e-12)
        np.testing.assert_allclose(whole.groups.null, other.groups.null, atol=1e-12)
    np.testing.assert_allclose(whole.groups.observed, [whole.observed[:70].mean(), whole.observed[:20].mean()])
    assert whole.p.min() == 1 / 61
    again = refit_permutation_test(x, y, x_test, y_test, **keywords)
    np.testing.assert_array_equal(blocks.null_mean, again.null_mean)


def test_many_test_samples_are_scored_in_the_space_of_the_components():
    x, y, x_test, y_test = data(features=5, n_test=200)
    folds = list(GroupKFold(3).split(x, groups=np.arange(40)))
    for statistic, score in (("r2", r2_score), ("correlation", correlation_score)):
        test = refit_permutation_test(
            x, y, x_test, y_test, alphas=ALPHAS, cv=folds, n_permutations=2, statistic=statistic, dtype="float64"
        )
        model = RidgeCV(alphas=ALPHAS, cv=folds, fit_intercept=True).fit(x, y)
        np.testing.assert_allclose(test.observed, score(y_test, model.predict(x_test)), atol=1e-8)


def test_sums_over_repeats_are_as_good_as_the_repeats(monkeypatch):
    x, y, x_test, y_test = data(n=60)
    stimulus = np.random.default_rng(0).permutation(np.repeat(np.arange(20), 3))
    x = x[stimulus]
    sources = [(x, y, x_test, y_test), (x @ x.T, y, x_test @ x.T, y_test)]
    tests = (refit_permutation_test, refit_permutation_test_kernels)
    keywords = {"alphas": ALPHAS, "units": stimulus, "n_permutations": 20, "dtype": "float64"}
    products = []

    class Counting(UnitPermutations):
        def sums(self, values):
            products.append(values.shape)
            return super().sums(values)

    monkeypatch.setattr("neurorecon.stats.refit.UnitPermutations", Counting)
    summed = [test(*arrays, **keywords) for test, arrays in zip(tests, sources, strict=True)]
    assert products == [(60, 7)] * 2
    for source in ("FeatureSource", "KernelSource"):
        monkeypatch.setattr(f"neurorecon.stats.refit.{source}.is_repeated", lambda self, labels: False)
    whole = refit_permutation_test(*sources[0], **keywords)
    for test in summed:
        for name in ("observed", "p", "null_mean", "null_max", "alphas"):
            np.testing.assert_allclose(getattr(test, name), getattr(whole, name), atol=1e-10)


@pytest.mark.parametrize("statistic", ["r2", "correlation"])
def test_voxels_and_features_that_do_not_vary(statistic):
    x, y, x_test, y_test = data()
    x[:, 0] = x_test[:, 0] = 7
    y[:, 0], y_test[:, 1] = 0.1, 0.3
    test = refit_permutation_test(x, y, x_test, y_test, alphas=ALPHAS, n_permutations=9, statistic=statistic)
    assert test.p[0] == 1
    assert np.isnan(test.observed[1])
    assert np.isnan(test.p[1])
    assert np.isfinite(test.null_max).all()
    nothing = refit_permutation_test(
        np.ones((40, 3)), y, np.ones((15, 3)), y_test, alphas=1.0, n_permutations=9, statistic=statistic
    )
    np.testing.assert_array_equal(np.delete(nothing.p, 1), 1)


def test_what_cannot_be_tested_is_refused():
    x, y, x_test, y_test = data()
    for wrong in ((x[1:], y, x_test, y_test), (x, y, x_test, y_test[1:]), (x, y[:, :3], x_test, y_test)):
        with pytest.raises(InputError, match="do not match the features"):
            refit_permutation_test(*wrong, alphas=1.0)
    with pytest.raises(InputError, match="training and test features"):
        refit_permutation_test(x, y, x_test[:, 1:], y_test, alphas=1.0)
    with pytest.raises(InputError, match="must be positive"):
        refit_permutation_test(x, y, x_test, y_test, alphas=[0.0, 1.0])
    with pytest.raises(UnknownNameError, match="way to choose alpha"):
        refit_permutation_test(x, y, x_test, y_test, alphas=1.0, cv="loo")
    with pytest.raises(UnknownNameError, match="statistic"):
        refit_permutation_test(x, y, x_test, y_test, alphas=1.0, statistic="mse")
    with pytest.raises(InputError, match="samples of one unit on both sides"):
        refit_permutation_test(x, y, x_test, y_test, alphas=ALPHAS, units=np.arange(40) // 2, cv=[([0, 2], [1, 3])])
    with pytest.raises(InputError, match="need mixtures"):
        refit_permutation_test(x, y, x_test, y_test, alphas=1.0, bands={"a": slice(0, 4), "b": slice(4, 12)})
    with pytest.raises(InputError, match="each feature must be in exactly one band"):
        refit_permutation_test(x, y, x_test, y_test, alphas=1.0, bands={"a": slice(0, 4)}, mixtures=np.ones((1, 7)))
    with pytest.raises(InputError, match="mixtures do not match"):
        refit_permutation_test(x, y, x_test, y_test, alphas=1.0, mixtures=np.ones((1, 3)))
    two = {"alphas": 1.0, "bands": {"a": slice(0, 4), "b": slice(4, 12)}}
    for wrong in (np.ones((2, 3)), np.ones(2), np.zeros((1, 2)), [[1, -1]], [[1, np.nan]], np.ones((0, 2))):
        with pytest.raises(InputError, match="candidate mixtures do not match"):
            refit_permutation_test(x, y, x_test, y_test, candidates=wrong, **two)
    for mixtures in ("best", np.ones((2, 7))):
        with pytest.raises(InputError, match="either given or searched"):
            refit_permutation_test(x, y, x_test, y_test, mixtures=mixtures, candidates=[[1, 1]], **two)
    with pytest.raises(InputError, match="NaN"):
        refit_permutation_test(x, y * np.nan, x_test, y_test, alphas=1.0)
    with pytest.raises(InputError, match="kernels do not match"):
        refit_permutation_test_kernels(x, y, x_test, y_test, alphas=1.0)
