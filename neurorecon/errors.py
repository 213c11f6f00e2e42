"""Errors that a person can act on: what was wrong, what was given, what was expected, what to do.

The command line turns every :class:`NeuroreconError` into one message and exit code 2.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any


class NeuroreconError(Exception):
    """Base of every error that neurorecon raises on purpose."""


class InputError(NeuroreconError, ValueError):
    """Something the caller gave cannot be used.

    Parameters
    ----------
    what : str
        What is wrong, in one sentence.
    given, expected : object, optional
        What was found, and what would have been right.
    todo : str, optional
        What the reader of the message should do next.
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


class UnknownNameError(InputError):
    """A name that does not exist; the message lists those that do.

    Parameters
    ----------
    kind : str
        What the name stands for, e.g. ``"ROI"``.
    name : str
        The name that was given.
    known : iterable of str
        All names that exist.
    todo : str, optional
        What to do; by default the closest known name is proposed.
    """

    def __init__(self, kind: str, name: object, known: Iterable[str], todo: str | None = None) -> None:
        names = [str(item) for item in known]
        close = get_close_matches(str(name), names, n=1)
        if todo is None:
            todo = f"did you mean {close[0]!r}?" if close else "use one of the names above"
        super().__init__(
            f"unknown {kind} {str(name)!r}",
            given=repr(str(name)),
            expected=f"one of: {', '.join(names) if names else '(none exist)'}",
            todo=todo,
        )


class MissingFileError(InputError):
    """A file or folder that has to exist does not."""


class StoreError(InputError):
    """A store that cannot be opened, read or written as asked."""


class StoreLockedError(StoreError):
    """Another process is writing to the store."""


class StoreWriteError(StoreError):
    """The place of a store gave out while it was written: a full disk, a folder that became read-only."""
