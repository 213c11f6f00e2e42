"""Cross-validated linear reconstruction beside its permutation null.

A figure is reconstructed by a decoder that has never met it. Responses and folds stay as they are under
permutation, so the null refits everything, the choice of alpha included, on matrices that are factorized
once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.base import clone
from threadpoolctl import threadpool_limits

from neurorecon.metrics.identification import pairwise_identification
from neurorecon.metrics.image import pixel_correlation
from neurorecon.metrics.summary import summarize
from neurorecon.stats import permutation_p, stimulus_permutations
from neurorecon.systems.cached_folds import CachedFolds
from neurorecon.systems.design import Design, mean_by
from neurorecon.systems.linear_pixels import LinearPixels

#: Up to this many samples matrix products are not worth several threads.
FEW_SAMPLES = 500


@dataclass(frozen=True)
class CrossValidation:
    """Images reconstructed from held-out samples.

    Parameters
    ----------
    stimuli : array, shape (stimulus,)
        Name of each stimulus, in order of first appearance.
    seen : array, shape (stimulus, y, x, rgb)
        float32 in [0, 1].
    reconstructed : array, shape (stimulus, y, x, rgb)
        Mean over the samples of each stimulus.
    stimulus_of_sample : int array, shape (sample,)
        Index into `stimuli`.
    rebuilt_samples : array, shape (sample, y, x, rgb)
        From single samples.
    baseline_samples : array, shape (sample, y, x, rgb)
        Mean image of each sample's training set: what a decoder that ignores the brain would reconstruct.
    alphas : dict of str to float
        The alpha chosen in each fold.
    """

    stimuli: np.ndarray
    seen: np.ndarray
    reconstructed: np.ndarray
    stimulus_of_sample: np.ndarray
    reconstructed_samples: np.ndarray
    baseline_samples: np.ndarray
    alphas: dict[str, float]


@dataclass(frozen=True)
class Score:
    """A score beside what it is without the brain.

    Parameters
    ----------
    name : str
        Which score.
    value : float
        Mean over stimuli (or samples).
    n : int
        Number of stimuli (or samples) in the mean.
    n_undefined : int
        Number left out because the score is undefined (constant images).
    null_mean, null_max : float
        Of the permutation null.
    p : float
        (1 + #{null >= value}) / (1 + n_permutations).
    n_permutations : int
        Number of permutations.
    baseline : float or None
        The same score of the mean training image, where that has one.
    """

    name: str
    value: float
    n: int
    n_undefined: int
    null_mean: float
    null_max: float
    p: float
    n_permutations: int
    baseline: float | None = None


def cross_validate(
    responses: Any,
    images: Any,
    labels: Any,
    *,
    stimuli: Any = None,
    system: LinearPixels | None = None,
) -> CrossValidation:
    """Leave one label out: reconstruct its samples with a system fitted on all others.

    Standardization and alpha come from the training samples of each fold, alpha by inner cross-validation
    that leaves whole labels out.

    Parameters
    ----------
    responses : array, shape (sample, voxel)
        Of one subject.
    images : array, shape (sample, y, x, rgb)
        The image of each sample, uint8 or float in [0, 1].
    labels : array, shape (sample,)
        What is left out as a whole, e.g. the figure or the category.
    stimuli : array, shape (sample,), optional
        Stimulus of each sample: its samples are averaged after reconstruction. By default the label.
    system : LinearPixels, optional
        Fitted as a clone in each fold; by default ``LinearPixels()``.

    Returns
    -------
    CrossValidation

    Raises
    ------
    InputError
        Where a stimulus has two images or labels, there are fewer than two labels, or shapes do not match.
    """
    design = Design.of(responses, images, labels, stimuli)
    system = LinearPixels() if system is None else system
    reconstructed = np.empty((len(design.responses), *design.seen.shape[1:]), dtype=np.float32)
    baseline = np.empty(reconstructed.shape)  # float64, because means of few images can tie
    alphas = {}
    for label in design.fold_names:
        held = design.labels == label
        with _few_threads(design):
            fitted = clone(system).fit(design.responses[~held], design.images[~held], groups=design.labels[~held])
            reconstructed[held] = fitted.predict(design.responses[held])
        baseline[held] = design.images[~held].mean(axis=0)
        alphas[str(label)] = float(fitted.alpha_)
    return CrossValidation(
        stimuli=design.stimuli,
        seen=design.seen.astype(np.float32),
        reconstructed=mean_by(reconstructed, design.stimulus_of_sample, len(design.stimuli)),
        stimulus_of_sample=design.stimulus_of_sample,
        reconstructed_samples=reconstructed,
        baseline_samples=baseline,
        alphas=alphas,
    )


def cross_validated_null(
    responses: Any,
    images: Any,
    labels: Any,
    *,
    stimuli: Any = None,
    system: LinearPixels | None = None,
    n_permutations: int = 1000,
    seed: int = 0,
    within: Any = None,
) -> dict[str, np.ndarray]:
    """Scores of the whole procedure when responses are paired with the images of other stimuli.

    Images change places between stimuli, so that all samples of a stimulus keep a common, wrong image.
    Folds, standardization and inner folds are those of the truth; alpha is chosen anew for every permutation.

    Parameters
    ----------
    responses, images, labels, stimuli, system
        As in :func:`cross_validate`.
    n_permutations : int
        Number of permutations.
    seed : int
        The same seed gives the same permutations.
    within : array, shape (sample,), optional
        Images change places only between stimuli that have the same value, e.g. the session in which a
        stimulus was shown: the null then keeps what can be told from the session alone.

    Returns
    -------
    dict of str to array, shape (permutation,)
        One null for each name in :func:`reconstruction_scores`.
    """
    design = Design.of(responses, images, labels, stimuli)
    with _few_threads(design):
        folds = CachedFolds(design, LinearPixels() if system is None else system)
    blocks = None if within is None else design.by_stimulus(within, "within")
    orders = stimulus_permutations(len(design.stimuli), n_permutations, seed, blocks)
    with _few_threads(design):
        rows = [_statistics(design.seen[order], *folds.reconstruct(order), design) for order in orders]
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}


def reconstruction_scores(result: CrossValidation, null: dict[str, np.ndarray]) -> list[Score]:
    """Put each score beside its null.

    Parameters
    ----------
    result : CrossValidation
        What :func:`cross_validate` returned.
    null : dict of str to array, shape (permutation,)
        What :func:`cross_validated_null` returned for the same arguments.

    Returns
    -------
    list of Score
        ``stimulus_mean_pixel_correlation``: correlation of each stimulus with the mean of its
        reconstructions. ``pairwise_identification`` of these means, see
        :func:`neurorecon.metrics.pairwise_identification`. ``single_sample_pixel_correlation``: correlation
        of each sample's reconstruction with its stimulus, beside that of the mean training image.
    """
    seen_samples = result.seen[result.stimulus_of_sample]
    values = {
        "stimulus_mean_pixel_correlation": pixel_correlation(result.seen, result.reconstructed),
        "pairwise_identification": pairwise_identification(result.seen, result.reconstructed),
        "single_sample_pixel_correlation": pixel_correlation(seen_samples, result.reconstructed_samples),
    }
    means = mean_by(result.baseline_samples, result.stimulus_of_sample, len(result.stimuli))
    baselines = {
        "stimulus_mean_pixel_correlation": summarize(pixel_correlation(result.seen, means)).mean,
        "pairwise_identification": summarize(pairwise_identification(result.seen, means)).mean,
        "single_sample_pixel_correlation": summarize(pixel_correlation(seen_samples, result.baseline_samples)).mean,
    }
    scores = []
    for name, per_stimulus in values.items():
        summary = summarize(per_stimulus)
        scores.append(
            Score(
                name=name,
                value=summary.mean,
                n=summary.n,
                n_undefined=summary.n_undefined,
                null_mean=float(null[name].mean()),
                null_max=float(null[name].max()),
                p=float(permutation_p(summary.mean, null[name])),
                n_permutations=len(null[name]),
                baseline=baselines[name],
            )
        )
    return scores


def _few_threads(design: Design) -> threadpool_limits:
    """Keep small matrices on one thread: more would only wait for each other, on a busy machine for minutes."""
    return threadpool_limits(1 if len(design.responses) <= FEW_SAMPLES else None)


def _statistics(
    seen: np.ndarray, reconstructed: np.ndarray, reconstructed_samples: np.ndarray, design: Design
) -> dict[str, float]:
    """Return the scores of one permutation."""
    return {
        "stimulus_mean_pixel_correlation": summarize(pixel_correlation(seen, reconstructed)).mean,
        "pairwise_identification": summarize(pairwise_identification(seen, reconstructed)).mean,
        "single_sample_pixel_correlation": summarize(
            pixel_correlation(seen[design.stimulus_of_sample], reconstructed_samples)
        ).mean,
    }
