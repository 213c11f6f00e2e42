"""Which areas a selection of voxels covers."""

from __future__ import annotations

import numpy as np
import pandas as pd

from neurorecon.store.store import Store

#: An area counts as part of a selection where at least this share of its voxels is in it.
SHARE_OF_AREA = 0.3


def area_masks(store: Store, subject: str, table: pd.DataFrame) -> dict[str, np.ndarray]:
    """Return the areas that a selection of voxels covers, bool arrays over the selection."""
    masks = {name: mask[table.index.to_numpy()] for name, mask in store.roi_masks(subject).items()}
    whole = store.rois(subject)
    return {name: mask for name, mask in masks.items() if mask.sum() >= SHARE_OF_AREA * max(1, whole[name])}
