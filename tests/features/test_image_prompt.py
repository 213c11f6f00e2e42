"""Targets of generators that take image prompts: from published files, the values of open_clip's own network."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

import neurorecon as nr
from neurorecon.errors import InputError, MissingFileError
from neurorecon.features.extract import all_targets
from neurorecon.models.clip import CLIP_MEAN, CLIP_STD
from neurorecon.registry import FEATURES
from neurorecon.testing import check_extractor

PLACES = {
    "ip_adapter": "h94/IP-Adapter/sdxl_models/image_encoder",
    "clip_bigg": "h94/IP-Adapter/sdxl_models/image_encoder",
    "ip_adapter_sd15": "h94/IP-Adapter/models/image_encoder",
    "kandinsky_image": "kandinsky-2-2-prior/image_encoder",
}


def as_published(state, layers):
    """Return weights of open_clip's vision tower by the names in the published files, which transformers wrote."""
    renamed = {
        "vision_model.embeddings.class_embedding": state["class_embedding"],
        "vision_model.embeddings.patch_embedding.weight": state["conv1.weight"],
        "vision_model.embeddings.position_embedding.weight": state["positional_embedding"],
        "vision_model.embeddings.position_ids": torch.arange(len(state["positional_embedding"]))[None],
        "visual_projection.weight": state["proj"].T,
    }
    for end in ("weight", "bias"):
        renamed[f"vision_model.pre_layrnorm.{end}"] = state[f"ln_pre.{end}"]
        renamed[f"vision_model.post_layernorm.{end}"] = state[f"ln_post.{end}"]
        for number in range(layers):
            old, new = f"transformer.resblocks.{number}", f"vision_model.encoder.layers.{number}"
            for part, values in zip("qkv", state[f"{old}.attn.in_proj_{end}"].chunk(3), strict=True):
                renamed[f"{new}.self_attn.{part}_proj.{end}"] = values
            for theirs, ours in {
                "attn.out_proj": "self_attn.out_proj", "ln_1": "layer_norm1", "ln_2": "layer_norm2",
                "mlp.c_fc": "mlp.fc1", "mlp.c_proj": "mlp.fc2",
            }.items():  # fmt: skip
                renamed[f"{new}.{ours}.{end}"] = state[f"{old}.{theirs}.{end}"]
    return {name: values.clone().contiguous() for name, values in renamed.items()}


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A folder with small networks in the published layout, and open_clip's network with the same weights."""
    from open_clip.transformer import VisionTransformer
    from safetensors.torch import save_file

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        tower = VisionTransformer(
            image_size=28, patch_size=14, width=32, layers=2, heads=2, mlp_ratio=2.0, output_dim=24, output_tokens=True
        ).eval()
    config = {
        "architectures": ["CLIPVisionModelWithProjection"], "model_type": "clip_vision_model", "hidden_act": "gelu",
        "hidden_size": 32, "image_size": 28, "intermediate_size": 64, "layer_norm_eps": 1e-05,
        "num_attention_heads": 2, "num_hidden_layers": 2, "patch_size": 14, "projection_dim": 24,
    }  # fmt: skip
    root = tmp_path_factory.mktemp("models")
    for place in set(PLACES.values()):
        (root / place).mkdir(parents=True)
        (root / place / "config.json").write_text(json.dumps(config))
        save_file(as_published(tower.state_dict(), 2), root / place / "model.safetensors", {"format": "pt"})
    return root, tower


@pytest.mark.parametrize("name", PLACES)
def test_targets_are_what_open_clip_computes(published, name):
    root, tower = published
    images = np.random.default_rng(0).integers(0, 256, (5, 28, 28, 3), dtype=np.uint8)
    values = nr.load_extractor(name, models=root, device="cpu").transform(images)
    mean, std = (torch.tensor(found)[:, None, None] for found in (CLIP_MEAN, CLIP_STD))
    with torch.no_grad():
        embedding, tokens = tower((torch.from_numpy(images).permute(0, 3, 1, 2) / 255 - mean) / std)
    expected = tokens if name == "clip_bigg" else embedding
    assert values.shape == ((5, 4, 32) if name == "clip_bigg" else (5, 24))
    np.testing.assert_allclose(values, expected.numpy(), atol=2e-5)


def test_contract(published):
    check_extractor(nr.load_extractor("ip_adapter", models=published[0], device="cpu"))


def test_they_are_asked_for_by_name(store):
    """No network of theirs is bundled, and all that is bundled takes no download of gigabytes."""
    assert set(all_targets(store)) == set(FEATURES.builtin) - set(PLACES)
    with pytest.raises(InputError, match="--models published"):
        nr.extract(store, ["ip_adapter"], models="bundled", progress=False)


def test_missing_weights_come_with_the_command_that_fetches_them(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.delenv("NEURORECON_WEIGHTS", raising=False)
    with pytest.raises(MissingFileError, match="neurorecon weights pull clip-vit-bigg14"):
        nr.load_extractor("ip_adapter", models="published").made_by()
