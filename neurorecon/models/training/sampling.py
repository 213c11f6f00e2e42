"""Pictures from the bundled diffusion networks, for their bars and model cards."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

#: Called with noisy latents, the step, and the index of the contexts (0 without, 1 with); returns the velocity.
Denoise = Callable[[Tensor, Tensor, int], Tensor]

#: With all noise new, diffusers' DDIM takes the root of what is left of the old, which rounding can put below 0.
_MOST_ETA = 0.999


@torch.no_grad()
def sample_latents(
    denoise: Denoise,
    schedule: dict[str, Any],
    noise: Tensor,
    *,
    guidance: float,
    steps: int,
    eta: float = 0.0,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Return latents drawn with DDIM and classifier-free guidance.

    Parameters
    ----------
    denoise : callable
        ``denoise(latents, step, 0)`` without, ``denoise(latents, step, 1)`` with the condition.
    schedule : dict
        Parameters of diffusers' ``DDIMScheduler``.
    noise : Tensor, shape (picture, channel, y, x)
    guidance : float
        1 samples the condition as learned; larger values exaggerate it.
    steps : int
        Network evaluations (twice as many with guidance).
    eta : float
        Share of the noise that is drawn anew at each step: 0 is DDIM, 1 as much as in DDPM (Song et al., 2021, ICLR).
    generator : torch.Generator, optional
        Source of that noise.

    Returns
    -------
    Tensor, shape (picture, channel, y, x)
    """
    from diffusers.schedulers.scheduling_ddim import DDIMScheduler

    eta = min(eta, _MOST_ETA)
    scheduler = DDIMScheduler(**schedule)
    scheduler.set_timesteps(steps, device=noise.device)
    latents = noise * scheduler.init_noise_sigma
    for step in scheduler.timesteps:
        predicted = denoise(latents, step, 1)
        if guidance != 1.0:
            nothing = denoise(latents, step, 0)
            predicted = nothing + guidance * (predicted - nothing)
        latents = scheduler.step(predicted, step, latents, eta=eta, generator=generator).prev_sample
    return latents


@torch.no_grad()
def to_pixels(autoencoder: Any, latents: Tensor, batch: int = 50) -> np.ndarray:
    """Return the pictures that latents stand for, uint8, shape (picture, y, x, rgb)."""
    parts = [
        autoencoder.decode(latents[start : start + batch] / autoencoder.config.scaling_factor).sample
        for start in range(0, len(latents), batch)
    ]
    images = ((torch.cat(parts) + 1.0) * 127.5).round().clamp(0, 255).to(torch.uint8)
    return images.permute(0, 2, 3, 1).cpu().numpy()


def draw(
    dual: Any,
    autoencoder: Any,
    schedule: dict[str, Any],
    contexts: dict[str, tuple[Tensor, Tensor]],
    *,
    text_ratio: float,
    guidance: float = 3.0,
    steps: int = 60,
    eta: float = 1.0,
    seed: int = 0,
    batch: int = 50,
    progress: bool = True,
) -> np.ndarray:
    """Return one picture for each row of the contexts.

    Parameters
    ----------
    dual : DualGuidedUNet
    autoencoder : diffusers.AutoencoderKL
    schedule : dict
    contexts : dict
        ``"text"`` and ``"image"``, each a pair: the context of no condition (1, token, channel), and those of the
        pictures (picture, token, channel).
    text_ratio : float
        1 for text alone, 0 for images alone.
    guidance, steps, eta, seed, batch, progress
        Of the sampling. Noise drawn anew at each step corrects what the network got wrong at those before: the
        probe names more of such pictures right than of those by DDIM.

    Returns
    -------
    array, shape (picture, y, x, rgb)
        uint8.
    """
    count = len(next(iter(contexts.values()))[1])
    size, channels = dual.unet.config.sample_size, dual.unet.config.in_channels
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(count, channels, size, size, generator=generator)
    parts = []
    for start in tqdm(range(0, count, batch), desc="pictures", unit="batch", disable=not progress, leave=False):
        rows = slice(start, start + batch)

        def denoise(latents: Tensor, step: Tensor, given: int, rows: slice = rows) -> Tensor:
            shown = {
                name: pair[1][rows] if given else pair[0].expand(len(latents), -1, -1)
                for name, pair in contexts.items()
            }
            velocity: Tensor = dual(latents, step, **shown, text_ratio=text_ratio)
            return velocity

        part = sample_latents(
            denoise, schedule, noise[rows], guidance=guidance, steps=steps, eta=eta, generator=generator
        )
        parts.append(part)
    return to_pixels(autoencoder, torch.cat(parts))
