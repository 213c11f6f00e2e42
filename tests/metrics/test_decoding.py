"""Accuracy of decoded targets, against numpy one feature and one stimulus at a time."""

import numpy as np
import pytest

from neurorecon.errors import InputError
from neurorecon.metrics import decoding
from neurorecon.metrics.decoding import feature_table, parts_of, pattern_correlation, profile_correlation, retrieval


def target(n=30, shape=(4, 6), noise=1.0, seed=0):
    """True and decoded features around a mean that is large beside their variance."""
    rng = np.random.default_rng(seed)
    mean = 5 * rng.standard_normal(shape)
    true = mean + rng.standard_normal((n, *shape))
    decoded = mean + 0.5 * (true - mean) + noise * rng.standard_normal((n, *shape))
    return true.astype(np.float32), decoded.astype(np.float32), mean.astype(np.float32)


def orders(n, permutations=50):
    return np.stack([np.random.default_rng(seed).permutation(n) for seed in range(permutations)])


def correlations(one, other):
    return np.array([np.corrcoef(a, b)[0, 1] for a, b in zip(one, other, strict=True)])


def test_correlations_are_numpys(monkeypatch):
    true, decoded, mean = target()
    flat = [values.reshape(30, -1).astype(float) for values in (true, decoded)]
    expected = correlations(flat[0].T, flat[1].T).reshape(4, 6)
    np.testing.assert_allclose(profile_correlation(true, decoded), expected, atol=1e-6)
    monkeypatch.setattr(decoding, "_VALUES", 100)  # three features at a time
    np.testing.assert_allclose(profile_correlation(true, decoded), expected, atol=1e-6)
    np.testing.assert_allclose(pattern_correlation(true, decoded), correlations(*flat), atol=1e-6)
    centered = [values - mean.reshape(-1) for values in flat]
    np.testing.assert_allclose(pattern_correlation(true, decoded, mean), correlations(*centered), atol=1e-5)
    with pytest.raises(InputError, match="do not match"):
        profile_correlation(true, decoded[:, :3])


def test_the_mean_alone_has_raw_patterns_and_nothing_else():
    """Why patterns are compared after the training mean was subtracted."""
    true, _, mean = target()
    decoded = np.broadcast_to(mean, true.shape).copy()
    assert pattern_correlation(true, decoded).mean() > 0.9
    assert np.isnan(pattern_correlation(true, decoded, mean)).all()
    assert np.isnan(profile_correlation(true, decoded)).all()
    row = feature_table(true, decoded, orders(30), mean).iloc[0]
    assert row["n_undefined"] == row["features"] == 24
    assert row[["profile", "profile low", "profile p", "pattern", "pattern low", "pattern p"]].isna().all()
    assert row["pattern_raw"] > 0.9


def test_the_table_is_what_each_order_gives(monkeypatch):
    monkeypatch.setattr(decoding, "_VALUES", 200)
    true, decoded, mean = target(noise=2.0)
    true[:, 1, 2] = 3.0  # has no profile
    parts = {"first": slice(0, 6), "rest": slice(6, 24)}
    given = orders(30)
    table = feature_table(true, decoded, given, mean, parts).set_index("part")
    assert table.index.tolist() == ["all", "first", "rest"]
    assert table["features"].tolist() == [24, 6, 18]
    assert table["n_undefined"].tolist() == [1, 0, 1]
    for name, part in {"all": slice(None), **parts}.items():
        one, other, center = (values.reshape(-1, 24)[:, part] for values in (true, decoded, mean[None]))
        profiles = np.array([np.nanmean(profile_correlation(one[order], other)) for order in given])
        patterns = np.array([pattern_correlation(one[order], other, center).mean() for order in given])
        row = table.loc[name]
        assert row["profile"] == pytest.approx(np.nanmean(profile_correlation(one, other)))
        assert row["profile null"] == pytest.approx(profiles.mean())
        assert row["profile p"] == (1 + (profiles >= row["profile"]).sum()) / 51
        assert row["pattern"] == pytest.approx(pattern_correlation(one, other, center).mean(), abs=1e-6)
        assert row["pattern_raw"] == pytest.approx(pattern_correlation(one, other).mean())
        assert row["pattern null"] == pytest.approx(patterns.mean(), abs=1e-6)
        assert row["pattern p"] == (1 + (patterns >= row["pattern"]).sum()) / 51
        assert row["pattern low"] < row["pattern"] < row["pattern high"]
        without = [np.nanmean(profile_correlation(np.delete(one, i, 0), np.delete(other, i, 0))) for i in range(30)]
        error = np.sqrt(29 / 30 * ((without - np.mean(without)) ** 2).sum())
        assert (row["profile high"] - row["profile low"]) / 2 == pytest.approx(2.04523 * error, rel=1e-4)
    assert np.isnan(feature_table(true, decoded, given).loc[0, "pattern"])


def test_intervals_cover_what_they_claim(monkeypatch):
    """Of the mean profile correlation of new stimuli: its expected value is known."""
    monkeypatch.setattr(decoding, "BOOTSTRAPS", 10)
    inside, rho = 0, 0.5 / np.sqrt(0.25 + 1)
    for seed in range(150):
        true, decoded, mean = target(60, (8,), seed=seed)
        row = feature_table(true, decoded, np.arange(60)[None], mean, seed=seed).iloc[0]
        inside += row["profile low"] < rho < row["profile high"]
    assert 0.89 < inside / 150 < 1


def test_a_decoder_that_knows_nothing_is_at_its_null(monkeypatch):
    monkeypatch.setattr(decoding, "BOOTSTRAPS", 10)
    ps = []
    for seed in range(60):
        true, decoded, mean = target(20, (5,), seed=seed)
        table = feature_table(true, decoded[::-1], orders(20, 39), mean)
        ps.append(table.loc[0, ["profile p", "pattern p"]].astype(float).to_numpy())
    assert (np.abs(np.mean(ps, axis=0) - 0.5) < 0.13).all()
    assert (np.mean(np.array(ps) <= 0.05, axis=0) < 0.15).all()


def test_parts_of_targets():
    assert parts_of(("token", "channel"), (3, 4), {}) == {
        "token 0": slice(0, 4), "token 1": slice(4, 8), "token 2": slice(8, 12)
    }  # fmt: skip
    layers = {"layers": ["block 1", "embedding"], "layer_boundaries": [0, 5, 7]}
    assert parts_of(("feature",), (7,), layers) == {"block 1": slice(0, 5), "embedding": slice(5, 7)}
    assert list(parts_of(("feature",), (9,), {"group_boundaries": [0, 2, 9]})) == ["group 1", "group 2"]
    assert parts_of(("feature",), (9,), {}) == {}
    with pytest.raises(InputError, match="not those of its features"):
        parts_of(("feature",), (6,), layers)


def test_two_stimuli_have_no_interval_of_profiles():
    true, decoded, mean = target(2)
    row = feature_table(true, decoded, np.array([[1, 0]]), mean).iloc[0]
    assert np.isnan(row["profile low"])
    assert row["profile"] == pytest.approx(np.sign((true[0] - true[1]) * (decoded[0] - decoded[1])).mean())


def test_retrieval_is_a_rank_in_the_pool():
    rng = np.random.default_rng(0)
    true, others = rng.standard_normal((20, 6)), rng.standard_normal((33, 6))
    decoded = true + 2 * rng.standard_normal(true.shape)
    for pool, more in ((true, None), (np.concatenate([true, others]), others)):
        unit = pool / np.linalg.norm(pool, axis=1, keepdims=True)
        ranks = [int((unit @ row > unit[number] @ row + 1e-9).sum()) for number, row in enumerate(decoded)]
        for k in (1, 5, 19):
            np.testing.assert_array_equal(retrieval(true, decoded, k, more), np.array(ranks) < k)
    few = retrieval(true, decoded, 5, others[:3])  # fewer than there are queries
    assert (few >= retrieval(true, decoded, 5, others)).all()
    twins = np.concatenate([true[:1], true])  # the same features in the pool: a tie is a loss
    assert retrieval(twins, twins, 1)[:2].tolist() == [0, 0]
    decoded[3] = 0
    assert np.isnan(retrieval(true, decoded, 2)[3])
    with pytest.raises(InputError, match="the 20 best of 20"):
        retrieval(true, decoded, 20)
