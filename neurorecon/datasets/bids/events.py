"""Events of a run: which stimulus was shown when."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

import pandas as pd

from neurorecon.datasets.bids.names import BidsFile, Folders
from neurorecon.errors import InputError, MissingFileError, UnknownNameError

#: Column of the events that names the file of a picture or film.
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
            todo="mend it, or copy it again",
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
                todo="mend the table",
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


def tidy(name: object) -> str:
    """Return the id of a stimulus: its file below ``stimuli/``, with slashes, or its trial type."""
    return str(name).strip().replace("\\", "/").removeprefix("./").removeprefix("stimuli/").removeprefix("/")
