"""The design of the experiment (which image each trial showed, and when), and the behavioral responses.

MATLAB counts from 1, the store and the column ``nsdId`` from 0. Everything is converted to count from 0 when read.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from neurorecon.datasets.base import tidy_columns
from neurorecon.datasets.nsd.layout import DOWNLOAD
from neurorecon.errors import InputError, MissingFileError
from neurorecon.io.files import broken_link, damaged
from neurorecon.io.tables import read_text_table

#: Seconds from one trial to the next: 3 s of image, 1 s of gap.
TRIAL_SECONDS = 4.0

#: Arrays that are read from the design, and their axes.
DESIGN_ARRAYS = {"masterordering": "(1, trial)", "subjectim": "(8, image)", "sharedix": "(1, shared image)"}


@dataclass(frozen=True)
class Design:
    """The design of the experiment.

    Parameters
    ----------
    path : path
        The file, for error messages.
    order : int array, shape (trial,)
        Index of the image of each trial among those of the subject, from 0; the same for all subjects.
    images : int array, shape (subject, image)
        ``nsdId`` of the images of each subject.
    shared : int array, shape (shared image,)
        ``nsdId`` of the images shown to all subjects.
    pattern : bool array, shape (session, run, slot), or None
        Which of the 4-s slots of each run contained a trial; the others were blank.
    """

    path: Path
    order: np.ndarray
    images: np.ndarray
    shared: np.ndarray
    pattern: np.ndarray | None

    def trials_of(self, session: int) -> int | None:
        """Return the number of trials of a session (from 1), or None if the file has no pattern."""
        return None if self.pattern is None else int(self.pattern[session - 1].sum())

    def trials(self, subject: int, sessions: list[int], lengths: list[int]) -> pd.DataFrame:
        """Return the table of trials of the given sessions.

        Parameters
        ----------
        subject : int
            Number of the subject, from 1.
        sessions : list of int
            Numbers of the sessions, from 1.
        lengths : list of int
            Number of trials in the betas of each session.

        Returns
        -------
        DataFrame
            One row per trial: ``trial`` (within the whole experiment, from 0), ``session``, ``run``, ``time`` (s),
            ``nsdId``, ``shared``.

        Raises
        ------
        InputError
            If the numbers of trials in the betas and in the design differ.
        """
        parts = []
        for session, length in zip(sessions, lengths, strict=True):
            first = self._first_trial(subject, session, length)
            index = self.order[first : first + length]
            run, time = self._when(session, length)
            parts.append(
                pd.DataFrame(
                    {
                        "trial": np.arange(first, first + length),
                        "session": session,
                        "run": run,
                        "time": time,
                        "nsdId": self.images[subject - 1, index],
                        "shared": index < len(self.shared),
                    }
                )
            )
        return pd.concat(parts, ignore_index=True)

    def _first_trial(self, subject: int, session: int, length: int) -> int:
        known = self.pattern is not None and session <= len(self.pattern)
        expected = self.trials_of(session) if known else None if self.pattern is not None else length
        before = int(self.pattern[: session - 1].sum()) if self.pattern is not None else (session - 1) * length
        if length != expected or before + length > len(self.order):
            raise InputError(
                f"the betas of session {session} of subject {subject} do not match the design",
                given=f"{length} trials",
                expected=f"{expected or 'no such session'} by {self.path} ({len(self.order):,} trials in all)",
                todo="check that the betas and the design are from the same release; if so, download both again",
            )
        return before

    def _when(self, session: int, length: int) -> tuple[np.ndarray, np.ndarray]:
        if self.pattern is None:  # nominal times: a single run without blank trials
            return np.ones(length, dtype=int), np.arange(length) * TRIAL_SECONDS
        run, slot = np.nonzero(self.pattern[session - 1])
        return run + 1, slot * TRIAL_SECONDS


def read_design(path: Path) -> Design:
    """Read ``nsd_expdesign.mat``.

    Raises
    ------
    MissingFileError, InputError
        If the file is missing, damaged or inconsistent.
    """
    from scipy.io import loadmat

    broken_link(path, "the design of the experiment")
    if not path.is_file():
        raise MissingFileError(
            "the design of the experiment is missing",
            given=f"no file {path}",
            expected="nsddata/experiments/nsd/nsd_expdesign.mat in the folder of the data set",
            todo=f"check --root, or {DOWNLOAD}",
        )
    try:
        content = loadmat(path, variable_names=[*DESIGN_ARRAYS, "stimpattern"])
    except Exception as error:  # scipy raises many types of exceptions for damaged files
        raise damaged(path, error, DOWNLOAD) from error
    missing = [name for name in DESIGN_ARRAYS if name not in content]
    if missing:
        raise InputError(
            f"{path} lacks {', '.join(missing)}",
            given=f"a MATLAB file with {', '.join(name for name in content if name[0] != '_') or 'nothing'}",
            expected="; ".join(f"{name} {shape}" for name, shape in DESIGN_ARRAYS.items()),
            todo=DOWNLOAD,
        )
    order, images, shared = (content[name] for name in DESIGN_ARRAYS)
    for name, array in zip(DESIGN_ARRAYS, (order, images, shared), strict=True):
        if array.dtype.kind not in "uif" or array.ndim != 2 or array.size == 0 or (array != np.round(array)).any():
            raise _wrong(path, f"{name} {array.shape} of {array.dtype}", f"{name} {DESIGN_ARRAYS[name]}, integers")
    pattern = content.get("stimpattern")
    if pattern is not None and pattern.ndim != 3:
        raise _wrong(path, f"stimpattern {pattern.shape}", "stimpattern (session, run, slot)")
    design = Design(
        path,
        order.ravel().astype(np.int64) - 1,
        images.astype(np.int64) - 1,
        shared.ravel().astype(np.int64) - 1,
        None if pattern is None else pattern.astype(bool),
    )
    _check(design)
    return design


def _check(design: Design) -> None:
    path, number = design.path, design.images.shape[1]
    if design.order.min() < 0 or design.order.max() >= number:
        raise _wrong(
            path,
            f"masterordering from {design.order.min() + 1} to {design.order.max() + 1}",
            f"numbers from 1 to {number}, the columns of subjectim",
        )
    first = design.images[:, : len(design.shared)]
    if (np.sort(first, axis=1) != np.sort(design.shared)).any():
        raise _wrong(
            path,
            "sharedix that differs from the first columns of subjectim",
            f"the shared images as the first {len(design.shared)} images of every subject",
        )
    for subject, row in enumerate(design.images, start=1):
        if row.min() < 0 or len(np.unique(row)) != number:
            raise _wrong(path, f"subjectim of subject {subject} with duplicates or ids below 1", "every image once")


def _wrong(path: Path, given: str, expected: str) -> InputError:
    return InputError(f"the design {path} cannot be used", given=given, expected=expected, todo=DOWNLOAD)


#: Required columns.
BEHAVIOR_COLUMNS = ("SESSION", "RUN", "73KID")

#: Columns whose information the store already has: subject, session, run, stimulus and time.
KNOWN = ("SUBJECT", "SESSION", "RUN", "73KID", "10KID", "TIME")

#: Columns that can be averaged across the trials of an image: correctness, and reaction time (ms).
MEANS = ("ISCORRECT", "RT")


def read_behavior(path: Path) -> pd.DataFrame | None:
    """Read ``responses.tsv``, with one row per trial in the order of the experiment; return None if it does not exist.

    Raises
    ------
    InputError
        If the file cannot be read or lacks columns.
    """
    broken_link(path, "the behavioral responses")
    if not path.is_file():
        return None
    table = read_text_table(path)
    table.require(BEHAVIOR_COLUMNS)
    found = {name: _numbers(table.text(name)) for name in table.frame}
    for name in MEANS:
        if name in found and not pd.api.types.is_numeric_dtype(found[name].dtype):
            text = next(value for value in found[name] if pd.isna(pd.to_numeric(value, errors="coerce")))
            raise InputError(
                f"{path}: the column {name!r} cannot be used",
                given=repr(text),
                expected="numbers, or NaN where nothing was pressed",
                todo=DOWNLOAD,
            )
    return pd.DataFrame(found | {name: table.integers(name, 1) for name in BEHAVIOR_COLUMNS})


def _numbers(text: np.ndarray) -> pd.Series:
    """Return a column as numbers, NaN where nothing was pressed; as text if it holds other text."""
    column = pd.Series(text, dtype=object)
    missing = column.isin(("", "NaN"))
    numbers = pd.to_numeric(column.where(~missing), errors="coerce")
    return column if (numbers.isna() & ~missing).any() else numbers


def of_trials(behavior: pd.DataFrame, trials: pd.DataFrame) -> pd.DataFrame:
    """Return the behavior in the given trials; NaN if the file does not contain them (held-out sessions).

    Parameters
    ----------
    behavior : DataFrame
        From :func:`read_behavior`.
    trials : DataFrame
        From :meth:`Design.trials`, with the index of each trial within its session, ``place``.

    Returns
    -------
    DataFrame
        One row per trial.
    """
    numbered = behavior.assign(place=behavior.groupby("SESSION").cumcount())
    rows = trials[["session", "place"]].merge(
        numbered, how="left", left_on=["session", "place"], right_on=["SESSION", "place"]
    )
    return rows.drop(columns=["session", "place"])


def behavior_columns(behavior: pd.DataFrame, trials: pd.DataFrame) -> pd.DataFrame:
    """Return the behavioral columns of the table of samples, under NSD's names.

    Parameters
    ----------
    behavior, trials : DataFrame
        As for :func:`of_trials`.

    Returns
    -------
    DataFrame
        One row per trial, with ``ISCORRECT``, ``RT`` (ms), ``MEMORYRECENT`` etc.; missing values are NaN.
    """
    columns = [name for name in behavior if name not in KNOWN]
    found, _ = tidy_columns(of_trials(behavior, trials), columns)
    return found


def means_of_behavior(behavior: pd.DataFrame, groups: np.ndarray) -> pd.DataFrame:
    """Average :data:`MEANS` across the trials with a response in each group; NaN if there are none."""
    return behavior[[name for name in MEANS if name in behavior]].groupby(groups).mean()


def check_behavior(path: Path, behavior: pd.DataFrame, trials: pd.DataFrame) -> None:
    """Check that the behavioral responses and the design list the same images, trial by trial.

    Raises
    ------
    InputError
        If they differ.
    """
    rows = of_trials(behavior, trials)
    known = rows["73KID"].notna().to_numpy()
    shown = rows["73KID"].fillna(0).to_numpy().astype(np.int64) - 1  # this file counts from 1
    wrong = np.flatnonzero(known & (shown != trials["nsdId"].to_numpy()))
    if len(wrong):
        trial = trials.iloc[wrong[0]]
        raise InputError(
            f"{path} and the design contradict each other",
            given=f"73KID {shown[wrong[0]] + 1} in session {trial['session']}, trial {trial['place'] + 1} "
            f"({len(wrong):,} trials differ)",
            expected=f"73KID {trial['nsdId'] + 1}, according to nsd_expdesign.mat",
            todo="check that both files are from NSD and belong to this subject; if so, download them again",
        )
