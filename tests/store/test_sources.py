"""A build whose files changed since the last one says so, names them, and changes nothing."""

import os
import shutil

import numpy as np
import pandas as pd
import pytest

import neurorecon as nr
from neurorecon.datasets.recipe import Recipe
from neurorecon.errors import StoreError
from neurorecon.io.files import files_below, fingerprint
from neurorecon.store import writer
from neurorecon.store.build import build_store


@pytest.fixture
def lab(tmp_path):
    """A folder of arrays for two subjects."""
    rng = np.random.default_rng(0)
    for name in ("sub01", "sub02"):
        folder = tmp_path / "lab" / name
        folder.mkdir(parents=True)
        np.save(folder / "responses.npy", rng.standard_normal((6, 4)).astype(np.float32))
        pd.DataFrame({"stimulus": list("abcdef")}).to_csv(folder / "samples.csv", index=False)
    return tmp_path / "lab"


def _build(lab, path, **options):
    recipe = Recipe(name="lab", reader="arrays", root=str(lab))
    return nr.open_store(build_store(recipe, path, progress=False, **options))


def _change(lab):
    path = lab / "sub01" / "responses.npy"
    values = np.load(path)
    values[0, 0] += 1
    np.save(path, values)
    return values


def _tree(path):
    return {item: item.stat().st_mtime_ns for item in path.rglob("*") if item.is_file()}


@pytest.fixture
def built(lab, tmp_path):
    path = tmp_path / "lab.icechunk"
    _build(lab, path)
    return path


def test_a_changed_file_is_refused_and_named(lab, built):
    _change(lab)
    before = _tree(built)
    with pytest.raises(StoreError) as found:
        _build(lab, built)
    message = str(found.value)
    assert "changed since this store was built" in message
    assert "1 changed (sub01/responses.npy)" in message
    assert "--overwrite" in message
    assert _tree(built) == before


def test_new_and_missing_files_are_refused_and_named(lab, built):
    (lab / "sub02" / "samples.csv").rename(lab / "sub02" / "voxels.csv")
    with pytest.raises(StoreError, match=r"1 new \(sub02/voxels.csv\); 1 missing \(sub02/samples.csv\)"):
        _build(lab, built)


def test_a_subject_that_is_gone_is_missing(lab, built):
    shutil.rmtree(lab / "sub02")
    with pytest.raises(StoreError, match=r"2 missing \(sub02/responses.npy, sub02/samples.csv\)"):
        _build(lab, built)


def test_sizes_and_times_are_remembered_as_they_are(lab, built):
    kept = nr.open_store(built)._root["sources"].attrs["files"]
    assert {name: tuple(facts) for name, facts in kept.items()} == fingerprint(lab, files_below(lab))


def test_overwrite_takes_the_files_that_there_are(lab, built):
    values = _change(lab)
    store = _build(lab, built, overwrite=True)
    np.testing.assert_array_equal(store.responses("sub01"), values)
    assert _build(lab, built).snapshot == store.snapshot


def test_moved_copied_and_touched_files_are_the_same(lab, built, tmp_path):
    snapshot = nr.open_store(built).snapshot
    moved = lab.rename(tmp_path / "moved")
    assert _build(moved, built).snapshot == snapshot
    copied = tmp_path / "copied"
    shutil.copytree(moved, copied, copy_function=shutil.copyfile)  # without the times
    assert _build(copied, built).snapshot == snapshot
    os.utime(moved / "sub01" / "responses.npy", (0, 0))
    assert _build(moved, built).snapshot == snapshot


def test_what_is_not_read_may_change(lab, built):
    (lab / "sub01" / "notes.txt").write_text("of another matter")
    assert _build(lab, built)


def test_a_store_whose_files_were_taken_away_is_left_as_it_is(lab, built):
    snapshot = nr.open_store(built).snapshot
    for folder in lab.iterdir():
        shutil.rmtree(folder)
    assert _build(lab, built).snapshot == snapshot
    lab.rmdir()
    assert _build(lab, built).snapshot == snapshot


def test_stores_that_remember_no_files_are_left_as_they_are(lab, built):
    """Those of older versions."""
    with writer.StoreWriter(built) as old:
        del old.root["sources"]
        old.commit("as it was")
    _change(lab)
    assert _build(lab, built)


def test_digests_do_not_depend_on_where_and_when_files_lie(lab, built, tmp_path):
    shutil.copytree(lab, tmp_path / "again", copy_function=shutil.copyfile)
    again = _build(tmp_path / "again", tmp_path / "again.icechunk")
    assert again.digest == nr.open_store(built).digest
    assert {finding.problem for finding in nr.check_store(again)} == {None}


def _interrupt(lab, path, monkeypatch):
    """Begin a build that ends as a kill would end it: behind its last commit."""
    from neurorecon.store import build

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(build, "_write_subject", killed)
        with pytest.raises(KeyboardInterrupt):
            _build(lab, path)
    with pytest.raises(StoreError, match="no finished store"):
        nr.open_store(path)


def test_an_interrupted_build_does_not_go_on_with_other_files(lab, tmp_path, monkeypatch):
    path, old = tmp_path / "begun.icechunk", np.load(lab / "sub01" / "responses.npy")
    _interrupt(lab, path, monkeypatch)
    values = _change(lab)
    before = _tree(path)
    with pytest.raises(StoreError, match="changed since this build was interrupted"):
        _build(lab, path)
    assert _tree(path) == before
    np.testing.assert_array_equal(_build(lab, path, overwrite=True).responses("sub01"), values)
    assert not np.array_equal(old, values)


def test_an_interrupted_build_goes_on_with_the_files_put_back(lab, tmp_path, monkeypatch):
    path = tmp_path / "begun.icechunk"
    _interrupt(lab, path, monkeypatch)
    shutil.copytree(lab, tmp_path / "old")
    _change(lab)
    with pytest.raises(StoreError, match="changed since this build was interrupted"):
        _build(lab, path)
    store = _build(tmp_path / "old", path)
    np.testing.assert_array_equal(store.responses("sub01"), np.load(tmp_path / "old" / "sub01" / "responses.npy"))
