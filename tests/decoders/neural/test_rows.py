import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neurorecon.decoders.neural.data import Rows, rows_of_targets, survey
from neurorecon.errors import InputError


@settings(max_examples=20, deadline=None)
@given(n_samples=st.integers(1, 30), mean=st.sampled_from([0.0, 1e4]), chunk=st.integers(1, 7))
def test_mean_and_variation_are_numpys(n_samples, mean, chunk):
    import dask.array

    generator = np.random.default_rng(n_samples)
    y = generator.standard_normal((n_samples, 2, 3)) + mean
    y[:, 0, 0] = 1.1 * mean
    chosen = generator.random(n_samples) < 0.7
    chosen[0] = True
    lazy = dask.array.from_array(y, chunks=(chunk, 2, 2))
    found = survey(Rows(lazy, "float64"), chosen)
    np.testing.assert_allclose(found.mean, y[chosen].mean(0), rtol=1e-12, atol=1e-12)
    scale = y[chosen].std(0)
    np.testing.assert_allclose(found.standard(True).scale, np.where(scale > 1e-9, scale, 1), rtol=1e-8)
    assert found.squares[0, 0] == 0
    assert found.digest == survey(Rows(y, "float64")).digest
    y[-1, -1, -1] += 1
    assert found.digest != survey(Rows(y, "float64")).digest


def test_wrong_targets_are_explained():
    for wrong, message in (
        (None, "y is None"),
        (3.0, "need a sample axis"),
        (np.ones((4, 1), complex), "Complex data"),
        (np.full((4, 1), "house"), "not numbers"),
        (np.ones((3, 1)), "different numbers of samples"),
        ({}, "needs a name"),
        ({"": np.ones(4)}, "needs a name"),
        ({"text": np.ones(3)}, "'text'"),
    ):
        with pytest.raises(InputError, match=message):
            rows_of_targets(wrong, "float32", 4)
    with pytest.raises(InputError, match="NaN or infinity"):
        survey(rows_of_targets(np.array([1.0, np.nan]), "float32")[""])
