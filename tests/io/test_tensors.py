"""Arrays come back as they were written; files of weights are read without running anything in them."""

import json
import pickle
import subprocess
import sys
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.numpy import save_file as save_numpy
from safetensors.torch import save_file

from neurorecon.errors import InputError, MissingFileError, StoreWriteError
from neurorecon.io.tensors import block_digest, load, load_state, pack, read_description, save, unpack


@pytest.fixture
def tensors():
    return {"a": torch.arange(6, dtype=torch.float32).reshape(2, 3), "b": torch.ones(4)}


ARRAYS = {
    "scores": np.linspace(0, 1, 7, dtype=np.float32),
    "scalar": np.array(3.5),
    "masks": np.array([[True, False]]),
    "counts": np.arange(3, dtype=">i4"),
    "columns first": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "nothing": np.zeros((0, 4)),
}


def test_arrays_and_their_description_come_back(tmp_path):
    description = {"format": 1, "roi": ["V1", "MT"], "nested": {"seed": None, "alpha": 0.1}}
    path = save(tmp_path / "new" / "block.safetensors", ARRAYS, description)
    found, said = load(path)
    assert said == read_description(path) == description
    assert found.keys() == ARRAYS.keys()
    for name, values in ARRAYS.items():
        assert found[name].shape == values.shape
        assert found[name].dtype == values.dtype.newbyteorder("=")
        np.testing.assert_array_equal(found[name], values)
    assert [file.name for file in path.parent.iterdir()] == ["block.safetensors"]
    as_tensors, _ = load(path, framework="torch")
    assert as_tensors["scores"].tolist() == ARRAYS["scores"].tolist()


def test_tensors_come_back_whatever_memory_they_share(tmp_path):
    whole = torch.arange(12, dtype=torch.float32).reshape(3, 4)
    given = {"whole": whole, "transposed": whole.T, "part": whole[1], "again": whole}
    given |= {"half": whole.to(torch.bfloat16), "leaf": torch.nn.Parameter(whole), "number": torch.tensor(2)}
    found, said = load(save(tmp_path / "a.safetensors", given), framework="torch")
    assert said == {}
    for name, tensor in given.items():
        assert torch.equal(found[name], tensor)
        assert found[name].dtype == tensor.dtype
    with safe_open(tmp_path / "a.safetensors", "pt") as file:
        assert set(file.metadata()) == {"digest"}


def test_every_changed_byte_of_the_values_is_noticed(tmp_path):
    path = save(tmp_path / "a.safetensors", {"a": np.arange(4.0), "b": np.ones(3, dtype=np.uint8)})
    content = path.read_bytes()
    for place in range(len(content) - 35, len(content)):
        changed = bytearray(content)
        changed[place] ^= 1
        path.write_bytes(changed)
        with pytest.raises(InputError, match=r"a\.safetensors cannot be read"):
            load(path, todo="run it again")
    path.write_bytes(content[:-1])
    with pytest.raises(InputError, match="incomplete: run it again"):
        load(path, todo="run it again")
    with pytest.raises(MissingFileError, match=r"is missing[\s\S]*run it again"):
        load(tmp_path / "b.safetensors", todo="run it again")


def test_the_description_is_read_without_the_arrays(tmp_path):
    path = save(tmp_path / "a.safetensors", {"a": np.arange(4.0)}, {"seed": 3})
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert read_description(path) == {"seed": 3}


def test_a_failed_write_keeps_the_old_file(tmp_path):
    path = save(tmp_path / "a.safetensors", {"a": np.arange(4.0)})
    with pytest.raises(TypeError):
        save(path, {"a": np.arange(4.0)}, {"seed": object()})
    assert load(path)[0]["a"].tolist() == [0, 1, 2, 3]
    assert [file.name for file in tmp_path.iterdir()] == ["a.safetensors"]
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreWriteError, match="the scores cannot be written"):
        save(tmp_path / "file" / "a.safetensors", {"a": np.arange(4.0)}, what="the scores cannot be written")


def test_files_of_the_first_version_are_read(tmp_path):
    # Results had a digest, checkpoints a description, decoders neither.
    values = np.array([1, 2], dtype=np.int64)
    digest = "blake2b:d8fac14f3f420ae9a96b264dab820219"
    for header in ({"neurorecon": json.dumps({"format": 1})}, None):
        save_numpy({"a": values}, tmp_path / "a.safetensors", header)
        found, said = load(tmp_path / "a.safetensors")
        assert found["a"].tolist() == [1, 2]
        assert said == ({} if header is None else {"format": 1})
    save_numpy({"a": values}, tmp_path / "a.safetensors", {"digest": digest})
    assert load(tmp_path / "a.safetensors")[0]["a"].tolist() == [1, 2]


def test_nested_state_comes_back(tmp_path):
    state = {
        "numbers": [1, 2.5, None, True, "text", float("inf")],
        "slices": (slice(0, 5), slice(None, None, 2)),
        "arrays": {"a": np.arange(3), "names": np.array(["V1", "MT"])},
        0: {"momentum": torch.ones(2)},
        "numpy": np.float32(0.5),
    }
    arrays = {}
    packed = json.loads(json.dumps(pack(state, "state", arrays)))
    assert list(arrays) == ["state.2.0", "state.3.0"]
    found = unpack(packed, arrays)
    assert found["numbers"] == state["numbers"]
    assert found["slices"] == state["slices"]
    assert found["arrays"]["names"].tolist() == ["V1", "MT"]
    assert found["arrays"]["a"] is arrays["state.2.0"]
    assert torch.equal(found[0]["momentum"], torch.ones(2))
    assert found["numpy"] == 0.5
    with pytest.raises(InputError, match=r"cannot be saved[\s\S]*state.0.1, of type object[\s\S]*give numbers"):
        pack({"a": [1, object()]}, "state", {}, "give numbers")
    with pytest.raises(InputError, match="key of a dict cannot be saved"):
        pack({(1, 2): 3}, "state", {})


def test_digests_say_what_an_array_holds():
    assert block_digest(np.arange(3, dtype=">i4")) == block_digest(np.arange(3, dtype="<i4"))
    assert block_digest(np.asfortranarray(np.eye(2, 3))) == block_digest(np.eye(2, 3))
    assert block_digest(np.array(["a", "b"])) == block_digest(np.array(["a", "b"], dtype=object))
    assert block_digest(np.arange(3)) != block_digest(np.arange(3) + 1)
    assert block_digest(np.linspace(0, 1, 7)) == "12709b751898b8242d31a63564d55b4f"


def test_importing_it_is_quick():
    code = "import sys, neurorecon.io.tensors; print(*{'numpy', 'torch', 'safetensors'} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert not found.stdout.split()


def test_states_are_read_from_safetensors_and_from_torch_files(tmp_path, tensors):
    save_file(tensors, tmp_path / "a.safetensors")
    torch.save(tensors, tmp_path / "b.pth")
    torch.save(tensors, tmp_path / "c.th", _use_new_zipfile_serialization=False)
    torch.save({"state_dict": tensors, "epoch": 3}, tmp_path / "d.ckpt")
    for name in ("a.safetensors", "b.pth", "c.th", "d.ckpt"):
        found = load_state(tmp_path / name)
        assert found.keys() == tensors.keys()
        for key, value in tensors.items():
            assert torch.equal(found[key], value)


class Hostile:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (Path(self.path),)


class Sneaky(dict):
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return eval, (f"__import__('pathlib').Path({self.path!r}).touch()",)


@pytest.mark.parametrize("kind", [Hostile, Sneaky])
@pytest.mark.parametrize("suffix", [".pth", ".bin", ".safetensors", ".pkl"])
@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_file_is_refused_and_never_run(tmp_path, kind, suffix, zipped):
    trace = tmp_path / "was here"
    file = tmp_path / f"hostile{suffix}"
    torch.save({"a": kind(str(trace))}, file, _use_new_zipfile_serialization=zipped)
    with pytest.raises(InputError, match="cannot be used"):
        load_state(file)
    file.write_bytes(pickle.dumps({"a": kind(str(trace))}))
    with pytest.raises(InputError, match="cannot be used"):
        load_state(file)
    assert not trace.exists()


def test_programs_are_refused(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch wants no new programs of this kind
        torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), str(tmp_path / "program.pt"))
    with pytest.raises(InputError, match="TorchScript program"):
        load_state(tmp_path / "program.pt")


def test_an_archive_that_fills_the_memory_is_refused(tmp_path, tensors):
    torch.save(tensors, tmp_path / "small.pth")
    with (
        zipfile.ZipFile(tmp_path / "small.pth") as source,
        zipfile.ZipFile(tmp_path / "bomb.pth", "w", zipfile.ZIP_DEFLATED) as bomb,
    ):
        for entry in source.infolist():
            bomb.writestr(entry.filename, source.read(entry))
        bomb.writestr("archive/data/9", b"\0" * 5_000_000)
    with pytest.raises(InputError, match="unpack to more bytes than the file has"):
        load_state(tmp_path / "bomb.pth")


@pytest.mark.parametrize("kept", [0, 5, 9, 60, -1])
@pytest.mark.parametrize("name", ["a.safetensors", "b.pth", "c.th"])
def test_files_cut_short_are_one_clear_error(tmp_path, tensors, name, kept):
    if name.endswith(".safetensors"):
        save_file(tensors, tmp_path / name)
    else:
        torch.save(tensors, tmp_path / name, _use_new_zipfile_serialization=name == "b.pth")
    (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:kept])
    with pytest.raises(InputError, match="neurorecon weights verify") as caught:
        load_state(tmp_path / name)
    assert name in str(caught.value)
    assert len(str(caught.value).splitlines()) == 4


@pytest.mark.parametrize(
    "header",
    [
        b"not json",
        b"[]",
        b'{"a": 1}',
        b'{"a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 8]}}',
        b'{"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 8]}}',
        b'{"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}, "b": {"dtype": "F32", "shape": [2], '
        b'"data_offsets": [4, 8]}}',
        b'{"a": {"dtype": "X9", "shape": [2], "data_offsets": [0, 8]}}',
        b'{"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 80000000000]}}',
        b'{"a": {"dtype": "F32", "shape": [2], "data_offsets": ["0", "8"]}}',
    ],
)
def test_lying_headers_are_refused(tmp_path, header):
    file = tmp_path / "a.safetensors"
    file.write_bytes(len(header).to_bytes(8, "little") + header + b"\0" * 8)
    with pytest.raises(InputError, match="cannot be used"):
        load_state(file)


def test_a_header_of_any_announced_length_is_refused(tmp_path):
    file = tmp_path / "a.safetensors"
    file.write_bytes((2**63).to_bytes(8, "little") + b"{}")
    with pytest.raises(InputError, match="9223372036854775808 bytes announced"):
        load_state(file)


def test_what_is_no_table_of_tensors_is_refused(tmp_path):
    for content, said in (([1, 2], "contains a list"), ({"a": "text"}, "'a' is a str"), ({}, "contains a dict")):
        torch.save(content, tmp_path / "a.pth")
        with pytest.raises(InputError, match=said):
            load_state(tmp_path / "a.pth")
    with pytest.raises(MissingFileError, match="does not exist"):
        load_state(tmp_path / "nothing.pth")
