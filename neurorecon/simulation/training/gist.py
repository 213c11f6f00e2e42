"""A second training of the first groups of the VDVAE, from coarse to fine: first the gist of a scene, then its layout.

For some scenes of a batch the groups at 4 x 4, at 8 x 8, or both are silent, and the means of their priors, which
depend only on the coarser groups, have to approach the state of the bundled network. This makes samples from the prior
coherent: the groups at 1 x 1 determine the scene.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm

from neurorecon.models.vdvae import VDVAE, Block, DecoderBlock, Gaussian
from neurorecon.models.vdvae_config import VDVAEConfig
from neurorecon.simulation.scene import Scene, label_table
from neurorecon.simulation.training.loop import Loss, Plan, on_device
from neurorecon.simulation.training.vdvae import CONFIG, groups_up_to
from neurorecon.simulation.vocabulary import COLORS, KINDS, LIGHTINGS, SETTINGS

#: Minimum standard deviation of the posterior relative to the prior, by resolution of a group, and that of the last
#: groups of a resolution. It limits the information of each group to about one bit per value, so that no prior has to
#: predict a narrow target; together the groups resemble the steps of a diffusion.
_LEAST = {1: 0.5, 4: 0.84, 8: 0.87}

_LEAST_OF_LAST = {4: (1, 0.6), 8: (2, 0.7)}

#: Maximum log ratio of the standard deviations, without which the divergence may overflow.
_MOST = 0.5


class Step(NamedTuple):
    """The state at one group.

    Parameters
    ----------
    side : int
        Resolution of the group.
    state : Tensor, shape (image, channel, y, x)
        State with the features of the prior, before the latents are added.
    """

    side: int
    state: Tensor


class Found(NamedTuple):
    """Output of the first groups for a batch of images.

    Parameters
    ----------
    before : list of Step
        State at each group.
    states : dict of Tensor, each of shape (image, channel, y, x)
        Final states, by resolution.
    rates : Tensor, shape (group,)
        Mean rate over images in nats, with 0 for images for which a group is silent.
    below : Tensor, shape ()
        Squared amount by which log scales of posteriors are below their minimum, mean over images.
    """

    before: list[Step]
    states: dict[int, Tensor]
    rates: Tensor
    below: Tensor


def coarser_activations(network: VDVAE, seen: Tensor) -> dict[int, Tensor]:
    """Return the encoder's activations (image, channel, y, x) up to 8 x 8, given its input at 8 x 8."""
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
        See :class:`~neurorecon.simulation.training.gist.Taught`.
    side : int
        Resolution of the finest groups to run.
    speaking : dict of Tensor, each of shape (image,)
        By resolution, 1 if latents are drawn from the posterior, 0 if they are the mean of the prior (silent groups).
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


#: Classes of the labels: kind and color of the main object, setting and lighting.
NAMES = (tuple(KINDS), tuple(COLORS), tuple(SETTINGS), tuple(LIGHTINGS))

#: Numeric labels that change sign in a mirrored scene: horizontal position and facing of the main object.
_MIRRORED = (0, 1)

#: Additional weight of errors on the main object, which covers a small part of most scenes.
_MORE_ON_OBJECTS = 3.0


@dataclass(frozen=True)
class Described:
    """Labels of scenes, followed by those of the mirrored scenes.

    Parameters
    ----------
    classes : Tensor, shape (scene, 4)
        Class indices in :data:`NAMES`.
    numbers : Tensor, shape (scene, number)
        Position, facing and size of the main object, share of each category, and layout; standardized.
    weights : Tensor, shape (scene, 1, y, x)
        Weights of errors, 8 x 8, larger on the main object.
    """

    classes: Tensor
    numbers: Tensor
    weights: Tensor

    @classmethod
    def of(cls, scenes: list[Scene]) -> Described:
        """Describe scenes."""
        mains = [scene.main for scene in scenes]
        chosen = zip(
            [main.kind for main in mains],
            [main.color for main in mains],
            [scene.setting for scene in scenes],
            [scene.lighting for scene in scenes],
            strict=True,
        )
        classes = torch.tensor([[names.index(one) for names, one in zip(NAMES, row, strict=True)] for row in chosen])
        where = [[main.x, main.facing, main.y, main.size] for main in mains]
        numbers = torch.tensor(np.hstack([where, label_table(scenes).to_numpy()]), dtype=torch.float32)
        numbers = (numbers - numbers.mean(0)) / numbers.std(0, correction=0).clamp(min=1e-3)
        signs = torch.ones(numbers.shape[1])
        signs[list(_MIRRORED)] = -1.0
        weights = torch.from_numpy(np.stack([_weights(scene) for scene in scenes]))[:, None]
        return cls(classes.repeat(2, 1), torch.cat([numbers, numbers * signs]), torch.cat([weights, weights.flip(-1)]))

    def rows(self, rows: Tensor, device: str) -> Described:
        """Return several rows on a device."""
        return Described(*(part[rows].to(device) for part in (self.classes, self.numbers, self.weights)))


def _weights(scene: Scene) -> np.ndarray:
    main = scene.main
    if scene.kind == "video" or main.category == "room":  # objects move in videos, and rooms fill the image
        return np.ones((8, 8), dtype=np.float32)
    inside = np.outer(_covered(main.y, main.size), _covered(main.x, main.width))
    return (1 + _MORE_ON_OBJECTS * inside).astype(np.float32)


def _covered(center: float, extent: float) -> np.ndarray:
    """Return the share of each of eight cells along a side of the image that is covered by a box."""
    edges = np.linspace(-0.5, 0.5, 9)
    inside = np.minimum(edges[1:], center + extent / 2) - np.maximum(edges[:-1], center - extent / 2)
    return np.clip(inside * 8, 0, 1)


#: Seed of initial weights; that of the batches is in the plan.
_SEED = 0

#: Number of numeric labels that the head predicts.
_NUMBERS = 16

#: Number of scenes used to scale the initial weights.
SOME = 400


class Learner(nn.Module):
    """A VDVAE with a head that predicts labels, for training only.

    Parameters
    ----------
    vdvae : VDVAE
    """

    step: Tensor

    def __init__(self, vdvae: VDVAE) -> None:
        super().__init__()
        self.vdvae = vdvae
        self.head = nn.Linear(vdvae.config.widths[1], sum(map(len, NAMES)) + _NUMBERS)
        self.register_buffer("step", torch.zeros(()))


def make(shipped: VDVAE, sizes: VDVAEConfig = CONFIG) -> Learner:
    """Return the bundled network with new groups up to 8 x 8 and a head; the rest is fixed.

    Parameters
    ----------
    shipped : VDVAE
        Provides the finer groups, the encoder above 8 x 8 and the output layer.
    sizes : VDVAEConfig
        Blocks and channels of the new groups.
    """
    torch.manual_seed(_SEED)
    config = replace(
        shipped.config,
        encoder_blocks=sizes.encoder_blocks,
        decoder_blocks=sizes.decoder_blocks,
        custom_widths=sizes.custom_widths,
    )
    network = VDVAE(config)
    network.load_state_dict({**network.state_dict(), **_kept(shipped, network)})
    network.requires_grad_(False)
    for part in learning(network):
        part.requires_grad_(True)
    return Learner(network.float())


def _kept(shipped: VDVAE, network: VDVAE) -> dict[str, Tensor]:
    """Return the weights that are kept, by their names in the new network."""
    kept = {}
    more = len(network.group_shapes) - len(shipped.group_shapes)
    more_sides = len(network.decoder.bias_xs) - len(shipped.decoder.bias_xs)
    for name, value in shipped.state_dict().items():
        parts = name.split(".")
        if parts[1] == "enc_blocks" and int(parts[2]) >= blocks_before(shipped):
            continue
        if parts[1] == "bias_xs":
            if value.shape[-1] <= SIDE:
                continue
            parts[2] = str(int(parts[2]) + more_sides)
        if parts[1] == "dec_blocks":
            if int(parts[2]) < groups_up_to(shipped, SIDE):
                continue
            parts[2] = str(int(parts[2]) + more)
        kept[".".join(parts)] = value
    return kept


def learning(network: VDVAE) -> list[nn.Module | nn.Parameter]:
    """Return the trainable parts: blocks of the encoder, groups and biases up to 8 x 8."""
    return [
        *list(network.encoder.enc_blocks)[blocks_before(network) :],
        *list(network.decoder.dec_blocks)[: groups_up_to(network, SIDE)],
        *(bias for bias in network.decoder.bias_xs if bias.shape[-1] <= SIDE),
    ]


@torch.no_grad()
def begin(learner: Learner, taught: Taught) -> None:
    """Scale the initial weights so that the output of every layer has unit variance, and start from the mean state.

    With small default weights no signal passes the many layers to 1 x 1 (layer-sequential unit-variance
    initialization: Mishkin & Matas, 2016, ICLR). After averaging over an image, differences between scenes are tiny
    compared to what they share, so the last blocks of the encoder are scaled by these differences.
    """
    torch.manual_seed(_SEED)
    network = learner.vdvae
    rows = torch.linspace(0, len(taught.seen) - 1, min(SOME, len(taught.seen))).long()
    _begin_biases(network, taught.states[rows].float().mean(0, keepdim=True))
    seen = taught.seen[rows].float()
    _begin_encoder(network, seen)
    _begin_groups(network, coarser_activations(network, seen))


def _begin_biases(network: VDVAE, mean: Tensor) -> None:
    """Initialize each resolution with the mean state minus that of the coarser one."""
    channels, before = mean.shape[1], torch.zeros(())
    for bias in network.decoder.bias_xs:
        side = bias.shape[-1]
        if side > SIDE:
            continue
        here = functional.adaptive_avg_pool2d(mean, side)
        bias.copy_(0.1 * torch.randn_like(bias))
        bias[:, :channels] += here - (functional.interpolate(before, size=side) if before.ndim else 0)
        before = here


def _begin_encoder(network: VDVAE, seen: Tensor) -> None:
    x = functional.pad(seen, (0, 0, 0, 0, 0, network.encoder.widths[SIDE] - seen.shape[1]))
    first = blocks_before(network)
    blocks = list(network.encoder.enc_blocks)[first:]
    for block, shrink in zip(blocks, network.encoder.shrink[first:], strict=True):
        assert isinstance(block, Block)
        _to_unit_spread(block, x)
        factor = 0.7 * float(x.std())
        if shrink is not None and x.shape[-1] == shrink:
            factor = 1 / max(0.2, float(functional.avg_pool2d(block(x) - x, shrink).std(0).mean()))
        block.c4.weight.mul_(factor)
        _bias(block.c4).mul_(factor)
        x = block(x)
        if shrink is not None:
            x = functional.avg_pool2d(x, shrink)
            x = functional.pad(x, (0, 0, 0, 0, 0, network.encoder.widths[x.shape[-1]] - x.shape[1]))


def _begin_groups(network: VDVAE, activations: dict[int, Tensor]) -> None:
    states, z_dim = network.decoder._start(len(activations[SIDE])), network.config.z_dim
    for block in list(network.decoder.dec_blocks)[: groups_up_to(network, SIDE)]:
        assert isinstance(block, DecoderBlock)
        side = block.layer.resolution
        before = network.decoder.state_before(block.layer, states)
        _to_unit_spread(block.enc, torch.cat([before, activations[side]], dim=1))
        block.enc.c4.weight[:z_dim].mul_(0.5)
        block.enc.c4.weight[z_dim:].mul_(0.05)
        _bias(block.enc.c4)[z_dim:] = -0.3
        nn.init.orthogonal_(block.z_proj.weight, gain=0.15 if side == SIDE else 0.3)
        if side == SIDE:  # these are trained later and should not disturb the others
            block.resnet.c4.weight.mul_(0.3)
        _, x = block.prior_of(before)
        states[side] = block(x, block.posterior_of(before, activations[side]).mean)


def _to_unit_spread(block: Block, x: Tensor) -> None:
    for convolution in (block.c1, block.c2, block.c3, block.c4):
        nn.init.orthogonal_(convolution.weight)
        _bias(convolution).zero_()
        inside = functional.gelu(x)
        found = convolution(inside)
        spread = found.std((0, 2, 3)).mean().clamp(min=math.exp(-10))
        convolution.weight.div_(spread)
        _bias(convolution).sub_(found.mean((0, 2, 3)) / spread)
        x = convolution(inside)


def _bias(convolution: nn.Conv2d) -> Tensor:
    assert convolution.bias is not None
    return convolution.bias


#: Resolution of the finest of the first groups.
SIDE = 8

#: Seed of samples from the posterior.
_TAUGHT_SEED = 0

#: Number of scenes used to estimate the spread of states and the readout of colors.
_SOME = 2_000


@dataclass(frozen=True)
class Taught:
    """Inputs and targets of the first groups, for all scenes followed by the mirrored ones.

    Parameters
    ----------
    seen : Tensor, shape (scene, channel, y, x)
        Input of the encoder's blocks at 8 x 8, float16.
    states : Tensor, shape (scene, channel, y, x)
        States of the bundled network at 8 x 8, for posterior means; only the channels that the next groups read.
        float16.
    spread : Tensor, shape (channel, 1, 1)
        Standard deviation of the states when latents are sampled from the posterior.
    colors : Tensor, shape (scene, rgb, y, x)
        The scenes at 16 x 16, from -1 to 1, float16.
    readout : Tensor, shape (color, channel, y, x)
        Convolution kernel that reads the colors at 16 x 16 (four positions, rgb) from a state.
    """

    seen: Tensor
    states: Tensor
    spread: Tensor
    colors: Tensor
    readout: Tensor

    @classmethod
    @torch.no_grad()
    def make(cls, network: VDVAE, pixels: np.ndarray, device: str, batch: int = 100) -> Taught:
        """Compute inputs and targets of all scenes with a trained network.

        Parameters
        ----------
        network : VDVAE
        pixels : ndarray, shape (scene, y, x, rgb), dtype uint8
        device : str
        batch : int
        """
        network = network.to(device)
        generator = torch.Generator(device).manual_seed(_TAUGHT_SEED)
        seen, states, colors, variances = [], [], [], []
        for mirrored in (False, True):
            for start in tqdm(range(0, len(pixels), batch), "scenes mirrored" if mirrored else "scenes"):
                images = torch.from_numpy(np.ascontiguousarray(pixels[start : start + batch])).to(device)
                images = images.permute(0, 3, 1, 2)
                images = images.flip(-1) if mirrored else images
                found, coming = _look(network, images)
                mean = _state(network, found)
                if not mirrored and start < _SOME:
                    drawn = _state(network, found, generator)
                    variances.append((drawn - mean).square().mean((0, 2, 3)))
                seen.append(coming.half().cpu())
                states.append(mean.half().cpu())
                small = functional.avg_pool2d(images.float() / 127.5 - 1, images.shape[-1] // (2 * SIDE))
                colors.append(small.half().cpu())
        spread = torch.stack(variances).mean(0).sqrt()[:, None, None].cpu()
        spread = spread.clamp(min=0.1 * float(spread.median()))  # bounds the error of channels that hardly vary
        whole = torch.cat(states), torch.cat(colors)
        return cls(torch.cat(seen), whole[0], spread, whole[1], _readout(whole[0][:_SOME], whole[1][:_SOME]))


def _look(network: VDVAE, images: Tensor) -> tuple[dict[int, Tensor], Tensor]:
    """Return the encoder's activations by resolution, and the input of its blocks at 8 x 8."""
    caught: list[Tensor] = []
    first = network.encoder.enc_blocks[blocks_before(network)]
    hook = first.register_forward_pre_hook(lambda block, inputs: caught.append(inputs[0]))
    found = network.activations(images)
    hook.remove()
    return found, caught[0][:, : network.config.widths[2 * SIDE]]  # the rest is zero padding


def _state(network: VDVAE, activations: dict[int, Tensor], generator: torch.Generator | None = None) -> Tensor:
    """Return the state at 8 x 8 as read by the next groups, for posterior means or sampled latents."""

    def choose(group: int, block: DecoderBlock, x: Tensor, prior: Gaussian) -> Tensor:
        posterior = block.posterior_of(x, activations[block.layer.resolution])
        return posterior.mean if generator is None else posterior.sample(generator)

    states = network.decoder.run(len(activations[SIDE]), choose, groups_up_to(network, SIDE))
    return states[SIDE][:, : network.config.widths[2 * SIDE]]


def blocks_before(network: VDVAE) -> int:
    """Return the number of blocks of the encoder before those at 8 x 8."""
    return sum(layer.resolution > SIDE for layer in network.config.encoder_layers)


def _readout(states: Tensor, colors: Tensor) -> Tensor:
    """Return the kernel that reads colors from states, by ridge regression over all positions."""
    channels = states.shape[1]
    patches = functional.unfold(states.float(), 3, padding=1).transpose(1, 2).flatten(0, 1)
    wanted = functional.pixel_unshuffle(colors.float(), 2).flatten(2).transpose(1, 2).flatten(0, 1)
    patches = torch.cat([patches, torch.ones(len(patches), 1)], dim=1)
    alpha = 1e-5 * len(patches) * torch.eye(patches.shape[1])
    found = torch.linalg.solve(patches.T @ patches + alpha, patches.T @ wanted)
    return found[:-1].T.reshape(-1, channels, 3, 3).contiguous()


#: Number of first steps in which only the groups at 1 x 1 and 4 x 4 are trained.
COARSE_STEPS = 5_000

#: Weight of the rate, by resolution of the groups. Errors have more weight than in a likelihood (below), and so has the
#: rate.
_RATE = {1: 14.0, 4: 4.0, 8: 2.0}

#: Weight of the labels, in nats, after the groups at 1 x 1, and relative weight at earlier groups.
_LABELS, _EARLIER = 15.0, 0.3

_EARLIER_GROUPS = (4, 8)

#: Shares of a batch for which all groups but those at 1 x 1 are silent, and for which those at 8 x 8 are.
_GIST_ALONE, _WITHOUT_FINEST = 0.3, 0.6

_GIST_ALONE_COARSE = 0.5

#: Standard deviation assumed for color errors (-1 to 1): for intermediate states or silent groups, and in the end.
_COLOR, _COLOR_IN_THE_END = 0.2, 0.07

#: Standard deviation assumed for errors of the final state, relative to its spread in the bundled network.
_SLACK = 1.5


def loss(taught: Taught, described: Described, device: str, coarse_steps: int = COARSE_STEPS) -> Loss:
    """Return the loss of a :class:`~neurorecon.simulation.training.gist.Learner`, in nats per subpixel.

    Parameters
    ----------
    taught : Taught
        Inputs and targets.
    described : Described
        Labels of the same scenes.
    device : str
    coarse_steps : int
        Number of first steps without the groups at 8 x 8.
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
    """Return, by resolution, 1 for scenes whose groups are not silent; rows of a batch are in random order."""
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
    """Return the error of the labels predicted from the groups at 1 x 1, and the accuracy of the kind."""
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
    """Errors of states in nats, as for normally distributed errors."""

    def __init__(self, taught: Taught, device: str) -> None:
        self.taught = taught
        some = taught.states[:4_000].float()
        self.deviation = {side: _deviation(some, side).to(device) for side in (4, SIDE)}
        self.spread = (_SLACK * taught.spread).to(device)
        self.readout = taught.readout.to(device)
        self.channels = some.shape[1]

    def wanted(self, rows: Tensor, device: str) -> dict[int, Tensor]:
        """Return target states by resolution; those at 4 x 4 are followed by the colors of the image at 8 x 8."""
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
        """Return the error of states and colors for each image, with more weight on the main object."""
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
    """Return the standard deviation (channel, 1, 1) of states averaged to a resolution, bounded from below."""
    found = functional.adaptive_avg_pool2d(states, side).var(0).mean((1, 2)).sqrt()[:, None, None]
    return found.clamp(min=0.1 * float(found.median()))


PLAN = Plan(
    "gist",
    steps=11_000,
    batch=96,
    learning_rate=1.5e-3,
    weight_decay=0.01,
    warmup=300,
    average=0.998,
    clip=1.0,
    hold=0.6,
)
