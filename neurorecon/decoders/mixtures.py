"""The search of banded ridge: which mixtures of bands are tried, and himalaya's solver that tries them."""

from __future__ import annotations

from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from neurorecon.decoders.backend import himalaya_backend
from neurorecon.decoders.folds import Fold
from neurorecon.decoders.targets import Targets

#: Bytes that one batch of the search may take.
_BATCH_BYTES = 2**29

#: Up to so many samples one thread is as quick as two (measured: 300 samples, 2,500 targets).
_ONE_THREAD = 500


def candidate_mixtures(n_bands: int, n_iter: int | None = None, random_state: int = 0) -> NDArray[np.float64]:
    """Return the mixtures of bands that are tried, the same at each call.

    Few bands leave little to chance: first each band alone, then the equal mixture of each subset of bands
    (of all bands only, above four), then each band at 80 % with the others sharing the rest. What `n_iter`
    asks for beyond these is drawn from Dirichlet distributions with concentrations 1 and 0.1 by turns.

    Parameters
    ----------
    n_bands : int
        Number of bands.
    n_iter : int, optional
        Number of mixtures; by default the designed ones, and 10 random ones a band above four bands.
    random_state : int
        Seed of the random ones.

    Returns
    -------
    mixtures : array, shape (mixture, band)
        Weights of the bands' kernels; rows sum to 1.
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


class MixtureSearch:
    """himalaya's random search over mixtures and alphas; results as NumPy arrays."""

    def __init__(
        self,
        kernels: NDArray,
        mixtures: NDArray,
        alphas: NDArray,
        folds: list[Fold],
        center: bool,
        device: str,
        n_targets_batch: int | None,
    ) -> None:
        self.kernels, self.candidates, self.strengths = kernels, mixtures, alphas
        self.folds, self.center, self.device, self.n_targets_batch = folds, center, device, n_targets_batch

    def run(self, targets: Targets) -> None:
        """Search for the best mixture and alpha of each target, and fit with it."""
        from himalaya.kernel_ridge import solve_multiple_kernel_ridge_random_search

        dtype = self.kernels.dtype
        n_samples, n_targets = targets.n_samples, targets.n_targets
        y = np.empty((n_samples, n_targets), dtype=dtype)
        for block, values in targets.blocks():
            y[:, block] = values
        self.intercept = y.mean(axis=0, dtype=np.float64) if self.center else np.zeros(n_targets)
        y -= self.intercept.astype(dtype)
        # himalaya scores in units of the targets and breaks ties with constants that suppose a variance
        # around 1.
        spread = np.sqrt((y**2).mean(axis=0, dtype=np.float64))
        spread = np.where(spread > 0, spread, 1.0).astype(dtype)
        y /= spread
        batch_alphas, batch_targets = self._batches(n_samples, n_targets)
        # Bands with no weight have log weight -inf in himalaya; that is what is meant, not a mistake.
        threads = 1 if n_samples <= _ONE_THREAD else None
        with himalaya_backend(self.device, threads) as backend, np.errstate(divide="ignore"):
            deltas, dual, scores, alphas, *_ = solve_multiple_kernel_ridge_random_search(
                backend.asarray(self.kernels),
                backend.asarray(y),
                n_iter=backend.asarray(self.candidates.astype(dtype)),
                alphas=backend.asarray(self.strengths.astype(dtype)),
                cv=self.folds,
                fit_intercept=self.center,
                return_weights="dual",
                return_alphas=True,
                progress_bar=False,
                n_targets_batch=batch_targets,
                n_targets_batch_refit=batch_targets,
                n_alphas_batch=batch_alphas,
            )
            deltas, dual, scores, alphas = (backend.to_numpy(part) for part in (deltas, dual, scores, alphas))
        self.alphas = alphas.astype(np.float64)
        self.mixtures = np.exp(deltas.astype(np.float64)) * self.alphas
        self.dual = np.ascontiguousarray(dual * spread)
        self.scores = (scores * spread**2).astype(np.float64)

    def _batches(self, n_samples: int, n_targets: int) -> tuple[int, int]:
        """Return how many alphas and targets to compute at once."""
        size = self.kernels.dtype.itemsize
        n_alphas = len(self.strengths)
        # Refitting holds one (sample, sample) matrix and one (sample, target) array for each alpha of a
        # batch.
        alphas = int(np.clip(_BATCH_BYTES // (2 * size * n_samples**2), 1, n_alphas))
        if self.n_targets_batch is not None:
            return alphas, int(self.n_targets_batch)
        return alphas, int(np.clip(_BATCH_BYTES // (2 * size * n_samples * alphas), 1, n_targets))
