"""Permutation test of predictions on held-out responses, without ever fitting again.

A fitted encoding model predicts each sample as a sum of what the stimuli on screen 0, 1, 2 ... samples ago
contribute. These contributions are computed once. Under the null hypothesis the responses do not depend on
which stimulus was shown when, so the stimuli are re-ordered *before* their contributions are delayed and
summed: the permuted predictions are as smooth in time as the real ones, and the responses keep their own
temporal correlations, which is why the p-values hold for fMRI noise where a shuffle of samples would not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from neurorecon.errors import InputError, UnknownNameError
from neurorecon.stats.permutation import PermutationCounter, stimulus_permutations
from neurorecon.stats.permutation_results import GroupMeans, PermutationTest, gather, stack_bands
from neurorecon.stats.prediction_scores import SCORES, Scorer, contribution_table

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
        Sets of voxels, e.g. areas, whose mean joint score is tested as well.

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
