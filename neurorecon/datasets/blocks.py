"""Block designs: which volumes answer to which presentation, a lag behind it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import pandas as pd

from neurorecon.datasets.base import SAMPLE_COLUMNS
from neurorecon.datasets.preprocess import detrend, zscore

#: Code of volumes in which nothing is shown.
REST = -1


@dataclass(frozen=True)
class Block:
    """One sample: a presentation (or a volume of it), and the volumes that answer to it.

    Parameters
    ----------
    code : int
        What was shown.
    run : int
        Place of its run among the runs, from 0.
    onset : int
        First volume in which it was shown, from the first of the run.
    volumes : slice
        Of the run: the volumes that are averaged, the lag included.
    """

    code: int
    run: int
    onset: int
    volumes: slice = field(repr=False)


def find_blocks(runs: Sequence[np.ndarray], lag: int, samples: str) -> list[Block]:
    """List the presentations of a block design in the order in which they were shown.

    Parameters
    ----------
    runs : sequence of int array, shape (volume,)
        What each volume of a run shows; :data:`REST` where nothing.
    lag : int
        Volumes between what is shown and its response.
    samples : {"block", "volume"}
        A sample a presentation, or one a volume.

    Returns
    -------
    list of Block
        Those whose response was recorded at least in part: what is shown at the very end of a run may have none.
    """
    found = []
    for run, codes in enumerate(runs):
        edges = [0, *(np.flatnonzero(np.diff(codes)) + 1).tolist(), len(codes)]
        if samples == "volume":
            edges = list(range(len(codes) + 1))
        for start, stop in pairwise(edges):
            volumes = slice(start + lag, min(stop + lag, len(codes)))
            if codes[start] != REST and volumes.start < volumes.stop:
                found.append(Block(int(codes[start]), run, start, volumes))
    return found


def sample_table(
    blocks: Sequence[Block], stimuli: Sequence[str], run_numbers: Sequence[int], repetition_time: float
) -> pd.DataFrame:
    """Make the table of samples of a block design in which every run shows the same stimuli.

    Parameters
    ----------
    blocks : sequence of Block
        From :func:`find_blocks`.
    stimuli : sequence of str
        Ids; codes are places among them.
    run_numbers : sequence of int
        Number of each run.
    repetition_time : float
        Seconds between volumes.

    Returns
    -------
    DataFrame
        All in the split ``"train"``, because a stimulus is in one split only: leave a run out to test.
    """
    table = pd.DataFrame(
        {
            "stimulus": [stimuli[block.code] for block in blocks],
            "task": "images",
            "session": 1,
            "run": [run_numbers[block.run] for block in blocks],
            "split": "train",
            "time": [block.onset * repetition_time for block in blocks],
        }
    )
    table["repeat"] = table.groupby("stimulus").cumcount() + 1
    return table[list(SAMPLE_COLUMNS)]


def prepare_run(run: np.ndarray, *, trend: bool, standardize: bool) -> np.ndarray:
    """Remove the linear trend of each voxel in a run, and scale it to unit variance.

    Parameters
    ----------
    run : array, shape (volume, voxel)
        float64. Values that are not finite count as 0.
    trend : bool
        Remove the linear trend.
    standardize : bool

    Returns
    -------
    array, shape (volume, voxel)
        A voxel that does not change in the run is zero where anything is done to it: what rounding leaves of its trend
        is no signal.
    """
    run = np.where(np.isfinite(run), run, 0.0)
    still = (run == run[:1]).all(axis=0)
    run = detrend(run, 1) if trend else run
    run = zscore(run) if standardize else run
    if trend or standardize:
        run[:, still] = 0.0
    return run


def block_means(run: np.ndarray, blocks: Sequence[Block]) -> np.ndarray:
    """Average the volumes of each block of one run.

    Parameters
    ----------
    run : array, shape (volume, voxel)
    blocks : sequence of Block

    Returns
    -------
    array, shape (block, voxel)
        float32.
    """
    if not blocks:
        return np.empty((0, run.shape[1]), dtype=np.float32)
    return np.stack([run[block.volumes].mean(axis=0) for block in blocks]).astype(np.float32)
