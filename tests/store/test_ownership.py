"""What a user keeps where a store should go is never deleted, and never changed."""

import os
import shutil

import numpy as np
import pytest

import neurorecon as nr
from neurorecon.errors import InputError, MissingFileError, NeuroreconError, StoreError
from neurorecon.store import build, ownership
from neurorecon.store.build import build_store
from neurorecon.store.writer import StoreWriter


def _content(folder):
    return {str(item.relative_to(folder)): item.read_bytes() if item.is_file() else None for item in folder.rglob("*")}


class Stopped(BaseException):
    """Ends a build as a signal would."""


def _begin(recipe, path, monkeypatch, after=2):
    """Leave an unfinished build."""
    commit, calls = StoreWriter.commit, []

    def stopping(self, message):
        found = commit(self, message)
        calls.append(message)
        if len(calls) == after:
            raise Stopped
        return found

    with monkeypatch.context() as patched:
        patched.setattr(StoreWriter, "commit", stopping)
        with pytest.raises(Stopped):
            build_store(recipe, path, progress=False)
    return path


def _incomplete_copy(path, built):
    shutil.copytree(built, path)
    shutil.rmtree(path / "refs")


def _user_file_below_chunks(path, _):
    (path / "chunks").mkdir(parents=True)
    (path / "chunks" / "thesis.txt").write_text("x")
    (path / "config.yaml").touch()


def _only_names_of_a_repository(path, _):
    for name in ("chunks", "manifests", "refs", "snapshots", "transactions"):
        (path / name).mkdir(parents=True)


def _half_a_repository(path, _):
    (path / "snapshots").mkdir(parents=True)
    (path / "snapshots" / "1CECHNKREP0F1RSTCMT0").write_bytes(b"half")


def _marker_of_another_program(path, built):
    _incomplete_copy(path, built)
    (path / ownership.MARKER).write_text('{"program": "other", "id": "1", "digest": "1"}')


def _own_marker_without_a_repository(path, _):
    _user_file_below_chunks(path, _)
    ownership.write_marker(path, "miniature", "1")


def _repository_of_another_program(path, _):
    import icechunk
    import zarr

    session = icechunk.Repository.create(icechunk.local_filesystem_storage(str(path))).writable_session("main")
    zarr.open_group(session.store, mode="a").create_array("mine", data=np.arange(3))
    session.commit("mine")


def _empty_repository_of_another_program(path, _):
    import icechunk

    icechunk.Repository.create(icechunk.local_filesystem_storage(str(path)))


def _build_branch_of_another_program(path, _):
    import icechunk
    import zarr

    repository = icechunk.Repository.create(icechunk.local_filesystem_storage(str(path)))
    repository.create_branch("build", repository.lookup_branch("main"))
    session = repository.writable_session("build")
    zarr.open_group(session.store, mode="a").create_array("mine", data=np.arange(3))
    session.commit("mine")


def _folder(path, _):
    path.mkdir()
    (path / "notes.txt").write_text("x")


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize(
    "make",
    [
        _incomplete_copy,
        _user_file_below_chunks,
        _only_names_of_a_repository,
        _half_a_repository,
        _marker_of_another_program,
        _own_marker_without_a_repository,
        _repository_of_another_program,
        _empty_repository_of_another_program,
        _build_branch_of_another_program,
        _folder,
    ],
)
def test_what_neurorecon_did_not_write_is_refused_and_stays(tmp_path, recipe, built, make, overwrite):
    path = tmp_path / "a.icechunk"
    make(path, built)
    before = _content(tmp_path)
    with pytest.raises(StoreError, match="nothing in it was changed") as caught:
        build_store(recipe(), path, overwrite=overwrite, progress=False)
    assert str(path) in str(caught.value)
    assert "--out" in str(caught.value)
    assert _content(tmp_path) == before  # not even a lock file


def test_the_command_refuses_with_code_2(tmp_path, recipe, monkeypatch):
    from typer.testing import CliRunner

    from neurorecon.cli.main import app

    recipe()  # registers the reader
    monkeypatch.chdir(tmp_path)
    (tmp_path / "m.toml").write_text('name = "miniature"\nreader = "miniature"\n')
    _user_file_below_chunks(tmp_path / "mine.icechunk", None)
    found = CliRunner().invoke(app, ["build", "m.toml", "--out", "mine.icechunk", "--quiet"])
    assert found.exit_code == 2, found.output
    assert found.stderr.count("neurorecon: error:") == 1
    assert (tmp_path / "mine.icechunk" / "chunks" / "thesis.txt").read_text() == "x"


def test_an_empty_folder_is_used(tmp_path, recipe, built):
    path = tmp_path / "a.icechunk"
    path.mkdir()
    build_store(recipe(), path, progress=False)
    assert nr.open_store(path).digests() == nr.open_store(built).digests()
    assert not (path / ownership.MARKER).exists()
    assert sorted(item.name for item in tmp_path.iterdir()) == ["a.icechunk", "a.icechunk.lock"]


def test_another_recipe_over_an_unfinished_build_needs_overwrite(tmp_path, recipe, built, monkeypatch):
    path = _begin(recipe(), tmp_path / "a.icechunk", monkeypatch)
    assert ownership.read_marker(path)["digest"] == recipe().digest()
    before = _content(path)
    with pytest.raises(StoreError, match="unfinished build of another recipe") as caught:
        build_store(recipe(seed=5), path, progress=False)
    assert "--overwrite" in str(caught.value)
    assert _content(path) == before
    build_store(recipe(seed=5), path, overwrite=True, progress=False)
    assert nr.open_store(path).digest != nr.open_store(built).digest
    assert not (path / ownership.MARKER).exists()


def test_a_build_without_a_commit_belongs_to_its_recipe(tmp_path, recipe, built, monkeypatch):
    path = tmp_path / "a.icechunk"
    with StoreWriter(path, ("miniature", recipe().digest())):
        pass
    with pytest.raises(StoreError, match="unfinished build of another recipe"):
        build_store(recipe(seed=5), path, progress=False)
    build_store(recipe(), path, progress=False)
    assert nr.open_store(path).digests() == nr.open_store(built).digests()


def test_a_build_that_an_older_version_began_is_resumed(tmp_path, recipe, built, monkeypatch):
    path = _begin(recipe(), tmp_path / "a.icechunk", monkeypatch)
    (path / ownership.MARKER).unlink()
    before = {name for name in _content(path) if name.startswith("chunks/")}
    with pytest.raises(StoreError, match="unfinished build of another recipe"):
        build_store(recipe(seed=5), path, progress=False)
    assert before <= set(_content(path))
    build_store(recipe(), path, progress=False)
    assert before <= set(_content(path))
    assert nr.open_store(path).digests() == nr.open_store(built).digests()


def _invalid(monkeypatch):
    def fail(*_):
        raise InputError("invalid data")

    monkeypatch.setattr(build, "_write_subject", fail)


def test_an_invalid_data_set_leaves_nothing(tmp_path, recipe, monkeypatch):
    _invalid(monkeypatch)
    with pytest.raises(InputError, match="invalid data"):
        build_store(recipe(), tmp_path / "a.icechunk", progress=False)
    assert not (tmp_path / "a.icechunk").exists()


@pytest.mark.parametrize("name", ["thesis.txt", "chunks/thesis.txt", "refs/notes", "chunks/more/ABJ010MAHHGS0N7HXJ80"])
def test_an_invalid_data_set_leaves_the_files_of_the_user(tmp_path, recipe, monkeypatch, name):
    path = _begin(recipe(), tmp_path / "a.icechunk", monkeypatch)
    (path / name).parent.mkdir(exist_ok=True)
    (path / name).write_text("x")
    before = _content(path)
    _invalid(monkeypatch)
    with pytest.raises(NeuroreconError, match=r"invalid data|invalid ref type"):
        build_store(recipe(), path, progress=False)
    after = _content(path)
    assert after[name] == b"x"
    assert {key for key in before if key.startswith("chunks/")} <= set(after)


def test_what_an_older_version_began_is_not_deleted_by_an_invalid_data_set(tmp_path, recipe, monkeypatch):
    path = _begin(recipe(), tmp_path / "a.icechunk", monkeypatch)
    (path / ownership.MARKER).unlink()
    before = _content(path)
    _invalid(monkeypatch)
    with pytest.raises(InputError, match="invalid data"):
        build_store(recipe(), path, progress=False)
    assert set(before) <= set(_content(path))


def test_overwriting_a_store_keeps_foreign_files(tmp_path, recipe):
    path = build_store(recipe(), tmp_path / "a.icechunk", progress=False)
    (path / "chunks" / "thesis.txt").write_text("x")
    (path / "notes.txt").write_text("x")
    build_store(recipe(seed=5), path, overwrite=True, progress=False)
    with StoreWriter(path) as writer:
        writer.collect()
    assert (path / "chunks" / "thesis.txt").read_text() == (path / "notes.txt").read_text() == "x"


def test_only_a_build_creates_a_store(tmp_path):
    with pytest.raises(MissingFileError, match="no store at this location"), StoreWriter(tmp_path / "a.icechunk"):
        pass
    assert not (tmp_path / "a.icechunk").exists()


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
def test_a_link_that_leads_nowhere_is_refused(tmp_path, recipe):
    (tmp_path / "a.icechunk").symlink_to(tmp_path / "disk" / "b.icechunk")
    with pytest.raises(StoreError, match="leads nowhere"):
        build_store(recipe(), tmp_path / "a.icechunk", progress=False)
    assert [item.name for item in tmp_path.iterdir()] == ["a.icechunk"]
