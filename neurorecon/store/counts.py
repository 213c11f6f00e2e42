"""How much of what a store holds; counted once, when it is built, so that nobody has to read whole tables for it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas as pd


def count_bytes(arrays: Iterable[tuple[str, Any]]) -> int:
    """Return the size of arrays before compression; text counts as its references.

    Parameters
    ----------
    arrays : iterable of (path, Zarr array)
    """
    return sum(math.prod(array.shape) * max(array.dtype.itemsize, 1) for _, array in arrays)


def count_voxels(rois: Mapping[str, np.ndarray]) -> list[tuple[str, int]]:
    """Return the number of voxels of each ROI.

    Parameters
    ----------
    rois : mapping of str to bool array, shape (voxel,)
    """
    return [(name, int(np.count_nonzero(mask))) for name, mask in rois.items()]


def median_ceilings(tasks: Iterable[str], noise_ceiling: np.ndarray) -> dict[str, float | None]:
    """Return the median noise ceiling over voxels of each task that has one; None where it is not known.

    Parameters
    ----------
    tasks : iterable of str
    noise_ceiling : array, shape (repeated_task, voxel)
    """
    rows = [row[np.isfinite(row)] for row in noise_ceiling]
    return {task: round(float(np.median(row)), 4) if row.size else None for task, row in zip(tasks, rows, strict=True)}


def count_stimuli(stimuli: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the number of stimuli of each kind and split.

    Parameters
    ----------
    stimuli : DataFrame
        With ``kind`` and ``split``; an empty split is that of stimuli that nobody saw.
    """
    found = stimuli.groupby(["kind", "split"], sort=False).size()
    return [
        {"kind": str(kind), "split": str(split) or "not shown", "number": int(number)}
        for (kind, split), number in found.items()
    ]


def count_samples(samples: pd.DataFrame) -> list[dict[str, Any]]:
    """Return samples, stimuli, repeats and runs of each task and split of a subject.

    Parameters
    ----------
    samples : DataFrame
        The sample table.
    """
    return [
        {
            "task": str(task),
            "split": str(split),
            "samples": len(part),
            "stimuli": int(part["stimulus"].nunique()),
            "repeats": int(part["repeat"].max()),
            "runs": int(part.groupby(["session", "run"]).ngroups),
        }
        for (task, split), part in samples.groupby(["task", "split"], sort=False)
    ]
