"""Errors on held-out samples, fold by fold: each fold has a factorization of its own.

This serves where there are more samples than voxels, where each fold selects voxels of its own, and where a
candidate for alpha is so weak that :mod:`neurorecon.decoders.ridge.leave_out` would lose precision.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from neurorecon.decoders.folds import Fold
from neurorecon.decoders.ridge.penalties import AlphaSearch
from neurorecon.decoders.solvers import Factorization, project
from neurorecon.decoders.targets import Blocks


def add_fold_errors(
    total: NDArray[np.float64], factors: Factorization, x: NDArray, fold: Fold, search: AlphaSearch
) -> None:
    """Add the mean squared errors on the held-out samples of one fold.

    Parameters
    ----------
    total : array, shape (alpha, group)
        Sums over the targets of each group; added to in place.
    factors : Factorization
        Of the training samples of the fold.
    x : array, shape (sample, feature)
        All inputs.
    fold : (train, test)
        Indices of samples.
    search : AlphaSearch
        Candidates, and what they are tried on.
    """
    held_out = _HeldOut(factors, x, *fold, search.weights, search.center)
    if search.sharing.together:
        total[:, 0] += held_out.errors(search.targets, search.alphas)
    else:
        for columns, y in search.targets.blocks():
            search.sharing.add(total, columns, held_out.errors_by_target(y, search.alphas))


class _HeldOut:
    """Errors on the held-out samples of one fold."""

    def __init__(
        self,
        factors: Factorization,
        x: NDArray,
        train: NDArray,
        test: NDArray,
        weights: NDArray | None,
        center: bool,
    ) -> None:
        self.factors, self.train, self.test, self.center = factors, train, test, center
        self.train_weights = None if weights is None else weights[train]
        backend, dtype = factors.backend, factors.dtype
        roots = np.ones(len(test)) if weights is None else np.sqrt(weights[test])
        self.total_weight = float((roots**2).sum()) or 1.0
        self.roots = backend.asarray(roots[:, None], dtype)
        self.inputs = factors.components(x[test]) * self.roots

    def split(self, y: NDArray) -> tuple[Any, Any]:
        """Return projected training targets and centered held-out targets, (sample, target)."""
        projected, mean = project(self.factors, y[self.train], self.train_weights, self.center)
        held_out = self.factors.backend.asarray(y[self.test] - mean.astype(y.dtype), self.factors.dtype)
        return projected, held_out * self.roots

    def errors_by_target(self, y: NDArray, alphas: NDArray) -> NDArray[np.float64]:
        """Return errors of shape (alpha, target)."""
        backend = self.factors.backend
        projected, held_out = self.split(y)
        errors = np.empty((len(alphas), y.shape[1]))
        for row, alpha in zip(errors, alphas, strict=True):
            shrinkage = backend.asarray(self.factors.shrinkage(alpha)[:, None], self.factors.dtype)
            residual = held_out - self.inputs @ (shrinkage * projected)
            row[:] = backend.to_numpy((residual**2).sum(0))
        return errors / self.total_weight

    def errors(self, targets: Blocks, alphas: NDArray) -> NDArray[np.float64]:
        """Return errors of shape (alpha,), summed over targets.

        With A the held-out inputs, B the projected training targets and d the shrinkage, predictions are
        ``A diag(d) B``, so the sum of squared errors over all targets is ``sum(y ** 2) - 2 d.c + d'Qd`` with
        ``c = diag(A'y B')`` and ``Q = A'A * BB'``: sums over targets that no alpha enters. All alphas
        together cost as much as one.
        """
        backend = self.factors.backend
        n_components = len(self.factors.singular_values)
        total, cross = 0.0, np.zeros(n_components)
        quadratic = np.zeros((n_components, n_components))
        for _, y in targets.blocks():
            projected, held_out = self.split(y)
            total += float((held_out**2).sum())
            products = (self.inputs.T @ held_out) * projected
            cross += backend.to_numpy(products.sum(1))
            quadratic += backend.to_numpy(projected @ projected.T)
        quadratic *= backend.to_numpy(self.inputs.T @ self.inputs)
        shrinkages = [self.factors.shrinkage(alpha) for alpha in alphas]
        errors = np.array([total - 2 * d @ cross + d @ quadratic @ d for d in shrinkages])
        return errors / self.total_weight
