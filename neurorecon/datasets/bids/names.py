"""Names of BIDS files, and the files that belong to a run by the inheritance principle."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neurorecon.errors import InputError


@dataclass(frozen=True)
class BidsFile:
    """A file and what its name says.

    Parameters
    ----------
    path : path
    entities : mapping of str to str
        E.g. ``{"sub": "01", "task": "shapes"}``.
    suffix, extension : str
        E.g. ``"bold"``, ``"nii.gz"``.
    """

    path: Path
    entities: Mapping[str, str]
    suffix: str
    extension: str

    def without(self, *keys: str) -> dict[str, str]:
        """Return the entities but for some."""
        return {key: value for key, value in self.entities.items() if key not in keys}


def parse(path: Path) -> BidsFile | None:
    """Read a file name; None where it is not one of BIDS."""
    stem, _, extension = path.name.partition(".")
    *parts, suffix = stem.split("_")
    entities = {}
    for part in parts:
        match = re.fullmatch(r"([A-Za-z]+)-([A-Za-z0-9+]+)", part)
        if match is None:
            return None
        entities[match[1]] = match[2]
    return BidsFile(path, entities, suffix, extension)


def natural(label: str) -> tuple[int, int, str]:
    """Sort labels as a person does: numbers by value, before words."""
    return (0, int(label), label) if label.isdigit() else (1, 0, label)


def numbered(labels: Iterable[str]) -> dict[str, int]:
    """Return a number from 1 for each label: its own where all are numbers, else its place."""
    ordered = sorted(set(labels), key=natural)
    own = [int(label) if label.isdigit() else 0 for label in ordered]
    if all(number >= 1 for number in own) and len(set(own)) == len(own):
        return dict(zip(ordered, own, strict=True))
    return {label: place for place, label in enumerate(ordered, start=1)}


class Folders:
    """The folders that files of a run may lie in; each is listed once.

    Parameters
    ----------
    roots : sequence of path
        Data sets: derivatives and raw.
    """

    def __init__(self, roots: Sequence[Path]) -> None:
        self.roots = list(dict.fromkeys(roots))
        self._listed: dict[Path, list[BidsFile]] = {}

    def belonging(self, run: BidsFile, suffixes: Sequence[str], extension: str, **wanted: str) -> list[BidsFile]:
        """Return the files whose entities are all those of the run, the most specific last.

        Parameters
        ----------
        run : BidsFile
        suffixes : sequence of str
            E.g. ``["events"]``.
        extension : str
        **wanted : str
            Entities that the file has to have and that need not be those of the run, e.g. ``desc="confounds"``.
        """
        entities = {**run.entities, **wanted}
        found = [
            file
            for folder in self._folders(run)
            for file in self._files(folder)
            if file.suffix in suffixes
            and file.extension == extension
            and file.entities.items() <= entities.items()
            and all(file.entities.get(key) == value for key, value in wanted.items())
        ]
        return sorted(found, key=lambda file: len(file.entities))

    def around(self, run: BidsFile) -> list[BidsFile]:
        """Return all files that have no entity but those of the run and ``desc``: its tables, sidecars and masks."""
        return [
            file
            for folder in self._folders(run)
            for file in self._files(folder)
            if file.without("desc").items() <= run.entities.items()
        ]

    def metadata(self, run: BidsFile) -> dict[str, Any]:
        """Return what the sidecars say of a run; the more specific ones come first."""
        values: dict[str, Any] = {}
        for file in self.belonging(run, [run.suffix], "json"):
            values |= read_json(file.path)
        return values

    def _folders(self, run: BidsFile) -> list[Path]:
        found = []
        for root in self.roots:
            subject = root / f"sub-{run.entities['sub']}"
            levels = [root, subject]
            if "ses" in run.entities:
                levels.append(subject / f"ses-{run.entities['ses']}")
            found += [*levels, levels[-1] / "func"]
        return found

    def _files(self, folder: Path) -> list[BidsFile]:
        if folder not in self._listed:
            paths = sorted(folder.iterdir()) if folder.is_dir() else []
            self._listed[folder] = [file for file in map(parse, paths) if file is not None and file.path.is_file()]
        return self._listed[folder]


def read_json(path: Path) -> dict[str, Any]:
    """Read a sidecar."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path} cannot be read",
            given=f"{type(error).__name__}: {error}",
            expected="a JSON file",
            todo="mend it, or copy it again",
        ) from None
    if not isinstance(values, dict):
        raise InputError(f"{path} is no sidecar", given=type(values).__name__, expected="a JSON object")
    return values
