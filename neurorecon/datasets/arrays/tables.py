"""Options and tables of the reader of arrays: samples, stimuli, voxels."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pandas as pd
from pydantic import Field

from neurorecon.datasets.base import (
    SAMPLE_COLUMNS,
    STIMULUS_COLUMNS,
    Options,
    check_columns,
    tidy_columns,
    without_captions,
)
from neurorecon.datasets.splits import hold_out_groups, hold_out_stimuli
from neurorecon.errors import InputError, UnknownNameError
from neurorecon.io.tables import Table, as_table, is_missing
from neurorecon.space import Space

#: Share of the stimuli to hold out if neither a table nor the recipe defines the split.
TEST_SHARE = 0.1


class ArraysOptions(Options):
    """Options of the reader of arrays. All are optional.

    Parameters
    ----------
    transpose : bool
        Whether the responses are (voxel, sample) instead of (sample, voxel).
    responses_key, images_key, frames_key : str, optional
        Names of the arrays inside .npz, .h5 or .zarr files. By default, the array called ``responses`` (``images``,
        ``frames``), or the only array.
    repetition_time : float, optional
        Repetition time (s), if the samples are the volumes of a time series.
    test_share : float, optional
        Share of the stimuli to hold out, drawn at random.
    test_stimuli : list of str
        Stimuli to hold out.
    seed : int
        Random seed of the draw.
    bad_voxels : {"drop", "keep"}
        What to do with voxels that contain values that are not finite, or are constant throughout a session (in time
        series, a run). If kept, values that are not finite become 0.
    rois : list of str, optional
        Columns of the table of voxels that are ROIs. By default, all columns that contain only 0 and 1.
    affine : nested list, shape (4, 4), optional
        Maps the voxel indices i, j, k to millimeters; with `shape`, replaces ``mask.nii.gz``.
    shape : list of int, optional
        Shape of the volume, (x, y, z).
    mesh : str, optional
        Mesh that ``hemisphere`` and ``vertex`` refer to, ``"fsaverage3"`` to ``"fsaverage7"``.
    image_size : int, optional
        Crop the central square of each image in a folder, and scale it to this many pixels on each side. Required if
        the images differ in size.
    frames_per_second : float, optional
        Frame rate of the videos in Hz.
    title, citation, terms, units : str, optional
        Description of the data; takes precedence over ``about.toml``.
    simulated : bool, optional
        Whether the responses are simulated; every figure then says so.
    """

    transpose: bool = False
    responses_key: str | None = None
    images_key: str | None = None
    frames_key: str | None = None
    repetition_time: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    test_share: float | None = Field(default=None, gt=0, lt=1)
    test_stimuli: list[str] = Field(default_factory=list)
    seed: int = Field(default=0, ge=0)
    bad_voxels: Literal["drop", "keep"] = "drop"
    rois: list[str] | None = None
    affine: list[list[float]] | None = None
    shape: list[int] | None = Field(default=None, min_length=3, max_length=3)
    mesh: str | None = None
    image_size: int | None = Field(default=None, ge=8, le=4096)
    frames_per_second: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    title: str | None = Field(default=None, min_length=1, pattern=r"^[^\n]*$")
    citation: str | None = Field(default=None, min_length=1)
    terms: str | None = Field(default=None, min_length=1)
    units: str | None = Field(default=None, min_length=1)
    simulated: bool | None = None


#: Columns with a meaning; only ``stimulus`` is required.
KNOWN_SAMPLE_COLUMNS = SAMPLE_COLUMNS


@dataclass(frozen=True)
class SampleRows:
    """The samples of one subject.

    Parameters
    ----------
    table : DataFrame
        :data:`~neurorecon.datasets.base.SAMPLE_COLUMNS`, then further columns; ``split`` is ``""`` if not given.
    rows : int array, shape (sample,)
        Row of each sample in the responses.
    total : int
        Number of rows of the original table, which the responses must have too.
    where : str
        What error messages call the table.
    report : dict of str to str
        Notes for :attr:`~neurorecon.datasets.base.SubjectData.report`.
    """

    table: pd.DataFrame
    rows: np.ndarray
    total: int
    where: str
    report: dict[str, str]


def read_samples(given: Table, tasks: dict[str, str], repetition_time: float | None) -> SampleRows:
    """Check a table of samples, and fill in missing columns.

    Parameters
    ----------
    given : Table
        Must have the column ``stimulus``; ``session``, ``run``, ``repeat``, ``split``, ``time`` and ``task`` are
        optional, and other columns are kept as they are. Rows without a stimulus (rest) are left out.
    tasks : dict of str to str
        Default task of each stimulus, ``"images"`` or ``"videos"``.
    repetition_time : float, optional
        Repetition time (s), if the rows are the volumes of a time series.

    Returns
    -------
    SampleRows

    Raises
    ------
    InputError
        If a stimulus is unknown, a value is invalid, repeats are not numbered consecutively, or a time series has
        gaps.
    """
    given.require(["stimulus"])
    stimulus = given.text("stimulus")
    rows = np.flatnonzero(stimulus != "")
    _check_stimuli(given, stimulus[rows], tasks)
    table = pd.DataFrame({"stimulus": stimulus.astype(object)})
    known_task = np.array([tasks.get(name, "") for name in stimulus], dtype=object)
    table["task"] = given.text("task") if "task" in given else known_task
    table.loc[table["task"] == "", "task"] = known_task[(table["task"] == "").to_numpy()]
    for column in ("session", "run"):
        table[column] = given.integers(column, 1) if column in given else 1
    table["split"] = given.text("split") if "split" in given else ""
    table["time"] = given.numbers("time", 0.0) if "time" in given else _times(table, repetition_time)
    table = table.iloc[rows].reset_index(drop=True)
    if repetition_time is not None:
        _check_series(given, table, rows, repetition_time)
    table["repeat"] = given.integers("repeat", 1)[rows] if "repeat" in given else _repeats(table, repetition_time)
    _check_repeats(given, table, repetition_time)
    report = (
        {} if len(rows) == len(stimulus) else {"samples without a stimulus, left out": str(len(stimulus) - len(rows))}
    )
    others = given.frame.iloc[rows].reset_index(drop=True)
    further, unused = tidy_columns(others, [name for name in others if name not in KNOWN_SAMPLE_COLUMNS])
    if unused:
        report["columns of samples, not used"] = ", ".join(unused)
    check_columns(given.where, further)
    return SampleRows(table[list(SAMPLE_COLUMNS)].join(further), rows, len(given), given.where, report)


def _check_stimuli(given: Table, shown: np.ndarray, tasks: dict[str, str]) -> None:
    if not len(shown):
        raise InputError(
            f"{given.where} contains no stimuli",
            given="an empty column 'stimulus'",
            expected="the id of the stimulus in each row, empty only for rest",
            todo="fill in the column",
        )
    unknown = sorted(set(shown) - set(tasks))
    if unknown:
        some = ", ".join(list(tasks)[:5])
        raise InputError(
            f"{given.where} contains stimuli that are not in the table of stimuli",
            given=f"{', '.join(unknown[:5])} ({len(unknown)} in total)",
            expected=f"ids of the {len(tasks)} stimuli, such as {some}",
            todo="fix the ids; they must be identical text, e.g. '007' is not '7'",
        )


def _times(table: pd.DataFrame, repetition_time: float | None) -> np.ndarray:
    """Number the rows of each run, or return their times in seconds if they are a time series."""
    keys = ["session", "run"] if repetition_time is not None else ["task", "session", "run"]
    return table.groupby(keys, sort=False).cumcount().to_numpy() * (repetition_time or 1.0)


def _presentations(table: pd.DataFrame) -> np.ndarray:
    """Number the presentations of a time series: consecutive rows with the same stimulus are one presentation."""
    keys = ["task", "session", "run", "stimulus"]
    return (table[keys] != table[keys].shift()).any(axis=1).cumsum().to_numpy()


def _repeats(table: pd.DataFrame, repetition_time: float | None) -> np.ndarray:
    if repetition_time is None:
        return table.groupby(["task", "stimulus"], sort=False).cumcount().to_numpy() + 1
    presentation = pd.Series(_presentations(table))
    first = ~presentation.duplicated()
    number = table[first.to_numpy()].groupby(["task", "stimulus"], sort=False).cumcount() + 1
    return presentation.map(dict(zip(presentation[first], number, strict=True))).to_numpy()


def _check_repeats(given: Table, table: pd.DataFrame, repetition_time: float | None) -> None:
    """Check that repeats are numbered from 1 without gaps; trial estimates have one sample per repeat."""
    keys = ["task", "stimulus"]
    counted = table.groupby(keys, sort=False)["repeat"].agg(["max", "nunique", "size"])
    wrong = counted["max"] != counted["nunique"]
    if repetition_time is None:
        wrong |= counted["size"] != counted["nunique"]
    if wrong.any():
        task, stimulus = wrong[wrong].index[0]
        found = sorted(table["repeat"][(table["task"] == task) & (table["stimulus"] == stimulus)])
        raise InputError(
            f"{given.where}: repeats are not numbered consecutively",
            given=f"repeat = {', '.join(map(str, found[:8]))} for the stimulus {stimulus!r} (task {task!r})",
            expected="1, 2, 3, ... across all sessions, each once",
            todo="omit the column 'repeat'; repeats are then numbered in the order of the rows",
        )


def _check_series(given: Table, table: pd.DataFrame, rows: np.ndarray, repetition_time: float) -> None:
    """Check that the volumes of a run are contiguous and in multiples of the repetition time; rest may be missing."""
    run = table.groupby(["task", "session", "run"], sort=False).ngroup().to_numpy()
    within = run[1:] == run[:-1]
    steps = np.diff(table["time"].to_numpy()) / repetition_time
    bad = within & ((np.abs(steps - np.rint(steps)) > 1e-3) | (steps < 0.5))
    interrupted = len(np.unique(run)) != 1 + int((~within).sum())
    if bad.any() or interrupted:
        place = int(np.flatnonzero(bad)[0] if bad.any() else np.flatnonzero(~within)[-1])
        before, after = table["time"].iloc[[place, place + 1]]
        raise InputError(
            f"{given.where}: the volumes of a run are not consecutive",
            given=f"{before:g} s, then {after:g} s in row {rows[place + 1] + 1}"
            if bad.any()
            else f"a run that continues after another run, near row {rows[place + 1] + 1}",
            expected=f"consecutive rows, in steps of {repetition_time:g} s, or multiples of it if rest is missing",
            todo="fix the column 'time' (seconds from the onset of the run), or repetition_time in the recipe",
        )


def choose_splits(
    samples: Sequence[SampleRows],
    stimuli: np.ndarray,
    stated: np.ndarray | None,
    share: float | None,
    test: Sequence[str],
    seed: int,
) -> tuple[list[pd.DataFrame], str]:
    """Split the stimuli, in the same way for all subjects, and check that no stimulus is in two splits.

    Parameters
    ----------
    samples : sequence of SampleRows
        The samples of each subject.
    stimuli : array of str, shape (stimulus,)
        Ids of all stimuli.
    stated : array of str, shape (stimulus,), optional
        The column ``split`` of the table of stimuli.
    share : float, optional
        Share of the stimuli to hold out.
    test : sequence of str
        Stimuli to hold out.
    seed : int
        Random seed of the draw.

    Returns
    -------
    tables : list of DataFrame
        The table of samples of each subject, with its splits.
    how : str
        How the stimuli were split, for the report.

    Raises
    ------
    InputError
        If both `share` and `test` are given, or the split is invalid.
    """
    by_row = any((one.table["split"] != "").any() for one in samples)
    if share is not None and len(test):
        raise InputError(
            "the options define the test stimuli in two ways",
            given="test_share and test_stimuli",
            expected="only one of these",
            todo="remove one of them from [options]",
        )
    if len(test):
        unknown = sorted(set(test) - set(stimuli))
        if unknown:
            raise InputError(
                "test_stimuli contains stimuli that do not exist",
                given=", ".join(unknown[:5]),
                expected=f"ids such as {', '.join(map(str, stimuli[:5]))}",
                todo="fix test_stimuli in [options]",
            )
        held_out: set[object] = set(test)
        how = f"{len(held_out)} stimuli of test_stimuli are held out"
    elif share is None and (by_row or stated is not None):
        return _as_stated(samples, stimuli, stated, by_row)
    else:
        shown = sorted(set().union(*(one.table["stimulus"] for one in samples)))
        if len(shown) < 2:
            raise InputError(
                "a single stimulus cannot be split",
                given=f"only the stimulus {shown[0]!r}",
                expected="at least two stimuli, one to train on and one to test on",
                todo="check the column 'stimulus' of the tables of samples",
            )
        held_out = hold_out_groups(shown, TEST_SHARE if share is None else share, seed)
        how = f"{len(held_out)} of {len(shown)} stimuli, drawn with seed {seed}, are held out"
    tables = [one.table.assign(split=hold_out_stimuli(one.table["stimulus"], held_out)) for one in samples]
    return _checked(samples, tables), how


def _as_stated(
    samples: Sequence[SampleRows], stimuli: np.ndarray, stated: np.ndarray | None, by_row: bool
) -> tuple[list[pd.DataFrame], str]:
    if by_row:
        return _checked(samples, [one.table for one in samples]), "as the tables of samples say"
    assert stated is not None
    split = dict(zip(stimuli, stated, strict=True))
    tables = [one.table.assign(split=[split[name] for name in one.table["stimulus"]]) for one in samples]
    return _checked(samples, tables), "as the table of stimuli says"


def _checked(samples: Sequence[SampleRows], tables: list[pd.DataFrame]) -> list[pd.DataFrame]:
    """Check that every row has a split, no stimulus is in two splits, and there are training samples."""
    everything = pd.concat([table[["stimulus", "split"]] for table in tables])
    for one, table in zip(samples, tables, strict=True):
        if (table["split"] == "").any():
            row = int(one.rows[np.flatnonzero(table["split"] == "")[0]])
            raise InputError(
                f"{one.where}: a sample has no split",
                given=f"an empty 'split' in row {row + 1} (or for its stimulus)",
                expected="'train' or 'test' in every row",
                todo="fill in the column, or omit it",
            )
    double = everything.groupby("stimulus", sort=False)["split"].agg(lambda part: ", ".join(sorted(set(part))))
    double = double[double.str.contains(", ", regex=False)]
    if len(double):
        raise InputError(
            "some stimuli are in more than one split",
            given="; ".join(f"{name} ({split})" for name, split in double.iloc[:5].items())
            + f"; {len(double)} stimuli",
            expected="each stimulus in one split, the same for all subjects",
            todo="fix the column 'split', or omit it and hold out a share of the stimuli, e.g. test_share = 0.1",
        )
    if "train" not in set(everything["split"]):
        raise InputError(
            "there are no training samples",
            given=f"splits {', '.join(sorted(set(everything['split'])))}",
            expected="samples in the split 'train', and others, e.g. in 'test'",
            todo="name the training split 'train'",
        )
    return tables


#: Columns of captions, and all columns with a meaning.
CAPTIONS = ("caption", "caption1", "caption2", "caption3", "caption4", "caption5")

KNOWN_STIMULUS_COLUMNS = ("id", "stimulus", "kind", "category", "file", "split", "captions", *CAPTIONS)


@dataclass(frozen=True)
class Stimuli:
    """All stimuli, images first.

    Parameters
    ----------
    table : DataFrame
        :data:`~neurorecon.datasets.base.STIMULUS_COLUMNS`.
    files : list of str
        File of each stimulus, ``""`` if not given.
    split : array of str, shape (stimulus,), optional
        Split of each stimulus, if given.
    unused : list of str
        Columns that were ignored.
    uncaptioned : str
        A sentence about stimuli without a caption, if the table has captions; see
        :func:`~neurorecon.datasets.base.without_captions`.
    """

    table: pd.DataFrame
    files: list[str]
    split: np.ndarray | None
    unused: list[str]
    uncaptioned: str = ""

    @property
    def tasks(self) -> dict[str, str]:
        """The task of each stimulus: ``"images"`` or ``"videos"``."""
        kinds = self.table["kind"].map({"image": "images", "video": "videos"})
        return dict(zip(self.table["id"], kinds, strict=True))


def read_stimuli(given: Table, images: bool, videos: bool) -> Stimuli:
    """Check a table of stimuli, and fill in missing columns.

    Parameters
    ----------
    given : Table
        Must have the column ``id`` (or ``stimulus``); ``kind``, ``category``, ``caption`` or ``caption1`` to
        ``caption5``, ``file`` and ``split`` are optional.
    images, videos : bool
        Whether images, and videos, were given. Without the column ``kind``, all stimuli are videos if there are only
        videos, else images.

    Returns
    -------
    Stimuli

    Raises
    ------
    InputError
        If a stimulus occurs more than once, or its kind is invalid or cannot be inferred.
    """
    column = "stimulus" if "id" not in given and "stimulus" in given else "id"
    given.require([column])
    ids = given.names(column)
    given.refuse_duplicates(ids, "stimuli", "every stimulus once; repeats are rows of the table of samples")
    table = pd.DataFrame({"id": ids, "kind": _kinds(given, len(ids), images, videos)})
    table["category"] = given.text("category") if "category" in given else ""
    table.loc[table["category"] == "", "category"] = "none"
    table["captions"] = _captions(given)
    order = np.argsort((table["kind"] == "video").to_numpy(), kind="stable")
    files = given.text("file") if "file" in given else np.full(len(ids), "", dtype=object)
    return Stimuli(
        table.iloc[order].reset_index(drop=True)[list(STIMULUS_COLUMNS)],
        files[order].tolist(),
        given.text("split")[order] if "split" in given else None,
        [str(name) for name in given.frame.columns if name not in KNOWN_STIMULUS_COLUMNS],
        without_captions(table, promised=False),
    )


def stimuli_of_names(names: Iterable[str], kind: str) -> Table:
    """Return a table of stimuli with only their ids and kind."""
    return as_table({"id": list(names), "kind": kind}, "the stimuli")


def _kinds(given: Table, number: int, images: bool, videos: bool) -> np.ndarray:
    if "kind" in given:
        kinds = given.names("kind")
        kinds[kinds == "film"] = "video"  # its former name, in tables that users wrote
        strange = sorted(set(kinds) - {"image", "video"})
        if strange or ("video" in kinds) != videos:
            raise InputError(
                f"{given.where}: the column 'kind' cannot be used",
                given=f"kinds {', '.join(sorted(set(kinds)))}, {'with' if videos else 'without'} an array of frames",
                expected="'image' or 'video', and an array of frames if there are videos",
                todo="fix the column, or save the videos next to the table as frames.npy (video, frame, y, x, rgb)",
            )
        return kinds
    if images and videos:
        raise InputError(
            f"{given.where} does not say which stimuli are videos",
            given="images and videos, and no column 'kind'",
            expected="a column 'kind' with 'image' or 'video'",
            todo="add the column to the table of stimuli",
        )
    return np.full(number, "video" if videos else "image", dtype=object)


def _captions(given: Table) -> list[list[str]]:
    columns: list[Sequence[str]] = [given.text(name).tolist() for name in CAPTIONS if name in given]
    if "captions" in given:  # a DataFrame may contain lists of captions
        rows = [[row] if isinstance(row, str) or is_missing(row) else row for row in given.frame["captions"]]
        return [[str(text).strip() for text in row if not is_missing(text)] for row in rows]
    return [[text for text in row if text][:5] for row in zip(*columns, strict=True)] or [[] for _ in range(len(given))]


def read_labels(given: Table, ids: Sequence[str]) -> pd.DataFrame:
    """Check a table of labels, and sort it in the order of the stimuli.

    Parameters
    ----------
    given : Table
        Must have the column ``stimulus`` (or ``id``) and one row per stimulus; all other columns are numeric labels.
    ids : sequence of str
        Ids of the stimuli.

    Returns
    -------
    DataFrame
        One row per stimulus and one column per label.

    Raises
    ------
    InputError
        If a stimulus does not have exactly one row, or a label is not a number.
    """
    column = "stimulus" if "id" not in given and "stimulus" in given else "id"
    given.require([column])
    names = given.names(column)
    given.refuse_duplicates(names, "stimuli", "one row per stimulus")
    if set(names) != set(ids):
        odd = sorted(set(names) ^ set(ids))
        raise InputError(
            f"{given.where} does not match the stimuli",
            given=f"{', '.join(odd[:5])} ({len(odd)} in total) in one table only",
            expected=f"one row for each of the {len(ids)} stimuli, and no others",
            todo="fix the table of labels",
        )
    values = {str(name): given.numbers(str(name)) for name in given.frame.columns if name != column}
    if not values:
        raise InputError(
            f"{given.where} has no labels", given=f"only the column {column!r}", expected="numeric columns"
        )
    return pd.DataFrame(values, index=pd.Index(names)).loc[list(ids)].reset_index(drop=True)


#: Columns that are not ROIs.
POSITIONS = ("i", "j", "k", "hemisphere", "vertex")

KNOWN_VOXEL_COLUMNS = (*POSITIONS, "ncsnr", "roi", "voxel")

#: Number of vertices per hemisphere of the fsaverage meshes.
MESHES = {"fsaverage3": 642, "fsaverage4": 2562, "fsaverage5": 10242, "fsaverage6": 40962, "fsaverage7": 163842}

MESHES["fsaverage"] = MESHES["fsaverage7"]

#: A ``+`` between two names joins them; one at the end of a name belongs to it, as in ``ecc4+``, an ROI of NSD.
_JOINED = re.compile(r"(?<=[^\s])\s*\+(?=\s*[^+\s])")

_TRUTH = {"1": True, "1.0": True, "true": True, "0": False, "0.0": False, "false": False, "": False}

_SIDES = {"left": "left", "right": "right", "lh": "left", "rh": "right", "l": "left", "r": "right"}


@dataclass(frozen=True)
class Volume:
    """A brain mask, or only its grid.

    Parameters
    ----------
    where : str
        What error messages call it.
    shape : tuple of int
        Shape of the volume, (x, y, z).
    affine : nested list, shape (4, 4)
        Maps voxel indices to millimeters.
    mask : bool array, shape (x, y, z), optional
        Which voxels are in the mask.
    """

    where: str
    shape: tuple[int, ...]
    affine: list[list[float]]
    mask: np.ndarray | None = None


@dataclass(frozen=True)
class Voxels:
    """The voxels of one subject, before bad ones are dropped.

    Parameters
    ----------
    table : DataFrame
        The position of each voxel (the columns of `space`), and ``ncsnr`` if given.
    rois : dict of str to bool array, shape (voxel,)
        Which voxels belong to each ROI.
    space : Space
        Space of the voxels.
    report : dict of str to str
        Notes for :attr:`~neurorecon.datasets.base.SubjectData.report`.
    """

    table: pd.DataFrame
    rois: dict[str, np.ndarray]
    space: Space
    report: dict[str, str] = field(default_factory=dict)


def read_voxels(
    given: Table | None,
    number: int,
    volume: Volume | None,
    mesh: str | None,
    rois: Sequence[str] | Mapping[str, Any] | None,
) -> Voxels:
    """Check a table of voxels, and find their positions and ROIs.

    Parameters
    ----------
    given : Table, optional
        The table of voxels.
    number : int
        Number of voxels of the responses.
    volume : Volume, optional
        The grid of the columns i, j, k. If the table does not have these columns, the voxels are those of the mask, in
        C order.
    mesh : str, optional
        The mesh of the columns ``hemisphere`` and ``vertex``.
    rois : sequence of str, or mapping of str to array, optional
        Columns that are ROIs (by default, all columns that contain only 0 and 1), or the ROIs themselves. Without any
        ROI, all voxels belong to the ROI ``all``.

    Returns
    -------
    Voxels

    Raises
    ------
    InputError
        If the table does not match the responses, or contradicts itself.
    """
    if given is not None and len(given) != number:
        raise InputError(
            f"{given.where} does not match the responses",
            given=f"{len(given)} rows for {number} voxels",
            expected="one row per voxel, in the order of the responses",
            todo="use the table that belongs to these responses",
        )
    table, space = _positions(given, number, volume, mesh)
    report = {}
    if given is not None and "ncsnr" in given:
        table["ncsnr"] = given.numbers("ncsnr", 0.0)
    if isinstance(rois, Mapping):
        found = {str(name): _member(str(name), values, number) for name, values in rois.items()}
    else:
        found, unused = _rois(given, rois)
        if unused:
            report["columns of voxels, not used"] = ", ".join(unused)
    found = {name: member for name, member in found.items() if member.any()}
    return Voxels(table, found or {"all": np.ones(number, dtype=bool)}, space, report)


def _rois(given: Table | None, wanted: Sequence[str] | None) -> tuple[dict[str, np.ndarray], list[str]]:
    """Return the ROIs, and the columns that were ignored."""
    if given is None:
        return {}, []
    if wanted is not None:
        given.require(wanted)
    rois: dict[str, np.ndarray] = {}
    if "roi" in given:
        names = [[part.strip() for part in _JOINED.split(text) if part] for text in given.text("roi")]
        for name in dict.fromkeys(part for row in names for part in row):
            rois[name] = np.array([name in row for row in names], dtype=bool)
    unused = []
    for column in (
        [str(name) for name in given.frame.columns if name not in KNOWN_VOXEL_COLUMNS] if wanted is None else wanted
    ):
        member = _truth(given.text(column))
        if member is None and wanted is not None:
            raise InputError(
                f"{given.where}: the column {column!r} is not an ROI",
                given=", ".join(sorted(set(given.text(column)))[:5]),
                expected="0 and 1 (or true and false)",
                todo="fix the column, or remove it from rois",
            )
        if member is None:
            unused.append(column)
        elif column in rois:
            raise InputError(
                f"{given.where} defines the ROI {column!r} twice",
                given="a column of that name, and the name in the column 'roi'",
                expected="only one of these",
                todo="remove one of them",
            )
        else:
            rois[column] = member
    return rois, unused


def _truth(values: np.ndarray) -> np.ndarray | None:
    """Return a column of 0 and 1 as bools; None if it contains other values, or no 1."""
    codes, words = pd.factorize(values)
    known = [_TRUTH.get(str(word).lower()) for word in words]
    if None in known or True not in known:
        return None
    return np.array(known, dtype=bool)[codes]


def _member(name: str, values: Any, number: int) -> np.ndarray:
    member = np.asarray(values)
    if member.shape != (number,) or member.dtype.kind not in "biu" or not np.isin(member, (0, 1)).all():
        raise InputError(
            f"the ROI {name!r} is not a mask of the voxels",
            given=f"{member.dtype} of shape {member.shape}",
            expected=f"{number} values, true or false",
            todo="pass one bool per voxel",
        )
    return member.astype(bool)


def _positions(given: Table | None, number: int, volume: Volume | None, mesh: str | None) -> tuple[pd.DataFrame, Space]:
    has_volume = given is not None and any(column in given for column in "ijk")
    has_surface = given is not None and any(column in given for column in ("hemisphere", "vertex"))
    if has_volume and has_surface:
        raise InputError(
            f"{given.where if given else ''} contains positions both in a volume and on a surface",
            given="columns of both kinds",
            expected="either i, j, k, or hemisphere, vertex",
            todo="remove the columns that do not apply",
        )
    if has_surface:
        assert given is not None
        return _on_surface(given, mesh)
    if has_volume:
        assert given is not None
        return _in_volume(given, volume)
    if volume is not None and volume.mask is not None:
        return _in_mask(volume, volume.mask, number)
    return pd.DataFrame(index=range(number)), Space("none")


def _in_mask(volume: Volume, mask: np.ndarray, number: int) -> tuple[pd.DataFrame, Space]:
    if int(mask.sum()) != number:
        raise InputError(
            f"{volume.where} does not match the responses",
            given=f"{int(mask.sum())} nonzero voxels, for {number} voxels of responses",
            expected="equal numbers, in the order of numpy.nonzero (that of nilearn's maskers)",
            todo="use the mask that the responses were extracted with, or add i, j, k to the table of voxels",
        )
    i, j, k = np.nonzero(mask)
    return pd.DataFrame({"i": i, "j": j, "k": k}), _grid(volume)


def _grid(volume: Volume) -> Space:
    return Space("volume", affine=volume.affine, shape=list(volume.shape))


def _in_volume(given: Table, volume: Volume | None) -> tuple[pd.DataFrame, Space]:
    given.require(["i", "j", "k"])
    if volume is None:
        raise InputError(
            f"{given.where} has the columns i, j, k, but their volume is unknown",
            given="neither mask.nii.gz, nor affine and shape",
            expected="one of these",
            todo="save mask.nii.gz next to the table, or set affine and shape in [options] of the recipe",
        )
    table = pd.DataFrame({column: given.integers(column, 0) for column in "ijk"})
    positions = table.to_numpy()
    outside = (positions >= np.array(volume.shape)).any(axis=1)
    if outside.any():
        place = positions[outside][0].tolist()
        raise InputError(
            f"{given.where} has voxels outside the volume",
            given=f"i, j, k = {place}; {int(outside.sum())} voxels are outside",
            expected=f"indices from 0 to below {tuple(volume.shape)}, the shape of {volume.where}",
            todo="check whether the axes are in another order, or the indices start from 1",
        )
    _refuse_double(given, positions)
    if volume.mask is not None and not volume.mask[tuple(positions.T)].all():
        out = ~volume.mask[tuple(positions.T)]
        raise InputError(
            f"{given.where} has voxels outside the mask",
            given=f"i, j, k = {positions[out][0].tolist()}; {int(out.sum())} of {len(out)} voxels are outside",
            expected=f"voxels where {volume.where} is nonzero, with indices from 0",
            todo="check whether the axes are in another order or start from 1, or use the mask of this table",
        )
    return table, _grid(volume)


def _on_surface(given: Table, mesh: str | None) -> tuple[pd.DataFrame, Space]:
    given.require(["hemisphere", "vertex"])
    if mesh not in MESHES:
        raise UnknownNameError(
            f"mesh of {given.where}",
            mesh,
            MESHES,
            todo='set the mesh in [options] of the recipe, e.g. mesh = "fsaverage5"',
        )
    words = given.text("hemisphere")
    strange = sorted({str(word) for word in words if str(word).lower() not in _SIDES})
    if strange:
        raise UnknownNameError(f"hemisphere in {given.where}", strange[0], ["left", "right"])
    vertex = given.integers("vertex", 0)
    if vertex.max() >= MESHES[mesh]:
        raise InputError(
            f"{given.where} has vertices that {mesh} does not have",
            given=f"vertex {vertex.max()}",
            expected=f"indices from 0 to {MESHES[mesh] - 1} in each hemisphere",
            todo="check mesh in [options] of the recipe",
        )
    table = pd.DataFrame({"hemisphere": [_SIDES[str(word).lower()] for word in words], "vertex": vertex})
    _refuse_double(given, table.to_numpy())
    name = "fsaverage7" if mesh == "fsaverage" else mesh
    return table, Space("surface", mesh=name, vertices={"left": MESHES[name], "right": MESHES[name]})


def _refuse_double(given: Table, positions: np.ndarray) -> None:
    given.refuse_duplicates(
        np.array([" ".join(map(str, row)) for row in positions], dtype=object),
        "positions of voxels",
        "every position once",
    )
