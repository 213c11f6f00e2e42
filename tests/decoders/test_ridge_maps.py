import tracemalloc

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from neurorecon.decoders import RidgeDecoder
from neurorecon.decoders.ridge_maps import DualRidge, Sample, correlations, parts_of, ridge_map, voxel_drops


@pytest.mark.parametrize("voxels", [30, 9], ids=["dual", "primal"])
@pytest.mark.parametrize("kind", ["weights", "haufe"])
def test_refits_are_fits(kind, voxels):
    """The null refits on re-paired targets, the jackknife without groups; both as if fitted to these data alone."""
    random = np.random.default_rng(3)
    x, y = random.standard_normal((24, voxels)), random.standard_normal((24, 3))
    x -= x.mean(axis=0)
    alphas, deviation = np.array([2.0, 5.0, 5.0]), y.std(axis=0)
    decoder = RidgeDecoder(2.0, dtype="float64").fit(x, y)
    decoder.alpha_ = alphas
    dual = DualRidge.of(decoder, np.arange(3), y, deviation)

    def expected(rows, outputs):
        fits = [Ridge(alpha=alpha).fit(x[rows], outputs[:, n]) for n, alpha in enumerate(alphas)]
        weights = np.stack([fit.coef_ for fit in fits], axis=1) / deviation
        if kind == "weights":
            return np.abs(weights)
        decoded, centered = x[rows] @ weights, x[rows] - x[rows].mean(axis=0)
        return np.abs(centered.T @ decoded) / len(rows) / decoded.std(axis=0)

    everything, order = np.arange(24), random.permutation(24)
    found = dual.strength(kind, dual.coordinates(dual.outputs[order]))
    np.testing.assert_allclose(found, expected(everything, y[order]), rtol=1e-3, atol=1e-5)
    groups = everything // 5
    left = list(dual.without(kind, groups))
    assert len(left) == 5
    for group, values in enumerate(left):
        rows = everything[groups != group]
        np.testing.assert_allclose(values, expected(rows, y[rows]), rtol=1e-3, atol=1e-5)


def test_parts_of_targets():
    layers = {"dims": ["feature"], "shape": [10], "attrs": {"layer_boundaries": [0, 4, 10], "layers": ["b0", "b1"]}}
    assert parts_of(layers, 10) == {"b0": slice(0, 4), "b1": slice(4, 10)}
    groups = {"dims": ["feature"], "shape": [30], "attrs": {"group_boundaries": [0, 5, 20, 30]}}
    assert list(parts_of(groups, 20)) == ["group 0", "group 1"]
    tokens = {"dims": ["token", "channel"], "shape": [2, 3], "attrs": {}}
    assert parts_of(tokens, 6) == {"token 0": slice(0, 3), "token 1": slice(3, 6)}
    assert parts_of({"dims": ["y", "x", "rgb"], "shape": [4, 4, 3], "attrs": {}}, 48) == {}
    assert len(parts_of({"dims": ["feature"], "shape": [8], "attrs": {}}, 8)) == 8
    assert parts_of({"dims": ["feature"], "shape": [800], "attrs": {}}, 800) == {}


def test_a_sample_weighs_parts_by_their_features():
    varying = np.ones(60, dtype=bool)
    varying[:5] = False
    sample = Sample.draw(varying, {"a": slice(0, 20), "b": slice(20, 60)}, 20, seed=0)
    assert len(sample.columns) == 20
    assert sample.columns.min() >= 5
    np.testing.assert_allclose(sample.means.sum(axis=0), 1.0)
    first = sample.columns < 20
    assert sample.means[first, 0].sum() == pytest.approx(15 / 55)
    np.testing.assert_array_equal(sample.means[~first, 1], 0)


def test_weighted_correlations_are_those_of_repeated_stimuli():
    random = np.random.default_rng(0)
    one, other = random.standard_normal((2, 12, 3))
    other[:, 2] = 7.0
    drawn = random.integers(0, 12, (4, 12))
    weights = np.stack([np.bincount(row, minlength=12) for row in drawn]).astype(float)
    found = correlations(one, other, weights)
    for row, indices in zip(found, drawn, strict=True):
        expected = [np.corrcoef(one[indices, n], other[indices, n])[0, 1] for n in range(2)]
        np.testing.assert_allclose(row, [*expected, 0.0], atol=1e-9)


def test_a_voxel_alone_leaves_nothing():
    """Without its only voxel, a decoder decodes a constant: the score is 0, and all of it is lost."""
    random = np.random.default_rng(0)
    x = random.standard_normal((15, 1))
    true = x + random.standard_normal((15, 1))
    found = voxel_drops(x, np.array([[0.7]]), 0.7 * x, true, np.ones((1, 1)))
    assert found[0, 0] == pytest.approx(np.corrcoef(x[:, 0], true[:, 0])[0, 1])


@pytest.mark.parametrize("kind", ["weights", "haufe"])
def test_memory_does_not_grow_with_the_features(tmp_path, monkeypatch, kind):
    """Coordinates stay on disk, and blocks have a fixed size: the peak is that of the blocks, not of the target."""
    monkeypatch.setattr("neurorecon.decoders.ridge_maps.BLOCK_VALUES", 2**15)
    random = np.random.default_rng(0)
    x, peaks = random.standard_normal((40, 300)), []
    for features in (2_000, 20_000):
        y = random.standard_normal((40, features)).astype(np.float32)
        decoder = RidgeDecoder(10.0).fit(x, y, coordinates=tmp_path / f"{features}.npy")
        parts = {"one": slice(0, features // 2), "other": slice(features // 2, features)}
        deviation = y.std(axis=0)
        tracemalloc.start()
        ridge_map(decoder, kind, deviation, parts)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0] + 20_000 * 4
    assert peaks[1] < 8 * 4 * 2**15 + 4 * 300 * 40  # the whole matrix of weights would take 24 MB
