"""Sampling against the bare loop of diffusers, with the same network, steps and batch; the published size on a GPU.

pytest -m benchmark -s tests/benchmarks/test_sampling.py
pytest -m benchmark -s tests/benchmarks/test_sampling.py -k published --device cuda
"""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch

from neurorecon.generators.latent_diffusion import LatentDiffusion, make_scheduler
from neurorecon.models.load import noise_like

PAIRS, BATCH, STEPS = 20, 8, 20


def bare(unet, autoencoder, scheduler, contexts, noise, guidance=3.0):
    """What a script with diffusers does: loop, guidance, decoding."""
    scheduler.set_timesteps(STEPS)
    latents = noise
    with torch.inference_mode():
        for step in scheduler.timesteps:
            given = scheduler.scale_model_input(torch.cat([latents, latents]), step)
            nothing, predicted = unet(given, step, encoder_hidden_states=contexts, return_dict=False)[0].chunk(2)
            latents = scheduler.step(nothing + guidance * (predicted - nothing), step, latents, return_dict=False)[0]
        images = autoencoder.decode(latents / autoencoder.config.scaling_factor).sample / 2 + 0.5
    return images.clamp(0, 1).permute(0, 2, 3, 1).numpy()


@pytest.mark.benchmark
def test_overhead():
    from neurorecon.generators.latent_diffusion import shared_networks

    generator = LatentDiffusion("text", steps=STEPS, guidance=3.0, device="cpu", batch_size=BATCH)
    text = np.random.default_rng(0).standard_normal((BATCH, 40, 128)).astype(np.float32)
    stimuli = [str(number) for number in range(BATCH)]
    found = generator.generate(stimuli, {"text": text})
    files = generator._files
    networks = shared_networks(
        False, "bundled", "cpu", "float32", (files.diffusion.sha256, files.autoencoder.source.sha256)
    )
    contexts = torch.cat([networks.nothing["text"].expand(BATCH, -1, -1), torch.from_numpy(text)])
    noise = torch.from_numpy(np.stack([noise_like(files.latent_shape, 0, name) for name in stimuli]))
    scheduler = make_scheduler("DDIMScheduler", files.schedule)
    np.testing.assert_allclose(found, bare(networks.unet, networks.autoencoder, scheduler, contexts, noise), atol=1e-4)
    ratios = []
    for _ in range(PAIRS):
        begin = time.perf_counter()
        bare(networks.unet, networks.autoencoder, scheduler, contexts, noise)
        middle = time.perf_counter()
        generator.generate(stimuli, {"text": text})
        ratios.append((time.perf_counter() - middle) / (middle - begin))
    ratio = float(np.median(ratios))
    print(f"time over that of the bare loop, median of {PAIRS} pairs: {ratio:.3f}")
    assert ratio <= 1.05
