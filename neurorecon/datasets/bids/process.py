"""From the volumes of a run to its samples, by the option ``samples``; a few thousand voxels at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from neurorecon.datasets.bids import cleaning, windows
from neurorecon.datasets.bids.glm import ResponseModel, TrialModel
from neurorecon.datasets.bids.options import BidsOptions
from neurorecon.datasets.bids.plan import RunPlan, RunSamples

#: Voxels that are worked on at once: float64 copies of them are made.
VOXELS_AT_ONCE = 4096


@dataclass(frozen=True)
class Process:
    """What becomes of one run.

    Parameters
    ----------
    samples : RunSamples
        What it gives.
    compute : callable
        Values (volume, voxel) to samples (sample, voxel).
    """

    samples: RunSamples
    compute: Callable[[np.ndarray], np.ndarray]

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """Return the samples of a run, float32 (sample, voxel)."""
        found = np.empty((len(self.samples.table), values.shape[1]), dtype=np.float32)
        for start in range(0, values.shape[1], VOXELS_AT_ONCE):
            part = slice(start, start + VOXELS_AT_ONCE)
            found[:, part] = self.compute(values[:, part])
        return found


def make_process(plan: RunPlan, options: BidsOptions) -> Process:
    """Return what becomes of a run.

    Raises
    ------
    InputError
        Where the design of the run does not allow it.
    """
    if options.samples in ("glm", "fir"):
        model = TrialModel(plan, options) if options.samples == "glm" else ResponseModel(plan, options)
        return Process(model.samples, lambda values: model.fit(cleaning.scale(values, plan, options)))
    lag = options.seconds_after
    if options.samples == "volume":
        samples, chosen = windows.volume_windows(plan, lag)
    else:
        samples, chosen = windows.block_windows(plan, lag, options.window)
    return Process(samples, lambda values: windows.average(cleaning.clean(values, plan, options), chosen))
