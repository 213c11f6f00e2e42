"""Diffusion from image embeddings: the contract, and the images of diffusers' own pipelines with the same weights."""

from __future__ import annotations

import json
from functools import cache

import numpy as np
import pytest
import torch

from neurorecon.errors import InputError, MissingFileError
from neurorecon.generators.base import load_generator
from neurorecon.generators.image_prompt import UNCLIP
from neurorecon.generators.latent_diffusion import make_scheduler, signal_shares
from neurorecon.models.load import noise_like
from neurorecon.testing import generator_checks

WIDTH, CHANNELS = 32, 24  # of the image embedding, and of the contexts
NAMES = ["sd15-ip-adapter", "sdxl-ip-adapter", "kandinsky-2.2", "sdxl-unclip"]
STIMULI = ["a", "b"]
SCHEDULE = {
    "num_train_timesteps": 1000, "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear",
    "clip_sample": False, "steps_offset": 1,
}  # fmt: skip


def unet_of(sdxl):
    from diffusers import UNet2DConditionModel

    more = {
        "addition_embed_type": "text_time", "addition_time_embed_dim": 4, "transformer_layers_per_block": (1, 2),
        "projection_class_embeddings_input_dim": 6 * 4 + 16, "use_linear_projection": True,
    }  # fmt: skip
    return UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(16, 32),
        layers_per_block=1,
        norm_num_groups=8,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=CHANNELS,
        attention_head_dim=(2, 4),
        **(more if sdxl else {}),
    )


def write_stable_diffusion(root, sdxl, write_tokenizer):
    """Write a pipeline and its adapter with random weights, with the files of the catalog."""
    from diffusers import AutoencoderKL, DDIMScheduler
    from safetensors.torch import save_file
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    folder = root / ("sdxl-base" if sdxl else "sd-v1-5")
    unet = unet_of(sdxl)
    unet.save_pretrained(folder / "unet")
    AutoencoderKL(
        block_out_channels=(8, 16),
        down_block_types=("DownEncoderBlock2D", "DownEncoderBlock2D"),
        up_block_types=("UpDecoderBlock2D", "UpDecoderBlock2D"),
        norm_num_groups=4,
        latent_channels=4,
        sample_size=16,
        scaling_factor=0.13025 if sdxl else 0.18215,
    ).save_pretrained(folder / "vae")
    DDIMScheduler(set_alpha_to_one=False, **SCHEDULE).save_pretrained(folder / "scheduler")
    parts = {
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
        "scheduler": ["diffusers", "DDIMScheduler"],
    }
    for number, suffix in enumerate(["", "_2"] if sdxl else [""]):
        size = 16 if number else (8 if sdxl else CHANNELS)
        config = CLIPTextConfig(
            vocab_size=49408, hidden_size=size, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
            projection_dim=16,
        )  # fmt: skip
        kind = CLIPTextModelWithProjection if number else CLIPTextModel
        kind(config).save_pretrained(folder / f"text_encoder{suffix}")
        write_tokenizer(folder / f"tokenizer{suffix}")
        (folder / f"tokenizer{suffix}" / "special_tokens_map.json").write_text("{}")
        parts |= {f"text_encoder{suffix}": ["transformers", kind.__name__]}
        parts |= {f"tokenizer{suffix}": ["transformers", "CLIPTokenizer"]}
    kind = "StableDiffusionXLPipeline" if sdxl else "StableDiffusionPipeline"
    settings = {"force_zeros_for_empty_prompt": True} if sdxl else {"requires_safety_checker": False}
    (folder / "model_index.json").write_text(json.dumps({"_class_name": kind, **settings, **parts}))

    adapter = {
        "image_proj.proj.weight": torch.randn(4 * CHANNELS, WIDTH) / 6,
        "image_proj.proj.bias": torch.randn(4 * CHANNELS) / 6,
        "image_proj.norm.weight": torch.ones(CHANNELS),
        "image_proj.norm.bias": torch.zeros(CHANNELS),
    }
    crossing = [name.removesuffix(".processor") for name in unet.attn_processors if "attn2" in name]
    for number, name in enumerate(crossing):
        inner = unet.get_submodule(name).to_k.out_features
        adapter |= {f"ip_adapter.{2 * number + 1}.to_{part}_ip.weight": torch.randn(inner, CHANNELS) for part in "kv"}
    place = root / "h94" / "IP-Adapter" / ("sdxl_models" if sdxl else "models")
    place.mkdir(parents=True, exist_ok=True)
    save_file(adapter, place / ("ip-adapter_sdxl.safetensors" if sdxl else "ip-adapter_sd15.safetensors"))


def write_kandinsky(root):
    from diffusers import DDPMScheduler, UNet2DConditionModel, VQModel
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    folder = root / "kandinsky-community" / "kandinsky-2-2-decoder"
    UNet2DConditionModel(
        sample_size=8,
        in_channels=4,
        out_channels=8,
        addition_embed_type="image",
        down_block_types=("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
        up_block_types=("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
        mid_block_type="UNetMidBlock2DSimpleCrossAttn",
        block_out_channels=(16, 32),
        layers_per_block=1,
        norm_num_groups=8,
        encoder_hid_dim=WIDTH,
        encoder_hid_dim_type="image_proj",
        cross_attention_dim=CHANNELS,
        attention_head_dim=4,
        resnet_time_scale_shift="scale_shift",
    ).save_pretrained(folder / "unet")
    VQModel(
        block_out_channels=(32, 64),
        down_block_types=("DownEncoderBlock2D", "AttnDownEncoderBlock2D"),
        up_block_types=("AttnUpDecoderBlock2D", "UpDecoderBlock2D"),
        latent_channels=4,
        norm_num_groups=8,
        norm_type="spatial",
        num_vq_embeddings=12,
        vq_embed_dim=4,
    ).save_pretrained(folder / "movq")
    DDPMScheduler(**{**SCHEDULE, "beta_schedule": "linear"}).save_pretrained(folder / "scheduler")
    encoder = CLIPVisionConfig(
        hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=28, patch_size=14,
        projection_dim=WIDTH,
    )  # fmt: skip
    CLIPVisionModelWithProjection(encoder).save_pretrained(root / "kandinsky-2-2-encoder")


def write_unclip(root):
    """Write a UNet of SDXL's kind by the names of the authors' code."""
    from diffusers import UNet2DConditionModel

    small = {
        "sample_size": 8, "block_out_channels": (16, 32, 32), "attention_head_dim": (2, 4, 4),
        "transformer_layers_per_block": (1, 1, 2), "cross_attention_dim": WIDTH, "addition_time_embed_dim": 4,
        "projection_class_embeddings_input_dim": 4 * 4, "norm_num_groups": 8,
    }  # fmt: skip
    unet = UNet2DConditionModel(**{**UNCLIP, **small})
    unet.save_config(root / "mindeye2-unclip")
    state = {f"model.diffusion_model.{in_sgm(name)}": tensor for name, tensor in unet.state_dict().items()}
    state["first_stage_model.decoder.conv_in.weight"] = torch.zeros(1)  # the autoencoder is in the file, too
    torch.save(state, root / "mindeye2-unclip" / "unclip6.pth")


def in_sgm(name):
    """Return the name of a tensor of SDXL's UNet in the authors' code, numbered as in its listing."""
    whole = {
        "conv_in": "input_blocks.0.0", "conv_norm_out": "out.0", "conv_out": "out.2",
        "time_embedding.linear_1": "time_embed.0", "time_embedding.linear_2": "time_embed.2",
        "add_embedding.linear_1": "label_emb.0.0", "add_embedding.linear_2": "label_emb.0.2",
        "mid_block.resnets.0": "middle_block.0", "mid_block.attentions.0": "middle_block.1",
        "mid_block.resnets.1": "middle_block.2",
        "down_blocks.0.downsamplers.0.conv": "input_blocks.3.0.op",
        "down_blocks.1.downsamplers.0.conv": "input_blocks.6.0.op",
        "up_blocks.0.upsamplers.0": "output_blocks.2.2", "up_blocks.1.upsamplers.0": "output_blocks.5.2",
    }  # fmt: skip
    for level, blocks in enumerate([(1, 2), (4, 5), (7, 8)]):
        for number, block in enumerate(blocks):
            whole[f"down_blocks.{level}.resnets.{number}"] = f"input_blocks.{block}.0"
            whole[f"down_blocks.{level}.attentions.{number}"] = f"input_blocks.{block}.1"
    for level, blocks in enumerate([(0, 1, 2), (3, 4, 5), (6, 7, 8)]):
        for number, block in enumerate(blocks):
            whole[f"up_blocks.{level}.resnets.{number}"] = f"output_blocks.{block}.0"
            whole[f"up_blocks.{level}.attentions.{number}"] = f"output_blocks.{block}.1"
    ours = max((place for place in whole if name.startswith(f"{place}.")), key=len)
    layer = name.removeprefix(f"{ours}.")
    if ".resnets." in ours:
        part, end = layer.rsplit(".", 1)
        parts = {
            "norm1": "in_layers.0", "conv1": "in_layers.2", "time_emb_proj": "emb_layers.1", "norm2": "out_layers.0",
            "conv2": "out_layers.3", "conv_shortcut": "skip_connection",
        }  # fmt: skip
        layer = f"{parts[part]}.{end}"
    return f"{whole[ours]}.{layer}"


@pytest.fixture(scope="module")
def models(tmp_path_factory, write_tokenizer):
    """A folder with small networks of all three kinds, with random weights, as they are published."""
    root = tmp_path_factory.mktemp("models")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        write_stable_diffusion(root, False, write_tokenizer)
        write_stable_diffusion(root, True, write_tokenizer)
        write_kandinsky(root)
        write_unclip(root)
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
