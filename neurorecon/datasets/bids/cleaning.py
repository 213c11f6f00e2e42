"""Time series of a run without drift and confounds, scaled: all by :func:`nilearn.signal.clean`."""

from __future__ import annotations

import warnings

import numpy as np

from neurorecon.datasets.bids.options import BidsOptions
from neurorecon.datasets.bids.plan import RunPlan

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
