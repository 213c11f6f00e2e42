"""One way to open and read runs, whatever the file format."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from neurorecon.datasets.bids.files import RunFiles
from neurorecon.datasets.bids.grayordinates import check_grayordinates, open_grayordinates, read_grayordinates
from neurorecon.datasets.bids.grid import Grid, Header
from neurorecon.datasets.bids.surfaces import check_surfaces, open_surfaces, read_surfaces
from neurorecon.datasets.bids.volumes import check_volumes, open_volumes, read_volumes


@dataclass(frozen=True)
class Format:
    """What one file format needs: open, compare, read."""

    open: Callable[[Sequence[Path], str], tuple[Grid, Header]]
    check: Callable[[Path, Grid, Grid, str], None]
    read: Callable[[Sequence[Path], np.ndarray], np.ndarray]


FORMATS = {
    "volume": Format(open_volumes, check_volumes, read_volumes),
    "surface": Format(open_surfaces, check_surfaces, read_surfaces),
    "grayordinates": Format(open_grayordinates, check_grayordinates, read_grayordinates),
}


def open_run(run: RunFiles) -> tuple[Grid, Header]:
    """Read the header of a run."""
    return FORMATS[run.kind].open([file.path for file in run.files], run.space)


def check_run(run: RunFiles, grid: Grid, wanted: Grid, like: str) -> None:
    """Refuse a run that lies elsewhere than the first one of its subject."""
    FORMATS[run.kind].check(run.path, grid, wanted, like)


def read_run(run: RunFiles, rows: np.ndarray) -> np.ndarray:
    """Read a run: float32, shape (volume, voxel), for some rows of the grid."""
    return FORMATS[run.kind].read([file.path for file in run.files], rows)
