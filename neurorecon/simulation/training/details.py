"""The VDVAE's groups finer than 8 x 8 taught once more: to draw as much as they can from the coarser ones alone.

The first training lets them say more than is worth its bits, and never asks what their priors make of a scene whose
details nobody tells. For a third of each batch all of them are silent here, and the mean of their priors has to come
close to the image; for another third those at 32 x 32 and finer; the rest learn the evidence lower bound as before.
All coarser groups, and the encoder, stay as they are.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from neurorecon.models.vdvae import VDVAE, DecoderBlock, Gaussian
from neurorecon.simulation.training.loop import Loss, Plan, on_device
from neurorecon.simulation.training.vdvae import groups_up_to, mirrored_at_random

PLAN = Plan(
    "details",
    steps=4_000,
    batch=15,
    learning_rate=5e-4,
    weight_decay=0.01,
    warmup=200,
    average=0.998,
    clip=20.0,
    hold=0.4,
)

#: Of the finest groups that stay as they are.
_STAYS = 8

#: Share of a batch that ends with those for which groups of a side are silent.
_SILENT_UNTIL = {16: 1 / 3, 32: 2 / 3, 64: 2 / 3}

#: Weight of the rate: that of the evidence lower bound, other than in the first training.
_RATE = 1.0

#: Errors of the colors (-1 to 1) that count 1 where groups are silent. Absolute errors, for squared ones make an edge
#: soft if it is not known where it runs.
_COLOR = 0.1


def make(shipped: VDVAE, stays: int = _STAYS) -> VDVAE:
    """Return the shipped network; only its groups finer than a side, and the pixels, learn."""
    network = VDVAE(shipped.config)
    network.load_state_dict(shipped.state_dict())
    decoder = network.decoder
    network.requires_grad_(False)
    for part in (*list(decoder.dec_blocks)[groups_up_to(network, stays) :], decoder.out_net):
        part.requires_grad_(True)
    for parameter in (decoder.gain, decoder.bias, *(bias for bias in decoder.bias_xs if bias.shape[-1] > stays)):
        parameter.requires_grad_(True)
    return network.float()


def loss(pixels: np.ndarray, device: str) -> Loss:
    """Return the loss, in bits per value of a pixel.

    Parameters
    ----------
    pixels : array, shape (scene, y, x, rgb)
        uint8.
    device : str
    """

    def compute(network: Any, rows: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        images = mirrored_at_random(pixels[rows.numpy()], device, generator)
        noise = on_device(generator, device)
        activations = network.activations(images)
        place = torch.arange(len(images), device=device) / len(images)
        rates: list[Tensor] = []

        def choose(group: int, block: DecoderBlock, x: Tensor, prior: Gaussian) -> Tensor:
            side = block.layer.resolution
            posterior = block.posterior_of(x, activations[side])
            drawn = posterior.sample(noise)
            if side <= _STAYS:
                return drawn
            speaks = (place >= _SILENT_UNTIL.get(side, 0.0)).float()
            rates.append(posterior.divergence(prior).sum((1, 2, 3)) * speaks)
            share = speaks[:, None, None, None]
            return share * drawn + (1 - share) * prior.mean

        state = network.decoder(len(images), choose)
        wanted = images.float() / 127.5 - 1
        bits = 1 / (math.log(2) * wanted[0].numel())
        speaks = (place >= max(_SILENT_UNTIL.values())).float()
        likely = (network.decoder.out_net.negative_log_likelihood(state, wanted) * speaks).mean() * bits
        off = (network.decoder.out_net.pixels(state, "mean", None) - wanted).abs().sum((1, 2, 3))
        silent = (off / _COLOR * (1 - speaks)).mean() * bits
        rate = torch.stack(rates).sum(0).mean() * bits
        total = likely + silent + _RATE * rate
        return {"loss": total, "distortion": likely.detach(), "silent": silent.detach(), "rate": rate.detach()}

    return compute
