"""The grids of NSD's voxels, and their ROIs: every label becomes a named ROI, and ROIs may overlap."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from neurorecon.datasets.base import can_be_stored
from neurorecon.datasets.nsd.layout import DOWNLOAD, Layout
from neurorecon.errors import InputError, MissingFileError, UnknownNameError
from neurorecon.io.arrays import wrong_shape
from neurorecon.io.files import broken_link, damaged, refuse_empty
from neurorecon.io.surfaces import read_mgh_header, read_values
from neurorecon.io.volumes import check_grid, image_values, open_image
from neurorecon.space import Space

_KASTNER = (
    "V1v V1d V2v V2d V3v V3d hV4 VO1 VO2 PHC1 PHC2 TO2 TO1 LO2 LO1 V3B V3A IPS0 IPS1 IPS2 IPS3 IPS4 IPS5 SPL1 FEF"
)

#: The parcels of Glasser et al. 2016 (Nature 536:171), in the order of their labels.
_GLASSER = """
V1 MST V6 V2 V3 V4 V8 4 3b FEF PEF 55b V3A RSC POS2 V7 IPS1 FFC V3B LO1 LO2 PIT MT A1 PSL SFL PCV STV 7Pm 7m POS1 23d
v23ab d23ab 31pv 5m 5mv 23c 5L 24dd 24dv 7AL SCEF 6ma 7Am 7PL 7PC LIPv VIP MIP 1 2 3a 6d 6mp 6v p24pr 33pr a24pr p32pr
a24 d32 8BM p32 10r 47m 8Av 8Ad 9m 8BL 9p 10d 8C 44 45 47l a47r 6r IFJa IFJp IFSp IFSa p9-46v 46 a9-46v 9-46d 9a 10v
a10p 10pp 11l 13l OFC 47s LIPd 6a i6-8 s6-8 43 OP4 OP1 OP2-3 52 RI PFcm PoI2 TA2 FOP4 MI Pir AVI AAIC FOP1 FOP3 FOP2
PFt AIP EC PreS H ProS PeEc STGa PBelt A5 PHA1 PHA3 STSda STSdp STSvp TGd TE1a TE1p TE2a TF TE2p PHT PH TPOJ1 TPOJ2
TPOJ3 DVT PGp IP2 IP1 IP0 PFop PF PFm PGi PGs V6A VMV1 VMV3 PHA2 V4t FST V3CD LO3 VMV2 31pd 31a VVC 25 s32 pOFC2 PoI1
Ig FOP5 p10p p47r TGv MBelt LBelt A4 STSva TE1m PI a32pr p24
"""

#: Names of the labels in each file, from label 1.
LABELS: dict[str, tuple[str, ...]] = {
    "nsdgeneral": ("nsdgeneral",),
    "prf-visualrois": ("V1v", "V1d", "V2v", "V2d", "V3v", "V3d", "hV4"),
    "prf-eccrois": ("ecc0pt5", "ecc1", "ecc2", "ecc4", "ecc4+"),
    "floc-faces": ("OFA", "FFA-1", "FFA-2", "mTL-faces", "aTL-faces"),
    "floc-words": ("OWFA", "VWFA-1", "VWFA-2", "mfs-words", "mTL-words"),
    "floc-places": ("OPA", "PPA", "RSC"),
    "floc-bodies": ("EBA", "FBA-1", "FBA-2", "mTL-bodies"),
    "streams": ("early", "midventral", "midlateral", "midparietal", "ventral", "lateral", "parietal"),
    "Kastner2015": tuple(_KASTNER.split()),
    "HCP_MMP1": tuple(_GLASSER.split()),
}

#: ROIs that are the union of others, e.g. V1 of its ventral and dorsal parts.
UNIONS: dict[str, tuple[str, ...]] = {
    "V1": ("V1v", "V1d"),
    "V2": ("V2v", "V2d"),
    "V3": ("V3v", "V3d"),
    "FFA": ("FFA-1", "FFA-2"),
    "FBA": ("FBA-1", "FBA-2"),
    "VWFA": ("VWFA-1", "VWFA-2"),
}

#: Prefixes for files whose labels have the same names as those of other files.
_PREFIXES = {"Kastner2015": "Kastner_", "HCP_MMP1": "HCP_"}

#: Labels of Kastner2015 that are unique to it, and get no prefix.
_OF_KASTNER = frozenset(LABELS["Kastner2015"][7:])


def label_names(file: str, folders: list[Path]) -> dict[int, str]:
    """Return the name of each label of an ROI file, e.g. ``{1: "V1v", 2: "V1d"}``.

    Parameters
    ----------
    file : str
        Name of the ROI file without hemisphere and extension, e.g. ``"prf-visualrois"``.
    folders : list of path
        Folders that may contain its color table, in order of precedence.
    """
    for path in (folder / f"{file}{end}" for folder in folders for end in (".mgz.ctab", ".ctab")):
        if path.is_file():
            return {number: _roi_name(file, name) for number, name in _read_table(path).items()}
    return {number: _roi_name(file, name) for number, name in enumerate(LABELS.get(file, ()), start=1)}


def unnamed(file: str, number: int) -> str:
    """Return the name of a label that is in no table."""
    return file if (file, number) == ("nsdgeneral", 1) else f"{file}_{number}"


def _read_table(path: Path) -> dict[int, str]:
    found = {}
    try:
        for line in path.read_text(encoding="utf-8-sig").splitlines():
            if line.strip() and not line.lstrip().startswith("#"):
                number, name = line.split(maxsplit=1)
                found[int(number)] = _COLORS.sub("", name).strip()
    except (ValueError, UnicodeDecodeError) as error:
        raise damaged(path, error, DOWNLOAD) from error
    return {number: name for number, name in found.items() if number > 0 and name}


#: Red, green, blue and transparency, which may follow the name of a label.
_COLORS = re.compile(r"(\s+\d+){3,4}\s*$")


def _roi_name(file: str, name: str) -> str:
    name = re.sub(r"\(.*\)$", "", name)  # "TO1(MT)": MT is a group
    # The capitalization differs between releases: "V3a", "V3A".
    name = next((known for known in LABELS.get(file, ()) if known.lower() == name.lower()), name)
    if file == "Kastner2015" and name in _OF_KASTNER:
        return name
    # Files not listed above (corticalsulc, MTL, ...) may use any names, so their file name becomes a prefix.
    return f"{_PREFIXES.get(file, '' if file in LABELS else f'{file}_')}{name}"


#: fsaverage meshes, by the number of vertices per hemisphere. NSD uses the finest mesh; coarser ones consist of its
#: first vertices.
MESHES = {163842: "fsaverage", 40962: "fsaverage6", 10242: "fsaverage5", 2562: "fsaverage4", 642: "fsaverage3"}


#: What the mesh of a subject's own surface is called; figures cannot be drawn on it.
NATIVE = "nativesurface"


@dataclass(frozen=True)
class Volume:
    """The grid of a volume, whose voxels are numbered with x varying fastest.

    Parameters
    ----------
    shape : tuple of int
        Shape of the volume, (x, y, z).
    affine : array, shape (4, 4)
        Maps voxel indices to millimeters.
    like : str
        Name of the file that defines the grid, for error messages.
    """

    shape: tuple[int, ...]
    affine: np.ndarray
    like: str

    @property
    def size(self) -> int:
        """Number of voxels."""
        return int(np.prod(self.shape))

    def read(self, paths: list[Path]) -> np.ndarray:
        """Read a file with one value per voxel, shape (voxel,), and check that it is on this grid."""
        (path,) = paths
        image = open_image(path, DOWNLOAD)
        shape = image.shape[:3] if image.shape[3:] == (1,) else image.shape
        check_grid(path, shape, image.affine, self.like, self.shape, self.affine)
        return image_values(image, path, todo=DOWNLOAD).ravel(order="F")

    def table(self, voxels: np.ndarray) -> pd.DataFrame:
        """Return the positions of voxels: the columns ``i``, ``j``, ``k``."""
        i, j, k = np.unravel_index(voxels, self.shape, order="F")
        return pd.DataFrame({"i": i, "j": j, "k": k})

    def space(self) -> Space:
        """Return the space of the voxels."""
        return Space("volume", affine=self.affine.tolist(), shape=list(self.shape))


@dataclass(frozen=True)
class Surface:
    """The grid of two hemispheres, whose vertices are numbered consecutively, left hemisphere first.

    Parameters
    ----------
    vertices : tuple of int
        Number of vertices of the left and the right hemisphere.
    native : bool
        Whether it is the subject's own surface rather than the average one.
    """

    vertices: tuple[int, int]
    native: bool = False

    @property
    def size(self) -> int:
        """Number of vertices."""
        return sum(self.vertices)

    def read(self, paths: list[Path]) -> np.ndarray:
        """Read one file per hemisphere with one value per vertex, shape (vertex,)."""
        found = []
        for path, number in zip(paths, self.vertices, strict=True):
            shape = read_mgh_header(path, DOWNLOAD).shape
            if int(np.prod(shape)) != number:
                raise wrong_shape(path, shape, f"({number}, 1, 1): one value per vertex, as in the betas", DOWNLOAD)
            found.append(read_values(path, DOWNLOAD))
        return np.concatenate(found)

    def table(self, voxels: np.ndarray) -> pd.DataFrame:
        """Return the positions of vertices: the columns ``hemisphere`` and ``vertex``."""
        right = voxels >= self.vertices[0]
        return pd.DataFrame(
            {"hemisphere": np.where(right, "right", "left"), "vertex": voxels - right * self.vertices[0]}
        )

    def space(self) -> Space:
        """Return the space of the vertices."""
        left, right = self.vertices
        mesh = NATIVE if self.native else MESHES.get(left, "fsaverage")
        return Space("surface", mesh=mesh, vertices={"left": left, "right": right})


Grid = Volume | Surface


def volume_of(path: Path) -> Volume:
    """Return the grid of a file."""
    image: Any = open_image(path, DOWNLOAD)
    return Volume(tuple(image.shape[:3]), np.asarray(image.affine, dtype=float), path.name)


def surface_of(vertices: Iterable[int], space: str) -> Surface:
    """Return the grid of betas on a surface, from the number of vertices of the left and the right hemisphere."""
    left, right = vertices
    return Surface((left, right), space == NATIVE)


#: Groups of ROIs that are common in papers on NSD. (``early``, ``ventral``, ... are ROIs of the file ``streams``.)
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

#: Labels of Kastner2015 in MindDiffuser's lower and higher visual cortex; SPL1 and FEF are in neither.
_LOW, _HIGH = range(1, 8), range(8, 24)

#: Files in the order in which their ROIs are listed. A store sorts voxels by the ROIs that come first, so small ROIs
#: precede large ones.
_ORDER = [name for name in LABELS if name != "nsdgeneral"]

#: Name of the pseudo-file with MindDiffuser's two ROIs.
_PARTS = "LVC and HVC"


@dataclass
class Rois:
    """The ROIs of a subject on its whole grid.

    Parameters
    ----------
    grid : Grid
        The grid of the betas.
    labels : dict of str to int array, shape (voxel,)
        The labels in each file.
    names : dict of str to dict of int to str
        The names of the labels of each file.
    sides : int8 array, shape (voxel,), or None
        In a volume, the hemisphere of each voxel that an ROI file of one hemisphere labels: -1 left, 1 right, 0 where
        no file labels it, or as many of the left as of the right hemisphere. None if there are no such files.
    """

    grid: Grid
    labels: dict[str, np.ndarray] = field(default_factory=dict)
    names: dict[str, dict[int, str]] = field(default_factory=dict)
    sides: np.ndarray | None = None

    def hemispheres(self, voxels: np.ndarray) -> np.ndarray | None:
        """Return the hemisphere of voxels, ``"left"`` or ``"right"``; None if no file tells, or the grid itself does.

        NSD's volumes are not centered on the midline, so the ROI files of single hemispheres decide. Voxels that none
        of them labels (white matter, say) belong to the side whose labeled voxels are closer from left to right.

        Parameters
        ----------
        voxels : int array, shape (voxel,)
            Indices of voxels on the grid.
        """
        if self.sides is None or isinstance(self.grid, Surface) or not {-1, 1} <= set(self.sides.tolist()):
            return None
        x = self.grid.table(np.arange(self.grid.size)).to_numpy() @ self.grid.affine[0, :3]
        left, right = (np.abs(x[voxels] - np.median(x[self.sides == side])) for side in (-1, 1))
        known = self.sides[voxels]
        return np.where(known != 0, np.where(known < 0, "left", "right"), np.where(left < right, "left", "right"))

    def rois(self) -> dict[str, tuple[str, list[int]]]:
        """Return the ROIs by name, as pairs of a file and the labels in it, small ROIs first."""
        found: dict[str, tuple[str, list[int]]] = {}
        for file in sorted(self.labels, key=_rank):
            side = _side(file)
            numbers = np.unique(np.maximum(self.labels[file], 0))
            named: dict[str, list[int]] = {}
            for number in numbers[numbers > 0].tolist():
                name = f"{side}{self.names[file].get(number) or unnamed(file.removeprefix(side), number)}"
                if name in found:  # another file has an ROI of this name
                    name = f"{side}{file.removeprefix(side)}_{name.removeprefix(side)}"
                named.setdefault(name, []).append(number)  # labels of the same name are one ROI
            found.update({name: (file, labels) for name, labels in named.items()})
            for prefix in (side, f"{side}Kastner_"):
                for union, parts in UNIONS.items():
                    present = [number for part in parts for number in named.get(prefix + part, ())]
                    if present:
                        found[prefix + union] = (file, present)
        return found

    def members(self, voxels: np.ndarray) -> dict[str, np.ndarray]:
        """Return which of the given voxels belong to each ROI, without empty ROIs.

        Parameters
        ----------
        voxels : int array, shape (voxel,)
            Indices of voxels on the grid.

        Returns
        -------
        dict of str to bool array, shape (voxel,)
        """
        parts = {file: labels[voxels] for file, labels in self.labels.items()}
        found = {name: np.isin(parts[file], numbers) for name, (file, numbers) in self.rois().items()}
        return {name: member for name, member in found.items() if member.any()}

    def member(self, roi: tuple[str, list[int]]) -> np.ndarray:
        """Return which voxels of the whole grid belong to an ROI from :meth:`rois`."""
        return np.isin(self.labels[roi[0]], roi[1])

    def add_low_and_high(self) -> None:
        """Add MindDiffuser's LVC and HVC: Kastner2015, replaced by prf-visualrois where the latter has a label."""
        if {"Kastner2015", "prf-visualrois"} <= set(self.labels):
            drawn, atlas = self.labels["prf-visualrois"], self.labels["Kastner2015"]
            merged = np.where(drawn > 0, drawn, atlas)
            self.labels[_PARTS] = (np.isin(merged, _LOW) + 2 * np.isin(merged, _HIGH)).astype(np.int16)
            self.names[_PARTS] = {1: "LVC", 2: "HVC"}


def _side(file: str) -> str:
    return file[:3] if file.startswith(("lh.", "rh.")) else ""


def _rank(file: str) -> tuple[bool, bool, int, str]:
    """Return a sort key for files: the largest ROI last, files of one hemisphere after the others."""
    base = file.removeprefix(_side(file))
    return base == "nsdgeneral", bool(_side(file)), _ORDER.index(base) if base in _ORDER else len(_ORDER), file


def read_rois(layout: Layout, subject: str, grid: Grid, space: str, hemispheres: bool) -> tuple[Rois, dict[str, str]]:
    """Read all ROI files of a subject.

    Parameters
    ----------
    layout : Layout
        The paths of the files.
    subject : str
        E.g. ``"subj01"``.
    grid : Grid
        The grid of the betas.
    space : str
        E.g. ``"func1pt8mm"``.
    hemispheres : bool
        Whether files of one hemisphere become separate ROIs, e.g. ``lh.V1`` and ``rh.V1``.

    Returns
    -------
    rois : Rois
    report : dict of str to str
        What was left out.

    Raises
    ------
    InputError
        If a file is damaged or on another grid.
    """
    rois, report = Rois(grid), {}
    if isinstance(grid, Surface):
        files, skipped = _surface_files(layout, subject, grid)
        if skipped:
            report["ROIs not on fsaverage"] = ", ".join(skipped)
    else:
        files = {name: [path] for name, path in _volume_files(layout.preparation(subject, space) / "roi").items()}
    folders = [layout.labels(subject), layout.labels("fsaverage"), layout.templates]
    balance = np.zeros(grid.size, dtype=np.int8)
    for name, paths in files.items():
        base = name.removeprefix("lh.").removeprefix("rh.")
        values = _whole_numbers(grid.read(paths), paths)
        if base != name:
            balance += np.where(values > 0, -1 if name.startswith("lh.") else 1, 0).astype(np.int8)
            rois.sides = np.sign(balance)
        if base == name or hemispheres or base not in files:
            target = name if base == name or hemispheres else base
            if target in rois.labels:  # there are only files of single hemispheres: combine them
                values = np.where(values > 0, values, rois.labels[target])
            rois.labels[target] = values
            rois.names[target] = label_names(base, folders)
    rois.add_low_and_high()
    return rois, report


def _whole_numbers(values: np.ndarray, paths: list[Path]) -> np.ndarray:
    """Return labels as int32; refuse values that are none, e.g. of a map or a smoothed mask."""
    found = np.nan_to_num(values)
    whole = np.round(found)
    if not np.allclose(found, whole, atol=1e-4, rtol=0):
        worst = found[np.abs(found - whole).argmax()]
        raise InputError(
            f"{paths[0]} does not hold the labels of ROIs",
            given=f"values such as {worst:g}",
            expected="whole numbers: 0 outside of ROIs, 1, 2, ... in them",
            todo="move the file out of the folder of ROIs; maps are read by the option voxel_maps",
        )
    return whole.astype(np.int32)


def _volume_files(folder: Path) -> dict[str, Path]:
    found = {}
    if folder.is_dir():
        refuse_empty(
            folder, 'the ROI files: nsdgeneral.nii.gz etc. (without the folder, set mask to "brain" or a file)'
        )
    for path in sorted(folder.glob("*.nii*")) if folder.is_dir() else ():
        match = re.fullmatch(r"(.+)\.nii(\.gz)?", path.name)
        if match:
            found[match[1]] = path
    return found


def _surface_files(layout: Layout, subject: str, grid: Surface) -> tuple[dict[str, list[Path]], list[str]]:
    """Return the pairs of files on fsaverage, and the names of those on the subject's own surface."""
    found: dict[str, list[Path]] = {}
    skipped = []
    for folder in (layout.labels(subject),) if grid.native else (layout.labels("fsaverage"), layout.labels(subject)):
        for left in sorted([*folder.glob("lh.*.mgz"), *folder.glob("lh.*.mgh")]):
            right = left.with_name(f"rh{left.name[2:]}")
            name = left.name[3:-4]
            if not right.is_file() or name in found or (name not in LABELS and not _has_names(left)):
                continue  # e.g. lh.curv, which contains values instead of labels
            if (
                folder.parent.name == subject
                and not grid.native
                and int(np.prod(read_mgh_header(left, DOWNLOAD).shape)) != grid.vertices[0]
            ):
                skipped.append(name)
            else:
                found[name] = [left, right]
    return found, skipped


def _has_names(path: Path) -> bool:
    return path.with_name(f"{path.name[3:-4]}.mgz.ctab").is_file()


def read_maps(patterns: Iterable[str], layout: Layout, subject: str, grid: Grid, space: str) -> dict[str, np.ndarray]:
    """Read maps with one value per voxel, such as those of the pRF and localizer experiments.

    Parameters
    ----------
    patterns : iterable of str
        The option ``voxel_maps``: names of files without hemisphere and extension, which may contain ``*``.
    layout : Layout
        The paths of the files.
    subject, space : str
        E.g. ``"subj01"`` and ``"func1pt8mm"``.
    grid : Grid
        The grid of the betas.

    Returns
    -------
    dict of str to float32 array, shape (voxel,)
        By the name of the file; NaN where NSD has no value.

    Raises
    ------
    MissingFileError, InputError
        If there is no file, or it is on another grid, or its name cannot be that of a column.
    """
    found: dict[str, list[Path]] = {}
    for pattern in patterns:
        if isinstance(grid, Surface):
            folder = layout.labels(subject if grid.native else "fsaverage")
            left = [path for end in (".mgz", ".mgh") for path in sorted(folder.glob(f"lh.{pattern}{end}"))]
            there = {path.name[3:-4]: [path, path.with_name(f"rh{path.name[2:]}")] for path in left}
        else:
            folder = layout.preparation(subject, space)
            there = {path.name.partition(".nii")[0]: [path] for path in sorted(folder.glob(f"{pattern}.nii*"))}
        if not there:
            side, end = ("lh.", "mgz") if isinstance(grid, Surface) else ("", "nii.gz")
            raise MissingFileError(
                f"there is no map {pattern!r} of {subject}",
                given=f"no file {side}{pattern}.{end} in {folder}",
                expected="one of the maps of NSD, e.g. prf_angle or floc_facestval (on surfaces prfangle)",
                todo=f"{DOWNLOAD}, or correct the option voxel_maps",
            )
        found |= there
    wrong = [name for name in found if not can_be_stored(name)]
    if wrong:
        raise InputError(
            "the name of a map cannot be that of a column",
            given=wrong[0],
            expected="letters, digits, '_', '.' and '-', and no name that a store uses itself",
            todo="leave this map out of the option voxel_maps, or rename the file",
        )
    return {name: grid.read(paths).astype(np.float32) for name, paths in found.items()}


def select_voxels(
    rois: Rois, mask: str, layout: Layout, subject: str, space: str, data: Callable[[], np.ndarray]
) -> np.ndarray:
    """Return the indices of the voxels in a mask, ascending.

    Parameters
    ----------
    rois : Rois
        All ROIs.
    mask : str
        The option ``mask``.
    layout : Layout
        The paths of the files.
    subject, space : str
        E.g. ``"subj01"`` and ``"func1pt8mm"``.
    data : callable
        Returns which voxels of the grid have data, bool of shape (voxel,): the brain, in spaces without a mask of it.

    Returns
    -------
    int array, shape (voxel,)

    Raises
    ------
    MissingFileError, UnknownNameError, InputError
        If the mask does not exist, or is empty.
    """
    grid = rois.grid
    if mask == "brain":
        path = layout.preparation(subject, space) / "brainmask.nii.gz"
        if isinstance(grid, Surface):
            member = np.ones(grid.size, dtype=bool)
        else:
            member = data() if space == "MNI" and not path.is_file() else _positive(grid.read([path]))
    elif re.search(r"\.nii(\.gz)?$|\.mg[hz]$", mask):
        member = _mask_file(grid, layout.root / mask)
    else:
        member = _named(rois, mask, layout.preparation(subject, space) / "roi")
    if not member.any():
        raise InputError(
            f"the mask {mask!r} of {subject} is empty",
            given="no nonzero voxels",
            expected="at least one voxel",
            todo='choose another mask: "nsdgeneral", another ROI, "brain" or a file',
        )
    return np.flatnonzero(member)


def _mask_file(grid: Grid, path: Path) -> np.ndarray:
    if isinstance(grid, Volume):
        return _positive(grid.read([path]))
    pair = [path.with_name(f"{side}.{path.name.removeprefix('lh.').removeprefix('rh.')}") for side in ("lh", "rh")]
    if path.suffix not in (".mgh", ".mgz"):
        raise InputError(
            "the mask is not a file of this space",
            given=str(path),
            expected='files lh.NAME.mgz and rh.NAME.mgz (mask = "NAME.mgz"), because space is a surface',
            todo="use such files, or a volume as space",
        )
    return _positive(grid.read(pair))


def _positive(values: np.ndarray) -> np.ndarray:
    return np.nan_to_num(values) > 0


def _named(rois: Rois, mask: str, folder: Path) -> np.ndarray:
    known = rois.rois()
    if not known:
        broken_link(folder / "nsdgeneral.nii.gz", "the ROI files")
        raise MissingFileError(
            "the ROI files are missing",
            given=f"no ROI in {folder}",
            expected="nsdgeneral.nii.gz etc. (on fsaverage, label files with the prefixes lh. and rh.)",
            todo=f'{DOWNLOAD}, or set mask to "brain" or to a file',
        )
    found = np.zeros(rois.grid.size, dtype=bool)
    for name in _split(mask, {*known, *ROI_GROUPS}):
        members = [member for member in ROI_GROUPS.get(name, [name]) if member in known]
        if not members and (folder / f"{name}.nii.gz").is_file():
            continue  # its file exists but is empty
        if not members:
            raise UnknownNameError("ROI", name, known)
        for member in members:
            found |= rois.member(known[member])
    return found


def _split(text: str, known: Iterable[str]) -> list[str]:
    """Split a union into names, trying known names first because of ``ecc4+``."""
    text, known = text.strip(), set(known)
    if text in known or "+" not in text:
        return [text]
    for place in (number for number, letter in enumerate(text) if letter == "+"):
        if text[:place].strip() in known and text[place + 1 :].strip():
            return [text[:place].strip(), *_split(text[place + 1 :], known)]
    return [text]
