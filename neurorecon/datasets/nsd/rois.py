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


#: The name under which MindDiffuser's two parts are kept beside the files.
_PARTS = "LVC and HVC"


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

    def areas(self) -> dict[str, tuple[str, list[int]]]:
        """Return the ROIs by name: the file and the labels that each is made of, small areas first."""
        found: dict[str, tuple[str, list[int]]] = {}
        for file in sorted(self.labels, key=_rank):
            side = _side(file)
            numbers = np.flatnonzero(np.bincount(np.maximum(self.labels[file], 0)))
            named = {
                f"{side}{self.names[file].get(number) or unnamed(file.removeprefix(side), number)}": number
                for number in numbers[numbers > 0].tolist()
            }
            found.update({name: (file, [number]) for name, number in named.items()})
            for prefix in (side, f"{side}Kastner_"):
                for union, parts in UNIONS.items():
                    present = [named[prefix + part] for part in parts if prefix + part in named]
                    if present:
                        found[prefix + union] = (file, present)
        return found

    def members(self, voxels: np.ndarray) -> dict[str, np.ndarray]:
        """Return the membership of some voxels in each ROI that holds any.

        Parameters
        ----------
        voxels : int array, shape (voxel,)
            Places on the grid.

        Returns
        -------
        dict of str to bool array, shape (voxel,)
        """
        parts = {file: labels[voxels] for file, labels in self.labels.items()}
        found = {name: np.isin(parts[file], numbers) for name, (file, numbers) in self.areas().items()}
        return {name: member for name, member in found.items() if member.any()}

    def member(self, area: tuple[str, list[int]]) -> np.ndarray:
        """Return the membership of the whole grid in one of :meth:`areas`."""
        return np.isin(self.labels[area[0]], area[1])

    def add_low_and_high(self) -> None:
        """Add MindDiffuser's LVC and HVC: Kastner2015, overwritten by prf-visualrois where that has a label."""
        if {"Kastner2015", "prf-visualrois"} <= set(self.labels):
            drawn, atlas = self.labels["prf-visualrois"], self.labels["Kastner2015"]
            merged = np.where(drawn > 0, drawn, atlas)
            self.labels[_PARTS] = (np.isin(merged, _LOW) + 2 * np.isin(merged, _HIGH)).astype(np.int16)
            self.names[_PARTS] = {1: "LVC", 2: "HVC"}


def _side(file: str) -> str:
    return file[:3] if file.startswith(("lh.", "rh.")) else ""


def _rank(file: str) -> tuple[bool, bool, int, str]:
    """Return what files are sorted by: the largest ROI last, those of one hemisphere behind the others."""
    base = file.removeprefix(_side(file))
    return base == "nsdgeneral", bool(_side(file)), _ORDER.index(base) if base in _ORDER else len(_ORDER), file


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
    rois.add_low_and_high()
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
    areas = rois.areas()
    if not areas:
        raise MissingFileError(
            "the ROI files are missing",
            given=f"no ROI in {folder}",
            expected="nsdgeneral.nii.gz and others (or, on fsaverage, lh. and rh. files of the labels)",
            todo=f'{DOWNLOAD}, or set mask to "brain" or to a file',
        )
    found = np.zeros(rois.grid.size, dtype=bool)
    for name in _split(mask, {*areas, *ROI_GROUPS}):
        members = [member for member in ROI_GROUPS.get(name, [name]) if member in areas]
        if not members and (folder / f"{name}.nii.gz").is_file():
            continue  # its file is there, and empty
        if not members:
            raise UnknownNameError("ROI", name, areas)
        for member in members:
            found |= rois.member(areas[member])
    return found


def _split(text: str, known: Iterable[str]) -> list[str]:
    """Split a union into names; names come first, because of ``ecc4+``."""
    text, known = text.strip(), set(known)
    if text in known or "+" not in text:
        return [text]
    for place in (number for number, letter in enumerate(text) if letter == "+"):
        if text[:place].strip() in known and text[place + 1 :].strip():
            return [text[:place].strip(), *_split(text[place + 1 :], known)]
    return [text]
