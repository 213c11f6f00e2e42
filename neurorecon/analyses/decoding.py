"""Decoding maps: the weight of each voxel in a linear decoder of a target, and the pattern that goes with it.

The weights of a decoder are not a map of where information is: a voxel can get a large weight for canceling the
noise of others (Haufe et al. 2014, NeuroImage 87:96). The Haufe pattern, covariance times weights, is; it says
how strongly a voxel varies with what is decoded. Both are offered, and every file says which one it holds.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from neurorecon.analyses.design import DecodingSettings
from neurorecon.io.tensors import block_digest
from neurorecon.parallel import Compute, Results, ResultsFolder, Stored, run
from neurorecon.parallel.jobs import FOLDER, Arrays
from neurorecon.stats import PermutationCounter, permutation_p, stimulus_permutations
from neurorecon.store.store import Store

#: Permutations of one job.
BATCH = 50


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
        From decoders that are fitted to permuted training stimuli.
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
    correlation: float
    correlation_null: np.ndarray
    correlation_p: float
    alpha: float
    stimuli: int


def fit_decoding(
    store: Store,
    targets: Sequence[str],
    train: tuple[np.ndarray, pd.DataFrame],
    test: tuple[np.ndarray, pd.DataFrame],
    *,
    series: bool,
    settings: DecodingSettings,
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
    scheduler, threads, results, progress
        Who computes the null, in batches of permutations, as for :func:`neurorecon.maps`.

    Yields
    ------
    target : str
        Its name.
    fit : DecodingFit
        The decoder.
    """
    from neurorecon.decoders.ridge import RidgeDecoder

    mean, spread = train[0].mean(axis=0), train[0].std(axis=0)
    scale = np.where(spread > 0, spread, 1)
    inputs, held_out = ((part - mean) / scale for part in (train[0], test[0]))
    runs = train[1].groupby(["session", "run"]).ngroup().to_numpy()
    groups = runs if series and len(set(runs)) >= 3 else train[1]["stimulus"].to_numpy()
    kind = "haufe" if settings.pattern == "haufe" else "decoding"
    orders = np.stack(list(_orders(train[1]["stimulus"], settings.n_permutations, settings.seed)))
    for target in targets:
        outputs, truth = _standardized_targets(store, target, train[1]["stimulus"], test[1]["stimulus"])
        alphas = [alpha * inputs.shape[1] for alpha in settings.alphas]
        decoder = RidgeDecoder(alpha=alphas, cv=5, device=settings.device)
        decoder.fit(inputs, outputs, groups=groups)
        value, counter = _map_and_null(decoder, outputs, kind, orders, scheduler, threads, results, progress)
        predicted = decoder.predict(held_out)
        score = _correlations(predicted, truth)
        test_orders = _orders(test[1]["stimulus"], settings.n_permutations, settings.seed)
        null = np.array([_correlations(predicted, truth[order]).mean() for order in test_orders])
        yield (
            target,
            DecodingFit(
                target,
                value,
                counter.p,
                counter.null_mean,
                float(score.mean()),
                null,
                float(permutation_p(score.mean(), null)),
                float(decoder.alpha_),
                test[1]["stimulus"].nunique(),
            ),
        )


def _orders(stimuli: pd.Series, n_permutations: int, seed: int) -> Iterator[np.ndarray]:
    """Return for each permutation the row whose target each sample gets; samples of one stimulus stay together."""
    codes, unique = pd.factorize(stimuli)
    first = np.unique(codes, return_index=True)[1]
    for order in stimulus_permutations(len(unique), n_permutations, seed):
        yield first[order][codes]


def _standardized_targets(
    store: Store, target: str, train: Sequence[str], test: Sequence[str]
) -> tuple[np.ndarray, np.ndarray]:
    values = store.targets(target, stimuli=[*train, *test]).values.reshape(len(train) + len(test), -1)
    mean, spread = values[: len(train)].mean(axis=0), values[: len(train)].std(axis=0)
    # A feature that is constant in either part has no correlation.
    kept = (spread > 1e-6) & (values[len(train) :].std(axis=0) > 1e-6)
    standardized = (values[:, kept] - mean[kept]) / spread[kept]
    return standardized[: len(train)], standardized[len(train) :]


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
