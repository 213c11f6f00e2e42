"""Training of the small VDVAE: Child's network and loss, then a second training of the finer groups (``details``).

The first training lets the finer groups carry more information than it is worth, and it never tests what their priors
make of a scene whose details are unknown. The second one trains the groups finer than 8 x 8 to predict as much as they
can from the coarser ones: for a third of each batch they are all silent, and the mean of their priors has to approach
the image; for another third those at 32 x 32 and finer are silent; the rest learns the evidence lower bound as before.
The coarser groups and the encoder stay fixed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from neurorecon.models.vdvae import SMALL, VDVAE, DecoderBlock, Gaussian
from neurorecon.simulation.training.loop import Loss, Plan, on_device

PLAN = Plan(
    "vdvae", steps=6_000, batch=8, learning_rate=1e-3, weight_decay=0.01, warmup=200, average=0.995, clip=20.0, hold=0.5
)

#: A small network whose bottlenecks at 32 and 64 pixels are wide enough to draw edges.
CONFIG = replace(
    SMALL,
    width=16,
    bottleneck_multiple=0.5,
    num_mixtures=2,
    encoder_blocks="64d2,32x1,32d2,16x1,16d2,8x2,8d2,4x2,4d4,1x1",
    decoder_blocks="1x12,4m1,4x5,8m4,8x6,16m8,16x3,32m16,32x2,64m32",
    custom_widths="32:40,16:80,8:96,4:96,1:128",
)

#: Weight of the rate. A weight below 1 lets the latents carry more information than the likelihood alone would
#: justify, so that a short training learns details (the inverse of the beta-VAE, Higgins et al., 2017, ICLR).
_RATE = 0.25


def make() -> nn.Module:
    """Return a network with random weights."""
    torch.manual_seed(PLAN.seed)
    return VDVAE(CONFIG)


def loss(pixels: np.ndarray, device: str) -> Loss:
    """Return the loss: the negative evidence lower bound with a reduced weight of the rate, in bits per subpixel.

    Parameters
    ----------
    pixels : array, shape (scene, y, x, rgb)
        uint8.
    device : str
    """

    def compute(network: Any, rows: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        images = mirrored_at_random(pixels[rows.numpy()], device, generator)
        found = network.loss(images, generator=on_device(generator, device))
        total = found["distortion"] + _RATE * found["rate"]
        return {"loss": total, "distortion": found["distortion"].detach(), "rate": found["rate"].detach()}

    return compute


def mirrored_at_random(pixels: np.ndarray, device: str, generator: torch.Generator) -> Tensor:
    """Return scenes (scene, y, x, rgb) as images (image, rgb, y, x), each mirrored with a probability of one half."""
    images = torch.from_numpy(pixels).to(device).permute(0, 3, 1, 2)
    flip = torch.rand(len(images), 1, 1, 1, generator=generator).to(device) < 0.5
    return torch.where(flip, images.flip(-1), images)


def groups_up_to(network: VDVAE, side: int) -> int:
    """Return the number of groups with at most this resolution."""
    return sum(shape[-1] <= side for shape in network.group_shapes)


# -- the finer groups ---------------------------------------------------------------------------------------------

DETAILS_PLAN = Plan(
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

#: Resolution of the finest groups that stay fixed.
_STAYS = 8

#: By resolution of the groups, the first share of a batch for which they are silent.
_SILENT_UNTIL = {16: 1 / 3, 32: 2 / 3, 64: 2 / 3}

#: Weight of the rate: that of the evidence lower bound, unlike in the first training.
_DETAILS_RATE = 1.0

#: Scale of color errors (-1 to 1) if groups are silent. They are absolute errors, because squared errors blur edges
#: of unknown position.
_COLOR = 0.1


def make_details(shipped: VDVAE, stays: int = _STAYS) -> VDVAE:
    """Copy the bundled network; only its groups finer than a resolution and the output layer are trainable."""
    network = VDVAE(shipped.config)
    network.load_state_dict(shipped.state_dict())
    decoder = network.decoder
    network.requires_grad_(False)
    for part in (*list(decoder.dec_blocks)[groups_up_to(network, stays) :], decoder.out_net):
        part.requires_grad_(True)
    for parameter in (decoder.gain, decoder.bias, *(bias for bias in decoder.bias_xs if bias.shape[-1] > stays)):
        parameter.requires_grad_(True)
    return network.float()


def details_loss(pixels: np.ndarray, device: str) -> Loss:
    """Return the loss of the second training, in bits per subpixel.

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
        total = likely + silent + _DETAILS_RATE * rate
        return {"loss": total, "distortion": likely.detach(), "silent": silent.detach(), "rate": rate.detach()}

    return compute


# -- samples and reconstructions ----------------------------------------------------------------------------------


@torch.no_grad()
def from_prior(network: Any, count: int, temperature: Callable[[int], float], batch: int = 50) -> np.ndarray:
    """Sample images from the prior of a VDVAE, uint8, shape (image, y, x, rgb).

    Parameters
    ----------
    network : VDVAE
    count : int
        Number of images.
    temperature : callable
        Returns the temperature of a group, given its resolution.
    batch : int
    """
    generator = torch.Generator().manual_seed(0)
    temperatures = [temperature(shape[-1]) for shape in network.group_shapes]
    parts = [
        network.sample(min(batch, count - start), temperature=temperatures, generator=generator)
        for start in range(0, count, batch)
    ]
    return np.concatenate([_as_pixels(part) for part in parts])


@torch.no_grad()
def reconstruct(network: Any, scenes: np.ndarray, groups: int, batch: int = 50) -> np.ndarray:
    """Reconstruct scenes from the first groups of a VDVAE, with the prior means of the others; uint8."""
    parts = []
    for start in range(0, len(scenes), batch):
        images = torch.from_numpy(scenes[start : start + batch]).permute(0, 3, 1, 2)
        parts.append(_as_pixels(network.decode(network.encode(images, groups=groups), temperature=0.0)))
    return np.concatenate(parts)


def _as_pixels(images: Tensor) -> np.ndarray:
    scaled = (images.detach() * 255.0).round().clamp(0, 255).to(torch.uint8)
    return scaled.permute(0, 2, 3, 1).cpu().numpy()
