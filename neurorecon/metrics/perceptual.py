"""Perceptual distances: LPIPS of each stimulus, and the Frechet distance of two sets of images.

LPIPS is a squared distance of weighted feature maps, so each image becomes one vector, and the null of exchanged pairs
costs no further pass through the network: of 100 stimuli and 1000 permutations, 200 passes in place of 20,000.
The linear heads are those of Zhang et al., which torchmetrics ships; the backbone is found by its role in the catalog.
With torchmetrics' own module, values agree to 1e-6. The Frechet distance is torchmetrics'.
"""

from __future__ import annotations

import warnings
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from neurorecon.errors import FewStimuliWarning
from neurorecon.io.tensors import load_state
from neurorecon.metrics.base import Metric
from neurorecon.metrics.networks import AlexNet, CategoryProbe, ImageNetwork, InceptionV3
from neurorecon.models.load import source
from neurorecon.models.preprocessing import Preprocessing

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

#: Added to the squared norm of the channels, as in the published code.
_EPSILON = 1e-8

#: Values of the rows that are compared at a time.
_BLOCK = 2**16


class Lpips(AlexNet):
    """AlexNet after its five ReLUs, weighted by the heads of LPIPS (version 0.1), as one vector for each image.

    The squared distance of the vectors of two images is their LPIPS. Images enter with 224 pixels a side.

    References
    ----------
    Zhang et al. (2018). The unreasonable effectiveness of deep features as a perceptual metric. CVPR.
    """

    layers: ClassVar[tuple[str, ...]] = ("perceptual",)
    nodes: ClassVar[Mapping[str, str]] = {
        f"relu{number}": f"features.{node}" for number, node in enumerate((1, 4, 7, 9, 11))
    }

    def on(self, models: str | Path = "bundled", device: str = "cpu", progress: bool = False) -> ImageNetwork:
        """Return this network with other weights, or maps of the probe if these are the bundled ones."""
        if source(self.role, models).origin == "bundled":
            return PerceptualProbe().on("bundled", device, progress)
        return super().on(models, device, progress)

    def record(self) -> dict[str, str]:
        """Return what identifies the weights, and the heads."""
        from torchmetrics import __version__

        return {**super().record(), "heads": f"LPIPS 0.1, AlexNet, from torchmetrics {__version__}"}

    @cached_property
    def heads(self) -> list[Tensor]:
        """Weights of the channels after each ReLU, (channel,)."""
        import torchmetrics.functional.image as place

        state = load_state(Path(place.__file__).parent / "lpips_models" / "alex.pth")
        return [state[f"lin{number}.model.1.weight"].flatten() for number in range(5)]

    def read(self, prepared: np.ndarray) -> dict[str, Tensor]:
        """Return the vectors, (image, value)."""
        maps = self.network(self.preprocessing.normalize(prepared, next(self.network.parameters()).device))
        return {"perceptual": weighted([maps[f"relu{number}"] for number in range(5)], self.heads)}


class PerceptualProbe(CategoryProbe):
    """Maps of two stages of the probe as one vector for each image, all channels with the same weight.

    It stands in for :class:`Lpips` where weights are bundled: nobody trained heads for it on human judgments.
    """

    layers: ClassVar[tuple[str, ...]] = ("perceptual",)

    def read(self, prepared: np.ndarray) -> dict[str, Any]:
        """Return the vectors, (image, value)."""
        found = super().read(prepared)
        maps = [found["early"], found["middle"]]
        return {"perceptual": weighted(maps, [one.new_ones(one.shape[1]) for one in maps])}


def weighted(maps: Sequence[Tensor], heads: Sequence[Tensor]) -> Tensor:
    """Return vectors whose squared distance is that of LPIPS.

    At each position, the channels are divided by their norm. LPIPS is the sum over maps of the mean over positions of
    the sum over channels of weight times squared difference, so each value is multiplied by the root of the weight over
    the number of positions.

    Parameters
    ----------
    maps : sequence of Tensor, shape (image, channel, y, x)
    heads : sequence of Tensor, shape (channel,)
        Weights, none of them negative.

    Returns
    -------
    Tensor, shape (image, value)
    """
    import torch

    parts = []
    for values, weight in zip(maps, heads, strict=True):
        scaled = values / torch.sqrt(_EPSILON + (values**2).sum(dim=1, keepdim=True))
        factor = (weight.to(values.device) / (values.shape[2] * values.shape[3])).sqrt()
        parts.append((scaled * factor[:, None, None]).flatten(1))
    return torch.cat(parts, dim=1)


def squared_distance(seen: np.ndarray, reconstructed: np.ndarray) -> np.ndarray:
    """Return the squared Euclidean distance of the features of each stimulus and its reconstruction, (stimulus,)."""
    one, other = (found.reshape(len(found), -1) for found in (seen, reconstructed))
    return np.array([np.sum((a.astype(np.float64) - b) ** 2) for a, b in zip(one, other, strict=True)])


def squared_distances(seen: np.ndarray, reconstructed: np.ndarray) -> np.ndarray:
    """Return :func:`squared_distance` of every pair, shape (reconstruction, seen)."""
    a, b = reconstructed.reshape(len(reconstructed), -1), seen.reshape(len(seen), -1)
    found = np.zeros((len(a), len(b)))
    for start in range(0, a.shape[1], _BLOCK):
        one, other = (rows[:, start : start + _BLOCK].astype(np.float64) for rows in (a, b))
        found += (one**2).sum(axis=1)[:, None] + (other**2).sum(axis=1) - 2 * one @ other.T
    return np.maximum(found, 0.0)


class InceptionV3At299(InceptionV3):
    """Inception v3 of torchvision after its average pooling, on images of 299 pixels a side, its own size."""

    @property
    def preprocessing(self) -> Preprocessing:
        """Both sides to 299 pixels, bilinear; ImageNet's mean and deviation, which the network turns into -1 to 1."""
        return Preprocessing(299, "bilinear", "squeeze", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def frechet_distance(seen: np.ndarray, reconstructed: np.ndarray) -> np.ndarray:
    """Return the Frechet distance of the features of two sets of images, by torchmetrics.

    It compares means and covariances of the two sets, so it says how natural images look all in all and not whether
    they are the right ones: pairs may be exchanged without any change. It is biased upwards in small sets. Compare
    numbers of the same stimuli only.

    Parameters
    ----------
    seen, reconstructed : array, shape (stimulus, feature)

    Returns
    -------
    array, shape ()
        NaN for fewer than two stimuli.

    Warns
    -----
    FewStimuliWarning
        Where there are no more stimuli than features, so that the covariance is singular.

    References
    ----------
    Heusel et al. (2017). GANs trained by a two time-scale update rule converge to a local Nash equilibrium. NeurIPS.
    """
    import torch
    from torchmetrics.image.fid import FrechetInceptionDistance

    if len(seen) < 2:
        return np.array(np.nan)
    if len(seen) <= seen.shape[1]:
        warnings.warn(
            f"the Frechet distance of {len(seen)} stimuli in {seen.shape[1]} features is biased upwards, because their "
            "covariance is singular: compare it only with that of the same stimuli, and with no published number",
            FewStimuliWarning,
            stacklevel=2,
        )
    features = torch.nn.Identity()
    features.num_features = seen.shape[1]
    metric = FrechetInceptionDistance(features)
    for values, real in ((seen, True), (reconstructed, False)):
        metric.update(torch.from_numpy(np.asarray(values, dtype=np.float64)), real=real)
    return np.asarray(metric.compute())


#: Registered in :data:`neurorecon.registry.METRICS`.
LPIPS = Metric(squared_distance, squared_distances, higher_is_better=False, network=Lpips(), layer="perceptual")
FID_TORCHVISION = Metric(
    frechet_distance, returns="set", higher_is_better=False, fewest=2, network=InceptionV3At299(), layer="pooled"
)
