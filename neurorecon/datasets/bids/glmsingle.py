"""Single-trial betas by GLMsingle: the runs of a session together.

References
----------
Prince et al. 2022, eLife 11:e77599.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import redirect_stdout
from importlib.util import find_spec
from typing import Any

import numpy as np
import pandas as pd

from neurorecon.datasets.bids.plan import RunPlan, RunSamples
from neurorecon.errors import InputError

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
        self._designs = [_design(plan, names) for plan in plans]
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


def _design(plan: RunPlan, names: Sequence[str]) -> np.ndarray:
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
