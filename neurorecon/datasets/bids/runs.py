"""Runs before their values are read: events, confounds, times, headers."""

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
from neurorecon.io.volumes import check_volumes, open_volumes, read_volumes

#: Column of the events that names the file of an image or video.
STIM_FILE = "stim_file"

#: What else an event is taken for where it has no trial type.
NAMELESS = "event"


@dataclass(frozen=True)
class Events:
    """The events of one run.

    Parameters
    ----------
    path : path
        For messages.
    table : DataFrame
        All columns as text but ``onset`` and ``duration`` (s); missing values are None.
    """

    path: Path
    table: pd.DataFrame


@dataclass(frozen=True)
class Shown:
    """Events, told apart by what they are to the reader.

    Parameters
    ----------
    stimuli : DataFrame
        Columns ``stimulus``, ``category``, ``onset``, ``duration`` and those of the file, by onset.
    further : list of str
        Those of the file that say something else, e.g. ``response_time``.
    others : DataFrame
        Events that are neither stimuli nor rest, e.g. button presses: ``trial_type``, ``onset``, ``duration``.
    """

    stimuli: pd.DataFrame
    further: list[str]
    others: pd.DataFrame


def find_events(folders: Folders, run: BidsFile) -> Path:
    """Return the events file of a run.

    Raises
    ------
    MissingFileError
        Where there is none.
    """
    found = folders.belonging(run, ["events"], "tsv")
    if not found:
        raise MissingFileError(
            f"there are no events for {run.path.name}",
            given=f"no matching *_events.tsv in {', '.join(map(str, folders.roots))}",
            expected="*_events.tsv with the subject, session, task and run of the run",
            todo='name the folder of the raw data set in [options]: events = "DIR" (relative to --root, or absolute)',
        )
    return found[-1].path


def read_events(path: Path, seconds: float) -> Events:
    """Read and check an events file.

    Parameters
    ----------
    path : path
    seconds : float
        Length of the run.

    Raises
    ------
    InputError
        Where it has no onsets and durations, or they lie outside the run.
    """
    try:
        table = pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False, encoding="utf-8")
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path} cannot be read",
            given=f"{type(error).__name__}: {error}",
            expected="a table with tabs between its columns",
            todo="fix it, or copy it again",
        ) from None
    table = table.astype(object).mask(table.isin(["n/a", "N/A", ""]), None)
    missing = [name for name in ("onset", "duration") if name not in table]
    if missing:
        raise InputError(
            f"{path} lacks {' and '.join(missing)}",
            given=f"columns {', '.join(map(str, table.columns))}",
            expected="onset, duration and trial_type or stim_file, with tabs between them",
            todo="name the columns as BIDS does",
        )
    for name in ("onset", "duration"):
        numbers = pd.to_numeric(table[name], errors="coerce").astype(float)
        bad = numbers.isna() | (name == "duration") & (numbers < 0)
        if bad.any():
            row = int(bad.to_numpy().argmax())
            raise InputError(
                f"{path} has a wrong {name}",
                given=f"{table[name].iloc[row]!r} in row {row + 1}",
                expected="seconds, as a number" + (" that is not negative" if name == "duration" else ""),
                todo="fix the table",
            )
        table[name] = numbers
    outside = (table["onset"] < 0) | (table["onset"] >= seconds)
    if outside.any():
        raise InputError(
            f"{path} has events outside its run",
            given=f"{int(outside.sum())} of {len(table)}, e.g. at {table['onset'][outside].iloc[0]:g} s",
            expected=f"onsets from 0 to {seconds:g} s, the length of the run",
            todo="check that the table belongs to this run and is in seconds",
        )
    return Events(path, table.sort_values("onset", kind="stable").reset_index(drop=True))


def stimulus_column(tables: Sequence[Events], wanted: str | None) -> str:
    """Return the column that names the stimuli: the one asked for, else ``stim_file``, else ``trial_type``.

    Raises
    ------
    UnknownNameError, InputError
        Where a table lacks it.
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
                todo="name the column that says which stimulus was shown: stimulus_column in [options]",
            )
    return wanted


def shown(events: Events, column: str, category: str, rest: Sequence[str]) -> Shown:
    """Tell stimuli, rest and other events apart.

    Parameters
    ----------
    events : Events
    column : str
        Names the stimuli; events without a value are no stimuli.
    category : str
        Column with their categories.
    rest : sequence of str
        Trial types that are rest, with wildcards.
    """
    table = events.table
    used = ("onset", "duration", "stimulus", "category", column, category)
    kind = table["trial_type"] if "trial_type" in table else pd.Series([None] * len(table), index=table.index)
    resting = pd.Series(
        [any(fnmatch(str(name).lower(), pattern.lower()) for pattern in rest) for name in kind], index=table.index
    )
    named = table[column].notna() & ~resting
    stimuli = table[named].assign(stimulus=table[column][named].map(tidy))
    groups = table[category][named] if category in table else None
    stimuli["category"] = None if groups is None else groups
    others = table[~named & ~resting]
    names = kind[others.index].where(kind[others.index].notna(), NAMELESS)
    return Shown(
        stimuli.reset_index(drop=True),
        [str(name) for name in table if name not in used],
        others[["onset", "duration"]].assign(trial_type=names).reset_index(drop=True),
    )


@dataclass(frozen=True)
class Confounds:
    """What is regressed out of a run.

    Parameters
    ----------
    table : DataFrame
        One row a volume of the run, one column a confound; none missing.
    kept : int array, shape (kept_volume,), or None
        Volumes that are not scrubbed; None where all are kept.
    """

    table: pd.DataFrame
    kept: np.ndarray | None = None


def load(run: RunFiles, folders: Folders, wanted: Sequence[str] | Strategy, length: int) -> Confounds:
    """Load the confounds of a run.

    Values that are missing at the beginning (fMRIPrep gives derivatives none at the first volume) are taken from the
    first volume that has one, as nilearn's ``load_confounds`` does.

    Parameters
    ----------
    run : RunFiles
    folders : Folders
    wanted : sequence of str, or Strategy
        Columns with wildcards, or parameters of ``load_confounds``.
    length : int
        Volumes of the run.

    Raises
    ------
    InputError
        Where the file is missing, does not match the run, lacks a column or has gaps.
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
            f"there are no confounds for {run.path.name}",
            given=f"no matching *_desc-confounds_timeseries.tsv in {run.path.parent}",
            expected="the file that fMRIPrep writes beside the run",
            todo="copy it there, or leave confounds out of [options]",
        )
    path = found[-1].path
    try:
        table = pd.read_csv(path, sep="\t", na_values=["n/a"], encoding="utf-8")
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read", given=f"{type(error).__name__}: {error}", expected="a TSV") from None
    if len(table) != length:
        raise InputError(
            f"{path} does not match its run",
            given=f"{len(table)} rows for {length} volumes in {run.path.name}",
            expected="one row a volume",
            todo="copy both files again: one is cut, or of another run",
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
            f"as many confounds as volumes: nothing would be left of {run.path.name}",
            given=f"{filled.shape[1]} confounds, {kept} volumes",
            expected="far fewer confounds than volumes",
            todo="choose fewer confounds in [options]",
        )
    return Confounds(filled, chosen.kept)


def _complete(table: pd.DataFrame, name: str) -> pd.DataFrame:
    """Fill gaps at the beginning; refuse others."""
    numeric = table.apply(pd.to_numeric, errors="coerce").astype(float).replace([np.inf, -np.inf], np.nan)
    filled = numeric.bfill(limit=2) if len(numeric) else numeric
    first = numeric.notna().to_numpy().argmax(axis=0) if len(numeric) else np.array([])
    gaps = filled.isna() | (numeric.isna() & (np.arange(len(numeric))[:, None] > first))
    if gaps.to_numpy().any():
        row, column = np.argwhere(gaps.to_numpy())[0]
        raise InputError(
            f"the confounds {name} have gaps",
            given=f"{table.columns[column]!r} is missing in row {row + 1}",
            expected="numbers, but for the first one or two volumes",
            todo="leave this confound out, or run fMRIPrep again",
        )
    return filled


def _strategy(run: RunFiles, wanted: Strategy, length: int) -> Confounds:
    from nilearn.interfaces.fmriprep import load_confounds

    paths = [str(file.path) for file in run.files]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # One run: a path, or a pair of hemispheres in a list of runs.
            given = paths[0] if len(paths) == 1 else [paths]
            table, kept = load_confounds(given, **wanted.model_dump())
    except Exception as error:  # nilearn raises errors of its own and ValueError
        raise InputError(
            f"nilearn cannot load these confounds for {run.path.name}",
            given=f"strategy {', '.join(wanted.strategy)}; {type(error).__name__}: {error}",
            expected="a strategy of nilearn.interfaces.fmriprep.load_confounds, and the columns that it needs",
            todo="choose another strategy, or name columns: confounds = ['trans_?', 'rot_?']",
        ) from None
    if isinstance(table, list):
        table, kept = table[0], kept[0]
    if table is None:
        table = pd.DataFrame(index=range(length))
    return Confounds(table.reset_index(drop=True), None if kept is None else np.asarray(kept))


#: Header and sidecar may differ by so much (rounding in headers).
TOLERANCE = 0.01


@dataclass(frozen=True)
class Times:
    """When the volumes of a run were taken.

    Parameters
    ----------
    length : int
        Volumes.
    repetition_time : float
        Seconds between them.
    start : float
        Seconds from the onset of a volume to the time that its slices were shifted to (``StartTime``).
    """

    length: int
    repetition_time: float
    start: float = 0.0

    @property
    def volumes(self) -> np.ndarray:
        """Seconds of each volume from the onset of the run, (volume,)."""
        return self.start + self.repetition_time * np.arange(self.length)

    @property
    def seconds(self) -> float:
        """Length of the run."""
        return self.length * self.repetition_time


@dataclass(frozen=True)
class RunPlan:
    """A run whose tables and headers were read and found in order.

    Parameters
    ----------
    files : RunFiles
    times : Times
    shown : Shown
        Its events.
    confounds : Confounds
    """

    files: RunFiles
    times: Times
    shown: Shown
    confounds: Confounds

    @property
    def name(self) -> str:
        """For messages."""
        return self.files.path.name

    @property
    def kept(self) -> np.ndarray:
        """Volumes that are not scrubbed, int (kept_volume,)."""
        return np.arange(self.times.length) if self.confounds.kept is None else self.confounds.kept


@dataclass(frozen=True)
class RunSamples:
    """The samples that a run gives.

    Parameters
    ----------
    table : DataFrame
        ``stimulus``, ``presentation`` (row of the shown stimuli) and ``time`` (s).
    unrecorded : int
        Presentations whose response was not recorded: at the end of the run, or scrubbed.
    """

    table: pd.DataFrame
    unrecorded: int


def times_of(run: RunFiles, header: Header, metadata: Mapping[str, object], given: float | None) -> Times:
    """Return when the volumes of a run were taken: by the options, else the sidecar, else the header.

    Raises
    ------
    InputError
        Where neither says it, or they contradict each other.
    """
    stated = _seconds(run, metadata, "RepetitionTime")
    start = _seconds(run, metadata, "StartTime") or 0.0
    if given is not None:
        return Times(header.length, given, start)
    found = stated or header.repetition_time
    if not found:
        raise InputError(
            f"the time between the volumes of {run.path.name} is not known",
            given="no RepetitionTime in a sidecar (*_bold.json), none in the header",
            expected="seconds, in one of them",
            todo="write it into the sidecar, or into [options]: repetition_time = 2.0",
        )
    if stated and header.repetition_time and abs(stated - header.repetition_time) > TOLERANCE * stated:
        raise InputError(
            f"sidecar and header of {run.path.name} contradict each other",
            given=f"RepetitionTime {stated:g} s in the sidecar, {header.repetition_time:g} s in the header",
            expected="one time between volumes",
            todo="find out which is right, and say so in [options]: repetition_time = ...",
        )
    return Times(header.length, float(found), start)


def _seconds(run: RunFiles, metadata: Mapping[str, object], key: str) -> float | None:
    value = metadata.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1000:
        raise InputError(
            f"the sidecar of {run.path.name} says something else than seconds",
            given=f"{key}: {value!r}",
            expected="a number of seconds",
            todo="fix the sidecar",
        )
    return float(value)


@dataclass(frozen=True)
class Format:
    """What one file format needs: open, compare, read."""

    open: Callable[[Sequence[Path], str], tuple[Grid, Header]]
    check: Callable[[Path, Grid, Grid, str], None]
    read: Callable[[Sequence[Path], np.ndarray], np.ndarray]


FORMATS = {
    "volume": Format(open_volumes, check_volumes, read_volumes),
    "surface": Format(open_surfaces, check_surfaces, read_surfaces),
    "grayordinates": Format(open_grayordinates, check_grayordinates, read_grayordinates),
}


def open_run(run: RunFiles) -> tuple[Grid, Header]:
    """Read the header of a run."""
    return FORMATS[run.kind].open([file.path for file in run.files], run.space)


def check_run(run: RunFiles, grid: Grid, wanted: Grid, like: str) -> None:
    """Refuse a run that lies elsewhere than the first one of its subject."""
    FORMATS[run.kind].check(run.path, grid, wanted, like)


def read_run(run: RunFiles, rows: np.ndarray) -> np.ndarray:
    """Read a run: float32, shape (volume, voxel), for some rows of the grid."""
    return FORMATS[run.kind].read([file.path for file in run.files], rows)
