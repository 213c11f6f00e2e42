"""Refit permutation tests of an encoding map beside refitting with himalaya, both in one run.

``pytest -m benchmark -s tests/benchmarks/test_permutation.py`` prints the rows of docs/benchmarks.md. Sizes:
``NEURORECON_PERMUTATION_SIZES="samples,features,voxels,test samples,permutations"`` (3000,768,2000,300,1000), and
``NEURORECON_PERMUTATION_REFITS`` (2): how many refits of each of himalaya's models are timed. Every refit is the same
work, so the best of them stands for each of the permutations.
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
REFITS = int(os.environ.get("NEURORECON_PERMUTATION_REFITS", "2"))
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
    start = time.perf_counter()
    found = function()
    return time.perf_counter() - start, found


def _models():
    """Yield himalaya's ridge regressions with an alpha for each target, by name; the quicker one is compared with."""
    from himalaya.kernel_ridge import KernelRidgeCV
    from himalaya.ridge import RidgeCV

    solver = {"n_targets_batch": 2000, "n_alphas_batch": 2}
    yield "RidgeCV", RidgeCV(alphas=ALPHAS, cv=_folds(), fit_intercept=True, solver_params=solver)
    yield "KernelRidgeCV", KernelRidgeCV(alphas=ALPHAS, cv=_folds(), fit_intercept=True, solver_params=solver)


def test_beside_refitting_with_himalaya(arrays):
    from himalaya.backend import get_backend, set_backend

    from neurorecon.decoders.scores import r2_score
    from neurorecon.stats import refit_permutation_test

    x, y, x_test, y_test = arrays
    whole, test = _timed(lambda: refit_permutation_test(*arrays, alphas=ALPHAS, n_permutations=PERMUTATIONS))
    factors = np.ascontiguousarray(x[:, : min(FEATURES, SAMPLES - 1)])
    products = min(_timed(lambda: factors.T @ y)[0] for _ in range(5))
    before, best, scores = get_backend(), {}, {}
    for backend in ("numpy", "torch"):
        try:
            set_backend(backend)
            for name, model in _models():
                label = f"{name}, {backend}"
                for _ in range(REFITS):
                    seconds, fitted = _timed(lambda model=model: np.asarray(model.fit(x, y).predict(x_test)))
                    best[label] = min(best.get(label, np.inf), seconds)
                scores[label] = r2_score(y_test, fitted)
        finally:
            set_backend(before)
    quickest = min(best, key=best.get)
    # The same folds give the same scores; the choice by generalized cross-validation is no worse.
    folds, same = _timed(lambda: refit_permutation_test(*arrays, alphas=ALPHAS, cv=_folds(), n_permutations=3))
    np.testing.assert_allclose(same.observed, scores[quickest], atol=1e-3)
    assert test.observed.mean() > scores[quickest].mean() - 0.002
    each = whole / PERMUTATIONS
    print(f"\n| {PERMUTATIONS:,} refit permutations, {SIZE}, {len(ALPHAS)} alphas by generalized cross-validation "
          f"| {whole:.1f} s | {best[quickest] * PERMUTATIONS:.0f} s (1 refit: {best[quickest]:.2f} s) "
          f"| himalaya {quickest}, {FOLDS} folds | {best[quickest] / each:.0f} |")  # fmt: skip
    print(f"| the same, its one product U'Y alone | {each * 1e3:.0f} ms each | {products * 1e3:.0f} ms "
          f"({2e-9 * SAMPLES * factors.shape[1] * VOXELS / products:.0f} GFLOP/s) | floor "
          f"| {products / each:.0%} of the floor reached |")  # fmt: skip
    print(f"| alpha by the same {FOLDS} folds | {folds / 4:.2f} s each | {best[quickest]:.2f} s | himalaya {quickest} "
          f"| {best[quickest] / (folds / 4):.1f} |")  # fmt: skip
    print("| " + "; ".join(f"himalaya {name} {seconds:.2f} s" for name, seconds in best.items()) + " |")
    means = [part[::4].mean() for part in (test.observed, scores[quickest])]
    print(f"| mean R2 of the voxels with signal | {means[0]:.4f} (GCV) | {means[1]:.4f} | himalaya {quickest} | |")
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
