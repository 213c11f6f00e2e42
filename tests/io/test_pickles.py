"""Pickles: arrays and tables are read, everything else is refused and not run."""

import os
import pickle
import subprocess
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest

from neurorecon.errors import InputError, MissingFileError
from neurorecon.io.tables import load_arrays, load_table

TABLE = pd.DataFrame(
    {
        "nsdId": [0, 1, 2],
        "cocoSplit": ["train2017", "val2017", "train2017"],
        "cropBox": [(0.0, 0.1, 0.0, 0.0), (0, 0, 0, 0), "(0.1, 0, 0, 0)"],
        "shared1000": [True, False, True],
        "loss": [0.5, np.nan, 0.25],
    }
)


@dataclass
class Name:
    """Something by its module and name, which need not exist any more."""

    module: str
    name: str


@dataclass
class Made:
    """The call of a name (or its ``__new__``), and the state that is given to what it returns."""

    name: Name
    arguments: tuple
    state: object = None
    new: bool = False


class OldPickler(pickle._Pickler):
    """Writes pickles as old versions of pandas did."""

    def save(self, thing, *rest):
        if isinstance(thing, Name):
            self.write(f"c{thing.module}\n{thing.name}\n".encode())
        elif isinstance(thing, Made):
            self.save(thing.name)
            self.save(thing.arguments)
            self.write(pickle.NEWOBJ if thing.new else pickle.REDUCE)
            if thing.state is not None:
                self.save(thing.state)
                self.write(pickle.BUILD)
        else:
            super().save(thing, *rest)


def _old_table():
    """Return what pandas 0.25 pickled of a table: a manager made without arguments, and an Int64Index."""
    base = "pandas.core.indexes.base"

    def index(kind, values):
        return Made(Name(base, "_new_Index"), (kind, {"data": values, "name": None}))

    columns = index(Name(base, "Index"), np.array(["a", "b"], dtype=object))
    rows = index(Name("pandas.core.indexes.numeric", "Int64Index"), np.array([10, 20, 30]))
    values = np.array([[1, 2, 3], [4, 5, 6]])
    block = {"values": values, "mgr_locs": slice(0, 2, 1)}
    state = ([columns, rows], [values], [columns], {"0.14.1": {"axes": [columns, rows], "blocks": [block]}})
    manager = Made(Name("pandas.core.internals.managers", "BlockManager"), (), state, new=True)
    frame = {"_data": manager, "_typ": "dataframe", "_metadata": []}
    return Made(Name("pandas.core.frame", "DataFrame"), (), frame, new=True)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_tables_and_arrays_survive(tmp_path, protocol):
    path = tmp_path / "table.pkl"
    path.write_bytes(pickle.dumps(TABLE, protocol=protocol))
    pd.testing.assert_frame_equal(load_table(path, "again"), TABLE)
    arrays = {"train": np.arange(24.0).reshape(2, 3, 4), "voxel_mask": np.array([True, False]), "n": np.float32(2)}
    path.write_bytes(pickle.dumps(arrays, protocol=protocol))
    found = load_arrays(path, "again")
    assert found.keys() == arrays.keys()
    np.testing.assert_array_equal(found["train"], arrays["train"])


def test_tables_of_old_pandas_are_read(tmp_path):
    path = tmp_path / "table.pkl"
    with path.open("wb") as file:
        OldPickler(file, protocol=2).dump(_old_table())
    content = path.read_bytes().replace(b"numpy._core", b"numpy.core")
    path.write_bytes(content)
    assert b"numpy.core.multiarray" in content
    assert b"Int64Index" in content
    expected = pd.DataFrame({"a": [1, 2, 3], "b": [4, 5, 6]}, index=[10, 20, 30])
    found = load_table(path, "again")
    assert found.columns.tolist() == ["a", "b"]
    np.testing.assert_array_equal(found.to_numpy(), expected.to_numpy())
    np.testing.assert_array_equal(found.loc[20].to_numpy(), [2, 5])


class Runs:
    """Pickled, it asks for a call."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize(
    "hostile",
    [
        Runs(os.system, "touch ran"),
        Runs(subprocess.Popen, ["touch", "ran"]),
        Runs(eval, "open('ran', 'w')"),
        Runs(pd.read_pickle, "other.pkl"),
        Runs(np.load, "other.npy"),
        {"train": [Runs(os.system, "touch ran")]},
    ],
    ids=["system", "Popen", "eval", "read_pickle", "np.load", "nested"],
)
@pytest.mark.parametrize("load", [load_table, load_arrays])
def test_hostile_pickles_are_refused_and_not_run(tmp_path, monkeypatch, hostile, load):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "hostile.pkl"
    path.write_bytes(pickle.dumps(hostile))
    with pytest.raises(InputError, match="not part of an array or a table"):
        load(path, "again")
    assert [item.name for item in tmp_path.iterdir()] == ["hostile.pkl"]


def test_arrays_hold_no_tables(tmp_path):
    path = tmp_path / "table.pkl"
    path.write_bytes(pickle.dumps(TABLE))
    with pytest.raises(InputError, match="pandas"):
        load_arrays(path, "again")
    path.write_bytes(pickle.dumps([1, 2]))
    with pytest.raises(InputError, match="does not contain a table"):
        load_table(path, "again")


def test_damaged_and_missing_files(tmp_path):
    path = tmp_path / "table.pkl"
    with pytest.raises(MissingFileError, match="again"):
        load_table(path, "again")
    content = pickle.dumps(TABLE)
    for part in (b"", content[:50], b"no pickle at all", content.replace(b"nsdId", b"\x80\xff\x00\x00\x01")):
        path.write_bytes(part)
        with pytest.raises(InputError, match="cannot be read"):
            load_table(path, "again")


def test_other_encodings_are_refused(tmp_path):
    path = tmp_path / "encoded.pkl"
    path.write_bytes(b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aX\x05\x00\x00\x00rot13\x86R.")
    with pytest.raises(InputError, match="rot13"):
        load_arrays(path, "again")


def test_objects_of_a_package_are_passed_over(tmp_path, capsys):
    """They are neither imported nor run; objects of other packages are refused as before."""
    import nibabel

    image = nibabel.Nifti1Image(np.zeros((2, 2, 2), dtype=np.float32), np.eye(4))
    image.to_filename(tmp_path / "mask.nii.gz")
    path = tmp_path / "both.pkl"
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        for beside in (image, nibabel.load(tmp_path / "mask.nii.gz")):
            path.write_bytes(pickle.dumps((np.arange(3.0), ["a"], beside), protocol=protocol))
            values, names, rest = load_arrays(path, "again", without=["nibabel"])
            np.testing.assert_array_equal(values, [0, 1, 2])
            assert names == ["a"]
            assert not isinstance(rest, nibabel.Nifti1Image)
            assert not vars(rest)
            with pytest.raises(InputError, match=r"nibabel\.nifti1"):
                load_arrays(path, "again")
