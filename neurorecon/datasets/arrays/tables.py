"""Options and tables of the reader of arrays: samples, stimuli, voxels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pandas as pd
from pydantic import Field

from neurorecon.datasets.base import SAMPLE_COLUMNS, STIMULUS_COLUMNS, Options, check_columns, tidy_columns
from neurorecon.datasets.splits import hold_out_groups, hold_out_stimuli
from neurorecon.errors import InputError, UnknownNameError
from neurorecon.io.tables import Table, as_table
from neurorecon.space import Space

#: Share of the stimuli that is held out where neither a table nor the recipe says which.
TEST_SHARE = 0.1


class ArraysOptions(Options):
    """Options of the reader of arrays; all may be left out.

    Parameters
    ----------
    transpose : bool
        The responses are (voxel, sample) instead of (sample, voxel).
    responses_key, images_key, frames_key : str, optional
        Names of the arrays inside .npz, .h5 or .zarr; by default the array called ``responses`` (``images``,
        ``frames``), or the only one.
    repetition_time : float, optional
        Seconds between the rows, where the samples are the volumes of a time series.
    test_share : float, optional
        Hold out this share of the stimuli, drawn at random.
    test_stimuli : list of str
        Hold out these stimuli.
    seed : int
        Of the draw.
    bad_voxels : {"drop", "keep"}
        Voxels that are not finite somewhere, or constant throughout a session (time series: a run), are dropped, or
        kept with zeros in place of what is not finite.
    rois : list of str, optional
        Columns of the table of voxels that are ROIs; by default all that hold only 0 and 1.
    affine : nested list, shape (4, 4), optional
        Indices i, j, k to millimeters; with `shape`, in place of ``mask.nii.gz``.
    shape : list of int, optional
        Size of the volume, (x, y, z).
    mesh : str, optional
        Surface that ``hemisphere`` and ``vertex`` refer to, ``"fsaverage3"`` to ``"fsaverage7"``.
    image_size : int, optional
        Cut images of a folder to squares and scale them to this number of pixels. Needed where their sizes differ.
    frames_per_second : float, optional
        Frame rate of the films.
    title, citation, terms, units : str, optional
        What the store says of the data; before what ``about.toml`` says.
    simulated : bool, optional
        The responses were computed, not measured; every figure says so.
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


#: Columns that are known; only the stimulus is required.
KNOWN_SAMPLE_COLUMNS = SAMPLE_COLUMNS


@dataclass(frozen=True)
class SampleRows:
    """Samples of one subject.

    Parameters
    ----------
    table : DataFrame
        With :data:`~neurorecon.datasets.base.SAMPLE_COLUMNS`, then whatever else was given; the column ``split`` is
        ``""`` where it was not given.
    rows : int array, shape (sample,)
        Row of the responses that each sample is.
    total : int
        Rows of the table as it was given, which the responses have to match.
    where : str
        Name of the table in messages.
    report : dict of str to str
    """

    table: pd.DataFrame
    rows: np.ndarray
    total: int
    where: str
    report: dict[str, str]


def read_samples(given: Table, tasks: dict[str, str], repetition_time: float | None) -> SampleRows:
    """Fill in and check a table of samples.

    Parameters
    ----------
    given : Table
        With ``stimulus``; ``session``, ``run``, ``repeat``, ``split``, ``time`` and ``task`` are optional, all other
        columns are taken as they are. Rows without a stimulus (rest) are left out.
    tasks : dict of str to str
        Of each stimulus: the task where the table states none, ``"images"`` or ``"films"``.
    repetition_time : float, optional
        Seconds between the rows of a run, where they are a time series.

    Raises
    ------
    InputError
        For an unknown stimulus, numbers that are none, presentations that are counted wrongly, or a time series with
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
            f"{given.where} names no stimulus",
            given="a column 'stimulus' that is empty throughout",
            expected="the id of a stimulus in each row, empty for rest only",
            todo="fill the column in",
        )
    unknown = sorted(set(shown) - set(tasks))
    if unknown:
        some = ", ".join(list(tasks)[:5])
        raise InputError(
            f"{given.where} names stimuli that are not in the table of stimuli",
            given=f"{', '.join(unknown[:5])} ({len(unknown)} of them)",
            expected=f"ids of the {len(tasks)} stimuli, such as {some}",
            todo="fix the ids: they have to be the same text, '007' is not '7'",
        )


def _times(table: pd.DataFrame, repetition_time: float | None) -> np.ndarray:
    """Count the rows of each run, in seconds where they are a time series."""
    keys = ["session", "run"] if repetition_time is not None else ["task", "session", "run"]
    return table.groupby(keys, sort=False).cumcount().to_numpy() * (repetition_time or 1.0)


def _presentations(table: pd.DataFrame) -> np.ndarray:
    """Number the presentations: of a time series, rows of one stimulus in a row are one."""
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
    """Presentations count from 1 without a gap; where samples are trial estimates each is there once."""
    keys = ["task", "stimulus"]
    counted = table.groupby(keys, sort=False)["repeat"].agg(["max", "nunique", "size"])
    wrong = counted["max"] != counted["nunique"]
    if repetition_time is None:
        wrong |= counted["size"] != counted["nunique"]
    if wrong.any():
        task, stimulus = wrong[wrong].index[0]
        found = sorted(table["repeat"][(table["task"] == task) & (table["stimulus"] == stimulus)])
        raise InputError(
            f"{given.where}: presentations are counted wrongly",
            given=f"repeat = {', '.join(map(str, found[:8]))} for the stimulus {stimulus!r} (task {task!r})",
            expected="1, 2, 3, ... over all sessions, each once",
            todo="leave the column 'repeat' out: presentations are then counted in the order of the rows",
        )


def _check_series(given: Table, table: pd.DataFrame, rows: np.ndarray, repetition_time: float) -> None:
    """Volumes of a run follow each other in whole repetition times; those of rest may be left out."""
    run = table.groupby(["task", "session", "run"], sort=False).ngroup().to_numpy()
    within = run[1:] == run[:-1]
    steps = np.diff(table["time"].to_numpy()) / repetition_time
    bad = within & ((np.abs(steps - np.rint(steps)) > 1e-3) | (steps < 0.5))
    interrupted = len(np.unique(run)) != 1 + int((~within).sum())
    if bad.any() or interrupted:
        place = int(np.flatnonzero(bad)[0] if bad.any() else np.flatnonzero(~within)[-1])
        before, after = table["time"].iloc[[place, place + 1]]
        raise InputError(
            f"{given.where}: the volumes of a run do not follow each other",
            given=f"{before:g} s, then {after:g} s in row {rows[place + 1] + 1}"
            if bad.any()
            else f"a run that goes on behind another one, near row {rows[place + 1] + 1}",
            expected=f"steps of {repetition_time:g} s, or of several (rest left out); its rows together and in order",
            todo="fix the column 'time' (s, from the onset of the run), or repetition_time in the recipe",
        )


def choose_splits(
    samples: Sequence[SampleRows],
    stimuli: np.ndarray,
    stated: np.ndarray | None,
    share: float | None,
    test: Sequence[str],
    seed: int,
) -> tuple[list[pd.DataFrame], str]:
    """Decide on train and test, for all subjects alike, and check that they have no stimulus in common.

    Parameters
    ----------
    samples : sequence of SampleRows
        Of all subjects.
    stimuli : array of str, shape (stimulus,)
        All ids.
    stated : array of str, shape (stimulus,), optional
        The column ``split`` of the table of stimuli.
    share : float, optional
        Share of the stimuli to hold out.
    test : sequence of str
        Stimuli to hold out.
    seed : int
        Of the draw.

    Returns
    -------
    list of DataFrame
        The sample tables.
    str
        How it was decided, for the report.
    """
    by_row = any((one.table["split"] != "").any() for one in samples)
    if share is not None and len(test):
        raise InputError(
            "two ways to split at once",
            given="test_share and test_stimuli",
            expected="one of them",
            todo="leave one out of [options]",
        )
    if len(test):
        unknown = sorted(set(test) - set(stimuli))
        if unknown:
            raise InputError(
                "test_stimuli names stimuli that do not exist",
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
                "one stimulus cannot be split",
                given=f"{shown[0]!r} throughout",
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
    """Refuse rows without a split, stimuli in two splits, and tables without a training sample."""
    everything = pd.concat([table[["stimulus", "split"]] for table in tables])
    for one, table in zip(samples, tables, strict=True):
        if (table["split"] == "").any():
            row = int(one.rows[np.flatnonzero(table["split"] == "")[0]])
            raise InputError(
                f"{one.where}: a sample is in no split",
                given=f"an empty 'split' in row {row + 1} (or for its stimulus)",
                expected="'train' or 'test' in every row",
                todo="fill the column in, or leave it out",
            )
    double = everything.groupby("stimulus", sort=False)["split"].agg(lambda part: ", ".join(sorted(set(part))))
    double = double[double.str.contains(", ", regex=False)]
    if len(double):
        raise InputError(
            "stimuli are both trained on and tested on",
            given="; ".join(f"{name} ({split})" for name, split in double.iloc[:5].items())
            + f"; {len(double)} stimuli",
            expected="each stimulus in one split, the same for all subjects",
            todo="fix the column 'split', or leave it out and hold out a share of the stimuli: test_share = 0.1",
        )
    if "train" not in set(everything["split"]):
        raise InputError(
            "there is nothing to train on",
            given=f"splits {', '.join(sorted(set(everything['split'])))}",
            expected="samples whose split is 'train', and others, e.g. 'test'",
            todo="call the split that models are trained on 'train'",
        )
    return tables


#: Columns of captions, and all that are known.
CAPTIONS = ("caption", "caption1", "caption2", "caption3", "caption4", "caption5")

KNOWN_STIMULUS_COLUMNS = ("id", "stimulus", "kind", "category", "file", "split", "captions", *CAPTIONS)


@dataclass(frozen=True)
class Stimuli:
    """All stimuli, videos behind the images.

    Parameters
    ----------
    table : DataFrame
        With :data:`~neurorecon.datasets.base.STIMULUS_COLUMNS`.
    files : list of str
        File of each, ``""`` where none is stated.
    split : array of str, shape (stimulus,), optional
        Where the table states it.
    unused : list of str
        Columns that were not understood.
    """

    table: pd.DataFrame
    files: list[str]
    split: np.ndarray | None
    unused: list[str]

    @property
    def tasks(self) -> dict[str, str]:
        """The task of each stimulus: ``"images"`` or ``"films"``."""
        kinds = self.table["kind"].map({"image": "images", "film": "films"})
        return dict(zip(self.table["id"], kinds, strict=True))


def read_stimuli(given: Table, images: bool, videos: bool) -> Stimuli:
    """Fill in and check a table of stimuli.

    Parameters
    ----------
    given : Table
        With ``id`` (or ``stimulus``); ``kind``, ``category``, ``caption`` or ``caption1`` to ``caption5``, ``file`` and
        ``split`` are optional.
    images, videos : bool
        Whether there are images, and videos: without the column ``kind`` all stimuli are videos where there are videos
        only, else images.

    Raises
    ------
    InputError
        Where a stimulus is there twice, or its kind is unknown or unclear.
    """
    column = "stimulus" if "id" not in given and "stimulus" in given else "id"
    given.require([column])
    ids = given.names(column)
    given.refuse_duplicates(ids, "stimuli", "every stimulus once; its repeats are rows of the table of samples")
    table = pd.DataFrame({"id": ids, "kind": _kinds(given, len(ids), images, videos)})
    table["category"] = given.text("category") if "category" in given else ""
    table.loc[table["category"] == "", "category"] = "none"
    table["captions"] = _captions(given)
    order = np.argsort((table["kind"] == "film").to_numpy(), kind="stable")
    files = given.text("file") if "file" in given else np.full(len(ids), "", dtype=object)
    return Stimuli(
        table.iloc[order].reset_index(drop=True)[list(STIMULUS_COLUMNS)],
        files[order].tolist(),
        given.text("split")[order] if "split" in given else None,
        [str(name) for name in given.frame.columns if name not in KNOWN_STIMULUS_COLUMNS],
    )


def stimuli_of_names(names: Iterable[str], kind: str) -> Table:
    """Return a table of stimuli of which nothing but the names is known."""
    return as_table({"id": list(names), "kind": kind}, "the stimuli")


def _kinds(given: Table, number: int, images: bool, videos: bool) -> np.ndarray:
    if "kind" in given:
        kinds = given.names("kind")
        strange = sorted(set(kinds) - {"image", "film"})
        if strange or ("film" in kinds) != videos:
            raise InputError(
                f"{given.where}: the column 'kind' cannot be used",
                given=f"kinds {', '.join(sorted(set(kinds)))}, {'with' if videos else 'without'} an array of frames",
                expected="'image' or 'film', and frames where there are films",
                todo="fix the column, or put the videos beside it as frames.npy (film, frame, y, x, rgb)",
            )
        return kinds
    if images and videos:
        raise InputError(
            f"{given.where} does not say which stimuli are films",
            given="images and videos, and no column 'kind'",
            expected="a column 'kind' with 'image' or 'film'",
            todo="add it to the table of stimuli",
        )
    return np.full(number, "film" if videos else "image", dtype=object)


def _captions(given: Table) -> list[list[str]]:
    columns: list[Sequence[str]] = [given.text(name).tolist() for name in CAPTIONS if name in given]
    if "captions" in given:  # of a DataFrame: lists
        return [[text for text in map(str, row) if text] for row in given.frame["captions"]]
    return [[text for text in row if text][:5] for row in zip(*columns, strict=True)] or [[] for _ in range(len(given))]


def read_labels(given: Table, ids: Sequence[str]) -> pd.DataFrame:
    """Put labels into the order of the stimuli.

    Parameters
    ----------
    given : Table
        With ``stimulus`` (or ``id``), a row for each stimulus; all other columns are numbers.
    ids : sequence of str

    Raises
    ------
    InputError
        Where a stimulus has no row or two, or a label is no number.
    """
    column = "stimulus" if "id" not in given and "stimulus" in given else "id"
    given.require([column])
    names = given.names(column)
    given.refuse_duplicates(names, "stimuli", "one row for each stimulus")
    if set(names) != set(ids):
        odd = sorted(set(names) ^ set(ids))
        raise InputError(
            f"{given.where} does not match the stimuli",
            given=f"{', '.join(odd[:5])} ({len(odd)} of them) in one table only",
            expected=f"a row for each of the {len(ids)} stimuli, and no others",
            todo="fix the table of labels",
        )
    values = {str(name): given.numbers(str(name)) for name in given.frame.columns if name != column}
    if not values:
        raise InputError(
            f"{given.where} has no labels", given=f"the column {column!r} alone", expected="columns of numbers"
        )
    return pd.DataFrame(values, index=pd.Index(names)).loc[list(ids)].reset_index(drop=True)


#: Columns that are no ROIs.
POSITIONS = ("i", "j", "k", "hemisphere", "vertex")

KNOWN_VOXEL_COLUMNS = (*POSITIONS, "ncsnr", "roi", "voxel")

#: Vertices of one hemisphere of FreeSurfer's average brains.
MESHES = {"fsaverage3": 642, "fsaverage4": 2562, "fsaverage5": 10242, "fsaverage6": 40962, "fsaverage7": 163842}

MESHES["fsaverage"] = MESHES["fsaverage7"]

_TRUTH = {"1": True, "1.0": True, "true": True, "0": False, "0.0": False, "false": False, "": False}

_SIDES = {"left": "left", "right": "right", "lh": "left", "rh": "right", "l": "left", "r": "right"}


@dataclass(frozen=True)
class Volume:
    """A brain mask, or the grid alone.

    Parameters
    ----------
    where : str
        Its name in messages.
    shape : tuple of int
        (x, y, z).
    affine : nested list, shape (4, 4)
    mask : bool array, shape (x, y, z), optional
    """

    where: str
    shape: tuple[int, ...]
    affine: list[list[float]]
    mask: np.ndarray | None = None


@dataclass(frozen=True)
class Voxels:
    """Voxels of one subject, before bad ones are dropped.

    Parameters
    ----------
    table : DataFrame
        Positions, as the space needs, and ``ncsnr`` where it was given.
    rois : dict of str to bool array, shape (voxel,)
    space : Space
    report : dict of str to str
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
    """Fill in and check a table of voxels.

    Parameters
    ----------
    given : Table, optional
        The table; without one every voxel belongs to the ROI ``all``.
    number : int
        Voxels of the responses.
    volume : Volume, optional
        Where i, j, k count. Without i, j, k in the table, voxels are those of its mask, in C order.
    mesh : str, optional
        Surface of ``hemisphere`` and ``vertex``.
    rois : sequence of str, or mapping of str to array, optional
        Columns that are ROIs (by default all that hold 0 and 1 only), or the ROIs themselves.

    Raises
    ------
    InputError
        Where the table does not fit the responses or contradicts itself.
    """
    if given is not None and len(given) != number:
        raise InputError(
            f"{given.where} does not match the responses",
            given=f"{len(given)} rows for {number} voxels",
            expected="one row a voxel, in the order of the responses",
            todo="take the table that belongs to these responses",
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
    """Return the ROIs, and the columns that were not understood."""
    if given is None:
        return {}, []
    if wanted is not None:
        given.require(wanted)
    rois: dict[str, np.ndarray] = {}
    if "roi" in given:
        names = [[part.strip() for part in text.split("+") if part.strip()] for text in given.text("roi")]
        for name in dict.fromkeys(part for row in names for part in row):
            rois[name] = np.array([name in row for row in names], dtype=bool)
    unused = []
    for column in (
        [str(name) for name in given.frame.columns if name not in KNOWN_VOXEL_COLUMNS] if wanted is None else wanted
    ):
        member = _truth(given.text(column))
        if member is None and wanted is not None:
            raise InputError(
                f"{given.where}: the column {column!r} is no ROI",
                given=", ".join(sorted(set(given.text(column)))[:5]),
                expected="0 and 1 (or true and false)",
                todo="fix the column, or leave it out of rois",
            )
        if member is None:
            unused.append(column)
        elif column in rois:
            raise InputError(
                f"{given.where} states the ROI {column!r} twice",
                given="a column of that name, and the name in the column 'roi'",
                expected="one of them",
                todo="leave one out",
            )
        else:
            rois[column] = member
    return rois, unused


def _truth(values: np.ndarray) -> np.ndarray | None:
    """Return a column of 0 and 1 as bools; None where it holds anything else."""
    codes, words = pd.factorize(values)
    known = [_TRUTH.get(str(word).lower()) for word in words]
    if None in known or True not in known:
        return None
    return np.array(known, dtype=bool)[codes]


def _member(name: str, values: Any, number: int) -> np.ndarray:
    member = np.asarray(values)
    if member.shape != (number,) or member.dtype.kind not in "biu" or not np.isin(member, (0, 1)).all():
        raise InputError(
            f"the ROI {name!r} is no mask of the voxels",
            given=f"{member.dtype} of shape {member.shape}",
            expected=f"{number} values, true or false",
            todo="pass one truth value for each voxel",
        )
    return member.astype(bool)


def _positions(given: Table | None, number: int, volume: Volume | None, mesh: str | None) -> tuple[pd.DataFrame, Space]:
    has_volume = given is not None and any(column in given for column in "ijk")
    has_surface = given is not None and any(column in given for column in ("hemisphere", "vertex"))
    if has_volume and has_surface:
        raise InputError(
            f"{given.where if given else ''} places voxels in a volume and on a surface",
            given="columns of both",
            expected="i, j, k, or hemisphere, vertex",
            todo="leave those out that do not apply",
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
            given=f"{int(mask.sum())} voxels that are not zero, for {number} voxels of responses",
            expected="as many, in the order of numpy.nonzero (nilearn's maskers have it)",
            todo="take the mask that the responses were read with, or add i, j, k to the table of voxels",
        )
    i, j, k = np.nonzero(mask)
    return pd.DataFrame({"i": i, "j": j, "k": k}), _grid(volume)


def _grid(volume: Volume) -> Space:
    return Space("volume", affine=volume.affine, shape=list(volume.shape))


def _in_volume(given: Table, volume: Volume | None) -> tuple[pd.DataFrame, Space]:
    given.require(["i", "j", "k"])
    if volume is None:
        raise InputError(
            f"{given.where} has i, j, k, but nothing says where they lie",
            given="neither mask.nii.gz, nor affine and shape",
            expected="one of them",
            todo="put mask.nii.gz beside the table, or state affine and shape in [options] of the recipe",
        )
    table = pd.DataFrame({column: given.integers(column, 0) for column in "ijk"})
    positions = table.to_numpy()
    outside = (positions >= np.array(volume.shape)).any(axis=1)
    if outside.any():
        place = positions[outside][0].tolist()
        raise InputError(
            f"{given.where} has voxels outside of the volume",
            given=f"i, j, k = {place}; {int(outside.sum())} such voxels",
            expected=f"below {tuple(volume.shape)}, the shape of {volume.where}, counted from 0",
            todo="the axes may be in another order, or count from 1",
        )
    _refuse_double(given, positions)
    if volume.mask is not None and not volume.mask[tuple(positions.T)].all():
        out = ~volume.mask[tuple(positions.T)]
        raise InputError(
            f"{given.where} has voxels outside of the mask",
            given=f"i, j, k = {positions[out][0].tolist()}; {int(out.sum())} such voxels of {len(out)}",
            expected=f"voxels where {volume.where} is not zero, counted from 0",
            todo="the axes may be in another order, or count from 1; or take the mask that belongs to the table",
        )
    return table, _grid(volume)


def _on_surface(given: Table, mesh: str | None) -> tuple[pd.DataFrame, Space]:
    given.require(["hemisphere", "vertex"])
    if mesh not in MESHES:
        raise UnknownNameError(
            f"mesh of {given.where}", mesh, MESHES, todo='state it: mesh = "fsaverage5" in [options] of the recipe'
        )
    words = given.text("hemisphere")
    strange = sorted({str(word) for word in words if str(word).lower() not in _SIDES})
    if strange:
        raise UnknownNameError(f"hemisphere in {given.where}", strange[0], ["left", "right"])
    vertex = given.integers("vertex", 0)
    if vertex.max() >= MESHES[mesh]:
        raise InputError(
            f"{given.where} has vertices that {mesh} lacks",
            given=f"vertex {vertex.max()}",
            expected=f"below {MESHES[mesh]}, counted from 0 in each hemisphere",
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
