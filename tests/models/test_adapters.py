"""Adapters of diffusion networks: their files, their base, and what merging does, against peft itself."""

from __future__ import annotations

import json
import shutil

import pytest
import torch

from neurorecon.errors import InputError, MissingFileError
from neurorecon.hub import fingerprint
from neurorecon.io import tensors
from neurorecon.models.adapters import read_adapter, write_adapter
from neurorecon.models.dual_guided import DualGuidedUNet, read_unet
from neurorecon.models.load import WeightsSource

#: Convolutions of 3 x 3 and 1 x 1, and linear layers.
PATTERN = r".*\.(attn[12]\.(to_[qkv]|to_out\.0)|proj_in|conv1)"
BASE = WeightsSource("text-diffusion", None, "tiny", "a" * 64, "MIT", "")


def adapted(unet, folder, *, rank=3, alpha=6.0):
    """Put random low-rank layers into a UNet with peft, write them, and return the UNet."""
    from peft import LoraConfig, inject_adapter_in_model

    config = {"r": rank, "lora_alpha": alpha, "target_modules": PATTERN, "lora_dropout": 0.0, "bias": "none"}
    inject_adapter_in_model(LoraConfig(**config), unet)
    generator = torch.Generator().manual_seed(1)
    state = {}
    for name, value in unet.named_parameters():
        if ".lora_" in name:
            value.data = 0.2 * torch.randn(value.shape, generator=generator)
            state[name.replace(".default.", ".")] = value.data
    write_adapter(folder, state, {"peft_type": "LORA", **config}, BASE, [BASE.sha256], {"stimuli": 4})
    return unet


def given(width=16):
    generator = torch.Generator().manual_seed(0)
    shapes = (2, 4, 8, 8), (2, 5, width)
    return [torch.randn(shape, generator=generator) for shape in shapes]


@pytest.mark.parametrize("version", ["1.x", "2.x"])
def test_merging_computes_what_the_layers_of_peft_compute(pipeline_folder, tmp_path, version):
    unet, merged = read_unet(pipeline_folder(version) / "unet"), read_unet(pipeline_folder(version) / "unet")
    latents, text = given()
    with torch.no_grad():
        base = unet(latents, 500, text).sample
        expected = adapted(unet, tmp_path)(latents, 500, text).sample
        read_adapter(tmp_path).merge(merged)
        found = merged(latents, 500, text).sample
    assert (expected - base).abs().max() > 0.1
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_merging_into_a_dual_guided_network(pipeline_folder, tmp_path):
    duals = [DualGuidedUNet.from_text_unet(read_unet(pipeline_folder("1.x") / "unet")) for _ in range(2)]
    latents, text = given()
    image = given()[1].flip(0)
    with torch.no_grad():
        adapted(duals[0].unet, tmp_path)
        read_adapter(tmp_path).merge(duals[1].unet)
        for ratio in (0.0, 0.4, 1.0):
            expected = duals[0](latents, 500, text, image, ratio)
            torch.testing.assert_close(duals[1](latents, 500, text, image, ratio), expected, rtol=1e-4, atol=1e-5)
    names = tensors.load(tmp_path / "adapter_model.safetensors")[0]
    assert any(".attentions.0.image." in name for name in names)
    assert any(".attentions.0.text." in name for name in names)


def test_peft_reads_the_folder(pipeline_folder, tmp_path):
    from peft import PeftModel

    latents, text = given()
    with torch.no_grad():
        expected = adapted(read_unet(pipeline_folder("1.x") / "unet"), tmp_path)(latents, 500, text).sample
        theirs = PeftModel.from_pretrained(read_unet(pipeline_folder("1.x") / "unet"), tmp_path)
        torch.testing.assert_close(theirs(latents, 500, text).sample, expected)


def test_weights_that_are_shared_do_not_change(pipeline_folder, tmp_path):
    unet = read_unet(pipeline_folder("1.x") / "unet")
    adapted(read_unet(pipeline_folder("1.x") / "unet"), tmp_path)
    shared = DualGuidedUNet.from_text_unet(unet, share=True)
    before = unet.state_dict()["down_blocks.0.resnets.0.conv1.weight"].clone()
    name = tmp_path / "adapter_model.safetensors"
    state, about = tensors.load(name, framework="torch")
    kept = {key.removeprefix("base_model.model."): value for key, value in state.items() if ".resnets." in key}
    write_adapter(tmp_path, kept, {"r": about["rank"], "lora_alpha": about["alpha"]}, BASE, [BASE.sha256], {})
    read_adapter(tmp_path).merge(shared.unet)
    assert torch.equal(unet.state_dict()["down_blocks.0.resnets.0.conv1.weight"], before)
    assert not torch.equal(shared.unet.state_dict()["down_blocks.0.resnets.0.conv1.weight"], before)


@pytest.fixture
def folder(pipeline_folder, tmp_path):
    adapted(read_unet(pipeline_folder("1.x") / "unet"), tmp_path / "lora")
    return tmp_path / "lora"


def test_its_sha256_is_that_of_one_file_which_says_all(folder):
    found = read_adapter(folder)
    assert found.source.sha256 == fingerprint(folder / "adapter_model.safetensors")
    assert (found.network, found.base_sha256, found.rank, found.alpha) == ("text-diffusion", ("a" * 64,), 3, 6.0)
    assert found.source.record()["weights_sha256"] == found.source.sha256
    assert found.source.record()["licence"] == "MIT"
    about = tensors.read_description(folder / "adapter_model.safetensors")
    assert about["trained_on"] == {"stimuli": 4}
    assert json.loads((folder / "adapter_config.json").read_text())["r"] == 3


def test_the_same_adapter_has_the_same_sha256(folder, tmp_path):
    state, about = tensors.load(folder / "adapter_model.safetensors", framework="torch")
    state = {name.removeprefix("base_model.model."): value for name, value in state.items()}
    for number in range(8):
        config = {"r": about["rank"], "lora_alpha": about["alpha"]}
        write_adapter(tmp_path / str(number), state, config, BASE, [BASE.sha256], about["trained_on"])
        assert read_adapter(tmp_path / str(number)).source.sha256 == read_adapter(folder).source.sha256


def test_other_base_weights_are_refused(folder):
    found = read_adapter(folder)
    found.require_base(BASE, [BASE.sha256])
    for role, sha256 in (("text-diffusion", ["b" * 64]), ("dual-diffusion", ["a" * 64]), ("text-diffusion", [])):
        other = WeightsSource(role, None, "other", "", "MIT", "")
        with pytest.raises(InputError, match=r"trained on other weights[\s\S]*tiny"):
            found.require_base(other, sha256)


def test_a_network_without_its_layers_is_refused(folder):
    with pytest.raises(InputError, match="does not fit"):
        read_adapter(folder).merge(torch.nn.Linear(2, 2))


def test_no_adapter_several_and_damaged_ones(folder, tmp_path):
    with pytest.raises(MissingFileError, match="no adapter here"):
        read_adapter(tmp_path / "nothing")
    results = tmp_path / "results"
    shutil.copytree(folder, results / "text-diffusion_adapter")
    assert read_adapter(results).source.sha256 == read_adapter(folder).source.sha256
    shutil.copytree(folder, results / "dual-diffusion_adapter")
    with pytest.raises(InputError, match="several adapters"):
        read_adapter(results)
    file = folder / "adapter_model.safetensors"
    whole = file.read_bytes()
    file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(InputError, match="damaged"):
        read_adapter(folder).merge(torch.nn.Linear(2, 2))
    file.write_bytes(whole[:-8])
    with pytest.raises(InputError, match="damaged"):
        read_adapter(folder)
    state, about = tensors.load(results / "text-diffusion_adapter" / file.name)
    for wrong, said in (({"rank": 3}, "which weights it belongs to"), ({**about, "format": 99}, "newer version")):
        tensors.save(file, state, wrong)
        with pytest.raises(InputError, match=said):
            read_adapter(folder)
