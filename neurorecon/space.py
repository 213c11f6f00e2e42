"""The space of a subject's voxels, and how a vector of voxel values becomes a brain image again.

A :class:`Space` can be serialized to JSON (each subject of a store has one in its attributes). It does not depend on
stores or data sets.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from neurorecon.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

SpaceKind = Literal["volume", "surface", "grayordinates", "none"]

#: Columns that the voxel table has in each kind of space.
SPACE_COLUMNS: dict[str, tuple[str, ...]] = {
    "volume": ("i", "j", "k"),
    "surface": ("hemisphere", "vertex"),
    "grayordinates": ("structure", "vertex", "i", "j", "k"),
    "none": (),
}


@dataclass(frozen=True)
class Space:
    """The space of one subject's voxels.

    Parameters
    ----------
    kind : {"volume", "surface", "grayordinates", "none"}
        ``"none"`` is for arrays without positions.
    affine : nested list, shape (4, 4), optional
        Maps voxel indices to millimeters (volume, grayordinates).
    shape : list of int, optional
        Shape of the volume, (x, y, z), in voxels.
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
        """Create a space from the output of :meth:`to_dict`."""
        return cls(**values)

    def unmask(self, values: np.ndarray, voxels: pd.DataFrame, fill: float = np.nan) -> Any:
        """Convert voxel values to a brain image.

        Parameters
        ----------
        values : array, shape (voxel,) or (map, voxel)
            One or several maps, in the order of `voxels`.
        voxels : DataFrame
            The voxel table, one row per voxel, with the columns of :data:`SPACE_COLUMNS`.
        fill : float
            Value outside the voxels (ignored for grayordinates).

        Returns
        -------
        nibabel.Nifti1Image, nilearn.surface.SurfaceImage or nibabel.Cifti2Image
            Depending on the kind of the space.

        Raises
        ------
        InputError
            If the number of values does not match the voxels, or the voxels have no positions.
        """
        values = np.asarray(values, dtype=np.float32)
        if values.shape[-1:] != (len(voxels),) or values.ndim not in (1, 2):
            raise InputError(
                "the values do not match the voxels",
                given=f"an array of shape {values.shape}",
                expected=f"shape ({len(voxels)},) or (map, {len(voxels)})",
                todo="pass one value per voxel of the subject, or the same roi= that selected the voxels",
            )
        if self.kind == "volume":
            return _to_volume(self, values, voxels, fill)
        if self.kind == "surface":
            return _to_surface(self, values, voxels, fill)
        if self.kind == "grayordinates":
            return _to_cifti(self, values, voxels)
        raise InputError(
            "the voxels of this subject have no positions, so their values cannot be shown as a brain image",
            given="a store whose space is 'none' (arrays without positions)",
            expected="a volume, a surface or grayordinates",
            todo="build the store from data with an affine or a mesh; tables and bar plots do not need one",
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

    if space.mesh == "nativesurface":
        raise InputError(
            "the mesh of the subject's own surface is not in the store",
            given=f"mesh {space.mesh!r}",
            expected="an average surface, fsaverage to fsaverage7",
            todo="use neurorecon.space.surface_values(space, values, voxels), which needs no mesh",
        )
    data = surface_values(space, values, voxels, fill)
    data = {side: part[:, 0] if values.ndim == 1 else part for side, part in data.items()}
    return SurfaceImage(mesh=load_fsaverage(space.mesh)["pial"], data=data)


def surface_values(
    space: Space, values: np.ndarray, voxels: pd.DataFrame, fill: float = np.nan
) -> dict[str, np.ndarray]:
    """Return maps on all vertices of both hemispheres. This takes no mesh, which may have to be downloaded.

    Parameters
    ----------
    space : Space
        A surface.
    values : array, shape (voxel,) or (map, voxel)
        One or several maps, in the order of `voxels`.
    voxels : DataFrame
        The voxel table.
    fill : float
        Value of the other vertices.

    Returns
    -------
    dict of str to array, shape (vertex, map), float32
        Keys ``"left"`` and ``"right"``.
    """
    maps = np.atleast_2d(values)
    data = {}
    for hemisphere in ("left", "right"):
        part = np.full((space.vertices[hemisphere], len(maps)), fill, dtype=np.float32)
        rows = (voxels["hemisphere"] == hemisphere).to_numpy()
        part[voxels["vertex"].to_numpy()[rows]] = maps.T[rows]
        data[hemisphere] = part
    return data


def _to_cifti(space: Space, values: np.ndarray, voxels: pd.DataFrame) -> Any:
    import nibabel
    from nibabel import cifti2

    maps = np.atleast_2d(values)
    # The voxels of a structure must be contiguous on a CIFTI brain-model axis.
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


def volume_order(space: Space, voxels: pd.DataFrame) -> np.ndarray:
    """Return the order of voxels in ``array[mask]``, for arrays with the axes of the space.

    Parameters
    ----------
    space : Space
        A volume, or a surface, whose hemispheres are joined, left first.
    voxels : DataFrame
        The voxel table.

    Returns
    -------
    int array, shape (voxel,)
        Indices that sort the voxels.

    Raises
    ------
    InputError
        If the space is neither.
    """
    if space.kind == "volume":
        return np.lexsort([voxels[axis].to_numpy() for axis in ("k", "j", "i")])
    if space.kind == "surface":
        return np.lexsort([voxels["vertex"].to_numpy(), (voxels["hemisphere"] == "right").to_numpy()])
    raise InputError(
        "the voxels of this subject have no order of their own",
        given=f"a store whose space is {space.kind!r}",
        expected="a volume or a surface",
        todo="leave order out",
    )


def hemispheres(space: Space, voxels: pd.DataFrame) -> np.ndarray | None:
    """Return the hemisphere of each voxel, or None if the space has no left and right.

    Parameters
    ----------
    space : Space
        The space of the voxels.
    voxels : DataFrame
        The voxel table.

    Returns
    -------
    array of str, shape (voxel,), or None
        ``"left"``, ``"right"`` or ``""``. In a volume whose data set does not tell, voxels with x < 0 mm are left.
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
