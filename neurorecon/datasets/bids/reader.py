"""Reader of BIDS derivatives (fMRIPrep): preprocessed runs, events, confounds, stimuli and atlases."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd

from neurorecon.datasets import base
from neurorecon.datasets.bids import samples as cleaning
from neurorecon.datasets.bids.layout import (
    BidsFile,
    BidsOptions,
    Folders,
    RunFiles,
    derivatives_folder,
    find_runs,
    read_json,
)
from neurorecon.datasets.bids.runs import STIM_FILE
from neurorecon.datasets.bids.samples import make_processes
from neurorecon.datasets.bids.stimuli import (
    file_of,
    find_captions,
    find_sources,
    read_captions,
    split_stimuli,
    stimulus_table,
)
from neurorecon.datasets.bids.subject import data_sets, load_subject, open_derivatives, raw_folders
from neurorecon.errors import InputError, UnknownNameError
from neurorecon.io.atlases import Atlas
from neurorecon.io.files import files_below
from neurorecon.io.videos import StimulusFiles

#: Suffixes of files that belong to a run and are read.
SUFFIXES = ("events", "timeseries", "regressors", "mask")


def source_files(root: Path, options: BidsOptions) -> list[Path]:
    """List the files that are read with these options, including some that may not exist.

    Parameters
    ----------
    root : path
        The derivatives, or the raw data set that contains them in ``derivatives/``.
    options : BidsOptions
        The options of the reader.
    """
    folder = derivatives_folder(root)
    runs, folders = find_runs(folder, options), Folders(data_sets(root, folder, options.events))
    files = [file.path for run in runs for file in run.files]
    files += [file.path for run in runs for part in run.files for file in folders.around(part) if _belongs(file)]
    for place in folders.roots:
        files += [place / "dataset_description.json", place / "stimuli.tsv"]
    files += _stimuli(root, folders, options)
    return [*dict.fromkeys([*files, *_rois(root, runs, options)])]


def _belongs(file: BidsFile) -> bool:
    return file.suffix in SUFFIXES or (file.suffix == "bold" and file.extension == "json")


def _stimuli(root: Path, folders: Folders, options: BidsOptions) -> list[Path]:
    given = [] if options.captions is None else [root / options.captions]
    if options.stimuli == "none":
        return given
    places = [place / "stimuli" for place in folders.roots] if options.stimuli is None else [root / options.stimuli]
    return [*given, *(file for place in places for file in files_below(place))]


def _rois(root: Path, runs: list[RunFiles], options: BidsOptions) -> list[Path]:
    """List the masks and atlases, and the tables of their labels."""
    named: list[str] = [options.mask]
    for roi in options.rois.values():
        atlas = roi if isinstance(roi, Atlas) else Atlas(path=roi)
        named += [atlas.path] if isinstance(atlas.path, str) else atlas.path
        named += [atlas.labels] if isinstance(atlas.labels, str) else []
    return [root / name.replace("{subject}", subject) for name in named for subject in {run.subject for run in runs}]


#: What a sample is, by the option ``samples``.
SAMPLES = {
    "block": "mean of the volumes from {lag:g} s after the onset of an event on, for its duration",
    "volume": "one volume, with what was shown {lag:g} s before",
    "fir": "finite impulse response of a stimulus in a run, averaged from {lag:g} s on",
    "glm": "single-trial betas by least squares {least_squares} ({hrf_model} response)",
    "glmsingle": "single-trial betas by GLMsingle",
}

CITATION = (
    "Esteban O et al. (2019). fMRIPrep: a robust preprocessing pipeline for functional MRI. Nature Methods 16:111-116. "
    "doi:10.1038/s41592-018-0235-4"
)


class BidsReader(base.Reader):
    """Reader of BIDS derivatives as written by fMRIPrep.

    Parameters
    ----------
    root : path
        The derivatives, or the raw data set that contains them in ``derivatives/``.
    options : BidsReader.Options, optional
        What to read, and how to preprocess it.

    Raises
    ------
    MissingFileError, InputError
        If tables or headers are missing, damaged or inconsistent; the message names the file.
    """

    name: ClassVar[str] = "bids"
    Options: ClassVar[type[base.Options]] = BidsOptions
    options: BidsOptions

    def __init__(self, root: str | Path | None, options: base.Options | None = None) -> None:
        super().__init__(root, options)
        assert self.root is not None  # the base class refuses None
        self._opened = open_derivatives(self.root, self.options)
        shown = self._opened.shown()
        self._splits = split_stimuli(shown, self.options.split)
        raw = raw_folders(self._opened)
        folders = [folder / "stimuli" for folder in raw if (folder / "stimuli").is_dir()]
        if self.options.stimuli not in (None, "none"):
            folders = [self.root / str(self.options.stimuli)]
        captions = find_captions(self.options.captions, self.root, folders)
        said = None if captions is None else read_captions(captions)
        self._table = stimulus_table(shown, said, files=self._has_images)
        self._images = self._find_images(folders)
        self._uncaptioned = base.without_captions(
            self._table,
            self.options.captions is not None,
            [] if said is None else said.index.tolist(),
            {*self._table["id"], *map(file_of, self._table["id"])},
            str(captions),
        )
        self._processes = {name: make_processes(plans, self.options) for name, plans in self._opened.plans.items()}
        self._subject = lru_cache(maxsize=4)(self._load)

    @classmethod
    def sources(cls, root: Path, options: BidsOptions) -> list[Path]:
        """List the runs with their tables, sidecars and masks, the stimuli, and the atlases."""
        return source_files(root, options)

    @property
    def simulated(self) -> bool:
        """Whether the derivatives or the raw data set are marked as simulated."""
        return super().simulated or any((folder / base.SIMULATED).is_file() for folder in raw_folders(self._opened))

    @property
    def _has_images(self) -> bool:
        """Whether stimuli have files, i.e. ``stim_file`` identifies them or the options name a folder."""
        return self.options.stimuli not in (None, "none") or (
            self.options.stimuli is None and self._opened.column == STIM_FILE
        )

    def _find_images(self, folders: list[Path]) -> StimulusFiles | None:
        if not self._has_images:
            return None
        seconds = next(iter(self._opened.plans.values()))[0].times.repetition_time
        sources = find_sources(self._table["id"].tolist(), folders, seconds)
        return StimulusFiles(sources, self.options.image_size, self.options.fit, self.options.frames)

    @property
    def description(self) -> base.Description:
        """Title, citation, terms of use and units of the data set."""
        stated: dict = {}
        for folder in reversed(raw_folders(self._opened)):
            if os.path.lexists(folder / "dataset_description.json"):
                stated |= read_json(folder / "dataset_description.json")
        own = stated.get("DatasetDOI") or stated.get("HowToAcknowledge") or "the data set itself"
        options = self.options
        sample = SAMPLES[options.samples].format(
            lag=options.seconds_after, least_squares=options.least_squares, hrf_model=options.hrf_model
        )
        return base.Description(
            title=" ".join(str(stated.get("Name") or "A BIDS data set").split()),
            simulated=self.simulated,
            citation=f"{own}; {CITATION}",
            terms=str(stated.get("License") or "not stated (dataset_description.json)"),
            units=cleaning.UNITS["psc" if options.samples == "glmsingle" else options.standardize],
            notes=f"Samples: {sample}. Runs: {cleaning.describe(options)}." + self._left_out() + self._uncaptioned,
        )

    def _left_out(self) -> str:
        tasks = self._opened.left_out
        return f" Tasks without events, left out: {', '.join(tasks)}." if tasks else ""

    @property
    def subjects(self) -> list[str]:
        """Names of the subjects, e.g. ``["sub-01"]``."""
        return list(self._opened.plans)

    def stimuli(self) -> pd.DataFrame:
        """Return the table of stimuli: images by name, then videos by name."""
        return self._table.copy()

    def image_shape(self) -> tuple[int, int, int] | None:
        """Return the shape of an image, (y, x, rgb), or None if there are no images."""
        return None if self._images is None else (self._images.size, self._images.size, 3)

    def read_images(self, start: int, stop: int) -> np.ndarray:
        """Return images ``start:stop``, uint8, shape (stimulus, y, x, rgb); for a video, its middle frame."""
        return self._shown().images(start, stop)

    def video_shape(self) -> tuple[int, int, int, int] | None:
        """Return the shape of a video, (frame, y, x, rgb), or None if there are no videos."""
        if self._images is None or not self._images.videos:
            return None
        return (self.options.frames, self._images.size, self._images.size, 3)

    def frames_per_second(self) -> float | None:
        """Return the rate of the stored frames in Hz, or None if there are no videos."""
        return None if self._images is None else self._images.rate

    def read_frames(self, start: int, stop: int) -> np.ndarray:
        """Return the frames of videos ``start:stop``, uint8, shape (video, frame, y, x, rgb)."""
        return self._shown().video_frames(start, stop)

    def subject(self, name: str) -> base.SubjectData:
        """Return the data of one subject, after screening its voxels in all runs.

        Raises
        ------
        UnknownNameError, InputError
            If the subject does not exist, or a run, mask or atlas cannot be used.
        """
        if name not in self.subjects:
            raise UnknownNameError("subject", name, self.subjects)
        return self._subject(name)

    def _load(self, name: str) -> base.SubjectData:
        assert self.root is not None
        return load_subject(
            self._processes[name],
            self._opened.grids[name],
            self.root,
            self._opened.folders,
            self._splits,
            self.options,
        )

    def _shown(self) -> StimulusFiles:
        if self._images is None:
            raise InputError(
                "this data set has no images",
                given=f"stimuli identified by the column {self._opened.column}",
                expected="the column stim_file in the events, and image files in stimuli/",
                todo="add them, or choose an analysis that does not need images",
            )
        return self._images
