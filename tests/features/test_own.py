"""Targets that were computed elsewhere."""

from __future__ import annotations

import dask.array
import numpy as np
import pytest
import xarray

import neurorecon as nr
from neurorecon.errors import InputError, StoreError, UnknownNameError

MADE_BY = {"model": "a network", "source": "a paper", "layer": 3, "size": (2, 3)}


@pytest.fixture
def values():
    return np.random.default_rng(0).standard_normal((30, 5)).astype(np.float32)


def test_an_array_for_all_stimuli(store, values):
    after = nr.add_target(store, "mine", values, made_by=MADE_BY, feature_names=list("abcde"))
    found = after.targets("mine")
    np.testing.assert_array_equal(found, values)
    assert found.dims == ("stimulus", "feature")
    assert found["feature"].values.tolist() == list("abcde")
    assert found["stimulus"].values.tolist() == store.stimuli["id"].tolist()
    assert found.attrs["layer"] == 3
    assert found.attrs["size"] == [2, 3]
    assert found.attrs["neurorecon_version"] == nr.__version__
    assert not [finding for finding in nr.check_store(after) if finding.problem]
    X, Y = after.pairs("subj01", "mine")
    assert X.sizes["sample"] == Y.sizes["sample"] == 24  # of the images; the six videos are another task


@pytest.mark.parametrize("kind", ["dask", "memmap", "xarray", "float64", "int16", "bool"])
def test_any_array_of_numbers(store, values, tmp_path, kind):
    np.save(tmp_path / "values.npy", values)
    given = {
        "dask": lambda: dask.array.from_array(values, chunks=(7, 2)),
        "memmap": lambda: np.load(tmp_path / "values.npy", mmap_mode="r"),
        "xarray": lambda: xarray.DataArray(values, dims=("image", "unit")),
        "float64": lambda: values.astype(np.float64),
        "int16": lambda: (100 * values).astype(np.int16),
        "bool": lambda: values > 0,
    }[kind]()
    after = nr.add_target(store, "mine", given, made_by=MADE_BY)
    np.testing.assert_array_equal(after.targets("mine"), np.asarray(given).astype(np.float32))


def test_some_stimuli_in_an_order_of_their_own(store, values):
    ids = ["film0003", "image0001", "film0000"]
    tensor = values[:3].reshape(3, 5, 1, 1)
    after = nr.add_target(store, "mine", tensor, ("channel", "row", "column"), made_by=MADE_BY, stimuli=ids)
    found = after.targets("mine")
    assert found.dims == ("stimulus", "channel", "row", "column")
    np.testing.assert_array_equal(found.sel(stimulus="image0001"), tensor[1])
    # Of the task with more stimuli that have it; volumes without those 4 to 6 s later are dropped.
    assert set(after.pairs("subj01", "mine")[0]["task"].values) == {"films"}
    assert after.pairs("subj01", "mine", task="images")[1].sizes["sample"] == 1


def test_values_are_read_block_by_block(store, monkeypatch):
    from neurorecon.store import schema

    monkeypatch.setattr(schema, "RESPONSE_CHUNKS", (4, 1024))
    monkeypatch.setattr(schema, "BLOCK_BYTES", 4 * 5 * 4)
    asked = []

    class Lazy:
        shape, dtype = (30, 5), np.dtype("float32")

        def __getitem__(self, rows):
            asked.append(rows.stop - rows.start)
            return np.full((rows.stop - rows.start, 5), rows.start, dtype=np.float32)

    after = nr.add_target(store, "lazy", Lazy(), made_by=MADE_BY)
    assert max(asked) == 4
    assert sum(asked) == 30
    assert after.targets("lazy").values[29].tolist() == [28.0] * 5


def test_a_name_that_is_taken(store, values):
    first = nr.add_target(store, "mine", values, made_by=MADE_BY)
    with pytest.raises(StoreError, match=r"already has a target 'mine'[\s\S]*a network[\s\S]*overwrite=True"):
        nr.add_target(first, "mine", values + 1, made_by=MADE_BY)
    second = nr.add_target(first, "mine", values[:, :2], made_by=MADE_BY, overwrite=True)
    assert second.targets("mine").shape == (30, 2)
    np.testing.assert_array_equal(nr.open_store(store.location, snapshot=first.snapshot).targets("mine"), values)


def test_an_extractor_does_not_go_on_with_it(store, known, mean_color, values):
    known(mean_color)
    after = nr.add_target(store, "mean_color", values[:, :3], made_by=MADE_BY)
    with pytest.raises(StoreError, match="made with other settings"):
        nr.extract(after, ["mean_color"], progress=False)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"values": np.zeros((29, 5))}, r"shape \(29, 5\) for 30 stimuli \(all of the store\)"),
        ({"values": np.zeros(30)}, r"shape \(30,\)"),
        ({"values": np.zeros((30, 0))}, "at least one value"),
        ({"values": np.full((30, 5), "a")}, "not an array of numbers"),
        ({"values": [[1.0] * 5] * 30}, "not an array of numbers"),
        ({"values": np.zeros((30, 5), dtype=complex)}, "complex"),
        ({"values": np.full((30, 5), 1e300)}, r"1e\+300 in the row of 'image0000'"),
        ({"dims": ("feature", "more")}, "dims do not match the values"),
        ({"dims": ("stimulus",)}, "dims do not match the values"),
        ({"name": "my target"}, "invalid name of a target"),
        ({"name": "../subj01"}, "invalid name of a target"),
        ({"made_by": {}}, "model, source"),
        ({"made_by": {"model": "a", "source": " "}}, "without source"),
        ({"made_by": {**MADE_BY, "complete": False}}, "with complete"),
        ({"made_by": {**MADE_BY, "function": print}}, "cannot be written as JSON"),
        ({"stimuli": ["image0000"] * 30}, "occurs more than once"),
        ({"feature_names": ["a"]}, "1 names for values"),
    ],
)
def test_mistakes_leave_the_store_as_it_was(store, values, change, said):
    call = {"name": "mine", "values": values, "made_by": MADE_BY, **change}
    with pytest.raises(InputError, match=said):
        nr.add_target(store, call.pop("name"), call.pop("values"), **call)
    assert nr.open_store(store.location).snapshot == store.snapshot


def test_a_value_that_is_no_number_late_in_the_array(store, values, monkeypatch):
    from neurorecon.store import schema, writer

    monkeypatch.setattr(schema, "RESPONSE_CHUNKS", (4, 1024))
    monkeypatch.setattr(schema, "BLOCK_BYTES", 4 * 5 * 4)
    monkeypatch.setattr(writer, "COMMIT_EVERY", 0.0)
    values[25, 3] = np.nan
    with pytest.raises(InputError, match="nan in the row of 'film0001'"):
        nr.add_target(store, "mine", values, made_by=MADE_BY)
    assert nr.open_store(store.location).snapshot == store.snapshot
    with pytest.raises(UnknownNameError, match="unknown stimulus 'nobody'"):
        nr.add_target(store, "mine", values[:1], made_by=MADE_BY, stimuli=["nobody"])
