"""The contract of decoders, as checks that third parties can run on their own decoders."""

from __future__ import annotations

import pickle
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

import neurorecon
from neurorecon.errors import InputError
from neurorecon.testing.contract import Check, ContractError, draw, expect, global_state, run_all


@dataclass(frozen=True)
class Problem:
    """A decoding problem: responses, targets that depend on them, and new samples.

    Parameters
    ----------
    X : array, float32, shape (sample, voxel)
        Responses.
    y : array, float32, shape (sample, ...)
        Targets, with at least two axes.
    groups : array of int, shape (sample,)
        Stimulus of each sample.
    X_new : array, float32, shape (new sample, voxel)
        Responses of new samples.
    y_new : array, float32, shape (new sample, ...)
        Targets of new samples.
    """

    X: np.ndarray = field(default_factory=lambda: _linear()[0])
    y: np.ndarray = field(default_factory=lambda: _linear()[1])
    groups: np.ndarray = field(default_factory=lambda: _linear()[2])
    X_new: np.ndarray = field(default_factory=lambda: _linear()[3])
    y_new: np.ndarray = field(default_factory=lambda: _linear()[4])


def _linear(stimuli: int = 24, voxels: int = 8) -> tuple[np.ndarray, ...]:
    """Return 48 samples, two per stimulus, and 16 new ones, with targets of shape (2, 3) and 1% noise."""
    generator = np.random.default_rng(0)
    shown = generator.permutation(np.repeat(np.arange(stimuli), 2))
    images = generator.standard_normal((stimuli + 16, voxels))
    weights = generator.standard_normal((voxels, 6)) / np.sqrt(voxels)
    targets = images @ weights + 0.1 * generator.standard_normal((stimuli + 16, 6)) + np.arange(6)
    responses = images[shown] + 0.1 * generator.standard_normal((2 * stimuli, voxels))
    found = (
        responses,
        targets[shown].reshape(-1, 2, 3),
        shown,
        images[stimuli:],
        targets[stimuli:].reshape(-1, 2, 3),
    )
    return tuple(values if values.dtype.kind == "i" else values.astype(np.float32) for values in found)


@dataclass
class Trial:
    """A decoder under test.

    Parameters
    ----------
    decoder : estimator
        Unfitted decoder with the settings to test. Only copies of it are fitted.
    problem : Problem
        Data to fit and to predict.
    tolerance, least_r2 : float
        As in :func:`check_decoder`.
    """

    decoder: Any
    problem: Problem
    tolerance: float
    least_r2: float

    @property
    def copy(self) -> Any:
        """An unfitted copy of the decoder."""
        from sklearn.base import clone

        return clone(self.decoder)

    def fit(self, y: Any = None, X: Any = None, groups: Any = None) -> Any:
        """Return a copy that is fitted to the problem, or to other data."""
        problem = self.problem
        fitted = self.copy
        returned = fitted.fit(
            problem.X if X is None else X,
            problem.y if y is None else y,
            groups=problem.groups if groups is None else groups,
        )
        expect(returned is fitted, "fit has to return the decoder itself.")
        return fitted

    @cached_property
    def fitted(self) -> Any:
        """A copy that is fitted to the problem; checks must not modify it."""
        return self.fit()

    @cached_property
    def predicted(self) -> np.ndarray:
        """Predictions of :attr:`fitted` for the new samples."""
        found: np.ndarray = self.fitted.predict(self.problem.X_new)
        return found

    def expect_same(self, decoder: Any, sentence: str) -> None:
        """Expect bitwise equal predictions from another decoder."""
        found = np.asarray(decoder.predict(self.problem.X_new))
        expect(found.dtype == self.predicted.dtype and np.array_equal(found, self.predicted), sentence)


def expect_refused(call: Callable[[], Any], what: str) -> None:
    """Expect that a call raises InputError."""
    try:
        call()
    except InputError:
        return
    except Exception as error:
        raise ContractError(
            f"{what.capitalize()} has to raise neurorecon.errors.InputError, but raises {type(error).__name__}."
        ) from error
    raise ContractError(f"{what.capitalize()} has to raise neurorecon.errors.InputError, but is accepted.")


def mean_r2(measured: np.ndarray, predicted: np.ndarray) -> float:
    """Return scikit-learn's R2, averaged over targets, of arrays (sample, ...)."""
    from sklearn.metrics import r2_score

    number = len(measured)
    return float(r2_score(measured.reshape(number, -1), np.asarray(predicted).reshape(number, -1)))


def check_parameters(trial: Trial) -> None:
    """Parameters follow scikit-learn: stored unchanged, cloned, and rejected if unknown."""
    decoder, names = trial.decoder, set(trial.decoder.get_params(deep=False))
    for name in names:
        expect(hasattr(decoder, name), f"__init__ has to store its parameter {name!r} under that name.")
    twin = trial.copy  # raises if __init__ modifies a parameter
    expect(type(twin) is type(decoder), "clone has to give a decoder of the same class.")
    for name in names:
        same = repr(getattr(twin, name)) == repr(getattr(decoder, name))
        expect(same, f"clone has to keep the parameter {name!r}.")
    fitted = [name for name in vars(twin) if name.endswith("_") and not name.startswith("_")]
    expect(not fitted, f"Fitted attributes may not be there before fit, but found {', '.join(fitted)}.")
    try:
        twin.set_params(no_such_parameter=1)
    except ValueError:
        return
    raise ContractError("set_params has to reject unknown parameters.")


def check_unfitted(trial: Trial) -> None:
    """Predicting or saving before fit is an error."""
    from sklearn.exceptions import NotFittedError

    try:
        trial.copy.predict(trial.problem.X_new)
    except NotFittedError:
        pass
    else:
        raise ContractError("predict before fit has to raise scikit-learn's NotFittedError.")
    with tempfile.TemporaryDirectory() as folder:
        expect_refused(lambda: trial.copy.save(folder), "save before fit")


def check_global_state(trial: Trial) -> None:
    """The global state is unchanged: random numbers, threads, settings."""
    draw()  # so that seeding the global generators is noticed the second time, too
    before = global_state()
    trial.fit().predict(trial.problem.X_new)
    after = global_state()
    for name, value in before.items():
        expect(
            value == after[name],
            f"A decoder may not change {name}, which is global state: use a generator of its own, or a context "
            "manager that restores it.",
        )


def check_save(trial: Trial) -> None:
    """A saved decoder is loaded bitwise equal, without pickle."""
    fitted = trial.fitted
    with tempfile.TemporaryDirectory() as folder:
        place = fitted.save(Path(folder) / "decoder", provenance={"seed": 3})
        expect(Path(place).is_dir(), "save has to return the folder that it wrote.")
        kinds = {file.suffix for file in Path(place).iterdir()}
        expect(kinds == {".json", ".safetensors"}, f"save has to write JSON and safetensors, but wrote {kinds}.")
        loaded = neurorecon.load_decoder(place)
    expect(type(loaded) is type(fitted), "load_decoder has to return a decoder of the class that was saved.")
    expect(loaded.provenance_ == {"seed": 3}, "load_decoder has to return the provenance in provenance_.")
    for name, value in fitted.get_params(deep=False).items():
        expect(repr(getattr(loaded, name)) == repr(value), f"load_decoder has to restore the parameter {name!r}.")
    trial.expect_same(loaded, "A decoder that was loaded has to predict the same, bit for bit.")
    problem = trial.problem
    loaded.fit(problem.X, problem.y, groups=problem.groups)
    trial.expect_same(
        loaded, "A decoder that was loaded has to predict the same, bit for bit, when it is fitted again."
    )


def check_pickle(trial: Trial) -> None:
    """A decoder can be pickled, so that other processes can predict with it."""
    twin = pickle.loads(pickle.dumps(trial.fitted))
    trial.expect_same(twin, "A decoder has to predict the same, bit for bit, after pickling.")


def check_pipeline(trial: Trial) -> None:
    """A decoder works as the last step of a scikit-learn pipeline."""
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer

    problem, decoder = trial.problem, trial.copy
    pipeline = make_pipeline(FunctionTransformer(), decoder)
    pipeline.fit(problem.X, problem.y, **{f"{pipeline.steps[-1][0]}__groups": problem.groups})
    trial.expect_same(pipeline, "A decoder has to predict the same at the end of a pipeline.")


def check_errors(trial: Trial) -> None:
    """Unusable input raises InputError."""
    problem = trial.problem
    X, y, broken = problem.X, problem.y, problem.X.copy()
    broken[3, 2] = np.nan
    infinite = y.copy()
    infinite[(0,) * y.ndim] = np.inf
    wrong: dict[str, Callable[[], Any]] = {
        "responses that are NaN": lambda: trial.fit(X=broken),
        "responses without voxels": lambda: trial.fit(X=X[:, 0]),
        "responses that are text": lambda: trial.fit(X=np.full(X.shape, "V1")),
        "no targets": lambda: trial.copy.fit(X, None),
        "fewer targets than samples": lambda: trial.fit(y[:-1]),
        "targets that are text": lambda: trial.fit(np.full(y.shape, "house")),
        "infinite targets": lambda: trial.fit(infinite),
        "fewer groups than samples": lambda: trial.fit(groups=np.asarray(problem.groups)[:-1]),
        "fewer voxels than were fitted": lambda: trial.fitted.predict(X[:, :-1]),
        "NaN to predict from": lambda: trial.fitted.predict(broken),
    }
    for what, call in wrong.items():
        expect_refused(call, what)


def check_shapes(trial: Trial) -> None:
    """Predictions have the shape of the targets, and are finite floats."""
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
    """A decoder learns a problem that can be learned."""
    r2 = mean_r2(trial.problem.y_new, trial.predicted)
    expect(
        r2 >= trial.least_r2,
        f"A decoder has to predict new samples of the problem with an R2 of {trial.least_r2:g}, but reaches {r2:.3f}.",
    )


def check_score(trial: Trial) -> None:
    """The score is R2 as in scikit-learn's regressors, averaged over targets or one per target."""
    problem = trial.problem
    found = float(np.mean(trial.fitted.score(problem.X_new, problem.y_new)))
    expected = mean_r2(problem.y_new, trial.predicted)
    expect(
        abs(found - expected) < 1e-6,
        f"score has to be R2, {expected:.6f} on average over targets, but is {found:.6f}.",
    )


def check_determinism(trial: Trial) -> None:
    """The same data and seed give bitwise equal predictions, whatever random numbers the caller draws."""
    draw()
    trial.expect_same(trial.fit(), "A decoder has to predict the same, bit for bit, when it is fitted again.")
    trial.expect_same(trial.fitted, "A decoder has to predict the same, bit for bit, when it predicts again.")


def check_refit(trial: Trial) -> None:
    """A second fit forgets the first."""
    problem = trial.problem
    decoder = trial.fit(problem.y.reshape(len(problem.y), -1)[:, :2] ** 2, problem.X[:, :-1])
    decoder.fit(problem.X, problem.y, groups=problem.groups)
    trial.expect_same(decoder, "A decoder that is fitted a second time has to forget the first.")


def check_inputs_stay(trial: Trial) -> None:
    """Input arrays are not modified, and may be read-only."""
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
    expect(np.array_equal(found, trial.predicted), "A decoder has to give the same predictions for read-only arrays.")


def check_storage(trial: Trial) -> None:
    """Targets may be memory maps, or dask, xarray and Zarr arrays, with the same results."""
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
    """A prediction does not depend on the other samples of the call."""
    alone = np.concatenate([trial.fitted.predict(row[None]) for row in trial.problem.X_new[:5]])
    largest = float(np.abs(trial.predicted).max()) or 1.0
    difference = float(np.abs(alone - trial.predicted[:5]).max()) / largest
    expect(
        difference <= trial.tolerance,
        f"A sample has to be predicted equally alone and together with others, but the predictions differ by "
        f"{difference:.1e} of the largest value "
        f"(tolerance {trial.tolerance:g}).",
    )


def check_groups(trial: Trial) -> None:
    """Groups keep samples together, whatever the type of their labels."""
    groups = np.asarray(trial.problem.groups)
    names = np.array([f"stimulus{number:05d}" for number in groups])
    trial.expect_same(
        trial.fit(groups=names), "Groups that are named by text have to act as groups that are named by numbers."
    )
    held_out = getattr(trial.fitted, "validation_rows_", None)
    if held_out is not None and len(held_out):
        others = np.setdiff1d(np.arange(len(groups)), held_out)
        expect(
            not np.isin(groups[held_out], groups[others]).any(),
            "validation_rows_ contains samples of groups that are trained on.",
        )


#: Largest difference between predicting samples one by one and together, relative to the largest value.
TOLERANCE = 1e-4

#: Smallest R2 on new samples of the problem.
LEAST_R2 = 0.5

CHECKS: tuple[Callable[[Trial], None], ...] = (
    check_parameters,
    check_unfitted,
    check_shapes,
    check_learns,
    check_score,
    check_determinism,
    check_refit,
    check_global_state,
    check_inputs_stay,
    check_storage,
    check_rows,
    check_groups,
    check_save,
    check_pickle,
    check_pipeline,
    check_errors,
)


class DecoderCheck(Check):
    """One check of the contract; its function takes a :class:`~neurorecon.testing.decoders.Trial`."""

    def __call__(
        self,
        decoder: Any,
        *,
        problem: Problem | None = None,
        tolerance: float = TOLERANCE,
        least_r2: float = LEAST_R2,
    ) -> None:
        """Run the check; the parameters are those of :func:`check_decoder`.

        Raises
        ------
        ContractError
            If the decoder violates the contract. Exceptions of the decoder itself are not caught.
        """
        self.function(Trial(decoder, problem or Problem(), tolerance, least_r2))


def decoder_checks() -> list[DecoderCheck]:
    """Return all checks, e.g. for ``pytest.mark.parametrize("check", decoder_checks(), ids=str)``."""
    return DecoderCheck.of(CHECKS)


def check_decoder(
    decoder: Any, *, problem: Problem | None = None, tolerance: float = TOLERANCE, least_r2: float = LEAST_R2
) -> list[str]:
    """Run all checks on a decoder.

    Parameters
    ----------
    decoder : estimator
        Unfitted decoder with the settings to test, which have to suit the problem: small, and fast to fit.
    problem : Problem, optional
        Data to fit. Default: 48 samples of 24 stimuli, 8 voxels, and targets of shape (2, 3) that depend linearly on
        the responses, with noise.
    tolerance : float
        Largest difference between predicting samples one by one and together, relative to the largest value.
    least_r2 : float
        Mean R2 on new samples that the decoder has to reach.

    Returns
    -------
    list of str
        Names of the checks, all of which passed.

    Raises
    ------
    ContractError
        If checks failed, with one line per failure: the name of the check and what was expected.
    """
    trial = Trial(decoder, problem or Problem(), tolerance, least_r2)
    return run_all(decoder_checks(), trial, what="decoder", name=type(decoder).__name__)
