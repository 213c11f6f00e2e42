"""Reader of the embedded data set. Nothing is on disk; everything is computed from a seed on request."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property, lru_cache
from typing import ClassVar

import numpy as np
import pandas as pd
from pydantic import Field, ValidationInfo, field_validator
from threadpoolctl import threadpool_limits

from neurorecon.datasets import base
from neurorecon.datasets.runs import detrend, zscore
from neurorecon.errors import InputError, UnknownNameError
from neurorecon.simulation.captions import captions
from neurorecon.simulation.cortex import (
    COMPONENTS,
    ECCENTRICITIES,
    MESH,
    ROIS,
    TUNING,
    Cortex,
    build_cortex,
    load_hemispheres,
)
from neurorecon.simulation.stimuli import FRAMES, FRAMES_PER_SECOND, Stimuli
from neurorecon.simulation.vocabulary import CATEGORIES
from neurorecon.simulation.voxels import ForwardModel, clip_response, convolve, run_noise, shared_patterns
from neurorecon.space import Space

#: Trials per session and per run, and seconds between trials, as in NSD (Allen et al., 2022, Nature Neurosci.).
TRIALS_PER_SESSION = 750

TRIALS_PER_RUN = 63

TRIAL_SECONDS = 4.0

#: Maximum number of clips per run, and runs per session; a clip lasts one volume.
CLIPS_PER_RUN = 80

RUNS_PER_SESSION = 9

#: Number of runs over which test clips are spread, and the length from which a run can be whitened: intervals and nulls
#: of time series need several runs of 60 volumes (docs/statistics.md).
TEST_RUNS, SHORTEST_RUN = 4, 60

REPETITION_TIME = 2.0

#: Columns of the design: those of samples, with the number of the stimulus instead of its id.
_COLUMNS = ["number", "task", "session", "run", "repeat", "split", "time"]


def image_design(seed: int, train: int, test: int, repeats: int) -> pd.DataFrame:
    """Return the design of the trials with images.

    Each training image is shown once. All test images are shown before any is repeated, in random order and at random
    positions among the training images.

    Parameters
    ----------
    seed : int
        Seed of the data set.
    train, test : int
        Numbers of images. Training images are stimuli ``0:train``, test images ``train:train + test``.
    repeats : int
        Number of presentations of each test image.

    Returns
    -------
    DataFrame
        One row per trial: ``number``, ``task``, ``session``, ``run``, ``repeat``, ``split`` and ``time``.
    """
    random = np.random.default_rng(np.random.SeedSequence([seed, 0xDE]))
    blocks = []
    for repeat, images in enumerate(np.array_split(np.arange(train), max(1, repeats)), start=1):
        shown = random.permutation(np.arange(train, train + test)) if repeat <= repeats else np.zeros(0, int)
        block = np.concatenate([images, shown])
        # Training images keep their order (scenes are random anyway), so that each run needs only neighboring
        # stimuli and a data set of any size can be drawn run by run.
        is_test = random.permutation(np.arange(len(block)) >= len(images))
        order = np.empty(len(block), dtype=int)
        order[~is_test], order[is_test] = images, shown
        blocks.append(pd.DataFrame({"number": order, "repeat": np.where(is_test, repeat, 1)}))
    table = pd.concat(blocks, ignore_index=True)
    table["task"] = "images"
    table["split"] = np.where(table["number"] < train, "train", "test")
    trial = np.arange(len(table))
    table["session"] = trial // TRIALS_PER_SESSION + 1
    run, time = np.zeros(len(table), dtype=int), np.zeros(len(table))
    for session in range(1, int(table["session"].max() if len(table) else 0) + 1):
        rows = np.flatnonzero(table["session"] == session)
        for number, part in enumerate(np.array_split(rows, -(-len(rows) // TRIALS_PER_RUN)), start=1):
            run[part] = number
            time[part] = np.arange(len(part)) * TRIAL_SECONDS
    return table.assign(run=run, time=time)[_COLUMNS]


def video_design(
    seed: int, first: int, train: int, test: int, train_repeats: int, test_repeats: int, first_session: int
) -> pd.DataFrame:
    """Return the design of the runs with videos. Repeated runs show the same clips in the same order.

    All runs of a split are shown before any is repeated. Runs of both splits alternate at random, so that each session
    has its share of both.

    Parameters
    ----------
    seed : int
        Seed of the data set.
    first : int
        Number of the first video among the stimuli. Training videos come before test videos.
    train, test : int
        Numbers of videos.
    train_repeats, test_repeats : int
        Number of presentations of each run.
    first_session : int
        Number of the first session with videos.

    Returns
    -------
    DataFrame
        One row per volume, with the columns of :func:`image_design`.
    """
    random = np.random.default_rng(np.random.SeedSequence([seed, 0xDF]))
    runs: list[tuple[float, str, int, np.ndarray]] = []
    for split, videos, repeats, fewest in (
        ("train", np.arange(first, first + train), train_repeats, 1),
        ("test", np.arange(first + train, first + train + test), test_repeats, min(TEST_RUNS, test // SHORTEST_RUN)),
    ):
        if not len(videos):
            continue
        segments = np.array_split(videos, max(fewest, -(-len(videos) // CLIPS_PER_RUN)))
        shown = [(repeat, segment) for repeat in range(1, repeats + 1) for segment in segments]
        when = (np.arange(len(shown)) + random.random(len(shown))) / len(shown)
        runs += [(float(time), split, *run) for time, run in zip(when, shown, strict=True)]
    runs.sort(key=lambda run: run[0])
    parts = []
    for session, indices in enumerate(np.array_split(np.arange(len(runs)), max(1, -(-len(runs) // RUNS_PER_SESSION)))):
        for run, index in enumerate(indices, start=1):
            _, split, repeat, segment = runs[index]
            parts.append(
                pd.DataFrame(
                    {
                        "number": segment,
                        "task": "videos",
                        "session": first_session + session,
                        "run": run,
                        "repeat": repeat,
                        "split": split,
                        "time": np.arange(len(segment)) * REPETITION_TIME,
                    }
                )
            )
    return pd.concat(parts, ignore_index=True)[_COLUMNS] if parts else pd.DataFrame(columns=_COLUMNS)


def run_bounds(design: pd.DataFrame) -> np.ndarray:
    """Return the first row of each run, and the end of the last one: int array, shape (run + 1,)."""
    if not len(design):
        return np.zeros(1, dtype=int)
    keys = design[["session", "run"]].to_numpy(dtype=int)
    change = np.flatnonzero((np.diff(keys, axis=0) != 0).any(axis=1)) + 1
    return np.concatenate([[0], change, [len(design)]])


#: Noise of single-trial estimates and of time series: shares of variance, and correlation of neighboring samples.
IMAGE_NOISE = {"shared": 0.12, "drift": 0.08, "coefficient": 0.15}

VIDEO_NOISE = {"shared": 0.12, "drift": 0.0, "coefficient": 0.35}

#: Standard deviation of the drift in the raw time series, relative to other noise; detrending removes most of it.
VIDEO_DRIFT = 1.5

#: Order of the polynomial that is removed from each run of videos (Wen et al., 2018, Cereb. Cortex).
DETREND_ORDER = 4

#: SNR of one volume of a video relative to the estimate of a trial of 4 s.
VIDEO_SNR = 0.75

#: Number of cached runs, for callers that read less than a run at a time.
_RUNS = 4


class SimulatedSubject:
    """The simulated responses of one subject, computed run by run.

    Parameters
    ----------
    seed, number : int
        Seed of the data set, and number of the subject.
    cortex : Cortex
        The voxels.
    forward : ForwardModel
        Responses without noise.
    design : DataFrame
        One row per sample, from :func:`image_design` and :func:`video_design`.
    signal : float
        Factor of all signal-to-noise ratios.

    Attributes
    ----------
    ncsnr, video_snr : array, shape (voxel,)
        Standard deviation of the signal divided by that of the noise, in one trial with an image and in one volume of
        a video.
    """

    def __init__(
        self,
        seed: int,
        number: int,
        cortex: Cortex,
        forward: ForwardModel,
        design: pd.DataFrame,
        signal: float,
    ) -> None:
        self.cortex = cortex
        self.forward = forward
        self._entropy = (seed, number, 0xB0)
        self._design = design
        self._bounds = run_bounds(design)
        self._numbers = [int(number) for number in design["number"]]  # caches distinguish int from NumPy integers
        random = np.random.default_rng(np.random.SeedSequence([*self._entropy, 0]))
        table = cortex.voxels
        # Receptive fields of which less than half lies in the image have a weaker signal.
        driven = np.sqrt(np.minimum(1.0, 2.0 * forward.coverage))
        ratio = signal * _draw_ratios(random, forward.roi) * driven
        self.ncsnr = ratio * np.sqrt(forward.left["images"])
        self.video_snr = ratio * VIDEO_SNR * np.sqrt(forward.left["videos"])
        self._patterns = shared_patterns(random, table[["x", "y", "z"]].to_numpy())
        self._level = 1.0 + 0.5 * random.standard_normal(len(table))
        self._noise_level = 1.6 * np.exp(0.3 * random.standard_normal(len(table)))
        self._response = clip_response(REPETITION_TIME)
        self._run = lru_cache(maxsize=_RUNS)(self._make_run)

    def read(self, start: int, stop: int) -> np.ndarray:
        """Return samples ``start:stop``, float32, shape (sample, voxel)."""
        start, stop, _ = slice(start, stop).indices(len(self._numbers))
        first = int(np.searchsorted(self._bounds, start, side="right")) - 1
        parts = [np.zeros((0, len(self.ncsnr)), dtype=np.float32)]
        while start < stop:
            begin, end = self._bounds[first], self._bounds[first + 1]
            parts.append(self._run(first)[start - begin : stop - begin])
            start, first = end, first + 1
        return np.concatenate(parts)

    def truth(self) -> dict[str, np.ndarray]:
        """Return the ground truth of the simulation, one value per voxel."""
        table = self.cortex.voxels
        return {
            **{f"share_{name}": share for name, share in self.forward.shares.items()},
            "ncsnr": self.ncsnr,
            "video_snr": self.video_snr,
            "noise_only": self.forward.left["videos"] == 0,
            **{name: table[name].to_numpy() for name in ("prf_x", "prf_y", "prf_size")},
        }

    def _make_run(self, index: int) -> np.ndarray:
        begin, end = self._bounds[index], self._bounds[index + 1]
        task = str(self._design["task"].iloc[begin])
        random = np.random.default_rng(np.random.SeedSequence([*self._entropy, 1, index]))
        make = self._image_run if task == "images" else self._video_run
        # With one thread the bits do not depend on the number of threads, and more would not be faster at these sizes.
        with threadpool_limits(1, "blas"):
            numbers = self._numbers[begin:end]
            self.forward.prepare(numbers, task)
            signal = np.stack([self.forward.signal(number, task) for number in numbers])
            run = make(random, signal).astype(np.float32)
        run.flags.writeable = False
        return run

    def _image_run(self, random: np.random.Generator, signal: np.ndarray) -> np.ndarray:
        noise = run_noise(random, len(signal), self._patterns, **IMAGE_NOISE)
        return self._level + self._noise_level * (self.ncsnr * signal + noise)

    def _video_run(self, random: np.random.Generator, signal: np.ndarray) -> np.ndarray:
        noise = run_noise(random, len(signal), self._patterns, **VIDEO_NOISE)
        drift = run_noise(random, len(signal), self._patterns, shared=0.0, drift=1.0, coefficient=0.0)
        raw = self.video_snr * convolve(signal, self._response) + noise + VIDEO_DRIFT * drift
        return zscore(detrend(raw, min(DETREND_ORDER, len(raw) - 2)))  # lower order for very short runs


def _draw_ratios(random: np.random.Generator, roi: np.ndarray) -> np.ndarray:
    """Return signal-to-noise ratios with a log-normal spread around the median of the ROI; 0 outside."""
    spread = np.clip(np.exp(0.35 * random.standard_normal(len(roi))), 0.4, 2.2)
    median = np.array([TUNING[name].snr if name else 0.0 for name in roi])
    return median * spread


class ScenesOptions(base.Options):
    """Options of the embedded data set."""

    seed: int = Field(0, ge=0, description="Seed of everything: scenes, brains, noise.")
    subjects: int = Field(2, ge=1, le=99, description="Number of subjects.")
    voxels: int = Field(2500, ge=100, description="Voxels per subject; about a tenth are outside all visual areas.")
    train_images: int = Field(1800, ge=0, description="Training images, each shown once.")
    test_images: int = Field(100, ge=0, description="Test images; none is a training image.")
    test_image_repeats: int = Field(3, ge=1, description="Number of presentations of each test image.")
    train_videos: int = Field(1000, ge=0, description="Training clips of 2 s.")
    test_videos: int = Field(240, ge=0, description="Test clips of 2 s.")
    train_video_repeats: int = Field(2, ge=1, description="Number of presentations of each run of training clips.")
    test_video_repeats: int = Field(6, ge=1, description="Number of presentations of each run of test clips.")
    image_size: int = Field(64, ge=16, le=512, description="Pixels per side of images and videos.")
    signal: float = Field(1.0, ge=0.0, description="Factor of the signal-to-noise ratio of every voxel.")
    without: tuple[str, ...] = Field((), description="Features that the simulated brain lacks, e.g. motion.")
    categories: tuple[str, ...] = Field(CATEGORIES, min_length=1, description="Categories of the main objects.")

    former_names: ClassVar[dict[str, str]] = {
        "train_films": "train_videos",
        "test_films": "test_videos",
        "train_film_repeats": "train_video_repeats",
        "test_film_repeats": "test_video_repeats",
    }

    @field_validator("without", "categories")
    @classmethod
    def _known(cls, names: tuple[str, ...], about: ValidationInfo) -> tuple[str, ...]:
        """Return the names in a fixed order, each once."""
        known = COMPONENTS if about.field_name == "without" else CATEGORIES
        unknown = [name for name in names if name not in known]
        if unknown:
            raise ValueError(f"unknown: {', '.join(unknown)}; known: {', '.join(known)}")
        return tuple(name for name in known if name in names)


class ScenesReader(base.Reader):
    """Procedural images and videos, and the responses of simulated visual cortices to them.

    Parameters
    ----------
    root : None
        Not used, because there are no files.
    options : ScenesReader.Options, optional
        Number of subjects, voxels and stimuli, and other settings.

    Raises
    ------
    InputError
        If there are no stimuli.
    """

    name: ClassVar[str] = "scenes"
    version: ClassVar[int] = 2
    Options: ClassVar[type[base.Options]] = ScenesOptions
    needs_root: ClassVar[bool] = False
    roi_groups: ClassVar[dict[str, list[str]]] = {
        "early": ["V1", "V2", "V3"],
        "LVC": ["V1", "V2", "V3", "hV4"],
        "HVC": ["LO", "OFA", "FFA", "PPA", "OPA", "RSC", "EBA", "VWFA"],
        "ventral": ["hV4", "LO", "OFA", "FFA", "PPA", "VWFA"],
        "dorsal": ["V3A", "V3B", "MT", "MST", "IPS"],
        "faces": ["OFA", "FFA"],
        "places": ["PPA", "OPA", "RSC"],
        "visual": [roi.name for roi in ROIS],
        "eccentricity": list(ECCENTRICITIES),
    }
    default_targets: ClassVar[tuple[str, ...]] = ("clip_image", "vqvae", "vdvae", "motion", "category", "gabor")
    options: ScenesOptions

    def __init__(self, root: object = None, options: base.Options | None = None) -> None:
        super().__init__(None, options)
        chosen = self.options
        images, videos = chosen.train_images + chosen.test_images, chosen.train_videos + chosen.test_videos
        if images + videos == 0:
            raise InputError(
                "the data set has no stimuli",
                given="0 images and 0 videos",
                expected="train_images, test_images, train_videos or test_videos above 0",
                todo="fix [options] of the recipe",
            )
        self._stimuli = Stimuli(chosen.seed, images, videos, chosen.image_size, chosen.categories)
        self._subject = lru_cache(maxsize=2)(self._simulate)

    @property
    def description(self) -> base.Description:
        """Title, citation, terms, units."""
        return base.Description(
            title="Scenes: procedural images and videos seen by simulated visual cortices",
            simulated=True,
            citation="neurorecon, embedded data set; sources of the model are in neurorecon.simulation",
            terms="BSD-3-Clause",
            units="percent signal change (images); standard deviations of the run (videos)",
            notes=(
                "Simulated, not measured. Images: one response estimate a trial. Videos: one volume a clip of 2 s; "
                "each run had a polynomial of order 4 removed and was scaled to unit variance."
            ),
        )

    @property
    def subjects(self) -> list[str]:
        """Names of the subjects, ``["subj01", ...]``."""
        return [f"subj{number:02d}" for number in range(1, self.options.subjects + 1)]

    def stimuli(self) -> pd.DataFrame:
        """Return the table of stimuli: training images, test images, training videos, test videos."""
        return self._table.copy()

    @cached_property
    def _table(self) -> pd.DataFrame:
        scenes = [self._stimuli.scene(number) for number in range(len(self._stimuli))]
        return pd.DataFrame(
            {
                "id": self._ids,
                "kind": ["video" if self._stimuli.is_video(n) else "image" for n in range(len(scenes))],
                "category": [scene.category for scene in scenes],
                "captions": [captions(scene) for scene in scenes],
            }
        )

    @cached_property
    def _ids(self) -> np.ndarray:
        images = [f"image{number:05d}" for number in range(1, self._stimuli.images + 1)]
        videos = [f"video{number:04d}" for number in range(1, self._stimuli.videos + 1)]
        return np.array(images + videos)

    def labels(self) -> pd.DataFrame:
        """Return the visible area of each category and the layout of each scene."""
        rows = [self._stimuli.labels(number) for number in range(len(self._stimuli))]
        return pd.DataFrame(rows, columns=self._stimuli.label_names())

    def image_shape(self) -> tuple[int, int, int]:
        """Return the shape (y, x, rgb) of the images."""
        return (self.options.image_size, self.options.image_size, 3)

    def read_images(self, start: int, stop: int) -> np.ndarray:
        """Return the images of stimuli ``start:stop``, uint8, (stimulus, y, x, rgb); for videos, the middle frame."""
        start, stop, _ = slice(start, stop).indices(len(self._stimuli))
        self._stimuli.draw_ahead(range(start, stop))
        return _stack((self._stimuli.image(number) for number in range(start, stop)), self.image_shape())

    def video_shape(self) -> tuple[int, int, int, int] | None:
        """Return the shape (frame, y, x, rgb) of the videos, or None if there are none."""
        return (FRAMES, *self.image_shape()) if self._stimuli.videos else None

    def frames_per_second(self) -> float | None:
        """Return the frame rate of the videos, or None if there are none."""
        return FRAMES_PER_SECOND if self._stimuli.videos else None

    def read_frames(self, start: int, stop: int) -> np.ndarray:
        """Return the frames of videos ``start:stop`` (counting only videos), uint8, (video, frame, y, x, rgb)."""
        start, stop, _ = slice(start, stop).indices(self._stimuli.videos)
        first = self._stimuli.images
        videos = (self._stimuli.pixels(first + number) for number in range(start, stop))
        return _stack(videos, (FRAMES, *self.image_shape()))

    def subject(self, name: str) -> base.SubjectData:
        """Return the responses of one simulated subject."""
        if name not in self.subjects:
            raise UnknownNameError("subject", name, self.subjects)
        return self._subject(name)

    def _simulate(self, name: str) -> base.SubjectData:
        chosen, number = self.options, self.subjects.index(name) + 1
        cortex = build_cortex(chosen.seed, number, chosen.voxels)
        images, videos = self._stimuli.images, range(self._stimuli.images, len(self._stimuli))
        forward = ForwardModel(
            chosen.seed,
            number,
            cortex,
            self._stimuli,
            range(chosen.train_images or images),
            videos[: chosen.train_videos or None],
            chosen.without,
        )
        simulated = SimulatedSubject(chosen.seed, number, cortex, forward, self._design, chosen.signal)
        columns = ["hemisphere", "vertex"]
        if cortex.voxels["depth"].any():
            columns.append("depth")
        return base.SubjectData(
            samples=self._samples,
            voxels=cortex.voxels[columns].copy(),
            rois=cortex.rois,
            space=Space(
                kind="surface",
                mesh=MESH,
                vertices={side: len(part.sphere) for side, part in load_hemispheres().items()},
            ),
            read_responses=simulated.read,
            repetition_time={"videos": REPETITION_TIME} if self._stimuli.videos else {},
            truth=simulated.truth(),
        )

    @cached_property
    def _design(self) -> pd.DataFrame:
        chosen = self.options
        images = image_design(chosen.seed, chosen.train_images, chosen.test_images, chosen.test_image_repeats)
        videos = video_design(
            chosen.seed,
            self._stimuli.images,
            chosen.train_videos,
            chosen.test_videos,
            chosen.train_video_repeats,
            chosen.test_video_repeats,
            first_session=int(images["session"].max()) + 1 if len(images) else 1,
        )
        return pd.concat([part for part in (images, videos) if len(part)], ignore_index=True)

    @property
    def _samples(self) -> pd.DataFrame:
        ids = self._ids[self._design["number"].to_numpy(dtype=int)]
        return self._design.assign(stimulus=ids)[list(base.SAMPLE_COLUMNS)]


def _stack(arrays: Iterator[np.ndarray], shape: tuple[int, ...]) -> np.ndarray:
    parts = list(arrays)
    return np.stack(parts) if parts else np.zeros((0, *shape), dtype=np.uint8)
