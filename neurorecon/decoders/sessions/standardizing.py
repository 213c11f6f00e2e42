"""Sessions that arrive one after another: what fits those before, folds, standardization, and targets in a row."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from neurorecon.decoders.solvers import Backend
from neurorecon.decoders.targets import Targets
from neurorecon.errors import InputError, UnknownNameError


@dataclass(frozen=True)
class Options:
    """What both ways of adding sessions are told.

    Parameters
    ----------
    alphas : array, shape () or (alpha,)
        Regularization, or candidates for it.
    center : bool
        Fit means.
    backend : Backend
        Where to compute.
    dtype : str
        Precision of what is as large as the targets.
    target_block : int, optional
        Targets computed at once.
    folder : path, optional
        Where rows are kept.
    """

    alphas: NDArray[np.float64]
    center: bool
    backend: Backend
    dtype: str
    target_block: int | None
    folder: str | Path | None


def check_session(
    name: str, n_samples: int, targets: Targets, sessions: list[dict[str, Any]], target_shape: tuple[int, ...] | None
) -> None:
    """Refuse a session that does not fit those before it.

    Parameters
    ----------
    name : str
        Of the session.
    n_samples : int
        Samples of its responses.
    targets : Targets
        Its targets.
    sessions : list of dict
        Those before, with their ``name``.
    target_shape : tuple of int, optional
        Of their targets.

    Raises
    ------
    InputError
        Where it does not fit.
    """
    if targets.n_samples != n_samples:
        raise InputError(
            "responses and targets have different numbers of samples (inconsistent lengths)",
            given=f"X {n_samples}, y {targets.n_samples}",
            expected="one row of targets for each sample",
        )
    if target_shape is not None and targets.shape != target_shape:
        raise InputError(
            "targets are not those of earlier sessions", given=f"shape {targets.shape}", expected=f"{target_shape}"
        )
    if name in [each["name"] for each in sessions]:
        raise InputError(
            "a session of this name was fitted already",
            given=repr(name),
            expected="each session once",
            todo="give another name if it is another session; otherwise there is nothing to add",
        )


def standardize_sessions(values: ArrayLike, sessions: ArrayLike | None = None) -> NDArray:
    """Return values less their mean and divided by their standard deviation within each session.

    Responses drift from session to session, so NSD's own analyses and most decoders of it z-score each voxel
    within its session before anything else.

    Parameters
    ----------
    values : array, shape (sample, voxel)
        Responses.
    sessions : array, shape (sample,), optional
        Session of each sample; without, all samples are of one session.

    Returns
    -------
    array, shape (sample, voxel)
        In the precision given (integers become float64). Voxels that are constant in a session become 0, as
        with scikit-learn's ``StandardScaler``.

    References
    ----------
    Allen et al. (2022). A massive 7T fMRI dataset to bridge cognitive neuroscience and artificial
    intelligence. Nature Neuroscience 25, 116-126.
    """
    values = np.asarray(values)
    if values.ndim != 2:
        raise InputError("responses need two axes", given=f"shape {values.shape}", expected="(sample, voxel)")
    labels = np.zeros(len(values), dtype=int) if sessions is None else np.asarray(sessions)
    if labels.shape != (len(values),):
        raise InputError(
            "`sessions` needs one label for each sample", given=f"shape {labels.shape}", expected=f"({len(values)},)"
        )
    standardized = np.empty(values.shape, dtype=np.result_type(values, np.float32))
    for label in np.unique(labels):
        rows = labels == label
        standardized[rows] = standardize(values[rows], *session_statistics(values[rows]))
    return standardized


def session_statistics(values: NDArray) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return means and standard deviations of each voxel, (voxel,), 1 where a voxel does not vary."""
    mean = values.mean(axis=0, dtype=np.float64)
    scale = values.std(axis=0, dtype=np.float64, mean=mean[None])
    # A constant in floating point has a deviation of some rounding errors of its mean.
    constant = scale <= 10 * np.finfo(np.float64).eps * np.abs(mean)
    return mean, np.where(constant, 1.0, scale)


def standardize(values: NDArray, mean: NDArray[np.float64], scale: NDArray[np.float64]) -> NDArray:
    """Return ``(values - mean) / scale``, subtracted in double precision, in the precision given."""
    return ((values.astype(np.float64) - mean) / scale).astype(np.result_type(values, np.float32))


def standardize_as(x: NDArray, sessions: list[dict[str, Any]], session: Hashable | None) -> NDArray:
    """Return responses standardized by the statistics of a session.

    Parameters
    ----------
    x : array, shape (sample, voxel)
        Responses.
    sessions : list of dict
        ``name``, ``mean`` and ``scale`` of each session.
    session : str or int, optional
        The name; ``"new"`` for the statistics of `x` itself; None for the average ones.

    Returns
    -------
    array, shape (sample, voxel)
    """
    if session is None:
        mean = np.mean([each["mean"] for each in sessions], axis=0)
        scale = np.sqrt(np.mean([each["scale"] ** 2 for each in sessions], axis=0))
        return standardize(x, mean, scale)
    if session == "new":
        if len(x) < 2:
            raise InputError(
                "one sample has no standard deviation",
                given="a session of one sample",
                expected="the samples of a session together",
                todo="name the session, or leave it out to take the average of those fitted",
            )
        return standardize(x, *session_statistics(x))
    known = {each["name"]: each for each in sessions}
    if str(session) not in known:
        raise UnknownNameError("session", session, [*known, "new"])
    return standardize(x, known[str(session)]["mean"], known[str(session)]["scale"])


def session_folds(n_samples: int, groups: ArrayLike | None, n_folds: int) -> NDArray[np.int64]:
    """Return the fold of each sample of a session, whatever sessions came before or will come.

    Parameters
    ----------
    n_samples : int
        Number of samples of the session.
    groups : array, shape (sample,), optional
        Labels, usually stimulus ids. A label decides its fold by its SHA-256, so that repeats of a stimulus meet
        in one fold even when years lie between them. Without labels a session is cut into contiguous pieces,
        one for each fold.
    n_folds : int
        Number of folds.

    Returns
    -------
    array, shape (sample,)
        From 0 to ``n_folds - 1``.
    """
    if groups is None:
        return np.arange(n_samples) * n_folds // n_samples
    labels = np.asarray(groups)
    if labels.shape != (n_samples,):
        raise InputError(
            "`groups` needs one label for each sample", given=f"shape {labels.shape}", expected=f"({n_samples},)"
        )
    names, which = np.unique(labels.astype(str), return_inverse=True)
    folds = [int.from_bytes(hashlib.sha256(name.encode()).digest()[:8]) % n_folds for name in names.tolist()]
    return np.array(folds, dtype=np.int64)[which]


def used_folds(folds: NDArray) -> list[int]:
    """Return the numbers of the folds that have samples; two at least."""
    numbers = np.unique(folds).tolist()
    if len(numbers) < 2:
        raise InputError(
            "cross-validation needs samples in at least two folds",
            given=f"{len(folds)} samples in {len(numbers)}",
            expected="labels in `groups` that are not all the same, and cv of 2 or more",
            todo="give alpha as one number to fit without cross-validation",
        )
    return numbers


class JoinedTargets(Targets):
    """Targets of several sessions, one after another, read block by block.

    Parameters
    ----------
    parts : list of Targets
        Of each session.
    """

    def __init__(self, parts: list[Targets]) -> None:
        self.parts, self.names, self.shape = parts, parts[0].names, parts[0].shape
        self.n_samples = sum(part.n_samples for part in parts)
        self.n_targets = parts[0].n_targets

    def column_blocks(self) -> Iterator[slice]:
        """Yield the columns of each block."""
        return self.parts[0].column_blocks()

    def blocks(self) -> Iterator[tuple[slice, NDArray]]:
        """Yield ``(columns, values)``, values of shape (sample, target)."""
        for each in zip(*(part.blocks() for part in self.parts), strict=False):
            columns = each[0][0]
            if any(block != columns for block, _ in each):
                raise InputError(
                    "targets of the sessions cannot be read in the same blocks",
                    given="arrays of several kinds, Zarr's among them",
                    expected="targets of one kind",
                    todo="give them as dask arrays: dask.array.from_zarr(...)",
                )
            yield columns, np.concatenate([values for _, values in each])
