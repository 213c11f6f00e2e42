"""Diffusion from image embeddings: the contract, and the images of diffusers' own pipelines with the same weights."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch

from neurorecon.errors import InputError, MissingFileError
from neurorecon.generators.base import load_generator
from neurorecon.generators.latent_diffusion import make_scheduler, signal_shares
from neurorecon.models.load import noise_like
from neurorecon.testing import generator_checks
from tests.prompted_networks import CHANNELS, SCHEDULE, WIDTH, write_prompted_networks

NAMES = ["sd15-ip-adapter", "sdxl-ip-adapter", "kandinsky-2.2", "sdxl-unclip"]
STIMULI = ["a", "b"]


@pytest.fixture(scope="module")
def models(tmp_path_factory, write_tokenizer):
    """A folder with small networks of all three kinds, with random weights, as they are published."""
    root = tmp_path_factory.mktemp("models")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        write_prompted_networks(root, write_tokenizer)
    return root


@cache
def conditions_of(name, stimuli=2):
    random = np.random.default_rng(0)
    tokens = (256,) if name == "sdxl-unclip" else ()
    found = {"image": random.standard_normal((stimuli, *tokens, WIDTH)).astype(np.float32)}
    if "ip-adapter" in name:
        found["text"] = random.standard_normal((stimuli, 77, CHANNELS)).astype(np.float32)
    if name == "sdxl-ip-adapter":
        found["pooled"] = random.standard_normal((stimuli, 16)).astype(np.float32)
    return {**found, "init": random.random((stimuli, 20, 12, 3)).astype(np.float32)}


@pytest.mark.parametrize("check", generator_checks(), ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_contract(models, name, check):
    generator = load_generator(name, models=models, steps=2, guidance=2.0, device="cpu")
    check(generator, conditions_of(name, 5))


def pipeline_of(models, name, kind, scheduler):
    """Return a pipeline of diffusers."""
    import diffusers

    folders = {"sd15-ip-adapter": "sd-v1-5", "sdxl-ip-adapter": "sdxl-base"}
    folder = models / folders.get(name, "kandinsky-community/kandinsky-2-2-decoder")
    if name == "kandinsky-2.2":
        unet = diffusers.UNet2DConditionModel.from_pretrained(folder / "unet")
        movq = diffusers.VQModel.from_pretrained(folder / "movq")
        schedule = diffusers.DDPMScheduler.from_pretrained(folder / "scheduler")
        found = getattr(diffusers, kind)(unet, schedule, movq)
    else:
        found = getattr(diffusers, kind).from_pretrained(folder, safety_checker=None, feature_extractor=None)
        version = "sdxl" if name == "sdxl-ip-adapter" else "sd15"
        file = {"sdxl": "sdxl_models/ip-adapter_sdxl", "sd15": "models/ip-adapter_sd15"}[version]
        place, _, weight = file.partition("/")
        found.load_ip_adapter(
            str(models / "h94" / "IP-Adapter"), subfolder=place, weight_name=f"{weight}.safetensors",
            image_encoder_folder=None,
        )  # fmt: skip
        found.set_ip_adapter_scale(0.6)
    found.scheduler = make_scheduler(scheduler, found.scheduler.config)
    found.set_progress_bar_config(disable=True)
    return found


def their_conditions(models, name, given, guidance, row):
    """Return what a pipeline of diffusers is called with for one image: it takes one embedding for all of a batch."""
    tensors = {key: torch.from_numpy(values[[row]]) for key, values in given.items()}
    image = tensors["image"]
    if name == "kandinsky-2.2":
        from diffusers.pipelines import KandinskyV22PriorPipeline
        from transformers import CLIPVisionModelWithProjection

        encoder = CLIPVisionModelWithProjection.from_pretrained(models / "kandinsky-2-2-encoder")
        holder = type("Holder", (), {"image_encoder": encoder, "device": "cpu"})()
        with torch.no_grad():
            nothing = KandinskyV22PriorPipeline.get_zero_embed(holder, len(image))
        return {"image_embeds": image, "negative_image_embeds": nothing}
    both = torch.cat([torch.zeros_like(image), image])[:, None]
    found = {"ip_adapter_image_embeds": [both if guidance > 1 else image[:, None]]}
    if "text" in tensors:
        found["prompt_embeds"] = tensors["text"]
        if "pooled" in tensors:
            zeros = {"negative_prompt_embeds": torch.zeros_like(tensors["text"])}
            zeros["negative_pooled_prompt_embeds"] = torch.zeros_like(tensors["pooled"])
            return {**found, "pooled_prompt_embeds": tensors["pooled"], **zeros}
        return {**found, "negative_prompt": [""] * len(image)}
    return {**found, "prompt": [""] * len(image)}


@pytest.mark.parametrize(
    ("name", "kind", "kept", "guidance"),
    [
        ("sd15-ip-adapter", "StableDiffusionPipeline", ("image",), 4.0),
        ("sdxl-ip-adapter", "StableDiffusionXLPipeline", ("image", "text", "pooled"), 4.0),
        ("sdxl-ip-adapter", "StableDiffusionXLPipeline", ("image",), 4.0),
        ("sdxl-ip-adapter", "StableDiffusionXLPipeline", ("image", "text", "pooled"), 1.0),
        ("kandinsky-2.2", "KandinskyV22Pipeline", ("image",), 4.0),
    ],
)
def test_images_from_noise_are_those_of_diffusers(models, name, kind, kept, guidance):
    given = {key: conditions_of(name)[key] for key in kept}
    more = {} if name == "kandinsky-2.2" else {"image_scale": 0.6}
    generator = load_generator(
        name, models=models, steps=4, guidance=guidance, scheduler="DDIMScheduler", device="cpu", **more
    )
    theirs = pipeline_of(models, name, kind, "DDIMScheduler")
    expected = np.concatenate(
        [
            theirs(
                **their_conditions(models, name, given, guidance, row),
                latents=torch.from_numpy(noise_like((4, 8, 8), 3, stimulus))[None],
                height=16,
                width=16,
                num_inference_steps=4,
                guidance_scale=guidance,
                output_type="np",
            ).images
            for row, stimulus in enumerate(STIMULI)
        ]
    )
    assert expected.std(axis=0).mean() > 0.01  # stimuli differ
    np.testing.assert_allclose(generator.generate(STIMULI, given, seed=3), expected, atol=5e-4)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("sd15-ip-adapter", "StableDiffusionImg2ImgPipeline"),
        ("sdxl-ip-adapter", "StableDiffusionXLImg2ImgPipeline"),
        ("kandinsky-2.2", "KandinskyV22Img2ImgPipeline"),
    ],
)
def test_images_from_an_image_are_those_of_diffusers(models, name, kind, monkeypatch):
    theirs = pipeline_of(models, name, kind, "DDIMScheduler")
    schedule = make_scheduler("DDIMScheduler", theirs.scheduler.config)
    schedule.set_timesteps(5)
    strength = 1 - signal_shares(schedule)[2]  # 3 of 5 steps
    more = {} if name == "kandinsky-2.2" else {"image_scale": 0.6}
    generator = load_generator(
        name, models=models, steps=5, guidance=4.0, strength=strength, scheduler="DDIMScheduler", device="cpu", **more
    )
    given = conditions_of(name)
    start = np.random.default_rng(1).random((2, 16, 16, 3)).astype(np.float32)
    latents = torch.from_numpy(generator.encode(start))
    images, expected = torch.from_numpy(start).permute(0, 3, 1, 2), []
    for row, stimulus in enumerate(STIMULI):
        noise = torch.from_numpy(noise_like((4, 8, 8), 3, stimulus))[None]
        monkeypatch.setattr(f"{type(theirs).__module__}.randn_tensor", lambda *args, noise=noise, **kwargs: noise)
        own = {"height": 16, "width": 16} if name == "kandinsky-2.2" else {}
        expected += [
            theirs(
                **their_conditions(models, name, given, 4.0, row),
                **own,
                image=images[[row]] if own else latents[[row]],
                strength=0.6,
                num_inference_steps=5,
                guidance_scale=4.0,
                output_type="np",
            ).images
        ]
    found = generator.generate(STIMULI, {**given, "init": start}, seed=3)
    np.testing.assert_allclose(found, np.concatenate(expected), atol=5e-4)


def test_unclip_takes_tokens_and_the_size_of_images(models):
    """Against the loop of diffusers' scheduler, with the UNet that was saved, by hand."""
    from diffusers import AutoencoderKL

    generator = load_generator("sdxl-unclip", models=models, steps=3, guidance=3.0, device="cpu")
    given = {"image": conditions_of("sdxl-unclip")["image"]}
    unet, nothing = generator.loaded.unet, generator.loaded.nothing["image"]
    vae = AutoencoderKL.from_pretrained(models / "sdxl-base" / "vae")
    schedule = make_scheduler("DDIMScheduler", SCHEDULE | {"set_alpha_to_one": False})
    schedule.set_timesteps(3)
    added = {"text_embeds": torch.zeros(1, 0), "time_ids": torch.tensor([[16.0, 16.0, 0.0, 0.0]])}
    for row, image in enumerate(generator.generate(STIMULI, given, seed=3)):
        latents = torch.from_numpy(noise_like((4, 8, 8), 3, STIMULI[row]))[None]
        with torch.no_grad():
            for step in schedule.timesteps:
                tokens = nothing, torch.from_numpy(given["image"][[row]])
                without, own = (unet(latents, step, one, added_cond_kwargs=added).sample for one in tokens)
                latents = schedule.step(without + 3 * (own - without), step, latents).prev_sample
            expected = vae.decode(latents / vae.config.scaling_factor).sample[0] / 2 + 0.5
        np.testing.assert_allclose(image, expected.clamp(0, 1).permute(1, 2, 0).numpy(), atol=5e-4)


def test_noise_of_every_step_belongs_to_the_stimulus(models):
    """The published scheduler of Kandinsky draws noise at each step."""
    given = {"image": np.repeat(conditions_of("kandinsky-2.2")["image"][:1], 3, axis=0)}
    generator = load_generator("kandinsky-2.2", models=models, steps=3, device="cpu")
    one, other, again = generator.generate(["a", "b", "a"], given)
    np.testing.assert_array_equal(one, again)
    assert np.abs(one - other).max() > 0.1


def test_scale_zero_ignores_the_image_and_does_not_stay(models):
    given = conditions_of("sdxl-ip-adapter")
    other = {**given, "image": given["image"][::-1]}
    chosen = {"models": models, "steps": 2, "device": "cpu"}
    whole, none = (load_generator("sdxl-ip-adapter", image_scale=scale, **chosen) for scale in (1.0, 0.0))
    first = whole.generate(STIMULI, given)
    assert whole.loaded is none.loaded
    np.testing.assert_array_equal(none.generate(STIMULI, given), none.generate(STIMULI, other))
    np.testing.assert_array_equal(whole.generate(STIMULI, given), first)
    assert np.abs(whole.generate(STIMULI, other) - first).max() > 0.01


def test_another_adapter_is_refused(models, tmp_path):
    from safetensors.torch import load_file, save_file

    for path in models.iterdir():
        if path.name != "h94":
            (tmp_path / path.name).symlink_to(path)
    state = load_file(models / "h94/IP-Adapter/sdxl_models/ip-adapter_sdxl.safetensors")
    (tmp_path / "ip-adapter-sdxl").mkdir()
    file = tmp_path / "ip-adapter-sdxl" / "ip-adapter_sdxl.safetensors"
    generator = load_generator("sdxl-ip-adapter", models=tmp_path, steps=1, device="cpu")
    save_file({name: value for name, value in state.items() if not name.startswith("ip_adapter.5.")}, file)
    with pytest.raises(InputError, match=r"2 tensors; ip_adapter\.5\.to_k_ip\.weight is absent, expected \(32, 24\)"):
        generator.generate(STIMULI, {"image": conditions_of("sdxl-ip-adapter")["image"]})
    save_file({"image_proj.latents": torch.zeros(1, 16, CHANNELS)}, file)  # of the kind that takes tokens
    with pytest.raises(InputError, match="'plus', 'full' or 'faceid'"):
        generator.conditions  # noqa: B018


def test_a_scale_out_of_range_is_refused(models):
    generator = load_generator("sd15-ip-adapter", models=models, image_scale=-1.0, device="cpu")
    with pytest.raises(InputError, match=r"image_scale=-1\.0\n.*0 or more"):
        generator.generate(["a"], {})


@pytest.mark.parametrize("name", NAMES)
def test_missing_weights_come_with_the_command_that_fetches_them(name, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.delenv("NEURORECON_WEIGHTS", raising=False)
    with pytest.raises(MissingFileError, match="neurorecon weights pull"):
        load_generator(name).generate(["a"], {})
