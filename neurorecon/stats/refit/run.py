"""The loop of a refit test: over voxels of the same mixture, blocks of them, and permuted orders."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from neurorecon.errors import InputError, UnknownNameError
from neurorecon.stats.permutation import PermutationCounter
from neurorecon.stats.permutation_results import GroupMeans, PermutationTest, gather, stack_bands
from neurorecon.stats.refit.checks import check_responses, mixture_groups, require_finite, unit_folds
from neurorecon.stats.refit.factors import Rows, Source
from neurorecon.stats.refit.model import Model
from neurorecon.stats.refit.search import Place, check_alphas
from neurorecon.stats.units import UnitPermutations

#: Bytes of one block of responses, and voxels of it at most.
_BLOCK_BYTES, _BLOCK_VOXELS = 2**26, 2048

#: Permutations scored before they are counted.
_BATCH = 50


@dataclass(frozen=True)
class RefitOptions:
    """How to test; see :func:`neurorecon.stats.refit_permutation_test`, whose parameters these are."""

    alphas: ArrayLike
    cv: Any
    units: ArrayLike | None
    within: ArrayLike | None
    mixtures: ArrayLike | None
    n_permutations: int
    seed: int
    statistic: Literal["r2", "correlation"]
    groups: ArrayLike | None
    device: str
    dtype: str
    progress: bool


def run(source: Source, responses: Any, test_responses: Any, options: RefitOptions) -> PermutationTest:
    """Return the test of one source of factorizations: features or kernels.

    Parameters
    ----------
    source : FeatureSource or KernelSource
        Of training and test samples.
    responses, test_responses : array, shape (sample, voxel) and (test_sample, voxel)
        Sliced by voxels.
    options : RefitOptions
        How.
    """
    measured, held_out = (part if hasattr(part, "shape") else np.asarray(part) for part in (responses, test_responses))
    check_responses(measured, held_out, source)
    if options.statistic not in ("r2", "correlation"):
        raise UnknownNameError("statistic", options.statistic, ("r2", "correlation"))
    n_permutations = options.n_permutations
    if n_permutations < 1:
        raise InputError("these settings make no test", given=f"n_permutations={n_permutations}", expected="1 or more")
    place, strengths = Place(options.device, options.dtype), check_alphas(options.alphas)
    orders = UnitPermutations(source.n_samples, n_permutations, options.seed, options.units, options.within)
    generalized = isinstance(options.cv, str) and options.cv == "gcv"
    folds = None if generalized else unit_folds(options.cv, orders.labels, options.units is not None)
    n_voxels = measured.shape[1]
    watch = GroupMeans(options.groups, n_voxels, n_permutations)
    chosen = np.empty(n_voxels)
    counted, where = [], []
    with _bar(options.progress, n_voxels * (1 + n_permutations)) as bar:
        for weights, voxels in mixture_groups(options.mixtures, source, n_voxels):
            model = Model(source, weights, strengths, folds, options.statistic, place, orders)
            for block in _blocks(voxels, source.n_samples, place.dtype):
                model.take(_slice(measured, block), _slice(held_out, block))
                counters = [PermutationCounter(scores) for scores in model.scores(None)]
                chosen[block] = strengths[model.chosen]
                watch.of(block)(0, np.stack([counters[0].observed]))
                bar.update(len(block))
                for first, batch in _batches(orders.orders):
                    null = np.stack([model.scores(order) for order in batch], axis=1)
                    for counter, scores in zip(counters, null, strict=True):
                        counter.update(scores)
                    watch.of(block)(1 + first, null[0])
                    bar.update(len(block) * len(batch))
                counted.append(counters)
                where.append(block)
    parts = [gather([counters[part] for counters in counted], where) for part in range(len(counted[0]))]
    joint = replace(parts[0], groups=watch.tested(), alphas=chosen)
    return joint if len(parts) == 1 else replace(joint, split=stack_bands(parts[1:]))


def _blocks(voxels: NDArray[np.int64], n_samples: int, dtype: str) -> Iterator[NDArray[np.int64]]:
    width = int(np.clip(_BLOCK_BYTES // (np.dtype(dtype).itemsize * n_samples), 64, _BLOCK_VOXELS))
    for start in range(0, len(voxels), width):
        yield voxels[start : start + width]


def _slice(responses: Any, block: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return some voxels in double precision; neighbors as a slice, which lazy arrays read quickest."""
    whole = block[-1] - block[0] + 1 == len(block)
    part = responses[:, slice(block[0], block[-1] + 1) if whole else block]
    values = np.asarray(part, dtype=np.float64)
    require_finite(responses=values)
    return values


def _batches(orders: Iterable[Rows]) -> Iterator[tuple[int, list[Rows]]]:
    batch: list[Rows] = []
    first = 0
    for rows in orders:
        batch.append(rows)
        if len(batch) == _BATCH:
            yield first, batch
            first, batch = first + _BATCH, []
    if batch:
        yield first, batch


def _bar(show: bool, total: int) -> Any:
    from tqdm import tqdm

    return tqdm(total=total, desc="permutations", unit="fit", unit_scale=True, disable=not show)
