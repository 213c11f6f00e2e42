"""Where voxels lie: a volume, or the two hemispheres of a surface."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from neurorecon.datasets.images import check_grid, image_values, open_image
from neurorecon.datasets.nsd.betas import wrong_shape
from neurorecon.datasets.nsd.layout import DOWNLOAD
from neurorecon.datasets.nsd.mgh import read_header, read_values
from neurorecon.space import Space

#: Vertices of a hemisphere of FreeSurfer's average brain, by resolution. NSD has the finest; coarser ones are its
#: first vertices.
MESHES = {163842: "fsaverage", 40962: "fsaverage6", 10242: "fsaverage5", 2562: "fsaverage4", 642: "fsaverage3"}


@dataclass(frozen=True)
class Volume:
    """A volume; voxels are counted with x fastest.

    Parameters
    ----------
    shape : tuple of int
        (x, y, z).
    affine : array, shape (4, 4)
        Indices to millimeters.
    like : str
        The file that says so, for messages.
    """

    shape: tuple[int, ...]
    affine: np.ndarray
    like: str

    @property
    def size(self) -> int:
        """Number of voxels."""
        return int(np.prod(self.shape))

    def read(self, paths: list[Path]) -> np.ndarray:
        """Read a file with one value a voxel, shape (voxel,); it has to lie on this grid."""
        (path,) = paths
        image = open_image(path, DOWNLOAD)
        shape = image.shape[:3] if image.shape[3:] == (1,) else image.shape
        check_grid(path, shape, image.affine, self.like, self.shape, self.affine)
        return image_values(image, path, todo=DOWNLOAD).ravel(order="F")

    def table(self, voxels: np.ndarray) -> pd.DataFrame:
        """Return the columns that say where voxels lie."""
        i, j, k = np.unravel_index(voxels, self.shape, order="F")
        return pd.DataFrame({"i": i, "j": j, "k": k})

    def space(self) -> Space:
        """Return the space of the voxels."""
        return Space("volume", affine=self.affine.tolist(), shape=list(self.shape))


@dataclass(frozen=True)
class Surface:
    """Two hemispheres; vertices are counted through, the left ones first.

    Parameters
    ----------
    vertices : tuple of int
        Of the left and of the right hemisphere.
    """

    vertices: tuple[int, int]

    @property
    def size(self) -> int:
        """Number of vertices."""
        return sum(self.vertices)

    def read(self, paths: list[Path]) -> np.ndarray:
        """Read a file a hemisphere with one value a vertex, shape (vertex,)."""
        found = []
        for path, number in zip(paths, self.vertices, strict=True):
            shape = read_header(path).shape
            if int(np.prod(shape)) != number:
                raise wrong_shape(path, shape, f"({number}, 1, 1): a value a vertex, as in the betas")
            found.append(read_values(path))
        return np.concatenate(found)

    def table(self, voxels: np.ndarray) -> pd.DataFrame:
        """Return the columns that say where vertices lie."""
        right = voxels >= self.vertices[0]
        return pd.DataFrame(
            {"hemisphere": np.where(right, "right", "left"), "vertex": voxels - right * self.vertices[0]}
        )

    def space(self) -> Space:
        """Return the space of the vertices."""
        left, right = self.vertices
        return Space("surface", mesh=MESHES.get(left, "fsaverage"), vertices={"left": left, "right": right})


Grid = Volume | Surface


def volume_of(path: Path) -> Volume:
    """Return the grid that a file lies on."""
    image: Any = open_image(path, DOWNLOAD)
    return Volume(tuple(image.shape[:3]), np.asarray(image.affine, dtype=float), path.name)


def surface_of(paths: list[Path]) -> Surface:
    """Return the surface that two files lie on, left and right."""
    left, right = (read_header(path).shape[0] for path in paths)
    return Surface((left, right))
