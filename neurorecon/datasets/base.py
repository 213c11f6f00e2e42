"""What a data set has to offer so that a store can be built from it.

A reader opens the folder that the user downloaded, renames nothing, and hands out tables at once and arrays by
slices, so that the memory needed does not depend on the size of the data set. The contract is checked by
:func:`neurorecon.testing.check_reader`.
"""

from __future__ import annotations

import re
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict

from neurorecon.errors import InputError, MissingFileError
from neurorecon.io.files import files_below
from neurorecon.space import Space

#: Columns of the table of samples, in the order in which they are stored.
SAMPLE_COLUMNS = ("stimulus", "task", "session", "run", "repeat", "split", "time")

#: Further column of the table of samples: of how many trials each sample is the mean.
TRIALS = "trials"

#: A file of this name in the folder of a data set says that its responses were computed, not measured.
SIMULATED = "SIMULATED"

#: Columns of the table of stimuli. ``captions`` holds a list of up to five strings.
STIMULUS_COLUMNS = ("id", "kind", "category", "captions")


class Options(BaseModel):
    """Options of a reader; the keys of ``[options]`` in a recipe. Unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


@dataclass(frozen=True)
class Description:
    """What a store says of where its data came from.

    Parameters
    ----------
    title : str
        One line for tables and figures.
    simulated : bool
        Whether the responses were computed rather than measured. Figures of simulated data say so.
    citation, terms : str
        Papers to cite, and the license or terms of use.
    units : str
        Of the responses, e.g. ``"percent signal change"``.
    notes : str
        What a reader of a figure has to know, e.g. preprocessing that the data went through.
    """

    title: str
    simulated: bool
    citation: str
    terms: str
    units: str
    notes: str = ""


@dataclass(frozen=True)
class SubjectData:
    """The recordings of one subject, arrays by slices.

    Parameters
    ----------
    samples : DataFrame
        One row a sample (a trial estimate or a volume), with :data:`SAMPLE_COLUMNS`: ``stimulus`` (an id of the
        table of stimuli), ``task`` (e.g. ``"images"``), ``session`` and ``run`` (int, runs are counted within the
        session from 1), ``repeat`` (int from 1: which presentation of this stimulus, in this task), ``split``
        (e.g. ``"train"``, ``"test"``) and ``time`` (s, from the onset of the run). Further columns (behavior,
        ratings) are stored too: numbers with NaN, or text with ``""`` where a value is missing; see
        :mod:`neurorecon.datasets.base`. :data:`TRIALS` among them says of how many trials each sample is the mean.
    voxels : DataFrame
        One row a voxel: the columns that `space` needs (:data:`neurorecon.space.SPACE_COLUMNS`), and ``ncsnr``
        where the data set states it (else it is computed from repeats).
    rois : mapping of str to bool array, shape (voxel,)
        Membership; ROIs may overlap.
    space : Space
        Where the voxels lie.
    read_responses : callable
        ``read_responses(start, stop)`` returns samples ``start:stop`` as float32, shape (sample, voxel).
    repetition_time : mapping of str to float
        Seconds between the volumes of a task whose samples are a time series; tasks whose samples are trial
        estimates are left out.
    truth : mapping of str to array, shape (..., voxel)
        For simulated data only: what was planted, one value or row per voxel (last axis).
    report : mapping of str to str
        What anyone who uses the store has to know of this subject, e.g. ``{"voxels dropped": "3 constant, ...",
        "sessions missing": "39, 40"}``; ``build`` and ``info`` print it.
    """

    samples: pd.DataFrame
    voxels: pd.DataFrame
    rois: Mapping[str, np.ndarray]
    space: Space
    read_responses: Callable[[int, int], np.ndarray]
    repetition_time: Mapping[str, float] = field(default_factory=dict)
    truth: Mapping[str, np.ndarray] = field(default_factory=dict)
    report: Mapping[str, str] = field(default_factory=dict)


class Reader(ABC):
    """Base class of the readers, one for each data set on disk.

    Parameters
    ----------
    root : path or None
        The folder that the user downloaded. None for data that need no files.
    options : Options
        An instance of the class attribute ``Options``.
    """

    #: Name in recipes and in the registry.
    name: ClassVar[str]
    #: The pydantic model of this reader's options.
    Options: ClassVar[type[Options]] = Options
    #: Raised whenever the numbers that the reader gives change; stores of another version are not gone on with.
    version: ClassVar[int] = 1
    #: Whether `root` has to be given.
    needs_root: ClassVar[bool] = True
    #: Groups of ROIs that this data set's papers speak of; a recipe may add to them or redefine them.
    roi_groups: ClassVar[dict[str, list[str]]] = {}
    #: Targets that a recipe without a file (``neurorecon build NAME``) computes.
    default_targets: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "film_shape" in cls.__dict__ and "video_shape" not in cls.__dict__:
            warnings.warn(
                f"{cls.__name__}.film_shape() is deprecated: rename it to video_shape()",
                DeprecationWarning,
                stacklevel=2,
            )
            cls.video_shape = cls.film_shape  # type: ignore[attr-defined, method-assign]

    def __init__(self, root: str | Path | None, options: BaseModel | None = None) -> None:
        self.options: Any = self.Options() if options is None else options
        if self.needs_root:
            if root is None:
                raise MissingFileError(
                    f"the data set {self.name!r} is read from a folder",
                    given="no folder",
                    expected="the folder that you downloaded",
                    todo='pass it: --root DIR, or root = "DIR" in the recipe',
                )
            if not Path(root).is_dir():
                raise MissingFileError(
                    f"the folder of the data set {self.name!r} is not there",
                    given=str(root),
                    expected="an existing folder",
                    todo="check --root (or root in the recipe)",
                )
        self.root = None if root is None else Path(root)

    @property
    def simulated(self) -> bool:
        """Whether the folder says, by a file :data:`SIMULATED`, that its responses were computed."""
        return isinstance(self.root, Path) and (self.root / SIMULATED).is_file()

    @classmethod
    def sources(cls, root: Path, options: Any) -> list[Path]:
        """Return the files below `root` that are read with these options, without reading any.

        The store remembers them, so that a later build notices that one changed. A reader that reads a part of its
        folder alone should name that part; here it is all of it.
        """
        return files_below(root)

    @property
    @abstractmethod
    def description(self) -> Description:
        """Title, citation, terms, units."""

    @property
    @abstractmethod
    def subjects(self) -> list[str]:
        """Names of the subjects, e.g. ``["subj01"]``."""

    @abstractmethod
    def stimuli(self) -> pd.DataFrame:
        """Return the table of stimuli, one row each, with :data:`STIMULUS_COLUMNS`.

        ``id`` is a unique string, ``kind`` is ``"image"`` or ``"film"``, videos come after the images.
        """

    def labels(self) -> pd.DataFrame | None:
        """Return numeric labels, one row a stimulus and one column a label, or None."""
        return None

    def image_shape(self) -> tuple[int, int, int] | None:
        """Return (y, x, rgb) of the images, or None where there are none."""
        return None

    def read_images(self, start: int, stop: int) -> np.ndarray:
        """Return the images of stimuli ``start:stop``, uint8, shape (stimulus, y, x, rgb).

        Every stimulus has one: for a video it is the middle frame.
        """
        raise NotImplementedError(f"{self.name} has no images")

    def video_shape(self) -> tuple[int, int, int, int] | None:
        """Return (frame, y, x, rgb) of the videos, or None where there are none."""
        return None

    def frames_per_second(self) -> float | None:
        """Return the frame rate of the films."""
        return None

    def read_frames(self, start: int, stop: int) -> np.ndarray:
        """Return the frames of videos ``start:stop`` (counted among the videos), uint8, (film, frame, y, x, rgb)."""
        raise NotImplementedError(f"{self.name} has no films")

    @abstractmethod
    def subject(self, name: str) -> SubjectData:
        """Return the recordings of one subject."""


#: Names that mean something else in the group of a subject, or beside the samples of an array of responses.
RESERVED = frozenset(SAMPLE_COLUMNS).union(
    ("sample", "voxel", "responses", "roi", "rois", "roi_mask", "repeated_task", "ncsnr", "noise_ceiling"),
    ("repeats", "delay", "i", "j", "k", "hemisphere", "vertex", "structure"),
)

#: What counts as a missing value in tables of text.
MISSING = ("", "n/a", "N/A", "NaN", "nan")


def further_columns(samples: pd.DataFrame) -> list[str]:
    """Return the names of the columns beyond :data:`~neurorecon.datasets.base.SAMPLE_COLUMNS`."""
    return [str(name) for name in samples if name not in SAMPLE_COLUMNS]


def can_be_stored(name: object) -> bool:
    """Return whether a further column may have this name.

    Upper and lower case count as the same, because arrays of an exported store are folders.
    """
    text = str(name)
    usable = re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", text) is not None
    return usable and text.lower() not in RESERVED and not text.lower().startswith("truth_")


def tidy_columns(table: pd.DataFrame, names: Iterable[str]) -> tuple[pd.DataFrame, list[str]]:
    """Take columns of a table as further columns: numbers where all that is there are numbers, else text.

    Parameters
    ----------
    table : DataFrame
        Of text, as read from a file, or of any type.
    names : iterable of str
        The columns to take.

    Returns
    -------
    DataFrame
        Those that can be stored: numbers (NaN where missing), truth values or text (``""`` where missing).
    list of str
        The others: their names cannot be those of arrays, or differ from another one by upper and lower case only.
    """
    found: dict[str, np.ndarray] = {}
    left_out: list[str] = []
    for name in names:
        if can_be_stored(name) and name.lower() not in map(str.lower, found):
            found[name] = column_values(_numbers_or_text(table[name]))
        else:
            left_out.append(str(name))
    return pd.DataFrame(found, index=table.index), left_out


def _numbers_or_text(column: pd.Series) -> pd.Series:
    if column.dtype == bool or pd.api.types.is_numeric_dtype(column.dtype):
        return column
    text = column.astype(str)
    text = text[~(column.isna() | text.isin(MISSING))]
    numbers = pd.to_numeric(text, errors="coerce")
    if numbers.isna().any() or text.str.match(r"[+-]?0\d").any():  # "007" is a name
        return text.reindex(column.index)
    return numbers.astype(float).reindex(column.index)


def column_values(column: pd.Series) -> np.ndarray:
    """Return a further column as it is stored.

    Returns
    -------
    array, shape (sample,)
        Truth values as bool, whole numbers as int64, other numbers as float64 with NaN where they are missing, all else
        as text with ``""`` where it is missing.
    """
    if column.dtype == bool:
        return column.to_numpy()
    if pd.api.types.is_numeric_dtype(column.dtype):
        whole = pd.api.types.is_integer_dtype(column.dtype) and not column.isna().any()
        # A zero is stored without a sign: chunks of zeros are not written, and are read back as plain ones.
        return column.to_numpy(dtype=np.int64) if whole else column.to_numpy(dtype=float, na_value=np.nan) + 0.0
    return np.where(column.isna(), "", column.astype(str)).astype(object)


def check_columns(where: str, samples: pd.DataFrame) -> None:
    """Refuse further columns that cannot be stored, and numbers of trials that are none.

    Raises
    ------
    InputError
        Which names them.
    """
    names = further_columns(samples)
    lower = [name.lower() for name in names]
    wrong = [name for name in names if not can_be_stored(name) or lower.count(name.lower()) > 1]
    if wrong:
        raise InputError(
            f"columns of {where} cannot be stored under their names",
            given=", ".join(map(repr, wrong[:5])),
            expected="letters, digits, '_', '.' and '-', different in more than upper and lower case, and none of "
            + ", ".join(sorted(RESERVED)),
            todo="rename the columns, or leave them out",
        )
    if TRIALS in samples:
        trials = pd.to_numeric(samples[TRIALS], errors="coerce")
        whole = (trials >= 1) & (trials == trials.round()) & np.isfinite(trials)
        if not whole.all():
            raise InputError(
                f"the column {TRIALS!r} of {where} cannot be used",
                given=", ".join(map(str, samples[TRIALS][~whole].iloc[:3])),
                expected="of how many trials each sample is the mean: whole numbers, 1 or more",
                todo="fix the column, or rename it",
            )
