"""Tiny random pipelines of diffusers, laid out as the published ones are."""

from __future__ import annotations

import json

import pytest
import torch


@pytest.fixture(scope="session")
def pipeline_folder(tmp_path_factory):
    """Return a function that writes a small Stable Diffusion, 1.x or 2.x, with random weights."""
    from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    kept = {}

    def write(version):
        if version in kept:
            return kept[version]
        folder = tmp_path_factory.mktemp(f"stable-diffusion-{version}")
        newer = version == "2.x"
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            unet = UNet2DConditionModel(
                sample_size=8,
                block_out_channels=(16, 32),
                layers_per_block=1,
                norm_num_groups=8,
                down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
                up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
                cross_attention_dim=16,
                attention_head_dim=[2, 4] if newer else 4,
                use_linear_projection=newer,
            )
            autoencoder = AutoencoderKL(
                block_out_channels=(8, 16),
                down_block_types=("DownEncoderBlock2D", "DownEncoderBlock2D"),
                up_block_types=("UpDecoderBlock2D", "UpDecoderBlock2D"),
                norm_num_groups=4,
                latent_channels=4,
                sample_size=16,
            )
            encoder = CLIPTextModel(
                CLIPTextConfig(
                    vocab_size=49408, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2
                )
            )
        unet.save_pretrained(folder / "unet")
        autoencoder.save_pretrained(folder / "vae")
        encoder.save_pretrained(folder / "text_encoder")
        DDIMScheduler(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            clip_sample=False,
            set_alpha_to_one=False,
            steps_offset=1,
            prediction_type="v_prediction" if newer else "epsilon",
        ).save_pretrained(folder / "scheduler")
        _write_tokenizer(folder / "tokenizer")
        parts = {
            "unet": ["diffusers", "UNet2DConditionModel"],
            "vae": ["diffusers", "AutoencoderKL"],
            "text_encoder": ["transformers", "CLIPTextModel"],
            "tokenizer": ["transformers", "CLIPTokenizer"],
            "scheduler": ["diffusers", "DDIMScheduler"],
        }
        (folder / "model_index.json").write_text(json.dumps({"_class_name": "StableDiffusionPipeline", **parts}))
        kept[version] = folder
        return folder

    return write


def _write_tokenizer(folder):
    """Write OpenAI's byte pairs as transformers keeps them."""
    from open_clip.tokenizer import SimpleTokenizer

    folder.mkdir()
    pairs = SimpleTokenizer()
    special = {"<start_of_text>": "<|startoftext|>", "<end_of_text>": "<|endoftext|>"}
    names = {special.get(name, name): number for name, number in pairs.encoder.items()}
    (folder / "vocab.json").write_text(json.dumps(names))
    merges = "\n".join(["#version: 0.2", *(" ".join(pair) for pair in pairs.bpe_ranks)])
    (folder / "merges.txt").write_text(merges + "\n")
    ends = {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>"}
    about = {"model_max_length": 77, "pad_token": "<|endoftext|>", "tokenizer_class": "CLIPTokenizer", **ends}
    (folder / "tokenizer_config.json").write_text(json.dumps(about))
