"""Samples have the distribution that the network describes, with and without noise drawn anew."""

import pytest
import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler

from neurorecon.generators.latent_diffusion import make_scheduler, sample_latents
from neurorecon.simulation.training.diffusion import SCHEDULE

MEAN, DEVIATION = 1.5, 0.5


def velocity_of_a_gaussian(latents, step):
    kept = DDIMScheduler(**SCHEDULE).alphas_cumprod[step]
    signal, noise = kept.sqrt(), (1 - kept).sqrt()
    clean = (MEAN * noise**2 + signal * DEVIATION**2 * latents) / (signal**2 * DEVIATION**2 + noise**2)
    return signal * (latents - signal * clean) / noise - noise * clean


def sampled(eta, seed):
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(2000, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    scheduler = make_scheduler("DDIMScheduler", SCHEDULE)
    return sample_latents(velocity_of_a_gaussian, scheduler, noise, steps=100, eta=eta, generator=generator)


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_samples_follow_the_distribution(eta):
    found = sampled(eta, 1)
    assert float(found.mean()) == pytest.approx(MEAN, abs=0.03)
    assert float(found.std()) == pytest.approx(DEVIATION, rel=0.05)


def test_noise_drawn_anew_comes_from_the_generator():
    assert torch.equal(sampled(1.0, 1), sampled(1.0, 1))
    assert not torch.equal(sampled(1.0, 1), sampled(1.0, 2))
    assert torch.equal(sampled(0.0, 1), sampled(0.0, 2))
