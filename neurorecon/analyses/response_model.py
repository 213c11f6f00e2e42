"""Encoding models of the mean responses of ROIs, which predict responses to any image, also to generated ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from neurorecon.analyses.design import feature_weights
from neurorecon.decoders.ridge import RidgeDecoder
from neurorecon.decoders.samples import Recordings
from neurorecon.features.extract import extractors_for, require_networks
from neurorecon.stats import permutation_p
from neurorecon.store.store import Store
from neurorecon.systems.base import System, correlate_rows, standardizer
from neurorecon.systems.likelihood import ALPHAS, Bands

if TYPE_CHECKING:
    import torch

#: Targets of the encoding model: what high-level and what early areas respond to.
BANDS = ("clip_image", "gabor")


@dataclass(frozen=True)
class Standardized:
    """Training responses in standard deviations, one row for each stimulus, as the system standardizes them.

    Parameters
    ----------
    values : array, shape (stimulus, voxel)
    train : Recordings
        The same stimuli, with their targets.
    moments : (array, array), shape (voxel,)
        Mean and standard deviation.
    """

    values: np.ndarray
    train: Recordings
    moments: tuple[np.ndarray, np.ndarray]


def standardized_by(system: System | None, train: Recordings) -> Standardized:
    """Return training responses as a fitted system standardizes them, or one that will be fitted to them."""
    mean, scale = (system.mean_, system.scale_) if system is not None else standardizer(train.responses.astype(float))
    averaged = train.averaged()
    return Standardized((averaged.responses - mean) / scale, averaged, (mean, scale))


@dataclass(frozen=True)
class ResponseModel:
    """Encoding models of the mean responses of ROIs: one ridge regression, whose bands have the same total variance.

    Parameters
    ----------
    masks : dict of str to bool array, shape (voxel,)
        The ROIs.
    extractors : tuple of Extractor
        Of the bands.
    scaled : Bands
        Scales the features of the bands.
    decoder : RidgeDecoder
        Fitted; from features to responses of ROIs.
    scales : array, shape (roi,)
        Standard deviations of the mean responses over training stimuli, which predictions are in units of.
    """

    masks: dict[str, np.ndarray]
    extractors: tuple[Any, ...]
    scaled: Bands
    decoder: RidgeDecoder
    scales: np.ndarray

    @property
    def rois(self) -> list[str]:
        """Names of the ROIs."""
        return list(self.masks)

    @classmethod
    def fit(
        cls,
        store: Store,
        standardized: Standardized,
        masks: dict[str, np.ndarray],
        bands: Sequence[str],
        models: Any,
        device: str = "cpu",
    ) -> ResponseModel:
        """Fit to training stimuli; alphas are chosen for each ROI by generalized cross-validation.

        Parameters
        ----------
        store : Store
            With the bands.
        standardized : Standardized
            Training responses.
        masks : dict of str to bool array, shape (voxel,)
            The ROIs.
        bands : sequence of str
            Targets of the store.
        models : {"bundled", "published"} or path
            The networks that made them.
        device : str
            Where features of images are computed.
        """
        features, weights = [], []
        for band in bands:
            target = standardized.train.target(band)
            require_networks(band, target.attrs, models, "the encoding model")
            features.append(np.asarray(target.values, dtype=np.float64).reshape(len(target), -1))
            weights.append(feature_weights(target.attrs, features[-1].shape[1]))
        scaled = Bands.fit(features, weights)
        responses = np.stack([standardized.values[:, mask].mean(axis=1) for mask in masks.values()], axis=1)
        scales = responses.std(axis=0)
        decoder = RidgeDecoder(ALPHAS, cv="gcv", alpha_per="target", dtype="float64")
        decoder.fit(scaled(features), responses / scales)
        options = {"models": models, "device": device if device.startswith("cuda") else "cpu"}
        return cls(masks, tuple(extractors_for(store, bands, options)), scaled, decoder, scales)

    def predict(self, images: np.ndarray) -> np.ndarray:
        """Return predicted responses of the ROIs, (image, roi), to images (image, y, x, rgb) in [0, 1]."""
        return self.predict_features([extractor.transform(images) for extractor in self.extractors])

    def predict_features(self, features: Sequence[np.ndarray]) -> np.ndarray:
        """Return predicted responses, (stimulus, roi), from the features (stimulus, ...) of each band."""
        return np.asarray(self.decoder.predict(self.scaled(features)))

    def selectivity(self, predicted: np.ndarray, roi: str) -> np.ndarray:
        """Return the response of an ROI minus the mean of the ROIs without common voxels, (image,)."""
        own = self.masks[roi]
        others = [number for number, mask in enumerate(self.masks.values()) if not (mask & own).any()]
        rest = predicted[:, others].mean(axis=1) if others else np.full(len(predicted), np.nan)
        return np.asarray(predicted[:, self.rois.index(roi)] - rest)

    def evaluated(
        self, test: Recordings | None, standardized: Standardized, n_permutations: int, seed: int
    ) -> pd.DataFrame:
        """Return how well the responses to test stimuli (if there are any) are predicted, one row per ROI."""
        table = pd.DataFrame({"roi": self.rois, "voxels": [int(mask.sum()) for mask in self.masks.values()]})
        if test is not None:
            mean, scale = standardized.moments
            values = (test.responses - mean) / scale
            measured = np.stack([values[:, mask].mean(axis=1) for mask in self.masks.values()])
            predicted = self.predict_features([test.target(extractor.name).values for extractor in self.extractors]).T
            rng = np.random.default_rng(seed)
            orders = [rng.permutation(measured.shape[1]) for _ in range(n_permutations)]
            observed = correlate_rows(predicted, measured)
            null = np.stack([correlate_rows(predicted, measured[:, order]) for order in orders])
            table = table.assign(r=observed, p=permutation_p(observed, null))
        return table.assign(alpha=self.decoder.alpha_)

    def of_tensors(self, images: torch.Tensor, roi: str) -> torch.Tensor:
        """Return predicted responses, (image,), to tensors (image, rgb, y, x); the band is CLIP's image embedding."""
        import torch
        from torch.nn import functional

        (extractor,), mean, scale = self.extractors, self.scaled.mean, self.scaled.scale
        settings = extractor.settings
        shown = images.clamp(0, 1)
        if shown.shape[-2:] != (settings.size, settings.size):
            size = (settings.size, settings.size)
            shown = functional.interpolate(shown, size, mode="bicubic", antialias=True).clamp(0, 1)
        low, spread = (torch.tensor(found, device=images.device).view(1, 3, 1, 1)
                       for found in (settings.mean, settings.std))  # fmt: skip
        found = extractor.network.encode_image((shown - low) / spread)
        weights = self.decoder.coef_[self.rois.index(roi)] * scale
        return (found - torch.from_numpy(mean.astype(np.float32)).to(found)) @ torch.from_numpy(weights).to(found)
