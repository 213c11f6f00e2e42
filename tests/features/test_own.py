"""Targets that were computed elsewhere."""

from __future__ import annotations

import hashlib

import dask.array
import numpy as np
import pandas as pd
import pytest
import xarray

import neurorecon as nr
from neurorecon.errors import InputError, StoreError, UnknownNameError
from neurorecon.provenance import weights_label

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
    ids = ["video0003", "image0001", "video0000"]
    tensor = values[:3].reshape(3, 5, 1, 1)
    after = nr.add_target(store, "mine", tensor, ("channel", "row", "column"), made_by=MADE_BY, stimuli=ids)
    found = after.targets("mine")
    assert found.dims == ("stimulus", "channel", "row", "column")
    np.testing.assert_array_equal(found.sel(stimulus="image0001"), tensor[1])
    # Of the task with more stimuli that have it; volumes without those 4 to 6 s later are dropped.
    assert set(after.pairs("subj01", "mine")[0]["task"].values) == {"videos"}
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
    with pytest.raises(InputError, match="nan in the row of 'video0001'"):
        nr.add_target(store, "mine", values, made_by=MADE_BY)
    assert nr.open_store(store.location).snapshot == store.snapshot
    with pytest.raises(UnknownNameError, match="unknown stimulus 'nobody'"):
        nr.add_target(store, "mine", values[:1], made_by=MADE_BY, stimuli=["nobody"])


# -- files ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def ids(store):
    return store.stimuli["id"].tolist()


@pytest.fixture
def table(ids, values):
    return pd.DataFrame(values, columns=list("abcde")).assign(stimulus=ids)


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".parquet"])
def test_columns_of_a_table_are_one_target_whatever_the_order_of_its_rows(store, table, tmp_path, suffix):
    path, shuffled = tmp_path / f"alexnet{suffix}", table.sample(frac=1, random_state=1)
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")
        shuffled.to_parquet(path)
    else:
        shuffled.to_csv(path, index=False, sep="\t" if suffix == ".tsv" else ",")
    found = nr.add_target(store, "alexnet", path, columns=["c", "a"]).targets("alexnet", stimuli=table["stimulus"])
    np.testing.assert_allclose(found, table[["c", "a"]], rtol=1e-6)
    assert found["feature"].values.tolist() == ["c", "a"]
    assert found.attrs["file"] == path.name
    assert found.attrs["file_sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert found.attrs["columns"] == ["c", "a"]
    assert weights_label(found.attrs) == f"{path.name} {found.attrs['file_sha256'][:8]}"


def test_arrays_are_in_the_order_of_the_store_or_of_the_ids(store, ids, values, tmp_path):
    np.save(tmp_path / "a.npy", values)
    np.save(tmp_path / "one.npy", values[:, 0])
    np.savez(tmp_path / "a.npz", features=values[::-1], stimuli=np.array(ids[::-1]))
    np.savez_compressed(tmp_path / "two.npz", conv1=values, conv2=values + 1)
    (tmp_path / "ids.txt").write_text("\n".join(ids[::-1]) + "\n")
    given = {
        "whole": ({"values": tmp_path / "a.npy"}, values),
        "text": ({"values": tmp_path / "a.npy", "stimuli": tmp_path / "ids.txt"}, values[::-1]),
        "vector": ({"values": tmp_path / "one.npy"}, values[:, :1]),
        "archive": ({"values": tmp_path / "a.npz"}, values),
        "key": ({"values": str(tmp_path / "two.npz"), "key": "conv2"}, values + 1),
    }
    for name, (options, expected) in given.items():
        store = nr.add_target(store, name, **options)
        np.testing.assert_array_equal(store.targets(name, stimuli=ids), expected)


def _wrong(ids, table, values, folder):
    np.save(folder / "short.npy", values[:-1])
    np.save(folder / "good.npy", values)
    np.save(folder / "nan.npy", np.where(np.arange(30)[:, None] == 3, np.nan, values))
    np.save(folder / "text.npy", values.astype(str))
    np.savez(folder / "two.npz", one=values, other=values)
    table.to_csv(folder / "good.csv", index=False)
    table.drop(columns="stimulus").to_csv(folder / "no_ids.csv", index=False)
    table.replace({"stimulus": {ids[2]: "stranger"}}).to_csv(folder / "unknown.csv", index=False)
    table.iloc[2:].to_csv(folder / "missing.csv", index=False)
    table.assign(a="dog").to_csv(folder / "text.csv", index=False)
    table.replace({"stimulus": {ids[2]: ids[3]}}).to_csv(folder / "twice.csv", index=False)
    table.replace({"stimulus": {ids[2]: ""}}).to_csv(folder / "empty.csv", index=False)
    (folder / "few.txt").write_text("\n".join(ids[:3]))
    (folder / "gap.txt").write_text("\n".join([ids[0], "", *ids[1:]]))
    (folder / "a.mat").write_bytes(b"1")


@pytest.mark.parametrize(
    ("file", "options", "said"),
    [
        ("short.npy", {}, "29, 5.* for 30 stimuli"),
        ("nan.npy", {}, "NaN[\\s\\S]*image0003"),
        ("text.npy", {}, "does not contain real numbers"),
        ("two.npz", {}, "unknown array"),
        ("two.npz", {"key": "third"}, "'third'[\\s\\S]*one, other"),
        ("no_ids.csv", {}, "no column holds the ids[\\s\\S]*--stimuli"),
        ("unknown.csv", {}, "unknown stimulus 'stranger'[\\s\\S]*1 of 30 ids"),
        ("missing.csv", {}, "no row for some stimuli of the store[\\s\\S]*2 of 30[\\s\\S]*--partial"),
        ("text.csv", {}, "'a' cannot be used[\\s\\S]*dog"),
        ("twice.csv", {}, "more than once"),
        ("empty.csv", {}, "'stimulus' cannot be used"),
        ("good.csv", {"columns": ["f"]}, "unknown column"),
        ("good.csv", {"columns": ["a", "a"]}, "each once"),
        ("good.csv", {"stimuli": "nowhere"}, "file of stimulus ids does not exist"),
        ("good.npy", {"stimuli": "few.txt"}, "for 3 stimuli"),
        ("good.npy", {"stimuli": "gap.txt"}, "line 2 is empty"),
        ("good.npy", {"columns": ["a"]}, "only tables have columns"),
        ("a.mat", {}, "this kind of file"),
        ("none.npy", {}, "does not exist"),
    ],
)
def test_wrong_files_leave_the_store_as_it_was(store, ids, table, values, tmp_path, monkeypatch, file, options, said):
    monkeypatch.chdir(tmp_path)
    _wrong(ids, table, values, tmp_path)
    with pytest.raises(InputError, match=said):
        nr.add_target(store, "mine", file, **options)
    assert nr.open_store(store.location).snapshot == store.snapshot


def test_some_stimuli_are_allowed_on_request(store, ids, table, tmp_path):
    table.iloc[2:].rename(columns={"stimulus": "name"}).to_csv(tmp_path / "a.csv", index=False)
    found = nr.add_target(store, "mine", tmp_path / "a.csv", columns=["b"], stimuli="name", partial=True)
    assert found.target_stimuli("mine").tolist() == ids[2:]
    with pytest.raises(StoreError, match="already has a target"):
        nr.add_target(found, "mine", tmp_path / "a.csv", columns=["b"], stimuli="name", partial=True)
