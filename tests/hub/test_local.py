"""Weights are found where the documentation says, in its order; damaged files are told from whole ones."""

import hashlib
import json
import os
import shutil
from pathlib import Path

import pytest
from safetensors.torch import save_file

from neurorecon import hub
from neurorecon.errors import InputError, MissingFileError, UnknownNameError
from neurorecon.hub import catalog

CONTENT = bytes(range(256)) * 40
SHA256 = hashlib.sha256(CONTENT).hexdigest()


def test_weights_that_are_nowhere_are_answered_with_the_command():
    for name in ("clip-vit-l14", "vdvae-imagenet64"):
        with pytest.raises(MissingFileError, match=f"neurorecon weights pull {name} "):
            hub.locate(name)
        assert hub.search(name) is None
    with pytest.raises(MissingFileError, match="training text_diffusion"):
        hub.locate("bundled-text-diffusion")
    with pytest.raises(MissingFileError, match="pull clip-vit-l14 --folder here"):
        hub.locate("clip-vit-l14", folder="here")


def test_the_message_names_the_files_that_are_missing(tmp_path, put):
    weights = hub.find("sd-v1-4-autoencoder")
    put(tmp_path / weights.name, weights)
    (tmp_path / weights.name / "config.json").unlink()
    with pytest.raises(MissingFileError, match=r"1 of 2 files; missing: vae/config\.json\n"):
        hub.locate(weights.name, folder=tmp_path)


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
    place = put(tmp_path / "mine" / within, hub.find("sd-v1-4-autoencoder"))
    assert hub.locate("sd-v1-4-autoencoder", folder=tmp_path / "mine") == place
    with pytest.raises(MissingFileError):
        hub.locate("sd-v1-4-autoencoder")
    monkeypatch.setenv("NEURORECON_WEIGHTS", str(tmp_path / "mine"))
    assert hub.locate("sd-v1-4-autoencoder") == place


def test_the_folder_of_the_weights_itself_may_be_named(tmp_path, put):
    for within in ("sd-v1-4-autoencoder", "stable-diffusion-v1-4/vae", "vdvae-imagenet64"):
        name = "vdvae-imagenet64" if "vdvae" in within else "sd-v1-4-autoencoder"
        place = put(tmp_path / within, hub.find(name))
        assert hub.locate(name, folder=tmp_path / within.partition("/")[0]) == place


def test_files_of_other_networks_with_the_same_names_are_not_taken(tmp_path, put, monkeypatch):
    # All of diffusers' networks are a config.json and a diffusion_pytorch_model.safetensors.
    put(tmp_path / "mine", hub.find("sd-v1-4-autoencoder"))
    put(tmp_path / "mine" / "autoencoder", hub.find("sd-v1-4-autoencoder"))
    monkeypatch.setenv("NEURORECON_WEIGHTS", str(tmp_path / "mine"))
    for name in ("sd-v1-4-autoencoder", "bundled-autoencoder", "bundled-text-diffusion"):
        with pytest.raises(MissingFileError):
            hub.locate(name)


def test_the_cache_of_the_hub_is_found_at_any_commit(tmp_path, cache):
    cached = tmp_path / "home" / "hub"
    files = {"vae/config.json": b"{}", "vae/diffusion_pytorch_model.safetensors": b"x", "unet/config.json": b"{}"}
    old = cache(cached, "CompVis/stable-diffusion-v1-4", "a" * 40, files, main=False)
    assert hub.locate("sd-v1-4-autoencoder") == old / "vae"
    new = cache(cached, "CompVis/stable-diffusion-v1-4", "b" * 40, files)
    assert hub.locate("sd-v1-4-autoencoder") == new / "vae"
    with pytest.raises(MissingFileError, match=r"1 of 3 files; missing: unet/diffusion_\w+\.safetensors, sched"):
        hub.locate("sd-v1-4-unet")


def test_our_reading_of_the_cache_agrees_with_the_hubs_own_library(tmp_path, cache):
    from huggingface_hub import snapshot_download, try_to_load_from_cache

    weights = hub.find("clip-vit-b32")
    snapshot = cache(tmp_path / "home" / "hub", weights.repository, "c" * 40, {weights.files[0].path: b"x"})
    cached = tmp_path / "home" / "hub"
    theirs = snapshot_download(weights.repository, cache_dir=cached, local_files_only=True, revision="c" * 40)
    assert Path(theirs) == snapshot == hub.locate("clip-vit-b32")
    file = try_to_load_from_cache(weights.repository, weights.files[0].path, cache_dir=cached)
    assert Path(file) == hub.locate("clip-vit-b32") / weights.files[0].path


def test_the_folder_comes_before_the_environment_and_both_before_the_cache(tmp_path, monkeypatch, put, cache):
    weights = hub.find("clip-vit-b32")
    cached = cache(tmp_path / "home" / "hub", weights.repository, "c" * 40, {weights.files[0].path: b"x"})
    assert hub.locate(weights.name) == cached
    named = put(tmp_path / "named" / weights.name, weights)
    monkeypatch.setenv("NEURORECON_WEIGHTS", str(tmp_path / "named"))
    assert hub.locate(weights.name) == named
    given = put(tmp_path / "given" / weights.name, weights)
    assert hub.locate(weights.name, folder=tmp_path / "given") == given
    shutil.rmtree(given)
    assert hub.locate(weights.name, folder=tmp_path / "given") == named


def test_bundled_weights_lie_in_the_package_unless_others_are_named(tmp_path, monkeypatch, put):
    weights = hub.find("bundled-text-diffusion")
    place = put(tmp_path / "bundled" / "text_diffusion", weights)
    assert hub.locate("bundled-text-diffusion") == place
    mine = put(tmp_path / "mine" / "bundled-text-diffusion", weights)
    monkeypatch.setenv("NEURORECON_WEIGHTS", str(tmp_path / "mine"))
    assert hub.locate("bundled-text-diffusion") == mine


def test_roles_are_found_among_bundled_and_published_weights_and_in_a_folder_of_ones_own(tmp_path, put):
    clip = hub.find("bundled-clip")
    place = put(tmp_path / "bundled" / "clip", clip)
    assert hub.locate_role("clip") == (clip, place)
    assert hub.locate_role("text-encoder", "bundled") == (clip, place)
    with pytest.raises(MissingFileError, match="pull clip-vit-b32"):
        hub.locate_role("clip-b32", "published")

    mine = tmp_path / "mine"
    published = put(mine / "clip-vit-b32", hub.find("clip-vit-b32"))
    assert hub.locate_role("clip-b32", mine) == (hub.find("clip-vit-b32"), published)
    own = mine / "dual_diffusion"
    own.mkdir()
    with pytest.raises(MissingFileError, match="dual_diffusion"):
        hub.locate_role("dual-diffusion", mine)
    (own / "anything.safetensors").write_bytes(b"x")
    assert hub.locate_role("dual-diffusion", str(mine)) == (None, own)
    with pytest.raises(MissingFileError, match="which contains: clip-vit-b32, dual_diffusion\n"):
        hub.locate_role("vdvae", mine)
    with pytest.raises(MissingFileError, match="bundled, published, or an existing folder"):
        hub.locate_role("vdvae", tmp_path / "nowhere")
    with pytest.raises(UnknownNameError, match="unknown role"):
        hub.locate_role("vdvea", mine)


def test_a_part_is_a_folder_of_its_own_or_the_folder_itself(tmp_path):
    (tmp_path / "unet").mkdir()
    assert hub.part(tmp_path, "unet") == tmp_path / "unet"
    assert hub.part(tmp_path, "vae") == tmp_path


def test_the_fingerprint_of_one_file_is_its_sha256_and_follows_the_content(tmp_path, tensors):
    file = tmp_path / "model.safetensors"
    file.write_bytes(CONTENT)
    (tmp_path / "README.md").write_text("a card")
    assert hub.fingerprint(file) == hub.fingerprint(tmp_path) == SHA256
    file.write_bytes(CONTENT[::-1])
    os.utime(file, ns=(0, 10**18))
    assert hub.fingerprint(tmp_path) == hashlib.sha256(CONTENT[::-1]).hexdigest()


def test_the_fingerprint_of_several_files_depends_on_names_and_contents_only(tmp_path, add):
    for folder, order in (("one", "ab"), ("two", "ba")):
        (tmp_path / folder).mkdir()
        for name in order:
            (tmp_path / folder / f"{name}.bin").write_text(name)
    both = hub.fingerprint(tmp_path / "one")
    assert both == hub.fingerprint(tmp_path / "two")
    only = add(files=(hub.File("a.bin"), hub.File("config.json")))
    assert hub.fingerprint(tmp_path / "one", only) == hashlib.sha256(b"a").hexdigest()
    (tmp_path / "two" / "b.bin").rename(tmp_path / "two" / "c.bin")
    assert hub.fingerprint(tmp_path / "two") != both
    with pytest.raises(MissingFileError, match="no weights found"):
        hub.fingerprint(tmp_path / "empty")


def test_files_are_good_corrupt_unknown_or_absent(tmp_path, add, tensors):
    weights = add(
        files=(
            hub.File("good.bin", SHA256, len(CONTENT)),
            hub.File("short.bin", SHA256, len(CONTENT)),
            hub.File("wrong.bin", SHA256),
            hub.File("unknown.bin"),
            hub.File("cut.safetensors"),
            hub.File("whole.safetensors"),
            hub.File("config.json"),
            hub.File("empty.bin"),
            hub.File("absent.bin"),
        )
    )
    (tmp_path / "good.bin").write_bytes(CONTENT)
    (tmp_path / "short.bin").write_bytes(CONTENT[:-1])
    (tmp_path / "wrong.bin").write_bytes(CONTENT[::-1])
    (tmp_path / "unknown.bin").write_bytes(b"12345")
    (tmp_path / "empty.bin").touch()
    (tmp_path / "config.json").write_text("{")
    save_file(tensors, tmp_path / "whole.safetensors")
    (tmp_path / "cut.safetensors").write_bytes((tmp_path / "whole.safetensors").read_bytes()[:-3])
    states = {state.path: state for state in hub.verify(weights.name, folder=tmp_path)}
    assert {path: state.state for path, state in states.items()} == {
        "good.bin": "good",
        "short.bin": "corrupt",
        "wrong.bin": "corrupt",
        "unknown.bin": "unknown",
        "cut.safetensors": "corrupt",
        "whole.safetensors": "unknown",
        "config.json": "corrupt",
        "empty.bin": "corrupt",
        "absent.bin": "absent",
    }
    assert states["unknown.bin"].detail == "sha256 not known; present, 5 bytes"
    assert SHA256 in states["wrong.bin"].detail
    assert states["absent.bin"].place is None


def test_files_in_the_hubs_cache_are_checked_against_their_names(tmp_path, cache):
    cached = tmp_path / "home" / "hub"
    names = ["vae/config.json", "vae/diffusion_pytorch_model.safetensors"]
    snapshot = cache(cached, "CompVis/stable-diffusion-v1-4", "a" * 40, {name: name.encode() for name in names})
    assert [state.state for state in hub.verify("sd-v1-4-autoencoder")] == ["good", "good"]
    (snapshot / names[1]).resolve().write_bytes(b"damaged")
    assert [state.state for state in hub.verify("sd-v1-4-autoencoder")] == ["good", "corrupt"]


def test_publishing_records_what_verify_compares(tmp_path, tensors):
    clip, probe = tmp_path / "bundled" / "clip", tmp_path / "bundled" / "probe"
    for folder in (clip, probe):
        folder.mkdir(parents=True)
        save_file(tensors, folder / "model.safetensors")
        (folder / "config.json").write_text(json.dumps({"of": folder.name}))
        (folder / "README.md").write_text("a card")
        written = hub.record_bundled(folder)
    assert written == tmp_path / "bundled" / "sha256.json"
    assert sorted(json.loads(written.read_text())) == ["clip", "probe"]
    assert sorted(file.path for file in hub.find("bundled-clip").files) == ["config.json", "model.safetensors"]
    assert hub.find("bundled-clip").size == sum(
        (clip / name).stat().st_size for name in json.loads(written.read_text())["clip"]
    )
    assert {state.state for state in hub.verify("bundled-clip")} == {"good"}
    (clip / "config.json").write_text("{}")
    assert {state.path: state.state for state in hub.verify("bundled-clip")}["config.json"] == "corrupt"
    assert {state.state for state in hub.verify("bundled-probe")} == {"good"}
    assert hub.fingerprint(probe) == hub.find("bundled-probe").files[1].sha256
    (probe / "model.safetensors").unlink()
    with pytest.raises(InputError, match="no weights to record"):
        hub.record_bundled(probe)
    written.write_text("[1]")
    with pytest.raises(InputError, match="cannot read"):
        hub.items("weights")


def test_the_bundled_files_in_the_repository_are_as_they_were_recorded():
    folder = hub.BUNDLED
    recorded = catalog.recorded(folder / catalog.BUNDLED_TABLE)
    present = {path.parent.name for path in folder.glob("*/*.safetensors")}
    if not present:
        pytest.skip("no bundled weights are in the repository yet")
    assert present == set(recorded)
    for name, files in recorded.items():
        for file in files.values():
            assert hashlib.sha256((folder / name / file.path).read_bytes()).hexdigest() == file.sha256
    assert sum(path.stat().st_size for path in folder.glob("*/*.safetensors")) <= 60e6
