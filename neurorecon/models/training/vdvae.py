"""The small VDVAE: Child's network and loss, trained to describe scenes in as few bits as it can."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from neurorecon.models.training.loop import Loss, Plan
from neurorecon.models.vdvae import SMALL, VDVAE

PLAN = Plan("vdvae", steps=6_000, batch=8, learning_rate=8e-4, weight_decay=0.01, warmup=300, average=0.998, hold=0.5)

CONFIG = SMALL


def make() -> nn.Module:
    """Return a network with random weights."""
    torch.manual_seed(PLAN.seed)
    return VDVAE(CONFIG)


def loss(pixels: np.ndarray, device: str) -> Loss:
    """Return the evidence lower bound of a batch, in bits per value of a pixel.

    Parameters
    ----------
    pixels : array, shape (scene, y, x, rgb)
        uint8.
    device : str
    """

    def compute(network: Any, rows: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        images = torch.from_numpy(pixels[rows.numpy()]).to(device).permute(0, 3, 1, 2)
        flip = torch.rand(len(rows), 1, 1, 1, generator=generator).to(device) < 0.5
        images = torch.where(flip, images.flip(-1), images)
        found = network.loss(images, generator=generator)
        return {"loss": found["elbo"], "distortion": found["distortion"].detach(), "rate": found["rate"].detach()}

    return compute
