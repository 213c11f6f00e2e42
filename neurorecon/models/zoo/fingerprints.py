"""Digests of weights: which ones made a target, and whether the files on this machine are what they should be."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

from neurorecon.errors import InputError, MissingFileError
from neurorecon.models.zoo.places import search
from neurorecon.models.zoo.table import BUNDLED_TABLE, ZOO, WeightFile, Weights, bundled, find, recorded

#: Endings of files that hold weights.
SUFFIXES = (".safetensors", ".bin", ".pt", ".pth", ".th", ".ckpt")

#: States of a file that :func:`verify` tells apart.
STATES = ("good", "unknown", "corrupt", "absent")

_CACHE: dict[tuple[str, int, int], str] = {}


@dataclass(frozen=True)
class FileState:
    """What was found of one file.

    Parameters
    ----------
    path : str
        Its name in the zoo.
    state : str
        ``"good"`` (its sha256 is the right one), ``"unknown"`` (there, but the right sha256 is not known),
        ``"corrupt"`` or ``"absent"``.
    detail : str
        In words.
    place : path or None
        Where it lies.
    """

    path: str
    state: str
    detail: str
    place: Path | None


def digest(path: Path) -> str:
    """Return the sha256 of a file; kept for this process as long as size and time of change are the same."""
    path = path.resolve()
    status = path.stat()
    key = (str(path), status.st_size, status.st_mtime_ns)
    if key not in _CACHE:
        with path.open("rb") as file:
            _CACHE[key] = hashlib.file_digest(file, "sha256").hexdigest()
    return _CACHE[key]


def fingerprint(folder_or_file: Path, weights: Weights | None = None) -> str:
    """Return one sha256 that says which weights these are.

    Parameters
    ----------
    folder_or_file : path
        A file, or a folder as :func:`neurorecon.models.zoo.locate` returns it. One file of weights: its sha256.
        Several: the sha256 of the sorted list of names and digests.
    weights : Weights, optional
        Its files only; a hub's folder may hold other networks too.

    Raises
    ------
    MissingFileError
        Where there are no weights.
    """
    path = Path(folder_or_file)
    if path.is_file():
        return digest(path)
    names = [file.path for file in weights.files] if weights else _names(path)
    found = {name: path / name for name in names if name.endswith(SUFFIXES) and (path / name).is_file()}
    if not found:
        raise MissingFileError(
            "there are no weights here",
            given=str(path),
            expected=f"a file, or a folder with files that end in {', '.join(SUFFIXES)}",
            todo="neurorecon weights list shows what is where",
        )
    if len(found) == 1:
        return digest(next(iter(found.values())))
    listed = [[name, digest(found[name])] for name in sorted(found)]
    return hashlib.sha256(json.dumps(listed).encode()).hexdigest()


def _names(folder: Path) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]


def verify(name: str, *, folder: Path | None = None) -> list[FileState]:
    """Compare the files of a set of weights with their sha256.

    Parameters
    ----------
    name : str
        Name in the zoo.
    folder : path, optional
        The folder with the files; left out: where they are found on this machine.

    Returns
    -------
    list of FileState
        One a file, in the order of the zoo.
    """
    weights = find(name)
    place = search(name) if folder is None else folder
    return [check(file, place) for file in weights.files]


def check(file: WeightFile, place: Path | None) -> FileState:
    """Compare one file with its size and sha256."""
    path = None if place is None else place / file.path
    if path is None or not path.is_file():
        return FileState(file.path, "absent", "not on this machine", None)
    size = path.stat().st_size
    if file.size is not None and size != file.size:
        return FileState(file.path, "corrupt", f"{size} bytes, expected {file.size}", path)
    if file.sha256 is not None:
        return _compared(file, path, digest(path), file.sha256, "sha256")
    named = _name_in_cache(path)
    if named is not None:
        kind = "sha256" if len(named) == 64 else "git"
        return _compared(file, path, digest(path) if kind == "sha256" else _git_digest(path), named, kind)
    damage = _damage(path, size)
    if damage is not None:
        return FileState(file.path, "corrupt", damage, path)
    return FileState(file.path, "unknown", f"sha256 not known; present, {size} bytes", path)


def _compared(file: WeightFile, path: Path, found: str, expected: str, kind: str) -> FileState:
    if found != expected:
        return FileState(file.path, "corrupt", f"{kind} {found}, expected {expected}", path)
    return FileState(file.path, "good", f"{kind} {found}", path)


def _name_in_cache(path: Path) -> str | None:
    """Return the digest that the hub announced for a file of its cache.

    The cache names files by it: large ones by their sha256, small ones by the name that git has for them.
    """
    name = path.resolve().name
    in_cache = path.is_symlink() and path.resolve().parent.name == "blobs"
    return name if in_cache and len(name) in (40, 64) and set(name) <= set("0123456789abcdef") else None


def _git_digest(path: Path) -> str:
    content = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def _damage(path: Path, size: int) -> str | None:
    """Say what is visibly wrong with a file whose sha256 is not known."""
    if size == 0:
        return "empty"
    if path.suffix == ".json":
        try:
            json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            return f"no JSON ({error})"
    if path.suffix == ".safetensors":
        from neurorecon.models.zoo.files import safetensors_damage

        return safetensors_damage(path)
    return None


def record_bundled(folder: Path) -> Path:
    """Note size and sha256 of the bundled weights in a folder, in the table beside it.

    Parameters
    ----------
    folder : path
        E.g. ``neurorecon/models/bundled/clip``: its safetensors files and ``config.json`` are noted.

    Returns
    -------
    path
        The table, ``sha256.json`` in the folder above.
    """
    folder = Path(folder)
    files = sorted(path for path in folder.glob("*") if path.suffix == ".safetensors" or path.name == "config.json")
    if not any(path.suffix == ".safetensors" for path in files):
        raise InputError(
            "there are no weights to record",
            given=str(folder),
            expected="a folder with a file *.safetensors",
            todo="publish the trained network into it first",
        )
    table = folder.parent / BUNDLED_TABLE
    known = {
        name: {file.path: {"sha256": file.sha256, "size": file.size} for file in of.values()}
        for name, of in recorded(table).items()
    }
    known[folder.name] = {path.name: {"sha256": digest(path), "size": path.stat().st_size} for path in files}
    fresh = table.with_suffix(".json.part")
    fresh.write_text(json.dumps(known, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    os.replace(fresh, table)
    ZOO.update(bundled())
    return table
