"""Folds that are factorized once and reconstruct images in any permuted order."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from neurorecon.decoders.validation import group_folds
from neurorecon.systems.design import Design, mean_by
from neurorecon.systems.linear_pixels import LinearPixels, check_alphas
from neurorecon.systems.smoother import ridge_smoothers, standardizer


class CachedFolds:
    """All that reconstruction needs of the responses, reduced to one column a stimulus.

    With Z (sample, stimulus) marking whose samples are whose and F (stimulus, pixel) the images, targets
    are Z F and permuted ones Z F[order]. A prediction is (H Z) F[order], and a sum of squared errors is the
    sum over (D'D) * (F F')[order, order] with D = H Z - Z: nothing of the size of voxels, or samples by
    pixels, is left.
    """

    def __init__(self, design: Design, system: LinearPixels) -> None:
        self.images = design.seen.reshape(len(design.seen), -1)
        self.products = self.images @ self.images.T
        self.shape = design.seen.shape[1:]
        self.stimulus_of_sample = design.stimulus_of_sample
        marks = np.eye(len(design.stimuli))[design.stimulus_of_sample]
        # Largest first, so that of equals the largest is taken, as RidgeDecoder does.
        alphas = sorted(check_alphas(system.alphas), reverse=True)
        self.folds = [_fold(design, marks, design.labels == label, alphas, system) for label in design.fold_names]

    def reconstruct(self, order: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Reconstruct all samples when stimulus s has the image ``order[s]``.

        Returns
        -------
        reconstructed : array, shape (stimulus, y, x, rgb)
            Mean over samples.
        rebuilt_samples : array, shape (sample, y, x, rgb)
        """
        images, products = self.images[order], self.products[np.ix_(order, order)]
        samples = np.empty((len(self.stimulus_of_sample), self.images.shape[1]))
        for held, smoothers, errors in self.folds:
            chosen = int(np.argmin([(error * products).sum() for error in errors])) if len(errors) else 0
            samples[held] = np.clip(smoothers[chosen] @ images, 0.0, 1.0)
        samples = samples.reshape(-1, *self.shape)
        return mean_by(samples, self.stimulus_of_sample, len(images)), samples


def _fold(
    design: Design, marks: np.ndarray, held: np.ndarray, alphas: Sequence[float], system: LinearPixels
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
