"""Reader of THINGS-fMRI: three subjects saw 8,740 photographs of 720 and more object concepts, 3 T.

Responses are estimates of trials, as a table (``betas_csv``) or as volumes (``betas_vol``). The table is an HDF5 file
that pandas wrote with PyTables, in the format "fixed": a block of numbers (voxel, trial) and a block with the numbers
of the voxels. Both are read with h5py, in pieces, so that PyTables is not needed and the table (16 GB a subject) is
never in memory as a whole. The names of the columns are pickled in such files; they are not read, because the trials
are in the order of ``StimulusMetadata.csv``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pandas as pd
from pydantic import Field

from neurorecon.datasets.base import SAMPLE_COLUMNS, TRIALS, Description, Options, Reader, SubjectData, can_be_stored
from neurorecon.datasets.bids.stimuli import captions_of
from neurorecon.datasets.runs import read_by_part, screen
from neurorecon.datasets.splits import TEST, TRAIN
from neurorecon.errors import InputError, MissingFileError, UnknownNameError
from neurorecon.io.arrays import open_hdf5_file, wrong_shape
from neurorecon.io.files import damaged, inside, require_file
from neurorecon.io.tables import Table, as_table, read_text_table
from neurorecon.io.videos import StimulusFile, StimulusFiles
from neurorecon.io.volumes import check_grid, check_mask, open_image, read_mask, read_volumes
from neurorecon.space import Space

#: Columns of VoxelMetadata.csv that are no ROIs; those from the third line on are stored with the voxels.
PLACES = ("voxel_x", "voxel_y", "voxel_z")
NUMBERS = ("voxel_id", "subject_id", *PLACES)
MAPS = (
    "nc_singletrial", "nc_testset", "splithalf_uncorrected", "splithalf_corrected",
    "prf-eccentricity", "prf-polarangle", "prf-rsquared", "prf-size",
)  # fmt: skip

#: What names of parcels of HCP-MMP begin with.
PARCEL = "glasser-"

#: The ROI of all voxels that are stored.
WHOLE = {"rois": "rois", "cortex": "cortex", "brain": "brain"}

#: Bytes of the table of responses that are read at a time.
BLOCK_BYTES = 2**26

_AGAIN = "download the file again (neurorecon datasets show things)"

_SUBJECT = re.compile(r"(sub-\d+)_StimulusMetadata\.csv")
_RUN = re.compile(r"ses-things(\d+)_run-(\d+)_betas\.nii\.gz")

CITATION = (
    "Hebart MN, Contier O, Teichmann L, Rockter AH, Zheng CY, Kidder A, Corriveau A, Vaziri-Pashkam M, Baker CI "
    "(2023). THINGS-data, a multimodal collection of large-scale datasets for investigating object representations in "
    "human brain and behavior. eLife 12:e82580. doi:10.7554/eLife.82580"
)


class ThingsOptions(Options):
    """Options of the reader of THINGS-fMRI.

    Parameters
    ----------
    subjects : list of str
        Subjects to read, e.g. ``["sub-01"]``; empty: all on disk.
    responses : {"table", "volume"}
        ``betas_csv``, or ``betas_vol``.
    samples : {"repeat", "average"}
        One sample per presentation of an image, or the mean over its presentations (tables only). Noise ceilings from
        repeats need the former.
    voxels : {"cortex", "rois", "brain"}
        Voxels in any ROI, in any ROI that is not a parcel of HCP-MMP, or all.
    test_concepts : {"keep", "leave_out"}
        What to do with training images of concepts that the test images show.
    images : str
        Folder with a folder of images for each concept (relative to the root); ``"none"``: no images.
    image_size : int
        Pixels on each side of the stored images.
    captions : str, optional
        Table of captions (CSV or TSV; relative to the root): a column ``stimulus`` with ids such as ``dog_12s``, and
        ``caption`` or ``caption1``, ``caption2`` etc.
    bad_voxels : {"drop", "keep"}
        What to do with voxels that are constant or not finite in a session (volumes: a run). If kept, values that are
        not finite become 0.
    """

    subjects: list[str] = Field(default_factory=list)
    responses: Literal["table", "volume"] = "table"
    samples: Literal["repeat", "average"] = "repeat"
    voxels: Literal["cortex", "rois", "brain"] = "cortex"
    test_concepts: Literal["keep", "leave_out"] = "keep"
    images: str = "images_THINGS/object_images"
    image_size: int = Field(default=256, ge=16, le=2048)
    captions: str | None = None
    bad_voxels: Literal["drop", "keep"] = "drop"


class ThingsReader(Reader):
    """Reader of THINGS-fMRI.

    Parameters
    ----------
    root : path
        The folder with ``betas_csv`` or ``betas_vol``, ``brainmasks`` and the images.
    options : ThingsOptions, optional
        Which responses and which voxels.

    Raises
    ------
    MissingFileError
        If there are no responses or no images; the message says which.
    InputError
        If a file cannot be used; the message names it.

    References
    ----------
    Hebart et al. 2023, eLife 12:e82580.
    """

    name: ClassVar[str] = "things"
    Options: ClassVar[type[Options]] = ThingsOptions
    roi_groups: ClassVar[dict[str, list[str]]] = {
        "early": ["V1", "V2", "V3", "hV4"],
        "faces": ["lFFA", "rFFA", "lOFA", "rOFA", "lSTS", "rSTS"],
        "places": ["lPPA", "rPPA", "lRSC", "rRSC", "lTOS", "rTOS"],
        "bodies": ["lEBA", "rEBA"],
        "objects": ["lLOC", "rLOC"],
    }
    options: ThingsOptions

    def __init__(self, root: str | Path | None, options: ThingsOptions | None = None) -> None:
        super().__init__(root, options)
        assert self.root is not None  # the base class refuses None
        if self.options.responses == "volume" and self.options.samples == "average":
            raise InputError(
                "means over presentations are read from the table only",
                given='responses = "volume", samples = "average"',
                expected='responses = "table", or samples = "repeat"',
                todo="change one of them in [options]",
            )
        read = _trials_of_table if self.options.responses == "table" else _trials_of_volumes
        self._trials = {name: read(self.root, name) for name in find_subjects(self.root, self.options)}
        together = pd.concat(self._trials.values())
        shown = together[["stimulus", "concept", "file"]].drop_duplicates()
        Table("the tables of trials", shown.reset_index(drop=True)).refuse_duplicates(
            shown["stimulus"].to_numpy(), "images", "one concept for each image"
        )
        shown = shown.sort_values("stimulus")
        ids, concepts = shown["stimulus"].tolist(), shown["concept"].tolist()
        captions, self._uncaptioned = captions_of(ids, self.root, self.options.captions)
        self._table = pd.DataFrame({"id": ids, "kind": "image", "category": concepts, "captions": captions})
        self._images = None
        if self.options.images != "none":
            files = [StimulusFile(path) for path in _image_files(self.root, self.options, shown["file"].tolist())]
            self._images = StimulusFiles(files, self.options.image_size, "crop", frames=1)

    @classmethod
    def sources(cls, root: Path, options: ThingsOptions) -> list[Path]:
        """List the tables and responses of the subjects to read, their masks, and their images."""
        read = _trials_of_table if options.responses == "table" else _trials_of_volumes
        found, files = [], []
        for name in find_subjects(root, options):
            found += _files(root, name, options.responses)
            files += read(root, name)["file"].tolist()
        if options.images != "none":
            found += [root / options.images / file for file in sorted(set(files))]
        return [*found, *([] if options.captions is None else [root / options.captions])]

    @property
    def description(self) -> Description:
        """Title, citation, terms of use and units of the data set."""
        averaged = "single presentations" if self.options.samples == "repeat" else "means over presentations"
        left_out = "" if self.options.test_concepts == "keep" else "; training images of test concepts are left out"
        return Description(
            title=f"THINGS-fMRI{' in miniature' if self.simulated else ''}",
            simulated=self.simulated,
            citation=CITATION,
            terms="CC0 1.0 (responses); the images: see https://things-initiative.org",
            units="regression weights of time series that were z-scored within runs",
            notes=f"{averaged}; voxels: {self.options.voxels}{left_out}. Onsets are not in these files: time counts "
            f"the trials of a run.{self._uncaptioned}",
        )

    @property
    def subjects(self) -> list[str]:
        """Names of the subjects, ``sub-01`` to ``sub-03``: those in the options, or all on disk."""
        return list(self._trials)

    def stimuli(self) -> pd.DataFrame:
        """Return the table of stimuli, e.g. ``dog_12s``; the category is the concept."""
        return self._table.copy()

    def image_shape(self) -> tuple[int, int, int] | None:
        """Return the shape of an image, (y, x, rgb); None without images."""
        return None if self._images is None else (self.options.image_size, self.options.image_size, 3)

    def read_images(self, start: int, stop: int) -> np.ndarray:
        """Return the images of stimuli ``start:stop``, uint8, shape (stimulus, y, x, rgb)."""
        if self._images is None:
            return super().read_images(start, stop)
        return self._images.images(start, stop)

    def subject(self, name: str) -> SubjectData:
        """Return the data of one subject, after screening its voxels in all sessions.

        Raises
        ------
        UnknownNameError, InputError
            If the subject does not exist, or a file cannot be used.
        """
        if name not in self._trials:
            raise UnknownNameError("subject", name, self.subjects)
        assert self.root is not None
        trials = self._trials[name]
        samples, groups = _samples(trials, self.options)
        table = self.options.responses == "table"
        voxels = _read_voxels(self.root, name, required=table)
        wanted = _wanted(voxels, self.options.voxels)
        keep = self.options.bad_voxels == "keep"
        if table:
            responses = Responses(_response_file(self.root, name), len(trials), voxels.frame)
            parts = [rows.to_numpy() for _, rows in trials.index.to_series().groupby(trials["session"], sort=True)]
            screened = screen(responses.read(part, wanted) for part in parts)
        else:
            trials = trials.iloc[np.concatenate(groups)]
            paths = list(dict.fromkeys(trials["path"]))
            lengths = [int((trials["path"] == path).sum()) for path in paths]
            places = np.ravel_multi_index(voxels.frame[list(PLACES)].to_numpy()[wanted].T, voxels.space.shape or ())
            loads = [_run_of(path, places, trials[trials["path"] == path], voxels.space) for path in paths]
            screened = screen(load() for load in loads)
        usable = np.ones(len(wanted), dtype=bool) if keep else screened.usable
        if not usable.any():
            raise InputError(
                f"no voxel of {name} can be used",
                given="; ".join(screened.report().values()),
                expected="voxels that vary between images",
                todo=_AGAIN,
            )
        rows = wanted[usable]
        if table:
            read = responses.reader(rows, groups)
        else:
            read = read_by_part(lengths, lambda part: _finite(loads[part]()[:, usable]), len(rows))
        stored = voxels.frame.iloc[rows]
        positions = stored[list(PLACES)].set_axis(["i", "j", "k"], axis=1).reset_index(drop=True)
        kept = [column for column in MAPS if column in stored and can_be_stored(column)]
        positions[kept] = stored[kept].to_numpy(dtype=float)
        if "nc_singletrial" in stored:
            ceiling = np.clip(stored["nc_singletrial"].to_numpy(dtype=float), 0, 99.999)
            positions["ncsnr"] = np.sqrt(ceiling / (100 - ceiling))
        members = {roi: member[rows] for roi, member in voxels.rois.items() if member[rows].any()}
        return SubjectData(
            samples=samples,
            voxels=positions if voxels.space.kind == "volume" else positions.drop(columns=["i", "j", "k"]),
            rois={**members, WHOLE[self.options.voxels]: np.ones(len(rows), dtype=bool)},
            space=voxels.space,
            read_responses=read,
            report={**screened.report(kept=keep), **voxels.report},
            voxel_columns=kept,
        )


# -- trials -----------------------------------------------------------------------------------------------------------


def find_subjects(root: Path, options: ThingsOptions) -> list[str]:
    """Return the names of the subjects with responses.

    Raises
    ------
    MissingFileError, UnknownNameError
        If there are none, or a subject in the options has none.
    """
    if options.responses == "table":
        names = (_SUBJECT.fullmatch(path.name) for path in sorted((root / "betas_csv").glob("sub-*")))
        found = [match[1] for match in names if match is not None]
        expected = "betas_csv/sub-01_StimulusMetadata.csv, sub-01_ResponseData.h5, sub-01_VoxelMetadata.csv etc."
    else:
        found = sorted(path.name for path in (root / "betas_vol").glob("sub-*") if path.is_dir())
        expected = "betas_vol/sub-01/ses-things01/sub-01_ses-things01_run-01_betas.nii.gz etc."
    if not found:
        raise MissingFileError(
            "the folder does not contain the responses of THINGS-fMRI",
            given=f"no such files in {root}",
            expected=expected,
            todo="pass the folder with betas_csv (neurorecon datasets show things), or change responses in [options]",
        )
    for name in options.subjects:
        if name not in found:
            raise UnknownNameError("subject", name, found)
    return [name for name in found if name in options.subjects or not options.subjects]


def _files(root: Path, name: str, responses: str) -> list[Path]:
    """Return the files of a subject that there are, without the images."""
    tables = [root / "betas_csv" / f"{name}_VoxelMetadata.csv", _mask_file(root, name)]
    if responses == "table":
        own = [_response_file(root, name), root / "betas_csv" / f"{name}_StimulusMetadata.csv"]
    else:
        runs = _runs(root, name)
        own = [*runs, *map(_conditions_of, runs)]
    return [*own, *(path for path in tables if path.is_file())]


def _response_file(root: Path, name: str) -> Path:
    return root / "betas_csv" / f"{name}_ResponseData.h5"


def _mask_file(root: Path, name: str) -> Path:
    return root / "brainmasks" / f"{name}_space-T1w_brainmask.nii.gz"


def _runs(root: Path, name: str) -> list[Path]:
    return sorted(path for path in (root / "betas_vol" / name).glob("ses-things*/*") if _RUN.search(path.name))


def _conditions_of(run: Path) -> Path:
    return run.with_name(run.name.replace("_betas.nii.gz", "_conditions.tsv"))


def _trials_of_table(root: Path, name: str) -> pd.DataFrame:
    """Return the trials of a subject in the order of the table of responses.

    The columns are ``stimulus``, ``concept``, ``file`` (below the folder of images), ``split``, ``session``, ``run``.
    """
    table = read_text_table(root / "betas_csv" / f"{name}_StimulusMetadata.csv")
    table.require(["trial_type", "session", "run", "stimulus", "concept"])
    kinds = table.names("trial_type")
    wrong = ~np.isin(kinds, (TRAIN, TEST))
    if wrong.any():
        raise InputError(
            f"{table.where} has trials of another kind",
            given=f"trial_type {kinds[wrong][0]!r} in {table.row(int(np.flatnonzero(wrong)[0]))}",
            expected="train or test: the table of responses has no catch trials",
            todo=_AGAIN,
        )
    files, concepts = table.names("stimulus"), table.names("concept")
    return pd.DataFrame(
        {
            "stimulus": [Path(file).stem for file in files],
            "concept": concepts,
            "file": [f"{concept}/{file}" for concept, file in zip(concepts, files, strict=True)],
            "split": kinds,
            "session": table.integers("session", 1),
            "run": table.integers("run", 1),
        }
    )


def _trials_of_volumes(root: Path, name: str) -> pd.DataFrame:
    """Return the trials of a subject in the order of its runs; see :func:`_trials_of_table`.

    ``path`` and ``volume`` say where the response to a trial is. Catch trials show no object and are left out. Images
    that are shown more than once are the test set.
    """
    parts = []
    for path in _runs(root, name):
        match = _RUN.search(path.name)
        assert match is not None  # of all runs
        table = read_text_table(_conditions_of(path))
        table.require(["image_filename"])
        files = table.names("image_filename")
        shown = np.array(["/" in file for file in files])
        parts.append(
            pd.DataFrame(
                {
                    "stimulus": [Path(file).stem for file in files[shown]],
                    "concept": [file.partition("/")[0] for file in files[shown]],
                    "file": files[shown],
                    "session": int(match[1]),
                    "run": int(match[2]),
                    "path": path,
                    "volume": np.flatnonzero(shown),
                    "volumes": len(files),
                }
            )
        )
    trials = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()
    if not len(trials):
        raise MissingFileError(
            f"there are no responses of {name}",
            given=f"no run with object images in {root / 'betas_vol' / name}",
            expected=f"ses-things01/{name}_ses-things01_run-01_betas.nii.gz with its conditions.tsv",
            todo=_AGAIN,
        )
    trials["split"] = np.where(trials.groupby("stimulus")["run"].transform("size") > 1, TEST, TRAIN)
    return trials


def _samples(trials: pd.DataFrame, options: ThingsOptions) -> tuple[pd.DataFrame, list[np.ndarray]]:
    """Return the table of samples, and the trials that each is the mean of."""
    samples = trials[["stimulus", "session", "run", "split"]].copy()
    samples["task"] = "images"
    samples["repeat"] = samples.groupby("stimulus").cumcount() + 1
    samples["time"] = samples.groupby(["session", "run"]).cumcount().astype(float)
    if options.test_concepts == "leave_out":
        tested = trials["concept"].isin(trials.loc[trials["split"] == TEST, "concept"])
        samples = samples[~tested | (trials["split"] == TEST)]
    groups = [np.array([trial]) for trial in samples.index]
    if options.samples == "average":
        shown = samples.groupby("stimulus", sort=False)
        places = {
            stimulus: rows.to_numpy() for stimulus, rows in samples.index.to_series().groupby(samples["stimulus"])
        }
        # Training images first, in the order of presentation: they were shown once, so that they are read in pieces.
        samples = shown.first().reset_index().sort_values("split", ascending=False, kind="stable", ignore_index=True)
        groups = [places[stimulus] for stimulus in samples["stimulus"]]
        samples[TRIALS] = [len(group) for group in groups]
    return samples[[*SAMPLE_COLUMNS, *([TRIALS] if TRIALS in samples else [])]].reset_index(drop=True), groups


# -- voxels -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Voxels:
    """The voxels of a subject.

    Parameters
    ----------
    frame : DataFrame
        One row per voxel of the brain, with :data:`PLACES`, and what else VoxelMetadata.csv has.
    rois : mapping of str to bool array, shape (voxel,)
        The ROIs.
    space : Space
        A volume, or none without the brain mask, which has the affine.
    report : mapping of str to str
        What was missing.
    """

    frame: pd.DataFrame
    rois: Mapping[str, np.ndarray]
    space: Space
    report: Mapping[str, str]


def _read_voxels(root: Path, name: str, required: bool) -> Voxels:
    """Read VoxelMetadata.csv and the brain mask; volumes need the latter, the table of responses the former."""
    path, mask_file = root / "betas_csv" / f"{name}_VoxelMetadata.csv", _mask_file(root, name)
    mask, space, report = None, Space("none"), {}
    if mask_file.is_file() or not required:
        mask, affine = read_mask(mask_file, _AGAIN)
        check_mask(mask, mask_file, _AGAIN)
        space = Space("volume", affine=affine.tolist(), shape=[int(size) for size in mask.shape])
    else:
        report["positions"] = f"unknown without {mask_file.relative_to(root)}"
    if not path.is_file() and not required:
        assert mask is not None  # volumes need it
        places = pd.DataFrame(np.argwhere(mask), columns=list(PLACES))
        return Voxels(places, {}, space, {"ROIs": f"unknown without {path.relative_to(root)}"})
    frame = _voxel_table(path)
    if mask is not None:
        x, y, z = frame[list(PLACES)].to_numpy().T
        inner = (np.stack([x, y, z]) < np.array(mask.shape)[:, None]).all(axis=0)
        if not inner.all() or not mask[x, y, z].all():
            outside = int((~inner).sum()) or int((~mask[x, y, z]).sum())
            raise InputError(
                f"{path} does not match {mask_file.name}",
                given=f"{outside} of {len(frame)} voxels outside of the mask",
                expected="voxels of the brain mask",
                todo=_AGAIN,
            )
    names = [column for column in frame if column not in (*NUMBERS, *MAPS)]
    flags = {column: frame[column].to_numpy() for column in names}
    rois = {column: values != 0 for column, values in flags.items() if np.isin(values, (0, 1)).all()}
    return Voxels(frame, {column: member for column, member in rois.items() if member.any()}, space, report)


def _voxel_table(path: Path) -> pd.DataFrame:
    """Read VoxelMetadata.csv with pandas: it has 50 million cells, and two names of columns contain a line break."""
    require_file(path, "the table of voxels", _AGAIN)
    try:
        frame = pd.read_csv(path)
    except (ValueError, UnicodeDecodeError, pd.errors.ParserError) as error:
        raise damaged(path, error, _AGAIN) from error
    frame.columns = [re.sub(r"\s*\n\s*", "", str(column)) for column in frame]
    table = as_table(frame, str(path))
    table.require(PLACES)
    for column in PLACES:
        table.frame[column] = table.integers(column, 0)
    double = table.frame.duplicated(list(PLACES))
    if double.any():
        raise InputError(
            f"{path} lists a voxel twice",
            given=str(table.frame.loc[double, list(PLACES)].iloc[0].to_dict()),
            expected="a row for each voxel",
            todo=_AGAIN,
        )
    return table.frame


def _wanted(voxels: Voxels, which: str) -> np.ndarray:
    """Return the rows of the voxels to store."""
    if which == "brain":
        return np.arange(len(voxels.frame))
    chosen = [member for roi, member in voxels.rois.items() if which == "cortex" or not roi.startswith(PARCEL)]
    if not chosen:
        raise InputError(
            f"there are no ROIs to choose voxels = {which!r} by",
            given="; ".join(voxels.report.values()) or "no such column of zeros and ones in VoxelMetadata.csv",
            expected="columns such as V1, lFFA or glasser-V1",
            todo='add the file, or set voxels = "brain" in [options]',
        )
    return np.flatnonzero(np.any(chosen, axis=0))


# -- responses --------------------------------------------------------------------------------------------------------


class Responses:
    """The table of responses of a subject, (voxel, trial), read in pieces.

    Parameters
    ----------
    path : path
        The HDF5 file that pandas wrote.
    trials : int
        Number of trials of StimulusMetadata.csv.
    voxels : DataFrame
        VoxelMetadata.csv.

    Raises
    ------
    MissingFileError, InputError
        If the file is missing or damaged, or does not match the tables.
    """

    def __init__(self, path: Path, trials: int, voxels: pd.DataFrame) -> None:
        require_file(path, "the table of responses", _AGAIN)
        self.path = path
        with open_hdf5_file(path, _AGAIN) as file:
            try:
                found = [
                    (f"{group}/{name}", values.shape, values.dtype.kind, values)
                    for group in file
                    if hasattr(file[group], "items")
                    for name, values in file[group].items()
                    if re.fullmatch(r"block\d+_values", name) and values.ndim == 2
                ]
                wanted = (len(voxels), trials)
                blocks = [key for key, shape, kind, _ in found if shape == wanted and kind == "f"]
                if len(blocks) != 1:
                    given = "; ".join(f"{key} {shape}" for key, shape, _, _ in found) or f"{', '.join(file) or 'empty'}"
                    raise InputError(
                        f"{path} does not match the tables beside it",
                        given=given,
                        expected=f"one block of numbers as pandas writes it (ResponseData/block0_values), with "
                        f"{len(voxels)} voxels of VoxelMetadata.csv and {trials} trials of StimulusMetadata.csv",
                        todo=_AGAIN,
                    )
                self._key = blocks[0]
                numbers = [values[:, 0] for _, shape, kind, values in found if shape[1] == 1 and kind in "iu"]
            except (OSError, RuntimeError) as error:  # cut after the header
                raise damaged(path, error, _AGAIN) from error
        if numbers and "voxel_id" in voxels and not np.array_equal(numbers[0], voxels["voxel_id"]):
            raise InputError(
                f"the voxels of {path} are in another order than VoxelMetadata.csv",
                given=f"voxel_id {numbers[0][:3].tolist()} ...",
                expected=f"voxel_id {voxels['voxel_id'].tolist()[:3]} ...",
                todo=_AGAIN,
            )

    def read(self, trials: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Return the responses of some voxels in some trials, float32, shape (trial, voxel).

        Parameters
        ----------
        trials : int array, shape (trial,)
            Trials, in any order.
        rows : int array, shape (voxel,)
            Rows of the table, ascending.
        """
        found = np.empty((len(trials), len(rows)), dtype=np.float32)
        if not found.size:
            return found
        first, last = int(trials.min()), int(trials.max()) + 1
        with open_hdf5_file(self.path, _AGAIN) as file:
            values: Any = file[self._key]
            step = max(1, BLOCK_BYTES // ((last - first) * values.dtype.itemsize))
            try:
                for start in range(0, int(rows[-1]) + 1, step):
                    low, high = np.searchsorted(rows, [start, start + step])
                    if low < high:
                        part = values[start : start + step, first:last]
                        found[:, low:high] = part[np.ix_(rows[low:high] - start, trials - first)].T
            except (OSError, RuntimeError) as error:
                raise damaged(self.path, error, _AGAIN) from error
        return found

    def reader(self, rows: np.ndarray, groups: Sequence[np.ndarray]) -> Callable[[int, int], np.ndarray]:
        """Return what reads samples, each the mean of some trials; values that are not finite become 0."""

        def read(start: int, stop: int) -> np.ndarray:
            chosen = groups[start:stop]
            trials = np.concatenate(chosen) if chosen else np.empty(0, dtype=int)
            values = _finite(self.read(trials, rows))
            if len(trials) == len(chosen):
                return values
            edges = np.cumsum([0, *(len(group) for group in chosen)])[:-1]
            lengths = np.diff(np.append(edges, len(trials)))[:, None]
            return (np.add.reduceat(values, edges, axis=0, dtype=np.float64) / lengths).astype(np.float32)

        return read


def _finite(values: np.ndarray) -> np.ndarray:
    """Replace values that are not finite by 0: those of bad voxels that are kept."""
    return np.nan_to_num(values, copy=False, nan=0.0, posinf=0.0, neginf=0.0)


def _run_of(path: Path, places: np.ndarray, trials: pd.DataFrame, space: Space) -> Callable[[], np.ndarray]:
    """Return what reads the trials of a run, float32, shape (trial, voxel)."""
    image = open_image(path, _AGAIN)
    number = int(trials["volumes"].iloc[0])
    if len(image.shape) != 4 or image.shape[3] != number:
        raise wrong_shape(path, image.shape, f"(x, y, z, {number}): a volume for each row of conditions.tsv", _AGAIN)
    check_grid(path, image.shape[:3], image.affine, "the brain mask", tuple(space.shape or ()), space.affine)
    return lambda: read_volumes([path], places)[trials["volume"].to_numpy()]


def _image_files(root: Path, options: ThingsOptions, files: Sequence[str]) -> list[Path]:
    """Return the paths of images; refuse a folder that lacks some."""
    folder = root / options.images
    paths = [inside(folder, file, "an image") for file in files]
    missing = [file for file, path in zip(files, paths, strict=True) if not path.is_file()]
    if missing:
        raise MissingFileError(
            f"{len(missing)} of {len(files)} images are missing",
            given=f"no {missing[0]} in {folder}",
            expected="the images of THINGS, a folder for each concept",
            todo='unpack them there, name their folder (images in [options]), or set images = "none"',
        )
    return paths
