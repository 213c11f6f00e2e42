"""Where voxels lie, and the way back from a vector of values to an image of the brain.

A :class:`Space` is small, serializable to JSON (it is stored in the attributes of each subject) and knows nothing
of stores or data sets.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from neurorecon.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

SpaceKind = Literal["volume", "surface", "grayordinates", "none"]

#: Columns of the voxel table that each kind of space needs.
SPACE_COLUMNS: dict[str, tuple[str, ...]] = {
    "volume": ("i", "j", "k"),
    "surface": ("hemisphere", "vertex"),
    "grayordinates": ("structure", "vertex", "i", "j", "k"),
    "none": (),
}


@dataclass(frozen=True)
class Space:
    """The space that the voxels of one subject lie in.

    Parameters
    ----------
    kind : {"volume", "surface", "grayordinates", "none"}
        ``"none"`` is for arrays that came without any geometry.
    affine : nested list, shape (4, 4), optional
        Voxel indices to millimeters (volume, grayordinates).
    shape : list of int, optional
        Size of the volume, (x, y, z), in voxels.
    mesh : str, optional
        Name of the surface mesh, e.g. ``"fsaverage5"``.
    vertices : dict of str to int, optional
        Number of vertices per hemisphere (surface, keys ``left`` and ``right``) or per structure (grayordinates).
    """

    kind: SpaceKind = "none"
    affine: list[list[float]] | None = None
    shape: list[int] | None = None
    mesh: str | None = None
    vertices: dict[str, int] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the space as plain JSON types."""
        return {
            "kind": self.kind,
            "affine": self.affine,
            "shape": self.shape,
            "mesh": self.mesh,
            "vertices": self.vertices,
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Space:
        """Build a space from what :meth:`to_dict` returned."""
        return cls(**values)

    def unmask(self, values: np.ndarray, voxels: pd.DataFrame, fill: float = np.nan) -> Any:
        """Put values back into the brain.

        Parameters
        ----------
        values : array, shape (voxel,) or (map, voxel)
            One or several maps, in the order of `voxels`.
        voxels : DataFrame
            The voxel table, one row a voxel, with the columns of :data:`SPACE_COLUMNS`.
        fill : float
            Value where there is no voxel.

        Returns
        -------
        nibabel.Nifti1Image, nilearn.surface.SurfaceImage or nibabel.Cifti2Image
            As the space is a volume, a surface or grayordinates.

        Raises
        ------
        InputError
            Where the number of values does not match, or the space has no geometry.
        """
        values = np.asarray(values, dtype=np.float32)
        if values.shape[-1:] != (len(voxels),) or values.ndim not in (1, 2):
            raise InputError(
                "these values do not fit the voxels",
                given=f"an array of shape {values.shape}",
                expected=f"shape ({len(voxels)},) or (map, {len(voxels)})",
                todo="pass one value for each voxel of the subject (or give the same roi= that selected them)",
            )
        if self.kind == "volume":
            return _to_volume(self, values, voxels, fill)
        if self.kind == "surface":
            return _to_surface(self, values, voxels, fill)
        if self.kind == "grayordinates":
            return _to_cifti(self, values, voxels)
        raise InputError(
            "this subject's voxels have no positions, so values cannot be put back into an image",
            given="a store whose space is 'none' (arrays without geometry)",
            expected="a volume, a surface or grayordinates",
            todo="build the store from files that carry an affine or a mesh; tables and bar figures work without",
        )


def _to_volume(space: Space, values: np.ndarray, voxels: pd.DataFrame, fill: float) -> Any:
    import nibabel

    maps = np.atleast_2d(values)
    data = np.full((*space.shape, len(maps)), fill, dtype=np.float32)  # type: ignore[misc]
    data[voxels["i"], voxels["j"], voxels["k"]] = maps.T
    if values.ndim == 1:
        data = data[..., 0]
    return nibabel.Nifti1Image(data, np.asarray(space.affine, dtype=float))


def _to_surface(space: Space, values: np.ndarray, voxels: pd.DataFrame, fill: float) -> Any:
    from nilearn.datasets import load_fsaverage
    from nilearn.surface import SurfaceImage

    maps = np.atleast_2d(values)
    data = {}
    for hemisphere in ("left", "right"):
        part = np.full((space.vertices[hemisphere], len(maps)), fill, dtype=np.float32)
        rows = (voxels["hemisphere"] == hemisphere).to_numpy()
        part[voxels["vertex"].to_numpy()[rows]] = maps.T[rows]
        data[hemisphere] = part[:, 0] if values.ndim == 1 else part
    return SurfaceImage(mesh=load_fsaverage(space.mesh)["pial"], data=data)


def _to_cifti(space: Space, values: np.ndarray, voxels: pd.DataFrame) -> Any:
    import nibabel
    from nibabel import cifti2

    maps = np.atleast_2d(values)
    # A CIFTI brain-model axis holds each structure in one piece, so the maps are put into that order.
    order = np.argsort(voxels["structure"].to_numpy().astype(str), kind="stable")
    table = voxels.iloc[order]
    axis = cifti2.BrainModelAxis(
        table["structure"].to_numpy().astype(str),
        voxel=table[["i", "j", "k"]].to_numpy(),
        vertex=table["vertex"].to_numpy(),
        affine=None if space.affine is None else np.asarray(space.affine, dtype=float),
        volume_shape=None if space.shape is None else tuple(space.shape),
        nvertices=space.vertices,
    )
    names = cifti2.ScalarAxis([f"map {number}" for number in range(len(maps))])
    return nibabel.Cifti2Image(maps[:, order], (names, axis))


def hemispheres(space: Space, voxels: pd.DataFrame) -> np.ndarray | None:
    """Return ``"left"``, ``"right"`` or ``""`` for each voxel, or None where the space has no left and right.

    Parameters
    ----------
    space : Space
        The space of the voxels.
    voxels : DataFrame
        The voxel table.

    Returns
    -------
    array of str, shape (voxel,), or None
        In a volume, voxels left of the midplane (x < 0 in millimeters) are in the left hemisphere.
    """
    if "hemisphere" in voxels:
        return voxels["hemisphere"].to_numpy().astype(str)
    if space.kind == "grayordinates":
        names = voxels["structure"].to_numpy().astype(str)
        left, right = np.char.find(names, "LEFT") >= 0, np.char.find(names, "RIGHT") >= 0
    elif space.kind == "volume":
        affine = np.asarray(space.affine, dtype=float)
        x = voxels[["i", "j", "k"]].to_numpy() @ affine[0, :3] + affine[0, 3]
        left, right = x < 0, x > 0
    else:
        return None
    return np.where(left, "left", np.where(right, "right", ""))
