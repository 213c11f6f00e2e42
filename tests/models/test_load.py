"""Weights in a folder become networks; what does not fit is refused, and nothing else changes."""

from __future__ import annotations

import json
import shutil

import pytest
import torch

from neurorecon.errors import InputError, MissingFileError
from neurorecon.models.clip import clip_settings, clip_settings_of, text_encoder
from neurorecon.models.load import WeightsSource, autoencoder_settings, load_vdvae, source


@pytest.fixture
def models(random_models, tmp_path):
    """A copy of the folder with networks, for one test to damage."""
    shutil.copytree(random_models, tmp_path / "models")
    return tmp_path / "models"


def test_every_weight_is_the_one_in_the_file(random_models):
    from safetensors.torch import load_file

    clip, (vdvae, _) = clip_settings(random_models).load(), load_vdvae(random_models)
    autoencoder = autoencoder_settings(random_models).load()
    files = {"clip/model": clip, "vdvae/model": vdvae, "autoencoder/diffusion_pytorch_model": autoencoder}
    for file, network in files.items():
        weights = load_file(random_models / f"{file}.safetensors")
        state = network.state_dict()
        assert set(state) == set(weights)
        for name, weight in weights.items():
            torch.testing.assert_close(state[name], weight, rtol=0, atol=0)
        assert not network.training
        assert not any(parameter.requires_grad for parameter in network.parameters())


def test_weights_in_half_precision_become_networks_in_single_precision(models):
    from safetensors.torch import load_file, save_file

    for file in ("clip/model", "vdvae/model", "autoencoder/diffusion_pytorch_model"):
        path = models / f"{file}.safetensors"
        save_file({name: value.half() for name, value in load_file(path).items()}, path)
    networks = [clip_settings(models).load(), load_vdvae(models)[0], autoencoder_settings(models).load()]
    for network in networks:
        assert {parameter.dtype for parameter in network.parameters()} == {torch.float32}


def test_loading_leaves_the_random_numbers_as_they_were(random_models):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    clip_settings(random_models).load()
    load_vdvae(random_models)
    autoencoder_settings(random_models).load()
    text_encoder(random_models).load("cpu")
    assert torch.equal(torch.get_rng_state(), before)


def test_what_is_recorded_says_which_weights_they_are(random_models, models):
    found = source("clip", random_models)
    assert found.record() == source("clip", models).record()
    assert set(found.record()) == {"weights", "weights_sha256", "weights_origin", "licence"}
    assert found.record()["weights_origin"] == "own"
    weights = models / "clip" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    assert source("clip", models).sha256 != found.sha256


def test_the_published_networks_are_built_as_open_clip_has_them(tmp_path):
    for name, size, channels in (("clip-vit-l14", 224, 768), ("clip-vit-b32", 224, 512)):
        settings = clip_settings_of(WeightsSource("clip", tmp_path, name, "", "MIT", ""))
        assert (settings.size, settings.network["embed_dim"], settings.context_length) == (size, channels, 77)
        assert settings.network["quick_gelu"]
        assert settings.mean == (0.48145466, 0.4578275, 0.40821073)
    tokens = settings.tokenizer()(["a photo of a cat", ""])
    assert tokens.shape == (2, 77)
    assert tokens[0, :7].tolist() == [49406, 320, 1125, 539, 320, 2368, 49407]
    assert (tokens[0, 6:] == 49407).all()  # transformers pads with the end token
    assert tokens[1, :3].tolist() == [49406, 49407, 49407]


@pytest.fixture(scope="module")
def stable_diffusion(tmp_path_factory):
    """A random text encoder and OpenAI's byte pairs, laid out as Stable Diffusion's repository is."""
    from open_clip.tokenizer import SimpleTokenizer
    from transformers import CLIPTextConfig, CLIPTextModel

    folder = tmp_path_factory.mktemp("own") / "text_encoder"
    pairs = SimpleTokenizer()
    special = {"<start_of_text>": "<|startoftext|>", "<end_of_text>": "<|endoftext|>"}
    (folder / "tokenizer").mkdir(parents=True)
    names = {special.get(name, name): number for name, number in pairs.encoder.items()}
    (folder / "tokenizer" / "vocab.json").write_text(json.dumps(names))
    merges = "\n".join(["#version: 0.2", *(" ".join(pair) for pair in pairs.bpe_ranks)])
    (folder / "tokenizer" / "merges.txt").write_text(merges + "\n")
    ends = {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>"}
    tokenizer = {"model_max_length": 77, "pad_token": "<|endoftext|>", "tokenizer_class": "CLIPTokenizer", **ends}
    (folder / "tokenizer" / "tokenizer_config.json").write_text(json.dumps(tokenizer))
    config = CLIPTextConfig(
        vocab_size=49408, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = CLIPTextModel(config)
    network.save_pretrained(folder / "text_encoder")
    return folder.parent, network.eval()


def test_the_text_encoder_of_stable_diffusion(stable_diffusion):
    folder, network = stable_diffusion
    encoder = text_encoder(folder)
    texts = ["A photo of a cat, sitting on a sofa.", "two dogs", ""]
    tokens = encoder.tokenizer(texts)
    with torch.no_grad():
        expected = network(input_ids=tokens).last_hidden_state
    torch.testing.assert_close(encoder.load("cpu")(tokens), expected, rtol=0, atol=1e-6)
    # open_clip's tokens, padded as the published systems pad them, are the same ones.
    published = clip_settings_of(WeightsSource("clip", folder, "clip-vit-l14", "", "MIT", "")).tokenizer()
    assert torch.equal(published(texts), tokens)
    assert encoder.tokenizer.end == published.end == 49407


def test_the_bundled_clip_plays_the_text_encoder(random_models):
    encoder = text_encoder(random_models)
    hidden = encoder.load("cpu")(encoder.tokenizer(["a red car", "tool"]))
    assert hidden.shape == (2, 24, 32)
    assert encoder.source.sha256 == source("clip", random_models).sha256


def test_weights_of_another_network_are_refused(models):
    for name, key in (("clip", "embed_dim"), ("autoencoder", "latent_channels"), ("vdvae", "z_dim")):
        path = models / name / "config.json"
        config = json.loads(path.read_text())
        path.write_text(json.dumps({**config, key: 3}))
    for load in (
        lambda: clip_settings(models).load(),
        lambda: autoencoder_settings(models).load(),
        lambda: load_vdvae(models),
    ):
        with pytest.raises(
            InputError, match=r"do not match their configuration|contains the weights of another network"
        ):
            load()


def test_weights_that_lack_some_are_refused(models):
    from safetensors.torch import load_file, save_file

    for file, name in (("clip/model", "visual.proj"), ("autoencoder/diffusion_pytorch_model", "quant_conv.bias")):
        path = models / f"{file}.safetensors"
        weights = load_file(path)
        del weights[name]
        save_file(weights, path)
    with pytest.raises(InputError, match=r"visual\.proj: absent"):
        clip_settings(models).load()
    with pytest.raises(InputError, match=r"quant_conv\.bias"):
        autoencoder_settings(models).load()


def test_configurations_that_cannot_be_used(models):
    (models / "autoencoder" / "config.json").write_text('{"_class_name": "UNet2DModel"}')
    with pytest.raises(InputError, match=r"unsupported type of autoencoder[\s\S]*UNet2DModel"):
        autoencoder_settings(models)
    (models / "autoencoder" / "config.json").unlink()
    with pytest.raises(MissingFileError, match=r"has no config\.json"):
        autoencoder_settings(models)
    (models / "clip" / "config.json").write_text("{")
    with pytest.raises(InputError, match="cannot read the configuration"):
        clip_settings(models)
    (models / "clip" / "config.json").unlink()
    with pytest.raises(InputError, match="does not specify its CLIP network"):
        clip_settings(models)


def test_a_network_of_other_letters_is_no_network(models):
    shutil.copy(models / "clip" / "model.safetensors", models / "clip" / "older.safetensors")
    with pytest.raises(InputError, match="several weight files"):
        clip_settings(models).load()
    with pytest.raises(MissingFileError, match="text-diffusion"):
        source("text-diffusion", models)


def test_a_text_encoder_without_its_tokenizer_is_refused(stable_diffusion, tmp_path):
    folder, _ = stable_diffusion
    shutil.copytree(folder / "text_encoder" / "text_encoder", tmp_path / "text_encoder")
    with pytest.raises(MissingFileError, match="no tokenizer"):
        text_encoder(tmp_path)
