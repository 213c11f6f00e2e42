"""Noise ceilings at build time: from repeats, or from what the data set states."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from neurorecon.stats.noise_ceiling import RepeatVariance
from neurorecon.store.schema import RESPONSE_CHUNKS

#: Split whose averages the ceilings are for, where a task has it.
TEST = "test"


@dataclass(frozen=True)
class NoiseCeilings:
    """Noise ceilings of one subject.

    Parameters
    ----------
    tasks : list of str
        The tasks that show stimuli more than once.
    ncsnr : array, shape (repeated_task, voxel), float32
        Standard deviation of the signal over that of the noise, of single samples (Allen et al. 2022).
    noise_ceiling : array, shape (repeated_task, voxel), float32
        Largest R2 that a model can reach on averages over the repeats of the test stimuli.
    test_repeats : list of float
        Harmonic mean of the number of repeats that the ceiling is for.
    """

    tasks: list[str]
    ncsnr: np.ndarray
    noise_ceiling: np.ndarray
    test_repeats: list[float]


def noise_ceilings(responses: Any, samples: pd.DataFrame, stated_ncsnr: np.ndarray | None = None) -> NoiseCeilings:
    """Compute the noise ceiling of every voxel for each task that has repeats.

    Parameters
    ----------
    responses : Zarr array, shape (sample, voxel)
        Read by blocks of 1,024 voxels: 123 MB for 30,000 samples.
    samples : DataFrame
        The sample table.
    stated_ncsnr : array, shape (voxel,), optional
        What the data set itself states; used in place of an estimate.

    Returns
    -------
    NoiseCeilings
    """
    parts = {task: _repeats(samples, task) for task in pd.unique(samples["task"])}
    tasks = [task for task, repeats in parts.items() if (repeats > 1).sum() > 1]
    voxels = responses.shape[1]
    ncsnr = np.empty((len(tasks), voxels), dtype=np.float32)
    width = RESPONSE_CHUNKS[1]
    for start in range(0, voxels, width) if stated_ncsnr is None else ():
        block = np.asarray(responses[:, start : start + width])
        for number, task in enumerate(tasks):
            rows = (samples["task"] == task).to_numpy()
            ids = samples["stimulus"].to_numpy()[rows]
            ncsnr[number, start : start + width] = RepeatVariance(ids).update(block[rows], ids).ncsnr
    if stated_ncsnr is not None:
        ncsnr[:] = stated_ncsnr
    averaged = [_harmonic_mean(_test_repeats(samples, task, parts[task])) for task in tasks]
    power = ncsnr.astype(float) ** 2
    ceiling = power / (power + 1 / np.array(averaged)[:, None]) if tasks else power
    return NoiseCeilings(tasks, ncsnr, ceiling.astype(np.float32), averaged)


def _repeats(samples: pd.DataFrame, task: str) -> pd.Series:
    return samples["stimulus"][samples["task"] == task].value_counts(sort=False)


def _test_repeats(samples: pd.DataFrame, task: str, every: pd.Series) -> pd.Series:
    test = samples[(samples["task"] == task) & (samples["split"] == TEST)]
    return test["stimulus"].value_counts(sort=False) if len(test) else every


def _harmonic_mean(counts: pd.Series) -> float:
    return float(1 / np.mean(1 / counts.to_numpy(dtype=float)))
