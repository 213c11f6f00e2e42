"""The training loop: what an interruption may not change."""

import json

import pytest
import torch
from torch import nn

from neurorecon.errors import InputError
from neurorecon.simulation.training.loop import Plan, Run, averaged, batch_rows, on_device, train

PLAN = Plan("line", steps=30, batch=8, learning_rate=0.05, warmup=5, average=0.9, seed=3)


def make():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.SiLU(), nn.Linear(8, 1))


def make_loss(stop_at=None):
    inputs = torch.randn(50, 4, generator=torch.Generator().manual_seed(1))
    wanted = inputs[:, :1] - 0.5 * inputs[:, 1:2]
    calls = []

    def loss(network, rows, generator):
        calls.append(rows)
        if stop_at is not None and len(calls) > stop_at:
            raise KeyboardInterrupt
        noise = 0.01 * torch.randn(len(rows), 4, generator=generator)
        return {"loss": (network(inputs[rows] + noise) - wanted[rows]).square().mean()}

    return loss


def run(folder, **options):
    return Run(folder, progress=False, **options)


def test_a_training_learns_and_writes_a_log(tmp_path):
    network = train(PLAN, make(), make_loss(), 50, run(tmp_path))
    lines = [json.loads(line) for line in (tmp_path / "line.jsonl").read_text().splitlines()]
    assert lines[-1]["step"] == 30
    assert lines[-1]["loss"] < 0.5 * lines[0]["loss"]
    assert not network.training


def test_an_interrupted_training_ends_with_the_same_bits(tmp_path):
    whole = train(PLAN, make(), make_loss(), 50, run(tmp_path / "whole"))
    with pytest.raises(KeyboardInterrupt):
        train(PLAN, make(), make_loss(stop_at=17), 50, run(tmp_path / "parts", checkpoint_every=0.0))
    parts = train(PLAN, make(), make_loss(), 50, run(tmp_path / "parts"))
    for one, other in zip(whole.parameters(), parts.parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_training_stops_after_the_time_it_is_given_and_goes_on(tmp_path):
    train(PLAN, make(), make_loss(), 50, run(tmp_path, minutes=0.0))
    _, step, _ = averaged(PLAN, make(), tmp_path)
    assert step == 1
    train(PLAN, make(), make_loss(), 50, run(tmp_path))
    assert averaged(PLAN, make(), tmp_path)[1] == 30


def test_the_averaged_weights_are_those_that_train_returns(tmp_path):
    returned = train(PLAN, make(), make_loss(), 50, run(tmp_path))
    read, _, seconds = averaged(PLAN, make(), tmp_path)
    assert all(torch.equal(a, b) for a, b in zip(returned.parameters(), read.parameters(), strict=True))
    assert seconds > 0


def test_a_checkpoint_of_another_plan_is_refused(tmp_path):
    train(PLAN, make(), make_loss(), 50, run(tmp_path, minutes=0.0))
    with pytest.raises(InputError, match="another plan"):
        train(Plan("line", steps=30, batch=4, learning_rate=0.05), make(), make_loss(), 50, run(tmp_path))


def test_without_a_checkpoint_the_error_says_how_to_make_one(tmp_path):
    with pytest.raises(InputError, match=r"python -m neurorecon.simulation.training line"):
        averaged(PLAN, make(), tmp_path)


def test_every_epoch_visits_each_scene_once_in_another_order():
    rows = torch.cat([batch_rows(PLAN, 40, step) for step in range(10)])
    first, second = rows[:40], rows[40:]
    assert sorted(first.tolist()) == sorted(second.tolist()) == list(range(40))
    assert first.tolist() != second.tolist()


@pytest.mark.parametrize(("step", "share"), [(0, 0.01), (99, 1.0), (500, 1.0), (1000, 0.02)])
def test_the_learning_rate_rises_stays_and_falls(step, share):
    plan = Plan("line", steps=1000, batch=1, learning_rate=1.0, warmup=100, hold=0.6)
    assert plan.rate(step) == pytest.approx(share)


def test_noise_for_a_gpu_is_drawn_there_from_the_same_seed(monkeypatch):
    """Torch refuses a generator of the processor for tensors of a GPU."""
    given, real = torch.Generator().manual_seed(3), torch.Generator
    assert on_device(given, "cpu") is given
    devices = []
    monkeypatch.setattr(torch, "Generator", lambda device: devices.append(device) or real())
    first, second = (on_device(real().manual_seed(3), "cuda:1").initial_seed() for _ in range(2))
    assert devices == ["cuda:1", "cuda:1"]
    assert first == second != on_device(real().manual_seed(4), "cuda:1").initial_seed()
