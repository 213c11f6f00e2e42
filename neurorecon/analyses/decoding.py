"""Decoding maps: the weight of each voxel in a linear decoder of a target, and the pattern that goes with it.

The weights of a decoder are not a map of where information is: a voxel can get a large weight for canceling the
noise of others (Haufe et al. 2014, NeuroImage 87:96). The Haufe pattern, covariance times weights, is; it says
how strongly a voxel varies with what is decoded. Both are offered, and every file says which one it holds.

Under the null, a decoder is fitted to targets that traded places with others, as the design allows
(:mod:`neurorecon.stats.exchange`). Where samples are ordered, targets are shifted in a circle within runs: in any other
order they would not be as smooth as those that were shown, and any smooth noise would look like a pattern.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from neurorecon.analyses.design import DecodingSettings, order_of_features, runs_of, sessions_differ
from neurorecon.decoders.samples import same_order
from neurorecon.errors import InputError
from neurorecon.io.tensors import block_digest
from neurorecon.parallel import Compute, Results, ResultsFolder, Stored, run
from neurorecon.parallel.jobs import FOLDER, Arrays
from neurorecon.stats import PermutationCounter, permutation_p, stimulus_permutations
from neurorecon.stats.exchange import (
    Exchange,
    center_by,
    choose_exchange,
    residual_autocorrelation,
    run_orders,
)
from neurorecon.store.store import Store

#: Permutations of one job.
BATCH = 50

#: Runs shorter than this many correlation times of the targets are whitened before they are tested.
WHITENED_TIMES = 7


@dataclass(frozen=True)
class DecodingFit:
    """A decoder of one target and its map.

    Parameters
    ----------
    target : str
        What is decoded.
    value : array, shape (voxel,)
        Root mean square weight over features ("decoding"), or strength of the Haufe pattern ("haufe"): the root
        of the summed squared covariances of the standardized voxel with the decoded features, over the root of
        the features' summed variance. For one feature that is their absolute correlation.
    p, null_mean : array, shape (voxel,)
        From decoders that are fitted to training targets that traded places. NaN for p where no test is valid.
    n_permutations : int
        Of the map: fewer than asked for if there are no more orders.
    whitening : float
        Lag-1 autocorrelation that was removed from responses and targets for p; 0 if p is that of the map as it is.
    correlation, correlation_p : float
        Mean correlation over features of decoded and true target on the test stimuli.
    correlation_null : array, shape (permutation,)
        The same in permuted orders of the test stimuli.
    alpha : float
        Alpha that cross-validation chose.
    stimuli : int
        Number of test stimuli.
    """

    target: str
    value: np.ndarray
    p: np.ndarray
    null_mean: np.ndarray
    n_permutations: int
    whitening: float
    correlation: float
    correlation_null: np.ndarray
    correlation_p: float
    alpha: float
    stimuli: int


def choose_units(
    store: Store,
    subject: str,
    task: str,
    targets: Sequence[str],
    tables: Sequence[pd.DataFrame],
    asked: str | None = None,
) -> tuple[Exchange, Exchange]:
    """Choose what trades places in the null of a map and in that of the correlation on test samples.

    Parameters
    ----------
    store : Store
        With the targets, and with all presentations.
    subject, task : str
        Whose samples, of which task.
    targets : sequence of str
        Whether their order is random decides for all of them.
    tables : (DataFrame, DataFrame)
        The training and the test samples as they are decoded, from
        :func:`~neurorecon.decoders.samples.decoding_samples`.
    asked : str, optional
        The unit that the user asks for.

    Returns
    -------
    map, correlation : Exchange
    """
    samples = store.samples(subject)
    samples = samples[samples["task"] == task]
    parts = [samples[samples["split"] == split] for split in ("train", "test")]
    measured = [order_of_features(store, [target], parts[0]) for target in targets]
    smooth = max(
        (found for found in measured if found is not None), key=lambda found: found[0] - found[1], default=None
    )
    runs = [set(zip(part["session"], part["run"], strict=True)) for part in parts]
    first, second = (
        choose_exchange(
            asked,
            series=task in store.series(subject),
            stimuli=table["stimulus"],
            runs=runs_of(table),
            sessions=table["session"],
            fixed_order=same_order(part),
            autocorrelation=smooth,
            confounded=sessions_differ(part),
            shared_runs=bool(number and runs[0] & runs[1]),
        )
        for number, (table, part) in enumerate(zip(tables, parts, strict=True))
    )
    return first, second


def in_order(values: np.ndarray, table: pd.DataFrame) -> tuple[np.ndarray, pd.DataFrame]:
    """Return samples in the order in which they were recorded: a store may hold them in any order.

    Parameters
    ----------
    values : array, shape (sample, voxel)
    table : DataFrame
        With ``session``, ``run`` and ``time``; where times are not known, samples stay as they are.
    """
    if not np.isfinite(table["time"].to_numpy(dtype=float)).all():
        return values, table
    order = np.lexsort([table[name] for name in ("time", "run", "session")])
    return values[order], table.iloc[order].reset_index(drop=True)


def fit_decoding(
    store: Store,
    targets: Sequence[str],
    train: tuple[np.ndarray, pd.DataFrame],
    test: tuple[np.ndarray, pd.DataFrame],
    *,
    series: bool,
    settings: DecodingSettings,
    exchange: tuple[Exchange, Exchange] = (Exchange("stimulus", ""),) * 2,
    scheduler: Any = None,
    threads: int | None = None,
    results: str | Path | None = None,
    progress: bool = False,
) -> Iterator[tuple[str, DecodingFit]]:
    """Fit a ridge decoder of each target and map its weights or its patterns.

    Parameters
    ----------
    store : Store
        With the targets.
    targets : sequence of str
        Their names.
    train, test : (array, DataFrame)
        From :func:`~neurorecon.decoders.samples.decoding_samples`.
    series : bool
        Whether folds are runs (time series) rather than stimuli.
    settings : DecodingSettings
        Weights or patterns, alphas, permutations, seed and device.
    exchange : (Exchange, Exchange)
        What trades places in the null of the map and in that of the correlation, from :func:`choose_units`. Where that
        is within sessions or runs, their means are subtracted from responses and targets.
    scheduler, threads, results, progress
        Who computes the null, in batches of permutations, as for :func:`neurorecon.maps`.

    Yields
    ------
    target : str
        Its name.
    fit : DecodingFit
        The decoder.

    Raises
    ------
    InputError
        If no feature of a target varies in the training and the test samples.
    """
    from neurorecon.decoders.ridge import RidgeDecoder

    of_map, of_correlation = exchange
    blocks = _blocks(train[1], of_map.unit), _blocks(test[1], of_map.unit)
    # Correlations over test samples do not depend on the mean that is subtracted from these.
    inputs, held_out = (center_by(part[0], labels) for part, labels in zip((train, test), blocks, strict=True))
    spread = inputs.std(axis=0)
    inputs, held_out = (part / np.where(spread > 0, spread, 1) for part in (inputs, held_out))
    runs = runs_of(train[1])
    groups = runs if series and len(set(runs)) >= 3 else train[1]["stimulus"].to_numpy()
    kind = "haufe" if settings.pattern == "haufe" else "decoding"
    orders = orders_of(train[1], of_map.unit, settings.n_permutations, settings.seed)
    test_orders = orders_of(test[1], of_correlation.unit, settings.n_permutations, settings.seed)
    alphas = [alpha * inputs.shape[1] for alpha in settings.alphas]

    def fitted(responses: np.ndarray, outputs: np.ndarray, labels: np.ndarray) -> Any:
        return RidgeDecoder(alpha=alphas, cv=5, device=settings.device).fit(responses, outputs, groups=labels)

    for target in targets:
        outputs, truth = _standardized_targets(store, target, (train[1]["stimulus"], test[1]["stimulus"]), blocks)
        decoder = fitted(inputs, outputs, groups)
        value, counter = _map_and_null(decoder, outputs, kind, orders, scheduler, threads, results, progress)
        rho, p = _whitening(inputs, outputs, runs) if of_map.unit == "shift" else 0.0, counter.p
        if rho > 0:
            rows, both = _whitened(np.concatenate([inputs, outputs], axis=1), runs, rho)
            voxels, labels = inputs.shape[1], runs[rows]
            again = fitted(both[:, :voxels], both[:, voxels:], groups[rows])
            shifts = run_orders(labels, settings.n_permutations, settings.seed)
            p = _map_and_null(again, both[:, voxels:], kind, shifts, scheduler, threads, results, progress)[1].p
        predicted = decoder.predict(held_out)
        score = _correlations(predicted, truth).mean()
        null = np.array([_correlations(predicted, truth[order]).mean() for order in test_orders])
        yield (
            target,
            DecodingFit(
                target,
                value,
                p if of_map.valid else np.full_like(p, np.nan),
                counter.null_mean,
                counter.n_permutations,
                rho,
                float(score),
                null,
                float(permutation_p(score, null)) if of_correlation.valid else np.nan,
                float(decoder.alpha_),
                test[1]["stimulus"].nunique(),
            ),
        )


def _blocks(table: pd.DataFrame, unit: str) -> np.ndarray:
    """Return a label for each sample; means of a label are subtracted (the same for all if stimuli are exchanged)."""
    if unit == "stimulus":
        return np.zeros(len(table), dtype=np.int64)
    return table["session"].to_numpy() if unit == "session" else runs_of(table)


def orders_of(table: pd.DataFrame, unit: str, n_permutations: int, seed: int) -> np.ndarray:
    """Return for each permutation the row whose target each sample gets, (permutation, sample)."""
    if unit in ("run", "shift"):
        return run_orders(runs_of(table), n_permutations, seed, unit=unit)  # type: ignore[arg-type]
    codes, unique = pd.factorize(table["stimulus"])  # samples of one stimulus stay together
    first = np.unique(codes, return_index=True)[1]
    within = table["session"].to_numpy()[first] if unit == "session" else None
    orders = stimulus_permutations(len(unique), n_permutations, seed, within)
    return first[orders][:, codes]


def _standardized_targets(
    store: Store, target: str, stimuli: Sequence[Sequence[str]], blocks: Sequence[np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Return a target of the training and the test samples, less the mean of their blocks, in standard deviations."""
    values = store.targets(target, stimuli=[*stimuli[0], *stimuli[1]]).values.reshape(
        len(stimuli[0]) + len(stimuli[1]), -1
    )
    train, test = (
        center_by(part, labels) for part, labels in zip(np.split(values, [len(stimuli[0])]), blocks, strict=True)
    )
    spread = train.std(axis=0)
    # A feature that is constant in either part has no correlation.
    kept = (spread > 1e-6) & (test.std(axis=0) > 1e-6)
    if not kept.any():
        raise InputError(
            f"no feature of {target!r} varies in the training and in the test samples",
            given=f"{len(kept)} features",
            expected="stimuli that differ, also within sessions or runs if these are exchanged or shifted",
            todo="choose another target, or exchange stimuli: --exchange stimulus",
        )
    return train[:, kept] / spread[kept], test[:, kept] / spread[kept]


def _whitening(inputs: np.ndarray, outputs: np.ndarray, runs: np.ndarray) -> float:
    """Return the autocorrelation that responses have in common, if runs are short beside that of the targets; else 0.

    With fewer than :data:`WHITENED_TIMES` correlation times of the targets in a run, shifts alone find too much.
    """
    lengths = np.bincount(runs)
    energy, time = (outputs**2).sum(), 1.0
    for lag in range(1, lengths.max()):
        pairs = np.flatnonzero(runs[lag:] == runs[:-lag])
        share = float((outputs[pairs] * outputs[pairs + lag]).sum() / energy)
        if share <= 0:
            break
        time += 2 * share
    if lengths.mean() >= WHITENED_TIMES * time:
        return 0.0
    return float(np.median(residual_autocorrelation(np.zeros_like(inputs), inputs, runs)))


def _whitened(values: np.ndarray, runs: np.ndarray, rho: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows that are left, and their values less rho times those before, centered by run and standardized."""
    rows = 1 + np.flatnonzero(runs[1:] == runs[:-1])
    white = center_by(values[rows] - rho * values[rows - 1], runs[rows])
    spread = white.std(axis=0)
    return rows, white / np.where(spread > 0, spread, 1)


def _map_and_null(
    decoder: Any,
    outputs: np.ndarray,
    kind: str,
    orders: Sequence[np.ndarray] | np.ndarray,
    scheduler: Any = None,
    threads: int | None = None,
    parent: str | Path | None = None,
    progress: bool = False,
) -> tuple[np.ndarray, PermutationCounter]:
    """Return the map and its null, refitted for each permutation from the one factorization of the responses.

    The map only needs the lengths of the voxels' weight vectors, so the targets are rotated into their principal
    components first: as many columns as there are stimuli, however many features.
    """
    s = decoder.singular_values_
    left, singular, _ = np.linalg.svd(outputs - outputs.mean(axis=0), full_matrices=False)
    inputs = {
        "u": decoder.sample_vectors_.astype(np.float32),
        "s": s,
        "shrink": s / (s**2 + decoder.alpha_),
        "v": decoder.voxel_vectors_.astype(np.float32),
        "targets": (left * singular).astype(np.float32),
        "orders": np.asarray(orders, dtype=np.int64),
    }
    kept = _kept(inputs, kind, scheduler, parent, threads)
    # In this process no worker reads the decoder, so it needs no file.
    given = Results() if scheduler is None else kept
    starts = range(0, len(orders), BATCH)
    batches = {f"permutations {start}-{min(start + BATCH, len(orders)) - 1}": start for start in starts}
    if not all(kept.has(name) for name in batches):
        given.prepare()
        given.put("decoder", inputs)
    job = functools.partial(null_of_batch, Stored(given, "decoder"), kind, outputs.shape[1])
    compute = Compute(scheduler=scheduler, threads=threads, progress=progress)
    run(job, batches, kept, compute, label="permutations")
    value = _strength(inputs, kind, outputs.shape[1], inputs["targets"])
    counter = PermutationCounter(value)
    for name in batches:
        counter.update(kept.get(name)["null"])
    given.remove("decoder")  # as large as the responses; the batches are small
    return value, counter


def _kept(inputs: Arrays, kind: str, scheduler: Any, parent: str | Path | None, threads: int | None) -> Results:
    """Return where batches are kept: in memory if there is no scheduler and no folder."""
    if scheduler is None and parent is None:
        return Results()
    digests = {name: block_digest(values) for name, values in inputs.items()}
    everything = {"analysis": "null of a decoder's map", "kind": kind, "inputs": digests, "threads": threads}
    return ResultsFolder.of(everything, FOLDER if parent is None else parent)


def null_of_batch(decoder: Stored, kind: str, features: int, start: int) -> Arrays:
    """Return the maps of decoders fitted in some permuted orders, ``null`` (permutation, voxel)."""
    inputs = decoder.load(keep=True)
    orders = inputs["orders"][start : start + BATCH]
    return {"null": np.stack([_strength(inputs, kind, features, inputs["targets"][order]) for order in orders])}


def _strength(inputs: Arrays, kind: str, features: int, targets: np.ndarray) -> np.ndarray:
    """Return the map of a decoder fitted to targets, (voxel,)."""
    s, shrink, v = inputs["s"], inputs["shrink"], inputs["v"]
    coordinates, samples = inputs["u"].T @ targets, len(targets)
    if kind == "decoding":
        weights = v @ (shrink[:, None] * coordinates)
        return np.asarray(np.sqrt((weights**2).sum(axis=1) / features))
    covariances = v @ ((s**2 * shrink)[:, None] * coordinates) / samples
    variance = (((s * shrink)[:, None] * coordinates) ** 2).sum() / samples
    return np.asarray(np.sqrt((covariances**2).sum(axis=1) / variance))


def _correlations(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the correlation over stimuli of each feature, (feature,)."""
    first, second = first - first.mean(axis=0), second - second.mean(axis=0)
    norms = np.sqrt((first**2).sum(axis=0) * (second**2).sum(axis=0))
    return (first * second).sum(axis=0) / np.where(norms > 0, norms, 1)
