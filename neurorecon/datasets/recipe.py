"""Recipes: TOML files that specify how a store is built. ``stores/README.md`` documents every key."""

from __future__ import annotations

import json
import os
import tomllib
from hashlib import blake2b
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from neurorecon.datasets.base import Reader
from neurorecon.errors import InputError, MissingFileError
from neurorecon.io.files import require_file
from neurorecon.registry import DATASETS


class Recipe(BaseModel):
    """How a store is built: the data set, its options, and the targets.

    Parameters
    ----------
    name : str
        Name of the store, whose file is ``<name>.icechunk``.
    reader : str
        Name of a registered reader, e.g. ``"scenes"``.
    root : str, optional
        The folder of the downloaded data set, relative to the folder of the recipe. ``--root`` on the command line
        takes precedence.
    targets : list of str
        Targets to compute when the store is built.
    models : str, optional
        Weights of the networks behind them: ``"bundled"``, ``"published"`` or a folder, relative to the folder of the
        recipe. Measured data need a choice, simulated data take the bundled ones by default.
    roi_groups : dict of str to list of str
        Groups of ROIs, e.g. ``early = ["V1", "V2", "V3"]``, in addition to those of the reader.
    options : dict
        Options of the reader.
    """

    model_config = ConfigDict(extra="forbid")

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    reader: str
    root: str | None = None
    targets: list[str] = Field(default_factory=list)
    models: str | None = None
    roi_groups: dict[str, list[str]] = Field(default_factory=dict)
    options: dict[str, Any] = Field(default_factory=dict)

    def checked_options(self) -> BaseModel:
        """Return the options as the reader's own model, defaults filled in."""
        cls = DATASETS.load(self.reader)
        former = {name: now for name, now in cls.Options.former_names.items() if name in self.options}
        if former:
            raise InputError(
                f"the recipe {self.name!r} uses former names of options",
                given=", ".join(former),
                expected=", ".join(former.values()),
                todo="rename these keys of [options]; stores/README.md documents every key",
            )
        try:
            return cls.Options(**self.options)
        except ValidationError as error:
            raise _invalid(error, f"options of the recipe {self.name!r}", sorted(cls.Options.model_fields)) from None

    def open(self) -> Reader:
        """Open the reader on its folder, with its options checked."""
        cls, options = DATASETS.load(self.reader), self.checked_options()
        if self.root is not None and not cls.needs_root:
            raise InputError(
                f"the data set {self.reader!r} is generated, not read from a folder",
                given=f"root = {self.root}",
                expected="no root",
                todo="omit --root (or root in the recipe)",
            )
        return cls(self.root, options)

    def folder(self) -> Path | None:
        """Return the folder of the data set, or None if there is none."""
        return None if self.root is None or not Path(self.root).is_dir() else Path(self.root)

    def sources(self) -> list[Path]:
        """List the files that the data set is read from; see :meth:`Reader.sources`."""
        folder, cls = self.folder(), DATASETS.load(self.reader)
        return [] if folder is None or not cls.needs_root else cls.sources(folder, self.checked_options())

    def digest(self) -> str:
        """Return a digest of everything that affects the responses and stimuli in the store."""
        what = self.model_dump(include={"name", "reader", "roi_groups"})
        what["reader_version"] = DATASETS.load(self.reader).version
        what["options"] = self.checked_options().model_dump(mode="json")
        return blake2b(json.dumps(what, sort_keys=True).encode(), digest_size=16).hexdigest()


def load_recipe(source: str | Path, root: str | Path | None = None) -> Recipe:
    """Load a recipe.

    Parameters
    ----------
    source : path or str
        A TOML file, or the name of a registered reader to use with its default options.
    root : path, optional
        The folder of the data set, instead of the one in the recipe.

    Returns
    -------
    Recipe

    Raises
    ------
    MissingFileError, InputError
        If the file does not exist, is not valid TOML, or contains unknown keys or invalid values.
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
    if recipe.models not in (None, "bundled", "published") and not Path(str(recipe.models)).is_absolute():
        recipe = recipe.model_copy(update={"models": str(path.parent / str(recipe.models))})
    if root is not None:
        return recipe.model_copy(update={"root": str(root)})
    if recipe.root is not None and not Path(recipe.root).is_absolute():
        return recipe.model_copy(update={"root": str(path.parent / recipe.root)})
    return recipe


def _read_toml(path: Path) -> dict[str, Any]:
    if os.path.lexists(path):
        require_file(path, "a recipe", "write a recipe, as stores/README.md explains")
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
        _check_depth(values)
        return values
    except FileNotFoundError:
        raise MissingFileError(
            "the recipe does not exist",
            given=str(path),
            expected=f"a TOML file, or one of: {', '.join(DATASETS.names())}",
            todo="check the path; stores/README.md explains how to write a recipe",
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError, RecursionError) as error:
        raise InputError(
            "the recipe cannot be read",
            given=f"{path}: {'nested too deep' if isinstance(error, RecursionError) else error}",
            expected=f"a valid TOML file, nested at most {DEEPEST} deep",
            todo="fix the file; stores/README.md explains how to write a recipe",
        ) from None


#: How deep the values of a recipe may be nested. Options of readers take four levels.
DEEPEST = 16


def _check_depth(values: Any) -> None:
    """Raise a RecursionError where Python itself would, later and with a traceback; dotted keys nest without limit."""
    level = [values]
    for _ in range(DEEPEST):
        level = [inner for item in level for inner in (item.values() if isinstance(item, dict) else item)
                 if isinstance(inner, dict | list)]  # fmt: skip
        if not level:
            return
    raise RecursionError


def _invalid(error: ValidationError, where: str, known: list[str]) -> InputError:
    problems = []
    for item in error.errors():
        key = ".".join(str(part) for part in item["loc"])
        problems.append(f"{key}: {item['msg']} (found {item['input']!r})")
    return InputError(
        f"{where}: {len(problems)} invalid {'key' if len(problems) == 1 else 'keys'}",
        given="; ".join(problems),
        expected=f"keys: {', '.join(known)}",
        todo="fix the recipe; stores/README.md documents every key",
    )
