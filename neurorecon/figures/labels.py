"""Names of areas placed so that they neither lie on each other nor hide the data."""

from __future__ import annotations

import numpy as np

#: What hiding a whole area costs, in the same unit as a shift by one millimeter.
HIDING = 40.0


def place_labels(
    anchors: np.ndarray,
    sizes: np.ndarray,
    areas: np.ndarray,
    occupied: np.ndarray,
    cell: float,
    *,
    gap: float = 0.35,
) -> np.ndarray:
    """Place labels near their anchors, one after the other, each where it hides least.

    Every place on a grid is tried: it costs the way from the anchor, plus how much of an area the label would
    hide. A large area therefore keeps its name inside, a small one has it beside.

    Parameters
    ----------
    anchors : array, shape (label, 2)
        x and y (downwards) in millimeters from the upper left corner of the grid.
    sizes : array, shape (label, 2)
        Width and height, millimeters.
    areas : array, shape (label,)
        How large the named area is in the picture, square millimeters.
    occupied : array of bool, shape (y, x)
        Where data are shown.
    cell : float
        Size of a cell of the grid, millimeters.
    gap : float
        Free space between two labels.

    Returns
    -------
    array, shape (label, 2)
        Centers. No two labels overlap as long as the grid has room for all.
    """
    anchors, sizes = np.asarray(anchors, float).reshape(-1, 2), np.asarray(sizes, float).reshape(-1, 2)
    taken = np.zeros(occupied.shape, dtype=bool)
    centers = np.zeros_like(anchors)
    # Small areas choose first: their names have to stay near to be understood.
    for index in np.argsort(areas, kind="stable"):
        width, height = np.maximum(np.ceil((sizes[index] + gap) / cell).astype(int), 1)
        width, height = min(width, occupied.shape[1]), min(height, occupied.shape[0])
        hidden = _box_sums(occupied, height, width) * cell**2
        blocked = _box_sums(taken, height, width)
        y, x = np.indices(hidden.shape)
        distance = np.hypot(
            (x + width / 2) * cell - anchors[index, 0], ((y + height / 2) * cell - anchors[index, 1]) * 1.15
        )
        cost = distance + HIDING * hidden / max(areas[index], 1e-9) + 1e4 * blocked
        cost = cost.ravel() + _crossing(cost.ravel(), hidden.shape, (height, width), anchors[index] / cell, taken)
        row, column = np.unravel_index(np.argmin(cost), hidden.shape)
        taken[row : row + height, column : column + width] = True
        centers[index] = (column + width / 2) * cell, (row + height / 2) * cell
    return centers


def _crossing(
    cost: np.ndarray, shape: tuple[int, ...], box: tuple[int, int], anchor: np.ndarray, taken: np.ndarray
) -> np.ndarray:
    """Return what the line from anchor to label costs where it runs below other labels."""
    if not taken.any():
        return np.zeros_like(cost)
    extra = np.full_like(cost, 1e5)
    # The line is only followed for the places that are best without it.
    best = np.argsort(cost, kind="stable")[:1500]
    row, column = np.unravel_index(best, shape)
    ends = np.stack([column + box[1] / 2, row + box[0] / 2], axis=1)
    steps = np.linspace(0, 1, 24)[None, :, None]
    line = (anchor + (ends[:, None] - anchor) * steps).astype(int)
    x, y = line[..., 0].clip(0, taken.shape[1] - 1), line[..., 1].clip(0, taken.shape[0] - 1)
    extra[best] = 25.0 * taken[y, x].mean(axis=1)
    return extra


def _box_sums(grid: np.ndarray, height: int, width: int) -> np.ndarray:
    total = np.zeros((grid.shape[0] + 1, grid.shape[1] + 1))
    total[1:, 1:] = grid.cumsum(axis=0).cumsum(axis=1)
    return total[height:, width:] - total[:-height, width:] - total[height:, :-width] + total[:-height, :-width]


def count_overlaps(centers: np.ndarray, sizes: np.ndarray) -> int:
    """Count the pairs of boxes that overlap."""
    centers, half = np.asarray(centers, dtype=float), np.asarray(sizes, dtype=float) / 2
    between = np.abs(centers[None] - centers[:, None])
    touching = (between < half[None] + half[:, None] - 1e-6).all(axis=2)
    return int(np.triu(touching, k=1).sum())
