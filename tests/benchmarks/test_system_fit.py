"""The fit of the systems on the embedded store, target by target, beside the floor of its arithmetic.

    pytest -m benchmark -s tests/benchmarks/test_system_fit.py

``SCENES`` names a store that is there; by default it is built. The floor: one Gram matrix and its eigenvectors in
float64 (9 n³ operations), and the product of all eigenvectors with all features in float32, at the speed that matrix
products reach in the same run. Choosing alphas, the held-out predictions of the renormalization, and reading are extra.
"""

from __future__ import annotations

import os
import time

import numpy as np
import pytest
from sklearn.base import clone

import neurorecon as nr
from neurorecon.decoders.samples import Recordings
from neurorecon.systems.base import standardizer


def gemm_speed(dtype, side=2000):
    """Return floating-point operations in a second of a matrix product: the best of several."""
    left, right = (np.random.default_rng(seed).standard_normal((side, side)).astype(dtype) for seed in (0, 1))
    seconds = []
    for _ in range(5):
        begin = time.perf_counter()
        left @ right
        seconds.append(time.perf_counter() - begin)
    return 2 * side**3 / min(seconds)


@pytest.mark.benchmark
def test_fit(tmp_path):
    place = os.environ.get("SCENES")
    store = nr.open_store(place) if place else nr.build("scenes", tmp_path / "scenes.icechunk")
    double, single = gemm_speed("float64"), gemm_speed("float32")
    print(f"\nmatrix products: float64 {double / 1e9:.0f}, float32 {single / 1e9:.0f} Gflop/s")
    for name in ("brain-diffuser", "takagi"):
        system = nr.load_system(name, device="cpu")
        store = system.with_targets(store)
        for target, spec in system.targets.items():
            train = Recordings.read(store, "subj01", spec.roi or "visual", task="images", split="train")
            mean, scale = standardizer(train.responses.astype(np.float64))
            X, Y = (train.responses - mean) / scale, train.target(spec.source).load()
            begin = time.perf_counter()
            clone(spec.decoder).fit(X, Y, groups=train.stimuli)
            seconds = time.perf_counter() - begin
            n, p, t = len(X), X.shape[1], int(np.prod(Y.shape[1:]))
            floor = (2 * n * p * min(n, p) + 9 * min(n, p) ** 3) / double + 2 * n * min(n, p) * t / single
            print(
                f"{name}, {target}: {n:,} samples, {p:,} voxels, {t:,} features: {seconds:.1f} s, floor {floor:.1f} s "
                f"({floor / seconds:.0%} of it reached)"
            )
