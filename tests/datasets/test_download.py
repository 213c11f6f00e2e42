"""Downloads, from a server of one's own: whole files, wrong ones, and no server at all. None of it needs a network."""

import hashlib
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest

from neurorecon.datasets.download import FETCHED, SOURCES, Source, download, downloadable, fetch_files
from neurorecon.errors import InputError, UnknownNameError


class _Silent(SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        self.server.asked.append(self.path)


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A server on this machine, its folder and what it was asked for."""
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "served"
    folder.mkdir()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Silent, directory=str(folder))) as running:
        running.asked, running.folder = [], folder
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture
def nowhere(monkeypatch):
    """Every request goes to a port of this machine on which nobody listens."""
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)


def _source(server, **files):
    for name, content in files.items():
        (server.folder / name).write_bytes(content)
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    return Source(f"http://127.0.0.1:{server.server_port}/", digests, {name: len(files[name]) for name in files})


def test_files_arrive_whole_and_are_not_fetched_twice(server, tmp_path):
    source = _source(server, one=b"first", two=b"second" * 1000)
    paths = fetch_files(source, tmp_path / "data", progress=False)
    assert [path.read_bytes() for path in paths] == [b"first", b"second" * 1000]
    assert server.asked == ["/one", "/two"]
    fetch_files(source, tmp_path / "data", progress=False)
    assert server.asked == ["/one", "/two"]


def test_a_damaged_file_is_fetched_again(server, tmp_path):
    source = _source(server, one=b"first")
    path = fetch_files(source, tmp_path / "data", progress=False)[0]
    path.write_bytes(b"fir")
    assert fetch_files(source, tmp_path / "data", progress=False)[0].read_bytes() == b"first"


def test_a_file_that_is_not_the_published_one_is_refused(server, tmp_path):
    source = _source(server, one=b"first")
    (server.folder / "one").write_bytes(b"another")
    with pytest.raises(InputError, match="not the one that was published") as caught:
        fetch_files(source, tmp_path / "data", progress=False)
    assert "sha256" in str(caught.value)
    assert not any(path.is_file() for path in (tmp_path / "data").rglob("*"))


def test_a_file_that_the_server_does_not_have(server, tmp_path):
    source = _source(server, one=b"first")
    (server.folder / "one").unlink()
    with pytest.raises(InputError, match="404"):
        fetch_files(source, tmp_path / "data", progress=False)


@pytest.mark.parametrize(
    ("name", "options"),
    [("yamada2015", {}), ("miyawaki2008", {"excerpt": True}), ("haxby2001", {"excerpt": True})],
)
def test_without_a_network_there_is_one_clear_error(nowhere, tmp_path, name, options):
    with pytest.raises(InputError, match="could not be downloaded") as caught:
        download(name, tmp_path / "data", progress=False, **options)
    assert "raw.githubusercontent.com" in str(caught.value)
    assert "copy them into" in str(caught.value)
    assert not any(path.is_file() for path in tmp_path.rglob("*"))


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", FETCHED)
def test_without_a_network_nilearn_says_so_too(nowhere, tmp_path, capsys, name):
    with pytest.raises(InputError, match="could not be downloaded"):
        download(name, tmp_path / "data", progress=False)
    assert capsys.readouterr().out == ""


def test_what_cannot_be_downloaded_from_here(tmp_path):
    with pytest.raises(UnknownNameError, match="neurorecon datasets show nsd"):
        download("nsd", tmp_path)
    with pytest.raises(InputError, match="no choice of subjects or pictures"):
        download("haxby2001", tmp_path, excerpt=True, subjects=["subj1"])
    with pytest.raises(UnknownNameError, match="'subj7'"):
        download("haxby2001", tmp_path, subjects=["subj7"])
    assert list(tmp_path.iterdir()) == []


def test_addresses_name_a_commit():
    for name in downloadable():
        source = SOURCES[name]
        assert len(source.address.split("/")[5]) == 40
        assert source.address.endswith("/")
        assert set(source.sizes) == set(source.sha256)


@pytest.mark.parametrize(
    ("name", "folder"),
    [("yamada2015", "yamada2015_S2"), ("miyawaki2008", "miyawaki2008_V1"), ("haxby2001", "haxby2001")],
)
def test_digests_are_those_of_the_real_files(shared_data, name, folder):
    for file, digest in SOURCES[name].sha256.items():
        content = (shared_data / folder / file).read_bytes()
        assert hashlib.sha256(content).hexdigest() == digest
        assert len(content) == SOURCES[name].sizes[file]
