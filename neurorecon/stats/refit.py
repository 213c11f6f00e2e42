"""Permutation tests that refit the model, its alphas and its mixtures of bands included, in every permutation.

The null hypothesis is that responses do not depend on which stimulus was shown. Training responses can then be
exchanged between stimuli, and the whole procedure (choice of alpha and of the mixture of bands for each voxel, fit, and
scores on the test set) is repeated for each permutation. Whatever is chosen with the training responses has to be
chosen again: a mixture that was chosen in the observed order flatters it (false positive rate .09 at .05).

In the notation of :mod:`neurorecon.stats.factorization`, permuting the rows of Y is equivalent to permuting the rows of
U. One factorization of the features therefore serves all permutations, each of which costs one product ``U[order]' Y``
and a few smaller ones; several candidate mixtures take one factorization each.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import factorial, prod
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from neurorecon.errors import InputError, UnknownNameError
from neurorecon.stats.factorization import (
    Arrays,
    FeatureSource,
    GeneralizedCrossValidation,
    Indices,
    KernelSource,
    KFold,
    Source,
)
from neurorecon.stats.permutation import PermutationCounter, UnitPermutations
from neurorecon.stats.prediction import GroupMeans, PermutationTest, gather, stack_bands, varies

#: Scores on the test samples.
Statistic = Literal["r2", "correlation", "covariance"]
STATISTICS = ("r2", "correlation", "covariance")


@dataclass(frozen=True)
class RefitTest(PermutationTest):
    """Result of a permutation test that refits the model.

    Parameters
    ----------
    statistic : {"r2", "correlation", "covariance"}
        Score on the test samples.
    mixtures : array, shape (band, voxel), optional
        Mixture of bands chosen for the observed responses, if mixtures were searched.
    """

    statistic: str = "r2"
    mixtures: NDArray[np.float64] | None = None


class HeldOutScore:
    """Scores of the predictions ``T W`` for the test samples, computed in the coordinates of the regression.

    Parameters
    ----------
    test : array, shape (band, test_sample, component)
        Coordinates T.
    measured : array, shape (test_sample, voxel)
        Test responses.
    intercept : array, shape (voxel,)
        Mean of the training responses.
    statistic : {"r2", "correlation", "covariance"}
        R2 about the mean of the test responses, Pearson's correlation, or the covariance of predictions and responses
        over the variance of the responses.
    arrays : Arrays
        Device and precision.
    """

    def __init__(
        self,
        test: NDArray[np.float64],
        measured: NDArray[np.float64],
        intercept: NDArray[np.float64],
        statistic: Statistic,
        arrays: Arrays,
    ) -> None:
        deviations = measured - measured.mean(axis=0)
        total = np.where(varies(measured), (deviations**2).sum(axis=0), np.nan)
        self._statistic = statistic
        if statistic == "r2":
            from_train = measured - intercept
            true = np.where(np.isnan(total), 0, from_train)
            self._constant = 1 - (true**2).sum(axis=0) / total
        else:
            test = test - test.mean(axis=1, keepdims=True)
            # A covariance in units of the responses would depend on what they are measured in.
            norm = np.sqrt(total) if statistic == "correlation" else total
            true = np.where(np.isnan(total), 0, deviations / norm)
            self._constant = np.zeros(len(total))
        # Predictions of smaller norm are constant up to rounding.
        self._smallest = np.finfo(arrays.dtype).tiny ** 0.5
        self._total, self._arrays = total, arrays
        basis, reduced = _reduce(test)
        self._test = [arrays.put(part) for part in reduced]
        self._true = arrays.put(true if basis is None else basis.T @ true)

    def __call__(self, weights: Any) -> NDArray:
        """Return the joint score and, with several bands, their shares by the product measure, (score, voxel)."""
        parts = [part @ weights for part in self._test]
        joint = sum(parts[1:], parts[0])
        against = 2 * self._true - joint if self._statistic == "r2" else self._true
        shares = np.stack([self._arrays.get((part * against).sum(0)) for part in parts]).astype(np.float64)
        if self._statistic == "r2":
            shares = shares / self._total
        elif self._statistic == "correlation":
            norm = np.sqrt(self._arrays.get((joint * joint).sum(0)).astype(np.float64))
            shares = np.where(norm > self._smallest, shares / np.where(norm > self._smallest, norm, 1), 0)
        shares = np.where(np.isnan(self._total), np.nan, shares)
        scores = shares.sum(axis=0, keepdims=True) + self._constant
        return (scores if len(parts) == 1 else np.concatenate([scores, shares])).astype(self._arrays.dtype)


def _reduce(test: NDArray[np.float64]) -> tuple[NDArray[np.float64] | None, NDArray[np.float64]]:
    """Return an orthonormal basis of the predictions and coordinates in it, if that saves computation.

    Predictions for many samples lie in a space of as many dimensions as there are components; sums of their products
    need only coordinates in that space.
    """
    n_bands, n_samples, n_components = test.shape
    if n_samples <= n_bands * n_components or not n_components:
        return None, test
    basis, triangle = np.linalg.qr(np.concatenate(list(test), axis=1))
    return basis, np.stack(np.split(triangle, n_bands, axis=1))


def check_alphas(alphas: Any) -> NDArray[np.float64]:
    """Return candidate alphas as an array, (alpha,)."""
    try:
        values = np.atleast_1d(np.asarray(alphas, dtype=np.float64))
    except (TypeError, ValueError):  # text, or sequences of different lengths
        values = np.empty(0)
    if values.ndim != 1 or not values.size or not np.isfinite(values).all() or values.min() <= 0:
        raise InputError(
            "alphas must be positive numbers",
            given=repr(alphas),
            expected="one or more numbers above 0",
            todo="choose others, e.g. np.logspace(0, 6, 7)",
        )
    return values


class Model:
    """A factorization and the block of voxels that it is repeatedly fitted to."""

    def __init__(
        self,
        source: Source,
        weights: NDArray[np.float64],
        alphas: NDArray[np.float64],
        folds: list[tuple[Indices, Indices]] | None,
        statistic: Statistic,
        arrays: Arrays,
        orders: UnitPermutations,
        compared: bool,
    ) -> None:
        factors = source.factors(weights)
        self._test, self._statistic, self._arrays, self._orders = factors.test, statistic, arrays, orders
        self._shrinkage = arrays.put(factors.shrinkage(alphas))
        self._search: GeneralizedCrossValidation | KFold | None = None
        if len(alphas) > 1 or compared:
            if folds is not None:
                self._search = KFold(folds, [source.factors(weights, *fold) for fold in folds], alphas, arrays)
            else:
                self._search = GeneralizedCrossValidation(factors, alphas, arrays)
        # Repeats have the same features, hence the same rows in U, so U'Y only needs sums over repeats.
        self._summed = orders.repeats and not isinstance(self._search, KFold) and source.is_repeated(orders.labels)
        self._u = arrays.put(factors.u[orders.first] if self._summed else factors.u)

    def take(self, measured: NDArray[np.float64], held_out: NDArray[np.float64]) -> None:
        """Set the block of responses, (sample, voxel) and (test_sample, voxel)."""
        mean = measured.mean(axis=0)
        centered = np.where(varies(measured), measured - mean, 0)
        self._score = HeldOutScore(self._test, held_out, mean, self._statistic, self._arrays)
        self._total = self._arrays.put((centered**2).sum(axis=0))
        self._y = self._arrays.put(self._orders.sums(centered) if self._summed else centered)

    def fit(self, order: Indices | None) -> tuple[NDArray, NDArray, Indices]:
        """Fit with unit u replaced by ``order[u]`` (None: observed order).

        Returns
        -------
        scores : array, shape (score, voxel)
            Joint score, and with several bands their shares.
        losses : array, shape (voxel,)
            Criterion by which alpha was chosen; 0 if nothing was to be chosen.
        chosen : int array, shape (voxel,)
            Index of the chosen alpha.
        """
        rows = None
        u = self._u
        if order is not None:
            rows = order if self._summed else self._orders.rows(order)
            back = np.empty_like(rows)
            back[rows] = np.arange(len(rows))
            u = u[self._arrays.put(back, "int64")]
        projected = u.T @ self._y
        if self._search is None:
            nothing = np.zeros(projected.shape[1])
            return self._score(self._shrinkage * projected), nothing, nothing.astype(np.int64)
        index, losses = self._search.choose(rows, self._y, projected, self._total)
        shrinkage = self._shrinkage[:, self._arrays.put(index, "int64")]
        return self._score(shrinkage * projected), losses, index


def band_columns(bands: Any, n_features: int) -> list[NDArray[np.int64]]:
    """Return the feature indices of each band; all features if there are no bands."""
    everything = np.arange(n_features)
    if bands is None:
        return [everything]
    columns = [everything[part if isinstance(part, slice) else np.asarray(part)] for part in bands.values()]
    used = np.bincount(np.concatenate(columns), minlength=n_features)
    if (used != 1).any():
        raise InputError(
            "each feature must be in exactly one band",
            given=f"{int((used > 1).sum())} features in several bands, {int((used == 0).sum())} in none",
            expected=f"bands that partition the {n_features} features",
        )
    return columns


def candidate_mixtures(n_bands: int) -> NDArray[np.float64]:
    """Return the mixtures that are searched by default: equal weights of all bands, and each band alone.

    They do not depend on data. In simulations, the R2 of this search was within .01 of that of all designed mixtures of
    :class:`neurorecon.BandedRidge` with two bands, within .03 with five, and the test found as many voxels.

    Parameters
    ----------
    n_bands : int
        Number of bands.

    Returns
    -------
    array, shape (candidate, band)
        Kernel weights; rows sum to 1. One row for one band.
    """
    equal = np.full((1, n_bands), 1 / n_bands)
    return equal if n_bands == 1 else np.concatenate([equal, np.eye(n_bands)])


def mixture_groups(
    mixtures: ArrayLike | Literal["search"] | None, candidates: ArrayLike | None, n_bands: int, n_voxels: int
) -> Iterator[tuple[NDArray[np.float64], NDArray[np.int64]]]:
    """Yield sets of candidate mixtures, (candidate, band), with the voxels that choose among them."""
    everything = np.arange(n_voxels)
    if candidates is not None or isinstance(mixtures, str):
        if mixtures is not None and not (isinstance(mixtures, str) and mixtures == "search"):
            raise InputError(
                "mixtures are either given or searched",
                given=repr(mixtures)
                if isinstance(mixtures, str)
                else f"mixtures of shape {np.shape(mixtures)} and candidates",
                expected='an array of mixtures, or mixtures="search" with or without candidates',
            )
        rows = candidate_mixtures(n_bands) if candidates is None else np.asarray(candidates, dtype=np.float64)
        fits = rows.ndim == 2 and len(rows) and rows.shape[1] == n_bands and np.isfinite(rows).all()
        if not fits or (rows < 0).any() or (rows.sum(axis=1) <= 0).any():
            raise InputError(
                "the candidate mixtures do not match the bands",
                given=f"shape {rows.shape}",
                expected=f"shape (candidate, {n_bands}), finite and non-negative, without rows of zeros",
            )
        yield rows, everything
        return
    if mixtures is None:
        if n_bands > 1:
            raise InputError(
                "several bands need mixtures",
                given=f"{n_bands} bands and no mixtures",
                expected='mixtures="search", or mixtures of shape (band, voxel)',
                todo='pass mixtures="search" to choose among candidates, in every permutation again; mixtures chosen '
                "on the same responses (model.mixtures_) make p-values too small",
            )
        yield np.ones((1, 1)), everything
        return
    given = np.asarray(mixtures, dtype=np.float64)
    if given.shape != (n_bands, n_voxels) or not np.isfinite(given).all() or given.min() < 0:
        raise InputError(
            "the mixtures do not match the bands and voxels",
            given=f"shape {given.shape}",
            expected=f"shape ({n_bands}, {n_voxels}), finite and non-negative",
        )
    # Weights that differ only by rounding come from the same candidate.
    unique, member = np.unique(np.round(given.T, 6), axis=0, return_inverse=True)
    for number in range(len(unique)):
        voxels = np.flatnonzero(member.ravel() == number)
        yield given[:, voxels[:1]].T, voxels


def unit_folds(cv: Any, labels: NDArray[np.int64], grouped: bool) -> list[tuple[Indices, Indices]]:
    """Return folds that keep units together."""
    if isinstance(cv, str):
        raise UnknownNameError("way to choose alpha", cv, ("gcv", "a number of folds", "folds"))
    if isinstance(cv, int | np.integer):
        from sklearn.model_selection import GroupKFold
        from sklearn.model_selection import KFold as Contiguous

        if cv < 2 or cv > len(np.unique(labels)):
            raise InputError(
                "the number of folds does not match the number of units",
                given=f"cv={cv}, {len(np.unique(labels))} units",
                expected="at least two folds, and at least one unit per fold",
            )
        cv = GroupKFold(int(cv)).split(labels, groups=labels) if grouped else Contiguous(int(cv)).split(labels)
    folds = [(np.asarray(train), np.asarray(held_out)) for train, held_out in cv]
    if any(np.isin(labels[held_out], labels[train]).any() for train, held_out in folds):
        raise InputError(
            "a fold has samples of one unit on both sides",
            expected="folds that keep repeats of a stimulus (or a run) together",
        )
    return folds


def check_responses(measured: Any, held_out: Any, source: Source) -> None:
    """Raise an InputError if responses do not match the features."""
    n_train, n_test = source.n_samples, source.n_test
    fits = len(measured.shape) == 2 == len(held_out.shape) and measured.shape[1] == held_out.shape[1]
    if not fits or measured.shape[0] != n_train or held_out.shape[0] != n_test or 0 in (*measured.shape, n_test):
        raise InputError(
            "the responses do not match the features",
            given=f"training responses {measured.shape}, test responses {held_out.shape}",
            expected=f"({n_train}, voxel) and ({n_test}, voxel)",
        )


def require_finite(**arrays: NDArray) -> None:
    """Raise an InputError if an array, given by name, has NaN or infinite values."""
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise InputError(
                f"`{name}` has NaN or infinite values", given=f"{int((~np.isfinite(array)).sum())} such values"
            )


#: With fewer test stimuli than this, R2 and correlations scatter so much that covariance is the better statistic.
FEW_STIMULI = 8

#: Stretches of time series that trade places should have so many samples. With stretches of 1, 2, 5, 10, 20 samples,
#: the false positive rate at .05 is up to .15, .09, .06, .06, .05 for AR(.9) noise (docs/validation.md).
SHORT_STRETCH = 20

#: Fewer orders cannot give p <= .05.
FEWEST_ORDERS = 20

#: Size of a block of responses in bytes, and its maximum number of voxels.
_BLOCK_BYTES, _BLOCK_VOXELS = 2**26, 2048

#: Scores of all permutations that are held at once, in bytes.
_SCORE_BYTES = 2**28


@dataclass(frozen=True)
class RefitOptions:
    """Parameters of :func:`neurorecon.stats.refit_permutation_test`."""

    alphas: ArrayLike
    cv: Any
    units: ArrayLike | None
    within: ArrayLike | None
    mixtures: ArrayLike | Literal["search"] | None
    candidates: ArrayLike | None
    n_permutations: int
    seed: int
    statistic: Statistic
    groups: ArrayLike | None
    device: str
    dtype: str
    progress: bool


def run(source: Source, responses: Any, test_responses: Any, options: RefitOptions) -> RefitTest:
    """Run the test with features or kernels.

    Parameters
    ----------
    source : FeatureSource or KernelSource
        Features or kernels of training and test samples.
    responses, test_responses : array, shape (sample, voxel) and (test_sample, voxel)
        Training and test responses; read in blocks of voxels.
    options : RefitOptions
        Parameters of the test.

    Returns
    -------
    RefitTest
    """
    measured, held_out = (part if hasattr(part, "shape") else np.asarray(part) for part in (responses, test_responses))
    check_responses(measured, held_out, source)
    if options.statistic not in STATISTICS:
        raise UnknownNameError("statistic", options.statistic, STATISTICS)
    n_permutations = options.n_permutations
    if n_permutations < 1:
        raise InputError(
            "a permutation test needs permutations", given=f"n_permutations={n_permutations}", expected="1 or more"
        )
    arrays, strengths = Arrays(options.device, options.dtype), check_alphas(options.alphas)
    orders = UnitPermutations(source.n_samples, n_permutations, options.seed, options.units, options.within)
    generalized = isinstance(options.cv, str) and options.cv == "gcv"
    folds = None if generalized else unit_folds(options.cv, orders.labels, options.units is not None)
    n_voxels, n_bands, precision = measured.shape[1], source.n_bands, np.dtype(arrays.dtype)
    groups = list(mixture_groups(options.mixtures, options.candidates, n_bands, n_voxels))
    scales = source.scales() if options.mixtures is not None or options.candidates is not None else np.ones(1)
    # There may be fewer orders than were asked for, if there are no more.
    rows, n_scores = (None, *orders.orders), 1 if n_bands == 1 else 1 + n_bands
    width = max(64, _SCORE_BYTES // (len(rows) * (1 + n_scores) * precision.itemsize))
    watches = [GroupMeans(options.groups, n_voxels, len(orders)) for _ in range(n_scores)]
    alphas, mixtures = np.empty(n_voxels), np.empty((n_bands, n_voxels))
    counted, where = [], []
    with _bar(options.progress, len(rows) * sum(len(candidates) * len(voxels) for candidates, voxels in groups)) as bar:
        for candidates, voxels in groups:
            for start in range(0, len(voxels), width):
                part = voxels[start : start + width]
                scores = np.empty((n_scores, len(rows), len(part)), dtype=precision)
                losses = np.full((len(rows), len(part)), np.inf, dtype=precision)
                for weights in candidates:
                    model = Model(
                        source, weights / scales, strengths, folds, options.statistic, arrays, orders,
                        compared=len(candidates) > 1,
                    )  # fmt: skip
                    for first, block in _blocks(part, source.n_samples, arrays.dtype):
                        model.take(_slice(measured, block), _slice(held_out, block))
                        inside = slice(first, first + len(block))
                        for row, order in enumerate(rows):
                            fitted, loss, chosen = model.fit(order)
                            better = loss < losses[row, inside]
                            losses[row, inside][better] = loss[better]
                            scores[:, row, inside] = np.where(better, fitted, scores[:, row, inside])
                            if order is None:
                                alphas[block[better]] = strengths[chosen[better]]
                                mixtures[:, block[better]] = weights[:, None]
                        bar.update(len(rows) * len(block))
                for watch, table in zip(watches, scores, strict=True):
                    watch.of(part)(0, table)
                counted.append([PermutationCounter(table[0]).update(table[1:]) for table in scores])
                where.append(part)
    parts = [
        replace(gather([counters[number] for counters in counted], where), groups=watch.tested())
        for number, watch in enumerate(watches)
    ]
    joint = parts[0]
    return RefitTest(
        joint.observed, joint.p, joint.null_mean, joint.null_max, joint.n_permutations,
        split=stack_bands(parts[1:]) if n_bands > 1 else None, groups=joint.groups, alphas=alphas,
        statistic=options.statistic, mixtures=mixtures if n_bands > 1 else None,
    )  # fmt: skip


def _blocks(voxels: NDArray[np.int64], n_samples: int, dtype: str) -> Iterator[tuple[int, NDArray[np.int64]]]:
    width = int(np.clip(_BLOCK_BYTES // (np.dtype(dtype).itemsize * n_samples), 64, _BLOCK_VOXELS))
    for start in range(0, len(voxels), width):
        yield start, voxels[start : start + width]


def equal_stretches(units: ArrayLike) -> NDArray[np.int64]:
    """Cut units into stretches as long as the shortest one, because only units of the same length can trade places.

    Parameters
    ----------
    units : array, shape (sample,)
        Unit of each sample, e.g. its run.

    Returns
    -------
    int array, shape (sample,)
        Stretch of each sample. What remains at the end of a unit is a shorter stretch.
    """
    _, unit, lengths = np.unique(np.asarray(units), return_inverse=True, return_counts=True)
    place = np.empty(len(unit), dtype=np.int64)
    place[np.argsort(unit, kind="stable")] = np.concatenate([np.arange(length) for length in lengths])
    return unit * len(unit) + place // lengths.min()


def refit_warnings(
    units: ArrayLike,
    *,
    ordered: bool,
    within: ArrayLike | None = None,
    shown: ArrayLike | None = None,
    n_permutations: int = 1000,
) -> tuple[str, ...]:
    """Return what speaks against a refit test of these units, in words.

    Parameters
    ----------
    units, within : array, shape (sample,)
        As of :func:`refit_permutation_test`.
    ordered : bool
        Whether neighboring samples share noise and have similar features: volumes of a time series (whose features are
        delayed), or trials in a fixed order.
    shown : array, shape (sample,), optional
        Stimulus of each sample.
    n_permutations : int
        Number of permutations.

    Returns
    -------
    tuple of str
        Empty if the test is valid, and can show something at a level of .05.
    """
    orders = UnitPermutations(len(np.asarray(units)), 1, 0, units, within)
    sizes = np.bincount(orders.labels)
    blocks = np.zeros(len(sizes), dtype=np.int64)
    if within is not None:
        blocks[orders.labels] = np.unique(np.asarray(within), return_inverse=True)[1]
    kinds = np.unique(np.stack([blocks, sizes]), axis=1, return_inverse=True)[1].ravel()
    # Units that are alone of their kind stay in place.
    traded = np.flatnonzero(np.bincount(kinds)[kinds] > 1)
    said = []
    shortest = sizes[traded].min()
    if ordered and shortest < SHORT_STRETCH:
        said.append(
            f"stretches of {shortest} samples in order trade places: in stretches of less than {SHORT_STRETCH}, "
            "p-values can be too small, because neighboring samples share noise"
        )
    possible = prod(factorial(int(number)) for number in np.bincount(kinds))
    if possible < FEWEST_ORDERS:
        said.append(
            f"{len(traded)} of {len(sizes)} units can trade places, in {possible} orders: p is at least "
            f"{1 / min(possible, 1 + n_permutations):.2g}"
        )
    if shown is not None and ordered and len(sizes) < len(orders.labels):
        sequences = {(int(kinds[unit]), np.asarray(shown)[orders.labels == unit].tobytes()) for unit in traded.tolist()}
        if len(sequences) == len(np.unique(kinds[traded])):
            said.append("all units that trade places show the same stimuli in the same order: nothing changes")
    return tuple(said)


def _slice(responses: Any, block: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return some voxels in double precision; consecutive ones as a slice, which lazy arrays read fastest."""
    whole = block[-1] - block[0] + 1 == len(block)
    part = responses[:, slice(block[0], block[-1] + 1) if whole else block]
    values = np.asarray(part, dtype=np.float64)
    require_finite(responses=values)
    return values


def _bar(show: bool, total: int) -> Any:
    from tqdm import tqdm

    return tqdm(total=total, desc="permutations", unit="fit", unit_scale=True, disable=not show)


def refit_permutation_test(
    features: ArrayLike,
    responses: Any,
    test_features: ArrayLike,
    test_responses: Any,
    *,
    alphas: ArrayLike,
    cv: Any = "gcv",
    units: ArrayLike | None = None,
    within: ArrayLike | None = None,
    bands: Any = None,
    mixtures: ArrayLike | Literal["search"] | None = None,
    candidates: ArrayLike | None = None,
    n_permutations: int = 1000,
    seed: int = 0,
    statistic: Statistic = "r2",
    groups: ArrayLike | None = None,
    device: str = "cpu",
    dtype: Literal["float32", "float64"] = "float32",
    progress: bool = False,
) -> RefitTest:
    """Test predictions of held-out responses against models refitted to permuted training responses.

    Parameters
    ----------
    features : array, shape (sample, feature)
        Features of the training samples; for time series, with their delays.
    responses : array, shape (sample, voxel)
        Training responses. Read in blocks of voxels, so a memory map works well.
    test_features : array, shape (test_sample, feature)
        Features of the test samples.
    test_responses : array, shape (test_sample, voxel)
        Test responses.
    alphas : float or array, shape (alpha,)
        Candidate alphas. The alpha of each voxel is chosen again in each permutation.
    cv : {"gcv"}, int or iterable of (train, held_out)
        How alpha is chosen: by generalized cross-validation (``"gcv"``), which is fast, or by the mean squared error
        over folds, which takes many times as long. A number of folds keeps units together.
    units : array, shape (sample,), optional
        Units that are exchanged: stimulus ids of trials, to keep the repeats of a stimulus together, or runs (or long
        stretches) of a time series, to keep the order of volumes. By default, each sample is its own unit. Only units
        with equal numbers of samples are exchanged. See :func:`refit_warnings` for when the test is not valid.
    within : array, shape (sample,), optional
        Exchangeability block of each sample, e.g. its session. Units are exchanged only within a block.
    bands : dict of str to slice or index array, optional
        Features of each band. Requires `mixtures` or `candidates`.
    mixtures : "search" or array, shape (band, voxel), optional
        ``"search"``: each voxel chooses its mixture together with its alpha, by the same criterion, among `candidates`,
        again in each permutation. It takes as long as a test of one mixture for each candidate. An array is the kernel
        weight of each band in each voxel, the same in all permutations: use it for mixtures that were chosen without
        the training responses. With those of a model fitted to the same responses (``BandedRidge.mixtures_``), p-values
        are too small. Kernels are first scaled to a mean diagonal of 1, as in :class:`neurorecon.BandedRidge`.
    candidates : array, shape (candidate, band), optional
        Mixtures to search. By default, equal weights of all bands, and each band alone.
    n_permutations, seed : int
        Number of permutations, and their seed. If there are fewer orders, each of them is used once.
    statistic : {"r2", "correlation", "covariance"}
        Score on the test samples: R2, Pearson's correlation, or the covariance of predictions and responses over the
        variance of the responses. With bands, it is also split by the product measure. With few test stimuli (fewer
        than :data:`FEW_STIMULI`), covariance has by far the most power.
    groups : bool array, shape (group, voxel), optional
        Sets of voxels, e.g. ROIs, whose mean joint score is tested, too.
    device : str
        ``"cpu"`` (NumPy), ``"torch"`` or ``"cuda"``.
    dtype : {"float32", "float64"}
        Precision of arrays as large as the responses. Factorizations are computed in float64.
    progress : bool
        Whether to show a progress bar.

    Returns
    -------
    RefitTest
        ``observed``, ``p``, ``null_mean``, ``null_max``, ``alphas``, and ``split`` and ``mixtures`` if there are bands.

    Raises
    ------
    InputError
        If shapes do not match, values are not finite, or units cannot be permuted.

    References
    ----------
    Winkler et al. (2014). Permutation inference for the general linear model. NeuroImage 92, 381-397
    (exchangeability blocks). Phipson & Smyth (2010). Permutation p-values should never be zero.
    """
    x, new = (np.asarray(part) for part in (features, test_features))
    if x.ndim != 2 or new.ndim != 2 or x.shape[1] != new.shape[1]:
        raise InputError(
            "training and test features do not match",
            given=f"shapes {x.shape} and {new.shape}",
            expected="(sample, feature) and (test_sample, feature)",
        )
    require_finite(features=x, test_features=new)
    source = FeatureSource(x, new, band_columns(bands, x.shape[1]))
    options = RefitOptions(
        alphas,
        cv,
        units,
        within,
        mixtures,
        candidates,
        n_permutations,
        seed,
        statistic,
        groups,
        device,
        dtype,
        progress,
    )
    return run(source, responses, test_responses, options)


def refit_permutation_test_kernels(
    kernels: ArrayLike,
    responses: Any,
    test_kernels: ArrayLike,
    test_responses: Any,
    *,
    alphas: ArrayLike,
    cv: Any = "gcv",
    units: ArrayLike | None = None,
    within: ArrayLike | None = None,
    mixtures: ArrayLike | Literal["search"] | None = None,
    candidates: ArrayLike | None = None,
    n_permutations: int = 1000,
    seed: int = 0,
    statistic: Statistic = "r2",
    groups: ArrayLike | None = None,
    device: str = "cpu",
    dtype: Literal["float32", "float64"] = "float32",
    progress: bool = False,
) -> RefitTest:
    """Run :func:`refit_permutation_test` on linear kernels, for features too wide for memory.

    Parameters
    ----------
    kernels : array, shape (band, sample, sample) or (sample, sample)
        Raw kernels ``X X'`` of the training samples. Several bands require `mixtures` or `candidates`.
    responses, test_responses : array, shape (sample, voxel) and (test_sample, voxel)
        Training and test responses.
    test_kernels : array, shape (band, test_sample, sample) or (test_sample, sample)
        Raw kernels between test and training samples.
    alphas, cv, units, within, mixtures, candidates, n_permutations, seed, statistic, groups, device, dtype, progress
        See :func:`refit_permutation_test`, also for the shapes of arrays.

    Returns
    -------
    RefitTest
        See :func:`refit_permutation_test`.

    Raises
    ------
    InputError
        If shapes do not match, values are not finite, or units cannot be permuted.
    """
    within_train, across = (
        np.asarray(part, dtype=np.result_type(np.asarray(part), np.float32)) for part in (kernels, test_kernels)
    )
    if within_train.ndim == 2 and across.ndim == 2:
        within_train, across = within_train[None], across[None]
    square = within_train.ndim == 3 and within_train.shape[1] == within_train.shape[2]
    if not square or across.ndim != 3 or across.shape[::2] != within_train.shape[::2]:
        raise InputError(
            "the kernels do not match each other",
            given=f"shapes {within_train.shape} and {across.shape}",
            expected="([band,] sample, sample) and ([band,] test_sample, sample)",
        )
    require_finite(kernels=within_train, test_kernels=across)
    source = KernelSource(within_train, across)
    options = RefitOptions(
        alphas,
        cv,
        units,
        within,
        mixtures,
        candidates,
        n_permutations,
        seed,
        statistic,
        groups,
        device,
        dtype,
        progress,
    )
    return run(source, responses, test_responses, options)
