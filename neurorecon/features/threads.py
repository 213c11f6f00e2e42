"""The same work for each stimulus of a batch, on all cores: NumPy lets go of Python's lock while it filters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

#: Stimuli at a time, at most; bounds the memory.
_MOST_THREADS = 8


def for_each(work: Callable[[np.ndarray], np.ndarray], stimuli: Sequence[np.ndarray] | np.ndarray) -> np.ndarray:
    """Return what comes of each stimulus, stacked in their order.

    Parameters
    ----------
    work : callable
        Given one stimulus; called from several threads, so it may keep nothing between calls.
    stimuli : sequence of array, or array of shape (stimulus, ...)
        One or more.

    Returns
    -------
    array, shape (stimulus, ...)
        The same bits whatever the number of threads.
    """
    from joblib import cpu_count

    threads = min(cpu_count(), _MOST_THREADS, len(stimuli))
    if threads < 2:
        return np.stack([work(stimulus) for stimulus in stimuli])
    with ThreadPoolExecutor(threads) as pool:
        return np.stack(list(pool.map(work, stimuli)))
