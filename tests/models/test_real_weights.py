"""Pretrained weights of others: TAEF2, and the example that makes targets of it and of a VQ-VAE of CIFAR-10."""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import skimage.data
import torch
from diffusers.models.autoencoders.autoencoder_tiny import AutoencoderTiny
from sklearn.datasets import load_sample_images

import neurorecon as nr
from neurorecon.features.images import Preprocessing
from neurorecon.figures import read_provenance
from neurorecon.registry import FEATURES

ROOT = Path(__file__).resolve().parents[2]

#: Kept beside the checkout and never committed.
WEIGHTS = ROOT.parent / "shared" / "weights"

SMALL = {
    "encoder_block_out_channels": (8, 8),
    "decoder_block_out_channels": (8, 8),
    "num_encoder_blocks": (1, 2),
    "num_decoder_blocks": (2, 1),
    "latent_channels": 4,
}


@pytest.fixture(scope="module")
def weights():
    if not (WEIGHTS / "taef2").is_dir() or not (WEIGHTS / "vqvae_cifar10").is_dir():
        pytest.skip(f"pretrained weights are not beside the checkout: no taef2 and vqvae_cifar10 in {WEIGHTS}")
    return WEIGHTS


@pytest.fixture(scope="module")
def taef2(tmp_path_factory):
    """The network as the example defines it, before it looks for weights."""
    source = ROOT / "analyses" / "plot_02_own_targets.py"
    found, arguments = {"__name__": "example"}, sys.argv
    sys.argv = [source.name, str(tmp_path_factory.mktemp("no_weights"))]
    try:
        with pytest.raises(SystemExit):
            exec(compile(source.read_text(encoding="utf-8"), str(source), "exec"), found)
    finally:
        sys.argv = arguments
    return found["AutoencoderTinyF2"]


@pytest.fixture(scope="module")
def example(weights, tmp_path_factory):
    """What the example leaves behind: its variables and its folder."""
    out = tmp_path_factory.mktemp("own_targets")
    arguments, known = sys.argv, dict(FEATURES._added)
    sys.argv = ["plot_02_own_targets.py", str(weights), str(out)]
    try:
        yield runpy.run_path(str(ROOT / "analyses" / "plot_02_own_targets.py")) | {"OUT": out}
    finally:
        sys.argv = arguments
        FEATURES._added.clear()
        FEATURES._added.update(known)


def psnr(seen: np.ndarray, reconstructed: np.ndarray) -> float:
    return float(-10 * np.log10(np.square(seen - reconstructed).mean()))


def test_taef2_holds_pooled_blocks_at_the_smallest_size_alone(taef2) -> None:
    network = taef2(**SMALL)
    pooled = sorted({name.partition(".pool.")[0] for name in network.state_dict() if ".pool." in name})
    assert pooled == ["decoder.layers.2", "decoder.layers.3", "encoder.layers.3", "encoder.layers.4"]
    images = torch.zeros(1, 3, 16, 16)
    assert network.encode(images).latents.shape == (1, 4, 8, 8)
    assert network(images).sample.shape == (1, 3, 16, 16)


def test_taef2_without_its_branches_is_the_network_of_diffusers(taef2) -> None:
    pooled, plain = taef2(**SMALL), AutoencoderTiny(**SMALL)
    plain.load_state_dict({name: value for name, value in pooled.state_dict().items() if ".pool." not in name})
    images = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.no_grad():
        assert not torch.allclose(pooled.encode(images).latents, plain.encode(images).latents, atol=1e-3)
        for name, value in pooled.named_parameters():
            if ".pool.3." in name:
                value.zero_()
        torch.testing.assert_close(pooled.encode(images).latents, plain.encode(images).latents)
        latents = pooled.encode(images).latents
        torch.testing.assert_close(pooled.decode(latents).sample, plain.decode(latents).sample)


def test_taef2_is_saved_and_read_under_its_own_name(taef2, tmp_path) -> None:
    network = taef2(**SMALL)
    network.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["_class_name"] == "AutoencoderTinyF2"
    again, report = taef2.from_pretrained(tmp_path, local_files_only=True, output_loading_info=True)
    assert not any(report.values())
    for name, value in network.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], value)


def test_taef2_keeps_photographs(taef2, weights) -> None:
    network, report = taef2.from_pretrained(
        weights / "taef2", torch_dtype=torch.float32, local_files_only=True, output_loading_info=True
    )
    assert not any(report.values())
    photographs = [*load_sample_images().images, skimage.data.astronaut(), skimage.data.rocket()]
    preprocessing = Preprocessing(256, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    for image in preprocessing.prepare(photographs):
        seen = preprocessing.normalize(image[None])
        with torch.inference_mode():
            reconstructed = network.decode(network.encode(seen).latents).sample.clamp(-1, 1)
        assert psnr(seen.numpy() / 2, reconstructed.numpy() / 2) >= 24


def test_photographs_come_back_from_both_targets(example) -> None:
    table = example["psnr"]
    assert len(table) == 7
    assert table["taef2"].min() >= 24
    assert table.loc["all", "vqvae_cifar10"] >= 22


def test_the_vqvae_has_512_codes_of_which_photographs_take_many(example) -> None:
    extractor = example["CodesOfCifar10"]()
    vectors = extractor.transform(list(example["photographs"].values()))
    assert vectors.shape == (6, 64, 8, 8)
    codebook = extractor.network.codebook.numpy()
    assert codebook.shape == (512, 64)
    flat = np.moveaxis(vectors, 1, -1).reshape(-1, 64)
    distances = np.abs(flat[:, None] - codebook).max(axis=2)
    assert distances.min(axis=1).max() == 0  # each is a code
    assert len(set(distances.argmin(axis=1))) > 50


def test_both_are_targets_of_the_store_with_where_they_came_from(example) -> None:
    store = nr.open_store(example["OUT"] / "own-targets.icechunk")
    for name, shape in (("taef2", (8, 32, 32, 32)), ("vqvae_cifar10", (8, 64, 8, 8))):
        target = store.targets(name)
        assert target.shape == shape
        assert target.dims == ("stimulus", "channel", "y", "x")
        assert len(target.attrs["weights_sha256"]) == 64
        assert target.attrs["licence"] == "MIT"
        ids = store.stimuli["id"].tolist()[:2]
        fresh = FEATURES.load(name)().transform(store.images(ids).values)
        np.testing.assert_allclose(target.sel(stimulus=ids).values, fresh, atol=1e-4)
    record = read_provenance(example["OUT"] / "round_trip.png")
    assert record["digests"]["store"] == store.digest
    assert record["extra"]["weights"]["taef2"] == store.targets("taef2").attrs["weights_sha256"]


def test_the_example_says_why_it_is_skipped(tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.setattr(sys, "argv", ["plot_02_own_targets.py", str(tmp_path)])
    with pytest.raises(SystemExit) as stopped:
        runpy.run_path(str(ROOT / "analyses" / "plot_02_own_targets.py"))
    assert not stopped.value.code
    assert "no folders taef2 and vqvae_cifar10" in capsys.readouterr().out
