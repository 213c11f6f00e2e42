"""Permutation tests of predictions, for single voxels and for groups of voxels.

A fitted encoding model predicts each sample as the sum of the contributions of the stimuli shown 0, 1, 2 ... samples
before. These contributions are computed once. Under the null hypothesis, responses do not depend on which stimulus was
shown when, so stimuli are permuted *before* their contributions are delayed and summed. Permuted predictions are then
as smooth in time as the real ones, and responses keep their temporal autocorrelation. The p-values are therefore valid
for fMRI noise, unlike those from shuffled samples.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from neurorecon.errors import InputError, UnknownNameError
from neurorecon.stats.permutation import PermutationCounter, permutation_p, stimulus_permutations


@dataclass(frozen=True)
class GroupTest:
    """Tests of mean scores over groups of voxels, e.g. ROIs.

    Parameters
    ----------
    observed, p : array, shape (group,) or (band, group)
        Mean score over the group's voxels, and its one-sided p-value; NaN for groups without voxels.
    null : array, shape (group, permutation) or (band, group, permutation)
        Null distribution of the mean score.
    """

    observed: NDArray[np.float64]
    p: NDArray[np.float64]
    null: NDArray[np.float64]


@dataclass(frozen=True)
class PermutationTest:
    """Result of a permutation test.

    Parameters
    ----------
    observed : array, shape (voxel,) or (band, voxel)
        Observed score; NaN for voxels whose responses do not vary.
    p : array, shape (voxel,) or (band, voxel)
        One-sided p-values, not corrected for the number of voxels.
    null_mean : array, shape (voxel,) or (band, voxel)
        Mean score over permutations.
    null_max : array, shape (permutation,) or (band, permutation)
        Maximum score over voxels in each permutation, for :func:`neurorecon.stats.max_statistic_p`.
    n_permutations : int
        Number of permutations.
    split : PermutationTest, optional
        Test of the share of each band in the score.
    groups : GroupTest, optional
        Test of the mean joint score of groups of voxels.
    alphas : array, shape (voxel,), optional
        Alpha chosen for the observed responses, if models are refitted.
    statistic : str
        What is tested.
    """

    observed: NDArray[np.float64]
    p: NDArray[np.float64]
    null_mean: NDArray[np.float64]
    null_max: NDArray[np.float64]
    n_permutations: int
    split: PermutationTest | None = None
    groups: GroupTest | None = None
    alphas: NDArray[np.float64] | None = None
    statistic: str = "r2"

    def untested(self) -> PermutationTest:
        """Return the same scores without p-values, where no test is valid."""
        groups = None if self.groups is None else replace(self.groups, p=np.full_like(self.groups.p, np.nan))
        split = None if self.split is None else self.split.untested()
        return replace(self, p=np.full_like(self.p, np.nan), groups=groups, split=split)


class GroupMeans:
    """Mean scores over groups of voxels, accumulated over blocks of voxels."""

    def __init__(self, groups: ArrayLike | None, n_voxels: int, n_permutations: int) -> None:
        self.members = np.zeros((0, n_voxels)) if groups is None else np.asarray(groups, dtype=np.float64)
        if self.members.ndim != 2 or self.members.shape[1] != n_voxels:
            raise InputError(
                "the groups of voxels do not match the responses",
                given=f"shape {self.members.shape}",
                expected=f"(group, {n_voxels})",
            )
        self.sums = np.zeros((len(self.members), 1 + n_permutations))
        self.counts = np.zeros(len(self.members))

    def of(self, block: slice | NDArray[np.int64]) -> Callable[[int, NDArray], None]:
        """Return a function ``f(first_row, scores)`` that adds scores, (row, voxel), of a block of voxels."""
        members = self.members[:, block]

        def watch(first: int, scores: NDArray) -> None:
            defined = ~np.isnan(scores[0])
            self.sums[:, first : first + len(scores)] += members[:, defined] @ scores[:, defined].T
            if first == 0:
                self.counts += members[:, defined].sum(axis=1)

        return watch

    def tested(self) -> GroupTest | None:
        """Return the test of the mean score of each group, or None without groups."""
        if not len(self.members):
            return None
        with np.errstate(invalid="ignore", divide="ignore"):
            means = self.sums / self.counts[:, None]
        p = np.full(len(means), np.nan)
        defined = self.counts > 0
        p[defined] = permutation_p(means[defined, 0], means[defined, 1:].T)
        return GroupTest(means[:, 0], p, means[:, 1:])


def gather(blocks: list[PermutationCounter], voxels: list[NDArray[np.int64]] | None = None) -> PermutationTest:
    """Combine blocks of voxels.

    Parameters
    ----------
    blocks : list of PermutationCounter
        Counters of all blocks.
    voxels : list of int array, optional
        Voxels of each block. By default, blocks are consecutive.

    Returns
    -------
    PermutationTest
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
    """Stack the tests of all bands along a band axis."""
    names = ("observed", "p", "null_mean", "null_max")
    observed, p, null_mean, null_max = (np.stack([getattr(band, name) for band in bands]) for name in names)
    tested = [band.groups for band in bands if band.groups is not None]
    groups = None
    if tested:
        groups = GroupTest(*(np.stack([getattr(part, name) for part in tested]) for name in ("observed", "p", "null")))
    return PermutationTest(
        observed, p, null_mean, null_max, bands[0].n_permutations, groups=groups, statistic=bands[0].statistic
    )


def contribution_table(predicted: NDArray) -> NDArray:
    """Append a blank stimulus, which contributes 0: (band, delay, stimulus + 1, voxel)."""
    bands, delays, stimuli, voxels = predicted.shape
    table = np.zeros((bands, delays, stimuli + 1, voxels), dtype=predicted.dtype)
    table[:, :, :-1] = predicted
    return table


class Scorer:
    """Predictions and scores of a block of voxels for any order of stimuli; buffers are reused."""

    def __init__(self, table: NDArray, places: NDArray[np.int64], target: NDArray) -> None:
        self.table, self.places, self.target = table, places, target
        self.parts = np.empty((len(table), *target.shape), dtype=target.dtype)
        self.joint = self.parts[0] if len(table) == 1 else np.empty_like(target)
        self.buffer = np.empty_like(target)
        self.prepare()

    def prepare(self) -> None:
        """Compute everything that does not depend on the order."""
        raise NotImplementedError

    def score(self) -> NDArray:
        """Return the share of each band, (band, voxel)."""
        raise NotImplementedError

    def __call__(self, order: NDArray[np.int64] | None = None) -> NDArray:
        """Return the joint score and the share of each band, (score, voxel)."""
        self.predict(order)
        shares = self.score()
        return np.concatenate([shares.sum(axis=0, keepdims=True) + self.constant, shares])

    #: Added to the sum of the shares.
    constant: NDArray | float = 0.0

    def predict(self, order: NDArray[np.int64] | None) -> None:
        """Compute the contribution of each band, and their sum, for an order of the stimuli."""
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
    """Pearson correlation; 0 for constant predictions."""

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

#: Values in a block of predictions: small enough for the CPU cache, large enough to need few iterations.
_BLOCK_VALUES = 2**18

#: Permutations scored before they are counted.
_BATCH = 100


def permutation_test_r2(
    contributions: ArrayLike,
    responses: ArrayLike,
    *,
    delays: Sequence[int] = (0,),
    order: ArrayLike | None = None,
    runs: ArrayLike | None = None,
    within: ArrayLike | None = None,
    intercept: ArrayLike | None = None,
    n_permutations: int = 1000,
    seed: int = 0,
    statistic: Literal["r2", "correlation"] = "r2",
    groups: ArrayLike | None = None,
    inflation: float = 1.0,
) -> PermutationTest:
    """Test whether predictions of held-out responses are better than with permuted stimuli.

    The prediction for sample t is the sum over d of ``contributions[d, order[t - delays[d]]]``. The model is not
    refitted; see :func:`refit_permutation_test` for a test that does so.

    Parameters
    ----------
    contributions : array, shape (delay, stimulus, voxel) or (band, delay, stimulus, voxel)
        Contribution of each stimulus to the prediction at each delay (and of each band), without the intercept.
    responses : array, shape (sample, voxel)
        Measured responses of the held-out samples.
    delays : sequence of int
        Delays in samples, in the order of the delay axis. Use ``(0,)`` for trial estimates.
    order : int array, shape (sample,), optional
        Index of the stimulus shown in each sample, or -1 for none. By default, sample t shows stimulus t.
    runs : array, shape (sample,), optional
        Run of each sample; contributions do not extend into the next run. By default, there is one run.
    within : array, shape (stimulus,), optional
        Exchangeability block of each stimulus. Stimuli are exchanged only within a block.
    intercept : array, shape (voxel,), optional
        Intercept of the model. By default the mean of `responses`, so that the baseline is not tested.
    n_permutations, seed : int
        Number of permutations, and their seed.
    statistic : {"r2", "correlation"}
        Score. With a band axis, it is also split by the product measure. The shares of the bands sum to the joint
        score (for R2, if `intercept` is the mean of `responses`, as it is by default).
    groups : bool array, shape (group, voxel), optional
        Sets of voxels, e.g. ROIs, whose mean score is tested as well.
    inflation : float
        Permuted scores are multiplied by this; the root of 2 makes tests of cross-validated correlations valid.

    Returns
    -------
    PermutationTest
        ``observed``, ``p``, ``null_mean``, ``null_max``, and ``split`` if there is a band axis.

    Raises
    ------
    InputError
        If shapes do not match, values are not finite, or stimuli cannot be permuted.
    """
    predicted, measured = _check_arrays(contributions, responses, delays)
    if statistic not in SCORES:
        raise UnknownNameError("statistic", statistic, SCORES)
    n_samples, n_voxels = measured.shape
    places = _places(order, runs, delays, n_samples, predicted.shape[2])
    # Only stimuli that were shown are permuted.
    shown = np.unique(places[places >= 0])
    places = np.where(places >= 0, np.searchsorted(shown, places), len(shown))
    labels = None if within is None else np.asarray(within)[shown]
    orders = stimulus_permutations(len(shown), n_permutations, seed, labels)
    offset = measured.mean(axis=0) if intercept is None else np.asarray(intercept, dtype=measured.dtype)

    width = max(1, _BLOCK_VALUES // n_samples)
    blocks = []
    watches = [GroupMeans(groups, n_voxels, len(orders)) for _ in range(1 + len(predicted))]
    for start in range(0, n_voxels, width):
        block = slice(start, start + width)
        target = np.where(varies(measured[:, block]), measured[:, block] - offset[block], 0)
        scorer = SCORES[statistic](contribution_table(predicted[:, :, shown, block]), places, target)
        blocks.append(_count(scorer, orders, [watch.of(block) for watch in watches], inflation))
    parts = [
        replace(gather([counters[part] for counters in blocks]), groups=watch.tested(), statistic=statistic)
        for part, watch in enumerate(watches)
    ]
    return parts[0] if np.ndim(contributions) == 3 else replace(parts[0], split=stack_bands(parts[1:]))


def _check_arrays(contributions: ArrayLike, responses: ArrayLike, delays: Sequence[int]) -> tuple[NDArray, NDArray]:
    predicted, measured = np.asarray(contributions), np.asarray(responses)
    dtype = np.result_type(predicted.dtype, measured.dtype, np.float32)
    predicted, measured = predicted.astype(dtype, copy=False), measured.astype(dtype, copy=False)
    if predicted.ndim == 3:
        predicted = predicted[None]
    if (
        predicted.ndim != 4
        or measured.ndim != 2
        or predicted.shape[1] != len(delays)
        or predicted.shape[3] != measured.shape[1]
        or 0 in (*measured.shape, *predicted.shape)
    ):
        raise InputError(
            "the contributions do not match the responses",
            given=f"contributions {np.shape(contributions)}, responses {measured.shape}, {len(delays)} delays",
            expected="contributions ([band,] delay, stimulus, voxel) and responses (sample, voxel)",
        )
    if not (np.isfinite(predicted).all() and np.isfinite(measured).all()):
        raise InputError(
            "contributions and responses must be finite",
            given=f"{int((~np.isfinite(predicted)).sum())} contributions and "
            f"{int((~np.isfinite(measured)).sum())} responses that are NaN or infinite",
            todo="exclude such voxels (or samples) first",
        )
    return predicted, measured


def _places(
    order: ArrayLike | None, runs: ArrayLike | None, delays: Sequence[int], n_samples: int, n_stimuli: int
) -> NDArray[np.int64]:
    """Return the index of the stimulus shown each delay before each sample, (delay, sample); -1 for none."""
    if order is None and n_stimuli != n_samples:
        raise InputError(
            "it is not clear which sample shows which stimulus",
            given=f"{n_stimuli} stimuli, {n_samples} samples",
            expected="as many stimuli as samples, or `order`",
            todo="pass `order`, the index of the stimulus shown in each sample (-1 for none)",
        )
    sequence = np.arange(n_samples) if order is None else np.asarray(order)
    labels = np.zeros(n_samples, dtype=int) if runs is None else np.asarray(runs)
    if sequence.shape != (n_samples,) or labels.shape != (n_samples,):
        raise InputError(
            "`order` and `runs` need one entry for each sample",
            given=f"shapes {sequence.shape} and {labels.shape}",
            expected=f"({n_samples},)",
        )
    if sequence.min() < -1 or sequence.max() >= n_stimuli or sequence.max() < 0:
        raise InputError(
            "`order` contains stimuli that do not exist",
            given=f"indices from {sequence.min()} to {sequence.max()}",
            expected=f"0 to {n_stimuli - 1}, or -1 for none, with at least one stimulus",
        )
    run = np.concatenate([[0], np.cumsum(labels[1:] != labels[:-1])])
    if run[-1] + 1 != len(np.unique(labels)):
        raise InputError(
            "the samples of each run must be consecutive",
            given=f"{len(np.unique(labels))} runs in {run[-1] + 1} stretches",
            todo="sort the samples by run and time",
        )
    places = np.full((len(delays), n_samples), -1, dtype=np.int64)
    for row, delay in zip(places, delays, strict=True):
        source = np.arange(n_samples) - delay
        inside = (source >= 0) & (source < n_samples)
        inside[inside] = run[source[inside]] == run[inside]
        row[inside] = sequence[source[inside]]
    return places


def varies(measured: NDArray) -> NDArray[np.bool_]:
    """Return which voxels vary by more than the rounding errors of their mean, (voxel,)."""
    rounding = 10 * np.finfo(measured.dtype).eps * np.abs(measured).max(axis=0, initial=0)
    return np.ptp(measured, axis=0) > rounding


def _count(
    scorer: Scorer, orders: NDArray[np.int64], watches: list[Callable[[int, NDArray], None]], inflation: float
) -> list[PermutationCounter]:
    """Return counters of the joint score and of the share of each band; pass the scores of each to its watch."""
    scores = scorer()
    counters = [PermutationCounter(observed) for observed in scores]
    for watch, observed in zip(watches, scores, strict=True):
        watch(0, observed[None])
    for start in range(0, len(orders), _BATCH):
        null = inflation * np.stack([scorer(order) for order in orders[start : start + _BATCH]], axis=1)
        for counter, watch, values in zip(counters, watches, null, strict=True):
            counter.update(values)
            watch(1 + start, values)
    return counters
