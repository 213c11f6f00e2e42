"""Recipes: the TOML files that say what a store is built from. Every key is documented in ``stores/README.md``."""

from __future__ import annotations

import json
import tomllib
from hashlib import blake2b
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from neurorecon.datasets.base import Reader
from neurorecon.errors import InputError, MissingFileError
from neurorecon.registry import DATASETS


class Recipe(BaseModel):
    """What a store is built from.

    Parameters
    ----------
    name : str
        Name of the store; also its file name, ``<name>.icechunk``.
    reader : str
        Name of a registered reader, e.g. ``"scenes"``.
    root : str, optional
        The folder that was downloaded. ``--root`` on the command line comes first; a relative path counts from
        the recipe's own folder.
    targets : list of str
        Targets that are computed when the store is built.
    roi_groups : dict of str to list of str
        Groups of ROIs, e.g. ``early = ["V1", "V2", "V3"]``; added to those that the reader brings.
    options : dict
        Options of the reader; checked by the reader's own model.
    """

    model_config = ConfigDict(extra="forbid")

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    reader: str
    root: str | None = None
    targets: list[str] = Field(default_factory=list)
    roi_groups: dict[str, list[str]] = Field(default_factory=dict)
    options: dict[str, Any] = Field(default_factory=dict)

    def checked_options(self) -> BaseModel:
        """Return the options as the reader's own model, defaults filled in."""
        cls = DATASETS.load(self.reader)
        try:
            return cls.Options(**self.options)
        except ValidationError as error:
            raise _invalid(error, f"options of the recipe {self.name!r}", sorted(cls.Options.model_fields)) from None

    def open(self) -> Reader:
        """Open the reader on its folder, with its options checked."""
        cls, options = DATASETS.load(self.reader), self.checked_options()
        if self.root is not None and not cls.needs_root:
            raise InputError(
                f"the data set {self.reader!r} is made here and read from no folder",
                given=f"root = {self.root}",
                expected="no root",
                todo="leave --root (or root in the recipe) out",
            )
        return cls(self.root, options)

    def folder(self) -> Path | None:
        """Return the folder that the data set is read from, where there is one."""
        return None if self.root is None or not Path(self.root).is_dir() else Path(self.root)

    def sources(self) -> list[Path]:
        """Return the files that the data set is read from, as :meth:`Reader.sources` finds them; none are read."""
        folder, cls = self.folder(), DATASETS.load(self.reader)
        return [] if folder is None or not cls.needs_root else cls.sources(folder, self.checked_options())

    def digest(self) -> str:
        """Return a digest of all that changes the numbers in the store (not the folder, not the targets)."""
        what = self.model_dump(include={"name", "reader", "roi_groups"})
        what["reader_version"] = DATASETS.load(self.reader).version
        what["options"] = self.checked_options().model_dump(mode="json")
        return blake2b(json.dumps(what, sort_keys=True).encode(), digest_size=16).hexdigest()


def load_recipe(source: str | Path, root: str | Path | None = None) -> Recipe:
    """Read a recipe.

    Parameters
    ----------
    source : path or str
        A TOML file, or the name of a registered reader, which stands for that reader with its defaults.
    root : path, optional
        The folder of the data set, in place of the recipe's own.

    Raises
    ------
    MissingFileError, InputError
        Where the file is not there, is not TOML, or has unknown keys or wrong values.
    """
    path = Path(source)
    if path.suffix != ".toml" and str(source) in DATASETS.names():
        cls = DATASETS.load(str(source))
        values: dict[str, Any] = {
            "name": str(source),
            "reader": str(source),
            "targets": list(cls.default_targets),
        }
    else:
        values = _read_toml(path)
    try:
        recipe = Recipe(**values)
    except ValidationError as error:
        raise _invalid(error, f"the recipe {path}", sorted(Recipe.model_fields)) from None
    if root is not None:
        return recipe.model_copy(update={"root": str(root)})
    if recipe.root is not None and not Path(recipe.root).is_absolute():
        return recipe.model_copy(update={"root": str(path.parent / recipe.root)})
    return recipe


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise MissingFileError(
            "there is no such recipe",
            given=str(path),
            expected=f"a .toml file, or one of: {', '.join(DATASETS.names())}",
            todo="check the path; stores/README.md explains how to write a recipe",
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise InputError(
            "this recipe cannot be read",
            given=f"{path}: {error}",
            expected="a text file in TOML",
            todo="fix it; stores/README.md shows a complete one",
        ) from None


def _invalid(error: ValidationError, where: str, known: list[str]) -> InputError:
    problems = []
    for item in error.errors():
        key = ".".join(str(part) for part in item["loc"])
        problems.append(f"{key}: {item['msg']} (found {item['input']!r})")
    return InputError(
        f"{where}: {len(problems)} wrong {'key' if len(problems) == 1 else 'keys'}",
        given="; ".join(problems),
        expected=f"keys: {', '.join(known)}",
        todo="fix the recipe; every key is documented in stores/README.md",
    )
