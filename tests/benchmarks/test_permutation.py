"""Refit permutation tests of an encoding map beside refitting with himalaya, both in one run.

``pytest -m benchmark -s tests/benchmarks/test_permutation.py`` prints the rows of docs/benchmarks.md. Sizes:
``NEURORECON_PERMUTATION_SIZES="samples,features,voxels,test samples,permutations"`` (3000,768,2000,300,1000), and
``NEURORECON_PERMUTATION_REFITS`` (3): how many refits of himalaya are timed with each of its backends. Every refit is
the same work, so the best of them stands for each of the permutations. Processor time is compared, because other work
on the machine does not change it; give both sides the same threads (``OMP_NUM_THREADS``).
"""

import json
import os
import subprocess
import sys
import time

import numpy as np
import pytest

pytestmark = pytest.mark.benchmark

SAMPLES, FEATURES, VOXELS, TEST, PERMUTATIONS = map(
    int, os.environ.get("NEURORECON_PERMUTATION_SIZES", "3000,768,2000,300,1000").split(",")
)
REFITS = int(os.environ.get("NEURORECON_PERMUTATION_REFITS", "3"))
SIZE = f"{SAMPLES:,} x {FEATURES} features, {VOXELS:,} voxels, {TEST} test samples"

ALPHAS = np.logspace(0, 5, 10)
FOLDS = 5

MEMORY = """
import json, os, resource, sys
import numpy as np
from neurorecon.stats import refit_permutation_test
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
parts = [np.load(os.path.join(sys.argv[1], name + ".npy")) for name in ("x", "y", "x_test", "y_test")]
before = peak()
refit_permutation_test(*parts, alphas=np.logspace(0, 5, 10), n_permutations=3)
print(json.dumps([before, peak()]))
"""


@pytest.fixture(scope="module")
def arrays():
    """Training features and responses, and those of the test set; a quarter of the voxels hold signal."""
    random = np.random.default_rng(0)
    x = random.standard_normal((SAMPLES + TEST, FEATURES), dtype=np.float32) / np.sqrt(1 + np.arange(FEATURES) / 20)
    x = x.astype(np.float32)
    weights = random.standard_normal((FEATURES, VOXELS), dtype=np.float32) * (np.arange(VOXELS) % 4 == 0)
    signal = x @ weights
    y = 0.5 * signal / signal.std() + random.standard_normal(signal.shape, dtype=np.float32)
    return x[:SAMPLES], y[:SAMPLES].astype(np.float32), x[SAMPLES:], y[SAMPLES:].astype(np.float32)


def _folds():
    return [
        (np.setdiff1d(np.arange(SAMPLES), held_out), held_out) for held_out in np.array_split(np.arange(SAMPLES), FOLDS)
    ]


def _timed(function):
    start = time.process_time()
    found = function()
    return time.process_time() - start, found


def _refit(x, y, x_test):
    """Fit ridge regression with an alpha for each target, as himalaya advises for more samples than features."""
    from himalaya.ridge import RidgeCV

    solver = {"n_targets_batch": 2000, "n_alphas_batch": 2}
    model = RidgeCV(alphas=ALPHAS, cv=_folds(), fit_intercept=True, solver_params=solver)
    return np.asarray(model.fit(x, y).predict(x_test))


def test_beside_refitting_with_himalaya(arrays):
    from himalaya.backend import get_backend, set_backend

    from neurorecon.decoders.validation import r2_score
    from neurorecon.stats import refit_permutation_test

    x, y, x_test, y_test = arrays
    whole, test = _timed(lambda: refit_permutation_test(*arrays, alphas=ALPHAS, n_permutations=PERMUTATIONS))
    factors = np.ascontiguousarray(x[:, : min(FEATURES, SAMPLES - 1)])
    products = min(_timed(lambda: factors.T @ y)[0] for _ in range(5))
    before, best, scores = get_backend(), {}, {}
    for _ in range(REFITS):
        for backend in ("numpy", "torch"):
            try:
                set_backend(backend)
                seconds, fitted = _timed(lambda: _refit(x, y, x_test))
            finally:
                set_backend(before)
            best[backend] = min(best.get(backend, np.inf), seconds)
            scores[backend] = r2_score(y_test, fitted)
    quickest = min(best, key=best.get)
    # The same folds give the same scores; the choice by generalized cross-validation is no worse.
    folds, same = _timed(lambda: refit_permutation_test(*arrays, alphas=ALPHAS, cv=_folds(), n_permutations=3))
    np.testing.assert_allclose(same.observed, scores[quickest], atol=1e-3)
    assert test.observed.mean() > scores[quickest].mean() - 0.002
    each = whole / PERMUTATIONS
    print(f"\n| {PERMUTATIONS:,} refit permutations, {SIZE}, {len(ALPHAS)} alphas by generalized cross-validation "
          f"| {whole:.1f} s | {best[quickest] * PERMUTATIONS:.0f} s (1 refit: {best[quickest]:.2f} s) "
          f"| himalaya RidgeCV ({quickest}), {FOLDS} folds | {best[quickest] / each:.0f} |")  # fmt: skip
    print(f"| the same, its one product U'Y alone | {each * 1e3:.0f} ms each | {products * 1e3:.0f} ms "
          f"({2e-9 * SAMPLES * factors.shape[1] * VOXELS / products:.0f} GFLOP/s) | floor "
          f"| {products / each:.0%} of the floor reached |")  # fmt: skip
    print(f"| alpha by the same {FOLDS} folds | {folds / 4:.2f} s each | {best[quickest]:.2f} s | himalaya RidgeCV "
          f"| {best[quickest] / (folds / 4):.1f} |")  # fmt: skip
    print("| " + "; ".join(f"himalaya on {name} {seconds:.2f} s" for name, seconds in best.items()) + " |")
    means = [part[::4].mean() for part in (test.observed, scores[quickest])]
    print(f"| mean R2 of the voxels with signal | {means[0]:.4f} (GCV) | {means[1]:.4f} | himalaya RidgeCV | |")
    assert best[quickest] / each >= 30 or SAMPLES < 3000


def test_memory(arrays, tmp_path):
    for name, array in zip(("x", "y", "x_test", "y_test"), arrays, strict=True):
        np.save(tmp_path / f"{name}.npy", array)
    found = subprocess.run(
        [sys.executable, "-c", MEMORY, str(tmp_path)], check=True, capture_output=True, text=True, timeout=3600
    )
    before, peak = json.loads(found.stdout)
    given = sum(array.nbytes for array in arrays) / 2**20
    print(f"\n| refit permutations, {SIZE}: memory beyond the arrays | {(peak - before) * 1024:.0f} MiB "
          f"| {given:.0f} MiB | the arrays themselves | |")  # fmt: skip
    assert peak < 3
