"""A byte that changed on the disk is found, wherever it is, and the array that holds it is named."""

import random
import shutil

import numpy as np
import pytest

import neurorecon as nr
from neurorecon.errors import StoreError
from neurorecon.store.check import METADATA

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
    (problem,) = _problems(nr.open_store(root)).items()
    assert problem == (METADATA, "an attribute, a shape or a name differs from what was written")
