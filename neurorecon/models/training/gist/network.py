"""The network that learns: the shipped VDVAE with new first groups, and a head that asks them what the scene is."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from neurorecon.models.training.gist.described import NAMES
from neurorecon.models.training.gist.groups import coarser_activations
from neurorecon.models.training.gist.taught import SIDE, Taught, blocks_before
from neurorecon.models.training.vdvae import CONFIG, groups_up_to
from neurorecon.models.vdvae import VDVAE, Block, DecoderBlock
from neurorecon.models.vdvae_sizes import VDVAEConfig

#: Of weights; that of the batches is in the plan.
_SEED = 0

#: Numbers that the head tells beside the names.
_NUMBERS = 16

#: Scenes that the scale of the new weights is set with.
SOME = 400


class Learner(nn.Module):
    """A VDVAE and what is needed while it learns.

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
    """Return the shipped network with new groups up to 8 x 8, and the head; nothing else learns.

    Parameters
    ----------
    shipped : VDVAE
        Its finer groups, the encoder above 8 x 8 and the pixels are kept.
    sizes : VDVAEConfig
        Whose blocks and channels the new groups have.
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
    """Return the weights that stay, by their names in the new network."""
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
    """Return the parts that learn: the encoder's blocks up to 8 x 8, and the groups."""
    return [
        *list(network.encoder.enc_blocks)[blocks_before(network) :],
        *list(network.decoder.dec_blocks)[: groups_up_to(network, SIDE)],
        *(bias for bias in network.decoder.bias_xs if bias.shape[-1] <= SIDE),
    ]


@torch.no_grad()
def begin(learner: Learner, taught: Taught) -> None:
    """Scale new weights so that every layer gives values of unit spread, and start from the mean state.

    Small default weights let nothing through the many layers to 1 x 1 (Mishkin and Matas, 2016, ICLR). Averaging
    over a picture leaves what differs between scenes tiny beside what they share: the last blocks of the encoder are
    scaled by the former.
    """
    torch.manual_seed(_SEED)
    network = learner.vdvae
    rows = torch.linspace(0, len(taught.seen) - 1, min(SOME, len(taught.seen))).long()
    _begin_biases(network, taught.states[rows].float().mean(0, keepdim=True))
    seen = taught.seen[rows].float()
    _begin_encoder(network, seen)
    _begin_groups(network, coarser_activations(network, seen))


def _begin_biases(network: VDVAE, mean: Tensor) -> None:
    """Start each resolution from the mean state, less what the coarser ones already say."""
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
        if side == SIDE:  # these learn later, and should not spoil what the others have learned by then
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
