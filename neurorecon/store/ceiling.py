"""Noise ceilings at build time: from repeats, or from what the data set states."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from neurorecon.datasets.base import TRIALS
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
        The tasks that have one: those that show stimuli more than once, or whose samples are means of trials.
    ncsnr : array, shape (repeated_task, voxel), float32
        Standard deviation of the signal over that of the noise, of single trials (Allen et al. 2022).
    noise_ceiling : array, shape (repeated_task, voxel), float32
        Largest R2 that a model can reach on averages over the repeats of the test stimuli.
    test_repeats : list of float
        Harmonic mean of the number of trials of each test stimulus, which the ceiling is for.
    """

    tasks: list[str]
    ncsnr: np.ndarray
    noise_ceiling: np.ndarray
    test_repeats: list[float]


def noise_ceilings(responses: Any, samples: pd.DataFrame, stated_ncsnr: np.ndarray | None = None) -> NoiseCeilings:
    """Compute the noise ceiling of every voxel for each task that has one.

    The ceiling is ``ncsnr ** 2 / (ncsnr ** 2 + 1 / k)`` for means of k trials, and ``1 / k`` its mean over the test
    stimuli where k differs between them.

    Parameters
    ----------
    responses : Zarr array, shape (sample, voxel)
        Read by blocks of 1,024 voxels: 123 MB for 30,000 samples.
    samples : DataFrame
        The sample table. Where samples are means of trials already, the column ``trials`` says of how many; their
        ceiling is known where the data set states the ncsnr.
    stated_ncsnr : array, shape (voxel,), optional
        What the data set itself states, of single trials; used in place of an estimate.

    Returns
    -------
    NoiseCeilings

    References
    ----------
    Allen et al. (2022). A massive 7T fMRI dataset to bridge cognitive neuroscience and artificial intelligence.
    Nature Neuroscience 25, 116-126; for trials that differ in number, the NSD data manual.
    """
    averaged = stated_ncsnr is not None and TRIALS in samples
    tasks = [task for task in pd.unique(samples["task"]) if averaged or _repeated(samples, task)]
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
    noise = np.array([_noise_left(samples, task, averaged) for task in tasks])
    power = ncsnr.astype(float) ** 2
    ceiling = power / (power + noise[:, None]) if tasks else power
    return NoiseCeilings(tasks, ncsnr, ceiling.astype(np.float32), (1 / noise).tolist())


def _repeated(samples: pd.DataFrame, task: str) -> bool:
    counts = samples["stimulus"][samples["task"] == task].value_counts(sort=False)
    return bool((counts > 1).sum() > 1)


def _noise_left(samples: pd.DataFrame, task: str, averaged: bool) -> float:
    """Return the share of the noise variance of a trial that is left in the mean over the samples of a stimulus."""
    rows = samples[samples["task"] == task]
    test = rows[rows["split"] == TEST]
    rows = test if len(test) else rows
    noise = 1 / rows[TRIALS].astype(float) if averaged else pd.Series(1.0, index=rows.index)
    stimuli = noise.groupby(rows["stimulus"], sort=False)
    return float((stimuli.sum() / stimuli.size() ** 2).mean())
