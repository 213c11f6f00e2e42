"""What every map starts from: which task, which samples, and the features at their delays."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from neurorecon.decoders.kernels import delayed_kernel as delayed_kernel
from neurorecon.errors import InputError
from neurorecon.store.selection import volume_numbers
from neurorecon.store.store import Store

#: Seconds after the onset of a stimulus within which the hemodynamic response is modeled in time series.
RESPONSE_WINDOW = (2.0, 8.0)

#: Features are read and multiplied this many at a time, so that targets of any width fit into memory.
FEATURE_BLOCK = 4096


@dataclass(frozen=True)
class Samples:
    """The samples of one split, averaged over repeats where that is right.

    Parameters
    ----------
    responses : array, shape (sample, voxel), float32
        Measured responses.
    table : DataFrame
        The sample table.
    runs : int array, shape (sample,)
        A number for each run.
    stimuli : list of str
        Unique stimuli, in order of first appearance.
    shown : int array, shape (sample,)
        Which of `stimuli` each sample shows.
    volumes : int array, shape (sample,), optional
        Number of each sample's volume in its run, where volumes (of rest) were left out; by default they are
        consecutive.
    """

    responses: np.ndarray
    table: pd.DataFrame
    runs: np.ndarray
    stimuli: list[str]
    shown: np.ndarray
    volumes: np.ndarray | None = None

    def at_delays(self, delays: Sequence[int]) -> np.ndarray:
        """Return which stimulus was shown so many volumes ago in the same run; -1 for none, as in rest.

        Parameters
        ----------
        delays : sequence of int
            In volumes.

        Returns
        -------
        int array, shape (delay, sample)
        """
        volumes = np.arange(len(self.shown)) if self.volumes is None else self.volumes
        at = pd.Series(self.shown, index=pd.MultiIndex.from_arrays([self.runs, volumes]))
        if not at.index.is_unique:
            raise InputError(
                "two samples of one run have the same time",
                given=f"a time series of {len(at)} samples at {at.index.nunique()} times",
                expected="one sample a volume",
                todo="fix the times of the samples, or build the store again as single trials",
            )
        ago = [pd.MultiIndex.from_arrays([self.runs, volumes - delay]) for delay in delays]
        return np.stack([at.reindex(keys, fill_value=-1).to_numpy() for keys in ago])


def choose_task(store: Store, subject: str, bands: Iterable[str], task: str | None) -> str:
    """Return the task to analyze.

    Where none is asked for: among the tasks in which every stimulus has all bands, the one with the most training
    stimuli. (Images have no motion, so asking for a motion band means the films.)
    """
    samples = store.samples(subject)
    having = [set(store.target_stimuli(band).tolist()) for band in bands]
    complete = {}
    for name, part in samples.groupby("task", sort=False):
        shown = set(part["stimulus"])
        if all(shown <= have for have in having):
            complete[str(name)] = part.loc[part["split"] == "train", "stimulus"].nunique()
    if task is not None:
        known = store.tasks(subject)
        if task not in known or task not in complete:
            raise InputError(
                f"the task {task!r} cannot be analyzed with these bands",
                given=f"task {task!r}, bands {', '.join(bands)}",
                expected=f"one of: {', '.join(complete) or '(no task has all these bands)'}",
                todo="choose another task, or bands that are defined for its stimuli",
            )
        return task
    if not complete:
        raise InputError(
            "no task shows stimuli that have all these bands",
            given=f"bands {', '.join(bands)}; tasks {', '.join(store.tasks(subject))}",
            expected="bands that are all defined for one task",
            todo="leave out the bands that are missing, or compute them: neurorecon features",
        )
    return max(complete, key=lambda name: complete[name])


def choose_delays(store: Store, subject: str, task: str, delays: Sequence[int] | None) -> tuple[int, ...]:
    """Return the delays of the features in samples: those asked for, else 2 to 8 s for a time series, 0 for trials."""
    seconds = store.series(subject).get(task)
    if delays is not None and tuple(delays) != (0,) and seconds is None:
        raise InputError(
            "delays need a time series, and these samples are single-trial estimates",
            given=f"delays {tuple(delays)} for the task {task!r}",
            expected="no delays",
            todo="leave delays out",
        )
    if delays is not None:
        if not len(delays) or min(delays) < 0:
            raise InputError(
                "these delays cannot be used",
                given=f"delays {tuple(delays)}",
                expected="at least one number of samples, 0 or more: responses follow their stimulus",
                todo="leave delays out for those of 2 to 8 s",
            )
        return tuple(delays)
    if seconds is None:
        return (0,)
    first, last = (round(limit / seconds) for limit in RESPONSE_WINDOW)
    return tuple(range(max(first, 1), max(last, first, 1) + 1))


def load_samples(
    store: Store,
    subject: str,
    roi: str | Iterable[str] | None,
    split: str,
    task: str,
    voxels: slice | None = None,
) -> Samples:
    """Read the responses of one split into memory, repeats averaged; of some voxels of the selection where told.

    Repeats of a time series are averaged only where every repeat shows the stimuli in the same order: the
    response to a stimulus overlaps with those to its neighbors.
    """
    table = store.samples(subject)
    part = table[(table["split"] == split) & (table["task"] == task)]
    average = "stimulus" if task not in store.series(subject) or same_order(part) else None
    responses = store.responses(subject, roi, split, task=task, average=average)  # type: ignore[arg-type]
    names = ("stimulus", "task", "session", "run", "repeat", "split", "time")
    found = pd.DataFrame({name: responses[name].values for name in names})
    runs = found.groupby(["session", "run"], sort=False).ngroup().to_numpy()
    shown, stimuli = pd.factorize(found["stimulus"])
    seconds = store.series(subject).get(task)
    volumes = None if seconds is None else volume_numbers(found, runs, seconds)
    chosen = responses if voxels is None else responses[:, voxels]
    values = chosen.values if chosen.shape[1] else np.empty(chosen.shape, dtype=np.float32)
    return Samples(values, found, runs, [str(name) for name in stimuli], shown, volumes)


def same_order(samples: pd.DataFrame) -> bool:
    """Return whether each stimulus always follows the same stimulus within its run."""
    before = samples.groupby(["session", "run"], sort=False)["stimulus"].shift(1).fillna("")
    return bool((before.groupby(samples["stimulus"], sort=False).nunique() == 1).all())


def grams(
    store: Store, bands: Sequence[str], train: Sequence[str], test: Sequence[str]
) -> tuple[np.ndarray, np.ndarray]:
    """Return the products of the bands' features between stimuli.

    Features are standardized by the training stimuli; those that do not vary there count as 0. Where a target has
    groups (latents of a VDVAE), each group counts as much as the others, however many features it has.

    Parameters
    ----------
    store : Store
        Where the targets are.
    bands : sequence of str
        Their names.
    train, test : sequence of str
        Ids of stimuli.

    Returns
    -------
    train_train : array, shape (band, train_stimulus, train_stimulus)
    test_train : array, shape (band, test_stimulus, train_stimulus)
    """
    within = np.zeros((len(bands), len(train), len(train)))
    across = np.zeros((len(bands), len(test), len(train)))
    for number, band in enumerate(bands):
        found = store.targets(band, stimuli=[*train, *test])
        values = found.data.reshape(len(found), -1)
        weight = feature_weights(found.attrs, values.shape[1])
        for start in range(0, values.shape[1], FEATURE_BLOCK):
            block = np.asarray(values[:, start : start + FEATURE_BLOCK], dtype=np.float64)
            mean, spread = block[: len(train)].mean(axis=0), block[: len(train)].std(axis=0)
            block = np.where(spread > 1e-8, (block - mean) / np.where(spread > 1e-8, spread, 1), 0)
            block *= weight[start : start + FEATURE_BLOCK]
            within[number] += block[: len(train)] @ block[: len(train)].T
            across[number] += block[len(train) :] @ block[: len(train)].T
    return within, across


def feature_weights(attrs: Mapping[str, Any], features: int) -> np.ndarray:
    """Return what standardized features are multiplied by, (feature,).

    Most latents of a VDVAE belong to its last groups, which hold texture: counted alike, the first groups, which say
    what is where, would add nearly nothing to the products. So every resolution counts alike, into however many
    groups a network splits it. Latents at 1 x 1 count nothing beside others: they have no place in the image, and
    may say what is in it, which is no business of a low-level band.

    Parameters
    ----------
    attrs : mapping
        Of the target; ``group_boundaries`` says where each group begins and where the last one ends, ``group_shapes``
        (channel, y, x) which of them have the same resolution. Without shapes every group counts alike.
    features : int
        Number of features.
    """
    boundaries = attrs.get("group_boundaries")
    if boundaries is None or boundaries[-1] != features:
        return np.ones(features)
    sizes = np.diff(boundaries)
    sides = np.array([shape[-1] for shape in attrs.get("group_shapes", [])])
    if len(sides) != len(sizes):
        return np.repeat(1 / np.sqrt(sizes), sizes)
    _, resolution = np.unique(sides, return_inverse=True)
    weights = 1 / np.sqrt(np.bincount(resolution, weights=sizes)[resolution])
    if (sides > 1).any():
        weights[sides == 1] = 0.0
    return np.repeat(weights, sizes)
