"""What the first groups are taught from: what they read, and the states that a shipped network builds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from tqdm import tqdm

from neurorecon.models.training.vdvae import groups_up_to
from neurorecon.models.vdvae import VDVAE, DecoderBlock, Gaussian

#: Of the finest of the first groups.
SIDE = 8

#: Of what is drawn.
_SEED = 0

#: Scenes that the spread and the readout of colors are found with.
_SOME = 2_000


@dataclass(frozen=True)
class Taught:
    """What the first groups read and what they are to build; each scene is there twice, all mirrored ones at the end.

    Parameters
    ----------
    seen : Tensor, shape (scene, channel, y, x)
        The encoder's activations as they come to 8 x 8, float16.
    states : Tensor, shape (scene, channel, y, x)
        The shipped network's at 8 x 8, on the path of posterior means; only the channels that the next groups read.
        float16.
    spread : Tensor, shape (channel, 1, 1)
        Standard deviation of the states when latents are drawn from the posterior instead.
    colors : Tensor, shape (scene, rgb, y, x)
        The scenes at 16 x 16, from -1 to 1, float16.
    readout : Tensor, shape (color, channel, y, x)
        Kernel that reads the colors at 16 x 16 (four places, rgb) from a state, by least squares.
    """

    seen: Tensor
    states: Tensor
    spread: Tensor
    colors: Tensor
    readout: Tensor

    @classmethod
    @torch.no_grad()
    def make(cls, network: VDVAE, pixels: np.ndarray, device: str, batch: int = 100) -> Taught:
        """Run a network over all scenes.

        Parameters
        ----------
        network : VDVAE
        pixels : ndarray, shape (scene, y, x, rgb), dtype uint8
        device : str
        batch : int
        """
        network = network.to(device)
        generator = torch.Generator(device).manual_seed(_SEED)
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
        spread = spread.clamp(min=0.1 * float(spread.median()))  # a channel that never varies asks for nothing
        whole = torch.cat(states), torch.cat(colors)
        return cls(torch.cat(seen), whole[0], spread, whole[1], _readout(whole[0][:_SOME], whole[1][:_SOME]))


def _look(network: VDVAE, images: Tensor) -> tuple[dict[int, Tensor], Tensor]:
    """Return the encoder's activations by resolution, and those that come to 8 x 8, before its blocks there."""
    caught: list[Tensor] = []
    first = network.encoder.enc_blocks[blocks_before(network)]
    hook = first.register_forward_pre_hook(lambda block, inputs: caught.append(inputs[0]))
    found = network.activations(images)
    hook.remove()
    return found, caught[0][:, : network.config.widths[2 * SIDE]]  # wider layers get zeros besides


def _state(network: VDVAE, activations: dict[int, Tensor], generator: torch.Generator | None = None) -> Tensor:
    """Return the state at 8 x 8 as the next groups read it: on the path of means, or with drawn latents."""

    def choose(group: int, block: DecoderBlock, x: Tensor, prior: Gaussian) -> Tensor:
        posterior = block.posterior_of(x, activations[block.layer.resolution])
        return posterior.mean if generator is None else posterior.sample(generator)

    states = network.decoder.run(len(activations[SIDE]), choose, groups_up_to(network, SIDE))
    return states[SIDE][:, : network.config.widths[2 * SIDE]]


def blocks_before(network: VDVAE) -> int:
    """Return how many blocks of the encoder come before those at 8 x 8."""
    return sum(layer.resolution > SIDE for layer in network.config.encoder_layers)


def _readout(states: Tensor, colors: Tensor) -> Tensor:
    """Return the kernel that reads colors from states, ridge regression over all places."""
    channels = states.shape[1]
    patches = functional.unfold(states.float(), 3, padding=1).transpose(1, 2).flatten(0, 1)
    wanted = functional.pixel_unshuffle(colors.float(), 2).flatten(2).transpose(1, 2).flatten(0, 1)
    patches = torch.cat([patches, torch.ones(len(patches), 1)], dim=1)
    penalty = 1e-5 * len(patches) * torch.eye(patches.shape[1])
    found = torch.linalg.solve(patches.T @ patches + penalty, patches.T @ wanted)
    return found[:-1].T.reshape(-1, channels, 3, 3).contiguous()
