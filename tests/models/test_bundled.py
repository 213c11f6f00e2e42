"""The weights that neurorecon ships: whole, small, and still able to do what their cards say."""

import json

import numpy as np
import pytest
import torch

from neurorecon import hub
from neurorecon.hub import BUNDLED
from neurorecon.models.clip import clip_settings
from neurorecon.models.load import autoencoder_settings, load_vdvae
from neurorecon.models.probe import Probe
from neurorecon.simulation.captions import captions
from neurorecon.simulation.drawing.render import render
from neurorecon.simulation.scene import sample_scene
from neurorecon.simulation.training import diffusion
from neurorecon.simulation.training import judge as bars
from neurorecon.simulation.training.diffusion import to_pixels
from neurorecon.simulation.training.loop import SEEDS
from neurorecon.simulation.training.vdvae import reconstruct

FOLDERS = sorted(folder.parent for folder in BUNDLED.glob("*/config.json"))


@pytest.fixture(scope="module")
def scenes():
    return [sample_scene(SEEDS["held-out"], index) for index in range(80)]


@pytest.fixture(scope="module")
def pixels(scenes):
    return np.stack([render(scene, size=64, time=0.0) for scene in scenes])


@pytest.fixture(scope="module")
def probe():
    return Probe.load(BUNDLED / "probe")


def test_all_weights_together_take_at_most_60_megabytes():
    assert 0 < sum(file.stat().st_size for file in BUNDLED.rglob("*.safetensors")) <= 60e6


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_the_files_are_those_that_the_catalog_knows(folder):
    name = f"bundled-{folder.name.replace('_', '-')}"
    found = hub.verify(name)
    assert found
    assert all(file.state == "good" for file in found), found


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_every_network_has_a_card_with_samples_and_meets_its_bars(folder):
    card = (folder / "README.md").read_text()
    assert "samples.png" in card
    assert (folder / "samples.png").stat().st_size > 10_000
    measured = json.loads((folder / "bars.json").read_text())
    missed = [bar["what"] for bar in measured if bar["met"] is False]
    assert not missed
    assert "**no**" not in card


def test_the_probe_names_main_objects(probe, scenes, pixels):
    said = probe.answers(pixels)
    assert np.mean(said.category == [scene.category for scene in scenes]) >= 0.93
    assert np.mean(said.color == [scene.main.color for scene in scenes]) >= 0.8


def test_clip_finds_the_image_of_a_caption(scenes, pixels):
    settings = clip_settings()
    network, tokenizer = settings.load(), settings.tokenizer()
    texts = bars.clip_texts(network, tokenizer([captions(scene)[0] for scene in scenes]))
    ranks = (texts @ bars.clip_images(network, pixels).T).argsort(dim=1, descending=True)
    right = torch.arange(len(scenes))
    assert (ranks[:, 0] == right).float().mean() >= 0.75
    assert (ranks[:, :5] == right[:, None]).any(dim=1).float().mean() >= 0.95


def test_the_autoencoder_keeps_what_there_is_to_see(probe, pixels):
    network = autoencoder_settings().load()
    latents = diffusion.encode(network, pixels, "cpu", progress=False).float()
    reconstructed = to_pixels(network, latents)
    assert bars.psnr(pixels, reconstructed).mean() >= 28.5
    assert np.mean(probe.answers(pixels).category == probe.answers(reconstructed).category) >= 0.93
    assert 0.8 < latents.std() < 1.25


def test_the_vdvae_keeps_the_layout_in_its_first_groups(pixels):
    network, _ = load_vdvae()
    assert bars.psnr(pixels[:20], reconstruct(network, pixels[:20], len(network.group_shapes))).mean() >= 25.0
    assert bars.layout_likeness(pixels[:20], reconstruct(network, pixels[:20], len(network.group_shapes) - 4)) >= 0.9
