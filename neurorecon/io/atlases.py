"""ROIs and masks of a subject, from NIfTI, dlabel, dscalar, annot and label GIFTI files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict

from neurorecon.errors import InputError, MissingFileError
from neurorecon.io.grid import Grid, check_vertices
from neurorecon.io.surfaces import hemisphere, read_cifti_labels, read_surface_labels
from neurorecon.io.volumes import read_volume

#: Labels that stand for no ROI.
NOTHING = ("", "???", "unknown")


def read_rois(grid: Grid, rois: Mapping[str, str | list[str] | Atlas], root: Path, subject: str) -> dict:
    """Read all ROIs of a recipe.

    Parameters
    ----------
    grid : Grid
        Of the runs.
    rois : mapping
        From the options.
    root : path
        That relative paths count from.
    subject : str
        Replaces ``{subject}`` in paths, e.g. ``"sub-01"``.

    Returns
    -------
    dict of str to bool array, shape (place,)
        Each ROI; ROIs may overlap.
    """
    found: dict[str, np.ndarray] = {}
    for key, given in rois.items():
        atlas = given if isinstance(given, Atlas) else Atlas(path=given)
        for name, member in rois_of(grid, key, atlas, root, subject).items():
            if name in found:
                raise InputError(
                    "two files hold an area of the same name",
                    given=f"{name!r}, the second time in the atlas {key!r} of the recipe",
                    expected="each ROI once",
                    todo="name the labels of one of them otherwise, by labels in [options.rois]",
                )
            found[name] = member
    return found


def rois_of(grid: Grid, key: str, atlas: Atlas, root: Path, subject: str) -> dict[str, np.ndarray]:
    """Read one atlas, or one mask, which gets the name `key`."""
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
            expected="places that are not 0 among those that the runs have",
            todo="take another file, or check its space",
        )
    return members


def _read(grid: Grid, path: Path) -> tuple[np.ndarray, dict[int, str] | None]:
    """Return values (map, place) and their names."""
    if not path.is_file():
        raise MissingFileError(
            f"{path} is missing",
            given="no such file",
            expected="a mask or an atlas, as [options] of the recipe names it",
            todo="fix the path; relative ones count from --root",
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
        f"{path} cannot hold ROIs of these runs",
        given=path.name,
        expected=f"{expected}, as the runs are",
        todo="take the atlas in the space of the runs, or the runs in the space of the atlas (space in [options])",
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
    whole = np.equal(np.round(values), values).all()
    levels = np.setdiff1d(np.unique(values), [0.0])
    if whole and names is not None:
        wanted = {name for name in names.values() if name.lower() not in NOTHING}
        keys = {name: [number for number, other in names.items() if other == name] for name in sorted(wanted)}
        return {name: np.any(np.isin(values, numbers), axis=0) for name, numbers in keys.items()}
    if not whole or len(levels) > 1:
        what = f"labels {levels[:5].astype(int).tolist()} ..." if whole else "values between whole numbers"
        raise InputError(
            f"the ROIs in {path} have no names",
            given=what,
            expected="a mask of 0 and 1, or names for the labels, or a threshold for probabilities",
            todo=f'[options.rois] {key} = {{ path = "...", labels = "names.tsv" }} (or threshold = 0.5)',
        )
    return {key: np.any(values != 0, axis=0)}


def _labels(given: str | Mapping[str, str] | None, root: Path, subject: str) -> dict[int, str] | None:
    """Return the names of labels: from the recipe, or from a table."""
    if given is None:
        return None
    if isinstance(given, str):
        path = root / given.replace("{subject}", subject)
        if not path.is_file():
            raise MissingFileError(f"{path} is missing", given="no such file", expected="a table of labels")
        table = pd.read_csv(path, sep="," if path.suffix == ".csv" else "\t", dtype=str)
        if not {"index", "name"} <= set(table):
            raise InputError(
                f"{path} is no table of labels",
                given=f"columns {', '.join(map(str, table))}",
                expected="columns index and name, as in BIDS (*_dseg.tsv)",
                todo="rename the columns",
            )
        given = dict(zip(table["index"], table["name"], strict=True))
    _check_numbers(list(given))
    return {int(key): str(name) for key, name in given.items()}


def _check_numbers(keys: Sequence[str]) -> None:
    wrong = [key for key in keys if not str(key).lstrip("-").isdigit()]
    if wrong:
        raise InputError("labels have to be whole numbers", given=", ".join(map(str, wrong[:5])), expected="1, 2, ...")


class Part(BaseModel):
    """A table within the options; unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Atlas(Part):
    """Where ROIs come from.

    Parameters
    ----------
    path : str or list of str
        NIfTI, dlabel, dscalar, annot or label GIFTI, or one file for each hemisphere. Relative to the root;
        ``{subject}`` stands for ``sub-01``.
    labels : str or dict of str to str, optional
        Names of the values of a file that has none: a TSV or CSV with the columns ``index`` and ``name``, or a table
        ``{1 = "V1v"}``.
    threshold : float, optional
        For probabilities: what lies above is in the ROI.
    """

    path: str | list[str]
    labels: str | dict[str, str] | None = None
    threshold: float | None = None
