"""The plan of encoding maps beside a run: bytes and memory of a worker. Run by ``make bench``.

It prints the rows of docs/scale.md. ``NEURORECON_SCALE_VOXELS`` makes the brain larger or smaller.
"""

import os

import numpy as np
import pandas as pd
import pytest

import neurorecon as nr
from neurorecon.analyses import plan as planning

distributed = pytest.importorskip("distributed")

pytestmark = pytest.mark.benchmark

VOXELS = int(os.environ.get("NEURORECON_SCALE_VOXELS", "12288"))
TRAIN, TEST, REPEATS, PERMUTATIONS = 400, 100, 3, 50
FEATURES = {"wide": 2048, "narrow": 64}
ROIS = 4


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Trials of images shown three times, test images among the others, as in NSD."""
    random = np.random.default_rng(0)
    names = [f"s{number:04}" for number in range(TRAIN + TEST)]
    splits = dict(zip(names, ["train"] * TRAIN + ["test"] * TEST, strict=True))
    shown = random.permutation(np.repeat(names, REPEATS))
    trials = len(shown)
    samples = pd.DataFrame(
        {
            "stimulus": shown,
            "session": 1 + np.arange(trials) // 500,
            "run": 1 + np.arange(trials) % 500 // 50,
            "split": [splits[name] for name in shown],
        }
    )
    responses = random.standard_normal((trials, VOXELS), dtype=np.float32)
    width = VOXELS // ROIS
    rois = {f"ROI{n}": np.arange(VOXELS) // width == n for n in range(ROIS)}
    path = tmp_path_factory.mktemp("scale") / "scale.icechunk"
    built = nr.build_from_arrays(path, {"sub01": responses}, samples, rois=rois, progress=False)
    stimuli = built.stimuli["id"].tolist()
    for name, size in FEATURES.items():
        values = random.standard_normal((len(stimuli), size), dtype=np.float32)
        built = nr.add_target(built, name, values, made_by={"model": "noise", "source": "random numbers"})
    return built


def _count_reads():
    """Count the bytes of values that Zarr hands out in this process."""
    import zarr

    state = zarr.__dict__.setdefault("_bytes_read", {"responses": 0, "targets": 0})
    read = zarr.Array.__getitem__

    def counted(array, selection):
        found = read(array, selection)
        for name in state:
            if name in array.path:
                state[name] += np.asarray(found).nbytes
        return found

    zarr.Array.__getitem__ = counted


def _told():
    import zarr

    with open("/proc/self/status") as file:
        peak = next(line for line in file if line.startswith("VmHWM"))
    return {**getattr(zarr, "_bytes_read", {}), "peak": int(peak.split()[1]) * 2**10}


def test_the_plan_says_what_a_run_takes(store, tmp_path, capsys):
    kept = []
    bands, block = list(FEATURES), VOXELS * 2 // 3
    shape = planning.Subject("sub01", VOXELS, (TRAIN + TEST) * REPEATS, TRAIN, TEST, TRAIN, TEST, rois=ROIS)
    planned = planning.plan([shape], list(FEATURES.values()), n_permutations=PERMUTATIONS, voxel_block=block)
    with (
        distributed.LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=":0") as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
    ):
        client.run(_count_reads)
        nr.maps(store, bands=bands, n_permutations=PERMUTATIONS, scheduler=client, threads=1, results=tmp_path,
                voxel_block=block)  # fmt: skip
        (measured,) = client.run(_told).values()
        kept = [path.stat().st_size for path in tmp_path.rglob("*.safetensors")]
    rows = [
        ("features read", sum(task.store_bytes for task in planned.products), measured["targets"]),
        ("responses read", sum(task.store_bytes for task in planned.blocks), measured["responses"]),
        ("results kept", sum(task.result_bytes for task in planned.blocks), sum(kept)),
        ("memory of the worker", planned.memory, measured["peak"]),
    ]
    with capsys.disabled():
        print(f"\n\n| 1 subject, {VOXELS:,} voxels, {shape.trials:,} trials, blocks of {block:,} | plan | run |")
        print("|---|---|---|")
        for name, plan, run in rows:
            print(f"| {name} | {plan / 2**20:,.1f} MiB | {run / 2**20:,.1f} MiB |")
    assert [name for name, plan, run in rows[:3] if not 0.95 < plan / run < 1.1] == []
    assert 0.8 < planned.memory / measured["peak"] < 1.6
