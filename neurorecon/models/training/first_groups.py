"""The first groups of a VDVAE run apart from the rest: from the encoder's activations to the state they build."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from neurorecon.models.vdvae import VDVAE, DecoderBlock, Gaussian


class Found(NamedTuple):
    """What the first groups made of pictures.

    Parameters
    ----------
    state : Tensor, shape (image, channel, y, x)
        As the next groups read it.
    rates : Tensor, shape (group, 2)
        Mean over images, in nats, twice the same: as the prior may change it, and as the posterior may.
    gist : Tensor, shape (image, value)
        Means of the posterior of the groups at 1 x 1.
    """

    state: Tensor
    rates: Tensor
    gist: Tensor


def first_groups(
    network: VDVAE,
    activations: dict[int, Tensor],
    *,
    side: int,
    gist: Tensor | None = None,
    temperature: float = 1.0,
    generator: torch.Generator | None = None,
) -> Found:
    """Run the groups up to a side.

    Parameters
    ----------
    network : VDVAE
    activations : dict of Tensor, each of shape (image, channel, y, x)
        By resolution.
    side : int
        Of the finest of the groups.
    gist : Tensor of bool, shape (image,), optional
        Where true, all groups finer than 1 x 1 take the mean of their prior, and say nothing.
    temperature : float
        Of the posterior: 0 follows its means.
    generator : torch.Generator, optional
    """
    rates: list[Tensor] = []
    means: list[Tensor] = []
    images = len(activations[side])
    everything = torch.ones(images, dtype=torch.bool, device=activations[side].device)

    def choose(group: int, block: DecoderBlock, x: Tensor, prior: Gaussian) -> Tensor:
        # What the posterior would say where it is not asked can be as far off as to overflow.
        told = everything if gist is None or block.layer.resolution == 1 else ~gist
        posterior = block.posterior_of(x[told], activations[block.layer.resolution][told])
        expected = Gaussian(*(part[told] for part in prior))
        both = torch.stack([_fixed(posterior).divergence(expected), posterior.divergence(_fixed(expected))])
        rates.append(both.sum((1, 2, 3, 4)) / images)
        if block.layer.resolution == 1:
            means.append(posterior.mean.flatten(1))
        return prior.mean.index_put((told,), posterior.sample(generator, temperature))

    state = network.decoder.run(images, choose, groups_up_to(network, side))[side]
    return Found(state[:, : network.config.widths[2 * side]], torch.stack(rates), torch.cat(means, dim=1))


def _fixed(gaussian: Gaussian) -> Gaussian:
    return Gaussian(*(part.detach() for part in gaussian))


def groups_up_to(network: VDVAE, side: int) -> int:
    """Return how many groups are no finer than a side."""
    return sum(shape[-1] <= side for shape in network.group_shapes)


def blocks_down_to(network: VDVAE, side: int) -> int:
    """Return how many blocks of the encoder it takes to get to a side."""
    outputs = [layer.resolution // (layer.shrink or 1) for layer in network.config.encoder_layers]
    return sum(output >= side for output in outputs)


def seen(network: VDVAE, activations: dict[int, Tensor], side: int) -> dict[int, Tensor]:
    """Return the activations, with those below a side as the encoder has them now."""
    return activations | network.encoder.onward(activations[side], blocks_down_to(network, side))
