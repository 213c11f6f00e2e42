"""Stimuli that are reconstructed by a system that was not trained on them, and their scores beside their nulls.

In cross-validation, one label is held out at a time. Where a system reconstructs single samples, both the mean over the
samples of a stimulus and each sample are scored.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import clone
from threadpoolctl import threadpool_limits

from neurorecon.analyses.evaluate import score_of, values_of
from neurorecon.analyses.results import Score
from neurorecon.decoders.samples import Recordings
from neurorecon.errors import InputError
from neurorecon.metrics.base import Metric, summarize
from neurorecon.metrics.image import resized
from neurorecon.parallel import Compute
from neurorecon.systems.base import System
from neurorecon.systems.generation import generate_parts

#: With at most this many samples, matrix products are not worth several threads.
FEW_SAMPLES = 500


@dataclass(frozen=True)
class HeldOut:
    """Images, each reconstructed by a system that was not trained on its stimulus.

    With several seeds, reconstructions have a dimension ``seed`` after the first.

    Parameters
    ----------
    stimuli : array of str, shape (stimulus,)
        In order of first appearance.
    seen : array, shape (stimulus, [frame,] y, x, rgb)
        float64 in [0, 1].
    reconstructed : array, shape (stimulus, [seed,] [frame,] y, x, rgb)
        If single samples are reconstructed, their mean over the samples of each stimulus.
    baseline : array, shape (stimulus, [frame,] y, x, rgb)
        Mean image of the training set of each stimulus: what a system that ignores the brain would reconstruct.
    shown : int array, shape (sample,)
        Which stimulus each sample shows.
    samples : array, shape (sample, [seed,] [frame,] y, x, rgb), or None
        Reconstructions of single samples; None if responses are averaged.
    baseline_samples : array, shape (sample, [frame,] y, x, rgb), or None
        As `baseline`, of single samples.
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
    seeds: Sequence[int] = (0,),
    compute: Compute = Compute(),  # noqa: B008 (frozen)
) -> HeldOut:
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
    seeds : sequence of int
        Of the noise that images are generated from.
    compute : Compute
        Who computes; see :meth:`neurorecon.System.fit_decode`.

    Raises
    ------
    InputError
        If there are fewer than three labels, or a stimulus has two.
    """
    from tqdm import tqdm

    labels = np.asarray(labels).astype(str)
    recordings, labels, stimuli, shown = _design(system, recordings, labels)
    quiet = replace(compute, progress=False)  # one bar for all folds
    target = recordings.target(shown_by(system))
    images = target.data
    _, first = np.unique(shown, return_index=True)
    alone = bool(min(np.unique(labels, return_counts=True)[1]) == 1)
    parts: list[tuple[np.ndarray, np.ndarray]] = []
    baseline = np.empty(target.shape)  # float64, because means of few images can tie
    alphas = {}
    for label in tqdm(dict.fromkeys(labels.tolist()), desc="folds", disable=not compute.progress, leave=False):
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
                compute=quiet,
            )
            images_of_fold = generate_parts(fitted, decoded, seeds, quiet)
            parts.append((held, images_of_fold[:, 0] if len(seeds) == 1 else images_of_fold))
        baseline[held] = np.asarray(images[~held].mean(axis=0))
        alphas[label] = alphas_of(fitted)
    samples = np.empty((len(labels), *parts[0][1].shape[1:]), dtype=np.float32)
    for held, found in parts:
        samples[held] = found
    single = system.averages == "reconstructions"
    return HeldOut(
        stimuli=stimuli,
        seen=np.asarray(images[first], dtype=np.float64),
        reconstructed=mean_by(samples, shown) if single else samples,
        baseline=mean_by(baseline, shown) if single else baseline,
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
    found: HeldOut,
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
    found : HeldOut
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
    found: HeldOut,
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


def held_out_scores(
    found: HeldOut,
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
        of, extra = values_of(metric, seen, reconstructed, context)
        if of.ndim:
            values[name] = of
        key = _score_name(name, metric, single)
        beside = None if metric.needs else metric.values(seen, found.baseline)
        scores.append(score_of(key, metric, of, null.get(key), beside, len(seen), extra))
    if found.samples is not None:
        samples, again = resized(found.samples, size), _context_of_samples(context, found.shown)
        for name, metric in _of_samples(metrics).items():
            key = f"single_sample_{name}"
            of, extra = values_of(metric, seen[found.shown], samples, again)
            beside = None if metric.needs else metric.values(seen[found.shown], found.baseline_samples)  # type: ignore[arg-type]
            scores.append(score_of(key, metric, of, null.get(key), beside, len(samples), extra))
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


def shown_by(system: System) -> str:
    """Return what a system reconstructs, as a target: ``"images"`` or ``"frames"``."""
    return "frames" if system.kinds[0] == "video" else "images"


def alphas_of(system: System) -> Any:
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


def mean_by(samples: np.ndarray, shown: np.ndarray) -> np.ndarray:
    """Average samples of the same stimulus."""
    return np.stack([samples[shown == number].mean(axis=0) for number in range(shown.max() + 1)])


def _few_threads(samples: int) -> threadpool_limits:
    """Keep small matrices on one thread: on a busy machine, several threads wait for each other for minutes."""
    return threadpool_limits(1 if samples <= FEW_SAMPLES else None)
