"""Single-trial betas and finite impulse responses: designs and fits by nilearn's GLM.

References
----------
Mumford et al. 2012, NeuroImage 59:2636-2643 (least squares separate: one regressor for the trial, one for all others).
"""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd

from neurorecon.datasets.bids.options import BidsOptions
from neurorecon.datasets.bids.plan import RunPlan, RunSamples
from neurorecon.errors import InputError

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
