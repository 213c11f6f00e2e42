"""Latents of the very deep variational autoencoder (VDVAE): layout first, texture last."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np

from neurorecon.errors import InputError
from neurorecon.features.base import Needs, NetworkExtractor, StimulusBatch, images_at_a_time, seed_of
from neurorecon.features.images import Preprocessing, to_tensor
from neurorecon.models.load import Source, load_vdvae_of, source, vdvae_config

if TYPE_CHECKING:
    from torch import Tensor

    from neurorecon.models.vdvae_config import VDVAEConfig


class Prepared(NamedTuple):
    """Images, uint8, shape (stimulus, y, x, rgb), and the ids that samples are drawn for."""

    images: np.ndarray
    ids: list[str]


class VdvaeExtractor(NetworkExtractor):
    """Latents of the first groups of a VDVAE, joined: 31 groups of the imagenet64 network are 91,168 values.

    The first groups say what is where, later ones how it is textured. Brain-Diffuser (Ozcelik & VanRullen, 2023, arXiv
    2303.05334) decodes 31 groups, all up to the first one at half of the image's resolution; arXiv 2412.13237 decodes
    15 (13,344 values). The attribute ``group_boundaries`` says where each group begins. Of a video, the middle frame is
    taken.

    Parameters
    ----------
    categories, models, device, precision
        As in :class:`~neurorecon.features.base.NetworkExtractor`.
    groups : int, optional
        How many; by default all up to the first one at half of the image's resolution.
    seed : int, optional
        Sample the posterior, as Brain-Diffuser does, with noise of this seed and the stimulus; its mean where left out.
        Samples depend on the kind of device, which is then stored too.
    """

    name: ClassVar[str] = "vdvae"
    needs: ClassVar[Needs] = "images"
    dims: ClassVar[tuple[str, ...] | None] = ("feature",)

    def __init__(
        self,
        categories: list[str] | None = None,
        *,
        models: str | Path = "bundled",
        device: str | None = None,
        precision: str = "float32",
        groups: int | None = None,
        seed: int | None = None,
    ) -> None:
        super().__init__(categories, models=models, device=device, precision=precision)
        self._groups, self.seed = groups, seed

    @cached_property
    def source(self) -> Source:
        """Where the weights come from."""
        return source("vdvae", self.models)

    @cached_property
    def config(self) -> VDVAEConfig:
        """Sizes of the network."""
        return vdvae_config(self.source)

    @cached_property
    def groups(self) -> int:
        """How many groups are taken."""
        layers = self.config.decoder_layers
        if self._groups is None:
            half = [layer.resolution >= self.config.image_size // 2 for layer in layers]
            return half.index(True) + 1
        if not 1 <= self._groups <= len(layers):
            raise InputError(
                "the VDVAE has no such number of groups",
                given=self._groups,
                expected=f"1 to {len(layers)}",
                todo="choose another number with --groups",
            )
        return self._groups

    @property
    def batch(self) -> int:
        """Stimuli at a time."""
        return images_at_a_time(self.config.image_size)

    @cached_property
    def preprocessing(self) -> Preprocessing:
        """Bilinear, both sides to the size, as in Brain-Diffuser's released code; scaled by the network itself."""
        return Preprocessing(self.config.image_size, "bilinear", "squeeze")

    def load(self, device: str) -> Any:
        """Return the network on a device."""
        return load_vdvae_of(self.source, device)

    def prepare(self, batch: StimulusBatch) -> Prepared:
        """Return the images in the size of the network."""
        assert batch.images is not None
        return Prepared(self.preprocessing.prepare(batch.images), batch.table["id"].tolist())

    def forward(self, prepared: Prepared, device: str) -> Tensor:
        """Return the latents, shape (stimulus, feature)."""
        import torch

        images = to_tensor(prepared.images, device).permute(0, 3, 1, 2)
        if self.seed is None:
            return self._encode(images)
        # One by one: the noise of a stimulus must not depend on what else is in the batch.
        parts = []
        for number, identifier in enumerate(prepared.ids):
            generator = torch.Generator(device).manual_seed(seed_of(self.seed, identifier))
            parts.append(self._encode(images[number : number + 1], generator))
        return torch.cat(parts)

    def _encode(self, images: Tensor, generator: Any = None) -> Tensor:
        latents = self.network.encode(images, groups=self.groups, sample=generator is not None, generator=generator)
        flat: Tensor = self.network.flatten([group.float() for group in latents])
        return flat

    def description(self) -> dict[str, Any]:
        """Return how the numbers come about, but for weights and precision."""
        drawn = {} if self.seed is None else {"sampled_on": self.torch_device.partition(":")[0]}
        return {
            "model": "VDVAE",
            "layer": "posterior mean" if self.seed is None else "posterior, sampled",
            "groups": self.groups,
            "seed": self.seed,
            **drawn,
            "preprocessing": f"{self.preprocessing.describe()}; minus {self.config.input_mean}, "
            f"over {self.config.input_std} on the scale 0 to 255",
            "source": "Child (2021), arXiv 2011.10650; Ozcelik & VanRullen (2023), arXiv 2303.05334",
        }

    def layout(self) -> dict[str, Any]:
        """Return the shape of each group, and where it begins."""
        layers = self.config.decoder_layers[: self.groups]
        shapes = [[self.config.z_dim, layer.resolution, layer.resolution] for layer in layers]
        boundaries = np.cumsum([0, *(int(np.prod(shape)) for shape in shapes)]).tolist()
        return {"group_shapes": shapes, "group_boundaries": boundaries}
