"""Reader of the Algonauts Challenge 2021: ten subjects watched 1,102 videos of 3 seconds, 3 T.

Responses are estimates of trials, three for each of the 1,000 videos whose responses are public, in pickles, which are
loaded without running code. The responses to the other 102 videos were never released, so the test set is a part of
the 1,000.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import pandas as pd
from pydantic import Field

from neurorecon.datasets.base import SAMPLE_COLUMNS, TRIALS, Description, Options, Reader, SubjectData
from neurorecon.datasets.runs import read_by_part, screen
from neurorecon.datasets.videos import Clip, Clips, VideoOptions, listed
from neurorecon.errors import InputError, MissingFileError, UnknownNameError
from neurorecon.io.tables import load_arrays
from neurorecon.io.volumes import open_image
from neurorecon.space import Space

#: ROIs of the mini track, each in a file of its own; the whole brain of the full track.
ROIS, WHOLE = ("V1", "V2", "V3", "V4", "LOC", "EBA", "FFA", "STS", "PPA"), "WB"

#: An image of the challenge's development kit with the grid of the whole brain; without it, voxels have no positions.
GRID = "example.nii"

#: Frames of a clip as Mind-Animator takes them: the first eight, of 30 a second.
FRAMES, RATE = 8, 30.0

_AGAIN = "request the files again: http://algonauts.csail.mit.edu/2021/challenge.html"

_VIDEO = re.compile(r"(\d{4})_.*\.mp4")

CITATION = (
    "Cichy RM, Dwivedi K, Lahner B, Lascelles A, Iamshchinina P, Graumann M, Andonian A, Murty NAR, Kay K, Roig G, "
    "Oliva A (2021). The Algonauts Project 2021 Challenge: how the human brain makes sense of a world in motion. "
    "arXiv:2104.13714"
)


class Algonauts2021Options(VideoOptions):
    """Options of the reader of Algonauts 2021; those of videos, and these.

    Parameters
    ----------
    subjects : list of str
        Subjects to read; empty: all on disk.
    track : {"mini", "full"}
        Nine ROIs, or the whole brain.
    samples : {"repeat", "average"}
        One sample per presentation of a video, or the mean over its presentations. Noise ceilings need the former.
    test : float
        Share of the videos that are the test set: the last ones, in the order of their numbers.
    frame_step : int
        Take every so many-th of 30 frames a second; 1 as published (the first .27 s), 11 spans the video.
    bad_voxels : {"drop", "keep"}
        What to do with voxels that are constant or not finite in a presentation of the videos. If kept, values that are
        not finite become 0.
    """

    subjects: list[str] = Field(default_factory=list)
    track: Literal["mini", "full"] = "mini"
    samples: Literal["repeat", "average"] = "repeat"
    test: float = Field(default=0.1, gt=0, lt=1)
    frame_step: int = Field(default=1, ge=1, le=12)
    bad_voxels: Literal["drop", "keep"] = "drop"


class Algonauts2021Reader(Reader):
    """Reader of the Algonauts Challenge 2021.

    Parameters
    ----------
    root : path
        The folder with ``participants_data_v2021`` and ``AlgonautsVideos268_All_30fpsmax``.
    options : Algonauts2021Options, optional
        Track, and the split.

    Raises
    ------
    MissingFileError
        If there are no responses or too few videos; the message says which.
    InputError
        If a file cannot be used; the message names it.

    References
    ----------
    Cichy et al. 2021, arXiv:2104.13714.
    """

    name: ClassVar[str] = "algonauts2021"
    Options: ClassVar[type[Options]] = Algonauts2021Options
    roi_groups: ClassVar[dict[str, list[str]]] = {
        "early": ["V1", "V2", "V3", "V4"],
        "ventral": ["LOC", "EBA", "FFA", "PPA"],
    }
    options: Algonauts2021Options

    def __init__(self, root: str | Path | None, options: Algonauts2021Options | None = None) -> None:
        super().__init__(root, options)
        assert self.root is not None  # the base class refuses None
        self._files = find_files(self.root, self.options)
        videos = find_videos(self.root)
        self._read: dict[str, tuple[np.ndarray, pd.DataFrame, dict[str, np.ndarray], Space]] = {}
        first = self._responses(self.subjects[0])[0]  # (video, repeat, voxel)
        if len(videos) < len(first):
            raise MissingFileError(
                f"{len(first) - len(videos)} videos are missing",
                given=f"{len(videos)} videos in {_video_folder(self.root)}, responses to {len(first)}",
                expected="0001_*.mp4, 0002_*.mp4, ...: a video for each response",
                todo="download the videos again; they have to be as the challenge distributes them",
            )
        seconds = tuple((np.arange(FRAMES) * self.options.frame_step / RATE).tolist())
        self._clips = Clips(
            [Clip(f"video{number:04d}", path, seconds) for number, path in list(videos.items())[: len(first)]],
            self.options,
        )
        self._table = self._clips.table(self.root)

    @classmethod
    def sources(cls, root: Path, options: Algonauts2021Options) -> list[Path]:
        """List the responses of the subjects to read, all videos, and the table of captions."""
        files = [path for found in find_files(root, options).values() for path in found.values()]
        if options.track == "full" and (root / GRID).is_file():
            files.append(root / GRID)
        named = [] if options.captions is None else [root / options.captions]
        return [*files, *find_videos(root).values(), *named]

    @property
    def description(self) -> Description:
        """Title, citation, terms of use and units of the data set."""
        averaged = "single presentations" if self.options.samples == "repeat" else "means over presentations"
        return Description(
            title=f"Algonauts 2021{' in miniature' if self.simulated else ''}: videos of 3 s",
            simulated=self.simulated,
            citation=CITATION,
            terms="rules of the Algonauts Project 2021 Challenge",
            units="as distributed",
            notes=f"{self.options.track} track; {averaged}; test: the last {self.options.test:g} of the videos with "
            "responses. When a video was shown was not published: session is the presentation, time counts the videos."
            f"{self._clips.uncaptioned}",
        )

    @property
    def subjects(self) -> list[str]:
        """Names of the subjects, ``sub01`` to ``sub10``: those in the options, or all on disk."""
        return list(self._files)

    def stimuli(self) -> pd.DataFrame:
        """Return the table of stimuli, ``video0001`` and so on: those with responses."""
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
        """Return the rate of the stored frames (Hz)."""
        return RATE / self.options.frame_step

    def read_frames(self, start: int, stop: int) -> np.ndarray:
        """Return the frames of videos ``start:stop``, uint8, shape (video, frame, y, x, rgb)."""
        return self._clips.frames(start, stop)

    def subject(self, name: str) -> SubjectData:
        """Return the data of one subject, after screening its voxels in all presentations.

        Raises
        ------
        UnknownNameError, InputError
            If the subject does not exist, or a file cannot be used.
        """
        if name not in self._files:
            raise UnknownNameError("subject", name, self.subjects)
        values, voxels, rois, space = self._responses(name)
        if len(values) != len(self._table):
            raise InputError(
                f"the responses of {name} are to another number of videos",
                given=f"{len(values)}",
                expected=f"{len(self._table)}, as of {self.subjects[0]}",
                todo=_AGAIN,
            )
        screened = screen(values[:, repeat] for repeat in range(values.shape[1]))
        keep = self.options.bad_voxels == "keep"
        rows = np.arange(values.shape[2]) if keep else np.flatnonzero(screened.usable)
        if not len(rows):
            raise InputError(
                f"no voxel of {name} can be used",
                given="; ".join(screened.report().values()),
                expected="voxels that vary between videos",
                todo=_AGAIN,
            )
        report = screened.report(kept=keep)
        if self.options.track == "mini":
            absent = [roi for roi in ROIS if roi not in self._files[name]]
            report |= {"ROIs missing": listed(absent)} if absent else {}
        responses = np.nan_to_num(values[:, :, rows], nan=0.0, posinf=0.0, neginf=0.0)
        ids, number = self._table["id"].tolist(), len(values)
        split = np.where(np.arange(number) < number - max(1, round(number * self.options.test)), "train", "test")
        base = pd.DataFrame({"stimulus": ids, "task": "videos", "split": split, "time": np.arange(number, dtype=float)})
        if self.options.samples == "average":
            samples = base.assign(session=1, run=1, repeat=1, **{TRIALS: values.shape[1]})
            parts = [responses.mean(axis=1)]
        else:
            shown = range(values.shape[1])
            samples = pd.concat(
                [base.assign(session=1 + one, run=1, repeat=1 + one) for one in shown], ignore_index=True
            )
            parts = [responses[:, one] for one in shown]
        columns = [*SAMPLE_COLUMNS, *([TRIALS] if TRIALS in samples else [])]
        return SubjectData(
            samples=samples[columns],
            voxels=voxels.iloc[rows].reset_index(drop=True),
            rois={key: member[rows] for key, member in rois.items() if member[rows].any()},
            space=space,
            read_responses=read_by_part([number] * len(parts), lambda part: parts[part].astype(np.float32), len(rows)),
            report=report,
        )

    def _responses(self, name: str) -> tuple[np.ndarray, pd.DataFrame, dict[str, np.ndarray], Space]:
        """Return responses (video, repeat, voxel), the table of voxels, ROIs and the space; one subject is kept."""
        if name not in self._read:
            self._read.clear()
            loaded = {roi: _load(path) for roi, path in self._files[name].items()}
            arrays = {roi: values["train"] for roi, values in loaded.items()}
            shapes = {values.shape[:2] for values in arrays.values()}
            if len(shapes) > 1:
                raise InputError(
                    f"the files of {name} do not match",
                    given="; ".join(f"{roi} {values.shape}" for roi, values in arrays.items()),
                    expected="the same videos and presentations in every file",
                    todo=_AGAIN,
                )
            owner = np.concatenate([np.full(values.shape[2], roi) for roi, values in arrays.items()])
            voxels, space = pd.DataFrame(index=range(len(owner))), Space("none")
            if self.options.track == "full":
                assert self.root is not None
                voxels, space = _places(self.root, self._files[name][WHOLE], loaded[WHOLE], len(owner))
            rois = {roi: owner == roi for roi in arrays}
            self._read[name] = np.concatenate(list(arrays.values()), axis=2), voxels, rois, space
        return self._read[name]


def _load(path: Path) -> dict[str, np.ndarray]:
    """Load a file of responses; refuse one without them."""
    found = load_arrays(path, _AGAIN)
    values = found.get("train") if isinstance(found, dict) else None
    if not isinstance(values, np.ndarray) or values.ndim != 3 or values.dtype.kind != "f" or not values.size:
        raise InputError(
            f"{path} does not hold responses",
            given=f"train: {getattr(values, 'shape', None)}" if isinstance(found, dict) else type(found).__name__,
            expected="a dict whose entry train has the shape (video, repeat, voxel)",
            todo=_AGAIN,
        )
    return {str(name): np.asarray(value) for name, value in found.items()}


def _places(root: Path, path: Path, loaded: dict[str, np.ndarray], number: int) -> tuple[pd.DataFrame, Space]:
    """Return the places of the voxels of the whole brain: their mask has the grid of the image :data:`GRID`."""
    mask = loaded.get("voxel_mask")
    if mask is None or mask.ndim != 3 or int((mask != 0).sum()) != number:
        raise InputError(
            f"{path} does not say where its voxels are",
            given="no voxel_mask" if mask is None else f"a voxel_mask {mask.shape} of {int((mask != 0).sum())} voxels",
            expected=f"voxel_mask, (x, y, z), with {number} voxels",
            todo=_AGAIN,
        )
    if not (root / GRID).is_file():
        return pd.DataFrame(index=range(number)), Space("none")
    image = open_image(root / GRID)
    if tuple(image.shape[:3]) != mask.shape:
        raise InputError(
            f"{root / GRID} has another grid than the responses",
            given=f"{tuple(image.shape)}",
            expected=f"{mask.shape}, the shape of the voxel_mask of {path}",
            todo="take the file of the challenge's development kit, or remove it to store voxels without positions",
        )
    affine = np.asarray(image.affine, dtype=float).tolist()
    places = pd.DataFrame(np.argwhere(mask != 0), columns=["i", "j", "k"])  # the order of responses[mask]
    return places, Space("volume", affine=affine, shape=[int(size) for size in mask.shape])


def find_files(root: Path, options: Algonauts2021Options) -> dict[str, dict[str, Path]]:
    """Return the files of each subject, by ROI.

    Raises
    ------
    MissingFileError, UnknownNameError
        If there are none, or a subject in the options has none.
    """
    folder = root / "participants_data_v2021" / f"{options.track}_track"
    wanted = (WHOLE,) if options.track == "full" else ROIS
    found = {}
    for place in sorted(folder.glob("sub*")):
        files = {roi: place / f"{roi}.pkl" for roi in wanted if (place / f"{roi}.pkl").is_file()}
        if files:
            found[place.name] = files
    if not found:
        raise MissingFileError(
            "the folder does not contain the responses of Algonauts 2021",
            given=f"no sub01/{wanted[0]}.pkl in {folder}",
            expected="participants_data_v2021/mini_track/sub01/V1.pkl etc., or full_track/sub01/WB.pkl",
            todo="pass the folder with participants_data_v2021 (neurorecon datasets show algonauts2021), or change "
            "track in [options]",
        )
    for name in options.subjects:
        if name not in found:
            raise UnknownNameError("subject", name, list(found))
    return {name: found[name] for name in options.subjects or found}


def _video_folder(root: Path) -> Path:
    return root / "AlgonautsVideos268_All_30fpsmax"


def find_videos(root: Path) -> dict[int, Path]:
    """Return the videos by their number, ascending."""
    matches = [(_VIDEO.fullmatch(path.name), path) for path in sorted(_video_folder(root).glob("*.mp4"))]
    return {int(match[1]): path for match, path in matches if match is not None}
