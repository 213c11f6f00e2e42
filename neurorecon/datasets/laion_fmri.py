"""Reader of LAION-fMRI: five subjects saw 25,052 photographs, 1,492 of them all of them, 30 sessions each.

Responses are single trials that GLMsingle estimated, a volume a trial and a file a session. The splits are those that
the distributors publish with their package, which test how far a model generalizes: to images drawn at random, to
images far from those of training, to clusters that training lacks, and to images out of the distribution. The last
are a further test set of every split.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import pandas as pd
from pydantic import Field

from neurorecon.datasets.base import (
    SAMPLE_COLUMNS,
    TRIALS,
    Description,
    Options,
    Reader,
    SubjectData,
    without_captions,
)
from neurorecon.datasets.bids.stimuli import UNNAMED
from neurorecon.datasets.nsd.subject import Betas, Recording, read_averages, read_trials, screen_sessions
from neurorecon.datasets.splits import LEFT_OUT, TEST, TRAIN
from neurorecon.errors import InputError, MissingFileError, UnknownNameError
from neurorecon.io.arrays import open_hdf5_file, wrong_shape
from neurorecon.io.files import damaged, require_file
from neurorecon.io.images import decode_image, fit_square
from neurorecon.io.tables import as_table, read_text_table
from neurorecon.io.volumes import check_grid, image_values, open_image, read_mask, read_volumes
from neurorecon.space import Space

#: Names of the splits; each is there for the shared images, and for all images of each subject.
SPLITS = (*(f"random_{fold}" for fold in range(5)), *(f"cluster_k5_{fold}" for fold in range(5)), "tau", "ood")

#: The split of images out of the distribution, unless it is the one that is asked for.
OOD = "ood"

#: Noise ceilings of a subject: the description in the file name, and how many repeats they hold for.
CEILINGS = {"12rep": 12, "4rep": 4, "Allrep": None}

_AGAIN = "download the file again (neurorecon datasets show laion_fmri)"

_SESSION = re.compile(r"ses-(\d+)")
_OOD = re.compile(r"shared_\d+rep_OOD_([A-Za-z0-9-]+)_.+")

CITATION = "LAION-fMRI (2026), https://laion-fmri.hebartlab.com; public data set of the ViCCo group, s3://laion-fmri"


class LaionFmriOptions(Options):
    """Options of the reader of LAION-fMRI.

    Parameters
    ----------
    subjects : list of str
        Subjects to read, e.g. ``["sub-01"]``; empty: all on disk.
    sessions : list of int
        Sessions to read; empty: all on disk.
    split : str
        One of :data:`SPLITS`.
    pool : {"subject", "shared"}
        Train and test on all images of a subject, or on the shared images. The others are left out.
    splits : str
        Folder with the published splits, ``shared/tau.json`` etc. (relative to the root). If there is none, those of
        the installed package ``laion_fmri`` are used.
    samples : {"repeat", "average"}
        One sample per presentation of an image, or the mean over its presentations.
    scaling : {"none", "session"}
        Betas as distributed, or z-scored within sessions by the mean and standard deviation of training trials.
    voxels : {"rois", "brain"}
        Voxels in any ROI, or all whose mean R2 is above `min_rsquare`.
    min_rsquare : float
        Voxels of lower mean R2 over sessions are not stored; in the units of the map.
    images : bool
        Whether to store the images, which need an agreement of their own.
    image_size : int
        Pixels on each side of the stored images.
    bad_voxels : {"drop", "keep"}
        What to do with voxels that are constant or not finite in a session. If kept, values that are not finite
        become 0.
    """

    subjects: list[str] = Field(default_factory=list)
    sessions: list[int] = Field(default_factory=list)
    split: str = Field(default="random_0", pattern=rf"^({'|'.join(SPLITS)})$")
    pool: Literal["subject", "shared"] = "subject"
    splits: str = "splits"
    samples: Literal["repeat", "average"] = "repeat"
    scaling: Literal["none", "session"] = "none"
    voxels: Literal["rois", "brain"] = "rois"
    min_rsquare: float = Field(default=0.0, ge=0)
    images: bool = True
    image_size: int = Field(default=256, ge=16, le=1000)
    bad_voxels: Literal["drop", "keep"] = "drop"


class LaionFmriReader(Reader):
    """Reader of LAION-fMRI.

    Parameters
    ----------
    root : path
        The folder with ``derivatives`` and ``stimuli``.
    options : LaionFmriOptions, optional
        The split, and which voxels to store.

    Raises
    ------
    MissingFileError
        If there are no responses, splits or images; the message says which.
    InputError
        If a file cannot be used; the message names it.

    References
    ----------
    https://laion-fmri.hebartlab.com; Prince et al. 2022, eLife 11:e77599 (GLMsingle).
    """

    name: ClassVar[str] = "laion_fmri"
    Options: ClassVar[type[Options]] = LaionFmriOptions
    options: LaionFmriOptions

    def __init__(self, root: str | Path | None, options: LaionFmriOptions | None = None) -> None:
        super().__init__(root, options)
        assert self.root is not None  # the base class refuses None
        self._sessions = find_sessions(self.root, self.options)
        self._trials = {
            name: pd.concat([_trials(self.root, name, number) for number in numbers], ignore_index=True)
            for name, numbers in self._sessions.items()
        }
        self._split = _read_splits(self.root, list(self._sessions), self.options)
        shown = sorted(set().union(*(trials["stimulus"] for trials in self._trials.values())))
        rows, datasets = _image_rows(self.root, shown)
        captions = _captions(self.root, shown)
        groups = [f"OOD {match[1]}" if (match := _OOD.fullmatch(name)) else said for name, said in
                  zip(shown, datasets, strict=True)]  # fmt: skip
        self._table = pd.DataFrame({"id": shown, "kind": "image", "category": groups, "captions": captions})
        self._said = without_captions(self._table, promised=any(map(len, captions)))
        self._images = Images(self.root, rows, self.options.image_size) if self.options.images else None

    @classmethod
    def sources(cls, root: Path, options: LaionFmriOptions) -> list[Path]:
        """List the betas, tables, masks and ceilings of the subjects to read, the splits and the images."""
        stimuli = root / "stimuli"
        found = [stimuli / "task-images_metadata.csv", stimuli / "task-images_desc-captions.csv"]
        found += [stimuli / "task-images_stimuli.h5"] if options.images else []
        sessions = find_sessions(root, options)
        for name, numbers in sessions.items():
            found += [
                path for number in numbers for path in (_betas(root, name, number), _trial_file(root, name, number))
            ]
            found += [_r2_file(root, name), *(_ceiling_file(root, name, key) for key in CEILINGS)]
            found += _roi_files(root, name).values()
        if (root / options.splits).is_dir():
            found += [path for _, path in _split_files(root, list(sessions), options)]
        return [path for path in found if path.is_file()]

    @property
    def description(self) -> Description:
        """Title, citation, terms of use and units of the data set."""
        options = self.options
        pool = "shared images" if options.pool == "shared" else "images of a subject"
        return Description(
            title=f"LAION-fMRI{' in miniature' if self.simulated else ''}",
            simulated=self.simulated,
            citation=CITATION,
            terms="CC0 1.0 (responses and annotations); images: LAION-fMRI Data Use Agreement, research only",
            units="standard deviations of the training trials of a session"
            if options.scaling == "session"
            else "GLMsingle betas (FITHRF_GLMDENOISE_RR), as distributed",
            notes=f"Split {options.split} of the {pool}"
            f"{'' if options.split == OOD else '; images out of the distribution are the split ood'}; "
            f"{'single presentations' if options.samples == 'repeat' else 'means over presentations'}; onsets are not "
            f"in these files: time counts the trials of a run.{self._said}",
        )

    @property
    def subjects(self) -> list[str]:
        """Names of the subjects, e.g. ``sub-01``: those in the options, or all on disk."""
        return list(self._sessions)

    def stimuli(self) -> pd.DataFrame:
        """Return the table of stimuli: names of images, e.g. ``shared_12rep_LAION_cluster_1003_i0.jpg``."""
        return self._table.copy()

    def image_shape(self) -> tuple[int, int, int] | None:
        """Return the shape of an image, (y, x, rgb); None without images."""
        return None if self._images is None else (self.options.image_size, self.options.image_size, 3)

    def read_images(self, start: int, stop: int) -> np.ndarray:
        """Return the images of stimuli ``start:stop``, uint8, shape (stimulus, y, x, rgb)."""
        return super().read_images(start, stop) if self._images is None else self._images.read(start, stop)

    def subject(self, name: str) -> SubjectData:
        """Return the data of one subject, after screening its voxels in all sessions.

        Raises
        ------
        UnknownNameError, InputError
            If the subject does not exist, or a file cannot be used.
        """
        if name not in self._sessions:
            raise UnknownNameError("subject", name, self.subjects)
        assert self.root is not None
        options, trials = self.options, self._trials[name]
        brain, space = _brain(self.root, name, options.min_rsquare)
        rois, report = _rois(self.root, name, space, brain)
        if options.voxels == "rois":
            if not rois:
                raise InputError(
                    f"there are no ROIs of {name}",
                    given=f"no masks of ROIs in {self.root / 'derivatives' / 'rois' / name}",
                    expected=f"face/{name}_space-T1w_res-1pt8_label-FFA1_mask.nii.gz etc.",
                    todo='download them (neurorecon datasets show laion_fmri), or set voxels = "brain" in [options]',
                )
            brain = brain & np.any(list(rois.values()), axis=0)
        shape = tuple(space.shape or ())
        places = np.flatnonzero(brain)
        sessions = [
            Statmap(_betas(self.root, name, number), space, int((trials["session"] == number).sum()))
            for number in self._sessions[name]
        ]
        screened, _ = screen_sessions(sessions, places)
        keep = options.bad_voxels == "keep"
        places = places if keep else places[screened.usable]
        if not len(places):
            raise InputError(
                f"no voxel of {name} can be used",
                given="; ".join(screened.report().values()) or f"none with a mean R2 above {options.min_rsquare:g}",
                expected="voxels that vary in every session",
                todo="lower min_rsquare in [options], or download the files again",
            )
        samples, groups = _samples(trials, self._split[name], options.samples)
        known = trials[_parts(trials, self._split[name]) != LEFT_OUT]
        volumes = [known.loc[known["session"] == number, "volume"].to_numpy() for number in self._sessions[name]]
        standard = None
        if options.scaling == "session":
            learned = trials["stimulus"].map(self._split[name]).eq(TRAIN)
            standard = [
                trials.loc[learned & (trials["session"] == number), "volume"].to_numpy()
                for number in self._sessions[name]
            ]
            lacking = [number for number, own in zip(self._sessions[name], standard, strict=True) if len(own) < 2]
            if lacking:
                raise InputError(
                    f"a session of {name} cannot be standardized",
                    given=f"fewer than two training trials in session {lacking[0]}",
                    expected="training trials in every session",
                    todo='set scaling = "none" or pool = "subject" in [options]',
                )
        recording = Recording(sessions, volumes, places, standard)
        read = read_trials(recording) if groups is None else read_averages(recording, groups, len(samples))
        voxels = pd.DataFrame(np.stack(np.unravel_index(places, shape), axis=1), columns=["i", "j", "k"])
        ceilings, said = _ceilings(self.root, name, space, places)
        voxels = voxels.assign(**ceilings)
        members = {roi: member[places] for roi, member in rois.items() if member[places].any()}
        whole = "rois" if options.voxels == "rois" else "brain"
        return SubjectData(
            samples=samples,
            voxels=voxels,
            rois={**members, whole: np.ones(len(places), dtype=bool)},
            space=space,
            read_responses=read,
            report=screened.report(kept=keep) | report | said,
            voxel_columns=[column for column in ceilings if column != "ncsnr"],
        )


# -- files ------------------------------------------------------------------------------------------------------------


def _folder(root: Path, name: str) -> Path:
    return root / "derivatives" / "glmsingle-tedana" / name


def _betas(root: Path, name: str, session: int) -> Path:
    stem = f"{name}_ses-{session:02d}_task-images_space-T1w_stat-effect_desc-SingletrialBetas_statmap.nii.gz"
    return _folder(root, name) / f"ses-{session:02d}" / "func" / stem


def _trial_file(root: Path, name: str, session: int) -> Path:
    stem = f"{name}_ses-{session:02d}_task-images_desc-SingletrialBetas_trials.tsv"
    return _folder(root, name) / f"ses-{session:02d}" / "func" / stem


def _r2_file(root: Path, name: str) -> Path:
    return _folder(root, name) / f"{name}_task-images_space-T1w_stat-rsquare_desc-R2mean_statmap.nii.gz"


def _ceiling_file(root: Path, name: str, key: str) -> Path:
    return _folder(root, name) / f"{name}_task-images_space-T1w_desc-Noiseceiling{key}_statmap.nii.gz"


def _roi_files(root: Path, name: str) -> dict[str, Path]:
    """Return the masks of ROIs on the grid of the betas: those of the release, else those of its first version."""
    pattern = re.compile(rf"{re.escape(name)}_space-T1w_res-1pt8_label-(.+)_mask\.nii\.gz")
    found: dict[str, Path] = {}
    for path in sorted((root / "derivatives" / "rois" / name).glob("*/*.nii.gz")):
        match = pattern.fullmatch(path.name)
        if match is not None and match[1] in found:
            raise InputError(
                "two files contain an ROI of the same name",
                given=f"{path} and {found[match[1]]}",
                expected="each ROI name only once",
                todo="remove one of them",
            )
        if match is not None:
            found[match[1]] = path
    first = root / "derivatives" / "atlases" / name / "rois"
    return found or {path.name.removesuffix(".nii.gz"): path for path in sorted(first.glob("*.nii.gz"))}


def find_sessions(root: Path, options: LaionFmriOptions) -> dict[str, list[int]]:
    """Return the sessions with betas of each subject.

    Raises
    ------
    MissingFileError, UnknownNameError
        If there are none, or a subject or session in the options has none.
    """
    found: dict[str, list[int]] = {}
    for folder in sorted((root / "derivatives" / "glmsingle-tedana").glob("sub-*")):
        matches = (_SESSION.fullmatch(path.name) for path in sorted(folder.glob("ses-*")))
        numbers = [int(match[1]) for match in matches if match is not None]
        numbers = [number for number in numbers if _betas(root, folder.name, number).is_file()]
        if numbers:
            found[folder.name] = numbers
    if not found:
        raise MissingFileError(
            "the folder does not contain the responses of LAION-fMRI",
            given=f"no such files in {root}",
            expected=str(_betas(Path(), "sub-01", 1)),
            todo="pass the folder with derivatives (neurorecon datasets show laion_fmri)",
        )
    for name in options.subjects:
        if name not in found:
            raise UnknownNameError("subject", name, list(found))
    chosen = {name: numbers for name, numbers in found.items() if name in options.subjects or not options.subjects}
    for name, numbers in chosen.items():
        for number in options.sessions:
            if number not in numbers:
                raise UnknownNameError(f"session of {name}", number, map(str, numbers))
        chosen[name] = [number for number in numbers if number in options.sessions or not options.sessions]
    return chosen


def _trials(root: Path, name: str, session: int) -> pd.DataFrame:
    """Return the trials of a session: ``stimulus``, ``session``, ``run``, ``volume``."""
    table = read_text_table(_trial_file(root, name, session))
    table.require(["run", "beta_index", "label"])
    runs = [re.search(r"\d+", text) for text in table.names("run")]  # run-01, or 1
    unknown = next((row for row, match in enumerate(runs) if match is None), None)
    volumes = table.integers("beta_index", 0)
    if unknown is not None or not np.array_equal(np.sort(volumes), np.arange(len(volumes))):
        raise InputError(
            f"{table.where} does not number its runs or betas",
            given=f"run {table.text('run')[unknown]!r}" if unknown is not None else f"beta_index {volumes[:5]} ...",
            expected="a number in each run, and each beta_index from 0 once",
            todo=_AGAIN,
        )
    numbers = [int(match[0]) for match in runs if match is not None]
    found = pd.DataFrame({"stimulus": table.names("label"), "session": session, "run": numbers, "volume": volumes})
    return found.sort_values("volume", ignore_index=True)


def _split_files(root: Path, subjects: Sequence[str], options: LaionFmriOptions) -> list[tuple[str, Path]]:
    """Return the file of the split of each subject."""
    folder = root / options.splits
    if not folder.is_dir():
        package = find_spec("laion_fmri")
        if package is None or package.origin is None:
            raise MissingFileError(
                "the splits of LAION-fMRI are missing",
                given=f"no folder {folder}, and no package laion_fmri",
                expected="shared/tau.json, sub-01/tau.json etc., as in laion_fmri/splits/data of the package",
                todo="copy that folder there (neurorecon datasets show laion_fmri), or name it (splits in [options])",
            )
        folder = Path(package.origin).parent / "splits" / "data"
    pools = ["shared" if options.pool == "shared" else name for name in subjects]
    return [(name, folder / pool / f"{options.split}.json") for name, pool in zip(subjects, pools, strict=True)]


def _read_splits(root: Path, subjects: Sequence[str], options: LaionFmriOptions) -> dict[str, dict[str, str]]:
    """Return the split of each image, by subject; images that a split does not name are left out."""
    found = {}
    for name, path in _split_files(root, subjects, options):
        require_file(path, "a published split", _AGAIN)
        try:
            (variant,) = json.loads(path.read_text(encoding="utf-8"))["variants"]
            train, test = (set(map(str, variant[key])) for key in ("train_ids", "test_ids"))
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"{path} is not a split",
                given=f"{type(error).__name__}: {error}",
                expected='{"variants": [{"train_ids": [...], "test_ids": [...]}]}',
                todo=_AGAIN,
            ) from error
        if train & test:
            raise InputError(
                f"{path} has images in both parts",
                given=f"{len(train & test)} images, e.g. {min(train & test)}",
                expected="training and test images that differ",
                todo=_AGAIN,
            )
        found[name] = dict.fromkeys(train, TRAIN) | dict.fromkeys(test, TEST)
    parts: dict[str, set[str]] = {}
    for own in found.values():
        for image, part in own.items():
            parts.setdefault(image, set()).add(part)
    both = [image for image, where in parts.items() if len(where) > 1]
    if both:
        raise InputError(
            f"the split {options.split!r} differs between subjects",
            given=f"{len(both)} shared images are training images of one subject and test images of another, e.g. "
            f"{min(both)}",
            expected="an image in the same split for all subjects of a store",
            todo='build a store for each subject, e.g. subjects = ["sub-01"], or set pool = "shared" in [options]',
        )
    return found


def _image_rows(root: Path, shown: Sequence[str]) -> tuple[np.ndarray, list[str]]:
    """Return the row of each image in the HDF5 file, and the data set that it is from."""
    table = read_text_table(root / "stimuli" / "task-images_metadata.csv")
    table.require(["image_name"])
    names = table.names("image_name")
    table.refuse_duplicates(names, "names of images", "a row for each image")
    place = {name: row for row, name in enumerate(names)}
    missing = [name for name in shown if name not in place]
    if missing:
        raise InputError(
            f"{table.where} lacks images that were shown",
            given=f"{len(missing)} of {len(shown)}, e.g. {missing[0]}",
            expected="a row for each label of the trials",
            todo=_AGAIN,
        )
    rows = np.array([place[name] for name in shown])
    groups = table.text("dataset")[rows] if "dataset" in table else [UNNAMED] * len(rows)
    return rows, [str(group) or UNNAMED for group in groups]


def _captions(root: Path, shown: Sequence[str]) -> list[list[str]]:
    """Return up to five captions of each image that people wrote, best first; empty without their table."""
    path = root / "stimuli" / "task-images_desc-captions.csv"
    if not path.is_file():
        return [[] for _ in shown]
    try:
        frame = pd.read_csv(path, dtype=str, keep_default_na=False)  # captions may contain line breaks
    except (ValueError, UnicodeDecodeError, pd.errors.ParserError) as error:
        raise damaged(path, error, _AGAIN) from error
    table = as_table(frame, str(path))
    table.require(["image_name", "caption_idx", "source", "caption"])
    order = np.argsort(table.integers("caption_idx", 0), kind="stable")
    said: dict[str, list[str]] = {}
    for row in order[table.text("source")[order] == "human"]:
        said.setdefault(frame["image_name"].iat[row], []).append(" ".join(frame["caption"].iat[row].split()))
    return [said.get(name, [])[:5] for name in shown]


class Images:
    """Images as JPEG bytes in an HDF5 file, decoded when they are read.

    Parameters
    ----------
    root : path
        The folder of the data set.
    rows : int array, shape (stimulus,)
        Row of each stimulus in the file.
    size : int
        Pixels on each side.

    Raises
    ------
    MissingFileError, InputError
        If the file is missing or cannot be read, or has too few rows.
    """

    def __init__(self, root: Path, rows: np.ndarray, size: int) -> None:
        self.path, self._rows, self._size = root / "stimuli" / "task-images_stimuli.h5", rows, size
        require_file(
            self.path, "the images", "accept their terms and download them, or set images = false in [options]"
        )
        with open_hdf5_file(self.path, _AGAIN) as file:
            found = file["images"].shape if "images" in file else None
        if found is None or len(found) != 1 or found[0] <= rows.max():
            raise InputError(
                f"{self.path} does not match task-images_metadata.csv",
                given="no dataset images" if found is None else f"images {found}",
                expected=f"the dataset images with a row for each row of the table, {rows.max() + 1} or more",
                todo=_AGAIN,
            )

    def read(self, start: int, stop: int) -> np.ndarray:
        """Return images ``start:stop``, uint8, shape (stimulus, y, x, rgb)."""
        rows = self._rows[start:stop]
        found = np.empty((len(rows), self._size, self._size, 3), dtype=np.uint8)
        with open_hdf5_file(self.path, _AGAIN) as file:
            for place, row in enumerate(rows):
                try:
                    content = np.asarray(file["images"][row], dtype=np.uint8).tobytes()
                except (OSError, RuntimeError) as error:
                    raise damaged(self.path, error, _AGAIN) from error
                image = decode_image(content, f"image {row} of {self.path}", _AGAIN)
                found[place] = fit_square(image, self._size, "crop")
        return found


# -- voxels -----------------------------------------------------------------------------------------------------------


class Statmap(Betas):
    """The betas of a session, axes (x, y, z, trial).

    Parameters
    ----------
    path : path
        The file.
    space : Space
        The expected grid.
    trials : int
        The expected number of trials.
    """

    def __init__(self, path: Path, space: Space, trials: int) -> None:
        image = open_image(path, _AGAIN)
        shape = tuple(space.shape or ())
        if len(image.shape) != 4 or image.shape[3] != trials:
            raise wrong_shape(path, image.shape, f"{(*shape, trials)}: a volume for each row of trials.tsv", _AGAIN)
        check_grid(path, image.shape[:3], image.affine, "the map of R2", shape, space.affine)
        self.path, self.trials, self.dtype = path, trials, np.dtype(np.float32)

    def read(self, voxels: np.ndarray, stop: int | None = None) -> np.ndarray:
        """Read trials; voxels are counted as in a volume of C order. See the base class."""
        return read_volumes([self.path], voxels)[: self._wanted(stop)]


def _brain(root: Path, name: str, least: float) -> tuple[np.ndarray, Space]:
    """Return which voxels GLMsingle was fitted to, flat in C order, and the grid."""
    path = _r2_file(root, name)
    image = open_image(path, _AGAIN)
    if len(image.shape) != 3:
        raise wrong_shape(path, image.shape, "(x, y, z)", _AGAIN)
    values = np.nan_to_num(image_values(image, path, todo=_AGAIN).astype(float))
    affine = np.asarray(image.affine, dtype=float).tolist()
    return (values > least).ravel(), Space("volume", affine=affine, shape=[int(size) for size in image.shape])


def _rois(root: Path, name: str, space: Space, brain: np.ndarray) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Return the ROIs within the brain, flat in C order, and which have no voxel there."""
    found = {}
    for roi, path in _roi_files(root, name).items():
        mask, affine = read_mask(path, _AGAIN)
        check_grid(path, mask.shape, affine, "the map of R2", tuple(space.shape or ()), space.affine)
        found[roi] = mask.ravel() & brain
    empty = [roi for roi, member in found.items() if not member.any()]
    return (
        {roi: member for roi, member in found.items() if member.any()},
        {"ROIs without a voxel": ", ".join(empty)} if empty else {},
    )


def _ceilings(root: Path, name: str, space: Space, places: np.ndarray) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Return the noise ceilings that there are, in percent, and ncsnr from the first of them.

    The documentation says percent, but public code takes fractions; maps whose largest value is 1 or less are read as
    fractions.
    """
    found: dict[str, np.ndarray] = {}
    fractions = False
    for key, repeats in CEILINGS.items():
        path = _ceiling_file(root, name, key)
        if not path.is_file():
            continue
        image = open_image(path, _AGAIN)
        check_grid(path, image.shape, image.affine, "the map of R2", tuple(space.shape or ()), space.affine)
        values = np.nan_to_num(image_values(image, path, todo=_AGAIN).astype(float)).ravel()
        fraction = bool(values.max(initial=0.0) <= 1)
        values = np.clip(values[places] * (100 if fraction else 1), 0, 100)
        found[f"nc_{key.lower()}"] = values
        fractions |= fraction
        if repeats is not None and "ncsnr" not in found:
            ratio = np.clip(values, 0, 99.999) / 100
            found["ncsnr"] = np.sqrt(ratio / (1 - ratio) / repeats)
    if not found:
        return {}, {"noise ceilings": "none on disk; computed from repeats"}
    return found, {"noise ceilings": "fractions in the files, stored as percent"} if fractions else {}


def _parts(trials: pd.DataFrame, split: Mapping[str, str]) -> np.ndarray:
    """Return the split of each trial: that of its image, or the one of images out of the distribution, or none."""
    other = [OOD if _OOD.fullmatch(name) else LEFT_OUT for name in trials["stimulus"]]  # the split ood names them
    return np.array([split.get(name, given) for name, given in zip(trials["stimulus"], other, strict=True)])


def _samples(trials: pd.DataFrame, split: Mapping[str, str], kind: str) -> tuple[pd.DataFrame, np.ndarray | None]:
    """Return the table of samples, and for means the sample that each trial belongs to; some trials are left out."""
    samples = trials[["stimulus", "session", "run"]].copy()
    samples["split"] = _parts(trials, split)
    samples["task"] = "images"
    samples["repeat"] = samples.groupby("stimulus").cumcount() + 1
    samples["time"] = samples.groupby(["session", "run"]).cumcount().astype(float)
    samples = samples[samples["split"] != LEFT_OUT].reset_index(drop=True)
    if kind == "repeat":
        return samples[list(SAMPLE_COLUMNS)], None
    groups, names = pd.factorize(samples["stimulus"])
    counts = np.bincount(groups, minlength=len(names))
    samples = samples.drop_duplicates("stimulus").reset_index(drop=True)
    samples[TRIALS] = counts
    return samples[[*SAMPLE_COLUMNS, TRIALS]], groups
