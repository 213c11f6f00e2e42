"""Runs and areas in grayordinates: CIFTI."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from neurorecon.datasets.bids.grid import STRUCTURES, Cortex, Grid, Header, check_vertices
from neurorecon.datasets.images import damaged, image_values, open_image
from neurorecon.errors import InputError
from neurorecon.space import Space


def open_grayordinates(paths: Sequence[Path], space: str) -> tuple[Grid, Header]:
    """Read the header of a run."""
    path = paths[0]
    series, models = axes(path)
    if not hasattr(series, "step"):
        raise InputError(
            f"{path} is no run",
            given=f"a {type(series).__name__} in place of time",
            expected="a dense time series (dtseries)",
            todo="take *_bold.dtseries.nii as fMRIPrep or the HCP write it",
        )
    step = float(series.step) if series.unit == "SECOND" and series.step > 0 else None
    return models_grid(models, space), Header(len(series), step)


def models_grid(models: Any, space: str) -> Grid:
    """Return the grid of the brain models of a CIFTI file."""
    table = pd.DataFrame({"structure": models.name.astype(str), "vertex": models.vertex})
    table[["i", "j", "k"]] = models.voxel
    cortex = {}
    for side, structure in STRUCTURES.items():
        rows = np.flatnonzero(models.name == structure)
        if len(rows):
            cortex[side] = Cortex(rows, models.vertex[rows], models.nvertices[structure])
    affine = None if models.affine is None else np.asarray(models.affine, dtype=float).tolist()
    shape = None if models.volume_shape is None else [int(size) for size in models.volume_shape]
    vertices = {str(name): int(number) for name, number in models.nvertices.items()}
    return Grid(Space("grayordinates", affine=affine, shape=shape, mesh=space, vertices=vertices), table, cortex)


def check_grayordinates(path: Path, grid: Grid, wanted: Grid, like: str) -> None:
    """Refuse a run whose grayordinates are not those of the others of its subject."""
    if grid.space != wanted.space or not grid.table.equals(wanted.table):
        raise InputError(
            f"{path} lies on other grayordinates than {like}",
            given=f"{len(grid):,} grayordinates",
            expected=f"the {len(wanted):,} of {like}",
            todo="resample it (wb_command -cifti-create-dense-from-template), or leave the run out",
        )


def read_grayordinates(paths: Sequence[Path], rows: np.ndarray) -> np.ndarray:
    """Read a run: float32, shape (volume, grayordinate)."""
    path = paths[0]
    return image_values(open_image(path), path).astype(np.float32)[:, rows]


def read_cifti_labels(path: Path, grid: Grid) -> tuple[np.ndarray, dict[int, str] | None]:
    """Read an atlas or a mask on the grid of the runs; places that it does not cover are 0.

    Returns
    -------
    values : array, shape (map, place)
    names : dict of int to str, or None
    """
    maps, models = axes(path)
    data = np.nan_to_num(image_values(open_image(path), path).astype(float))
    values = np.zeros((len(data), len(grid)))
    sides = {structure: side for side, structure in STRUCTURES.items()}
    for structure, columns, part in models.iter_structures():
        side = sides.get(structure)
        if side is not None and side in grid.cortex:
            cortex = grid.cortex[side]
            check_vertices(path, models.nvertices[structure], cortex.number)
            whole = np.zeros((len(data), cortex.number))
            whole[:, part.vertex] = data[:, columns]
            values[:, cortex.rows] = whole[:, cortex.vertices]
        elif side is None and "i" in grid.table:
            _place_voxels(values, data[:, columns], part.voxel, structure, grid)
    tables = getattr(maps, "label", None)
    if tables is None:
        return values, None
    return values, {key: name for table in tables for key, (name, _) in table.items()}


def _place_voxels(values: np.ndarray, data: np.ndarray, voxels: np.ndarray, structure: str, grid: Grid) -> None:
    rows = np.flatnonzero((grid.table["structure"] == structure).to_numpy())
    places = {tuple(place): row for place, row in zip(grid.table[["i", "j", "k"]].to_numpy()[rows], rows, strict=True)}
    for column, voxel in enumerate(voxels.tolist()):
        row = places.get(tuple(voxel))
        if row is not None:
            values[:, row] = data[:, column]


def axes(path: Path) -> tuple[Any, Any]:
    """Return the two axes of a CIFTI file: maps or time, and brain models."""
    image = open_image(path)
    try:
        first, second = image.header.get_axis(0), image.header.get_axis(1)
        second.iter_structures  # noqa: B018 - the brain models, or this is no dense file
    except Exception as error:  # a NIfTI file without the CIFTI extension, or a damaged one
        raise damaged(path, error) from error
    return first, second
