"""What all miniatures have in common: a file that says that nobody was measured."""

from __future__ import annotations

from pathlib import Path

from neurorecon.datasets.base import SIMULATED


def mark_simulated(folder: Path) -> None:
    """Say of a folder that its responses were computed; every store and figure of it says so too."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / SIMULATED).write_text("A miniature: drawn pictures, computed responses.\n", encoding="utf-8")
