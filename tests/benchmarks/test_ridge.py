"""Ridge regression beside a loop of scikit-learn and beside himalaya, and the whole of Brain-Diffuser's regressions.

``pytest -m benchmark -s tests/benchmarks/test_ridge.py`` prints the rows of the table in docs/benchmarks.md.
``NEURORECON_RIDGE_SCALE=0.1`` makes samples, voxels and targets fewer, to try this file: bars are then not asserted.
Both sides of a ratio see the same numbers in the same precision, in one run, in turns.

The floor is the time that the products and factorizations of the method would take at the speed that matrix
products reach in the same run, in the precision that each is computed in.
"""

import json
import os
import subprocess
import sys
import time

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from neurorecon.decoders import RidgeDecoder, RidgeSmoother

pytestmark = pytest.mark.benchmark

SCALE = float(os.environ.get("NEURORECON_RIDGE_SCALE", "1"))

REPEATS = int(os.environ.get("NEURORECON_RIDGE_REPEATS", "3"))


def scaled(number):
    return max(4, round(number * SCALE))


#: As many samples to predict for each training sample as in NSD.
SAMPLES, VOXELS, TEST, TOKENS, CHANNELS = scaled(2000), scaled(3600), scaled(222), 12, scaled(768)

ALPHAS = np.logspace(2, 6, 5) * SCALE


def gemm_speed(dtype, side=2000):
    """Return floating-point operations in a second of a matrix product: the best of several."""
    side = scaled(side)
    left, right = (np.random.default_rng(seed).standard_normal((side, side)).astype(dtype) for seed in (0, 1))
    best = np.inf
    for _ in range(5):
        start = time.perf_counter()
        left @ right
        best = min(best, time.perf_counter() - start)
    return 2 * side**3 / best


def in_turns(**functions):
    """Return the best time of each of several functions, run in turns, and what each returned."""
    times, results = dict.fromkeys(functions, np.inf), {}
    for _ in range(REPEATS):
        for name, function in functions.items():
            start = time.perf_counter()
            results[name] = function()
            times[name] = min(times[name], time.perf_counter() - start)
    return times, results


def data(dtype):
    """Responses that predict targets to different degrees; targets of shape (sample, token, channel)."""
    generator = np.random.default_rng(0)
    X = generator.standard_normal((SAMPLES + TEST, VOXELS), dtype=np.float32)
    hidden = X @ generator.standard_normal((VOXELS, 50), dtype=np.float32) / np.float32(np.sqrt(VOXELS))
    Y = hidden @ generator.standard_normal((50, TOKENS * CHANNELS), dtype=np.float32) / np.float32(np.sqrt(50))
    noise = generator.standard_normal(Y.shape, dtype=np.float32)
    Y += noise * np.geomspace(0.1, 10, Y.shape[1], dtype=np.float32)
    X, Y = X.astype(dtype), Y.reshape(len(Y), TOKENS, CHANNELS).astype(dtype)
    return X[:SAMPLES], Y[:SAMPLES], X[SAMPLES:], Y[SAMPLES:]


def mean_r2(Y, predicted):
    residual = ((Y - predicted) ** 2).sum(axis=0)
    return float((1 - residual / ((Y - Y.mean(axis=0)) ** 2).sum(axis=0)).mean())


def row(what, ours, which, theirs, note):
    print(f"\n| {what} | {ours:.2f} s | {theirs:.2f} s | {which} | {theirs / ours:.1f} | {note} |", end="")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_fixed_alpha(dtype):
    from himalaya.kernel_ridge import KernelRidge

    X, Y, X_test, _ = data(dtype)
    flat = Y.reshape(len(Y), -1)
    alpha = float(ALPHAS[2])

    def loop():
        return np.stack([Ridge(alpha).fit(X, Y[:, token]).predict(X_test) for token in range(TOKENS)], axis=1)

    times, results = in_turns(
        ours=lambda: RidgeSmoother(X, X_test, dtype=dtype, gram_dtype=dtype).predict(Y, alpha),
        decoder=lambda: RidgeDecoder(alpha, dtype=dtype).fit_and_predict(X, Y, X_test),
        fitted=lambda: RidgeDecoder(alpha, dtype=dtype).fit(X, Y).predict(X_test),
        loop=loop,
        himalaya=lambda: KernelRidge(alpha, fit_intercept=True).fit(X, flat).predict(X_test),
    )
    for name in ("ours", "decoder", "fitted"):
        np.testing.assert_allclose(results[name], results["loop"], atol=1e-4)
    np.testing.assert_allclose(results["ours"].reshape(TEST, -1), results["himalaya"], atol=1e-3)
    speed = gemm_speed(dtype)
    factorized = SAMPLES**2 * VOXELS + SAMPLES**3 / 3 + 2 * TEST * SAMPLES * (VOXELS + SAMPLES)
    floor = (factorized + 2 * TEST * SAMPLES * TOKENS * CHANNELS) / speed
    what = f"fixed alpha, {SAMPLES:,} x {VOXELS:,}, {TOKENS} x {CHANNELS} targets, {TEST} predictions, {dtype}"
    share = f"floor {floor:.2f} s, {floor / times['ours']:.0%} of it reached"
    loop_of = "scikit-learn, one `Ridge` per token"
    row(f"{what}: `RidgeSmoother`", times["ours"], loop_of, times["loop"], share)
    row(f"{what}: `RidgeSmoother`", times["ours"], "himalaya `KernelRidge`", times["himalaya"], share)
    row(f"{what}: `fit_and_predict`, products in float64", times["decoder"], loop_of, times["loop"], "")
    row(f"{what}: `fit`, then `predict`", times["fitted"], loop_of, times["loop"], "")
    if SCALE == 1:
        assert times["loop"] >= 25 * times["ours"]
        assert times["himalaya"] >= 10 * times["ours"]


def test_alpha_for_each_target():
    from himalaya.kernel_ridge import KernelRidgeCV

    X, Y, X_test, Y_test = data("float32")
    flat = Y.reshape(len(Y), -1)

    def ours(cv):
        return RidgeDecoder(ALPHAS, cv=cv, alpha_per="target").fit_and_predict(X, Y, X_test)

    times, results = in_turns(
        gcv=lambda: ours("gcv"),
        folds=lambda: ours(5),
        himalaya=lambda: KernelRidgeCV(ALPHAS, cv=5, fit_intercept=True).fit(X, flat).predict(X_test),
    )
    truth = Y_test.reshape(TEST, -1)
    scores = {name: mean_r2(truth, np.asarray(result).reshape(truth.shape)) for name, result in results.items()}
    what = f"alpha for each of {flat.shape[1]:,} targets among {len(ALPHAS)}, {SAMPLES:,} x {VOXELS:,}, float32"
    for name, label in (("gcv", "generalized cross-validation"), ("folds", "5 folds")):
        note = f"mean test R2 {scores[name]:.4f}, theirs {scores['himalaya']:.4f}"
        row(f"{what}: {label}", times[name], "himalaya `KernelRidgeCV`, 5 folds", times["himalaya"], note)
    if SCALE == 1:
        assert scores["gcv"] >= scores["himalaya"] - 1e-3
    assert scores["folds"] >= scores["himalaya"] - 1e-4
    if SCALE == 1:
        assert times["himalaya"] >= 2.5 * times["gcv"]
        assert times["himalaya"] >= times["folds"]


MEASURE = """
import json, os, resource, sys, time
import numpy as np
from neurorecon.decoders import RidgeSmoother

samples, voxels, test, dtype, *sizes = json.loads(sys.argv[1])
generator = np.random.default_rng(0)
X = generator.standard_normal((samples, voxels), dtype=np.float32).astype(dtype)
X_test = generator.standard_normal((test, voxels), dtype=np.float32).astype(dtype)

class Generated:
    # Columns of one drawn block, so that drawing random numbers takes no time.
    pool = generator.standard_normal((samples, 2**25 // samples), dtype=np.float32).astype(dtype)
    def __init__(self, n_targets):
        self.shape, self.dtype = (samples, n_targets), np.dtype(dtype)
    def __getitem__(self, key):
        return self.pool[:, : key[1].stop - key[1].start]

start = time.perf_counter()
smoother = RidgeSmoother(X, X_test, dtype=dtype, gram_dtype=dtype)
prepared = time.perf_counter() - start
parts, predictions = [], []
for alpha, n_targets in zip((1e5, 6e4, 5e4), sizes):
    begin = time.perf_counter()
    predictions.append(smoother.predict(Generated(n_targets), alpha * voxels / 15724))
    parts.append(time.perf_counter() - begin)
print(json.dumps({
    "seconds": time.perf_counter() - start,
    "prepared": prepared,
    "parts": parts,
    "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
}))
"""

LOOP = """
import json, sys, time
import numpy as np
from sklearn.linear_model import Ridge

samples, voxels, test, dtype, channels = json.loads(sys.argv[1])
generator = np.random.default_rng(0)
X = generator.standard_normal((samples, voxels), dtype=np.float32).astype(dtype)
X_test = generator.standard_normal((test, voxels), dtype=np.float32).astype(dtype)

def seconds(n_targets):
    y = generator.standard_normal((samples, n_targets), dtype=np.float32).astype(dtype)
    start = time.perf_counter()
    Ridge(alpha=6e4 * voxels / 15724, max_iter=10000, fit_intercept=True).fit(X, y).predict(X_test)
    return time.perf_counter() - start

print(json.dumps([seconds(channels), seconds(5 * channels)]))
"""


def measured(script, *arguments):
    found = subprocess.run(
        [sys.executable, "-c", script, json.dumps(arguments)], check=True, capture_output=True, text=True, timeout=7200
    )
    return json.loads(found.stdout)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_all_regressions_of_brain_diffuser(dtype):
    """CLIP text (77 x 768), CLIP vision (257 x 768) and VDVAE latents (91,168), subject 1 of NSD.

    The released loop is one scikit-learn Ridge for each token, and one for all latents. A Ridge of one token and one
    of five times as many targets are measured; the first is counted 77 + 257 times, and the latents as one token
    and, for each further target, the difference of the two.
    """
    samples, voxels, test, channels = scaled(8859), scaled(15724), scaled(982), scaled(768)
    sizes = (77 * channels, 257 * channels, scaled(91168))
    loop, more = measured(LOOP, samples, voxels, test, dtype, channels)
    ours = measured(MEASURE, samples, voxels, test, dtype, *sizes)
    speed = gemm_speed(dtype, 3000)
    factorized = samples**2 * voxels + 2 * test * samples * voxels + 3 * (samples**3 / 3 + 2 * test * samples**2)
    products = 2 * test * samples * sum(sizes)
    floor = (factorized + products) / speed
    each = max(0.0, more - loop) / (4 * channels)
    released = (77 + 257 + 1) * loop + (sizes[2] - channels) * each
    what = f"Brain-Diffuser, {samples:,} x {voxels:,}, {sum(sizes):,} targets, {test} predictions, {dtype}"
    note = (
        f"peak {ours['peak']:.1f} GiB, floor {floor:.1f} s ({(factorized + products) / 1e12:.1f} Tflop at "
        f"{speed / 1e9:.0f} Gflop/s), {floor / ours['seconds']:.0%} of it reached"
    )
    row(what, ours["seconds"], f"released loop, from one token of {loop:.1f} s", released, note)
    if SCALE == 1:
        assert ours["peak"] <= 8
        assert ours["seconds"] <= 2 * floor
        assert released >= 100 * ours["seconds"]
