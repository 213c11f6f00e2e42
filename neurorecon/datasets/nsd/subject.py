"""One subject of NSD: its sessions, betas, trials, voxels and ROIs.

Voxels are numbered with x varying fastest, as in NIfTI files and (with reversed axes) in the HDF5 files. Vertices are
numbered with the left hemisphere first.

Most of the time it takes to build a store of NSD goes into decompressing ``.nii.gz`` files, so screening does not read
them completely. It does not have to: int16 betas are finite, and a voxel that is constant in a session is constant in
its first trials too. Thus only the first trials are decompressed (2 % of a session). Voxels that are zero in all of
them have no data in this session; for the few other voxels that do not vary there, the whole session is read.
Floating-point betas may contain NaN anywhere and are read as a whole; NSD's own files of this kind (``.mgh``) are not
compressed.
"""

from __future__ import annotations

import tempfile
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from neurorecon.datasets.base import SAMPLE_COLUMNS, TRIALS, SubjectData
from neurorecon.datasets.nsd.experiment import Design, behavior_columns, means_of_behavior
from neurorecon.datasets.nsd.layout import DOWNLOAD, Layout, NsdOptions, find_task, sessions_of, span
from neurorecon.datasets.nsd.rois import (
    Grid,
    Rois,
    Surface,
    Volume,
    read_maps,
    read_rois,
    select_voxels,
    surface_of,
    volume_of,
)
from neurorecon.datasets.nsd.tasks import imagery_trials, synthetic_trials
from neurorecon.datasets.runs import Screened, screen
from neurorecon.errors import InputError, MissingFileError, NeuroreconWarning
from neurorecon.io.arrays import dataset_of, open_hdf5_file, wrong_shape
from neurorecon.io.files import damaged
from neurorecon.io.surfaces import read_mgh_header
from neurorecon.io.volumes import check_grid, open_image, volumes

#: int16 betas are percent signal change times 300.
PERCENT = np.float32(300)

#: Bytes to read from an HDF5 file at a time.
BLOCK = 64 * 2**20


class Betas(ABC):
    """The betas of a session.

    Attributes
    ----------
    path : path
        The file, or that of the left hemisphere.
    trials : int
        Number of trials.
    dtype : numpy dtype
        int16 (percent signal change times 300) or floating-point (percent signal change).
    """

    path: Path
    trials: int
    dtype: np.dtype

    @abstractmethod
    def read(self, voxels: np.ndarray, stop: int | None = None) -> np.ndarray:
        """Read trials, unprocessed.

        Parameters
        ----------
        voxels : int array, shape (voxel,)
            Indices of voxels or vertices, ascending.
        stop : int, optional
            Number of trials to read, from the first. By default, all.

        Returns
        -------
        array, shape (trial, voxel)
            With :attr:`dtype`, in native byte order.

        Raises
        ------
        InputError
            If the file is truncated or damaged.
        """

    def _wanted(self, stop: int | None) -> int:
        return self.trials if stop is None else min(stop, self.trials)

    def _check_dtype(self, dtype: np.dtype) -> None:
        if dtype.kind != "f" and dtype.newbyteorder("=") != np.int16:
            raise InputError(
                f"{self.path} contains betas of an unsupported data type",
                given=str(dtype),
                expected="int16 (percent signal change times 300) or floating-point numbers (percent signal change)",
                todo=DOWNLOAD,
            )
        self.dtype = dtype.newbyteorder("=")


class NiftiBetas(Betas):
    """Betas in a file ``betas_sessionNN.nii.gz``, axes (x, y, z, trial).

    Parameters
    ----------
    path : path
        The file.
    grid : tuple
        Expected shape and affine of the volumes, and the name of the file that defines them.
    """

    def __init__(self, path: Path, grid: tuple[tuple[int, ...], Any, str]) -> None:
        self.path = path
        image = open_image(path, DOWNLOAD)
        shape, affine, like = grid
        if len(image.shape) != 4:
            raise wrong_shape(path, image.shape, f"{(*shape, 'trial')}: {like} and the trials", DOWNLOAD)
        check_grid(path, image.shape[:3], image.affine, like, shape, affine)
        proxy = image.dataobj
        slope, inter = float(proxy.slope), float(proxy.inter)
        if (slope, inter) != (1.0, 0.0):
            raise InputError(
                f"the header of {path} rescales its values",
                given=f"scl_slope {slope}, scl_inter {inter}",
                expected="1 and 0: NSD's int16 betas are percent signal change times 300",
                todo=DOWNLOAD,
            )
        self.trials, self._offset, self._stored = image.shape[3], int(proxy.offset), proxy.dtype
        self._size = int(np.prod(shape)) * self._stored.itemsize
        self._check_dtype(self._stored)
        self._check_length()

    def _check_length(self) -> None:
        """Raise :class:`InputError` if the file is truncated, without reading it completely if possible."""
        expected = self._offset + self._size * self.trials
        with self.path.open("rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
            file.seek(-4 if packed else 0, 2)
            # The last four bytes of a gzip file are the uncompressed size.
            length = int.from_bytes(file.read(4), "little") if packed else file.tell()
        if length == (expected % 2**32 if packed else expected):
            return
        if packed or length < expected:
            for _ in volumes(self.path, self._offset, self._size, self.trials, todo=DOWNLOAD):
                pass  # reads to the end: raises if truncated, but not for several gzip members

    def read(self, voxels: np.ndarray, stop: int | None = None) -> np.ndarray:
        """Read trials by streaming through the file; see the base class."""
        number = self._wanted(stop)
        found = np.empty((number, len(voxels)), dtype=self.dtype)
        stream = volumes(self.path, self._offset, self._size, number, whole=number == self.trials, todo=DOWNLOAD)
        for trial, volume in enumerate(stream):
            found[trial] = np.frombuffer(volume, dtype=self._stored)[voxels]
        return found


class Hdf5Betas(Betas):
    """Betas in a file ``betas_sessionNN.hdf5``, dataset ``betas`` (trial, z, y, x)."""

    def __init__(self, path: Path, grid: tuple[tuple[int, ...], Any, str]) -> None:
        self.path = path
        shape, _, like = grid
        hdf5_betas_shape(path)
        with open_hdf5_file(path, DOWNLOAD) as file:
            data = file["betas"]
            if data.ndim != 4 or data.shape[1:] != shape[::-1]:
                expected = f"('trial', {', '.join(map(str, shape[::-1]))}): the axes of {like}, reversed"
                raise wrong_shape(path, data.shape, expected, DOWNLOAD)
            self.trials = data.shape[0]
            self._check_dtype(data.dtype)
            # NSD's files have one chunk per voxel with all its trials.
            self._by_voxel = data.chunks is not None and data.chunks[0] == self.trials and max(data.chunks[1:]) == 1
        self._shape = shape

    def read(self, voxels: np.ndarray, stop: int | None = None) -> np.ndarray:
        """Read rows of voxels or blocks of trials, depending on the chunks of the file; see the base class."""
        number = self._wanted(stop)
        found = np.empty((number, len(voxels)), dtype=self.dtype)
        with open_hdf5_file(self.path, DOWNLOAD) as file:
            try:
                if self._by_voxel:
                    self._read_rows(file["betas"], voxels, found)
                else:
                    self._read_trials(file["betas"], voxels, found)
            except OSError as error:
                raise damaged(self.path, error, DOWNLOAD) from error
        return found

    def _read_rows(self, data: Any, voxels: np.ndarray, found: np.ndarray) -> None:
        length = self._shape[0]
        rows, first = np.unique(voxels // length, return_index=True)
        for row, start, stop in zip(rows, first, [*first[1:], len(voxels)], strict=True):
            z, y = divmod(int(row), self._shape[1])
            x = voxels[start:stop] % length
            part = data[: len(found), z, y, int(x[0]) : int(x[-1]) + 1]
            found[:, start:stop] = part[:, x - x[0]]

    def _read_trials(self, data: Any, voxels: np.ndarray, found: np.ndarray) -> None:
        volume = int(np.prod(self._shape))
        step = max(1, BLOCK // (volume * self.dtype.itemsize))
        for start in range(0, len(found), step):
            part = data[start : min(start + step, len(found))]
            found[start : start + len(part)] = part.reshape(len(part), volume)[:, voxels]


class SurfaceBetas(Betas):
    """Betas in files ``lh.betas_sessionNN.mgh`` and ``rh.betas_sessionNN.mgh``, axes (vertex, 1, 1, trial).

    Parameters
    ----------
    paths : list of path
        Left and right hemisphere.
    vertices : tuple of int
        Expected number of vertices of each hemisphere.
    """

    def __init__(self, paths: list[Path], vertices: tuple[int, int]) -> None:
        self.path, self._vertices = paths[0], vertices
        self._headers = [read_mgh_header(path, DOWNLOAD) for path in paths]
        for path, header, number in zip(paths, self._headers, vertices, strict=True):
            if len(header.shape) != 4 or header.shape[:3] != (number, 1, 1):
                raise wrong_shape(
                    path, header.shape, f"({number}, 1, 1, 'trial'): one value per vertex and trial", DOWNLOAD
                )
        self.trials, other = (header.shape[3] for header in self._headers)
        if other != self.trials:
            raise wrong_shape(
                paths[1], self._headers[1].shape, f"{self.trials} trials, as in {paths[0].name}", DOWNLOAD
            )
        self._paths = paths
        self._check_dtype(self._headers[0].dtype)
        for path, header in zip(paths, self._headers, strict=True):
            expected = header.offset + int(np.prod(header.shape)) * header.dtype.itemsize
            if path.suffix == ".mgh" and path.stat().st_size < expected:
                error = EOFError(f"at least {expected:,} bytes expected for {self.trials} trials")
                raise damaged(path, error, DOWNLOAD)

    def read(self, voxels: np.ndarray, stop: int | None = None) -> np.ndarray:
        """Read trials by streaming through both files; see the base class."""
        number = self._wanted(stop)
        found = np.empty((number, len(voxels)), dtype=self.dtype)
        border = int(np.searchsorted(voxels, self._vertices[0]))
        parts = (slice(0, border), slice(border, len(voxels)))
        for side, part in enumerate(parts):
            header, places = self._headers[side], voxels[part] - self._vertices[0] * side
            size = self._vertices[side] * header.dtype.itemsize
            # whole=False, because further data may follow the values of an MGH file.
            stream = volumes(self._paths[side], header.offset, size, number, whole=False, todo=DOWNLOAD)
            for trial, values in enumerate(stream):
                found[trial, part] = np.frombuffer(values, dtype=header.dtype)[places]
        return found


class SurfaceHdf5Betas(Betas):
    """Betas in files ``lh.betas_sessionNN.hdf5`` and ``rh.betas_sessionNN.hdf5``, dataset ``betas`` (trial, vertex).

    NSD has them on the subjects' own surfaces. The parameters are those of :class:`SurfaceBetas`.
    """

    def __init__(self, paths: list[Path], vertices: tuple[int, int]) -> None:
        self.path, self._paths, self._vertices = paths[0], paths, vertices
        shapes = [hdf5_betas_shape(path) for path in paths]
        for path, shape, number in zip(paths, shapes, vertices, strict=True):
            if len(shape) != 2 or shape[1] != number:
                raise wrong_shape(path, shape, f"('trial', {number}): one value per trial and vertex", DOWNLOAD)
        self.trials = shapes[0][0]
        if shapes[1][0] != self.trials:
            raise wrong_shape(paths[1], shapes[1], f"{self.trials} trials, as in {paths[0].name}", DOWNLOAD)
        for path in paths:
            with open_hdf5_file(path, DOWNLOAD) as file:
                self._check_dtype(file["betas"].dtype)

    def read(self, voxels: np.ndarray, stop: int | None = None) -> np.ndarray:
        """Read blocks of trials of both hemispheres; see the base class."""
        number = self._wanted(stop)
        found = np.empty((number, len(voxels)), dtype=self.dtype)
        border = int(np.searchsorted(voxels, self._vertices[0]))
        for side, part in enumerate((slice(0, border), slice(border, len(voxels)))):
            places = voxels[part] - self._vertices[0] * side
            step = max(1, BLOCK // (self._vertices[side] * self.dtype.itemsize))
            with open_hdf5_file(self._paths[side], DOWNLOAD) as file:
                try:
                    for start in range(0, number, step):
                        stop = min(start + step, number)
                        found[start:stop, part] = file["betas"][start:stop][:, places]
                except OSError as error:
                    raise damaged(self._paths[side], error, DOWNLOAD) from error
        return found


def hdf5_betas_shape(path: Path) -> tuple[int, ...]:
    """Return the shape of the dataset ``betas``."""
    with open_hdf5_file(path, DOWNLOAD) as file:
        return tuple(int(size) for size in dataset_of(file, "betas", path, "betas", DOWNLOAD).shape)


def percent(values: np.ndarray) -> np.ndarray:
    """Convert betas to percent signal change, float32.

    Parameters
    ----------
    values : array
        Unprocessed betas. int16 values are divided by 300.
    """
    if values.dtype.kind == "f":
        return values.astype(np.float32)
    return np.divide(values, PERCENT, dtype=np.float32)


#: Trials to read first when screening.
HEAD = 16


#: Smallest and largest plausible standard deviation of a voxel over trials, in percent signal change. In NSD it is 1 to
#: 3, and z-scored betas have 1; values that are still multiplied by 300, or were divided twice, are far outside.
PLAUSIBLE = (0.03, 30.0)


def screen_sessions(sessions: Sequence[Betas], voxels: np.ndarray) -> tuple[Screened, np.ndarray]:
    """Find the voxels that are not finite, or constant, in any session, and how much the others vary.

    Parameters
    ----------
    sessions : sequence of Betas
        The sessions, read one at a time.
    voxels : int array, shape (voxel,)
        Indices of voxels, as in :meth:`Betas.read`.

    Returns
    -------
    screened : Screened
    spread : float array, shape (session,)
        Median over voxels of the standard deviation over the first trials of each session, in percent signal change;
        NaN where no voxel varies.
    """
    spread = []

    def telling() -> Iterator[np.ndarray]:
        for betas in sessions:
            head = _telling(betas, voxels)
            with np.errstate(invalid="ignore", over="ignore"):
                deviation = percent(head[:HEAD]).std(axis=0, dtype=np.float64)
            varied = deviation[np.isfinite(deviation) & (deviation > 0)]
            spread.append(float(np.median(varied)) if len(varied) else np.nan)
            yield head

    return screen(telling()), np.array(spread)


def _scale_report(files: SubjectFiles, spread: np.ndarray) -> dict[str, str]:
    """Warn of betas whose magnitude cannot be percent signal change; return it for the report."""
    with np.errstate(invalid="ignore"):
        odd = np.flatnonzero((spread < PLAUSIBLE[0]) | (spread > PLAUSIBLE[1]))
    if not len(odd):
        return {}
    first = files.betas[odd[0]]
    stored = "floating-point numbers, read as percent" if first.dtype.kind == "f" else "integers, read as percent x 300"
    what = (
        f"{len(odd)} of {len(spread)} sessions vary by {spread[odd[0]]:.3g} percent signal change ({first.path.name}, "
        f"{stored}), where 1 to 3 is usual: divide floating-point betas by 300 if they were never divided, and store "
        "percent signal change either as floating-point numbers or times 300 as int16"
    )
    warnings.warn(f"{files.name}: the betas have an implausible scale: {what}", NeuroreconWarning, stacklevel=2)
    return {"scale of the betas": what}


def _telling(betas: Betas, voxels: np.ndarray) -> np.ndarray:
    """Return trials that are sufficient to screen the voxels of a session; see the module's docstring."""
    if betas.dtype.kind == "f":
        return betas.read(voxels)
    head = betas.read(voxels, stop=HEAD)
    doubtful = np.flatnonzero((head == head[0]).all(axis=0) & (head[0] != 0))
    if len(doubtful) and len(head) < betas.trials:
        rest = betas.read(voxels[doubtful])
        varied = (rest != rest[0]).any(axis=0)
        head[-1, doubtful[varied]] = head[0, doubtful[varied]] + 1
    return head


#: Voxels to standardize, and trials to convert, at a time.
BLOCK_COLUMNS, BLOCK_TRIALS = 8192, 32


@dataclass(frozen=True)
class Recording:
    """The betas that make up the samples of one subject.

    Parameters
    ----------
    sessions : sequence of Betas
        The sessions, in the order of the samples.
    rows : sequence of int array
        For each session, the indices of the trials that are samples.
    voxels : int array, shape (voxel,)
        Indices of voxels, as in :meth:`Betas.read`.
    standard : sequence of int array, optional
        To z-score every voxel within each session: for each session, the trials that mean and standard deviation are
        taken from.
    """

    sessions: Sequence[Betas]
    rows: Sequence[np.ndarray]
    voxels: np.ndarray
    standard: Sequence[np.ndarray] | None = None

    def load(self, number: int) -> Callable[[int, np.ndarray], None]:
        """Read one session into memory, and return a function that writes its samples into an array.

        Trials stay in memory as int16, which takes half the memory of float32. ``fill(start, out)`` writes the samples
        from `start` on into `out` (float32, shape (sample, voxel)), a few at a time to avoid large copies.
        """
        raw = self.sessions[number].read(self.voxels)
        mean, scale = (None, None) if self.standard is None else _standard(raw, self.standard[number])
        rows = self.rows[number]

        def fill(start: int, out: np.ndarray) -> None:
            for first in range(0, len(out), BLOCK_TRIALS):
                part = out[first : first + BLOCK_TRIALS]
                part[:] = percent(raw[rows[start + first : start + first + len(part)]])
                if raw.dtype.kind == "f":  # bad voxels that are kept
                    np.nan_to_num(part, copy=False, nan=0.0, posinf=0.0, neginf=0.0)
                if mean is not None:
                    part -= mean
                    part /= scale

        return fill


def _standard(raw: np.ndarray, trials: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean and standard deviation across some trials of a session, in percent signal change."""
    mean, scale = np.empty(raw.shape[1], np.float32), np.empty(raw.shape[1], np.float32)
    for start in range(0, raw.shape[1], BLOCK_COLUMNS):
        part = slice(start, start + BLOCK_COLUMNS)
        values = np.nan_to_num(percent(raw[trials, part]), nan=0.0, posinf=0.0, neginf=0.0)
        mean[part] = values.mean(axis=0, dtype=np.float64)
        scale[part] = values.std(axis=0, dtype=np.float64)
    scale[scale == 0] = 1.0  # constant voxels become 0
    return mean, scale


def read_trials(recording: Recording) -> Callable[[int, int], np.ndarray]:
    """Return a function ``read(start, stop)`` that reads single trials, and caches the last session.

    A store reads blocks of samples in order, so that each session is decompressed only once.
    """
    edges = np.cumsum([0, *(len(rows) for rows in recording.rows)])
    last: dict[int, Callable[[int, np.ndarray], None]] = {}

    def session(number: int) -> Callable[[int, np.ndarray], None]:
        if number not in last:
            last.clear()  # cleared first, so that only one session is in memory
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
    """Return a function ``read(start, stop)`` that reads means of trials.

    The trials of an image are spread across sessions, so all sessions have to be read before the first mean is known.
    The sums are kept in a temporary file (float32, as large as the result), which is deleted with the reader.

    Parameters
    ----------
    recording : Recording
        The trials.
    groups : int array, shape (trial,)
        Index of the mean that each trial belongs to.
    number : int
        Number of means.
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
        for _ in range(
            shape[0]
        ):  # written, not only reserved, so that a full disk raises here instead of crashing later
            file.write(row)
        file.flush()
        return np.memmap(file, dtype=np.float32, mode="r+", shape=shape)


def _add_up(recording: Recording, groups: np.ndarray, sums: np.ndarray) -> None:
    done, trial = 0, np.empty((1, sums.shape[1]), dtype=np.float32)
    for number, rows in enumerate(recording.rows):
        if len(rows):
            fill = recording.load(number)
            for row in range(len(rows)):  # one trial at a time: an image may be shown twice in a session
                fill(row, trial)
                sums[groups[done + row]] += trial[0]
        done += len(rows)


@dataclass(frozen=True)
class SubjectFiles:
    """The opened files of one subject, and the content of its tables and headers.

    Parameters
    ----------
    name : str
        E.g. ``"subj01"``.
    folder : path
        The folder of the betas.
    betas : list of Betas
        The betas of each session, in order.
    trials : DataFrame
        One row per trial in the order of the betas: the columns of :meth:`Design.trials`; ``place``, the index of
        the trial within its session; ``stimulus``, its id (empty for trials that are left out); ``task``; and
        ``condition`` where there are several tasks.
    rois : Rois
        All ROIs, on the whole grid.
    voxels : int array, shape (voxel,)
        Indices of the voxels in the mask.
    ncsnr : float array, shape (voxel,), or None
        Noise ceiling signal-to-noise ratio that NSD provides.
    maps : dict of str to float32 array, shape (voxel,)
        Further maps, by name.
    report : dict of str to str
        What was missing.
    """

    name: str
    folder: Path
    betas: list[Betas]
    trials: pd.DataFrame
    rois: Rois
    voxels: np.ndarray
    ncsnr: np.ndarray | None
    maps: dict[str, np.ndarray]
    report: dict[str, str]


def open_subject(
    layout: Layout, design: Design | None, name: str, sessions: dict[int, list[Path]], options: NsdOptions
) -> SubjectFiles:
    """Open the files of a subject, without reading betas.

    Parameters
    ----------
    layout : Layout
        The paths of the files.
    design : Design or None
        The design of the experiment; None if NSD itself is not read.
    name : str
        E.g. ``"subj01"``.
    sessions : dict of int to list of path
        From :func:`~neurorecon.datasets.nsd.layout.find_sessions`.
    options : NsdOptions
        The options of the reader.

    Returns
    -------
    SubjectFiles

    Raises
    ------
    InputError
        If a file is missing, damaged, on another grid, or contradicts the design.
    """
    further = {task: find_task(layout, name, options, task) for task in options.task if task != "core"}
    files = [*sessions.values(), *further.values()]
    grid = _grid(layout, name, files, options)
    rois, report = read_rois(layout, name, grid, options.space, options.hemisphere_rois)
    betas = [_open(paths, grid) for paths in files]
    voxels = select_voxels(rois, options.mask, layout, name, options.space, lambda: _with_data(betas[0], grid.size))
    parts = [] if design is None else [_trials(design, name, list(sessions), betas[: len(sessions)])]
    of_task = {"synthetic": synthetic_trials, "imagery": imagery_trials}
    parts += [of_task[task](layout, name, item.trials)
              for task, item in zip(further, betas[len(sessions) :], strict=True)]  # fmt: skip
    trials = pd.concat(parts, ignore_index=True)
    report |= _left_out(trials)
    folder = layout.betas(name, options)  # NSD-synthetic and NSD-imagery have no ncsnr of their own
    ncsnr = _ncsnr(folder, grid, voxels)
    if options.min_ncsnr is not None:
        voxels, ncsnr = _above(options.min_ncsnr, voxels, ncsnr, name, folder)
        report["mask"] = f"{len(voxels):,} voxels with ncsnr of at least {options.min_ncsnr:g} in {options.mask}"
    maps = read_maps(options.voxel_maps, layout, name, grid, options.space)
    return SubjectFiles(
        name, folder, betas, trials, rois, voxels, ncsnr if sessions else None,
        {key: values[voxels] for key, values in maps.items()},
        ({} if design is None else _missing(name, list(sessions), design, options)) | report,
    )  # fmt: skip


def _left_out(trials: pd.DataFrame) -> dict[str, str]:
    number = int((trials["stimulus"] == "").sum())
    return {"betas left out": f"{number} of attention (NSD-imagery)"} if number else {}


def _with_data(betas: Betas, size: int) -> np.ndarray:
    """Return which voxels are not zero in the first trial; NSD's betas are zero outside of the brain."""
    return np.nan_to_num(betas.read(np.arange(size), stop=1)[0]) != 0


def _above(
    limit: float, voxels: np.ndarray, ncsnr: np.ndarray | None, name: str, folder: Path
) -> tuple[np.ndarray, np.ndarray]:
    if ncsnr is None:
        raise MissingFileError(
            f"the signal-to-noise ratios of {name} are missing, which min_ncsnr compares",
            given=f"no ncsnr file in {folder}",
            expected="ncsnr.nii.gz (on surfaces lh.ncsnr.mgh and rh.ncsnr.mgh)",
            todo=f"{DOWNLOAD}, or leave min_ncsnr out",
        )
    member = ncsnr >= limit
    if not member.any():
        raise InputError(
            f"no voxel of {name} reaches min_ncsnr",
            given=f"min_ncsnr = {limit:g}; the largest ncsnr in the mask is {ncsnr.max():.3g}",
            expected="a threshold that some voxels reach",
            todo="choose a smaller one",
        )
    return voxels[member], ncsnr[member]


def _grid(layout: Layout, name: str, files: list[list[Path]], options: NsdOptions) -> Grid:
    """Return the grid that masks and betas must share: that of nsdgeneral, else of the first file that has one."""
    first = files[0]
    if options.on_surface:
        sizes = [hdf5_betas_shape(path)[-1] if path.suffix == ".hdf5" else read_mgh_header(path, DOWNLOAD).shape[0]
                 for path in first]  # fmt: skip
        return surface_of(sizes, options.space)
    folder = layout.preparation(name, options.space)
    candidates = [folder / "roi" / "nsdgeneral.nii.gz", folder / "brainmask.nii.gz", *sorted(folder.glob("roi/*.nii*"))]
    there = [path for path in candidates if path.is_file()]
    if not there and first[0].suffix != ".hdf5":
        there = first
    if not there:
        raise InputError(
            f"the positions of the voxels of {name} are unknown",
            given=f"betas in HDF5, and neither roi nor brainmask.nii.gz in {folder}",
            expected="ROI files such as nsdgeneral.nii.gz, which contain the affine",
            todo="download the folder roi of this subject and space",
        )
    return volume_of(there[0])


def _open(paths: list[Path], grid: Grid) -> Betas:
    if isinstance(grid, Surface):
        kind = SurfaceHdf5Betas if paths[0].suffix == ".hdf5" else SurfaceBetas
        return kind(paths, grid.vertices)
    of = (grid.shape, grid.affine, grid.like)
    return Hdf5Betas(paths[0], of) if paths[0].suffix == ".hdf5" else NiftiBetas(paths[0], of)


def _trials(design: Design, name: str, sessions: list[int], betas: list[Betas]) -> pd.DataFrame:
    lengths = [item.trials for item in betas]
    if design.pattern is None and len(set(lengths)) > 1:
        raise InputError(
            f"the sessions of {name} have different numbers of trials",
            given=", ".join(f"{item.path.name}: {item.trials}" for item in betas),
            expected="the same number in each session (750), because the design does not state it",
            todo="download the sessions that differ again, and nsd_expdesign.mat",
        )
    trials = design.trials(int(name.removeprefix("subj")), sessions, lengths)
    return trials.assign(
        place=trials.groupby("session").cumcount(),
        stimulus=[f"nsd{number:05d}" for number in trials["nsdId"]],
        task="images",
        condition="recognition",
    )


def _missing(name: str, sessions: list[int], design: Design, options: NsdOptions) -> dict[str, str]:
    last = sessions_of(name)
    number = last if design.pattern is None else min(last, len(design.pattern))
    wanted = options.session_numbers() or range(1, number + 1)
    absent = [session for session in wanted if session not in sessions and session <= last]
    beyond = [session for session in wanted if session > last]
    found = {"sessions missing": f"{span(absent)} of 1-{number}"} if absent else {}
    return found | ({"sessions": f"{span(sessions)}; {name} has {last}, so not {span(beyond)}"} if beyond else {})


def _ncsnr(folder: Path, grid: Grid, voxels: np.ndarray) -> np.ndarray | None:
    paths = [folder / "ncsnr.nii.gz"] if isinstance(grid, Volume) else [folder / f"{h}.ncsnr.mgh" for h in ("lh", "rh")]
    if not all(path.is_file() for path in paths):
        return None
    values = grid.read(paths)[voxels].astype(np.float32)
    return np.clip(np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0), 0.0, None)


def subject_data(
    files: SubjectFiles,
    split: np.ndarray,
    reported: dict[str, str],
    behavior: pd.DataFrame | None,
    options: NsdOptions,
) -> SubjectData:
    """Screen the voxels of a subject, and create its tables. Responses are read on demand.

    Parameters
    ----------
    files : SubjectFiles
        From :func:`open_subject`.
    split : array of str, shape (trial,)
        The split of each trial; ``""`` if it is left out.
    reported : dict of str to str
        Notes on the split.
    behavior : DataFrame or None
        From :func:`~neurorecon.datasets.nsd.experiment.read_behavior`.
    options : NsdOptions
        The options of the reader.

    Returns
    -------
    SubjectData

    Raises
    ------
    InputError
        If none of the voxels can be used.
    """
    screened, spread = screen_sessions(files.betas, files.voxels)
    keep = options.bad_voxels == "keep"
    usable = np.ones(len(files.voxels), dtype=bool) if keep else screened.usable
    if not usable.any():
        raise _nothing_left(files, screened)
    voxels = files.voxels[usable]
    table = files.rois.grid.table(voxels)
    if files.ncsnr is not None:
        table["ncsnr"] = files.ncsnr[usable]
    sides = files.rois.hemispheres(voxels)
    further = {} if sides is None else {"hemisphere": sides}
    further |= {name: values[usable] for name, values in files.maps.items()}
    table = table.assign(**further)
    by_session = _by_session(files, split)
    rows = [np.flatnonzero(part != "") for part in by_session]
    standard, standardized = _standard_trials(by_session, list(files.trials["session"].unique()), options.scaling)
    recording = Recording(files.betas, rows, voxels, standard)
    samples = _samples(files.trials, split)
    kept = files.trials[split != ""]
    pressed = pd.DataFrame(index=samples.index) if behavior is None else behavior_columns(behavior, kept)
    if options.task != ("core",):
        pressed = pressed.assign(condition=kept["condition"].to_numpy())
    report = {**files.report, **reported, **standardized, **screened.report(kept=keep), **_scale_report(files, spread)}
    if options.samples == "trial":
        samples = samples.join(pressed)
        read = read_trials(recording)
    else:
        first = samples["repeat"].to_numpy() == 1
        shown = pd.MultiIndex.from_frame(samples[["task", "stimulus"]])
        groups = shown[first].get_indexer(shown)
        samples = samples[first].reset_index(drop=True).assign(**{TRIALS: np.bincount(groups)})
        samples = samples.join(means_of_behavior(pressed, groups))
        read = read_averages(recording, groups, len(samples))
        if files.ncsnr is None:
            report["noise ceilings"] = "none: of averages they are known by the file ncsnr alone, which is missing"
    rois = files.rois.members(voxels) or {options.mask: np.ones(len(voxels), dtype=bool)}
    return SubjectData(
        samples=samples,
        voxels=table,
        rois=rois,
        space=files.rois.grid.space(),
        read_responses=read,
        report=report,
        voxel_columns=tuple(further),
        ncsnr_tasks=None if options.task == ("core",) else ("images",),
    )


def _standard_trials(
    splits: list[np.ndarray], sessions: list[int], scaling: str
) -> tuple[list[np.ndarray] | None, dict[str, str]]:
    """Return the trials of each session that z-scores are computed from, and a report."""
    if scaling == "percent":
        return None, {}
    everything = [np.arange(len(part)) for part in splits]
    if scaling == "session-all":
        return everything, {"z-scores": "mean and standard deviation of all trials of a session, test trials included"}
    training = [np.flatnonzero(part == "train") for part in splits]
    without = [session for session, rows in zip(sessions, training, strict=True) if len(rows) < 2]
    note = "mean and standard deviation of the training trials of a session"
    if without:
        note += f"; of all trials in sessions {span(without)}, which have no training trials"
    found = [rows if len(rows) > 1 else every for rows, every in zip(training, everything, strict=True)]
    return found, {"z-scores": note}


def _by_session(files: SubjectFiles, split: np.ndarray) -> list[np.ndarray]:
    return np.split(split, np.cumsum([item.trials for item in files.betas])[:-1])


def _samples(trials: pd.DataFrame, split: np.ndarray) -> pd.DataFrame:
    kept = trials[split != ""]
    table = pd.DataFrame(
        {
            "stimulus": kept["stimulus"].to_numpy(),
            "task": kept["task"].to_numpy(),
            "session": kept["session"].to_numpy(),
            "run": kept["run"].to_numpy(),
            "repeat": kept.groupby(["task", "stimulus"]).cumcount().to_numpy() + 1,
            "split": split[split != ""].astype(str),
            "time": kept["time"].to_numpy(dtype=float),
        }
    )
    return table[list(SAMPLE_COLUMNS)]


def _nothing_left(files: SubjectFiles, screened: Screened) -> InputError:
    return InputError(
        f"no voxel of {files.name} can be used",
        given=f"{screened.not_finite:,} not finite and {screened.constant:,} constant, of {len(files.voxels):,}",
        expected="voxels that vary in every session",
        todo=f"check the betas in {files.folder}, choose another mask, or exclude sessions",
    )
