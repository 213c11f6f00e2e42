"""Reconstruct stimuli from the responses of a store with any system, and score them beside a null.

By split, a system is fitted on the training split and reconstructs the test split. In cross-validation, one label is
held out at a time, and a system that was fitted on all others reconstructs it.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import clone
from threadpoolctl import threadpool_limits

from neurorecon.analyses.design import ReconstructSettings, warn_of_bundled
from neurorecon.analyses.evaluate import (
    Evaluation,
    choose_metrics,
    context_of,
    exchange_orders,
    score_of,
    score_pairs,
    tested,
)
from neurorecon.analyses.results import Score, exchange_record
from neurorecon.decoders.samples import Recordings, choose_shown_task, peak_delays
from neurorecon.errors import InputError
from neurorecon.metrics.base import FORMER_NAMES, Metric, summarize
from neurorecon.metrics.image import resized
from neurorecon.parallel import Compute
from neurorecon.stats.exchange import Exchange
from neurorecon.store.store import Store
from neurorecon.systems.base import System, load_system

#: With at most this many samples, matrix products are not worth several threads.
FEW_SAMPLES = 500


@dataclass(frozen=True, kw_only=True)
class Reconstruction(Evaluation):
    """Stimuli reconstructed from the brain of one subject; see :class:`~neurorecon.analyses.evaluate.Evaluation`.

    Parameters
    ----------
    subject, task : str
        Whose brain, and which task.
    system : str
        Name of the system. If it reconstructs single samples, `reconstructed` is their mean over the samples of each
        stimulus.
    """

    kind: str = "reconstruction"
    system: str

    @property
    def stem(self) -> str:
        """How the names of its files begin."""
        return f"{self.subject}_{self.system}"

    @property
    def title(self) -> str:
        """Title of the panel."""
        return f"Seen and reconstructed · {self.subject}"

    @property
    def sentence(self) -> str:
        """How the reconstructions were made, in one sentence."""
        record = self.record()
        column = record["cross_validate"]
        how = f"leave one {column} out" if column else "fitted on the training split"
        return f"{self.system}: {', '.join(record['targets'])} decoded from {record['voxels']:,} voxels, {how}."

    def text(self, store: Store) -> str:
        """Return how the reconstructions were made, and a table of the scores."""
        label = "SIMULATED responses" if store.simulated else "measured responses"
        return f"\n{self.subject} · {store.name} ({label}) · {self.task}\n{super().text(store)}"

    @property
    def rebuilt(self) -> np.ndarray:
        """The former name of `reconstructed`."""
        warnings.warn("Reconstruction.rebuilt is deprecated; use .reconstructed", DeprecationWarning, stacklevel=2)
        return self.reconstructed

    def __getattr__(self, name: str) -> np.ndarray:
        """Return the values of a metric by its former name, which was an attribute."""
        if name not in FORMER_NAMES or FORMER_NAMES[name] not in self.values:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        found = FORMER_NAMES[name]
        warnings.warn(f"Reconstruction.{name} is deprecated; use .values[{found!r}]", DeprecationWarning, stacklevel=2)
        return self.values[found]


def reconstruct(
    store: Store,
    system: str | System = "linear-pixels",
    subject: str | None = None,
    roi: str | Iterable[str] | None = None,
    *,
    task: str | None = None,
    metrics: Sequence[str] | None = None,
    options: Mapping[str, Any] | None = None,
    cross_validate: str | None = None,
    exchange: str | None = None,
    n_permutations: int = 1000,
    seed: int = 0,
    device: str = "cpu",
    folder: str | Path | None = None,
    compute: Compute = Compute(),  # noqa: B008 (frozen)
) -> Reconstruction:
    """Reconstruct what a subject saw.

    Parameters
    ----------
    store : Store
        From :func:`neurorecon.open_store`; it has to hold the stimuli and the targets of the system.
    system : str or System
        A registered name, the folder of a saved system, or a system. A fitted system is not fitted again.
    subject : str, optional
        By default the first.
    roi : str or list of str, optional
        As in :meth:`Store.responses`; by default all voxels, or those of a fitted system.
    task : str, optional
        By default the one with the most stimuli that have all targets.
    metrics : sequence of str, optional
        Registered names; by default those of the system, else those of the registry.
    options : mapping, optional
        Parameters of a system that is given by name.
    cross_validate : {"category", "stimulus", "session", "run"}, optional
        Hold out one value of this at a time. By default the system is fitted on the training split and reconstructs
        the test split.
    exchange : {"stimulus", "category", "session", "run", "shift"}, optional
        Exchange the pairs of the null freely, or only between stimuli of the same category, session or run, or shift
        the order of stimuli within runs. The null of a session keeps what can be told from the session alone. By
        default pairs stay within sessions that show different stimuli, and are shifted where similar stimuli follow one
        another; ``record()["exchange"]`` says what was chosen.
    n_permutations : int
        Of the null.
    seed : int
        Of the permutations, and of the noise that images are generated from.
    device : str
        Where a system with a parameter `device` computes.
    folder : path, optional
        Where fitted decoders are saved, so that an interrupted fit resumes. Not for cross-validation.
    compute : Compute
        Who computes; see :meth:`neurorecon.System.fit_decode`.

    Returns
    -------
    Reconstruction
        ``record()["null"]`` names the null: the system is refitted for each permutation of a cross-validation if it can
        be refitted exactly, else each reconstruction is scored against another stimulus.

    Raises
    ------
    UnknownNameError
        If a name does not exist.
    InputError
        If the store has no test split and `cross_validate` is not given, or if the arguments contradict each other.
    """
    given = system if isinstance(system, System) else None
    if given is not None and options:
        raise InputError(
            "options are for a system that is given by name",
            given=f"a {type(given).__name__} and the options {', '.join(options)}",
            todo="change the system itself: system.set_params(...)",
        )
    settings = ReconstructSettings(
        system=system.name if isinstance(system, System) else system, options=dict(options or {}), roi=roi, task=task,
        metrics=metrics, cross_validate=cross_validate, exchange=exchange, n_permutations=n_permutations, seed=seed,
        device=device,
    )  # fmt: skip
    name = store.subjects[0] if subject is None else subject
    return compute_reconstruction(store, name, settings, compute, system=given, folder=folder)


def compute_reconstruction(
    store: Store,
    subject: str,
    settings: ReconstructSettings,
    compute: Compute = Compute(),  # noqa: B008 (frozen)
    *,
    system: System | None = None,
    folder: str | Path | None = None,
) -> Reconstruction:
    """Do what :func:`reconstruct` does, from its settings.

    Parameters
    ----------
    store : Store
        Open.
    subject : str
        Whose brain.
    settings : ReconstructSettings
        What to reconstruct, and how.
    compute : Compute
        Who computes.
    system : System, optional
        A system in place of the one that the settings name.
    folder : path, optional
        Where fitted decoders are saved.
    """
    built = _load(settings) if system is None else system
    fitted, roi = hasattr(built, "decoders_"), settings.rois
    if fitted and roi is None:
        roi = built.provenance_["roi"]
    if settings.cross_validate is not None and (fitted or folder is not None):
        raise InputError(
            "cross-validation fits a new system for each label",
            given=f"cross_validate={settings.cross_validate!r}, {'a fitted system' if fitted else f'folder={folder}'}",
            expected="a system that is not fitted, and no folder",
            todo="leave the folder out, and name the system or pass one that is not fitted",
        )
    if not fitted:
        built = clone(built)  # what the caller passed stays as it is
    sources = [spec.source for spec in built.targets.values()]
    warn_of_bundled(store, [name for name in sources if name in store.targets_available])
    job = _Job(
        store, subject, roi, choose_shown_task(store, subject, sources, settings.task), built,
        choose_metrics(settings.metrics, built.metrics, built.kinds[0]), settings, compute,
    )  # fmt: skip
    if settings.cross_validate is None:
        return _by_split(job, fitted, None if folder is None else Path(folder))
    return _cross_validated(job)


def _load(settings: ReconstructSettings) -> System:
    """Return the system that the settings name, on the device that they name."""
    system: System = load_system(settings.system, **settings.options)
    takes = "device" in system.get_params()
    if settings.device != "cpu" and not takes:
        raise InputError(
            f"the system {system.name!r} has no choice of device",
            given=f"device {settings.device!r}",
            expected="no device",
            todo="leave the device out",
        )
    if takes and "device" not in settings.options:
        system.set_params(device=settings.device)
    return system


@dataclass(frozen=True)
class _Job:
    """What a reconstruction starts from, after all defaults were chosen."""

    store: Store
    subject: str
    roi: str | list[str] | None
    task: str
    system: System
    metrics: Mapping[str, Metric]
    settings: ReconstructSettings
    compute: Compute

    def result(
        self,
        stimuli: list[str],
        seen: np.ndarray,
        reconstructed: np.ndarray,
        scored: tuple[dict[str, np.ndarray], list[Score], Mapping[str, np.ndarray]],
        alone: bool,
        chosen: dict[str, Any],
        orders: np.ndarray,
        exchange: Exchange,
    ) -> Reconstruction:
        """Return the result, with everything that was chosen in its record."""
        values, scores, null = scored
        parameters, plain = self.system.get_params(deep=False), (str, int, float, tuple, list, dict, Path, type(None))
        renorm = [name for name, spec in self.system.targets.items() if getattr(spec.decoder, "renorm", None) == "test"]
        if alone and renorm:
            chosen |= {"renorm": f"train instead of test in {', '.join(renorm)}: a single stimulus was held out"}
        return Reconstruction(
            subject=self.subject,
            task=self.task,
            system=self.system.name,
            settings=self.settings,
            chosen={
                "system": self.system.name,
                "options": {
                    name: value if isinstance(value, plain) or hasattr(value, "tolist") else repr(value)
                    for name, value in parameters.items()
                },
                "targets": list(self.system.targets),
                "roi": self.roi,
                "task": self.task,
                "metrics": list(self.metrics),
                "device": str(parameters.get("device", self.settings.device)),
                "voxels": len(self.store.voxels(self.subject, self.roi)),
                "delays": list(peak_delays(self.store, self.subject, self.task)),
                "compared_at": list(seen.shape[-3:-1]),
                "n_permutations": len(orders),
                **exchange_record(exchange, 1 / (1 + len(orders)), self.settings.n_permutations),
                **chosen,
            },
            stimuli=stimuli,
            seen=seen.astype(np.float32),
            reconstructed=reconstructed,
            values=values,
            scores=[replace(score, name=f"{self.subject} {score.name}") for score in tested(scores, exchange)],
            null=dict(null),
        )


def _by_split(job: _Job, fitted: bool, folder: Path | None) -> Reconstruction:
    store, subject, system, settings = job.store, job.subject, job.system, job.settings
    samples = store.samples(subject)
    splits = set(samples.loc[samples["task"] == job.task, "split"])
    if not {"train", "test"} <= splits:
        raise InputError(
            f"the task {job.task!r} has no held-out stimuli",
            given=f"splits: {', '.join(sorted(splits))}",
            expected="a split 'train' and a split 'test', or a column to cross-validate over",
            todo="add --cross-validate category (or stimulus, run, session)",
        )
    # The training split is read here, once: its mean image is the baseline.
    train, test = (Recordings.read(store, subject, job.roi, task=job.task, split=split) for split in ("train", "test"))
    responses, alone = test.labeled_responses(), len(test.table) == 1
    if fitted:
        decoded = system.decode(responses)
    elif folder is None:
        decoded = system.fit_decode(store, subject, responses, samples=train, alone=alone, compute=job.compute)
    else:
        system.fit(store, subject, samples=train, alone=alone, folder=folder, compute=job.compute)
        decoded = system.decode(responses)
    reconstructed = system.generate(decoded, seed=settings.seed).values
    seen = np.asarray(test.target(_shown(job.system)).data).astype(np.float32)
    baseline = np.asarray(train.target(_shown(job.system)).data.mean(axis=0, dtype=np.float32))
    ids = test.stimuli.tolist()
    part = samples[samples["task"] == job.task]
    runs = [set(zip(rows["session"], rows["run"], strict=True)) for _, rows in part.groupby(part["split"] == "test")]
    orders, exchange = exchange_orders(
        store, subject, ids, settings, _shown(job.system), shared_runs=bool(set.intersection(*runs))
    )
    scored = score_pairs(
        job.metrics, seen, reconstructed, orders,
        context=context_of(store, ids, decoded=decoded), baseline=baseline,
    )  # fmt: skip
    chosen: dict[str, Any] = {"null": "exchanged pairs", "train_samples": len(train.table), "test_stimuli": len(ids)}
    alphas = _alphas(system)
    if alphas is not None:
        chosen["alpha"] = alphas
    return job.result(ids, seen, reconstructed, scored, alone, chosen, orders, exchange)


def _cross_validated(job: _Job) -> Reconstruction:
    store, column = job.store, job.settings.cross_validate
    recordings = Recordings.read(store, job.subject, job.roi, task=job.task)
    if column == "category":
        labels = store.stimuli.set_index("id")["category"].loc[recordings.stimuli.tolist()].to_numpy(str)
    else:
        labels = recordings.table[column].to_numpy(str)
    found = cross_validate(job.system, recordings, labels, seed=job.settings.seed, compute=job.compute)
    ids = found.stimuli.tolist()
    refits = type(job.system).exact_null is not System.exact_null
    orders, exchange = exchange_orders(
        store, job.subject, ids, job.settings, _shown(job.system),
        shared_runs=not refits and column not in ("run", "session"),
    )  # fmt: skip
    context = context_of(store, ids)
    null = refitted_null(job.system, recordings, labels, found, job.metrics, orders, context)
    chosen: dict[str, Any] = {"null": "exchanged pairs" if null is None else "refitted for each permutation"}
    chosen |= {"samples": len(labels), "stimuli": len(ids)} | ({"alphas": found.alphas} if found.alphas else {})
    if null is None:
        null = exchanged_null(found, job.metrics, orders, context)
    values, scores = cross_validated_scores(found, job.metrics, null, context)
    scored = values, scores, null
    return job.result(ids, found.seen, found.reconstructed, scored, found.alone, chosen, orders, exchange)


# -- cross-validation -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class CrossValidated:
    """Images, each reconstructed by a system that was not trained on its stimulus.

    Parameters
    ----------
    stimuli : array of str, shape (stimulus,)
        In order of first appearance.
    seen : array, shape (stimulus, [frame,] y, x, rgb)
        float64 in [0, 1].
    reconstructed : array, shape (stimulus, [frame,] y, x, rgb)
        If single samples are reconstructed, their mean over the samples of each stimulus.
    baseline : array, shape (stimulus, [frame,] y, x, rgb)
        Mean image of the training set of each stimulus: what a system that ignores the brain would reconstruct.
    shown : int array, shape (sample,)
        Which stimulus each sample shows.
    samples, baseline_samples : array, shape (sample, [frame,] y, x, rgb), or None
        The same for single samples; None if responses are averaged.
    alphas : dict of str
        Chosen in each fold, by the label that was held out.
    alone : bool
        Whether a fold had a single test sample, so that no decoder could rescale by the moments of its test set.
    """

    stimuli: np.ndarray
    seen: np.ndarray
    reconstructed: np.ndarray
    baseline: np.ndarray
    shown: np.ndarray
    samples: np.ndarray | None
    baseline_samples: np.ndarray | None
    alphas: dict[str, Any]
    alone: bool


def cross_validate(
    system: System,
    recordings: Recordings,
    labels: Any,
    *,
    seed: int = 0,
    compute: Compute = Compute(),  # noqa: B008 (frozen)
) -> CrossValidated:
    """Hold out one label at a time, and reconstruct its samples with a system that is fitted on all others.

    Standardization and alphas come from the training samples of each fold. Alphas are chosen by inner cross-validation
    that holds out whole labels.

    Parameters
    ----------
    system : System
        Fitted as a clone in each fold.
    recordings : Recordings
        All samples.
    labels : array, shape (sample,)
        Held out as a whole, e.g. the stimulus or the category.
    seed : int
        Of the noise that images are generated from.
    compute : Compute
        Who computes; see :meth:`neurorecon.System.fit_decode`.

    Raises
    ------
    InputError
        If there are fewer than three labels, or a stimulus has two.
    """
    labels = np.asarray(labels).astype(str)
    recordings, labels, stimuli, shown = _design(system, recordings, labels)
    target = recordings.target(_shown(system))
    images = target.data
    _, first = np.unique(shown, return_index=True)
    alone = min(np.unique(labels, return_counts=True)[1]) == 1
    parts: list[tuple[np.ndarray, np.ndarray]] = []
    baseline = np.empty(target.shape)  # float64, because means of few images can tie
    alphas = {}
    for label in dict.fromkeys(labels.tolist()):
        held = labels == label
        with _few_threads(len(labels)):
            fitted = clone(system)
            decoded = fitted.fit_decode(
                recordings.store,
                recordings.subject,
                recordings.take(held).labeled_responses(),
                samples=recordings.take(~held),
                groups=labels[~held],
                alone=alone,
                compute=compute,
            )
            parts.append((held, fitted.generate(decoded, seed=seed).values))
        baseline[held] = np.asarray(images[~held].mean(axis=0))
        alphas[label] = _alphas(fitted)
    samples = np.empty((len(labels), *parts[0][1].shape[1:]), dtype=np.float32)
    for held, found in parts:
        samples[held] = found
    single = system.averages == "reconstructions"
    return CrossValidated(
        stimuli=stimuli,
        seen=np.asarray(images[first], dtype=np.float64),
        reconstructed=_mean_by(samples, shown) if single else samples,
        baseline=_mean_by(baseline, shown) if single else baseline,
        shown=shown,
        samples=samples if single else None,
        baseline_samples=baseline if single else None,
        alphas=alphas if any(value is not None for value in alphas.values()) else {},
        alone=alone,
    )


def refitted_null(
    system: System,
    recordings: Recordings,
    labels: Any,
    found: CrossValidated,
    metrics: Mapping[str, Metric],
    orders: np.ndarray,
    context: Mapping[str, Any] | None = None,
) -> dict[str, np.ndarray] | None:
    """Return the scores of the whole procedure under exchanged pairs, or None if the system has no exact null.

    Stimuli trade images, so all samples of a stimulus share one wrong image. Folds, standardization and inner folds
    stay; alphas are chosen again in each permutation.

    Parameters
    ----------
    system, recordings, labels
        As for :func:`cross_validate`.
    found : CrossValidated
        Its result.
    metrics : mapping of str to Metric
    orders : int array, shape (permutation, stimulus)
    context : mapping, optional
        What metrics need beside the images, one row for each stimulus.

    Returns
    -------
    dict of str to array, shape (permutation,)
        By the names of the scores.
    """
    if type(system).exact_null is System.exact_null:
        return None
    recordings, labels, _, shown = _design(system, recordings, np.asarray(labels).astype(str))
    _, first = np.unique(shown, return_index=True)
    sources = {spec.source for spec in system.targets.values()}
    targets = {source: np.asarray(recordings.target(source).data)[first] for source in sources}
    single = found.samples is not None
    with _few_threads(len(labels)):
        folds = system.exact_null(recordings.responses.astype(np.float64), targets, shown, labels)
        if folds is None:
            return None
        rows, of_samples = [], _context_of_samples(context, shown)
        for order in orders:
            reconstructed, samples = folds.reconstruct(order)
            reconstructed = resized(reconstructed, found.seen.shape[-3:-1])
            row = {
                _score_name(name, metric, single): summarize(
                    metric.values(found.seen, reconstructed, context, order)
                ).mean
                for name, metric in metrics.items()
            }
            if single:
                samples = resized(samples, found.seen.shape[-3:-1])
                for name, metric in _of_samples(metrics).items():
                    # The wrong stimulus of a sample, as a sample that shows it.
                    values = metric.values(found.seen[shown], samples, of_samples, first[order[shown]])
                    row[f"single_sample_{name}"] = summarize(values).mean
            rows.append(row)
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}


def exchanged_null(
    found: CrossValidated,
    metrics: Mapping[str, Metric],
    orders: np.ndarray,
    context: Mapping[str, Any] | None = None,
) -> dict[str, np.ndarray]:
    """Return the scores of reconstructions against other stimuli; parameters are those of :func:`refitted_null`."""
    single, null = found.samples is not None, {}
    seen, size = found.seen.astype(np.float32), found.seen.shape[-3:-1]
    reconstructed = resized(found.reconstructed, size)
    for name, metric in metrics.items():
        if metric.values(seen, reconstructed, context).ndim:
            null[_score_name(name, metric, single)] = metric.null(seen, reconstructed, orders, context)
    if found.samples is not None:
        samples = resized(found.samples, size)
        for name, metric in _of_samples(metrics).items():
            null[f"single_sample_{name}"] = metric.null(seen, samples, orders[:, found.shown], context)
    return null


def cross_validated_scores(
    found: CrossValidated,
    metrics: Mapping[str, Metric],
    null: Mapping[str, np.ndarray],
    context: Mapping[str, Any] | None = None,
) -> tuple[dict[str, np.ndarray], list[Score]]:
    """Return the values of each stimulus, and each score beside its null.

    If single samples are reconstructed, ``stimulus_mean_<metric>`` scores the mean reconstruction of each stimulus,
    and ``single_sample_<metric>`` the reconstruction of each sample. Identification among stimuli keeps the name of its
    metric.
    """
    single, size = found.samples is not None, found.seen.shape[-3:-1]
    seen, reconstructed = found.seen.astype(np.float32), resized(found.reconstructed, size)
    values, scores = {}, []
    for name, metric in metrics.items():
        of = metric.values(seen, reconstructed, context)
        if of.ndim:
            values[name] = of
        key = _score_name(name, metric, single)
        beside = None if metric.needs else metric.values(seen, found.baseline)
        scores.append(score_of(key, metric, of, null.get(key), beside, len(seen)))
    if found.samples is not None:
        samples, again = resized(found.samples, size), _context_of_samples(context, found.shown)
        for name, metric in _of_samples(metrics).items():
            key = f"single_sample_{name}"
            of = metric.values(seen[found.shown], samples, again)
            beside = None if metric.needs else metric.values(seen[found.shown], found.baseline_samples)  # type: ignore[arg-type]
            scores.append(score_of(key, metric, of, null.get(key), beside, len(samples)))
    return values, scores


def _design(
    system: System, recordings: Recordings, labels: np.ndarray
) -> tuple[Recordings, np.ndarray, np.ndarray, np.ndarray]:
    """Return samples (averaged if the system averages responses), their labels, the stimuli, and which are shown."""
    if labels.shape != (len(recordings.table),):
        raise InputError(
            "labels do not match the samples",
            given=f"shape {labels.shape}",
            expected=f"({len(recordings.table)},), one label for each sample",
            todo="take them from the same selection of samples",
        )
    shown, stimuli = pd.factorize(recordings.stimuli)
    first = np.array([np.argmax(shown == number) for number in range(len(stimuli))])
    if (labels[first][shown] != labels).any():
        raise InputError(
            "a stimulus has more than one value in labels",
            given="different values in samples of one stimulus",
            expected="one value for each stimulus",
            todo="cross-validate over a column that depends on the stimulus alone, e.g. stimulus or category",
        )
    if len(set(labels.tolist())) < 3:
        raise InputError(
            "there are too few labels for cross-validation",
            given=f"{len(set(labels.tolist()))} labels",
            expected="three or more: one to test, and two to choose alpha with",
            todo="cross-validate over another column",
        )
    if system.averages == "responses":
        return recordings.averaged(), labels[first], np.asarray(stimuli), np.arange(len(stimuli))
    return recordings, labels, np.asarray(stimuli), shown


def _shown(system: System) -> str:
    """Return what a system reconstructs, as a target: ``"images"`` or ``"frames"``."""
    return "frames" if system.kinds[0] == "video" else "images"


def _alphas(system: System) -> Any:
    """Return the alpha of the only decoder, or of each by name; None if no decoder has a single alpha."""
    found = {
        name: float(decoder.alpha_)
        for name, decoder in system.decoders_.items()
        if np.ndim(getattr(decoder, "alpha_", ())) == 0 and hasattr(decoder, "alpha_")
    }
    if len(system.decoders_) == 1:
        return next(iter(found.values()), None)
    return found or None


def _score_name(name: str, metric: Metric, single: bool) -> str:
    return f"stimulus_mean_{name}" if single and not metric.compares else name


def _of_samples(metrics: Mapping[str, Metric]) -> dict[str, Metric]:
    """Return the metrics that are defined for single samples: those that do not compare stimuli with one another."""
    return {name: metric for name, metric in metrics.items() if not metric.compares}


def _context_of_samples(context: Mapping[str, Any] | None, shown: np.ndarray) -> dict[str, Any]:
    """Return what metrics need, one row for each sample."""
    return {name: np.asarray(value)[shown] for name, value in (context or {}).items()}


def _mean_by(samples: np.ndarray, shown: np.ndarray) -> np.ndarray:
    """Average samples of the same stimulus."""
    return np.stack([samples[shown == number].mean(axis=0) for number in range(shown.max() + 1)])


def _few_threads(samples: int) -> threadpool_limits:
    """Keep small matrices on one thread: on a busy machine, several threads wait for each other for minutes."""
    return threadpool_limits(1 if samples <= FEW_SAMPLES else None)
