"""Is it the brain or the generator? An audit of reconstructions.

A reconstruction can score well without a brain: generators make plausible images, test images resemble training images,
and naming the category is half of what many metrics ask for. An audit puts every score beside what is reached with
less, and says what is left:

- two permutation nulls: reconstructions trade places freely, or only with those of the same category;
- baselines, from the mean response to the training image whose targets are most like what was decoded, compared
  stimulus by stimulus (:data:`~neurorecon.analyses.audit_result.BASELINES`);
- stages, of a system that is refined by the response: without it, by chance, by the response to another stimulus
  (:data:`~neurorecon.analyses.audit_result.STAGES`);
- limits: the true targets in place of the decoded ones, and the agreement of reconstructions from different repeats;
- the same on harder splits: other sessions, held-out clusters, stimuli far from training, a category left out.

Reconstructions of stimuli that were in the training data are refused.
"""

from __future__ import annotations

import copy
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from sklearn.base import clone
from tqdm import tqdm

from neurorecon.analyses.audit_result import BASELINES, NULLS, Audit, pooled, tables_of
from neurorecon.analyses.controls import MEAN_RESPONSE, decoded_control, derangement, true_targets
from neurorecon.analyses.cross_validation import shown_by
from neurorecon.analyses.design import ReconstructSettings
from neurorecon.analyses.evaluate import (
    check_images,
    choose_metrics,
    context_of,
    exchange_orders,
    require_frames,
    require_same_split,
    weights_of,
)
from neurorecon.analyses.reconstruct import Job, prepare, some_stimuli, system_of
from neurorecon.analyses.results import Score, exchange_record, plain_parameter
from neurorecon.decoders.samples import Recordings, choose_shown_task, stored_target
from neurorecon.errors import InputError, NeuroreconWarning, UnknownNameError
from neurorecon.metrics.base import Metric, mean_of_defined, summarize
from neurorecon.metrics.image import as_unit_float, center_and_scale, resized
from neurorecon.metrics.networks import CategoryProbe
from neurorecon.parallel import Compute
from neurorecon.stats import stimulus_permutations
from neurorecon.stats.exchange import Exchange
from neurorecon.store.leaks import SAME, small_gray
from neurorecon.store.store import Store
from neurorecon.systems.base import System, load_system
from neurorecon.systems.decoded import RESPONSES, Decoded
from neurorecon.systems.generation import generate_parts, networks_of

if TYPE_CHECKING:
    import xarray

#: Metrics by default: without networks, with networks that judge drawn scenes, and with those that judge photographs.
METRICS = ("pixcorr", "ssim_gray2d", "two_way")
METRICS_OF_SCENES = ("two_way_clip", "two_way_probe", "probe")
METRICS_OF_PHOTOGRAPHS = ("two_way_alexnet2", "two_way_alexnet5", "two_way_inception", "two_way_clip")

#: Stimuli that the figure of images shows, in a row for each baseline.
_SHOWN = 10

#: Training stimuli that are compared at a time.
_BLOCK = 256


@dataclass(frozen=True, kw_only=True)
class AuditSettings(ReconstructSettings):
    """Settings of an audit; those of :class:`ReconstructSettings` say what is reconstructed.

    Parameters
    ----------
    splits : tuple of str, optional
        Split columns of the store, or their names without number (``"cluster_k5"`` for all five folds), beside the
        split that the store is open with. By default all that the store has.
    n_refits : int
        Also refit the system so many times on re-paired training data, and as often within categories; 0: not at all.
    n_bootstraps : int
        Of intervals and paired differences.
    level : float
        Confidence level; 1 minus it is the level of the tests in the verdicts.
    source : str
        Where images come from that no system of ours reconstructed; empty for systems.
    """

    splits: tuple[str, ...] | None = None
    n_refits: int = 0
    n_bootstraps: int = 10_000
    level: float = 0.95
    source: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require_count("n_bootstraps")
        self._require_rate("level")
        self._require("n_refits", self.n_refits >= 0, "a number of 0 or more", "99")


# -- the scores of one split ------------------------------------------------------------------------------------------


@dataclass
class Part:
    """The scores of the stimuli of one split; rows are added one by one, because images of all may not fit."""

    split: str
    stimuli: list[str]
    seen: np.ndarray
    metrics: Mapping[str, Metric]
    context: Mapping[str, Any]
    orders: np.ndarray
    exchange: Exchange
    matched: np.ndarray | None
    distance: np.ndarray
    distance_of: str
    missing: dict[str, str] = field(default_factory=dict)
    values: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)
    nulls: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)
    shown: dict[str, np.ndarray] = field(default_factory=dict)
    picked: np.ndarray | None = None
    changes: float = np.nan

    def add(self, row: str, images: np.ndarray, *, audited: bool = False) -> None:
        """Score images, shape (stimulus, seed, [frame,] y, x, rgb); means over seeds.

        The audited images come first: their scores choose what is shown, and they alone are compared with nulls.
        """
        size = self.seen.shape[-3:-1]
        seeds = [resized(images[:, seed], size) for seed in range(images.shape[1])]
        self.values[row] = {}
        for name, metric in self.metrics.items():
            found = [metric.values(self.seen, one, self.context) for one in seeds]
            self.values[row][name] = mean_of_defined(np.stack(found))
            if not audited or not found[0].ndim:
                continue
            for null, orders in zip(NULLS[:2], (self.orders, self.matched), strict=True):
                if orders is not None:
                    drawn = [metric.null(self.seen, one, orders, self.context) for one in seeds]
                    self.nulls.setdefault(null, {})[name] = np.mean(drawn, axis=0)
        if audited:
            self.picked = self._pick(next(iter(self.metrics)), self.values[row])
            self.shown["seen"] = self.seen[self.picked]
        assert self.picked is not None, "the audited images come first"
        self.shown[row] = as_unit_float(seeds[0][self.picked]).astype(np.float32)

    def _pick(self, metric: str, values: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return stimuli from the best to the worst, evenly spaced."""
        found = values[metric] if values[metric].ndim else np.zeros(len(self.stimuli))
        better = found if self.metrics[metric].higher_is_better else -found
        order = np.argsort(-np.nan_to_num(better, nan=-np.inf), kind="stable")
        return np.asarray(order[np.unique(np.linspace(0, len(order) - 1, min(_SHOWN, len(order))).round().astype(int))])

    def add_halves(self, one: np.ndarray, other: np.ndarray, rows: np.ndarray) -> None:
        """Score reconstructions from two halves of the repeats against each other, in both directions."""
        size = self.seen.shape[-3:-1]
        halves = [resized(images, size) for images in (one, other)]
        found: dict[str, np.ndarray] = {}
        for name, metric in self.metrics.items():
            if metric.needs:  # e.g. the category: nothing that one reconstruction could have of another
                continue
            both = [metric.values(halves[0], halves[1]), metric.values(halves[1], halves[0])]
            if both[0].ndim:
                found[name] = np.full(len(self.stimuli), np.nan)
                found[name][rows] = mean_of_defined(np.stack(both))
        self.values["half against half"] = found


def _begin(
    split: str, store: Store, subject: str, task: str, ids: list[str], shown: str, metrics: Mapping[str, Metric],
    settings: AuditSettings, *, shared_runs: bool = False,
) -> Part:  # fmt: skip
    """Return the part of a split, without rows."""
    orders, exchange = exchange_orders(store, subject, ids, settings, shown, shared_runs=shared_runs)
    missing: dict[str, str] = {}
    categories = _categories(store, ids)
    matched = None
    if categories is None:
        missing["category-matched null"] = missing["same category"] = "the store has no categories"
    elif pd.Series(categories).value_counts().max() < 2:
        missing["category-matched null"] = "no two test stimuli have the same category"
    else:
        matched = stimulus_permutations(len(ids), settings.n_permutations, settings.seed, categories)
    train = _training_stimuli(store, subject, task)
    distance, of = _distances(store, ids, train, shown)
    seen = np.asarray(stored_target(store, shown, ids).values, dtype=np.float32)
    return Part(
        split, ids, seen, metrics, context_of(store, ids), orders, exchange, matched, distance, of, missing
    )  # fmt: skip


def _categories(store: Store, ids: Sequence[str]) -> np.ndarray | None:
    """Return the category of each stimulus; None unless all have one."""
    found = store.stimuli.set_index("id")["category"].loc[list(ids)].to_numpy(str)
    return found if (found != "").all() else None


def _training_stimuli(store: Store, subject: str, task: str) -> list[str]:
    """Return the training stimuli of a subject."""
    samples = store.samples(subject)
    rows = samples[(samples["task"] == task) & (samples["split"] == "train")]
    return rows["stimulus"].drop_duplicates().astype(str).tolist()


def _distances(store: Store, ids: Sequence[str], train: Sequence[str], shown: str) -> tuple[np.ndarray, str]:
    """Return the distance of each stimulus to the nearest training stimulus, and of what: 1 - cosine, or 1 - r."""
    if not train:
        return np.full(len(ids), np.nan), ""
    source = "clip_image" if "clip_image" in store.targets_available else shown
    if source == "clip_image" and not {*ids, *train} <= store.stimuli_with(source):
        source = shown
    unit = _directions if source == "clip_image" else center_and_scale
    own = unit(stored_target(store, source, ids).values.reshape(len(ids), -1))
    nearest = np.full(len(ids), -np.inf)
    for start in range(0, len(train), _BLOCK):
        block = stored_target(store, source, train[start : start + _BLOCK])
        other = unit(np.asarray(block.values).reshape(len(block), -1))
        nearest = np.fmax(nearest, np.nanmax(np.nan_to_num(own @ other.T, nan=-1.0), axis=1))
    return 1.0 - nearest, "CLIP embeddings" if source == "clip_image" else "pixels"


def _directions(values: np.ndarray) -> np.ndarray:
    """Return rows of length 1, float64."""
    rows = np.asarray(values, dtype=np.float64)
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), np.finfo(float).tiny)


# -- systems ----------------------------------------------------------------------------------------------------------


def _refuse_leaks(store: Store, system: System | None, ids: Sequence[str], task: str, subject: str) -> None:
    """Refuse test stimuli that the system was trained on, or that are training stimuli under another id."""
    trained = getattr(system, "training_stimuli_", None)
    both = sorted(set(ids) & set(trained or ()))
    if both:
        raise InputError(
            f"{len(both)} of {len(ids)} test stimuli were in the training data of this system",
            given=", ".join(both[:5]),
            expected="test stimuli that it has not seen; scores on others say nothing",
            todo="fit it on the training split: neurorecon fit",
        )
    leaks = [text for text in store.cautions(subject, task, centered=True) if "under another id" in text]
    if leaks:
        raise InputError(
            "an audit needs test stimuli that are not in the training split",
            given="; ".join(leaks),
            expected="different stimuli in both splits",
            todo="leave them out of one of the splits, and build the store again",
        )


def _part_of_system(job: Job, split: str, *, everything: bool) -> Part:
    """Reconstruct the test stimuli of a split and its baselines, and score them."""
    settings: Any = job.settings
    store, subject, system = job.store, job.subject, job.system
    shown = shown_by(system)
    train, test = job.training(), job.read(split="test")
    test = test.take(some_stimuli(store, test.stimuli, settings.n_stimuli))
    ids = test.stimuli.tolist()
    if len(ids) < 2:
        raise InputError(
            f"the split {split!r} has too few test stimuli",
            given=f"{len(ids)} test stimuli of {subject}",
            expected="two or more",
            todo="choose another split, or a larger --stimuli",
        )
    _refuse_leaks(store, system, ids, job.task, subject)
    samples = store.samples(subject)
    samples = samples[samples["task"] == job.task]
    runs = [
        set(zip(rows["session"], rows["run"], strict=True))
        for _, rows in samples[samples["split"].isin(["train", "test"])].groupby("split")
    ]
    part = _begin(
        split, store, subject, job.task, ids, shown, job.metrics, settings,
        shared_runs=len(runs) == 2 and bool(set.intersection(*runs)),
    )  # fmt: skip
    halves = _halves(job, samples, ids) if everything else {}
    if everything and not halves:
        part.missing["half against half"] = "no test stimulus has repeats"
    decoded = _decode(job, train, test, halves)
    seed, own = settings.seed, decoded["own"]
    made = generate_parts(system, own, job.seeds, job.compute, label=f"{split}: reconstructions")
    _refuse_copies(part, made)
    part.add(system.name, made, audited=True)

    def generate(row: str, control: Decoded) -> np.ndarray:
        return generate_parts(system, control, (seed,), job.compute, label=f"{split}: {row}")

    if system.carries_responses:
        part.add("unrefined", generate("unrefined", own.drop(RESPONSES)))
        if "rank" in system.get_params():
            chance = copy.copy(system).set_params(rank="random")
            part.add("random choice", generate_parts(chance, own, (seed,), job.compute, label=f"{split}: random"))
        another = own.permute(RESPONSES, derangement(len(ids), seed))
        part.add("response of another", generate("response of another", another))
    mean = np.asarray(train.target(shown).data.mean(axis=0, dtype=np.float32), dtype=np.float32)
    part.add("mean training image", np.broadcast_to(mean, part.seen.shape)[:, None])
    both = decoded["with mean"]
    for row in ("mean response", "another trial"):
        images = generate(row, decoded_control(row, system, store, both, seed))
        part.add(row, images)
    part.changes = _changes(made[:, 0], images[:, 0], derangement(len(ids), seed))
    known = train.table["stimulus"].drop_duplicates().astype(str).tolist()
    _add_same_category(part, store, known, shown, seed)
    nearest = nearest_training(system, own, store, known)
    part.add("nearest training image", stored_target(store, shown, nearest).values.astype(np.float32)[:, None])
    part.add("its reconstruction", generate("its reconstruction", true_targets(system, store, nearest).relabeled(ids)))
    if system.name != "linear-pixels":
        if shown == "images":
            part.add("linear-pixels", _linear(store, subject, train, test, job.compute))
        else:
            part.missing["linear-pixels"] = "it reconstructs images, not videos"
    if everything:
        _add_refits(part, job, train, test)
        part.add("oracle", generate("oracle", decoded_control("oracle", system, store, both, seed)))
    if halves:
        rows = np.array([ids.index(name) for name in halves["first half"].stimuli])
        one, other = (generate(name, decoded[name].relabeled(np.array(ids)[rows]))[:, 0] for name in halves)
        part.add_halves(one, other, rows)
    return part


def _add_refits(part: Part, job: Job, train: Recordings, test: Recordings) -> None:
    """Add the nulls of systems that are fitted on re-paired training data, freely and within categories.

    Exchanging test pairs asks whether images depend on the response. Those of a decoder that was fitted on wrong pairs
    do: it is a fixed function of real responses, and by chance a good or a bad one. Whether the pairing was learned,
    only refits can say.
    """
    settings: Any = job.settings
    stimuli = train.table["stimulus"].astype(str)
    unique = stimuli.drop_duplicates().to_numpy()
    categories = _categories(job.store, unique.tolist())
    for null, within in ((NULLS[2], None), (NULLS[3], categories)):
        if not settings.n_refits:
            part.missing[null] = "it takes fits on re-paired training data, and images of each: --refits 99"
        elif null == NULLS[3] and within is None:
            part.missing[null] = "the store has no categories"
        else:
            drawn: dict[str, list[float]] = {}
            orders = stimulus_permutations(len(unique), settings.n_refits, settings.seed, within)
            for order in tqdm(orders, desc=null, unit="fit", disable=not job.compute.progress, leave=False):
                names = stimuli.map(dict(zip(unique, unique[order], strict=True))).to_numpy(str)
                paired = train.showing(names, within=None if within is None else "category")
                system, quiet = clone(job.system), replace(job.compute, progress=False)
                responses = test.labeled_responses().astype(np.float64)
                decoded = system.fit_decode(job.store, job.subject, responses, samples=paired, compute=quiet)
                made = generate_parts(system, decoded, (settings.seed,), quiet)[:, 0]
                compared = resized(made, part.seen.shape[-3:-1])
                for name, metric in part.metrics.items():
                    found = metric.values(part.seen, compared, part.context)
                    if found.ndim:
                        drawn.setdefault(name, []).append(summarize(found).mean)
            part.nulls[null] = {name: np.array(values) for name, values in drawn.items()}


def _halves(job: Job, samples: pd.DataFrame, ids: Sequence[str]) -> dict[str, Recordings]:
    """Return responses to test stimuli averaged over odd and over even repeats, of the stimuli that have both."""
    rows = samples[(samples["split"] == "test") & samples["stimulus"].isin(set(ids))]
    odd = rows["repeat"] % 2 == 1
    enough = set(rows["stimulus"][odd]) & set(rows["stimulus"][~odd])
    if len(enough) < 2:
        return {}
    found = {}
    for name, which in (("first half", odd), ("second half", ~odd)):
        half = job.read(rows=rows.index[which & rows["stimulus"].isin(enough)].to_numpy()).averaged()
        place = {stimulus: number for number, stimulus in enumerate(half.stimuli.tolist())}
        found[name] = half.take(np.array([place[stimulus] for stimulus in ids if stimulus in enough]))
    return found


def _decode(job: Job, train: Recordings, test: Recordings, halves: Mapping[str, Recordings]) -> dict[str, Decoded]:
    """Decode the test responses, with the mean training response beside them, and both halves of the repeats.

    Large targets are decoded while they are fitted, so all responses are decoded in one call, unless what is decoded
    depends on what is decoded with it.
    """
    import xarray

    own = test.labeled_responses().astype(np.float64)
    mean = train.labeled_responses().astype(np.float64).mean("stimulus").expand_dims(stimulus=[MEAN_RESPONSE])
    others = {name: half.labeled_responses().astype(np.float64) for name, half in halves.items()}
    if any(getattr(spec.decoder, "renorm", None) == "test" for spec in job.system.targets.values()):
        found = {"own": job.decode(own, train), "with mean": job.decode(xarray.concat([own, mean], "stimulus"), train)}
        return found | {name: job.decode(responses, train) for name, responses in others.items()}
    parts = [own, mean]
    for name, responses in others.items():
        parts.append(responses.assign_coords(stimulus=[f"{name}: {one}" for one in responses["stimulus"].values]))
    whole = job.decode(xarray.concat(parts, "stimulus"), train)
    found = {"own": whole.take(np.arange(len(own))), "with mean": whole.take(np.arange(len(own) + 1))}
    start = len(own) + 1
    for name, responses in others.items():
        found[name] = whole.take(np.arange(start, start + len(responses)))
        start += len(responses)
    return found


def _changes(own: np.ndarray, exchanged: np.ndarray, order: np.ndarray) -> float:
    """Return how far images change if what was decoded is exchanged, over the difference between two stimuli's images.

    0 where the generator ignores what was decoded (noise belongs to the stimulus and stays); about 1 where images
    depend on nothing else.
    """
    between = float(np.sqrt(np.mean((own - own[order]) ** 2, dtype=np.float64)))
    return float(np.sqrt(np.mean((own - exchanged) ** 2, dtype=np.float64))) / between if between > 0 else 0.0


def _add_same_category(part: Part, store: Store, train: Sequence[str], shown: str, seed: int) -> None:
    """Add the baseline of a random training stimulus of the category that was seen."""
    categories = _categories(store, part.stimuli)
    if categories is None:
        return
    of_train = store.stimuli.set_index("id")["category"].loc[list(train)].to_numpy(str)
    pools = {name: np.array(train)[of_train == name] for name in np.unique(categories)}
    lacking = [name for name, pool in pools.items() if not len(pool)]
    if lacking:
        part.missing["same category"] = f"no training stimulus of the category {', '.join(lacking[:5])}"
        return
    generator = np.random.default_rng(seed)
    drawn = [str(generator.choice(pools[name])) for name in categories]
    part.add("same category", stored_target(store, shown, drawn).values.astype(np.float32)[:, None])


def nearest_training(system: System, decoded: Decoded, store: Store, train: Sequence[str]) -> list[str]:
    """Return the training stimulus whose true targets are most like what was decoded.

    Likeness is the correlation over features, each in standard deviations from its training mean, averaged over the
    targets of the system.

    Parameters
    ----------
    system : System
    decoded : Decoded
        With training moments.
    store : Store
    train : sequence of str
        Ids of the training stimuli.

    Returns
    -------
    list of str
        One id for each decoded stimulus.
    """
    likeness = np.zeros((len(decoded.stimuli), len(train)))
    for name, spec in system.targets.items():
        mean, deviation = (values.ravel() for values in decoded.training[name])
        scale = np.where(deviation > 0, deviation, np.inf)

        def standardized(values: Any, mean: np.ndarray = mean, scale: np.ndarray = scale) -> np.ndarray:
            rows = (np.asarray(values, dtype=np.float32).reshape(len(values), -1) - mean) / scale
            rows -= rows.mean(axis=1, keepdims=True)
            return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12))

        own = standardized(decoded[name].values)
        for start in range(0, len(train), _BLOCK):
            block = stored_target(store, spec.source, train[start : start + _BLOCK]).values
            likeness[:, start : start + _BLOCK] += own @ standardized(block).T
    return [train[number] for number in likeness.argmax(axis=1)]


def _linear(store: Store, subject: str, train: Recordings, test: Recordings, compute: Compute) -> np.ndarray:
    """Return the reconstructions of ridge regression to pixels, (stimulus, 1, y, x, rgb)."""
    linear = load_system("linear-pixels")
    responses = test.labeled_responses().astype(np.float64)
    # Its targets are the images themselves, which are in memory: nothing to keep in the folder of parts.
    found = linear.fit_decode(store, subject, responses, samples=train, compute=replace(compute, folder=None))
    return np.asarray(linear.generate(found).values)[:, None]


def _splits(store: Store, wanted: Sequence[str] | None) -> dict[str, dict[str, Store]]:
    """Return the stores of each split beside the own one: its folds by column."""
    groups: dict[str, list[str]] = {}
    for column in store.split_columns:
        if column == store.split_column:
            continue
        name = "category left out" if column.startswith("leave_") else re.sub(r"_\d+$", "", column)
        groups.setdefault(name, []).append(column)
    if wanted is None:
        chosen = groups
    else:
        known = {**groups, **{column: [column] for columns in groups.values() for column in columns}}
        for name in wanted:
            if name not in known:
                raise UnknownNameError("split", name, known, todo="write it first: neurorecon split --kind cluster_k5")
        chosen = {name: known[name] for name in wanted}
    return {name: {column: store.with_split(column) for column in columns} for name, columns in chosen.items()}


def audit(
    store: Store,
    system: str | System | xarray.DataArray = "brain-diffuser",
    subject: str | None = None,
    roi: str | Iterable[str] | None = None,
    *,
    task: str | None = None,
    metrics: Sequence[str] | None = None,
    options: Mapping[str, Any] | None = None,
    models: str | None = None,
    splits: Sequence[str] | None = None,
    n_stimuli: int | None = None,
    n_permutations: int = 1000,
    n_refits: int = 0,
    n_bootstraps: int = 10_000,
    level: float = 0.95,
    seeds: int = 1,
    seed: int = 0,
    device: str = "cpu",
    source: str = "an array",
    compute: Compute = Compute(),  # noqa: B008 (frozen)
) -> Audit:
    """Say how much of each score of a reconstruction comes from the brain.

    Parameters
    ----------
    store : Store
        With the stimuli, and for systems the responses and targets.
    system : str, System or DataArray
        A registered name, the folder of a saved system, or a system, as for :func:`neurorecon.reconstruct`; or images
        from anywhere, dims (stimulus, [seed,] [frame,] y, x, rgb), as for :func:`neurorecon.evaluate`.
    subject : str, optional
        By default the first.
    roi, task, options, models, device
        As for :func:`neurorecon.reconstruct`.
    metrics : sequence of str, optional
        Registered names; by default pixel metrics, and metrics on networks where these can judge the stimuli.
    splits : sequence of str, optional
        Splits beside that of the store: columns from :func:`neurorecon.split`, several at once by their name without
        number (``"cluster_k5"``). By default all that there are; ``()`` for none. Not for images.
    n_stimuli : int, optional
        Audit at most this many test stimuli of each split, spread evenly over categories; by default all.
    n_refits : int
        Also refit the system on re-paired training data so many times, and as often with pairs that are exchanged
        within categories, generate images with each, and score them. Only this null says whether the pairing of
        responses and stimuli was learned; it takes so many fits and images. By default none.
    n_permutations, n_bootstraps : int
        Of the nulls; of intervals and of tests of paired differences, over stimuli.
    level : float
        Confidence level of the intervals.
    seeds : int
        Reconstruct with so many seeds, and average their scores. Baselines have one.
    seed : int
        The first seed of the noise, and that of permutations and bootstraps.
    source : str
        Where images come from, in words.
    compute : Compute
        Who computes. In its folder images are kept as soon as they are there, and the same call resumes.

    Returns
    -------
    Audit

    Raises
    ------
    InputError
        If test stimuli are in the training data, or images are copies of what was seen.
    UnknownNameError
        If a name does not exist.
    """
    given = system if isinstance(system, System) else None
    images = None if isinstance(system, str | System | Path) else system
    settings = AuditSettings(
        system=given.name if given is not None else str(system) if images is None else "", options=dict(options or {}),
        roi=roi, task=task, metrics=metrics, models=models, n_permutations=n_permutations, seed=seed, seeds=seeds,
        device=device, splits=None if splits is None else tuple(splits), n_stimuli=n_stimuli,
        n_refits=n_refits,
        n_bootstraps=n_bootstraps, level=level, source="" if images is None else source,
    )  # fmt: skip
    name = store.subjects[0] if subject is None else subject
    if images is not None:
        return compute_audit_of_images(store, name, images, settings, compute)
    return compute_audit(store, name, settings, compute, system=given)


def default_metrics(store: Store, models: str | None) -> list[str]:
    """Return the metrics of an audit of images: on networks too, where their weights can judge these stimuli."""
    if CategoryProbe().judges(store):
        return [*METRICS, *METRICS_OF_SCENES]
    return [*METRICS, *(METRICS_OF_PHOTOGRAPHS if models is not None else ())]


def compute_audit(
    store: Store,
    subject: str,
    settings: AuditSettings,
    compute: Compute = Compute(),  # noqa: B008 (frozen)
    *,
    system: System | None = None,
) -> Audit:
    """Do what :func:`audit` does for a system, from its settings."""
    system = system_of(settings) if system is None else system
    if settings.metrics is None and system.kinds[0] == "image":
        settings = replace(settings, metrics=tuple(default_metrics(store, settings.asked_models)))
    job = prepare(store, subject, replace(settings, seeds=1), compute, system)
    job = replace(job, settings=settings)
    if job.fitted and job.system.training_stimuli_ is None:
        warnings.warn(
            "it is not known which stimuli this system was trained on, because an earlier version saved it: if test "
            "stimuli are among them, this audit says nothing",
            NeuroreconWarning,
            stacklevel=3,
        )
    if job.fitted and settings.splits:
        raise InputError(
            "a fitted system cannot be audited on other splits than that of its fit",
            given=f"splits {', '.join(settings.splits)}",
            expected="a system that is not fitted, which is fitted for each split",
            todo="leave the splits out, or name the system instead of its folder",
        )
    others = {} if job.fitted else _splits(job.store, settings.splits)
    own = job.store.split_column or "split of the store"
    system_name = job.system.name
    parts = {own: [_part_of_system(job, own, everything=True)]}
    for name, folds in others.items():
        most = settings.n_stimuli
        each = replace(settings, n_stimuli=None if most is None else max(2, -(-most // len(folds))))
        parts[name] = [
_part_of_system(replace(job, store=view, settings=each, system=clone(job.system)), column, everything=False)
            for column, view in folds.items()
        ]  # fmt: skip
    parameters = job.system.get_params(deep=False)
    chosen = {
        "system": system_name,
        "options": {name: plain_parameter(value) for name, value in parameters.items()},
        "targets": list(job.system.targets),
        "sources": job.system.sources,
        "learned_elsewhere": job.system.elsewhere_,
        "networks": networks_of(job.system),
        "roi": job.roi,
        "voxels": len(job.store.voxels(subject, job.roi)),
        "seeds": job.seeds,
        "centering": {name: getattr(job.centering, name) for name in ("center", "scale", "reason")},
    }
    return _result(job.store, subject, job.task, system_name, settings, parts, chosen, job.centering.warnings)


# -- images from anywhere ---------------------------------------------------------------------------------------------

#: Why some rows do not exist for images that were made elsewhere.
_NOT_OF_IMAGES = {
    "mean response": "it takes the system that made these images",
    "another trial": "it takes the system that made these images",
    "its reconstruction": "it takes the system that made these images",
    "oracle": "it takes the system that made these images",
    "half against half": "it takes reconstructions from different repeats",
    NULLS[2]: "it takes the system that made these images",
    NULLS[3]: "it takes the system that made these images",
}


def compute_audit_of_images(
    store: Store,
    subject: str,
    images: xarray.DataArray,
    settings: AuditSettings,
    compute: Compute = Compute(),  # noqa: B008 (frozen)
) -> Audit:
    """Do what :func:`audit` does for images from anywhere, from its settings."""
    if settings.splits:
        raise InputError(
            "images from elsewhere cannot be audited on other splits: their system would have to be fitted again",
            given=f"splits {', '.join(settings.splits)}",
            expected="no splits",
            todo="open the store with the split that they were made with: --split-column",
        )
    if "seed" in images.dims:
        images = images.transpose("stimulus", "seed", ...)
        check_images(images.isel(seed=0))
    else:
        check_images(images)
        images = images.expand_dims("seed", 1)
    require_same_split(images, store)
    shown = "frames" if "frame" in images.dims else "images"
    known, ids = store.stimuli_with(shown), images["stimulus"].values.astype(str)
    strange = [name for name in ids.tolist() if name not in known]
    if strange:
        raise InputError(
            f"{len(strange)} of {len(ids)} images belong to no stimulus of this store",
            given=", ".join(strange[:5]),
            expected=f"ids such as {', '.join(sorted(known)[:3])}",
            todo="name the images by the ids in store.stimuli, or give a table: --table map.csv",
        )
    task = settings.task or choose_shown_task(store, subject, [shown], None)
    train = _training_stimuli(store, subject, task)
    both = sorted(set(ids.tolist()) & set(train))
    if both:
        raise InputError(
            f"{len(both)} of {len(ids)} images reconstruct training stimuli of {subject}",
            given=", ".join(both[:5]),
            expected="test stimuli; scores on others say nothing",
            todo="leave them out, or open the store with the split that was used: --split-column",
        )
    _refuse_leaks(store, None, ids.tolist(), task, subject)
    images = images.isel(stimulus=some_stimuli(store, ids, settings.n_stimuli))
    ids = images["stimulus"].values.astype(str)
    kind = "video" if shown == "frames" else "image"
    names = settings.metrics or (default_metrics(store, settings.models) if kind == "image" else ())
    metrics = choose_metrics(names, (), kind, store, models=settings.models, device=settings.device)
    part = _begin("split of the store", store, subject, task, ids.tolist(), shown, metrics, settings, shared_runs=False)
    part.missing |= _NOT_OF_IMAGES
    require_frames(images, part.seen, store)
    values = as_unit_float(images.values).astype(np.float32)
    _refuse_copies(part, values)
    part.add("images", values, audited=True)
    if not train:
        part.missing |= dict.fromkeys(
            ("mean training image", "nearest training image"), "there are no training stimuli"
        )
        part.missing["linear-pixels"] = part.missing["same category"] = "there are no training stimuli"
    else:
        _add_baselines_of_images(part, store, subject, task, train, shown, values, settings, compute)
    chosen = {
        "source": settings.source,
        "networks": dict(images.attrs.get("networks", {})),
        "seeds": int(images.sizes["seed"]),
    }
    return _result(store, subject, task, "images", settings, {"split of the store": [part]}, chosen, [])


def _refuse_copies(part: Part, images: np.ndarray) -> None:
    """Refuse images that are what was seen: nothing decodes that well."""
    seen, made = part.seen, images[:, 0]
    if seen.ndim == 5:  # the middle frames
        seen, made = seen[:, seen.shape[1] // 2], made[:, made.shape[1] // 2]
    made = resized(made, seen.shape[1:3])
    whole = [np.round(255 * np.clip(given, 0, 1)).astype(np.uint8) for given in (seen, made)]
    copies = np.ones(len(images), dtype=bool)
    for edges in (False, True):
        one, other = (small_gray(given, 32, edges=edges) for given in whole)
        copies &= (one * other).sum(axis=1) > SAME
    if copies.mean() > 0.5:
        raise InputError(
            f"{int(copies.sum())} of {len(copies)} images are copies of the stimuli that were seen",
            given=", ".join(np.array(part.stimuli)[copies][:5].tolist()),
            expected="reconstructions",
            todo="check what wrote this folder: it may have been given the test images",
        )


def _add_baselines_of_images(
    part: Part, store: Store, subject: str, task: str, train: list[str], shown: str, images: np.ndarray,
    settings: AuditSettings, compute: Compute,
) -> None:  # fmt: skip
    """Add the baselines that need no system: from training images, and from responses if the store has any."""
    ids = part.stimuli
    mean = np.asarray(stored_target(store, shown, train).mean("stimulus"), dtype=np.float32)
    part.add("mean training image", np.broadcast_to(mean, part.seen.shape)[:, None])
    _add_same_category(part, store, train, shown, settings.seed)
    network = next((metric.network for name, metric in part.metrics.items() if name == "two_way_clip"), None)
    if shown != "images":
        part.missing["nearest training image"] = part.missing["linear-pixels"] = "only of images"
        return

    def features(given: np.ndarray) -> np.ndarray:
        if network is None:
            return small_gray(np.round(255 * np.clip(given, 0, 1)).astype(np.uint8))
        return _directions(network.features(given, "embedding"))

    own = features(resized(images[:, 0], part.seen.shape[1:3]))
    blocks = [train[start : start + _BLOCK] for start in range(0, len(train), _BLOCK)]
    likeness = [own @ features(stored_target(store, shown, block).values.astype(np.float32)).T for block in blocks]
    nearest = [train[number] for number in np.concatenate(likeness, axis=1).argmax(axis=1)]
    part.add("nearest training image", stored_target(store, shown, nearest).values.astype(np.float32)[:, None])
    samples = store.samples(subject)
    own_samples = samples[(samples["task"] == task) & samples["stimulus"].isin(set(ids))]
    if set(own_samples["stimulus"]) != set(ids):
        part.missing["linear-pixels"] = f"{subject} did not see all of these stimuli"
        return
    reading: dict[str, Any] = {"task": task, "center": "auto", "scale": "auto"}
    training = Recordings.read(store, subject, settings.rois, split="train", **reading)
    test = Recordings.read(store, subject, settings.rois, rows=own_samples.index.to_numpy(), **reading).averaged()
    place = {name: number for number, name in enumerate(test.stimuli.tolist())}
    test = test.take(np.array([place[name] for name in ids]))
    part.add("linear-pixels", _linear(store, subject, training, test, compute))


# -- the result -------------------------------------------------------------------------------------------------------


def _result(
    store: Store,
    subject: str,
    task: str,
    name: str,
    settings: AuditSettings,
    parts: Mapping[str, Sequence[Part]],
    chosen: Mapping[str, Any],
    cautions: Sequence[str],
) -> Audit:
    """Return the result from the parts of each split, the own one first."""
    first = next(iter(parts.values()))[0]
    metrics = first.metrics
    made = {split: tables_of(name, split, folds, metrics, settings) for split, folds in parts.items()}
    distances, stimuli = [], []
    for split, folds in parts.items():
        table = pd.DataFrame({metric: pooled(folds, name, metric) for metric in metrics})
        of = pd.concat([pd.Series(part.distance, index=part.stimuli) for part in folds]).groupby(level=0).mean()
        distances.append(
            table.assign(split=split, distance=of.reindex(table.index)).rename_axis("stimulus").reset_index()
        )
    for row in first.values:
        for metric in metrics:
            values = pooled([first], row, metric)
            if len(values):
                stimuli.append(values.rename(f"{row} {metric}"))
    verdicts = pd.concat([verdict for _, verdict, _ in made.values()], ignore_index=True)
    record = exchange_record(first.exchange, 1 / (1 + len(first.orders)), settings.n_permutations)
    scores = [
        Score(
            name=f"{row['split']} {row['metric']}", value=row["value"], n=row["n"], null_mean=row["null"],
            null_max=np.nan, p=row["p"], n_permutations=len(first.orders), baseline=row["its mean"],
            extra={key: row[key] for key in ("category p", "strongest baseline", "left", "left p", "verdict")},
        )
        for row in verdicts.to_dict("records")
    ]  # fmt: skip
    shown = {row: first.shown[row] for row in ("seen", "oracle", name, *BASELINES) if row in first.shown}
    return Audit(
        subject=subject,
        task=task,
        settings=settings,
        name=name,
        chosen={
            "metrics": list(metrics),
            "metric_weights": weights_of(metrics),
            "splits": {split: [part.split for part in folds] for split, folds in parts.items()},
            "stimuli": {split: sum(len(part.stimuli) for part in folds) for split, folds in parts.items()},
            "n_permutations": len(first.orders),
            "missing": first.missing,
            "changes": None if np.isnan(first.changes) else first.changes,
            "distance": first.distance_of,
            **chosen,
            **record,
            "warnings": [*cautions, *record["warnings"]],
        },
        scores=scores,
        null={key: null for _, _, nulls in made.values() for key, null in nulls.items()},
        table=pd.concat([table for table, _, _ in made.values()], ignore_index=True),
        verdicts=verdicts,
        stimuli=pd.concat(stimuli, axis=1).rename_axis("stimulus"),
        distances=pd.concat(distances, ignore_index=True),
        shown=shown,
    )
