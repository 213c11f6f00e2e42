"""Miniature data sets by name, as ``neurorecon datasets miniature NAME`` writes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

from neurorecon.errors import InputError, UnknownNameError


def mark_simulated(folder: Path) -> None:
    """Mark the responses of a folder as simulated; all stores and figures made from it are labeled accordingly."""
    from neurorecon.datasets.base import SIMULATED  # with pandas, which a list of the layouts does not need

    folder.mkdir(parents=True, exist_ok=True)
    (folder / SIMULATED).write_text("A miniature: drawn images, computed responses.\n", encoding="utf-8")


def layouts() -> list[str]:
    """Return the names of all layouts; each is a module of :mod:`neurorecon.testing.layouts`."""
    return sorted(module.name for module in iter_modules(__path__))


def write_layout(
    name: str, folder: str | Path, *, seed: int = 0, choices: Mapping[str, Sequence[str]] | None = None
) -> list[Path]:
    """Write a miniature of a data set: the real file layout with simulated content.

    Parameters
    ----------
    name : str
        One of :func:`layouts`.
    folder : path
        Folder to write; created if it does not exist, otherwise it must be empty.
    seed : int
        Random seed; the same seed gives the same files.
    choices : mapping of str to sequence of str, optional
        What to write of a data set that has several: ``subjects``, ``tasks``, ``spaces`` and ``formats`` of nsd.

    Returns
    -------
    list of Path
        The files that were written.

    Raises
    ------
    UnknownNameError
        If there is no such layout, or no such choice.
    InputError
        If the folder is not empty, or is a file, or the layout has no choices.
    """
    if name not in layouts():
        raise UnknownNameError("layout", name, layouts())
    module = import_module(f"neurorecon.testing.layouts.{name}")
    known: Mapping[str, Sequence[str]] = getattr(module, "CHOICES", {})
    for key, values in (choices or {}).items():
        if key not in known:
            raise InputError(
                f"the miniature of {name} comes in one form",
                given=f"{key}: {', '.join(values)}",
                expected=f"no {key}",
                todo="leave this option out",
            )
        for value in values:
            if value not in known[key]:
                raise UnknownNameError(f"choice of {key}", value, known[key])
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(
            "a miniature cannot be written here",
            given=f"{folder}, which {'already holds files' if folder.is_dir() else 'is a file'}",
            expected="a folder that is empty or does not exist yet",
            todo="choose another folder (--out)",
        )
    folder.mkdir(parents=True, exist_ok=True)
    getattr(module, f"write_{name}")(folder, seed=seed, **(choices or {}))
    return sorted(path for path in folder.rglob("*") if path.is_file())
