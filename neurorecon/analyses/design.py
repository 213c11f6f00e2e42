"""What every map starts from: which task, which samples, and the features at their delays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from neurorecon.decoders.kernels import delayed_kernel
from neurorecon.decoders.samples import SampleTable as Samples
from neurorecon.decoders.samples import choose_delays, choose_task, load_samples, same_order
from neurorecon.store.store import Store

__all__ = [
    "Samples",
    "choose_delays",
    "choose_task",
    "delayed_kernel",
    "feature_weights",
    "grams",
    "load_samples",
    "same_order",
]

#: Features are read and multiplied this many at a time, so that targets of any width fit into memory.
FEATURE_BLOCK = 4096


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
