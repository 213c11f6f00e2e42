"""Images from the latents of a VDVAE: a blurry picture of the layout, Brain-Diffuser's first stage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from neurorecon.generators.base import Generator
from neurorecon.models.load import WeightsSource, load_vdvae_of, seed_of, source, vdvae_config

if TYPE_CHECKING:
    from torch import Tensor


class VdvaeGenerator(Generator):
    """Decode the latents of the first groups of a VDVAE; the other groups come from its prior.

    The condition ``latents``, shape (stimulus, feature), holds any number of first groups, flattened as the target
    ``vdvae`` is. Images are 64 pixels wide.

    Parameters
    ----------
    models : {"bundled", "published"} or path
        Which weights.
    temperature : float
        Factor of the standard deviation of the prior of the other groups. With 0 their means are used, and the image
        does not depend on the seed. Brain-Diffuser's released code draws them (1).
    pixels : {"mean", "mode", "sample"}
        Mean of the distribution of each pixel, its most probable component, or a sample (released code).
    device, dtype, batch_size
        As in :class:`~neurorecon.generators.base.Generator`.

    References
    ----------
    Child (2021), arXiv 2011.10650; Ozcelik & VanRullen (2023), arXiv 2303.05334.
    """

    name: ClassVar[str] = "vdvae"
    required: ClassVar[tuple[str, ...]] = ("latents",)

    def __init__(
        self,
        models: str | Path = "bundled",
        *,
        temperature: float = 0.0,
        pixels: Literal["mean", "mode", "sample"] = "mean",
        device: str | None = None,
        dtype: str = "float32",
        batch_size: int | None = None,
    ) -> None:
        self.models = models
        self.temperature = temperature
        self.pixels = pixels
        self.device = device
        self.dtype = dtype
        self.batch_size = batch_size

    @cached_property
    def weights(self) -> tuple[WeightsSource, ...]:
        """The weights of the VDVAE."""
        return (source("vdvae", self.models),)

    @property
    def conditions(self) -> Mapping[str, tuple[int | None, ...]]:
        """The latents of any number of first groups."""
        return {"latents": (None,)}

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Shape (y, x, rgb) of the images."""
        size = vdvae_config(self.weights[0]).image_size
        return size, size, 3

    def make(self, stimuli: Sequence[str], conditions: Mapping[str, Tensor], seed: int) -> Tensor:
        """Generate one batch, shape (stimulus, rgb, y, x)."""
        import torch

        network = _network(self.weights[0], self.torch_device, self.dtype)
        latents = conditions["latents"]
        if self.temperature == 0 and self.pixels != "sample":
            return self._decode(network, latents, None)
        # One by one: the noise of a stimulus must not depend on the rest of the batch.
        parts = []
        for number, stimulus in enumerate(stimuli):
            generator = torch.Generator(self.torch_device).manual_seed(seed_of(seed, stimulus))
            parts.append(self._decode(network, latents[number : number + 1], generator))
        return torch.cat(parts)

    def _decode(self, network: Any, latents: Tensor, generator: Any) -> Tensor:
        groups = network.unflatten(latents)
        images: Tensor = network.decode(groups, temperature=self.temperature, pixels=self.pixels, generator=generator)
        return images


@lru_cache(maxsize=1)
def _network(found: WeightsSource, device: str, dtype: str) -> Any:
    """Load a VDVAE, and keep the last one."""
    import torch

    return load_vdvae_of(found, device).to(getattr(torch, dtype))
