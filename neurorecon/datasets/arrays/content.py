"""The content of a data set of arrays: responses, stimuli and tables, checked against each other.

The checks are the same for folders and for arrays in memory.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from neurorecon.datasets.arrays.tables import (
    ArraysOptions,
    SampleRows,
    Stimuli,
    Volume,
    Voxels,
    choose_splits,
    read_labels,
    read_samples,
    read_stimuli,
    read_voxels,
    stimuli_of_names,
)
from neurorecon.datasets.base import SubjectData
from neurorecon.datasets.runs import Screened
from neurorecon.errors import InputError
from neurorecon.io.arrays import ArrayFile, check_numbers
from neurorecon.io.files import require_file
from neurorecon.io.images import ImageArray, ImageFiles, image_array, image_files, video_array
from neurorecon.io.tables import Table
from neurorecon.space import SPACE_COLUMNS

#: What axes are called in files that name them.
AXES = {
    "sample": ("sample", "samples", "trial", "trials", "time", "volume", "volumes", "presentation", "stimulus"),
    "voxel": ("voxel", "voxels", "vertex", "vertices", "grayordinate", "grayordinates", "feature", "features"),
}

#: Bytes to read at a time when going through a whole array.
BLOCK_BYTES = 16 * 2**20


@dataclass(frozen=True)
class Responses:
    """An array of responses, read in slices.

    Parameters
    ----------
    array : ArrayFile
        Shape (sample, voxel), or (voxel, sample) if `transposed`.
    transposed : bool
        Whether the first axis is voxel.
    rows : int array, shape (sample,)
        Row of each sample in the array, increasing. Rows without a stimulus (rest) are not samples.
    """

    array: ArrayFile
    transposed: bool
    rows: np.ndarray

    @property
    def voxels(self) -> int:
        """Number of voxels."""
        return self.array.shape[0 if self.transposed else 1]

    def read(self, start: int, stop: int) -> np.ndarray:
        """Return samples ``start:stop`` as float32, shape (sample, voxel)."""
        rows = self.rows[start:stop]
        if not len(rows):
            return np.empty((0, self.voxels), dtype=np.float32)
        first, last = int(rows[0]), int(rows[-1]) + 1
        block = self.array[:, first:last].T if self.transposed else self.array[first:last]
        if len(rows) != last - first:
            block = block[rows - first]
        with np.errstate(over="ignore", invalid="ignore"):  # values too large for float32 become infinite
            return np.array(block, dtype=np.float32, order="C")

    def blocks(self, groups: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
        """Yield blocks of samples of one group at a time, as pairs (group, samples).

        Parameters
        ----------
        groups : int array, shape (sample,)
            The session or run of each sample; samples of a group that are not contiguous are yielded separately.
        """
        edges = [0, *(np.flatnonzero(np.diff(groups)) + 1).tolist(), len(groups)]
        step = max(1, BLOCK_BYTES // (self.voxels * max(4, self.array.dtype.itemsize)))
        for begin, end in pairwise(edges):
            for start in range(begin, end, step):
                yield int(groups[begin]), self.read(start, min(start + step, end))


def check_shape(array: ArrayFile, transposed: bool, samples: int, where: str, voxels: int | None) -> None:
    """Check that the shape of the responses matches the tables.

    Parameters
    ----------
    array : ArrayFile
        The responses.
    transposed : bool
        Whether the options say that the array is (voxel, sample).
    samples : int
        Number of rows of the table of samples.
    where : str
        What error messages call that table.
    voxels : int, optional
        Number of rows of the table of voxels.

    Raises
    ------
    InputError
        If the shape does not match; the message says if the axes seem to be swapped.
    """
    shape = array.shape
    axis = 1 if transposed else 0
    wanted = "(voxel, sample)" if transposed else "(sample, voxel)"
    if len(shape) != 2:
        raise InputError(
            f"{array.where} has the wrong number of axes",
            given=f"shape {shape}",
            expected=wanted,
            todo="select voxels with a mask first (volumes[mask]), and save mask.nii.gz next to the responses",
        )
    declared = _declared_order(array.dims)
    if declared not in (None, transposed):
        raise InputError(
            f"the axes of {array.where} are swapped",
            given=f"shape {shape}, whose axes are declared as ({', '.join(array.dims)}), read as {wanted}",
            expected="the order that is declared",
            todo=f"set transpose = {'false' if transposed else 'true'} in [options] of the recipe",
        )
    if array.dims == ("MATLAB",) and shape[0] == shape[1] and not transposed:
        raise InputError(
            f"the axes of {array.where} are ambiguous",
            given=f"shape {shape}, written by MATLAB, whose (sample, voxel) is (voxel, sample) for other programs",
            expected="arrays whose order can be told",
            todo="set transpose = true in [options] if MATLAB shows (sample, voxel); else save it as .npy",
        )
    fits = shape[axis] == samples and voxels in (None, shape[1 - axis])
    swapped = shape[1 - axis] == samples and voxels in (None, shape[axis])
    if fits:
        return
    if swapped:
        raise InputError(
            f"the axes of {array.where} are swapped",
            given=f"shape {shape}, read as {wanted}, for {samples} rows in {where}",
            expected=f"{samples} {'columns' if transposed else 'rows'}",
            todo=f"set transpose = {'false' if transposed else 'true'} in [options] of the recipe",
        )
    if shape[axis] == samples:
        return  # the table of voxels does not match: read_voxels raises the error
    raise InputError(
        f"{array.where} does not match {where}",
        given=f"shape {shape}, i.e. {shape[axis]} samples, for {samples} rows in the table",
        expected=f"one row per sample, in the order of the responses {wanted}",
        todo="use the table that belongs to these responses; it includes rest, with an empty stimulus",
    )


def _declared_order(dims: Sequence[str]) -> bool | None:
    """Return whether the names of two axes say (voxel, sample); None if they say nothing."""
    kinds = [next((kind for kind, words in AXES.items() if name.lower() in words), "") for name in dims]
    return None if sorted(kinds) != ["sample", "voxel"] else kinds[0] == "voxel"


def screen_responses(responses: Responses, groups: np.ndarray) -> tuple[Screened, list[int]]:
    """Find voxels with values that are not finite, or constant throughout a session (or a run of a time series).

    Parameters
    ----------
    responses : Responses
        The responses.
    groups : int array, shape (sample,)
        The session or run of each sample. A group with a single sample has no constant voxels.

    Returns
    -------
    screened : Screened
    lost : list of int
        Samples without any finite value; they make every voxel unusable.

    Notes
    -----
    The data are read once, block by block. Besides a block, memory holds one row and one bool per voxel for each group.
    """
    bad = np.zeros(responses.voxels, dtype=bool)
    first: dict[int, np.ndarray] = {}
    still: dict[int, np.ndarray] = {}
    count: dict[int, int] = {}
    lost: list[int] = []
    done = 0
    for group, block in responses.blocks(groups):
        finite = np.isfinite(block)
        lost += (done + np.flatnonzero(~finite.any(axis=1))).tolist()
        done += len(block)
        bad |= ~finite.all(axis=0)
        known = first.setdefault(group, block[0].copy())
        same = (block == known).all(axis=0)
        still[group] = same & still[group] if group in still else same
        count[group] = count.get(group, 0) + len(block)
    constant = np.zeros_like(bad)
    for group, unchanged in still.items():
        if count[group] > 1:
            constant |= unchanged
    constant &= ~bad
    return Screened(~(bad | constant), int(bad.sum()), int(constant.sum())), lost


class About(BaseModel):
    """Description of the data, as in ``about.toml``.

    Parameters
    ----------
    title : str
        Title, one line.
    citation, terms : str
        Papers to cite, and the license or terms of use.
    units : str
        Units of the responses.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    title: str = Field(default="Arrays of your own", min_length=1, pattern=r"^[^\n]*$")
    citation: str = Field(default="not stated", min_length=1)
    terms: str = Field(default="not stated", min_length=1)
    units: str = Field(default="not stated", min_length=1)

    def with_options(self, options: ArraysOptions) -> About:
        """Return a copy in which values from the options replace those of the folder."""
        stated = {name: getattr(options, name) for name in type(self).model_fields}
        return self.model_copy(update={name: value for name, value in stated.items() if value is not None})


def read_about(path: Path) -> About:
    """Read ``about.toml``; return the defaults if the file does not exist.

    Raises
    ------
    InputError
        If the file cannot be read, or contains unknown keys.
    """
    if not os.path.lexists(path):
        return About()
    require_file(path, "a TOML file", "fix the file, or delete it; it is optional")
    try:
        return About(**tomllib.loads(path.read_text(encoding="utf-8")))
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        wrong = str(error)
    raise InputError(
        f"{path} cannot be used",
        given=wrong,
        expected=f"a TOML file with the keys {', '.join(About.model_fields)}",
        todo="fix the file, or delete it; it is optional",
    )


#: Groups of a store that are not subjects.
RESERVED = ("stimuli", "targets", "sources")


@dataclass(frozen=True)
class GivenSubject:
    """The unchecked data of one subject.

    Parameters
    ----------
    responses : ArrayFile
        The responses, shape (sample, voxel) or (voxel, sample).
    samples : Table
        The table of samples.
    voxels : Table, optional
        The table of voxels.
    volume : Volume, optional
        The mask, or the grid of the voxels.
    rois : mapping of str to array, optional
        ROIs that are given directly instead of in the table of voxels.
    """

    responses: ArrayFile
    samples: Table
    voxels: Table | None = None
    volume: Volume | None = None
    rois: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Given:
    """The unchecked data of all subjects, and their stimuli.

    Parameters
    ----------
    subjects : dict of str to GivenSubject
        The data of each subject.
    stimuli, labels : Table, optional
        The tables of stimuli and labels.
    images : ArrayFile or path, optional
        The images, or their folder.
    frames : ArrayFile, optional
        The frames of the videos.
    about : About
        The description of the data.
    """

    subjects: dict[str, GivenSubject]
    stimuli: Table | None = None
    labels: Table | None = None
    images: ArrayFile | Path | None = None
    frames: ArrayFile | None = None
    about: About = field(default_factory=About)


@dataclass(frozen=True)
class CheckedSubject:
    """The checked data of one subject."""

    samples: pd.DataFrame
    voxels: Voxels
    responses: Responses
    report: dict[str, str]


@dataclass(frozen=True)
class Content:
    """Everything that the reader provides, checked except for the values of the responses.

    Parameters
    ----------
    stimuli : Stimuli
        The stimuli.
    labels : DataFrame, optional
        The labels, in the order of the stimuli.
    images : ImageArray or ImageFiles, optional
        The images, in the order of the stimuli.
    frames : ArrayFile, optional
        The frames of the videos, in the order of the stimuli.
    subjects : dict of str to CheckedSubject
        The data of each subject.
    about : About
        The description of the data.
    options : ArraysOptions
        The options of the reader.
    """

    stimuli: Stimuli
    labels: pd.DataFrame | None
    images: ImageArray | ImageFiles | None
    frames: ArrayFile | None
    subjects: dict[str, CheckedSubject]
    about: About
    options: ArraysOptions
    _screened: dict[str, SubjectData] = field(default_factory=dict)

    def subject(self, name: str) -> SubjectData:
        """Return the data of one subject. The first call reads all responses once to screen the voxels."""
        if name not in self._screened:
            self._screened[name] = _screen(name, self.subjects[name], self.options)
        return self._screened[name]


def put_together(given: Given, options: ArraysOptions) -> Content:
    """Check all data for consistency, fill in defaults, and split the stimuli.

    Parameters
    ----------
    given : Given
        The data of a folder, or in memory.
    options : ArraysOptions
        The options of the reader.

    Returns
    -------
    Content

    Raises
    ------
    InputError
        If anything is missing, invalid or inconsistent; the message names the file or table.
    """
    for name in given.subjects:
        _check_name(name)
    stimuli = read_stimuli(
        given.stimuli if given.stimuli is not None else _without_table(given),
        given.images is not None,
        given.frames is not None,
    )
    images = _images(given.images, stimuli, options)
    frames = None if given.frames is None else video_array(given.frames)
    _check_videos(frames, stimuli, options)
    ids = stimuli.table["id"].tolist()
    labels = None if given.labels is None else read_labels(given.labels, ids)
    samples = {
        name: read_samples(one.samples, stimuli.tasks, options.repetition_time) for name, one in given.subjects.items()
    }
    tables, how = choose_splits(
        list(samples.values()), np.array(ids), stimuli.split, options.test_share, options.test_stimuli, options.seed
    )
    subjects = {
        name: _subject(one, samples[name], table, how, options)
        for (name, one), table in zip(given.subjects.items(), tables, strict=True)
    }
    return Content(stimuli, labels, images, frames, subjects, given.about.with_options(options), options)


def _check_name(name: str) -> None:
    if not str(name).replace("_", "").replace("-", "").isalnum() or name in RESERVED:
        raise InputError(
            "the name of a subject is not allowed",
            given=repr(name),
            expected=f"letters, digits, '-' and '_', and none of {', '.join(map(repr, RESERVED))}",
            todo="rename the subject or its folder",
        )


def _without_table(given: Given) -> Table:
    """Infer the table of stimuli from the image files, the number of images or videos, or the samples."""
    from neurorecon.io.images import SUFFIXES

    kind = "video" if given.frames is not None and given.images is None else "image"
    if isinstance(given.images, Path):
        names = [item for item in given.images.iterdir() if not item.name.startswith(".")]  # macOS adds ._ files
        found = sorted(item.stem for item in names if item.suffix.lower() in SUFFIXES)
        return stimuli_of_names(found, kind)
    array = given.images if given.images is not None else given.frames
    if array is not None:
        return stimuli_of_names(map(str, range(array.shape[0])), kind)
    seen: dict[str, None] = {}
    for one in given.subjects.values():
        one.samples.require(["stimulus"])
        seen.update(dict.fromkeys(name for name in one.samples.text("stimulus") if name))
    return stimuli_of_names(sorted(seen), kind)


def _images(given: ArrayFile | Path | None, stimuli: Stimuli, options: ArraysOptions) -> ImageArray | ImageFiles | None:
    if given is None:
        return None
    rows = np.flatnonzero(stimuli.table["kind"] == "image")
    if isinstance(given, Path):
        names = [stimuli.table["id"].iloc[row] for row in rows]
        return image_files(given, names, [stimuli.files[row] for row in rows], options.image_size)
    found = image_array(given)
    if len(found) != len(rows):
        raise _number(given, len(rows), "images")
    return found


def _number(given: ArrayFile, wanted: int, what: str) -> InputError:
    return InputError(
        f"{given.where} does not match the table of stimuli",
        given=f"{given.shape[0]} {what}, for {wanted} stimuli that are {what}",
        expected="equal numbers, in the order of the table",
        todo="use the table that belongs to these stimuli",
    )


def _check_videos(frames: ArrayFile | None, stimuli: Stimuli, options: ArraysOptions) -> None:
    if frames is None:
        return
    videos = int((stimuli.table["kind"] == "video").sum())
    if frames.shape[0] != videos:
        raise _number(frames, videos, "videos")
    if options.frames_per_second is None:
        raise InputError(
            f"the frame rate of {frames.where} is unknown",
            given="no frames_per_second",
            expected="the frame rate of the videos in Hz",
            todo="set frames_per_second in [options] of the recipe, e.g. frames_per_second = 15",
        )


def _subject(
    given: GivenSubject, samples: SampleRows, table: pd.DataFrame, how: str, options: ArraysOptions
) -> CheckedSubject:
    voxels = None if given.voxels is None else len(given.voxels)
    check_numbers(given.responses)
    check_shape(given.responses, options.transpose, samples.total, samples.where, voxels)
    responses = Responses(given.responses, options.transpose, samples.rows)
    found = read_voxels(
        given.voxels,
        responses.voxels,
        given.volume,
        options.mesh,
        given.rois if given.rois is not None else options.rois,
    )
    report = {"split": how, **samples.report, **found.report}
    return CheckedSubject(table, found, responses, report)


def _screen(name: str, subject: CheckedSubject, options: ArraysOptions) -> SubjectData:
    """Find bad voxels, and drop them or keep them."""
    keys = ["session"] if options.repetition_time is None else ["task", "session", "run"]
    groups = subject.samples.groupby(keys, sort=False).ngroup().to_numpy()
    screened, lost_rows = screen_responses(subject.responses, groups)
    if 0 < len(lost_rows) < len(groups) and options.bad_voxels == "drop":
        rows = subject.responses.rows[lost_rows] + 1
        some = ", ".join(map(str, rows[:5])) + (f" and {len(rows) - 5} more" if len(rows) > 5 else "")
        raise InputError(
            f"{len(rows)} samples of {name} have no responses",
            given=f"{subject.responses.array.where}: no finite value in row {some}",
            expected="a response of at least one voxel to every stimulus; a voxel that lacks one is dropped",
            todo="empty the column 'stimulus' of these rows in the table of samples, which leaves them out",
        )
    if not screened.usable.any():
        raise InputError(
            f"no voxel of {name} can be used",
            given=f"{subject.responses.array.where}: {screened.not_finite:,} not finite, "
            f"{screened.constant:,} constant within a session, of {len(screened.usable):,}",
            expected="at least one voxel with finite values that are not constant",
            todo="check the program that wrote the responses",
        )
    drop = options.bad_voxels == "drop"
    usable = screened.usable if drop else np.ones_like(screened.usable)
    report = {**subject.report, **screened.report(kept=not drop)}
    voxels = subject.voxels
    rois = {roi: member[usable] for roi, member in voxels.rois.items()}
    lost = [roi for roi, member in rois.items() if not member.any()]
    if lost:
        report["ROIs without a voxel that can be used"] = ", ".join(lost)
    rois = {roi: member for roi, member in rois.items() if member.any()}
    whole = bool(usable.all())
    columns: Sequence[str] = [*SPACE_COLUMNS[voxels.space.kind], *(["ncsnr"] if "ncsnr" in voxels.table else [])]
    tasks = pd.unique(subject.samples["task"])

    def read(start: int, stop: int) -> np.ndarray:
        start, stop, _ = slice(start, stop).indices(len(subject.samples))
        found = subject.responses.read(start, stop)
        if not whole:
            return found[:, usable]
        return found if drop else np.nan_to_num(found, copy=False, nan=0.0, posinf=0.0, neginf=0.0)

    return SubjectData(
        samples=subject.samples,
        voxels=voxels.table.loc[usable, list(columns)].reset_index(drop=True),
        rois=rois or {"all": np.ones(int(usable.sum()), dtype=bool)},
        space=voxels.space,
        read_responses=read,
        repetition_time={} if options.repetition_time is None else dict.fromkeys(tasks, options.repetition_time),
        report=report,
    )
