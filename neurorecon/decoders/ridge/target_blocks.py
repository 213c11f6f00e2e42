"""Whole decoding fits in blocks of targets, here or on a cluster: one factorization, and a slice of the targets a task.

Predictions of ridge regression are ``H Y``, with a matrix H that depends on the responses alone (see
:class:`~neurorecon.decoders.RidgeSmoother`). It is computed once; each task reads its slice of Y from the store.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from neurorecon.decoders.ridge.smoothing import RidgeSmoother
from neurorecon.decoders.validation import check_alphas
from neurorecon.errors import InputError
from neurorecon.store.digest import block_digest
from neurorecon.store.store import Store
from neurorecon.tasks import Results, ResultsFolder, Stored, run
from neurorecon.tasks.results import FOLDER, Arrays
from neurorecon.tasks.stores import StoreReference
from neurorecon.tasks.threads import default_threads, pinned

#: Values of a block of training targets: 512 MiB in single precision.
BLOCK_VALUES = 2**27


@dataclass(frozen=True)
class StoredTarget:
    """A target of a store, a row for each sample, read a slice of its features at a time.

    Parameters
    ----------
    store : StoreReference
        Where it is.
    name : str
        Of the target.
    stimuli : tuple of str
        The stimulus of each sample; repeats are allowed.
    """

    store: StoreReference
    name: str
    stimuli: tuple[str, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the target of one stimulus."""
        return tuple(int(size) for size in self.store.open().targets(self.name).shape[1:])

    def columns(self, start: int, stop: int) -> NDArray:
        """Return features `start` to `stop` of the flattened target, (sample, feature)."""
        found = self.store.open().targets(self.name, stimuli=list(self.stimuli)).data
        return np.asarray(found.reshape(len(self.stimuli), -1)[:, start:stop])


@dataclass(frozen=True)
class PredictedTargets:
    """Predictions, block by block where they lie.

    Parameters
    ----------
    results : Results
        With the blocks.
    names : dict of str to slice
        Which of the flattened targets each block holds.
    shape : tuple of int
        (test sample, *target).
    """

    results: Results
    names: dict[str, slice]
    shape: tuple[int, ...]

    def blocks(self) -> Iterator[tuple[slice, NDArray]]:
        """Yield ``(columns, predictions)``, predictions of shape (test sample, target)."""
        for name, columns in self.names.items():
            yield columns, self.results.get(name)["predicted"]

    def array(self) -> NDArray:
        """Return all predictions, in the shape of the targets."""
        parts = [predicted for _, predicted in self.blocks()]
        return np.concatenate(parts, axis=1).reshape(self.shape)


def predict_target_blocks(
    X: ArrayLike,
    store: Store,
    target: str,
    stimuli: Sequence[str],
    X_test: ArrayLike,
    alpha: float | ArrayLike,
    *,
    sample_weight: ArrayLike | None = None,
    fit_intercept: bool = True,
    device: str = "cpu",
    dtype: str = "float32",
    block: int | None = None,
    scheduler: Any = None,
    threads: int | None = None,
    results: str | Path | None = None,
    progress: bool = False,
) -> PredictedTargets:
    """Fit ridge regression from responses to a whole target of a store, and predict it from test responses.

    Parameters
    ----------
    X : array, shape (sample, voxel)
        Training responses.
    store : Store
        With the target, where all workers can read it.
    target : str
        Its name.
    stimuli : sequence of str
        The stimulus of each training sample.
    X_test : array, shape (test sample, voxel)
        Responses to predict from.
    alpha : float or array, shape (target,)
        Regularization, one for all or one for each of the flattened targets, e.g. ``alpha_`` of a
        :class:`~neurorecon.decoders.RidgeDecoder`. Each different value takes a matrix (test sample, sample).
    sample_weight, fit_intercept, device, dtype
        As for :class:`~neurorecon.decoders.RidgeSmoother`.
    block : int, optional
        Targets of a task; by default as many as take 512 MiB.
    scheduler, threads, results, progress
        As for :func:`neurorecon.maps`. Without a scheduler and without `results`, predictions are kept in memory.

    Returns
    -------
    PredictedTargets

    Raises
    ------
    InputError
        Where shapes do not fit.
    """
    source = StoredTarget(StoreReference(store), target, tuple(str(name) for name in stimuli))
    if len(source.stimuli) != len(np.asarray(X)):
        raise InputError(
            "responses and targets have different numbers of samples (inconsistent lengths)",
            given=f"X {len(np.asarray(X))}, stimuli {len(source.stimuli)}",
            expected="the stimulus of each sample",
        )
    computing = default_threads() if threads is None else threads
    n_targets = int(np.prod(source.shape, dtype=np.int64))
    with pinned(computing):
        smoother = RidgeSmoother(
            np.asarray(X), np.asarray(X_test), sample_weight=sample_weight, fit_intercept=fit_intercept, device=device,
            dtype=dtype,
        )  # fmt: skip
        inputs = _matrices(smoother, alpha, n_targets, dtype)
    width = block or max(1, BLOCK_VALUES // max(1, len(source.stimuli)))
    parts = [slice(start, min(start + width, n_targets)) for start in range(0, n_targets, width)]
    names = {f"{target} {part.start}-{part.stop - 1}": part for part in parts}
    kept = _kept(store, source, inputs, width, computing, results, scheduler)
    if not kept.has("matrices"):
        kept.prepare()
        kept.put("matrices", inputs)
    job = functools.partial(predict_block, Stored(kept, "matrices"), source, fit_intercept, dtype)
    run(job, names, kept, scheduler, progress, threads=computing, label="target blocks")
    return PredictedTargets(kept, names, (len(np.asarray(X_test)), *source.shape))


def _matrices(smoother: RidgeSmoother, alpha: float | ArrayLike, n_targets: int, dtype: str) -> Arrays:
    strengths = check_alphas(alpha)
    if strengths.ndim and len(strengths) != n_targets:
        raise InputError(
            "alpha does not fit the targets",
            given=f"{len(strengths)} numbers",
            expected=f"one number, or one for each of {n_targets} targets",
        )
    values, codes = np.unique(strengths, return_inverse=True)
    matrices = np.stack([smoother.matrix(float(value)) for value in values]).astype(dtype)
    return {"matrices": matrices, "codes": np.broadcast_to(codes.ravel(), n_targets).astype(np.int32)}


def _kept(
    store: Store,
    source: StoredTarget,
    inputs: Arrays,
    width: int,
    threads: int,
    parent: str | Path | None,
    scheduler: Any,
) -> Results:
    if scheduler is None and parent is None:
        return Results()
    everything = {
        "analysis": "predicted targets",
        "store": store.digest,
        "target": source.name,
        "stimuli": block_digest(np.array(source.stimuli)),
        "inputs": {name: block_digest(values) for name, values in inputs.items()},
        "block": width,
        "threads": threads,
    }
    return ResultsFolder.of(everything, FOLDER if parent is None else parent)


def predict_block(matrices: Stored, source: StoredTarget, center: bool, dtype: str, columns: slice) -> Arrays:
    """Return the predictions of some columns of a target, ``predicted`` (test sample, target)."""
    inputs = matrices.load(keep=True)
    y = source.columns(columns.start, columns.stop).astype(dtype, copy=False)
    # Rows of H sum to 1, so any shift does; near the means it keeps single precision exact.
    shift = y.mean(axis=0, dtype=np.float64).astype(dtype) if center else np.zeros(y.shape[1], dtype=dtype)
    y = y - shift
    codes = inputs["codes"][columns]
    predicted = np.empty((inputs["matrices"].shape[1], y.shape[1]), dtype=dtype)
    for code in np.unique(codes):
        these = np.flatnonzero(codes == code)
        chosen = y if len(these) == y.shape[1] else y[:, these]
        predicted[:, these] = inputs["matrices"][code] @ chosen
    return {"predicted": predicted + shift}
