"""How long a user waits, beside what it cannot be quicker than. Run by ``make bench``; asserts nothing."""

import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.benchmark

PROGRAM = Path(sys.executable).with_name("neurorecon")


def _seconds(command, times=5, cwd=None):
    taken = []
    for _ in range(times):
        start = time.perf_counter()
        subprocess.run([str(part) for part in command], cwd=cwd, check=True, capture_output=True, timeout=1200)
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def _row(name, seconds, beside, what):
    print(f"\n| {name} | {seconds:.2f} s | {beside:.2f} s | {what} | {seconds / beside:.1f} |")


def test_help():
    _row(
        "neurorecon --help",
        _seconds([PROGRAM, "--help"]),
        _seconds([sys.executable, "-c", "import typer"]),
        "python -c 'import typer'",
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("bench")
    start = time.perf_counter()
    subprocess.run([PROGRAM, "build", "scenes", "-q"], cwd=path, check=True, capture_output=True)
    print(f"\n| neurorecon build scenes | {time.perf_counter() - start:.0f} s | | | |")
    return path


def test_maps_of_one_roi(folder):
    imports = "import torch, himalaya.kernel_ridge, sklearn, xarray, icechunk, matplotlib.figure, nilearn.datasets"
    _row(
        "neurorecon maps --roi MT",
        _seconds([PROGRAM, "maps", "--roi", "MT", "-q"], times=3, cwd=folder),
        _seconds([sys.executable, "-c", imports], times=3),
        "importing what it needs",
    )


def test_reading_an_roi(folder):
    import neurorecon as nr

    store = nr.open_store(folder / "stores" / "scenes.icechunk")
    path = folder / "responses.npy"
    np.save(path, store.responses("subj01").values)
    columns = np.flatnonzero(store.roi_masks("subj01")["V1"])

    def median(function):
        taken = []
        for _ in range(9):
            start = time.perf_counter()
            function()
            taken.append(time.perf_counter() - start)
        return statistics.median(taken)

    ours = median(lambda: store.responses("subj01", roi="V1").values)
    memmap = median(lambda: np.ascontiguousarray(np.load(path, mmap_mode="r")[:, columns]))
    _row("store.responses('subj01', roi='V1')", ours, memmap, "the same columns of a warm memmap")


def test_permutations():
    from neurorecon.stats import permutation_test_r2

    generator = np.random.default_rng(0)
    contributions = generator.standard_normal((3, 4, 60, 2500), dtype=np.float32)
    responses = generator.standard_normal((60, 2500), dtype=np.float32)
    start = time.perf_counter()
    permutation_test_r2(contributions, responses, delays=(1, 2, 3, 4), n_permutations=1000)
    ours = time.perf_counter() - start
    start = time.perf_counter()
    for _ in range(20):
        order = generator.permutation(60)
        predicted = contributions[:, :, order].sum(axis=(0, 1))
        1 - ((responses - predicted) ** 2).sum(axis=0) / (responses**2).sum(axis=0)
    _row(
        "1,000 permutations, 3 bands, 2,500 voxels",
        ours,
        (time.perf_counter() - start) * 50,
        "the sums in plain NumPy, joint R2 only",
    )
