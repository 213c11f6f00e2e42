"""Variance partitioning: the variance that each band explains uniquely, and that bands share.

A separate model is fitted to every combination of bands: 2 ** k - 1 models for k bands. Let R2(M) be the score of the
model with the bands M, and N the set of all bands. The R2 shared by exactly the bands in S is

    C(S) = sum over subsets T of S of (-1) ** (|S| - |T| + 1) * R2(N less T),   R2 of no band = 0.

For a single band this is the unique variance, R2(N) - R2(N without the band). All C(S) sum to R2(N). As the scores are
estimates, C(S) can be negative if bands suppress each other's noise or if regularization differs between models.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from neurorecon.errors import InputError, UnknownNameError
from neurorecon.stats.bootstrap import Interval, bootstrap_weights, interval_of
from neurorecon.stats.jackknife import jackknife_interval

#: Maximum number of bands in a partition: 1,023 models.
MOST_BANDS = 10

#: Number of voxels bootstrapped at once.
_BLOCK = 1024


@dataclass(frozen=True)
class VariancePartition:
    """R2 partitioned over bands and their combinations.

    Parameters
    ----------
    bands : tuple of str
        Names of the bands.
    combinations : tuple of tuple of str
        All combinations, single bands first.
    model_r2 : array, shape (combination, ...)
        R2 of the model fitted to the bands of each combination; the joint model is last.
    values : array, shape (combination, ...)
        R2 shared by exactly the bands of each combination. For single bands, this is the unique variance.
    interval : Interval, optional
        Bootstrap interval of `values` over test stimuli.
    groups : VariancePartition, optional
        Partition of the means over groups of voxels, (combination, group).
    """

    bands: tuple[str, ...]
    combinations: tuple[tuple[str, ...], ...]
    model_r2: NDArray[np.float64]
    values: NDArray[np.float64]
    interval: Interval | None = None
    groups: VariancePartition | None = None

    @property
    def joint(self) -> NDArray[np.float64]:
        """R2 of the joint model, (...)."""
        return self.model_r2[-1]

    @property
    def unique(self) -> NDArray[np.float64]:
        """Unique variance of each band, (band, ...)."""
        return self.values[: len(self.bands)]

    @property
    def shared(self) -> NDArray[np.float64]:
        """Variance that each band shares with others, (band, ...): its R2 alone minus its unique variance."""
        return self.model_r2[: len(self.bands)] - self.unique

    def of(self, *bands: str) -> NDArray[np.float64]:
        """Return the R2 shared by exactly these bands, (...)."""
        return self.values[self.index(bands)]

    def index(self, bands: Iterable[str]) -> int:
        """Return the index of a combination; the order of its bands does not matter."""
        wanted = frozenset(bands)
        for number, combination in enumerate(self.combinations):
            if frozenset(combination) == wanted:
                return number
        names = [" + ".join(combination) for combination in self.combinations]
        raise UnknownNameError("combination of bands", " + ".join(sorted(wanted)), names)


def band_combinations(bands: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """Return all combinations of bands, that is, the models that a partition needs.

    Parameters
    ----------
    bands : sequence of str
        Names of the bands.

    Returns
    -------
    tuple of tuple of str
        Combinations, sorted by their number of bands.

    Raises
    ------
    InputError
        If there are fewer than 2 or more than 10 bands, or names are not unique.

    Examples
    --------
    >>> from neurorecon.stats import band_combinations
    >>> band_combinations(["gabor", "motion"])
    (('gabor',), ('motion',), ('gabor', 'motion'))
    """
    names = tuple(bands)
    if not 2 <= len(names) <= MOST_BANDS or len(set(names)) != len(names):
        raise InputError(
            "variance cannot be partitioned over these bands",
            given=f"{len(names)} bands: {', '.join(names) or 'none'}",
            expected=f"2 to {MOST_BANDS} bands with unique names",
            todo="merge related bands: each additional band doubles the number of models",
        )
    return tuple(part for size in range(1, len(names) + 1) for part in combinations(names, size))


def variance_partition(model_r2: Mapping[str | tuple[str, ...], ArrayLike]) -> VariancePartition:
    """Partition variance from the scores of all models.

    Parameters
    ----------
    model_r2 : mapping of tuple of str (or str) to array, shape (...)
        R2 on held-out data of the model of each combination of bands, e.g.
        ``{"motion": ..., "gabor": ..., ("motion", "gabor"): ...}``; all combinations are needed.

    Returns
    -------
    VariancePartition

    Raises
    ------
    InputError
        If a combination is missing, or shapes differ.

    References
    ----------
    Mood (1971). Partitioning variance in multiple regression analyses as a tool for developing learning models.
    American Educational Research Journal 8(2), 191-202 (commonality analysis). Borcard, Legendre & Drapeau (1992).
    Partialling out the spatial component of ecological variation. Ecology 73(3), 1045-1055. Lescroart, Stansbury &
    Gallant (2015). Fourier power, subjective distance, and object categories all provide plausible models of BOLD
    responses in scene-selective visual areas. Frontiers in Computational Neuroscience 9, 135. de Heer et al. (2017).
    The hierarchical cortical organization of human speech processing. Journal of Neuroscience 37(27), 6539-6557.
    """
    names, scores = _ordered({key: np.asarray(value, dtype=np.float64) for key, value in model_r2.items()})
    combined = band_combinations(names)
    return VariancePartition(names, combined, scores, np.tensordot(commonality_matrix(len(names)), scores, axes=1))


def partition_predictions(
    measured: ArrayLike,
    predictions: Mapping[str | tuple[str, ...], ArrayLike],
    *,
    groups: ArrayLike | None = None,
    n_bootstraps: int = 2000,
    level: float = 0.95,
    runs: ArrayLike | None = None,
    seed: int = 0,
) -> VariancePartition:
    """Partition variance from the predictions of all models, with intervals over test stimuli.

    Intervals are bootstraps over stimuli. Those of a time series are jackknifes over blocks of volumes, see
    :func:`~neurorecon.stats.jackknife_interval`.

    Parameters
    ----------
    measured : array, shape (test_sample, voxel)
        Test responses, averaged over repeats. A sample is a stimulus, or a volume of a time series.
    predictions : mapping of tuple of str (or str) to array, shape (test_sample, voxel)
        Predictions of the model of each combination of bands.
    groups : bool array, shape (group, voxel), optional
        Sets of voxels, e.g. ROIs, whose mean R2 is partitioned, too.
    n_bootstraps, seed : int
        Number of bootstrap samples, and their seed.
    level : float
        Confidence level of the intervals.
    runs : array, shape (test_sample,), optional
        Run of each volume of a time series; None for stimuli.

    Returns
    -------
    VariancePartition
        With ``interval``, and with ``groups`` if they were given.

    Raises
    ------
    InputError
        If a combination is missing, shapes do not match, or values are not finite.
    """
    y = np.asarray(measured, dtype=np.float64)
    if y.ndim != 2:
        raise InputError("responses need two dimensions", given=f"shape {y.shape}", expected="(test_sample, voxel)")
    names, predicted = _ordered({key: np.asarray(value) for key, value in predictions.items()})
    if predicted.shape[1:] != y.shape or not (np.isfinite(y).all() and np.isfinite(predicted).all()):
        raise InputError(
            "the predictions do not match the responses",
            given=f"predictions {predicted.shape[1:]}, responses {y.shape}",
            expected="finite arrays of shape (test_sample, voxel)",
        )
    members = np.zeros((0, y.shape[1])) if groups is None else np.asarray(groups, dtype=np.float64)
    if members.ndim != 2 or members.shape[1] != y.shape[1]:
        raise InputError(
            "the groups do not match the voxels", given=f"shape {members.shape}", expected=f"(group, {y.shape[1]})"
        )
    once = np.ones((1, len(y)), dtype=np.float32)
    weights = bootstrap_weights(len(y), n_bootstraps, seed) if runs is None else once
    matrix = commonality_matrix(len(names))
    sums = np.zeros((len(matrix), len(weights), len(members)))
    moved = np.zeros((len(matrix), len(members), 0 if runs is None else len(y)))
    counts = np.zeros(len(members))
    scores, intervals = [], []
    for start in range(0, y.shape[1], _BLOCK):
        voxels = slice(start, start + _BLOCK)
        r2 = _resampled_r2(y[:, voxels], predicted[:, :, voxels], weights)
        defined = ~np.isnan(r2[0, 0])
        belong = members[:, voxels][:, defined]
        sums += r2[:, :, defined] @ belong.T
        counts += belong.sum(axis=1)
        shares = np.tensordot(matrix, r2, axes=1)
        scores.append(r2[:, 0])
        if runs is None:
            intervals.append(interval_of(np.moveaxis(shares[:, 1:], 1, 0), shares[:, 0], level))
        else:
            influence = np.tensordot(matrix, _influence(y[:, voxels], predicted[:, :, voxels], r2[:, 0]), axes=1)
            moved += np.einsum("gv,cvs->cgs", belong, influence[:, defined])
            intervals.append(jackknife_interval(influence, shares[:, 0], runs, level=level))
    whole = Interval(*(np.concatenate(parts, axis=-1) for parts in zip(*intervals, strict=True)))
    with np.errstate(invalid="ignore", divide="ignore"):
        means, moved = sums / counts, moved / counts[:, None]
    combined = band_combinations(names)
    grouped = None
    if len(members):
        shares = np.tensordot(matrix, means, axes=1)
        if runs is None:
            ends = interval_of(np.moveaxis(shares[:, 1:], 1, 0), shares[:, 0], level)
        else:
            ends = jackknife_interval(moved, shares[:, 0], runs, level=level)
        grouped = VariancePartition(names, combined, means[:, 0], shares[:, 0], ends)
    return VariancePartition(names, combined, np.concatenate(scores, axis=-1), whole.estimate, whole, grouped)


def _influence(measured: NDArray[np.float64], predicted: NDArray, r2: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return how much each sample moves the R2 of each model, (model, voxel, sample); NaN where R2 is."""
    energy = (measured - measured.mean(axis=0)) ** 2
    left = (1 - r2[:, None]) * energy - (measured - predicted) ** 2
    return np.moveaxis(left / np.where(np.isnan(r2[0]), np.nan, energy.sum(axis=0)), 1, -1)


def commonality_matrix(n_bands: int) -> NDArray[np.float64]:
    """Return the matrix that turns the R2 of models into partitioned R2, (combination, combination).

    Rows and columns are in the order of :func:`band_combinations`.
    """
    bands = range(n_bands)
    subsets = [frozenset(part) for size in range(1, n_bands + 1) for part in combinations(bands, size)]
    column = {subset: number for number, subset in enumerate(subsets)}
    everything = frozenset(bands)
    matrix = np.zeros((len(subsets), len(subsets)))
    for row, subset in enumerate(subsets):
        for size in range(len(subset) + 1):
            for left_out in map(frozenset, combinations(sorted(subset), size)):
                model = everything - left_out
                if model:  # R2 of the empty model is 0
                    matrix[row, column[model]] += (-1) ** (len(subset) - size + 1)
    return matrix


def _ordered(models: Mapping[str | tuple[str, ...], NDArray]) -> tuple[tuple[str, ...], NDArray]:
    """Return the bands in order of first appearance, and the stacked values of all combinations."""
    given = {frozenset((key,) if isinstance(key, str) else key): value for key, value in models.items()}
    keys = [(key,) if isinstance(key, str) else tuple(key) for key in models]
    names = tuple(dict.fromkeys(name for key in keys for name in key))
    wanted = band_combinations(names)
    missing = [" + ".join(part) for part in wanted if frozenset(part) not in given]
    shapes = {value.shape for value in given.values()}
    if missing or len(shapes) != 1 or len(given) != len(models):
        raise InputError(
            "a partition needs the model of every combination of bands, once",
            given=f"{len(models)} models of {len(names)} bands, shapes {sorted(shapes)}"
            + (f"; missing: {', '.join(missing)}" if missing else ""),
            expected=f"{len(wanted)} models, all of the same shape",
        )
    return names, np.stack([given[frozenset(part)] for part in wanted])


def _resampled_r2(
    measured: NDArray[np.float64], predicted: NDArray, weights: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Return R2 about the mean of all samples, (model, resample, voxel).

    All resamples use the mean of the original sample.
    """
    counts = weights.astype(np.float64)
    centered = measured - measured.mean(axis=0)
    rounding = 10 * np.finfo(np.float64).eps * np.abs(measured).max(axis=0)
    total = counts @ centered**2
    # A resample that repeats a single stimulus has no variance to explain.
    total = np.where((np.ptp(measured, axis=0) > rounding) & (total > rounding**2), total, np.nan)
    return np.stack([1 - counts @ (measured - model) ** 2 / total for model in predicted])
