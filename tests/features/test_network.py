"""What all targets from networks share: the contract, precision, devices, what is stored, what is missing."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

import neurorecon as nr
from neurorecon.errors import InputError, MissingFileError, StoreError, UnknownNameError
from neurorecon.features.base import images_at_a_time
from neurorecon.features.extract import load_extractor
from neurorecon.models.load import noise_like
from neurorecon.testing import Examples, extractor_checks

#: Targets and the settings that make another target of them.
NETWORKS = {
    "clip_vision": {"precision": "bfloat16"},
    "clip_text": {"precision": "bfloat16"},
    "clip_text_sd": {"precision": "bfloat16"},
    "clip_text_15": {"precision": "bfloat16"},
    "clip_text_20": {"precision": "bfloat16"},
    "clip_image": {"precision": "bfloat16"},
    "clip_image_mean": {"precision": "bfloat16"},
    "clip_layers": {"part": "mlp"},
    "vqvae": {"seed": 1},
    "vqvae_frames": {"size": 16},
    "vdvae": {"groups": 2},
}
EXAMPLES = Examples()
SMALL = Examples(EXAMPLES.images[:3], EXAMPLES.videos[:3, :3], EXAMPLES.captions[:3], EXAMPLES.categories[:3])


@pytest.fixture(scope="module")
def extractors(random_models):
    """Loaded once; checks that need a fresh one make a copy."""
    return {name: load_extractor(name, models=random_models) for name in NETWORKS}


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("check", extractor_checks(), ids=str)
def test_contract(extractors, random_models, name, check):
    other = load_extractor(name, models=random_models, **NETWORKS[name])
    check(extractors[name], others=[other], examples=SMALL)


@pytest.mark.parametrize(("precision", "limit"), [("bfloat16", 0.05), ("float16", 0.01)])
@pytest.mark.parametrize("name", ["clip_vision", "vqvae", "vdvae"])
def test_half_precision_is_near(extractors, random_models, name, precision, limit):
    exact = extractors[name].transform(SMALL.images)
    half = load_extractor(name, models=random_models, precision=precision)
    found = half.transform(SMALL.images)
    assert found.dtype == np.float32
    error = np.linalg.norm(found - exact) / np.linalg.norm(exact)
    assert 1e-6 < error < limit
    assert half.made_by()["precision"] == precision


def test_auto_precision_is_decided_before_it_is_stored(random_models):
    made = load_extractor("clip_image", models=random_models, precision="auto", device="cpu").made_by()
    assert made["precision"] == "float32"


def test_what_is_stored(store, random_models):
    after = nr.extract(store, ["clip_vision", "vdvae", "vqvae_frames"], models=random_models, progress=False)
    vision, latents, frames = (after.targets(name) for name in ("clip_vision", "vdvae", "vqvae_frames"))
    assert vision.dims == ("stimulus", "token", "channel")
    assert vision.shape == (30, 17, 16)
    for key in ("model", "weights", "weights_sha256", "licence", "layer", "preprocessing", "precision", "dtype"):
        assert vision.attrs[key]
    assert latents.attrs["group_boundaries"][-1] == latents.shape[1]
    assert frames.dims == ("stimulus", "frame", "channel", "y", "x")
    assert frames["stimulus"].values.tolist() == after.stimuli["id"][after.stimuli["kind"] == "video"].tolist()
    middle = after.images(["video0002"]).values
    np.testing.assert_allclose(
        vision.sel(stimulus="video0002"),
        load_extractor("clip_vision", models=random_models).transform(middle)[0],
        atol=1e-5,
    )
    with pytest.raises(StoreError, match=r"made with other settings[\s\S]*groups = 4[\s\S]*groups = 2"):
        nr.extract(after, ["vdvae"], models=random_models, groups=2, progress=False)
    with pytest.raises(StoreError, match="precision = 'float32'"):
        nr.extract(after, ["clip_vision"], models=random_models, precision="bfloat16", progress=False)


def test_other_weights_are_another_target_whatever_their_folder_is_called(store, random_models, tmp_path):
    first = nr.extract(store, ["vqvae"], models=random_models, progress=False)
    shutil.copytree(random_models / "autoencoder", tmp_path / "same" / "autoencoder")
    assert nr.extract(first, ["vqvae"], models=tmp_path / "same", progress=False) is first
    load_extractor("vqvae", models=tmp_path / "same").load("cpu").save_pretrained(tmp_path / "other" / "autoencoder")
    import torch
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

    network = AutoencoderKL.from_pretrained(tmp_path / "other" / "autoencoder")
    torch.nn.init.normal_(network.encoder.conv_in.weight)
    network.save_pretrained(tmp_path / "other" / "autoencoder")
    with pytest.raises(StoreError, match="weights_sha256"):
        nr.extract(first, ["vqvae"], models=tmp_path / "other", progress=False)


def test_missing_weights_leave_the_store_as_it_was(store, random_models, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    (tmp_path / "half").mkdir()
    shutil.copytree(random_models / "vdvae", tmp_path / "half" / "vdvae")
    for models in (tmp_path / "half", tmp_path / "nowhere"):
        with pytest.raises(MissingFileError):
            nr.extract(store, ["vdvae", "clip_vision"], models=models, progress=False)
    assert nr.open_store(store.location).snapshot == store.snapshot


def test_settings_that_do_not_exist(random_models):
    with pytest.raises(UnknownNameError, match="unknown precision 'half'"):
        load_extractor("clip_vision", precision="half")
    with pytest.raises(UnknownNameError, match="unknown part of a block"):
        load_extractor("clip_layers", part="attention")
    with pytest.raises(InputError, match="cannot run on this device"):
        load_extractor("clip_image", models=random_models, device="cuda:99").transform(SMALL.images)


def test_stimuli_without_captions_have_no_target_of_captions(store, random_models, monkeypatch):
    table = store.stimuli.copy()
    table["captions"] = [captions if number % 3 else [] for number, captions in enumerate(table["captions"])]
    store.__dict__["stimuli"] = table
    after = nr.extract(store, ["clip_text"], models=random_models, progress=False)
    assert after.target_stimuli("clip_text").tolist() == [name for n, name in enumerate(table["id"]) if n % 3]


def test_sizes_of_batches_do_not_depend_on_the_device():
    assert [images_at_a_time(size) for size in (32, 64, 224, 512, 2048)] == [64, 64, 32, 8, 4]
    assert images_at_a_time(64, 8) == 8
    assert images_at_a_time(512, 16) == 1


def test_noise_is_standard_normal_and_a_stimulus_keeps_its_own():
    noise = noise_like((20_000,), 0, "image0001")
    assert abs(noise.mean()) < 0.03
    assert abs(noise.std() - 1) < 0.03
    np.testing.assert_array_equal(noise, noise_like((20_000,), 0, "image0001"))
    for seed, stimulus in ((1, "image0001"), (0, "image0002")):
        assert abs(np.corrcoef(noise, noise_like((20_000,), seed, stimulus))[0, 1]) < 0.03
