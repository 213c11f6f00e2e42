"""Responses of a subject, session by session: single trials, or means over the trials of a picture."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from neurorecon.datasets.nsd.betas import Betas, percent

#: Voxels that are standardized, and trials that are converted, at a time.
COLUMNS, TRIALS = 8192, 32


@dataclass(frozen=True)
class Recording:
    """The betas that one subject's samples are made of.

    Parameters
    ----------
    sessions : sequence of Betas
        In the order of the samples.
    rows : sequence of int array
        For each session the trials that are samples, counted within the session.
    voxels : int array, shape (voxel,)
        As in :meth:`Betas.read`.
    standardize : bool
        Whether every voxel is z-scored within each session.
    """

    sessions: Sequence[Betas]
    rows: Sequence[np.ndarray]
    voxels: np.ndarray
    standardize: bool

    def load(self, number: int) -> Callable[[int, np.ndarray], None]:
        """Read one session into memory, as it is on disk, and return what fills in its samples as float32.

        Kept are the trials as int16, which is half of what the same in float32 takes. ``fill(start, out)`` writes
        samples from `start` on into `out`, a few at a time, so that nothing large is copied.
        """
        raw = self.sessions[number].read(self.voxels)
        mean, scale = _standard(raw) if self.standardize else (None, None)
        rows = self.rows[number]

        def fill(start: int, out: np.ndarray) -> None:
            for first in range(0, len(out), TRIALS):
                part = out[first : first + TRIALS]
                part[:] = percent(raw[rows[start + first : start + first + len(part)]])
                if raw.dtype.kind == "f":  # voxels that are kept on request
                    np.nan_to_num(part, copy=False, nan=0.0, posinf=0.0, neginf=0.0)
                if mean is not None:
                    part -= mean
                    part /= scale

        return fill


def _standard(raw: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and standard deviation over all trials of a session, in percent signal change."""
    mean, scale = np.empty(raw.shape[1], np.float32), np.empty(raw.shape[1], np.float32)
    for start in range(0, raw.shape[1], COLUMNS):
        part = slice(start, start + COLUMNS)
        values = np.nan_to_num(percent(raw[:, part]), nan=0.0, posinf=0.0, neginf=0.0)
        mean[part] = values.mean(axis=0, dtype=np.float64)
        scale[part] = values.std(axis=0, dtype=np.float64)
    scale[scale == 0] = 1.0  # constant voxels that are kept become zero
    return mean, scale


def read_trials(recording: Recording) -> Callable[[int, int], np.ndarray]:
    """Return ``read(start, stop)`` over single trials; the session read last is kept.

    The blocks that a store writes go from the first sample to the last, so that each session is unpacked once.
    """
    edges = np.cumsum([0, *(len(rows) for rows in recording.rows)])
    last: dict[int, Callable[[int, np.ndarray], None]] = {}

    def session(number: int) -> Callable[[int, np.ndarray], None]:
        if number not in last:
            last.clear()  # before the next one is read: one session in memory, not two
            last[number] = recording.load(number)
        return last[number]

    def read(start: int, stop: int) -> np.ndarray:
        start, stop, _ = slice(start, stop).indices(int(edges[-1]))
        found = np.empty((max(stop - start, 0), len(recording.voxels)), dtype=np.float32)
        for number in range(len(recording.rows)):
            low, high = max(start, edges[number]), min(stop, edges[number + 1])
            if low < high:
                session(number)(low - edges[number], found[low - start : high - start])
        return found

    return read


def read_averages(recording: Recording, groups: np.ndarray, number: int) -> Callable[[int, int], np.ndarray]:
    """Return ``read(start, stop)`` over means of trials.

    The trials of a picture lie in several sessions, so that all sessions are read before the first mean is known.
    Sums go to a file in the temporary folder (float32, as large as the result), which vanishes with the reader.

    Parameters
    ----------
    recording : Recording
        The trials.
    groups : int array, shape (trial,)
        Which mean each trial of the recording belongs to.
    number : int
        Of means.
    """
    made: list[np.ndarray] = []

    def means() -> np.ndarray:
        if not made:
            sums = _zeros_on_disk((number, len(recording.voxels)))
            _add_up(recording, groups, sums)
            counts = np.bincount(groups, minlength=number).astype(np.float32)
            for row, count in enumerate(counts):
                sums[row] /= count
            made.append(sums)
        return made[0]

    return lambda start, stop: np.array(means()[start:stop])


def _zeros_on_disk(shape: tuple[int, int]) -> np.ndarray:
    with tempfile.TemporaryFile() as file:
        row = bytes(shape[1] * 4)
        for _ in range(shape[0]):  # written, not only reserved: a full disk is an error here and not a crash later
            file.write(row)
        file.flush()
        return np.memmap(file, dtype=np.float32, mode="r+", shape=shape)


def _add_up(recording: Recording, groups: np.ndarray, sums: np.ndarray) -> None:
    done, trial = 0, np.empty((1, sums.shape[1]), dtype=np.float32)
    for number, rows in enumerate(recording.rows):
        if len(rows):
            fill = recording.load(number)
            for row in range(len(rows)):  # one trial at a time: a picture may be shown twice in a session
                fill(row, trial)
                sums[groups[done + row]] += trial[0]
        done += len(rows)
