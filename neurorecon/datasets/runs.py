"""Process runs one at a time: detrend and standardize volumes, average blocks, and find voxels that cannot be used."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise

import numpy as np
import pandas as pd

from neurorecon.datasets.base import SAMPLE_COLUMNS
from neurorecon.errors import InputError

#: Code of volumes without a stimulus.
REST = -1


@dataclass(frozen=True)
class Block:
    """A presentation of a stimulus (or one volume of it), and the volumes of its response.

    Parameters
    ----------
    code : int
        Code of the stimulus.
    run : int
        Index of the run, from 0.
    onset : int
        First volume of the presentation within the run, from 0.
    volumes : slice
        The volumes of the run to average, shifted by the lag.
    """

    code: int
    run: int
    onset: int
    volumes: slice = field(repr=False)


def find_blocks(runs: Sequence[np.ndarray], lag: int, samples: str) -> list[Block]:
    """List the presentations of a block design in order.

    Parameters
    ----------
    runs : sequence of int array, shape (volume,)
        For each run, the code of the stimulus shown in each volume; :data:`REST` if there is none.
    lag : int
        Volumes by which the response follows the stimulus.
    samples : {"block", "volume"}
        One sample per presentation, or one per volume.

    Returns
    -------
    list of Block
        The presentations whose responses were recorded at least in part; one at the very end of a run may have none.
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
    """Create the table of samples of a block design in which every run shows the same stimuli.

    Parameters
    ----------
    blocks : sequence of Block
        From :func:`find_blocks`.
    stimuli : sequence of str
        Ids of the stimuli; the codes of the blocks are indices into it.
    run_numbers : sequence of int
        Number of each run.
    repetition_time : float
        Repetition time in seconds.

    Returns
    -------
    DataFrame
        With :data:`SAMPLE_COLUMNS`. All samples are in the split ``"train"``, because a stimulus cannot be in two
        splits: cross-validate by leaving runs out.
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
    """Remove the linear trend of each voxel in a run, and standardize it.

    Parameters
    ----------
    run : array, shape (volume, voxel)
        float64. Values that are not finite count as 0.
    trend : bool
        Whether to remove the linear trend.
    standardize : bool
        Whether to scale each voxel to mean 0 and standard deviation 1.

    Returns
    -------
    array, shape (volume, voxel)
        Constant voxels become 0 if either step is applied, so that rounding errors are not scaled up to signal.
    """
    run = np.where(np.isfinite(run), run, 0.0)
    still = (run == run[:1]).all(axis=0)
    run = detrend(run, 1) if trend else run
    run = zscore(run) if standardize else run
    if trend or standardize:
        run[:, still] = 0.0
    return run


def block_means(run: np.ndarray, blocks: Sequence[Block]) -> np.ndarray:
    """Average the volumes of each block of a run.

    Parameters
    ----------
    run : array, shape (volume, voxel)
    blocks : sequence of Block
        The blocks of this run.

    Returns
    -------
    array, shape (block, voxel), float32
    """
    if not blocks:
        return np.empty((0, run.shape[1]), dtype=np.float32)
    return np.stack([run[block.volumes].mean(axis=0) for block in blocks]).astype(np.float32)


def read_by_part(
    lengths: Sequence[int], load: Callable[[int], np.ndarray], voxels: int
) -> Callable[[int, int], np.ndarray]:
    """Return a function that reads slices of samples from parts such as runs, and caches the last part.

    Parameters
    ----------
    lengths : sequence of int
        Number of samples in each part, in the order of the table of samples.
    load : callable
        ``load(part)`` returns the samples of a part, shape (sample, voxel).
    voxels : int
        Number of voxels, for the shape of empty slices.

    Returns
    -------
    callable
        ``read(start, stop)`` returns float32, shape (sample, voxel), as :attr:`SubjectData.read_responses` does.
    """
    edges = np.cumsum([0, *lengths])
    last: dict[int, np.ndarray] = {}

    def part(number: int) -> np.ndarray:
        if number not in last:
            last.clear()  # cleared first, so that only one part is in memory
            last[number] = load(number)
        return last[number]

    def read(start: int, stop: int) -> np.ndarray:
        start, stop, _ = slice(start, stop).indices(int(edges[-1]))
        found = [
            part(number)[max(start - first, 0) : stop - first]
            for number, (first, after) in enumerate(pairwise(edges.tolist()))
            if first < stop and after > start
        ]
        return np.concatenate(found).astype(np.float32) if found else np.empty((0, voxels), dtype=np.float32)

    return read


@dataclass(frozen=True)
class Screened:
    """Which voxels can be used, and why the others cannot.

    Parameters
    ----------
    usable : bool array, shape (voxel,)
        Which voxels can be used.
    not_finite : int
        Number of voxels with a NaN or infinite value.
    constant : int
        Number of the other voxels that are constant within some part.
    """

    usable: np.ndarray
    not_finite: int
    constant: int

    def report(self, kept: bool = False) -> dict[str, str]:
        """Return the entries for :attr:`SubjectData.report`; empty if every voxel can be used."""
        if self.usable.all():
            return {}
        verb = "kept, as zeros where not finite" if kept else "dropped"
        what = f"{self.not_finite:,} not finite, {self.constant:,} constant, of {len(self.usable):,} voxels"
        return {f"voxels {verb}": what}


def screen(parts: Iterable[np.ndarray]) -> Screened:
    """Find the voxels that contain NaN or infinite values, or are constant, in any part (a session or a run).

    Parameters
    ----------
    parts : iterable of array, shape (sample, voxel)
        The parts, consumed one at a time. A part with a single sample has no constant voxels.

    Returns
    -------
    Screened
    """
    not_finite = constant = None
    for part in parts:
        bad = ~np.isfinite(part).all(axis=0)
        still = (part == part[:1]).all(axis=0) & ~bad if len(part) > 1 else np.zeros_like(bad)
        not_finite = bad if not_finite is None else not_finite | bad
        constant = still if constant is None else constant | still
    if not_finite is None or constant is None:
        return Screened(np.ones(0, dtype=bool), 0, 0)
    return Screened(~(not_finite | constant), int(not_finite.sum()), int((constant & ~not_finite).sum()))


def detrend(run: np.ndarray, order: int) -> np.ndarray:
    """Remove slow drift by subtracting a least-squares polynomial from each voxel's time series.

    Parameters
    ----------
    run : array, shape (time, voxel)
        A single run. Do not concatenate runs before detrending.
    order : int
        Order of the polynomial. 0 removes only the mean, -1 nothing.

    Returns
    -------
    array, shape (time, voxel)
        Has the dtype of `run`.

    Raises
    ------
    InputError
        If the run does not have more time points than the polynomial has coefficients.
    """
    run = np.asarray(run)
    if run.ndim != 2 or len(run) <= order + 1:
        raise InputError(
            "the run is too short to be detrended",
            given=f"an array of shape {run.shape}, a polynomial of order {order}",
            expected=f"shape (time, voxel) with more than {order + 1} time points",
            todo="lower the order, or exclude the run",
        )
    if order < 0:
        return run
    basis = _legendre(len(run), order)
    return run - (basis @ (basis.T @ run.astype(float))).astype(run.dtype)


def zscore(run: np.ndarray) -> np.ndarray:
    """Scale each voxel's time series to mean 0 and standard deviation 1. Constant voxels become 0.

    Parameters
    ----------
    run : array, shape (time, voxel)

    Returns
    -------
    array, shape (time, voxel)
        Has the dtype of `run`.
    """
    run = np.asarray(run)
    values = run.astype(float)
    values -= values.mean(axis=0)
    deviation = values.std(axis=0)
    level = np.abs(run).max(axis=0, initial=0.0)
    constant = deviation <= 1e-6 * level  # zero up to rounding errors
    return np.where(constant, 0.0, values / np.where(constant, 1.0, deviation)).astype(run.dtype)


@lru_cache(maxsize=32)
def _legendre(length: int, order: int) -> np.ndarray:
    """Return orthonormal polynomials up to `order`, shape (length, order + 1)."""
    times = np.linspace(-1.0, 1.0, length)
    return np.linalg.qr(np.polynomial.legendre.legvander(times, order))[0]
