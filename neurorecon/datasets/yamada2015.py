"""Reader of Yamada 2015: responses of V1 to five geometric shapes, raw BOLD of a block design.

Reads ``S*_figureImage.mat`` (MATLAB v7.3) and ``S*_outlierVoxInd.mat`` (MATLAB v5) as KamitaniLab/NeuralCodeConverter
distributes them in its folder ``data``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import pandas as pd
from pydantic import Field

from neurorecon.datasets.base import Description, Options, Reader, SubjectData
from neurorecon.datasets.blocks import block_means, find_blocks, prepare_run, sample_table
from neurorecon.datasets.parts import Screened, read_by_part, screen
from neurorecon.datasets.yamada2015_files import Recording, load_kept, load_recording
from neurorecon.datasets.yamada2015_space import areas_of, place_voxels
from neurorecon.errors import InputError, MissingFileError, UnknownNameError

#: Ends of the names of the files of a subject.
FIGURES, KEPT = "_figureImage.mat", "_outlierVoxInd.mat"

CITATION = (
    "Yamada K, Miyawaki Y, Kamitani Y (2015). Inter-subject neural code converter for visual image representation. "
    "NeuroImage 113:289-297. doi:10.1016/j.neuroimage.2015.03.059"
)


class YamadaOptions(Options):
    """Options of the reader of Yamada 2015.

    Parameters
    ----------
    detrend : bool
        Remove the linear trend of every voxel in every run.
    standardize : bool
        Scale every voxel to unit variance in every run.
    lag : int
        Volumes (2 s each) by which the response follows the stimulus.
    samples : {"block", "volume"}
        One sample a presentation, the mean of its volumes, or one sample a volume. Volumes of one presentation share
        their noise: noise ceilings computed from them are too high.
    outliers : {"drop", "keep"}
        Voxels that the authors leave out (those that ``S*_outlierVoxInd.mat`` does not list).
    bad_voxels : {"drop", "keep"}
        Voxels that are not finite or constant in a run; kept ones hold zeros where they are not finite.
    """

    detrend: bool = True
    standardize: bool = True
    lag: int = Field(default=2, ge=0, le=20)
    samples: Literal["block", "volume"] = "block"
    outliers: Literal["drop", "keep"] = "drop"
    bad_voxels: Literal["drop", "keep"] = "drop"


@dataclass(frozen=True)
class _Subject:
    """What is known of a subject before responses are read."""

    recording: Recording
    data: SubjectData


class Yamada2015Reader(Reader):
    """Reader of Yamada et al. 2015.

    Parameters
    ----------
    root : path
        The folder with ``S2_figureImage.mat``.
    options : YamadaOptions, optional
        Preprocessing, and which voxels.

    Raises
    ------
    MissingFileError
        Where a file is missing.
    InputError
        Where a file cannot be used; the message names it.

    References
    ----------
    Yamada et al. 2015, NeuroImage 113:289-297.
    """

    name: ClassVar[str] = "yamada2015"
    Options: ClassVar[type[Options]] = YamadaOptions
    options: YamadaOptions

    def __init__(self, root: str | Path | None, options: YamadaOptions | None = None) -> None:
        super().__init__(root, options)
        assert self.root is not None  # the base class refuses None
        found = {match[1]: path for path in sorted(self.root.iterdir()) if (match := _SUBJECT.fullmatch(path.name))}
        if not found:
            raise MissingFileError(
                "the folder of Yamada 2015 holds no recording",
                given=f"{self.root} without a file S1{FIGURES}, S2{FIGURES} ...",
                expected=f"S2{FIGURES} and S2{KEPT}",
                todo="pass the folder data of KamitaniLab/NeuralCodeConverter, or fetch the files: "
                "neurorecon datasets download yamada2015 --out DIR",
            )
        self._subjects = {name: self._open(path) for name, path in found.items()}
        self._check_shapes()

    @property
    def description(self) -> Description:
        """Title, citation, terms, units."""
        return Description(
            title="Yamada 2015: V1, five geometric shapes",
            simulated=self.simulated,
            citation=CITATION,
            terms="Open Data Commons Attribution License (ODC-BY); KamitaniLab/NeuralCodeConverter",
            units="standard deviations of the run" if self.options.standardize else "scanner units",
            notes=_notes(self.options),
        )

    @property
    def subjects(self) -> list[str]:
        """Subjects as the files name them, e.g. ``S2``."""
        return list(self._subjects)

    def stimuli(self) -> pd.DataFrame:
        """Return the table of stimuli: the shapes by their names. The files hold no pictures of them."""
        shapes = next(iter(self._subjects.values())).recording.shapes
        captions = [[f"a {shape.replace('_', ' ')}"] for shape in shapes]
        return pd.DataFrame({"id": shapes, "kind": "image", "category": shapes, "captions": captions})

    def subject(self, name: str) -> SubjectData:
        """Return the recordings of a subject."""
        if name not in self._subjects:
            raise UnknownNameError("subject", name, self.subjects)
        return self._subjects[name].data

    def _open(self, path: Path) -> _Subject:
        """Read all of a subject but its responses, and screen its voxels."""
        recording = load_recording(path)
        kept = np.ones(recording.voxels, dtype=bool)
        report = {}
        if self.options.outliers == "drop":
            kept = load_kept(path.with_name(path.name.replace(FIGURES, KEPT)), recording.voxels)
            report["voxels left out by the authors"] = f"{int((~kept).sum()):,} of {recording.voxels:,}"
        screened = screen(recording.read_run(run)[:, kept] for run in range(len(recording.runs)))
        keep_bad = self.options.bad_voxels == "keep"
        report |= screened.report(kept=keep_bad)
        if not keep_bad:
            kept[kept] = screened.usable
        if not kept.any():
            raise _no_voxel(path, screened)
        space, voxels, remark = place_voxels(recording.millimeters[kept])
        report |= remark
        blocks = find_blocks(recording.codes, self.options.lag, self.options.samples)
        numbers = [number + 1 for number in range(len(recording.runs))]
        by_run = [[block for block in blocks if block.run == run] for run in range(len(numbers))]

        def load(run: int) -> np.ndarray:
            volumes = recording.read_run(run)[:, kept]
            volumes = prepare_run(volumes, trend=self.options.detrend, standardize=self.options.standardize)
            return block_means(volumes, by_run[run])

        data = SubjectData(
            samples=sample_table(blocks, recording.shapes, numbers, recording.repetition_time),
            voxels=voxels,
            rois=areas_of(recording.areas, kept),
            space=space,
            read_responses=read_by_part([len(part) for part in by_run], load, int(kept.sum())),
            report=report,
        )
        return _Subject(recording, data)

    def _check_shapes(self) -> None:
        """Refuse subjects whose shapes differ."""
        shapes = {name: subject.recording.shapes for name, subject in self._subjects.items()}
        if len({tuple(found) for found in shapes.values()}) > 1:
            raise InputError(
                f"the subjects in {self.root} saw different shapes",
                given="; ".join(f"{name}: {', '.join(found)}" for name, found in shapes.items()),
                expected="the same shapes in the same order (D/labels_names)",
                todo="read them from folders of their own",
            )


_SUBJECT = re.compile(rf"(S\d+){re.escape(FIGURES)}")


def _no_voxel(path: Path, screened: Screened) -> InputError:
    return InputError(
        f"{path} holds no voxel that can be used",
        given="; ".join(screened.report().values()) or "none that the authors keep",
        expected="voxels that vary in every run",
        todo="the file is damaged, or read it with bad_voxels = 'keep' in the recipe's [options]",
    )


def _notes(options: YamadaOptions) -> str:
    """Say what was done to the data."""
    done = [
        *(["linear trend removed by run"] if options.detrend else []),
        *(["standardized by run"] if options.standardize else []),
        f"response taken {options.lag} volumes ({options.lag * 2} s) after the stimulus",
        "volumes of a block averaged" if options.samples == "block" else "every volume a sample",
    ]
    return (
        f"Raw BOLD of V1: {'; '.join(done)}. Rest is left out. Every run shows every shape, so all samples are "
        "'train': leave one run out at a time. The files name the shapes and hold no pictures of them."
    )
