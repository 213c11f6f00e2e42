"""One thing in a scene, and how much of it is seen."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from neurorecon.datasets.scenes.vocabulary import TRAITS


@dataclass(frozen=True)
class SceneObject:
    """One thing in a scene, at time 0.

    Parameters
    ----------
    kind, category, color : str
        Names from the vocabulary.
    x, y : float
        Center of its box, in image widths from the center of the image; x to the right, y downward.
    size : float
        Height of its box as a share of the image's height.
    depth : float
        0 (near) to 1 (at the horizon).
    facing : int
        1 looks to the right, -1 to the left.
    velocity : (float, float)
        Of the object in the world (before the camera moves), image widths per second; zero in still images.
    visible : float
        Share of its silhouette that lies in the image and is not hidden by something nearer.
    style : int
        Seed of everything else about its looks: pose, proportions, details.
    """

    kind: str
    category: str
    color: str
    x: float
    y: float
    size: float
    depth: float
    facing: int
    velocity: tuple[float, float] = (0.0, 0.0)
    visible: float = 1.0
    style: int = 0

    @property
    def width(self) -> float:
        """Width of its box, in image widths."""
        return self.size * TRAITS[self.kind].aspect

    @property
    def ground(self) -> float:
        """Where its foot is, from 0 (top of the image) to 1 (bottom)."""
        return self.y + 0.5 + self.size / 2


def visible_shares(objects: Iterable[SceneObject], grid: int = 40) -> list[float]:
    """Return for each object the share of its silhouette that is in the image and not hidden.

    Silhouettes are taken as evenly filled boxes: ``Traits.fill`` of a box hides what is behind it.

    Parameters
    ----------
    objects : iterable of SceneObject
    grid : int
        Cells along each side of the image.
    """
    objects = list(objects)
    edges = np.linspace(-0.5, 0.5, grid + 1)
    free = np.ones((grid, grid))
    shares = [0.0] * len(objects)
    for number in sorted(range(len(objects)), key=lambda n: paint_order(objects[n]), reverse=True):
        item = objects[number]
        columns = _overlap(edges, item.x - item.width / 2, item.x + item.width / 2)
        rows = _overlap(edges, item.y - item.size / 2, item.y + item.size / 2)
        inside = np.outer(rows, columns)
        box = item.width * item.size * grid * grid
        shares[number] = float(min(1.0, (inside * free).sum() / box))
        free *= 1.0 - TRAITS[item.kind].fill * inside
    return shares


def paint_order(item: SceneObject) -> float:
    """Return the key by which objects are painted: what is far comes first."""
    if item.category == "room":
        return -10.0
    return (10.0 if item.category == "face" else 0.0) - item.depth


def covered_share(item: SceneObject) -> float:
    """Return the share of the image that the visible part of an object covers."""
    return item.visible * item.size * item.width * TRAITS[item.kind].fill


def _overlap(edges: np.ndarray, low: float, high: float) -> np.ndarray:
    """Return how much of each cell lies between `low` and `high`, shape (cell,)."""
    inside = np.minimum(edges[1:], high) - np.maximum(edges[:-1], low)
    return np.clip(inside, 0, None) / (edges[1] - edges[0])
