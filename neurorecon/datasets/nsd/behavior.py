"""Button presses, and what they tell of the trials."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from neurorecon.datasets.columns import tidy_columns
from neurorecon.datasets.images import damaged
from neurorecon.datasets.nsd.layout import DOWNLOAD
from neurorecon.errors import InputError

#: Columns that have to be there.
NEEDED = ("SESSION", "RUN", "73KID")

#: Columns that say what the store says in columns of its own: subject, session, run, stimulus, time.
KNOWN = ("SUBJECT", "SESSION", "RUN", "73KID", "10KID", "TIME")

#: Columns whose mean over the trials of a picture says something: the share of correct answers, and milliseconds.
MEANS = ("ISCORRECT", "RT")


def read_behavior(path: Path) -> pd.DataFrame | None:
    """Read ``responses.tsv``: one row a trial, in the order of the experiment; None where it is not there.

    Raises
    ------
    InputError
        Where it cannot be read or lacks columns.
    """
    if not path.is_file():
        return None
    try:
        table = pd.read_csv(path, sep="\t")
    except (ValueError, OSError, UnicodeDecodeError) as error:
        raise damaged(path, error, DOWNLOAD) from error
    missing = [column for column in NEEDED if column not in table]
    if missing:
        raise InputError(
            f"{path} lacks columns",
            given=f"columns {', '.join(map(str, table.columns))}",
            expected=f"among others {', '.join(missing)}",
            todo=DOWNLOAD,
        )
    return table


def of_trials(behavior: pd.DataFrame, trials: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of some trials; NaN where the file has none (sessions that were held out).

    Parameters
    ----------
    behavior : DataFrame
        From :func:`read_behavior`.
    trials : DataFrame
        Of the design, with ``session`` and the place of each trial in its session, ``place``.
    """
    numbered = behavior.assign(place=behavior.groupby("SESSION").cumcount())
    rows = trials[["session", "place"]].merge(
        numbered, how="left", left_on=["session", "place"], right_on=["SESSION", "place"]
    )
    return rows.drop(columns=["session", "place"])


def behavior_columns(behavior: pd.DataFrame, trials: pd.DataFrame) -> pd.DataFrame:
    """Return what a table of samples takes of the button presses, under the names that NSD gives it.

    Returns
    -------
    DataFrame
        A row a trial; ``ISCORRECT``, ``RT`` (ms), ``MEMORYRECENT`` and whatever else the file has, NaN where it has no
        value.
    """
    columns = [name for name in behavior if name not in KNOWN]
    found, _ = tidy_columns(of_trials(behavior, trials), columns)
    return found


def means_of_behavior(behavior: pd.DataFrame, groups: np.ndarray) -> pd.DataFrame:
    """Return :data:`MEANS` over the trials of each group that were answered; NaN where none was."""
    return behavior[[name for name in MEANS if name in behavior]].groupby(groups).mean()


def check_behavior(path: Path, behavior: pd.DataFrame, trials: pd.DataFrame) -> None:
    """Compare the pictures that were answered to with those of the design, trial by trial.

    Raises
    ------
    InputError
        Where they differ: the two files then do not belong together.
    """
    rows = of_trials(behavior, trials)
    known = rows["73KID"].notna().to_numpy()
    shown = rows["73KID"].fillna(0).to_numpy().astype(np.int64) - 1  # counted from 1 in this file
    wrong = np.flatnonzero(known & (shown != trials["nsdId"].to_numpy()))
    if len(wrong):
        trial = trials.iloc[wrong[0]]
        raise InputError(
            f"{path} and the design do not agree",
            given=f"73KID {shown[wrong[0]] + 1} in session {trial['session']}, trial {trial['place'] + 1} "
            f"({len(wrong):,} trials differ)",
            expected=f"73KID {trial['nsdId'] + 1}, by nsd_expdesign.mat",
            todo="check that both files come from NSD and belong to this subject; download them again if so",
        )
