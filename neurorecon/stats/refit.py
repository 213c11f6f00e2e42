"""Permutation test of encoding models that are fitted again to each permuted order of the training responses.

The null hypothesis is that responses do not depend on which stimulus was shown. Then the training responses may
trade places between stimuli, and the whole procedure (fit, choice of alpha for each voxel, scores on the test set)
is repeated as often as wanted. Permuting the rows of the responses is permuting the rows of U in ``X = U S V'``, so
that one factorization of the features serves all permutations: each costs one product ``U[order]' Y`` and a few
smaller ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from neurorecon.errors import InputError, UnknownNameError
from neurorecon.stats.permutation import PermutationCounter
from neurorecon.stats.permutation_results import GroupMeans, PermutationTest, gather, stack_bands
from neurorecon.stats.refit_factors import FeatureSource, KernelSource, Rows
from neurorecon.stats.refit_search import GeneralizedCrossValidation, HeldOutScore, KFold, Place, check_alphas, varies
from neurorecon.stats.units import UnitPermutations

#: Bytes of one block of responses, and voxels of it at most.
_BLOCK_BYTES, _BLOCK_VOXELS = 2**26, 2048

#: Permutations scored before they are counted.
_BATCH = 50


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
    mixtures: ArrayLike | None = None,
    n_permutations: int = 1000,
    seed: int = 0,
    statistic: Literal["r2", "correlation"] = "r2",
    groups: ArrayLike | None = None,
    device: str = "cpu",
    dtype: Literal["float32", "float64"] = "float32",
    progress: bool = False,
) -> PermutationTest:
    """Test predictions of held-out responses against models fitted again to permuted training responses.

    Parameters
    ----------
    features : array, shape (sample, feature)
        Features of the training samples; of time series with their delays.
    responses : array, shape (sample, voxel)
        Training responses. Sliced by voxels, so that a memory map will do.
    test_features : array, shape (test_sample, feature)
        Features of the test samples.
    test_responses : array, shape (test_sample, voxel)
        Test responses.
    alphas : float or sequence of float
        Candidates for the penalty ``alpha * sum(weights ** 2)``, of which each voxel gets its own, chosen again in
        each permutation.
    cv : {"gcv"}, int or iterable of (train, held_out)
        How alpha is chosen: ``"gcv"`` by generalized cross-validation, which costs next to nothing; otherwise by the
        mean squared error over folds (a number of folds keeps units together), which costs many times as much.
    units : array, shape (sample,), optional
        What trades places: stimulus ids of trials, so that all repeats of a stimulus go together, or runs (or long
        stretches) of a time series, within which the order of volumes stays. By default each sample by itself. Only
        units of the same number of samples trade places.
    within : array, shape (sample,), optional
        A label for each sample, e.g. its session: only units of the same label trade places.
    bands : dict of str to slice or index array, optional
        Which features make up each band; needs `mixtures`.
    mixtures : array, shape (band, voxel), optional
        Weight of each band's kernel in each voxel, kept in all permutations (``BandedRidge.mixtures_``). Kernels are
        scaled to a mean diagonal of 1 first, as :class:`neurorecon.BandedRidge` does. The test is exact where the
        mixtures were chosen without the training responses, else an approximation.
    n_permutations, seed : int
        Number of permuted orders, and the seed they come from.
    statistic : {"r2", "correlation"}
        Score on the test samples. With bands also split by the product measure.
    groups : bool array, shape (group, voxel), optional
        Sets of voxels, e.g. areas, whose mean joint score is tested as well.
    device : str
        ``"cpu"`` (NumPy), ``"torch"`` or ``"cuda"``.
    dtype : {"float32", "float64"}
        Precision of what is as large as the responses. Factorizations are computed in float64.
    progress : bool
        Show a progress bar.

    Returns
    -------
    PermutationTest
        ``observed``, ``p``, ``null_mean``, ``null_max``, ``alphas``, and ``split`` where there are bands.

    Raises
    ------
    InputError
        Where shapes do not fit, values are not finite, or there is nothing to permute.

    References
    ----------
    Winkler et al. (2014). Permutation inference for the general linear model. NeuroImage 92, 381-397
    (exchangeability blocks). Phipson & Smyth (2010). Permutation p-values should never be zero.
    """
    x, new = (np.asarray(part) for part in (features, test_features))
    if x.ndim != 2 or new.ndim != 2 or x.shape[1] != new.shape[1]:
        raise InputError(
            "training and test features do not fit each other",
            given=f"shapes {x.shape} and {new.shape}",
            expected="(sample, feature) and (test_sample, feature)",
        )
    _require_finite(features=x, test_features=new)
    source = FeatureSource(x, new, _columns(bands, x.shape[1]))
    settings = (alphas, cv, units, within, mixtures, n_permutations, seed, statistic, groups, device, dtype, progress)
    return _run(source, len(source.columns), len(new), responses, test_responses, *settings)


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
    mixtures: ArrayLike | None = None,
    n_permutations: int = 1000,
    seed: int = 0,
    statistic: Literal["r2", "correlation"] = "r2",
    groups: ArrayLike | None = None,
    device: str = "cpu",
    dtype: Literal["float32", "float64"] = "float32",
    progress: bool = False,
) -> PermutationTest:
    """Do the same as :func:`refit_permutation_test` from linear kernels, for features too wide for memory.

    Parameters
    ----------
    kernels : array, shape (band, sample, sample) or (sample, sample)
        Raw kernels ``X X'`` of the training samples; several need `mixtures`.
    responses, test_responses : array, shape (sample, voxel) and (test_sample, voxel)
        Training and test responses.
    test_kernels : array, shape (band, test_sample, sample) or (test_sample, sample)
        Raw kernels between test and training samples.
    alphas, cv, units, within, mixtures, n_permutations, seed, statistic, groups, device, dtype, progress
        As for :func:`refit_permutation_test`.

    Returns
    -------
    PermutationTest
    """
    within_train, across = (
        np.asarray(part, dtype=np.result_type(np.asarray(part), np.float32)) for part in (kernels, test_kernels)
    )
    if within_train.ndim == 2 and across.ndim == 2:
        within_train, across = within_train[None], across[None]
    square = within_train.ndim == 3 and within_train.shape[1] == within_train.shape[2]
    if not square or across.ndim != 3 or across.shape[::2] != within_train.shape[::2]:
        raise InputError(
            "the kernels do not fit each other",
            given=f"shapes {within_train.shape} and {across.shape}",
            expected="([band,] sample, sample) and ([band,] test_sample, sample)",
        )
    _require_finite(kernels=within_train, test_kernels=across)
    source = KernelSource(within_train, across)
    settings = (alphas, cv, units, within, mixtures, n_permutations, seed, statistic, groups, device, dtype, progress)
    return _run(source, len(within_train), across.shape[1], responses, test_responses, *settings)


def _run(
    source: FeatureSource | KernelSource,
    n_bands: int,
    n_test: int,
    responses: Any,
    test_responses: Any,
    alphas: ArrayLike,
    cv: Any,
    units: ArrayLike | None,
    within: ArrayLike | None,
    mixtures: ArrayLike | None,
    n_permutations: int,
    seed: int,
    statistic: Literal["r2", "correlation"],
    groups: ArrayLike | None,
    device: str,
    dtype: str,
    progress: bool,
) -> PermutationTest:
    measured, held_out = (part if hasattr(part, "shape") else np.asarray(part) for part in (responses, test_responses))
    _check_responses(measured, held_out, source.n_samples, n_test)
    if statistic not in ("r2", "correlation"):
        raise UnknownNameError("statistic", statistic, ("r2", "correlation"))
    if n_permutations < 1:
        raise InputError("these settings make no test", given=f"n_permutations={n_permutations}", expected="1 or more")
    place, strengths = Place(device, dtype), check_alphas(alphas)
    orders = UnitPermutations(source.n_samples, n_permutations, seed, units, within)
    folds = None if isinstance(cv, str) and cv == "gcv" else _folds(cv, orders.labels, units is not None)
    n_voxels = measured.shape[1]
    watch = GroupMeans(groups, n_voxels, n_permutations)
    chosen = np.empty(n_voxels)
    counted, where = [], []
    with _bar(progress, n_voxels * (1 + n_permutations)) as bar:
        for weights, voxels in _mixture_groups(mixtures, source, n_bands, n_voxels):
            model = _Model(source, weights, strengths, folds, statistic, place, orders)
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


class _Model:
    """One factorization, and the block of voxels it is fitted to again and again."""

    def __init__(
        self,
        source: FeatureSource | KernelSource,
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


def _columns(bands: Any, n_features: int) -> list[NDArray[np.int64]]:
    everything = np.arange(n_features)
    if bands is None:
        return [everything]
    columns = [everything[part if isinstance(part, slice) else np.asarray(part)] for part in bands.values()]
    used = np.bincount(np.concatenate(columns), minlength=n_features)
    if (used != 1).any():
        raise InputError(
            "each feature has to be in one band",
            given=f"{int((used > 1).sum())} features in several bands, {int((used == 0).sum())} in none",
            expected=f"bands that share out {n_features} features",
        )
    return columns


def _mixture_groups(
    mixtures: ArrayLike | None, source: FeatureSource | KernelSource, n_bands: int, n_voxels: int
) -> Iterator[tuple[NDArray[np.float64], NDArray[np.int64]]]:
    """Yield the weights of the bands' kernels, (band,), and the voxels that have them."""
    if mixtures is None:
        if n_bands > 1:
            raise InputError(
                "several bands need to be weighted",
                given=f"{n_bands} bands and no mixtures",
                expected="mixtures of shape (band, voxel)",
                todo="fit BandedRidge first and pass mixtures=model.mixtures_, or pass ones for equal weights",
            )
        yield np.ones(1), np.arange(n_voxels)
        return
    given = np.asarray(mixtures, dtype=np.float64)
    if given.shape != (n_bands, n_voxels) or not np.isfinite(given).all() or given.min() < 0:
        raise InputError(
            "the mixtures do not fit the bands and voxels",
            given=f"shape {given.shape}",
            expected=f"({n_bands}, {n_voxels}), finite and not below 0",
        )
    scales = source.scales()
    # Weights that differ by rounding errors are the same candidate of a search.
    unique, member = np.unique(np.round(given.T, 6), axis=0, return_inverse=True)
    for number in range(len(unique)):
        voxels = np.flatnonzero(member.ravel() == number)
        yield given[:, voxels[0]] / scales, voxels


def _folds(cv: Any, labels: NDArray[np.int64], grouped: bool) -> list[tuple[Rows, Rows]]:
    """Return folds that keep units together."""
    if isinstance(cv, str):
        raise UnknownNameError("way to choose alpha", cv, ("gcv", "a number of folds", "folds"))
    if isinstance(cv, int | np.integer):
        from sklearn.model_selection import GroupKFold
        from sklearn.model_selection import KFold as Contiguous

        if cv < 2 or cv > len(np.unique(labels)):
            raise InputError("these folds cannot be made", given=f"cv={cv}, {len(np.unique(labels))} units")
        splitter = GroupKFold(int(cv)) if grouped else Contiguous(int(cv))
        cv = splitter.split(labels, groups=labels)
    folds = [(np.asarray(train), np.asarray(held_out)) for train, held_out in cv]
    if any(np.isin(labels[held_out], labels[train]).any() for train, held_out in folds):
        raise InputError(
            "a fold puts samples of one unit on both sides",
            expected="folds that keep repeats of a stimulus (or a run) together",
        )
    return folds


def _check_responses(measured: Any, held_out: Any, n_train: int, n_test: int) -> None:
    fits = len(measured.shape) == 2 == len(held_out.shape) and measured.shape[1] == held_out.shape[1]
    if not fits or measured.shape[0] != n_train or held_out.shape[0] != n_test or 0 in (*measured.shape, n_test):
        raise InputError(
            "the responses do not fit the features",
            given=f"training responses {measured.shape}, test responses {held_out.shape}",
            expected=f"({n_train}, voxel) and ({n_test}, voxel)",
        )


def _require_finite(**arrays: NDArray) -> None:
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise InputError(f"`{name}` has NaN or infinite values", given=f"{int((~np.isfinite(array)).sum())} such")


def _blocks(voxels: NDArray[np.int64], n_samples: int, dtype: str) -> Iterator[NDArray[np.int64]]:
    width = int(np.clip(_BLOCK_BYTES // (np.dtype(dtype).itemsize * n_samples), 64, _BLOCK_VOXELS))
    for start in range(0, len(voxels), width):
        yield voxels[start : start + width]


def _slice(responses: Any, block: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return some voxels in double precision; neighbors as a slice, which lazy arrays read quickest."""
    whole = block[-1] - block[0] + 1 == len(block)
    part = responses[:, slice(block[0], block[-1] + 1) if whole else block]
    values = np.asarray(part, dtype=np.float64)
    _require_finite(responses=values)
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
