"""Latents of autoencoders of diffusers, random: what diffusers itself returns, scaled once."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from neurorecon.errors import InputError
from neurorecon.features.extract import load_extractor

IMAGES = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)
VIDEOS = np.random.default_rng(1).integers(0, 256, (2, 3, 32, 32, 3), dtype=np.uint8)


def as_diffusers_takes_them(images):
    return torch.from_numpy(images).permute(0, 3, 1, 2) / 127.5 - 1.0


@pytest.fixture(scope="module")
def quantized(tmp_path_factory):
    from diffusers.models.autoencoders.vq_model import VQModel

    return saved(
        VQModel(block_out_channels=[8], latent_channels=3, norm_num_groups=4, sample_size=32), tmp_path_factory
    )


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    from diffusers.models.autoencoders.autoencoder_tiny import AutoencoderTiny

    blocks = {"encoder_block_out_channels": (8, 8), "decoder_block_out_channels": (8, 8), "num_encoder_blocks": (1, 1)}
    return saved(AutoencoderTiny(**blocks, num_decoder_blocks=(1, 1)), tmp_path_factory)


def saved(network, tmp_path_factory):
    folder = tmp_path_factory.mktemp("networks")
    network.save_pretrained(folder / "autoencoder")
    return folder, network.eval()


def test_the_posterior_mean_times_the_scaling_factor(random_models):
    extractor = load_extractor("vqvae", models=random_models)
    expected = extractor.network.encode(as_diffusers_takes_them(IMAGES)).latent_dist.mean * 0.5
    found = extractor.transform(IMAGES)
    assert found.shape == (4, 4, 8, 8)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert extractor.made_by()["scaling_factor"] == 0.5
    assert extractor.made_by()["layer"] == "posterior mean"


def test_latents_before_quantization(quantized):
    folder, network = quantized
    extractor = load_extractor("vqvae", models=folder)
    with torch.no_grad():
        expected = network.encode(as_diffusers_takes_them(IMAGES)).latents * 0.18215
    np.testing.assert_allclose(extractor.transform(IMAGES), expected, atol=1e-5)
    assert extractor.made_by()["layer"] == "latents before quantization"


def test_latents_of_a_tiny_autoencoder_at_any_size(tiny):
    folder, network = tiny
    extractor = load_extractor("vqvae", models=folder, size=16)
    with torch.no_grad():
        expected = network.encode(as_diffusers_takes_them(extractor.preprocessing.prepare(IMAGES))).latents
    np.testing.assert_allclose(extractor.transform(IMAGES), expected, atol=1e-5)
    assert "both sides to 16" in extractor.made_by()["preprocessing"]
    assert load_extractor("vqvae", models=folder).size == 512


def test_samples_belong_to_a_seed_and_a_stimulus(random_models):
    mean = load_extractor("vqvae", models=random_models)
    one, other = (load_extractor("vqvae", models=random_models, seed=seed) for seed in (3, 4))
    many = np.repeat(IMAGES[:1], 400, axis=0)
    posterior = mean.network.encode(as_diffusers_takes_them(IMAGES[:1])).latent_dist
    drawn = one.transform(many)
    np.testing.assert_allclose(drawn.mean(axis=0), mean.transform(many[:1])[0], atol=0.2)
    np.testing.assert_allclose(drawn.std(axis=0), posterior.std[0] * 0.5, rtol=0.3)
    np.testing.assert_allclose(one.transform(many[:8], batch=3), drawn[:8], atol=1e-5)
    assert np.abs(other.transform(many[:8]) - drawn[:8]).min() > 0
    assert [one.made_by()["seed"], mean.made_by()["seed"]] == [3, None]


def test_a_posterior_is_needed_to_sample_from(tiny):
    with pytest.raises(InputError, match="no posterior to sample from"):
        load_extractor("vqvae", models=tiny[0], seed=1).made_by()


@pytest.mark.parametrize("seed", [None, 5])
def test_every_frame_of_a_video(random_models, seed):
    extractor = load_extractor("vqvae_frames", models=random_models, seed=seed)
    found = extractor.transform(VIDEOS)
    assert found.shape == (2, 3, 4, 8, 8)
    assert extractor.dims == ("frame", "channel", "y", "x")
    if seed is None:
        images = load_extractor("vqvae", models=random_models)
        np.testing.assert_allclose(found, np.stack([images.transform(video) for video in VIDEOS]), atol=1e-5)
    np.testing.assert_allclose(extractor.transform(VIDEOS, batch=1), found, atol=1e-5)
