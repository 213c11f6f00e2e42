"""Reader of Haxby 2001: responses to blocks of eight categories of objects, six subjects.

Two layouts are read, whichever the folder holds: what :func:`nilearn.datasets.fetch_haxby` leaves in
``nilearn_data/haxby2001`` (a folder for each subject), and the one-slice excerpt that comes with PyMVPA
(``bold.nii.gz``, ``mask.nii.gz``, ``attributes_literal.txt``).
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import pandas as pd
from pydantic import Field

from neurorecon.datasets.base import Description, Options, Reader, SubjectData
from neurorecon.datasets.blocks import block_means, find_blocks, prepare_run, sample_table
from neurorecon.datasets.haxby2001_files import REPETITION_TIME, Recording, find_recordings
from neurorecon.datasets.haxby2001_pictures import Pictures
from neurorecon.datasets.parts import read_by_part, screen
from neurorecon.errors import InputError, MissingFileError, UnknownNameError
from neurorecon.space import Space

#: The categories in the order in which they are stored, and what a caption calls them.
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
        Subjects to read, e.g. ``["subj2"]``; all that are on disk where left out.
    voxels : {"vt", "brain"}
        Voxels to store of nilearn's layout: ventral temporal cortex (``mask4_vt``), as in the paper, or the brain:
        voxels brighter than a fifth of the 98th percentile of the first volume. The excerpt has one mask.
    detrend : bool
        Remove the linear trend of every voxel in every run.
    standardize : bool
        Scale every voxel to unit variance in every run.
    lag : int
        Volumes (2.5 s each) by which the response follows the stimulus.
    samples : {"block", "volume"}
        One sample a block, the mean of its volumes, or one sample a volume. Volumes of one block share their noise:
        noise ceilings computed from them are too high.
    bad_voxels : {"drop", "keep"}
        Voxels that are not finite or constant in a run; kept ones hold zeros where they are not finite.
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
        Preprocessing, and which voxels.

    Raises
    ------
    MissingFileError
        Where the folder holds neither layout, or a file of it is missing.
    InputError
        Where a file cannot be used; the message names it.

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
                "the folder of Haxby 2001 has to hold one of the two layouts",
                given=f"{self.root} with neither",
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
        self._pictures = Pictures.find(self.root / "stimuli", self._categories)
        self._subjects = {name: self._open(recording) for name, recording in self._recordings.items()}

    @property
    def description(self) -> Description:
        """Title, citation, terms, units."""
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
        """Subjects as their folders are called; ``subj1`` for the excerpt."""
        return list(self._subjects)

    def stimuli(self) -> pd.DataFrame:
        """Return the table of stimuli: the categories. Which picture was shown when is not on file."""
        captions = [[CATEGORIES.get(name, name)] for name in self._categories]
        table = {"id": self._categories, "kind": "image", "category": self._categories, "captions": captions}
        return pd.DataFrame(table)

    def image_shape(self) -> tuple[int, int, int] | None:
        """Return (y, x, 3) where the folder ``stimuli`` is there, else None."""
        return None if self._pictures is None else self._pictures.shape

    def read_images(self, start: int, stop: int) -> np.ndarray:
        """Return a picture of each category ``start:stop``: the first of those shown, uint8, (stimulus, y, x, rgb)."""
        if self._pictures is None:
            return super().read_images(start, stop)
        return self._pictures.read(start, stop)

    def subject(self, name: str) -> SubjectData:
        """Return the recordings of a subject."""
        if name not in self._subjects:
            raise UnknownNameError("subject", name, self.subjects)
        return self._subjects[name]

    def _open(self, recording: Recording) -> SubjectData:
        """Read all of a subject but its responses, and screen its voxels."""
        screened = screen(recording.read_run(run) for run in range(len(recording.runs)))
        kept = np.ones(len(screened.usable), dtype=bool)
        if self.options.bad_voxels == "drop":
            kept = screened.usable
        if not kept.any():
            raise InputError(
                f"{recording.path} holds no voxel that can be used",
                given="; ".join(screened.report().values()),
                expected="voxels that vary in every run",
                todo="the file is damaged; or read it with bad_voxels = 'keep' in the recipe's [options]",
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
            rois={name: member[kept] for name, member in recording.areas.items() if member[kept].any()},
            space=Space("volume", affine=recording.affine.tolist(), shape=list(recording.shape)),
            read_responses=read_by_part([len(part) for part in by_run], load, int(kept.sum())),
            report={**recording.report, **screened.report(kept=self.options.bad_voxels == "keep")},
        )

    def _notes(self) -> str:
        """Say what was done to the data."""
        options = self.options
        done = [
            *(["linear trend removed by run"] if options.detrend else []),
            *(["standardized by run"] if options.standardize else []),
            f"response taken {options.lag} volumes ({options.lag * REPETITION_TIME:g} s) after the stimulus",
            "volumes of a block averaged" if options.samples == "block" else "every volume a sample",
        ]
        shown = "no pictures are on file" if self._pictures is None else "the picture of a category is one of many"
        return (
            f"BOLD: {'; '.join(done)}. Rest is left out. Every run shows every category, so all samples are 'train': "
            f"leave one run out at a time. A stimulus is a category; {shown}."
        )
