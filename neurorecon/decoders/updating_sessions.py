"""Sessions that arrive one after another: their folds, their standardization, and where their rows are kept."""

from __future__ import annotations

import filecmp
import hashlib
import os
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from neurorecon.decoders.backend import Backend
from neurorecon.decoders.targets import Targets
from neurorecon.errors import InputError, MissingFileError, UnknownNameError


@dataclass(frozen=True)
class Options:
    """What both ways of adding sessions are told.

    Parameters
    ----------
    alphas : array, shape () or (alpha,)
        Regularization, or candidates for it.
    per_target : bool
        Choose alpha for each target.
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
    per_target: bool
    center: bool
    backend: Backend
    dtype: str
    target_block: int | None
    folder: str | Path | None


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


def best_alphas(errors: NDArray, alphas: NDArray) -> NDArray[np.float64]:
    """Return the alpha of least error, of equals the largest: shape () or (target,)."""
    order = np.argsort(-alphas, kind="stable")
    return np.asarray(alphas[order][np.argmin(errors[order], axis=0)])


def keep(array: Any, folder: str | Path | None, file: str) -> Any:
    """Keep an array: in memory, or in a file of a folder.

    Parameters
    ----------
    array : array
        What to keep. Of arrays in memory a copy is kept; dask, xarray and Zarr arrays and memory maps stay where
        they are, unless there is a folder.
    folder : path, optional
        Where files are written.
    file : str
        Name of the file.

    Returns
    -------
    array or str
        What :func:`kept` understands: the array, or the name of the file.

    Raises
    ------
    InputError
        Where the file is there already with other contents: no file is ever changed, since a decoder that was
        saved earlier may need it.
    """
    if folder is None:
        in_memory = isinstance(array, np.ndarray) and not isinstance(array, np.memmap)
        return np.array(array) if in_memory else array
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    part = place / f".{file}.{os.getpid()}"
    try:
        _write(array, part)
        if not (place / file).exists():
            part.replace(place / file)
        elif not filecmp.cmp(part, place / file, shallow=False):
            raise InputError(
                "another decoder has gone on with sessions of its own in this folder",
                given=str(place / file),
                expected="a folder to which one decoder adds sessions",
                todo="copy the folder first and set_params(folder=<the copy>)",
            )
    finally:
        part.unlink(missing_ok=True)
    return file


def _write(array: Any, path: Path) -> None:
    """Write an array as .npy, block by block."""
    shape = tuple(int(size) for size in array.shape)
    written = np.lib.format.open_memmap(path, mode="w+", dtype=array.dtype, shape=shape)
    if isinstance(array, np.ndarray):
        written[...] = array
    else:
        columns = written.reshape(shape[0], -1)
        for block, values in Targets(array, str(array.dtype)).blocks():
            columns[:, block] = values
    written.flush()


def kept(what: Any, folder: str | Path | None) -> Any:
    """Return an array that was kept; those in files are mapped, not read."""
    if not isinstance(what, str):
        return what
    path = Path(folder or ".") / what
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError as error:
        raise MissingFileError(
            "rows of a session that this decoder was fitted to are not there",
            given=str(path),
            expected="the folder that the decoder was fitted with",
            todo="decoder.set_params(folder=...) says where the folder is now",
        ) from error


def joined_blocks(targets: list[Targets]) -> Iterator[tuple[slice, NDArray]]:
    """Yield ``(columns, values)`` over the targets of all sessions, values of shape (sample, target)."""
    for parts in zip(*(each.blocks() for each in targets), strict=False):
        if any(block != parts[0][0] for block, _ in parts):
            raise InputError(
                "targets of the sessions cannot be read in the same blocks",
                given="arrays of several kinds, Zarr's among them",
                expected="targets of one kind",
                todo="give them as dask arrays: dask.array.from_zarr(...)",
            )
        yield parts[0][0], np.concatenate([values for _, values in parts])
