"""A small problem with a known answer, for tests of decoders."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class Problem:
    """Responses, targets that follow from them, and new samples.

    Parameters
    ----------
    X : array, float32, shape (sample, voxel)
    y : array, float32, shape (sample, ...)
        Of two axes at least.
    groups : array of int, shape (sample,)
        Which stimulus each sample shows.
    X_new : array, float32, shape (new sample, voxel)
    y_new : array, float32, shape (new sample, ...)
    """

    X: np.ndarray = field(default_factory=lambda: _linear()[0])
    y: np.ndarray = field(default_factory=lambda: _linear()[1])
    groups: np.ndarray = field(default_factory=lambda: _linear()[2])
    X_new: np.ndarray = field(default_factory=lambda: _linear()[3])
    y_new: np.ndarray = field(default_factory=lambda: _linear()[4])


def _linear(stimuli: int = 24, voxels: int = 8) -> tuple[np.ndarray, ...]:
    """Return 48 samples, each stimulus shown twice, and 16 new ones: targets of shape (2, 3), 1 % of them noise."""
    generator = np.random.default_rng(0)
    shown = generator.permutation(np.repeat(np.arange(stimuli), 2))
    pictures = generator.standard_normal((stimuli + 16, voxels))
    weights = generator.standard_normal((voxels, 6)) / np.sqrt(voxels)
    targets = pictures @ weights + 0.1 * generator.standard_normal((stimuli + 16, 6)) + np.arange(6)
    responses = pictures[shown] + 0.1 * generator.standard_normal((2 * stimuli, voxels))
    found = (
        responses,
        targets[shown].reshape(-1, 2, 3),
        shown,
        pictures[stimuli:],
        targets[stimuli:].reshape(-1, 2, 3),
    )
    return tuple(values if values.dtype.kind == "i" else values.astype(np.float32) for values in found)
