"""Ridge regression as a smoother: predictions are H Y, and H depends on the responses alone.

That makes permutation tests cheap: H of every fold and alpha is computed once, permuted targets cost a
product.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def ridge_smoothers(train: np.ndarray, test: np.ndarray, alphas: Sequence[float]) -> np.ndarray:
    """Matrices that turn training targets into the predictions of ridge regression with intercept.

    Parameters
    ----------
    train : array, shape (train sample, voxel)
        Responses.
    test : array, shape (test sample, voxel)
        Responses to predict from.
    alphas : sequence of float
        Alphas; the loss is the sum of squared errors + alpha times the squared weights, as in
        scikit-learn.

    Returns
    -------
    array, shape (alpha, test sample, train sample)
        H; predictions are ``H @ targets``. Every row sums to 1.
    """
    center = train.mean(axis=0)
    train, test = train - center, test - center
    values, vectors = np.linalg.eigh(train @ train.T)
    values = np.maximum(values, 0.0)  # rounding makes the zero that centering leaves slightly negative
    left = (test @ train.T) @ vectors
    right = vectors.T - vectors.T.mean(axis=1, keepdims=True)
    mean = 1.0 / len(train)
    return np.stack([(left / (values + alpha)) @ right + mean for alpha in alphas])


def standardizer(train: np.ndarray, *, scale: bool) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of every voxel in the training samples.

    Parameters
    ----------
    train : array, shape (sample, voxel)
        Training samples only.
    scale : bool
        False leaves the standard deviation out (ones).

    Returns
    -------
    mean, deviation : array, shape (voxel,)
        The deviation of a voxel that never changes is 1, so that it stays zero.
    """
    deviation = train.std(axis=0) if scale else np.ones(train.shape[1])
    still = (train == train[:1]).all(axis=0)
    return train.mean(axis=0), np.where(still | (deviation == 0), 1.0, deviation)
