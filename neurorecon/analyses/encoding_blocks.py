"""Encoding maps in blocks of voxels: what a block is given, what it returns, and how blocks become one map.

A block reads its own responses from the store and takes the products of the features between stimuli, which all blocks
of a subject share. Where blocks begin depends on the data alone, never on who computes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from neurorecon.analyses import design
from neurorecon.analyses.areas import roi_masks
from neurorecon.analyses.encoding import (
    EncodingFit,
    RoiScore,
    RoiSums,
    add_roi_sums,
    fit_encoding,
    roi_sums,
    scores_of_sums,
)
from neurorecon.parallel.jobs import Arrays, Results
from neurorecon.parallel.workers import choose_card
from neurorecon.stats import GroupTest, PermutationTest, permutation_p
from neurorecon.store.store import Store

#: Voxels of the smallest block: less is not worth a job.
SMALLEST_BLOCK = 4096

#: Voxels a block for each training sample. Every block diagonalizes the same kernels; from twice as many voxels as
#: samples on, that takes less than half as long as what has to be done for each voxel.
VOXELS_PER_SAMPLE = 2

#: Responses of one block: 1 GiB in single precision.
MOST_VALUES = 2**28

_TESTED = ("observed", "p", "null_mean", "null_max")


@dataclass(frozen=True)
class EncodingJob:
    """The encoding map of one subject, all but its numbers.

    Parameters
    ----------
    store : Store
        Where responses and targets are.
    subject, task : str
        Whose responses, to what.
    roi : str or tuple of str, optional
        Which voxels.
    bands : tuple of str
        Targets, one band each.
    delays : tuple of int
        Of the features, in samples.
    series : bool
        Whether samples are a time series.
    n_voxels, n_train : int
        Voxels of the selection, training samples.
    n_permutations, seed : int
        Of the permutation test.
    device : str
        Where the search runs.
    block : int, optional
        Voxels of a block; by default what :func:`voxels_of_a_block` says.
    """

    store: Store
    subject: str
    task: str
    roi: str | tuple[str, ...] | None
    bands: tuple[str, ...]
    delays: tuple[int, ...]
    series: bool
    n_voxels: int
    n_train: int
    n_permutations: int
    seed: int
    device: str
    block: int | None = None

    def blocks(self) -> dict[str, VoxelBlock]:
        """Return the blocks of voxels, by name."""
        width = self.block or voxels_of_a_block(self.n_train)
        starts = range(0, self.n_voxels, width)
        parts = [VoxelBlock(self, start, min(start + width, self.n_voxels)) for start in starts]
        return {f"{self.subject} voxels {part.start}-{part.stop - 1}": part for part in parts}

    def products(self) -> dict[str, tuple[EncodingJob, str]]:
        """Return what computes the products of each band's features, by name."""
        return {self.name_of_products(band): (self, band) for band in self.bands}

    def name_of_products(self, band: str) -> str:
        """Return the name of the products of a band."""
        return f"{self.subject} products of {band}"

    def samples(self, split: str, voxels: slice) -> design.Samples:
        """Return the samples of a split with the responses of some voxels."""
        roi = self.roi if self.roi is None or isinstance(self.roi, str) else list(self.roi)
        return design.load_samples(self.store, self.subject, roi, split, self.task, voxels)


@dataclass(frozen=True)
class VoxelBlock:
    """Voxels `start` to `stop` of the selection of a job."""

    job: EncodingJob
    start: int
    stop: int


def voxels_of_a_block(n_train: int) -> int:
    """Return how many voxels make up a block, by the number of training samples."""
    width = max(SMALLEST_BLOCK, VOXELS_PER_SAMPLE * n_train)
    return max(1024, min(width, MOST_VALUES // max(1, n_train)) // 1024 * 1024)


# -- jobs -------------------------------------------------------------------------------------------------------------


def compute_products(task: tuple[EncodingJob, str]) -> Arrays:
    """Compute the products of one band's features between stimuli: ``within`` and ``across`` of :func:`grams`."""
    job, band = task
    train, test = (job.samples(split, slice(0, 0)) for split in ("train", "test"))
    within, across = design.grams(job.store, [band], train.stimuli, test.stimuli)
    return {"within": within[0], "across": across[0]}


def compute_voxels(products: Results, block: VoxelBlock) -> Arrays:
    """Fit and test the voxels of a block.

    Parameters
    ----------
    products : Results
        With the products of each band of the job.
    block : VoxelBlock
        Which voxels.

    Returns
    -------
    dict of str to array
        Scores of each voxel, and sums over the voxels of each ROI.
    """
    job, voxels = block.job, slice(block.start, block.stop)
    store = job.store
    if job.device == "cuda":
        choose_card()
    train, test = (job.samples(split, voxels) for split in ("train", "test"))
    rois = _rois(job)
    masks = {name: mask[voxels] for name, mask in rois.items()}
    members = np.array(list(masks.values()), dtype=bool).reshape(len(masks), block.stop - block.start)
    fit = fit_encoding(
        store,
        job.bands,
        train,
        test,
        job.delays,
        series=job.series,
        rois=members,
        n_permutations=job.n_permutations,
        seed=job.seed,
        device=job.device,
        products=_stacked(products, job),
    )
    sums = roi_sums(fit, masks, series=job.series, block=len(job.delays) + max(job.delays), seed=job.seed)
    return _packed(fit, members, sums)


def _rois(job: EncodingJob) -> dict[str, np.ndarray]:
    store = job.store
    return roi_masks(store, job.subject, store.voxels(job.subject, job.roi))


def _stacked(products: Results, job: EncodingJob) -> tuple[np.ndarray, np.ndarray]:
    within, across = [], []
    for band in job.bands:
        found = products.get(job.name_of_products(band))
        within.append(found["within"])
        across.append(found["across"])
    return np.stack(within), np.stack(across)


def _packed(fit: EncodingFit, members: np.ndarray, sums: RoiSums) -> Arrays:
    test, split, groups = fit.test, fit.test.split, fit.test.groups
    assert split is not None
    found = {name: getattr(test, name) for name in _TESTED}
    found |= {f"split_{name}": getattr(split, name) for name in _TESTED}
    counts = (members & ~np.isnan(test.observed)).sum(axis=1)
    means = np.zeros((0, 1 + test.n_permutations))
    if groups is not None:
        means = np.concatenate([groups.observed[:, None], groups.null], axis=1)
    roi_sums = np.where(counts[:, None] > 0, means * counts[:, None], 0.0)
    found |= {"roi_sums": roi_sums, "roi_counts": counts, "alpha": fit.alpha}
    return {**found, "share_sums": sums.sums, "share_counts": sums.counts}


# -- one map of all blocks --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class EncodingScores:
    """What banded ridge found in all voxels of one subject.

    Parameters
    ----------
    test : PermutationTest
        Joint R2 on the test stimuli, its p and null per voxel; ``test.split`` the same per band, ``test.groups`` the
        mean over each ROI.
    alpha : array, shape (voxel,)
        Regularization that cross-validation chose.
    ROIs : dict of str to RoiScore
        Mean split R2 of each ROI, with its interval.
    """

    test: PermutationTest
    alpha: np.ndarray
    rois: dict[str, RoiScore]


def gathered(results: Results, blocks: Iterable[str], rois: Mapping[str, np.ndarray]) -> EncodingScores:
    """Put the blocks of a subject together.

    Parameters
    ----------
    results : Results
        With the blocks.
    blocks : iterable of str
        Their names, in the order of the voxels.
    ROIs : mapping of str to bool array, shape (voxel,)
        All ROIs of the map.
    """
    parts = [results.get(name) for name in blocks]
    test = _tested(parts, "", _groups(parts))
    sums = RoiSums(parts[0]["share_sums"], parts[0]["share_counts"])
    for part in parts[1:]:
        sums = add_roi_sums(sums, RoiSums(part["share_sums"], part["share_counts"]))
    return EncodingScores(test, np.concatenate([part["alpha"] for part in parts]), scores_of_sums(sums, rois))


def _tested(parts: Sequence[Arrays], prefix: str, groups: GroupTest | None) -> PermutationTest:
    joined = {
        name: np.concatenate([part[prefix + name] for part in parts], axis=-1)
        for name in ("observed", "p", "null_mean")
    }
    null_max = np.fmax.reduce([part[f"{prefix}null_max"] for part in parts], axis=0)
    split = None if prefix else _tested(parts, "split_", None)
    return PermutationTest(**joined, null_max=null_max, n_permutations=null_max.shape[-1], split=split, groups=groups)


def _groups(parts: Sequence[Arrays]) -> GroupTest:
    sums = np.sum([part["roi_sums"] for part in parts], axis=0)
    counts = np.sum([part["roi_counts"] for part in parts], axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        means = sums / counts[:, None]
    p = np.full(len(means), np.nan)
    defined = counts > 0
    if defined.any():
        p[defined] = permutation_p(means[defined, 0], means[defined, 1:].T)
    return GroupTest(means[:, 0], p, means[:, 1:])
