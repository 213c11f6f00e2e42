"""Scores that compare a seen with a reconstructed image, pixel by pixel."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from neurorecon.errors import InputError

#: Values that are converted to float64 at a time: all images of a test set would not fit.
VALUES_AT_ONCE = 2**21


def pixel_correlation(seen: np.ndarray, reconstructed: np.ndarray) -> np.ndarray:
    """Pearson correlation of the flattened pixels of each stimulus ("PixCorr").

    Images enter at the size they have: published numbers hold for one size (Brain-Diffuser: 425 px, RGB),
    so scale beforehand where numbers are to be compared.

    Parameters
    ----------
    seen, reconstructed : array, shape (stimulus, ...)
        Images, e.g. (stimulus, y, x, rgb). The correlation does not depend on scale, so uint8 and float in
        [0, 1] may meet.

    Returns
    -------
    array, shape (stimulus,)
        float64. NaN where one of the two images is constant: the correlation is undefined there, and
        :func:`neurorecon.metrics.summarize` counts it.

    Raises
    ------
    InputError
        Where the shapes differ.

    References
    ----------
    Ozcelik and VanRullen 2023, Sci Rep 13:15666 (Brain-Diffuser).
    """
    seen, reconstructed = check_pair(seen, reconstructed)
    scores = np.empty(len(seen), dtype=np.float64)
    for part in _parts(seen):
        one = center_and_scale(seen[part].reshape(len(seen[part]), -1))
        other = center_and_scale(reconstructed[part].reshape(len(one), -1))
        scores[part] = np.clip(np.einsum("ij,ij->i", one, other), -1.0, 1.0)
    return scores


def mean_squared_error(seen: np.ndarray, reconstructed: np.ndarray) -> np.ndarray:
    """Mean squared difference of the pixels of each stimulus, in squared units of [0, 1].

    Parameters
    ----------
    seen, reconstructed : array, shape (stimulus, ...)
        Images. uint8 is divided by 255, float is taken to be in [0, 1] already, so both may meet.

    Returns
    -------
    array, shape (stimulus,)
        float64.

    Raises
    ------
    InputError
        Where the shapes differ, or floats are plainly in 0..255.
    """
    seen, reconstructed = check_pair(seen, reconstructed)
    scores = np.empty(len(seen), dtype=np.float64)
    for part in _parts(seen):
        difference = as_unit_float(seen[part]) - as_unit_float(reconstructed[part])
        scores[part] = np.mean(difference.reshape(len(difference), -1) ** 2, axis=1)
    return scores


def as_unit_float(images: np.ndarray) -> np.ndarray:
    """Return images as float64 in [0, 1]: uint8 is divided by 255, float stays as it is.

    Parameters
    ----------
    images : array, any shape
        uint8, bool or float.

    Returns
    -------
    array, same shape
        float64.

    Raises
    ------
    InputError
        Where floats are plainly not in [0, 1], or the type is another one.
    """
    images = np.asarray(images)
    if images.dtype == np.uint8:
        return images / 255.0
    if images.dtype.kind not in "fb":
        raise InputError(
            "images of this type cannot be read without guessing their range",
            given=f"an array of {images.dtype}",
            expected="uint8 in 0..255 or float in [0, 1]",
            todo="convert them with .astype('uint8'), or divide by their largest value",
        )
    # A decoder may overshoot [0, 1] a little, but not twofold.
    if images.size and np.nanmax(np.abs(images)) > 2.0:
        raise InputError(
            "float images have to lie in [0, 1]",
            given=f"values up to {np.nanmax(np.abs(images)):g}",
            expected="values in [0, 1]",
            todo="divide by 255, or pass uint8",
        )
    return images.astype(np.float64)


def center_and_scale(values: np.ndarray) -> np.ndarray:
    """Subtract each row's mean and divide by its norm, so that products of rows are Pearson correlations.

    Parameters
    ----------
    values : array, shape (row, value)

    Returns
    -------
    array, shape (row, value)
        float64; NaN in the rows that are constant.
    """
    values = np.asarray(values, dtype=np.float64)
    constant = (values == values[:, :1]).all(axis=1)  # asked exactly: a norm of rounding errors is not zero
    centered = values - values.mean(axis=1, keepdims=True)
    norm = np.linalg.norm(centered, axis=1, keepdims=True)
    norm[constant | (norm[:, 0] == 0)] = np.nan
    return centered / norm


def _parts(images: np.ndarray) -> Iterator[slice]:
    """Yield slices of stimuli that are small enough to be held as float64."""
    step = max(1, VALUES_AT_ONCE // max(1, images[0].size))
    for start in range(0, len(images), step):
        yield slice(start, start + step)


def check_pair(seen: np.ndarray, reconstructed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return both arrays, or say in what they do not match.

    Parameters
    ----------
    seen, reconstructed : array, shape (stimulus, ...)

    Returns
    -------
    tuple of array

    Raises
    ------
    InputError
        Where the shapes differ, or there is nothing to compare.
    """
    seen, reconstructed = np.asarray(seen), np.asarray(reconstructed)
    if seen.shape != reconstructed.shape or seen.ndim < 2 or seen.size == 0:
        raise InputError(
            "seen and reconstructed images do not match",
            given=f"seen {seen.shape}, reconstructed {reconstructed.shape}",
            expected="the same shape (stimulus, ...), with at least one stimulus and one value",
            todo="bring both to one size and order; row by row they have to be the same stimulus",
        )
    return seen, reconstructed
