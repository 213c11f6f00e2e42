"""Weights are found where the documentation says, in its order."""

import shutil
from pathlib import Path

import pytest

from neurorecon.errors import MissingFileError, UnknownNameError
from neurorecon.models import zoo


def test_weights_that_are_nowhere_are_answered_with_the_command():
    for name in ("clip-vit-l14", "vdvae-imagenet64"):
        with pytest.raises(MissingFileError, match=f"neurorecon weights pull {name} "):
            zoo.locate(name)
        assert zoo.search(name) is None
    with pytest.raises(MissingFileError, match="training text_diffusion"):
        zoo.locate("bundled-text-diffusion")
    with pytest.raises(MissingFileError, match="pull clip-vit-l14 --folder here"):
        zoo.locate("clip-vit-l14", folder="here")


def test_the_message_names_the_files_that_are_missing(tmp_path, put):
    weights = zoo.find("sd-v1-4-autoencoder")
    put(tmp_path / weights.name, weights)
    (tmp_path / weights.name / "config.json").unlink()
    with pytest.raises(MissingFileError, match=r"1 of 2 files; missing: vae/config\.json\n"):
        zoo.locate(weights.name, folder=tmp_path)


@pytest.mark.parametrize(
    "within",
    [
        "sd-v1-4-autoencoder",
        "sd-v1-4-autoencoder/vae",
        "CompVis/stable-diffusion-v1-4/vae",
        "stable-diffusion-v1-4/vae",
        "models--CompVis--stable-diffusion-v1-4/snapshots/abc/vae",
    ],
)
def test_a_local_folder_may_be_laid_out_in_several_ways(tmp_path, monkeypatch, within, put):
    place = put(tmp_path / "mine" / within, zoo.find("sd-v1-4-autoencoder"))
    assert zoo.locate("sd-v1-4-autoencoder", folder=tmp_path / "mine") == place
    with pytest.raises(MissingFileError):
        zoo.locate("sd-v1-4-autoencoder")
    monkeypatch.setenv("NEURORECON_WEIGHTS", str(tmp_path / "mine"))
    assert zoo.locate("sd-v1-4-autoencoder") == place


def test_the_folder_of_the_weights_itself_may_be_named(tmp_path, put):
    for within in ("sd-v1-4-autoencoder", "stable-diffusion-v1-4/vae", "vdvae-imagenet64"):
        name = "vdvae-imagenet64" if "vdvae" in within else "sd-v1-4-autoencoder"
        place = put(tmp_path / within, zoo.find(name))
        assert zoo.locate(name, folder=tmp_path / within.partition("/")[0]) == place


def test_files_of_other_networks_with_the_same_names_are_not_taken(tmp_path, put, monkeypatch):
    # All of diffusers' networks are a config.json and a diffusion_pytorch_model.safetensors.
    put(tmp_path / "mine", zoo.find("sd-v1-4-autoencoder"))
    put(tmp_path / "mine" / "autoencoder", zoo.find("sd-v1-4-autoencoder"))
    monkeypatch.setenv("NEURORECON_WEIGHTS", str(tmp_path / "mine"))
    for name in ("sd-v1-4-autoencoder", "bundled-autoencoder", "bundled-text-diffusion"):
        with pytest.raises(MissingFileError):
            zoo.locate(name)


def test_the_cache_of_the_hub_is_found_at_any_commit(tmp_path, cache):
    hub = tmp_path / "home" / "hub"
    files = {"vae/config.json": b"{}", "vae/diffusion_pytorch_model.safetensors": b"x", "unet/config.json": b"{}"}
    old = cache(hub, "CompVis/stable-diffusion-v1-4", "a" * 40, files, main=False)
    assert zoo.locate("sd-v1-4-autoencoder") == old / "vae"
    new = cache(hub, "CompVis/stable-diffusion-v1-4", "b" * 40, files)
    assert zoo.locate("sd-v1-4-autoencoder") == new / "vae"
    with pytest.raises(MissingFileError, match=r"1 of 3 files; missing: unet/diffusion_\w+\.safetensors, sched"):
        zoo.locate("sd-v1-4-unet")


def test_our_reading_of_the_cache_agrees_with_the_hubs_own_library(tmp_path, cache):
    from huggingface_hub import snapshot_download, try_to_load_from_cache

    weights = zoo.find("clip-vit-b32")
    snapshot = cache(tmp_path / "home" / "hub", weights.repository, "c" * 40, {weights.files[0].path: b"x"})
    hub = tmp_path / "home" / "hub"
    theirs = snapshot_download(weights.repository, cache_dir=hub, local_files_only=True, revision="c" * 40)
    assert Path(theirs) == snapshot == zoo.locate("clip-vit-b32")
    file = try_to_load_from_cache(weights.repository, weights.files[0].path, cache_dir=hub)
    assert Path(file) == zoo.locate("clip-vit-b32") / weights.files[0].path


def test_the_folder_comes_before_the_environment_and_both_before_the_cache(tmp_path, monkeypatch, put, cache):
    weights = zoo.find("clip-vit-b32")
    cached = cache(tmp_path / "home" / "hub", weights.repository, "c" * 40, {weights.files[0].path: b"x"})
    assert zoo.locate(weights.name) == cached
    named = put(tmp_path / "named" / weights.name, weights)
    monkeypatch.setenv("NEURORECON_WEIGHTS", str(tmp_path / "named"))
    assert zoo.locate(weights.name) == named
    given = put(tmp_path / "given" / weights.name, weights)
    assert zoo.locate(weights.name, folder=tmp_path / "given") == given
    shutil.rmtree(given)
    assert zoo.locate(weights.name, folder=tmp_path / "given") == named


def test_bundled_weights_lie_in_the_package_unless_others_are_named(tmp_path, monkeypatch, put):
    weights = zoo.find("bundled-text-diffusion")
    place = put(tmp_path / "bundled" / "text_diffusion", weights)
    assert zoo.locate("bundled-text-diffusion") == place == zoo.bundled_folder("bundled-text-diffusion")
    mine = put(tmp_path / "mine" / "bundled-text-diffusion", weights)
    monkeypatch.setenv("NEURORECON_WEIGHTS", str(tmp_path / "mine"))
    assert zoo.locate("bundled-text-diffusion") == mine


def test_roles_are_found_among_bundled_and_published_weights_and_in_a_folder_of_ones_own(tmp_path, put):
    clip = zoo.find("bundled-clip")
    place = put(tmp_path / "bundled" / "clip", clip)
    assert zoo.locate_role("clip") == (clip, place)
    assert zoo.locate_role("text-encoder", "bundled") == (clip, place)
    with pytest.raises(MissingFileError, match="pull clip-vit-b32"):
        zoo.locate_role("clip-b32", "published")

    mine = tmp_path / "mine"
    published = put(mine / "clip-vit-b32", zoo.find("clip-vit-b32"))
    assert zoo.locate_role("clip-b32", mine) == (zoo.find("clip-vit-b32"), published)
    own = mine / "dual_diffusion"
    own.mkdir()
    with pytest.raises(MissingFileError, match="dual_diffusion"):
        zoo.locate_role("dual-diffusion", mine)
    (own / "anything.safetensors").write_bytes(b"x")
    assert zoo.locate_role("dual-diffusion", str(mine)) == (None, own)
    with pytest.raises(MissingFileError, match="which holds: clip-vit-b32, dual_diffusion\n"):
        zoo.locate_role("vdvae", mine)
    with pytest.raises(MissingFileError, match="bundled, published, or an existing folder"):
        zoo.locate_role("vdvae", tmp_path / "nowhere")
    with pytest.raises(UnknownNameError, match="unknown role"):
        zoo.locate_role("vdvea", mine)


def test_a_part_is_a_folder_of_its_own_or_the_folder_itself(tmp_path):
    (tmp_path / "unet").mkdir()
    assert zoo.part(tmp_path, "unet") == tmp_path / "unet"
    assert zoo.part(tmp_path, "vae") == tmp_path
