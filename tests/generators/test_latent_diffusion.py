"""Latent diffusion against diffusers' own pipelines, with the same weights and the same noise."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from neurorecon.errors import InputError, UnknownNameError
from neurorecon.generators.base import load_generator
from neurorecon.generators.latent_diffusion import (
    AutoencoderGenerator,
    LatentDiffusion,
    make_scheduler,
    sample_latents,
    signal_shares,
)
from neurorecon.models.load import noise_like

STABLE_DIFFUSION = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "clip_sample": False,
    "set_alpha_to_one": False,
    "steps_offset": 1,
}


@pytest.fixture(scope="module")
def contexts():
    """Text contexts of three stimuli."""
    return np.random.default_rng(0).standard_normal((3, 77, 16)).astype(np.float32)


def pipeline_of(folder, scheduler, img2img=False):
    from diffusers import StableDiffusionImg2ImgPipeline, StableDiffusionPipeline

    kind = StableDiffusionImg2ImgPipeline if img2img else StableDiffusionPipeline
    options = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    found = kind.from_pretrained(folder, local_files_only=True, **options)
    found.set_progress_bar_config(disable=True)
    found.scheduler = make_scheduler(scheduler, found.scheduler.config)
    return found


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize(
    ("version", "scheduler"),
    [
        ("1.x", "DDIMScheduler"),
        ("2.x", "DDIMScheduler"),
        ("1.x", "EulerDiscreteScheduler"),
        ("2.x", "DPMSolverMultistepScheduler"),
    ],
)
def test_images_from_noise_are_those_of_diffusers(pipeline_folder, contexts, version, scheduler):
    folder = pipeline_folder(version)
    stimuli = ["a", "b", "c"]
    generator = LatentDiffusion("text", folder, steps=5, guidance=4.0, scheduler=scheduler, device="cpu")
    found = generator.generate(stimuli, {"text": contexts}, seed=3)
    theirs = pipeline_of(folder, scheduler)
    noise = torch.from_numpy(np.stack([noise_like((4, 8, 8), 3, name) for name in stimuli]))
    expected = theirs(
        prompt_embeds=torch.from_numpy(contexts),
        negative_prompt_embeds=theirs.encode_prompt([""] * 3, "cpu", 1, False)[0],
        latents=noise,
        num_inference_steps=5,
        guidance_scale=4.0,
        output_type="np",
    ).images
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize("scheduler", ["DDIMScheduler", "EulerDiscreteScheduler", "DPMSolverMultistepScheduler"])
def test_images_from_an_image_are_those_of_diffusers(pipeline_folder, contexts, scheduler):
    theirs = pipeline_of(pipeline_folder("1.x"), scheduler, img2img=True)
    text = torch.from_numpy(contexts)
    nothing = theirs.encode_prompt([""] * 3, "cpu", 1, False)[0]
    init = torch.randn(3, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    expected = theirs(
        prompt_embeds=text,
        negative_prompt_embeds=nothing,
        image=init,
        strength=0.6,
        num_inference_steps=10,
        guidance_scale=4.0,
        generator=torch.Generator().manual_seed(2),
        output_type="latent",
    ).images
    both = torch.cat([nothing, text])
    schedule = make_scheduler(scheduler, theirs.scheduler.config)
    schedule.set_timesteps(10)
    begins = schedule.timesteps[4:]  # 6 of 10 steps
    strength = 1 - signal_shares(schedule)[4]
    noise = torch.randn(3, 4, 8, 8, generator=torch.Generator().manual_seed(2))
    taken = []

    def denoise(latents, step):
        taken.append(float(step))
        return theirs.unet(latents, step, encoder_hidden_states=both, return_dict=False)[0]

    with torch.no_grad():
        found = sample_latents(denoise, schedule, noise, init=init, strength=strength, guidance=4.0, steps=10)
    assert taken == [float(step) for step in begins]
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("strength", "steps"),
    [(0.734, 37), (0.792, 40)],  # .75 of Brain-Diffuser and .8 of Takagi & Nishimoto, as diffusers counts steps
)
def test_strength_takes_as_many_steps_as_the_published_code(strength, steps):
    scheduler = make_scheduler("DDIMScheduler", STABLE_DIFFUSION)
    taken = []

    def denoise(latents, step):
        taken.append(int(step))
        return torch.zeros_like(latents)

    init = torch.zeros(1, 4, 2, 2)
    sample_latents(denoise, scheduler, torch.ones(1, 4, 2, 2), init=init, strength=strength, steps=50)
    assert len(taken) == steps


@pytest.mark.parametrize("schedule", ["stable diffusion", "bundled", "flow"])
@pytest.mark.parametrize("strength", [0.3, 0.6, 0.8])
def test_strength_is_the_share_of_the_signal_that_is_replaced(schedule, strength):
    """Whatever the schedule: what is left of a constant image, before the first step, is 1 - strength of it."""
    if schedule == "stable diffusion":
        scheduler = make_scheduler("DDIMScheduler", STABLE_DIFFUSION)
    elif schedule == "bundled":
        scheduler = make_scheduler("DDIMScheduler", LatentDiffusion()._files.schedule)
    else:
        scheduler = make_scheduler("FlowMatchEulerDiscreteScheduler", {})
    first = []

    def denoise(latents, step):
        first.append(latents.clone())
        return torch.zeros_like(latents)

    init = torch.ones(1, 1, 2, 2)
    sample_latents(denoise, scheduler, torch.zeros(1, 1, 2, 2), init=init, strength=strength, steps=200)
    assert float(first[0].mean()) == pytest.approx(1 - strength, abs=0.01)


def test_strength_0_returns_the_image_and_1_ignores_it():
    conditions = {"init": np.random.default_rng(0).uniform(size=(2, 64, 64, 3)).astype(np.float32)}
    kept = load_generator("latent-diffusion", strength=0, steps=2, device="cpu").generate(["a", "b"], conditions)
    latents = kept_latents(conditions["init"])
    decoded = AutoencoderGenerator(device="cpu").generate(["a", "b"], {"latents": latents})
    np.testing.assert_allclose(kept, decoded, atol=1 / 255)  # the target comes from 8 bits
    all_new = LatentDiffusion(strength=1, steps=2, device="cpu")
    np.testing.assert_array_equal(all_new.generate(["a", "b"], conditions), all_new.generate(["a", "b"]))


def kept_latents(images):
    from neurorecon.features.extract import load_extractor

    return load_extractor("vqvae", models="bundled", device="cpu").transform(images)


def test_a_latent_and_its_image_start_alike():
    """The encoder differs from the target `vqvae` by the rounding of images to 8 bits alone."""
    images = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3)).astype(np.float32) / 255
    generator = LatentDiffusion(steps=3, device="cpu")
    from_images = generator.generate(["a", "b"], {"init": images})
    from_latents = generator.generate(["a", "b"], {"latents": kept_latents(images)})
    np.testing.assert_allclose(from_images, from_latents, atol=1 / 255)


@pytest.mark.parametrize(("ratio", "kept", "other"), [(1.0, "text", "image"), (0.0, "image", "text")])
def test_mixing_0_or_1_is_the_network_guided_by_one(ratio, kept, other):
    conditions = random_contexts()
    mixed = LatentDiffusion("both", steps=4, text_ratio=ratio, device="cpu")
    alone = LatentDiffusion("both", steps=4, device="cpu")
    found = mixed.generate(["a", "b"], conditions)
    np.testing.assert_allclose(found, alone.generate(["a", "b"], {kept: conditions[kept]}), atol=1e-5)
    # The other context has no effect at all.
    changed = {**conditions, other: conditions[other][::-1]}
    np.testing.assert_array_equal(found, mixed.generate(["a", "b"], changed))
    half = LatentDiffusion("both", steps=4, text_ratio=0.5, device="cpu").generate(["a", "b"], conditions)
    assert np.abs(half - found).max() > 0.02


def random_contexts():
    random = np.random.default_rng(0)
    return {
        "image": random.standard_normal((2, 65, 128)).astype(np.float32) / 11,
        "text": random.standard_normal((2, 40, 128)).astype(np.float32) / 3,
    }


def test_an_image_condition_leaves_the_text_out():
    conditions = random_contexts()
    generator = LatentDiffusion("image", steps=3, device="cpu")
    found = generator.generate(["a", "b"], conditions)
    np.testing.assert_array_equal(found, generator.generate(["a", "b"], {"image": conditions["image"]}))


def test_eta_draws_new_noise_that_belongs_to_the_stimulus():
    text = random_contexts()["text"]
    generator = LatentDiffusion(steps=4, eta=1.0, device="cpu")
    found = generator.generate(["a", "b"], {"text": text}, seed=1)
    alone = generator.generate(["b"], {"text": text[1:]}, seed=1)
    np.testing.assert_allclose(found[1:], alone, atol=1 / 255)
    without = LatentDiffusion(steps=4, device="cpu").generate(["a", "b"], {"text": text}, seed=1)
    assert np.abs(found - without).max() > 0.05


def test_half_precision_is_close():
    text = random_contexts()["text"]
    full = LatentDiffusion(steps=3, device="cpu").generate(["a", "b"], {"text": text})
    half = LatentDiffusion(steps=3, device="cpu", dtype="bfloat16").generate(["a", "b"], {"text": text})
    assert 0 < np.abs(full - half).mean() < 0.03


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"strength": 1.5}, InputError),
        ({"text_ratio": -0.1}, InputError),
        ({"steps": 0}, InputError),
        ({"guidance": -1}, InputError),
        ({"scheduler": "NoSuchScheduler"}, UnknownNameError),
        ({"condition": "smell"}, UnknownNameError),
        ({"dtype": "float8"}, UnknownNameError),
        ({"models": "/no/such/folder"}, InputError),
        ({"no_such_parameter": 1}, UnknownNameError),
    ],
)
def test_bad_parameters(options, error):
    with pytest.raises(error):
        load_generator("latent-diffusion", device="cpu", **options).generate(["a"], {})


def test_published_networks_are_complete():
    """The published configurations, without weights: numbers of parameters are those of the published files."""
    from diffusers import AutoencoderKL, UNet2DConditionModel

    from neurorecon.models.dual_guided import DualGuidedUNet

    blocks = {"sample_size": 64, "block_out_channels": (320, 640, 1280, 1280), "layers_per_block": 2}
    with torch.device("meta"):
        first = UNet2DConditionModel(**blocks, attention_head_dim=8, cross_attention_dim=768)
        second = UNet2DConditionModel(
            **blocks, attention_head_dim=[5, 10, 20, 20], cross_attention_dim=1024, use_linear_projection=True
        )
        autoencoder = AutoencoderKL(
            block_out_channels=(128, 256, 512, 512),
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            layers_per_block=2,
            latent_channels=4,
        )
        dual = DualGuidedUNet.from_text_unet(first, 768, share=True)
    count = [sum(value.numel() for value in network.parameters()) for network in (first, second, autoencoder, dual)]
    transformers = sum(value.numel() for value in dual.image_branch_parameters())
    assert count[:3] == [859_520_964, 865_910_724, 83_653_863]
    assert count[3] == count[0] + transformers
