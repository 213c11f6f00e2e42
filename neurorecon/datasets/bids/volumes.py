"""Runs and areas in volumes: NIfTI."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from neurorecon.datasets.bids.grid import Grid, Header
from neurorecon.datasets.images import AGAIN, check_grid, damaged, image_values, open_image
from neurorecon.errors import InputError
from neurorecon.space import Space

#: A run is read in pieces of this size, so that no whole uncompressed run is in memory.
PIECE_BYTES = 2**26

#: Seconds in the units of time of a NIfTI header.
SECONDS = {"sec": 1.0, "msec": 1e-3, "usec": 1e-6}


def open_volumes(paths: Sequence[Path], space: str) -> tuple[Grid, Header]:
    """Read the header of a run."""
    path = paths[0]
    image = open_image(path)
    if len(image.shape) != 4 or 0 in image.shape:
        raise InputError(
            f"{path} is no run",
            given=f"shape {image.shape}",
            expected="a series of volumes (x, y, z, time)",
            todo="take *_desc-preproc_bold.nii.gz as fMRIPrep writes it",
        )
    shape, affine = image.shape[:3], np.asarray(image.affine, dtype=float)
    i, j, k = np.indices(shape, dtype=np.int32).reshape(3, -1)
    grid = Grid(
        Space("volume", affine=affine.tolist(), shape=list(shape)),
        pd.DataFrame({"i": i, "j": j, "k": k}, copy=False),
    )
    unit = SECONDS.get(image.header.get_xyzt_units()[1])
    step = float(image.header.get_zooms()[3])
    return grid, Header(image.shape[3], None if unit is None or step <= 0 else step * unit)


def check_volumes(path: Path, grid: Grid, wanted: Grid, like: str) -> None:
    """Refuse a run that lies elsewhere than the others of its subject."""
    space, other = grid.space, wanted.space
    assert space.shape is not None
    assert other.shape is not None
    check_grid(path, tuple(space.shape), space.affine, like, tuple(other.shape), other.affine)


def read_volumes(paths: Sequence[Path], rows: np.ndarray) -> np.ndarray:
    """Read a run, piece by piece.

    Parameters
    ----------
    paths : sequence of path
        One.
    rows : int array, shape (voxel,)
        Which voxels of the grid.

    Returns
    -------
    array, shape (volume, voxel), float32
    """
    import nibabel

    path = paths[0]
    open_image(path)  # for its errors
    try:
        image = nibabel.load(path, keep_file_open=True)  # so that a compressed file is decompressed once
    except Exception as error:
        raise damaged(path, error) from error
    *shape, length = image.shape  # type: ignore[attr-defined]
    place = np.unravel_index(rows, shape)
    values = np.empty((length, len(rows)), dtype=np.float32)
    step = max(1, int(PIECE_BYTES // (8 * np.prod(shape))))
    for start in range(0, length, step):
        piece = image_values(image, path, (..., slice(start, start + step)))
        values[start : start + step] = piece[place].T
    return values


def read_volume(path: Path, grid: Grid, todo: str = AGAIN) -> np.ndarray:
    """Read a mask or an atlas on the grid of the runs.

    Returns
    -------
    array, shape (place,)
    """
    image = open_image(path, todo)
    shape = tuple(image.shape)
    if len(shape) == 4 and shape[3] == 1:
        shape = shape[:3]
    wanted = grid.space.shape
    assert wanted is not None
    check_grid(path, shape, image.affine, "the runs", tuple(wanted), grid.space.affine)
    return image_values(image, path, todo=todo).reshape(-1)
