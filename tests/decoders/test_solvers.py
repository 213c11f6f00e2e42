import numpy as np
import pytest

from neurorecon.decoders import solvers as products
from neurorecon.decoders.solvers import Backend, cross_gram, gram, gram_and_cross, means, subtract


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(products, "_BLOCK_VALUES", 0)
    monkeypatch.setattr(products, "_LEAST", 3)


@pytest.mark.parametrize("device", ["cpu", "torch"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("weighted", [False, True])
def test_products_of_blocks_add_up(small_blocks, device, dtype, weighted):
    generator = np.random.default_rng(0)
    x, others = generator.standard_normal((8, 11)) + 100, generator.standard_normal((4, 11)) + 100
    roots = np.sqrt(generator.uniform(0, 2, 8)) if weighted else None
    backend, mean = Backend(device), means(x, None if roots is None else roots**2, True)
    centered = (x - mean) * (1 if roots is None else roots[:, None])
    tolerance = {"float32": 1e-5, "float64": 1e-12}[dtype]
    for dual, expected in ((True, centered @ centered.T), (False, centered.T @ centered)):
        found = backend.to_numpy(gram(x, mean, roots, backend, dual=dual, dtype=dtype))
        assert found.dtype == dtype
        np.testing.assert_allclose(np.tril(found), np.tril(expected), atol=tolerance)
    cross = (others - mean) @ centered.T
    whole, found = gram_and_cross(x, others, mean, roots, backend, dtype)
    np.testing.assert_allclose(np.tril(backend.to_numpy(whole)), np.tril(centered @ centered.T), atol=tolerance)
    np.testing.assert_allclose(backend.to_numpy(found), cross, atol=tolerance)
    found = backend.to_numpy(cross_gram(x, others, mean, roots, backend, dtype))
    np.testing.assert_allclose(found, cross, atol=tolerance)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("offset", [0.0, 0.05, 3.0])
def test_means_are_taken_from_inputs_or_from_their_products(dtype, offset):
    generator = np.random.default_rng(2)
    x = (generator.standard_normal((400, 90)) + offset).astype(dtype)
    others = (generator.standard_normal((5, 90)) + offset).astype(dtype)
    mean = means(x, None, True)
    assert products._lie_around_zero(x, mean) == (offset < 0.1)
    whole, cross = gram_and_cross(x, others, mean, None, Backend(), dtype)
    tolerance = {"float32": 1e-4, "float64": 1e-11}[dtype]
    np.testing.assert_allclose(np.tril(whole), np.tril((x - mean) @ (x - mean).T), atol=tolerance)
    np.testing.assert_allclose(cross, (others - mean) @ (x - mean).T, atol=tolerance)


def test_means_far_above_the_variation_are_subtracted_in_double_precision():
    x = (1e6 + np.arange(4, dtype=np.float32)[:, None] / 4).astype(np.float32)
    found = subtract(x, x.mean(axis=0, dtype=np.float64), "float32")
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found[:, 0], np.arange(4, dtype=np.float32) / 4 - 0.375)
