"""One lock for a store, whatever it is called; no file of the user is taken for it."""

import os

import pytest

import neurorecon as nr
from neurorecon.errors import StoreError, StoreLockedError
from neurorecon.store.build import build_store
from neurorecon.store.writer import StoreWriter, WriterLock

pytestmark = pytest.mark.skipif(os.name == "nt", reason="links and forks work otherwise there")


def test_a_link_has_the_lock_of_its_store(tmp_path, recipe):
    path = build_store(recipe(), tmp_path / "data" / "a.icechunk", progress=False)
    link, folder = tmp_path / "link.icechunk", tmp_path / "folder"
    link.symlink_to(path)
    folder.symlink_to(path.parent)
    for one in (link, folder / "a.icechunk", path):
        for other in (link, folder / "a.icechunk", path):
            with StoreWriter(one), pytest.raises(StoreLockedError), StoreWriter(other):
                pass
    with StoreWriter(link), pytest.raises(StoreLockedError):
        build_store(recipe(seed=5), path, overwrite=True, progress=False)
    assert sorted(item.name for item in tmp_path.iterdir()) == ["data", "folder", "link.icechunk"]


def test_a_store_is_written_where_the_link_leads(tmp_path, recipe):
    path = build_store(recipe(), tmp_path / "data" / "a.icechunk", progress=False)
    old = nr.open_store(path)
    link = tmp_path / "link.icechunk"
    link.symlink_to(path)
    build_store(recipe(seed=5), link, overwrite=True, progress=False)
    assert link.is_symlink()
    assert nr.open_store(path).digest == nr.open_store(link).digest != old.digest
    assert nr.open_store(path, snapshot=old.snapshot).digest == old.digest


@pytest.mark.parametrize("content", [b"my notes", b"\xff\xfe\x00", b'{"other": 1}'])
def test_a_file_of_the_user_is_no_lock(tmp_path, recipe, content):
    file = tmp_path / "a.icechunk.lock"
    file.write_bytes(content)
    with pytest.raises(StoreError, match="did not write") as caught:
        build_store(recipe(), tmp_path / "a.icechunk", progress=False)
    assert str(file) in str(caught.value)
    assert file.read_bytes() == content
    assert not (tmp_path / "a.icechunk").exists()


def test_a_lock_file_that_is_a_link_is_refused(tmp_path, recipe):
    (tmp_path / "thesis.txt").touch()
    (tmp_path / "a.icechunk.lock").symlink_to(tmp_path / "thesis.txt")
    with pytest.raises(StoreError, match="a symbolic link"):
        build_store(recipe(), tmp_path / "a.icechunk", progress=False)
    assert (tmp_path / "thesis.txt").read_bytes() == b""


@pytest.mark.parametrize("left", [b"", b'{"pi', b'{"pid": 1, "host": "h", "since": "x"}'])
def test_what_an_earlier_holder_left_is_accepted(tmp_path, left):
    (tmp_path / "a.lock").write_bytes(left)
    with WriterLock(tmp_path / "a") as lock:
        assert lock.was_left == bool(left)


@pytest.mark.parametrize("error", [StoreError("x"), ValueError("x"), KeyboardInterrupt()])
def test_a_failed_command_releases_the_lock(tmp_path, recipe, monkeypatch, error):
    path = build_store(recipe(), tmp_path / "a.icechunk", progress=False)

    def fail(*_):
        raise error

    with pytest.raises(type(error)), StoreWriter(path):
        raise error
    with monkeypatch.context() as patched:  # the next writer also fails, while it looks for remains
        patched.setattr(StoreWriter, "collect", fail)
        with pytest.raises(type(error)), StoreWriter(path):
            pass
    with monkeypatch.context() as patched:
        patched.setattr(StoreWriter, "_begin", fail)
        with pytest.raises((Exception, KeyboardInterrupt)), StoreWriter(path):
            pass
    with StoreWriter(path):
        pass


def test_a_forked_process_does_not_keep_the_lock(tmp_path):
    read, write = os.pipe()
    with WriterLock(tmp_path / "a"):
        child = os.fork()
        if not child:
            os.close(write)
            os.read(read, 1)  # until the parent closes its end
            os._exit(0)
        os.close(read)
    with WriterLock(tmp_path / "a"):
        pass
    os.close(write)
    os.waitpid(child, 0)


def test_a_lock_file_deleted_meanwhile_is_no_lock(tmp_path, monkeypatch):
    opened = WriterLock._open
    calls = []

    def deleted(self):
        file = opened(self)
        calls.append(self)
        if len(calls) == 1:
            self.path.unlink()
        return file

    monkeypatch.setattr(WriterLock, "_open", deleted)
    with WriterLock(tmp_path / "a"), pytest.raises(StoreLockedError), WriterLock(tmp_path / "a"):
        pass
    assert len(calls) == 3


def test_an_export_leaves_no_lock_file(tmp_path, store):
    nr.export_store(store, tmp_path / "a.zarr", progress=False)
    assert [item.name for item in tmp_path.iterdir()] == ["a.zarr"]
