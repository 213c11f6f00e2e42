"""From the volumes of runs to samples: cleaned time series, means of volumes, single-trial betas.

References
----------
Mumford et al. 2012, NeuroImage 59:2636-2643 (least squares separate: one regressor for the trial, one for all others).

References
----------
Prince et al. 2022, eLife 11:e77599.
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
    """Detrend, filter, remove confounds and standardize.

    Parameters
    ----------
    values : array, shape (volume, voxel)
    plan : RunPlan
    options : BidsOptions
        ``detrend``, ``high_pass``, ``standardize``; the confounds are those of the plan.

    Returns
    -------
    array, shape (kept_volume, voxel), float64
    """
    from nilearn.signal import clean as nilearn_clean

    confounds = plan.confounds.table.to_numpy(dtype=float)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a voxel that is 0 throughout, on request
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
    """Standardize alone: drift and confounds are regressors of the model that follows.

    Returns
    -------
    array, shape (kept_volume, voxel), float64
    """
    from nilearn.signal import standardize_signal

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return standardize_signal(np.asarray(values, dtype=float)[plan.kept], standardize=standardize(options))


def standardize(options: BidsOptions) -> str | None:
    """Return nilearn's word."""
    return {"zscore": "zscore_sample", "psc": "psc", "none": None}[options.standardize]


def describe(options: BidsOptions) -> str:
    """Say what was done, for the description of the store."""
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


#: A design whose condition number is above this cannot tell its regressors apart.
SINGULAR = 1e8


class TrialModel:
    """Least squares for single trials: all in one model, or a model for each.

    Parameters
    ----------
    plan : RunPlan
    options : BidsOptions
        ``least_squares``, ``hrf_model``, ``noise_model``, ``high_pass``, ``detrend``, ``lag``.

    Attributes
    ----------
    samples : RunSamples
        One a trial whose response was recorded: whose onset + lag lies within the run.
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
        """Trials at the very end of the run, as one regressor of no interest, where they answer at all."""
        return [self._late] if np.abs(self._late).max(initial=0.0) > 1e-3 else []

    def _separate(self, trial: int) -> np.ndarray:
        """Return the design for one trial: its regressor, the sum of all others, nuisance."""
        others = self._trials.sum(axis=1) - self._trials[:, trial] + self._late[:, 0]
        columns = [self._trials[:, trial]] + ([others] if np.abs(others).max() > 1e-3 else [])
        return np.hstack([np.column_stack(columns), self._nuisance])


class ResponseModel:
    """Finite impulse responses: for each stimulus of a run, the response at each volume after its onset.

    Delays are counted from the volume before the onset. The sample is the mean of the response from `lag` on, for the
    duration of the event (or `window`): a block average in which the responses to neighbors are told apart.

    Parameters
    ----------
    plan : RunPlan
    options : BidsOptions
        ``fir_seconds``, ``lag``, ``window``, ``noise_model``, ``high_pass``, ``detrend``.
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
        # A boxcar of one volume makes the regressors tents: linear interpolation between volumes.
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
        """Return the mean response of each stimulus, (stimulus, voxel), from values (kept_volume, voxel)."""
        return self._average @ betas(values, self._design, self._average.shape[1], self._noise_model)


def betas(values: np.ndarray, design: np.ndarray, count: int, noise_model: str) -> np.ndarray:
    """Fit a linear model by nilearn and return the estimates of its first regressors.

    Parameters
    ----------
    values : array, shape (volume, voxel)
    design : array, shape (volume, regressor)
    count : int
    noise_model : str
        ``"ols"``, ``"ar1"`` ...

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
    """Return the design of a run, a row a kept volume; events that are no stimuli are regressors of no interest."""
    from nilearn.glm.first_level import make_first_level_design_matrix

    confounds = plan.confounds.table
    drift = "cosine" if options.high_pass else "polynomial" if options.detrend else None
    columns = ["onset", "duration", "trial_type"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # events of no duration; near-singular designs are refused below
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
    """Return by how many seconds onsets follow the volume before them, on average.

    Tents half-way between two volumes could hardly be told from their neighbors. Delays are counted from volumes
    instead; where onsets are spread evenly between volumes, there is nothing to align.
    """
    step = plan.times.repetition_time
    turns = np.exp(2j * np.pi * (onsets - plan.times.start) / step)
    together = turns.mean() if len(turns) else 0.0
    return float(np.angle(together) % (2 * np.pi) / (2 * np.pi) * step) if abs(together) > 0.5 else 0.0


def _within(delays: list[int], step: float, lag: float, window: float) -> list[int]:
    inside = [delay for delay in delays if lag - 1e-6 <= delay * step < lag + window - 1e-6]
    return inside or [min(delays, key=lambda delay: abs(delay * step - lag - window / 2))]


def _check_rank(plan: RunPlan, design: np.ndarray, what: str, instead: str | None) -> None:
    """Refuse a design that has no unique solution."""
    scaled = design / np.maximum(np.linalg.norm(design, axis=0), 1e-12)
    if design.shape[0] > design.shape[1] and np.linalg.cond(scaled) < SINGULAR:
        return
    raise InputError(
        f"the {what} of {plan.name} cannot be told apart",
        given=f"{design.shape[0]} volumes for {design.shape[1]} regressors (confounds and drift included)",
        expected="more volumes than regressors, none a mixture of others",
        todo=f'least_squares = "{instead}" in [options]'
        if instead
        else "fewer confounds, a shorter fir_seconds, stimuli that repeat within the run (stimulus_column = "
        '"trial_type"), or samples = "block"',
    )


#: An onset may be this far from a volume, in parts of the repetition time.
OFF_THE_VOLUMES = 0.1


class SessionModel:
    """Betas of every trial of a session.

    GLMsingle chooses a hemodynamic response for each voxel, removes noise by components of voxels that do not answer,
    and shrinks the betas, all by cross-validation over the repeats within the session.

    Parameters
    ----------
    plans : sequence of RunPlan
        The runs of the session.

    Attributes
    ----------
    samples : list of RunSamples
        Of each run, one a trial.

    Raises
    ------
    InputError
        Where the package is missing, or the runs are not as it needs them.
    """

    def __init__(self, plans: Sequence[RunPlan]) -> None:
        if find_spec("glmsingle") is None:
            raise InputError(
                'samples = "glmsingle" needs a package that is not installed',
                given="no package 'glmsingle'",
                expected="GLMsingle (github.com/cvnlab/GLMsingle) beside neurorecon",
                todo='pip install glmsingle, or take samples = "glm"',
            )
        names = sorted({name for plan in plans for name in plan.shown.stimuli["stimulus"]})
        self._plans = list(plans)
        self._designs = [_session_design(plan, names) for plan in plans]
        self._seconds = float(pd.concat([plan.shown.stimuli["duration"] for plan in plans]).median())
        self._repetition_time = _one({plan.times.repetition_time for plan in plans}, "times between volumes", plans)
        repeated = sum(design.sum(axis=0) for design in self._designs)
        if not (np.asarray(repeated) > 1).any() or len(plans) < 2:
            raise InputError(
                f"GLMsingle finds no repeats in the session of {plans[0].name}",
                given=f"{len(names)} stimuli in {len(plans)} runs, none shown twice",
                expected="at least two runs, and stimuli that are shown again: it cross-validates over them",
                todo='samples = "glm"',
            )
        self.samples = [RunSamples(_trials(plan), 0) for plan in plans]

    def fit(self, runs: Sequence[np.ndarray]) -> np.ndarray:
        """Return the beta of each trial in percent signal change.

        Parameters
        ----------
        runs : sequence of array, shape (volume, voxel)
            Of all runs of the session.

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
    """Return ones at the volumes in which stimuli begin, (volume, stimulus)."""
    if plan.confounds.kept is not None:
        raise InputError(
            f"GLMsingle cannot leave out volumes of {plan.name}",
            given=f"{plan.times.length - len(plan.kept)} scrubbed volumes",
            expected="all volumes",
            todo="leave scrub out of the strategy of confounds",
        )
    events, step = plan.shown.stimuli, plan.times.repetition_time
    volumes = events["onset"].to_numpy() / step
    if (np.abs(volumes - volumes.round()) > OFF_THE_VOLUMES).any():
        raise InputError(
            f"stimuli of {plan.name} do not begin with a volume",
            given=f"onsets such as {events['onset'].iloc[0]:g} s, a volume every {step:g} s",
            expected="onsets at multiples of the repetition time, as GLMsingle needs them",
            todo='resample the runs to a step that divides the onsets, or take samples = "glm"',
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
            expected="one",
            todo="choose tasks or runs in [options]",
        )
    return values.pop()


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
