"""Every command on a damaged store: one error that names the array and says what to do, and nothing on disk changes."""

import shutil

import numpy as np
import pytest

import neurorecon as nr
from neurorecon.datasets.recipe import Recipe
from neurorecon.registry import DATASETS
from neurorecon.store.build import build_store
from neurorecon.store.writer import StoreWriter
from neurorecon.testing.miniature import MiniatureReader

QUICK = ("--permutations", "20", "--no-figures", "--out", "out")

#: Commands, and the arrays of which they name one if their chunks are damaged (export names the first of all).
COMMANDS = {
    "maps": (("maps", "--bands", "category", *QUICK), ("subj01/responses", "targets/category/values")),
    "reconstruct": (("reconstruct", *QUICK), ("subj01/responses",)),
    "classify": (("classify", *QUICK), ("subj01/responses",)),
    "evaluate": (("evaluate", "images.npz", *QUICK), ("stimuli/images",)),
    "features": (("features", "--target", "gabor"), ("stimuli/images",)),
    "export": (("export", "copy.zarr"), ("stimuli/frames", "stimuli/images")),
}


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    """A store of a few kilobytes, as a repository and exported, and images to evaluate."""
    folder = tmp_path_factory.mktemp("stores")
    DATASETS.register("miniature", MiniatureReader)
    recipe = Recipe(name="tiny", reader="miniature", options={"subjects": 1, "images": 12, "videos": 6, "voxels": 24})
    path = build_store(recipe, folder / "tiny.icechunk", progress=False)
    store = nr.extract(nr.open_store(path), ["category"], progress=False)
    nr.export_store(store, folder / "tiny.zarr", progress=False)
    images = store.images(split="test")
    np.savez(folder / "images.npz", stimulus=images["stimulus"].values, reconstructed=images.values)
    return folder


@pytest.fixture
def copied(stores, tmp_path):
    """Return what copies a store into the folder of the test."""

    def copy(name):
        shutil.copy(stores / "images.npz", tmp_path)
        shutil.copytree(stores / name, tmp_path / name)
        return tmp_path / name

    return copy


def _cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _flip(path):
    content = bytearray(path.read_bytes())
    for place in range(len(content) // 2 % 7, len(content), 7):  # some bits mean nothing, and test_damage.py flips one
        content[place] ^= 1 << place % 8
    path.write_bytes(content)


DAMAGES = {"deleted": lambda path: path.unlink(), "cut": _cut, "flipped": _flip}


def _files(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _content(folder):
    return {path: path.read_bytes() if path.is_file() else None for path in folder.rglob("*") if path.suffix != ".lock"}


def _check_all(call, store, named, commands=COMMANDS):
    """Assert that all commands refuse a store, name an array of it, and change nothing."""
    before = _content(store.parent)
    for command in commands:
        arguments, arrays = COMMANDS[command]
        found = call(*arguments, "--store", store, "--quiet")
        assert found.exit_code == 2, (command, found.output, found.exception)
        assert found.stderr.count("neurorecon: error:") == 1, command
        assert "Traceback" not in found.stderr, command
        for part in ("  given:    ", "  expected: ", "  to do:    ", str(store)):
            assert part in found.stderr, (command, found.stderr)
        assert any(name in found.stderr for name in (arrays if named is None else named)), (command, found.stderr)
        assert _content(store.parent) == before, command


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_chunks_of_a_repository(call, copied, damage):
    store = copied("tiny.icechunk")
    for path in _files(store / "chunks"):
        DAMAGES[damage](path)
    _check_all(call, store, None)
    assert call("info", store).exit_code == 0  # it reads none of them
    found = call("check", store, "--quiet")
    assert found.exit_code == 2
    assert "subj01/responses: rows 0 to" in found.stderr
    opened = nr.open_store(store)
    for lazy in (opened.responses("subj01"), opened.images(), opened.frames()):
        with pytest.raises(nr.errors.StoreError, match=r"cannot be read as written[\s\S]*neurorecon check"):
            lazy.compute()


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_chunks_of_an_exported_store(call, copied, damage):
    """Zarr itself reads a missing chunk as zeros, and LZ4 decodes most flipped bits to other numbers."""
    store = copied("tiny.zarr")
    for name in ("subj01/responses", "stimuli/images", "stimuli/frames", "targets/category/values"):
        for path in _files(store / name / "c"):
            DAMAGES[damage](path)
    _check_all(call, store, None, [name for name in COMMANDS if name != "features"])
    opened = nr.open_store(store)
    for lazy in (opened.responses("subj01"), opened.images(), opened.frames(), opened.targets("category")):
        with pytest.raises(nr.errors.StoreError, match=r"cannot be read as written[\s\S]*neurorecon check"):
            lazy.compute()


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize(
    ("folder", "named"),
    [
        ("manifests", ("subj01/", "stimuli/")),
        ("snapshots", ("the latest snapshot of this store cannot be read", "names and attributes cannot be read")),
        ("refs", ("cannot read this store",)),
    ],
)
def test_damaged_lists_of_a_repository(call, copied, damage, folder, named):
    store = copied("tiny.icechunk")
    for path in _files(store / folder):
        DAMAGES[damage](path)
    _check_all(call, store, named)
    assert call("check", store, "--quiet").exit_code == 2


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_transaction_logs_are_not_needed(call, copied, damage):
    store = copied("tiny.icechunk")
    for path in _files(store / "transactions"):
        DAMAGES[damage](path)
    for command, (arguments, _) in COMMANDS.items():
        found = call(*arguments, "--store", store, "--quiet")
        assert found.exit_code == 0, (command, found.output)


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", ["subj01/responses", "stimuli", ""])
def test_damaged_metadata_of_an_exported_store(call, copied, damage, name):
    store = copied("tiny.zarr")
    DAMAGES[damage](store / name / "zarr.json")
    named = (
        "names and attributes cannot be read",
        f"{name}/zarr.json cannot be read".lstrip("/"),
        "cannot read this Zarr",
    )
    _check_all(call, store, named, [name for name in COMMANDS if name != "features"])
    assert call("info", store).exit_code == 2
    assert call("check", store, "--quiet").exit_code == 2


def test_a_writer_that_cannot_read_what_it_goes_on_with_asks_for_a_check(copied):
    """An array that a killed command began is read again when a later one goes on with it."""
    store = copied("tiny.icechunk")
    before = {path.name for path in _files(store / "manifests")}
    with StoreWriter(store) as writer:
        writer.put("begun", ["x", "y"], np.ones((10, 4), dtype=np.float32))
        writer.commit("begun")
    for path in _files(store / "manifests"):
        if path.name not in before:
            path.unlink()
    opened = nr.open_store(store)
    failing = pytest.raises(nr.errors.StoreWriteError, match=r"writing to the store failed[\s\S]*run: neurorecon check")
    with failing, StoreWriter(store) as writer:
        writer.root["begun"][:1] = 2.0
        writer.commit("more")
    assert nr.open_store(store).snapshot == opened.snapshot
