"""What the first groups learn from: the state they are to build, what a scene is, and how little is to be said.

Most of what is asked is asked of groups that have nothing but the coarser ones to go by: for some scenes of a batch
the groups at 4 x 4, or at 8 x 8, or both, are silent, and the means of their priors have to come as close to the
state as they can. That is what makes a sample from the prior hold together: the groups at 1 x 1 decide on a scene.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from neurorecon.models.training.gist.described import NAMES, Described
from neurorecon.models.training.gist.groups import Found, run_groups
from neurorecon.models.training.gist.network import Learner
from neurorecon.models.training.gist.taught import SIDE, Taught
from neurorecon.models.training.loop import Loss, on_device

#: Steps in which only the groups at 1 x 1 and 4 x 4 learn.
COARSE_STEPS = 5_000

#: Weight of the information in the groups, by side. Errors weigh more than a likelihood would have it (below), so
#: the same is asked of what is said.
_RATE = {1: 14.0, 4: 4.0, 8: 2.0}

#: Weight of the labels, in nats, at the end of the groups at 1 x 1, and what they weigh at earlier groups.
_LABELS, _EARLIER = 15.0, 0.3
_EARLIER_GROUPS = (4, 8)

#: Shares of a batch for which all groups but those at 1 x 1 are silent, and for which those at 8 x 8 are.
_GIST_ALONE, _WITHOUT_FINEST = 0.3, 0.6
_GIST_ALONE_COARSE = 0.5

#: Errors of this size count 1 (half, squared): of colors (from -1 to 1) where much is left open, and in the end.
_COLOR, _COLOR_IN_THE_END = 0.2, 0.07

#: How far off the state may be in the end, relative to the spread that the shipped network's own posterior gave it.
_SLACK = 1.5


def loss(taught: Taught, described: Described, device: str, coarse_steps: int = COARSE_STEPS) -> Loss:
    """Return the loss of a :class:`~neurorecon.models.training.gist.network.Learner`, in nats per value of a pixel.

    Parameters
    ----------
    taught : Taught
    described : Described
        Of the same scenes.
    device : str
    coarse_steps : int
    """
    compare = _Comparison(taught, device)

    def compute(network: Learner, rows: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        coarse = bool(network.step < coarse_steps)
        network.step += 1
        mirrored = torch.rand(len(rows), generator=generator) < 0.5
        rows = rows + len(taught.seen) // 2 * mirrored
        labels = described.rows(rows, device)
        speaking = _speaking(len(rows), coarse, device)
        noise = on_device(generator, device)
        seen = taught.seen[rows].to(device).float()
        found = run_groups(network.vdvae, seen, 4 if coarse else SIDE, speaking, noise)
        wanted = compare.wanted(rows, device)
        off = (
            compare.coarse(found, wanted, labels, speaking) if coarse else compare.all(found, wanted, labels, speaking)
        )
        told, right = _told(network, found, labels)
        sides = [step.side for step in found.before]
        weights = found.rates.new_tensor([_RATE[side] for side in sides])
        total = sum(off.values()) + (found.rates * weights).sum() + 0.5 * found.below + _LABELS * told
        values = 3 * network.vdvae.config.image_size**2
        return {
            "loss": total / values,
            "kind": right,
            "labels": told.detach(),
            "below": found.below.detach(),
            **{f"off_{name}": value.detach() / values for name, value in off.items()},
            **{f"bits_{side}": _bits(found.rates, sides, side) for side in sorted(set(sides))},
        }

    return compute


def _speaking(scenes: int, coarse: bool, device: str) -> dict[int, Tensor]:
    """Return, by side, 1 for scenes whose groups there speak; rows of a batch are in no order."""
    place = torch.arange(scenes, device=device) / scenes
    gist_alone = _GIST_ALONE_COARSE if coarse else _GIST_ALONE
    return {
        1: torch.ones(scenes, device=device),
        4: (place >= gist_alone).float(),
        SIDE: (place >= _WITHOUT_FINEST).float(),
    }


def _bits(rates: Tensor, sides: list[int], side: int) -> Tensor:
    return rates.detach()[[one == side for one in sides]].sum() / math.log(2)


def _told(network: Learner, found: Found, labels: Described) -> tuple[Tensor, Tensor]:
    """Return the error of the labels read from the groups at 1 x 1, and how often the kind is right."""
    before = [step.state for step in found.before if step.side == 1]
    error, right = _labels_off(network, found.states[1], labels)
    for group in _EARLIER_GROUPS:
        if group < len(before):
            error = error + _EARLIER * _labels_off(network, before[group], labels)[0]
    return error, right


def _labels_off(network: Learner, state: Tensor, labels: Described) -> tuple[Tensor, Tensor]:
    sizes = [len(names) for names in NAMES]
    *names, numbers = network.head(state.flatten(1)).split([*sizes, labels.numbers.shape[1]], dim=1)
    error = 0.5 * (numbers - labels.numbers).square().sum(1).mean()
    for said, truth in zip(names, labels.classes.T, strict=True):
        error = error + functional.cross_entropy(said, truth)
    return error, (names[0].argmax(1) == labels.classes[:, 0]).float().mean().detach()


class _Comparison:
    """How far states are from those wanted, in nats, if errors were normally distributed."""

    def __init__(self, taught: Taught, device: str) -> None:
        self.taught = taught
        some = taught.states[:4_000].float()
        self.deviation = {side: _deviation(some, side).to(device) for side in (4, SIDE)}
        self.spread = (_SLACK * taught.spread).to(device)
        self.readout = taught.readout.to(device)
        self.channels = some.shape[1]

    def wanted(self, rows: Tensor, device: str) -> dict[int, Tensor]:
        """Return states by side; at 4 x 4 with the colors of the picture at 8 x 8 beside them."""
        states = self.taught.states[rows].to(device).float()
        colors = functional.avg_pool2d(self.taught.colors[rows].to(device).float(), 2)
        at_4 = torch.cat([functional.avg_pool2d(states, 2), functional.pixel_unshuffle(colors, 2)], dim=1)
        return {4: at_4, SIDE: states}

    def coarse(
        self, found: Found, wanted: dict[int, Tensor], labels: Described, speaking: dict[int, Tensor]
    ) -> dict[str, Tensor]:
        """Compare the states at 4 x 4."""
        steps = [self._roughly(4, step.state, wanted, labels).mean() for step in found.before if step.side == 4]
        weights = 2 + 2 * speaking[4]
        end = (self._roughly(4, found.states[4], wanted, labels) * weights).mean()
        return {"on_the_way": 0.3 * torch.stack(steps).sum(), "in_the_end": end}

    def all(
        self, found: Found, wanted: dict[int, Tensor], labels: Described, speaking: dict[int, Tensor]
    ) -> dict[str, Tensor]:
        """Compare the states at 4 x 4 and at 8 x 8."""
        shares = {4: 0.15, SIDE: 0.3}
        steps = [
            shares[step.side] * self._roughly(step.side, step.state, wanted, labels).mean()
            for step in found.before
            if step.side in shares
        ]
        speaks, end = speaking[SIDE], found.states[SIDE]
        silent = 2 * (self._roughly(SIDE, end, wanted, labels) * (1 - speaks)).mean()
        exactly = (self._exactly(end, wanted) * speaks).mean()
        return {"on_the_way": torch.stack(steps).sum(), "silent": silent, "in_the_end": exactly}

    def _roughly(self, side: int, state: Tensor, wanted: dict[int, Tensor], labels: Described) -> Tensor:
        """Return the error of each image; states and colors alike, and more of it on the main object."""
        off = state[:, : self.channels] - wanted[side][:, : self.channels]
        if side == SIDE:
            colors = functional.conv2d(off, self.readout, padding=1)
        else:
            more = wanted[side].shape[1]
            colors = state[:, self.channels : more] - wanted[side][:, self.channels :]
        error = 0.25 * (off / self.deviation[side]).square().sum(1) + 0.5 * (colors / _COLOR).square().sum(1)
        area = (SIDE // side) ** 2
        return area * (functional.avg_pool2d(labels.weights, SIDE // side)[:, 0] * error).sum((1, 2))

    def _exactly(self, state: Tensor, wanted: dict[int, Tensor]) -> Tensor:
        off = state[:, : self.channels] - wanted[SIDE]
        colors = functional.conv2d(off, self.readout, padding=1)
        error = (off / self.spread).square().sum((1, 2, 3))
        return 0.5 * (error + (colors / _COLOR_IN_THE_END).square().sum((1, 2, 3)))


def _deviation(states: Tensor, side: int) -> Tensor:
    """Return the standard deviation (channel, 1, 1) of the states averaged to a side; never nothing."""
    found = functional.adaptive_avg_pool2d(states, side).var(0).mean((1, 2)).sqrt()[:, None, None]
    return found.clamp(min=0.1 * float(found.median()))
