"""The first groups of a VDVAE, taught once more, say what the shipped ones said, and nothing else changes."""

import numpy as np
import torch

from neurorecon.models.training import layout
from neurorecon.models.training.first_groups import groups_up_to
from neurorecon.models.training.layout import Part
from neurorecon.models.training.taught import Taught

FRESH = Part("layout", 10, side=8, fresh=True)
DEEPER = "1x2,8m1,8x2,16m8,16x1,32m16"


def test_more_groups_come_first_and_the_finer_ones_stay(shipped):
    network = layout.make(shipped, FRESH, DEEPER)
    assert (groups_up_to(shipped, 8), groups_up_to(network, 8)) == (2, 5)
    for mine, theirs in zip(list(network.decoder.dec_blocks)[5:], list(shipped.decoder.dec_blocks)[2:], strict=True):
        for name, value in theirs.state_dict().items():
            assert torch.equal(mine.state_dict()[name], value)
    learning = {name for name, parameter in network.named_parameters() if parameter.requires_grad}
    first = tuple(f"decoder.dec_blocks.{number}." for number in range(5))
    biases = {f"decoder.bias_xs.{number}" for number, side in enumerate((1, 8, 16, 32)) if side <= 8}
    assert learning == {name for name, _ in network.named_parameters() if name.startswith(first)} | biases


def test_finer_groups_go_on_from_where_they_are(shipped, pixels):
    network = layout.make(shipped, Part("prior", 10, side=16))
    for name, value in shipped.state_dict().items():
        assert torch.equal(network.state_dict()[name], value)
    learning = {name for name, parameter in network.named_parameters() if parameter.requires_grad}
    first = tuple(f"decoder.dec_blocks.{number}." for number in range(4))
    biases = {f"decoder.bias_xs.{number}" for number in range(3)}
    assert learning == {name for name, _ in network.named_parameters() if name.startswith(first)} | biases
    taught = Taught.make(shipped, pixels, "cpu", side=16)
    assert sorted(taught.activations) == [1, 8, 16]
    assert taught.states.shape == (24, 8, 16, 16)
    found = layout.loss(taught, "cpu")(network, torch.arange(24), torch.Generator().manual_seed(0))
    assert {"bits_1", "bits_8", "bits_16"} <= found.keys()
    assert float(found["off"]) < 1.5  # as far off as the posterior's own spread, which the loss takes as its measure


def test_learning_brings_the_state_closer_in_fewer_bits(shipped, pixels):
    taught = Taught.make(shipped, pixels, "cpu", side=8)
    network = layout.make(shipped, FRESH, DEEPER)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    loss = layout.loss(taught, "cpu")
    optimizer = torch.optim.AdamW([p for p in network.parameters() if p.requires_grad], lr=3e-3)
    losses = []
    for step in range(60):
        found = loss(network, torch.arange(24), torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        found["loss"].backward()
        optimizer.step()
        losses.append(float(found["loss"].detach()))
    assert np.mean(losses[-5:]) < 0.6 * losses[0]
    first = tuple(f"decoder.dec_blocks.{number}." for number in range(5))
    for name, value in network.state_dict().items():
        if not name.startswith((*first, "decoder.bias_xs")):
            assert torch.equal(value, before[name])
