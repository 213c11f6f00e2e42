"""Files of Yamada 2015: the recording of a subject (MATLAB v7.3), and which voxels its authors keep."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from neurorecon.datasets.blocks import REST
from neurorecon.datasets.images import damaged
from neurorecon.errors import InputError, MissingFileError

#: What is said where a file is missing or damaged.
AGAIN = "fetch the files: neurorecon datasets download yamada2015 --out DIR"

#: Seconds between volumes, where the file does not say.
REPETITION_TIME = 2.0

#: Arrays of the recording that are read. MATLAB's axes come reversed.
NEEDED = ("data", "labels", "labels_names", "inds_conds", "inds_runs", "rois_inds", "rois_names", "xyz")


@dataclass(frozen=True)
class Recording:
    """What a file holds.

    Parameters
    ----------
    voxels : int
        Number of voxels.
    shapes : list of str
        What was shown, rest left out.
    runs : list of slice
        Volumes of each run.
    codes : list of int array, shape (volume,)
        For each run, the place of the shape of each volume among `shapes`; :data:`~neurorecon.datasets.blocks.REST`.
    areas : dict of str to bool array, shape (voxel,)
        By the names in the file, e.g. ``VOX_MF100301_LH_V1d``.
    millimeters : array, shape (voxel, 3)
        Positions.
    repetition_time : float
        Seconds between volumes.
    read_run : callable
        ``read_run(number)`` returns a run as it is on disk, float64, shape (volume, voxel).
    """

    voxels: int
    shapes: list[str]
    runs: list[slice]
    codes: list[np.ndarray]
    areas: dict[str, np.ndarray]
    millimeters: np.ndarray
    repetition_time: float
    read_run: Callable[[int], np.ndarray]


def load_recording(path: Path) -> Recording:
    """Read all of a file but the responses, and check that it fits together.

    Parameters
    ----------
    path : path
        ``S2_figureImage.mat``.

    Returns
    -------
    Recording

    Raises
    ------
    InputError
        Where it cannot be read, lacks an array, or its arrays do not fit each other.
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
    except Exception as error:  # h5py raises whatever a damaged file leads it to
        raise damaged(path, error, AGAIN) from error


def _checked(path: Path, file: Any) -> Recording:
    """Read the arrays, and check each against the others."""
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
    areas = {_text(file[name]): _members(path, _numbers(file[cell]), voxels) for name, cell in members}
    seconds = float(_numbers(file["P/fMRI/TR"])[0]) if "P/fMRI/TR" in file else REPETITION_TIME

    def read_run(number: int) -> np.ndarray:
        import h5py

        try:
            with h5py.File(path, "r") as again:
                return np.asarray(again["D/data"][:, runs[number]], dtype=float).T
        except (OSError, KeyError) as error:
            raise damaged(path, error, AGAIN) from error

    return Recording(voxels, shapes, runs, [places[shown[run]] for run in runs], areas, millimeters, seconds, read_run)


def load_kept(path: Path, voxels: int) -> np.ndarray:
    """Read which voxels the authors keep.

    Parameters
    ----------
    path : path
        ``S2_outlierVoxInd.mat``: ``afterOutlierVoxInd``, from 1.
    voxels : int
        Number of voxels of the recording.

    Returns
    -------
    bool array, shape (voxel,)

    Raises
    ------
    MissingFileError, InputError
        Where the file is missing, cannot be read, or lists other voxels.
    """
    from scipy.io import loadmat

    if not path.is_file():
        raise MissingFileError(
            f"{path} is missing",
            given="no such file",
            expected="the voxels that the authors keep (afterOutlierVoxInd)",
            todo=f"{AGAIN}; or keep all voxels: outliers = 'keep' in the recipe's [options]",
        )
    try:
        content = loadmat(path, variable_names=["afterOutlierVoxInd"])
    except Exception as error:  # scipy raises whatever a damaged file leads it to: a dozen types
        raise damaged(path, error, AGAIN) from error
    if "afterOutlierVoxInd" not in content:
        raise _wrong(path, "a MATLAB file without afterOutlierVoxInd", "afterOutlierVoxInd, numbers of voxels from 1")
    return _members(path, content["afterOutlierVoxInd"].ravel(), voxels)


def shape_name(name: str) -> str:
    """Return the name of a shape as neurorecon writes names: ``smallFrame8x8`` is ``small_frame``."""
    plain = re.sub(r"\d+x\d+$", "", name)
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", plain).lower() or name


def _is_rest(name: str) -> bool:
    return name.split()[-1:] == ["rest"]


def _shape(path: Path, part: Any) -> tuple[int, int]:
    """Return voxels and volumes; labels and positions tell which axis is which."""
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
    """Return for each volume the place of its condition among the names; labels have to tell them apart likewise."""
    shown = np.full(labels.size, -1)
    for place, numbers in enumerate(conditions):
        rows = numbers.astype(int) - 1
        if len(rows) and (rows.min() < 0 or rows.max() >= labels.size or (shown[rows] >= 0).any()):
            raise _wrong(path, f"D/inds_conds that list volumes of {names[place]!r} twice or beyond the end", _ONCE)
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


_ONCE = "D/inds_conds with every volume once, one condition a name, in agreement with D/labels"


def _runs(path: Path, edges: np.ndarray, volumes: int) -> list[slice]:
    """Return the volumes of each run, which have to follow each other without a gap."""
    runs = [slice(int(first) - 1, int(last)) for first, last in edges] if edges.shape[-1:] == (2,) else []
    follow = [run.start for run in runs] == [0, *(run.stop for run in runs)][: len(runs)]
    if not runs or not follow or runs[-1].stop != volumes or any(run.stop - run.start < 4 for run in runs):
        raise _wrong(
            path,
            f"D/inds_runs {edges.tolist()} for {volumes} volumes",
            "first and last volume of each run, one run after the other, from 1",
        )
    return runs


def _members(path: Path, numbers: np.ndarray, voxels: int) -> np.ndarray:
    """Turn numbers of voxels, from 1, into membership."""
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
    """Return the references in a cell array, in MATLAB's order."""
    return list(dataset[()].ravel())


def _numbers(dataset: Any) -> np.ndarray:
    return np.asarray(dataset[()], dtype=float).ravel()


def _text(dataset: Any) -> str:
    """MATLAB keeps text as numbers of its characters."""
    return "".join(chr(letter) for letter in dataset[()].ravel())


def _wrong(path: Path, given: str, expected: str) -> InputError:
    return InputError(f"{path} cannot be used", given=given, expected=expected, todo=f"take it as distributed: {AGAIN}")
