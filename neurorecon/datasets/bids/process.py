"""From the volumes of runs to samples, by the option ``samples``; a few thousand voxels at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from neurorecon.datasets.bids import cleaning, windows
from neurorecon.datasets.bids.glm import ResponseModel, TrialModel
from neurorecon.datasets.bids.glmsingle import SessionModel
from neurorecon.datasets.bids.options import BidsOptions
from neurorecon.datasets.bids.plan import RunPlan, RunSamples

#: Voxels that are worked on at once: float64 copies of them are made.
VOXELS_AT_ONCE = 4096


@dataclass(frozen=True)
class Process:
    """What becomes of the runs that are in memory together: one, or those of a session for GLMsingle.

    Parameters
    ----------
    plans : tuple of RunPlan
    samples : tuple of RunSamples
        What each run gives.
    compute : callable
        A list of arrays (volume, voxel), one a run, to samples (sample, voxel).
    """

    plans: tuple[RunPlan, ...]
    samples: tuple[RunSamples, ...]
    compute: Callable[[list[np.ndarray]], np.ndarray]

    def __len__(self) -> int:
        return sum(len(samples.table) for samples in self.samples)


def make_processes(plans: Sequence[RunPlan], options: BidsOptions) -> list[Process]:
    """Return what becomes of the runs of a subject.

    Raises
    ------
    InputError
        Where the design of a run does not allow it.
    """
    if options.samples != "glmsingle":
        return [_of_run(plan, options) for plan in plans]
    processes = []
    for _, group in groupby(plans, key=lambda plan: plan.files.session):
        session = tuple(group)
        model = SessionModel(session)
        processes.append(Process(session, tuple(model.samples), model.fit))
    return processes


def _of_run(plan: RunPlan, options: BidsOptions) -> Process:
    if options.samples in ("glm", "fir"):
        model = TrialModel(plan, options) if options.samples == "glm" else ResponseModel(plan, options)
        samples = model.samples

        def compute(values: np.ndarray) -> np.ndarray:
            return model.fit(cleaning.scale(values, plan, options))
    else:
        lag = options.seconds_after
        if options.samples == "volume":
            samples, chosen = windows.volume_windows(plan, lag)
        else:
            samples, chosen = windows.block_windows(plan, lag, options.window)

        def compute(values: np.ndarray) -> np.ndarray:
            return windows.average(cleaning.clean(values, plan, options), chosen)

    return Process((plan,), (samples,), lambda runs: _by_voxels(compute, runs[0], len(samples.table)))


def _by_voxels(compute: Callable[[np.ndarray], np.ndarray], values: np.ndarray, number: int) -> np.ndarray:
    found = np.empty((number, values.shape[1]), dtype=np.float32)
    for start in range(0, values.shape[1], VOXELS_AT_ONCE):
        part = slice(start, start + VOXELS_AT_ONCE)
        found[:, part] = compute(values[:, part])
    return found
