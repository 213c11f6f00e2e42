"""One model of the refits: factorized once, fitted to as many orders of a block of responses as wanted."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from neurorecon.stats.refit.factors import Rows, Source
from neurorecon.stats.refit.search import GeneralizedCrossValidation, HeldOutScore, KFold, Place, varies
from neurorecon.stats.units import UnitPermutations


class Model:
    """One factorization, and the block of voxels it is fitted to again and again."""

    def __init__(
        self,
        source: Source,
        weights: NDArray[np.float64],
        alphas: NDArray[np.float64],
        folds: list[tuple[Rows, Rows]] | None,
        statistic: Literal["r2", "correlation"],
        place: Place,
        orders: UnitPermutations,
    ) -> None:
        factors = source.factors(weights)
        self._test, self._statistic, self._place, self._orders = factors.test, statistic, place, orders
        self._shrinkage = place.put(factors.shrinkage(alphas))
        self._search: GeneralizedCrossValidation | KFold | None = None
        if folds is not None and len(alphas) > 1:
            self._search = KFold(folds, [source.factors(weights, *fold) for fold in folds], alphas, place)
        elif len(alphas) > 1:
            self._search = GeneralizedCrossValidation(factors, alphas, place)
        # Repeats have the same features, hence the same rows in U: sums over repeats are all that U'Y needs.
        self._summed = orders.repeats and not isinstance(self._search, KFold) and source.is_repeated(orders.labels)
        self._u = place.put(factors.u[orders.first] if self._summed else factors.u)

    def take(self, measured: NDArray[np.float64], held_out: NDArray[np.float64]) -> None:
        """Take up a block of responses, (sample, voxel) and (test_sample, voxel)."""
        mean = measured.mean(axis=0)
        centered = np.where(varies(measured), measured - mean, 0)
        self._score = HeldOutScore(self._test, held_out, mean, self._statistic, self._place)
        self._total = self._place.put((centered**2).sum(axis=0))
        self._y = self._place.put(self._orders.sums(centered) if self._summed else centered)

    def scores(self, order: Rows | None) -> NDArray:
        """Fit with unit ``order[u]`` in the place of unit u (None: as shown), and return scores, (score, voxel)."""
        rows = None
        u = self._u
        if order is not None:
            rows = order if self._summed else self._orders.rows(order)
            back = np.empty_like(rows)
            back[rows] = np.arange(len(rows))
            u = u[self._place.put(back, "int64")]
        projected = u.T @ self._y
        if self._search is None:
            self.chosen = np.zeros(projected.shape[1], dtype=np.int64)
            return self._score(self._shrinkage * projected)
        index = self._search.choose(rows, self._y, projected, self._total)
        self.chosen = self._place.get(index)
        return self._score(self._shrinkage[:, index] * projected)
