"""Commands that are killed in the middle of targets or of images continue where they were, to the same bits."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import xarray

PACKAGE = Path(__file__).parent / "slow_system"


@pytest.fixture
def slow(small, call, tmp_path, monkeypatch):
    """Return what runs a command with the slow system here, and what kills one in a process of its own."""
    log = tmp_path / "log.txt"
    monkeypatch.setenv("SLOW_LOG", str(log))
    monkeypatch.syspath_prepend(str(PACKAGE))
    common = ["--store", str(small.path), "--system", "slow", "--subject", "subj01", "--task", "images",
              "--roi", "V1", "--quiet"]  # fmt: skip

    def finish(*arguments):
        log.write_text("")
        found = call(*arguments, *common)
        assert found.exit_code == 0, found.exception
        return found.stdout, log.read_text().splitlines()

    def kill(*arguments, after):
        """Kill a command as soon as it has written so many lines that begin with a word."""
        word, number = after
        log.write_text("")
        paths = [str(PACKAGE), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths), "SLOW_SECONDS": "0.5"}
        command = [sys.executable, "-m", "neurorecon.cli", *arguments, *common]
        process = subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE)
        until = time.monotonic() + 120
        while sum(line.startswith(word) for line in log.read_text().splitlines()) < number:
            assert process.poll() is None, process.stderr.read().decode()
            assert time.monotonic() < until
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=30)

    return finish, kill


def _images(folder):
    with xarray.open_zarr(folder / "subj01_slow_reconstructions.zarr", consolidated=False) as found:
        return found["reconstructed"].load()


def test_killed_between_images(slow, tmp_path):
    finish, kill = slow
    arguments = ["reconstruct", "--permutations", "9", "--no-figures", "--json", "--seeds", "2"]
    kill(*arguments, "--out", "killed", after=("generated", 10))  # eight test images: the second seed has begun
    assert not (tmp_path / "killed" / "subj01_slow.json").exists()
    resumed, log = finish(*arguments, "--out", "killed")
    assert [line for line in log if line.startswith("fitted")] == []
    assert {line.split()[1] for line in log} == {"1"}, "the first seed was complete"
    whole, log = finish(*arguments, "--out", "whole")
    assert len(log) == 2 + 2 * 8
    xarray.testing.assert_identical(_images(tmp_path / "killed"), _images(tmp_path / "whole"))
    assert json.loads(resumed)["scores"] == json.loads(whole)["scores"]


def test_killed_between_targets(slow, tmp_path):
    finish, kill = slow
    arguments = ["reconstruct", "--permutations", "9", "--no-figures", "--json", "--out", "killed"]
    kill(*arguments, after=("fitted", 2))  # the second target is being fitted
    _, log = finish(*arguments)
    assert len([line for line in log if line.startswith("fitted")]) == 1


def test_a_killed_fit_resumes_and_is_reused(slow, tmp_path):
    finish, kill = slow
    kill("fit", after=("fitted", 2))
    printed, log = finish("fit", "--json")
    assert len(log) == 1
    (made,) = json.loads(printed)["fits"]
    manifest = json.loads((tmp_path / made["folder"] / "manifest.json").read_text())
    assert manifest["system"] == "slow"
    assert manifest["parameters"] == {"alpha": 100.0, "noise": 0.05}
    assert "system.json" in manifest["files"]
    arguments = ["reconstruct", "--permutations", "9", "--no-figures", "--json"]
    _, log = finish(*arguments)
    assert [line for line in log if line.startswith("fitted")] == []
    used = _images(tmp_path / "results" / "reconstruct_small_V1_images")
    _, log = finish(*arguments, "--out", "anew", "--decoders", "elsewhere")
    assert len([line for line in log if line.startswith("fitted")]) == 2
    np.testing.assert_array_equal(_images(tmp_path / "anew").values, used.values)


def test_parts_of_other_settings_are_not_used(slow, tmp_path):
    finish, _ = slow
    arguments = ["reconstruct", "--permutations", "9", "--no-figures", "--out", "both"]
    finish(*arguments)
    before = _images(tmp_path / "both")
    _, log = finish(*arguments, "--set", "noise=0.2")
    assert len([line for line in log if line.startswith("generated")]) == 8
    assert [line for line in log if line.startswith("fitted")] == []  # the decoders are the same
    assert not np.array_equal(_images(tmp_path / "both").values, before.values)
