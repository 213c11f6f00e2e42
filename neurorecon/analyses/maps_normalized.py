"""Scores of encoding maps relative to the noise ceiling, beside the raw ones."""

from __future__ import annotations

import pandas as pd

from neurorecon.analyses.maps import VoxelwiseMap
from neurorecon.stats import CEILING_FLOOR, normalize_r2


def voxels_with_normalized(found: VoxelwiseMap, floor: float = CEILING_FLOOR) -> pd.DataFrame:
    """Return the table of voxels, with ``normalized_<column>`` for the joint and the split R2.

    Parameters
    ----------
    found : VoxelwiseMap
        An encoding map; other maps, and maps without noise ceilings, are returned as they are.
    floor : float
        Voxels with a lower noise ceiling have NaN.

    Returns
    -------
    DataFrame
        One row a voxel.
    """
    table = found.table
    if found.kind != "encoding" or "noise_ceiling" not in table:
        return table
    names = ["r2", *(f"r2_{band}" for band in found.bands)]
    ceiling = table["noise_ceiling"].to_numpy(dtype=float)
    columns = {f"normalized_{name}": normalize_r2(table[name].to_numpy(dtype=float), ceiling, floor) for name in names}
    return table.assign(**columns)


def rois_with_normalized(found: VoxelwiseMap, floor: float = CEILING_FLOOR) -> pd.DataFrame:
    """Return the table of ROIs, with ``normalized`` (value over ceiling) and ``normalized_joint``.

    Both are means over the ROI divided by the mean ceiling of the ROI, rather than means of ratios: a few voxels
    with low ceilings would decide those.

    Parameters
    ----------
    found : VoxelwiseMap
        An encoding map; other maps are returned as they are.
    floor : float
        Areas with a lower mean ceiling, or none, have NaN.

    Returns
    -------
    DataFrame
        One row an ROI and band.
    """
    table = found.rois
    if found.kind != "encoding" or not len(table):
        return table
    ceiling = table["ceiling"].to_numpy(dtype=float)
    return table.assign(
        normalized=normalize_r2(table["value"].to_numpy(dtype=float), ceiling, floor),
        normalized_joint=normalize_r2(table["joint"].to_numpy(dtype=float), ceiling, floor),
    )
