"""Cortical meshes: loading, nearest vertices, and outlines of ROIs.

All distances are geodesic, measured along the edges of the pial mesh, so that values never jump across a sulcus.
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

#: Supported meshes. nilearn ships fsaverage5 and downloads the others when they are first used.
MESHES = ("fsaverage3", "fsaverage4", "fsaverage5", "fsaverage6", "fsaverage7", "fsaverage")

#: Faces of a flat map with a longer edge (mm) bridge a cut or the medial wall, and are dropped.
LONGEST_FLAT_EDGE = 9.0


@dataclass(frozen=True)
class Mesh:
    """The mesh of one hemisphere.

    Parameters
    ----------
    coordinates : array, shape (vertex, 3)
        RAS coordinates in millimeters.
    faces : array of int, shape (face, 3)
        Vertex indices, counterclockwise when seen from outside.
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
    """Load one hemisphere of a template surface.

    Parameters
    ----------
    name : str
        One of :data:`MESHES`; ``"fsaverage5"`` needs no download.
    surface : {"inflated", "pial", "flat", "sphere", "white_matter"}
        Surface to load.
    hemisphere : {"left", "right"}
        Hemisphere to load.

    Returns
    -------
    Mesh
        Its arrays are read-only, because they are cached and shared.

    Raises
    ------
    UnknownNameError
        If `name` is not one of :data:`MESHES`.
    MissingFileError
        If nilearn has no copy of the mesh and cannot download it.
    """
    from nilearn.datasets import load_fsaverage, load_fsaverage_data

    if name == "nativesurface":
        raise MissingFileError(
            "the voxels are on the subject's own surface, whose mesh is not in the store",
            given=f"mesh {name!r}",
            expected=f"one of {', '.join(MESHES)}",
            todo="leave the figures out (--no-figures), and open the .func.gii files on the subject's surface, e.g. "
            "nsddata/freesurfer/subjXX/surf/lh.inflated",
        )
    if name not in MESHES:
        raise UnknownNameError("mesh", name, MESHES)
    try:
        meshes = load_fsaverage(name)
        depth = load_fsaverage_data(name, data_type="sulcal").data.parts[hemisphere]
    except OSError as error:
        raise MissingFileError(
            f"the mesh {name} is not on this machine and could not be downloaded",
            given=str(error),
            expected=f"nilearn's copy of {name}; only fsaverage5 comes with nilearn",
            todo=f"download it once while online: nilearn.datasets.fetch_surf_fsaverage({name!r})",
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
        # All callers share the same cached arrays.
        array.setflags(write=False)
    return Mesh(*arrays)


@cache
def neighbor_distances(name: str, hemisphere: str) -> sparse.csr_matrix:
    """Return the edge lengths (mm) of the pial mesh as a symmetric sparse matrix (vertex, vertex)."""
    mesh = load_mesh(name, "pial", hemisphere)
    pairs = np.concatenate([mesh.faces[:, [0, 1]], mesh.faces[:, [1, 2]], mesh.faces[:, [2, 0]]])
    pairs = np.unique(np.sort(pairs, axis=1), axis=0)
    length = np.linalg.norm(mesh.folded[pairs[:, 0]] - mesh.folded[pairs[:, 1]], axis=1)
    count = len(mesh.folded)
    matrix = sparse.coo_matrix((length, (pairs[:, 0], pairs[:, 1])), shape=(count, count))
    return (matrix + matrix.T).tocsr()


def check_values(values: Mapping[str, np.ndarray], name: str) -> dict[str, np.ndarray]:
    """Validate surface values, and return them as floats.

    Parameters
    ----------
    values : mapping of {"left", "right"} to array, shape (vertex,)
        One value per vertex. A missing hemisphere is filled with NaN.
    name : str
        One of :data:`MESHES`.

    Returns
    -------
    dict of str to array, shape (vertex,)
        Both hemispheres; values that are not finite become NaN.

    Raises
    ------
    InputError
        If a key is not a hemisphere, or the number of values does not match the mesh.
    """
    if not isinstance(values, Mapping) or not values or not set(values) <= set(HEMISPHERES):
        raise InputError(
            "surface values must be given per hemisphere",
            given=f"keys {sorted(map(str, values))}" if isinstance(values, Mapping) else type(values).__name__,
            expected="a mapping with the keys 'left' and 'right'",
            todo="pass {'left': array, 'right': array} with one value per vertex, NaN where there is none",
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
                todo="pass one value per vertex, NaN where there is no voxel",
            )
        checked[hemisphere] = np.where(np.isfinite(part), part, np.nan)
    return checked


def nearest_source(source: np.ndarray, name: str, hemisphere: str, limit: float) -> tuple[np.ndarray, np.ndarray]:
    """Find the nearest source vertex of every vertex, by geodesic distance on the pial surface.

    Parameters
    ----------
    source : array of bool, shape (vertex,)
        The source vertices.
    name, hemisphere : str
        The mesh.
    limit : float
        Maximum distance in millimeters.

    Returns
    -------
    nearest : array of int, shape (vertex,)
        Index of the nearest source, or -1 if there is none within `limit`.
    distance : array, shape (vertex,)
        Distance to it in millimeters, or inf if there is none.
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

    The border runs through the midpoints of the edges that join a member and a non-member, and is then smoothed.

    Parameters
    ----------
    member : array of bool, shape (vertex,)
        The set.
    faces : array of int, shape (face, 3)
        The mesh.
    coordinates : array, shape (vertex, 3)
        Coordinates of the vertices.
    smooth : int
        Number of smoothing iterations.

    Returns
    -------
    list of array, shape (point, 3)
        Lines; the first and last points of a closed line are equal.
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
        The vertices of each crossed edge, in order; a closed chain ends with the edge it starts with.
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
    # Start with open chains (cut by the edge of a flat map), from their ends; closed ones follow.
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
