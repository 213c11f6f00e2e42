"""What is known of a scene without looking at it: what the first groups at 1 x 1 are to tell."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from neurorecon.datasets.scenes.scene import Scene, label_table
from neurorecon.datasets.scenes.vocabulary import COLORS, KINDS, LIGHTINGS, SETTINGS

#: Names of the main object's kind and color, of the place and of the light.
NAMES = (tuple(KINDS), tuple(COLORS), tuple(SETTINGS), tuple(LIGHTINGS))

#: Numbers that change their sign in a mirrored scene: the main object's place from left to right, where it looks.
_MIRRORED = (0, 1)

#: How much more an error weighs on the main object than elsewhere. It covers little of most scenes, and a squared
#: error alone would tell of its surroundings first.
_MORE_ON_OBJECTS = 3.0


@dataclass(frozen=True)
class Described:
    """Labels of scenes, each scene followed by all mirrored ones.

    Parameters
    ----------
    classes : Tensor, shape (scene, 4)
        Numbers of the :data:`NAMES`.
    numbers : Tensor, shape (scene, number)
        Place, direction and size of the main object, height of the horizon, share of each category, and layout;
        standardized.
    weights : Tensor, shape (scene, 1, y, x)
        Of errors, 8 x 8: more where the main object is.
    """

    classes: Tensor
    numbers: Tensor
    weights: Tensor

    @classmethod
    def of(cls, scenes: list[Scene]) -> Described:
        """Describe scenes."""
        mains = [scene.main for scene in scenes]
        chosen = zip(
            [main.kind for main in mains],
            [main.color for main in mains],
            [scene.setting for scene in scenes],
            [scene.lighting for scene in scenes],
            strict=True,
        )
        classes = torch.tensor([[names.index(one) for names, one in zip(NAMES, row, strict=True)] for row in chosen])
        where = [[main.x, main.facing, main.y, main.size] for main in mains]
        numbers = torch.tensor(np.hstack([where, label_table(scenes).to_numpy()]), dtype=torch.float32)
        numbers = (numbers - numbers.mean(0)) / numbers.std(0, correction=0).clamp(min=1e-3)
        signs = torch.ones(numbers.shape[1])
        signs[list(_MIRRORED)] = -1.0
        weights = torch.from_numpy(np.stack([_weights(scene) for scene in scenes]))[:, None]
        return cls(classes.repeat(2, 1), torch.cat([numbers, numbers * signs]), torch.cat([weights, weights.flip(-1)]))

    def rows(self, rows: Tensor, device: str) -> Described:
        """Return some of them, on a device."""
        return Described(*(part[rows].to(device) for part in (self.classes, self.numbers, self.weights)))


def _weights(scene: Scene) -> np.ndarray:
    main = scene.main
    if scene.kind == "film" or main.category == "room":  # in films things move; a room is everywhere
        return np.ones((8, 8), dtype=np.float32)
    inside = np.outer(_covered(main.y, main.size), _covered(main.x, main.width))
    return (1 + _MORE_ON_OBJECTS * inside).astype(np.float32)


def _covered(center: float, extent: float) -> np.ndarray:
    """Return the share of each of eight cells along a side of the picture that a box covers."""
    edges = np.linspace(-0.5, 0.5, 9)
    inside = np.minimum(edges[1:], center + extent / 2) - np.maximum(edges[:-1], center - extent / 2)
    return np.clip(inside * 8, 0, 1)
