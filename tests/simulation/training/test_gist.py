"""The first groups of a VDVAE, taught from coarse to fine: what is where, and what the scene is."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from neurorecon.simulation.scene import sample_scene
from neurorecon.simulation.training import gist
from neurorecon.simulation.training.gist import coarser_activations, run_groups
from neurorecon.simulation.training.vdvae import groups_up_to
from tests.simulation.training.conftest import TINY

DEEPER = replace(
    TINY,
    encoder_blocks="32d2,16x1,16d2,8x2,8d2,4d4,1x1",
    decoder_blocks="1x3,4m1,4x1,8m1,8x3,16m8,16x1,32m16",
    custom_widths="16:12,8:16,4:28,1:28",
)


@pytest.fixture
def described():
    return gist.Described.of([sample_scene(3, index) for index in range(24)])


@pytest.fixture
def taught(shipped, pixels):
    return gist.Taught.make(shipped, pixels, "cpu", batch=7)


@pytest.fixture
def learner(shipped, taught):
    learner = gist.make(shipped, DEEPER)
    gist.begin(learner, taught)
    return learner


def test_what_is_finer_stays(shipped, learner):
    network = learner.vdvae
    assert (groups_up_to(shipped, 8), groups_up_to(network, 8)) == (2, 9)
    for mine, theirs in zip(list(network.decoder.dec_blocks)[9:], list(shipped.decoder.dec_blocks)[2:], strict=True):
        for name, value in theirs.state_dict().items():
            assert torch.equal(mine.state_dict()[name], value)
    for name, value in shipped.encoder.in_conv.state_dict().items():
        assert torch.equal(network.encoder.in_conv.state_dict()[name], value)
    still = {name for name, parameter in network.named_parameters() if not parameter.requires_grad}
    assert {name.split(".")[2] for name in still if "dec_blocks" in name} == {"9", "10", "11"}
    assert {name.split(".")[2] for name in still if "enc_blocks" in name} == {"0", "1", "2"}
    assert {name for name in still if "bias_xs" in name} == {"decoder.bias_xs.3", "decoder.bias_xs.4"}


def test_what_is_taught_is_what_the_network_reads_and_what_the_finer_groups_read(shipped, learner, taught, pixels):
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2)
    images = torch.cat([images, images.flip(-1)])
    latents = shipped.encode(images)
    with torch.no_grad():
        states = shipped.decoder.run(48, lambda group, block, x, prior: latents[group], 2)[8]
        whole = learner.vdvae.activations(images)
        apart = coarser_activations(learner.vdvae, taught.seen.float())
    torch.testing.assert_close(taught.states.float(), states[:, :12], rtol=1e-2, atol=1e-2)
    for side in (1, 4, 8):
        torch.testing.assert_close(apart[side], whole[side], rtol=2e-2, atol=2e-2)
    read = torch.nn.functional.conv2d(taught.states.float(), taught.readout, padding=1)
    assert read.shape == (48, 12, 8, 8)
    assert torch.corrcoef(torch.stack([taught.colors[:24, 0].flatten(), taught.colors[24:, 0].flip(-1).flatten()]))[
        0, 1
    ] == pytest.approx(1.0)


def test_labels_of_mirrored_scenes(described):
    assert described.classes.shape == (48, 4)
    first, mirrored = described.numbers[:24], described.numbers[24:]
    assert torch.equal(first[:, :2], -mirrored[:, :2])
    assert torch.equal(first[:, 2:], mirrored[:, 2:])
    assert torch.equal(described.weights[:24], described.weights[24:].flip(-1))
    assert float(described.weights.max()) <= 4.0


def test_errors_weigh_more_where_the_main_object_is():
    scene = next(s for s in (sample_scene(3, n) for n in range(50)) if s.category not in ("room", "face"))
    weights = gist.Described.of([scene, scene]).weights[0, 0]
    row, column = (int(np.clip((place + 0.5) * 8, 0, 7)) for place in (scene.main.y, scene.main.x))
    assert weights[row, column] == weights.max()
    assert weights.min() == 1.0


def test_silent_groups_follow_the_mean_of_their_prior(learner, taught):
    network, seen = learner.vdvae, taught.seen[:6].float()
    with torch.no_grad():
        mute = {side: torch.zeros(6) for side in (1, 4, 8)}
        found = run_groups(network, seen, 8, mute, None)
        alone = network.decoder.run(6, lambda group, block, x, prior: prior.mean, 9)
        gist_alone = run_groups(network, seen, 8, mute | {1: torch.ones(6)}, torch.Generator().manual_seed(0))
    assert found.rates.abs().max() == 0.0
    torch.testing.assert_close(found.states[8], alone[8])
    assert [step.side for step in found.before] == [1] * 3 + [4] * 2 + [8] * 4
    assert (gist_alone.rates[:3] > 0).all()
    assert gist_alone.rates[3:].abs().max() == 0.0
    assert not torch.allclose(gist_alone.states[8], alone[8])


def test_no_group_says_more_than_it_may(learner, taught):
    with torch.no_grad():
        for block in learner.vdvae.decoder.dec_blocks:
            block.enc.c4.bias[4:] = -9.0  # a posterior that would be as narrow as it likes
    speaking = {side: torch.ones(6) for side in (1, 4, 8)}
    found = run_groups(learner.vdvae, taught.seen[:6].float(), 8, speaking, torch.Generator().manual_seed(0))
    assert torch.isfinite(found.rates).all()
    assert float(found.below.detach()) > 100.0
    found.below.backward()
    assert learner.vdvae.decoder.dec_blocks[0].enc.c4.bias.grad[4:].max() < 0  # to be raised


def test_coarse_groups_learn_first_and_the_finer_ones_after_them(learner, taught, described):
    loss = gist.loss(taught, described, "cpu", coarse_steps=40)
    optimizer = torch.optim.AdamW([p for p in learner.parameters() if p.requires_grad], lr=3e-3)
    before = {name: value.clone() for name, value in learner.state_dict().items()}
    losses = []
    for step in range(80):
        found = loss(learner, torch.arange(24), torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        found["loss"].backward()
        optimizer.step()
        losses.append(float(found["loss"].detach()))
        if step == 39:
            assert {"bits_1", "bits_4"} == {name for name in found if name.startswith("bits")}
            after = {name: value.clone() for name, value in learner.state_dict().items()}
            finest = [
                name for name in after if name.startswith(("vdvae.decoder.dec_blocks.5", "vdvae.decoder.bias_xs.2"))
            ]
            assert finest
            assert all(torch.equal(after[name], before[name]) for name in finest)
    assert np.mean(losses[35:40]) < 0.7 * losses[0]
    assert np.mean(losses[-5:]) < 0.7 * losses[40]
    assert {"bits_1", "bits_4", "bits_8"} <= found.keys()
    for name, value in learner.state_dict().items():
        if name.startswith(("vdvae.decoder.dec_blocks.9", "vdvae.encoder.enc_blocks.0", "vdvae.decoder.out_net")):
            assert torch.equal(value, before[name])
