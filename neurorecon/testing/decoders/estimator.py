"""Checks of how a decoder behaves as an estimator: before fit, in its process, on disk, in pipelines, in errors."""

from __future__ import annotations

import pickle
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import neurorecon
from neurorecon.testing.contract import ContractError, expect
from neurorecon.testing.decoders.trial import Trial, expect_refused
from neurorecon.testing.state import draw, global_state


def check_parameters(trial: Trial) -> None:
    """Parameters are scikit-learn's: named, stored as given, copied, and refused where unknown."""
    decoder, names = trial.decoder, set(trial.decoder.get_params(deep=False))
    for name in names:
        expect(hasattr(decoder, name), f"__init__ has to store its parameter {name!r} under that name.")
    twin = trial.copy  # scikit-learn complains where __init__ changes a parameter
    expect(type(twin) is type(decoder), "clone has to give a decoder of the same class.")
    for name in names:
        same = repr(getattr(twin, name)) == repr(getattr(decoder, name))
        expect(same, f"clone has to keep the parameter {name!r}.")
    fitted = [name for name in vars(twin) if name.endswith("_") and not name.startswith("_")]
    expect(not fitted, f"What is fitted may not be there before fit, but {', '.join(fitted)} is.")
    try:
        twin.set_params(no_such_parameter=1)
    except ValueError:
        return
    raise ContractError("set_params has to refuse parameters that are not known.")


def check_unfitted(trial: Trial) -> None:
    """Nothing is predicted or saved before fit."""
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
    """Random numbers, threads and settings of the process stay as they are."""
    draw()  # so that a decoder that seeds the generators is noticed the second time, too
    before = global_state()
    trial.fit().predict(trial.problem.X_new)
    after = global_state()
    for name, value in before.items():
        expect(
            value == after[name],
            f"A decoder may not change {name}, which belongs to the process: use a generator of your own, or a "
            "context that puts it back.",
        )


def check_save(trial: Trial) -> None:
    """What is saved comes back to the bit, without pickle."""
    fitted = trial.fitted
    with tempfile.TemporaryDirectory() as folder:
        place = fitted.save(Path(folder) / "decoder", provenance={"seed": 3})
        expect(Path(place).is_dir(), "save has to return the folder.")
        kinds = {file.suffix for file in Path(place).iterdir()}
        expect(kinds == {".json", ".safetensors"}, f"save has to write JSON and safetensors, but wrote {kinds}.")
        loaded = neurorecon.load_decoder(place)
    expect(type(loaded) is type(fitted), "load_decoder has to return a decoder of the class that was saved.")
    expect(loaded.provenance_ == {"seed": 3}, "load_decoder has to return the provenance in provenance_.")
    for name, value in fitted.get_params(deep=False).items():
        expect(repr(getattr(loaded, name)) == repr(value), f"load_decoder has to bring back the parameter {name!r}.")
    trial.expect_same(loaded, "A decoder that was loaded has to predict the same to the bit.")
    problem = trial.problem
    loaded.fit(problem.X, problem.y, groups=problem.groups)
    trial.expect_same(loaded, "A decoder that was loaded has to be the same to the bit when it is fitted again.")


def check_pickle(trial: Trial) -> None:
    """Other processes predict with a copy."""
    twin = pickle.loads(pickle.dumps(trial.fitted))
    trial.expect_same(twin, "A decoder has to predict the same to the bit after pickling.")


def check_pipeline(trial: Trial) -> None:
    """It stands at the end of scikit-learn's pipelines."""
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer

    problem, decoder = trial.problem, trial.copy
    pipeline = make_pipeline(FunctionTransformer(), decoder)
    pipeline.fit(problem.X, problem.y, **{f"{pipeline.steps[-1][0]}__groups": problem.groups})
    trial.expect_same(pipeline, "A decoder has to predict the same at the end of a pipeline.")


def check_errors(trial: Trial) -> None:
    """What cannot be used is refused in words."""
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
