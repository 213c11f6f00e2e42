"""Samples that are volumes or means of volumes: ``block`` and ``volume``."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from neurorecon.datasets.bids.plan import RunPlan, RunSamples

#: So that rounding does not move a volume out of a window.
EPSILON = 1e-6


def block_windows(plan: RunPlan, lag: float, window: float | None) -> tuple[RunSamples, list[np.ndarray]]:
    """Find the volumes of each presentation: those from its onset + lag on, for its duration.

    Parameters
    ----------
    plan : RunPlan
    lag : float
        Seconds.
    window : float or None
        Seconds in place of the durations of the events.

    Returns
    -------
    RunSamples
    list of int array
        Of each sample: the places of its volumes among the kept ones. Where none falls into the window, the one
        nearest to its middle.
    """
    times, half = plan.times.volumes[plan.kept], plan.times.repetition_time / 2
    rows, windows = [], []
    for number, event in enumerate(plan.shown.stimuli.itertuples()):
        first = event.onset + lag
        last = first + (event.duration if window is None else window)
        inside = np.flatnonzero((times >= first - EPSILON) & (times < last - EPSILON))
        if not len(inside) and len(times):
            distance = np.abs(times - (first + last) / 2)
            inside = np.flatnonzero((distance == distance.min()) & (distance <= half + EPSILON))[:1]
        if len(inside):
            rows.append((event.stimulus, number, event.onset))
            windows.append(inside)
    return _samples(rows, len(plan.shown.stimuli)), windows


def volume_windows(plan: RunPlan, lag: float) -> tuple[RunSamples, list[np.ndarray]]:
    """Find for each volume what was on the screen `lag` seconds before; volumes of rest are left out.

    Returns
    -------
    RunSamples
        ``time`` is that of the volume, from the onset of the run in steps of the repetition time.
    list of int array
        Of each sample: the place of its volume among the kept ones.
    """
    times = plan.times.volumes - lag
    events = plan.shown.stimuli
    shown = np.full(plan.times.length, -1)
    for number, (onset, duration) in enumerate(zip(events["onset"], events["duration"], strict=True)):
        shown[(times >= onset - EPSILON) & (times < onset + duration - EPSILON)] = number
    rows, windows = [], []
    for place, volume in enumerate(plan.kept):
        if shown[volume] >= 0:
            rows.append((events["stimulus"][shown[volume]], shown[volume], volume * plan.times.repetition_time))
            windows.append(np.array([place]))
    return _samples(rows, len(events)), windows


def average(values: np.ndarray, windows: Sequence[np.ndarray]) -> np.ndarray:
    """Return the mean of the volumes of each sample.

    Parameters
    ----------
    values : array, shape (kept_volume, voxel)
    windows : sequence of int array
        One a sample.

    Returns
    -------
    array, shape (sample, voxel)
    """
    if not windows:
        return np.empty((0, values.shape[1]), dtype=values.dtype)
    return np.stack([values[window].mean(axis=0) for window in windows])


def _samples(rows: list[tuple], presentations: int) -> RunSamples:
    table = pd.DataFrame(rows, columns=["stimulus", "presentation", "time"])
    return RunSamples(table, presentations - table["presentation"].nunique())
