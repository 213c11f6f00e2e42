"""Training of the category probe, on drawn scenes that it is not judged on."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from neurorecon.models.probe import Probe, ProbeConfig
from neurorecon.simulation.scene import Scene
from neurorecon.simulation.training.loop import SIZE, Loss, Plan
from neurorecon.simulation.training.perception import scaled, shifted
from neurorecon.simulation.vocabulary import COLORS, KINDS

PLAN = Plan("probe", steps=2_600, batch=64, learning_rate=2e-3, weight_decay=0.02, warmup=100, average=0.995)

CONFIG = ProbeConfig(kinds=tuple(KINDS), colors=tuple(COLORS), categories=tuple(KINDS.values()), size=SIZE)

#: Maximum standard deviation of pixel noise, and maximum change of contrast and brightness.
_NOISE, _CONTRAST, _BRIGHTNESS = 0.12, 0.15, 0.1


def make() -> nn.Module:
    """Return a network with random weights."""
    torch.manual_seed(PLAN.seed)
    return Probe(CONFIG)


def labels(scenes: list[Scene]) -> dict[str, Tensor]:
    """Return the class indices of kind and color, the position (x, y) from 0 to 1, and whether it is known.

    Positions are learned from images only, because objects and camera move in videos.
    """
    kinds, colors = list(KINDS), list(COLORS)
    return {
        "kind": torch.tensor([kinds.index(scene.main.kind) for scene in scenes]),
        "color": torch.tensor([colors.index(scene.main.color) for scene in scenes]),
        "place": torch.tensor([(scene.main.x + 0.5, scene.main.y + 0.5) for scene in scenes], dtype=torch.float32),
        "still": torch.tensor([scene.kind == "image" for scene in scenes]),
    }


def loss(pixels: np.ndarray, truth: dict[str, Tensor], device: str) -> Loss:
    """Return the loss: the cross-entropies of kind and color plus the error of the position.

    Parameters
    ----------
    pixels : array, shape (scene, y, x, rgb)
        uint8.
    truth : dict of Tensor
        Output of :func:`labels`.
    device : str
    """

    def compute(network: Any, rows: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        images = scaled(pixels[rows.numpy()], device)
        flip = torch.rand(len(rows), generator=generator) < 0.5
        place = truth["place"][rows].clone()
        place[flip, 0] = 1.0 - place[flip, 0]
        images = torch.where(flip.to(device)[:, None, None, None], images.flip(-1), images)
        kind, color, where = network(augmented(shifted(images, generator), generator))
        kinds, colors = truth["kind"][rows].to(device), truth["color"][rows].to(device)
        still = truth["still"][rows].to(device)[:, None]
        distance = (functional.smooth_l1_loss(where, place.to(device), beta=0.05, reduction="none") * still).mean()
        total = functional.cross_entropy(kind, kinds, label_smoothing=0.05)
        total = total + functional.cross_entropy(color, colors, label_smoothing=0.05) + distance
        right = (kind.argmax(dim=1) == kinds).float().mean()
        return {
            "loss": total,
            "kind": right,
            "color": (color.argmax(dim=1) == colors).float().mean(),
            "place": distance,
        }

    return compute


def augmented(images: Tensor, generator: torch.Generator) -> Tensor:
    """Slightly blur half of the images; vary the contrast, brightness and noise of all."""

    def draw(low: float, high: float) -> Tensor:
        values = torch.rand(len(images), 1, 1, 1, generator=generator).to(images.device)
        return low + (high - low) * values

    soft = functional.avg_pool2d(functional.pad(images, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    images = torch.lerp(images, soft, torch.relu(draw(-1.0, 1.0)))
    images = images * draw(1.0 - _CONTRAST, 1.0 + _CONTRAST) + draw(-_BRIGHTNESS, _BRIGHTNESS)
    noise = torch.randn(images.shape, generator=generator).to(images.device)
    return images + draw(0.0, _NOISE) * noise
