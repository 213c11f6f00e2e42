"""An encoding model of a whole brain at the size of LAION-fMRI: memory, time, and scikit-learn's numbers.

    pytest -m benchmark -s tests/benchmarks/test_encoding_size.py --basetemp=DIR     # where 12 GB are free

Generated data: 20,000 training trials of 5,000 images shown four times, 25,000 features, 60,000 voxels; 200 test images
shown six times. A process of its own opens the store and computes the correlation of each voxel, over its ceiling;
:data:`RECIPE` is what docs/scale.md shows. Scikit-learn fits eight of the voxels with the alpha that most voxels got.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.linear_model import Ridge, RidgeCV

import neurorecon as nr
from neurorecon.stats import normalize_correlation

LATENT = 300  # features that drive voxels
ALPHAS = np.logspace(1, 5, 9)

RECIPE = """
import numpy as np
import neurorecon as nr
from neurorecon.decoders import RidgeSmoother
from neurorecon.stats import normalize_correlation

store = nr.open_store("stores/laion_fmri.icechunk")
train = store.responses("sub-01", split="train", center="session")  # single trials; lazy
test = store.responses("sub-01", split="test", average="stimulus", center="session")
X, X_test = (store.targets("clip", stimuli=part["stimulus"].values).values for part in (train, test))
smoother = RidgeSmoother(X, X_test, gram_dtype="float32")
alpha = smoother.choose_alpha(train, np.logspace(1, 5, 9), groups=train["stimulus"].values)
r = np.empty(train.shape[1])
for voxels, predicted in smoother.predict_blocks(train, alpha):
    measured = test[:, voxels].values
    one, other = predicted - predicted.mean(axis=0), measured - measured.mean(axis=0)
    r[voxels] = (one * other).sum(axis=0) / np.sqrt((one**2).sum(axis=0) * (other**2).sum(axis=0))
normalized = normalize_correlation(r, store.noise_ceiling("sub-01"))
"""

#: What the process does besides: it times itself, and tells its memory.
MEASURED = """
import json, resource, sys, time
begin, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF)
{recipe}
after = resource.getrusage(resource.RUSAGE_SELF)
np.savez(sys.argv[1], alpha=alpha, r=r, normalized=normalized)
cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
print(json.dumps({{"seconds": time.perf_counter() - begin, "cpu": cpu, "peak": after.ru_maxrss / 2**20}}))
"""


def build(folder, images, repeats, tests, test_repeats, features, voxels, signal_to_noise=(0.2, 1.0)):
    """Build a store of trials in random order; features differ in scale, and voxels in how reliable they are."""
    random = np.random.default_rng(0)
    names = [f"image{number:05}" for number in range(images + tests)]
    values = random.standard_normal((len(names), features), dtype=np.float32)
    values *= (1 + np.arange(features, dtype=np.float32)) ** -0.25
    shown = random.permutation(np.repeat(np.arange(len(names)), [repeats] * images + [test_repeats] * tests))
    place = folder / "responses.npy"
    responses = np.lib.format.open_memmap(place, "w+", np.float32, (len(shown), voxels))
    step = 1000
    for start in range(0, voxels, step):
        width = min(step, voxels - start)
        weights = random.standard_normal((min(LATENT, features), width), dtype=np.float32)
        signal = values[:, : len(weights)] @ weights
        signal *= random.uniform(*signal_to_noise, width).astype(np.float32) / signal.std(axis=0)
        responses[:, start : start + width] = signal[shown] + random.standard_normal(
            (len(shown), width), dtype=np.float32
        )
    samples = pd.DataFrame(
        {
            "stimulus": np.array(names)[shown],
            "session": 1 + np.arange(len(shown)) // 700,
            "run": 1 + np.arange(len(shown)) % 700 // 70,
            "split": np.where(shown < images, "train", "test"),
        }
    )
    store = nr.build_from_arrays(folder / "s.icechunk", {"sub-01": responses}, samples, progress=False)
    del responses
    place.unlink()
    ids = store.stimuli["id"].tolist()
    rows = [names.index(name) for name in ids]
    return nr.add_target(store, "clip", values[rows], made_by={"model": "random numbers", "source": "this benchmark"})


def run(store, folder):
    """Run the recipe in a process of its own; return what it measured, and its arrays."""
    recipe = RECIPE.replace("stores/laion_fmri.icechunk", str(store.location))
    command = [sys.executable, "-c", MEASURED.format(recipe=recipe), str(folder / "found.npz")]
    told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    with np.load(folder / "found.npz") as found:
        return json.loads(told.splitlines()[-1]), dict(found)


def arrays(store, voxels=slice(None)):
    """Return responses and features of training and test samples, in double precision."""
    train = store.responses("sub-01", split="train", center="session")
    test = store.responses("sub-01", split="test", average="stimulus", center="session")
    X, X_test = (store.targets("clip", stimuli=part["stimulus"].values).values for part in (train, test))
    y, y_test = (part[:, voxels].values.astype(np.float64) for part in (train, test))
    return X, y, X_test, y_test, train["stimulus"].values


def correlations(one, other):
    return np.array([np.corrcoef(a, b)[0, 1] for a, b in zip(one.T, other.T, strict=True)])


def test_miniature(tmp_path):
    """Correlations over their ceilings are those that scikit-learn finds, to 1e-5."""
    store = build(tmp_path, 40, 2, 12, 4, 60, 20, signal_to_noise=(1.0, 2.0))
    _, found = run(store, tmp_path)
    X, y, X_test, y_test, shown = arrays(store)
    folds = [(np.flatnonzero(shown != name), np.flatnonzero(shown == name)) for name in np.unique(shown)]
    model = RidgeCV(ALPHAS, cv=folds, scoring="neg_mean_squared_error")
    theirs = [clone(model).fit(X.astype(np.float64), voxel) for voxel in y.T]
    np.testing.assert_allclose(found["alpha"], [model.alpha_ for model in theirs])
    predicted = np.stack([model.predict(X_test) for model in theirs], axis=1)
    expected = normalize_correlation(correlations(predicted, y_test), store.noise_ceiling("sub-01"))
    assert np.isfinite(expected).sum() > 15
    np.testing.assert_allclose(found["normalized"], expected, atol=1e-5)


@pytest.mark.benchmark
def test_full_size(tmp_path):
    begin = time.perf_counter()
    store = build(tmp_path, 5_000, 4, 200, 6, 25_000, 60_000)
    print(f"\nbuilt in {time.perf_counter() - begin:.0f} s", flush=True)
    told, found = run(store, tmp_path)
    n, p, v, left, tests = 20_000, 25_000, 60_000, 1000, 200
    matrices = n * n * p + 2 * n * p * (left + tests)
    alphas = len(ALPHAS) * (n**3 / 3 + 2 * n * n * left + 2 * left * n * v)
    alphas += len(np.unique(found["alpha"])) * (n**3 / 3 + 2 * n * n * tests) + 2 * tests * n * v
    speed = _speed()
    work = matrices + alphas
    print(
        f"{told['seconds']:.0f} s, {told['cpu']:.0f} CPU s, peak {told['peak']:.2f} GiB; {work / 1e12:.0f} Tflop, "
        f"{work / told['seconds'] / speed:.0%} of {speed / 1e9:.0f} Gflop/s",
    )
    print(f"median r {np.nanmedian(found['r']):.3f}, over the ceiling {np.nanmedian(found['normalized']):.3f}")
    assert told["peak"] < 8
    values, counts = np.unique(found["alpha"], return_counts=True)
    alpha = values[counts.argmax()]
    some = np.flatnonzero(found["alpha"] == alpha)[:: max(1, counts.max() // 8)][:8]
    X, y, X_test, y_test, _ = arrays(store, some)
    theirs = Ridge(alpha, solver="cholesky").fit(X.astype(np.float64), y)
    r, ours = correlations(theirs.predict(X_test).reshape(y_test.shape), y_test), found["r"][some]
    print(f"alpha {alpha:g}: r {ours.round(6)}, scikit-learn {r.round(6)}", flush=True)
    assert np.abs(r - ours).max() < 1e-4


def _speed():
    """Return the best speed of a product of matrices in single precision, floating point operations per second."""
    one, seconds = np.random.default_rng(0).standard_normal((6000, 6000), dtype=np.float32), []
    for _ in range(5):
        begin = time.perf_counter()
        one @ one
        seconds.append(time.perf_counter() - begin)
    return 2 * 6000**3 / min(seconds)
