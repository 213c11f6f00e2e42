"""Against the reference implementation of fractional ridge regression, which solves for the same weights."""

import numpy as np
import pytest
from fracridge import fracridge

from neurorecon.decoders import RidgeDecoder

TOLERANCE = {"float32": 1e-4, "float64": 1e-8}


@pytest.mark.parametrize("shape", [(40, 12), (15, 40)], ids=["n>p", "n<p"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_weights_are_those_of_fractional_ridge_regression_at_its_alphas(shape, dtype):
    generator = np.random.default_rng(0)
    X, Y = generator.standard_normal(shape), generator.standard_normal((shape[0], 4))
    fractions = np.array([0.2, 0.5, 0.8])
    weights, alphas = fracridge(X, Y, fractions, jit=False)
    for number in range(len(fractions)):
        for target in range(4):
            ours = RidgeDecoder(float(alphas[number, target]), fit_intercept=False, dtype=dtype).fit(X, Y[:, target])
            np.testing.assert_allclose(ours.coef_, weights[:, number, target], atol=TOLERANCE[dtype])


@pytest.mark.parametrize("shape", [(40, 12), (15, 40)], ids=["n>p", "n<p"])
def test_weights_shrink_to_the_fractions_that_were_asked_for(shape):
    generator = np.random.default_rng(1)
    X, Y = generator.standard_normal(shape), generator.standard_normal((shape[0], 3))
    _, alphas = fracridge(X, Y, np.array([0.3]), jit=False)
    free = np.linalg.norm(RidgeDecoder(0.0, fit_intercept=False, dtype="float64").fit(X, Y).coef_, axis=1)
    for target in range(3):
        ours = RidgeDecoder(float(alphas.ravel()[target]), fit_intercept=False, dtype="float64").fit(X, Y[:, target])
        # Its alphas are interpolated between the points of a grid.
        np.testing.assert_allclose(np.linalg.norm(ours.coef_) / free[target], 0.3, rtol=0.02)
