"""What a map is: a table of voxels, one of ROIs, scores, and everything that was chosen."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pandas as pd

Kind = Literal["encoding", "decoding", "haufe"]
KINDS: tuple[Kind, ...] = ("encoding", "decoding", "haufe")


@dataclass(frozen=True)
class VoxelwiseMap:
    """Maps of one subject.

    Parameters
    ----------
    subject, kind, task : str
        What was analyzed.
    bands : list of str
        Targets that were used, one band each.
    table : DataFrame
        One row a voxel. For encoding: ``r2`` (joint), ``r2_<band>`` (split, product measure), ``noise_ceiling``,
        ``p`` (permutation, uncorrected), ``q`` (Benjamini-Hochberg over the voxels of the map), ``significant``
        (q at most the level and R2 above 0), ``winning_band`` (largest split R2 of a significant voxel), ``alpha``.
        For decoding and haufe, per target: ``<kind>_<target>``, ``p_<target>``, ``q_<target>`` and
        ``significant_<target>``.
    ROIs : DataFrame
        One row an ROI and band: mean over all voxels of the ROI in the map. See :func:`voxelwise_maps`.
    scores : list of dict
        Scores beside their null, for tables and scripts.
    settings : dict
        Everything that was chosen: delays, numbers of stimuli, permutations, seed.
    """

    subject: str
    kind: Kind
    task: str
    bands: list[str]
    table: pd.DataFrame
    rois: pd.DataFrame
    scores: list[dict[str, Any]]
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def maps(self) -> dict[str, np.ndarray]:
        """The maps as arrays of shape (voxel,), by column name."""
        wanted = ("r2", "decoding_", "haufe_", "noise_ceiling", "p", "q")
        names = [name for name in self.table if name.startswith(wanted) and name != "rois"]
        return {name: self.table[name].to_numpy(dtype=float) for name in names}
