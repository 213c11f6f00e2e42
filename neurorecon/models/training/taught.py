"""What the first groups of a VDVAE are taught from: what they read, and the states that a shipped network builds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from neurorecon.models.training.first_groups import first_groups
from neurorecon.models.vdvae import VDVAE

#: Of what is drawn.
_SEED = 0


@dataclass(frozen=True)
class Taught:
    """What the first groups read and what they are to build.

    Parameters
    ----------
    activations : dict of Tensor, each of shape (scene, channel, y, x)
        The encoder's, by resolution, float16.
    states : Tensor, shape (scene, channel, y, x)
        The shipped network's, on the path of posterior means; only the channels that the next groups read. float16.
    spread : Tensor, shape (channel, 1, 1)
        Standard deviation of the states when latents are drawn from the posterior instead.
    side : int
        Of the finest of the first groups.
    """

    activations: dict[int, Tensor]
    states: Tensor
    spread: Tensor
    side: int

    @classmethod
    @torch.no_grad()
    def make(cls, network: VDVAE, pixels: np.ndarray, device: str, side: int, batch: int = 100) -> Taught:
        """Run a network over all scenes.

        Parameters
        ----------
        network : VDVAE
        pixels : ndarray, shape (scene, y, x, rgb), dtype uint8
        device : str
        side : int
            Of the finest of the first groups.
        batch : int
        """
        network = network.to(device)
        generator = torch.Generator(device).manual_seed(_SEED)
        activations: dict[int, list[Tensor]] = {one: [] for one in network.config.widths if one <= side}
        states, variances = [], []
        for start in tqdm(range(0, len(pixels), batch), "layouts of scenes"):
            images = torch.from_numpy(pixels[start : start + batch]).to(device).permute(0, 3, 1, 2)
            found = network.activations(images)
            for one, parts in activations.items():
                parts.append(found[one].half().cpu())
            mean = first_groups(network, found, side=side, temperature=0.0)
            states.append(mean.state.half().cpu())
            if start < 20 * batch:
                drawn = first_groups(network, found, side=side, generator=generator)
                variances.append((drawn.state - mean.state).square().mean((0, 2, 3)))
        spread = torch.stack(variances).mean(0).sqrt()[:, None, None].cpu()
        spread = spread.clamp(min=0.1 * float(spread.median()))  # a channel that never varies asks for nothing
        whole = {one: torch.cat(parts) for one, parts in activations.items()}
        return cls(whole, torch.cat(states), spread, side)
