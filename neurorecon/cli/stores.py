"""Which store a command means when none is named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from neurorecon.cli.common import Output, logger
from neurorecon.errors import InputError, UnknownNameError

if TYPE_CHECKING:
    from neurorecon.store.store import Store

#: Remembers, in the current folder, the store that ``neurorecon build`` made last.
CURRENT = Path(".neurorecon") / "store.json"

EMBEDDED = "scenes"


def remember(path: Path) -> None:
    """Make a store the one that commands in this folder use; where that cannot be written, only warn."""
    try:
        CURRENT.parent.mkdir(exist_ok=True)
        CURRENT.write_text(json.dumps({"store": str(path)}), encoding="utf-8")
    except OSError as error:  # the store itself is whole, perhaps after hours of building
        logger.warning(
            "this folder cannot keep which store was built last (%s: %s); name it: --store %s",
            CURRENT,
            error.strerror or error,
            path,
        )


def choose(location: str | None, output: Output) -> Store:
    """Open the named store, else the one built last in this folder, else the embedded one, which is built."""
    from neurorecon.store.store import open_store

    if location is not None:
        return output.use(open_store(location))
    current = _remembered()
    if current is not None:
        logger.info("store: %s (built last in this folder; --store chooses another)", current)
        output.hint = _hint(current)
        return output.use(open_store(current))
    from neurorecon.features.build import build

    store = output.use(build(EMBEDDED, progress=output.progress))
    logger.info("store: %s (the embedded data set: SIMULATED responses; --store chooses another)", store.location)
    return store


def subjects_of(store: Store, wanted: list[str] | None) -> list[str]:
    """Return the subjects to analyze, each once; an unknown one shows before any is analyzed."""
    for name in wanted or []:
        if name not in store.subjects:
            raise UnknownNameError("subject", name, store.subjects)
    return list(dict.fromkeys(wanted or store.subjects))


def results_folder(out: Path | None, default: str) -> Path:
    """Return the folder for results, ``results/<default>`` where none is asked for; a file in its place shows early."""
    folder = out if out is not None else Path("results") / default
    if folder.exists() and not folder.is_dir():
        raise InputError(
            "the results cannot go here",
            given=f"{folder}, which is a file",
            expected="a folder, or a name that is free",
            todo="choose another one with --out",
        )
    return folder


def _remembered() -> str | None:
    try:
        path = str(json.loads(CURRENT.read_text(encoding="utf-8"))["store"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return path if Path(path).exists() else None


def _hint(current: str) -> str:
    """Say which store was taken, and which others lie beside it."""
    others = sorted(str(path) for path in Path(current).parent.glob("*.icechunk") if path != Path(current))
    beside = f"; beside it: {', '.join(others)}" if others else ""
    return f"store:    {current}, the one built last in this folder{beside}. --store chooses another"
