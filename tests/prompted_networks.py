"""Small networks of the generators that take an image as prompt, with random weights and the files as published."""

from __future__ import annotations

import json

import torch

from neurorecon.generators.image_prompt import UNCLIP

WIDTH, CHANNELS = 32, 24  # of the image embedding, and of the contexts
SCHEDULE = {
    "num_train_timesteps": 1000, "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear",
    "clip_sample": False, "steps_offset": 1,
}  # fmt: skip


def write_prompted_networks(root, write_tokenizer):
    """Write the networks of all of them into a folder, to be passed as ``models``."""
    write_stable_diffusion(root, False, write_tokenizer)
    write_stable_diffusion(root, True, write_tokenizer)
    write_kandinsky(root)
    write_unclip(root)


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
