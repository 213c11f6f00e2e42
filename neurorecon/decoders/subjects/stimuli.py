"""Responses of several subjects: checked one by one, and brought to the stimuli that they share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from neurorecon.decoders.targets import Targets
from neurorecon.errors import InputError, UnknownNameError


def check_subjects(given: Any, what: str) -> dict[str, Any]:
    """Return a mapping from subjects to arrays as a dict, checked."""
    if not isinstance(given, Mapping) or not given or not all(isinstance(name, str) for name in given):
        raise InputError(
            f"{what} of several subjects come as a dict",
            given=f"{type(given).__name__}" + (f" with {list(given)[:3]}" if isinstance(given, Mapping) else ""),
            expected='{"subj01": array, "subj02": array}',
        )
    return dict(given)


def check_same_subjects(names: list[str], others: Mapping[str, Any], what: str) -> None:
    """Refuse where a subject is missing or there is one too many."""
    for name in names:
        if name not in others:
            raise UnknownNameError("subject", name, others, todo=f"give the {what} of this subject too")
    for name in others:
        if name not in names:
            raise UnknownNameError("subject", name, names, todo=f"leave these {what} out, or give its responses")


def check_responses(name: str, x: ArrayLike, dtype: str, n_voxels: int | None = None) -> NDArray:
    """Return the responses of a subject, (sample, voxel).

    Parameters
    ----------
    name : str
        The subject.
    x : array, shape (sample, voxel)
        Responses.
    dtype : str
        Precision.
    n_voxels : int, optional
        Voxels that the subject was fitted with; without, the responses are to be fitted.

    Returns
    -------
    array, shape (sample, voxel)

    Raises
    ------
    InputError
        Where the shape is wrong, a value is not finite, or, to be fitted, no voxel varies.
    """
    values = np.asarray(x, dtype=dtype)
    if values.ndim != 2:
        raise InputError(
            f"responses of {name} need two axes", given=f"shape {values.shape}", expected="(sample, voxel)"
        )
    if n_voxels is not None and values.shape[1] != n_voxels:
        raise InputError(
            f"responses of {name} have other voxels than those fitted",
            given=f"{values.shape[1]} voxels",
            expected=f"{n_voxels} voxels",
            todo="subjects differ in their voxels: check that the responses are of this subject and of the same areas",
        )
    usable = np.isfinite(values)
    if not usable.all():
        n_bad = int((~usable.all(axis=0)).sum())
        raise InputError(
            f"responses of {name} contain NaN or infinity",
            given=f"{int((~usable).sum())} values in {n_bad} of {values.shape[1]} voxels",
            expected="finite numbers",
            todo="leave out the voxels that were not measured in this subject, here and when predicting",
        )
    if n_voxels is None and (len(values) < 2 or not np.ptp(values, axis=0).any()):
        raise InputError(
            f"responses of {name} do not vary",
            given=f"{len(values)} samples of {values.shape[1]} voxels, all the same",
            expected="two samples or more that differ",
        )
    return values


def check_labels(name: str, groups: Any, n_samples: int) -> NDArray | None:
    """Return the stimulus of each sample of a subject, (sample,), or None."""
    if groups is None:
        return None
    labels = np.asarray(groups)
    if labels.shape != (n_samples,):
        raise InputError(
            f"`groups` of {name} needs one label for each sample",
            given=f"shape {labels.shape}",
            expected=f"({n_samples},)",
        )
    return labels


def shared_stimuli(labels: Mapping[str, NDArray]) -> NDArray:
    """Return the labels that all subjects have, sorted; two at least."""
    shared: NDArray | None = None
    for each in labels.values():
        shared = np.unique(each) if shared is None else np.intersect1d(shared, each)
    if shared is None or len(shared) < 2:
        raise InputError(
            "the subjects share too few stimuli to be aligned by them",
            given=f"{0 if shared is None else len(shared)} labels that {', '.join(labels)} have in common",
            expected="two or more; NSD's subjects share up to 1,000",
            todo='check that `groups` are stimulus ids; method="latent" needs no shared stimuli',
        )
    return shared


def averaging(labels: NDArray, stimuli: NDArray) -> Any:
    """Return the sparse matrix (stimulus, sample) that averages the samples of each of the sorted stimuli."""
    from scipy.sparse import csr_matrix

    which = np.minimum(np.searchsorted(stimuli, labels), len(stimuli) - 1)
    samples = np.flatnonzero(stimuli[which] == labels)
    counts = np.bincount(which[samples], minlength=len(stimuli))
    shape = (len(stimuli), len(labels))
    return csr_matrix((1 / counts[which[samples]], (which[samples], samples)), shape=shape)


def no_stimuli() -> InputError:
    """Return the error for labels that are not there."""
    return InputError(
        'method="concatenated" needs to know which stimuli subjects share',
        given="no groups",
        expected="stimulus ids of each sample in `groups`",
    )


def shared_targets(
    targets: Mapping[str, Targets], labels: Mapping[str, NDArray], stimuli: NDArray, dtype: str
) -> NDArray:
    """Return the targets of the shared stimuli, (stimulus, target), the same for all subjects."""
    first = next(iter(targets.values()))
    shared = np.empty((len(stimuli), first.n_targets), dtype=dtype)
    for name, each in targets.items():
        average = averaging(labels[name], stimuli)
        for block, y in each.blocks():
            means = (average @ y).astype(dtype)
            if each is first:
                shared[:, block] = means
            elif not np.allclose(means, shared[:, block], rtol=1e-4, atol=1e-4 * np.abs(shared[:, block]).max()):
                raise InputError(
                    "targets of the same stimuli differ between subjects",
                    given=f"{name} and {next(iter(targets))}",
                    expected="targets that depend on the stimulus alone",
                    todo="check that `groups` are stimulus ids",
                )
    return shared
