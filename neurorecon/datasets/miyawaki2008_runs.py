"""Runs of Miyawaki 2008 on disk: their labels, and their volumes, preprocessed, one run at a time.

``func/data_{random,figure}_runNN.nii.gz`` are the volumes (TR 2 s), ``label/data_..._runNN_label.csv`` the
patterns: a row a volume, 100 numbers, column-major, 0 or 1, or -1 throughout for rest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from neurorecon.datasets.images import image_values, open_image
from neurorecon.datasets.miyawaki2008_figures import PATCHES
from neurorecon.datasets.parts import read_by_part
from neurorecon.errors import InputError, MissingFileError

#: Seconds between volumes.
REPETITION_TIME = 2.0

#: Session, split and number of runs. Patterns of the two sessions were shown on different days.
SESSIONS: dict[str, tuple[int, str, int]] = {"random": (1, "train", 20), "figure": (2, "test", 12)}

REST = -1

#: What to do about a missing or damaged file.
AGAIN = "delete the file where it is damaged, and fetch the data set again: nilearn.datasets.fetch_miyawaki2008()"


class Preprocessing(Protocol):
    """What is done to a run (the fields of the reader's options)."""

    @property
    def detrend(self) -> bool:
        """Whether the linear trend of the run is removed."""

    @property
    def standardize(self) -> bool:
        """Whether every voxel is divided by its standard deviation in the run."""

    @property
    def lag(self) -> int:
        """Volumes between a stimulus and its response."""

    @property
    def samples(self) -> str:
        """``"block"`` or ``"volume"``."""


@dataclass(frozen=True)
class Run:
    """One run: where its volumes are, and which of them answer to which pattern.

    Parameters
    ----------
    kind : str
        ``"random"`` or ``"figure"``.
    number : int
        From 1, as in the file's name.
    path : path
        The NIfTI file.
    patterns : list of array, shape (y, x)
        Of each sample, uint8.
    volumes : list of slice
        Of each sample: the volumes that are averaged, the lag included.
    onsets : list of float
        Of each sample: seconds from the first volume to the pattern's onset (block) or to the labelled
        volume.
    """

    kind: str
    number: int
    path: Path
    patterns: list[np.ndarray] = field(repr=False)
    volumes: list[slice] = field(repr=False)
    onsets: list[float] = field(repr=False)


def find_runs(root: Path, shape: tuple[int, ...], options: Preprocessing) -> tuple[list[Run], list[str]]:
    """List the runs on disk, and the names of those that the fetcher would have left but that are not there.

    Parameters
    ----------
    root : path
        The folder with ``func`` and ``label``.
    shape : tuple of int
        Of the mask, which every run has to share.
    options : Preprocessing
        Lag and kind of samples.

    Returns
    -------
    list of Run, list of str
    """
    runs, absent = [], []
    for kind, (_, _, number_of_runs) in SESSIONS.items():
        for number in range(1, number_of_runs + 1):
            name = f"data_{kind}_run{number:02d}"
            volumes, labels = root / "func" / f"{name}.nii.gz", root / "label" / f"{name}_label.csv"
            if not volumes.is_file() and not labels.is_file():
                absent.append(name)
                continue
            runs.append(read_run(kind, number, volumes, labels, shape, options))
    if not runs:
        raise MissingFileError(
            "there is no run of Miyawaki 2008",
            given=f"{root / 'func'} without data_random_runNN.nii.gz and data_figure_runNN.nii.gz",
            expected="20 random and 12 figure runs",
            todo="fetch the data set: nilearn.datasets.fetch_miyawaki2008()",
        )
    return runs, absent


def read_run(
    kind: str, number: int, volumes: Path, labels: Path, shape: tuple[int, ...], options: Preprocessing
) -> Run:
    """Read the labels and the header of one run.

    Parameters
    ----------
    kind, number
        As in the files' names.
    volumes, labels : path
        The NIfTI file and the CSV file.
    shape : tuple of int
        Of the mask.
    options : Preprocessing
        Lag and kind of samples.

    Returns
    -------
    Run

    Raises
    ------
    InputError
        Where a file cannot be used, or the two do not match; the message names it.
    """
    found = load_image(volumes).shape
    if found[:-1] != shape or len(found) != 4:
        raise InputError(
            f"{volumes} does not match the mask",
            given=f"shape {found}",
            expected=f"shape {(*shape, 'volume')}, as mask/mask.nii.gz",
            todo="fetch the data set again: nilearn.datasets.fetch_miyawaki2008()",
        )
    rows = read_labels(labels)
    if len(rows) != found[-1]:
        raise InputError(
            f"{labels} does not match its run",
            given=f"{len(rows)} rows for {found[-1]} volumes in {volumes.name}",
            expected="one row a volume",
            todo="fetch the data set again: nilearn.datasets.fetch_miyawaki2008()",
        )
    patterns, parts, onsets = [], [], []
    for start, stop in _samples_of(rows, options.samples):
        answer = slice(start + options.lag, min(stop + options.lag, len(rows)))
        if answer.start >= answer.stop:
            continue  # shown at the very end: its response was not recorded
        patterns.append(rows[start].reshape(PATCHES, PATCHES).T.astype(np.uint8))  # column-major
        parts.append(answer)
        onsets.append(start * REPETITION_TIME)
    return Run(kind, number, volumes, patterns, parts, onsets)


def _samples_of(rows: np.ndarray, samples: str) -> Iterator[tuple[int, int]]:
    """Yield first and last + 1 row of each block or volume that is not rest."""
    changes = np.flatnonzero((rows[1:] != rows[:-1]).any(axis=1)) + 1
    edges = [0, *changes.tolist(), len(rows)] if samples == "block" else list(range(len(rows) + 1))
    for start, stop in pairwise(edges):
        if rows[start, 0] != REST:
            yield start, stop


def read_labels(path: Path) -> np.ndarray:
    """Read the patterns of a run.

    Parameters
    ----------
    path : path
        CSV without header: a row a volume, 100 numbers.

    Returns
    -------
    array, shape (volume, 100)
        int; 0 and 1, or -1 in all columns of a row of rest.

    Raises
    ------
    InputError
        Where the file is missing or is anything else; the message names it.
    """
    problem = None
    try:
        lines = path.read_text().splitlines()
        rows = np.loadtxt(lines, delimiter=",", ndmin=2) if any(lines) else np.empty((0, 0))
        if rows.shape[1] != PATCHES**2:
            problem = f"{rows.shape[1]} columns"
        elif not np.isin(rows, (REST, 0, 1)).all():
            problem = "other values than -1, 0 and 1"
        elif ((rows == REST).any(axis=1) != (rows == REST).all(axis=1)).any():
            problem = "rows in which only some values are -1"
    except FileNotFoundError as error:
        raise _missing(path) from error
    except (ValueError, OSError) as error:
        problem = f"{type(error).__name__}: {error}"
    if problem:
        raise InputError(
            f"{path} cannot be read as labels",
            given=problem,
            expected="rows of 100 numbers: 0 and 1, or -1 throughout for rest",
            todo="fetch the data set again: nilearn.datasets.fetch_miyawaki2008()",
        )
    return rows.astype(int)


def preprocess(volumes: np.ndarray, options: Preprocessing) -> np.ndarray:
    """Detrend and standardize one run, voxel by voxel.

    Parameters
    ----------
    volumes : array, shape (volume, voxel)
        A whole run.
    options : Preprocessing
        ``detrend``, ``standardize``.

    Returns
    -------
    array, shape (volume, voxel)
        float64. A voxel that does not change in the run is zero where it is standardized.
    """
    from scipy.signal import detrend

    volumes = volumes.astype(np.float64)
    level = np.abs(volumes).max(axis=0)
    if options.detrend:
        volumes = detrend(volumes, axis=0, type="linear")
    if options.standardize:
        volumes = volumes - volumes.mean(axis=0)
        deviation = volumes.std(axis=0, ddof=1)
        still = deviation <= 1e-10 * level  # what rounding leaves of a constant voxel
        volumes = np.where(still, 0.0, volumes / np.where(still, 1.0, deviation))
    return volumes


def response_reader(runs: Sequence[Run], mask: np.ndarray, options: Preprocessing) -> Callable[[int, int], np.ndarray]:
    """Return the function that reads samples, with one run at a time in memory."""
    lengths = [len(run.volumes) for run in runs]
    return read_by_part(lengths, lambda index: _run_samples(runs[index], mask, options), int(mask.sum()))


def _run_samples(run: Run, mask: np.ndarray, options: Preprocessing) -> np.ndarray:
    """Read one run: its samples, float32, shape (sample, voxel)."""
    volumes = image_values(load_image(run.path), run.path, todo=AGAIN)[mask].T
    bad = ~np.isfinite(volumes)
    if bad.any():
        raise InputError(
            f"{run.path} holds values that are not finite",
            given=f"{int(bad.sum())} of them, in {int(bad.any(axis=0).sum())} voxels of the mask",
            expected="finite numbers inside mask/mask.nii.gz",
            todo="take the voxels out of the mask, or fetch the data set again",
        )
    volumes = preprocess(volumes, options)
    if not run.volumes:
        return np.empty((0, volumes.shape[1]), dtype=np.float32)
    return np.stack([volumes[part].mean(axis=0) for part in run.volumes]).astype(np.float32)


def load_image(path: Path) -> Any:
    """Open a NIfTI file, or say which file it is that cannot be opened."""
    return open_image(path, AGAIN)


def _missing(path: Path) -> MissingFileError:
    return MissingFileError(
        f"{path} is missing",
        given="no such file",
        expected="the layout that nilearn.datasets.fetch_miyawaki2008() leaves",
        todo="fetch the data set again: files that are there already are kept",
    )
