"""The experiment: which image each trial of each subject showed, when, and which buttons were pressed.

MATLAB counts from 1, the store and the column ``nsdId`` from 0; here everything is turned to count from 0 at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from neurorecon.datasets.base import tidy_columns
from neurorecon.datasets.nsd.layout import DOWNLOAD
from neurorecon.errors import InputError, MissingFileError
from neurorecon.io.files import damaged

#: Seconds from one trial to the next: 3 s of image, 1 s of gap.
TRIAL_SECONDS = 4.0

#: What is read of the file, with the axes that it has to have.
DESIGN_ARRAYS = {"masterordering": "(1, trial)", "subjectim": "(8, image)", "sharedix": "(1, shared image)"}


@dataclass(frozen=True)
class Design:
    """What was shown when.

    Parameters
    ----------
    path : path
        The file, for messages.
    order : int array, shape (trial,)
        Index of the image among those of the subject, from 0; the same for all subjects.
    images : int array, shape (subject, image)
        ``nsdId`` of the images of each subject.
    shared : int array, shape (shared image,)
        ``nsdId`` of the images that all subjects see.
    pattern : bool array, shape (session, run, slot), or None
        Which of the slots of 4 s of a run held a trial; the others were blank.
    """

    path: Path
    order: np.ndarray
    images: np.ndarray
    shared: np.ndarray
    pattern: np.ndarray | None

    def trials_of(self, session: int) -> int | None:
        """Return the number of trials of a session (from 1), or None where the file has no pattern."""
        return None if self.pattern is None else int(self.pattern[session - 1].sum())

    def trials(self, subject: int, sessions: list[int], lengths: list[int]) -> pd.DataFrame:
        """Return the table of the trials of some sessions.

        Parameters
        ----------
        subject : int
            From 1, as in ``subj01``.
        sessions : list of int
            From 1.
        lengths : list of int
            Trials that the betas of each session hold.

        Returns
        -------
        DataFrame
            One row a trial: ``trial`` (of the whole experiment, from 0), ``session``, ``run``, ``time`` (s),
            ``nsdId``, ``shared``.

        Raises
        ------
        InputError
            Where the betas hold another number of trials than the design.
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
                todo="check that the betas and the design come from the same release; download both again if so",
            )
        return before

    def _when(self, session: int, length: int) -> tuple[np.ndarray, np.ndarray]:
        if self.pattern is None:  # one run, trials without blanks: times are then nominal
            return np.ones(length, dtype=int), np.arange(length) * TRIAL_SECONDS
        run, slot = np.nonzero(self.pattern[session - 1])
        return run + 1, slot * TRIAL_SECONDS


def read_design(path: Path) -> Design:
    """Read ``nsd_expdesign.mat``.

    Raises
    ------
    MissingFileError, InputError
        Where it is missing, damaged, or contradicts itself.
    """
    from scipy.io import loadmat

    if not path.is_file():
        raise MissingFileError(
            "the design of the experiment is missing",
            given=f"no file {path}",
            expected="nsddata/experiments/nsd/nsd_expdesign.mat below the folder of the data set",
            todo=f"check --root, or {DOWNLOAD}",
        )
    try:
        content = loadmat(path, variable_names=[*DESIGN_ARRAYS, "stimpattern"])
    except Exception as error:  # scipy raises whatever a damaged file leads it to
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
            raise _wrong(path, f"{name} {array.shape} of {array.dtype}", f"{name} {DESIGN_ARRAYS[name]}, whole numbers")
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
            "sharedix other than the first columns of subjectim",
            f"that the first {len(design.shared)} images of every subject are the shared ones",
        )
    for subject, row in enumerate(design.images, start=1):
        if row.min() < 0 or len(np.unique(row)) != number:
            raise _wrong(path, f"subjectim of subject {subject} with doubles or ids below 1", "every image once")


def _wrong(path: Path, given: str, expected: str) -> InputError:
    return InputError(f"the design {path} cannot be used", given=given, expected=expected, todo=DOWNLOAD)


#: Columns that have to be there.
BEHAVIOR_COLUMNS = ("SESSION", "RUN", "73KID")

#: Columns that say what the store says in columns of its own: subject, session, run, stimulus, time.
KNOWN = ("SUBJECT", "SESSION", "RUN", "73KID", "10KID", "TIME")

#: Columns whose mean over the trials of an image says something: the share of correct answers, and milliseconds.
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
    missing = [column for column in BEHAVIOR_COLUMNS if column not in table]
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
    """Compare the images that were answered to with those of the design, trial by trial.

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
