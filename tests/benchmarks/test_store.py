"""How quickly a store is read, beside the best memory map for each way of reading. Run by ``make bench``.

As large as one subject of NSD (2.7 GB, and twice that for the memory maps); with other sizes::

    python tests/benchmarks/test_store.py --trials 3000 --voxels 4096 --folder /tmp/bench
    python tests/benchmarks/test_store.py --only info

What is compared is measured in turns; a row gives the medians, and the median of the ratios. Cold means that the
operating system was asked to forget the files (Linux; elsewhere these rows are left out).
"""

import argparse
import asyncio
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd
import pytest

import neurorecon as nr
from neurorecon.datasets.base import Description, Options, Reader, SubjectData
from neurorecon.datasets.recipe import Recipe
from neurorecon.registry import DATASETS
from neurorecon.space import Space
from neurorecon.store.build import build_store
from neurorecon.store.check import as_text, describe

pytestmark = pytest.mark.benchmark

PROGRAM = Path(sys.executable).with_name("neurorecon")

#: Trials of a session, as in NSD, and voxels of the ROI that is read.
SESSION, ROI = 750, 1500


class LargeOptions(Options):
    """Sizes."""

    trials: int = 30_000
    voxels: int = 22_528
    subjects: int = 1
    stimuli: int = 10_000
    empty: bool = False


class LargeReader(Reader):
    """Responses of the size of NSD, int16 / 300 as its betas are; no images."""

    name: ClassVar[str] = "large"
    Options: ClassVar[type[Options]] = LargeOptions
    needs_root: ClassVar[bool] = False
    description = Description("as large as NSD", True, "none", "public domain", "percent signal change")

    @property
    def subjects(self):
        return [f"subj{number:02d}" for number in range(1, self.options.subjects + 1)]

    def stimuli(self):
        ids = [f"nsd{number:05d}" for number in range(self.options.stimuli)]
        captions = [[f"caption {number} of an image such as {name}" for number in range(5)] for name in ids]
        return pd.DataFrame({"id": ids, "kind": "image", "category": "thing", "captions": captions})

    def subject(self, name):
        chosen = self.options
        number = np.arange(chosen.trials)
        shown = np.random.default_rng(0).permutation(number) % chosen.stimuli
        repeat = pd.Series(shown).groupby(shown).cumcount().to_numpy() + 1
        samples = pd.DataFrame(
            {
                "stimulus": np.char.add("nsd", np.char.zfill(shown.astype(str), 5)),
                "task": "images",
                "session": number // SESSION + 1,
                "run": number % SESSION // 63 + 1,
                "repeat": repeat,
                "split": np.where(shown < chosen.stimuli // 10, "test", "train"),
                "time": number % 63 * 4.0,
            }
        )
        voxel = np.arange(chosen.voxels)
        voxels = pd.DataFrame({"i": voxel % 81, "j": voxel // 81 % 104, "k": voxel // 81 // 104})
        roi = voxel % (chosen.voxels // min(ROI, chosen.voxels // 4)) == 0
        rois = {"V1": roi & (np.cumsum(roi) <= ROI), **{f"ROI{one}": voxel % 40 == one for one in range(40)}}
        space = Space("volume", affine=np.diag([1.8, 1.8, 1.8, 1]).tolist(), shape=[81, 104, 83])

        def read(start, stop):
            if chosen.empty:
                return np.zeros((stop - start, chosen.voxels), dtype=np.float32)
            random = np.random.default_rng([1, start]).standard_normal((stop - start, chosen.voxels), dtype=np.float32)
            return np.round(random * 450) / np.float32(300)

        return SubjectData(samples, voxels, rois, space, read)


def large_store(folder, **options):
    """Build a store, or take the one that is there."""
    DATASETS.register("large", LargeReader)
    recipe = Recipe(name="large", reader="large", options=options)
    begun = time.perf_counter()
    path = build_store(recipe, Path(folder) / "large.icechunk", progress=False)
    return nr.open_store(path), time.perf_counter() - begun


def memory_maps(store, folder):
    """Write the responses as (sample, voxel) and as (voxel, sample), in the order of the store."""
    paths = {name: Path(folder) / f"{name}.npy" for name in ("sample", "voxel")}
    responses = store.responses("subj01")
    samples, voxels = responses.shape
    by_sample = np.lib.format.open_memmap(paths["sample"], "w+", np.float32, (samples, voxels))
    by_voxel = np.lib.format.open_memmap(paths["voxel"], "w+", np.float32, (voxels, samples))
    for start in range(0, samples, SESSION):
        block = responses[start : start + SESSION].values
        by_sample[start : start + len(block)] = block
        by_voxel[:, start : start + len(block)] = block.T
    return paths


def forget(*places):
    """Ask the operating system to drop files from its cache."""
    os.sync()
    for place in map(Path, places):
        for path in [place] if place.is_file() else place.rglob("*"):
            if path.is_file():
                handle = os.open(path, os.O_RDONLY)
                os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
                os.close(handle)


def _ours(location, what):
    store = nr.open_store(location) if isinstance(location, str) else location
    if what == "roi":
        return store.responses("subj01", roi="V1").values
    return store.responses("subj01")[SESSION : 2 * SESSION].values


def _map(paths, what, columns):
    """Read what is asked for from the layout in which it lies in one piece."""
    if what == "roi":
        return np.array(np.load(paths["voxel"], mmap_mode="r")[columns]).T
    return np.array(np.load(paths["sample"], mmap_mode="r")[SESSION : 2 * SESSION])


def reading(store, paths, rounds=5):
    """Print how quickly an ROI and a session are read."""
    columns = np.flatnonzero(store.roi_masks("subj01")["V1"])
    columns = slice(int(columns[0]), int(columns[-1]) + 1)
    for what in ("roi", "session"):
        assert np.array_equal(_ours(store, what), _map(paths, what, columns))
        for state in ("warm", "cold") if hasattr(os, "posix_fadvise") else ("warm",):
            ours, theirs = [], []
            for _ in range(rounds):
                if state == "cold":
                    forget(store.location, *paths.values())
                # Read cold, the store is opened anew too: an open one remembers where its chunks are.
                ours.append(_seconds(_ours, store if state == "warm" else store.location, what))
                theirs.append(_seconds(_map, paths, what, columns))
            ratio = statistics.median(one / other for one, other in zip(ours, theirs, strict=True))
            size = _ours(store, what).nbytes / 2**20
            print(
                f"\n| one {what}, {state} ({size:,.0f} MiB) | {statistics.median(ours):.3f} s | "
                f"{statistics.median(theirs):.3f} s | the best memory map | {ratio:.2f} |"
            )


def memory(store, paths):
    """Print the memory that reading takes, in a process of its own, as the operating system counts it."""
    columns = np.flatnonzero(store.roi_masks("subj01")["V1"])
    for what in ("roi", "session"):
        size = _ours(store, what).nbytes / 2**20
        for which, place in (("store", store.location), ("map", paths["voxel" if what == "roi" else "sample"])):
            begin, end = int(columns[0]), int(columns[-1]) + 1
            command = [sys.executable, __file__, "--child", which, what, str(place), str(begin), str(end)]
            found = subprocess.run(command, check=True, capture_output=True, text=True, timeout=600)
            before, peak = (float(value) for value in found.stdout.split()[-2:])
            print(
                f"\n| memory for one {what}, {which} | {peak - before:,.0f} MiB | {size:,.0f} MiB | the values | "
                f"{(peak - before) / size:.2f} |"
            )


def _child(which, what, place, begin, end):
    """Read in a process of its own, and say how much memory it took, in MiB."""
    paths = {"voxel": place, "sample": place}
    if which == "store":
        store = nr.open_store(place)
        store.responses("subj01")[:1, :1].values  # noqa: B018  (what is imported late counts as "before")
    before = _largest_memory(forget_first=True)
    values = _ours(store, what) if which == "store" else _map(paths, what, slice(int(begin), int(end)))
    print(before, _largest_memory(), file=sys.stdout if values.size else sys.stderr)


def _largest_memory(forget_first=False):
    """Return the largest resident memory of this process so far, in MiB; Linux only, which can count anew."""
    if forget_first:
        Path("/proc/self/clear_refs").write_text("5")
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def info(folder, trials=30_000, voxels=15_724, subjects=8, stimuli=73_000, rounds=5):
    """Print how long ``neurorecon info`` takes on a store as large as NSD; its responses are zeros."""
    store, _ = large_store(folder, trials=trials, voxels=voxels, subjects=subjects, stimuli=stimuli, empty=True)
    inside = [_seconds(lambda: as_text(describe(nr.open_store(store.location)))) for _ in range(rounds)]
    imports = "import pandas, zarr, icechunk, xarray, dask.array, typer"
    command = [_seconds(_run, [PROGRAM, "info", store.location]) for _ in range(rounds)]
    importing = [_seconds(_run, [sys.executable, "-c", imports]) for _ in range(rounds)]
    ratio = statistics.median(command) / statistics.median(importing)
    print(
        f"\n| info on {subjects} subjects of {trials:,} trials, in Python | {statistics.median(inside):.2f} s | | | |"
    )
    print(
        f"\n| neurorecon info | {statistics.median(command):.2f} s | {statistics.median(importing):.2f} s | "
        f"importing what it needs | {ratio:.1f} |"
    )


def _run(command):
    subprocess.run([str(part) for part in command], check=True, capture_output=True, timeout=600)


def fetching(store, paths, rounds=5):
    """Print how long Icechunk takes to hand over the bytes of the chunks: the floor of any reading from it."""
    columns = np.flatnonzero(store.roi_masks("subj01")["V1"])
    array = store._root["subj01/responses"]
    high, wide = array.chunks
    rows, across = -(-array.shape[0] // high), -(-array.shape[1] // wide)
    touched = {
        "roi": [(row, column) for row in range(rows) for column in range(columns[0] // wide, columns[-1] // wide + 1)],
        "session": [(SESSION // high, column) for column in range(across)],
    }
    columns = slice(int(columns[0]), int(columns[-1]) + 1)
    for what, chunks in touched.items():
        keys = [f"{array.path}/c/{row}/{column}" for row, column in chunks]
        ours, theirs, size = [], [], 0
        for _ in range(rounds + 1):
            begun = time.perf_counter()
            size = sum(map(len, asyncio.run(_fetch(array.store, keys)))) / 2**20
            ours.append(time.perf_counter() - begun)
            theirs.append(_seconds(_map, paths, what, columns))
        ratio = statistics.median(one / other for one, other in zip(ours[1:], theirs[1:], strict=True))
        print(
            f"\n| of one {what}, warm: fetching {len(keys)} chunks ({size:,.0f} MiB), not unpacked | "
            f"{statistics.median(ours[1:]):.3f} s | {statistics.median(theirs[1:]):.3f} s | the best memory map | "
            f"{ratio:.2f} |"
        )


async def _fetch(store, keys):
    from zarr.core.buffer import default_buffer_prototype

    return await asyncio.gather(*[store.get(key, default_buffer_prototype()) for key in keys])


def _seconds(function, *arguments):
    begun = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - begun


def everything(folder, trials, voxels, rounds, only):
    """Print all rows."""
    folder = Path(folder)
    if {"read", "memory"} & set(only):
        store, seconds = large_store(folder, trials=trials, voxels=voxels)
        size = trials * voxels * 4 / 2**20
        print(f"\n| building a store of {size:,.0f} MiB | {seconds:.1f} s | | {size / seconds:,.0f} MiB per second | |")
        paths = memory_maps(store, folder)
        if "read" in only:
            reading(store, paths, rounds)
            fetching(store, paths, rounds)
        if "memory" in only and sys.platform == "linux":
            memory(store, paths)
        for path in paths.values():
            path.unlink()
        shutil.rmtree(store.location)
    if "info" in only:
        share = trials / 30_000
        info(folder, trials, max(64, round(15_724 * share)), 8, max(100, round(73_000 * share)), rounds)


def test_reading_a_store(tmp_path):
    free = shutil.disk_usage(tmp_path).free
    if free < 15 * 2**30:
        pytest.skip(f"needs 15 GiB of disk, {free / 2**30:.0f} are free")
    everything(tmp_path, 30_000, 22_528, 5, ("read", "memory", "info"))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=30_000)
    parser.add_argument("--voxels", type=int, default=22_528)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="+", default=["read", "memory", "info"], choices=["read", "memory", "info"])
    parser.add_argument("--folder", default=None, help="where to write; a temporary folder if left out")
    parser.add_argument("--child", nargs=5, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.child:
        _child(*chosen.child)
        return
    with tempfile.TemporaryDirectory(dir=chosen.folder) as folder:
        everything(folder, chosen.trials, chosen.voxels, chosen.rounds, chosen.only)


if __name__ == "__main__":
    main()
