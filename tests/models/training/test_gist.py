"""The groups at 1 x 1 learn to say what a picture shows."""

import numpy as np
import torch

from neurorecon.models.training import gist
from neurorecon.models.training.first_groups import first_groups, seen
from neurorecon.models.training.layout import Part
from neurorecon.models.training.taught import Taught


def test_the_network_begins_where_it_can_learn(shipped, pixels):
    network = gist.make(shipped, Part("gist", 10, side=8, gist=True), pixels)
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2)
    with torch.no_grad():
        activations = network.activations(images)
        found = first_groups(network, activations, side=8, temperature=0.0)
    assert 0.5 < float(activations[1].std(0).mean()) < 2.0
    assert 0.3 < float(found.gist.std(0).mean()) < 0.7
    finer = {name: value for name, value in shipped.state_dict().items() if name.startswith("decoder.dec_blocks.2")}
    assert all(torch.equal(network.state_dict()[name], value) for name, value in finer.items())


def test_the_gist_is_told_once_for_the_whole_picture(shipped, pixels, monkeypatch):
    monkeypatch.setattr(gist, "_OFF_COMPONENTS", 0.03)  # so small a network learns them slowly
    pixels = np.ascontiguousarray(np.broadcast_to(pixels[:, :1, :1], pixels.shape))  # one color each
    taught = Taught.make(shipped, pixels, "cpu", side=8)
    network = gist.make(shipped, Part("gist", 10, side=8, gist=True), pixels)
    learning = {name for name, parameter in network.named_parameters() if parameter.requires_grad}
    coarsest = ("encoder.enc_blocks.4", "encoder.enc_blocks.5")
    assert {name for name in learning if name.startswith("encoder")} == {
        name for name, _ in network.named_parameters() if name.startswith(coarsest)
    }

    def missed():
        with torch.no_grad():
            activations = seen(network, {8: taught.activations[8].float()}, 8)
            everything = torch.ones(24, dtype=torch.bool)
            found = first_groups(network, activations, side=8, gist=everything, temperature=0.0)
        sides = [shape[-1] for shape in network.group_shapes[: len(found.rates)]]
        assert all((rate > 0) == (side == 1) for rate, side in zip(found.rates[:, 0], sides, strict=True))
        off = (found.state - taught.states.float()) / taught.deviation
        return float(off.square().mean()), float((found.gist - taught.components()).square().mean())

    before, loss = missed(), gist.loss(taught, "cpu")
    optimizer = torch.optim.AdamW([p for p in network.parameters() if p.requires_grad], lr=3e-3)
    for step in range(120):
        optimizer.zero_grad()
        loss(network, torch.arange(24), torch.Generator().manual_seed(step))["loss"].backward()
        optimizer.step()
    after = missed()
    assert after[0] < 0.7 * before[0]
    assert after[1] < 0.7 * before[1]
