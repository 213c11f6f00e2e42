"""The table of samples: what may be left out is filled in, what contradicts itself is refused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from neurorecon.datasets.arrays.options import TEST_SHARE
from neurorecon.datasets.arrays.tables import Table
from neurorecon.datasets.base import SAMPLE_COLUMNS
from neurorecon.datasets.columns import check_columns, tidy_columns
from neurorecon.datasets.splits import hold_out_groups, hold_out_stimuli
from neurorecon.errors import InputError

#: Columns that are known; only the stimulus is required.
KNOWN = SAMPLE_COLUMNS


@dataclass(frozen=True)
class Samples:
    """Samples of one subject.

    Parameters
    ----------
    table : DataFrame
        With :data:`~neurorecon.datasets.base.SAMPLE_COLUMNS`, then whatever else was given; the column ``split`` is
        ``""`` where it was not given.
    rows : int array, shape (sample,)
        Row of the responses that each sample is.
    total : int
        Rows of the table as it was given, which the responses have to match.
    where : str
        Name of the table in messages.
    report : dict of str to str
    """

    table: pd.DataFrame
    rows: np.ndarray
    total: int
    where: str
    report: dict[str, str]


def read_samples(given: Table, tasks: dict[str, str], repetition_time: float | None) -> Samples:
    """Fill in and check a table of samples.

    Parameters
    ----------
    given : Table
        With ``stimulus``; ``session``, ``run``, ``repeat``, ``split``, ``time`` and ``task`` are optional, all other
        columns are taken as they are. Rows without a stimulus (rest) are left out.
    tasks : dict of str to str
        Of each stimulus: the task where the table states none, ``"images"`` or ``"films"``.
    repetition_time : float, optional
        Seconds between the rows of a run, where they are a time series.

    Raises
    ------
    InputError
        For an unknown stimulus, numbers that are none, presentations that are counted wrongly, or a time series with
        gaps.
    """
    given.require(["stimulus"])
    stimulus = given.text("stimulus")
    rows = np.flatnonzero(stimulus != "")
    _check_stimuli(given, stimulus[rows], tasks)
    table = pd.DataFrame({"stimulus": stimulus.astype(object)})
    known_task = np.array([tasks.get(name, "") for name in stimulus], dtype=object)
    table["task"] = given.text("task") if "task" in given else known_task
    table.loc[table["task"] == "", "task"] = known_task[(table["task"] == "").to_numpy()]
    for column in ("session", "run"):
        table[column] = given.integers(column, 1) if column in given else 1
    table["split"] = given.text("split") if "split" in given else ""
    table["time"] = given.numbers("time", 0.0) if "time" in given else _times(table, repetition_time)
    table = table.iloc[rows].reset_index(drop=True)
    if repetition_time is not None:
        _check_series(given, table, rows, repetition_time)
    table["repeat"] = given.integers("repeat", 1)[rows] if "repeat" in given else _repeats(table, repetition_time)
    _check_repeats(given, table, repetition_time)
    report = (
        {} if len(rows) == len(stimulus) else {"samples without a stimulus, left out": str(len(stimulus) - len(rows))}
    )
    others = given.frame.iloc[rows].reset_index(drop=True)
    further, unused = tidy_columns(others, [name for name in others if name not in KNOWN])
    if unused:
        report["columns of samples, not used"] = ", ".join(unused)
    check_columns(given.where, further)
    return Samples(table[list(SAMPLE_COLUMNS)].join(further), rows, len(given), given.where, report)


def _check_stimuli(given: Table, shown: np.ndarray, tasks: dict[str, str]) -> None:
    if not len(shown):
        raise InputError(
            f"{given.where} names no stimulus",
            given="a column 'stimulus' that is empty throughout",
            expected="the id of a stimulus in each row, empty for rest only",
            todo="fill the column in",
        )
    unknown = sorted(set(shown) - set(tasks))
    if unknown:
        some = ", ".join(list(tasks)[:5])
        raise InputError(
            f"{given.where} names stimuli that are not in the table of stimuli",
            given=f"{', '.join(unknown[:5])} ({len(unknown)} of them)",
            expected=f"ids of the {len(tasks)} stimuli, such as {some}",
            todo="mend the ids: they have to be the same text, '007' is not '7'",
        )


def _times(table: pd.DataFrame, repetition_time: float | None) -> np.ndarray:
    """Count the rows of each run, in seconds where they are a time series."""
    keys = ["session", "run"] if repetition_time is not None else ["task", "session", "run"]
    return table.groupby(keys, sort=False).cumcount().to_numpy() * (repetition_time or 1.0)


def _presentations(table: pd.DataFrame) -> np.ndarray:
    """Number the presentations: of a time series, rows of one stimulus in a row are one."""
    keys = ["task", "session", "run", "stimulus"]
    return (table[keys] != table[keys].shift()).any(axis=1).cumsum().to_numpy()


def _repeats(table: pd.DataFrame, repetition_time: float | None) -> np.ndarray:
    if repetition_time is None:
        return table.groupby(["task", "stimulus"], sort=False).cumcount().to_numpy() + 1
    presentation = pd.Series(_presentations(table))
    first = ~presentation.duplicated()
    number = table[first.to_numpy()].groupby(["task", "stimulus"], sort=False).cumcount() + 1
    return presentation.map(dict(zip(presentation[first], number, strict=True))).to_numpy()


def _check_repeats(given: Table, table: pd.DataFrame, repetition_time: float | None) -> None:
    """Presentations count from 1 without a gap; where samples are trial estimates each is there once."""
    keys = ["task", "stimulus"]
    counted = table.groupby(keys, sort=False)["repeat"].agg(["max", "nunique", "size"])
    wrong = counted["max"] != counted["nunique"]
    if repetition_time is None:
        wrong |= counted["size"] != counted["nunique"]
    if wrong.any():
        task, stimulus = wrong[wrong].index[0]
        found = sorted(table["repeat"][(table["task"] == task) & (table["stimulus"] == stimulus)])
        raise InputError(
            f"{given.where}: presentations are counted wrongly",
            given=f"repeat = {', '.join(map(str, found[:8]))} for the stimulus {stimulus!r} (task {task!r})",
            expected="1, 2, 3, ... over all sessions, each once",
            todo="leave the column 'repeat' out: presentations are then counted in the order of the rows",
        )


def _check_series(given: Table, table: pd.DataFrame, rows: np.ndarray, repetition_time: float) -> None:
    """Volumes of a run follow each other in whole repetition times; those of rest may be left out."""
    run = table.groupby(["task", "session", "run"], sort=False).ngroup().to_numpy()
    within = run[1:] == run[:-1]
    steps = np.diff(table["time"].to_numpy()) / repetition_time
    bad = within & ((np.abs(steps - np.rint(steps)) > 1e-3) | (steps < 0.5))
    interrupted = len(np.unique(run)) != 1 + int((~within).sum())
    if bad.any() or interrupted:
        place = int(np.flatnonzero(bad)[0] if bad.any() else np.flatnonzero(~within)[-1])
        before, after = table["time"].iloc[[place, place + 1]]
        raise InputError(
            f"{given.where}: the volumes of a run do not follow each other",
            given=f"{before:g} s, then {after:g} s in row {rows[place + 1] + 1}"
            if bad.any()
            else f"a run that goes on behind another one, near row {rows[place + 1] + 1}",
            expected=f"steps of {repetition_time:g} s, or of several (rest left out); its rows together and in order",
            todo="mend the column 'time' (s, from the onset of the run), or repetition_time in the recipe",
        )


def choose_splits(
    samples: Sequence[Samples],
    stimuli: np.ndarray,
    stated: np.ndarray | None,
    share: float | None,
    test: Sequence[str],
    seed: int,
) -> tuple[list[pd.DataFrame], str]:
    """Decide on train and test, for all subjects alike, and check that they have no stimulus in common.

    Parameters
    ----------
    samples : sequence of Samples
        Of all subjects.
    stimuli : array of str, shape (stimulus,)
        All ids.
    stated : array of str, shape (stimulus,), optional
        The column ``split`` of the table of stimuli.
    share : float, optional
        Share of the stimuli to hold out.
    test : sequence of str
        Stimuli to hold out.
    seed : int
        Of the draw.

    Returns
    -------
    list of DataFrame
        The sample tables.
    str
        How it was decided, for the report.
    """
    by_row = any((one.table["split"] != "").any() for one in samples)
    if share is not None and len(test):
        raise InputError(
            "two ways to split at once",
            given="test_share and test_stimuli",
            expected="one of them",
            todo="leave one out of [options]",
        )
    if len(test):
        unknown = sorted(set(test) - set(stimuli))
        if unknown:
            raise InputError(
                "test_stimuli names stimuli that do not exist",
                given=", ".join(unknown[:5]),
                expected=f"ids such as {', '.join(map(str, stimuli[:5]))}",
                todo="mend test_stimuli in [options]",
            )
        held_out: set[object] = set(test)
        how = f"{len(held_out)} stimuli of test_stimuli are held out"
    elif share is None and (by_row or stated is not None):
        return _as_stated(samples, stimuli, stated, by_row)
    else:
        shown = sorted(set().union(*(one.table["stimulus"] for one in samples)))
        if len(shown) < 2:
            raise InputError(
                "one stimulus cannot be split",
                given=f"{shown[0]!r} throughout",
                expected="at least two stimuli, one to train on and one to test on",
                todo="check the column 'stimulus' of the tables of samples",
            )
        held_out = hold_out_groups(shown, TEST_SHARE if share is None else share, seed)
        how = f"{len(held_out)} of {len(shown)} stimuli, drawn with seed {seed}, are held out"
    tables = [one.table.assign(split=hold_out_stimuli(one.table["stimulus"], held_out)) for one in samples]
    return _checked(samples, tables), how


def _as_stated(
    samples: Sequence[Samples], stimuli: np.ndarray, stated: np.ndarray | None, by_row: bool
) -> tuple[list[pd.DataFrame], str]:
    if by_row:
        return _checked(samples, [one.table for one in samples]), "as the tables of samples say"
    assert stated is not None
    split = dict(zip(stimuli, stated, strict=True))
    tables = [one.table.assign(split=[split[name] for name in one.table["stimulus"]]) for one in samples]
    return _checked(samples, tables), "as the table of stimuli says"


def _checked(samples: Sequence[Samples], tables: list[pd.DataFrame]) -> list[pd.DataFrame]:
    """Refuse rows without a split, stimuli in two splits, and tables without a training sample."""
    everything = pd.concat([table[["stimulus", "split"]] for table in tables])
    for one, table in zip(samples, tables, strict=True):
        if (table["split"] == "").any():
            row = int(one.rows[np.flatnonzero(table["split"] == "")[0]])
            raise InputError(
                f"{one.where}: a sample is in no split",
                given=f"an empty 'split' in row {row + 1} (or for its stimulus)",
                expected="'train' or 'test' in every row",
                todo="fill the column in, or leave it out",
            )
    double = everything.groupby("stimulus", sort=False)["split"].agg(lambda part: ", ".join(sorted(set(part))))
    double = double[double.str.contains(", ", regex=False)]
    if len(double):
        raise InputError(
            "stimuli are both trained on and tested on",
            given="; ".join(f"{name} ({split})" for name, split in double.iloc[:5].items())
            + f"; {len(double)} stimuli",
            expected="each stimulus in one split, the same for all subjects",
            todo="mend the column 'split', or leave it out and hold out a share of the stimuli: test_share = 0.1",
        )
    if "train" not in set(everything["split"]):
        raise InputError(
            "there is nothing to train on",
            given=f"splits {', '.join(sorted(set(everything['split'])))}",
            expected="samples whose split is 'train', and others, e.g. 'test'",
            todo="call the split that models are trained on 'train'",
        )
    return tables
