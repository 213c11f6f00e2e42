"""Cortical meshes: loading, spreading values over neighbors, outlines of ROIs.

All distances are along the folded surface (the pial mesh, edge by edge), so that nothing jumps across a
sulcus.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy import sparse
from scipy.sparse import csgraph

from neurorecon.errors import InputError, MissingFileError, UnknownNameError

HEMISPHERES = ("left", "right")

#: Meshes that come with nilearn, hence need no download. Others are fetched by nilearn when asked for.
MESHES = ("fsaverage3", "fsaverage4", "fsaverage5", "fsaverage6", "fsaverage7", "fsaverage")

#: Flat faces with a longer edge (mm) bridge a cut or the medial wall.
LONGEST_FLAT_EDGE = 9.0


@dataclass(frozen=True)
class Mesh:
    """One hemisphere.

    Parameters
    ----------
    coordinates : array, shape (vertex, 3)
        Right, anterior, superior; millimeters.
    faces : array of int, shape (face, 3)
        Counterclockwise seen from outside.
    sulcal : array, shape (vertex,)
        Sulcal depth; positive in sulci.
    folded : array, shape (vertex, 3)
        Coordinates on the pial surface, for distances.
    """

    coordinates: np.ndarray
    faces: np.ndarray
    sulcal: np.ndarray
    folded: np.ndarray


@cache
def load_mesh(name: str, surface: str, hemisphere: str) -> Mesh:
    """Load one hemisphere of a template.

    Parameters
    ----------
    name : str
        ``"fsaverage5"`` (embedded) or another of :data:`MESHES`.
    surface : {"inflated", "pial", "flat", "sphere", "white_matter"}
        Which surface.
    hemisphere : {"left", "right"}
        Which side.
    """
    from nilearn.datasets import load_fsaverage, load_fsaverage_data

    if name not in MESHES:
        raise UnknownNameError("mesh", name, MESHES)
    try:
        meshes = load_fsaverage(name)
        depth = load_fsaverage_data(name, data_type="sulcal").data.parts[hemisphere]
    except OSError as error:
        raise MissingFileError(
            f"the mesh {name} is not on this machine and could not be fetched",
            given=str(error),
            expected=f"nilearn's copy of {name}; fsaverage5 comes with nilearn",
            todo=f"fetch it once with network: nilearn.datasets.fetch_surf_fsaverage({name!r})",
        ) from error
    part = meshes[surface].parts[hemisphere]
    folded = np.array(meshes["pial"].parts[hemisphere].coordinates, dtype=float)
    coordinates = np.array(part.coordinates, dtype=float)
    faces = np.array(part.faces, dtype=np.int64)
    if surface == "flat":
        coordinates[:, 2] = 0
        edges = np.linalg.norm(coordinates[faces] - coordinates[np.roll(faces, 1, axis=1)], axis=2)
        faces = faces[edges.max(axis=1) < LONGEST_FLAT_EDGE]
    arrays = (coordinates, faces, np.array(depth, dtype=float).ravel(), folded)
    for array in arrays:
        # The same arrays are handed out to everybody.
        array.setflags(write=False)
    return Mesh(*arrays)


@cache
def neighbor_distances(name: str, hemisphere: str) -> sparse.csr_matrix:
    """Return the distances (mm) between neighboring vertices, a symmetric sparse matrix (vertex, vertex)."""
    mesh = load_mesh(name, "pial", hemisphere)
    pairs = np.concatenate([mesh.faces[:, [0, 1]], mesh.faces[:, [1, 2]], mesh.faces[:, [2, 0]]])
    pairs = np.unique(np.sort(pairs, axis=1), axis=0)
    length = np.linalg.norm(mesh.folded[pairs[:, 0]] - mesh.folded[pairs[:, 1]], axis=1)
    count = len(mesh.folded)
    matrix = sparse.coo_matrix((length, (pairs[:, 0], pairs[:, 1])), shape=(count, count))
    return (matrix + matrix.T).tocsr()


def check_values(values: Mapping[str, np.ndarray], name: str) -> dict[str, np.ndarray]:
    """Check that there is one value per vertex of each hemisphere, and return them as floats.

    A hemisphere that is missing is all NaN.

    Raises
    ------
    InputError
        Where a key is no hemisphere, or the number of values does not match the mesh.
    """
    if not isinstance(values, Mapping) or not values or not set(values) <= set(HEMISPHERES):
        raise InputError(
            "surface values are given per hemisphere",
            given=f"keys {sorted(map(str, values))}" if isinstance(values, Mapping) else type(values).__name__,
            expected="a mapping with the keys 'left' and 'right'",
            todo="pass {'left': array, 'right': array}, one value per vertex, NaN where there is none",
        )
    checked = {}
    for hemisphere in HEMISPHERES:
        count = len(load_mesh(name, "pial", hemisphere).coordinates)
        part = np.asarray(values.get(hemisphere, np.full(count, np.nan)), dtype=float)
        if part.shape != (count,):
            raise InputError(
                f"the values of the {hemisphere} hemisphere do not fit the mesh {name}",
                given=f"shape {part.shape}",
                expected=f"shape ({count},)",
                todo="give one value per vertex, NaN where there is no voxel",
            )
        checked[hemisphere] = np.where(np.isfinite(part), part, np.nan)
    return checked


def nearest_source(source: np.ndarray, name: str, hemisphere: str, limit: float) -> tuple[np.ndarray, np.ndarray]:
    """Find the nearest of some vertices, along the pial surface.

    Parameters
    ----------
    source : array of bool, shape (vertex,)
        The vertices to look for.
    name, hemisphere : str
        The mesh.
    limit : float
        How far to look, in millimeters.

    Returns
    -------
    nearest : array of int, shape (vertex,)
        The nearest source, -1 where there is none within `limit`.
    distance : array, shape (vertex,)
        Millimeters, inf where there is none.
    """
    sources = np.flatnonzero(source)
    if not len(sources):
        return np.full(len(source), -1), np.full(len(source), np.inf)
    distance, _, nearest = csgraph.dijkstra(
        neighbor_distances(name, hemisphere),
        indices=sources,
        limit=limit,
        min_only=True,
        return_predecessors=True,
    )
    return np.where(np.isfinite(distance), nearest, -1).astype(int), distance


def outline(member: np.ndarray, faces: np.ndarray, coordinates: np.ndarray, smooth: int = 3) -> list[np.ndarray]:
    """Trace the border of a set of vertices.

    The border runs through the middle of each edge that joins a member and a non-member; the zigzag of the
    triangles is then smoothed away.

    Parameters
    ----------
    member : array of bool, shape (vertex,)
        The set.
    faces : array of int, shape (face, 3)
        The mesh.
    coordinates : array, shape (vertex, 3)
        Where the vertices lie.
    smooth : int
        Rounds of smoothing.

    Returns
    -------
    list of array, shape (point, 3)
        Lines; closed ones end where they begin.
    """
    lines = []
    for chain in border_chains(member, faces):
        points = coordinates[np.array(chain)].mean(axis=1)
        lines.append(_smooth(points, closed=chain[0] == chain[-1], rounds=smooth))
    return lines


def border_chains(member: np.ndarray, faces: np.ndarray) -> list[list[tuple[int, int]]]:
    """Trace the border of a set of vertices as chains of mesh edges, each from a member to a non-member.

    Parameters
    ----------
    member : array of bool, shape (vertex,)
        The set.
    faces : array of int, shape (face, 3)
        The mesh.

    Returns
    -------
    list of list of (int, int)
        The two vertices of each edge that is crossed, in order; closed chains end with the edge they begin
        with.
    """
    mixed = faces[(member[faces].sum(axis=1) % 3) > 0]
    links: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for face in mixed.tolist():
        crossed = [
            (min(a, b), max(a, b))
            for a, b in ((face[0], face[1]), (face[1], face[2]), (face[2], face[0]))
            if member[a] != member[b]
        ]
        links.setdefault(crossed[0], []).append(crossed[1])
        links.setdefault(crossed[1], []).append(crossed[0])
    # Open chains (cut by the border of a flat map) are walked from their ends first, rings afterwards.
    chains = [_walk(links, start) for start in sorted(links, key=lambda node: (len(links[node]) != 1, node))]
    return [chain for chain in chains if len(chain) > 2]


def _walk(links: dict[tuple[int, int], list[tuple[int, int]]], start: tuple[int, int]) -> list[tuple[int, int]]:
    chain, node = [start], start
    while links[node]:
        following = links[node].pop()
        links[following].remove(node)
        chain.append(following)
        node = following
    return chain


def _smooth(points: np.ndarray, closed: bool, rounds: int) -> np.ndarray:
    for _ in range(rounds):
        if closed:
            ring = points[:-1]
            ring = 0.5 * ring + 0.25 * (np.roll(ring, 1, axis=0) + np.roll(ring, -1, axis=0))
            points = np.concatenate([ring, ring[:1]])
        else:
            inner = 0.5 * points[1:-1] + 0.25 * (points[:-2] + points[2:])
            points = np.concatenate([points[:1], inner, points[-1:]])
    return points
