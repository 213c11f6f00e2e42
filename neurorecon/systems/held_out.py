"""Reconstruction of held-out stimuli: fit on the training split, reconstruct the test split, score beside a null.

The null is that of the generator alone: the same reconstructions, made from the brain data of other stimuli.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.base import clone

from neurorecon.metrics.identification import TOLERANCE, pairwise_identification, similarity_matrix
from neurorecon.metrics.image import as_unit_float, pixel_correlation
from neurorecon.metrics.summary import summarize
from neurorecon.stats import permutation_p, stimulus_permutations
from neurorecon.systems.cross_validation import Score
from neurorecon.systems.linear_pixels import LinearPixels


@dataclass(frozen=True)
class HeldOut:
    """Images reconstructed from the responses to test stimuli.

    Parameters
    ----------
    seen, reconstructed : array, shape (stimulus, y, x, rgb)
        float32 in [0, 1].
    pixel_correlation : array, shape (stimulus,)
        Of each reconstruction with its stimulus.
    scores : list of Score
        Means over stimuli beside their null.
    null : dict of str to array, shape (permutation,)
        The null of each score.
    alpha : float
        The alpha that was chosen.
    """

    seen: np.ndarray
    reconstructed: np.ndarray
    pixel_correlation: np.ndarray
    scores: list[Score]
    null: dict[str, np.ndarray]
    alpha: float


def reconstruct_held_out(
    train: tuple[Any, Any, Any],
    test: tuple[Any, Any],
    *,
    system: LinearPixels | None = None,
    n_permutations: int = 1000,
    seed: int = 0,
) -> HeldOut:
    """Fit a system on training samples and reconstruct the test stimuli.

    Parameters
    ----------
    train : (responses, images, groups)
        Arrays of shape (sample, voxel), (sample, y, x, rgb), (sample,); samples of a group stay in one inner fold.
    test : (responses, images)
        One row a stimulus.
    system : LinearPixels, optional
        Fitted as a clone; by default ``LinearPixels()``.
    n_permutations, seed : int
        Of the null, in which each reconstruction is scored against the image of another stimulus.

    Returns
    -------
    HeldOut
    """
    fitted = clone(LinearPixels() if system is None else system).fit(train[0], train[1], groups=train[2])
    reconstructed = fitted.predict(test[0])
    seen = as_unit_float(np.asarray(test[1])).astype(np.float32)
    baseline = np.broadcast_to(as_unit_float(np.asarray(train[1])).mean(axis=0, dtype=np.float32), seen.shape)
    similarity = similarity_matrix(seen, reconstructed)
    orders = stimulus_permutations(len(seen), n_permutations, seed)
    null = {name: np.array([row[name] for row in (_scores(similarity, order) for order in orders)]) for name in _NAMES}
    per_stimulus = pixel_correlation(seen, reconstructed)
    values = dict(zip(_NAMES, (per_stimulus, pairwise_identification(seen, reconstructed)), strict=True))
    of_baseline = dict(zip(_NAMES, (pixel_correlation(seen, baseline), None), strict=True))
    scores = [_score(name, values[name], null[name], of_baseline[name]) for name in _NAMES]
    return HeldOut(seen, reconstructed, per_stimulus, scores, null, float(fitted.alpha_))


_NAMES = ("pixel_correlation", "pairwise_identification")


def _scores(similarity: np.ndarray, order: np.ndarray) -> dict[str, float]:
    """Return the mean scores where reconstruction i is taken for one of stimulus ``order[i]``."""
    own = similarity[np.arange(len(order)), order]
    lower = (similarity < own[:, None] - TOLERANCE).sum(axis=1) / (len(order) - 1)
    return dict(zip(_NAMES, (float(np.nanmean(own)), float(lower.mean())), strict=True))


def _score(name: str, values: np.ndarray, null: np.ndarray, baseline: np.ndarray | None) -> Score:
    summary = summarize(values)
    return Score(
        name=name,
        value=summary.mean,
        n=summary.n,
        n_undefined=summary.n_undefined,
        null_mean=float(null.mean()),
        null_max=float(null.max()),
        p=float(permutation_p(summary.mean, null)),
        n_permutations=len(null),
        baseline=None if baseline is None else summarize(baseline).mean,
    )
