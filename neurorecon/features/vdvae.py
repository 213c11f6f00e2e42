"""Latents of the very deep variational autoencoder (VDVAE), from coarse layout to fine texture."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np

from neurorecon.errors import InputError
from neurorecon.features.base import Needs, NetworkExtractor, StimulusBatch, images_at_a_time
from neurorecon.features.images import Preprocessing, to_tensor
from neurorecon.models.load import WeightsSource, load_vdvae_of, seed_of, source, vdvae_config

if TYPE_CHECKING:
    from torch import Tensor

    from neurorecon.models.vdvae_config import VDVAEConfig


class Prepared(NamedTuple):
    """Images, uint8, shape (stimulus, y, x, rgb), and the stimulus ids that seed the samples."""

    images: np.ndarray
    ids: list[str]


class VdvaeExtractor(NetworkExtractor):
    """Latents of the first groups of a VDVAE, concatenated: 91,168 values for 31 groups of the imagenet64 network.

    The first groups encode the layout of an image, later ones its texture (Child, 2021, arXiv 2011.10650).
    Brain-Diffuser (Ozcelik & VanRullen, 2023, arXiv 2303.05334) decodes 31 groups, all up to the first one at half the
    resolution of the image; arXiv 2412.13237 decodes 15 (13,344 values). The attribute ``group_boundaries`` says where
    each group begins. Videos are represented by their middle frame.

    Parameters
    ----------
    categories, models, device, precision
        As in :class:`~neurorecon.features.base.NetworkExtractor`.
    groups : int, optional
        Number of first groups; by default all up to the first one at half the resolution of the image.
    seed : int, optional
        Sample the posterior, as Brain-Diffuser does, with noise that depends on this seed and the stimulus. By default
        the posterior mean. Samples depend on the type of device, which is then stored too.
    """

    name: ClassVar[str] = "vdvae"
    role: ClassVar[str] = "vdvae"
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
    def source(self) -> WeightsSource:
        """The weights: location, sha256 and license."""
        return source("vdvae", self.models)

    @cached_property
    def config(self) -> VDVAEConfig:
        """Configuration of the network."""
        return vdvae_config(self.source)

    @cached_property
    def groups(self) -> int:
        """Number of first groups."""
        layers = self.config.decoder_layers
        if self._groups is None:
            half = [layer.resolution >= self.config.image_size // 2 for layer in layers]
            return half.index(True) + 1
        if not 1 <= self._groups <= len(layers):
            raise InputError(
                "invalid number of VDVAE groups",
                given=self._groups,
                expected=f"1 to {len(layers)}",
                todo="choose another number with --groups",
            )
        return self._groups

    @property
    def batch(self) -> int:
        """Number of stimuli in a batch."""
        return images_at_a_time(self.config.image_size)

    @cached_property
    def preprocessing(self) -> Preprocessing:
        """Bilinear, both sides resized, as in Brain-Diffuser's released code; the network itself normalizes."""
        return Preprocessing(self.config.image_size, "bilinear", "squeeze")

    def load(self, device: str) -> Any:
        """Load the network on a device."""
        return load_vdvae_of(self.source, device)

    def prepare(self, batch: StimulusBatch) -> Prepared:
        """Return the resized images."""
        assert batch.images is not None
        return Prepared(self.preprocessing.prepare(batch.images), batch.table["id"].tolist())

    def forward(self, prepared: Prepared, device: str) -> Tensor:
        """Return the latents, shape (stimulus, feature)."""
        import torch

        images = to_tensor(prepared.images, device).permute(0, 3, 1, 2)
        if self.seed is None:
            return self._encode(images)
        # One by one: the noise of a stimulus must not depend on the rest of the batch.
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
        """Return how the target is computed, except weights and precision."""
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
        """Return the shape and the start of each group."""
        layers = self.config.decoder_layers[: self.groups]
        shapes = [[self.config.z_dim, layer.resolution, layer.resolution] for layer in layers]
        boundaries = np.cumsum([0, *(int(np.prod(shape)) for shape in shapes)]).tolist()
        return {"group_shapes": shapes, "group_boundaries": boundaries}


def first_features(attrs: Mapping[str, Any], groups: int | str) -> int:
    """Return the number of features of the first groups of a target.

    Parameters
    ----------
    attrs : mapping
        Of the target: ``group_boundaries``, and ``group_shapes`` (channel, y, x).
    groups : int or str
        This many groups, or those up to and including the first one at a resolution, e.g. ``"16x16"``.

    Raises
    ------
    InputError
        If the target has no such groups.
    """
    boundaries = list(attrs.get("group_boundaries", [0]))
    resolutions = [f"{shape[-2]}x{shape[-1]}" for shape in attrs.get("group_shapes", [])]
    count = resolutions.index(groups) + 1 if groups in resolutions else groups
    if not isinstance(count, int) or not 1 <= count < len(boundaries):
        there = ", ".join(dict.fromkeys(resolutions))
        raise InputError(
            "the target does not have these groups",
            given=f"groups={groups!r}",
            expected=f"1 to {len(boundaries) - 1}, or one of {there}" if there else "a target of groups, as vdvae is",
            todo="choose another number of groups or resolution",
        )
    return int(boundaries[count])
