"""Compute samples from runs: cleaned volumes, block averages, FIR responses, or single-trial betas.

References
----------
Mumford et al. 2012, NeuroImage 59:2636-2643 (least squares separate: one regressor for the trial, one for all others).
Prince et al. 2022, eLife 11:e77599 (GLMsingle).
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import groupby
from typing import Any

import numpy as np
import pandas as pd

from neurorecon.datasets.bids.layout import BidsOptions
from neurorecon.datasets.bids.runs import RunPlan, RunSamples
from neurorecon.errors import InputError

#: Units of the responses, by the option ``standardize``.
UNITS = {
    "zscore": "standard deviations of the run",
    "psc": "percent signal change",
    "none": "scanner units",
}


def clean(values: np.ndarray, plan: RunPlan, options: BidsOptions) -> np.ndarray:
    """Detrend and filter a run, remove its confounds, and standardize it, with nilearn's ``clean``.

    Parameters
    ----------
    values : array, shape (volume, voxel)
        The run.
    plan : RunPlan
        The confounds and the timing of the run.
    options : BidsOptions
        ``detrend``, ``high_pass`` and ``standardize``.

    Returns
    -------
    array, shape (kept_volume, voxel), float64
    """
    from nilearn.signal import clean as nilearn_clean

    confounds = plan.confounds.table.to_numpy(dtype=float)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # voxels that are 0 throughout, if bad voxels are kept
        return nilearn_clean(
            np.asarray(values, dtype=float),
            detrend=options.detrend,
            standardize=standardize(options),
            confounds=confounds if confounds.shape[1] else None,
            sample_mask=plan.confounds.kept,
            filter="cosine" if options.high_pass else False,
            high_pass=options.high_pass,
            t_r=plan.times.repetition_time,
        )


def scale(values: np.ndarray, plan: RunPlan, options: BidsOptions) -> np.ndarray:
    """Select the kept volumes and standardize them, if drift and confounds are regressors of a model fitted afterwards.

    Parameters
    ----------
    values : array, shape (volume, voxel)
        The run.
    plan : RunPlan
        The volumes to keep.
    options : BidsOptions
        ``standardize``.

    Returns
    -------
    array, shape (kept_volume, voxel), float64
    """
    from nilearn.signal import standardize_signal

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return standardize_signal(np.asarray(values, dtype=float)[plan.kept], standardize=standardize(options))


def standardize(options: BidsOptions) -> str | None:
    """Return the value of nilearn's parameter ``standardize``."""
    return {"zscore": "zscore_sample", "psc": "psc", "none": None}[options.standardize]


def describe(options: BidsOptions) -> str:
    """Describe the preprocessing, for the description of the store."""
    done = []
    if options.detrend:
        done.append("linear trend removed by run")
    if options.high_pass:
        done.append(f"high-pass filtered at {options.high_pass:g} Hz (cosines)")
    wanted = options.confounds
    names = wanted if isinstance(wanted, list) else [f"nilearn's strategy {'+'.join(wanted.strategy)}"]
    done.append(f"confounds removed: {', '.join(names)}" if names else "no confounds removed")
    if options.standardize != "none":
        done.append(f"scaled by run to {UNITS[options.standardize]}")
    return "; ".join(done)


#: Tolerance (s), so that rounding does not move a volume out of a window.
EPSILON = 1e-6


def block_windows(plan: RunPlan, lag: float, window: float | None) -> tuple[RunSamples, list[np.ndarray]]:
    """Find the volumes of each presentation: those from its onset plus `lag`, for its duration.

    Parameters
    ----------
    plan : RunPlan
        The run.
    lag : float
        Seconds by which the response follows the stimulus.
    window : float or None
        Seconds to use instead of the durations of the events.

    Returns
    -------
    samples : RunSamples
        The presentations whose response was recorded.
    windows : list of int array
        For each sample, the indices of its volumes among the kept ones. If no volume is in the window, the one closest
        to its center is used.
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
    """Find the stimulus that was shown `lag` seconds before each volume, leaving out rest.

    Parameters
    ----------
    plan : RunPlan
        The run.
    lag : float
        Seconds by which the response follows the stimulus.

    Returns
    -------
    samples : RunSamples
        One sample per volume; ``time`` is that of the volume, a multiple of the repetition time.
    windows : list of int array
        For each sample, the index of its volume among the kept ones.
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
    """Average the volumes of each sample.

    Parameters
    ----------
    values : array, shape (kept_volume, voxel)
        The run.
    windows : sequence of int array
        Indices of the volumes of each sample.

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


#: Condition number above which a design is considered singular.
SINGULAR = 1e8


class TrialModel:
    """Single-trial betas by least squares: all trials in one model, or one model per trial.

    Parameters
    ----------
    plan : RunPlan
        The run.
    options : BidsOptions
        ``least_squares``, ``hrf_model``, ``noise_model``, ``high_pass``, ``detrend``, ``lag``.

    Attributes
    ----------
    samples : RunSamples
        One sample per trial whose response was recorded, i.e. whose onset plus lag is within the run.

    Raises
    ------
    InputError
        If the design is singular.
    """

    def __init__(self, plan: RunPlan, options: BidsOptions) -> None:
        events = plan.shown.stimuli
        last = plan.times.volumes[plan.kept].max(initial=-1.0)
        recorded = np.flatnonzero(events["onset"] + options.seconds_after <= last)
        table = pd.DataFrame(
            {"stimulus": events["stimulus"], "presentation": np.arange(len(events)), "time": events["onset"]}
        ).iloc[recorded]
        self.samples = RunSamples(table.reset_index(drop=True), len(events) - len(recorded))
        self._options = options
        names = [f"trial{number:05d}" for number in range(len(events))]
        design = _design(plan, options, events.assign(trial_type=names))
        self._trials = design[names].to_numpy()[:, recorded]
        late = [name for number, name in enumerate(names) if number not in set(recorded)]
        rest = design.drop(columns=names)
        self._late = design[late].sum(axis=1).to_numpy()[:, None]
        self._nuisance = rest.to_numpy()
        if options.least_squares == "all" and len(recorded):
            _check_rank(plan, np.hstack([self._trials, *self._extra(), self._nuisance]), "trials", "separate")
        elif len(recorded):
            _check_rank(plan, self._separate(0), "trial, other trials", None)

    def fit(self, values: np.ndarray) -> np.ndarray:
        """Return the beta of each trial.

        Parameters
        ----------
        values : array, shape (kept_volume, voxel)
            The run, standardized but not detrended.

        Returns
        -------
        array, shape (trial, voxel)
        """
        count = self._trials.shape[1]
        if self._options.least_squares == "all":
            design = np.hstack([self._trials, *self._extra(), self._nuisance])
            return betas(values, design, count, self._options.noise_model)
        found = [betas(values, self._separate(trial), 1, self._options.noise_model)[0] for trial in range(count)]
        return np.stack(found) if found else np.empty((0, values.shape[1]))

    def _extra(self) -> list[np.ndarray]:
        """Return the nuisance regressor of trials at the very end of the run, unless it is zero."""
        return [self._late] if np.abs(self._late).max(initial=0.0) > 1e-3 else []

    def _separate(self, trial: int) -> np.ndarray:
        """Return the design for one trial: its regressor, the sum of all other trials, and nuisance regressors."""
        others = self._trials.sum(axis=1) - self._trials[:, trial] + self._late[:, 0]
        columns = [self._trials[:, trial]] + ([others] if np.abs(others).max() > 1e-3 else [])
        return np.hstack([np.column_stack(columns), self._nuisance])


class ResponseModel:
    """Finite impulse responses: the response to each stimulus of a run at each volume after its onset.

    Delays are counted from the volume before the onset. A sample is the mean of the response from `lag` on, for the
    duration of the event (or `window`), i.e. a block average that accounts for overlapping responses.

    Parameters
    ----------
    plan : RunPlan
        The run.
    options : BidsOptions
        ``fir_seconds``, ``lag``, ``window``, ``noise_model``, ``high_pass``, ``detrend``.

    Attributes
    ----------
    samples : RunSamples
        One sample per stimulus whose response was recorded.

    Raises
    ------
    InputError
        If the design is singular.
    """

    def __init__(self, plan: RunPlan, options: BidsOptions) -> None:
        events, step = plan.shown.stimuli, plan.times.repetition_time
        last = plan.times.volumes[plan.kept].max(initial=-1.0)
        events = events[events["onset"] + options.seconds_after <= last]
        first = events.drop_duplicates("stimulus")
        table = pd.DataFrame(
            {"stimulus": first["stimulus"], "presentation": first.index, "time": first["onset"]}
        ).reset_index(drop=True)
        shown = plan.shown.stimuli["stimulus"]
        self.samples = RunSamples(table, int((~shown.isin(table["stimulus"])).sum()))
        self._noise_model = options.noise_model
        delays = list(range(int(np.ceil(options.fir_seconds / step))))
        names = {name: f"stimulus{number:05d}" for number, name in enumerate(table["stimulus"])}
        phase = _phase(plan, events["onset"].to_numpy())
        # A boxcar of one volume makes tent regressors, i.e. interpolates linearly between volumes.
        conditions = events.assign(
            trial_type=events["stimulus"].map(names), onset=events["onset"] - phase, duration=step
        )
        design = _design(plan, options, conditions, delays)
        columns = [f"{name}_delay_{delay}" for name in names.values() for delay in delays]
        columns = [name for name in columns if np.abs(design[name]).max() > 0]
        self._design = np.hstack([design[columns].to_numpy(), design.drop(columns=_delayed(design)).to_numpy()])
        self._average = np.zeros((len(table), len(columns)))
        for row, (name, duration) in enumerate(zip(names.values(), first["duration"], strict=True)):
            for delay in _within(delays, step, phase + options.seconds_after, options.window or duration):
                if f"{name}_delay_{delay}" in columns:
                    self._average[row, columns.index(f"{name}_delay_{delay}")] = 1.0
        self._average /= np.maximum(self._average.sum(axis=1, keepdims=True), 1.0)
        if len(table):
            _check_rank(plan, self._design, "delays of stimuli", None)

    def fit(self, values: np.ndarray) -> np.ndarray:
        """Return the mean response to each stimulus, (stimulus, voxel), from a run (kept_volume, voxel)."""
        return self._average @ betas(values, self._design, self._average.shape[1], self._noise_model)


def betas(values: np.ndarray, design: np.ndarray, count: int, noise_model: str) -> np.ndarray:
    """Fit a general linear model with nilearn, and return the betas of its first regressors.

    Parameters
    ----------
    values : array, shape (volume, voxel)
        The run.
    design : array, shape (volume, regressor)
        The design matrix.
    count : int
        Number of regressors whose betas are returned.
    noise_model : str
        ``"ols"``, ``"ar1"`` etc.

    Returns
    -------
    array, shape (count, voxel)
    """
    from nilearn.glm.first_level import run_glm

    labels, results = run_glm(values, design, noise_model=noise_model, random_state=0)
    found = np.empty((count, values.shape[1]))
    for label, result in results.items():
        found[:, labels == label] = result.theta[:count]
    return found


def _design(
    plan: RunPlan, options: BidsOptions, conditions: pd.DataFrame, delays: list[int] | None = None
) -> pd.DataFrame:
    """Return the design of a run, one row per kept volume. Events that are not stimuli are nuisance regressors."""
    from nilearn.glm.first_level import make_first_level_design_matrix

    confounds = plan.confounds.table
    drift = "cosine" if options.high_pass else "polynomial" if options.detrend else None
    columns = ["onset", "duration", "trial_type"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # events without duration; near-singular designs are refused elsewhere
        matrix = make_first_level_design_matrix(
            plan.times.volumes,
            conditions[columns],
            hrf_model=options.hrf_model if delays is None else "fir",
            fir_delays=delays,
            drift_model=drift,
            high_pass=options.high_pass or 0.01,
            add_regs=_standardized(confounds) if confounds.shape[1] else None,
            add_reg_names=[f"confound_{name}" for name in confounds] if confounds.shape[1] else None,
        )
        others = plan.shown.others
        if len(others):
            named = others.assign(trial_type="other_" + others["trial_type"].astype(str))
            extra = make_first_level_design_matrix(
                plan.times.volumes, named[columns], hrf_model=options.hrf_model, drift_model=None
            )
            matrix = pd.concat([matrix, extra.drop(columns="constant")], axis=1)
    return matrix.iloc[plan.kept].reset_index(drop=True)


def _standardized(confounds: pd.DataFrame) -> np.ndarray:
    values = confounds.to_numpy(dtype=float)
    spread = values.std(axis=0)
    return (values - values.mean(axis=0)) / np.where(spread > 0, spread, 1.0)


def _delayed(design: pd.DataFrame) -> list[str]:
    return [name for name in design if str(name).startswith("stimulus") and "_delay_" in str(name)]


def _phase(plan: RunPlan, onsets: np.ndarray) -> float:
    """Return how many seconds the onsets follow the preceding volume, on average; 0 if they are spread out.

    Tent regressors halfway between two volumes would be nearly collinear with their neighbors, so delays are counted
    from volumes instead of onsets.
    """
    step = plan.times.repetition_time
    turns = np.exp(2j * np.pi * (onsets - plan.times.start) / step)
    together = turns.mean() if len(turns) else 0.0
    return float(np.angle(together) % (2 * np.pi) / (2 * np.pi) * step) if abs(together) > 0.5 else 0.0


def _within(delays: list[int], step: float, lag: float, window: float) -> list[int]:
    inside = [delay for delay in delays if lag - 1e-6 <= delay * step < lag + window - 1e-6]
    return inside or [min(delays, key=lambda delay: abs(delay * step - lag - window / 2))]


def _check_rank(plan: RunPlan, design: np.ndarray, what: str, instead: str | None) -> None:
    """Raise :class:`InputError` if the design does not have a unique solution."""
    scaled = design / np.maximum(np.linalg.norm(design, axis=0), 1e-12)
    if design.shape[0] > design.shape[1] and np.linalg.cond(scaled) < SINGULAR:
        return
    raise InputError(
        f"the design of {plan.name} is singular: its {what} cannot be told apart",
        given=f"{design.shape[0]} volumes for {design.shape[1]} regressors (confounds and drift included)",
        expected="more volumes than regressors, and linearly independent regressors",
        todo=f'set least_squares = "{instead}" in [options]'
        if instead
        else "use fewer confounds, shorter fir_seconds, stimuli that repeat within the run (stimulus_column = "
        '"trial_type"), or samples = "block"',
    )


#: Largest distance of an onset from a volume, as a fraction of the repetition time.
OFF_THE_VOLUMES = 0.1


class SessionModel:
    """Single-trial betas of a session by GLMsingle.

    GLMsingle selects a hemodynamic response function for each voxel, removes noise components (derived from voxels that
    do not respond to the stimuli), and regularizes the betas by fractional ridge regression, all cross-validated across
    the repeats within the session.

    Parameters
    ----------
    plans : sequence of RunPlan
        The runs of the session.

    Attributes
    ----------
    samples : list of RunSamples
        For each run, one sample per trial.

    Raises
    ------
    InputError
        If GLMsingle is not installed, or the runs do not meet its requirements.
    """

    def __init__(self, plans: Sequence[RunPlan]) -> None:
        if find_spec("glmsingle") is None:
            raise InputError(
                'samples = "glmsingle" needs a package that is not installed',
                given="no package 'glmsingle'",
                expected="GLMsingle (github.com/cvnlab/GLMsingle) to be installed",
                todo='pip install glmsingle, or set samples = "glm"',
            )
        names = sorted({name for plan in plans for name in plan.shown.stimuli["stimulus"]})
        self._plans = list(plans)
        self._designs = [_session_design(plan, names) for plan in plans]
        self._seconds = float(pd.concat([plan.shown.stimuli["duration"] for plan in plans]).median())
        self._repetition_time = _one({plan.times.repetition_time for plan in plans}, "repetition times", plans)
        repeated = sum(design.sum(axis=0) for design in self._designs)
        if not (np.asarray(repeated) > 1).any() or len(plans) < 2:
            raise InputError(
                f"GLMsingle needs repeats, but the session of {plans[0].name} has none",
                given=f"{len(names)} stimuli in {len(plans)} runs",
                expected="at least two runs and repeated stimuli, across which GLMsingle cross-validates",
                todo='set samples = "glm" in [options]',
            )
        self.samples = [RunSamples(_trials(plan), 0) for plan in plans]

    def fit(self, runs: Sequence[np.ndarray]) -> np.ndarray:
        """Return the beta of each trial, in percent signal change.

        Parameters
        ----------
        runs : sequence of array, shape (volume, voxel)
            All runs of the session.

        Returns
        -------
        array, shape (trial, voxel), float32
        """
        from glmsingle.glmsingle import GLM_single

        confounds = [plan.confounds.table.to_numpy(dtype=float) for plan in self._plans]
        settings: dict[str, Any] = {"wantfileoutputs": [0, 0, 0, 0], "wantmemoryoutputs": [0, 0, 0, 1]}
        if confounds[0].shape[1]:
            settings["extra_regressors"] = confounds
        with open(os.devnull, "w", encoding="utf-8") as quiet, redirect_stdout(quiet):
            found = GLM_single(settings).fit(
                self._designs, [run.T for run in runs], self._seconds, self._repetition_time, outputdir=None
            )
        betas = np.asarray(found["typed"]["betasmd"], dtype=np.float32)
        return betas.reshape(runs[0].shape[1], -1).T


def _session_design(plan: RunPlan, names: Sequence[str]) -> np.ndarray:
    """Return a design matrix with ones at the volumes in which stimuli begin, (volume, stimulus)."""
    if plan.confounds.kept is not None:
        raise InputError(
            f"GLMsingle cannot exclude volumes of {plan.name}",
            given=f"{plan.times.length - len(plan.kept)} scrubbed volumes",
            expected="all volumes",
            todo="remove scrub from the strategy of confounds",
        )
    events, step = plan.shown.stimuli, plan.times.repetition_time
    volumes = events["onset"].to_numpy() / step
    if (np.abs(volumes - volumes.round()) > OFF_THE_VOLUMES).any():
        raise InputError(
            f"the onsets of {plan.name} are not aligned with volumes",
            given=f"onsets such as {events['onset'].iloc[0]:g} s, a volume every {step:g} s",
            expected="onsets at multiples of the repetition time, as GLMsingle requires",
            todo='resample the runs to a repetition time that divides the onsets, or set samples = "glm"',
        )
    design = np.zeros((plan.times.length, len(names)))
    places = {name: number for number, name in enumerate(names)}
    for volume, name in zip(volumes.round().astype(int), events["stimulus"], strict=True):
        design[min(volume, len(design) - 1), places[name]] = 1.0
    return design


def _trials(plan: RunPlan) -> pd.DataFrame:
    events = plan.shown.stimuli
    return pd.DataFrame(
        {"stimulus": events["stimulus"], "presentation": np.arange(len(events)), "time": events["onset"]}
    )


def _one(values: set[float], what: str, plans: Sequence[RunPlan]) -> float:
    if len(values) > 1:
        raise InputError(
            f"the runs of the session of {plans[0].name} have different {what}",
            given=", ".join(f"{value:g} s" for value in sorted(values)),
            expected="the same in all runs",
            todo="select tasks or runs in [options]",
        )
    return values.pop()


#: Voxels to process at a time, because float64 copies of them are made.
VOXELS_AT_ONCE = 4096


@dataclass(frozen=True)
class Process:
    """How to compute the samples of runs that are processed together: one run, or a session for GLMsingle.

    Parameters
    ----------
    plans : tuple of RunPlan
        The runs.
    samples : tuple of RunSamples
        The samples of each run.
    compute : callable
        Takes a list of arrays (volume, voxel), one per run, and returns the samples (sample, voxel).
    """

    plans: tuple[RunPlan, ...]
    samples: tuple[RunSamples, ...]
    compute: Callable[[list[np.ndarray]], np.ndarray]

    def __len__(self) -> int:
        return sum(len(samples.table) for samples in self.samples)


def make_processes(plans: Sequence[RunPlan], options: BidsOptions) -> list[Process]:
    """Return how to compute the samples of a subject.

    Parameters
    ----------
    plans : sequence of RunPlan
        The runs of the subject.
    options : BidsOptions
        The options of the reader.

    Returns
    -------
    list of Process

    Raises
    ------
    InputError
        If the design of a run does not allow it.
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
            return model.fit(scale(values, plan, options))
    else:
        lag = options.seconds_after
        if options.samples == "volume":
            samples, chosen = volume_windows(plan, lag)
        else:
            samples, chosen = block_windows(plan, lag, options.window)

        def compute(values: np.ndarray) -> np.ndarray:
            return average(clean(values, plan, options), chosen)

    return Process((plan,), (samples,), lambda runs: _by_voxels(compute, runs[0], len(samples.table)))


def _by_voxels(compute: Callable[[np.ndarray], np.ndarray], values: np.ndarray, number: int) -> np.ndarray:
    found = np.empty((number, values.shape[1]), dtype=np.float32)
    for start in range(0, values.shape[1], VOXELS_AT_ONCE):
        part = slice(start, start + VOXELS_AT_ONCE)
        found[:, part] = compute(values[:, part])
    return found
