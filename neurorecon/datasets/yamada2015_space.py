"""Where the voxels of Yamada 2015 lie, and the areas that they are in."""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np
import pandas as pd

from neurorecon.space import Space

#: Positions may be this far (mm) from the grid: what rounding leaves.
TOLERANCE = 1e-3


def place_voxels(millimeters: np.ndarray) -> tuple[Space, pd.DataFrame, dict[str, str]]:
    """Find the grid that the voxels lie on.

    The file holds positions in millimeters (x grows to the right, as the areas of the two hemispheres tell), but
    neither the shape nor the affine of the volume that they were cut from. Where the positions lie on a regular grid,
    the smallest volume that holds them all is taken: its affine puts every voxel where it was.

    Parameters
    ----------
    millimeters : array, shape (voxel, 3)

    Returns
    -------
    Space
        A volume, or "none" where the positions lie on no grid or two voxels on one place.
    DataFrame
        ``i``, ``j``, ``k``; without columns for "none".
    dict of str to str
        What to report: why there is no volume, or which one it is.
    """
    origin = millimeters.min(axis=0)
    step = np.array([_step(axis) for axis in millimeters.T])
    steps = (millimeters - origin) / step
    indices = np.rint(steps).astype(int)
    table = pd.DataFrame(indices, columns=["i", "j", "k"])
    if (np.abs(steps - indices) * step > TOLERANCE).any() or table.duplicated().any():
        return Space("none"), pd.DataFrame(index=range(len(table))), {"space": "none: positions lie on no regular grid"}
    affine = np.diag([*step, 1.0])
    affine[:3, 3] = origin
    shape = (indices.max(axis=0) + 1).tolist()
    report = {"space": f"the box around the voxels ({' x '.join(f'{size:g}' for size in step)} mm); no more is on file"}
    return Space("volume", affine=affine.tolist(), shape=shape), table, report


def _step(values: np.ndarray) -> float:
    """Return the smallest step between different positions along an axis; 1 where there is only one."""
    steps = np.diff(np.unique(values))
    steps = steps[steps > TOLERANCE]
    return float(steps.min()) if len(steps) else 1.0


def areas_of(named: Mapping[str, np.ndarray], kept: np.ndarray) -> dict[str, np.ndarray]:
    """Return the areas of the voxels that are kept, by the names that neurorecon uses.

    Parameters
    ----------
    named : mapping of str to bool array, shape (voxel,)
        By the names in the file, e.g. ``VOX_MF100301_LH_V1d``.
    kept : bool array, shape (voxel,)

    Returns
    -------
    dict of str to bool array, shape (kept voxel,)
        ``lh.V1d``, ``rh.V1d``, ``V1d``, both parts of V1 as ``V1``, ...; areas without a voxel are left out. Areas
        of the file overlap along their common border.
    """
    found: dict[str, np.ndarray] = {}

    def add(name: str, member: np.ndarray) -> None:
        found[name] = found.get(name, np.zeros(int(kept.sum()), dtype=bool)) | member

    for name, member in named.items():
        match = re.search(r"_(LH|RH)_(\w+)$", name)
        if match is None:
            add(name, member[kept])
            continue
        side, area = match[1].lower(), match[2]
        whole = re.sub(r"(?<=\d)[dv]$", "", area)
        for each in dict.fromkeys((area, whole)):
            add(each, member[kept])
            add(f"{side}.{each}", member[kept])
    return {name: member for name, member in found.items() if member.any()} or {"all": np.ones(kept.sum(), dtype=bool)}
