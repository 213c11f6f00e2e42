"""The numbers of a store are those of the arrays, whatever the format, the type and the order of the axes."""

import tracemalloc

import numpy as np
import pytest

from neurorecon.datasets.arrays.content import Responses, screen_responses
from neurorecon.datasets.recipe import Recipe
from neurorecon.io.arrays import open_array
from neurorecon.store.build import build_store
from neurorecon.store.store import open_store

FORMATS = ["npy", "npz", "npz, compressed", "h5", "h5, chunked", "zarr", "zarr, version 2"]


def save(folder, name, values, format):
    """Write an array as people do."""
    kind = format.split(",")[0]
    path = folder / f"{name}.{kind}"
    if kind == "npy":
        np.save(path, values)
    elif kind == "npz":
        write = np.savez_compressed if "compressed" in format else np.savez
        write(path, **{name: values, "something_else": np.arange(3)})
    elif kind == "h5":
        import h5py

        with h5py.File(path, "w") as file:
            chunks = {"chunks": (5, 2), "compression": "gzip", "shuffle": True} if "chunked" in format else {}
            file.create_dataset(f"session1/{name}", data=values, **(chunks if values.ndim == 2 else {}))
    else:
        import zarr

        version = 2 if "2" in format else 3
        zarr.create_array(str(path), data=np.ascontiguousarray(values), zarr_format=version)
    return path


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("transpose", [False, True], ids=["sample, voxel", "voxel, sample"])
@pytest.mark.parametrize("format", FORMATS)
def test_responses_are_those_of_the_array(lab, format, transpose, order):
    folder = lab.write()
    (folder / "responses.npy").unlink()
    values = np.asarray(lab.responses.T if transpose else lab.responses, order=order)
    save(folder, "responses", values, format)
    found = lab.open(transpose=transpose).subject("subj01")
    np.testing.assert_array_equal(found.read_responses(0, 12), lab.responses)
    for start, stop in ((3, 7), (0, 2), (11, 12), (5, 5)):  # backwards as well
        rows = found.read_responses(start, stop)
        assert rows.dtype == np.float32
        np.testing.assert_array_equal(rows, lab.responses[start:stop])


@pytest.mark.parametrize("dtype", ["float64", "float16", ">f4", "int16", "uint8", ">i4"])
def test_types_become_float32(lab, dtype):
    folder = lab.write()
    values = (20 * np.abs(lab.responses)).astype(dtype)
    np.save(folder / "responses.npy", values)
    found = lab.open().subject("subj01").read_responses(0, 12)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, values.astype(np.float32))


@pytest.mark.parametrize("format", FORMATS)
def test_images_are_those_of_the_array(lab, format):
    folder = lab.write()
    (folder / "images.npy").unlink()
    save(folder, "images", lab.images, format)
    reader = lab.open()
    assert reader.image_shape() == (8, 10, 3)
    np.testing.assert_array_equal(reader.read_images(2, 5), lab.images[2:5])
    np.testing.assert_array_equal(reader.read_images(0, 6), lab.images)


@pytest.mark.parametrize("key", ["betas", "somewhere/betas"])
def test_arrays_inside_a_file_have_names(lab, key):
    import zarr

    folder = lab.write()
    (folder / "responses.npy").unlink()
    group = zarr.open_group(str(folder / "responses.zarr"), mode="w")
    group.create_array("other", data=np.zeros(3))
    group.create_array(key, data=lab.responses)
    found = lab.open(responses_key=key).subject("subj01")
    np.testing.assert_array_equal(found.read_responses(0, 12), lab.responses)


def test_the_store_holds_the_arrays(lab, tmp_path_factory):
    lab.samples["split"] = ["train"] * 4 + ["test"] * 2 + ["train"] * 4 + ["test"] * 2
    recipe = Recipe(name="lab", reader="arrays", root=str(lab.write()))
    store = open_store(build_store(recipe, tmp_path_factory.mktemp("stores") / "lab.icechunk", progress=False))
    voxels = store.voxels("subj01")
    place = {tuple(row): number for number, row in enumerate(lab.voxels[["i", "j", "k"]].to_numpy())}
    order = [place[tuple(row)] for row in voxels[["i", "j", "k"]].to_numpy()]
    np.testing.assert_array_equal(store.responses("subj01").values, lab.responses[:, order])
    assert store.samples("subj01")["stimulus"].tolist() == lab.samples["stimulus"].tolist()
    assert store.samples("subj01")["repeat"].tolist() == [1] * 6 + [2] * 6
    np.testing.assert_array_equal(store.images(["s3", "s0"]).values, lab.images[[3, 0]])
    assert sorted(order[:2]) == [0, 1]  # V1 comes first


def _peak(path, samples):
    responses = Responses(open_array(path, None, "responses"), False, np.arange(samples))
    tracemalloc.start()
    screen_responses(responses, np.zeros(samples, int))
    for start in range(0, samples, 2000):
        responses.read(start, start + 2000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


@pytest.mark.parametrize("format", ["npy", "npz", "npz, compressed", "zarr"])
def test_memory_does_not_grow_with_the_number_of_samples(tmp_path, monkeypatch, format):
    monkeypatch.setattr("neurorecon.datasets.arrays.content.BLOCK_BYTES", 2**21)
    voxels, peaks = 400, []
    for samples in (8_000, 32_000):  # 13 and 51 MB
        folder = tmp_path / str(samples)
        folder.mkdir()
        values = np.zeros((samples, voxels), np.float32)
        values[:, 0] = np.arange(samples)
        path = save(folder, "responses", values, format)
        del values
        peaks.append(_peak(path, samples))
    assert peaks[1] < 1.2 * peaks[0]
    assert peaks[1] < 20e6
