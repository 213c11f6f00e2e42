"""The reader interface: what a data set has to provide so that a store can be built from it.

A reader opens the folder that the user downloaded and returns tables as a whole and arrays in slices, so that memory
use does not depend on the size of the data set. :func:`neurorecon.testing.check_reader` checks that a reader keeps
the contract.
"""

from __future__ import annotations

import re
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict

from neurorecon.errors import InputError, MissingFileError, NeuroreconWarning
from neurorecon.io.files import files_below, refuse_empty
from neurorecon.io.tables import as_text
from neurorecon.space import Space

#: Columns of the table of samples, in the order in which they are stored.
SAMPLE_COLUMNS = ("stimulus", "task", "session", "run", "repeat", "split", "time")

#: Optional column of the table of samples: how many trials were averaged for each sample.
TRIALS = "trials"

#: A file of this name in the folder of a data set marks its responses as simulated.
SIMULATED = "SIMULATED"

#: Columns of the table of stimuli. ``captions`` contains lists of up to five strings.
STIMULUS_COLUMNS = ("id", "kind", "category", "captions")


class Options(BaseModel):
    """Base class for the options of a reader: the keys of ``[options]`` in a recipe. Unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    #: Former names of options, and what they are called now; a recipe that uses one is told so.
    former_names: ClassVar[dict[str, str]] = {}


@dataclass(frozen=True)
class Description:
    """Description of a data set, which its store keeps.

    Parameters
    ----------
    title : str
        Title for tables and figures, one line.
    simulated : bool
        Whether the responses are simulated. Figures of simulated data say so.
    citation, terms : str
        Papers to cite, and the license or terms of use.
    units : str
        Units of the responses, e.g. ``"percent signal change"``.
    notes : str
        What readers of a figure need to know, e.g. how the data was preprocessed.
    """

    title: str
    simulated: bool
    citation: str
    terms: str
    units: str
    notes: str = ""


@dataclass(frozen=True)
class SubjectData:
    """The data of one subject.

    Parameters
    ----------
    samples : DataFrame
        One row per sample (a trial estimate or a volume), with :data:`SAMPLE_COLUMNS`: ``stimulus`` (an id from the
        table of stimuli), ``task`` (e.g. ``"images"``), ``session`` and ``run`` (int; runs are counted within the
        session, from 1), ``repeat`` (int; counts the presentations of a stimulus within a task, from 1), ``split``
        (e.g. ``"train"``, ``"test"``) and ``time`` (s, from the onset of the run). Further columns (behavior,
        ratings) are stored too, as numbers (NaN if missing) or strings (``""`` if missing). The optional column
        :data:`TRIALS` states how many trials were averaged for each sample.
    voxels : DataFrame
        One row per voxel, with the columns of `space` (:data:`neurorecon.space.SPACE_COLUMNS`), and ``ncsnr`` if the
        data set provides it (otherwise it is computed from repeats).
    rois : mapping of str to bool array, shape (voxel,)
        Which voxels belong to each ROI. ROIs may overlap.
    space : Space
        Space of the voxels.
    read_responses : callable
        ``read_responses(start, stop)`` returns samples ``start:stop``, float32, shape (sample, voxel).
    repetition_time : mapping of str to float
        Repetition time (s) of each task whose samples are the volumes of a time series. Tasks whose samples are trial
        estimates are omitted.
    truth : mapping of str to array, shape (..., voxel)
        For simulated data only: the ground truth, one value or column per voxel.
    report : mapping of str to str
        What users of the store should know about this subject, e.g. ``{"voxels dropped": "3 constant, ...",
        "sessions missing": "39, 40"}``; ``build`` and ``info`` print it.
    voxel_columns : sequence of str
        Further columns of `voxels` to store, e.g. the hemisphere of each voxel of a volume, or statistics of a
        localizer. Columns that are not listed are not stored.
    ncsnr_tasks : sequence of str, optional
        The tasks that the column ``ncsnr`` of `voxels` is about; ceilings of the others are computed from repeats. By
        default, all.
    """

    samples: pd.DataFrame
    voxels: pd.DataFrame
    rois: Mapping[str, np.ndarray]
    space: Space
    read_responses: Callable[[int, int], np.ndarray]
    repetition_time: Mapping[str, float] = field(default_factory=dict)
    truth: Mapping[str, np.ndarray] = field(default_factory=dict)
    report: Mapping[str, str] = field(default_factory=dict)
    voxel_columns: Sequence[str] = ()
    ncsnr_tasks: Sequence[str] | None = None


class Reader(ABC):
    """Base class for readers. Each data set has one.

    Parameters
    ----------
    root : path or None
        The folder that the user downloaded. None for data sets that need no files.
    options : Options, optional
        An instance of the class attribute ``Options``; by default, all options have their default values.

    Raises
    ------
    MissingFileError
        If the reader needs a folder, and `root` is None or does not exist.
    """

    #: Name in recipes and in the registry.
    name: ClassVar[str]
    #: The pydantic model of this reader's options.
    Options: ClassVar[type[Options]] = Options
    #: To be increased whenever the output of the reader changes. A build cannot resume a store of another version.
    version: ClassVar[int] = 1
    #: Whether the reader needs a folder.
    needs_root: ClassVar[bool] = True
    #: Groups of ROIs that are common in papers on this data set. A recipe may add groups or redefine these.
    roi_groups: ClassVar[dict[str, list[str]]] = {}
    #: Targets to compute when the data set is built without a recipe file (``neurorecon build NAME``).
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
                    f"the data set {self.name!r} needs a folder",
                    given="no folder",
                    expected="the folder of the downloaded data set",
                    todo='pass --root DIR, or set root = "DIR" in the recipe',
                )
            if not Path(root).is_dir():
                raise MissingFileError(
                    f"the folder of the data set {self.name!r} does not exist",
                    given=str(root),
                    expected="an existing folder",
                    todo="check --root (or root in the recipe)",
                )
            refuse_empty(Path(root), f"the files of the data set {self.name!r}", outside_datalad=False)
        self.root = None if root is None else Path(root)

    @property
    def simulated(self) -> bool:
        """Whether the folder contains a file :data:`SIMULATED`, which marks its responses as simulated."""
        return isinstance(self.root, Path) and (self.root / SIMULATED).is_file()

    @classmethod
    def sources(cls, root: Path, options: Any) -> list[Path]:
        """List the files below `root` that are read with these options.

        The store keeps their fingerprints, so that a later build detects changes. By default, these are all files in
        the folder; a reader that reads only some of them should override this method.

        Parameters
        ----------
        root : path
            The folder of the data set.
        options : Options
            The options of the reader.

        Returns
        -------
        list of Path
            Files that do not exist may be included.
        """
        return files_below(root)

    @property
    @abstractmethod
    def description(self) -> Description:
        """Title, citation, terms of use and units of the data set."""

    @property
    @abstractmethod
    def subjects(self) -> list[str]:
        """Names of the subjects, e.g. ``["subj01"]``."""

    @abstractmethod
    def stimuli(self) -> pd.DataFrame:
        """Return the table of stimuli, one row per stimulus, with :data:`STIMULUS_COLUMNS`.

        ``id`` is a unique string and ``kind`` is ``"image"``, ``"video"``, or ``"other"`` for stimuli that are neither
        (a word that somebody imagines): they are legal, and have no images. Images come first, then videos, then these.
        """

    def labels(self) -> pd.DataFrame | None:
        """Return numeric labels, one row per stimulus and one column per label, or None if there are none.

        The row of a stimulus that nobody labeled is NaN.
        """
        return None

    def image_shape(self) -> tuple[int, int, int] | None:
        """Return the shape of an image, (y, x, rgb), or None if there are no images."""
        return None

    def read_images(self, start: int, stop: int) -> np.ndarray:
        """Return the images of stimuli ``start:stop``, uint8, shape (stimulus, y, x, rgb).

        The image of a video is its middle frame.
        """
        raise NotImplementedError(f"{self.name} has no images")

    def video_shape(self) -> tuple[int, int, int, int] | None:
        """Return the shape of a video, (frame, y, x, rgb), or None if there are no videos.

        Readers that still define this method under its former name, ``film_shape``, work with a DeprecationWarning.
        """
        return None

    def frames_per_second(self) -> float | None:
        """Return the frame rate of the videos in Hz, or None if there are no videos."""
        return None

    def read_frames(self, start: int, stop: int) -> np.ndarray:
        """Return the frames of videos ``start:stop``, uint8, shape (video, frame, y, x, rgb).

        Videos are counted from 0, without the images that precede them in the table of stimuli.
        """
        raise NotImplementedError(f"{self.name} has no videos")

    @abstractmethod
    def subject(self, name: str) -> SubjectData:
        """Return the data of one subject."""


#: Names of other arrays in the group of a subject, or of other coordinates of responses.
RESERVED = frozenset(SAMPLE_COLUMNS).union(
    ("sample", "voxel", "responses", "roi", "rois", "roi_mask", "repeated_task", "ncsnr", "noise_ceiling"),
    ("signal_variance", "noise_variance"),
    ("repeats", "delay", "i", "j", "k", "hemisphere", "vertex", "structure"),
)


def without_captions(
    stimuli: pd.DataFrame, promised: bool, listed: Sequence[str] = (), known: Iterable[str] = (), where: str = ""
) -> str:
    """Warn of stimuli without a caption, if others have one, and of captions of no stimulus.

    Parameters
    ----------
    stimuli : DataFrame
        The table of stimuli.
    promised : bool
        Whether the table of captions was asked for: to warn even if none has a caption, and to refuse a table none of
        whose ids is a stimulus.
    listed : sequence of str
        Ids in the table of captions.
    known : iterable of str
        What such ids may be: the ids of the stimuli, or the videos that they are clips of.
    where : str
        The table of captions, for messages.

    Returns
    -------
    str
        A sentence for the notes of the description, which ``neurorecon info`` shows; empty if all have captions.

    Raises
    ------
    InputError
        If none of the ids is a stimulus.
    """
    may_be = set(known)
    strange = [str(name) for name in listed if name not in may_be]
    if promised and len(strange) and len(strange) == len(listed):
        raise InputError(
            f"{where} has captions of none of the stimuli",
            given=f"ids such as {', '.join(strange[:3])}",
            expected=f"ids such as {', '.join(map(str, stimuli['id'].iloc[:3]))}",
            todo="use the ids of the stimuli in the first column, or remove the table from the options",
        )
    lacking = [str(name) for name, said in zip(stimuli["id"], stimuli["captions"], strict=True) if not len(said)]
    if not lacking or (len(lacking) == len(stimuli) and not promised and not strange):
        return ""
    some = ", ".join(lacking[:3]) + (", ..." if len(lacking) > 3 else "")
    found = f" {len(lacking)} of {len(stimuli)} stimuli have no caption: {some}."
    if strange:
        some = ", ".join(strange[:3]) + (", ..." if len(strange) > 3 else "")
        found += f" {len(strange)} of {len(listed)} ids in {where} are no stimulus: {some}."
    if promised or len(strange) < len(listed) or not listed:  # a table that nobody asked for may be about others
        warnings.warn(f"{found.strip()} Targets of captions leave them out.", NeuroreconWarning, stacklevel=2)
    return found


def further_columns(samples: pd.DataFrame) -> list[str]:
    """Return the names of the columns beyond :data:`SAMPLE_COLUMNS`."""
    return [str(name) for name in samples if name not in SAMPLE_COLUMNS]


def can_be_stored(name: object) -> bool:
    """Return whether a further column can be stored under this name.

    Case is ignored, because arrays become folders when a store is exported.
    """
    text = str(name)
    usable = re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", text) is not None
    return usable and text.lower() not in RESERVED and not text.lower().startswith("truth_")


def tidy_columns(table: pd.DataFrame, names: Iterable[str]) -> tuple[pd.DataFrame, list[str]]:
    """Select columns of a table to be stored, as numbers if all values that are not missing are numbers, else as text.

    Parameters
    ----------
    table : DataFrame
        Columns of any type; those of text files contain strings.
    names : iterable of str
        The columns to select.

    Returns
    -------
    found : DataFrame
        The columns that can be stored: numbers (NaN if missing), booleans, or strings (``""`` if missing).
    left_out : list of str
        The other columns, whose names are not allowed or differ from that of an earlier column only in case.
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
    text = pd.Series(as_text(column), index=column.index)
    text = text[text != ""]
    numbers = pd.to_numeric(text, errors="coerce")
    label = text.str.match(r"[+-]?0\d")  # "007" is a label, not a number
    label |= text.str.fullmatch(r"[+-]?\d{16,}")  # an id of 16 digits or more would lose its last ones as a float
    if (numbers.isna() & ~text.isin(("NaN", "nan"))).any() or label.any():
        return text.reindex(column.index)
    return numbers.astype(float).reindex(column.index)


def column_values(column: pd.Series) -> np.ndarray:
    """Return a further column as it is stored.

    Returns
    -------
    array, shape (sample,)
        Booleans as bool, integers as int64, other numbers as float64 (NaN if missing), everything else as strings
        (``""`` if missing).
    """
    if column.dtype == bool:
        return column.to_numpy()
    if pd.api.types.is_numeric_dtype(column.dtype):
        whole = pd.api.types.is_integer_dtype(column.dtype) and not column.isna().any()
        whole = whole and (not len(column) or int(column.max()) <= np.iinfo(np.int64).max)  # uint64 may be larger
        # + 0.0 turns -0.0 into 0.0: chunks of zeros are not written, and read back as positive zeros.
        return column.to_numpy(dtype=np.int64) if whole else column.to_numpy(dtype=float, na_value=np.nan) + 0.0
    return np.where(column.isna(), "", column.astype(str)).astype(object)


def check_columns(where: str, samples: pd.DataFrame) -> None:
    """Check that further columns can be stored, and that numbers of trials are valid.

    Parameters
    ----------
    where : str
        What error messages call the table.
    samples : DataFrame
        The table of samples.

    Raises
    ------
    InputError
        If the name of a column is not allowed, or the column :data:`TRIALS` contains anything but positive integers.
    """
    names = further_columns(samples)
    large = [name for name in names if samples[name].dtype.kind == "u" and samples[name].max() > np.iinfo(np.int64).max]
    if large:
        raise InputError(
            f"some columns of {where} hold numbers that are too large to be stored",
            given=f"{large[0]} up to {samples[large[0]].max()}",
            expected=f"whole numbers up to {np.iinfo(np.int64).max}, or text",
            todo="store such numbers as text, e.g. samples[column].astype(str)",
        )
    lower = [name.lower() for name in names]
    wrong = [name for name in names if not can_be_stored(name) or lower.count(name.lower()) > 1]
    if wrong:
        raise InputError(
            f"some columns of {where} cannot be stored under their names",
            given=", ".join(map(repr, wrong[:5])),
            expected="names of letters, digits, '_', '.' and '-' that are unique regardless of case, and none of "
            + ", ".join(sorted(RESERVED)),
            todo="rename or remove the columns",
        )
    if TRIALS in samples:
        trials = pd.to_numeric(samples[TRIALS], errors="coerce")
        whole = (trials >= 1) & (trials == trials.round()) & np.isfinite(trials)
        if not whole.all():
            raise InputError(
                f"the column {TRIALS!r} of {where} cannot be used",
                given=", ".join(map(str, samples[TRIALS][~whole].iloc[:3])),
                expected="the number of trials averaged for each sample: integers, 1 or more",
                todo="fix the column, or rename it",
            )
