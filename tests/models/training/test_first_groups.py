"""The first groups run apart from the rest of the network."""

import math

import torch

from neurorecon.models.training.first_groups import first_groups


def test_they_say_as_much_as_within_the_network(shipped, pixels):
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2)
    with torch.no_grad():
        activations = shipped.activations(images)
        found = first_groups(shipped, activations, side=8, generator=torch.Generator().manual_seed(0))
        whole = shipped.loss(images, generator=torch.Generator().manual_seed(0))["rate_by_group"]
    nats = whole[:2] * math.log(2) * images[0].numel()
    torch.testing.assert_close(found.rates, nats[:, None].expand(2, 2))


def test_the_prior_and_the_posterior_learn_from_rates_of_their_own(shipped, pixels):
    activations = shipped.activations(torch.from_numpy(pixels).permute(0, 3, 1, 2))
    rates = first_groups(shipped, activations, side=8, temperature=0.0).rates
    block = shipped.decoder.dec_blocks[0]
    last = [block.prior.c4.bias, block.enc.c4.bias]
    to_prior, to_posterior = (torch.autograd.grad(rate, last, retain_graph=True) for rate in rates[0])
    assert to_prior[0].any()
    assert not to_prior[1].any()
    assert not to_posterior[0].any()
    assert to_posterior[1].any()
