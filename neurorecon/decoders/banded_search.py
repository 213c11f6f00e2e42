"""Choose the mixture and alpha of bands by cross-validation, with the solvers of himalaya.

Each solver takes a block of targets with mean 0 and variance 1, and returns a :class:`Solution` in NumPy.
:func:`solve_by_block` reads the targets in blocks and combines the solutions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import combinations, pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neurorecon.decoders.solvers import himalaya_backend
from neurorecon.decoders.targets import Targets
from neurorecon.decoders.validation import Fold
from neurorecon.errors import InputError


def candidate_mixtures(n_bands: int, n_iter: int | None = None, random_state: int = 0) -> NDArray[np.float64]:
    """Return candidate mixtures of bands.

    The first mixtures are designed: each band alone, then equal mixtures of each subset of bands (with more than four
    bands, only of all bands), then each band at 80 % with equal shares of the others. The remaining ones are drawn
    from Dirichlet distributions with concentrations 1 and 0.1, in alternation.

    Parameters
    ----------
    n_bands : int
        Number of bands.
    n_iter : int, optional
        Number of mixtures. By default, all designed mixtures, plus 10 random ones per band if there are more than four
        bands.
    random_state : int
        Seed of the random mixtures.

    Returns
    -------
    mixtures : array, shape (mixture, band)
        Kernel weights of the bands; rows sum to 1.
    """
    sizes = range(1, n_bands + 1) if n_bands <= 4 else (1, n_bands)
    bands = np.arange(n_bands)
    rows = [np.isin(bands, subset) / size for size in sizes for subset in combinations(bands, size)]
    if n_bands > 2:
        rows += [np.where(bands == band, 0.8, 0.2 / (n_bands - 1)) for band in bands]
    elif n_bands == 2:
        rows += [np.array([share, 1 - share]) for share in (0.9, 0.7, 0.3, 0.1)]
    total = n_iter or len(rows) + (10 * n_bands if n_bands > 4 else 0)
    generator = np.random.default_rng(random_state)
    while len(rows) < total:
        rows.append(generator.dirichlet(np.full(n_bands, (1.0, 0.1)[len(rows) % 2])))
    return np.stack(rows[:total])


def check_mixtures(n_iter: Any, n_bands: int, random_state: int) -> NDArray[np.float64]:
    """Return the given mixtures, checked, or :func:`candidate_mixtures`."""
    if n_iter is None or np.ndim(n_iter) == 0:
        return candidate_mixtures(n_bands, n_iter, random_state)
    mixtures = np.asarray(n_iter, dtype=np.float64)
    if mixtures.ndim != 2 or mixtures.shape[1] != n_bands or (mixtures < 0).any() or (mixtures.sum(1) <= 0).any():
        raise InputError(
            "these mixtures of bands are invalid",
            given=f"shape {mixtures.shape}",
            expected=f"shape (mixture, {n_bands}), non-negative, without rows of zeros",
        )
    return mixtures


#: Maximum memory of a batch of a search, in bytes.
_BATCH_BYTES = 2**29

#: Up to this number of samples, one thread is as fast as two (measured with 300 samples and 2,500 targets).
_ONE_THREAD = 500

#: Replaces 0 in mixtures, as himalaya divides by their square roots.
_TINY = 1e-30

#: Tolerance of conjugate gradients: relative change of the weights.
_TOLERANCE = {"float32": 1e-5, "float64": 1e-10}


@dataclass(frozen=True)
class SearchSettings:
    """Settings of the solvers.

    Parameters
    ----------
    mixtures : array, shape (mixture, band)
        Candidate mixtures of the random search.
    alphas : array, shape (alpha,)
        Candidate alphas.
    folds : list of (train, test)
        Folds of the cross-validation.
    center : bool
        Whether to center again within each fold.
    device : str
        ``"cpu"`` or ``"cuda"``.
    random_state : int
        Seed.
    n_targets_batch : int, optional
        Number of targets computed at once.
    options : mapping
        Additional parameters of himalaya's solver.
    """

    mixtures: NDArray[np.float64]
    alphas: NDArray[np.float64]
    folds: list[Fold]
    center: bool
    device: str
    random_state: int
    n_targets_batch: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    def batches(self, size: int, n_samples: int, n_targets: int, width: int | None = None) -> tuple[int, int]:
        """Return the numbers of alphas and targets to compute at once."""
        # Refitting holds one (width, sample) matrix and one (sample, target) array for each alpha of a batch.
        n_alphas = len(self.alphas)
        alphas = int(np.clip(_BATCH_BYTES // (2 * size * n_samples * (width or n_samples)), 1, n_alphas))
        if self.n_targets_batch is not None:
            return alphas, int(self.n_targets_batch)
        return alphas, int(np.clip(_BATCH_BYTES // (2 * size * n_samples * alphas), 1, n_targets))


@dataclass(frozen=True)
class Solution:
    """Result of a solver.

    Parameters
    ----------
    mixtures : array, shape (band, target)
        Weight of each band in the mixture.
    alphas : array, shape (target,)
        Alpha of each target.
    scores : array, shape (candidate, target)
        Negative mean squared error on held-out samples, of each mixture or at each step.
    weights : array, shape (sample, target) or (feature, target)
        Dual weights, or primal weights if features were given.
    intercept : array, shape (target,)
        Mean of the targets.
    """

    mixtures: NDArray[np.float64]
    alphas: NDArray[np.float64]
    scores: NDArray[np.float64]
    weights: NDArray
    intercept: NDArray[np.float64]


def solve_by_block(targets: Targets, solve: Callable[[NDArray], Solution], center: bool) -> Solution:
    """Solve for all targets, with one block in memory at a time.

    Parameters
    ----------
    targets : Targets
        Targets, read in blocks.
    solve : callable
        Takes targets with mean 0 and variance 1, (sample, target), and returns a solution.
    center : bool
        Whether to fit an intercept.

    Returns
    -------
    Solution
    """
    whole: Solution | None = None
    for block, values in targets.blocks():
        intercept = values.mean(axis=0, dtype=np.float64) if center else np.zeros(values.shape[1])
        y = values - intercept.astype(values.dtype)
        # himalaya breaks ties between scores with constants that assume a variance of about 1.
        spread = np.sqrt((y**2).mean(axis=0, dtype=np.float64))
        spread = np.where(spread > 0, spread, 1.0)
        y /= spread.astype(y.dtype)
        found = solve(y)
        found.weights[:] *= spread.astype(y.dtype)
        found = replace(found, scores=found.scores * spread**2, intercept=intercept)
        if values.shape[1] == targets.n_targets:
            return found
        if whole is None:
            whole = _empty(found, targets.n_targets)
        for name in ("mixtures", "alphas", "scores", "weights", "intercept"):
            getattr(whole, name)[..., block] = getattr(found, name)
    if whole is None:
        raise InputError("there are no targets", given=f"y of shape {(targets.n_samples, *targets.shape)}")
    return whole


def _empty(like: Solution, n_targets: int) -> Solution:
    parts = {name: np.asarray(value) for name, value in vars(like).items()}
    return Solution(**{name: np.empty((*part.shape[:-1], n_targets), part.dtype) for name, part in parts.items()})


def random_search(kernels: NDArray, y: NDArray, settings: SearchSettings) -> Solution:
    """Search mixtures and alphas on kernels, (band, sample, sample), with himalaya's random search."""
    from himalaya.kernel_ridge import solve_multiple_kernel_ridge_random_search

    batch_alphas, batch_targets = settings.batches(y.itemsize, *y.shape)
    # In himalaya, bands with zero weight have a log weight of -inf, which is intended.
    with himalaya_backend(settings.device, _threads(y)) as backend, np.errstate(divide="ignore"):
        with _explained("random_search", settings.options):
            deltas, dual, scores, alphas, *_ = solve_multiple_kernel_ridge_random_search(
                backend.asarray(kernels),
                backend.asarray(y),
                n_iter=backend.asarray(settings.mixtures.astype(y.dtype)),
                alphas=backend.asarray(settings.alphas.astype(y.dtype)),
                cv=settings.folds,
                fit_intercept=settings.center,
                return_weights="dual",
                return_alphas=True,
                progress_bar=False,
                n_targets_batch=batch_targets,
                n_targets_batch_refit=batch_targets,
                n_alphas_batch=batch_alphas,
                **settings.options,
            )
        deltas, dual, scores, alphas = (backend.to_numpy(part) for part in (deltas, dual, scores, alphas))
    alphas = alphas.astype(np.float64)
    mixtures = np.exp(deltas.astype(np.float64)) * alphas
    return Solution(mixtures, alphas, scores.astype(np.float64), np.ascontiguousarray(dual), np.empty(0))


def gradient(kernels: NDArray, y: NDArray, settings: SearchSettings) -> Solution:
    """Descend the gradient of the held-out error on centered kernels, (band, sample, sample), with himalaya.

    Each target starts at the equal mixture with its best alpha.
    """
    from himalaya.kernel_ridge import (
        solve_multiple_kernel_ridge_hyper_gradient,
        solve_multiple_kernel_ridge_random_search,
        solve_weighted_kernel_ridge_conjugate_gradient,
    )

    equal = np.full((1, len(kernels)), 1 / len(kernels), dtype=y.dtype)
    batch_alphas, batch_targets = settings.batches(y.itemsize, *y.shape)
    options: dict[str, Any] = {"random_state": settings.random_state, **settings.options}
    with himalaya_backend(settings.device, _threads(y)) as backend:
        given, on_device = backend.asarray(kernels), backend.asarray(y)
        if "initial_deltas" not in options:
            options["initial_deltas"], *_ = solve_multiple_kernel_ridge_random_search(
                given,
                on_device,
                n_iter=backend.asarray(equal),
                alphas=backend.asarray(settings.alphas.astype(y.dtype)),
                cv=settings.folds,
                progress_bar=False,
                n_targets_batch=batch_targets,
                n_alphas_batch=batch_alphas,
            )
        with _explained("gradient", settings.options):
            deltas, _, scores = solve_multiple_kernel_ridge_hyper_gradient(
                given,
                on_device,
                cv=settings.folds,
                progress_bar=False,
                n_targets_batch=settings.n_targets_batch or _gradient_batch(kernels, y),
                **options,
            )
        # The weights returned by himalaya are only accurate to 1e-4, whatever the precision.
        dual = solve_weighted_kernel_ridge_conjugate_gradient(
            given,
            on_device,
            deltas,
            tol=_TOLERANCE[str(y.dtype)],
            max_iter=10 * len(y),
            n_targets_batch=settings.n_targets_batch or _gradient_batch(kernels, y),
        )
        deltas, dual, scores = (backend.to_numpy(part) for part in (deltas, dual, scores))
    weights = np.exp(deltas.astype(np.float64))
    alphas = 1 / weights.sum(axis=0)
    dual = np.ascontiguousarray(dual)
    return Solution(weights * alphas, alphas, _last_kept(scores.astype(np.float64)), dual, np.empty(0))


def _gradient_batch(kernels: NDArray, y: NDArray) -> int:
    # The solver holds about six arrays of shape (band, sample, target).
    return int(np.clip(_BATCH_BYTES // (6 * kernels.shape[0] * y.shape[0] * y.itemsize), 1, y.shape[1]))


def _last_kept(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Fill in the last score of targets that stopped early, for which himalaya leaves zeros."""
    for before, row in pairwise(scores):
        row[row == 0] = before[row == 0]
    return scores


def group_ridge(x: NDArray, columns: Sequence[NDArray], y: NDArray, settings: SearchSettings) -> Solution:
    """Search mixtures and alphas on features with himalaya's group ridge, for fewer features than samples.

    Parameters
    ----------
    x : array, shape (sample, feature)
        Centered features, with each band scaled so that its kernel has a mean diagonal of 1.
    columns : sequence of int array
        Columns of each band.
    y : array, shape (sample, target)
        Targets with mean 0 and variance 1.
    settings : SearchSettings
        Settings of the solver.

    Returns
    -------
    Solution
    """
    from himalaya.ridge import solve_group_ridge_random_search

    batch_alphas, batch_targets = settings.batches(y.itemsize, len(y), y.shape[1], x.shape[1])
    # himalaya multiplies by the root of a mixture and divides by it again, so 0 would result in NaN.
    candidates = np.maximum(settings.mixtures, _TINY).astype(y.dtype)
    with himalaya_backend(settings.device, _threads(y)) as backend:
        with _explained("group_ridge", settings.options):
            deltas, found, scores, *_ = solve_group_ridge_random_search(
                [backend.asarray(np.ascontiguousarray(x[:, part])) for part in columns],
                backend.asarray(y),
                n_iter=backend.asarray(candidates),
                alphas=backend.asarray(settings.alphas.astype(y.dtype)),
                cv=settings.folds,
                fit_intercept=settings.center,
                return_weights=True,
                progress_bar=False,
                n_targets_batch=batch_targets,
                n_targets_batch_refit=batch_targets,
                n_alphas_batch=batch_alphas,
                warn=False,
                **settings.options,
            )
        deltas, found, scores = (backend.to_numpy(part) for part in (deltas, found, scores))
    weights = np.exp(deltas.astype(np.float64))
    alphas = 1 / weights.sum(axis=0)
    mixtures = np.where(weights * alphas > 1e6 * _TINY, weights * alphas, 0.0)
    nearest = settings.alphas[np.abs(np.log(settings.alphas[:, None] / alphas)).argmin(axis=0)]
    alphas = np.where(np.isclose(nearest, alphas, rtol=1e-4), nearest, alphas)  # remove rounding errors of logarithms
    primal = np.empty_like(found)
    primal[np.concatenate(columns)] = found
    return Solution(mixtures, alphas, scores.astype(np.float64), primal, np.empty(0))


def _threads(y: NDArray) -> int | None:
    return 1 if len(y) <= _ONE_THREAD else None


@contextmanager
def _explained(solver: str, options: Mapping[str, Any]) -> Iterator[None]:
    """Raise a clear error if himalaya's solver does not know an option."""
    try:
        yield
    except TypeError as error:
        if not options or "keyword argument" not in str(error):
            raise
        raise InputError(
            f"`solver_params` has an option that the solver {solver!r} does not take",
            given=str(error),
            expected="options of himalaya's solver that no other parameter of BandedRidge sets",
        ) from error
