"""Miniature data sets by name, as ``neurorecon datasets miniature NAME`` writes them."""

from __future__ import annotations

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


def write_layout(name: str, folder: str | Path, *, seed: int = 0) -> list[Path]:
    """Write a miniature of a data set: the real file layout with simulated content.

    Parameters
    ----------
    name : str
        One of :func:`layouts`.
    folder : path
        Folder to write; created if it does not exist, otherwise it must be empty.
    seed : int
        Random seed; the same seed gives the same files.

    Returns
    -------
    list of Path
        The files that were written.

    Raises
    ------
    UnknownNameError
        If there is no such layout.
    InputError
        If the folder is not empty, or is a file.
    """
    if name not in layouts():
        raise UnknownNameError("layout", name, layouts())
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(
            "a miniature cannot be written here",
            given=f"{folder}, which {'already holds files' if folder.is_dir() else 'is a file'}",
            expected="a folder that is empty or does not exist yet",
            todo="choose another folder (--out)",
        )
    write = getattr(import_module(f"neurorecon.testing.layouts.{name}"), f"write_{name}")
    folder.mkdir(parents=True, exist_ok=True)
    write(folder, seed=seed)
    return sorted(path for path in folder.rglob("*") if path.is_file())
