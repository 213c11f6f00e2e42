"""Reconstruct stimuli from the responses of a store with any system, and score them beside their nulls.

By split, a system is fitted on the training split and the test split is reconstructed. Cross-validated, a stimulus is
reconstructed by a system that has never met it: one label after the other is left out.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import clone
from threadpoolctl import threadpool_limits

from neurorecon.analyses.evaluate import Evaluation, choose_metrics, context_of, score_of, score_pairs, stimulus_labels
from neurorecon.analyses.evaluate import write_evaluation as write_reconstruction
from neurorecon.decoders.samples import Recordings, choose_shown_task, peak_delays
from neurorecon.errors import InputError, UnknownNameError
from neurorecon.metrics.base import FORMER_NAMES, Metric, summarize
from neurorecon.metrics.image import resized
from neurorecon.stats import stimulus_permutations
from neurorecon.store.store import Store
from neurorecon.systems.base import System, load_system

__all__ = ["CrossValidated", "Reconstruction", "cross_validate", "reconstruct", "write_reconstruction"]

#: Up to this many samples matrix products are not worth several threads.
FEW_SAMPLES = 500

#: What can be left out, or exchanged within.
COLUMNS = ("category", "stimulus", "session", "run")


@dataclass(frozen=True, kw_only=True)
class Reconstruction(Evaluation):
    """Stimuli reconstructed from the brain of one subject; see :class:`~neurorecon.analyses.evaluate.Evaluation`.

    Parameters
    ----------
    subject, system, task : str
        What was done. Where single samples are reconstructed, `reconstructed` is their mean over the samples of a
        stimulus.
    """

    subject: str
    system: str
    task: str

    @property
    def stem(self) -> str:
        """What the names of all files begin with."""
        return f"{self.subject}_{self.system}"

    @property
    def title(self) -> str:
        """What the panel shows, in words."""
        return f"Seen and reconstructed · {self.subject}"

    @property
    def sentence(self) -> str:
        """How the reconstructions were made, in one sentence."""
        column = self.settings["cross_validate"]
        how = f"leave one {column} out" if column else "fitted on the training split"
        targets = ", ".join(self.settings["targets"])
        return f"{self.system}: {targets} decoded from {self.settings['voxels']:,} voxels, {how}."

    @property
    def rebuilt(self) -> np.ndarray:
        """The former name of `reconstructed`."""
        warnings.warn("Reconstruction.rebuilt is called reconstructed now", DeprecationWarning, stacklevel=2)
        return self.reconstructed

    def __getattr__(self, name: str) -> np.ndarray:
        """Return the values of a metric by its former name, which was an attribute."""
        if name not in FORMER_NAMES or FORMER_NAMES[name] not in self.values:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        found = FORMER_NAMES[name]
        warnings.warn(f"Reconstruction.{name} is values[{found!r}] now", DeprecationWarning, stacklevel=2)
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
    compute: Any = None,
) -> Reconstruction:
    """Reconstruct what a subject saw.

    Parameters
    ----------
    store : Store
        From :func:`neurorecon.open_store`; it has to hold the stimuli and the targets of the system.
    system : str or System
        A registered name, a folder of a saved system, or a system. One that is fitted is used as it is.
    subject : str, optional
        By default the first.
    roi : str or list of str, optional
        As in :meth:`Store.responses`; by default all voxels, or those of a fitted system.
    task : str, optional
        By default the one with the most stimuli that have all targets.
    metrics : sequence of str, optional
        Registered names; by default the system's, else those of the registry.
    options : mapping, optional
        Parameters of a system that is given by name.
    cross_validate : str, optional
        Leave one value of this out at a time: a column of the stimuli (``"category"``) or of the samples
        (``"session"``, ``"run"``, ``"stimulus"``). By default the system is fitted on the training split, and the test
        split is reconstructed.
    exchange : str, optional
        Pairs of the null are exchanged only between stimuli with the same value of this column: ``"category"``,
        ``"session"`` or ``"run"``. The null then keeps what can be told from, e.g., the session alone.
    n_permutations : int
        Of the null.
    seed : int
        Of the permutations, and of the noise that images are generated from.
    device : str
        Where a system with a parameter `device` computes.
    folder : path, optional
        Where the decoders are kept as they are fitted, so that an interrupted fit resumes; not cross-validated.
    compute : Compute, optional
        Who computes; see :meth:`neurorecon.System.fit_decode`.

    Returns
    -------
    Reconstruction
        ``settings["null"]`` says which null it is: where a cross-validated system can be refitted exactly for each
        permutation it is, else reconstructions are scored against other stimuli.

    Raises
    ------
    UnknownNameError, InputError
        Where a name does not exist, or the store has no test split and `cross_validate` was not given.
    """
    name = subject if subject is not None else store.subjects[0]
    built, device = _load(system, options, device)
    fitted = hasattr(built, "decoders_")
    if fitted and roi is None and built.provenance_["roi"] is not None:
        kept = built.provenance_["roi"]
        roi = kept if isinstance(kept, str) else tuple(kept)
    chosen = choose_metrics(metrics, built.metrics, built.kinds[0])
    targets = dict(built.targets)
    picked = choose_shown_task(store, name, [spec.source for spec in targets.values()], task)
    settings: dict[str, Any] = {
        "subject": name,
        "system": built.name,
        "options": _options(built),
        "targets": list(targets),
        "roi": roi if roi is None or isinstance(roi, str) else list(roi),
        "task": picked,
        "metrics": list(chosen),
        "cross_validate": cross_validate,
        "exchange": exchange,
        "n_permutations": n_permutations,
        "seed": seed,
        "device": device,
        "voxels": len(store.voxels(name, roi)),
        "delays": list(peak_delays(store, name, picked)),
    }
    if cross_validate is None:
        return _by_split(store, name, roi, built, fitted, chosen, settings, folder, compute)
    if folder is not None or fitted:
        raise InputError(
            "cross-validation fits a system for each label, so one folder or one fitted system does not go with it",
            given=f"cross_validate={cross_validate!r}, {'a fitted system' if fitted else f'folder={folder}'}",
            todo="leave the folder out, and give a system that is not fitted",
        )
    return _cross_validated(store, name, roi, built, chosen, settings, compute)


def _load(system: str | System, options: Mapping[str, Any] | None, device: str) -> tuple[System, str]:
    """Return the system, not shared with the caller unless it is fitted, and where it computes."""
    if isinstance(system, System):
        if options:
            raise InputError("options go with the name of a system", given="a system and options", todo="set_params")
        built = system if hasattr(system, "decoders_") else clone(system)
        return built, str(built.get_params().get("device", device))
    built = load_system(system, **(options or {}))
    takes = "device" in built.get_params()
    if device != "cpu" and not takes:
        raise InputError(
            f"the system {built.name!r} has no choice of device",
            given=f"device {device!r}",
            expected="no device",
            todo="leave the device out",
        )
    if takes and "device" not in (options or {}):
        built.set_params(device=device)
    return built, str(built.get_params().get("device", device))


def _options(system: System) -> dict[str, Any]:
    """Return the parameters of a system as the record holds them; estimators and the like as text."""
    plain = (str, bool, int, float, tuple, list, dict, Path, type(None))
    return {
        name: value if isinstance(value, plain) or hasattr(value, "tolist") else repr(value)
        for name, value in system.get_params(deep=False).items()
    }


def _by_split(
    store: Store,
    subject: str,
    roi: Any,
    system: System,
    fitted: bool,
    metrics: Mapping[str, Metric],
    settings: dict[str, Any],
    folder: str | Path | None,
    compute: Any,
) -> Reconstruction:
    task, samples = settings["task"], store.samples(subject)
    splits = set(samples.loc[samples["task"] == task, "split"])
    if not {"train", "test"} <= splits:
        raise InputError(
            f"the task {task!r} has no held-out stimuli",
            given=f"splits: {', '.join(sorted(splits))}",
            expected="a split 'train' and a split 'test', or a column to cross-validate over",
            todo="add --cross-validate category (or stimulus, run, session)",
        )
    train, test = (Recordings.read(store, subject, roi, task=task, split=split) for split in ("train", "test"))
    alone = len(test.table) == 1
    # The train split is read once, here, because the mean training image is needed too; repeats are averaged.
    if fitted:
        decoded = system.decode(_labeled(test))
    elif folder is None:
        decoded = system.fit_decode(store, subject, _labeled(test), samples=train, alone=alone, compute=compute)
    else:
        system.fit(store, subject, samples=train, alone=alone, folder=folder, compute=compute)
        decoded = system.decode(_labeled(test))
    reconstructed = system.generate(decoded, seed=settings["seed"]).values
    shown = _shown(system)
    seen = np.asarray(test.target(shown).data).astype(np.float32)
    baseline = np.asarray(train.target(shown).data.mean(axis=0, dtype=np.float32))
    ids = test.stimuli.tolist()
    within = None if settings["exchange"] is None else stimulus_labels(store, subject, ids, settings["exchange"])
    orders = stimulus_permutations(len(ids), settings["n_permutations"], settings["seed"], within)
    context = context_of(store, ids, decoded=decoded)
    values, scores, null = score_pairs(metrics, seen, reconstructed, orders, context=context, baseline=baseline)
    alphas = _alphas(system)
    settings |= {"null": "exchanged pairs", "compared_at": list(seen.shape[-3:-1])}
    settings |= {"train_samples": len(train.table), "test_stimuli": len(ids)}
    settings |= {} if alphas is None else {"alpha": alphas}
    settings |= _renorm(system, alone)
    return Reconstruction(
        subject=subject, system=settings["system"], task=task, stimuli=ids, seen=seen, reconstructed=reconstructed,
        values=values, scores=[_named(subject, score) for score in scores], null=null, settings=settings,
    )  # fmt: skip


@dataclass(frozen=True)
class CrossValidated:
    """Images reconstructed by systems that never met their stimulus.

    Parameters
    ----------
    stimuli : array of str, shape (stimulus,)
        In order of first appearance.
    seen : array, shape (stimulus, [frame,] y, x, rgb)
        float64 in [0, 1].
    reconstructed : array, shape (stimulus, [frame,] y, x, rgb)
        Mean over the samples of each stimulus where single samples are reconstructed.
    baseline : array, shape (stimulus, [frame,] y, x, rgb)
        Mean image of the training set of each stimulus: what a system that ignores the brain would reconstruct.
    shown : int array, shape (sample,)
        Which stimulus each sample shows.
    samples, baseline_samples : array, shape (sample, [frame,] y, x, rgb), or None
        The same of single samples; None where responses are averaged.
    alphas : dict of str
        What was chosen in each fold.
    alone : bool
        Whether a fold had a single sample, so that nothing could be rescaled by the moments of a test set.
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
    system: System, recordings: Recordings, labels: Any, *, seed: int = 0, compute: Any = None
) -> CrossValidated:
    """Leave one label out: reconstruct its samples with a system fitted on all others.

    Standardization and alphas come from the training samples of each fold, alphas by inner cross-validation that leaves
    whole labels out.

    Parameters
    ----------
    system : System
        Fitted as a clone in each fold.
    recordings : Recordings
        All samples.
    labels : array, shape (sample,)
        What is left out as a whole, e.g. the stimulus or the category.
    seed : int
        Of the noise that images are generated from.
    compute : Compute, optional
        As for :meth:`System.fit`.

    Raises
    ------
    InputError
        Where there are fewer than three labels, or a stimulus has two.
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
                _labeled(recordings.take(held)),
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
    """Return scores of the whole procedure under exchanged pairs; None where the system cannot be refitted exactly.

    Images change places between stimuli, so that all samples of a stimulus keep a common, wrong image. Folds,
    standardization and inner folds are those of the truth; alphas are chosen anew for every permutation.

    Parameters
    ----------
    system, recordings, labels
        As for :func:`cross_validate`.
    found : CrossValidated
        What it returned.
    metrics : mapping of str to Metric
    orders : int array, shape (permutation, stimulus)
    context : mapping, optional
        What metrics need beside the images, one row a stimulus.

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
        rows = []
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
                    again = _context_of_samples(context, shown)
                    values = metric.values(found.seen[shown], samples, again, _order_of_samples(order, shown))
                    row[f"single_sample_{name}"] = summarize(values).mean
            rows.append(row)
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}


def exchanged_null(
    found: CrossValidated,
    metrics: Mapping[str, Metric],
    orders: np.ndarray,
    context: Mapping[str, Any] | None = None,
) -> dict[str, np.ndarray]:
    """Return scores of reconstructions that are taken for those of other stimuli; see :func:`refitted_null`."""
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
) -> tuple[dict[str, np.ndarray], list[dict[str, Any]]]:
    """Return the values of each stimulus, and each score beside its null.

    Where single samples are reconstructed, ``stimulus_mean_<metric>`` scores the mean of the reconstructions of each
    stimulus and ``single_sample_<metric>`` those of the samples; identification among stimuli has the name of its
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


def _cross_validated(
    store: Store,
    subject: str,
    roi: Any,
    system: System,
    metrics: Mapping[str, Metric],
    settings: dict[str, Any],
    compute: Any,
) -> Reconstruction:
    column, seed = settings["cross_validate"], settings["seed"]
    if column not in COLUMNS:
        raise UnknownNameError("column to cross-validate over", column, COLUMNS)
    recordings = Recordings.read(store, subject, roi, task=settings["task"])
    if column == "category":
        labels = store.stimuli.set_index("id")["category"].loc[recordings.stimuli.tolist()].to_numpy().astype(str)
    else:
        labels = recordings.table[column].to_numpy().astype(str)
    found = cross_validate(system, recordings, labels, seed=seed, compute=compute)
    ids = found.stimuli.tolist()
    within = None if settings["exchange"] is None else stimulus_labels(store, subject, ids, settings["exchange"])
    orders = stimulus_permutations(len(ids), settings["n_permutations"], seed, within)
    context = context_of(store, ids)
    null = refitted_null(system, recordings, labels, found, metrics, orders, context)
    settings |= {"null": "exchanged pairs" if null is None else "refitted for each permutation"}
    if null is None:
        null = exchanged_null(found, metrics, orders, context)
    values, scores = cross_validated_scores(found, metrics, null, context)
    settings |= {"compared_at": list(found.seen.shape[-3:-1]), "samples": len(labels), "stimuli": len(ids)}
    settings |= {"alphas": found.alphas} if found.alphas else {}
    settings |= _renorm(system, found.alone)
    return Reconstruction(
        subject=subject, system=settings["system"], task=settings["task"], stimuli=ids,
        seen=found.seen.astype(np.float32), reconstructed=found.reconstructed, values=values,
        scores=[_named(subject, score) for score in scores], null=dict(null), settings=settings,
    )  # fmt: skip


def _design(
    system: System, recordings: Recordings, labels: np.ndarray
) -> tuple[Recordings, np.ndarray, np.ndarray, np.ndarray]:
    """Return samples (averaged where the system averages responses), their labels, the stimuli, and which are shown."""
    if labels.shape != (len(recordings.table),):
        raise InputError(
            "labels do not match the samples",
            given=f"shape {labels.shape}",
            expected=f"({len(recordings.table)},), one a sample",
            todo="take them from the same selection of samples",
        )
    shown, stimuli = pd.factorize(recordings.stimuli)
    first = np.array([np.argmax(shown == number) for number in range(len(stimuli))])
    if (labels[first][shown] != labels).any():
        raise InputError(
            "a stimulus has more than one value in labels",
            given="different values in samples of one stimulus",
            expected="one value for each stimulus",
            todo="use a column that depends on the stimulus alone",
        )
    if len(set(labels.tolist())) < 3:
        raise InputError(
            "leaving one label out needs others to learn from",
            given=f"{len(set(labels.tolist()))} labels",
            expected="three or more: one to test, two to choose alpha by",
            todo="cross-validate by another column",
        )
    if system.averages == "responses":
        return recordings.averaged(), labels[first], np.asarray(stimuli), np.arange(len(stimuli))
    return recordings, labels, np.asarray(stimuli), shown


def _labeled(recordings: Recordings) -> Any:
    """Return responses with the ids of their stimuli and their voxels, as decode checks them."""
    import xarray

    coordinates = {"stimulus": ("stimulus", recordings.stimuli), "voxel": ("voxel", recordings.voxels)}
    return xarray.DataArray(recordings.responses, dims=("stimulus", "voxel"), coords=coordinates)


def _shown(system: System) -> str:
    """Return what a system reconstructs, as targets are called."""
    return "frames" if system.kinds[0] == "video" else "images"


def _alphas(system: System) -> Any:
    """Return the alpha of the only decoder, or of each; None where there are none, or more than can be listed."""
    found = {
        name: float(decoder.alpha_)
        for name, decoder in system.decoders_.items()
        if np.ndim(getattr(decoder, "alpha_", ())) == 0 and hasattr(decoder, "alpha_")
    }
    if len(system.decoders_) == 1:
        return next(iter(found.values()), None)
    return found or None


def _renorm(system: System, alone: bool) -> dict[str, str]:
    """Return what the record says where decoders could not rescale by the moments of a test set."""
    wanted = [name for name, spec in system.targets.items() if getattr(spec.decoder, "renorm", None) == "test"]
    if not alone or not wanted:
        return {}
    return {"renorm": f"train instead of test in {', '.join(wanted)}: a single stimulus was held out"}


def _score_name(name: str, metric: Metric, single: bool) -> str:
    return f"stimulus_mean_{name}" if single and not metric.compares else name


def _of_samples(metrics: Mapping[str, Metric]) -> dict[str, Metric]:
    """Return the metrics that make sense for single samples: those that do not compare stimuli with one another."""
    return {name: metric for name, metric in metrics.items() if not metric.compares}


def _context_of_samples(context: Mapping[str, Any] | None, shown: np.ndarray) -> dict[str, Any]:
    """Return what metrics need, one row a sample."""
    return {name: np.asarray(value)[shown] for name, value in (context or {}).items()}


def _order_of_samples(order: np.ndarray, shown: np.ndarray) -> np.ndarray:
    """Return, for each sample, a sample that shows the stimulus that its own has been exchanged for."""
    _, first = np.unique(shown, return_index=True)
    return first[order[shown]]


def _mean_by(samples: np.ndarray, shown: np.ndarray) -> np.ndarray:
    """Average samples of the same stimulus."""
    return np.stack([samples[shown == number].mean(axis=0) for number in range(shown.max() + 1)])


def _named(subject: str, score: dict[str, Any]) -> dict[str, Any]:
    return {**score, "name": f"{subject} {score['name']}"}


def _few_threads(samples: int) -> threadpool_limits:
    """Keep small matrices on one thread: more would only wait for each other, on a busy machine for minutes."""
    return threadpool_limits(1 if samples <= FEW_SAMPLES else None)
