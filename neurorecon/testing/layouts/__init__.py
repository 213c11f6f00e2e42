"""Miniature trees by name: what ``neurorecon datasets miniature NAME`` writes."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

from neurorecon.datasets.base import SIMULATED
from neurorecon.errors import InputError, UnknownNameError


def mark_simulated(folder: Path) -> None:
    """Say of a folder that its responses were computed; every store and figure of it says so too."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / SIMULATED).write_text("A miniature: drawn images, computed responses.\n", encoding="utf-8")


def layouts() -> list[str]:
    """Return the names of the layouts of which there is a miniature.

    Each is a module of :mod:`neurorecon.testing.layouts`.
    """
    return sorted(module.name for module in iter_modules(__path__))


def write_layout(name: str, folder: str | Path, *, seed: int = 0) -> list[Path]:
    """Write a miniature of a data set: its layout, simulated content.

    Parameters
    ----------
    name : str
        One of :func:`layouts`.
    folder : path
        Where to; made where it does not exist. It has to be empty.
    seed : int
        The same seed gives the same files.

    Returns
    -------
    list of Path
        The files.

    Raises
    ------
    UnknownNameError, InputError
        Where there is no such layout, or the folder holds something already.
    """
    if name not in layouts():
        raise UnknownNameError("layout", name, layouts())
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(
            "a miniature cannot be written here",
            given=f"{folder}, which {'holds files already' if folder.is_dir() else 'is a file'}",
            expected="a folder that is empty or does not exist yet",
            todo="choose another one with --out",
        )
    write = getattr(import_module(f"neurorecon.testing.layouts.{name}"), f"write_{name}")
    folder.mkdir(parents=True, exist_ok=True)
    write(folder, seed=seed)
    return sorted(path for path in folder.rglob("*") if path.is_file())
