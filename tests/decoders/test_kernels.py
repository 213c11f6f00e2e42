"""Kernels accumulated block by block, and bands of regions of interest."""

import dask.array
import numpy as np
import pytest
import xarray
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics.pairwise import linear_kernel
from sklearn.preprocessing import StandardScaler

from neurorecon.decoders import BandedRidge, bands_of_rois, kernels_by_block
from neurorecon.errors import InputError, UnknownNameError


def draw(generator, n_samples, offset=0.0):
    return {
        "clip": generator.standard_normal((n_samples, 3, 4)) + offset,
        "gabor": 10 * generator.standard_normal((n_samples, 7)) - offset,
    }


@settings(max_examples=25, deadline=None)
@given(
    block=st.integers(1, 15),
    chunks=st.integers(1, 7),
    standardize=st.booleans(),
    dtype=st.sampled_from(["float32", "float64"]),
    given_as=st.sampled_from(["float32", "float64"]),
    seed=st.integers(0, 99),
)
def test_kernels_are_scikit_learns_whatever_the_blocks(block, chunks, standardize, dtype, given_as, seed):
    generator = np.random.default_rng(seed)
    train, new = draw(generator, 9, 3.0), draw(generator, 5, 3.0)
    train, new = ({name: part.astype(given_as) for name, part in bands.items()} for bands in (train, new))
    lazy = {name: dask.array.from_array(part, chunks=chunks) for name, part in train.items()}
    labeled = {name: xarray.DataArray(part) for name, part in new.items()}
    within, across = kernels_by_block(lazy, labeled, feature_block=block, standardize=standardize, dtype=dtype)
    assert list(within) == list(across) == ["clip", "gabor"]
    for name, part in train.items():
        scaler = StandardScaler(with_std=standardize).fit(part.reshape(9, -1).astype(np.float64))
        x, x_new = (
            scaler.transform(values.reshape(len(values), -1).astype(np.float64)) for values in (part, new[name])
        )
        tolerance = {"rtol": 1e-5, "atol": 1e-3} if "float32" in (dtype, given_as) else {"rtol": 1e-9, "atol": 1e-9}
        np.testing.assert_allclose(within[name], linear_kernel(x), **tolerance)
        np.testing.assert_allclose(across[name], linear_kernel(x_new, x), **tolerance)
        assert within[name].dtype == dtype


def test_single_precision_is_enough_for_features_far_from_zero():
    generator = np.random.default_rng(0)
    values = (generator.standard_normal((20, 50)) + 1e4).astype(np.float32)
    within, _ = kernels_by_block({"far": values})
    centered = values.astype(np.float64) - values.mean(axis=0, dtype=np.float64)
    np.testing.assert_allclose(within["far"], centered @ centered.T, rtol=1e-5, atol=1e-4)


def test_features_that_do_not_vary_count_as_nothing():
    values = np.random.default_rng(0).standard_normal((8, 4))
    within, _ = kernels_by_block({"a": values}, standardize=True)
    more, _ = kernels_by_block({"a": np.hstack([values, np.full((8, 2), 0.1)])}, standardize=True)
    np.testing.assert_allclose(more["a"], within["a"], rtol=1e-6)


class Counted:
    """Features that say how many were read at once."""

    def __init__(self, values):
        self.values, self.read = values, []
        self.shape, self.dtype, self.ndim = values.shape, values.dtype, values.ndim

    def __getitem__(self, key):
        found = self.values[key]
        self.read.append(found.shape)
        return found


def test_features_are_read_once_and_in_blocks():
    lazy = Counted(np.random.default_rng(0).standard_normal((6, 10)))
    kernels_by_block({"a": lazy}, feature_block=4)
    assert lazy.read == [(6, 4), (6, 4), (6, 2)]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_model_of_accumulated_kernels_is_that_of_the_features(dtype):
    generator = np.random.default_rng(0)
    train, new = draw(generator, 30), draw(generator, 10)
    flat = [np.hstack([part.reshape(len(part), -1) for part in bands.values()]) for bands in (train, new)]
    Y = flat[0] @ generator.standard_normal((19, 4)) + generator.standard_normal((30, 4))
    within, across = kernels_by_block(train, new, feature_block=5, dtype=dtype)
    accumulated = BandedRidge(dtype=dtype).fit_kernels(within, Y)
    direct = BandedRidge(["clip"] * 12 + ["gabor"] * 7, solver="random_search", dtype=dtype).fit(flat[0], Y)
    tolerance = {"float32": 1e-4, "float64": 1e-8}[dtype] * np.abs(Y).max()
    np.testing.assert_allclose(accumulated.predict_kernels(across), direct.predict(flat[1]), atol=tolerance)


@pytest.mark.parametrize(
    ("train", "new", "message"),
    [
        ({"a": np.zeros((4, 2)), "b": np.zeros((5, 2))}, None, "different numbers of samples"),
        ({"a": np.zeros((4, 2))}, {"b": np.zeros((4, 2))}, "different bands"),
        ({"a": np.zeros((4, 2))}, {"a": np.zeros((4, 3))}, "different features"),
        ({"a": np.full((4, 2), np.nan)}, None, "NaN or infinity"),
    ],
)
def test_wrong_features_are_explained(train, new, message):
    with pytest.raises(InputError, match=message):
        kernels_by_block(train, new)


MASKS = {
    "V1": np.array([1, 1, 1, 0, 0, 0, 0, 0], dtype=bool),
    "V1v": np.array([1, 0, 0, 0, 0, 0, 0, 0], dtype=bool),
    "V2": np.array([0, 0, 0, 1, 1, 0, 0, 0], dtype=bool),
    "MT": np.array([0, 0, 0, 0, 0, 1, 0, 0], dtype=bool),
}


def test_bands_of_regions():
    bands = bands_of_rois(MASKS, ["V2", "V1"], rest="other")
    assert {name: part.tolist() for name, part in bands.items()} == {"V2": [3, 4], "V1": [0, 1, 2], "other": [5, 6, 7]}
    assert list(bands) == ["V2", "V1", "other"]
    joined = bands_of_rois(MASKS, {"early": ["V1", "V2"], "motion": "MT"}, voxels=[5, 4, 0])
    assert {name: part.tolist() for name, part in joined.items()} == {"early": [1, 2], "motion": [0]}


def test_overlapping_and_missing_regions_are_explained():
    with pytest.raises(InputError, match="V1 and V1v share 1"):
        bands_of_rois(MASKS, ["V1", "V1v", "V2"], rest="other")
    with pytest.raises(InputError, match="3 of 8 voxels are in none"):
        bands_of_rois(MASKS, ["V1", "V2"])
    with pytest.raises(InputError, match="no voxel of X is in MT"):
        bands_of_rois(MASKS, ["V1", "MT"], voxels=[0, 1])
    with pytest.raises(UnknownNameError, match="V1"):
        bands_of_rois(MASKS, ["V11"])
    with pytest.raises(InputError, match="voxel index of each column"):
        bands_of_rois(MASKS, ["V1"], voxels=[9])
    with pytest.raises(InputError, match="already the name of a band"):
        bands_of_rois(MASKS, ["V1"], rest="V1")
    with pytest.raises(InputError, match="one and two share 1"):
        BandedRidge({"one": [0, 1], "two": [1, 2]}).fit(np.zeros((4, 3)), np.zeros(4))


def test_decoding_with_bands_of_regions_finds_the_region():
    """A target that one region carries; bands given as masks, and as columns."""
    generator = np.random.default_rng(0)
    X = generator.standard_normal((60, 8)).astype(np.float32)
    y = X[:, 3:5] @ [1.0, -1.0] + 0.3 * generator.standard_normal(60)
    bands = bands_of_rois(MASKS, ["V1", "V2", "MT"], rest="other")
    model = BandedRidge(bands).fit(X, y)
    assert model.best_band().tolist() == ["V2"]
    as_masks = {name: np.isin(np.arange(8), part) for name, part in bands.items()}
    np.testing.assert_array_equal(BandedRidge(as_masks).fit(X, y).predict(X), model.predict(X))
