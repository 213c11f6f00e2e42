"""Reader of CC2017 (Wen et al. 2018): three subjects watched 23 videos of 8 minutes, 3 T, TR 2 s.

The volumes of the release follow the video by 4 s already, so a clip of 2 s and the volume of the same number belong
together (`hrf_delay` 0). A run has five or six volumes more than the video has clips: the last four follow its end, the
first one or two precede it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import pandas as pd
from pydantic import Field

from neurorecon.datasets.base import Description, Options, Reader, SubjectData
from neurorecon.datasets.videos import (
    PARCEL_GROUPS,
    Clip,
    Clips,
    MovieOptions,
    Recording,
    listed,
    pair_clips,
    read_movies,
)
from neurorecon.errors import InputError, MissingFileError, UnknownNameError
from neurorecon.io.videos import video_length

#: Repetition time, which is the length of a clip (s).
REPETITION_TIME = 2.0

#: Volumes after the end of a video.
AFTER = 4

#: Numbers of training videos (seg1 ...), of test videos (test1 ...), and of their presentations.
TRAIN, TEST, REPEATS = 18, 5, {"seg": 2, "test": 10}

#: Frames of a clip as Mind-Animator takes them: every eighth of 30 frames a second.
FRAMES, FRAME_STEP = 8, 8 / 30

CITATION = (
    "Wen H, Shi J, Zhang Y, Lu KH, Cao J, Liu Z (2018). Neural encoding and decoding with deep learning for dynamic "
    "natural vision. Cereb Cortex 28:4136-4160. doi:10.1093/cercor/bhx268"
)

_PLACE = re.compile(r"(seg|test)(\d+)_(\d+)_Atlas\.dtseries\.nii|(seg|test)(\d+)_(\d+)[._]mni\.nii\.gz")


class Cc2017Options(MovieOptions):
    """Options of the reader of CC2017; those of long videos, and these.

    Parameters
    ----------
    files : {"cifti", "mni"}
        Cortical and subcortical grayordinates, or volumes in MNI space.
    hrf_delay : float
        Seconds by which the response follows the clip, beyond the 4 s of the release: a multiple of 2, from -2 on.
    reliable : int
        Size of the ROI ``reliable``: the voxels whose responses to the two presentations of training videos agree best.
    """

    files: Literal["cifti", "mni"] = "cifti"
    hrf_delay: float = Field(default=0.0, ge=-2, le=20)
    reliable: int = Field(default=4500, ge=0)


@dataclass(frozen=True)
class Run:
    """A file of responses: which video it belongs to, and which presentation it is."""

    kind: str
    number: int
    presentation: int
    path: Path

    @property
    def video(self) -> str:
        """Name of the video, e.g. ``seg1``."""
        return f"{self.kind}{self.number}"


class Cc2017Reader(Reader):
    """Reader of CC2017.

    Parameters
    ----------
    root : path
        The folder with ``Stimuli``, ``Subject01`` and so on, as PURR distributes them.
    options : Cc2017Options, optional
        Preprocessing, and which voxels to store.

    Raises
    ------
    MissingFileError
        If there are no responses or no videos; the message says which.
    InputError
        If a file cannot be used; the message names it.

    References
    ----------
    Wen et al. 2018, Cerebral Cortex 28:4136-4160; PURR 2809, doi:10.4231/R7SF2TCW.
    """

    name: ClassVar[str] = "cc2017"
    Options: ClassVar[type[Options]] = Cc2017Options
    roi_groups: ClassVar[dict[str, list[str]]] = PARCEL_GROUPS
    options: Cc2017Options

    def __init__(self, root: str | Path | None, options: Cc2017Options | None = None) -> None:
        super().__init__(root, options)
        assert self.root is not None  # the base class refuses None
        self._runs = find_runs(self.root, self.options)
        shown = sorted({(run.kind, run.number) for runs in self._runs.values() for run in runs})
        self._videos = {f"{kind}{number}": _video(self.root, f"{kind}{number}") for kind, number in shown}
        seconds = np.arange(FRAMES) * FRAME_STEP
        self._clips = Clips(
            [
                Clip(name, path, tuple(place * REPETITION_TIME + seconds))
                for video, (path, number) in self._videos.items()
                for place, name in enumerate(clip_names(video, number))
            ],
            self.options,
        )
        self._table = self._clips.table(self.root)
        self._recordings = {
            name: [self._recording(run) for run in runs] for name, runs in self._runs.items()
        }  # fmt: skip
        self._data: dict[str, SubjectData] = {}

    @classmethod
    def sources(cls, root: Path, options: Cc2017Options) -> list[Path]:
        """List the runs of the subjects to read, all videos, and the tables that the options name."""
        runs = [run.path for runs in find_runs(root, options).values() for run in runs]
        named = [options.captions, None if options.parcels in ("hcp-mmp", "none") else options.parcels]
        return [*runs, *sorted(_stimuli(root).glob("*.mp4")), *(root / name for name in named if name is not None)]

    @property
    def description(self) -> Description:
        """Title, citation, terms of use and units of the data set."""
        options = self.options
        return Description(
            title=f"CC2017{' in miniature' if self.simulated else ''}: natural videos, 3 T",
            simulated=self.simulated,
            citation=CITATION,
            terms="CC0 1.0 (PURR 2809)",
            units="standard deviations of the run" if options.standardize else "scanner units",
            notes=f"Clips of 2 s, each with the volume {4 + options.hrf_delay:g} s after its onset (4 s of them by the "
            f"release); polynomial drift of order {options.detrend} removed in every run; "
            f"{'single presentations' if options.samples == 'repeat' else 'means over presentations'}; "
            f"voxels: {options.voxels}."
            f"{self._clips.uncaptioned}",
        )

    @property
    def subjects(self) -> list[str]:
        """Names of the subjects, ``subject1`` to ``subject3``: those in the options, or all on disk."""
        return list(self._runs)

    def stimuli(self) -> pd.DataFrame:
        """Return the table of stimuli: clips of 2 s, e.g. ``seg01_001``, the test clips last."""
        return self._table.copy()

    def image_shape(self) -> tuple[int, int, int]:
        """Return the shape of an image, (y, x, rgb)."""
        return self._clips.shape[1:]

    def read_images(self, start: int, stop: int) -> np.ndarray:
        """Return the middle frames of stimuli ``start:stop``, uint8, shape (stimulus, y, x, rgb)."""
        return self._clips.images(start, stop)

    def video_shape(self) -> tuple[int, int, int, int]:
        """Return the shape of a video, (frame, y, x, rgb)."""
        return self._clips.shape

    def frames_per_second(self) -> float:
        """Return the rate of the stored frames, 3.75 Hz: every eighth of 30 frames a second."""
        return 1 / FRAME_STEP

    def read_frames(self, start: int, stop: int) -> np.ndarray:
        """Return the frames of clips ``start:stop``, uint8, shape (video, frame, y, x, rgb)."""
        return self._clips.frames(start, stop)

    def subject(self, name: str) -> SubjectData:
        """Return the data of one subject, after screening its voxels in all runs.

        Raises
        ------
        UnknownNameError, InputError
            If the subject does not exist, or a run or an atlas cannot be used.
        """
        if name not in self._runs:
            raise UnknownNameError("subject", name, self.subjects)
        if name not in self._data:
            assert self.root is not None
            data = read_movies(name, self._recordings[name], self.root, self.options, self.options.reliable)
            self._data[name] = SubjectData(**{**vars(data), "report": {**_missing(self._runs[name]), **data.report}})
        return self._data[name]

    def _recording(self, run: Run) -> Recording:
        """Return a run with its clips, after checking its number of volumes."""
        _, clips = self._videos[run.video]
        recording = Recording(run.path, run.presentation, _run_number(run), slice(None), pd.DataFrame())
        volumes = recording.open()[1]
        before = volumes - clips - AFTER
        if before not in (1, 2):
            raise InputError(
                f"{run.path} does not have as many volumes as its video",
                given=f"{volumes} volumes; {self._videos[run.video][0].name} has {clips} clips of 2 s",
                expected=f"{clips + AFTER + 1} or {clips + AFTER + 2} volumes: one or two before the video, "
                f"one for each clip, and {AFTER} after it",
                todo="download both files again; they have to be as PURR distributes them",
            )
        delay = self.options.hrf_delay
        first = before + round(delay / REPETITION_TIME)  # the window moves along: up to 8 s, no clip is lost
        kept = slice(first, min(first + clips, volumes))
        shown = pair_clips(
            clip_names(run.video, clips),
            np.arange(clips) * REPETITION_TIME,
            "train" if run.kind == "seg" else "test",
            delay,
            REPETITION_TIME,
            kept.stop - first,
            start=delay,
        )
        return Recording(run.path, run.presentation, _run_number(run), kept, shown)


def clip_names(video: str, number: int) -> list[str]:
    """Return the ids of the clips of a video: ``seg01_001`` is the first clip of ``seg1``."""
    kind, count = video.rstrip("0123456789"), int(re.sub("[a-z]", "", video))
    return [f"{kind}{count:02d}_{place:03d}" for place in range(1, number + 1)]


def find_runs(root: Path, options: Cc2017Options) -> dict[str, list[Run]]:
    """Find the runs of the subjects to read, sorted by video and presentation.

    Raises
    ------
    MissingFileError, UnknownNameError
        If there are none, or a subject in the options has none.
    """
    found: dict[str, list[Run]] = {}
    for number in range(1, 4):
        runs = sorted(_in_folder(root / f"Subject{number:02d}" / "video_fmri_dataset" / f"subject{number}" / "fmri",
                                 options.files), key=lambda run: (run.kind, run.number, run.presentation))  # fmt: skip
        if runs:
            found[f"subject{number}"] = runs
    if not found:
        raise MissingFileError(
            "the folder does not contain the responses of CC2017",
            given=f"no Subject01/video_fmri_dataset/subject1/fmri/seg1/{options.files}/ with files in {root}",
            expected="seg1_1_Atlas.dtseries.nii etc." if options.files == "cifti" else "seg1_1_mni.nii.gz etc.",
            todo="pass the folder with Stimuli and Subject01 (neurorecon datasets show cc2017), or change files in "
            "[options]",
        )
    for name in options.subjects:
        if name not in found:
            raise UnknownNameError("subject", name, list(found))
    return {name: found[name] for name in options.subjects or found}


def _in_folder(folder: Path, files: str) -> Iterator[Run]:
    for path in sorted(folder.glob(f"*/{files}/*")):
        match = _PLACE.fullmatch(path.name)
        if match is not None:
            kind, number, presentation = (one for one in match.groups() if one is not None)
            yield Run(kind, int(number), int(presentation), path)


def _run_number(run: Run) -> int:
    """Return the number of a run within its session: training videos, then test videos."""
    return run.number if run.kind == "seg" else TRAIN + run.number


def _missing(runs: list[Run]) -> dict[str, str]:
    """Say which runs of the whole data set are not on disk."""
    there = {(run.kind, run.number, run.presentation) for run in runs}
    absent = [
        f"{kind}{number}_{presentation}"
        for kind, videos in (("seg", TRAIN), ("test", TEST))
        for number in range(1, videos + 1)
        for presentation in range(1, REPEATS[kind] + 1)
        if (kind, number, presentation) not in there
    ]
    return {"runs missing": listed(absent)} if absent else {}


def _stimuli(root: Path) -> Path:
    return root / "Stimuli" / "video_fmri_dataset" / "stimuli"


def _video(root: Path, name: str) -> tuple[Path, int]:
    """Return the file of a video and its number of clips."""
    path = _stimuli(root) / f"{name}.mp4"
    if not path.is_file():
        raise MissingFileError(
            f"the video {name} is missing",
            given=f"no file {path}",
            expected="the video of each run: seg1.mp4 ... seg18.mp4, test1.mp4 ... test5.mp4",
            todo="download the stimuli from https://purr.purdue.edu/publications/2809",
        )
    rate, frames = video_length(path)
    return path, int(frames / rate / REPETITION_TIME + 0.01)
