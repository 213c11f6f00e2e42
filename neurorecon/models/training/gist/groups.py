"""The first groups run apart from the rest, each allowed to say little, some of them silent for some scenes."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from neurorecon.models.training.gist.taught import SIDE, blocks_before
from neurorecon.models.vdvae import VDVAE, DecoderBlock, Gaussian

#: Least spread of the posterior relative to the prior's, by side of a group, and that of the last ones of a side. So
#: each group says little, a bit of each value at most, and no prior has to hit a narrow target: together they are like
#: the steps of a diffusion.
_LEAST = {1: 0.5, 4: 0.84, 8: 0.87}
_LEAST_OF_LAST = {4: (1, 0.6), 8: (2, 0.7)}

#: And the most, as a logarithm; with more the divergence may grow beyond all numbers.
_MOST = 0.5


class Step(NamedTuple):
    """What a group found.

    Parameters
    ----------
    side : int
    state : Tensor, shape (image, channel, y, x)
        With what the prior adds, before the latents.
    """

    side: int
    state: Tensor


class Found(NamedTuple):
    """What the first groups made of pictures.

    Parameters
    ----------
    before : list of Step
        Of each group.
    states : dict of Tensor, each of shape (image, channel, y, x)
        By side, in the end.
    rates : Tensor, shape (group,)
        Mean over images, in nats; an image for which a group was silent counts as 0.
    below : Tensor, shape ()
        How far the posteriors are narrower than they may be, squared, mean over images.
    """

    before: list[Step]
    states: dict[int, Tensor]
    rates: Tensor
    below: Tensor


def coarser_activations(network: VDVAE, seen: Tensor) -> dict[int, Tensor]:
    """Return the encoder's activations (image, channel, y, x) up to 8 x 8, given what comes to 8 x 8."""
    widths, first = network.encoder.widths, blocks_before(network)
    x = functional.pad(seen, (0, 0, 0, 0, 0, widths[SIDE] - seen.shape[1]))
    activations = {SIDE: x}
    blocks = list(network.encoder.enc_blocks)[first:]
    for block, shrink in zip(blocks, network.encoder.shrink[first:], strict=True):
        x = block(x)
        if shrink is not None:
            x = functional.avg_pool2d(x, shrink)
            x = functional.pad(x, (0, 0, 0, 0, 0, widths[x.shape[-1]] - x.shape[1]))
        activations[x.shape[-1]] = x
    return activations


def run_groups(
    network: VDVAE, seen: Tensor, side: int, speaking: dict[int, Tensor], generator: torch.Generator | None
) -> Found:
    """Run the groups up to a side.

    Parameters
    ----------
    network : VDVAE
    seen : Tensor, shape (image, channel, y, x)
        See :class:`~neurorecon.models.training.gist.taught.Taught`.
    side : int
        Of the finest of the groups.
    speaking : dict of Tensor, each of shape (image,)
        By side, 1 where latents are drawn from the posterior, 0 where they are the mean of the prior.
    generator : torch.Generator, optional
    """
    activations = coarser_activations(network, seen)
    states = network.decoder._start(len(seen))
    before, rates, below = [], [], seen.new_zeros(())
    least = _least(network)
    for number, block in enumerate(network.decoder.dec_blocks):
        assert isinstance(block, DecoderBlock)
        here = block.layer.resolution
        if here > side:
            break
        x = network.decoder.state_before(block.layer, states)
        prior, with_features = block.prior_of(x)
        told = block.posterior_of(x, activations[here])
        floor = prior.log_scale.detach() + least[number]
        below = below + (floor - told.log_scale).relu().square().sum((1, 2, 3)).mean()
        posterior = Gaussian(told.mean, told.log_scale.maximum(floor).minimum(floor - least[number] + _MOST))
        speaks = speaking[here]
        rates.append((posterior.divergence(prior).sum((1, 2, 3)) * speaks).mean())
        before.append(Step(here, with_features))
        share = speaks[:, None, None, None]
        states[here] = block(with_features, share * posterior.sample(generator) + (1 - share) * prior.mean)
    return Found(before, states, torch.stack(rates), below)


def _least(network: VDVAE) -> list[float]:
    sides = [shape[-1] for shape in network.group_shapes]
    least = [math.log(_LEAST.get(side, 1.0)) for side in sides]
    for side, (count, value) in _LEAST_OF_LAST.items():
        for group in [number for number, one in enumerate(sides) if one == side][-count:]:
            least[group] = math.log(value)
    return least
