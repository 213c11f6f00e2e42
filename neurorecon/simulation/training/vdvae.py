"""The small VDVAE: Child's network and loss, trained to describe scenes in as few bits as it can."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from neurorecon.models.vdvae import SMALL, VDVAE
from neurorecon.simulation.training.loop import Loss, Plan, on_device


@torch.no_grad()
def from_prior(network: Any, count: int, temperature: Callable[[int], float], batch: int = 50) -> np.ndarray:
    """Return samples from the prior of a VDVAE, uint8, shape (image, y, x, rgb); temperatures by side of a group."""
    generator = torch.Generator().manual_seed(0)
    temperatures = [temperature(shape[-1]) for shape in network.group_shapes]
    parts = [
        network.sample(min(batch, count - start), temperature=temperatures, generator=generator)
        for start in range(0, count, batch)
    ]
    return np.concatenate([_as_pixels(part) for part in parts])


@torch.no_grad()
def reconstruct(network: Any, scenes: np.ndarray, groups: int, batch: int = 50) -> np.ndarray:
    """Return what the first groups of a VDVAE keep of scenes; the other groups are the means of the prior."""
    parts = []
    for start in range(0, len(scenes), batch):
        images = torch.from_numpy(scenes[start : start + batch]).permute(0, 3, 1, 2)
        parts.append(_as_pixels(network.decode(network.encode(images, groups=groups), temperature=0.0)))
    return np.concatenate(parts)


def _as_pixels(images: Tensor) -> np.ndarray:
    scaled = (images.detach() * 255.0).round().clamp(0, 255).to(torch.uint8)
    return scaled.permute(0, 2, 3, 1).cpu().numpy()


PLAN = Plan(
    "vdvae", steps=6_000, batch=8, learning_rate=1e-3, weight_decay=0.01, warmup=200, average=0.995, clip=20.0, hold=0.5
)

#: Small, but with bottlenecks wide enough at 32 and 64 pixels to draw edges.
CONFIG = replace(
    SMALL,
    width=16,
    bottleneck_multiple=0.5,
    num_mixtures=2,
    encoder_blocks="64d2,32x1,32d2,16x1,16d2,8x2,8d2,4x2,4d4,1x1",
    decoder_blocks="1x12,4m1,4x5,8m4,8x6,16m8,16x3,32m16,32x2,64m32",
    custom_widths="32:40,16:80,8:96,4:96,1:128",
)

#: Weight of the rate. Below 1 the latents may say more than the likelihood alone would pay for, so that a short
#: training gets to details (Higgins et al., 2017, ICLR, the other way round).
_RATE = 0.25


def make() -> nn.Module:
    """Return a network with random weights."""
    torch.manual_seed(PLAN.seed)
    return VDVAE(CONFIG)


def loss(pixels: np.ndarray, device: str) -> Loss:
    """Return the evidence lower bound of a batch with a lighter rate, in bits per value of a pixel.

    Parameters
    ----------
    pixels : array, shape (scene, y, x, rgb)
        uint8.
    device : str
    """

    def compute(network: Any, rows: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        images = mirrored_at_random(pixels[rows.numpy()], device, generator)
        found = network.loss(images, generator=on_device(generator, device))
        total = found["distortion"] + _RATE * found["rate"]
        return {"loss": total, "distortion": found["distortion"].detach(), "rate": found["rate"].detach()}

    return compute


def mirrored_at_random(pixels: np.ndarray, device: str, generator: torch.Generator) -> Tensor:
    """Return scenes (scene, y, x, rgb) as images (image, rgb, y, x), every other one mirrored."""
    images = torch.from_numpy(pixels).to(device).permute(0, 3, 1, 2)
    flip = torch.rand(len(images), 1, 1, 1, generator=generator).to(device) < 0.5
    return torch.where(flip, images.flip(-1), images)


def groups_up_to(network: VDVAE, side: int) -> int:
    """Return how many groups are no finer than a side."""
    return sum(shape[-1] <= side for shape in network.group_shapes)
