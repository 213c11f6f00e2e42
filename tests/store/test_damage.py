"""A byte that changed on the disk is found, wherever it is, and the array that holds it is named."""

import pickle
import random
import shutil

import numpy as np
import pytest
from zarr.core.sync import sync

import neurorecon as nr
from neurorecon.errors import StoreError
from neurorecon.io.tensors import block_digest
from neurorecon.store.check import METADATA
from neurorecon.store.reading import CompleteStore, StoredGroup
from neurorecon.store.writer import StoreWriter

#: Rounds in which a byte is flipped in a chunk of all arrays but some: 210 flips.
ROUNDS = 6


def _problems(store):
    return {finding.array: finding.problem for finding in nr.check_store(store) if finding.problem}


def _flip(path, generator):
    """Flip one bit of a file; return what it held."""
    whole = path.read_bytes()
    damaged = bytearray(whole)
    damaged[generator.randrange(len(whole))] ^= 1 << generator.randrange(8)
    path.write_bytes(damaged)
    return whole


def _same_values(one, other):
    return np.array_equal(np.asarray(one[...]).astype(object), np.asarray(other[...]).astype(object))


def _metadata(store):
    """Return all that a store says beside its values."""
    arrays = {path: (dict(array.attrs), array.shape, array.metadata.dimension_names) for path, array in store.arrays()}
    groups = {path: dict(group.attrs) for path, group in store._root.groups()}
    return dict(store._root.attrs), groups, arrays


def test_a_flipped_byte_in_any_chunk_is_found_and_its_array_named(tmp_path, store):
    root = nr.export_store(store, tmp_path / "a.zarr", progress=False)
    generator = random.Random(0)
    intact = dict(store.arrays())
    chunks = {name: sorted(path for path in (root / name / "c").rglob("*") if path.is_file()) for name in intact}
    assert all(chunks.values())
    untouched = {path for paths in chunks.values() for path in paths}
    flips = harmless = 0
    for number in range(ROUNDS):
        drawn = sorted(intact)
        generator.shuffle(drawn)
        drawn = drawn[len(drawn) // 6 :]
        drawn += [name for name in intact if number == ROUNDS - 1 and untouched.intersection(chunks[name])]
        before = {}
        for name in dict.fromkeys(drawn):
            fresh = [path for path in chunks[name] if path in untouched] or chunks[name]
            path = generator.choice(fresh)
            before[name] = path, _flip(path, generator)
            untouched.discard(path)
        copy = nr.open_store(root)
        found = _problems(copy)
        assert set(found) <= set(drawn)
        for name in set(drawn) - set(found):
            # Some bits of a codec's header mean nothing: then the values are still the same, all of them.
            assert _same_values(dict(copy.arrays())[name], intact[name]), f"silence about {name}"
            harmless += 1
        for path, whole in before.values():
            path.write_bytes(whole)
        flips += len(before)
    assert not untouched
    assert flips >= 200
    assert harmless < flips / 10
    assert _problems(nr.open_store(root)) == {}


def test_a_flipped_byte_in_the_chunks_of_a_repository_is_found(tmp_path, built):
    copy, generator = tmp_path / "a.icechunk", random.Random(1)
    shutil.copytree(built, copy)
    chunks = sorted((copy / "chunks").iterdir())
    assert len(chunks) > 4
    for _ in range(3):
        before = [(path, _flip(path, generator)) for path in chunks]
        # Each of these files is a chunk of an array of its own: the others are too small for one.
        found = _problems(nr.open_store(copy))
        assert len(found) == len(chunks), found
        assert "subj01/responses" in found
        assert "stimuli/images" in found
        for path, whole in before:
            path.write_bytes(whole)
    assert _problems(nr.open_store(copy)) == {}


def _one_flip(path, location, generator, good, metadata):
    """Flip a byte; return what came of it: a message, a finding, or nothing that anybody could notice."""
    whole = _flip(path, generator)
    try:
        damaged = nr.open_store(location)
        found = _problems(damaged)
        if found:
            return next(iter(found))
        # `check` read every value: with the digests of before, the values are those of before.
        assert damaged.digests() == good, f"silence about {path.name}"
        assert _metadata(damaged) == metadata, f"silence about {path.name}"
        return "harmless"
    except StoreError as error:
        return "refused" if "to do:" in str(error) else f"refused without advice: {error}"
    finally:
        path.write_bytes(whole)


@pytest.mark.filterwarnings("ignore:Object at")
def test_a_flipped_byte_in_what_lists_the_chunks_is_found_or_changes_nothing(tmp_path, built, store):
    copy, generator = tmp_path / "a.icechunk", random.Random(2)
    shutil.copytree(built, copy)
    good, metadata = store.digests(), _metadata(store)
    manifests = sorted((copy / "manifests").iterdir())
    files = [generator.choice(manifests) for _ in range(10)]
    files += [copy / "snapshots" / store.snapshot] * 12
    files += [path for path in (copy / "refs").rglob("*") if path.is_file()] * 2
    found = [_one_flip(path, copy, generator, good, metadata) for path in files]
    assert len(set(found)) > 3, found
    assert not [one for one in found if "without advice" in one]
    assert found.count("harmless") < len(found) / 2


@pytest.mark.filterwarnings("ignore:Object at")
def test_a_flipped_byte_in_the_metadata_of_an_exported_store_is_found_or_changes_nothing(tmp_path, store):
    root, generator = nr.export_store(store, tmp_path / "a.zarr", progress=False), random.Random(3)
    good, metadata = store.digests(), _metadata(nr.open_store(root))
    files = sorted(root.rglob("zarr.json"))
    found = [_one_flip(generator.choice(files), root, generator, good, metadata) for _ in range(10)]
    assert found.count("harmless") < len(found) / 2, found


def test_a_changed_attribute_is_found(tmp_path, store):
    """An affine that changed moves every map, and no digest of values would tell."""
    import zarr

    root = nr.export_store(store, tmp_path / "a.zarr", progress=False)
    assert _problems(nr.open_store(root)) == {}
    group = zarr.open_group(root, mode="r+")["subj01"]
    space = dict(group.attrs["space"])
    space["affine"][0][3] += 1
    group.attrs["space"] = space
    with pytest.raises(StoreError, match=r"names and attributes cannot be read as written[\s\S]*differs from"):
        nr.open_store(root)
    (problem,) = _problems(nr.open_store(root, verify=False)).items()
    assert problem == (METADATA, "an attribute, a shape or a name differs from what was written")


@pytest.fixture
def older(tmp_path, store):
    """An exported store of an older version: chunks without a checksum."""
    import zarr

    root = zarr.open_group(nr.export_store(store, tmp_path / "older.zarr", progress=False), mode="r+")
    for path, array in store.arrays():
        if array.dtype.kind not in "biufc":
            continue
        parent, _, name = path.rpartition("/")
        copy = root[parent].create_array(
            name,
            shape=array.shape,
            dtype=array.dtype,
            chunks=array.chunks,
            compressors=array.compressors[0],
            dimension_names=array.metadata.dimension_names,
            attributes=dict(array.attrs),
            overwrite=True,
        )
        copy[...] = array[...]
    return tmp_path / "older.zarr"


def test_a_chunk_that_an_older_version_left_out_as_it_held_zeros_is_no_damage(tmp_path):
    import zarr

    values = np.arange(12.0).reshape(6, 2)
    values[2:4] = 0
    whole = zarr.open_group(tmp_path / "a.zarr", mode="w")
    array = whole.create_array("group/a", data=values, chunks=(2, 2))
    array.attrs.update({"block_rows": 6, "block_digests": [block_digest(values)], "digest": "of all"})
    chunks = sorted(path.parent.name for path in (tmp_path / "a.zarr").rglob("c/*/0"))
    assert chunks == ["0", "2"]
    storage = CompleteStore(zarr.storage.LocalStore(tmp_path / "a.zarr", read_only=True), "a.zarr")
    root = StoredGroup(zarr.open_group(storage, mode="r"), "a.zarr")
    np.testing.assert_array_equal(root["group/a"][2:4], 0)
    np.testing.assert_array_equal(root["group"]["a"][...], values)
    shutil.rmtree(tmp_path / "a.zarr" / "group" / "a" / "c" / "2")
    again = StoredGroup(zarr.open_group(CompleteStore(storage.below, "a.zarr"), mode="r"), "a.zarr")
    with pytest.raises(StoreError, match=r"group/a cannot be read as written[\s\S]*rows 0 to 6 differ"):
        again["group/a"][4:]


def test_new_stores_leave_no_chunk_out(tmp_path):
    """Also not one that holds only zeros, so that a missing chunk is a damaged one."""
    with StoreWriter(tmp_path / "a.icechunk", create=("zeros", "digest")) as writer:
        writer.put("zeros", ["x", "y"], np.zeros((3000, 1), dtype=np.float32))
        writer.commit("zeros")
        keys = sync(_all_of(writer.root.store.list_prefix("zeros")))
    assert sorted(keys) == [*(f"zeros/c/{row}/0" for row in range(4)), "zeros/zarr.json"]


async def _all_of(keys):
    return [key async for key in keys]


def test_a_flipped_bit_without_a_checksum_is_found_in_an_array_of_one_block(older, store):
    chunk = older / "subj01" / "responses" / "c" / "0" / "0"
    content = bytearray(chunk.read_bytes())
    content[-1] ^= 1
    chunk.write_bytes(content)
    lazy = nr.open_store(older).responses("subj01", "V1")
    with pytest.raises(StoreError, match=r"subj01/responses cannot be read as written[\s\S]*differ from what was"):
        lazy.compute()


def test_a_damaged_array_raises_the_same_in_another_process(tmp_path, store):
    root = nr.export_store(store, tmp_path / "a.zarr", progress=False)
    lazy = nr.open_store(root).responses("subj01").data
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(lazy)).compute(), store.responses("subj01"))
    shutil.rmtree(root / "subj01" / "responses" / "c")
    with pytest.raises(StoreError, match="subj01/responses cannot be read as written") as raised:
        pickle.loads(pickle.dumps(lazy)).compute()
    assert str(pickle.loads(pickle.dumps(raised.value))) == str(raised.value)


def test_a_wrong_index_is_no_damage(store):
    with pytest.raises(IndexError):
        store._root["subj01/responses"][10**6, 0]
