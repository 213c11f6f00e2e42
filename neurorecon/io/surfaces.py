"""Data on surfaces and in grayordinates: GIFTI, FreeSurfer annot and MGH, and CIFTI files."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from neurorecon.errors import InputError
from neurorecon.io.files import AGAIN, damaged, require_file
from neurorecon.io.grid import STRUCTURES, Cortex, Grid, Header, check_vertices, surface_grid
from neurorecon.io.volumes import image_values, open_image, volumes
from neurorecon.space import Space


def open_surfaces(paths: Sequence[Path], space: str) -> tuple[Grid, Header]:
    """Return the grid and header of a run: a pair of GIFTI files, which are not decoded.

    Parameters
    ----------
    paths : sequence of path
        Left and right hemisphere.
    space : str
        Name of the space in the file names, e.g. ``"fsaverage5"``.

    Raises
    ------
    InputError
        If a file is missing or damaged, or the hemispheres differ in length.
    """
    lengths, vertices = zip(*map(_count, paths), strict=True)
    if lengths[0] != lengths[1]:
        raise InputError(
            f"the two hemispheres of {paths[0]} do not match",
            given=f"{lengths[0]} and {lengths[1]} volumes",
            expected="the same number of volumes",
            todo="copy both files again, or rerun fMRIPrep",
        )
    return surface_grid(vertices, space), Header(lengths[0], None)


def check_surfaces(path: Path, grid: Grid, wanted: Grid, like: str) -> None:
    """Raise :class:`InputError` if a run is on a different mesh than the other runs of its subject."""
    for side, part in wanted.cortex.items():
        check_vertices(path, grid.cortex[side].number, part.number)


def read_surfaces(paths: Sequence[Path], rows: np.ndarray) -> np.ndarray:
    """Read some vertices of a run.

    Parameters
    ----------
    paths : sequence of path
        Left and right hemisphere.
    rows : int array, shape (vertex,)
        Rows of the grid, ascending; the left hemisphere comes first.

    Returns
    -------
    array, shape (volume, vertex), float32
    """
    parts: list[np.ndarray] = []
    first = 0
    for path in paths:
        values = _arrays(open_image(path))
        if values is None or (parts and len(values) != len(parts[0])):
            raise InputError(
                f"{path} is not a time series", given="arrays of different shapes", expected="one array per volume"
            )
        mine = rows[(rows >= first) & (rows < first + values.shape[1])] - first
        parts.append(values[:, mine])
        first += values.shape[1]
    return np.concatenate(parts, axis=1)


def read_surface_labels(path: Path) -> tuple[np.ndarray, dict[int, str] | None]:
    """Read an atlas or a mask of one hemisphere.

    Parameters
    ----------
    path : path
        An annot or GIFTI file.

    Returns
    -------
    values : array, shape (map, vertex)
    names : dict of int to str, or None
        Names of the labels, if the file contains them.
    """
    if path.suffix == ".annot":
        return _annot(path)
    image = open_image(path)
    values = _arrays(image, np.float64)
    if values is None:
        raise InputError(
            f"{path} is not an atlas", given="no arrays, or arrays of different shapes", expected="one label per vertex"
        )
    table = getattr(image, "labeltable", None)
    names = {label.key: str(label.label) for label in table.labels} if table is not None and table.labels else None
    return values, names


def hemisphere(path: Path) -> str:
    """Return the hemisphere that a file name indicates, ``"left"`` or ``"right"``.

    Raises
    ------
    InputError
        If the name does not indicate a hemisphere.
    """
    match = re.search(r"(?:^|[._-])(lh|rh|L|R|hemi-L|hemi-R)(?=[._-])", path.name)
    if match is None:
        raise InputError(
            f"the name of {path} does not indicate the hemisphere",
            given=path.name,
            expected="a name with lh. or rh., hemi-L or hemi-R, .L. or .R.",
            todo="rename the file",
        )
    return "left" if match[1] in ("lh", "L", "hemi-L") else "right"


def _annot(path: Path) -> tuple[np.ndarray, dict[int, str]]:
    from nibabel.freesurfer import read_annot

    require_file(path, "an annot file")
    try:
        labels, _, names = read_annot(path)
    except Exception as error:  # nibabel raises many types of exceptions for damaged files
        raise damaged(path, error) from error
    # Labels are shifted by 1, because annot files count from 0 (-1: no label), and 0 means no label elsewhere.
    return labels[None] + 1.0, {number: name.decode() for number, name in enumerate(names, start=1)}


def _arrays(image: Any, dtype: type = np.float32) -> np.ndarray | None:
    """Return the arrays of a GIFTI file, (map, vertex); None if they differ in shape."""
    arrays = [np.asarray(array.data) for array in getattr(image, "darrays", [])]
    if len(arrays) == 1 and arrays[0].ndim == 2:
        return arrays[0].T.astype(dtype)  # one array (vertex, map), as some tools write
    if not arrays or len({array.shape for array in arrays}) > 1 or arrays[0].ndim != 1:
        return None
    return np.stack(arrays).astype(dtype)


def _count(path: Path) -> tuple[int, int]:
    """Count the volumes and vertices of a GIFTI file from its XML tags."""
    require_file(path, "a GIFTI file")
    arrays, shape, complete = 0, [0, 1], False
    with path.open("rb") as file:
        for line in file:
            arrays += line.count(b"<DataArray")
            complete |= b"</GIFTI>" in line
            for axis in (0, 1) if b"Dim" in line else ():
                match = re.search(rb'\bDim%d="(\d+)"' % axis, line)
                shape[axis] = int(match[1]) if match else shape[axis]
    if not complete or not arrays or not shape[0]:
        raise damaged(path, ValueError("no end tag" if not complete else "no arrays"))
    return (shape[1], shape[0]) if arrays == 1 and shape[1] > 1 else (arrays, shape[0])


def open_grayordinates(paths: Sequence[Path], space: str) -> tuple[Grid, Header]:
    """Return the grid and header of a run, from the header of its dtseries file.

    Raises
    ------
    InputError
        If the file is missing or damaged, or not a time series.
    """
    path = paths[0]
    series, models = axes(path)
    if not hasattr(series, "step"):
        raise InputError(
            f"{path} is not a time series",
            given=f"a CIFTI file whose first axis is a {type(series).__name__}",
            expected="a dense time series (dtseries)",
            todo="use the *_bold.dtseries.nii file that fMRIPrep or the HCP pipelines write",
        )
    step = float(series.step) if series.unit == "SECOND" and series.step > 0 else None
    return models_grid(models, space), Header(len(series), step)


def models_grid(models: Any, space: str) -> Grid:
    """Return the grid of the brain models in a CIFTI file."""
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
    """Raise :class:`InputError` if a run has other grayordinates than the other runs of its subject."""
    if grid.space != wanted.space or not grid.table.equals(wanted.table):
        raise InputError(
            f"{path} has other grayordinates than {like}",
            given=f"{len(grid):,} grayordinates",
            expected=f"the {len(wanted):,} grayordinates of {like}",
            todo="resample it (wb_command -cifti-create-dense-from-template), or exclude the run",
        )


def read_grayordinates(paths: Sequence[Path], rows: np.ndarray) -> np.ndarray:
    """Read some grayordinates of a run: float32, shape (volume, grayordinate)."""
    path = paths[0]
    return image_values(open_image(path), path).astype(np.float32)[:, rows]


def read_cifti_labels(path: Path, grid: Grid) -> tuple[np.ndarray, dict[int, str] | None]:
    """Read an atlas or a mask on the grid of the runs; places that it does not cover are 0.

    Parameters
    ----------
    path : path
        A dlabel or dscalar file.
    grid : Grid
        The grid of the runs.

    Returns
    -------
    values : array, shape (map, place)
    names : dict of int to str, or None
        Names of the labels, if the file contains them.
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
    """Return the two axes of a CIFTI file: maps or time, and brain models.

    Raises
    ------
    InputError
        If the file is missing, damaged, or not a dense CIFTI file.
    """
    image = open_image(path)
    try:
        first, second = image.header.get_axis(0), image.header.get_axis(1)
        second.iter_structures  # noqa: B018 - only a brain-model axis of a dense file has it
    except Exception as error:  # a NIfTI file without the CIFTI extension, or a damaged one
        raise damaged(path, error) from error
    return first, second


@dataclass(frozen=True)
class MghHeader:
    """The header of an MGH file.

    Parameters
    ----------
    shape : tuple of int
        (vertex, 1, 1), or (vertex, 1, 1, trial).
    dtype : numpy dtype
        Data type of the values, big-endian.
    offset : int
        Bytes before the values.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    offset: int


def read_mgh_header(path: Path, todo: str = AGAIN) -> MghHeader:
    """Read the header of an MGH file.

    Parameters
    ----------
    path : path
        A .mgh or .mgz file.
    todo : str
        What the error message advises if the file is missing or damaged.

    Raises
    ------
    MissingFileError, InputError
        If the file is missing or damaged.
    """
    from nibabel.freesurfer.mghformat import MGHHeader
    from nibabel.openers import ImageOpener

    require_file(path, "an MGH file", todo)
    try:
        with ImageOpener(str(path)) as file:  # nibabel.load leaves the file open
            header = MGHHeader.from_fileobj(file)
    except Exception as error:  # nibabel, gzip and zlib raise many types of exceptions for damaged headers
        raise damaged(path, error, todo) from error
    shape = tuple(int(length) for length in header.get_data_shape())
    return MghHeader(shape, header.get_data_dtype().newbyteorder(">"), int(header.get_data_offset()))


def read_values(path: Path, todo: str = AGAIN) -> np.ndarray:
    """Read one value per vertex from an MGH file, shape (vertex,)."""
    header = read_mgh_header(path, todo)
    size = int(np.prod(header.shape)) * header.dtype.itemsize
    (values,) = (bytes(part) for part in volumes(path, header.offset, size, 1, whole=False, todo=todo))
    return np.frombuffer(values, dtype=header.dtype)
