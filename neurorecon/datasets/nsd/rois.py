"""ROI files and masks: every label a named ROI, overlapping as they do."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from neurorecon.datasets.nsd.grid import Grid, Surface, Volume
from neurorecon.datasets.nsd.labels import LABELS, UNIONS, label_names, unnamed
from neurorecon.datasets.nsd.layout import DOWNLOAD, Layout
from neurorecon.datasets.nsd.mgh import read_header
from neurorecon.errors import InputError, MissingFileError, UnknownNameError

#: Groups of ROIs, as the papers on NSD speak of them. (``early``, ``ventral``, ... are ROIs of the file ``streams``.)
ROI_GROUPS: dict[str, list[str]] = {
    "faces": list(LABELS["floc-faces"]),
    "words": list(LABELS["floc-words"]),
    "places": list(LABELS["floc-places"]),
    "bodies": list(LABELS["floc-bodies"]),
    "visual": ["V1", "V2", "V3", "hV4"],
    "eccentricity": list(LABELS["prf-eccrois"]),
    "V3ab": ["V3A", "V3B"],
    "VO": ["VO1", "VO2"],
    "PHC": ["PHC1", "PHC2"],
    "LO": ["LO1", "LO2"],
    "MT": ["TO1"],
    "MST": ["TO2"],
    "IPS": ["IPS0", "IPS1", "IPS2", "IPS3", "IPS4", "IPS5"],
}

#: Labels of Kastner2015 in the low and in the high part of visual cortex of MindDiffuser; SPL1 and FEF are in neither.
_LOW, _HIGH = range(1, 8), range(8, 24)

#: Files in the order in which their ROIs are listed. A store keeps the voxels of an ROI together that come first,
#: so small areas precede large ones.
_ORDER = [name for name in LABELS if name != "nsdgeneral"]


@dataclass
class Rois:
    """The ROIs of a subject, over a whole grid.

    Parameters
    ----------
    grid : Grid
        Where they lie.
    labels : dict of str to int array, shape (voxel,)
        What each file holds.
    names : dict of str to dict of int to str
        The name of each label of each file.
    """

    grid: Grid
    labels: dict[str, np.ndarray] = field(default_factory=dict)
    names: dict[str, dict[int, str]] = field(default_factory=dict)

    def members(self, voxels: np.ndarray | None = None) -> dict[str, np.ndarray]:
        """Return the membership of some voxels in each ROI that holds any.

        Parameters
        ----------
        voxels : int array, shape (voxel,), optional
            Places on the grid; the whole grid where left out.

        Returns
        -------
        dict of str to bool array, shape (voxel,)
        """
        found: dict[str, np.ndarray] = {}
        last = ["nsdgeneral", *(f"{side}.nsdgeneral" for side in ("lh", "rh"))]
        order = {name: place for place, name in enumerate(_ORDER)}
        files = sorted(
            self.labels,
            key=lambda name: (name in last, name.startswith(("lh.", "rh.")), order.get(name, len(order)), name),
        )
        for file in files:
            part = self.labels[file] if voxels is None else self.labels[file][voxels]
            side = file[:3] if file.startswith(("lh.", "rh.")) else ""
            areas = {
                f"{side}{self.names[file].get(int(number)) or unnamed(file.removeprefix(side), int(number))}": part
                == number
                for number in np.unique(part[part > 0])
            }
            found.update(areas)
            found.update(_unions(areas, side))
        found.update(self._low_and_high(voxels))
        for name in last:
            if name in found:
                found[name] = found.pop(name)
        return {name: member for name, member in found.items() if member.any()}

    def _low_and_high(self, voxels: np.ndarray | None) -> dict[str, np.ndarray]:
        """Return MindDiffuser's LVC and HVC: Kastner2015, overwritten by prf-visualrois where that has a label."""
        if not {"Kastner2015", "prf-visualrois"} <= set(self.labels):
            return {}
        drawn, atlas = self.labels["prf-visualrois"], self.labels["Kastner2015"]
        merged = np.where(drawn > 0, drawn, atlas)
        merged = merged if voxels is None else merged[voxels]
        return {"LVC": np.isin(merged, _LOW), "HVC": np.isin(merged, _HIGH)}


def _unions(areas: dict[str, np.ndarray], side: str) -> dict[str, np.ndarray]:
    found = {}
    for prefix in ("", "Kastner_"):
        for name, parts in UNIONS.items():
            present = [areas[key] for key in (f"{side}{prefix}{part}" for part in parts) if key in areas]
            if present:
                found[f"{side}{prefix}{name}"] = np.logical_or.reduce(present)
    return found


def read_rois(layout: Layout, subject: str, grid: Grid, space: str, hemispheres: bool) -> tuple[Rois, dict[str, str]]:
    """Read all ROI files of a subject.

    Parameters
    ----------
    layout : Layout
        Where files lie.
    subject : str
        E.g. ``"subj01"``.
    grid : Grid
        Of the betas.
    space : str
        E.g. ``"func1pt8mm"``.
    hemispheres : bool
        Whether the files of one hemisphere become ROIs of their own, ``lh.V1`` and ``rh.V1``.

    Returns
    -------
    rois : Rois
    report : dict of str to str
        What was left out.
    """
    rois, report = Rois(grid), {}
    if isinstance(grid, Surface):
        files, skipped = _surface_files(layout, subject, grid)
        if skipped:
            report["ROIs not on fsaverage"] = ", ".join(skipped)
    else:
        files = {name: [path] for name, path in _volume_files(layout.preparation(subject, space) / "roi").items()}
    folders = [layout.labels(subject), layout.labels("fsaverage")]
    for name, paths in files.items():
        base = name.removeprefix("lh.").removeprefix("rh.")
        if base == name or hemispheres or base not in files:
            values = np.nan_to_num(grid.read(paths)).round().astype(np.int16)
            target = name if base == name or hemispheres else base
            if target in rois.labels:  # only the files of the hemispheres are there: both together
                values = np.where(values > 0, values, rois.labels[target])
            rois.labels[target] = values
            rois.names[target] = label_names(base, folders)
    return rois, report


def _volume_files(folder: Path) -> dict[str, Path]:
    found = {}
    for path in sorted(folder.glob("*.nii*")) if folder.is_dir() else ():
        match = re.fullmatch(r"(.+)\.nii(\.gz)?", path.name)
        if match:
            found[match[1]] = path
    return found


def _surface_files(layout: Layout, subject: str, grid: Surface) -> tuple[dict[str, list[Path]], list[str]]:
    """Return pairs of files on the average surface, and names of those on the subject's own."""
    found: dict[str, list[Path]] = {}
    skipped = []
    for folder in (layout.labels("fsaverage"), layout.labels(subject)):
        for left in sorted([*folder.glob("lh.*.mgz"), *folder.glob("lh.*.mgh")]):
            right = left.with_name(f"rh{left.name[2:]}")
            name = left.name[3:-4]
            if not right.is_file() or name in found or (name not in LABELS and not _has_names(left)):
                continue  # e.g. lh.curv: values, not labels
            if folder.parent.name == subject and int(np.prod(read_header(left).shape)) != grid.vertices[0]:
                skipped.append(name)
            else:
                found[name] = [left, right]
    return found, skipped


def _has_names(path: Path) -> bool:
    return path.with_name(f"{path.name[3:-4]}.mgz.ctab").is_file()


def select_voxels(rois: Rois, mask: str, layout: Layout, subject: str, space: str) -> np.ndarray:
    """Return the voxels of a mask, ascending.

    Parameters
    ----------
    rois : Rois
        All ROIs.
    mask : str
        Of the options.
    layout : Layout
        Where files lie.
    subject, space : str
        For the brain mask, and for messages.

    Raises
    ------
    MissingFileError, UnknownNameError, InputError
        Where the mask is not there, is unknown or holds no voxel.
    """
    grid = rois.grid
    if mask == "brain":
        member = _brain(grid, layout.preparation(subject, space) / "brainmask.nii.gz")
    elif re.search(r"\.nii(\.gz)?$|\.mg[hz]$", mask):
        member = _mask_file(grid, layout.root / mask)
    else:
        member = _named(rois, mask, layout.preparation(subject, space) / "roi")
    if not member.any():
        raise InputError(
            f"the mask {mask!r} of {subject} is empty",
            given="no voxel that is not zero",
            expected="at least one voxel",
            todo='take another mask (mask = "nsdgeneral", an ROI, "brain" or a file)',
        )
    return np.flatnonzero(member)


def _brain(grid: Grid, path: Path) -> np.ndarray:
    return np.ones(grid.size, dtype=bool) if isinstance(grid, Surface) else _positive(grid.read([path]))


def _mask_file(grid: Grid, path: Path) -> np.ndarray:
    if isinstance(grid, Volume):
        return _positive(grid.read([path]))
    pair = [path.with_name(f"{side}.{path.name.removeprefix('lh.').removeprefix('rh.')}") for side in ("lh", "rh")]
    if path.suffix not in (".mgh", ".mgz"):
        raise InputError(
            "this mask does not fit the space",
            given=str(path),
            expected="files lh.NAME.mgz and rh.NAME.mgz (mask = \"NAME.mgz\"), because space is 'fsaverage'",
            todo="take such files, or a space that is a volume",
        )
    return _positive(grid.read(pair))


def _positive(values: np.ndarray) -> np.ndarray:
    return np.nan_to_num(values) > 0


def _named(rois: Rois, mask: str, folder: Path) -> np.ndarray:
    known = rois.members()
    if not known and mask == "nsdgeneral":
        raise MissingFileError(
            "the ROI files are missing",
            given=f"no ROI in {folder}",
            expected="nsdgeneral.nii.gz and others (or, on fsaverage, lh. and rh. files of the labels)",
            todo=f'{DOWNLOAD}, or set mask to "brain" or to a file',
        )
    return np.logical_or.reduce([_atom(name, known) for name in _split(mask, {*known, *ROI_GROUPS})])


def _atom(name: str, known: dict[str, np.ndarray]) -> np.ndarray:
    if name in known:
        return known[name]
    members = [known[member] for member in ROI_GROUPS.get(name, ()) if member in known]
    if not members:
        raise UnknownNameError("ROI", name, known)
    return np.logical_or.reduce(members)


def _split(text: str, known: Iterable[str]) -> list[str]:
    """Split a union into names; names come first, because of ``ecc4+``."""
    text, known = text.strip(), set(known)
    if text in known or "+" not in text:
        return [text]
    for place in (number for number, letter in enumerate(text) if letter == "+"):
        if text[:place].strip() in known and text[place + 1 :].strip():
            return [text[:place].strip(), *_split(text[place + 1 :], known)]
    return [text]
