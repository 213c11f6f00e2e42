"""Checks of what a decoder computes, from whatever it is given."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from neurorecon.testing.contract import expect
from neurorecon.testing.decoders.trial import Trial, mean_r2
from neurorecon.testing.state import draw


def check_shapes(trial: Trial) -> None:
    """Targets of any shape come back in that shape, as finite floats."""
    y, number = trial.problem.y, len(trial.problem.X_new)
    flat = y.reshape(len(y), -1)
    for targets in (flat[:, 0], flat[:, :1], flat, y):
        found = trial.fit(targets).predict(trial.problem.X_new)
        expect(isinstance(found, np.ndarray), f"predict has to return a NumPy array, not a {type(found).__name__}.")
        expect(
            found.shape == (number, *targets.shape[1:]),
            f"predict has to return the shape {(number, *targets.shape[1:])} for targets of shape {targets.shape}, "
            f"but returns {found.shape}.",
        )
        expect(found.dtype.kind == "f", f"predict has to return floats, but returns {found.dtype}.")
        expect(np.isfinite(found).all(), "predict has to return finite numbers.")


def check_learns(trial: Trial) -> None:
    """What can be predicted is."""
    r2 = mean_r2(trial.problem.y_new, trial.predicted)
    expect(
        r2 >= trial.least_r2,
        f"A decoder has to predict new samples of the problem with an R2 of {trial.least_r2:g}, but reaches {r2:.3f}.",
    )


def check_score(trial: Trial) -> None:
    """The score is R2, as of scikit-learn's regressors: its mean over targets, or one for each."""
    problem = trial.problem
    found = float(np.mean(trial.fitted.score(problem.X_new, problem.y_new)))
    expected = mean_r2(problem.y_new, trial.predicted)
    expect(
        abs(found - expected) < 1e-6,
        f"score has to be R2, {expected:.6f} on average over targets, but is {found:.6f}.",
    )


def check_determinism(trial: Trial) -> None:
    """The same data and seed, the same bits, whatever random numbers the caller draws."""
    draw()
    trial.expect_same(trial.fit(), "A decoder has to predict the same to the bit when it is fitted again.")
    trial.expect_same(trial.fitted, "A decoder has to predict the same to the bit when it is asked again.")


def check_refit(trial: Trial) -> None:
    """What was fitted before is forgotten."""
    problem = trial.problem
    decoder = trial.fit(problem.y.reshape(len(problem.y), -1)[:, :2] ** 2, problem.X[:, :-1])
    decoder.fit(problem.X, problem.y, groups=problem.groups)
    trial.expect_same(decoder, "A decoder that is fitted a second time has to forget the first.")


def check_inputs_stay(trial: Trial) -> None:
    """Arrays are not written into; those that cannot be written are as good."""
    problem = trial.problem
    originals = problem.X, problem.y, problem.X_new
    mine = [values.copy() for values in originals]
    trial.fit(mine[1], mine[0]).predict(mine[2])
    for name, values, original in zip(("X", "y", "X of predict"), mine, originals, strict=True):
        expect(np.array_equal(values, original), f"A decoder may not write into {name}.")
    locked = [values.copy() for values in originals]
    for values in locked:
        values.flags.writeable = False
    found = trial.fit(locked[1], locked[0]).predict(locked[2])
    expect(np.array_equal(found, trial.predicted), "A decoder has to take arrays that cannot be written to.")


def check_storage(trial: Trial) -> None:
    """Targets may be memory-mapped, or arrays of dask, xarray and Zarr; the numbers are the same."""
    import dask.array
    import xarray
    import zarr

    y = trial.problem.y.reshape(len(trial.problem.y), -1)
    expected = trial.fit(y).predict(trial.problem.X_new)
    chunked = dask.array.from_array(y, chunks=(len(y) // 3, 2))
    stored = zarr.create_array(store={}, shape=y.shape, chunks=(len(y) // 3, 2), dtype=y.dtype)
    stored[:] = y
    with tempfile.TemporaryDirectory() as folder:
        np.save(Path(folder) / "y.npy", y)
        kinds = {
            "a memory map": np.load(Path(folder) / "y.npy", mmap_mode="r"),
            "a dask array": chunked,
            "an xarray array": xarray.DataArray(chunked, dims=("sample", "target")),
            "a Zarr array": stored,
        }
        for kind, targets in kinds.items():
            found = trial.fit(targets).predict(trial.problem.X_new)
            expect(np.array_equal(found, expected), f"Targets in {kind} have to give the same numbers as in memory.")
            del targets, found
        kinds.clear()


def check_rows(trial: Trial) -> None:
    """A prediction does not depend on the samples beside it."""
    alone = np.concatenate([trial.fitted.predict(row[None]) for row in trial.problem.X_new[:5]])
    largest = float(np.abs(trial.predicted).max()) or 1.0
    difference = float(np.abs(alone - trial.predicted[:5]).max()) / largest
    expect(
        difference <= trial.tolerance,
        f"Samples have to be predicted alike alone and together, but differ by {difference:.1e} of the largest value "
        f"(tolerance {trial.tolerance:g}).",
    )


def check_groups(trial: Trial) -> None:
    """Groups keep samples together by label, whatever the labels are."""
    groups = np.asarray(trial.problem.groups)
    names = np.array([f"stimulus{number:05d}" for number in groups])
    trial.expect_same(trial.fit(groups=names), "Groups named by text have to act as groups named by numbers.")
    held_out = getattr(trial.fitted, "validation_rows_", None)
    if held_out is not None and len(held_out):
        others = np.setdiff1d(np.arange(len(groups)), held_out)
        expect(
            not np.isin(groups[held_out], groups[others]).any(),
            "validation_rows_ has samples of groups that are trained on.",
        )
