"""The catalog: data sets and pretrained weights, their files, licenses, sizes and download commands.

The entries are in ``weights.toml`` and ``datasets.toml``, in plain text for readers who want to see the files and
URLs. This module reads both tables and fills in what a user asks for: subjects, sessions, a space.
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

#: Folder of the weights that ship with neurorecon.
BUNDLED = Path(neurorecon.__file__).parent / "models" / "bundled"

#: File with the digests of the bundled weights; written by :func:`neurorecon.hub.record_bundled`.
BUNDLED_TABLE = "sha256.json"

#: Roles that share a bundled network: one small CLIP stands in for all published CLIP networks, the probe for the
#: classifiers of photographs and videos that judge reconstructions.
PLAYED_BY = {
    "clip-b32": "clip", "text-encoder": "clip", "vifi-clip": "clip",
    "alexnet": "probe", "inception": "probe", "efficientnet": "probe", "swav": "probe",
    "vit-b16": "probe", "videomae": "probe",
}  # fmt: skip

#: What a user can choose for a data set: the command-line option, and the word for it in errors.
CHOICES = {
    "subjects": ("--subject", "subject"),
    "sessions": ("--sessions", "session"),
    "task": ("--task", "task"),
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
    """A file, or a set of similar files, as listed in the table.

    Parameters
    ----------
    path : str
        Path within the folder, with forward slashes. For data sets, ``*`` and ``{a,b}`` match several files;
        ``{subject}`` and other choices are filled in by :func:`needs`.
    sha256 : str or None
        Digest of the file; None if unknown.
    size : int or None
        Size of each file in bytes; None if unknown.
    what : str
        What it contains, in a few words.
    about : tuple of int or str
        Factors whose product estimates the size in bytes where `size` is unknown: numbers and names of facts.
    number : tuple of int or str
        Factors whose product is the number of files.
    optional : bool
        Whether the reader can do without it.
    when : mapping
        Choices for which the file is needed, e.g. ``{"space": ["fsaverage"]}``.
    commands : tuple of str
        Templates of shell commands that download it.
    include : tuple of str
        Names of the files that replace ``{include}`` in a command; those with ``{session}`` once per session.
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
    """One option of a data set, e.g. its subjects or its space.

    Parameters
    ----------
    default : tuple of str
        Used if the option is not given.
    values : mapping
        The valid values, each with its facts: ``{"subj01": {"last_session": 40}}``.
    pattern : str
        Regular expression that values must match if they are not listed.
    expected, todo : str
        Parts of the error for a value that does not match.
    when : mapping
        Other choices with which this option is valid.
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
        Name in recipes and commands, e.g. ``"nsd"``, ``"clip-vit-l14"`` or ``"bundled-clip"``.
    kind : {"weights", "data set"}
    title : str
        One line.
    license : str
        License, or terms to agree to.
    citation : str
        Papers to cite, and the origin of the files.
    files : tuple of File
        The required files.
    repository, subfolder : str or None
        Repository on the Hugging Face hub, e.g. ``"CompVis/stable-diffusion-v1-4"``, and its folder with the files.
    url : str or None
        Base URL of files that are not on the hub.
    role : str or None
        What the toolkit uses the weights for, e.g. ``"clip"``; published and bundled weights share roles.
    systems : tuple of str
        The published systems that need these weights.
    parameters : int or None
        Number of parameters.
    half : bool
        Whether a parameter has two bytes rather than four.
    note : str
        Anything else a user has to know.
    choices : mapping of str to Choice
        Options of a data set; the keys are those of :data:`CHOICES`.
    excerpt : tuple of File
        A few megabytes of a data set for a first try, at `url`.
    commands, steps : tuple of str
        Templates of shell commands, and steps to do by hand.
    download : str
        How to get a data set: ``"neurorecon"`` if neurorecon downloads it, ``"public commands"``, ``"account"``,
        ``"by hand"`` or ``"none needed"``.
    home : str
        URL of the distributor.
    page : str
        Page in the documentation.
    license_id : str
        License of the responses of a data set, as the Hugging Face hub abbreviates it, e.g. ``"cc0-1.0"``; empty if it
        has no such abbreviation.
    redistribution : {"", "allowed", "responses", "restricted"}
        What of a data set its terms let everybody hand on: everything, everything but images and videos, or nothing
        without further conditions. Empty for the user's own data, whose terms the user states.
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
    half: bool = False
    note: str = ""
    choices: Mapping[str, Choice] = field(default_factory=dict)
    excerpt: tuple[File, ...] = ()
    commands: tuple[str, ...] = ()
    steps: tuple[str, ...] = ()
    download: str = ""
    home: str = ""
    page: str = ""
    license_id: str = ""
    redistribution: Literal["", "allowed", "responses", "restricted"] = ""

    @property
    def origin(self) -> str:
        """Origin of the weights: ``"bundled"`` if they ship with neurorecon, else ``"published"``."""
        return "published" if self.repository or self.url or self.home else "bundled"

    @property
    def size(self) -> int | None:
        """Total size in bytes; None if the size of any file is unknown."""
        known = [file.size for file in self.files if file.size is not None]
        return sum(known) if len(known) == len(self.files) else None

    @property
    def about(self) -> int | None:
        """Approximate disk space of the weights in bytes; None if unknown."""
        return self.size or (None if self.parameters is None else (2 if self.half else 4) * self.parameters)

    @property
    def folder(self) -> str:
        """Name of the folder of bundled weights, e.g. ``"text_diffusion"``."""
        return (self.role or self.name).replace("-", "_")


@dataclass(frozen=True)
class Need:
    """A file, or a set of similar files, that a reader needs.

    Parameters
    ----------
    path : str
        Path below the folder of the data set. ``*`` matches several files; `number` is how many.
    what : str
        What it contains, in a few words.
    size : int, optional
        Total size in bytes; None if unknown.
    about : bool
        Whether the size was estimated from array shapes rather than looked up.
    number : int
        Number of files.
    optional : bool
        Whether the reader can do without it.
    """

    path: str
    what: str
    size: int | None = None
    about: bool = False
    number: int = 1
    optional: bool = False


# -- the tables ---------------------------------------------------------------------------------------------------


def items(kind: Kind) -> list[Item]:
    """Return all weights (published ones first) or all data sets (those with a reader first)."""
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
        Search only this kind; by default both.

    Returns
    -------
    Item

    Raises
    ------
    UnknownNameError
        If the catalog has no such name.
    """
    known = {item.name: item for of in ([kind] if kind else _TABLES) for item in items(of)}
    if name not in known:
        what = {"weights": "set of weights", "data set": "data set"}.get(kind or "", "data set or set of weights")
        raise UnknownNameError(what, name, known)
    return known[name]


def roles() -> list[str]:
    """Return all roles of weights, in the order of the table."""
    return list(dict.fromkeys(item.role for item in items("weights") if item.role is not None))


def for_role(role: str, models: str) -> Item:
    """Return the bundled or the published weights of a role.

    Parameters
    ----------
    role : str
        E.g. ``"clip"``.
    models : {"bundled", "published"}

    Returns
    -------
    Item

    Raises
    ------
    UnknownNameError
        If the role or the origin is unknown.
    InputError
        If the role has no weights of this origin (the probe, for example, has only bundled ones).
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
        todo="name others: --models published, or --models FOLDER"
        if models == "bundled"
        else "use the bundled weights: --models bundled",
    )


def recorded(table: Path) -> dict[str, dict[str, File]]:
    """Return the bundled files by folder and name, read from the table of digests."""
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
            "cannot read the table of bundled weights",
            given=f"{table} ({error})",
            expected="the sha256 and size of each file, by folder",
            todo="reinstall neurorecon, or delete the table and record the folders again with "
            "neurorecon.hub.record_bundled",
        ) from error


def _with_digests(item: Item, digests: Mapping[str, Mapping[str, File]]) -> Item:
    known = digests.get(item.folder, {}) if item.origin == "bundled" else {}
    return replace(item, files=tuple(known.values())) if known else item


@cache
def read_table(kind: Kind) -> dict[str, Item]:
    """Return the items of a table by name, without the digests of bundled files."""
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
        Keys of :data:`CHOICES`: ``subjects`` (sequence of str), ``sessions`` (sequence of int), ``space``, ``betas``,
        ``file_format`` (str). Omitted or None: the default of the data set.

    Returns
    -------
    list of Need

    Raises
    ------
    InputError, UnknownNameError
        If the data set does not have what is asked for.
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
    """Return shell commands that download the files of :func:`needs`.

    Parameters
    ----------
    item : Item
    folder : str
        Destination folder.
    **choices
        As in :func:`needs`.

    Returns
    -------
    list of str
    """
    found = []
    for file, facts in _wanted(item, choices):
        path = _fill(file.path, facts)
        own = {"folder": folder, "path": path, "parent": path.rpartition("/")[0], "include": _included(file, facts)}
        found += [_fill(command, facts | own) for command in file.commands]
    options = {"subject_options": " ".join(f"--subject {name}" for name in _chosen(item, choices).get("subjects", ()))}
    return found + [_fill(command, options | {"folder": folder}) for command in item.commands]


def _fill(template: str, facts: Mapping[str, Any]) -> str:
    """Replace ``{name}`` and ``{name:format}`` in a template; keep sets such as ``{lh,rh}``."""
    return _PLACEHOLDER.sub(lambda found: format(facts[found[1]], found[2] or ""), template)


def readable(size: int | None, about: bool = False) -> str:
    """Return a number of bytes in readable form, e.g. ``"39.6 GB"``."""
    if size is None:
        return "?"
    for unit, least in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= least:
            digits = 0 if size >= 100 * least else 1
            return f"{'~' if about else ''}{size / least:,.{digits}f} {unit}"
    return f"{size} B"


def _wanted(item: Item, choices: Mapping[str, Any]) -> Iterator[tuple[File, dict[str, Any]]]:
    """Yield the requested files, each with the facts that fill its templates; files of a subject are adjacent."""
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
    """Return the given choices by name, or their defaults; sessions depend on the subject and are left out."""
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
            " with ".join([f"{item.name} does not take {', '.join(map(_option, wrong))}", *with_what]),
            given=", ".join(f"{_option(name)} {given[name]}" for name in wrong),
            expected=", ".join(_option(name) for name in item.choices if name not in wrong) or "no such options",
            todo="omit it",
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
            todo="choose existing sessions, e.g. --sessions 1-30",
        )
    whole = len(numbers) > 1 and numbers == list(range(numbers[0], numbers[-1] + 1))
    span = f"{numbers[0]}-{numbers[-1]}" if whole else ", ".join(map(str, numbers))
    return {"session": numbers, "sessions": span, "n_sessions": len(numbers)}


def _included(file: File, facts: Mapping[str, Any]) -> str:
    """Return the ``--include`` options for the files to copy."""
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
