"""The cortex of a simulated subject: which vertices of fsaverage5 lie in which area, and what they see."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pandas as pd

from neurorecon.datasets.scenes.areas import (
    AREAS,
    EARLY,
    LARGEST_ECCENTRICITY,
    OVERLAPPING,
    Area,
    EarlyLayout,
)
from neurorecon.errors import InputError

MESH = "fsaverage5"
HEMISPHERES = ("left", "right")

#: Radius of the sphere of fsaverage, mm.
_RADIUS = 100.0

#: Differences between subjects: shift of areas (mm), and spread of the logarithm of their radius.
_SHIFT = 2.0
_SPREAD = 0.08


@dataclass(frozen=True)
class Hemisphere:
    """What the simulation needs to know of one hemisphere of fsaverage5.

    Parameters
    ----------
    sphere : array, shape (vertex, 3)
        Unit vectors.
    middle : array, shape (vertex, 3)
        Halfway between the white and the pial surface, mm.
    cortex : bool array, shape (vertex,)
        False on the medial wall, where the two surfaces are one.
    """

    sphere: np.ndarray
    middle: np.ndarray
    cortex: np.ndarray


@dataclass(frozen=True)
class Cortex:
    """The voxels of one subject.

    Parameters
    ----------
    voxels : DataFrame
        One row a voxel: ``hemisphere``, ``vertex``, ``depth`` (0, or more where there are more voxels than
        vertices), ``area`` (the one whose model it follows; "" outside), ``prf_x``, ``prf_y`` (degrees to the
        right and downward), ``prf_size`` (degrees), ``x``, ``y``, ``z`` (mm).
    rois : dict of str to bool array, shape (voxel,)
        Membership. Areas that localizers delineate may overlap.
    """

    voxels: pd.DataFrame
    rois: dict[str, np.ndarray]


@lru_cache(maxsize=1)
def load_hemispheres() -> dict[str, Hemisphere]:
    """Return both hemispheres of fsaverage5, from the files that nilearn ships."""
    from nilearn.datasets import load_fsaverage

    meshes = load_fsaverage(MESH)
    result = {}
    for name in HEMISPHERES:
        pial, white, sphere = (
            np.asarray(meshes[kind].parts[name].coordinates, dtype=float) for kind in ("pial", "white_matter", "sphere")
        )
        unit = sphere / np.linalg.norm(sphere, axis=1, keepdims=True)
        # Written to a thousandth of a millimeter in the files.
        cortex = np.linalg.norm(pial - white, axis=1) > 0.05
        result[name] = Hemisphere(sphere=unit, middle=(pial + white) / 2, cortex=cortex)
    return result


def build_cortex(seed: int, subject: int, voxels: int, outside: float = 0.1) -> Cortex:
    """Draw the areas of a subject and sample voxels from them.

    Parameters
    ----------
    seed : int
        Of the data set.
    subject : int
        Number of the subject; areas differ in place and size from subject to subject.
    voxels : int
        How many to sample. Voxels lie at different vertices as long as there are enough of them, and at
        several depths of the cortex beyond.
    outside : float
        Share of the voxels that lie outside all visual areas.

    Returns
    -------
    Cortex

    Raises
    ------
    InputError
        For fewer voxels than areas.
    """
    if voxels < 2 * len(AREAS):
        raise InputError(
            "too few voxels for a brain",
            given=voxels,
            expected=f"{2 * len(AREAS)} or more, so that every area gets some",
        )
    random = np.random.default_rng(np.random.SeedSequence([seed, subject, 0xC0]))
    table = pd.concat([_draw_hemisphere(random, name) for name in HEMISPHERES], ignore_index=True)
    visual = np.flatnonzero(table["area"] != "")
    other = np.flatnonzero((table["area"] == "") & table.pop("far"))
    # About 2,500 voxels fill the areas of fsaverage5 once.
    inside = min(round(voxels * (1.0 - outside)), len(visual) * max(1, round(voxels / 2500)))
    # As many from each area as its size tells, so that a small sample has voxels of every area.
    names = table["area"].to_numpy(dtype=str)[visual]
    parts = [
        _sample(random, visual[names == name], number) for name, number in zip(*_divide(names, inside), strict=True)
    ]
    parts.append(_sample(random, other, voxels - inside))
    rows, depths = (np.concatenate(values) for values in zip(*parts, strict=True))
    order = np.lexsort((depths, rows))
    table = table.iloc[rows[order]].reset_index(drop=True)
    table.insert(2, "depth", depths[order])
    rois = {area.name: table.pop(f"in {area.name}").to_numpy(dtype=bool) for area in AREAS}
    return Cortex(voxels=table, rois=rois)


def _divide(names: np.ndarray, number: int) -> tuple[np.ndarray, np.ndarray]:
    """Divide `number` among areas in proportion to their vertices, at least one each (largest remainders)."""
    areas, counts = np.unique(names, return_counts=True)
    exact = counts * number / counts.sum()
    shares = np.maximum(np.floor(exact).astype(int), 1)
    for index in np.argsort(shares - exact, kind="stable")[: max(0, number - shares.sum())]:
        shares[index] += 1
    while shares.sum() > number:
        shares[shares.argmax()] -= 1
    return areas, shares


def _sample(random: np.random.Generator, pool: np.ndarray, number: int) -> tuple[np.ndarray, np.ndarray]:
    """Return vertices without replacement, going through the pool again at another depth when it is used up."""
    rows, depths = [], []
    depth = 0
    while number > 0:
        taken = np.sort(random.permutation(pool)[:number])
        rows.append(taken)
        depths.append(np.full(len(taken), depth))
        number -= len(taken)
        depth += 1
    if not rows:
        return np.zeros(0, dtype=int), np.zeros(0, dtype=int)
    return np.concatenate(rows), np.concatenate(depths)


def _draw_hemisphere(random: np.random.Generator, name: str) -> pd.DataFrame:
    """Return a table of all vertices on the cortex, with the columns of :class:`Cortex`."""
    surface = load_hemispheres()[name]
    number = len(surface.sphere)
    area = np.full(number, "", dtype=object)
    eccentricity, angle, size = np.zeros(number), np.zeros(number), np.zeros(number)
    member = {item.name: np.zeros(number, dtype=bool) for item in AREAS}
    closeness = np.full(number, np.inf)  # distance from the nearest center, in radii

    early = _draw_early(random, surface, EARLY[name])
    for number_of_area, item in enumerate(AREAS[:3], start=1):
        inside = early["area"] == number_of_area
        area[inside], closeness[inside] = item.name, 0.0
        eccentricity[inside], angle[inside] = early["eccentricity"][inside], early["angle"][inside]
    distances = {}
    for item in AREAS[3:]:
        distance, own_eccentricity, own_angle = _draw_disc(random, surface, item, name)
        distances[item.name] = distance
        nearer = distance < np.minimum(closeness, 1.0)
        area[nearer], closeness[nearer] = item.name, distance[nearer]
        eccentricity[nearer], angle[nearer] = own_eccentricity[nearer], own_angle[nearer]
    for item in AREAS:
        own = area == item.name
        member[item.name] |= own
        for pair in OVERLAPPING:
            if item.name in pair:
                (partner,) = pair - {item.name}
                member[item.name] |= (area == partner) & (distances[item.name] < 1.0)
        number_inside = int(own.sum())
        eccentricity[own] *= np.exp(item.scatter * random.standard_normal(number_inside))
        angle[own] += 60.0 * item.scatter * random.standard_normal(number_inside)
        spread = np.exp(0.15 * random.standard_normal(number_inside))
        size[own] = (item.size[0] + item.size[1] * eccentricity[own]) * spread
    side = 1.0 if name == "left" else -1.0  # the left hemisphere sees the right half of the field
    radians = np.deg2rad(angle)
    visual = area != ""
    near = np.min(list(distances.values()), axis=0) < 1.6
    table = pd.DataFrame(
        {
            "hemisphere": name,
            "vertex": np.arange(number),
            "area": area.astype(str),
            "prf_x": np.where(visual, side * eccentricity * np.sin(radians), np.nan),
            "prf_y": np.where(visual, -eccentricity * np.cos(radians), np.nan),
            "prf_size": np.where(visual, size, np.nan),
            "x": surface.middle[:, 0],
            "y": surface.middle[:, 1],
            "z": surface.middle[:, 2],
            # Voxels outside are taken from where no area is near: early visual cortex beyond the pictures
            # and the surroundings of areas are neither one nor the other.
            "far": ~near & ~early["near"],
            **{f"in {key}": values for key, values in member.items()},
        }
    )
    return table[surface.cortex]


def _draw_early(random: np.random.Generator, surface: Hemisphere, layout: EarlyLayout) -> dict[str, np.ndarray]:
    """Return area (1, 2, 3 or 0), eccentricity and polar angle (0 up, 180 down) of each vertex."""
    center = np.asarray(layout.center) / np.linalg.norm(layout.center)
    plane = unroll(surface.sphere, center)
    scale = np.exp(_SPREAD * random.standard_normal())
    moved = (plane - _SHIFT * random.standard_normal(2) * 0.5) / scale
    u, v = moved.T / 30.0
    terms = np.stack([np.ones_like(u), v, v**2, u, u * v, u**2])
    w = np.asarray(layout.real) @ terms + 1j * (np.asarray(layout.imaginary) @ terms)
    close = np.hypot(*plane.T) < 60.0  # the polynomial holds nowhere else
    z = np.exp(np.where(close, w, 0.0)) - layout.foveal
    first, second, third = layout.borders
    eccentricity, argument = np.abs(z), np.angle(z)
    turn = np.abs(argument)
    area = np.select([turn < first, turn < second, turn < third], [1, 2, 3], 0)
    # From the horizontal meridian (0) to the vertical one (1), there and back.
    meridian = np.select(
        [area == 1, area == 2, area == 3],
        [turn / first, (second - turn) / (second - first), (turn - second) / (third - second)],
        0.0,
    )
    return {
        "area": np.where(close & (eccentricity < LARGEST_ECCENTRICITY), area, 0),
        "eccentricity": eccentricity,
        "angle": 90.0 - 90.0 * np.sign(argument) * meridian,
        "near": np.hypot(*plane.T) < 55.0,
    }


def _draw_disc(
    random: np.random.Generator, surface: Hemisphere, area: Area, hemisphere: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return distance from the nearest center (in radii), eccentricity and polar angle, each (vertex,)."""
    mirror = np.array([1.0 if hemisphere == "left" else -1.0, 1.0, 1.0])
    radius = area.radius * np.exp(_SPREAD * random.standard_normal())
    # Moved along the surface: the vertex nearest to a moved coordinate can lie on another bank of a sulcus.
    shift = _SHIFT / _RADIUS * random.standard_normal(3)
    relative = 1.0 if hemisphere == "left" else area.right
    vertices = [_nearest(surface, np.asarray(center) * mirror) for center in area.centers]
    centers = surface.sphere[vertices] + shift
    centers /= np.linalg.norm(centers, axis=1, keepdims=True)
    angles = np.arccos(np.clip(surface.sphere @ centers.T, -1.0, 1.0))
    distance = angles.min(axis=1) * _RADIUS / (radius * relative) if relative else np.full(len(angles), np.inf)
    middle = centers.mean(axis=0)
    plane = unroll(surface.sphere, middle / np.linalg.norm(middle)) / 10.0  # cm
    at_center, growth, direction = area.eccentricity
    steps = np.clip(_along(plane, direction, hemisphere) * growth, -2.0, 1.5)
    eccentricity = np.clip(at_center * np.exp(steps), 0.1, LARGEST_ECCENTRICITY)
    growth, direction = area.angle
    if growth:
        angle = np.clip(90.0 + _along(plane, direction, hemisphere) * growth, 0.0, 180.0)
    else:
        angle = random.uniform(15.0, 165.0, size=len(plane))
    return distance, eccentricity, angle


def _nearest(surface: Hemisphere, target: np.ndarray) -> int:
    squared = ((surface.middle - target) ** 2).sum(axis=1)
    return int(np.argmin(np.where(surface.cortex, squared, np.inf)))


def _along(plane: np.ndarray, degrees: float, hemisphere: str) -> np.ndarray:
    angle = np.deg2rad(degrees if hemisphere == "left" else 180.0 - degrees)
    return plane @ np.array([np.cos(angle), np.sin(angle)])


def unroll(sphere: np.ndarray, center: np.ndarray) -> np.ndarray:
    """Lay the sphere out in the plane around a point, keeping distances from it.

    Parameters
    ----------
    sphere : array, shape (vertex, 3)
        Unit vectors.
    center : array, shape (3,)
        Unit vector.

    Returns
    -------
    array, shape (vertex, 2)
        Millimeters to the right and upward, seen from outside.
    """
    up = np.array([0.0, 0.0, 1.0])
    vertical = up - center * (up @ center)
    vertical /= np.linalg.norm(vertical)
    horizontal = np.cross(vertical, center)
    inside = np.stack([sphere @ horizontal, sphere @ vertical], axis=1)
    length = np.linalg.norm(inside, axis=1, keepdims=True)
    distance = np.arccos(np.clip(sphere @ center, -1.0, 1.0))[:, None]
    return inside / np.maximum(length, 1e-12) * distance * _RADIUS
