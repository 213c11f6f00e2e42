"""Cross-validated linear reconstruction beside its permutation null.

A figure is rebuilt by a decoder that has never met it. Responses and folds stay as they are under
permutation, so the null refits everything, the choice of alpha included, on matrices that are factorized
once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.base import clone
from threadpoolctl import threadpool_limits

from neurorecon.decoders.folds import group_folds
from neurorecon.errors import InputError
from neurorecon.metrics.identification import pairwise_identification
from neurorecon.metrics.image import pixel_correlation
from neurorecon.metrics.summary import summarize
from neurorecon.stats import permutation_p, stimulus_permutations
from neurorecon.systems.linear_pixels import LinearPixels, check_alphas, check_samples
from neurorecon.systems.smoother import ridge_smoothers, standardizer

#: Up to this many samples matrix products are not worth several threads.
FEW_SAMPLES = 500


@dataclass(frozen=True)
class CrossValidation:
    """Pictures rebuilt from held-out samples.

    Parameters
    ----------
    stimuli : array, shape (stimulus,)
        Name of each stimulus, in order of first appearance.
    seen : array, shape (stimulus, y, x, rgb)
        float32 in [0, 1].
    rebuilt : array, shape (stimulus, y, x, rgb)
        Mean over the samples of each stimulus.
    stimulus_of_sample : int array, shape (sample,)
        Index into `stimuli`.
    rebuilt_samples : array, shape (sample, y, x, rgb)
        From single samples.
    baseline_samples : array, shape (sample, y, x, rgb)
        Mean picture of each sample's training set: what a decoder that ignores the brain would rebuild.
    alphas : dict of str to float
        The penalty chosen in each fold.
    """

    stimuli: np.ndarray
    seen: np.ndarray
    rebuilt: np.ndarray
    stimulus_of_sample: np.ndarray
    rebuilt_samples: np.ndarray
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
        Number left out because the score is undefined (constant pictures).
    null_mean, null_max : float
        Of the permutation null.
    p : float
        (1 + #{null >= value}) / (1 + n_permutations).
    n_permutations : int
        Number of permutations.
    baseline : float or None
        The same score of the mean training picture, where that has one.
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
    """Leave one label out: rebuild its samples with a system fitted on all others.

    Standardization and alpha come from the training samples of each fold, alpha by inner cross-validation
    that leaves whole labels out.

    Parameters
    ----------
    responses : array, shape (sample, voxel)
        Of one subject.
    images : array, shape (sample, y, x, rgb)
        The picture of each sample, uint8 or float in [0, 1].
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
        Where a stimulus has two pictures or labels, there are fewer than two labels, or shapes do not match.
    """
    design = _Design.of(responses, images, labels, stimuli)
    system = LinearPixels() if system is None else system
    rebuilt = np.empty((len(design.responses), *design.seen.shape[1:]), dtype=np.float32)
    baseline = np.empty(rebuilt.shape)  # float64, because means of few pictures can tie
    alphas = {}
    for label in design.fold_names:
        held = design.labels == label
        with _few_threads(design):
            fitted = clone(system).fit(design.responses[~held], design.images[~held], groups=design.labels[~held])
            rebuilt[held] = fitted.predict(design.responses[held])
        baseline[held] = design.images[~held].mean(axis=0)
        alphas[str(label)] = float(fitted.alpha_)
    return CrossValidation(
        stimuli=design.stimuli,
        seen=design.seen.astype(np.float32),
        rebuilt=_mean_by(rebuilt, design.stimulus_of_sample, len(design.stimuli)),
        stimulus_of_sample=design.stimulus_of_sample,
        rebuilt_samples=rebuilt,
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
    """Scores of the whole procedure when responses are paired with the pictures of other stimuli.

    Pictures change places between stimuli, so that all samples of a stimulus keep a common, wrong picture.
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
        Pictures change places only between stimuli that have the same value, e.g. the session in which a
        stimulus was shown: the null then keeps what can be told from the session alone.

    Returns
    -------
    dict of str to array, shape (permutation,)
        One null for each name in :func:`reconstruction_scores`.
    """
    design = _Design.of(responses, images, labels, stimuli)
    with _few_threads(design):
        folds = _CachedFolds(design, LinearPixels() if system is None else system)
    blocks = None if within is None else design.by_stimulus(within, "within")
    orders = stimulus_permutations(len(design.stimuli), n_permutations, seed, blocks)
    with _few_threads(design):
        rows = [_statistics(design.seen[order], *folds.rebuild(order), design) for order in orders]
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
        of each sample's reconstruction with its stimulus, beside that of the mean training picture.
    """
    seen_samples = result.seen[result.stimulus_of_sample]
    values = {
        "stimulus_mean_pixel_correlation": pixel_correlation(result.seen, result.rebuilt),
        "pairwise_identification": pairwise_identification(result.seen, result.rebuilt),
        "single_sample_pixel_correlation": pixel_correlation(seen_samples, result.rebuilt_samples),
    }
    means = _mean_by(result.baseline_samples, result.stimulus_of_sample, len(result.stimuli))
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


@dataclass(frozen=True)
class _Design:
    """Samples and the stimuli they belong to, checked."""

    responses: np.ndarray  # (sample, voxel), float64
    images: np.ndarray  # (sample, y, x, rgb), float64
    labels: np.ndarray  # (sample,), as str
    fold_names: list[str]
    stimuli: np.ndarray  # (stimulus,), as str
    stimulus_of_sample: np.ndarray  # (sample,)
    seen: np.ndarray  # (stimulus, y, x, rgb), float64

    @classmethod
    def of(cls, responses: Any, images: Any, labels: Any, stimuli: Any) -> _Design:
        responses, images = check_samples(responses, images)
        labels = np.asarray(labels).astype(str)
        names = labels if stimuli is None else np.asarray(stimuli).astype(str)
        for what, found in (("labels", labels), ("stimuli", names)):
            if found.shape != (len(responses),):
                raise InputError(
                    f"{what} do not match the samples",
                    given=f"shape {found.shape}",
                    expected=f"({len(responses)},), one a sample",
                    todo="take them from the same selection of samples",
                )
        unique, first, index = np.unique(names, return_index=True, return_inverse=True)
        order = np.argsort(first)  # in order of appearance
        design = cls(
            responses,
            images,
            labels,
            list(dict.fromkeys(labels.tolist())),
            unique[order],
            np.argsort(order)[index],
            images[first[order]],
        )
        if len(design.fold_names) < 3:
            raise InputError(
                "leaving one label out needs others to learn from",
                given=f"{len(design.fold_names)} labels",
                expected="three or more: one to test, two to choose alpha by",
                todo="cross-validate by another column",
            )
        design.by_stimulus(labels, "labels")
        if not np.array_equal(design.seen[design.stimulus_of_sample], images):
            raise InputError(
                "a stimulus has more than one picture",
                given="samples of one stimulus with different pictures",
                expected="one picture for each stimulus",
                todo="pass stimuli=, the stimulus of each sample, beside the labels",
            )
        return design

    def by_stimulus(self, values: Any, what: str) -> np.ndarray:
        """Return the one value that each stimulus has, shape (stimulus,)."""
        values = np.asarray(values)
        first = np.array([np.argmax(self.stimulus_of_sample == index) for index in range(len(self.stimuli))])
        found = values[first]
        if values.shape != self.stimulus_of_sample.shape or (found[self.stimulus_of_sample] != values).any():
            raise InputError(
                f"a stimulus has more than one value in {what}",
                given="different values in samples of one stimulus",
                expected="one value for each stimulus",
                todo="use a column that depends on the stimulus alone",
            )
        return found


class _CachedFolds:
    """All that reconstruction needs of the responses, reduced to one column a stimulus.

    With Z (sample, stimulus) marking whose samples are whose and F (stimulus, pixel) the pictures, targets
    are Z F and permuted ones Z F[order]. A prediction is (H Z) F[order], and a sum of squared errors is the
    sum over (D'D) * (F F')[order, order] with D = H Z - Z: nothing of the size of voxels, or samples by
    pixels, is left.
    """

    def __init__(self, design: _Design, system: LinearPixels) -> None:
        self.pictures = design.seen.reshape(len(design.seen), -1)
        self.products = self.pictures @ self.pictures.T
        self.shape = design.seen.shape[1:]
        self.stimulus_of_sample = design.stimulus_of_sample
        marks = np.eye(len(design.stimuli))[design.stimulus_of_sample]
        # Largest first, so that of equals the largest is taken, as RidgeDecoder does.
        alphas = sorted(check_alphas(system.alphas), reverse=True)
        self.folds = [_fold(design, marks, design.labels == label, alphas, system) for label in design.fold_names]

    def rebuild(self, order: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Rebuild all samples when stimulus s has the picture ``order[s]``.

        Returns
        -------
        rebuilt : array, shape (stimulus, y, x, rgb)
            Mean over samples.
        rebuilt_samples : array, shape (sample, y, x, rgb)
        """
        pictures, products = self.pictures[order], self.products[np.ix_(order, order)]
        samples = np.empty((len(self.stimulus_of_sample), self.pictures.shape[1]))
        for held, smoothers, errors in self.folds:
            chosen = int(np.argmin([(error * products).sum() for error in errors])) if len(errors) else 0
            samples[held] = np.clip(smoothers[chosen] @ pictures, 0.0, 1.0)
        samples = samples.reshape(-1, *self.shape)
        return _mean_by(samples, self.stimulus_of_sample, len(pictures)), samples


def _few_threads(design: _Design) -> threadpool_limits:
    """Keep small matrices on one thread: more would only wait for each other, on a busy machine for minutes."""
    return threadpool_limits(1 if len(design.responses) <= FEW_SAMPLES else None)


def _fold(
    design: _Design, marks: np.ndarray, held: np.ndarray, alphas: Sequence[float], system: LinearPixels
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return held-out samples, H Z of each alpha, and D'D of each alpha (none with a single alpha)."""
    train = design.responses[~held]
    mean, scale = standardizer(train, scale=system.standardize)
    train, test = (train - mean) / scale, (design.responses[held] - mean) / scale
    smoothers = ridge_smoothers(train, test, alphas) @ marks[~held]
    errors = np.zeros((len(alphas) if len(alphas) > 1 else 0, marks.shape[1], marks.shape[1]))
    if len(errors):
        inner_marks = marks[~held]
        for inner, validation in group_folds(len(train), design.labels[~held], system.cv):
            for index, smoother in enumerate(ridge_smoothers(train[inner], train[validation], alphas)):
                difference = smoother @ inner_marks[inner] - inner_marks[validation]
                errors[index] += difference.T @ difference / len(validation)
    return np.flatnonzero(held), smoothers, errors


def _statistics(
    seen: np.ndarray, rebuilt: np.ndarray, rebuilt_samples: np.ndarray, design: _Design
) -> dict[str, float]:
    """Return the scores of one permutation."""
    return {
        "stimulus_mean_pixel_correlation": summarize(pixel_correlation(seen, rebuilt)).mean,
        "pairwise_identification": summarize(pairwise_identification(seen, rebuilt)).mean,
        "single_sample_pixel_correlation": summarize(
            pixel_correlation(seen[design.stimulus_of_sample], rebuilt_samples)
        ).mean,
    }


def _mean_by(samples: np.ndarray, index: np.ndarray, n: int) -> np.ndarray:
    """Average samples that have the same index."""
    return np.stack([samples[index == number].mean(axis=0) for number in range(n)])
