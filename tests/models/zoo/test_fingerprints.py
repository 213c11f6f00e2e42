"""Digests of weights follow their content; damaged files are told from whole ones."""

import hashlib
import json
import os
from pathlib import Path

import pytest
from safetensors.torch import save_file

from neurorecon.errors import InputError, MissingFileError
from neurorecon.models import zoo
from neurorecon.models.zoo import table

CONTENT = bytes(range(256)) * 40
SHA256 = hashlib.sha256(CONTENT).hexdigest()


def test_the_fingerprint_of_one_file_is_its_sha256_and_follows_the_content(tmp_path, tensors):
    file = tmp_path / "model.safetensors"
    file.write_bytes(CONTENT)
    (tmp_path / "README.md").write_text("a card")
    assert zoo.fingerprint(file) == zoo.fingerprint(tmp_path) == SHA256
    file.write_bytes(CONTENT[::-1])
    os.utime(file, ns=(0, 10**18))
    assert zoo.fingerprint(tmp_path) == hashlib.sha256(CONTENT[::-1]).hexdigest()


def test_the_fingerprint_of_several_files_depends_on_names_and_contents_only(tmp_path, add):
    for folder, order in (("one", "ab"), ("two", "ba")):
        (tmp_path / folder).mkdir()
        for name in order:
            (tmp_path / folder / f"{name}.bin").write_text(name)
    both = zoo.fingerprint(tmp_path / "one")
    assert both == zoo.fingerprint(tmp_path / "two")
    only = add(files=(zoo.WeightFile("a.bin"), zoo.WeightFile("config.json")))
    assert zoo.fingerprint(tmp_path / "one", only) == hashlib.sha256(b"a").hexdigest()
    (tmp_path / "two" / "b.bin").rename(tmp_path / "two" / "c.bin")
    assert zoo.fingerprint(tmp_path / "two") != both
    with pytest.raises(MissingFileError, match="there are no weights here"):
        zoo.fingerprint(tmp_path / "empty")


def test_files_are_good_corrupt_unknown_or_absent(tmp_path, add, tensors):
    weights = add(
        files=(
            zoo.WeightFile("good.bin", SHA256, len(CONTENT)),
            zoo.WeightFile("short.bin", SHA256, len(CONTENT)),
            zoo.WeightFile("wrong.bin", SHA256),
            zoo.WeightFile("unknown.bin"),
            zoo.WeightFile("cut.safetensors"),
            zoo.WeightFile("whole.safetensors"),
            zoo.WeightFile("config.json"),
            zoo.WeightFile("empty.bin"),
            zoo.WeightFile("absent.bin"),
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
    states = {state.path: state for state in zoo.verify(weights.name, folder=tmp_path)}
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
    hub = tmp_path / "home" / "hub"
    names = ["vae/config.json", "vae/diffusion_pytorch_model.safetensors"]
    snapshot = cache(hub, "CompVis/stable-diffusion-v1-4", "a" * 40, {name: name.encode() for name in names})
    assert [state.state for state in zoo.verify("sd-v1-4-autoencoder")] == ["good", "good"]
    (snapshot / names[1]).resolve().write_bytes(b"damaged")
    assert [state.state for state in zoo.verify("sd-v1-4-autoencoder")] == ["good", "corrupt"]


def test_publishing_records_what_verify_compares(tmp_path, tensors):
    clip, probe = tmp_path / "bundled" / "clip", tmp_path / "bundled" / "probe"
    for folder in (clip, probe):
        folder.mkdir(parents=True)
        save_file(tensors, folder / "model.safetensors")
        (folder / "config.json").write_text(json.dumps({"of": folder.name}))
        (folder / "README.md").write_text("a card")
        written = zoo.record_bundled(folder)
    assert written == tmp_path / "bundled" / "sha256.json"
    assert sorted(json.loads(written.read_text())) == ["clip", "probe"]
    assert sorted(file.path for file in zoo.find("bundled-clip").files) == ["config.json", "model.safetensors"]
    assert zoo.find("bundled-clip").size == sum(
        (clip / name).stat().st_size for name in json.loads(written.read_text())["clip"]
    )
    assert {state.state for state in zoo.verify("bundled-clip")} == {"good"}
    (clip / "config.json").write_text("{}")
    assert {state.path: state.state for state in zoo.verify("bundled-clip")}["config.json"] == "corrupt"
    assert {state.state for state in zoo.verify("bundled-probe")} == {"good"}
    assert zoo.fingerprint(probe) == zoo.find("bundled-probe").files[1].sha256
    (probe / "model.safetensors").unlink()
    with pytest.raises(InputError, match="no weights to record"):
        zoo.record_bundled(probe)
    written.write_text("[1]")
    with pytest.raises(InputError, match="cannot be read"):
        table.bundled()


def test_the_bundled_files_in_the_repository_are_as_they_were_recorded():
    folder = Path(table.__file__).parents[1] / "bundled"
    recorded = table.recorded(folder / table.BUNDLED_TABLE)
    present = {path.parent.name for path in folder.glob("*/*.safetensors")}
    if not present:
        pytest.skip("no bundled weights are in the repository yet")
    assert present == set(recorded)
    for name, files in recorded.items():
        for file in files.values():
            assert hashlib.sha256((folder / name / file.path).read_bytes()).hexdigest() == file.sha256
    assert sum(path.stat().st_size for path in folder.glob("*/*.safetensors")) <= 40e6
