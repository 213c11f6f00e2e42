"""The autoencoder: diffusers' ``AutoencoderKL`` at a quarter of the resolution, in the role of Stable Diffusion's."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from neurorecon.simulation.training.loop import Loss, Plan

PLAN = Plan("autoencoder", steps=12_000, batch=4, learning_rate=1.5e-3, weight_decay=1e-4, warmup=100, average=0.998)

CONFIG: dict[str, Any] = {
    "in_channels": 3,
    "out_channels": 3,
    "down_block_types": ["DownEncoderBlock2D"] * 3,
    "up_block_types": ["UpDecoderBlock2D"] * 3,
    "block_out_channels": [16, 32, 80],
    "layers_per_block": 1,
    "latent_channels": 6,
    "norm_num_groups": 8,
    "sample_size": 64,
    "mid_block_add_attention": False,
}

#: Weight of the Kullback-Leibler divergence of each latent value; just enough to keep the latents near unit scale.
_DIVERGENCE = 1e-6

#: Weight of errors in the opponent colors. They are small beside those in brightness, and would be learned last.
_HUE = 10.0


def make(config: dict[str, Any] | None = None) -> nn.Module:
    """Return a network with random weights."""
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

    torch.manual_seed(PLAN.seed)
    network: nn.Module = AutoencoderKL(**(config or CONFIG))
    return network


def loss(pixels: np.ndarray, device: str) -> Loss:
    """Return the loss of a batch: absolute and squared error of the reconstruction from a sampled latent.

    Parameters
    ----------
    pixels : array, shape (scene, y, x, rgb)
        uint8.
    device : str
    """

    def compute(network: Any, rows: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        images = scaled(pixels[np.sort(rows.numpy())], device)
        flip = torch.rand(len(images), 1, 1, 1, generator=generator).to(device) < 0.5
        images = torch.where(flip, images.flip(-1), images)
        moments = network.quant_conv(network.encoder(images))
        mean, logvar = moments.chunk(2, dim=1)
        logvar = logvar.clamp(-30.0, 10.0)
        noise = torch.randn(mean.shape, generator=generator).to(device)
        decoded = network.decoder(network.post_quant_conv(mean + (0.5 * logvar).exp() * noise))
        difference = decoded - images
        squared = difference.square().mean()
        divergence = 0.5 * (mean.square() + logvar.exp() - 1.0 - logvar).sum(dim=(1, 2, 3)).mean()
        red, green, blue = difference.unbind(dim=1)
        hue = (red - green).square().mean() + (0.5 * (red + green) - blue).square().mean()
        total = difference.abs().mean() + 10.0 * squared + _HUE * hue + _DIVERGENCE * divergence
        # Pixels run from -1 to 1: the peak is 2.
        quality = 10.0 * torch.log10(4.0 / squared.detach())
        return {"loss": total, "psnr": quality, "divergence": divergence.detach()}

    return compute


def scaled(pixels: np.ndarray, device: str = "cpu") -> Tensor:
    """Return uint8 images (scene, y, x, rgb) as float32 from -1 to 1, (scene, rgb, y, x)."""
    return torch.from_numpy(pixels).to(device).permute(0, 3, 1, 2).float() / 127.5 - 1.0
