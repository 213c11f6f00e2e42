"""Arrays keep their values, whatever they come as; values elsewhere and declared orders are noticed."""

from __future__ import annotations

import h5py
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from neurorecon.errors import InputError, MissingFileError
from neurorecon.io.arrays import ArrayFile, as_array, declared_dims, open_array

VALUES = np.arange(6, dtype=np.float32).reshape(2, 3)


def test_masked_values_become_nan():
    found = as_array(np.ma.masked_greater(VALUES, 3))
    np.testing.assert_array_equal(found, [[0, 1, 2], [3, np.nan, np.nan]])
    assert found.dtype == np.float32
    whole = as_array(np.ma.masked_equal(np.arange(3), 1))
    np.testing.assert_array_equal(whole, [0, np.nan, 2])
    assert as_array(np.ma.array([1, 2])).dtype.kind == "i"  # nothing is masked


def test_masked_values_of_slices_become_nan():
    array = ArrayFile("the responses", np.ma.masked_greater(VALUES, 3))
    np.testing.assert_array_equal(array[1:], [[3, np.nan, np.nan]])


def test_torch_tensors_of_every_kind():
    torch = pytest.importorskip("torch")
    tensor = torch.tensor(VALUES, requires_grad=True)
    for other in (tensor, tensor.double(), tensor.half(), tensor.bfloat16(), tensor * (1 + 0j).real):
        np.testing.assert_array_equal(as_array(other), VALUES)
    np.testing.assert_array_equal(as_array(tensor.T), VALUES.T)
    assert as_array(torch.tensor([1, 2])).dtype == np.int64


@pytest.mark.parametrize("dtype", ["Float32", "Float64", "Int64", "boolean", "float64"])
def test_tables_and_columns_of_pandas(dtype):
    column = pd.Series([1, 0, 1], dtype=dtype)
    np.testing.assert_array_equal(as_array(column).astype(float), [1, 0, 1])
    column[1] = None if dtype == "float64" else pd.NA
    np.testing.assert_array_equal(as_array(column), [1, np.nan, 1])
    table = pd.DataFrame({"a": column, "b": pd.Series([1.5, 2.5, 3.5])})
    np.testing.assert_array_equal(as_array(table), [[1, 1.5], [np.nan, 2.5], [1, 3.5]])


def test_text_and_ragged_lists_are_refused():
    for wrong in (pd.DataFrame({"a": ["x", 1]}), [[1, 2], [3]]):
        with pytest.raises((ValueError, TypeError)):
            as_array(wrong)


@settings(max_examples=60, deadline=None)
@given(
    hnp.arrays(
        st.sampled_from(["<f4", ">f4", "<f8", ">f8", "<i2", ">i2", ">u4", "|u1", "<f2", "|b1"]),
        hnp.array_shapes(min_dims=2, max_dims=2, max_side=5),
    ),
    st.data(),
)
def test_numpy_and_h5py_agree_on_every_type_byte_order_and_slice(values, data):
    """What is read is what h5py and NumPy read, whatever the byte order; masks of every kind become NaN."""
    mask = data.draw(hnp.arrays(bool, values.shape))
    found = as_array(np.ma.array(values, mask=mask))
    np.testing.assert_array_equal(np.isnan(found.astype(float)), mask | np.isnan(values.astype(float)))
    np.testing.assert_array_equal(found[~mask].astype(float), values[~mask].astype(float))
    with h5py.File("memory.h5", "w", driver="core", backing_store=False) as file:
        file["responses"] = values
        np.testing.assert_array_equal(ArrayFile("it", file["responses"])[:1], values[:1])


@pytest.fixture
def store(tmp_path):
    """Return what writes an HDF5 file and returns its path."""

    def write(fill, name="responses.h5"):
        with h5py.File(tmp_path / name, "w") as file:
            fill(file)
        return tmp_path / name

    return write


def test_external_values_are_refused(store, tmp_path):
    (tmp_path / "raw.bin").write_bytes(VALUES.tobytes())

    def fill(file):
        file.create_dataset("responses", VALUES.shape, "f4", external=[(str(tmp_path / "raw.bin"), 0, VALUES.nbytes)])

    with pytest.raises(InputError, match=r"takes its values from another file(.|\n)*external, from"):
        open_array(store(fill), None, "responses")


def _virtual(name):
    def fill(file):
        layout = h5py.VirtualLayout(VALUES.shape, "f4")
        layout[:] = h5py.VirtualSource(name, "responses", VALUES.shape)
        file.create_virtual_dataset("responses", layout)

    return fill


def test_virtual_values_are_read_where_their_file_is_and_else_refused(store, tmp_path):
    path = store(_virtual("part.h5"))
    with h5py.File(path) as file:
        assert not file["responses"][:].any()  # HDF5 invents zeros
    with pytest.raises(InputError, match=r"virtual, from part\.h5, which is missing"):
        open_array(path, None, "responses")
    store(lambda file: file.create_dataset("responses", data=VALUES), "part.h5")
    np.testing.assert_array_equal(open_array(path, None, "responses")[:], VALUES)
    other = tmp_path.parent / "elsewhere.h5"
    with h5py.File(other, "w") as file:
        file["responses"] = VALUES
    with pytest.raises(InputError, match="takes its values from another file"):
        open_array(store(_virtual(str(other)), "b.h5"), None, "responses")


def test_tables_of_pandas_with_several_types_are_refused(store):
    def fill(file):
        group = file.create_group("responses")
        group.attrs["pandas_type"] = "frame"
        group["block0_values"], group["block1_values"] = VALUES, VALUES.astype(int)

    with pytest.raises(InputError, match="columns of several types"):
        open_array(store(fill), "responses/block0_values", "responses")


def test_axes_that_files_declare(store, tmp_path):
    import xarray
    import zarr

    def scales(file):
        file["responses"] = VALUES
        for axis, name in enumerate(("voxel", "sample")):
            file[name] = np.arange(VALUES.shape[axis])
            file[name].make_scale(name)
            file["responses"].dims[axis].attach_scale(file[name])

    assert open_array(store(scales), "responses", "responses").dims == ("voxel", "sample")

    def labels(file):
        file["responses"] = VALUES
        file["responses"].dims[0].label = "voxel"
        file["responses"].dims[1].label = "trial"

    assert open_array(store(labels), None, "responses").dims == ("voxel", "trial")

    def matlab(file):
        file["responses"] = VALUES
        file["responses"].attrs["MATLAB_class"] = np.bytes_("double")

    assert open_array(store(matlab), None, "responses").dims == ("MATLAB",)
    array = zarr.create_array(tmp_path / "a.zarr", shape=(2, 3), dtype="f4", dimension_names=("voxel", "sample"))
    array[:] = VALUES
    assert open_array(tmp_path / "a.zarr", None, "responses").dims == ("voxel", "sample")
    assert declared_dims(xarray.DataArray(VALUES, dims=("voxel", "sample"))) == ("voxel", "sample")
    assert declared_dims(VALUES) == ()


def test_a_link_to_nothing_is_named(tmp_path):
    (tmp_path / "responses.npy").symlink_to("gone.npy")
    with pytest.raises(MissingFileError, match="a link that leads nowhere"):
        open_array(tmp_path / "responses.npy", None, "responses")
