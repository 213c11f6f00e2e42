"""Permutation tests of predictions: R2 and correlation of voxels and of groups of voxels.

A fitted encoding model predicts each sample as a sum of what the stimuli on screen 0, 1, 2 ... samples ago
contribute. These contributions are computed once. Under the null hypothesis the responses do not depend on
which stimulus was shown when, so the stimuli are re-ordered *before* their contributions are delayed and
summed: the permuted predictions are as smooth in time as the real ones, and the responses keep their own
temporal correlations, which is why the p-values hold for fMRI noise where a shuffle of samples would not.
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

#: Values of one block of predictions: small enough for a processor's cache, large enough to keep loops few.
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
) -> PermutationTest:
    """Test whether held-out responses are predicted better than in permuted orders of the stimuli.

    The prediction at sample t is ``sum over d of contributions[d, order[t - delays[d]]]``.

    Parameters
    ----------
    contributions : array, shape (delay, stimulus, voxel) or (band, delay, stimulus, voxel)
        What each stimulus adds to the prediction, at each delay (and from each band of features), as
        deviations from the intercept of the model.
    responses : array, shape (sample, voxel)
        Measured responses of the held-out samples.
    delays : sequence of int
        Delays in samples, in the order of the delay axis. ``(0,)`` for trial estimates.
    order : int array, shape (sample,), optional
        Which stimulus each sample shows, -1 for none. By default sample t shows stimulus t.
    runs : array, shape (sample,), optional
        A label for each sample; contributions do not leak from one run into the next. By default one run.
    within : array, shape (stimulus,), optional
        A label for each stimulus; only stimuli of the same label change places.
    intercept : array, shape (voxel,), optional
        Prediction where nothing contributes. By default the mean of `responses`: the baseline of a run is
        not tested.
    n_permutations, seed : int
        Number of permuted orders, and the seed they come from.
    statistic : {"r2", "correlation"}
        The score. With a band axis it is also split by the product measure, so that the shares of the bands
        sum to the joint score (for R2: where the responses have the mean `intercept`, as they have by
        default).
    groups : bool array, shape (group, voxel), optional
        Sets of voxels, e.g. ROIs, whose mean joint score is tested as well.

    Returns
    -------
    PermutationTest
        ``observed``, ``p``, ``null_mean``, ``null_max``, and ``split`` where there is a band axis.

    Raises
    ------
    InputError
        Where shapes do not fit, values are not finite, or there is nothing to permute.
    """
    predicted, measured = _check_arrays(contributions, responses, delays)
    if statistic not in SCORES:
        raise UnknownNameError("statistic", statistic, SCORES)
    n_samples, n_voxels = measured.shape
    places = _places(order, runs, delays, n_samples, predicted.shape[2])
    # Stimuli that were never on screen tell nothing about the order of those that were.
    shown = np.unique(places[places >= 0])
    places = np.where(places >= 0, np.searchsorted(shown, places), len(shown))
    labels = None if within is None else np.asarray(within)[shown]
    orders = stimulus_permutations(len(shown), n_permutations, seed, labels)
    offset = measured.mean(axis=0) if intercept is None else np.asarray(intercept, dtype=measured.dtype)

    width = max(1, _BLOCK_VALUES // n_samples)
    blocks = []
    watch = GroupMeans(groups, n_voxels, n_permutations)
    for start in range(0, n_voxels, width):
        block = slice(start, start + width)
        target = np.where(_varies(measured[:, block]), measured[:, block] - offset[block], 0)
        scorer = SCORES[statistic](contribution_table(predicted[:, :, shown, block]), places, target)
        blocks.append(_count(scorer, orders, watch.of(block)))
    parts = [gather([counters[part] for counters in blocks]) for part in range(len(blocks[0]))]
    joint = replace(parts[0], groups=watch.tested())
    return joint if np.ndim(contributions) == 3 else replace(joint, split=stack_bands(parts[1:]))


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
            "the predicted contributions do not fit the responses",
            given=f"contributions {np.shape(contributions)}, responses {measured.shape}, {len(delays)} delays",
            expected="([band,] delay, stimulus, voxel), (sample, voxel), a number for each delay",
        )
    if not (np.isfinite(predicted).all() and np.isfinite(measured).all()):
        raise InputError(
            "a prediction cannot be tested on values that are not finite",
            given=f"{int((~np.isfinite(predicted)).sum())} of the contributions and "
            f"{int((~np.isfinite(measured)).sum())} of the responses are NaN or infinite",
            todo="leave out such voxels (and samples) first",
        )
    return predicted, measured


def _places(
    order: ArrayLike | None, runs: ArrayLike | None, delays: Sequence[int], n_samples: int, n_stimuli: int
) -> NDArray[np.int64]:
    """Return which stimulus was on screen `delay` samples ago, (delay, sample), -1 for none."""
    if order is None and n_stimuli != n_samples:
        raise InputError(
            "it is not clear which sample shows which stimulus",
            given=f"{n_stimuli} stimuli, {n_samples} samples",
            expected="as many stimuli as samples, or order=",
            todo="pass order=, the index of the stimulus that each sample shows (-1 for none)",
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
            "`order` names stimuli that are not there",
            given=f"indices from {sequence.min()} to {sequence.max()}",
            expected=f"0 to {n_stimuli - 1}, or -1 for a blank screen, and at least one stimulus",
        )
    run = np.concatenate([[0], np.cumsum(labels[1:] != labels[:-1])])
    if run[-1] + 1 != len(np.unique(labels)):
        raise InputError(
            "the samples of a run have to follow each other",
            given=f"{len(np.unique(labels))} runs in {run[-1] + 1} pieces",
            todo="sort the samples by run and time",
        )
    places = np.full((len(delays), n_samples), -1, dtype=np.int64)
    for row, delay in zip(places, delays, strict=True):
        source = np.arange(n_samples) - delay
        inside = (source >= 0) & (source < n_samples)
        inside[inside] = run[source[inside]] == run[inside]
        row[inside] = sequence[source[inside]]
    return places


def _varies(measured: NDArray) -> NDArray[np.bool_]:
    """Whether a voxel's responses vary by more than the rounding errors of their mean."""
    rounding = 10 * np.finfo(measured.dtype).eps * np.abs(measured).max(axis=0)
    return np.ptp(measured, axis=0) > rounding


def _count(
    scorer: Scorer, orders: NDArray[np.int64], watch: Callable[[int, NDArray], None]
) -> list[PermutationCounter]:
    """Return counters of the joint score and of each band's share; tell `watch` every joint score."""
    scores = scorer()
    counters = [PermutationCounter(observed) for observed in scores]
    watch(0, scores[:1])
    for start in range(0, len(orders), _BATCH):
        null = np.stack([scorer(order) for order in orders[start : start + _BATCH]], axis=1)
        for counter, scores in zip(counters, null, strict=True):
            counter.update(scores)
        watch(1 + start, null[0])
    return counters
