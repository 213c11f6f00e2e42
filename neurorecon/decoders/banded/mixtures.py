"""Which mixtures of bands the random search of banded ridge tries."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neurorecon.errors import InputError


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


def check_mixtures(n_iter: Any, n_bands: int, random_state: int) -> NDArray[np.float64]:
    """Return the mixtures that are tried: those given, or :func:`candidate_mixtures`."""
    if n_iter is None or np.ndim(n_iter) == 0:
        return candidate_mixtures(n_bands, n_iter, random_state)
    mixtures = np.asarray(n_iter, dtype=np.float64)
    if mixtures.ndim != 2 or mixtures.shape[1] != n_bands or (mixtures < 0).any() or (mixtures.sum(1) <= 0).any():
        raise InputError(
            "these mixtures of bands cannot be tried",
            given=f"shape {mixtures.shape}",
            expected=f"shape (mixture, {n_bands}), entries of 0 or more, no row of zeros",
        )
    return mixtures
