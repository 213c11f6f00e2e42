"""Which ROIs a selection of voxels covers."""

from __future__ import annotations

import numpy as np
import pandas as pd

from neurorecon.store.store import Store

#: An ROI counts as part of a selection where at least this share of its voxels is in it.
SHARE_OF_ROI = 0.3


def roi_masks(store: Store, subject: str, table: pd.DataFrame) -> dict[str, np.ndarray]:
    """Return the ROIs that a selection of voxels covers, bool arrays over the selection."""
    masks = {name: mask[table.index.to_numpy()] for name, mask in store.roi_masks(subject).items()}
    whole = store.rois(subject)
    return {name: mask for name, mask in masks.items() if mask.sum() >= SHARE_OF_ROI * max(1, whole[name])}
