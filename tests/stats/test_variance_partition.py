"""Partitions of variance beside the formulas of the papers, sets, and exact regressions."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LinearRegression
from sklearn.metrics import r2_score

from neurorecon.errors import InputError, UnknownNameError
from neurorecon.stats import (
    band_combinations,
    jackknife_interval,
    jackknife_r2,
    partition_predictions,
    variance_partition,
)


def test_two_bands_are_those_of_borcard():
    found = variance_partition({"a": [0.3, 0.2], "b": [0.4, 0.1], ("a", "b"): [0.5, 0.4]})
    np.testing.assert_allclose(found.unique, [[0.1, 0.3], [0.2, 0.2]])
    np.testing.assert_allclose(found.of("b", "a"), [0.2, -0.1])  # a + b - ab
    np.testing.assert_allclose(found.shared, [[0.2, -0.1]] * 2)
    np.testing.assert_allclose(found.values.sum(axis=0), found.joint)


def test_three_bands_are_those_of_de_heer():
    scores = np.random.default_rng(0).uniform(0, 1, (7, 5))
    a, b, c, ab, ac, bc, abc = scores
    found = variance_partition(dict(zip(band_combinations("abc"), scores, strict=True)))
    np.testing.assert_allclose(found.unique, [abc - bc, abc - ac, abc - ab])
    np.testing.assert_allclose(found.of("a", "b"), ac + bc - c - abc)
    np.testing.assert_allclose(found.of("a", "c"), ab + bc - b - abc)
    np.testing.assert_allclose(found.of("b", "c"), ab + ac - a - abc)
    np.testing.assert_allclose(found.of("a", "b", "c"), a + b + c - ab - ac - bc + abc)


@settings(max_examples=30, deadline=None)
@given(n_bands=st.integers(2, 5), seed=st.integers(0, 999))
def test_overlapping_sets_are_taken_apart(n_bands, seed):
    """R2 that behaves like the area of a Venn diagram: every region comes back."""
    random = np.random.default_rng(seed)
    bands = [f"band{number}" for number in range(n_bands)]
    regions = {part: random.uniform(0, 1, 3) for part in band_combinations(bands)}
    covered = {model: sum(roi for region, roi in regions.items() if set(region) & set(model)) for model in regions}
    shuffled = {tuple(random.permutation(model)): covered[model] for model in covered}
    found = variance_partition(shuffled)
    for region, roi in regions.items():
        np.testing.assert_allclose(found.of(*region), roi, atol=1e-10)
    for number, band in enumerate(found.bands):
        np.testing.assert_allclose(found.unique[number] + found.shared[number], covered[(band,)], atol=1e-10)


def planted(seed, n=4000, noise=1.0):
    """Return bands of which the first two overlap, responses, and the variance that each part makes up."""
    random = np.random.default_rng(seed)
    common, own_a, own_b, c = random.standard_normal((4, n, 3))
    bands = {"a": np.hstack([common, own_a]), "b": np.hstack([common, own_b]), "c": c}
    weights = {"a": 0.5, "b": 0.3, "c": 0.4, "ab": 0.7}
    parts = {"a": own_a, "b": own_b, "c": c, "ab": common}
    signal = sum(weights[key] * part.sum(axis=1) for key, part in parts.items())
    y = np.stack([signal] * 4, axis=1) + noise * random.standard_normal((n, 4))
    variance = {key: 3 * weight**2 for key, weight in weights.items()}
    total = sum(variance.values()) + noise**2
    return bands, y, {key: value / total for key, value in variance.items()}


def fitted(bands, y, n_train):
    predictions = {}
    for size in (1, 2, 3):
        for part in combinations(bands, size):
            x = np.hstack([bands[name] for name in part])
            predictions[part] = LinearRegression().fit(x[:n_train], y[:n_train]).predict(x[n_train:])
    return predictions


def test_planted_variance_is_within_the_intervals():
    inside, scores = [], []
    for seed in range(12):
        bands, y, truth = planted(seed, n=1300)
        predictions = fitted(bands, y, 1000)
        found = partition_predictions(y[1000:], predictions, n_bootstraps=300, seed=seed)
        expected = np.zeros((7, 4))
        for names, key in ((("a",), "a"), (("b",), "b"), (("c",), "c"), (("a", "b"), "ab")):
            expected[found.index(names)] = truth[key]
        inside.append((found.interval.low <= expected) & (expected <= found.interval.high))
        scores.append(found.values - expected)
    # The four voxels of a seed share their signal, so this is a coverage over about 12 x 7 intervals of 95 %.
    assert 0.85 < np.mean(inside) <= 1
    assert np.abs(np.mean(scores, axis=(0, 2))).max() < 0.02


@pytest.mark.parametrize("runs", [None, np.repeat([1, 2, 3, 4], 25)], ids=["stimuli", "volumes"])
def test_scores_are_those_of_scikit_learn_and_groups_are_means(runs):
    bands, y, _ = planted(0, n=300)
    predictions = fitted(bands, y, 200)
    y, y[:, 3] = y.copy(), 2.0
    found = partition_predictions(
        y[200:], predictions, groups=[[True] * 4, [False, True, False, False]], n_bootstraps=50, runs=runs
    )
    for number, part in enumerate(found.combinations):
        expected = r2_score(y[200:, :3], predictions[part][:, :3], multioutput="raw_values")
        np.testing.assert_allclose(found.model_r2[number, :3], expected, atol=1e-12)
    assert np.isnan(found.values[:, 3]).all()
    assert np.isnan(found.interval.low[:, 3]).all()
    np.testing.assert_allclose(found.groups.values[:, 0], found.values[:, :3].mean(axis=1))
    np.testing.assert_allclose(found.groups.values[:, 1], found.values[:, 1])
    np.testing.assert_allclose(found.groups.interval.low[:, 1], found.interval.low[:, 1])
    np.testing.assert_allclose(found.interval.estimate, found.values)


def test_intervals_of_a_time_series_are_those_of_the_jackknife():
    bands, y, _ = planted(0, n=300)
    predictions, y, runs = fitted(bands, y, 200), y[200:], np.repeat([1, 2, 3, 4], 25)
    found = partition_predictions(y, predictions, groups=[[True, True, False, False]], runs=runs)
    centered = (y - y.mean(axis=0)) ** 2
    joint = [centered - (y - predictions["a", "b", "c"]) ** 2, centered]
    for name in "abc":
        rest = tuple(other for other in "abc" if other != name)
        without = centered - (y - predictions[rest]) ** 2
        alone = jackknife_r2(joint[0] - without, centered, runs)
        np.testing.assert_allclose(found.interval.low[found.index(name)], alone.low)
    both = found.groups.interval
    energy, gain = centered[:, :2], (joint[0] - without)[:, :2]
    influence = ((gain - alone.estimate[:2] * energy) / energy.sum(axis=0)).mean(axis=1)
    mean = jackknife_interval(influence, alone.estimate[:2].mean(), runs)
    np.testing.assert_allclose(both.high[found.index("c"), 0], mean.high)


def test_what_cannot_be_partitioned_is_refused():
    with pytest.raises(InputError, match=r"missing: a \+ b"):
        variance_partition({"a": [0.1], "b": [0.1]})
    with pytest.raises(InputError, match="cannot be partitioned over these bands"):
        variance_partition({"a": [0.1]})
    with pytest.raises(InputError, match="every combination of bands, once"):
        variance_partition({"a": [0.1], "b": [0.1], ("a", "b"): [0.1], ("b", "a"): [0.1]})
    found = variance_partition({"a": 0.1, "b": 0.1, ("a", "b"): 0.2})
    with pytest.raises(UnknownNameError, match="combination of bands"):
        found.of("a", "c")
    y = np.random.default_rng(0).standard_normal((9, 2))
    with pytest.raises(InputError, match="predictions do not match"):
        partition_predictions(y[1:], {"a": y, "b": y, ("a", "b"): y})
    with pytest.raises(InputError, match="groups do not match"):
        partition_predictions(y, {"a": y, "b": y, ("a", "b"): y}, groups=np.ones((1, 3)))
