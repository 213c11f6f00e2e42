"""Linear reconstruction: ridge regression from voxels to pixels.

The oldest and simplest system, and the baseline of all others: what it reconstructs needs no generative model, and
what it cannot reconstruct is not in the responses in linear form. Pixels are predicted independently, with one alpha
for all of them. It is chosen by cross-validation in which no image is in both the training and the validation part of
a fold.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import ArrayLike

from neurorecon.decoders.ridge import RidgeDecoder
from neurorecon.decoders.validation import group_folds
from neurorecon.metrics.image import as_unit_float
from neurorecon.stats.refit import check_alphas
from neurorecon.systems.base import Decoded, System, TargetSpec, as_images, standardizer

if TYPE_CHECKING:
    import xarray

#: Alphas compared by default, in steps of the square root of ten.
ALPHAS = tuple(float(alpha) for alpha in np.logspace(0, 5, 11))


class LinearPixels(System):
    """Ridge regression from voxels to the pixels of the images that were seen.

    Parameters
    ----------
    alphas : sequence of float
        Candidate alphas. If there are several, inner cross-validation chooses the one with the smallest squared error
        over all pixels.
    standardize : bool
        Divide each voxel by its standard deviation over the training samples. The mean is always subtracted.
    cv : int
        Number of folds of inner cross-validation; with fewer groups, each group is a fold.
    device : str
        Where the regression is solved, e.g. ``"cpu"`` or ``"cuda"``.
    dtype : {"float64", "float32"}
        Precision of the regression.
    """

    name: ClassVar[str] = "linear-pixels"
    averages: ClassVar[Literal["responses", "reconstructions"]] = "reconstructions"

    def __init__(
        self,
        alphas: float | Sequence[float] = ALPHAS,
        *,
        standardize: bool = True,
        cv: int = 10,
        device: str = "cpu",
        dtype: Literal["float32", "float64"] = "float64",
    ) -> None:
        self.alphas = alphas
        self.standardize = standardize
        self.cv = cv
        self.device = device
        self.dtype = dtype

    @property
    def targets(self) -> Mapping[str, TargetSpec]:
        """The images."""
        alphas = check_alphas(self.alphas).tolist()
        decoder = RidgeDecoder(
            alpha=alphas if len(alphas) > 1 else alphas[0], cv=self.cv, device=self.device, dtype=self.dtype
        )
        return {"images": TargetSpec("images", decoder, standardize=self.standardize, required=True)}

    def generate(self, decoded: Decoded, *, seed: int = 0) -> xarray.DataArray:
        """Return the decoded images, clipped to [0, 1]."""
        return as_images(decoded["images"].values, decoded.stimuli)

    def fit_arrays(self, responses: ArrayLike, images: Any, groups: ArrayLike | None = None) -> LinearPixels:
        """Fit to arrays instead of a store.

        Parameters
        ----------
        responses : array, shape (sample, voxel)
            Finite.
        images : array, shape (sample, y, x, rgb)
            The image of each sample, uint8 or float in [0, 1].
        groups : array, shape (sample,), optional
            Samples of one group are never on both sides of an inner fold. By default, samples of the same image are one
            group.
        """
        seen = as_unit_float(np.asarray(images["images"] if isinstance(images, Mapping) else images))
        if groups is None and len(seen):
            groups = np.unique(seen.reshape(len(seen), -1), axis=0, return_inverse=True)[1].ravel()
        super().fit_arrays(responses, {"images": seen}, groups)
        return self

    def exact_null(
        self, responses: np.ndarray, targets: Mapping[str, np.ndarray], shown: np.ndarray, labels: np.ndarray
    ) -> FactorizedFolds:
        """Return folds that are factorized once and refitted, alpha included, for any order of the images."""
        return FactorizedFolds(self, responses, targets["images"], shown, labels)


class FactorizedFolds:
    """Cross-validated linear reconstruction, with responses reduced to one column per stimulus.

    With Z (sample, stimulus) marking whose samples are whose and F (stimulus, pixel) the images, targets are Z F and
    permuted ones Z F[order]. A prediction is (H Z) F[order], and a sum of squared errors is the sum over
    (D'D) * (F F')[order, order] with D = H Z - Z. No array of the size of the voxels, or of samples by pixels, is left.

    Parameters
    ----------
    system : LinearPixels
        Its parameters.
    responses : array, shape (sample, voxel)
        float64.
    images : array, shape (stimulus, y, x, rgb)
        float64 in [0, 1].
    shown : int array, shape (sample,)
        Which stimulus each sample shows.
    labels : array of str, shape (sample,)
        Held out as a whole; also the groups of inner cross-validation.
    """

    def __init__(
        self, system: LinearPixels, responses: np.ndarray, images: np.ndarray, shown: np.ndarray, labels: np.ndarray
    ) -> None:
        self.pixels = images.reshape(len(images), -1)
        self.products = self.pixels @ self.pixels.T
        self.shape = images.shape[1:]
        self.shown = shown
        marks = np.eye(len(images))[shown]
        # Largest first, so that ties go to the largest alpha, as in RidgeDecoder.
        alphas = sorted(check_alphas(system.alphas).tolist(), reverse=True)
        self.folds = [
            _factorize(system, responses, marks, labels, labels == label, alphas)
            for label in dict.fromkeys(labels.tolist())
        ]

    def reconstruct(self, order: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Reconstruct all samples, with the image ``order[s]`` for stimulus s.

        Returns
        -------
        reconstructed : array, shape (stimulus, y, x, rgb)
            Mean over samples.
        samples : array, shape (sample, y, x, rgb)
        """
        pixels, products = self.pixels[order], self.products[np.ix_(order, order)]
        samples = np.empty((len(self.shown), self.pixels.shape[1]))
        for held, smoothers, errors in self.folds:
            chosen = int(np.argmin([(error * products).sum() for error in errors])) if len(errors) else 0
            samples[held] = np.clip(smoothers[chosen] @ pixels, 0.0, 1.0)
        samples = samples.reshape(-1, *self.shape)
        return np.stack([samples[self.shown == number].mean(axis=0) for number in range(len(pixels))]), samples


def _factorize(
    system: LinearPixels,
    responses: np.ndarray,
    marks: np.ndarray,
    labels: np.ndarray,
    held: np.ndarray,
    alphas: Sequence[float],
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the held-out samples, H Z for each alpha, and D'D for each alpha (empty with a single alpha)."""
    train = responses[~held]
    mean, scale = standardizer(train)
    scale = scale if system.standardize else np.ones_like(scale)
    train, test = (train - mean) / scale, (responses[held] - mean) / scale
    smoothers = ridge_smoothers(train, test, alphas) @ marks[~held]
    errors = np.zeros((len(alphas) if len(alphas) > 1 else 0, marks.shape[1], marks.shape[1]))
    if len(errors):
        inner_marks = marks[~held]
        for inner, validation in group_folds(len(train), labels[~held], system.cv):
            for index, smoother in enumerate(ridge_smoothers(train[inner], train[validation], alphas)):
                difference = smoother @ inner_marks[inner] - inner_marks[validation]
                errors[index] += difference.T @ difference / len(validation)
    return np.flatnonzero(held), smoothers, errors


def ridge_smoothers(train: np.ndarray, test: np.ndarray, alphas: Sequence[float]) -> np.ndarray:
    """Return the matrices that turn training targets into predictions of ridge regression with an intercept.

    Unlike :class:`~neurorecon.decoders.RidgeSmoother`, this works in float64 on a few hundred samples and for all
    alphas at once, so permuted targets take only one matrix product.

    Parameters
    ----------
    train : array, shape (train sample, voxel)
        Responses.
    test : array, shape (test sample, voxel)
        Responses to predict from.
    alphas : sequence of float
        As in scikit-learn: the loss is the sum of squared errors plus alpha times the squared weights.

    Returns
    -------
    array, shape (alpha, test sample, train sample)
        H; predictions are ``H @ targets``. Every row sums to 1.
    """
    center = train.mean(axis=0)
    train, test = train - center, test - center
    values, vectors = np.linalg.eigh(train @ train.T)
    values = np.maximum(values, 0.0)  # rounding makes the zero that centering leaves slightly negative
    left = (test @ train.T) @ vectors
    right = vectors.T - vectors.T.mean(axis=1, keepdims=True)
    mean = 1.0 / len(train)
    return np.stack([(left / (values + alpha)) @ right + mean for alpha in alphas])
