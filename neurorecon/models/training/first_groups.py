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
    """

    state: Tensor
    rates: Tensor


def first_groups(
    network: VDVAE,
    activations: dict[int, Tensor],
    *,
    side: int,
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
    temperature : float
        Of the posterior: 0 follows its means.
    generator : torch.Generator, optional
    """
    rates: list[Tensor] = []

    def choose(group: int, block: DecoderBlock, x: Tensor, prior: Gaussian) -> Tensor:
        posterior = block.posterior_of(x, activations[block.layer.resolution])
        both = _fixed(posterior).divergence(prior), posterior.divergence(_fixed(prior))
        rates.append(torch.stack([one.sum((1, 2, 3)).mean() for one in both]))
        return posterior.sample(generator, temperature)

    images = len(activations[side])
    state = network.decoder.run(images, choose, groups_up_to(network, side))[side]
    return Found(state[:, : network.config.widths[2 * side]], torch.stack(rates))


def _fixed(gaussian: Gaussian) -> Gaussian:
    return Gaussian(*(part.detach() for part in gaussian))


def groups_up_to(network: VDVAE, side: int) -> int:
    """Return how many groups are no finer than a side."""
    return sum(shape[-1] <= side for shape in network.group_shapes)
