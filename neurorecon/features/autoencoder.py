"""Latents of the VQ-VAE (KL autoencoder) of Stable Diffusion, for images and for all frames of videos."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np

from neurorecon.errors import InputError
from neurorecon.features.base import Needs, NetworkExtractor, StimulusBatch, images_at_a_time
from neurorecon.features.images import Preprocessing
from neurorecon.models.load import AutoencoderSettings, WeightsSource, autoencoder_settings, noise_like

if TYPE_CHECKING:
    from torch import Tensor


#: Image size for autoencoders that do not specify one: that of Stable Diffusion v1.
_SIZE = 512


class Prepared(NamedTuple):
    """Images, uint8, shape (stimulus, frame, y, x, rgb), and the stimulus ids that seed the noise."""

    images: np.ndarray
    ids: list[str]


class VqvaeExtractor(NetworkExtractor):
    """Latents of the autoencoder times its scaling factor: 4 x 64 x 64 for Stable Diffusion v1-4.

    Videos are represented by their middle frame; for all frames see :class:`VqvaeFramesExtractor`.

    What the papers call VQ-VAE is Stable Diffusion's ``AutoencoderKL`` (Rombach et al., 2022, arXiv 2112.10752). Its
    latents are the posterior mean here, or a sample from the posterior with `seed` (MindDiffuser's released code
    samples). For diffusers' ``VQModel``, the latents before quantization are used; ``AutoencoderTiny`` has no
    posterior.

    Parameters
    ----------
    categories, models, device, precision
        As in :class:`~neurorecon.features.base.NetworkExtractor`.
    seed : int, optional
        Sample the posterior, with noise that depends on this seed and the stimulus. By default the posterior mean.
    size : int, optional
        Image size in pixels per side; by default that of training if known, else 512.
    """

    name: ClassVar[str] = "vqvae"
    role: ClassVar[str] = "autoencoder"
    needs: ClassVar[Needs] = "images"
    dims: ClassVar[tuple[str, ...] | None] = ("channel", "y", "x")

    def __init__(
        self,
        categories: list[str] | None = None,
        *,
        models: str | Path = "bundled",
        device: str | None = None,
        precision: str = "float32",
        seed: int | None = None,
        size: int | None = None,
    ) -> None:
        super().__init__(categories, models=models, device=device, precision=precision)
        self.seed, self._size = seed, size

    @cached_property
    def settings(self) -> AutoencoderSettings:
        """Configuration of the network."""
        found = autoencoder_settings(self.models)
        if self.seed is not None and found.kind != "AutoencoderKL":
            raise InputError(
                "this autoencoder has no posterior to sample from",
                given=f"seed={self.seed} for {found.source.name!r} ({found.kind})",
                expected="no seed",
                todo="omit --seed",
            )
        return found

    @property
    def source(self) -> WeightsSource:
        """The weights: location, sha256 and license."""
        return self.settings.source

    @property
    def size(self) -> int:
        """Image size in pixels per side."""
        return self._size or self.settings.size or _SIZE

    @property
    def batch(self) -> int:
        """Number of stimuli in a batch."""
        return images_at_a_time(self.size)

    @cached_property
    def preprocessing(self) -> Preprocessing:
        """Bicubic, both sides resized, scaled to -1..1, as in MindDiffuser's released code."""
        return Preprocessing(self.size, "bicubic", "squeeze", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))

    def load(self, device: str) -> Any:
        """Load the network on a device."""
        return self.settings.load(device)

    def prepare(self, batch: StimulusBatch) -> Prepared:
        """Return the resized images, one frame each."""
        assert batch.images is not None
        return Prepared(self.preprocessing.prepare(batch.images)[:, None], batch.table["id"].tolist())

    def forward(self, prepared: Prepared, device: str) -> Tensor:
        """Return the latents, shape (stimulus, channel, y, x)."""
        return self._latents(prepared, device)[:, 0]

    def description(self) -> dict[str, Any]:
        """Return how the target is computed, except weights and precision."""
        return {
            "model": f"autoencoder ({self.settings.kind})",
            "layer": self._layer,
            "scaling_factor": self.settings.scaling_factor,
            "seed": self.seed,
            "frames": "middle",
            "preprocessing": self.preprocessing.describe(),
            "source": "Rombach et al. (2022), arXiv 2112.10752",
        }

    @property
    def _layer(self) -> str:
        if self.settings.kind == "AutoencoderKL":
            return "posterior mean" if self.seed is None else "posterior, sampled"
        return "latents before quantization" if self.settings.kind == "VQModel" else "latents"

    def _latents(self, prepared: Prepared, device: str) -> Tensor:
        """Return the latents of all frames, shape (stimulus, frame, channel, y, x)."""
        images = prepared.images
        flat = self.preprocessing.normalize(images.reshape(-1, *images.shape[2:]), device)
        encoded = self.network.encode(flat)
        posterior = getattr(encoded, "latent_dist", None)
        latents = (encoded.latents if posterior is None else posterior.mean).float().unflatten(0, images.shape[:2])
        if posterior is not None and self.seed is not None:
            deviation = posterior.std.float().unflatten(0, images.shape[:2])
            latents = latents + deviation * self._noise(prepared.ids, tuple(latents.shape[1:])).to(device)
        scaled: Tensor = latents * self.settings.scaling_factor
        return scaled

    def _noise(self, ids: list[str], shape: tuple[int, ...]) -> Tensor:
        import torch

        assert self.seed is not None
        return torch.from_numpy(np.stack([noise_like(shape, self.seed, identifier) for identifier in ids]))


class VqvaeFramesExtractor(VqvaeExtractor):
    """Latents of all frames of a video: (8, 4, 64, 64) for Stable Diffusion v1-4 and videos of eight frames.

    Mind-Animator (Lu et al., 2024, arXiv 2405.03280) decodes structure and motion from them.
    """

    name: ClassVar[str] = "vqvae_frames"
    needs: ClassVar[Needs] = "frames"
    dims: ClassVar[tuple[str, ...] | None] = ("frame", "channel", "y", "x")

    #: Assumed number of frames, for the batch size; videos of other lengths only change the memory.
    _FRAMES = 8

    @property
    def batch(self) -> int:
        """Number of videos in a batch."""
        return images_at_a_time(self.size, self._FRAMES)

    def prepare(self, batch: StimulusBatch) -> Prepared:
        """Return the resized frames."""
        assert batch.frames is not None
        videos, frames = batch.frames.shape[:2]
        prepared = self.preprocessing.prepare(batch.frames.reshape(videos * frames, *batch.frames.shape[2:]))
        return Prepared(prepared.reshape(videos, frames, *prepared.shape[1:]), batch.table["id"].tolist())

    def forward(self, prepared: Prepared, device: str) -> Tensor:
        """Return the latents, shape (video, frame, channel, y, x)."""
        return self._latents(prepared, device)

    def description(self) -> dict[str, Any]:
        """Return how the target is computed, except weights and precision."""
        return {**super().description(), "frames": "all"}


class VqvaeFirstExtractor(VqvaeFramesExtractor):
    """Latents of the first frame of a video, from which Mind-Animator's motion decoder continues."""

    name: ClassVar[str] = "vqvae_first"
    dims: ClassVar[tuple[str, ...] | None] = ("channel", "y", "x")

    def prepare(self, batch: StimulusBatch) -> Prepared:
        """Return the resized first frames, one of each video."""
        assert batch.frames is not None
        return Prepared(self.preprocessing.prepare(batch.frames[:, 0])[:, None], batch.table["id"].tolist())

    def forward(self, prepared: Prepared, device: str) -> Tensor:
        """Return the latents, shape (video, channel, y, x)."""
        return self._latents(prepared, device)[:, 0]

    def description(self) -> dict[str, Any]:
        """Return how the target is computed, except weights and precision."""
        return {**super().description(), "frames": "first"}
