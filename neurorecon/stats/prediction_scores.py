"""Predictions and their scores under any order of the stimuli, one block of voxels at a time."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def contribution_table(predicted: NDArray) -> NDArray:
    """Append the contribution of a blank screen, 0: (band, delay, stimulus + 1, voxel)."""
    bands, delays, stimuli, voxels = predicted.shape
    table = np.zeros((bands, delays, stimuli + 1, voxels), dtype=predicted.dtype)
    table[:, :, :-1] = predicted
    return table


class Scorer:
    """Predictions and scores of one block of voxels under any order; buffers are reused between orders."""

    def __init__(self, table: NDArray, places: NDArray[np.int64], target: NDArray) -> None:
        self.table, self.places, self.target = table, places, target
        self.parts = np.empty((len(table), *target.shape), dtype=target.dtype)
        self.joint = self.parts[0] if len(table) == 1 else np.empty_like(target)
        self.buffer = np.empty_like(target)
        self.prepare()

    def prepare(self) -> None:
        """Compute what no order changes."""
        raise NotImplementedError

    def score(self) -> NDArray:
        """Return the share of each band, (band, voxel)."""
        raise NotImplementedError

    def __call__(self, order: NDArray[np.int64] | None = None) -> NDArray:
        """Return the joint score and, with several bands, the shares: (score, voxel)."""
        self.predict(order)
        shares = self.score()
        return np.concatenate([shares.sum(axis=0, keepdims=True) + self.constant, shares])

    #: Added to the sum of the shares.
    constant: NDArray | float = 0.0

    def predict(self, order: NDArray[np.int64] | None) -> None:
        """Fill in the contributions of each band, and their sum, for an order of the stimuli."""
        blank = self.table.shape[2] - 1
        mapping = np.arange(blank + 1) if order is None else np.append(order, blank)
        for band, part in zip(self.table, self.parts, strict=True):
            for number, (delayed, place) in enumerate(zip(band, self.places, strict=True)):
                # mode="clip" lets `take` write into `out` directly; no index is out of bounds.
                np.take(delayed, mapping[place], axis=0, out=self.buffer if number else part, mode="clip")
                if number:
                    part += self.buffer
        if len(self.table) > 1:
            np.sum(self.parts, axis=0, out=self.joint)


class R2(Scorer):
    """R2 = 1 - sum((y - p) ** 2) / total, where sum((y - p) ** 2) = sum(y ** 2) - sum(p * (2 y - p))."""

    def prepare(self) -> None:
        """Compute the sums of squares of the responses."""
        total = ((self.target - self.target.mean(axis=0)) ** 2).sum(axis=0, dtype=np.float64)
        self.total = np.where(total > 0, total, np.nan)
        self.constant = 1 - (self.target.astype(np.float64) ** 2).sum(axis=0) / self.total
        self.twice = 2 * self.target

    def score(self) -> NDArray:
        """Return the share of each band by the product measure, (band, voxel)."""
        np.subtract(self.twice, self.joint, out=self.buffer)
        return np.einsum("btv,tv->bv", self.parts, self.buffer) / self.total


class Correlation(Scorer):
    """Pearson correlation; a constant prediction correlates 0."""

    def prepare(self) -> None:
        """Standardize the responses."""
        centered = self.target - self.target.mean(axis=0)
        total = (centered.astype(np.float64) ** 2).sum(axis=0)
        total = np.where(total > 0, total, np.nan)
        self.unit = (centered / np.sqrt(total)).astype(self.target.dtype)

    def score(self) -> NDArray:
        """Return the share of each band by the product measure, (band, voxel)."""
        np.subtract(self.joint, self.joint.mean(axis=0), out=self.buffer)
        norm = np.sqrt(np.einsum("tv,tv->v", self.buffer, self.buffer).astype(np.float64))
        rounding = np.finfo(self.joint.dtype).eps * np.abs(self.joint).max(axis=0) * len(self.joint)
        covariance = np.einsum("btv,tv->bv", self.parts, self.unit)
        scores = np.where(norm > rounding, covariance / np.where(norm > rounding, norm, 1.0), 0.0)
        return np.where(np.isnan(self.unit[0]), np.nan, scores)


SCORES: dict[str, type[Scorer]] = {"r2": R2, "correlation": Correlation}
