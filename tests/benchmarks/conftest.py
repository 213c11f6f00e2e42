"""Benchmarks of full size take longer than a test may; the networks of Stable Diffusion in full size."""

import json

import pytest


def pytest_collection_modifyitems(items):
    for item in items:
        if item.get_closest_marker("benchmark"):
            item.add_marker(pytest.mark.timeout(3 * 3600))


@pytest.fixture(scope="session")
def stable_diffusion(tmp_path_factory, pipeline_folder):
    """Stable Diffusion 1.x with random weights in published size, and CLIP ViT-B/32 with a short text encoder."""
    import shutil

    import torch
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from open_clip.model import CLIP
    from safetensors.torch import save_file
    from transformers import CLIPTextConfig, CLIPTextModel

    small, folder = pipeline_folder("1.x"), tmp_path_factory.mktemp("stable-diffusion")
    for part in ("tokenizer", "scheduler"):
        shutil.copytree(small / part, folder / part)
    clip = {
        "embed_dim": 512,
        "vision_cfg": {"image_size": 224, "layers": 12, "width": 768, "patch_size": 32},
        "text_cfg": {"context_length": 77, "vocab_size": 600, "width": 512, "heads": 8, "layers": 2},
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        UNet2DConditionModel(sample_size=64, cross_attention_dim=768, attention_head_dim=8).half().save_pretrained(
            folder / "unet"
        )
        AutoencoderKL(
            block_out_channels=(128, 256, 512, 512), down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4, layers_per_block=2, latent_channels=4, sample_size=512,
        ).save_pretrained(folder / "vae")  # fmt: skip
        CLIPTextModel(
            CLIPTextConfig(hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12)
        ).save_pretrained(folder / "text_encoder")
        (folder / "clip_b32").mkdir()
        save_file(CLIP(**clip).state_dict(), folder / "clip_b32" / "model.safetensors")
    (folder / "clip_b32" / "config.json").write_text(json.dumps(clip))
    return folder
