"""The finer groups of a VDVAE, taught once more, with all else as it was."""

import numpy as np
import torch

from neurorecon.simulation.training.vdvae import details_loss, groups_up_to, make_details


def test_only_the_finer_groups_and_the_pixels_learn(shipped):
    network = make_details(shipped)
    for name, value in shipped.state_dict().items():
        assert torch.equal(network.state_dict()[name], value)
    assert groups_up_to(network, 8) == 2
    learning = {name for name, parameter in network.named_parameters() if parameter.requires_grad}
    finer = ("decoder.dec_blocks.2.", "decoder.dec_blocks.3.", "decoder.dec_blocks.4.", "decoder.out_net.")
    biases = {"decoder.bias_xs.2", "decoder.bias_xs.3", "decoder.gain", "decoder.bias"}
    assert learning == {name for name, _ in network.named_parameters() if name.startswith(finer)} | biases


def test_what_silent_groups_draw_comes_closer_to_the_image(shipped, pixels):
    network = make_details(shipped)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    loss = details_loss(pixels, "cpu")
    learning = [name for name, parameter in network.named_parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW([p for p in network.parameters() if p.requires_grad], lr=2e-3)
    silent, losses = [], []
    for step in range(40):
        found = loss(network, torch.arange(12), torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        found["loss"].backward()
        optimizer.step()
        losses.append(float(found["loss"].detach()))
        silent.append(float(found["silent"]))
    assert np.mean(losses[-5:]) < losses[0]
    assert np.mean(silent[-5:]) < silent[0]
    for name, value in network.state_dict().items():
        if name not in learning:
            assert torch.equal(value, before[name])
