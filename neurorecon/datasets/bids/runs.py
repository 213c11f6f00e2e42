"""The events, confounds, timing and headers of runs, and the functions that read their values."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

import numpy as np
import pandas as pd

from neurorecon.datasets.bids.layout import BidsFile, Folders, RunFiles, Strategy, tidy
from neurorecon.errors import InputError, MissingFileError, UnknownNameError
from neurorecon.io.grid import Grid, Header
from neurorecon.io.surfaces import (
    check_grayordinates,
    check_surfaces,
    open_grayordinates,
    open_surfaces,
    read_grayordinates,
    read_surfaces,
)
from neurorecon.io.tables import MISSING, read_text_table
from neurorecon.io.volumes import check_volumes, open_volumes, read_volumes

#: Column of the events that names the file of an image or video.
STIM_FILE = "stim_file"

#: Name of events without a trial type.
NAMELESS = "event"


@dataclass(frozen=True)
class Events:
    """The events of one run.

    Parameters
    ----------
    path : path
        The file, for error messages.
    table : DataFrame
        ``onset`` and ``duration`` (s) as floats, NaN where they are not numbers; all other columns as strings, None
        where they are missing.
    given : DataFrame
        ``onset`` and ``duration`` as they are written.
    lines : int array, shape (event,)
        Line of each event in the file.
    seconds : float
        Duration of the run.
    """

    path: Path
    table: pd.DataFrame
    given: pd.DataFrame
    lines: np.ndarray
    seconds: float


@dataclass(frozen=True)
class Shown:
    """Events divided into stimuli and other events, without rest.

    Parameters
    ----------
    stimuli : DataFrame
        The presentations of stimuli, sorted by onset: ``stimulus``, ``category``, ``onset``, ``duration`` and the
        columns of the file.
    further : list of str
        Columns of the file with other information, e.g. ``response_time``.
    others : DataFrame
        Events that are neither stimuli nor rest, e.g. button presses: ``trial_type``, ``onset``, ``duration``.
    outside : int
        Number of presentations that were left out because they begin before the first or after the last volume.
    left_out : int
        Number of other events that were left out, because they lack an onset or a duration or begin outside the run.
    """

    stimuli: pd.DataFrame
    further: list[str]
    others: pd.DataFrame
    outside: int = 0
    left_out: int = 0


def find_events(folders: Folders, run: BidsFile) -> Path:
    """Return the events file of a run.

    Raises
    ------
    MissingFileError
        If there is none.
    """
    found = folders.belonging(run, ["events"], "tsv")
    if not found:
        raise MissingFileError(
            f"the events of {run.path.name} are missing",
            given=f"no matching *_events.tsv in {', '.join(map(str, folders.roots))}",
            expected="an *_events.tsv file with the same subject, session, task and run",
            todo='set the folder of the raw data set in [options]: events = "DIR" (relative to --root, or absolute)',
        )
    return found[-1].path


def read_events(path: Path, seconds: float) -> Events:
    """Read an events file.

    Parameters
    ----------
    path : path
        The file.
    seconds : float
        Duration of the run in seconds.

    Returns
    -------
    Events

    Raises
    ------
    InputError
        If the file cannot be read, lacks the columns onset and duration, or has text in them. :func:`shown` checks
        their values, because only those of stimuli matter.
    """
    found = read_text_table(path, empty=True)
    missing = [name for name in ("onset", "duration") if name not in found]
    if missing:
        raise InputError(
            f"{path} lacks {' and '.join(missing)}",
            given=f"columns {', '.join(map(str, found.frame.columns))}",
            expected="the columns onset, duration, and trial_type or stim_file, separated by tabs",
            todo="name the columns as in BIDS",
        )
    table = found.frame.mask(found.frame.isin(MISSING), None)
    given = table[["onset", "duration"]].copy()
    for name in given:
        table[name] = pd.to_numeric(given[name], errors="coerce").astype(float).replace([np.inf, -np.inf], np.nan)
        words = given[name].notna() & table[name].isna() & ~given[name].astype(str).str.match(r"(?i)[+-]?(nan|inf)")
        if words.any():
            row = int(words.to_numpy().argmax())
            raise InputError(
                f"{path} has an invalid {name}",
                given=f"{given[name].iloc[row]!r} in {found.row(row)}",
                expected="a number of seconds with a decimal point, or n/a for events that are no stimuli",
                todo="fix the table",
            )
    assert found.lines is not None
    return Events(path, table, given, found.lines, seconds)


def stimulus_column(tables: Sequence[Events], wanted: str | None) -> str:
    """Return the column that identifies the stimuli: `wanted` if given, else ``stim_file``, else ``trial_type``.

    Raises
    ------
    UnknownNameError
        If a table lacks the column.
    """
    if wanted is None:
        filed = any(STIM_FILE in events.table and events.table[STIM_FILE].notna().any() for events in tables)
        wanted = STIM_FILE if filed else "trial_type"
    for events in tables:
        if wanted not in events.table:
            raise UnknownNameError(
                f"column of {events.path}",
                wanted,
                events.table.columns,
                todo="set stimulus_column in [options] to the column that identifies the stimuli",
            )
    return wanted


def shown(events: Events, column: str, category: str, rest: Sequence[str]) -> Shown:
    """Divide events into stimuli, rest and other events.

    Parameters
    ----------
    events : Events
        The events of a run.
    column : str
        Column that identifies the stimuli. Events without a value are not stimuli.
    category : str
        Column with the categories of the stimuli.
    rest : sequence of str
        Trial types that are rest, with wildcards.

    Returns
    -------
    Shown

    Raises
    ------
    InputError
        If a stimulus has no onset or duration, or most of the stimuli begin outside the run. Other events may have any
        onset and duration.
    """
    table = events.table
    used = ("onset", "duration", "stimulus", "category", column, category)
    kind = table["trial_type"] if "trial_type" in table else pd.Series([None] * len(table), index=table.index)
    resting = pd.Series(
        [any(fnmatch(str(name).lower(), pattern.lower()) for pattern in rest) for name in kind], index=table.index
    )
    named = table[column].notna() & ~resting
    _check_stimuli(events, named)
    inside = (table["onset"] >= 0) & (table["onset"] < events.seconds)
    stimuli = table[named & inside].sort_values("onset", kind="stable")
    stimuli = stimuli.assign(stimulus=stimuli[column].map(tidy))
    stimuli["category"] = stimuli[category] if category in table else None
    usable = inside & (table["duration"] >= 0)
    others = table[~named & ~resting & usable].sort_values("onset", kind="stable")
    names = kind[others.index].where(kind[others.index].notna(), NAMELESS)
    return Shown(
        stimuli.reset_index(drop=True),
        [str(name) for name in table if name not in used],
        others[["onset", "duration"]].assign(trial_type=names).reset_index(drop=True),
        int((named & ~inside).sum()),
        int((~named & ~resting & ~usable).sum()),
    )


def _check_stimuli(events: Events, named: pd.Series) -> None:
    """Raise unless all stimuli have an onset and a duration, and most of them begin during the run."""
    table = events.table
    for name in ("onset", "duration"):
        bad = (named & (table[name].isna() | ((name == "duration") & (table[name] < 0)))).to_numpy()
        if bad.any():
            row = int(bad.argmax())
            raise InputError(
                f"{events.path} has an invalid {name}",
                given=f"{events.given[name].iloc[row]!r} in row {row + 1} (line {events.lines[row]}), which shows a "
                "stimulus",
                expected="a number of seconds" + (", 0 or more" if name == "duration" else ""),
                todo="fix the table; only events that are no stimuli may lack it",
            )
    outside = (named & ~table["onset"].between(0, events.seconds, inclusive="left")).to_numpy()
    if outside.sum() > named.sum() / 2:
        raise InputError(
            f"{events.path} has events outside the run",
            given=f"{int(outside.sum())} of {int(named.sum())} stimuli, e.g. at {table['onset'][outside].iloc[0]:g} s",
            expected=f"onsets from 0 to {events.seconds:g} s, the duration of the run",
            todo="check that the file belongs to this run, and that onsets are in seconds",
        )


@dataclass(frozen=True)
class Confounds:
    """The confounds to regress out of a run, and the volumes to keep.

    Parameters
    ----------
    table : DataFrame
        One row per volume of the run and one column per confound, without missing values.
    kept : int array, shape (kept_volume,), or None
        Volumes that are not scrubbed; None if all are kept.
    """

    table: pd.DataFrame
    kept: np.ndarray | None = None


def load(run: RunFiles, folders: Folders, wanted: Sequence[str] | Strategy, length: int) -> Confounds:
    """Load the confounds of a run.

    Values missing in the first one or two volumes (fMRIPrep's temporal derivatives start with n/a) are filled with the
    first value that follows, as in nilearn's ``load_confounds``.

    Parameters
    ----------
    run : RunFiles
        The run.
    folders : Folders
        The folders that may contain the confounds file.
    wanted : sequence of str, or Strategy
        Columns, with wildcards, or parameters of ``load_confounds``.
    length : int
        Number of volumes of the run.

    Returns
    -------
    Confounds

    Raises
    ------
    InputError
        If the file is missing, does not match the run, lacks a column, or has gaps; or there are too many confounds.
    """
    if not isinstance(wanted, Strategy) and not wanted:
        return Confounds(pd.DataFrame(index=range(length)))
    found = [
        file
        for file in folders.belonging(run.first, ["timeseries", "regressors"], "tsv", desc="confounds")
        if "run" in file.entities or "run" not in run.first.entities
    ]
    if not found:
        raise MissingFileError(
            f"the confounds of {run.path.name} are missing",
            given=f"no matching *_desc-confounds_timeseries.tsv in {run.path.parent}",
            expected="the file that fMRIPrep writes next to the run",
            todo="copy it there, or remove confounds from [options]",
        )
    path = found[-1].path
    table = read_text_table(path, empty=True).frame
    if len(table) != length:
        raise InputError(
            f"{path} does not match the run",
            given=f"{len(table)} rows for {length} volumes in {run.path.name}",
            expected="one row per volume",
            todo="copy both files again: one is truncated, or belongs to another run",
        )
    if isinstance(wanted, Strategy):
        chosen = _strategy(run, wanted, length)
    else:
        columns = []
        for pattern in wanted:
            matching = [name for name in table if fnmatch(str(name), pattern)]
            if not matching:
                raise UnknownNameError(f"confound in {path.name}:", pattern, table.columns)
            columns += [name for name in matching if name not in columns]
        chosen = Confounds(table[columns])
    filled = _complete(chosen.table, path.name)
    kept = length if chosen.kept is None else len(chosen.kept)
    if filled.shape[1] >= kept - 1:
        raise InputError(
            f"too many confounds for {run.path.name}: no variance would be left",
            given=f"{filled.shape[1]} confounds, {kept} volumes",
            expected="far fewer confounds than volumes",
            todo="choose fewer confounds in [options]",
        )
    return Confounds(filled, chosen.kept)


def _complete(table: pd.DataFrame, name: str) -> pd.DataFrame:
    """Fill gaps in the first volumes; raise for others."""
    numeric = table.apply(pd.to_numeric, errors="coerce").astype(float).replace([np.inf, -np.inf], np.nan)
    filled = numeric.bfill(limit=2) if len(numeric) else numeric
    first = numeric.notna().to_numpy().argmax(axis=0) if len(numeric) else np.array([])
    gaps = filled.isna() | (numeric.isna() & (np.arange(len(numeric))[:, None] > first))
    if gaps.to_numpy().any():
        row, column = np.argwhere(gaps.to_numpy())[0]
        raise InputError(
            f"the confounds {name} have gaps",
            given=f"{table.columns[column]!r} is missing in row {row + 1}",
            expected="numbers, except in the first one or two volumes",
            todo="omit this confound, or rerun fMRIPrep",
        )
    return filled


def _strategy(run: RunFiles, wanted: Strategy, length: int) -> Confounds:
    from nilearn.interfaces.fmriprep import load_confounds

    paths = [str(file.path) for file in run.files]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # A path for one run, or a list of runs with a pair of hemispheres.
            given = paths[0] if len(paths) == 1 else [paths]
            table, kept = load_confounds(given, **wanted.model_dump())
    except Exception as error:  # nilearn raises its own exceptions and ValueError
        raise InputError(
            f"nilearn cannot load these confounds for {run.path.name}",
            given=f"strategy {', '.join(wanted.strategy)}; {type(error).__name__}: {error}",
            expected="a strategy of nilearn.interfaces.fmriprep.load_confounds, and the columns it needs",
            todo="choose another strategy, or list columns, e.g. confounds = ['trans_?', 'rot_?']",
        ) from None
    if isinstance(table, list):
        table, kept = table[0], kept[0]
    if table is None:
        table = pd.DataFrame(index=range(length))
    return Confounds(table.reset_index(drop=True), None if kept is None else np.asarray(kept))


#: Largest relative difference between the repetition times in the sidecar and the header (which is rounded).
TOLERANCE = 0.01


@dataclass(frozen=True)
class Times:
    """The timing of the volumes of a run.

    Parameters
    ----------
    length : int
        Number of volumes.
    repetition_time : float
        Repetition time in seconds.
    start : float
        Reference time of slice-timing correction: seconds after the onset of a volume (``StartTime``).
    """

    length: int
    repetition_time: float
    start: float = 0.0

    @property
    def volumes(self) -> np.ndarray:
        """Time of each volume in seconds from the onset of the run, shape (volume,)."""
        return self.start + self.repetition_time * np.arange(self.length)

    @property
    def seconds(self) -> float:
        """Duration of the run in seconds."""
        return self.length * self.repetition_time


@dataclass(frozen=True)
class RunPlan:
    """A run whose tables and headers have been read and checked.

    Parameters
    ----------
    files : RunFiles
        The files.
    times : Times
        The timing of the volumes.
    shown : Shown
        The events.
    confounds : Confounds
        The confounds.
    """

    files: RunFiles
    times: Times
    shown: Shown
    confounds: Confounds

    @property
    def name(self) -> str:
        """File name of the run, for error messages."""
        return self.files.path.name

    @property
    def kept(self) -> np.ndarray:
        """Indices of the volumes that are not scrubbed, shape (kept_volume,)."""
        return np.arange(self.times.length) if self.confounds.kept is None else self.confounds.kept


@dataclass(frozen=True)
class RunSamples:
    """The samples of a run.

    Parameters
    ----------
    table : DataFrame
        ``stimulus``, ``presentation`` (row in :attr:`Shown.stimuli`) and ``time`` (s).
    unrecorded : int
        Number of presentations without a response, because they were at the end of the run or scrubbed.
    """

    table: pd.DataFrame
    unrecorded: int


def times_of(run: RunFiles, header: Header, metadata: Mapping[str, object], given: float | None) -> Times:
    """Return the timing of a run, from the options, else the sidecar, else the header.

    Parameters
    ----------
    run : RunFiles
        The run, for error messages.
    header : Header
        Length and repetition time in the header.
    metadata : mapping
        Content of the sidecars.
    given : float or None
        Repetition time (s) in the options.

    Raises
    ------
    InputError
        If the repetition time is unknown, or sidecar and header contradict each other.
    """
    stated = _seconds(run, metadata, "RepetitionTime")
    start = _seconds(run, metadata, "StartTime") or 0.0
    if given is not None:
        return Times(header.length, given, start)
    found = stated or header.repetition_time
    if not found:
        raise InputError(
            f"the repetition time of {run.path.name} is unknown",
            given="neither RepetitionTime in a sidecar (*_bold.json), nor a repetition time in the header",
            expected="a repetition time in seconds in one of them",
            todo="add it to the sidecar, or to [options], e.g. repetition_time = 2.0",
        )
    if stated and header.repetition_time and abs(stated - header.repetition_time) > TOLERANCE * stated:
        raise InputError(
            f"sidecar and header of {run.path.name} contradict each other",
            given=f"RepetitionTime {stated:g} s in the sidecar, {header.repetition_time:g} s in the header",
            expected="the same repetition time",
            todo="find out which is correct, and set repetition_time in [options]",
        )
    return Times(header.length, float(found), start)


def _seconds(run: RunFiles, metadata: Mapping[str, object], key: str) -> float | None:
    value = metadata.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1000:
        raise InputError(
            f"the sidecar of {run.path.name} has an invalid {key}",
            given=f"{key}: {value!r}",
            expected="a number of seconds",
            todo="fix the sidecar",
        )
    return float(value)


@dataclass(frozen=True)
class Format:
    """The functions of one file format: open a run, check its grid, and read it."""

    open: Callable[[Sequence[Path], str], tuple[Grid, Header]]
    check: Callable[[Path, Grid, Grid, str], None]
    read: Callable[[Sequence[Path], np.ndarray], np.ndarray]


FORMATS = {
    "volume": Format(open_volumes, check_volumes, read_volumes),
    "surface": Format(open_surfaces, check_surfaces, read_surfaces),
    "grayordinates": Format(open_grayordinates, check_grayordinates, read_grayordinates),
}


def open_run(run: RunFiles) -> tuple[Grid, Header]:
    """Return the grid and header of a run."""
    return FORMATS[run.kind].open([file.path for file in run.files], run.space)


def check_run(run: RunFiles, grid: Grid, wanted: Grid, like: str) -> None:
    """Raise :class:`InputError` if the grid of a run differs from that of the subject's first run."""
    FORMATS[run.kind].check(run.path, grid, wanted, like)


def read_run(run: RunFiles, rows: np.ndarray) -> np.ndarray:
    """Read some rows of the grid of a run, float32, shape (volume, voxel)."""
    return FORMATS[run.kind].read([file.path for file in run.files], rows)
