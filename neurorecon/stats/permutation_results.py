"""What permutation tests of many voxels find, and how blocks of voxels are put together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from neurorecon.errors import InputError
from neurorecon.stats.permutation import PermutationCounter, permutation_p


@dataclass(frozen=True)
class GroupTest:
    """Tests of mean scores over groups of voxels, e.g. areas.

    Parameters
    ----------
    observed, p : array, shape (group,)
        Mean joint score over the group's voxels, and its one-sided p-value; NaN for groups without voxels.
    null : array, shape (group, permutation)
        The same mean in permuted orders.
    """

    observed: NDArray[np.float64]
    p: NDArray[np.float64]
    null: NDArray[np.float64]


@dataclass(frozen=True)
class PermutationTest:
    """What a permutation test found.

    Parameters
    ----------
    observed : array, shape (voxel,) or (band, voxel)
        The score in the order in which the stimuli were shown; NaN for voxels whose responses do not vary.
    p : array, shape (voxel,) or (band, voxel)
        One-sided p-values, not corrected for the number of voxels.
    null_mean : array, shape (voxel,) or (band, voxel)
        Mean score in permuted orders.
    null_max : array, shape (permutation,) or (band, permutation)
        Largest score over voxels in each permuted order, for :func:`neurorecon.stats.max_statistic_p`.
    n_permutations : int
        Number of permuted orders.
    split : PermutationTest, optional
        The same for the share of each band.
    groups : GroupTest, optional
        The joint score averaged over groups of voxels.
    alphas : array, shape (voxel,), optional
        Of tests that fit again: the regularization chosen in the order in which the stimuli were shown.
    """

    observed: NDArray[np.float64]
    p: NDArray[np.float64]
    null_mean: NDArray[np.float64]
    null_max: NDArray[np.float64]
    n_permutations: int
    split: PermutationTest | None = None
    groups: GroupTest | None = None
    alphas: NDArray[np.float64] | None = None


class GroupMeans:
    """Mean scores over groups of voxels, gathered block by block."""

    def __init__(self, groups: ArrayLike | None, n_voxels: int, n_permutations: int) -> None:
        self.members = np.zeros((0, n_voxels)) if groups is None else np.asarray(groups, dtype=np.float64)
        if self.members.ndim != 2 or self.members.shape[1] != n_voxels:
            raise InputError(
                "the groups of voxels do not fit the responses",
                given=f"shape {self.members.shape}",
                expected=f"(group, {n_voxels})",
            )
        self.sums = np.zeros((len(self.members), 1 + n_permutations))
        self.counts = np.zeros(len(self.members))

    def of(self, block: slice | NDArray[np.int64]) -> Callable[[int, NDArray], None]:
        """Return what takes the scores of a block of voxels: (first row, scores (row, voxel))."""
        members = self.members[:, block]

        def watch(first: int, scores: NDArray) -> None:
            defined = ~np.isnan(scores[0])
            self.sums[:, first : first + len(scores)] += members[:, defined] @ scores[:, defined].T
            if first == 0:
                self.counts += members[:, defined].sum(axis=1)

        return watch

    def tested(self) -> GroupTest | None:
        """Return the test of each group's mean score; None where no groups were asked for."""
        if not len(self.members):
            return None
        with np.errstate(invalid="ignore", divide="ignore"):
            means = self.sums / self.counts[:, None]
        p = np.full(len(means), np.nan)
        defined = self.counts > 0
        p[defined] = permutation_p(means[defined, 0], means[defined, 1:].T)
        return GroupTest(means[:, 0], p, means[:, 1:])


def gather(blocks: list[PermutationCounter], voxels: list[NDArray[np.int64]] | None = None) -> PermutationTest:
    """Put blocks of voxels together.

    Parameters
    ----------
    blocks : list of PermutationCounter
        What was counted in each block.
    voxels : list of int array, optional
        Which voxels each block holds; by default blocks follow each other.
    """
    maxima = np.stack([block.null_max for block in blocks])
    order = slice(None) if voxels is None else np.argsort(np.concatenate(voxels))
    return PermutationTest(
        observed=np.concatenate([block.observed for block in blocks])[order],
        p=np.concatenate([block.p for block in blocks])[order],
        null_mean=np.concatenate([block.null_mean for block in blocks])[order],
        null_max=np.fmax.reduce(maxima, axis=0),
        n_permutations=blocks[0].n_permutations,
    )


def stack_bands(bands: list[PermutationTest]) -> PermutationTest:
    """Put the tests of all bands into one, with a band axis."""
    names = ("observed", "p", "null_mean", "null_max")
    observed, p, null_mean, null_max = (np.stack([getattr(band, name) for band in bands]) for name in names)
    return PermutationTest(observed, p, null_mean, null_max, bands[0].n_permutations)
