"""CLIP targets against the forward passes of open_clip and of transformers, with the same random weights."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from neurorecon.features.extract import load_extractor
from neurorecon.models.clip import BLOCKS, block_outputs, clip_settings, vision_tokens
from neurorecon.models.text_tower import TextTower

IMAGES = np.random.default_rng(0).integers(0, 256, (5, 40, 56, 3), dtype=np.uint8)
CAPTIONS = [["a red car"], ["one person here", "two person with a tool"], ["building"]]


def relative(found, expected):
    return float(np.abs(np.asarray(found) - np.asarray(expected)).max() / np.abs(np.asarray(expected)).max())


@pytest.fixture(scope="module")
def theirs():
    """transformers' CLIP, random, with Quick-GELU as OpenAI's."""
    from transformers import CLIPConfig, CLIPModel

    tower = {"num_hidden_layers": 3, "num_attention_heads": 2, "hidden_size": 32, "hidden_act": "quick_gelu"}
    vision = {**tower, "intermediate_size": 128, "image_size": 32, "patch_size": 8}
    text = {**tower, "intermediate_size": 128, "vocab_size": 16, "max_position_embeddings": 24, "eos_token_id": 15}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        network = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=16)).eval()
        for weight in network.parameters():
            torch.nn.init.normal_(weight, std=0.2)
    return network.requires_grad_(False)


@pytest.fixture(scope="module")
def ours(theirs, tmp_path_factory, random_models):
    """The same weights in a folder as open_clip has them."""
    from safetensors.torch import save_file

    folder = tmp_path_factory.mktemp("converted") / "clip"
    folder.mkdir()
    config = {
        "embed_dim": 16,
        "quick_gelu": True,
        "vision_cfg": {"image_size": 32, "patch_size": 8, "width": 32, "layers": 3, "head_width": 16},
        "text_cfg": {"context_length": 24, "vocab_size": 16, "width": 32, "heads": 2, "layers": 3},
    }
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": {}}))
    (folder / "vocabulary.txt").write_text((random_models / "clip" / "vocabulary.txt").read_text())
    save_file(converted(theirs.state_dict()), folder / "open_clip_model.safetensors")
    return folder.parent


def converted(state):
    """Name transformers' weights as open_clip does."""
    found = {
        "visual.class_embedding": state["vision_model.embeddings.class_embedding"],
        "visual.positional_embedding": state["vision_model.embeddings.position_embedding.weight"],
        "visual.conv1.weight": state["vision_model.embeddings.patch_embedding.weight"],
        "visual.proj": state["visual_projection.weight"].T,
        "token_embedding.weight": state["text_model.embeddings.token_embedding.weight"],
        "positional_embedding": state["text_model.embeddings.position_embedding.weight"],
        "text_projection": state["text_projection.weight"].T,
        "logit_scale": state["logit_scale"],
    }
    norms = {"visual.ln_pre": "vision_model.pre_layrnorm", "visual.ln_post": "vision_model.post_layernorm"}
    norms["ln_final"] = "text_model.final_layer_norm"
    for tower, prefix in (("visual.transformer", "vision_model"), ("transformer", "text_model")):
        for layer in range(3):
            new, old = f"{tower}.resblocks.{layer}", f"{prefix}.encoder.layers.{layer}"
            norms |= {f"{new}.ln_1": f"{old}.layer_norm1", f"{new}.ln_2": f"{old}.layer_norm2"}
            norms |= {f"{new}.mlp.c_fc": f"{old}.mlp.fc1", f"{new}.mlp.c_proj": f"{old}.mlp.fc2"}
            norms[f"{new}.attn.out_proj"] = f"{old}.self_attn.out_proj"
            for kind in ("weight", "bias"):
                parts = [state[f"{old}.self_attn.{part}_proj.{kind}"] for part in "qkv"]
                found[f"{new}.attn.in_proj_{kind}"] = torch.cat(parts)
    for new, old in norms.items():
        found |= {f"{new}.{kind}": state[f"{old}.{kind}"] for kind in ("weight", "bias")}
    return {name: value.contiguous() for name, value in found.items()}


def test_vision_tokens_are_those_of_transformers_as_versatile_diffusion_takes_them(theirs, ours):
    extractor = load_extractor("clip_vision", models=ours)
    images = extractor.preprocessing.normalize(extractor.preprocessing.prepare(IMAGES))
    hidden = theirs.vision_model(images).last_hidden_state
    projected = theirs.visual_projection(theirs.vision_model.post_layernorm(hidden))
    expected = projected / projected[:, :1].norm(dim=-1, keepdim=True)
    found = extractor.transform(IMAGES)
    assert found.shape == (5, 17, 16)
    assert relative(found, expected) < 1e-5
    np.testing.assert_allclose(np.linalg.norm(found[:, 0], axis=-1), 1, atol=1e-5)


def test_text_tokens_are_those_of_transformers_as_versatile_diffusion_takes_them(theirs, ours):
    extractor = load_extractor("clip_text", models=ours)
    expected = []
    for captions in CAPTIONS:
        tokens = extractor.tokenizer(captions)
        out = theirs.text_model(input_ids=tokens)
        states = theirs.text_projection(out.last_hidden_state)
        pooled = theirs.text_projection(out.pooler_output)
        expected.append((states / pooled.norm(dim=-1)[:, None, None]).mean(dim=0).numpy())
    found = extractor.transform(CAPTIONS)
    assert found.shape == (3, 24, 16)
    assert relative(found, np.stack(expected)) < 1e-5


def test_the_condition_is_the_hidden_states_of_the_text_encoder(theirs, ours):
    extractor = load_extractor("clip_text_sd", models=ours)
    expected = [theirs.text_model(input_ids=extractor.tokenizer(one)).last_hidden_state.mean(dim=0) for one in CAPTIONS]
    found = extractor.transform(CAPTIONS)
    assert relative(found, torch.stack(expected)) < 1e-5
    for tokens in (15, 20):
        prefix = load_extractor(f"clip_text_{tokens}", models=ours)
        np.testing.assert_array_equal(prefix.transform(CAPTIONS), found[:, :tokens])
        assert prefix.made_by()["layer"] != extractor.made_by()["layer"]


def test_the_image_embedding_is_that_of_both_libraries(theirs, ours):
    extractor = load_extractor("clip_image", models=ours)
    images = extractor.preprocessing.normalize(extractor.preprocessing.prepare(IMAGES))
    found = extractor.transform(IMAGES)
    network = clip_settings(ours).load()
    assert relative(found, network.encode_image(images)) < 1e-6
    assert relative(found, theirs.visual_projection(theirs.vision_model(images).pooler_output)) < 1e-5


def test_blocks_are_the_hidden_states_of_transformers(theirs, ours):
    extractor = load_extractor("clip_layers", models=ours)
    images = extractor.preprocessing.normalize(extractor.preprocessing.prepare(IMAGES))
    hidden = theirs.vision_model(images, output_hidden_states=True).hidden_states[1:]
    embedding = theirs.visual_projection(theirs.vision_model(images).pooler_output)
    found, layout = extractor.transform(IMAGES), extractor.layout()
    assert layout["layers"] == ["block 1", "block 2", "block 3", "embedding"]
    assert layout["layer_boundaries"][-1] == found.shape[1] == 3 * 17 * 32 + 16
    for layer, expected in enumerate([*hidden, embedding]):
        start, stop = layout["layer_boundaries"][layer : layer + 2]
        part = found[:, start:stop].reshape(5, *layout["layer_shapes"][layer])
        assert relative(part, expected) < 1e-5


def test_six_blocks_are_taken_and_what_the_mlp_adds_on_demand(random_models):
    extractor, added = (load_extractor("clip_layers", models=random_models, part=part) for part in ("block", "mlp"))
    assert len(extractor.layout()["layers"]) == BLOCKS + 1
    assert extractor.made_by() != added.made_by()
    network = extractor.network
    images = extractor.preprocessing.normalize(extractor.preprocessing.prepare(IMAGES))
    blocks, _ = block_outputs(network, images, 2)
    added_by_mlp, _ = block_outputs(network, images, 2, "mlp")
    with torch.inference_mode():
        block = network.visual.transformer.resblocks[1]
        attended = blocks[0] + block.attention(q_x=block.ln_1(blocks[0]))
    assert relative(attended + added_by_mlp[1], blocks[1]) < 1e-5


def test_tokens_are_those_that_open_clip_returns_itself(random_models):
    network = clip_settings(random_models).load()
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    found = vision_tokens(network, images)
    network.visual.output_tokens = True
    pooled, tokens = network.visual(images)
    torch.testing.assert_close(found[:, 0], pooled, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found[:, 1:], tokens @ network.visual.proj, atol=1e-5, rtol=1e-5)


def test_gradients_reach_the_image_and_no_hook_is_left(random_models):
    network = clip_settings(random_models).load()
    images = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0), requires_grad=True)
    outputs, embedding = block_outputs(network, images, BLOCKS)
    (sum(output.square().mean() for output in outputs) + embedding.sum()).backward()
    assert images.grad.abs().max() > 0
    assert not any(module._forward_hooks for module in network.modules())


def test_the_text_tower_is_that_of_open_clip(random_models):
    settings = clip_settings(random_models)
    network, tokenizer = settings.load(), settings.tokenizer()
    tokens = tokenizer(["a red car", "two building with one tool here"])
    hidden = TextTower(network)(tokens)
    ends = (tokens == tokenizer.end).int().argmax(dim=1)
    embedding = hidden[torch.arange(2), ends] @ network.text_projection
    torch.testing.assert_close(embedding, network.encode_text(tokens), atol=1e-5, rtol=1e-5)


def test_a_video_has_its_middle_frame_and_the_mean_over_its_frames(random_models):
    videos = np.random.default_rng(1).integers(0, 256, (3, 5, 32, 32, 3), dtype=np.uint8)
    image = load_extractor("clip_image", models=random_models)
    mean = load_extractor("clip_image_mean", models=random_models)
    expected = np.stack([image.transform(video).mean(axis=0) for video in videos])
    np.testing.assert_allclose(mean.transform(videos), expected, atol=1e-5)


def test_captions_of_no_stimulus_are_mixed(random_models):
    extractor = load_extractor("clip_text", models=random_models)
    both = extractor.transform([["a red car", "a red car"], ["building"]])
    np.testing.assert_allclose(both[0], extractor.transform(["a red car"])[0], atol=1e-6)
    single = extractor.transform([["a red car"], ["building"]])
    mean = extractor.transform([["a red car", "building"]])[0]
    np.testing.assert_allclose(mean, single.mean(axis=0), atol=1e-6)
