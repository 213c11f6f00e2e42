"""Linear reconstruction: ridge regression from voxels to pixels.

The oldest and simplest system, and the baseline of all others: what it cannot do with a data set is not in
the responses in linear form, what it can do needs no generative model. Pixels are predicted independently,
with one alpha chosen for all of them by cross-validation in which no image is both trained on and held
out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from neurorecon.decoders.ridge import RidgeDecoder
from neurorecon.errors import InputError
from neurorecon.metrics.image import as_unit_float, pixel_correlation
from neurorecon.metrics.summary import summarize
from neurorecon.systems.smoother import standardizer

#: Alphas compared by default, in steps of the square root of ten.
ALPHAS = tuple(float(alpha) for alpha in np.logspace(0, 5, 11))


class LinearPixels(BaseEstimator):
    """Ridge regression from voxels to the pixels of the images that were seen.

    Parameters
    ----------
    alphas : sequence of float
        Alphas. With more than one, the one with the smallest squared error over all pixels in inner
        cross-validation is taken.
    standardize : bool
        Divide every voxel by its standard deviation in the training samples. The mean is always taken off.
    cv : int
        Folds of the inner cross-validation, at most; with fewer groups, each group is a fold.
    device : str
        Where the regression is solved, e.g. ``"cpu"`` or ``"cuda"``.
    dtype : {"float64", "float32"}
        Precision of the regression.

    Attributes
    ----------
    alpha_ : float
        The alpha that was chosen.
    mean_, scale_ : array, shape (voxel,)
        Of the training responses.
    image_shape_ : tuple of int
        Shape of one image, (y, x, rgb).
    decoder_ : RidgeDecoder
        The regression from standardized voxels to pixels; its ``cv_scores_`` tell how alpha was chosen.
    """

    def __init__(
        self,
        alphas: Sequence[float] = ALPHAS,
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

    def fit(self, responses: Any, images: Any, groups: Any = None) -> LinearPixels:
        """Learn from responses to images.

        Parameters
        ----------
        responses : array, shape (sample, voxel)
            Finite.
        images : array, shape (sample, y, x, rgb)
            The image of each sample, uint8 or float in [0, 1].
        groups : array, shape (sample,), optional
            Samples of one group are never on both sides of an inner fold. By default samples of the same
            image are a group.

        Returns
        -------
        LinearPixels
            Itself.

        Raises
        ------
        InputError
            Where shapes do not match, responses are not finite or there is nothing to choose alpha by.
        """
        responses, images = check_samples(responses, images)
        targets = images.reshape(len(images), -1)
        if groups is None:
            groups = np.unique(targets, axis=0, return_inverse=True)[1].ravel()
        self.mean_, self.scale_ = standardizer(responses, scale=self.standardize)
        self.image_shape_ = images.shape[1:]
        alphas = check_alphas(self.alphas)
        self.decoder_ = RidgeDecoder(
            alpha=alphas if len(alphas) > 1 else alphas[0], cv=self.cv, device=self.device, dtype=self.dtype
        )
        self.decoder_.fit((responses - self.mean_) / self.scale_, targets, groups=np.asarray(groups))
        self.alpha_ = float(self.decoder_.alpha_)
        return self

    def predict(self, responses: Any) -> np.ndarray:
        """Reconstruct an image from each response.

        Parameters
        ----------
        responses : array, shape (sample, voxel)
            Of the subject that was fitted.

        Returns
        -------
        array, shape (sample, y, x, rgb)
            float32 in [0, 1]; what overshoots is cut.
        """
        check_is_fitted(self, "decoder_")
        responses = np.asarray(responses, dtype=np.float64)
        if responses.ndim != 2 or responses.shape[1] != len(self.mean_):
            raise InputError(
                "these responses do not fit the decoder",
                given=f"shape {responses.shape}",
                expected=f"(sample, {len(self.mean_)}), the voxels it was fitted on",
                todo="select the same subject and roi as for fit",
            )
        pixels = np.asarray(self.decoder_.predict((responses - self.mean_) / self.scale_))
        return np.clip(pixels, 0.0, 1.0).astype(np.float32).reshape(len(responses), *self.image_shape_)

    def score(self, responses: Any, images: Any) -> float:
        """Return the mean pixel correlation with the images seen, over samples where it is defined."""
        return summarize(pixel_correlation(np.asarray(images), self.predict(responses))).mean


def check_samples(responses: Any, images: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return responses and images as float64, or say in what they do not match.

    Parameters
    ----------
    responses : array, shape (sample, voxel)
        Finite.
    images : array, shape (sample, y, x, rgb)
        uint8 or float in [0, 1].

    Returns
    -------
    responses, images : array
        float64; images in [0, 1].

    Raises
    ------
    InputError
        Where they cannot be used.
    """
    responses, images = np.asarray(responses, dtype=np.float64), np.asarray(images)
    if responses.ndim != 2 or images.ndim < 2 or len(responses) != len(images) or not responses.size:
        raise InputError(
            "responses and images do not match",
            given=f"responses {responses.shape}, images {images.shape}",
            expected="(sample, voxel) and (sample, y, x, rgb), the same samples in the same order",
            todo="take both from store.pairs(...), and the image of each sample's stimulus",
        )
    bad = ~np.isfinite(responses)
    if bad.any():
        raise InputError(
            "responses are not all finite",
            given=f"{int(bad.sum())} values in {int(bad.any(axis=0).sum())} voxels",
            expected="finite numbers",
            todo="leave these voxels out, or run neurorecon check on the store",
        )
    return responses, as_unit_float(images)


def check_alphas(alphas: Any) -> list[float]:
    """Return alphas as a list, or say what is wrong with them."""
    found = np.atleast_1d(np.asarray(alphas, dtype=float))
    if found.ndim != 1 or not found.size or not (np.isfinite(found) & (found > 0)).all():
        raise InputError(
            "alphas have to be positive numbers",
            given=str(alphas),
            expected="e.g. alphas=(1, 10, 100)",
            todo="pass one or more positive numbers",
        )
    return [float(alpha) for alpha in found]
