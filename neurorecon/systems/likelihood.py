"""How likely is a measured response if an image was seen? A voxel-wise encoding model with correlated noise.

The model of Kneeland, Ojeda, St-Yves & Naselaris (2023, arXiv 2312.07705) ranks images by how well they predict the
response. Here the response r of all voxels is Gaussian around the prediction W f(x) of a ridge regression from features
of the image, with the covariance of residuals of left-out training samples, shrunk as Ledoit & Wolf (2004, J.
Multivariate Analysis 88, 365) do. Residuals hold measurement noise, which voxels share, and what the features miss.

Features are pixels on a grid of 16 x 16 and the energies of a Gabor pyramid: none of a network that generates or judges
images. The same model says in which direction an image has to change, in closed form, see :meth:`EncodingModel.step`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from neurorecon.decoders.alphas import quiet_edges
from neurorecon.decoders.ridge import RidgeDecoder
from neurorecon.decoders.samples import Recordings
from neurorecon.decoders.smoother import RidgeSmoother
from neurorecon.decoders.validation import group_folds
from neurorecon.errors import InputError
from neurorecon.features.gabor import GaborExtractor, gabor_of_tensors
from neurorecon.features.images import interpolate, luminance_of_tensors, resize, resize_tensors

if TYPE_CHECKING:
    from torch import Tensor

#: Candidate alphas; each band has a total variance of 1.
ALPHAS = tuple(float(alpha) for alpha in np.logspace(-3, 4, 15))

#: Pixels per side of the grid in which colors are averaged.
CELLS = 16

#: Voxels of the model at most, those that are predicted best: their covariance takes 8 bytes a pair.
_MOST_VOXELS = 4000

#: Folds whose left-out residuals give the covariance.
_FOLDS = 5

#: Images whose features are computed at a time: 280 MB with 425 pixels per side.
_BLOCK = 64


@dataclass(frozen=True)
class Bands:
    """Features of one or more bands side by side, centered, each band with a total variance of 1.

    Parameters
    ----------
    mean, scale : array, shape (feature,)
        Features are centered, then multiplied; those that never change have a scale of 0.
    """

    mean: np.ndarray
    scale: np.ndarray

    @classmethod
    def fit(cls, features: Sequence[np.ndarray], weights: Sequence[np.ndarray] | None = None) -> Bands:
        """Measure the moments of training features.

        Parameters
        ----------
        features : sequence of array, shape (stimulus, ...)
            Of each band.
        weights : sequence of array, shape (feature,), optional
            Of the standardized features of each band; by default all alike.
        """
        means, scales = [], []
        for number, band in enumerate(features):
            values = np.asarray(band, dtype=np.float64).reshape(len(band), -1)
            deviation = values.std(axis=0)
            given = np.ones(values.shape[1]) if weights is None else weights[number]
            used = np.where(deviation > 1e-8, given, 0)
            means.append(values.mean(axis=0))
            scales.append(used / np.linalg.norm(used) / np.where(used, deviation, 1))
        return cls(np.concatenate(means), np.concatenate(scales))

    def __call__(self, features: Sequence[np.ndarray]) -> np.ndarray:
        """Return scaled features, (stimulus, feature), float64, from those of each band, (stimulus, ...)."""
        flat = [np.asarray(band, dtype=np.float64).reshape(len(band), -1) for band in features]
        return np.asarray((np.concatenate(flat, axis=1) - self.mean) * self.scale)


def low_level_features(images: np.ndarray) -> list[np.ndarray]:
    """Return the bands of the encoding model: pixels, (image, rgb, y, x), and Gabor energies, (image, feature).

    Parameters
    ----------
    images : array, shape (image, y, x, rgb)
        In [0, 1].
    """
    pixels = resize(np.moveaxis(np.asarray(images, dtype=np.float32), -1, 1), CELLS)
    return [pixels, GaborExtractor().transform(np.asarray(images, dtype=np.float32))]


@dataclass(frozen=True)
class EncodingModel:
    """The likelihood of responses given an image, as a function of the features of the image.

    With the precision P, the inverse of the covariance of residuals, the logarithm of the likelihood of r is
    r' P W f - f' W' P W f / 2, but for what does not depend on the image. Voxels appear in P W alone.

    Parameters
    ----------
    bands : Bands
        Scales features.
    projection : array, shape (voxel, feature)
        P W; 0 in voxels that are not used, among them all that never change.
    information : array, shape (feature, feature)
        W' P W: the Fisher information about features.
    spread : array, shape (pixel, pixel)
        Covariance of the scaled pixels of training images, the prior of :meth:`step`.
    quality : float
        Square root of the variance explained in left-out training samples, mean over used voxels; near 0, the
        likelihood says next to nothing, and the first image stays the best.
    """

    bands: Bands
    projection: np.ndarray
    information: np.ndarray
    spread: np.ndarray
    quality: float

    @classmethod
    def fit(cls, responses: np.ndarray, recordings: Recordings) -> EncodingModel:
        """Fit to training samples; alphas are chosen for each voxel by generalized cross-validation.

        Parameters
        ----------
        responses : array, shape (sample, voxel)
            Standardized, one sample for each stimulus.
        recordings : Recordings
            The same samples, with the images that were seen.

        Raises
        ------
        InputError
            If there are too few samples.
        """
        from scipy.linalg import cho_factor, cho_solve
        from sklearn.covariance import ledoit_wolf

        if len(responses) < _FOLDS:
            raise InputError(
                "an encoding model needs more training stimuli",
                given=f"{len(responses)} training stimuli",
                expected=f"{_FOLDS} or more",
                todo="train on more stimuli, or do without refinement",
            )
        images = recordings.target("images")
        blocks = [
            low_level_features(np.asarray(images[start : start + _BLOCK].data))
            for start in range(0, len(images), _BLOCK)
        ]
        features = [np.concatenate(band) for band in zip(*blocks, strict=True)]
        bands = Bands.fit(features)
        inputs = bands(features)
        decoder = RidgeDecoder(ALPHAS, cv="gcv", alpha_per="target")
        with quiet_edges():  # voxels without signal have the largest alpha
            decoder.fit(inputs, responses)
        residuals = np.empty(responses.shape)
        for train, test in group_folds(len(inputs), None, _FOLDS):
            smoother = RidgeSmoother(inputs[train], inputs[test])
            for columns, predicted in smoother.predict_blocks(responses[train], decoder.alpha_):
                residuals[test, columns] = responses[test, columns] - predicted
        varying = np.flatnonzero(responses.std(axis=0) > 0)
        explained = 1 - residuals[:, varying].var(axis=0) / responses[:, varying].var(axis=0)
        best = np.sort(np.argsort(-explained, kind="stable")[:_MOST_VOXELS])
        used = varying[best]
        covariance = ledoit_wolf(residuals[:, used], assume_centered=True)[0]
        weights = decoder.coef_.reshape(responses.shape[1], -1)[used].astype(np.float64)
        solved = cho_solve(cho_factor(covariance, lower=True), weights)
        projection = np.zeros((responses.shape[1], weights.shape[1]))
        projection[used] = solved
        pixels = inputs[:, : 3 * CELLS**2]
        quality = float(np.sqrt(np.clip(explained[best], 0, 1)).mean())
        return cls(bands, projection, weights.T @ solved, pixels.T @ pixels / len(pixels), quality)

    # -- in the arrays that a system saves ----------------------------------------------------------------------------

    def arrays(self) -> dict[str, np.ndarray]:
        """Return everything as arrays of single precision, which :meth:`of_arrays` reads."""
        found = {
            "mean": self.bands.mean, "scale": self.bands.scale, "projection": self.projection,
            "information": self.information, "spread": self.spread, "quality": np.array([self.quality]),
        }  # fmt: skip
        return {f"encoding.{name}": values.astype(np.float32) for name, values in found.items()}

    @classmethod
    def of_arrays(cls, arrays: Mapping[str, Any]) -> EncodingModel:
        """Return the model whose :meth:`arrays` these are; others are ignored."""
        found = {name.removeprefix("encoding."): values for name, values in arrays.items()}
        bands = Bands(found["mean"].astype(np.float64), found["scale"].astype(np.float64))
        return cls(bands, found["projection"], found["information"], found["spread"], float(found["quality"][0]))

    # -- what it says of images ---------------------------------------------------------------------------------------

    def evidence(self, responses: np.ndarray) -> np.ndarray:
        """Return what responses say of features, r' P W, (stimulus, feature), from (stimulus, voxel)."""
        return np.asarray(np.asarray(responses, dtype=np.float64) @ self.projection)

    def log_likelihood(self, images: np.ndarray, evidence: np.ndarray) -> np.ndarray:
        """Return the log-likelihood of the response to each stimulus, had it shown an image, (image,).

        Differences between images of one stimulus mean something; what is the same for all images is left out.

        Parameters
        ----------
        images : array, shape (image, y, x, rgb)
            One for each stimulus.
        evidence : array, shape (image, feature)
            From :meth:`evidence`.
        """
        features = self.bands(low_level_features(images))
        return np.asarray(((evidence - features @ self.information / 2) * features).sum(axis=1))

    def losses(self, evidence: Mapping[str, np.ndarray]) -> Callable[[Sequence[str]], Callable[[Tensor], Tensor]]:
        """Return what returns the negative log-likelihood of some stimuli, as a differentiable function of tensors.

        Parameters
        ----------
        evidence : mapping of str to array, shape (feature,)
            Of each stimulus.
        """
        import torch

        mean, scale, information = (
            torch.from_numpy(np.asarray(values, dtype=np.float32))
            for values in (self.bands.mean, self.bands.scale, self.information)
        )

        def losses_of(stimuli: Sequence[str]) -> Callable[[Tensor], Tensor]:
            given = torch.from_numpy(np.stack([evidence[name] for name in stimuli]).astype(np.float32))

            def loss(images: Tensor) -> Tensor:
                shown = images.clamp(0, 1)
                bands = resize_tensors(shown, CELLS).flatten(1), gabor_of_tensors(luminance_of_tensors(shown))
                features = (torch.cat(bands, dim=1) - mean.to(images)) * scale.to(images)
                change = features @ information.to(images) / 2 - given.to(images)
                return (change * features).sum(dim=1)

            return loss

        return losses_of

    def step(self, images: np.ndarray, evidence: np.ndarray, trust: float) -> np.ndarray:
        """Return images after a closed-form Gaussian step toward the measured response, (image, y, x, rgb) in [0, 1].

        The features of an image are taken for right up to an error whose covariance is that of training images, times
        `trust` squared. Given the response, the most probable pixels of the grid are those of the image plus
        (S^-1 + W' P W)^-1 W' P (r - W f), with the block of the pixels of each matrix and the covariance S of errors.
        The difference is added to the image by linear interpolation, so that its details stay.

        Parameters
        ----------
        images : array, shape (image, y, x, rgb)
            In [0, 1].
        evidence : array, shape (image, feature)
            From :meth:`evidence`.
        trust : float
            Standard deviation of the errors of pixels, as a share of that of training images; 0 changes nothing.
        """
        if not trust:
            return images
        pixels = 3 * CELLS**2
        features = self.bands(low_level_features(images))
        gradient = (evidence - features @ self.information)[:, :pixels]
        # (S^-1 + M)^-1 g = S (I + M S)^-1 g, which needs no inverse of S.
        prior, block = trust**2 * self.spread.astype(np.float64), self.information[:pixels, :pixels]
        change = prior @ np.linalg.solve(np.eye(pixels) + block @ prior, gradient.T)
        scale = self.bands.scale[:pixels]
        grid = change.T * np.where(scale > 0, 1 / np.where(scale > 0, scale, 1), 0)
        added = interpolate(grid.reshape(-1, 3, CELLS, CELLS), images.shape[1:3])
        return np.clip(images + np.moveaxis(added, 1, -1), 0, 1).astype(np.float32)
