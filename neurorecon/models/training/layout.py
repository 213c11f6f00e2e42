"""The first groups of the VDVAE taught once more, and more of them: what is where, and how likely it is.

A VDVAE spends its training on details. The groups up to 8 x 8, which decide whether a sample from the prior is a scene,
are few and cost next to nothing, so they are trained apart: they get more blocks, and learn to build the state that
the shipped network's first groups built, in as few bits as they can. All else of the network stays as it is. What
they read, the encoder's activations, is computed once.

The same is done once more, with groups that go on from where they are: ``prior`` teaches all groups but those at full
resolution. At their start the finer ones were allowed to say more than is worth its bits, and their prior had seen too
few scenes to draw from it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from neurorecon.models.training.first_groups import first_groups, groups_up_to
from neurorecon.models.training.loop import Loss, Plan, on_device
from neurorecon.models.training.taught import Taught
from neurorecon.models.training.vdvae import CONFIG
from neurorecon.models.vdvae import VDVAE, DecoderBlock


@dataclass(frozen=True)
class Part:
    """A training of some groups of a shipped network.

    Parameters
    ----------
    name : str
    steps : int
    side : int
        Of the finest of the groups that learn, the first ones.
    fresh : bool
        Let them begin with random weights, else with the shipped ones.
    """

    name: str
    steps: int
    side: int
    fresh: bool = False

    @property
    def plan(self) -> Plan:
        """How it is trained."""
        return Plan(
            self.name,
            steps=self.steps,
            batch=32,
            learning_rate=1e-3,
            weight_decay=0.01,
            warmup=200,
            average=0.998,
            clip=5.0,
            hold=0.4,
        )

    @property
    def words(self) -> str:
        """What learns, as cards say it."""
        return f"the groups up to {self.side} x {self.side} alone (`{self.name}`)"


PARTS = {part.name: part for part in (Part("layout", 4_800, side=8, fresh=True), Part("prior", 3_000, side=32))}

#: Weight of the information in the posterior of the coarsest groups; their prior learns with full weight (balanced as
#: in Hafner et al., 2021, ICLR). With equal weights nothing is said once for the whole picture: what is told at 4 x 4
#: costs as little, but a prior that draws it place by place has no scene in mind.
_EASE = {1: 0.1, 4: 0.4}

#: Of weights; that of the batches is in the plan.
_SEED = 0

#: How far off the state may be, relative to the spread that the shipped network's own posterior gave it.
_SLACK = 1.5


def make(shipped: VDVAE, part: Part, blocks: str = CONFIG.decoder_blocks) -> VDVAE:
    """Return the shipped network; only its first groups learn.

    Parameters
    ----------
    shipped : VDVAE
        Its finer groups, encoder and pixels are kept.
    part : Part
    blocks : str
        Of the decoder where the part begins with random weights; those of the groups that do not learn as the shipped
        network has them. Other parts keep the shipped network's.
    """
    torch.manual_seed(_SEED)
    network = VDVAE(replace(shipped.config, decoder_blocks=blocks if part.fresh else shipped.config.decoder_blocks))
    kept = shipped.state_dict()
    if part.fresh:
        finer = range(groups_up_to(shipped, part.side), len(shipped.group_shapes))
        more = len(network.group_shapes) - len(shipped.group_shapes)
        of_groups = {
            f"decoder.dec_blocks.{group + more}.{name}": value
            for group in finer
            for name, value in _blocks(shipped)[group].state_dict().items()
        }
        kept = {name: value for name, value in kept.items() if not name.startswith("decoder.dec_blocks.")} | of_groups
    network.load_state_dict({**network.state_dict(), **kept})
    _learn_first_groups_only(network, part.side)
    return network.float()


def _learn_first_groups_only(network: VDVAE, side: int) -> None:
    network.requires_grad_(False)
    for block in _blocks(network)[: groups_up_to(network, side)]:
        block.requires_grad_(True)
    for bias in network.decoder.bias_xs:
        bias.requires_grad_(bias.shape[-1] <= side)


def _blocks(network: VDVAE) -> list[DecoderBlock]:
    return list(network.decoder.dec_blocks)  # type: ignore[arg-type]


def loss(taught: Taught, device: str) -> Loss:
    """Return the evidence lower bound of the states, in bits per value of a pixel as the VDVAE's own loss is.

    A state is taken to lie around what the groups build, normally distributed, with the spread that the finer groups
    are used to.

    Parameters
    ----------
    taught : Taught
    device : str
    """
    scale = (_SLACK * taught.spread).to(device)

    def compute(network: Any, rows: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        activations = {side: part[rows].to(device).float() for side, part in taught.activations.items()}
        noise = on_device(generator, device)
        found = first_groups(network, activations, side=taught.side, generator=noise)
        off = (found.state - taught.states[rows].to(device).float()) / scale
        return _bound(network, off, found.rates) | {"off": off.detach().square().mean().sqrt()}

    return compute


def _bound(network: VDVAE, off: Tensor, rates: Tensor) -> dict[str, Tensor]:
    """Return the loss and its parts; `off` (image, channel, y, x) is in standard deviations."""
    bits = 1 / (math.log(2) * 3 * network.config.image_size**2)  # per value of a pixel, in a nat per picture
    distortion = 0.5 * off.square().sum((1, 2, 3)).mean() * bits
    sides = [shape[-1] for shape in network.group_shapes[: len(rates)]]
    ease = rates.new_tensor([_EASE.get(side, 1.0) for side in sides])
    rate = (rates[:, 0] + ease * rates[:, 1]).sum() * bits
    by_side = {
        f"bits_{side}": rates.detach()[[one == side for one in sides], 0].sum() / math.log(2)
        for side in sorted(set(sides))
    }
    told = rates.detach()[:, 0].sum() * bits
    return {"loss": distortion + rate, "distortion": distortion.detach(), "rate": told} | by_side
