"""The table of voxels: areas, positions, signal-to-noise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from neurorecon.datasets.arrays.tables import Table
from neurorecon.errors import InputError, UnknownNameError
from neurorecon.space import Space

#: Columns that are no areas.
POSITIONS = ("i", "j", "k", "hemisphere", "vertex")
KNOWN = (*POSITIONS, "ncsnr", "roi", "voxel")

#: Vertices of one hemisphere of FreeSurfer's average brains.
MESHES = {"fsaverage3": 642, "fsaverage4": 2562, "fsaverage5": 10242, "fsaverage6": 40962, "fsaverage7": 163842}
MESHES["fsaverage"] = MESHES["fsaverage7"]

_TRUTH = {"1": True, "1.0": True, "true": True, "0": False, "0.0": False, "false": False, "": False}
_SIDES = {"left": "left", "right": "right", "lh": "left", "rh": "right", "l": "left", "r": "right"}


@dataclass(frozen=True)
class Volume:
    """A brain mask, or the grid alone.

    Parameters
    ----------
    where : str
        Its name in messages.
    shape : tuple of int
        (x, y, z).
    affine : nested list, shape (4, 4)
    mask : bool array, shape (x, y, z), optional
    """

    where: str
    shape: tuple[int, ...]
    affine: list[list[float]]
    mask: np.ndarray | None = None


@dataclass(frozen=True)
class Voxels:
    """Voxels of one subject, before bad ones are dropped.

    Parameters
    ----------
    table : DataFrame
        Positions, as the space needs, and ``ncsnr`` where it was given.
    rois : dict of str to bool array, shape (voxel,)
    space : Space
    report : dict of str to str
    """

    table: pd.DataFrame
    rois: dict[str, np.ndarray]
    space: Space
    report: dict[str, str] = field(default_factory=dict)


def read_voxels(
    given: Table | None,
    number: int,
    volume: Volume | None,
    mesh: str | None,
    rois: Sequence[str] | Mapping[str, Any] | None,
) -> Voxels:
    """Fill in and check a table of voxels.

    Parameters
    ----------
    given : Table, optional
        The table; without one every voxel belongs to the area ``all``.
    number : int
        Voxels of the responses.
    volume : Volume, optional
        Where i, j, k count. Without i, j, k in the table, voxels are those of its mask, in C order.
    mesh : str, optional
        Surface of ``hemisphere`` and ``vertex``.
    rois : sequence of str, or mapping of str to array, optional
        Columns that are areas (by default all that hold 0 and 1 only), or the areas themselves.

    Raises
    ------
    InputError
        Where the table does not fit the responses or contradicts itself.
    """
    if given is not None and len(given) != number:
        raise InputError(
            f"{given.where} does not match the responses",
            given=f"{len(given)} rows for {number} voxels",
            expected="one row a voxel, in the order of the responses",
            todo="take the table that belongs to these responses",
        )
    table, space = _positions(given, number, volume, mesh)
    report = {}
    if given is not None and "ncsnr" in given:
        table["ncsnr"] = given.numbers("ncsnr", 0.0)
    if isinstance(rois, Mapping):
        areas = {str(name): _member(str(name), values, number) for name, values in rois.items()}
    else:
        areas, unused = _areas(given, rois)
        if unused:
            report["columns of voxels, not used"] = ", ".join(unused)
    areas = {name: member for name, member in areas.items() if member.any()}
    return Voxels(table, areas or {"all": np.ones(number, dtype=bool)}, space, report)


def _areas(given: Table | None, wanted: Sequence[str] | None) -> tuple[dict[str, np.ndarray], list[str]]:
    """Return the areas, and the columns that were not understood."""
    if given is None:
        return {}, []
    if wanted is not None:
        given.require(wanted)
    areas: dict[str, np.ndarray] = {}
    if "roi" in given:
        names = [[part.strip() for part in text.split("+") if part.strip()] for text in given.text("roi")]
        for name in dict.fromkeys(part for row in names for part in row):
            areas[name] = np.array([name in row for row in names], dtype=bool)
    unused = []
    for column in [str(name) for name in given.frame.columns if name not in KNOWN] if wanted is None else wanted:
        member = _truth(given.text(column))
        if member is None and wanted is not None:
            raise InputError(
                f"{given.where}: the column {column!r} is no ROI",
                given=", ".join(sorted(set(given.text(column)))[:5]),
                expected="0 and 1 (or true and false)",
                todo="mend the column, or leave it out of rois",
            )
        if member is None:
            unused.append(column)
        elif column in areas:
            raise InputError(
                f"{given.where} states the ROI {column!r} twice",
                given="a column of that name, and the name in the column 'roi'",
                expected="one of them",
                todo="leave one out",
            )
        else:
            areas[column] = member
    return areas, unused


def _truth(values: np.ndarray) -> np.ndarray | None:
    """Return a column of 0 and 1 as bools; None where it holds anything else."""
    codes, words = pd.factorize(values)
    known = [_TRUTH.get(str(word).lower()) for word in words]
    if None in known or True not in known:
        return None
    return np.array(known, dtype=bool)[codes]


def _member(name: str, values: Any, number: int) -> np.ndarray:
    member = np.asarray(values)
    if member.shape != (number,) or member.dtype.kind not in "biu" or not np.isin(member, (0, 1)).all():
        raise InputError(
            f"the ROI {name!r} is no mask of the voxels",
            given=f"{member.dtype} of shape {member.shape}",
            expected=f"{number} values, true or false",
            todo="pass one truth value for each voxel",
        )
    return member.astype(bool)


def _positions(given: Table | None, number: int, volume: Volume | None, mesh: str | None) -> tuple[pd.DataFrame, Space]:
    has_volume = given is not None and any(column in given for column in "ijk")
    has_surface = given is not None and any(column in given for column in ("hemisphere", "vertex"))
    if has_volume and has_surface:
        raise InputError(
            f"{given.where if given else ''} places voxels in a volume and on a surface",
            given="columns of both",
            expected="i, j, k, or hemisphere, vertex",
            todo="leave those out that do not apply",
        )
    if has_surface:
        assert given is not None
        return _on_surface(given, mesh)
    if has_volume:
        assert given is not None
        return _in_volume(given, volume)
    if volume is not None and volume.mask is not None:
        return _in_mask(volume, volume.mask, number)
    return pd.DataFrame(index=range(number)), Space("none")


def _in_mask(volume: Volume, mask: np.ndarray, number: int) -> tuple[pd.DataFrame, Space]:
    if int(mask.sum()) != number:
        raise InputError(
            f"{volume.where} does not match the responses",
            given=f"{int(mask.sum())} voxels that are not zero, for {number} voxels of responses",
            expected="as many, in the order of numpy.nonzero (nilearn's maskers have it)",
            todo="take the mask that the responses were read with, or add i, j, k to the table of voxels",
        )
    i, j, k = np.nonzero(mask)
    return pd.DataFrame({"i": i, "j": j, "k": k}), _grid(volume)


def _grid(volume: Volume) -> Space:
    return Space("volume", affine=volume.affine, shape=list(volume.shape))


def _in_volume(given: Table, volume: Volume | None) -> tuple[pd.DataFrame, Space]:
    given.require(["i", "j", "k"])
    if volume is None:
        raise InputError(
            f"{given.where} has i, j, k, but nothing says where they lie",
            given="neither mask.nii.gz, nor affine and shape",
            expected="one of them",
            todo="put mask.nii.gz beside the table, or state affine and shape in [options] of the recipe",
        )
    table = pd.DataFrame({column: given.integers(column, 0) for column in "ijk"})
    positions = table.to_numpy()
    outside = (positions >= np.array(volume.shape)).any(axis=1)
    if outside.any():
        place = positions[outside][0].tolist()
        raise InputError(
            f"{given.where} has voxels outside of the volume",
            given=f"i, j, k = {place}; {int(outside.sum())} such voxels",
            expected=f"below {tuple(volume.shape)}, the shape of {volume.where}, counted from 0",
            todo="the axes may be in another order, or count from 1",
        )
    _refuse_double(given, positions)
    if volume.mask is not None and not volume.mask[tuple(positions.T)].all():
        out = ~volume.mask[tuple(positions.T)]
        raise InputError(
            f"{given.where} has voxels outside of the mask",
            given=f"i, j, k = {positions[out][0].tolist()}; {int(out.sum())} such voxels of {len(out)}",
            expected=f"voxels where {volume.where} is not zero, counted from 0",
            todo="the axes may be in another order, or count from 1; or take the mask that belongs to the table",
        )
    return table, _grid(volume)


def _on_surface(given: Table, mesh: str | None) -> tuple[pd.DataFrame, Space]:
    given.require(["hemisphere", "vertex"])
    if mesh not in MESHES:
        raise UnknownNameError(
            f"mesh of {given.where}", mesh, MESHES, todo='state it: mesh = "fsaverage5" in [options] of the recipe'
        )
    words = given.text("hemisphere")
    strange = sorted({str(word) for word in words if str(word).lower() not in _SIDES})
    if strange:
        raise UnknownNameError(f"hemisphere in {given.where}", strange[0], ["left", "right"])
    vertex = given.integers("vertex", 0)
    if vertex.max() >= MESHES[mesh]:
        raise InputError(
            f"{given.where} has vertices that {mesh} lacks",
            given=f"vertex {vertex.max()}",
            expected=f"below {MESHES[mesh]}, counted from 0 in each hemisphere",
            todo="check mesh in [options] of the recipe",
        )
    table = pd.DataFrame({"hemisphere": [_SIDES[str(word).lower()] for word in words], "vertex": vertex})
    _refuse_double(given, table.to_numpy())
    name = "fsaverage7" if mesh == "fsaverage" else mesh
    return table, Space("surface", mesh=name, vertices={"left": MESHES[name], "right": MESHES[name]})


def _refuse_double(given: Table, positions: np.ndarray) -> None:
    given.refuse_duplicates(
        np.array([" ".join(map(str, row)) for row in positions], dtype=object),
        "positions of voxels",
        "every position once",
    )
