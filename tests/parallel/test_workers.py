"""Threads, devices and processes."""

from __future__ import annotations

import os

import pytest
from joblib import delayed

from neurorecon.errors import InputError
from neurorecon.parallel import choose_device, default_threads, in_processes, is_first_process, pinned
from neurorecon.parallel.workers import launched


def test_pinning_is_undone(monkeypatch):
    from threadpoolctl import threadpool_info

    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    before = threadpool_info()
    with pinned(3):
        assert os.environ["OMP_NUM_THREADS"] == "3"
    assert threadpool_info() == before
    assert "OMP_NUM_THREADS" not in os.environ


def test_threads_follow_the_environment(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert default_threads() == 1
    for said in ("", "many", "0"):
        monkeypatch.setenv("OMP_NUM_THREADS", said)
        assert default_threads() >= 1


@pytest.fixture
def cards(monkeypatch):
    """Let torch say that this machine has so many graphics cards."""
    import torch

    def set_number(number):
        monkeypatch.setattr(torch.cuda, "device_count", lambda: number)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)

    return set_number


def test_devices(cards):
    cards(0)
    assert choose_device("cpu") == choose_device() == "cpu"
    for absent in ("gpu", "cuda", "cuda:0", "torch", "mps"):
        with pytest.raises(InputError, match=r"cannot run on this device[\s\S]*one of: cpu\n"):
            choose_device(absent)
    cards(2)
    assert choose_device() == "cuda"
    assert [choose_device(name) for name in ("cpu", "cuda", "cuda:1")] == ["cpu", "cuda", "cuda:1"]
    with pytest.raises(InputError, match=r"'cuda:2'[\s\S]*one of: cpu, cuda:0, cuda:1\n[\s\S]*device_count"):
        choose_device("cuda:2")


def test_computations_that_cannot_run_everywhere(cards, monkeypatch):
    import torch

    cards(1)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert choose_device() == "cuda"
    assert choose_device("mps") == "mps"
    regression = ("cpu", "torch", "cuda")
    assert [choose_device(name, regression) for name in regression] == list(regression)
    with pytest.raises(InputError, match=r"'mps'[\s\S]*one of: cpu, cuda:0, torch[\s\S]*double precision"):
        choose_device("mps", regression)


def test_a_process_on_its_own_is_the_first_one(monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert is_first_process()
    assert launched() is None
    monkeypatch.setenv("RANK", "1")
    assert not is_first_process()


def _inside() -> list[int]:
    return list(in_processes(2)(delayed(os.getpid)() for _ in range(4)))


def test_processes_start_no_further_ones_and_no_threads():
    """joblib would take threads in a process that it started; figures cannot be drawn by several threads."""
    (found,) = in_processes(2)(delayed(_inside)() for _ in range(1))
    assert len(set(found)) == 1
    assert os.getpid() not in found
