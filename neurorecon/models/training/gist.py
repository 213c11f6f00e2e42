"""The groups of the VDVAE at 1 x 1 taught to decide what a picture shows: its gist.

They are drawn once for the whole picture, so that only what they say can hold a sample from the prior together. Left
alone they say next to nothing. The encoder averages its activations over the picture, and its blocks there, begun
with small weights on small numbers, hardly add to them: colors are left, and of where things are nothing. What the
encoder does not tell the decoder ignores, and so it stays.

Here these blocks begin again at a scale at which they can learn. The groups at 1 x 1 are taught the principal
components of the states over scenes, one for each of their values, and in half of the scenes the finer groups take
the means of their prior, so that they learn to build all that the gist implies.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from neurorecon.models.training import layout
from neurorecon.models.training.first_groups import blocks_down_to, first_groups, groups_up_to, seen
from neurorecon.models.training.layout import Part, allowed, bits, bound, root_mean_square
from neurorecon.models.training.loop import Loss
from neurorecon.models.training.taught import Taught
from neurorecon.models.vdvae import VDVAE, Block, DecoderBlock

#: How far the means at 1 x 1 may be from the principal components, which have a deviation of 1.
_OFF_COMPONENTS = 0.3

#: At the start: deviation of the means of the posterior, how much its scale varies, and that scale's logarithm.
_MEANS, _SCALES, _LOG_SCALE = 0.5, 0.1, -1.0

#: At the start: what a block at 1 x 1 adds to what it reads, and the groups to the state, relative to their deviation.
_ADDED = 0.5


@torch.no_grad()
def make(shipped: VDVAE, part: Part, pixels: np.ndarray) -> VDVAE:
    """Return the shipped network, begun again at 1 x 1; the groups up to a side learn, and the encoder below it.

    Parameters
    ----------
    shipped : VDVAE
    part : Part
    pixels : ndarray, shape (scene, y, x, rgb), dtype uint8
        Some scenes, which scale the weights.
    """
    network = layout.make(shipped, part)
    activations = network.activations(torch.from_numpy(pixels).permute(0, 3, 1, 2))
    state = _run(list(_groups(network)), network.decoder.bias_xs[0], activations[1])
    network.decoder.bias_xs[0].copy_(state.mean(0, keepdim=True))
    _begin_encoder(network, activations)
    activations = seen(network, activations, part.side)
    _begin_groups(network, activations[1], deviation=float(state.std(0).mean()))
    first = blocks_down_to(network, part.side)
    for learning in (*list(network.encoder.enc_blocks)[first:], *_groups(network)):
        learning.requires_grad_(True)
    return network


def _groups(network: VDVAE) -> Iterator[DecoderBlock]:
    """Blocks of the groups at 1 x 1."""
    return (cast(DecoderBlock, network.decoder.dec_blocks[group]) for group in range(groups_up_to(network, 1)))


def _run(groups: list[DecoderBlock], state: Tensor, activations: Tensor) -> Tensor:
    """Return the state after some groups, (image, channel, 1, 1), on the path of means."""
    state = state.expand(len(activations), -1, -1, -1)
    for block in groups:
        _, with_features = block.prior_of(state)
        state = block(with_features, block.posterior_of(state, activations).mean)
    return state


def _begin_encoder(network: VDVAE, activations: dict[int, Tensor]) -> None:
    """Draw the blocks that lead to 1 x 1 anew; `activations` are those of some scenes."""
    layers = network.config.encoder_layers
    first = next(number for number, layer in enumerate(layers) if layer.resolution == (layer.shrink or 1))
    for number in range(first, len(layers)):
        block, layer = cast(Block, network.encoder.enc_blocks[number]), layers[number]
        before = activations[layer.resolution]
        _at_unit_scale(block, before)
        pooled = functional.avg_pool2d(block(before), layer.resolution)
        factor = 1 / pooled.std(0).mean() if layer.resolution > 1 else _ADDED
        for parameter in block.c4.parameters():
            parameter.mul_(factor)
        activations = activations | network.encoder.onward(before, number)


def _begin_groups(network: VDVAE, activations: Tensor, deviation: float) -> None:
    """Draw the groups at 1 x 1 anew; what they add to the state has about the deviation that it had."""
    state = network.decoder.bias_xs[0].expand(len(activations), -1, -1, -1)
    values = network.config.z_dim
    for group, old in enumerate(_groups(network)):
        block = DecoderBlock(network.config, old.layer).to(activations)
        _at_unit_scale(block.enc, torch.cat([state, activations], dim=1))
        last = block.enc.c4
        last.weight[:values].mul_(_MEANS)
        last.weight[values:].mul_(_SCALES)
        cast(Tensor, last.bias)[values:] = _LOG_SCALE
        nn.init.orthogonal_(block.z_proj.weight, gain=_ADDED * deviation)
        network.decoder.dec_blocks[group] = block
        state = _run([block], state, activations)


def _at_unit_scale(block: Block, x: Tensor) -> None:
    """Draw the weights of a block such that each of its convolutions varies by 1 over images.

    Source: D. Mishkin and J. Matas, "All you need is a good init", ICLR 2016.
    """
    for convolution in (block.c1, block.c2, block.c3, block.c4):
        active = functional.gelu(x)
        nn.init.orthogonal_(convolution.weight)
        bias = cast(Tensor, convolution.bias).zero_()
        convolution.weight.div_(convolution(active).std(0).mean())
        bias.sub_(convolution(active).mean((0, 2, 3)))
        x = convolution(active)


def loss(taught: Taught, device: str) -> Loss:
    """Return the evidence lower bound of the states, as :func:`neurorecon.models.training.layout.loss` does.

    Every other scene is built from the gist alone, and may be off as far as scenes differ. To the bound is added how
    far the means at 1 x 1 are from the principal components of the states.

    Parameters
    ----------
    taught : Taught
    device : str
    """
    scale, deviation = allowed(taught, device), taught.deviation.to(device)
    components = taught.components().to(device)

    def compute(network: Any, rows: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        activations = {side: part[rows].to(device).float() for side, part in taught.activations.items()}
        activations = seen(network, activations, taught.side)
        half = torch.arange(len(rows), device=device) % 2 == 0
        found = first_groups(network, activations, side=taught.side, gist=half, generator=generator)
        expected = torch.where(half[:, None, None, None], deviation, scale)
        off = (found.state - taught.states[rows].to(device).float()) / expected
        values = bound(network, off, found.rates, {})
        missed = found.gist - components[rows]
        taught_gist = 0.5 * (missed / _OFF_COMPONENTS).square().sum(1).mean() * bits(network)
        return {
            **values,
            "loss": values["loss"] + taught_gist,
            "off": root_mean_square(off[~half]),
            "off_gist": root_mean_square(off[half]),
            "off_components": root_mean_square(missed),
        }

    return compute
