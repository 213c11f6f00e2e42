"""What was given, put together and checked as a whole: the same for folders and for arrays in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from neurorecon.datasets.arrays.about import About
from neurorecon.datasets.arrays.files import ArrayFile, check_numbers
from neurorecon.datasets.arrays.options import ArraysOptions
from neurorecon.datasets.arrays.pictures import PictureArray, PictureFiles, film_array, picture_array, picture_files
from neurorecon.datasets.arrays.responses import Responses, check_shape, screen_responses
from neurorecon.datasets.arrays.samples import Samples, choose_splits, read_samples
from neurorecon.datasets.arrays.stimuli import Stimuli, read_labels, read_stimuli, stimuli_of_names
from neurorecon.datasets.arrays.tables import Table
from neurorecon.datasets.arrays.voxels import Volume, Voxels, read_voxels
from neurorecon.datasets.base import SubjectData
from neurorecon.errors import InputError
from neurorecon.space import SPACE_COLUMNS

#: Groups of a store that are no subjects.
RESERVED = ("stimuli", "targets", "sources")


@dataclass(frozen=True)
class GivenSubject:
    """What was given for one subject: an array and tables, as yet unchecked.

    Parameters
    ----------
    responses : ArrayFile
    samples : Table
    voxels : Table, optional
    volume : Volume, optional
    rois : mapping of str to array, optional
        Areas that are no columns of the table.
    """

    responses: ArrayFile
    samples: Table
    voxels: Table | None = None
    volume: Volume | None = None
    rois: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Given:
    """What was given for all subjects.

    Parameters
    ----------
    subjects : dict of str to GivenSubject
    stimuli, labels : Table, optional
    images : ArrayFile or path, optional
        Pictures, or their folder.
    frames : ArrayFile, optional
    about : About
    """

    subjects: dict[str, GivenSubject]
    stimuli: Table | None = None
    labels: Table | None = None
    images: ArrayFile | Path | None = None
    frames: ArrayFile | None = None
    about: About = field(default_factory=About)


@dataclass(frozen=True)
class Subject:
    """One subject, checked."""

    samples: pd.DataFrame
    voxels: Voxels
    responses: Responses
    report: dict[str, str]


@dataclass(frozen=True)
class Content:
    """All that a reader hands out, checked but for the values of the responses.

    Parameters
    ----------
    stimuli : Stimuli
    labels : DataFrame, optional
    images : PictureArray or PictureFiles, optional
        Of the stimuli that are images, in their order.
    frames : ArrayFile, optional
        Of the films, in their order.
    subjects : dict of str to Subject
    about : About
    options : ArraysOptions
    """

    stimuli: Stimuli
    labels: pd.DataFrame | None
    images: PictureArray | PictureFiles | None
    frames: ArrayFile | None
    subjects: dict[str, Subject]
    about: About
    options: ArraysOptions
    _screened: dict[str, SubjectData] = field(default_factory=dict)

    def subject(self, name: str) -> SubjectData:
        """Return the recordings of one subject; the first time, its responses are passed through once."""
        if name not in self._screened:
            self._screened[name] = _screen(name, self.subjects[name], self.options)
        return self._screened[name]


def put_together(given: Given, options: ArraysOptions) -> Content:
    """Check all that was given, against each other.

    Raises
    ------
    InputError
        Which names the file or table, what was found and what was expected.
    """
    for name in given.subjects:
        _check_name(name)
    stimuli = read_stimuli(
        given.stimuli if given.stimuli is not None else _without_table(given),
        given.images is not None,
        given.frames is not None,
    )
    images = _images(given.images, stimuli, options)
    frames = None if given.frames is None else film_array(given.frames)
    _check_films(frames, stimuli, options)
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
            "a subject cannot be called so",
            given=repr(name),
            expected=f"letters, digits, '-' and '_', and none of {', '.join(map(repr, RESERVED))}",
            todo="rename it (its folder)",
        )


def _without_table(given: Given) -> Table:
    """Without a table, stimuli are the pictures of a folder, the numbers of pictures in an array, or what was seen."""
    from neurorecon.datasets.arrays.pictures import SUFFIXES

    kind = "film" if given.frames is not None and given.images is None else "image"
    if isinstance(given.images, Path):
        found = sorted(item.stem for item in given.images.iterdir() if item.suffix.lower() in SUFFIXES)
        return stimuli_of_names(found, kind)
    array = given.images if given.images is not None else given.frames
    if array is not None:
        return stimuli_of_names(map(str, range(array.shape[0])), kind)
    seen: dict[str, None] = {}
    for one in given.subjects.values():
        one.samples.require(["stimulus"])
        seen.update(dict.fromkeys(name for name in one.samples.text("stimulus") if name))
    return stimuli_of_names(sorted(seen), kind)


def _images(
    given: ArrayFile | Path | None, stimuli: Stimuli, options: ArraysOptions
) -> PictureArray | PictureFiles | None:
    if given is None:
        return None
    rows = np.flatnonzero(stimuli.table["kind"] == "image")
    if isinstance(given, Path):
        names = [stimuli.table["id"].iloc[row] for row in rows]
        return picture_files(given, names, [stimuli.files[row] for row in rows], options.image_size)
    found = picture_array(given)
    if len(found) != len(rows):
        raise _number(given, len(rows), "images")
    return found


def _number(given: ArrayFile, wanted: int, what: str) -> InputError:
    return InputError(
        f"{given.where} does not match the table of stimuli",
        given=f"{given.shape[0]} {what}, for {wanted} stimuli that are {what}",
        expected="as many, in the order of the table",
        todo="take the table that belongs to them",
    )


def _check_films(frames: ArrayFile | None, stimuli: Stimuli, options: ArraysOptions) -> None:
    if frames is None:
        return
    films = int((stimuli.table["kind"] == "film").sum())
    if frames.shape[0] != films:
        raise _number(frames, films, "films")
    if options.frames_per_second is None:
        raise InputError(
            f"nothing says how fast {frames.where} is to be played",
            given="no frames_per_second",
            expected="the frame rate of the films",
            todo="frames_per_second = 15 in [options] of the recipe, or whatever it is",
        )


def _subject(given: GivenSubject, samples: Samples, table: pd.DataFrame, how: str, options: ArraysOptions) -> Subject:
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
    return Subject(table, found, responses, report)


def _screen(name: str, subject: Subject, options: ArraysOptions) -> SubjectData:
    """Look for bad voxels, and drop or keep them."""
    keys = ["session"] if options.repetition_time is None else ["task", "session", "run"]
    groups = subject.samples.groupby(keys, sort=False).ngroup().to_numpy()
    screened = screen_responses(subject.responses, groups)
    if not screened.usable.any():
        raise InputError(
            f"no voxel of {name} can be used",
            given=f"{subject.responses.array.where}: {screened.not_finite:,} not finite, "
            f"{screened.constant:,} constant within a session, of {len(screened.usable):,}",
            expected="at least one voxel with finite values that vary",
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
