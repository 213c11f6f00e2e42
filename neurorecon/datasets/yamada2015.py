"""Reader of Yamada et al. 2015: raw BOLD responses of V1 to five geometric shapes in a block design.

The files ``S*_figureImage.mat`` (MATLAB v7.3) and ``S*_outlierVoxInd.mat`` (MATLAB v5) come from the folder ``data`` of
KamitaniLab/NeuralCodeConverter.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pandas as pd
from pydantic import Field

from neurorecon.datasets.base import Description, Options, Reader, SubjectData
from neurorecon.datasets.runs import (
    REST,
    Screened,
    block_means,
    find_blocks,
    prepare_run,
    read_by_part,
    sample_table,
    screen,
)
from neurorecon.errors import InputError, MissingFileError, UnknownNameError
from neurorecon.io.files import damaged, require_file
from neurorecon.space import Space

#: Advice if a file is missing or damaged.
AGAIN = "fetch the files: neurorecon datasets download yamada2015 --out DIR"

#: Repetition time (s), if the file does not state it.
REPETITION_TIME = 2.0

#: Arrays that are read from a recording. h5py reverses the axes of MATLAB arrays.
NEEDED = ("data", "labels", "labels_names", "inds_conds", "inds_runs", "rois_inds", "rois_names", "xyz")


@dataclass(frozen=True)
class Recording:
    """The recording of one subject.

    Parameters
    ----------
    voxels : int
        Number of voxels.
    shapes : list of str
        Names of the shapes, without rest.
    runs : list of slice
        Volumes of each run.
    codes : list of int array, shape (volume,)
        For each run, the index of the shape shown in each volume, or :data:`~neurorecon.datasets.runs.REST`.
    rois : dict of str to bool array, shape (voxel,)
        Which voxels belong to each ROI, by the names in the file, e.g. ``VOX_MF100301_LH_V1d``.
    millimeters : array, shape (voxel, 3)
        Positions of the voxels in millimeters.
    repetition_time : float
        Repetition time in seconds.
    read_run : callable
        ``read_run(number)`` returns the unprocessed volumes of a run, float64, shape (volume, voxel).
    """

    voxels: int
    shapes: list[str]
    runs: list[slice]
    codes: list[np.ndarray]
    rois: dict[str, np.ndarray]
    millimeters: np.ndarray
    repetition_time: float
    read_run: Callable[[int], np.ndarray]


def load_recording(path: Path) -> Recording:
    """Read everything in a file except the responses, and check it for consistency.

    Parameters
    ----------
    path : path
        A file ``S*_figureImage.mat``.

    Returns
    -------
    Recording

    Raises
    ------
    InputError
        If the file cannot be read or lacks an array, or its arrays contradict each other.
    """
    import h5py

    try:
        with h5py.File(path, "r") as file:
            missing = [name for name in NEEDED if f"D/{name}" not in file]
            if missing:
                raise _wrong(
                    path, f"without {', '.join(f'D/{name}' for name in missing)}", "D with " + ", ".join(NEEDED)
                )
            return _checked(path, file)
    except InputError:
        raise
    except Exception as error:  # h5py raises many types of exceptions for damaged files
        raise damaged(path, error, AGAIN) from error


def _checked(path: Path, file: Any) -> Recording:
    """Read the arrays, and check them against each other."""
    part = file["D"]
    voxels, volumes = _shape(path, part)
    names = [_text(file[cell]) for cell in _cells(part["labels_names"])]
    shown = _shown(path, names, [_numbers(file[cell]) for cell in _cells(part["inds_conds"])], _numbers(part["labels"]))
    runs = _runs(path, np.asarray(part["inds_runs"][()], dtype=float), volumes)
    shapes = [shape_name(name) for name in names if not _is_rest(name)]
    places = np.array([REST if _is_rest(name) else shapes.index(shape_name(name)) for name in names])
    millimeters = np.asarray(part["xyz"][()], dtype=float)
    if millimeters.shape != (voxels, 3) or not np.isfinite(millimeters).all():
        raise _wrong(path, f"D/xyz of shape {millimeters.shape}", f"finite numbers of shape ({voxels}, 3)")
    members = zip(_cells(part["rois_names"]), _cells(part["rois_inds"]), strict=True)
    rois = {_text(file[name]): _members(path, _numbers(file[cell]), voxels) for name, cell in members}
    seconds = float(_numbers(file["P/fMRI/TR"])[0]) if "P/fMRI/TR" in file else REPETITION_TIME

    def read_run(number: int) -> np.ndarray:
        import h5py

        try:
            with h5py.File(path, "r") as again:
                return np.asarray(again["D/data"][:, runs[number]], dtype=float).T
        except (OSError, KeyError) as error:
            raise damaged(path, error, AGAIN) from error

    return Recording(voxels, shapes, runs, [places[shown[run]] for run in runs], rois, millimeters, seconds, read_run)


def load_kept(path: Path, voxels: int) -> np.ndarray:
    """Read which voxels the authors kept.

    Parameters
    ----------
    path : path
        A file ``S*_outlierVoxInd.mat``, whose ``afterOutlierVoxInd`` lists the voxels, counted from 1.
    voxels : int
        Number of voxels of the recording.

    Returns
    -------
    bool array, shape (voxel,)

    Raises
    ------
    MissingFileError, InputError
        If the file is missing or cannot be read, or lists voxels that the recording does not have.
    """
    from scipy.io import loadmat

    require_file(
        path,
        "the voxels that the authors kept (afterOutlierVoxInd)",
        f"{AGAIN}; or keep all voxels: outliers = 'keep' in [options] of the recipe",
    )
    try:
        content = loadmat(path, variable_names=["afterOutlierVoxInd"])
    except Exception as error:  # scipy raises a dozen types of exceptions for damaged files
        raise damaged(path, error, AGAIN) from error
    if "afterOutlierVoxInd" not in content:
        raise _wrong(path, "a MATLAB file without afterOutlierVoxInd", "afterOutlierVoxInd, numbers of voxels from 1")
    return _members(path, content["afterOutlierVoxInd"].ravel(), voxels)


def shape_name(name: str) -> str:
    """Convert the name of a shape to snake case: ``smallFrame8x8`` becomes ``small_frame``."""
    plain = re.sub(r"\d+x\d+$", "", name)
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", plain).lower() or name


def _is_rest(name: str) -> bool:
    return name.split()[-1:] == ["rest"]


def _shape(path: Path, part: Any) -> tuple[int, int]:
    """Return the numbers of voxels and volumes; labels and positions tell which axis is which."""
    shape, volumes, voxels = part["data"].shape, part["labels"].size, max(part["xyz"].shape)
    if shape != (voxels, volumes) or part["data"].dtype.kind not in "fiu" or 0 in shape:
        swapped = ": the axes are swapped" if shape == (volumes, voxels) else ""
        raise _wrong(
            path,
            f"D/data of shape {shape}, {part['data'].dtype}, for {volumes} labels and {voxels} positions{swapped}",
            f"numbers of shape (voxel, volume) = ({voxels}, {volumes}) as h5py sees them",
        )
    return int(shape[0]), int(shape[1])


def _shown(path: Path, names: list[str], conditions: list[np.ndarray], labels: np.ndarray) -> np.ndarray:
    """Return the index of the condition of each volume, and check that it agrees with the labels."""
    shown = np.full(labels.size, -1)
    for place, numbers in enumerate(conditions):
        rows = numbers.astype(int) - 1
        if len(rows) and (rows.min() < 0 or rows.max() >= labels.size or (shown[rows] >= 0).any()):
            raise _wrong(path, f"D/inds_conds with volumes of {names[place]!r} that occur twice or do not exist", _ONCE)
        shown[rows] = place
    matching = len(names) == len(conditions) and (shown >= 0).all()
    if not matching or any(len(set(labels[shown == place])) > 1 for place in range(len(conditions))):
        raise _wrong(
            path,
            f"{len(names)} names, {len(conditions)} conditions, {int((shown < 0).sum())} volumes without one, "
            f"{len(set(labels))} different labels",
            _ONCE,
        )
    return shown


_ONCE = "D/inds_conds with every volume once, one condition per name, in agreement with D/labels"


def _runs(path: Path, edges: np.ndarray, volumes: int) -> list[slice]:
    """Return the volumes of each run, and check that the runs follow each other without gaps."""
    runs = [slice(int(first) - 1, int(last)) for first, last in edges] if edges.shape[-1:] == (2,) else []
    follow = [run.start for run in runs] == [0, *(run.stop for run in runs)][: len(runs)]
    if not runs or not follow or runs[-1].stop != volumes or any(run.stop - run.start < 4 for run in runs):
        raise _wrong(
            path,
            f"D/inds_runs {edges.tolist()} for {volumes} volumes",
            "first and last volume of each run, counted from 1, without gaps between the runs",
        )
    return runs


def _members(path: Path, numbers: np.ndarray, voxels: int) -> np.ndarray:
    """Convert voxel numbers, counted from 1, to a bool array, shape (voxel,)."""
    if numbers.size and (numbers.min() < 1 or numbers.max() > voxels):
        raise _wrong(
            path,
            f"numbers of voxels from {numbers.min():g} to {numbers.max():g}",
            f"numbers from 1 to {voxels}, the voxels of the recording",
        )
    found = np.zeros(voxels, dtype=bool)
    found[numbers.astype(int) - 1] = True
    return found


def _cells(dataset: Any) -> list[Any]:
    """Return the references in a cell array in MATLAB's order."""
    return list(dataset[()].ravel())


def _numbers(dataset: Any) -> np.ndarray:
    return np.asarray(dataset[()], dtype=float).ravel()


def _text(dataset: Any) -> str:
    """Decode a MATLAB string, which is stored as character codes."""
    return "".join(chr(letter) for letter in dataset[()].ravel())


def _wrong(path: Path, given: str, expected: str) -> InputError:
    return InputError(
        f"{path} cannot be used", given=given, expected=expected, todo=f"use the file as distributed: {AGAIN}"
    )


#: Largest distance (mm) of a position from the grid, to allow for rounding.
TOLERANCE = 1e-3


def place_voxels(millimeters: np.ndarray) -> tuple[Space, pd.DataFrame, dict[str, str]]:
    """Reconstruct the grid of the voxels from their positions.

    The file contains positions in millimeters (x increases to the right, as the ROIs of the two hemispheres show), but
    neither the shape nor the affine of the original volume. If the positions are on a regular grid, the smallest volume
    that contains them is used; its affine preserves the positions.

    Parameters
    ----------
    millimeters : array, shape (voxel, 3)
        Positions of the voxels.

    Returns
    -------
    space : Space
        A volume, or "none" if the positions are not on a regular grid or not distinct.
    voxels : DataFrame
        The columns ``i``, ``j``, ``k``; no columns for "none".
    report : dict of str to str
        Which volume was used, or why there is none.
    """
    origin = millimeters.min(axis=0)
    step = np.array([_step(axis) for axis in millimeters.T])
    steps = (millimeters - origin) / step
    indices = np.rint(steps).astype(int)
    table = pd.DataFrame(indices, columns=["i", "j", "k"])
    if (np.abs(steps - indices) * step > TOLERANCE).any() or table.duplicated().any():
        return Space("none"), pd.DataFrame(index=range(len(table))), {"space": "none: positions lie on no regular grid"}
    affine = np.diag([*step, 1.0])
    affine[:3, 3] = origin
    shape = (indices.max(axis=0) + 1).tolist()
    report = {"space": f"the box around the voxels ({' x '.join(f'{size:g}' for size in step)} mm); no more is on file"}
    return Space("volume", affine=affine.tolist(), shape=shape), table, report


def _step(values: np.ndarray) -> float:
    """Return the smallest step between different positions along an axis; 1 if there is only one position."""
    steps = np.diff(np.unique(values))
    steps = steps[steps > TOLERANCE]
    return float(steps.min()) if len(steps) else 1.0


def rois_of(named: Mapping[str, np.ndarray], kept: np.ndarray) -> dict[str, np.ndarray]:
    """Return the ROIs of the kept voxels, under neurorecon's names.

    Parameters
    ----------
    named : mapping of str to bool array, shape (voxel,)
        The ROIs under their names in the file, e.g. ``VOX_MF100301_LH_V1d``.
    kept : bool array, shape (voxel,)
        Which voxels are kept.

    Returns
    -------
    dict of str to bool array, shape (kept voxel,)
        ``lh.V1d``, ``rh.V1d``, ``V1d``, ``V1`` (dorsal and ventral) and so on, without empty ROIs. Adjacent ROIs of
        the file overlap along their border.
    """
    found: dict[str, np.ndarray] = {}

    def add(name: str, member: np.ndarray) -> None:
        found[name] = found.get(name, np.zeros(int(kept.sum()), dtype=bool)) | member

    for name, member in named.items():
        match = re.search(r"_(LH|RH)_(\w+)$", name)
        if match is None:
            add(name, member[kept])
            continue
        side, roi = match[1].lower(), match[2]
        whole = re.sub(r"(?<=\d)[dv]$", "", roi)
        for each in dict.fromkeys((roi, whole)):
            add(each, member[kept])
            add(f"{side}.{each}", member[kept])
    return {name: member for name, member in found.items() if member.any()} or {"all": np.ones(kept.sum(), dtype=bool)}


#: Suffixes of the file names of a subject.
FIGURES, KEPT = "_figureImage.mat", "_outlierVoxInd.mat"

CITATION = (
    "Yamada K, Miyawaki Y, Kamitani Y (2015). Inter-subject neural code converter for visual image representation. "
    "NeuroImage 113:289-297. doi:10.1016/j.neuroimage.2015.03.059"
)


class YamadaOptions(Options):
    """Options of the reader of Yamada 2015.

    Parameters
    ----------
    detrend : bool
        Remove the linear trend of every voxel in every run.
    standardize : bool
        Scale every voxel to unit variance in every run.
    lag : int
        Volumes (2 s each) by which the response follows the stimulus.
    samples : {"block", "volume"}
        One sample per presentation (the mean of its volumes), or one sample per volume. Volumes of the same
        presentation share noise, so that noise ceilings computed from them are too high.
    outliers : {"drop", "keep"}
        What to do with voxels that the authors left out (those that ``S*_outlierVoxInd.mat`` does not list).
    bad_voxels : {"drop", "keep"}
        What to do with voxels that are constant or not finite in a run. If kept, values that are not finite become 0.
    """

    detrend: bool = True
    standardize: bool = True
    lag: int = Field(default=2, ge=0, le=20)
    samples: Literal["block", "volume"] = "block"
    outliers: Literal["drop", "keep"] = "drop"
    bad_voxels: Literal["drop", "keep"] = "drop"


@dataclass(frozen=True)
class _Subject:
    """A subject: its recording, and its data without responses."""

    recording: Recording
    data: SubjectData


class Yamada2015Reader(Reader):
    """Reader of Yamada et al. 2015.

    Parameters
    ----------
    root : path
        The folder with ``S2_figureImage.mat``.
    options : YamadaOptions, optional
        Preprocessing, and which voxels to store.

    Raises
    ------
    MissingFileError
        If a file is missing.
    InputError
        If a file cannot be used; the message names it.

    References
    ----------
    Yamada et al. 2015, NeuroImage 113:289-297.
    """

    name: ClassVar[str] = "yamada2015"
    Options: ClassVar[type[Options]] = YamadaOptions
    options: YamadaOptions

    def __init__(self, root: str | Path | None, options: YamadaOptions | None = None) -> None:
        super().__init__(root, options)
        assert self.root is not None  # the base class refuses None
        found = {match[1]: path for path in sorted(self.root.iterdir()) if (match := _SUBJECT.fullmatch(path.name))}
        if not found:
            raise MissingFileError(
                "the folder does not contain the data of Yamada 2015",
                given=f"no file S1{FIGURES}, S2{FIGURES} ... in {self.root}",
                expected=f"S2{FIGURES} and S2{KEPT}",
                todo="pass the folder data of KamitaniLab/NeuralCodeConverter, or fetch the files: "
                "neurorecon datasets download yamada2015 --out DIR",
            )
        self._subjects = {name: self._open(path) for name, path in found.items()}
        self._check_shapes()

    @property
    def description(self) -> Description:
        """Title, citation, terms of use and units of the data set."""
        return Description(
            title="Yamada 2015: V1, five geometric shapes",
            simulated=self.simulated,
            citation=CITATION,
            terms="Open Data Commons Attribution License (ODC-BY); KamitaniLab/NeuralCodeConverter",
            units="standard deviations of the run" if self.options.standardize else "scanner units",
            notes=_notes(self.options),
        )

    @property
    def subjects(self) -> list[str]:
        """Names of the subjects in the file names, e.g. ``S2``."""
        return list(self._subjects)

    def stimuli(self) -> pd.DataFrame:
        """Return the table of stimuli, i.e. the names of the shapes. The files contain no images of them."""
        shapes = next(iter(self._subjects.values())).recording.shapes
        captions = [[f"a {shape.replace('_', ' ')}"] for shape in shapes]
        return pd.DataFrame({"id": shapes, "kind": "image", "category": shapes, "captions": captions})

    def subject(self, name: str) -> SubjectData:
        """Return the data of one subject."""
        if name not in self._subjects:
            raise UnknownNameError("subject", name, self.subjects)
        return self._subjects[name].data

    def _open(self, path: Path) -> _Subject:
        """Screen the voxels of a subject, and prepare everything except its responses."""
        recording = load_recording(path)
        kept = np.ones(recording.voxels, dtype=bool)
        report = {}
        if self.options.outliers == "drop":
            kept = load_kept(path.with_name(path.name.replace(FIGURES, KEPT)), recording.voxels)
            report["voxels left out by the authors"] = f"{int((~kept).sum()):,} of {recording.voxels:,}"
        screened = screen(recording.read_run(run)[:, kept] for run in range(len(recording.runs)))
        keep_bad = self.options.bad_voxels == "keep"
        report |= screened.report(kept=keep_bad)
        if not keep_bad:
            kept[kept] = screened.usable
        if not kept.any():
            raise _no_voxel(path, screened)
        space, voxels, remark = place_voxels(recording.millimeters[kept])
        report |= remark
        blocks = find_blocks(recording.codes, self.options.lag, self.options.samples)
        numbers = [number + 1 for number in range(len(recording.runs))]
        by_run = [[block for block in blocks if block.run == run] for run in range(len(numbers))]

        def load(run: int) -> np.ndarray:
            volumes = recording.read_run(run)[:, kept]
            volumes = prepare_run(volumes, trend=self.options.detrend, standardize=self.options.standardize)
            return block_means(volumes, by_run[run])

        data = SubjectData(
            samples=sample_table(blocks, recording.shapes, numbers, recording.repetition_time),
            voxels=voxels,
            rois=rois_of(recording.rois, kept),
            space=space,
            read_responses=read_by_part([len(part) for part in by_run], load, int(kept.sum())),
            report=report,
        )
        return _Subject(recording, data)

    def _check_shapes(self) -> None:
        """Raise :class:`InputError` if the subjects saw different shapes."""
        shapes = {name: subject.recording.shapes for name, subject in self._subjects.items()}
        if len({tuple(found) for found in shapes.values()}) > 1:
            raise InputError(
                f"the subjects in {self.root} saw different shapes",
                given="; ".join(f"{name}: {', '.join(found)}" for name, found in shapes.items()),
                expected="the same shapes in the same order (D/labels_names)",
                todo="put the files of each subject into a separate folder, and build one store for each",
            )


_SUBJECT = re.compile(rf"(S\d+){re.escape(FIGURES)}")


def _no_voxel(path: Path, screened: Screened) -> InputError:
    return InputError(
        f"{path} contains no usable voxel",
        given="; ".join(screened.report().values()) or "none of the voxels that the authors kept",
        expected="voxels that vary in every run",
        todo="replace the file if it is damaged, or set bad_voxels = 'keep' in [options] of the recipe",
    )


def _notes(options: YamadaOptions) -> str:
    """Describe the preprocessing."""
    done = [
        *(["linear trend removed by run"] if options.detrend else []),
        *(["standardized by run"] if options.standardize else []),
        f"response taken {options.lag} volumes ({options.lag * 2} s) after the stimulus",
        "volumes of a block averaged" if options.samples == "block" else "every volume a sample",
    ]
    return (
        f"Raw BOLD of V1: {'; '.join(done)}. Rest is left out. Every run shows every shape, so all samples are "
        "'train': leave one run out at a time. The files name the shapes and hold no images of them."
    )
