"""Files of weights are read without running anything; damaged and hostile ones are one clear error."""

import pickle
import warnings
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from neurorecon.errors import InputError, MissingFileError
from neurorecon.models.zoo import files as zoo


def test_states_are_read_from_safetensors_and_from_torch_files(tmp_path, tensors):
    save_file(tensors, tmp_path / "a.safetensors")
    torch.save(tensors, tmp_path / "b.pth")
    torch.save(tensors, tmp_path / "c.th", _use_new_zipfile_serialization=False)
    torch.save({"state_dict": tensors, "epoch": 3}, tmp_path / "d.ckpt")
    for name in ("a.safetensors", "b.pth", "c.th", "d.ckpt"):
        found = zoo.load_state(tmp_path / name)
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
        zoo.load_state(file)
    file.write_bytes(pickle.dumps({"a": kind(str(trace))}))
    with pytest.raises(InputError, match="cannot be used"):
        zoo.load_state(file)
    assert not trace.exists()


def test_programs_are_refused(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch wants no new programs of this kind
        torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), str(tmp_path / "program.pt"))
    with pytest.raises(InputError, match="TorchScript program"):
        zoo.load_state(tmp_path / "program.pt")


def test_an_archive_that_fills_the_memory_is_refused(tmp_path, tensors):
    torch.save(tensors, tmp_path / "small.pth")
    with (
        zipfile.ZipFile(tmp_path / "small.pth") as source,
        zipfile.ZipFile(tmp_path / "bomb.pth", "w", zipfile.ZIP_DEFLATED) as bomb,
    ):
        for entry in source.infolist():
            bomb.writestr(entry.filename, source.read(entry))
        bomb.writestr("archive/data/9", b"\0" * 5_000_000)
    with pytest.raises(InputError, match="unpacks to more bytes than it has"):
        zoo.load_state(tmp_path / "bomb.pth")


@pytest.mark.parametrize("kept", [0, 5, 9, 60, -1])
@pytest.mark.parametrize("name", ["a.safetensors", "b.pth", "c.th"])
def test_files_cut_short_are_one_clear_error(tmp_path, tensors, name, kept):
    if name.endswith(".safetensors"):
        save_file(tensors, tmp_path / name)
    else:
        torch.save(tensors, tmp_path / name, _use_new_zipfile_serialization=name == "b.pth")
    (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:kept])
    with pytest.raises(InputError, match="neurorecon weights verify") as caught:
        zoo.load_state(tmp_path / name)
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
        zoo.load_state(file)


def test_a_header_of_any_announced_length_is_refused(tmp_path):
    file = tmp_path / "a.safetensors"
    file.write_bytes((2**63).to_bytes(8, "little") + b"{}")
    with pytest.raises(InputError, match="9223372036854775808 bytes announced"):
        zoo.load_state(file)


def test_what_is_no_table_of_tensors_is_refused(tmp_path):
    for content, said in (([1, 2], "holds a list"), ({"a": "text"}, "'a' is a str"), ({}, "holds a dict")):
        torch.save(content, tmp_path / "a.pth")
        with pytest.raises(InputError, match=said):
            zoo.load_state(tmp_path / "a.pth")
    with pytest.raises(MissingFileError, match="not there"):
        zoo.load_state(tmp_path / "nothing.pth")
