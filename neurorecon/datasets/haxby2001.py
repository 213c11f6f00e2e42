"""Reader of Haxby et al. 2001: responses of six subjects to blocks of eight categories of objects.

Two layouts are supported: the one that :func:`nilearn.datasets.fetch_haxby` writes to ``nilearn_data/haxby2001`` (one
folder per subject), and the one-slice excerpt that comes with PyMVPA (``bold.nii.gz``, ``mask.nii.gz``,
``attributes_literal.txt``).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import pandas as pd
from pydantic import Field

from neurorecon.datasets.base import Description, Options, Reader, SubjectData
from neurorecon.datasets.runs import REST, block_means, find_blocks, prepare_run, read_by_part, sample_table, screen
from neurorecon.errors import InputError, MissingFileError, UnknownNameError
from neurorecon.io.files import require_file
from neurorecon.io.images import read_image
from neurorecon.io.volumes import check_grid, check_mask, image_values, open_image, read_mask
from neurorecon.space import Space

#: Repetition time (s); the headers are not reliable.
REPETITION_TIME = 2.5

#: Advice if a file is missing or damaged.
AGAIN = "delete the damaged file, if any, and fetch the data set again: neurorecon datasets download haxby2001"

#: File of each ROI mask (Haxby et al. 2001; those named ``8b`` are larger).
ROIS = {
    "vt": "mask4_vt.nii.gz",
    "face_vt": "mask8b_face_vt.nii.gz",
    "house_vt": "mask8b_house_vt.nii.gz",
    "face_vt_small": "mask8_face_vt.nii.gz",
    "house_vt_small": "mask8_house_vt.nii.gz",
}

#: Categories by their numbers in ``attributes.txt``, which the excerpt has in addition to the literal file.
NUMBERED = {
    "0": "rest", "1": "face", "2": "house", "3": "shoe", "4": "cat",
    "5": "scissors", "6": "scrambledpix", "7": "bottle", "8": "chair",
}  # fmt: skip

#: The ROI whose mask must exist in nilearn's layout.
REQUIRED = "vt"


class Series:
    """Reads the volumes at the voxels of a mask, and caches those of the last subject.

    All runs of a subject are in one compressed file, which is decompressed from the start whichever run is read.
    """

    def __init__(self) -> None:
        self._last: tuple[Path, np.ndarray] | None = None

    def read(self, path: Path, indices: np.ndarray) -> np.ndarray:
        """Return the values of a file, shape (volume, voxel), unprocessed."""
        if self._last is None or self._last[0] != path:
            self._last = None  # cleared first, so that only one subject is in memory
            values = image_values(open_image(path, AGAIN), path, todo=AGAIN)
            self._last = (path, np.ascontiguousarray(values[tuple(indices)].T))
        return self._last[1]


@dataclass(frozen=True)
class Recording:
    """The recording of one subject.

    Parameters
    ----------
    path : path
        The file with the volumes.
    labels : list of str
        Category shown in each volume, or ``"rest"``.
    runs : list of slice
        Volumes of each run that shows a stimulus.
    run_numbers : list of int
        Number of each of these runs, from 1.
    indices : int array, shape (3, voxel)
        Indices of the voxels in the volume.
    shape : tuple of int
        Shape of the volumes, (x, y, z).
    affine : array, shape (4, 4)
        Affine of the volumes.
    rois : dict of str to bool array, shape (voxel,)
        Which voxels belong to each ROI.
    report : dict of str to str
        Notes for :attr:`SubjectData.report`.
    series : Series
        Reads the volumes.
    """

    path: Path
    labels: list[str] = field(repr=False)
    runs: list[slice]
    run_numbers: list[int]
    indices: np.ndarray = field(repr=False)
    shape: tuple[int, ...]
    affine: np.ndarray
    rois: dict[str, np.ndarray] = field(repr=False)
    report: dict[str, str]
    series: Series = field(repr=False)

    @property
    def shown(self) -> list[str]:
        """Categories in order of first appearance."""
        return [name for name in dict.fromkeys(self.labels) if name != "rest"]

    def codes(self, categories: Sequence[str]) -> list[np.ndarray]:
        """Return for each run the index of the category shown in each volume, or :data:`REST`."""
        places = {name: place for place, name in enumerate(categories)}
        every = np.array([places.get(name, REST) for name in self.labels])
        return [every[run] for run in self.runs]

    def read_run(self, number: int) -> np.ndarray:
        """Return the unprocessed volumes of a run, float64, shape (volume, voxel)."""
        return self.series.read(self.path, self.indices)[self.runs[number]].astype(float)


def find_recordings(root: Path, voxels: str) -> dict[str, Callable[[], Recording]]:
    """Find the subjects in a folder.

    Parameters
    ----------
    root : path
        The folder of the data set, in either layout.
    voxels : {"vt", "brain"}
        Which voxels to read in nilearn's layout.

    Returns
    -------
    dict of str to callable
        For each subject, a function that reads its labels, masks and headers and returns a :class:`Recording`.
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
    rois = {}
    for name, file in ROIS.items():
        if name == REQUIRED or (folder / file).is_file():
            rois[name] = _mask_of(folder / file, path, shape, affine)
    missing = [file for name, file in ROIS.items() if name not in rois]
    report = {"masks missing": ", ".join(missing)} if missing else {}
    chosen = rois[REQUIRED] if voxels == "vt" else _brain(path) | np.logical_or.reduce(list(rois.values()))
    return _recording(path, rows, chosen, rois, (shape, affine), report, series)


def _read_excerpt(root: Path, series: Series) -> Recording:
    path = root / "bold.nii.gz"
    shape, affine = _grid(path)
    mask = _mask_of(root / "mask.nii.gz", path, shape, affine)
    literal = root / "attributes_literal.txt"
    rows = _read_table(literal if literal.is_file() else root / "attributes.txt", header=None)
    return _recording(path, rows, mask, {"mask": mask}, (shape, affine), {}, series)


def _recording(
    path: Path,
    rows: list[tuple[str, int]],
    chosen: np.ndarray,
    rois: dict[str, np.ndarray],
    grid: tuple[tuple[int, ...], np.ndarray],
    report: dict[str, str],
    series: Series,
) -> Recording:
    """Create the recording, and check that the labels match the volumes."""
    shape, affine = grid
    if len(rows) != shape[3]:
        raise InputError(
            f"the labels do not match {path}",
            given=f"{len(rows)} rows for {shape[3]} volumes",
            expected="one row per volume",
            todo=AGAIN,
        )
    labels, chunks = [name for name, _ in rows], np.array([chunk for _, chunk in rows])
    edges = [0, *(np.flatnonzero(np.diff(chunks)) + 1).tolist(), len(chunks)]
    parts = [slice(start, stop) for start, stop in pairwise(edges)]
    numbers = [int(chunks[part.start]) + 1 for part in parts]
    if len(set(numbers)) != len(numbers) or any(part.stop - part.start < 4 for part in parts):
        raise InputError(
            f"the volumes of {path.parent} cannot be divided into runs",
            given=f"runs of {', '.join(str(part.stop - part.start) for part in parts)} volumes, numbered {numbers}",
            expected="consecutive volumes in each run (121 per run)",
            todo=AGAIN,
        )
    silent = [number for part, number in zip(parts, numbers, strict=True) if set(labels[part]) <= {"rest"}]
    if len(silent) == len(parts):
        raise InputError(
            f"{path.parent} contains no stimuli", given="rest in all volumes", expected="categories", todo=AGAIN
        )
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
        {name: roi[chosen] for name, roi in rois.items()} | ({"brain": chosen[chosen]} if len(rois) > 1 else {}),
        report,
        series,
    )


def _grid(path: Path) -> tuple[tuple[int, ...], np.ndarray]:
    """Return the shape and the affine of the volumes."""
    image = open_image(path, AGAIN)
    if len(image.shape) != 4 or min(image.shape) == 0:
        raise InputError(
            f"{path} is not a series of volumes",
            given=f"shape {image.shape}",
            expected="shape (x, y, z, volume)",
            todo=AGAIN,
        )
    return tuple(int(size) for size in image.shape), np.asarray(image.affine, dtype=float)


def _mask_of(path: Path, like: Path, shape: tuple[int, ...], affine: np.ndarray) -> np.ndarray:
    """Read a mask, and check that it is on the grid of the volumes."""
    mask, found = read_mask(path, AGAIN)
    check_grid(path, mask.shape, found, like.name, shape[:3], affine)
    check_mask(mask, path, AGAIN)
    return mask


def _brain(path: Path) -> np.ndarray:
    """Return the voxels that are brighter than a fifth of the 98th percentile of the first volume."""
    first = image_values(open_image(path, AGAIN), path, (..., 0), AGAIN)
    return first > 0.2 * np.percentile(first, 98)


def _read_table(path: Path, header: tuple[str, str] | None) -> list[tuple[str, int]]:
    """Read the category and the run of each volume.

    Parameters
    ----------
    path : path
        A text file with two words per line.
    header : (str, str), optional
        Expected words of the first line, if there is a header.
    """
    require_file(path, "labels and runs", AGAIN)
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
        expected="two words per line: the category (or rest) and the number of the run",
        todo=AGAIN,
    )


#: Folder of the images of each category.
FOLDERS = {
    "face": "faces", "house": "houses", "cat": "cats", "bottle": "bottles", "scissors": "scissors", "shoe": "shoes",
    "chair": "chairs", "scrambledpix": "scrambledpix",
}  # fmt: skip

#: Advice if an image is missing or damaged.
IMAGES_AGAIN = "fetch the images again (nilearn.datasets.fetch_haxby(fetch_stimuli=True)), or delete the folder stimuli"


@dataclass(frozen=True)
class HaxbyImages:
    """One image per category.

    The data set does not record which image was shown when, so the first image of a category, by file name, represents
    it.

    Parameters
    ----------
    paths : list of Path
        Image files, in the order of the table of stimuli.
    shape : (int, int, int)
        Shape of the first image, (y, x, rgb). The others are scaled to it.
    """

    paths: list[Path]
    shape: tuple[int, int, int]

    @classmethod
    def find(cls, folder: Path, categories: Sequence[str]) -> HaxbyImages | None:
        """Find an image of each category; return None if the folder does not exist.

        Parameters
        ----------
        folder : path
            The folder ``stimuli`` of nilearn's layout.
        categories : sequence of str
            The categories.

        Raises
        ------
        InputError
            If a category has no image, or the first image is damaged.
        """
        if not folder.is_dir():
            return None
        paths = []
        for name in categories:
            found = sorted((folder / FOLDERS.get(name, name)).glob("*.jp*g"))
            if not found:
                raise InputError(
                    f"{folder} contains no image of the category {name!r}",
                    given=f"no file {FOLDERS.get(name, name)}/*.jpg",
                    expected="one folder of JPEG files per category",
                    todo=IMAGES_AGAIN,
                )
            paths.append(found[0])
        height, width = _load(paths[0]).shape[:2]
        return cls(paths, (height, width, 3))

    def read(self, start: int, stop: int) -> np.ndarray:
        """Return images ``start:stop``, uint8, shape (stimulus, y, x, rgb)."""
        images = [_load(path, self.shape[:2]) for path in self.paths[start:stop]]
        return np.stack(images) if images else np.empty((0, *self.shape), dtype=np.uint8)


def _load(path: Path, size: tuple[int, int] | None = None) -> np.ndarray:
    from PIL import Image

    colored = read_image(path, IMAGES_AGAIN)
    if size is not None and colored.size != size[::-1]:
        colored = colored.resize(size[::-1], Image.Resampling.LANCZOS)
    return np.asarray(colored)


#: The categories in the order in which they are stored, and their captions.
CATEGORIES = {
    "face": "a face",
    "house": "a house",
    "cat": "a cat",
    "bottle": "a bottle",
    "scissors": "a pair of scissors",
    "shoe": "a shoe",
    "chair": "a chair",
    "scrambledpix": "a scrambled picture",
}

CITATION = (
    "Haxby JV, Gobbini MI, Furey ML, Ishai A, Schouten JL, Pietrini P (2001). Distributed and overlapping "
    "representations of faces and objects in ventral temporal cortex. Science 293:2425-2430. "
    "doi:10.1126/science.1063736"
)


class HaxbyOptions(Options):
    """Options of the reader of Haxby 2001.

    Parameters
    ----------
    subjects : list of str
        Subjects to read, e.g. ``["subj2"]``. By default, all subjects on disk.
    voxels : {"vt", "brain"}
        Voxels to store from nilearn's layout: ventral temporal cortex (``mask4_vt``), as in the paper, or the brain,
        i.e. voxels brighter than a fifth of the 98th percentile of the first volume. The excerpt has only one mask.
    detrend : bool
        Remove the linear trend of every voxel in every run.
    standardize : bool
        Scale every voxel to unit variance in every run.
    lag : int
        Volumes (2.5 s each) by which the response follows the stimulus.
    samples : {"block", "volume"}
        One sample per block (the mean of its volumes), or one sample per volume. Volumes of the same block share
        noise, so that noise ceilings computed from them are too high.
    bad_voxels : {"drop", "keep"}
        What to do with voxels that are constant or not finite in a run. If kept, values that are not finite become 0.
    """

    subjects: list[str] = Field(default_factory=list)
    voxels: Literal["vt", "brain"] = "vt"
    detrend: bool = True
    standardize: bool = True
    lag: int = Field(default=2, ge=0, le=20)
    samples: Literal["block", "volume"] = "block"
    bad_voxels: Literal["drop", "keep"] = "drop"


class Haxby2001Reader(Reader):
    """Reader of Haxby et al. 2001.

    Parameters
    ----------
    root : path
        The folder with ``subj1``, ``subj2`` ..., or the one with ``attributes_literal.txt``.
    options : HaxbyOptions, optional
        Preprocessing, and which voxels to store.

    Raises
    ------
    MissingFileError
        If the folder contains neither layout, or a file is missing.
    InputError
        If a file cannot be used; the message names it.

    References
    ----------
    Haxby et al. 2001, Science 293:2425-2430.
    """

    name: ClassVar[str] = "haxby2001"
    Options: ClassVar[type[Options]] = HaxbyOptions
    options: HaxbyOptions

    def __init__(self, root: str | Path | None, options: HaxbyOptions | None = None) -> None:
        super().__init__(root, options)
        assert self.root is not None  # the base class refuses None
        found = find_recordings(self.root, self.options.voxels)
        if not found:
            raise MissingFileError(
                "the folder must contain the data of Haxby 2001 in one of two layouts",
                given=str(self.root),
                expected="either folders subj1, subj2 ... with bold.nii.gz, or bold.nii.gz and attributes_literal.txt",
                todo="pass nilearn_data/haxby2001, or fetch it: neurorecon datasets download haxby2001 --out DIR",
            )
        for name in self.options.subjects:
            if name not in found:
                raise UnknownNameError("subject", name, found)
        self._recordings = {name: found[name]() for name in self.options.subjects or found}
        shown = {name for recording in self._recordings.values() for name in recording.shown}
        known = [name for name in CATEGORIES if name in shown]
        self._categories = [*known, *sorted(shown - set(known))]
        self._images = HaxbyImages.find(self.root / "stimuli", self._categories)
        self._subjects = {name: self._open(recording) for name, recording in self._recordings.items()}

    @property
    def description(self) -> Description:
        """Title, citation, terms of use and units of the data set."""
        return Description(
            title="Haxby 2001: eight categories of objects",
            simulated=self.simulated,
            citation=CITATION,
            terms="Creative Commons Attribution-ShareAlike 3.0 (CC BY-SA 3.0), as PyMVPA distributes it",
            units="standard deviations of the run" if self.options.standardize else "scanner units",
            notes=self._notes(),
        )

    @property
    def subjects(self) -> list[str]:
        """Names of the subjects' folders; ``subj1`` for the excerpt."""
        return list(self._subjects)

    def stimuli(self) -> pd.DataFrame:
        """Return the table of stimuli, i.e. the categories. Which image was shown when is not recorded."""
        captions = [[CATEGORIES.get(name, name)] for name in self._categories]
        table = {"id": self._categories, "kind": "image", "category": self._categories, "captions": captions}
        return pd.DataFrame(table)

    def image_shape(self) -> tuple[int, int, int] | None:
        """Return the shape of an image, (y, x, 3), or None if the folder ``stimuli`` does not exist."""
        return None if self._images is None else self._images.shape

    def read_images(self, start: int, stop: int) -> np.ndarray:
        """Return the first image of each category ``start:stop``, uint8, shape (stimulus, y, x, rgb)."""
        if self._images is None:
            return super().read_images(start, stop)
        return self._images.read(start, stop)

    def subject(self, name: str) -> SubjectData:
        """Return the data of one subject."""
        if name not in self._subjects:
            raise UnknownNameError("subject", name, self.subjects)
        return self._subjects[name]

    def _open(self, recording: Recording) -> SubjectData:
        """Screen the voxels of a subject, and prepare everything except its responses."""
        screened = screen(recording.read_run(run) for run in range(len(recording.runs)))
        kept = np.ones(len(screened.usable), dtype=bool)
        if self.options.bad_voxels == "drop":
            kept = screened.usable
        if not kept.any():
            raise InputError(
                f"{recording.path} contains no usable voxel",
                given="; ".join(screened.report().values()),
                expected="voxels that vary in every run",
                todo="replace the file if it is damaged, or set bad_voxels = 'keep' in [options] of the recipe",
            )
        blocks = find_blocks(recording.codes(self._categories), self.options.lag, self.options.samples)
        by_run = [[block for block in blocks if block.run == run] for run in range(len(recording.runs))]

        def load(run: int) -> np.ndarray:
            volumes = recording.read_run(run)[:, kept]
            volumes = prepare_run(volumes, trend=self.options.detrend, standardize=self.options.standardize)
            return block_means(volumes, by_run[run])

        return SubjectData(
            samples=sample_table(blocks, self._categories, recording.run_numbers, REPETITION_TIME),
            voxels=pd.DataFrame(dict(zip("ijk", recording.indices[:, kept], strict=True))),
            rois={name: member[kept] for name, member in recording.rois.items() if member[kept].any()},
            space=Space("volume", affine=recording.affine.tolist(), shape=list(recording.shape)),
            read_responses=read_by_part([len(part) for part in by_run], load, int(kept.sum())),
            report={**recording.report, **screened.report(kept=self.options.bad_voxels == "keep")},
        )

    def _notes(self) -> str:
        """Describe the preprocessing."""
        options = self.options
        done = [
            *(["linear trend removed by run"] if options.detrend else []),
            *(["standardized by run"] if options.standardize else []),
            f"response taken {options.lag} volumes ({options.lag * REPETITION_TIME:g} s) after the stimulus",
            "volumes of a block averaged" if options.samples == "block" else "every volume a sample",
        ]
        shown = "no images are on file" if self._images is None else "the image of a category is one of many"
        return (
            f"BOLD: {'; '.join(done)}. Rest is left out. Every run shows every category, so all samples are 'train': "
            f"leave one run out at a time. A stimulus is a category; {shown}."
        )
