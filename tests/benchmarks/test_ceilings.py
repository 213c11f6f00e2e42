"""Noise ceilings and intervals of simulated designs, in full: bias of ceilings and coverage of intervals.

``pytest -m benchmark -s tests/benchmarks/test_ceilings.py`` prints the rows of the tables in docs/validation.md. The
small versions, which go through a store, are in tests/stats.
"""

import numpy as np
import pytest

from neurorecon.stats import mean_ceiling
from neurorecon.store.ceilings import noise_ceilings
from tests.stats.simulations import coverage_of_intervals, mean_of, series, trials, within_runs

pytestmark = pytest.mark.benchmark

REPLICATES, VOXELS, DRAWS = 40, 1000, 2000

TRIALS = {
    "200 stimuli, 2 repeats": {"n_stimuli": 200, "n_repeats": 2},
    "20 stimuli, 2 repeats": {"n_stimuli": 20, "n_repeats": 2},
    "60 stimuli, 10 repeats": {"n_stimuli": 60, "n_repeats": 10},
    "60 stimuli, 4 repeats, 4 nested sessions": {"n_stimuli": 60, "n_repeats": 4, "sessions": 4, "offset": 1.5},
    "60 stimuli, 4 repeats, 4 crossed sessions": {
        "n_stimuli": 60, "n_repeats": 4, "sessions": 4, "offset": 1.5, "crossed": True,
    },
}  # fmt: skip


def _ceilings(make, repetition_time=None):
    """Return the mean and standard deviation over replicates of the ceilings of averages and of single samples."""
    found = []
    for seed in range(REPLICATES):
        responses, table = make(np.random.default_rng(seed))
        table = table.assign(task=table.get("task", "images"), session=table.get("session", 1))
        parts = noise_ceilings(responses, table, repetition_time=repetition_time)
        (single,), (repeats,) = parts.components, parts.repeats
        found.append([mean_ceiling(parts.noise_ceiling[0]), mean_ceiling(single.noise_ceiling(repeats["single"]))])
    return np.mean(found, axis=0), np.std(found, axis=0)


@pytest.mark.parametrize("signal", [0.0, 0.2, 0.5])
@pytest.mark.parametrize("design", TRIALS)
def test_ceilings_of_trials(design, signal):
    mean, _ = _ceilings(lambda rng: trials(rng, signal=signal, voxels=VOXELS, **TRIALS[design]))
    true = np.array([mean_of(signal, TRIALS[design]["n_repeats"]), signal])
    print(f"| {design} | {true[0]:.3f} | {mean[0]:.3f} | {true[1]:.3f} | {mean[1]:.3f} |")
    assert np.abs(mean - true).max() <= 0.03


@pytest.mark.parametrize("signal", [0.0, 0.2, 0.5])
@pytest.mark.parametrize(("runs", "volumes", "repeats"), [(1, 120, 2), (4, 60, 2), (4, 120, 2), (4, 120, 10)])
def test_ceilings_of_series(runs, volumes, repeats, signal):
    orders = np.tile(np.arange(runs * volumes).reshape(runs, -1), (repeats, 1))
    mean, _ = _ceilings(lambda rng: series(rng, orders, signal, voxels=VOXELS), {"clips": 2.0})
    share = within_runs(signal, volumes)
    true = np.array([mean_of(share, repeats), share])
    print(
        f"| series, {repeats} x {runs} runs of {volumes}, AR(.9) "
        f"| {true[0]:.3f} | {mean[0]:.3f} | {true[1]:.3f} | {mean[1]:.3f} |"
    )
    assert np.abs(mean - true).max() <= 0.03


@pytest.mark.parametrize("share", [0.05, 0.3, 0.6])
@pytest.mark.parametrize(
    ("runs", "samples", "is_series"),
    [
        *[(1, 60, False), (1, 120, False), (1, 500, False)],
        *[(1, 120, True), (1, 240, True), (4, 60, True), (4, 120, True), (10, 120, True)],
    ],
)
def test_coverage_of_intervals(runs, samples, is_series, share):
    found = [
        coverage_of_intervals(runs, samples, is_series, draws=DRAWS // 10, share=share, seed=seed) for seed in range(10)
    ]
    what = f"series, {runs} x {samples}" if is_series else f"{samples} trials"
    print(f"| {what} | {share} | {np.mean(found):.3f} |")
    assert np.mean(found) >= 0.91
