"""A small renderer of triangle meshes: exact hidden surfaces, a value for each pixel.

Values are interpolated per pixel and only then turned into colors, so that a color in the picture is always
one of the color bar. Quicker and cleaner than drawing 20,000 polygons as vectors; a picture of a hemisphere
takes some tenths of a second.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from neurorecon.errors import UnknownNameError

#: Directions: (towards the viewer, up) for the left hemisphere; in the right one x is mirrored.
VIEWS: dict[str, tuple[tuple[float, float, float], tuple[float, float, float]]] = {
    "lateral": ((-1, 0, 0), (0, 0, 1)),
    "medial": ((1, 0, 0), (0, 0, 1)),
    "ventral": ((0, 0, -1), (-1, 0, 0)),
    "dorsal": ((0, 0, 1), (1, 0, 0)),
    "posterior": ((0, -1, 0), (0, 0, 1)),
    "anterior": ((0, 1, 0), (0, 0, 1)),
    "flat": ((0, 0, 1), (0, 1, 0)),
}


@dataclass(frozen=True)
class Raster:
    """Which face each pixel shows; only pixels that show one are kept.

    Parameters
    ----------
    shape : (int, int)
        Size (y, x) of the picture.
    pixel : array of int, shape (pixel,)
        Where the pixel lies: row * width + column.
    face : array of int, shape (pixel,)
        Index of the face that it shows.
    weights : array, shape (pixel, 3)
        Barycentric weights of the three corners.
    depth : array, shape (y, x)
        Towards the viewer; -inf for the background.
    """

    shape: tuple[int, int]
    pixel: np.ndarray
    face: np.ndarray
    weights: np.ndarray
    depth: np.ndarray

    def interpolate(self, values: np.ndarray, faces: np.ndarray) -> np.ndarray:
        """Interpolate vertex values (vertex,) or (vertex, map) to pixels (pixel,) or (pixel, map)."""
        result = 0.0
        for corner in range(3):
            weight = self.weights[:, corner]
            part = values[faces[self.face, corner]]
            result = result + part * (weight if values.ndim == 1 else weight[:, None])
        return np.asarray(result)

    def picture(self, values: np.ndarray, background: float = 0.0) -> np.ndarray:
        """Put pixels (pixel, ...) into a picture (y, x, ...)."""
        full = np.full((self.shape[0] * self.shape[1], *values.shape[1:]), background, dtype=values.dtype)
        full[self.pixel] = values
        return full.reshape(*self.shape, *values.shape[1:])


def view_axes(view: str, hemisphere: str) -> np.ndarray:
    """Return the axes of a view as rows: right, up, towards the viewer."""
    if view not in VIEWS:
        raise UnknownNameError("view", view, VIEWS)
    toward, up = (np.array(axis, dtype=float) for axis in VIEWS[view])
    if hemisphere == "right" and view != "flat":
        toward[0], up[0] = -toward[0], -up[0]
    return np.array([np.cross(up, toward), up, toward])


def rasterize(points: np.ndarray, faces: np.ndarray, shape: tuple[int, int]) -> Raster:
    """Find the face that each pixel shows.

    Parameters
    ----------
    points : array, shape (vertex, 3)
        x to the right and y *downwards* in pixels, depth towards the viewer.
    faces : array of int, shape (face, 3)
        Corners; faces seen from behind are left out.
    shape : (int, int)
        Size (y, x) of the picture.
    """
    corners = points[faces]
    flat = corners[..., :2]
    first, second = flat[:, 1] - flat[:, 0], flat[:, 2] - flat[:, 0]
    area = first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0]
    low = np.maximum(np.ceil(flat.min(axis=1) - 0.5), 0).astype(np.int64)
    high = np.minimum(np.floor(flat.max(axis=1) - 0.5), (shape[1] - 1, shape[0] - 1)).astype(np.int64)
    size = np.maximum(high - low + 1, 0)
    # y runs downwards, so a face that is counterclockwise in space has a negative area here.
    kept = np.flatnonzero((area < 0) & (size.prod(axis=1) > 0))
    count = size[kept].prod(axis=1)
    face = np.repeat(kept, count)
    within = np.arange(len(face)) - np.repeat(np.cumsum(count) - count, count)
    x = low[face, 0] + within % size[face, 0]
    y = low[face, 1] + within // size[face, 0]
    right, down = x + 0.5 - flat[face, 0, 0], y + 0.5 - flat[face, 0, 1]
    second_weight = (right * second[face, 1] - down * second[face, 0]) / area[face]
    third_weight = (first[face, 0] * down - first[face, 1] * right) / area[face]
    inside = np.flatnonzero((second_weight >= 0) & (third_weight >= 0) & (second_weight + third_weight <= 1))
    face, second_weight, third_weight = face[inside], second_weight[inside], third_weight[inside]
    pixel = y[inside] * shape[1] + x[inside]
    weights = np.stack([1 - second_weight - third_weight, second_weight, third_weight], axis=1)
    depth = (corners[face, :, 2] * weights).sum(axis=1)
    nearest = np.full(shape[0] * shape[1], -np.inf)
    np.maximum.at(nearest, pixel, depth)
    front = np.flatnonzero(depth == nearest[pixel])
    winner = np.full(shape[0] * shape[1], -1)
    # Two faces are only equally near on the edge that they share; there either will do.
    winner[pixel[front]] = front
    kept = winner[winner >= 0]
    return Raster(shape, pixel[kept], face[kept], weights[kept], nearest.reshape(shape))


def vertex_normals(coordinates: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Return unit normals per vertex, (vertex, 3), pointing outwards."""
    corners = coordinates[faces]
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    summed = np.stack(
        [np.bincount(faces.ravel(), np.repeat(normal[:, axis], 3), len(coordinates)) for axis in range(3)],
        axis=1,
    )
    return summed / np.maximum(np.linalg.norm(summed, axis=1, keepdims=True), 1e-12)


def sulcal_gray(depth: np.ndarray) -> np.ndarray:
    """Turn sulcal depth into a light gray: gyri bright, sulci darker, with a soft border."""
    return 0.80 - 0.10 * np.tanh(depth / 0.15)


def shade(normal_toward_viewer: np.ndarray, strength: float) -> np.ndarray:
    """Return a factor of brightness: 1 where the surface faces the viewer, darker towards the rim."""
    return 1 - strength * (1 - np.clip(normal_toward_viewer, 0, 1)) ** 1.5
