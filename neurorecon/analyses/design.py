"""What every analysis starts from: its settings, the selection of a subject, and the products of features.

Settings hold what the user asked for, and they decide the numbers: a command (or a function, from its keywords) makes
one object, which travels with the computation and goes into the record. A selection holds what the defaults became for
one subject. :class:`neurorecon.parallel.Compute` says who computes, and decides no number.
"""

from __future__ import annotations

import functools
import re
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, ParamSpec, TypeVar

import numpy as np
import pandas as pd

from neurorecon.decoders.samples import (
    SampleTable,
    choose_delays,
    choose_task,
    load_samples,
    same_order,
    stored_target,
)
from neurorecon.errors import BundledWeightsWarning, InputError, UnknownNameError
from neurorecon.provenance import bundled_weights
from neurorecon.stats.exchange import UNITS, Exchange, choose_exchange, lag_one_autocorrelation
from neurorecon.store.responses import WITHIN
from neurorecon.store.store import Store

#: Targets for each role, in order of preference; by default, the first one in the store is used. One target per role,
#: because two similar targets share variance, and neither wins. Gabor energy comes before latents, which hold contrast
#: energy with a sign, so that a linear model finds little of it (Kay et al., 2008, Nature).
ROLES: dict[str, tuple[str, ...]] = {
    "semantic": ("clip_image", "clip_vision", "category"),
    "structure": ("vqvae",),
    "low-level": ("gabor", "vdvae"),
    "motion": ("motion", "optical_flow"),
}

#: What can be held out as a whole in cross-validation.
GROUPS = ("run", "session", "stimulus")

#: What cross-validation of reconstructions can hold out.
LABELS = ("category", "stimulus", "session", "run")

#: How the pairs of reconstructions can be exchanged: freely, within one of three, or shifted within runs.
EXCHANGES = ("stimulus", "category", "session", "run", "shift")

#: Regularization strengths of decoding maps, times the number of voxels (voxels are standardized).
ALPHAS = tuple(float(value) for value in np.logspace(-2, 4, 13))

#: An ROI counts as part of a selection where at least this share of its voxels is in it.
SHARE_OF_ROI = 0.3

#: Sessions show different stimuli where more than this share of the stimuli is shown in one session only.
SHARE_IN_ONE_SESSION = 0.9

#: Presentations and features of each band that are read to see whether the order of stimuli is random.
PRESENTATIONS, SOME_FEATURES = 400, 256

#: Features are read and multiplied this many at a time, so that targets of any width fit into memory.
FEATURE_BLOCK = 4096


#: Most permutations or resamples: p-values of 1e-7, for which a null of one voxel takes 80 MB.
MOST_PERMUTATIONS = 10_000_000

_SPLITS = ("train", "test")


def load_all_samples(store: Store, subject: str, settings: EncodingSettings, task: str, voxels: slice) -> SampleTable:
    """Read the responses of some voxels in all splits into memory, for cross-validation.

    Repeats are averaged if stimuli are held out, but not if runs or sessions are.
    """
    if settings.cross_validate == "stimulus" and task in store.series(subject):
        raise InputError(
            "stimuli of a time series cannot be held out: their responses overlap",
            given=f"the task {task!r}, recorded as a time series",
            expected="runs or sessions to hold out",
            todo="cross-validate over runs: --cross-validate run",
        )
    trials = task not in store.series(subject)
    by_stimulus = settings.cross_validate == "stimulus" or (isinstance(settings.cross_validate, int) and trials)
    average: Any = "stimulus" if by_stimulus else None
    responses = store.responses(subject, settings.rois, task=task, average=average, delays=())
    return SampleTable.of(store, subject, task, responses, voxels)


def load_both(
    store: Store, selection: Selection, settings: EncodingSettings, voxels: slice
) -> tuple[SampleTable, SampleTable]:
    """Read the responses of some voxels in the training and the test samples into memory.

    Both splits lie in the same chunks of the store, which are read once if both splits are averaged in the same way.

    Parameters
    ----------
    store : Store
        Open.
    selection : Selection
        Which samples.
    settings : EncodingSettings
        Which ROIs.
    voxels : slice
        Which voxels of these.

    Returns
    -------
    train, test : SampleTable
    """
    subject, task = selection.subject, selection.task
    table = store.samples(subject)
    parts = [table[(table["split"] == split) & (table["task"] == task)] for split in _SPLITS]
    averages: list[Any] = ["stimulus" if not selection.series or same_order(part) else None for part in parts]
    if averages[0] != averages[1]:
        train, test = (load_samples(store, subject, settings.rois, split, task, voxels) for split in _SPLITS)
        return train, test
    responses = store.responses(subject, settings.rois, task=task, average=averages[0], delays=())
    values, splits = responses[:, voxels].values, responses["split"].values
    return (
        replace(selection.train, responses=values[splits == "train"]),
        replace(selection.test, responses=values[splits == "test"]),
    )


#: What a noise ceiling belongs to, in words.
_SCORED = {
    "test": "averages over the repeats of each test stimulus",
    "all": "averages over the repeats of each stimulus",
    "single": "single samples",
}


def scored_ceiling(
    store: Store, selection: Selection, settings: EncodingSettings
) -> tuple[np.ndarray | None, dict[str, str]]:
    """Return the noise ceiling of the very samples that are scored, (voxel,), and where it comes from, for the record.

    These are averages over repeats, or single samples where runs or sessions are held out, and in time series whose
    repeats show the stimuli in another order. None if it is not known.
    """
    task, held_out = selection.task, settings.cross_validate
    of: Literal["test", "all", "single"] = "single"
    if held_out is None:
        samples = store.samples(selection.subject)
        part = samples[(samples["split"] == "test") & (samples["task"] == task)]
        of = "test" if not selection.series or same_order(part) else "single"
    elif held_out not in ("run", "session") and not selection.series:
        of = "all"
    ceiling = store.noise_ceiling(selection.subject, settings.rois, task, of=of)
    about = store.about_ceilings(selection.subject).get(task, "none: no repeats")
    return ceiling, {"from": about} if ceiling is None else {"of": _SCORED[of], "from": about}


def default_bands(store: Store) -> list[str]:
    """Return the targets that are used by default: one for each of :data:`ROLES`, else all in the store."""
    known = store.targets_available
    players = [[name for name in candidates if name in known] for candidates in ROLES.values()]
    return [names[0] for names in players if names] or known


def choose_bands(
    store: Store, bands: Sequence[str] | None, subject: str | None = None, task: str | None = None
) -> list[str]:
    """Return the targets to use as bands.

    Parameters
    ----------
    store : Store
        Open.
    bands : sequence of str or None
        Those that the user asks for; None for the default ones.
    subject, task : str, optional
        Default bands that stimuli of this task lack are left out: images have no motion. Without a task, those of the
        first task of :meth:`Store.default_task` with any default bands: images come before videos, then the task with
        the most training stimuli.

    Returns
    -------
    list of str

    Raises
    ------
    InputError
        If the store holds no target, or the list is empty.
    UnknownNameError
        If the store does not hold a target of this name.
    """
    names = list(dict.fromkeys(_defaults_of(store, subject, task) if bands is None else bands))
    if not names:
        raise InputError(
            "there is nothing to predict from",
            given=f"the store {store.name!r}, targets: {', '.join(store.targets_available) or 'none'}",
            expected="at least one target",
            todo="compute one first: neurorecon features --target gabor (neurorecon features lists all), or add "
            "your own (nr.add_target)",
        )
    for name in names:
        store.target_stimuli(name)  # raises, with the names that exist
    warn_of_bundled(store, names)
    return names


def warn_of_bundled(store: Store, targets: Iterable[str]) -> None:
    """Warn where targets of measured data are those of networks that know drawn scenes only."""
    message = bundled_weights(store, {name: store.about_target(name)[1] for name in targets})
    if message is not None:
        warnings.warn(message, BundledWeightsWarning, stacklevel=3)


def _defaults_of(store: Store, subject: str | None, task: str | None) -> list[str]:
    names = default_bands(store)
    if subject is None:
        return names
    samples = store.samples(subject)
    for one in [task] if task is not None else [name for name, _ in store.rank_tasks(subject)]:
        shown = set(samples.loc[(samples["task"] == one) & (samples["split"] != ""), "stimulus"])
        defined = [name for name in names if shown <= set(store.target_stimuli(name).tolist())]
        if defined:
            return defined
    return names  # where none is left, the choice of the task says what is wrong


def grams(
    store: Store, bands: Sequence[str], train: Sequence[str], test: Sequence[str], *, standardize: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """Return the inner products of stimuli in the features of each band.

    Features are standardized by the training stimuli; features that do not vary there become 0. If a target has groups
    (latents of a VDVAE), the groups are weighted by :func:`feature_weights`. Features that are not standardized are
    centered only, and a feature of large variance counts for more. A band as a whole counts alike, as banded ridge
    scales its kernel.

    Parameters
    ----------
    store : Store
        With the targets.
    bands : sequence of str
        Their names.
    train, test : sequence of str
        Ids of stimuli.
    standardize : bool
        Divide each feature by its standard deviation over the training stimuli.

    Returns
    -------
    train_train : array, shape (band, train_stimulus, train_stimulus)
    test_train : array, shape (band, test_stimulus, train_stimulus)
    """
    within = np.zeros((len(bands), len(train), len(train)))
    across = np.zeros((len(bands), len(test), len(train)))
    for number, band in enumerate(bands):
        found = store.targets(band, stimuli=[*train, *test])
        values = found.data.reshape(len(found), -1)
        weight = feature_weights(found.attrs, values.shape[1])
        for start in range(0, values.shape[1], FEATURE_BLOCK):
            block = np.array(values[:, start : start + FEATURE_BLOCK], dtype=np.float64)
            # In place: a block of a wide target is as large as what is left of the processor's cache, many times over.
            block -= block[: len(train)].mean(axis=0)
            if standardize:
                spread = np.sqrt(np.square(block[: len(train)]).sum(axis=0) / len(train))
                block /= np.where(spread > 1e-8, spread, 1)
                block[:, ~(spread > 1e-8)] = 0
            block *= weight[start : start + FEATURE_BLOCK]
            within[number] += block[: len(train)] @ block[: len(train)].T
            across[number] += block[len(train) :] @ block[: len(train)].T
    return within, across


def feature_weights(attrs: Mapping[str, Any], features: int) -> np.ndarray:
    """Return the weights of standardized features, (feature,).

    Most latents of a VDVAE belong to its last groups, which hold texture. With equal weights, the first groups, which
    hold the layout, would add nearly nothing to the products. So every resolution gets the same total weight, into
    however many groups a network splits it. Latents at 1 x 1 get weight 0 beside others: they have no place in the
    image and may hold semantics, which do not belong in a low-level band.

    Parameters
    ----------
    attrs : mapping
        Of the target; ``group_boundaries`` says where each group begins and where the last one ends, ``group_shapes``
        (channel, y, x) which of them have the same resolution. Without shapes every group counts alike.
    features : int
        Number of features.
    """
    boundaries = attrs.get("group_boundaries")
    if boundaries is None or boundaries[-1] != features:
        return np.ones(features)
    sizes = np.diff(boundaries)
    sides = np.array([shape[-1] for shape in attrs.get("group_shapes", [])])
    if len(sides) != len(sizes):
        return np.repeat(1 / np.sqrt(sizes), sizes)
    _, resolution = np.unique(sides, return_inverse=True)
    weights = 1 / np.sqrt(np.bincount(resolution, weights=sizes)[resolution])
    if (sides > 1).any():
        weights[sides == 1] = 0.0
    return np.repeat(weights, sizes)


# -- settings ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Settings of every analysis; None leaves the choice to the analysis.

    Parameters
    ----------
    roi : str or sequence of str, optional
        As in :meth:`neurorecon.Store.responses`; by default all voxels.
    task : str, optional
        Which task; by default the one with the most stimuli that have what is needed.
    n_permutations, seed : int
        Of the null; the seed also of resampling.
    device : str
        Where regressions are solved.
    """

    roi: str | Iterable[str] | None = None
    task: str | None = None
    n_permutations: int = 1000
    seed: int = 0
    device: str = "cpu"

    def __post_init__(self) -> None:
        for part in fields(self):  # a list becomes a tuple, so that nobody changes it from outside
            value = getattr(self, part.name)
            if isinstance(value, Iterable) and not isinstance(value, str | Mapping):
                object.__setattr__(self, part.name, tuple(value))
        self._require_count("n_permutations")
        self._require("seed", 0 <= self.seed < 2**32, "a whole number from 0 to 4294967295, as NumPy takes", "0")
        if not re.fullmatch(r"cpu|torch|cuda(:\d+)?", self.device):  # before anything is read; who computes may have it
            raise UnknownNameError("device", self.device, ("cpu", "torch", "cuda", "cuda:N"))

    def _require_count(self, name: str) -> None:
        """Refuse a number of permutations or resamples that does not define a test."""
        sensible = 1 <= getattr(self, name) <= MOST_PERMUTATIONS
        self._require(name, sensible, f"a number from 1 to {MOST_PERMUTATIONS:,}", "1000")

    def _require_rate(self, name: str) -> None:
        """Refuse a rate that is none."""
        self._require(
            name, 0 < getattr(self, name) < 1, "above 0 and below 1", "0.95" if name == "confidence" else "0.05"
        )

    def _require(self, name: str, sensible: bool, expected: str, usual: str) -> None:
        if not sensible:
            raise InputError(
                f"{name} is out of range",
                given=f"{name}={getattr(self, name)}",
                expected=expected,
                todo=f"leave it out, or start from {usual}",
            )

    @property
    def rois(self) -> str | list[str] | None:
        """The ROIs as :meth:`neurorecon.Store.responses` takes them."""
        return self.roi if self.roi is None or isinstance(self.roi, str) else list(self.roi)

    def record(self) -> dict[str, Any]:
        """Return the settings by name, JSON types only."""
        found = {part.name: getattr(self, part.name) for part in fields(self)}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in found.items()}


@dataclass(frozen=True, kw_only=True)
class EncodingSettings(Settings):
    """Settings of encoding maps and of variance partitioning.

    Parameters
    ----------
    bands : sequence of str, optional
        Targets of the store, one band each; by default one for each of :data:`ROLES`.
    delays : sequence of int, optional
        Of the features in samples, for time series; by default those of 2 to 8 s.
    fdr : float
        False discovery rate of the mask.
    null : {"order", "refit"}
        ``"order"``: what is held out trades places, and the model stays. ``"refit"``: the training stimuli
        (stretches of a time series) trade places, and each time alpha is chosen and the model is fitted again.
    exchange : {"stimulus", "session", "run", "shift"}, optional
        What trades places; by default what the design allows, see :func:`neurorecon.stats.exchange.choose_exchange`.
    cross_validate : {"run", "session", "stimulus"} or int, optional
        Hold out one group of samples at a time and predict all samples, rather than the test split. A number holds out
        that many parts of the stimuli of trials, or of the runs of a time series.
    partition : bool
        Also fit every combination of bands, and partition R2 over them.
    n_bootstraps : int
        Resamples of the held-out samples behind the intervals of ROIs.
    confidence : float
        Coverage of these intervals.
    voxel_block : int, optional
        Voxels of a block; by default by the number of samples.
    standardize_features : bool
        Standardize each feature by the training stimuli. Otherwise features keep their relative scale within a band.
    """

    bands: Sequence[str] | None = None
    delays: Sequence[int] | None = None
    fdr: float = 0.05
    null: Literal["order", "refit"] = "order"
    exchange: str | None = None
    cross_validate: Literal["run", "session", "stimulus"] | int | None = None
    partition: bool = False
    n_bootstraps: int = 2000
    confidence: float = 0.95
    voxel_block: int | None = None
    standardize_features: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require_rate("fdr")
        self._require_rate("confidence")
        self._require_count("n_bootstraps")
        if self.null not in ("order", "refit"):
            raise UnknownNameError("null", self.null, ("order", "refit"))
        if self.exchange is not None and self.exchange not in UNITS:
            raise UnknownNameError("unit of exchange", self.exchange, UNITS)
        if self.exchange is not None and self.null == "refit":
            raise InputError(
                "a refit trades training stimuli (runs of a time series), so there is nothing to choose",
                given=f"exchange={self.exchange!r}, null='refit'",
                expected="one of the two",
                todo="leave one of them out",
            )
        if isinstance(self.cross_validate, int) and self.cross_validate < 2:
            raise InputError("cross-validation needs two folds or more", given=f"{self.cross_validate} folds")
        if not isinstance(self.cross_validate, int | None) and self.cross_validate not in GROUPS:
            raise UnknownNameError("way to cross-validate", self.cross_validate, (*GROUPS, "a number of folds"))
        if self.cross_validate is not None and (self.null == "refit" or self.partition):
            raise InputError(
                "cross-validated maps are tested by the order of the held-out stimuli, and cannot be partitioned",
                given=f"cross_validate={self.cross_validate!r}, null={self.null!r}, partition={self.partition}",
                expected="cross-validation alone, or refits and partitions with a training and a test split",
                todo="leave one of them out",
            )
        if self.voxel_block is not None and self.voxel_block < 1:
            raise InputError("voxel_block is a number of 1 or more", given=self.voxel_block)


@dataclass(frozen=True, kw_only=True)
class DecodingSettings(Settings):
    """Settings of decoding maps.

    Parameters
    ----------
    targets : sequence of str, optional
        Targets of the store, a decoder each; by default one for each of :data:`ROLES`.
    pattern : {"weights", "haufe"}
        What is mapped: the decoder's weights, or the patterns that go with them.
    fdr : float
        False discovery rate of the mask.
    alphas : sequence of float
        Regularization strengths tried, times the number of voxels.
    exchange : {"stimulus", "session", "run", "shift"}, optional
        What trades places in the null; by default what the design allows, see
        :func:`neurorecon.stats.exchange.choose_exchange`.
    """

    targets: Sequence[str] | None = None
    pattern: Literal["weights", "haufe"] = "weights"
    fdr: float = 0.05
    alphas: Sequence[float] = ALPHAS
    exchange: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require_rate("fdr")
        if self.exchange is not None and self.exchange not in UNITS:
            raise UnknownNameError("unit of exchange", self.exchange, UNITS)
        if self.pattern not in ("weights", "haufe"):
            raise UnknownNameError("pattern", self.pattern, ("weights", "haufe"))


@dataclass(frozen=True, kw_only=True)
class CenteredSettings(Settings):
    """Settings of analyses that decode responses which can be centered and scaled.

    Parameters
    ----------
    center, scale : {"auto", "session", "run"}, optional
        Subtract the mean, and divide by the standard deviation, of each voxel within sessions or runs; None: not at
        all. By default by session where sessions are confounded, see
        :func:`neurorecon.store.responses.choose_centering`.
    """

    center: Literal["auto", "session", "run"] | None = "auto"
    scale: Literal["auto", "session", "run"] | None = "auto"

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in (self.center, self.scale):
            if name not in (None, "auto", *WITHIN):
                raise UnknownNameError("column to center or scale within", name, (*WITHIN, "auto", "None"))


@dataclass(frozen=True, kw_only=True)
class ClassifySettings(CenteredSettings):
    """Settings of the classification of categories; `center` and `scale` as for :class:`CenteredSettings`.

    Parameters
    ----------
    categories : sequence of str, optional
        At least two; by default all that the task shows.
    cross_validate : {"run", "session", "stimulus"}
        What is held out as a whole, one at a time.
    C : float
        Of the support vector machine.
    fdr : float
        False discovery rate of the map.
    """

    categories: Sequence[str] | None = None
    cross_validate: Literal["run", "session", "stimulus"] = "run"
    C: float = 1.0
    fdr: float = 0.05

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require_rate("fdr")
        self._require("C", 0 < self.C < np.inf, "a number above 0", "1")
        if self.cross_validate not in GROUPS:
            raise UnknownNameError("column to cross-validate over", self.cross_validate, GROUPS)


@dataclass(frozen=True, kw_only=True)
class ReconstructSettings(CenteredSettings):
    """Settings of a reconstruction; `center` and `scale` as for :class:`CenteredSettings`.

    Parameters
    ----------
    system : str
        A registered name, or the folder of a saved system.
    options : mapping
        Parameters of the system.
    metrics : sequence of str, optional
        Scores to compute; by default those of the system, else those of the registry.
    cross_validate : {"category", "stimulus", "session", "run"}, optional
        Hold out one value of this at a time, rather than reconstruct the test split.
    exchange : {"stimulus", "category", "session", "run", "shift"}, optional
        How the pairs of the null are exchanged: freely, only within a category, session or run, or by shifting the
        order of stimuli within runs. By default what the design allows.
    single_trials : bool
        Reconstruct each trial of the test split, rather than the mean response to each stimulus.
    seeds : int
        Generate with the seeds `seed`, `seed` + 1, ..., and average the scores of each stimulus over them.
    controls : bool, optional
        Also score what the system reconstructs without the response to the stimulus; by default where networks
        generate.
    models : {"bundled", "published"} or path, optional
        Networks of the system and of the metrics; by default those of the system.
    n_stimuli : int, optional
        Of each test split, at most so many stimuli, spread evenly over categories.
    train_sessions : int, optional
        Train on the first so many sessions that have training samples; by default on all.
    """

    system: str = "linear-pixels"
    options: Mapping[str, Any] = field(default_factory=dict)
    metrics: Sequence[str] | None = None
    cross_validate: str | None = None
    exchange: str | None = None
    single_trials: bool = False
    seeds: int = 1
    controls: bool | None = None
    models: str | None = None
    n_stimuli: int | None = None
    train_sessions: int | None = None

    @property
    def asked_models(self) -> str | None:
        """The networks that were asked for by name, if any."""
        return self.models if self.models is not None else self.options.get("models")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.cross_validate is not None and self.cross_validate not in LABELS:
            raise UnknownNameError("column to cross-validate over", self.cross_validate, LABELS)
        _check_exchange(self.exchange)
        self._require("seeds", self.seeds >= 1, "a number of 1 or more", "4")
        if self.n_stimuli is not None:
            self._require("n_stimuli", self.n_stimuli >= 2, "a number of 2 or more", "100")
        if self.train_sessions is not None:
            self._require("train_sessions", self.train_sessions >= 1, "a number of 1 or more", "1")
        if self.controls and (self.single_trials or self.cross_validate is not None):
            raise InputError(
                "controls are compared with reconstructions of averaged test responses",
                given=f"controls=True, single_trials={self.single_trials}, cross_validate={self.cross_validate!r}",
                expected="controls, or one of the others",
                todo="leave one of them out",
            )
        if self.cross_validate is not None and (self.n_stimuli is not None or self.train_sessions is not None):
            raise InputError(
                "cross-validation uses all stimuli",
                given=f"n_stimuli={self.n_stimuli}, train_sessions={self.train_sessions}, "
                f"cross_validate={self.cross_validate!r}",
                expected="one of the two",
                todo="leave one of them out",
            )
        if self.cross_validate is not None and self.single_trials:
            raise InputError(
                "single trials are those of the test split",
                given=f"single_trials=True, cross_validate={self.cross_validate!r}",
                expected="one of the two: in cross-validation, the system says whether single trials are reconstructed",
                todo="leave one of them out",
            )


@dataclass(frozen=True, kw_only=True)
class EvaluateSettings(Settings):
    """Settings of scores of images from anywhere; `roi` and `task` have no meaning here.

    Parameters
    ----------
    source : str
        Where the images come from, in words.
    metrics : sequence of str, optional
        Scores to compute; by default those of the registry.
    exchange : {"stimulus", "category", "session", "run", "shift"}, optional
        How the pairs of the null are exchanged: freely, only within a category, session or run, or by shifting the
        order of stimuli within runs. By default what the design allows.
    subject : str, optional
        Whose sessions or runs; by default the first.
    baseline : {"train"}, optional
        Also score the mean of the training stimuli.
    models : {"bundled", "published"} or path, optional
        Whose weights metrics on networks use; their networks run on `device`.
    """

    source: str = "an array"
    metrics: Sequence[str] | None = None
    exchange: str | None = None
    subject: str | None = None
    baseline: Literal["train"] | None = None
    models: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_exchange(self.exchange)
        if self.baseline not in (None, "train"):
            raise UnknownNameError("baseline", self.baseline, ["train"])

    def record(self) -> dict[str, Any]:
        """Return the settings by name, JSON types only."""
        return {name: value for name, value in super().record().items() if name not in ("roi", "task")}


def _check_exchange(column: str | None) -> None:
    if column is not None and column not in EXCHANGES:
        raise UnknownNameError("way to exchange pairs", column, EXCHANGES)


_P = ParamSpec("_P")
_R = TypeVar("_R")


def renamed_keywords(**names: str) -> Callable[[Callable[_P, _R]], Callable[_P, _R]]:
    """Let a function take keywords by their former names, with a warning.

    Parameters
    ----------
    **names : str
        The new name, by the former one.
    """

    def decorate(function: Callable[_P, _R]) -> Callable[_P, _R]:
        @functools.wraps(function)
        def call(*args: _P.args, **kwargs: _P.kwargs) -> _R:
            for old in names.keys() & kwargs.keys():
                message = f"{function.__name__}({old}=) is deprecated; use {names[old]}="
                warnings.warn(message, DeprecationWarning, stacklevel=2)
                kwargs[names[old]] = kwargs.pop(old)
            return function(*args, **kwargs)

        return call

    return decorate


# -- what the settings choose for a subject ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Selection:
    """What the settings of an encoding model choose for one subject; computed once, it travels with them.

    Parameters
    ----------
    subject, task : str
        Whose responses, to what.
    bands : tuple of str
        Targets, one band each.
    delays : tuple of int
        Of the features, in samples.
    seconds : float
        Between the samples of a time series; 0 for trials.
    voxels : int
        Voxels of the selection.
    train, test : SampleTable
        The samples, without responses. In cross-validation, `train` has all samples of the task, and `test` none.
    exchange : Exchange
        What trades places in the null, and why.
    held : int array, shape (sample,), optional
        In cross-validation, which samples are held out together.
    """

    subject: str
    task: str
    bands: tuple[str, ...]
    delays: tuple[int, ...]
    seconds: float
    voxels: int
    train: SampleTable
    test: SampleTable
    exchange: Exchange
    held: np.ndarray | None = None

    @property
    def series(self) -> bool:
        """Whether the samples are a time series."""
        return self.seconds > 0

    @property
    def scored(self) -> SampleTable:
        """The samples that are scored: those of the test split, or all in cross-validation."""
        return self.test if self.held is None else self.train


def select(store: Store, subject: str, settings: EncodingSettings) -> Selection:
    """Return what the settings choose for a subject.

    Parameters
    ----------
    store : Store
        Open.
    subject : str
        Its name.
    settings : EncodingSettings
        What the user asked for.

    Raises
    ------
    UnknownNameError, InputError
        If a name does not exist, or the store lacks stimuli, samples or targets.
    """
    voxels = len(store.voxels(subject, settings.rois))
    bands = choose_bands(store, settings.bands, subject, settings.task)
    task = choose_task(store, subject, bands, settings.task)
    seconds = store.series(subject).get(task, 0.0)
    held = None
    if settings.cross_validate is None:
        require_test(store, subject, task)
        if seconds and store.split_column is not None and (mixed := store.mixed_runs(subject, task)):
            raise InputError(
                "encoding maps of a time series need runs that are trained on or tested as a whole",
                given=f"{mixed} runs of the task {task!r} with stimuli of several splits ({store.split_column})",
                expected="whole runs in one split: the model of a volume needs the stimuli before it",
                todo="leave --split-column out, choose a task of trials, or cross-validate: --cross-validate run",
            )
        train, test = (load_samples(store, subject, settings.rois, split, task, slice(0, 0)) for split in _SPLITS)
    else:
        train = load_all_samples(store, subject, settings, task, slice(0, 0))
        test = replace(train, responses=train.responses[:0], shown=train.shown[:0], runs=train.runs[:0],
                       stimuli=[], volumes=None, sessions=None, times=None)  # fmt: skip
        held = _held_together(train, settings.cross_validate, seconds > 0)
    delays = choose_delays(store, subject, task, settings.delays)
    exchange = _exchange(store, subject, task, bands, settings, test if held is None else train)
    # What travels to workers is small: the tables stay behind.
    train, test = (replace(part, table=pd.DataFrame()) for part in (train, test))
    return Selection(subject, task, tuple(bands), delays, seconds, voxels, train, test, exchange, held)


def _exchange(
    store: Store, subject: str, task: str, bands: Sequence[str], settings: EncodingSettings, scored: SampleTable
) -> Exchange:
    """Return what trades places in the null of an encoding map, chosen from the design."""
    samples = in_time(store.samples(subject).query("task == @task and split != ''"))
    held_out = samples if settings.cross_validate is not None else samples[samples["split"] == "test"]
    runs = [set(zip(part["session"], part["run"], strict=True)) for _, part in samples.groupby("split", sort=False)]
    series = task in store.series(subject)
    if series and (settings.exchange == "session" or (settings.exchange == "stimulus" and settings.cross_validate)):
        raise InputError(
            "the volumes of a time series do not trade places one by one: they overlap",
            given=f"exchange={settings.exchange!r} for the task {task!r}, recorded as a time series",
            expected="'shift' or 'run'; 'stimulus' where a test split is predicted",
            todo="leave it out: by default each run is shifted in a circle",
        )
    by_stimulus = settings.cross_validate == "stimulus" or (isinstance(settings.cross_validate, int) and not series)
    shared = by_stimulus or (settings.cross_validate is None and bool(set.intersection(*runs)))
    # Presentations of all splits, in the runs that have held-out samples: what is held out has neighbors in both.
    presented = samples[np.isin(runs_of(samples), runs_of(samples)[samples.index.isin(held_out.index)])]
    return choose_exchange(
        settings.exchange,
        series=series,
        stimuli=scored.shown,
        runs=scored.runs,
        sessions=scored.table["session"].to_numpy(),
        fixed_order=same_order(held_out),
        autocorrelation=order_of_features(store, bands, presented),
        confounded=sessions_differ(held_out),
        shared_runs=shared,
    )


def in_time(samples: pd.DataFrame) -> pd.DataFrame:
    """Return samples in the order in which they were recorded; as they are where times are not known."""
    if not np.isfinite(samples["time"].to_numpy(dtype=float)).all():
        return samples
    return samples.sort_values(["session", "run", "time"], kind="stable")


def runs_of(samples: pd.DataFrame) -> np.ndarray:
    """Return a number for the run of each sample, (sample,)."""
    return samples.groupby(["session", "run"], sort=False).ngroup().to_numpy()


def sessions_differ(samples: pd.DataFrame) -> bool:
    """Return whether sessions show different stimuli: hardly any stimulus is shown in two."""
    return bool((samples.groupby("stimulus")["session"].nunique() == 1).mean() > SHARE_IN_ONE_SESSION)


def order_of_features(store: Store, targets: Sequence[str], presented: pd.DataFrame) -> tuple[float, float] | None:
    """Return the lag-1 autocorrelation of targets in the order of presentation, and its limit in random orders.

    Parameters
    ----------
    store : Store
        With the targets, or with images or frames (``"images"``, ``"frames"``).
    targets : sequence of str
        Their names.
    presented : DataFrame
        Samples; of the first :data:`PRESENTATIONS` some features are read.

    Returns
    -------
    observed, limit : float
        From :func:`neurorecon.stats.exchange.lag_one_autocorrelation`; None if it is not known what was shown when.
    """
    if not np.isfinite(presented["time"].to_numpy(dtype=float)).all():
        return None
    ordered = in_time(presented).iloc[:PRESENTATIONS]
    codes, stimuli = pd.factorize(ordered["stimulus"])
    features = []
    for target in targets:
        values = stored_target(store, target, [str(name) for name in stimuli]).data.reshape(len(stimuli), -1)
        features.append(np.asarray(values[:, :: max(1, values.shape[1] // SOME_FEATURES)], dtype=np.float64))
    return lag_one_autocorrelation(np.concatenate(features, axis=1), codes, runs_of(ordered))


def _held_together(samples: SampleTable, column: str | int, series: bool) -> np.ndarray:
    """Return which samples are held out together, (sample,)."""
    if isinstance(column, int):
        column = "run" if series else "stimulus"
    if column == "session":
        held = pd.factorize(samples.table["session"])[0]
    else:
        held = samples.runs if column == "run" else samples.shown
    if len(np.unique(held)) < 2:
        raise InputError(
            "there are too few groups to hold one out",
            given=f"samples of one {column} only",
            expected=f"two {column}s or more" if column != "stimulus" else "two stimuli or more",
            todo=f"cross-validate over another column: {', '.join(name for name in GROUPS if name != column)}",
        )
    return held


def require_test(store: Store, subject: str, task: str) -> None:
    """Refuse a task without held-out stimuli."""
    samples = store.samples(subject)
    splits = set(samples.loc[samples["task"] == task, "split"])
    if not {"train", "test"} <= splits:
        raise InputError(
            f"maps need held-out stimuli, and the task {task!r} has none",
            given=f"splits: {', '.join(sorted(splits))}",
            expected="a split 'train' and a split 'test'",
            todo="cross-validate: --cross-validate run (or session, stimulus)",
        )


def covered_rois(store: Store, subject: str, table: pd.DataFrame) -> dict[str, np.ndarray]:
    """Return the ROIs that a selection of voxels covers, bool arrays over the selection.

    Parameters
    ----------
    store : Store
        Open.
    subject : str
        Whose.
    table : DataFrame
        The voxels of the selection, from :meth:`neurorecon.Store.voxels`.
    """
    masks = {name: mask[table.index.to_numpy()] for name, mask in store.roi_masks(subject).items()}
    whole = store.rois(subject)
    return {name: mask for name, mask in masks.items() if mask.sum() >= SHARE_OF_ROI * max(1, whole[name])}
