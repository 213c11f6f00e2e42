"""Files are written whole or not at all; files that changed since they were read are noticed."""

import contextlib
import errno
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from neurorecon.errors import InputError, MissingFileError
from neurorecon.io.files import (
    changes,
    damaged,
    files_below,
    fingerprint,
    inside,
    is_url,
    remove_leftovers,
    replacing,
    require_file,
    write_bytes,
    write_error,
    write_json,
)


def test_a_file_takes_its_name_when_it_is_complete(tmp_path):
    path = tmp_path / "deep" / "maps.nii.gz"
    with replacing(path) as part:
        assert part.name == "maps.nii.gz"  # nibabel chooses the format by the ending
        part.write_text("new")
        assert not path.exists()
        assert files_below(tmp_path) == []
    assert path.read_text() == "new"
    assert os.listdir(path.parent) == ["maps.nii.gz"]


def test_a_folder_replaces_no_folder_with_content(tmp_path):
    path = tmp_path / "store.zarr"
    path.mkdir()  # an empty one holds nothing to lose
    for number in range(2):
        with contextlib.ExitStack() as stack:
            if number:
                stack.enter_context(pytest.raises(FileExistsError, match="already holds something"))
            part = stack.enter_context(replacing(path))
            part.mkdir()
            (part / f"file{number}").write_text("")
        assert os.listdir(path) == ["file0"]
        assert os.listdir(tmp_path) == ["store.zarr"]


def test_a_link_is_replaced_and_what_it_leads_to_stays(tmp_path):
    (tmp_path / "mine.json").write_text("mine")
    (tmp_path / "record.json").symlink_to(tmp_path / "mine.json")
    write_json(tmp_path / "record.json", {"a": 1})
    assert not (tmp_path / "record.json").is_symlink()
    assert (tmp_path / "mine.json").read_text() == "mine"


@pytest.mark.parametrize("folder", [True, False])
def test_an_error_leaves_what_was_there_and_nothing_else(tmp_path, folder, monkeypatch):
    path = tmp_path / "result"

    def write(part, text):
        if folder:
            part.mkdir()
        (part / "file" if folder else part).write_text(text)

    with replacing(path) as part:
        write(part, "old")
    with pytest.raises(TypeError), replacing(path) as part:
        write(part, object())
    with pytest.raises(FileNotFoundError), replacing(path):
        pass  # nothing was written

    def broken(source, target):
        raise OSError("No space left on device")

    monkeypatch.setattr(os, "replace", broken)
    with pytest.raises(OSError, match=r"No space left|already holds"), replacing(path) as part:
        write(part, "new")
    assert (path / "file" if folder else path).read_text() == "old"
    assert os.listdir(tmp_path) == ["result"]


_KILLED = """
import os, signal, sys
from neurorecon.io.files import replacing
with replacing(sys.argv[1]) as part:
    part.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_process_leaves_the_old_file_and_what_can_be_removed(tmp_path):
    path = write_bytes(tmp_path / "checkpoint", b"old")
    killed = subprocess.run([sys.executable, "-c", _KILLED, str(path)], timeout=120)
    assert killed.returncode == -signal.SIGKILL
    assert path.read_bytes() == b"old"
    (left,) = tmp_path.glob(".checkpoint.*.part")
    (tmp_path / ".other.abcdefgh.part").mkdir()
    kept = [".checkpoint.1234.part", ".checkpoint.abcdefgh.part", ".checkpoint.abcdefg1.part"]
    (tmp_path / kept[0]).write_text("a file")
    for name, own in ((kept[1], "checkpoint.old"), (kept[2], "thesis.txt")):
        (tmp_path / name).mkdir()
        (tmp_path / name / own).write_text("x")
    os.utime(tmp_path / ".other.abcdefgh.part")
    remove_leftovers(tmp_path / "*", seconds=3600)
    assert left.exists()
    old = time.time() - 7200
    os.utime(left, (old, old))
    remove_leftovers(tmp_path / "*", seconds=3600)
    assert sorted(os.listdir(tmp_path)) == sorted([*kept, ".other.abcdefgh.part", "checkpoint"])
    remove_leftovers(path)
    assert sorted(os.listdir(tmp_path)) == sorted([*kept, ".other.abcdefgh.part", "checkpoint"])
    remove_leftovers(tmp_path / "other")
    assert sorted(os.listdir(tmp_path)) == sorted([*kept, "checkpoint"])


def test_what_cannot_be_written_is_refused_and_the_old_file_stays(tmp_path):
    path = write_json(tmp_path / "deep" / "record.json", {"a": 1})
    with pytest.raises(InputError, match="cannot be written"):
        write_json(path, {"a": object()})
    assert json.loads(path.read_text()) == {"a": 1}
    assert os.listdir(path.parent) == ["record.json"]


def test_failed_write_leaves_the_old_file_and_no_rest(tmp_path):
    path = write_bytes(tmp_path / "figure.png", b"old")
    with pytest.raises(TypeError):
        write_bytes(path, "no bytes")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["figure.png"]


def test_files_are_as_readable_as_others(tmp_path):
    (tmp_path / "usual").write_text("")
    path = write_json(tmp_path / "record.json", {})
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE((tmp_path / "usual").stat().st_mode)


def test_urls_are_told_from_paths():
    assert is_url("s3://bucket/store.icechunk")
    assert is_url("https://host.org/store.zarr")
    assert not is_url("stores/scenes.icechunk")
    assert not is_url("C:/stores/scenes.icechunk")


def test_errors_name_the_file_and_say_what_to_do(tmp_path):
    path = write_bytes(tmp_path / "betas.nii", b"123")
    assert "betas.nii cannot be read" in str(damaged(path, ValueError("no header")))
    assert "3 bytes; ValueError: no header" in str(damaged(path, ValueError("no header")))
    for said, found in (
        (OSError(28, "No space left on device"), "the disk is full"),
        (PermissionError(13, "Permission denied"), "the folder is not writable"),
        (OSError("\n  x broken\n  at chunk 3"), "(broken)"),
    ):
        message = str(write_error(path, said, "the scores cannot be written"))
        assert "the scores cannot be written" in message
        assert found in message


def test_a_file_is_the_same_where_size_and_time_or_size_and_ends_are(tmp_path):
    one, other = tmp_path / "one", tmp_path / "below" / "other"
    other.parent.mkdir()
    one.write_bytes(b"1" * 3_000_000)
    other.write_bytes(b"2")
    remembered = fingerprint(tmp_path, files_below(tmp_path))
    assert list(remembered) == ["below/other", "one"]
    moved = tmp_path / "moved"
    (tmp_path / "below").rename(moved)
    assert str(changes(tmp_path, files_below(tmp_path), remembered)) == "1 new (moved/other); 1 missing (below/other)"
    moved.rename(tmp_path / "below")
    assert not changes(tmp_path, files_below(tmp_path), remembered)
    one.touch()
    assert not changes(tmp_path, files_below(tmp_path), remembered)
    for place in (0, 2_999_999):
        content = bytearray(b"1" * 3_000_000)
        content[place] = 0
        one.write_bytes(content)
        assert changes(tmp_path, files_below(tmp_path), remembered).changed == ["one"]
    one.write_bytes(b"1" * 3_000_000)
    other.write_bytes(b"22")
    assert changes(tmp_path, files_below(tmp_path), remembered).changed == ["below/other"]


def test_hidden_files_and_stores_are_no_sources(tmp_path):
    for name in (".DS_Store", ".git/config", "lab.icechunk/refs/main", "lab.icechunk.lock", "a.zarr.partial/x", "data"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert files_below(tmp_path) == [tmp_path / "data"]


def test_nothing_is_moved_onto_a_mount_point(tmp_path, monkeypatch):
    """The system refuses to rename a folder to a mount point, or across disks: one error, and nothing is left."""

    def refuse(source, destination):
        raise OSError(errno.EBUSY, "Device or resource busy", str(source), None, str(destination))

    (tmp_path / "results").mkdir()
    monkeypatch.setattr(os, "replace", refuse)
    mounted = pytest.raises(InputError, match=r"is a mount point[\s\S]*--out .*results.results")
    with mounted, replacing(tmp_path / "results") as part:
        part.mkdir()
    assert [path.name for path in tmp_path.iterdir()] == ["results"]
    assert list((tmp_path / "results").iterdir()) == []


#: How a file that is not there is made, and what the message has to say.
NOT_THERE = {
    "nothing": (lambda path: None, MissingFileError, ["is missing", "no such file"]),
    "link to nothing": (
        lambda path: path.symlink_to("gone.npy"),
        MissingFileError,
        ["is a link that leads nowhere", "a link to gone.npy"],
    ),
    "annexed": (
        lambda path: path.symlink_to("../.git/annex/objects/aa/bb/MD5E-s1--0.npy/MD5E-s1--0.npy"),
        MissingFileError,
        ["the content of", "is not there", "datalad get", "git annex get"],
    ),
    "annexed, unlocked": (
        lambda path: path.write_text("/annex/objects/MD5E-s1--0.npy\n"),
        MissingFileError,
        ["the content of", "is not there", "datalad get"],
    ),
    "Git LFS": (
        lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"),
        MissingFileError,
        ["the content of", "is not there", "git lfs pull"],
    ),
    "loop": (lambda path: path.symlink_to(path.name), MissingFileError, ["is a link that leads in a circle"]),
    "pipe": (lambda path: os.mkfifo(path), InputError, ["is not a file", "a named pipe"]),
    "folder": (lambda path: path.mkdir(), InputError, ["is not a file", "a folder"]),
    "empty": (lambda path: path.touch(), InputError, ["cannot be read", "an empty file"]),
}


@pytest.mark.parametrize("datalad", [False, True])
def test_the_empty_folder_of_a_subdataset_is_named(tmp_path, datalad):
    (tmp_path / "sub-01").mkdir()
    if datalad:
        (tmp_path / ".gitmodules").write_text('[submodule "sub-01"]\n\tpath = sub-01\n')
    with pytest.raises(MissingFileError) as caught:
        require_file(tmp_path / "sub-01" / "func" / "bold.nii.gz", "a run")
    message = str(caught.value)
    assert f"there is nothing in {tmp_path / 'sub-01'}" in message
    assert f"datalad get -n {tmp_path / 'sub-01'}" in message
    assert ("is missing" in message) != datalad
    assert ("empty folder; a DataLad subdataset that was not installed" in message) == datalad


@pytest.mark.parametrize("kind", NOT_THERE)
def test_what_is_no_file_is_named_as_what_it_is(tmp_path, kind):
    make, error, said = NOT_THERE[kind]
    path = tmp_path / "responses.npy"
    make(path)
    with pytest.raises(error) as caught:
        require_file(path, "an array of responses")
    for words in (*said, str(path), "expected: an array of responses", "to do:"):
        assert words in str(caught.value)


def test_a_socket_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # names of sockets are short
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind("data.csv")
        with pytest.raises(InputError, match="a socket"):
            require_file(Path("data.csv"), "a table")


def test_a_folder_on_the_way_that_is_a_broken_link(tmp_path):
    (tmp_path / "sub-01").symlink_to("nowhere")
    with pytest.raises(MissingFileError, match=r"sub-01 is a link that leads nowhere"):
        require_file(tmp_path / "sub-01" / "func" / "events.tsv", "events")


def test_files_and_links_to_files_are_accepted(tmp_path):
    (tmp_path / "a.csv").write_text("id\n1\n")
    (tmp_path / "b.csv").symlink_to("a.csv")
    require_file(tmp_path / "a.csv", "a table")
    require_file(tmp_path / "b.csv", "a table")


@pytest.mark.parametrize("name", ["../x.png", "/etc/hostname", "a/../../x.png", "..", "a/../.."])
def test_paths_in_tables_stay_inside(tmp_path, name):
    with pytest.raises(InputError, match="lies outside of its folder"):
        inside(tmp_path / "images", name, "the image of 'a'")


@pytest.mark.parametrize("name", ["x.png", "a/x.png", "a/../x.png", "./x.png", "..x.png", "a/..png"])
def test_paths_in_tables_that_are_inside(tmp_path, name):
    assert inside(tmp_path, name, "an image") == Path(os.path.normpath(tmp_path / name))
