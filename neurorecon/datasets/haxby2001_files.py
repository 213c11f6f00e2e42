"""Files of Haxby 2001: labels, masks and volumes, in the layout of nilearn's fetcher and in that of the excerpt."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np

from neurorecon.datasets.blocks import REST
from neurorecon.datasets.images import check_grid, image_values, open_image
from neurorecon.errors import InputError, MissingFileError

#: Seconds between volumes; the headers do not say it reliably.
REPETITION_TIME = 2.5

#: What is said where a file is missing or damaged.
AGAIN = "delete the file where it is damaged, and fetch the data set again: neurorecon datasets download haxby2001"

#: Areas by the masks that hold them (Haxby et al. 2001; ``8b`` are the larger ones).
AREAS = {
    "vt": "mask4_vt.nii.gz",
    "face_vt": "mask8b_face_vt.nii.gz",
    "house_vt": "mask8b_house_vt.nii.gz",
    "face_vt_small": "mask8_face_vt.nii.gz",
    "house_vt_small": "mask8_house_vt.nii.gz",
}

#: Categories by the numbers in ``attributes.txt``, which the excerpt has beside the words.
NUMBERED = {
    "0": "rest", "1": "face", "2": "house", "3": "shoe", "4": "cat",
    "5": "scissors", "6": "scrambledpix", "7": "bottle", "8": "chair",
}  # fmt: skip

#: The area that nilearn's layout cannot do without.
REQUIRED = "vt"


class Series:
    """Volumes at the voxels of a mask; those of the subject that was read last stay in memory.

    All runs are in one compressed file, which has to be decompressed from its beginning whichever run is wanted.
    """

    def __init__(self) -> None:
        self._last: tuple[Path, np.ndarray] | None = None

    def read(self, path: Path, indices: np.ndarray) -> np.ndarray:
        """Return the values as they are on disk, shape (volume, voxel)."""
        if self._last is None or self._last[0] != path:
            self._last = None  # before the next one is read: one subject in memory, not two
            values = image_values(open_image(path, AGAIN), path, todo=AGAIN)
            self._last = (path, np.ascontiguousarray(values[tuple(indices)].T))
        return self._last[1]


@dataclass(frozen=True)
class Recording:
    """One subject on disk.

    Parameters
    ----------
    path : path
        The volumes.
    labels : list of str
        What each volume shows; ``"rest"`` for nothing.
    runs : list of slice
        Volumes of each run that shows anything.
    run_numbers : list of int
        Number of each, from 1.
    indices : int array, shape (3, voxel)
        Where the voxels lie.
    shape, affine
        Of the volumes.
    areas : dict of str to bool array, shape (voxel,)
    report : dict of str to str
    """

    path: Path
    labels: list[str] = field(repr=False)
    runs: list[slice]
    run_numbers: list[int]
    indices: np.ndarray = field(repr=False)
    shape: tuple[int, ...]
    affine: np.ndarray
    areas: dict[str, np.ndarray] = field(repr=False)
    report: dict[str, str]
    series: Series = field(repr=False)

    @property
    def shown(self) -> list[str]:
        """Categories in order of first appearance."""
        return [name for name in dict.fromkeys(self.labels) if name != "rest"]

    def codes(self, categories: Sequence[str]) -> list[np.ndarray]:
        """Return for each run the place of what each volume shows among the categories."""
        places = {name: place for place, name in enumerate(categories)}
        every = np.array([places.get(name, REST) for name in self.labels])
        return [every[run] for run in self.runs]

    def read_run(self, number: int) -> np.ndarray:
        """Return a run as it is on disk, float64, shape (volume, voxel)."""
        return self.series.read(self.path, self.indices)[self.runs[number]].astype(float)


def find_recordings(root: Path, voxels: str) -> dict[str, Callable[[], Recording]]:
    """List the subjects in a folder, by name, each with what reads its labels, masks and headers.

    Parameters
    ----------
    root : path
        Of either layout.
    voxels : {"vt", "brain"}
        Which voxels of nilearn's layout.
    """
    series = Series()
    folders = [path for path in sorted(root.iterdir()) if re.fullmatch(r"subj\d+", path.name) and path.is_dir()]
    if folders:
        return {folder.name: partial(_read_subject, folder, voxels, series) for folder in folders}
    if (root / "attributes_literal.txt").is_file() or (root / "attributes.txt").is_file():
        return {"subj1": partial(_read_excerpt, root, series)}
    return {}


def _read_subject(folder: Path, voxels: str, series: Series) -> Recording:
    path = folder / "bold.nii.gz"
    shape, affine = _grid(path)
    rows = _read_table(folder / "labels.txt", header=("labels", "chunks"))
    areas = {}
    for name, file in AREAS.items():
        if name == REQUIRED or (folder / file).is_file():
            areas[name] = _read_mask(folder / file, path, shape, affine)
    missing = [file for name, file in AREAS.items() if name not in areas]
    report = {"masks missing": ", ".join(missing)} if missing else {}
    chosen = areas[REQUIRED] if voxels == "vt" else _brain(path) | np.logical_or.reduce(list(areas.values()))
    return _recording(path, rows, chosen, areas, (shape, affine), report, series)


def _read_excerpt(root: Path, series: Series) -> Recording:
    path = root / "bold.nii.gz"
    shape, affine = _grid(path)
    mask = _read_mask(root / "mask.nii.gz", path, shape, affine)
    literal = root / "attributes_literal.txt"
    rows = _read_table(literal if literal.is_file() else root / "attributes.txt", header=None)
    return _recording(path, rows, mask, {"mask": mask}, (shape, affine), {}, series)


def _recording(
    path: Path,
    rows: list[tuple[str, int]],
    chosen: np.ndarray,
    areas: dict[str, np.ndarray],
    grid: tuple[tuple[int, ...], np.ndarray],
    report: dict[str, str],
    series: Series,
) -> Recording:
    """Put together what was read; labels have to match the volumes."""
    shape, affine = grid
    if len(rows) != shape[3]:
        raise InputError(
            f"the labels do not match {path}",
            given=f"{len(rows)} rows for {shape[3]} volumes",
            expected="one row a volume",
            todo=AGAIN,
        )
    labels, chunks = [name for name, _ in rows], np.array([chunk for _, chunk in rows])
    edges = [0, *(np.flatnonzero(np.diff(chunks)) + 1).tolist(), len(chunks)]
    parts = [slice(start, stop) for start, stop in pairwise(edges)]
    numbers = [int(chunks[part.start]) + 1 for part in parts]
    if len(set(numbers)) != len(numbers) or any(part.stop - part.start < 4 for part in parts):
        raise InputError(
            f"the runs of {path.parent} cannot be told apart",
            given=f"runs of {', '.join(str(part.stop - part.start) for part in parts)} volumes, numbered {numbers}",
            expected="all volumes of a run one after the other (121 each)",
            todo=AGAIN,
        )
    silent = [number for part, number in zip(parts, numbers, strict=True) if set(labels[part]) <= {"rest"}]
    if len(silent) == len(parts):
        raise InputError(f"{path.parent} shows nothing", given="rest in all volumes", expected="categories", todo=AGAIN)
    if silent:
        report = {**report, "runs without labels, left out": ", ".join(map(str, silent))}
    runs = [part for part, number in zip(parts, numbers, strict=True) if number not in silent]
    return Recording(
        path,
        labels,
        runs,
        [number for number in numbers if number not in silent],
        np.array(np.nonzero(chosen)),
        shape[:3],
        affine,
        {name: area[chosen] for name, area in areas.items()} | ({"brain": chosen[chosen]} if len(areas) > 1 else {}),
        report,
        series,
    )


def _grid(path: Path) -> tuple[tuple[int, ...], np.ndarray]:
    """Return the shape and the affine of the volumes."""
    image = open_image(path, AGAIN)
    if len(image.shape) != 4 or min(image.shape) == 0:
        raise InputError(
            f"{path} is no series of volumes",
            given=f"shape {image.shape}",
            expected="shape (x, y, z, volume)",
            todo=AGAIN,
        )
    return tuple(int(size) for size in image.shape), np.asarray(image.affine, dtype=float)


def _read_mask(path: Path, like: Path, shape: tuple[int, ...], affine: np.ndarray) -> np.ndarray:
    """Read a mask on the grid of the volumes; a fourth axis of length 1 is dropped."""
    image = open_image(path, AGAIN)
    found = tuple(image.shape[:3]) if image.shape[3:] == (1,) else tuple(image.shape)
    check_grid(path, found, image.affine, like.name, shape[:3], affine)
    mask = image_values(image, path, todo=AGAIN).reshape(found) != 0
    if not mask.any():
        raise InputError(f"{path} is empty", given="0 voxels", expected="voxels that are not zero", todo=AGAIN)
    return mask


def _brain(path: Path) -> np.ndarray:
    """Return the voxels that are bright in the first volume."""
    first = image_values(open_image(path, AGAIN), path, (..., 0), AGAIN)
    return first > 0.2 * np.percentile(first, 98)


def _read_table(path: Path, header: tuple[str, str] | None) -> list[tuple[str, int]]:
    """Read what each volume shows, and its run.

    Parameters
    ----------
    path : path
        Two words a line.
    header : (str, str), optional
        The first line, where there is one.
    """
    if not path.is_file():
        raise MissingFileError(f"{path} is missing", given="no such file", expected="labels and runs", todo=AGAIN)
    try:
        lines = [tuple(line.split()) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise _no_table(path, str(error)) from error
    if header is not None:
        if lines[:1] != [header]:
            raise _no_table(path, f"the first line {' '.join(lines[0]) if lines else ''!r}, not {' '.join(header)!r}")
        lines = lines[1:]
    rows = []
    for number, line in enumerate(lines, start=1 if header is None else 2):
        if len(line) != 2 or not line[1].isdigit():
            raise _no_table(path, f"line {number}: {' '.join(line)!r}")
        rows.append((NUMBERED.get(line[0], line[0]), int(line[1])))
    return rows


def _no_table(path: Path, given: str) -> InputError:
    return InputError(
        f"{path} cannot be read as labels",
        given=given,
        expected="two words a line: the category (or rest) and the number of the run",
        todo=AGAIN,
    )
