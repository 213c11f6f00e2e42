"""Training, publishing and judging as a lab would run them, on a tiny network and a few scenes."""

import dataclasses
import json

import pytest
import torch
from typer.testing import CliRunner

from neurorecon.errors import UnknownNameError
from neurorecon.hub import BUNDLED
from neurorecon.io.tensors import load_state
from neurorecon.models.load import load_vdvae
from neurorecon.models.probe import Probe, ProbeConfig
from neurorecon.simulation.training import loop as scenes
from neurorecon.simulation.training import probe, steps
from neurorecon.simulation.training.__main__ import app
from neurorecon.simulation.training.loop import Run
from neurorecon.simulation.training.vdvae import groups_up_to


@pytest.fixture
def tiny(monkeypatch, tmp_path):
    monkeypatch.setattr(scenes, "COUNTS", {"train": (8, 2), "held-out": (6, 1)})
    monkeypatch.setattr(probe, "CONFIG", dataclasses.replace(probe.CONFIG, widths=(8, 8, 8, 8)))
    plan = dataclasses.replace(probe.PLAN, steps=3, batch=4)
    monkeypatch.setitem(steps._STEPS, "probe", dataclasses.replace(steps._STEPS["probe"], plan=plan))
    steps._scenes.cache_clear()
    yield tmp_path
    steps._scenes.cache_clear()


def test_a_network_is_trained_published_judged_and_trained_further(tiny):
    folder, out = tiny / "work", tiny / "shipped"
    options = ["probe", "--folder", str(folder), "--out", str(out), "--quiet"]
    done = CliRunner().invoke(app, options)
    assert "NOT MET" in done.output  # three steps teach nothing, and the command says so
    assert done.exit_code == 1
    assert isinstance(Probe.load(out / "probe").config, ProbeConfig)
    card = (out / "probe" / "README.md").read_text()
    assert "3 steps of 4 scenes" in card
    assert "**no**" in card
    assert json.loads((out / "sha256.json").read_text())["probe"]["model.safetensors"]["size"] > 0
    further = Run(tiny / "again", progress=False)
    steps.train_network("probe", further, shipped=out)
    steps.publish("probe", further, out)
    assert [run["steps"] for run in json.loads((out / "probe" / "training.json").read_text())["runs"]] == [3, 3]


@pytest.mark.parametrize("name", ["gist", "details"])
def test_groups_of_the_shipped_vdvae_are_trained_further(name, monkeypatch, tmp_path):
    monkeypatch.setattr(scenes, "COUNTS", {"train": (10, 2), "held-out": (6, 1)})
    step = steps._STEPS[name]
    plan = dataclasses.replace(step.plan, steps=2, batch=6)
    monkeypatch.setitem(steps._STEPS, name, dataclasses.replace(step, plan=plan))
    steps._scenes.cache_clear()
    steps._taught_in.cache_clear()
    try:
        run, out = Run(tmp_path / "work", progress=False), tmp_path / "shipped"
        steps.train_network(name, run)
        steps.publish(name, run, out)
    finally:
        steps._scenes.cache_clear()
        steps._taught_in.cache_clear()
    before, after = load_vdvae(BUNDLED)[0], load_vdvae(out)[0]
    assert after.config == before.config
    facts = json.loads((out / "vdvae" / "training.json").read_text())
    assert facts["name"] == "vdvae"
    assert facts["runs"][:-1] == json.loads((BUNDLED / "vdvae" / "training.json").read_text())["runs"]
    assert f"`{name}`" in facts["runs"][-1]["part"]
    same = {key for key, value in after.state_dict().items() if torch.equal(value, before.state_dict()[key])}
    coarse = groups_up_to(before, 8)
    stays = range(coarse) if name == "details" else range(coarse, len(before.group_shapes))
    blocks = {int(key.split(".")[2]) for key in set(before.state_dict()) - same if "dec_blocks" in key}
    assert blocks == set(range(len(before.group_shapes))) - set(stays)


def test_the_image_branch_is_trained_further_and_nothing_else(monkeypatch, tmp_path):
    monkeypatch.setattr(scenes, "COUNTS", {"train": (20, 4), "held-out": (6, 1)})
    step = steps._STEPS["image_branch"]
    plan = dataclasses.replace(step.plan, steps=1, batch=4, every=2)
    monkeypatch.setitem(steps._STEPS, "image_branch", dataclasses.replace(step, plan=plan))
    steps._scenes.cache_clear()
    try:
        run, out = Run(tmp_path / "work", progress=False), tmp_path / "shipped"
        steps.train_network("image_branch", run)
        steps.publish("image_branch", run, out)
    finally:
        steps._scenes.cache_clear()
    assert [folder.name for folder in out.iterdir() if folder.is_dir()] == ["dual_diffusion"]
    before, after = (load_state(home / "dual_diffusion" / "model.safetensors") for home in (BUNDLED, out))
    assert before.keys() == after.keys()
    assert {tensor.dtype for tensor in after.values()} == {torch.float16}
    torch.testing.assert_close(after["text_adapter.weight"], before["text_adapter.weight"], rtol=0, atol=0)
    different = [key for key in before if not torch.equal(before[key], after[key])]
    assert len(different) > len(before) / 2
    facts = json.loads((out / "dual_diffusion" / "training.json").read_text())
    shipped = json.loads((BUNDLED / "dual_diffusion" / "training.json").read_text())
    assert facts["name"] == shipped["name"] == "diffusion"
    assert facts["runs"][:-1] == shipped["runs"]
    assert facts["runs"][-1]["every"] == 2


def test_an_unknown_network_is_one_clear_error(tmp_path):
    done = CliRunner().invoke(app, ["gan", "--folder", str(tmp_path)])
    assert done.exit_code == 2
    assert "autoencoder" in done.output
    with pytest.raises(UnknownNameError):
        steps.publish("gan", Run(tmp_path))
