"""Banded ridge beside himalaya called by hand with the same settings: time, peak memory, and the same numbers.

One command prints the rows of its table in docs/benchmarks.md::

    pytest -m benchmark -s tests/benchmarks/test_banded.py

``NEURORECON_BANDED_SAMPLES`` makes the problem smaller, to try this file: everything goes by the number of samples.
Times are the best of three, the two sides in turns. Memory is the peak that the operating system counts, each side in a
process of its own, less what imports take.
"""

import json
import os
import subprocess
import sys
import time
from functools import partial

import numpy as np
import pytest

pytestmark = pytest.mark.benchmark

SAMPLES = int(os.environ.get("NEURORECON_BANDED_SAMPLES", "1000"))
BANDS, FOLDS, REPEATS = ("clip", "vdvae", "motion"), 5, 3
ALPHAS = np.logspace(-1, 5, 13)

#: What both sides of the comparison of memory share: features and responses made chunk by chunk when they are read.
LAZY = """
import json, resource, sys, time
import numpy as np, dask, dask.array
import himalaya.kernel_ridge, himalaya.scoring, torch
from himalaya.backend import set_backend
from neurorecon.decoders import BandedRidge, candidate_mixtures, fit_by_voxel_block, kernels_by_block
dask.config.set(scheduler="synchronous")
n, width, voxels, block = map(int, sys.argv[1:])
bands = ("clip", "vdvae", "motion")
rng = np.random.default_rng(0)
latent = {band: rng.standard_normal((n, 10), dtype=np.float32) for band in bands}

def lazily(make, columns):
    sizes = ((n,), tuple(min(1024, columns - start) for start in range(0, columns, 1024)))
    return dask.array.map_blocks(make, chunks=sizes, dtype=np.float32, meta=np.empty((0, 0), np.float32))

def features(number):
    def make(block_info=None):
        at = block_info[None]["array-location"][1]
        rng = np.random.default_rng([number, at[0]])
        part = latent[bands[number]] @ rng.standard_normal((10, at[1] - at[0]), dtype=np.float32)
        return part + rng.standard_normal(part.shape, dtype=np.float32)
    return make

def voxel_chunk(block_info=None):
    at = block_info[None]["array-location"][1]
    rng = np.random.default_rng([9, at[0]])
    part = latent[bands[at[0] // 1024 % 3]] @ rng.standard_normal((10, at[1] - at[0]), dtype=np.float32)
    return part / 3 + rng.standard_normal(part.shape, dtype=np.float32)

X = {band: lazily(features(number), width) for number, band in enumerate(bands)}
Y = lazily(voxel_chunk, voxels)
alphas, mixtures = np.logspace(-1, 5, 13), candidate_mixtures(3)
batch = max(1, 2**29 // (2 * 4 * n * len(alphas)))  # targets at once, as BandedRidge does
before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
found = []
"""

OURS = """
kernels, _ = kernels_by_block(X)
model = BandedRidge(solver="random_search", cv=5, voxel_block=block, n_targets_batch=batch)
for _, fitted in fit_by_voxel_block(model, kernels, Y):
    found.append(fitted.mixtures_)
"""

BY_HAND = """
set_backend("torch")
kernels = []
for band in bands:
    x = X[band].compute()
    x -= x.mean(axis=0)
    kernels.append(x @ x.T)
    kernels[-1] /= np.diagonal(kernels[-1]).mean()
model = himalaya.kernel_ridge.MultipleKernelRidgeCV(
    kernels="precomputed", fit_intercept=True, cv=5,
    solver_params={"n_iter": torch.as_tensor(mixtures, dtype=torch.float32),
                   "alphas": torch.as_tensor(alphas, dtype=torch.float32), "progress_bar": False,
                   "n_targets_batch": batch, "n_targets_batch_refit": batch})
with np.errstate(divide="ignore"):
    model.fit(torch.as_tensor(np.stack(kernels)), torch.as_tensor(Y.compute()))
weights = np.exp(model.deltas_.numpy())
found.append(weights / weights.sum(axis=0))
"""

REPORT = """
seconds, peak = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
winners = np.concatenate(found, axis=1).argmax(axis=0)
print(json.dumps({"seconds": seconds, "bytes": 1024 * (peak - before), "winners": np.bincount(winners).tolist()}))
"""


def _measure(work, *arguments):
    command = [sys.executable, "-c", LAZY + work + REPORT, *map(str, arguments)]
    found = subprocess.run(command, check=True, capture_output=True, text=True, timeout=7200)
    return json.loads(found.stdout)


def _problem(n_samples, n_voxels):
    generator = np.random.default_rng(0)
    kernels, responses = [], generator.standard_normal((n_samples, n_voxels), dtype=np.float32)
    for number in range(len(BANDS)):
        x = generator.standard_normal((n_samples, 40 * (1 + 10 * number)), dtype=np.float32)
        x -= x.mean(axis=0)
        driven = slice(number, None, len(BANDS))
        weights = generator.standard_normal((x.shape[1], len(range(n_voxels)[driven])), dtype=np.float32)
        responses[:, driven] += x @ weights / x.shape[1] ** 0.5
        kernel = x @ x.T
        kernels.append(kernel / np.diagonal(kernel).mean())
    return np.stack(kernels), responses


def _speed_of_products(n_samples, n_voxels):
    """Floating-point operations a second of the product that the search repeats."""
    import torch

    left = torch.ones((n_samples // FOLDS, n_samples - n_samples // FOLDS))
    right = torch.ones((left.shape[1], min(n_voxels, 4096)))
    best = np.inf
    for _ in range(5):
        started = time.perf_counter()
        left @ right
        best = min(best, time.perf_counter() - started)
    return 2 * left.numel() * right.shape[1] / best


def _in_turns(*sides):
    """Return the best time of each side, and what it returned last."""
    times, found = [[] for _ in sides], [None] * len(sides)
    for _ in range(REPEATS):
        for number, side in enumerate(sides):
            started = time.perf_counter()
            found[number] = side()
            times[number].append(time.perf_counter() - started)
    return [min(part) for part in times], found


def _by_hand(kernels, responses, solver, options):
    """Fit himalaya's own estimator on its torch backend, the quicker one on a processor."""
    import torch
    from himalaya.kernel_ridge import MultipleKernelRidgeCV

    from neurorecon.decoders.solvers import himalaya_backend

    with himalaya_backend("cpu"), np.errstate(divide="ignore"):
        model = MultipleKernelRidgeCV(
            kernels="precomputed",
            solver=solver,
            fit_intercept=solver == "random_search",
            cv=FOLDS,
            random_state=0,
            solver_params={**options, "progress_bar": False},
        )
        return np.exp(model.fit(torch.as_tensor(kernels), torch.as_tensor(responses)).deltas_.numpy())


@pytest.mark.parametrize("solver", ["random_search", "gradient"])
def test_speed_beside_himalaya(solver):
    import torch

    from neurorecon.decoders import BandedRidge, candidate_mixtures

    n_voxels = 10 * SAMPLES if solver == "random_search" else SAMPLES
    kernels, responses = _problem(SAMPLES, n_voxels)
    batch = max(1, 2**29 // (2 * 4 * SAMPLES * len(ALPHAS)))
    if solver == "random_search":
        mixtures = candidate_mixtures(len(BANDS))
        options = {
            "n_iter": torch.as_tensor(mixtures, dtype=torch.float32),
            "alphas": torch.as_tensor(ALPHAS, dtype=torch.float32),
            "n_targets_batch": batch,
            "n_targets_batch_refit": batch,
        }
        theirs, ours = "random_search", BandedRidge(solver=solver, cv=FOLDS)
        flops = 2 * len(mixtures) * len(ALPHAS) * SAMPLES**2 * (1 - 1 / FOLDS) * n_voxels
    else:
        options = {"max_iter": 5, "initial_deltas": 0.0, "tol": None}
        theirs, ours = "hyper_gradient", BandedRidge(solver=solver, cv=FOLDS, solver_params=options)
        flops = None
        responses -= responses.mean(axis=0)
        responses /= responses.std(axis=0)
    (our_time, their_time), (model, weights) = _in_turns(
        lambda: ours.fit_kernels(kernels, responses), lambda: _by_hand(kernels, responses, theirs, options)
    )
    floor = ""
    if flops is not None:
        seconds = flops / _speed_of_products(SAMPLES, n_voxels)
        floor = f"; products of the search alone {seconds:.2f} s, {seconds / our_time:.0%} of their speed"
    print(
        f"\n| `BandedRidge`, {solver}: {SAMPLES:,} samples, {n_voxels:,} voxels, 3 bands | {our_time:.2f} s "
        f"| {their_time:.2f} s | himalaya by hand, torch backend{floor} | {their_time / our_time:.2f} |"
    )
    agree = np.isclose(model.band_weights_, weights, rtol=1e-2, atol=1e-6).all(axis=0).mean()
    assert agree > 0.99
    assert our_time <= 1.1 * their_time


def test_group_ridge_beside_kernels():
    """Features fewer than samples: what `solver="auto"` gains, for each number of features."""
    from neurorecon.decoders import BandedRidge

    generator = np.random.default_rng(0)
    n_voxels = SAMPLES
    for share in (0.1, 0.25, 0.5, 0.75):
        width = int(share * SAMPLES) // 3 * 3
        X = generator.standard_normal((SAMPLES, width), dtype=np.float32)
        Y = X @ generator.standard_normal((width, n_voxels), dtype=np.float32) / width**0.5
        Y += generator.standard_normal(Y.shape, dtype=np.float32)
        labels = np.repeat(BANDS, width // 3)
        one, other = (BandedRidge(labels, solver=solver) for solver in ("group_ridge", "random_search"))
        times, (grouped, on_kernels) = _in_turns(partial(one.fit, X, Y), partial(other.fit, X, Y))
        print(
            f"\n| the same on {width} features (`group_ridge`), {SAMPLES:,} samples, {n_voxels:,} voxels "
            f"| {times[0]:.2f} s | {times[1]:.2f} s | on kernels | {times[1] / times[0]:.2f} |"
        )
        assert np.mean(np.abs(grouped.predict(X[:20]) - on_kernels.predict(X[:20])) < 1e-3) > 0.99


def test_memory_where_features_and_voxels_do_not_fit():
    width, voxels, block = 60 * SAMPLES, 100 * SAMPLES, 20 * SAMPLES
    ours, theirs = (_measure(work, SAMPLES, width, voxels, block) for work in (OURS, BY_HAND))
    print(
        f"\n| {SAMPLES:,} samples, 3 x {width:,} features, {voxels:,} voxels, read in blocks: peak memory "
        f"| {ours['bytes'] / 2**30:.2f} GiB | {theirs['bytes'] / 2**30:.2f} GiB | himalaya by hand "
        f"| {ours['bytes'] / theirs['bytes']:.2f} |"
        f"\n| the same: time | {ours['seconds']:.0f} s | {theirs['seconds']:.0f} s | himalaya by hand "
        f"| {theirs['seconds'] / ours['seconds']:.2f} |"
    )
    differing = np.abs(np.subtract(ours["winners"], theirs["winners"])).sum()
    assert differing <= 0.001 * voxels
    assert ours["bytes"] < 0.5 * theirs["bytes"]
