"""Reader of Miyawaki et al. 2008: responses of early visual cortex to patterns of 10 by 10 patches, one subject.

Two layouts are supported: the excerpt ``V1_mean_figure.mat`` (block means of V1, figure session), and the one that
:func:`nilearn.datasets.fetch_miyawaki2008` writes to ``nilearn_data/miyawaki2008`` (NIfTI runs of the random and the
figure session, with masks of the ROIs).

In the second layout, ``func/data_{random,figure}_runNN.nii.gz`` are the volumes (TR 2 s) and
``label/data_..._runNN_label.csv`` the patterns: one row per volume with 100 numbers in column-major order, 0 or 1, or
all -1 for rest. The files do not name the figures, so they are identified by their patches and named as in the paper.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
import pandas as pd
from pydantic import Field

from neurorecon.datasets.base import SAMPLE_COLUMNS, Description, Options, Reader, SubjectData
from neurorecon.datasets.runs import read_by_part
from neurorecon.errors import InputError, MissingFileError, UnknownNameError
from neurorecon.io.volumes import check_grid, check_mask, image_values, open_image, read_mask
from neurorecon.space import Space

#: Patches on each side of a pattern.
PATCHES = 10

#: Lit patches (#) of each figure, without the dark margin; rows are separated by slashes.
FIGURES: dict[str, str] = {
    "square": "####/####/####/####",
    "small_frame": "####/#..#/#..#/####",
    "large_frame": "########/########/##....##/##....##/##....##/##....##/########/########",
    "plus": "...##.../...##.../...##.../########/########/...##.../...##.../...##...",
    "x": "##....##/###..###/.######./..####../..####../.######./###..###/##....##",
    "n": "####/#..#/#..#/#..#/#..#",
    "e": "####/#..#/####/#.../####",
    "u": "#..#/#..#/#..#/#..#/####",
    "r": "####/#.../#.../#.../#...",
    "o": "####/#..#/#..#/#..#/####",
}


def figure_name(pattern: np.ndarray) -> str | None:
    """Identify the figure in a pattern.

    Parameters
    ----------
    pattern : array, shape (y, x)
        0 or 1.

    Returns
    -------
    str or None
        A key of :data:`FIGURES`, wherever the figure is in the pattern; None if the pattern is not a known figure.
    """
    rows, columns = np.flatnonzero(pattern.any(axis=1)), np.flatnonzero(pattern.any(axis=0))
    if not rows.size:
        return None
    lit = pattern[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    drawn = "/".join("".join("#" if patch else "." for patch in row) for row in lit)
    return next((name for name, known in FIGURES.items() if known == drawn), None)


def stimulus_table(patterns: np.ndarray, n_random: int = 0) -> pd.DataFrame:
    """Create the table of stimuli: random patterns first, then figures.

    Parameters
    ----------
    patterns : array, shape (stimulus, y, x)
        Distinct patterns, 0 or 1.
    n_random : int
        Number of random patterns, which come first.

    Returns
    -------
    DataFrame
        Columns ``id``, ``kind``, ``category``, ``captions``. The ids of random patterns are ``random0001`` etc. The id
        of a figure is its name, or ``figure01`` etc. if it is unknown. If the same figure occurs at another position,
        a number is appended, e.g. ``plus_2``.
    """
    rows = []
    used: dict[str, int] = {}
    for number, pattern in enumerate(patterns, start=1):
        if number <= n_random:
            rows.append((f"random{number:04d}", "image", "random", ["a random pattern of black and white patches"]))
            continue
        category = figure_name(pattern) or f"figure{number - n_random:02d}"
        used[category] = used.get(category, 0) + 1
        identifier = category if used[category] == 1 else f"{category}_{used[category]}"
        rows.append((identifier, "image", category, [_caption(category)]))
    return pd.DataFrame(rows, columns=["id", "kind", "category", "captions"])


def _caption(category: str) -> str:
    """Return the caption of a figure."""
    if category.startswith("figure"):
        return "a figure of white patches on black"
    if category in ("n", "e", "u", "r", "o"):
        return f"the letter {category} in white patches on black"
    name = {"small_frame": "small white frame", "large_frame": "large white frame", "x": "white X"}
    return f"a {name.get(category, f'white {category}')} on black"


#: ROIs that are the union of a dorsal and a ventral part.
UNIONS = {"V1": ("V1d", "V1v"), "V2": ("V2d", "V2v")}


@dataclass(frozen=True)
class Runs:
    """The content of nilearn's layout.

    Parameters
    ----------
    stimuli : DataFrame
        The table of stimuli, random patterns first.
    patterns : array, shape (stimulus, y, x)
        uint8, 0 or 1.
    data : SubjectData
        The data of the only subject; its runs are read from disk one at a time.
    notes : str
        The preprocessing, and which runs are missing.
    """

    stimuli: pd.DataFrame
    patterns: np.ndarray
    data: SubjectData
    notes: str


def read_figure_and_random_runs(root: Path, options: Preprocessing) -> Runs:
    """Open nilearn's layout: read labels, masks and headers, but no volumes yet.

    Parameters
    ----------
    root : path
        The folder with ``func``, ``label`` and ``mask``.
    options : Preprocessing
        The preprocessing of the runs.

    Returns
    -------
    Runs

    Raises
    ------
    InputError
        If a file is missing or cannot be used; the message names it.
    """
    path = root / "mask" / "mask.nii.gz"
    mask, affine = read_mask(path, AGAIN)
    check_mask(mask, path, AGAIN)
    runs, absent = find_runs(root, mask.shape, options)
    patterns, index_of_sample, n_random = _number_patterns(runs)
    stimuli = stimulus_table(patterns, n_random)
    i, j, k = np.nonzero(mask)
    data = SubjectData(
        samples=_sample_table(runs, stimuli["id"].to_numpy()[index_of_sample]),
        voxels=pd.DataFrame({"i": i, "j": j, "k": k}),
        rois=read_rois(root / "mask", mask, affine),
        space=Space("volume", affine=affine.tolist(), shape=list(mask.shape)),
        read_responses=response_reader(runs, mask, options),
    )
    return Runs(stimuli, patterns, data, _notes(options, absent))


def read_rois(folder: Path, mask: np.ndarray, affine: np.ndarray) -> dict[str, np.ndarray]:
    """Read the masks of the ROIs, and form the unions of hemispheres and of the parts of V1 and V2.

    Parameters
    ----------
    folder : path
        The folder ``mask``, with e.g. ``LHV1d.nii.gz`` and the eccentricity bands ``RHlag0to1.nii.gz``.
    mask : bool array, shape (x, y, z)
        Voxels of visual cortex.
    affine : array, shape (4, 4)
        Affine of the mask.

    Returns
    -------
    dict of str to bool array, shape (voxel,)
        E.g. ``lh.V1d``, ``rh.V1d``, ``V1d``, ``lh.V1``, ``V1``, without ROIs that are empty within the mask.

    Raises
    ------
    InputError
        If an ROI is on a different grid than the mask.
    """
    rois: dict[str, np.ndarray] = {"visual_cortex": np.ones(int(mask.sum()), dtype=bool)}
    sides: dict[str, dict[str, np.ndarray]] = {"lh": {}, "rh": {}}
    for path in sorted(folder.glob("*.nii.gz")):
        match = re.fullmatch(r"(LH|RH)(.+)\.nii\.gz", path.name)
        if match is None:
            continue
        roi, found = read_mask(path, AGAIN)
        check_grid(path, roi.shape, found, "mask/mask.nii.gz", mask.shape, affine)
        sides[match[1].lower()][match[2]] = roi[mask]
    for side in sides.values():
        for union, parts in UNIONS.items():
            if any(part in side for part in parts):
                side[union] = np.logical_or.reduce([side[part] for part in parts if part in side])
    for name in sorted({*sides["lh"], *sides["rh"]}):
        members = [side[name] for side in sides.values() if name in side]
        rois[name] = np.logical_or.reduce(members)
        rois.update({f"{label}.{name}": side[name] for label, side in sides.items() if name in side})
    return {name: member for name, member in rois.items() if member.any()}


def _number_patterns(runs: Sequence[Run]) -> tuple[np.ndarray, np.ndarray, int]:
    """Return the distinct patterns, the index of each sample's pattern among them, and how many are random."""
    places: dict[bytes, int] = {}
    distinct: list[np.ndarray] = []
    index_of_sample = []
    n_random = 0
    for run in runs:  # random runs come first
        for pattern in run.patterns:
            key = pattern.tobytes()
            if key not in places:
                places[key] = len(distinct)
                distinct.append(pattern)
                n_random += run.kind == "random"
            elif run.kind == "figure" and places[key] < n_random:
                raise InputError(
                    f"{run.path.name} shows a pattern of the random session",
                    given="the same pattern in the training and the test split",
                    expected="figures that are not among the random patterns",
                    todo="fetch the data set again: nilearn.datasets.fetch_miyawaki2008()",
                )
            index_of_sample.append(places[key])
    if not distinct:
        raise InputError(
            "the runs of Miyawaki 2008 contain no stimuli",
            given="labels that are -1 throughout, in all runs",
            expected="patterns of 0 and 1",
            todo="fetch the data set again: nilearn.datasets.fetch_miyawaki2008()",
        )
    return np.stack(distinct), np.asarray(index_of_sample), n_random


def _sample_table(runs: Sequence[Run], stimulus: np.ndarray) -> pd.DataFrame:
    """Create the table of samples."""
    rows = [
        ("images", SESSIONS[run.kind][0], run.number, SESSIONS[run.kind][1], onset)
        for run in runs
        for onset in run.onsets
    ]
    table = pd.DataFrame(rows, columns=["task", "session", "run", "split", "time"])
    table["stimulus"] = stimulus
    table["repeat"] = table.groupby("stimulus").cumcount() + 1
    return table[list(SAMPLE_COLUMNS)]


def _notes(options: Preprocessing, absent: Sequence[str]) -> str:
    """Describe the preprocessing."""
    done = [
        *(["linear trend removed by run"] if options.detrend else []),
        *(["standardized by run"] if options.standardize else []),
        f"response taken {options.lag} volumes ({options.lag * REPETITION_TIME:g} s) after the stimulus",
        "volumes of a block averaged" if options.samples == "block" else "every volume a sample",
    ]
    missing = f" Missing here: {', '.join(absent)}." if absent else ""
    return f"Runs: {'; '.join(done)}. Rest is left out. Random patterns train, figures test.{missing}"


#: Repetition time (s).
REPETITION_TIME = 2.0

#: Session, split and number of runs, by kind of run. The two sessions took place on different days.
SESSIONS: dict[str, tuple[int, str, int]] = {"random": (1, "train", 20), "figure": (2, "test", 12)}

REST = -1

#: Advice if a file is missing or damaged.
AGAIN = "delete the damaged file, if any, and fetch the data set again: nilearn.datasets.fetch_miyawaki2008()"


class Preprocessing(Protocol):
    """The preprocessing of a run (implemented by :class:`MiyawakiOptions`)."""

    @property
    def detrend(self) -> bool:
        """Whether to remove the linear trend of each run."""

    @property
    def standardize(self) -> bool:
        """Whether to standardize every voxel in each run."""

    @property
    def lag(self) -> int:
        """Volumes by which the response follows the stimulus."""

    @property
    def samples(self) -> str:
        """``"block"`` or ``"volume"``."""


@dataclass(frozen=True)
class Run:
    """One run, and the pattern and the volumes of each of its samples.

    Parameters
    ----------
    kind : str
        ``"random"`` or ``"figure"``.
    number : int
        Number in the file name, from 1.
    path : path
        The NIfTI file.
    patterns : list of array, shape (y, x)
        The pattern of each sample, uint8.
    volumes : list of slice
        The volumes to average for each sample, shifted by the lag.
    onsets : list of float
        The onset of each sample: seconds from the first volume to the onset of the pattern (block) or to the labeled
        volume.
    """

    kind: str
    number: int
    path: Path
    patterns: list[np.ndarray] = field(repr=False)
    volumes: list[slice] = field(repr=False)
    onsets: list[float] = field(repr=False)


def find_runs(root: Path, shape: tuple[int, ...], options: Preprocessing) -> tuple[list[Run], list[str]]:
    """Find the runs on disk.

    Parameters
    ----------
    root : path
        The folder with ``func`` and ``label``.
    shape : tuple of int
        Shape of the mask, which every run must have.
    options : Preprocessing
        Lag and kind of samples.

    Returns
    -------
    runs : list of Run
    absent : list of str
        Names of the runs that are not on disk.

    Raises
    ------
    MissingFileError, InputError
        If there are no runs, or a file is missing or cannot be used.
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
            "the folder contains no run of Miyawaki 2008",
            given=f"neither data_random_runNN.nii.gz nor data_figure_runNN.nii.gz in {root / 'func'}",
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
    kind : {"random", "figure"}
        Kind of run in the file names.
    number : int
        Number in the file names.
    volumes, labels : path
        The NIfTI file and the CSV file.
    shape : tuple of int
        Shape of the mask.
    options : Preprocessing
        Lag and kind of samples.

    Returns
    -------
    Run

    Raises
    ------
    InputError
        If a file cannot be used, or the two files do not match; the message names it.
    """
    found = load_image(volumes).shape
    if found[:-1] != shape or len(found) != 4:
        raise InputError(
            f"{volumes} does not match the mask",
            given=f"shape {found}",
            expected=f"shape {(*shape, 'volume')}, as in mask/mask.nii.gz",
            todo="fetch the data set again: nilearn.datasets.fetch_miyawaki2008()",
        )
    rows = read_labels(labels)
    if len(rows) != found[-1]:
        raise InputError(
            f"{labels} does not match the run",
            given=f"{len(rows)} rows for {found[-1]} volumes in {volumes.name}",
            expected="one row per volume",
            todo="fetch the data set again: nilearn.datasets.fetch_miyawaki2008()",
        )
    patterns, parts, onsets = [], [], []
    for start, stop in _samples_of(rows, options.samples):
        answer = slice(start + options.lag, min(stop + options.lag, len(rows)))
        if answer.start >= answer.stop:
            continue  # shown at the end of the run: the response was not recorded
        patterns.append(rows[start].reshape(PATCHES, PATCHES).T.astype(np.uint8))  # column-major
        parts.append(answer)
        onsets.append(start * REPETITION_TIME)
    return Run(kind, number, volumes, patterns, parts, onsets)


def _samples_of(rows: np.ndarray, samples: str) -> Iterator[tuple[int, int]]:
    """Yield the first row and the last row + 1 of each block or volume that is not rest."""
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
        A CSV file without header, one row of 100 numbers per volume.

    Returns
    -------
    int array, shape (volume, 100)
        0 and 1, or -1 in all columns of a row of rest.

    Raises
    ------
    InputError
        If the file is missing or has other content; the message names it.
    """
    problem = None
    try:
        lines = path.read_text().splitlines()
        rows = np.loadtxt(lines, delimiter=",", ndmin=2) if any(lines) else np.empty((0, 0))
        if rows.shape[1] != PATCHES**2:
            problem = f"{rows.shape[1]} columns"
        elif not np.isin(rows, (REST, 0, 1)).all():
            problem = "values other than -1, 0 and 1"
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
            expected="rows of 100 numbers: 0 and 1, or all -1 for rest",
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
        float64. If `options` standardizes, constant voxels become 0.
    """
    from scipy.signal import detrend

    volumes = volumes.astype(np.float64)
    level = np.abs(volumes).max(axis=0)
    if options.detrend:
        volumes = detrend(volumes, axis=0, type="linear")
    if options.standardize:
        volumes = volumes - volumes.mean(axis=0)
        deviation = volumes.std(axis=0, ddof=1)
        still = deviation <= 1e-10 * level  # constant up to rounding errors
        volumes = np.where(still, 0.0, volumes / np.where(still, 1.0, deviation))
    return volumes


def response_reader(runs: Sequence[Run], mask: np.ndarray, options: Preprocessing) -> Callable[[int, int], np.ndarray]:
    """Return a function that reads slices of samples, with one run at a time in memory."""
    lengths = [len(run.volumes) for run in runs]
    return read_by_part(lengths, lambda index: _run_samples(runs[index], mask, options), int(mask.sum()))


def _run_samples(run: Run, mask: np.ndarray, options: Preprocessing) -> np.ndarray:
    """Return the samples of one run, float32, shape (sample, voxel)."""
    volumes = image_values(load_image(run.path), run.path, todo=AGAIN)[mask].T
    bad = ~np.isfinite(volumes)
    if bad.any():
        raise InputError(
            f"{run.path} contains values that are not finite",
            given=f"{int(bad.sum())} such values, in {int(bad.any(axis=0).sum())} voxels of the mask",
            expected="finite numbers inside mask/mask.nii.gz",
            todo="remove these voxels from the mask, or fetch the data set again",
        )
    volumes = preprocess(volumes, options)
    if not run.volumes:
        return np.empty((0, volumes.shape[1]), dtype=np.float32)
    return np.stack([volumes[part].mean(axis=0) for part in run.volumes]).astype(np.float32)


def load_image(path: Path) -> Any:
    """Open a NIfTI file."""
    return open_image(path, AGAIN)


def _missing(path: Path) -> MissingFileError:
    return MissingFileError(
        f"{path} is missing",
        given="no such file",
        expected="the layout that nilearn.datasets.fetch_miyawaki2008() writes",
        todo="fetch the data set again: nilearn.datasets.fetch_miyawaki2008() keeps existing files",
    )


#: File name of the excerpt.
EXCERPT = "V1_mean_figure.mat"

#: Blocks per run of the figure session, and seconds between their onsets (12 s figure, 12 s rest).
BLOCKS_PER_RUN, BLOCK_SECONDS = 10, 24.0

CITATION = (
    "Miyawaki Y, Uchida H, Yamashita O, Sato M, Morito Y, Tanabe HC, Sadato N, Kamitani Y (2008). "
    "Visual image reconstruction from human brain activity using a combination of multiscale local "
    "image decoders. Neuron 60:915-929. doi:10.1016/j.neuron.2008.11.004"
)

CITATION_EXCERPT = (
    " Fujiwara Y, Miyawaki Y, Kamitani Y (2013). Modular encoding and decoding models derived from Bayesian "
    "canonical correlation analysis. Neural Comput 25:979-1005. doi:10.1162/NECO_a_00423"
)


class MiyawakiOptions(Options):
    """Options of the reader of Miyawaki 2008.

    They apply to the NIfTI runs only: the excerpt contains preprocessed block means, which are used as they are. The
    defaults are those of nilearn's examples with these data, except that the volumes of a block are averaged, as in
    the paper.

    Parameters
    ----------
    detrend : bool
        Remove the linear trend of every voxel in every run.
    standardize : bool
        Scale every voxel to mean 0 and standard deviation 1 in every run.
    lag : int
        Volumes (2 s each) by which the response follows the stimulus.
    samples : {"block", "volume"}
        ``"block"``: one sample per presentation, the mean of its volumes. ``"volume"``: one sample per volume, as in
        nilearn's examples. Every volume then counts as a repeat, although volumes of the same presentation share
        noise, so that noise ceilings computed from them are too high.
    """

    detrend: bool = True
    standardize: bool = True
    lag: int = Field(default=2, ge=0, le=20)
    samples: str = Field(default="block", pattern="^(block|volume)$")


@dataclass(frozen=True)
class Content:
    """The content of a folder in either layout.

    Parameters
    ----------
    stimuli : DataFrame
        The table of stimuli.
    patterns : array, shape (stimulus, y, x)
        uint8, 0 or 1.
    data : SubjectData
        The data of the only subject.
    notes, units, citation, terms : str
        See :class:`~neurorecon.datasets.base.Description`.
    """

    stimuli: pd.DataFrame
    patterns: np.ndarray
    data: SubjectData
    notes: str
    units: str
    citation: str
    terms: str


class Miyawaki2008Reader(Reader):
    """Reader of Miyawaki et al. 2008.

    Parameters
    ----------
    root : path
        The folder with ``V1_mean_figure.mat``, or the one with ``func``, ``label`` and ``mask``.
    options : MiyawakiOptions, optional
        Preprocessing of the NIfTI runs.

    Raises
    ------
    MissingFileError
        If the folder contains neither layout (or both), or a file is missing.
    InputError
        If a file cannot be used; the message names it.

    References
    ----------
    Miyawaki et al. 2008, Neuron 60:915-929.
    """

    name: ClassVar[str] = "miyawaki2008"
    Options: ClassVar[type[Options]] = MiyawakiOptions
    #: VP is ventral V3.
    roi_groups: ClassVar[dict[str, list[str]]] = {
        "early": ["V1", "V2", "V3", "VP"],
        "LVC": ["V1", "V2", "V3", "VP", "V4v"],
    }
    options: MiyawakiOptions

    def __init__(self, root: str | Path | None, options: MiyawakiOptions | None = None) -> None:
        super().__init__(root, options)
        assert self.root is not None  # the base class refuses None
        excerpt, runs = (self.root / EXCERPT).is_file(), (self.root / "func").is_dir()
        if excerpt == runs:
            raise MissingFileError(
                "the folder must contain the data of Miyawaki 2008 in one of two layouts",
                given=f"{self.root} with {'both' if excerpt else 'neither'}",
                expected=f"either {EXCERPT}, or the folders func, label and mask",
                todo="pass the folder of the excerpt, or nilearn_data/miyawaki2008 after "
                "nilearn.datasets.fetch_miyawaki2008()",
            )
        self._content = _read_excerpt(self.root / EXCERPT) if excerpt else _read_runs(self.root, self.options)

    @property
    def description(self) -> Description:
        """Title, citation, terms of use and units of the data set."""
        content = self._content
        return Description(
            title="Miyawaki 2008: early visual cortex, patterns of 10 by 10 patches",
            simulated=self.simulated,
            citation=content.citation,
            terms=content.terms,
            units=content.units,
            notes=content.notes,
        )

    @property
    def subjects(self) -> list[str]:
        """Name of the only subject, ``["subj01"]``."""
        return ["subj01"]

    def stimuli(self) -> pd.DataFrame:
        """Return the table of stimuli: random patterns by number, then figures by name."""
        return self._content.stimuli.copy()

    def image_shape(self) -> tuple[int, int, int]:
        """Return the shape of an image, (10, 10, 3)."""
        return (PATCHES, PATCHES, 3)

    def read_images(self, start: int, stop: int) -> np.ndarray:
        """Return patterns ``start:stop`` as black and white images, uint8, shape (stimulus, 10, 10, 3)."""
        return np.repeat(self._content.patterns[start:stop, :, :, None] * np.uint8(255), 3, axis=3)

    def subject(self, name: str) -> SubjectData:
        """Return the data of the only subject."""
        if name not in self.subjects:
            raise UnknownNameError("subject", name, self.subjects)
        return self._content.data


def _read_excerpt(path: Path) -> Content:
    """Read the excerpt: block means of V1."""
    flat, responses = _load_excerpt(path)
    patterns = flat.T.reshape(-1, PATCHES, PATCHES).transpose(0, 2, 1)  # column-major, as in MATLAB
    unique, stimulus_of_block = _unique_in_order(patterns)
    stimuli = stimulus_table(unique)
    block = np.arange(len(patterns))
    samples = pd.DataFrame(
        {
            "stimulus": stimuli["id"].to_numpy()[stimulus_of_block],
            "task": "images",
            "session": 1,
            "run": block // BLOCKS_PER_RUN + 1,
            "repeat": pd.Series(stimulus_of_block).groupby(stimulus_of_block).cumcount() + 1,
            "split": "train",
            "time": (block % BLOCKS_PER_RUN) * BLOCK_SECONDS,
        },
        columns=list(SAMPLE_COLUMNS),
    )
    data = SubjectData(
        samples=samples,
        voxels=pd.DataFrame(index=range(responses.shape[1])),
        rois={"V1": np.ones(responses.shape[1], dtype=bool)},
        space=Space("none"),
        read_responses=lambda start, stop: responses[start:stop].copy(),
    )
    return Content(
        stimuli,
        unique,
        data,
        notes="Block means of V1, preprocessed by the authors. All samples are 'train': cross-validate by "
        "category, one figure out. The file holds no times: seconds count from the first block of the run, "
        "by the design (12 s figure, 12 s rest).",
        units="block mean (units of the authors)",
        citation=CITATION + CITATION_EXCERPT,
        terms="Excerpt of KamitaniLab/VBCCA, BSD-3-Clause style",
    )


def _load_excerpt(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Load and check the patterns ``I2`` (patch, block) and the responses ``R2``; return R2 as (block, voxel)."""
    from scipy.io import loadmat

    try:
        content = loadmat(path, variable_names=["I2", "R2"])
    except Exception as error:  # scipy raises a dozen types of exceptions for damaged files
        raise InputError(
            f"{path} cannot be read",
            given=f"{path.stat().st_size} bytes; {type(error).__name__}: {error}",
            expected="a MATLAB v5 file",
            todo="the file is damaged or incomplete: copy it again",
        ) from error
    missing = [name for name in ("I2", "R2") if name not in content]
    if missing:
        raise InputError(
            f"{path} lacks {' and '.join(missing)}",
            given=f"a MATLAB file without {' and '.join(missing)}",
            expected="I2 (100, block), the patterns, and R2 (voxel, block), the responses",
            todo="use V1_mean_figure.mat as KamitaniLab/VBCCA distributes it",
        )
    patterns, responses = content["I2"], content["R2"]
    blocks = patterns.shape[-1]
    if (
        patterns.shape != (PATCHES**2, blocks)
        or responses.shape != (responses.shape[0], blocks)
        or min(responses.shape) == 0
        or blocks % BLOCKS_PER_RUN
    ):
        raise InputError(
            f"the arrays in {path} have the wrong shape",
            given=f"I2 {patterns.shape}, R2 {responses.shape}",
            expected="I2 (100, block) and R2 (voxel, block), complete runs of 10 blocks: (100, 80) and (797, 80)",
            todo="use V1_mean_figure.mat as KamitaniLab/VBCCA distributes it",
        )
    if not np.isin(patterns, (0, 1)).all():
        raise InputError(
            f"the patterns I2 in {path} are not black and white",
            given=f"values from {patterns.min()} to {patterns.max()}",
            expected="0 and 1",
            todo="use V1_mean_figure.mat as KamitaniLab/VBCCA distributes it",
        )
    if responses.dtype.kind not in "fiu" or not np.isfinite(responses).all():
        raise InputError(
            f"the responses R2 in {path} are not all finite numbers",
            given=f"{responses.dtype}"
            + (f", {(~np.isfinite(responses)).sum()} not finite" if responses.dtype.kind == "f" else ""),
            expected="finite numbers",
            todo="remove the affected voxels or blocks, or use V1_mean_figure.mat as KamitaniLab/VBCCA distributes it",
        )
    return patterns.astype(np.uint8), np.ascontiguousarray(responses.T, dtype=np.float32)


def _unique_in_order(patterns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the distinct patterns in order of first appearance, and the index of each pattern among them."""
    _, first, inverse = np.unique(patterns.reshape(len(patterns), -1), axis=0, return_index=True, return_inverse=True)
    order = np.argsort(first)
    return patterns[first[order]], np.argsort(order)[inverse.ravel()]


def _read_runs(root: Path, options: MiyawakiOptions) -> Content:
    """Read nilearn's layout."""
    runs = read_figure_and_random_runs(root, options)
    return Content(
        runs.stimuli,
        runs.patterns,
        runs.data,
        notes=runs.notes,
        units="standard deviations of the run" if options.standardize else "scanner units",
        citation=CITATION,
        terms="As distributed by the authors for nilearn; license not stated",
    )
