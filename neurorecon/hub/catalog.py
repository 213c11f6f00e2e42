"""What can be fetched: data sets and pretrained weights, their files, terms, sizes, and the commands that fetch them.

The entries stand in ``weights.toml`` and ``datasets.toml``, in plain text for readers who want to know which files and
addresses there are. This module reads them, and fills in what a user asks for: subjects, sessions, a space.
"""

from __future__ import annotations

import json
import math
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

import neurorecon
from neurorecon.errors import InputError, UnknownNameError

Kind = Literal["weights", "data set"]

#: Folder of the weights that come with neurorecon.
BUNDLED = Path(neurorecon.__file__).parent / "models" / "bundled"

#: Digests of the bundled files, beside their folders; written by :func:`neurorecon.hub.record_bundled`.
BUNDLED_TABLE = "sha256.json"

#: Roles that another role's bundled network plays too: one small CLIP stands for all published CLIP networks.
PLAYED_BY = {"clip-b32": "clip", "text-encoder": "clip"}

#: What can be asked of a data set: the option of the command line, and what errors call it.
CHOICES = {
    "subjects": ("--subject", "subject"),
    "sessions": ("--sessions", "session"),
    "space": ("--space", "space"),
    "betas": ("--betas", "version of the betas"),
    "file_format": ("--format", "file format"),
}

_TABLES: dict[Kind, str] = {"weights": "weights.toml", "data set": "datasets.toml"}

#: ``{name}`` or ``{name:format}``; sets such as ``{lh,rh}`` are left alone.
_PLACEHOLDER = re.compile(r"\{(\w+)(?::([^{}]+))?\}")

_Factors = tuple[int | str, ...]


@dataclass(frozen=True)
class File:
    """A file, or several of one kind, as the table has it.

    Parameters
    ----------
    path : str
        Its name within the folder, with forward slashes. Of data sets: ``*`` and ``{a,b}`` stand for several files;
        ``{subject}`` and other choices are filled in by :func:`needs`.
    sha256 : str or None
        Digest of its bytes, None where it is not known.
    size : int or None
        Bytes of each file, None where they are not known.
    what : str
        What it holds, in a few words.
    about : tuple of int or str
        Factors of the bytes of each file where nobody looked them up: numbers and names of facts.
    number : tuple of int or str
        Factors of how many files there are.
    optional : bool
        Whether the reader does without.
    when : mapping
        With which choices it is needed, e.g. ``{"space": ["fsaverage"]}``.
    commands : tuple of str
        For a shell, to be filled in.
    include : tuple of str
        Names of the files that ``{include}`` of a command stands for; those with ``{session}`` once for each session.
    """

    path: str
    sha256: str | None = None
    size: int | None = None
    what: str = ""
    about: _Factors = ()
    number: _Factors = (1,)
    optional: bool = False
    when: Mapping[str, Sequence[str]] = field(default_factory=dict)
    commands: tuple[str, ...] = ()
    include: tuple[str, ...] = ()


@dataclass(frozen=True)
class Choice:
    """What can be asked of a data set in one respect.

    Parameters
    ----------
    default : tuple of str
        Taken where nothing is asked for.
    values : mapping
        All that there is, with facts on each: ``{"subj01": {"last_session": 40}}``.
    pattern : str
        Regular expression of values that are not listed.
    expected, todo : str
        In the error on a value that does not match.
    when : mapping
        With which other choices it goes.
    """

    default: tuple[str, ...] = ()
    values: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    pattern: str = ""
    expected: str = ""
    todo: str = ""
    when: Mapping[str, Sequence[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Item:
    """A set of pretrained weights or a data set.

    Parameters
    ----------
    name : str
        As recipes and commands call it, e.g. ``"nsd"``, ``"clip-vit-l14"`` or ``"bundled-clip"``.
    kind : {"weights", "data set"}
    title : str
        One line.
    license : str
        License, or what has to be agreed to.
    citation : str
        Papers to cite, and where the files come from.
    files : tuple of File
        All that has to be there.
    repository, subfolder : str or None
        Repository on the Hugging Face hub, e.g. ``"CompVis/stable-diffusion-v1-4"``, and its folder with the files.
    url : str or None
        Folder on the web, for files that are on no hub.
    role : str or None
        What the toolkit uses weights as, e.g. ``"clip"``; a published and a bundled set share a role.
    systems : tuple of str
        The published systems that need these weights.
    parameters : int or None
        Number of parameters, four bytes each.
    note : str
        What else a user has to know.
    choices : mapping of str to Choice
        What can be asked of a data set, of :data:`CHOICES`.
    excerpt : tuple of File
        A few megabytes of a data set for a first try, at `url`.
    commands, steps : tuple of str
        Commands for a shell, to be filled in, and what to do by hand.
    download : str
        How to get a data set: ``"neurorecon"`` where a command here fetches it, ``"public commands"``, ``"account"``,
        ``"by hand"`` or ``"none needed"``.
    home : str
        Address of the distributor.
    page : str
        Page in the documentation.
    """

    name: str
    kind: Kind
    title: str
    license: str
    citation: str
    files: tuple[File, ...] = ()
    repository: str | None = None
    subfolder: str | None = None
    url: str | None = None
    role: str | None = None
    systems: tuple[str, ...] = ()
    parameters: int | None = None
    note: str = ""
    choices: Mapping[str, Choice] = field(default_factory=dict)
    excerpt: tuple[File, ...] = ()
    commands: tuple[str, ...] = ()
    steps: tuple[str, ...] = ()
    download: str = ""
    home: str = ""
    page: str = ""

    @property
    def origin(self) -> str:
        """Whose weights these are: ``"published"``, or ``"bundled"`` where they come with neurorecon."""
        return "bundled" if self.repository is None and self.url is None else "published"

    @property
    def size(self) -> int | None:
        """Bytes of all files; None where that of any is not known."""
        known = [file.size for file in self.files if file.size is not None]
        return sum(known) if len(known) == len(self.files) else None

    @property
    def about(self) -> int | None:
        """About how many bytes of disk weights take; None where nobody knows."""
        return self.size or (None if self.parameters is None else 4 * self.parameters)

    @property
    def folder(self) -> str:
        """Name of the folder of bundled weights, e.g. ``"text_diffusion"``."""
        return (self.role or self.name).replace("-", "_")


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


# -- the tables ---------------------------------------------------------------------------------------------------


def items(kind: Kind) -> list[Item]:
    """Return all weights, published ones first, or all data sets, those with a reader first."""
    if kind == "weights":
        digests = recorded(BUNDLED / BUNDLED_TABLE)
        return [_with_digests(item, digests) for item in read_table(kind).values()]
    return list(read_table(kind).values())


def find(name: str, kind: Kind | None = None) -> Item:
    """Return a set of weights or a data set by its name.

    Parameters
    ----------
    name : str
        E.g. ``"nsd"`` or ``"clip-vit-l14"``.
    kind : {"weights", "data set"}, optional
        Look among these only.

    Raises
    ------
    UnknownNameError
        Where there is none of that name.
    """
    known = {item.name: item for of in ([kind] if kind else _TABLES) for item in items(of)}
    if name not in known:
        what = {"weights": "set of weights", "data set": "data set"}.get(kind or "", "data set or set of weights")
        raise UnknownNameError(what, name, known)
    return known[name]


def roles() -> list[str]:
    """Return all roles that weights play, in the order of the table."""
    return list(dict.fromkeys(item.role for item in items("weights") if item.role is not None))


def for_role(role: str, models: str) -> Item:
    """Return the weights that play a role.

    Parameters
    ----------
    role : str
        E.g. ``"clip"``.
    models : {"bundled", "published"}

    Raises
    ------
    UnknownNameError
        Where there is no such role or no such origin.
    InputError
        Where the role has no weights of this origin (the probe was never published).
    """
    if role not in roles():
        raise UnknownNameError("role of a network", role, roles())
    if models not in ("bundled", "published"):
        raise UnknownNameError("origin of weights", models, ("bundled", "published"))
    wanted = PLAYED_BY.get(role, role) if models == "bundled" else role
    of_origin = {item.role: item for item in reversed(items("weights")) if item.origin == models}
    if wanted in of_origin:
        return of_origin[wanted]
    raise InputError(
        f"there are no {models} weights for this role",
        given=role,
        expected=", ".join(sorted(filter(None, of_origin))),
        todo="use the bundled ones: --models bundled",
    )


def recorded(table: Path) -> dict[str, dict[str, File]]:
    """Return the bundled files by folder and name, as the table of digests has them."""
    if not table.is_file():
        return {}
    try:
        folders = json.loads(table.read_text(encoding="utf-8"))
        return {
            folder: {name: File(name, facts["sha256"], facts["size"]) for name, facts in files.items()}
            for folder, files in folders.items()
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            "the table of the bundled weights cannot be read",
            given=f"{table} ({error})",
            expected="sha256 and size of each file, by folder",
            todo="reinstall neurorecon, or delete it and record the folders again (neurorecon.hub.record_bundled)",
        ) from error


def _with_digests(item: Item, digests: Mapping[str, Mapping[str, File]]) -> Item:
    known = digests.get(item.folder, {}) if item.origin == "bundled" else {}
    return replace(item, files=tuple(known.values())) if known else item


@cache
def read_table(kind: Kind) -> dict[str, Item]:
    """Return the items of a table by name, as they stand there."""
    text = Path(__file__).with_name(_TABLES[kind]).read_text(encoding="utf-8")
    return {name: _item(name, kind, facts) for name, facts in tomllib.loads(text).items()}


def _item(name: str, kind: Kind, facts: dict[str, Any]) -> Item:
    shell = facts.pop("shell", {})
    for key in ("files", "excerpt"):
        facts[key] = tuple(_file(entry, shell) for entry in facts.get(key, ()))
    facts["choices"] = {key: _choice(entry) for key, entry in facts.get("choices", {}).items()}
    as_item: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in facts.items()}
    return Item(name, kind, **as_item)


def _file(entry: str | dict[str, Any], shell: Mapping[str, str]) -> File:
    if isinstance(entry, str):
        return File(entry)
    facts = dict(entry)
    for key in ("about", "number", "include", "commands"):
        if key in facts:
            facts[key] = tuple(facts[key]) if isinstance(facts[key], list) else (facts[key],)
    facts["commands"] = tuple(shell.get(command, command) for command in facts.get("commands", ()))
    return File(**facts)


def _choice(entry: dict[str, Any]) -> Choice:
    values = entry.get("values", {})
    values = values if isinstance(values, dict) else {value: {} for value in values}
    return Choice(**(entry | {"values": values, "default": tuple(entry.get("default", ()))}))


# -- what a request needs -----------------------------------------------------------------------------------------


def needs(item: Item, **choices: Any) -> list[Need]:
    """Return the files of a data set that a reader needs.

    Parameters
    ----------
    item : Item
    **choices
        Of :data:`CHOICES`: ``subjects`` (sequence of str), ``sessions`` (sequence of int), ``space``, ``betas``,
        ``file_format`` (str). What is left out or None is the default of the data set.

    Returns
    -------
    list of Need

    Raises
    ------
    InputError, UnknownNameError
        Where something is asked for that this data set does not have.
    """
    found = []
    for file, facts in _wanted(item, choices):
        number = _product(file.number, facts)
        one = _product(file.about, facts) if file.about else file.size
        found.append(
            Need(
                _fill(file.path, facts),
                _fill(file.what, facts),
                size=None if one is None else number * one,
                about=bool(file.about),
                number=number,
                optional=file.optional,
            )
        )
    return found


def commands(item: Item, folder: str = "DIR", **choices: Any) -> list[str]:
    """Return the commands that fetch the files of :func:`needs`, for a shell.

    Parameters
    ----------
    item : Item
    folder : str
        Where the files shall go.
    **choices
        As in :func:`needs`.
    """
    found = []
    for file, facts in _wanted(item, choices):
        path = _fill(file.path, facts)
        own = {"folder": folder, "path": path, "parent": path.rpartition("/")[0], "include": _included(file, facts)}
        found += [_fill(command, facts | own) for command in file.commands]
    options = {"subject_options": " ".join(f"--subject {name}" for name in _chosen(item, choices).get("subjects", ()))}
    return found + [_fill(command, options | {"folder": folder}) for command in item.commands]


def _fill(template: str, facts: Mapping[str, Any]) -> str:
    """Put facts into a text in place of ``{name}`` and ``{name:format}``; sets such as ``{lh,rh}`` stay."""
    return _PLACEHOLDER.sub(lambda found: format(facts[found[1]], found[2] or ""), template)


def readable(size: int | None, about: bool = False) -> str:
    """Return a number of bytes as people say it, e.g. ``"39.6 GB"``."""
    if size is None:
        return "?"
    for unit, least in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= least:
            digits = 0 if size >= 100 * least else 1
            return f"{'~' if about else ''}{size / least:,.{digits}f} {unit}"
    return f"{size} B"


def _wanted(item: Item, choices: Mapping[str, Any]) -> Iterator[tuple[File, dict[str, Any]]]:
    """Yield the files of a request, each with the facts to fill in; files of a subject stand together."""
    chosen = _chosen(item, choices)
    shared: dict[str, Any] = {}
    for name, choice in item.choices.items():
        if name not in ("subjects", "sessions"):
            value = chosen[name][0]
            shared |= {name: value, **choice.values.get(value, {})}
    files = [file for file in item.files if _applies(file.when, chosen)]
    by_subject = [file for file in files if "{subject" in file.path]
    for file in files:
        if file not in by_subject:
            yield file, shared
        elif file is by_subject[0]:
            for subject in chosen["subjects"]:
                facts = shared | {"subject": subject, **item.choices["subjects"].values.get(subject, {})}
                if "sessions" in item.choices:
                    facts |= _sessions(subject, facts["last_session"], choices.get("sessions"))
                yield from ((of_subject, facts) for of_subject in by_subject)


def _chosen(item: Item, choices: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return what was asked for by name, or the default; sessions follow from the subject."""
    given = {name: value for name, value in choices.items() if value is not None}
    chosen = {
        name: list(choice.default) if name not in given else _checked(item, name, given[name])
        for name, choice in item.choices.items()
        if name != "sessions"
    }
    wrong = [name for name in given if name not in item.choices or not _applies(item.choices[name].when, chosen)]
    if wrong:
        with_what = [f"--space {name}" for name in chosen.get("space", ()) if wrong[0] in item.choices]
        raise InputError(
            " with ".join([f"{item.name} offers no choice of {', '.join(map(_option, wrong))}", *with_what]),
            given=", ".join(f"{_option(name)} {given[name]}" for name in wrong),
            expected=", ".join(_option(name) for name in item.choices if name not in wrong) or "no such options",
            todo="leave it out",
        )
    return chosen


def _checked(item: Item, name: str, given: Sequence[str] | str) -> list[str]:
    choice, (_, kind) = item.choices[name], CHOICES[name]
    values = [given] if isinstance(given, str) else list(dict.fromkeys(given))
    for value in values:
        if choice.pattern and not re.fullmatch(choice.pattern, value):
            raise InputError(f"{item.name} has no such {kind}", given=value, expected=choice.expected, todo=choice.todo)
        if not choice.pattern and value not in choice.values:
            raise UnknownNameError(kind, value, choice.values)
    return values


def _sessions(subject: str, last: int, given: Sequence[int] | None) -> dict[str, Any]:
    numbers = list(range(1, last + 1)) if given is None else sorted(set(given))
    wrong = [number for number in numbers if not 1 <= number <= last]
    if wrong or not numbers:
        raise InputError(
            f"{subject} has no such sessions",
            given=", ".join(map(str, wrong)) or "none",
            expected=f"sessions from 1 to {last}",
            todo="ask for sessions that exist, e.g. --sessions 1-30",
        )
    whole = len(numbers) > 1 and numbers == list(range(numbers[0], numbers[-1] + 1))
    span = f"{numbers[0]}-{numbers[-1]}" if whole else ", ".join(map(str, numbers))
    return {"session": numbers, "sessions": span, "n_sessions": len(numbers)}


def _included(file: File, facts: Mapping[str, Any]) -> str:
    """Return the options that name the files to copy."""
    once = [name for name in file.include if "{session" not in name]
    each = [name for name in file.include if "{session" in name]
    names = [_fill(name, facts) for name in once]
    names += [_fill(name, {**facts, "session": number}) for number in facts.get("session", ()) for name in each]
    return " ".join(f'--include "{name}"' for name in names)


def _applies(when: Mapping[str, Sequence[str]], chosen: Mapping[str, Sequence[str]]) -> bool:
    return all(set(chosen[name]) <= set(values) for name, values in when.items())


def _product(factors: _Factors, facts: Mapping[str, Any]) -> int:
    return math.prod(facts[factor] if isinstance(factor, str) else factor for factor in factors)


def _option(name: str) -> str:
    return CHOICES[name][0] if name in CHOICES else name
