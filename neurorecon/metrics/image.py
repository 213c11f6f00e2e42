"""Metrics that compare a seen with a reconstructed image, pixel by pixel or by their local structure."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np

from neurorecon.errors import InputError
from neurorecon.metrics.base import Metric

#: Values that are converted to float64 at a time, because a whole test set may not fit into memory.
VALUES_AT_ONCE = 2**21


def pixcorr(seen: np.ndarray, reconstructed: np.ndarray) -> np.ndarray:
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
        If the shapes differ.

    References
    ----------
    Ozcelik and VanRullen 2023, Sci Rep 13:15666 (Brain-Diffuser).

    Examples
    --------
    >>> import numpy as np
    >>> from neurorecon.metrics import pixcorr
    >>> seen = np.random.default_rng(0).random((2, 8, 8, 3))
    >>> pixcorr(seen, 1 - seen).round(3).tolist()
    [-1.0, -1.0]
    """
    seen, reconstructed = check_pair(seen, reconstructed)
    scores = np.empty(len(seen), dtype=np.float64)
    for part in _parts(seen):
        one = center_and_scale(seen[part].reshape(len(seen[part]), -1))
        other = center_and_scale(reconstructed[part].reshape(len(one), -1))
        scores[part] = np.clip(np.einsum("ij,ij->i", one, other), -1.0, 1.0)
    return scores


def mse(seen: np.ndarray, reconstructed: np.ndarray) -> np.ndarray:
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
        If the shapes differ, or floats are clearly in 0..255.

    Examples
    --------
    >>> import numpy as np
    >>> from neurorecon.metrics import mse
    >>> mse(np.zeros((2, 8, 8, 3)), np.full((2, 8, 8, 3), 0.5)).tolist()
    [0.25, 0.25]
    """
    seen, reconstructed = check_pair(seen, reconstructed)
    scores = np.empty(len(seen), dtype=np.float64)
    for part in _parts(seen):
        difference = as_unit_float(seen[part]) - as_unit_float(reconstructed[part])
        scores[part] = np.mean(difference.reshape(len(difference), -1) ** 2, axis=1)
    return scores


def psnr(seen: np.ndarray, reconstructed: np.ndarray) -> np.ndarray:
    """Peak signal-to-noise ratio of each stimulus in dB, for images in [0, 1].

    Parameters
    ----------
    seen, reconstructed : array, shape (stimulus, ...)
        As for :func:`mse`.

    Returns
    -------
    array, shape (stimulus,)
        float64; NaN where the two images are identical.

    Examples
    --------
    >>> import numpy as np
    >>> from neurorecon.metrics import psnr
    >>> psnr(np.zeros((2, 8, 8, 3)), np.full((2, 8, 8, 3), 0.5)).round(2).tolist()
    [6.02, 6.02]
    """
    return _decibels(mse(seen, reconstructed))


def ssim_gray2d(seen: np.ndarray, reconstructed: np.ndarray) -> np.ndarray:
    """Structural similarity of gray images, with a Gaussian window over y and x.

    This is what scikit-image from version 0.20 on computes with the call in Brain-Diffuser's code: weights of standard
    deviation 1.5, population covariance, data range 1. Numbers of :func:`ssim_gray_columns` are higher.

    Parameters
    ----------
    seen, reconstructed : array, shape (stimulus, y, x, rgb)
        uint8 or float in [0, 1]; 11 pixels or more on each side.

    Returns
    -------
    array, shape (stimulus,)
        float64.

    References
    ----------
    Wang et al. (2004). Image quality assessment: from error visibility to structural similarity. IEEE TIP 13(4).

    Examples
    --------
    >>> import numpy as np
    >>> from neurorecon.metrics import ssim_gray2d
    >>> seen = np.random.default_rng(0).random((2, 16, 16, 3))
    >>> ssim_gray2d(seen, seen).round(3).tolist()
    [1.0, 1.0]
    """
    from skimage.metrics import structural_similarity

    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1.0}
    pairs = _image_pairs(seen, reconstructed, least=11)
    return np.array([structural_similarity(_gray(one), _gray(other), **options) for one, other in pairs])


def ssim_gray_columns(seen: np.ndarray, reconstructed: np.ndarray) -> np.ndarray:
    """Structural similarity of the columns of gray images, with a Gaussian window over y alone.

    This is what Brain-Diffuser published: scikit-image 0.17, which its code pins, takes the columns of a gray image for
    channels, so each column is compared by itself. It equals ``structural_similarity(..., channel_axis=-1)`` of
    today's scikit-image, which loops over columns; all columns at once take a thirtieth of the time (64 pixels).

    Parameters
    ----------
    seen, reconstructed : array, shape (stimulus, y, x, rgb)
        As for :func:`ssim_gray2d`.

    Returns
    -------
    array, shape (stimulus,)
        float64.

    References
    ----------
    Ozcelik and VanRullen 2023, Sci Rep 13:15666 (Brain-Diffuser).
    """
    pairs = _image_pairs(seen, reconstructed, least=11)
    return np.array([_pairs_of_gray(_gray(one)[None], _gray(other)[None], (1,))[0, 0] for one, other in pairs])


def gray_similarities(seen: np.ndarray, reconstructed: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    """Return the structural similarity of every pair of gray images, for nulls.

    The moments of an image are computed once, and only the product of two images for each pair: 10,000 pairs of 64
    pixels take 3 s instead of 17.

    Parameters
    ----------
    seen, reconstructed : array, shape (stimulus, y, x, rgb)
        As for :func:`ssim_gray2d`.
    axes : tuple of int
        Of the Gaussian window: ``(1, 2)`` for :func:`ssim_gray2d`, ``(1,)`` for :func:`ssim_gray_columns`.

    Returns
    -------
    array, shape (reconstruction, seen)
        float64.
    """
    seen, reconstructed = _check_images(seen, reconstructed, least=11)
    step = max(1, VALUES_AT_ONCE // seen[0, :, :, 0].size)
    found = np.empty((len(reconstructed), len(seen)))
    for row in range(0, len(reconstructed), step):
        one = np.stack([_gray(as_unit_float(image)) for image in reconstructed[row : row + step]])
        for column in range(0, len(seen), step):
            other = np.stack([_gray(as_unit_float(image)) for image in seen[column : column + step]])
            found[row : row + step, column : column + step] = _pairs_of_gray(one, other, axes)
    return found


def _pairs_of_gray(one: np.ndarray, other: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    """Return the structural similarity of every pair of gray images (image, y, x), shape (one, other)."""
    from scipy.ndimage import gaussian_filter1d

    def smooth(values: np.ndarray) -> np.ndarray:
        for axis in axes:
            values = gaussian_filter1d(values, 1.5, axis=axis, truncate=3.5)
        return values

    mean_x, mean_y = smooth(one), smooth(other)
    variance_x, variance_y = smooth(one**2) - mean_x**2, smooth(other**2) - mean_y**2
    # Without the half window at both ends, as scikit-image does.
    inner = tuple(slice(5, -5) if axis in axes else slice(None) for axis in range(3) if axis)
    found = np.empty((len(one), len(other)))
    for number, (x, mean, variance) in enumerate(zip(one, mean_x, variance_x, strict=True)):
        products = mean * mean_y
        covariance = smooth(x * other) - products
        luminance = (2 * products + 0.01**2) / (mean**2 + mean_y**2 + 0.01**2)
        similarity = luminance * (2 * covariance + 0.03**2) / (variance + variance_y + 0.03**2)
        found[number] = similarity[(slice(None), *inner)].mean(axis=(1, 2))
    return found


def ssim_rgb7(seen: np.ndarray, reconstructed: np.ndarray) -> np.ndarray:
    """Structural similarity of color images, with a uniform window of 7 x 7 pixels, as in Mind-Animator.

    Parameters
    ----------
    seen, reconstructed : array, shape (stimulus, y, x, rgb)
        uint8 or float in [0, 1]; 7 pixels or more on each side.

    Returns
    -------
    array, shape (stimulus,)
        float64.

    References
    ----------
    Lu et al. (2024), arXiv 2405.03280 (Mind-Animator).
    """
    from skimage.metrics import structural_similarity

    pairs = _image_pairs(seen, reconstructed, least=7)
    return np.array(
        [structural_similarity(one, other, win_size=7, channel_axis=-1, data_range=1.0) for one, other in pairs]
    )


def squared_errors(seen: np.ndarray, reconstructed: np.ndarray) -> np.ndarray:
    """Return :func:`mse` of every pair, shape (reconstruction, seen)."""
    seen, reconstructed = check_pair(seen, reconstructed)
    a = as_unit_float(reconstructed).reshape(len(reconstructed), -1)
    b = as_unit_float(seen).reshape(len(seen), -1)
    # Differences of rows, not of squared norms: pairs that are equal have to come out as they do in mse.
    return np.stack([np.mean((b - row) ** 2, axis=1) for row in a])


def _decibels(errors: np.ndarray) -> np.ndarray:
    return -10.0 * np.log10(np.where(errors > 0, errors, np.nan))


def resized(images: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return images at another size, bicubic with antialiasing, float32 in [0, 1].

    Parameters
    ----------
    images : array, shape (stimulus, [frame,] y, x, rgb)
        uint8 or float in [0, 1]; returned unchanged if they have this size.
    size : (int, int)
        (y, x).

    Returns
    -------
    array, shape (stimulus, [frame,] y, x, rgb)
    """
    if images.shape[-3:-1] == tuple(size):
        return images
    from PIL import Image

    planes = np.moveaxis(as_unit_float(images), -1, -3).reshape(-1, *images.shape[-3:-1])
    found = [Image.fromarray(plane.astype(np.float32)).resize(size[::-1], Image.Resampling.BICUBIC) for plane in planes]
    stacked = np.clip(np.stack([np.asarray(plane) for plane in found]), 0.0, 1.0)
    return np.moveaxis(stacked.reshape(*images.shape[:-3], images.shape[-1], *size), -3, -1)


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
        If floats are clearly not in [0, 1], or the dtype is another one.
    """
    images = np.asarray(images)
    if images.dtype == np.uint8:
        return images / 255.0
    if images.dtype.kind not in "fb":
        raise InputError(
            "images of this dtype have no known range",
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
    constant = (values == values[:, :1]).all(axis=1)  # exact, because rounding errors have a norm above zero
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
    """Return both arrays; refuse those that do not match.

    Parameters
    ----------
    seen, reconstructed : array, shape (stimulus, ...)

    Returns
    -------
    tuple of array

    Raises
    ------
    InputError
        If the shapes differ, or there is nothing to compare.
    """
    seen, reconstructed = np.asarray(seen), np.asarray(reconstructed)
    if seen.shape != reconstructed.shape or seen.ndim < 2 or seen.size == 0:
        raise InputError(
            "seen and reconstructed images do not match",
            given=f"seen {seen.shape}, reconstructed {reconstructed.shape}",
            expected="the same shape (stimulus, ...), with at least one stimulus and one value",
            todo="bring both to the same size and order, with the same stimulus in each row",
        )
    return seen, reconstructed


def _image_pairs(seen: np.ndarray, reconstructed: np.ndarray, least: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield pairs of images as float64 in [0, 1]; refuse those that are too small for the window."""
    for one, other in zip(*_check_images(seen, reconstructed, least), strict=True):
        yield as_unit_float(one), as_unit_float(other)


def _check_images(seen: np.ndarray, reconstructed: np.ndarray, least: int) -> tuple[np.ndarray, np.ndarray]:
    """Return both arrays; refuse those that are no images, or too small for the window."""
    seen, reconstructed = check_pair(seen, reconstructed)
    if seen.ndim != 4 or seen.shape[-1] != 3 or min(seen.shape[1:3]) < least:
        raise InputError(
            "the structural similarity of these images is not defined",
            given=f"shape {seen.shape}",
            expected=f"(stimulus, y, x, rgb) with {least} pixels or more on each side",
            todo="scale the images up, or leave this metric out",
        )
    return seen, reconstructed


def _gray(image: np.ndarray) -> np.ndarray:
    from skimage.color import rgb2gray

    return np.asarray(rgb2gray(image))


#: Registered in :data:`neurorecon.registry.METRICS`.
MSE = Metric(mse, squared_errors, higher_is_better=False)
PSNR = Metric(psnr, lambda seen, reconstructed: _decibels(squared_errors(seen, reconstructed)))
SSIM_GRAY2D = Metric(ssim_gray2d, partial(gray_similarities, axes=(1, 2)))
SSIM_GRAY_COLUMNS = Metric(ssim_gray_columns, partial(gray_similarities, axes=(1,)))
SSIM_RGB7 = Metric(ssim_rgb7)
