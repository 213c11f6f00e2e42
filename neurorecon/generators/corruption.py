"""Corrupt the contexts of diffusion networks as decoding corrupts them, for training.

A network that was trained on exact contexts copies them, and generates a decoded average as an average: a ghost.
Trained on corrupted ones as well, it learns what to believe (conditioning augmentation: Ho et al., 2022, JMLR).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

#: Limits of the noise variance of corrupted contexts, as a share of their total variance, drawn log-uniformly, and of
#: their standard deviation relative to exact ones, drawn uniformly.
_NOISE, _SPREAD = (0.003, 0.3), (0.6, 1.1)

#: Scenes and components of the principal component analysis of the contexts: 97 % of the variance of image tokens.
_PCA_SCENES, _PCA_COMPONENTS = 3_000, 1_000

#: Variance that predictions of a ridge have in components which it does not predict at all, relative to the component:
#: predictions are weighted sums of training targets, so their noise has the targets' covariance.
_NOISE_FLOOR = 0.1


def drawn_noise(chance: Tensor) -> Tensor:
    """Return noise variances as a share of the total variance, log-uniform, from numbers in [0, 1)."""
    return _NOISE[0] * (_NOISE[1] / _NOISE[0]) ** chance


def drawn_spread(chance: Tensor) -> Tensor:
    """Return standard deviations relative to those of exact contexts, uniform, from numbers in [0, 1)."""
    return _SPREAD[0] + (_SPREAD[1] - _SPREAD[0]) * chance


@dataclass(frozen=True)
class Corruption:
    """What decoding does to contexts: noise, more of it in components of lower variance.

    A linear decoder predicts the principal components of a target with a squared correlation of v / (v + n), where v
    is the variance of the component and n that of the noise, nearly the same for all. (Ridge from the simulated brain
    of seed 7: n is .03 to .05 of the total variance in each octave of the first 64 components of CLIP's image tokens,
    whose correlations fall from .89 to .23.) Afterwards each feature is rescaled to its standard deviation in training,
    as in Brain-Diffuser.

    Parameters
    ----------
    mean : Tensor, shape (token, channel)
        Mean context over scenes.
    axes : Tensor, shape (component, token * channel)
        Principal axes, orthonormal.
    variances : Tensor, shape (component,)
    """

    mean: Tensor
    axes: Tensor
    variances: Tensor

    @classmethod
    def of(cls, contexts: Tensor) -> Corruption:
        """Estimate mean and components from contexts of scenes, (scene, token, channel)."""
        some = contexts[:: max(1, len(contexts) // _PCA_SCENES)].float()
        mean = some.mean(dim=0)
        centered = (some - mean).flatten(1)
        values, vectors = torch.linalg.eigh(centered @ centered.T)
        # Eigenvalues below the precision of float32 are those of directions in which contexts do not differ.
        kept = values[-_PCA_COMPONENTS:].gt(1e-6 * values[-1]).nonzero()[:, 0] + max(0, len(values) - _PCA_COMPONENTS)
        axes = vectors[:, kept].T @ centered / values[kept].sqrt()[:, None]
        return cls(mean, axes, values[kept] / len(some))

    def __call__(self, contexts: Tensor, noise: Tensor, spread: Tensor, generator: torch.Generator) -> Tensor:
        """Corrupt contexts.

        Parameters
        ----------
        contexts : Tensor, shape (scene, token, channel)
        noise : Tensor, shape (scene,)
            Noise variance as a share of the total variance.
        spread : Tensor, shape (scene,)
            Standard deviation of corrupted contexts over scenes, relative to that of exact ones, the same for all
            features.
        generator : torch.Generator

        Returns
        -------
        Tensor, shape (scene, token, channel)
        """
        exact = (contexts - self.mean).flatten(1) @ self.axes.T
        random = self.variances.sqrt() * torch.randn(exact.shape, generator=generator)
        signal = self.variances / (self.variances + self.variances.sum() * noise[:, None])
        gain = signal + _NOISE_FLOOR
        corrupted = gain.sqrt() * (signal.sqrt() * exact + (1.0 - signal).sqrt() * random)
        wanted = (self.variances @ self._squares).sqrt()
        # Padding is constant over sentences; its noise would be divided by zero.
        found = ((gain * self.variances) @ self._squares).sqrt().clamp(min=1e-6 * float(wanted.max()))
        features = spread[:, None] * wanted / found * (corrupted @ self.axes)
        return self.mean + features.unflatten(1, self.mean.shape)

    @cached_property
    def _squares(self) -> Tensor:
        return self.axes.square()
