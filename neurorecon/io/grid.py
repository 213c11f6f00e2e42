"""Where the responses of a subject lie, whatever the file format."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from neurorecon.errors import InputError
from neurorecon.space import Space

#: Meshes of FreeSurfer's average brain, by the number of vertices of a hemisphere.
FSAVERAGE = {642: "fsaverage3", 2562: "fsaverage4", 10242: "fsaverage5", 40962: "fsaverage6", 163842: "fsaverage7"}

#: Cortex in the words of CIFTI, by hemisphere.
STRUCTURES = {"left": "CIFTI_STRUCTURE_CORTEX_LEFT", "right": "CIFTI_STRUCTURE_CORTEX_RIGHT"}


@dataclass(frozen=True)
class Cortex:
    """One hemisphere in a grid.

    Parameters
    ----------
    rows : int array, shape (vertex_in_grid,)
        Rows of the grid's table.
    vertices : int array, shape (vertex_in_grid,)
        Their numbers in the mesh.
    number : int
        Vertices of the whole mesh.
    """

    rows: np.ndarray
    vertices: np.ndarray
    number: int


@dataclass(frozen=True)
class Grid:
    """All places that a run has values for: voxels, vertices or grayordinates.

    Parameters
    ----------
    space : Space
    table : DataFrame
        One row a place, with the columns that the space needs.
    cortex : mapping of str to Cortex
        ``left`` and ``right``, where there are surfaces.
    """

    space: Space
    table: pd.DataFrame
    cortex: Mapping[str, Cortex] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.table)


@dataclass(frozen=True)
class Header:
    """What the header of a run says.

    Parameters
    ----------
    length : int
        Volumes.
    repetition_time : float or None
        Seconds; None where it says none.
    """

    length: int
    repetition_time: float | None


def surface_grid(vertices: Sequence[int], space: str) -> Grid:
    """Return the grid of two hemispheres.

    FreeSurfer's average has meshes that maps are drawn on; vertices of other meshes are kept as grayordinates of
    cortex, so that maps go back to a CIFTI file for anyone who has the mesh.

    Parameters
    ----------
    vertices : sequence of int
        Of the left and the right hemisphere.
    space : str
        Name in the files, e.g. ``"fsaverage5"``.
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
    """Refuse values of another mesh."""
    if found != wanted:
        raise InputError(
            f"{path} belongs to another mesh",
            given=f"{found:,} vertices",
            expected=f"{wanted:,}, as the runs have",
            todo="resample it to the mesh of the runs, or take the file that belongs to it",
        )
