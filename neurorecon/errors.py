"""Exceptions with messages that say what went wrong, what was given, what was expected, and what to do about it.

The command line prints the message of any :class:`NeuroreconError`, without a traceback, and exits with code 2.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any


class NeuroreconError(Exception):
    """Base class of all exceptions that neurorecon raises on purpose."""


class InputError(NeuroreconError, ValueError):
    """An argument, option or file cannot be used.

    Parameters
    ----------
    what : str
        What is wrong, in one sentence.
    given, expected : object, optional
        What was given or found, and what was expected instead.
    todo : str, optional
        What the user should do next, in the imperative.

    Examples
    --------
    >>> from neurorecon.errors import InputError
    >>> print(InputError("the ROI is empty", given="V9", expected="a voxel or more", todo="see store.rois(subject)"))
    the ROI is empty
      given:    V9
      expected: a voxel or more
      to do:    see store.rois(subject)
    """

    def __init__(self, what: str, *, given: Any = None, expected: Any = None, todo: str | None = None) -> None:
        lines = [what]
        if given is not None:
            lines.append(f"  given:    {given}")
        if expected is not None:
            lines.append(f"  expected: {expected}")
        if todo is not None:
            lines.append(f"  to do:    {todo}")
        super().__init__("\n".join(lines))


#: Names of a list that a message shows.
SHOWN = 40


def listed(names: Iterable[object], shown: int = SHOWN, separator: str = ", ") -> str:
    """Return names as a list for a message: the first ones, and how many more there are.

    Parameters
    ----------
    names : iterable of object
        Names, e.g. of ROIs.
    shown : int
        Number of names to show.
    separator : str
        Between names.
    """
    found = [str(name) for name in names]
    more = [f"... ({len(found) - shown:,} more)"] if len(found) > shown else []
    return separator.join([*found[:shown], *more])


class UnknownNameError(InputError):
    """A name does not exist; the message lists the names that do.

    Parameters
    ----------
    kind : str
        What the name refers to, e.g. ``"ROI"``.
    name : str
        The name that was given.
    known : iterable of str
        The names that exist.
    todo : str, optional
        What to do. By default, the message suggests the closest known name.

    Examples
    --------
    >>> from neurorecon.errors import UnknownNameError
    >>> print(UnknownNameError("ROI", "FA", ["FFA", "PPA"]))
    unknown ROI 'FA'
      given:    'FA'
      expected: one of: FFA, PPA
      to do:    did you mean 'FFA'?
    """

    def __init__(self, kind: str, name: object, known: Iterable[str], todo: str | None = None) -> None:
        names = [str(item) for item in known]
        close = get_close_matches(str(name), names, n=1)
        if todo is None:
            todo = f"did you mean {close[0]!r}?" if close else "use one of the names above"
        super().__init__(
            f"unknown {kind} {str(name)!r}",
            given=repr(str(name)),
            expected=f"one of: {listed(names) if names else '(none exist)'}",
            todo=todo,
        )


class MissingFileError(InputError):
    """A required file or folder does not exist."""


class StoreError(InputError):
    """A store cannot be opened, read or written."""


class StoreLockedError(StoreError):
    """Another process is writing to the store."""


class StoreWriteError(StoreError):
    """Writing to a store failed, e.g. because the disk is full or the folder is read-only."""


class NeuroreconWarning(UserWarning):
    """Base class of warnings about results. The command line prints the message of each once."""


class FormerNameWarning(NeuroreconWarning, FutureWarning):
    """A name is used that a later version will not know."""


class BundledWeightsWarning(NeuroreconWarning):
    """Networks that know only drawn scenes are used on measured data."""


class FewStimuliWarning(NeuroreconWarning):
    """A score of a set of stimuli is biased, because there are too few of them."""


class AlphaEdgeWarning(NeuroreconWarning):
    """Many alphas were chosen at the end of their grid, so better ones may lie beyond it."""
