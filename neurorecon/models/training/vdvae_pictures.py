"""Pictures that show what a VDVAE can do: samples from its prior, and what its first groups keep of scenes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor


@torch.no_grad()
def from_prior(network: Any, count: int, temperature: Callable[[int], float], batch: int = 50) -> np.ndarray:
    """Return samples from the prior of a VDVAE, uint8, shape (picture, y, x, rgb); temperatures by side of a group."""
    generator = torch.Generator().manual_seed(0)
    temperatures = [temperature(shape[-1]) for shape in network.group_shapes]
    parts = [
        network.sample(min(batch, count - start), temperature=temperatures, generator=generator)
        for start in range(0, count, batch)
    ]
    return np.concatenate([_as_pixels(part) for part in parts])


@torch.no_grad()
def rebuild(network: Any, scenes: np.ndarray, groups: int, batch: int = 50) -> np.ndarray:
    """Return what the first groups of a VDVAE keep of scenes; the other groups are the means of the prior."""
    parts = []
    for start in range(0, len(scenes), batch):
        images = torch.from_numpy(scenes[start : start + batch]).permute(0, 3, 1, 2)
        parts.append(_as_pixels(network.decode(network.encode(images, groups=groups), temperature=0.0)))
    return np.concatenate(parts)


def _as_pixels(images: Tensor) -> np.ndarray:
    scaled = (images.detach() * 255.0).round().clamp(0, 255).to(torch.uint8)
    return scaled.permute(0, 2, 3, 1).cpu().numpy()
