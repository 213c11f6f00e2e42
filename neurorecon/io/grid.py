"""Grids: the voxels, vertices or grayordinates of a subject's runs, independent of the file format."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from neurorecon.errors import InputError
from neurorecon.space import Space

#: fsaverage meshes, by the number of vertices per hemisphere.
FSAVERAGE = {642: "fsaverage3", 2562: "fsaverage4", 10242: "fsaverage5", 40962: "fsaverage6", 163842: "fsaverage7"}

#: CIFTI names of the cortex, by hemisphere.
STRUCTURES = {"left": "CIFTI_STRUCTURE_CORTEX_LEFT", "right": "CIFTI_STRUCTURE_CORTEX_RIGHT"}


@dataclass(frozen=True)
class Cortex:
    """The cortical vertices of one hemisphere in a grid.

    Parameters
    ----------
    rows : int array, shape (vertex_in_grid,)
        Their rows in the table of the grid.
    vertices : int array, shape (vertex_in_grid,)
        Their indices in the mesh.
    number : int
        Number of vertices of the whole mesh.
    """

    rows: np.ndarray
    vertices: np.ndarray
    number: int


@dataclass(frozen=True)
class Grid:
    """The places at which a run has values: voxels, vertices or grayordinates.

    Parameters
    ----------
    space : Space
        The space of the places.
    table : DataFrame
        One row per place, with the columns of the space (:data:`neurorecon.space.SPACE_COLUMNS`).
    cortex : mapping of str to Cortex
        ``left`` and ``right``, if the grid includes cortical surfaces.
    """

    space: Space
    table: pd.DataFrame
    cortex: Mapping[str, Cortex] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.table)


@dataclass(frozen=True)
class Header:
    """The length and repetition time in the header of a run.

    Parameters
    ----------
    length : int
        Number of volumes.
    repetition_time : float or None
        Repetition time in seconds; None if the header does not state it.
    """

    length: int
    repetition_time: float | None


def surface_grid(vertices: Sequence[int], space: str) -> Grid:
    """Return the grid of two hemispheres.

    Maps can be drawn on fsaverage meshes. Vertices of other meshes become cortical grayordinates, so that their maps
    can be written to CIFTI files.

    Parameters
    ----------
    vertices : sequence of int
        Number of vertices of the left and the right hemisphere.
    space : str
        Name of the space in the file names, e.g. ``"fsaverage5"``.

    Returns
    -------
    Grid
    """
    sides = dict(zip(("left", "right"), vertices, strict=True))
    first = {"left": 0, "right": sides["left"]}
    cortex = {
        side: Cortex(first[side] + np.arange(number), np.arange(number), number) for side, number in sides.items()
    }
    vertex = np.concatenate([np.arange(number) for number in vertices])
    if space.startswith("fsaverage") and vertices[0] == vertices[1] and vertices[0] in FSAVERAGE:
        table = pd.DataFrame({"hemisphere": np.repeat(list(sides), vertices), "vertex": vertex})
        return Grid(Space("surface", mesh=FSAVERAGE[vertices[0]], vertices=sides), table, cortex)
    table = pd.DataFrame({"structure": np.repeat([STRUCTURES[side] for side in sides], vertices), "vertex": vertex})
    table[["i", "j", "k"]] = -1
    named = {STRUCTURES[side]: number for side, number in sides.items()}
    return Grid(Space("grayordinates", mesh=space, vertices=named), table, cortex)


def check_vertices(path: Path, found: int, wanted: int) -> None:
    """Raise :class:`InputError` if a file has a different number of vertices than the mesh of the runs."""
    if found != wanted:
        raise InputError(
            f"{path} belongs to a different mesh",
            given=f"{found:,} vertices",
            expected=f"{wanted:,} vertices, as in the runs",
            todo="resample it to the mesh of the runs, or use a file on that mesh",
        )
