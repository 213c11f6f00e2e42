"""What each data set needs on disk: files, sizes, terms, whom to cite, and the public commands that fetch them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from neurorecon.errors import InputError, UnknownNameError


@dataclass(frozen=True)
class Need:
    """A file, or a folder of files of one kind, that a reader needs.

    Parameters
    ----------
    path : str
        Below the folder of the data set. ``*`` stands for several files, and ``number`` says how many.
    what : str
        What it holds, in a few words.
    size : int, optional
        Bytes of all its files; None where nobody here knows.
    about : bool
        Whether the size was computed from the shape of the arrays rather than looked up.
    number : int
        How many files.
    optional : bool
        Whether the reader does without.
    """

    path: str
    what: str
    size: int | None = None
    about: bool = False
    number: int = 1
    optional: bool = False


@dataclass(frozen=True)
class Request:
    """What of a data set is wanted; what is left out is the default of its entry.

    Parameters
    ----------
    folder : str
        Where the files shall go, for the commands.
    subjects : sequence of str, optional
    sessions : sequence of int, optional
    space, betas, file_format : str, optional
    """

    folder: str = "DIR"
    subjects: Sequence[str] | None = None
    sessions: Sequence[int] | None = None
    space: str | None = None
    betas: str | None = None
    file_format: str | None = None

    def given(self) -> list[str]:
        """Return the names of what was asked for."""
        return [name for name in CHOICES if getattr(self, name) is not None]


#: What can be asked for, as fields of :class:`Request`.
CHOICES = ("subjects", "sessions", "space", "betas", "file_format")


@dataclass(frozen=True)
class Plan:
    """The files of a request, and how to get them.

    Parameters
    ----------
    needs : list of Need
    commands : list of str
        For a shell; empty where there are none.
    steps : list of str
        What to do by hand, in order.
    """

    needs: list[Need]
    commands: list[str] = field(default_factory=list)
    steps: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Entry:
    """A data set.

    Parameters
    ----------
    name : str
        As readers, recipes and commands call it.
    title : str
        One line.
    terms : str
        License, or what has to be agreed to.
    citation : str
        Papers to cite.
    home : str
        Address of its distributor; empty for none.
    download : str
        ``"neurorecon"`` where a command here fetches it, ``"public commands"``, ``"account"``, ``"by hand"`` or
        ``"none needed"``.
    plan : callable
        From a :class:`Request` to a :class:`Plan`.
    choices : tuple of str
        What can be asked for, of :data:`CHOICES`.
    page : str
        Its page in the documentation.
    """

    name: str
    title: str
    terms: str
    citation: str
    home: str
    download: str
    plan: Callable[[Request], Plan]
    choices: tuple[str, ...] = ()
    page: str = ""

    def request(self, wanted: Request) -> Plan:
        """Return the files and commands of a request.

        Raises
        ------
        InputError, UnknownNameError
            Where something is asked for that this data set does not have.
        """
        wrong = [name for name in wanted.given() if name not in self.choices]
        if wrong:
            raise InputError(
                f"{self.name} offers no choice of {', '.join(_option(name) for name in wrong)}",
                given=", ".join(f"{_option(name)} {getattr(wanted, name)}" for name in wrong),
                expected=", ".join(_option(name) for name in self.choices) or "no such options",
                todo="leave it out",
            )
        return self.plan(wanted)


def catalog() -> dict[str, Entry]:
    """Return all data sets by name, those with a reader first."""
    from neurorecon.datasets.catalog_films import FILMS
    from neurorecon.datasets.catalog_nsd import NSD
    from neurorecon.datasets.catalog_small import SMALL

    return {entry.name: entry for entry in (*SMALL, NSD, *FILMS)}


def find(name: str) -> Entry:
    """Return the entry of a data set.

    Raises
    ------
    UnknownNameError
        Where there is none of that name.
    """
    entries = catalog()
    if name not in entries:
        raise UnknownNameError("data set", name, entries)
    return entries[name]


def choose(kind: str, wanted: Sequence[str] | str | None, known: Sequence[str], default: Sequence[str]) -> list[str]:
    """Return what was asked for, or the default; what is not known shows."""
    if wanted is None:
        return list(default)
    names = [wanted] if isinstance(wanted, str) else list(dict.fromkeys(wanted))
    for name in names:
        if name not in known:
            raise UnknownNameError(kind, name, known)
    return names


def _option(name: str) -> str:
    return {"subjects": "--subject", "sessions": "--sessions", "file_format": "--format"}.get(name, f"--{name}")


def readable(size: int | None, about: bool = False) -> str:
    """Return a number of bytes as people say it, e.g. ``"39.6 GB"``."""
    if size is None:
        return "?"
    for unit, least in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= least:
            digits = 0 if size >= 100 * least else 1
            return f"{'~' if about else ''}{size / least:,.{digits}f} {unit}"
    return f"{size} B"
