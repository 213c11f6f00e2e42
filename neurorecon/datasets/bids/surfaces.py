"""Runs and areas on surfaces: GIFTI and FreeSurfer's annot."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from neurorecon.datasets.bids.grid import Grid, Header, check_vertices, surface_grid
from neurorecon.datasets.images import damaged, open_image
from neurorecon.errors import InputError, MissingFileError


def open_surfaces(paths: Sequence[Path], space: str) -> tuple[Grid, Header]:
    """Find out how many volumes and vertices a pair of files has, without decoding them."""
    lengths, vertices = zip(*map(_count, paths), strict=True)
    if lengths[0] != lengths[1]:
        raise InputError(
            f"{paths[0]} and its other hemisphere do not match",
            given=f"{lengths[0]} and {lengths[1]} volumes",
            expected="the same number",
            todo="copy both again, or run fMRIPrep again",
        )
    return surface_grid(vertices, space), Header(lengths[0], None)


def check_surfaces(path: Path, grid: Grid, wanted: Grid, like: str) -> None:
    """Refuse a run on another mesh than the others of its subject."""
    for side, part in wanted.cortex.items():
        check_vertices(path, grid.cortex[side].number, part.number)


def read_surfaces(paths: Sequence[Path], rows: np.ndarray) -> np.ndarray:
    """Read a run: left hemisphere, then right.

    Parameters
    ----------
    paths : sequence of path
        Left and right.
    rows : int array, shape (vertex,)
        Which vertices of the grid.

    Returns
    -------
    array, shape (volume, vertex), float32
    """
    parts: list[np.ndarray] = []
    first = 0
    for path in paths:
        values = _arrays(open_image(path))
        if values is None or (parts and len(values) != len(parts[0])):
            raise InputError(f"{path} is no run", given="arrays of several shapes", expected="one array a volume")
        mine = rows[(rows >= first) & (rows < first + values.shape[1])] - first
        parts.append(values[:, mine])
        first += values.shape[1]
    return np.concatenate(parts, axis=1)


def read_surface_labels(path: Path) -> tuple[np.ndarray, dict[int, str] | None]:
    """Read an atlas or a mask of one hemisphere.

    Returns
    -------
    values : array, shape (map, vertex)
    names : dict of int to str, or None
        Of the values, where the file names them.
    """
    if path.suffix == ".annot":
        return _annot(path)
    image = open_image(path)
    values = _arrays(image, np.float64)
    if values is None:
        raise InputError(f"{path} is no atlas", given="arrays of several shapes or none", expected="labels by vertex")
    table = getattr(image, "labeltable", None)
    names = {label.key: str(label.label) for label in table.labels} if table is not None and table.labels else None
    return values, names


def hemisphere(path: Path) -> str:
    """Return the hemisphere that a file name speaks of: ``"left"`` or ``"right"``.

    Raises
    ------
    InputError
        Where it speaks of none.
    """
    match = re.search(r"(?:^|[._-])(lh|rh|L|R|hemi-L|hemi-R)(?=[._-])", path.name)
    if match is None:
        raise InputError(
            f"{path} does not say which hemisphere it is of",
            given=path.name,
            expected="lh. or rh., hemi-L or hemi-R, .L. or .R. in the name",
            todo="name the file so",
        )
    return "left" if match[1] in ("lh", "L", "hemi-L") else "right"


def _annot(path: Path) -> tuple[np.ndarray, dict[int, str]]:
    from nibabel.freesurfer import read_annot

    if not path.is_file():
        raise MissingFileError(f"{path} is missing", given="no such file", expected="an annot file")
    try:
        labels, _, names = read_annot(path)
    except Exception as error:  # nibabel reads the binary file as it comes: errors of many types
        raise damaged(path, error) from error
    # Numbers of the table start with 0, which stands for no label elsewhere; -1 is none.
    return labels[None] + 1.0, {number: name.decode() for number, name in enumerate(names, start=1)}


def _arrays(image: Any, dtype: type = np.float32) -> np.ndarray | None:
    """Return the arrays of a GIFTI file, (map, vertex); None where they do not fit together."""
    arrays = [np.asarray(array.data) for array in getattr(image, "darrays", [])]
    if len(arrays) == 1 and arrays[0].ndim == 2:
        return arrays[0].T.astype(dtype)  # one array (vertex, map), as some tools write
    if not arrays or len({array.shape for array in arrays}) > 1 or arrays[0].ndim != 1:
        return None
    return np.stack(arrays).astype(dtype)


def _count(path: Path) -> tuple[int, int]:
    """Return volumes and vertices of a GIFTI file by its tags alone."""
    if not path.is_file():
        raise MissingFileError(f"{path} is missing", given="no such file", expected="a GIFTI file")
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
