"""Two processes of one launch share the batches; the first one writes."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys

import pytest

import neurorecon as nr

pytest.importorskip("accelerate")


@pytest.mark.skipif(os.name == "nt", reason="gloo is started otherwise there")
def test_two_processes_give_the_same_numbers_to_the_bit(store, random_models, tmp_path):
    alone = tmp_path / "alone.icechunk"
    shutil.copytree(store.location, alone)
    targets = ["clip_image", "motion"]
    expected = nr.extract(nr.open_store(alone), targets, models=random_models, device="cpu", batch=4, progress=False)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "neurorecon.cli", "features", "--store", store.location, "--models", random_models]
    command += ["--target", "clip_image", "--target", "motion", "--batch", "4", "--device", "cpu", "--json", "--quiet"]
    # What accelerate launch and torchrun set for each process.
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen(
            list(map(str, command)),
            env={**os.environ, **shared, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    printed = [process.communicate(timeout=540) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], printed
    assert printed[1][0] == ""  # only the first one speaks
    answer = json.loads(printed[0][0])
    assert answer["targets"]["clip_image"]["computed"] == 30
    after = nr.open_store(store.location)
    assert answer["snapshot"] == after.snapshot
    for name in targets:
        assert after.digests()[f"targets/{name}/values"] == expected.digests()[f"targets/{name}/values"]
