"""Files are fetched from a plain address, for real, from a server on this machine that misbehaves when told to."""

import hashlib
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from huggingface_hub import constants

from neurorecon import hub
from neurorecon.errors import InputError, MissingFileError, UnknownNameError
from neurorecon.hub.download import FETCHED, DownloadError, download_file

CONTENT = bytes(range(256)) * 4000  # what the server hands out
SHA256 = hashlib.sha256(CONTENT).hexdigest()


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_fetched_checked_and_not_fetched_again(tmp_path, server, add, monkeypatch):
    add(url=server.url, files=(hub.File("weights.th", SHA256, len(CONTENT)),))
    place = hub.fetch("tiny", tmp_path / "mine", progress=False)
    assert place == tmp_path / "mine" / "tiny" == hub.locate("tiny", folder=tmp_path / "mine")
    assert (place / "weights.th").read_bytes() == CONTENT
    assert left(place) == ["weights.th"]
    asked = len(server.asked)
    assert hub.fetch("tiny", tmp_path / "mine", progress=False) == place
    assert len(server.asked) == asked
    assert hub.fetch("tiny", progress=False) == tmp_path / "home" / "neurorecon" / "tiny" == hub.locate("tiny")
    monkeypatch.setenv("NEURORECON_WEIGHTS", str(tmp_path / "named"))
    shutil.rmtree(tmp_path / "home")
    assert hub.fetch("tiny", progress=False) == tmp_path / "named" / "tiny"


def test_a_broken_connection_is_gone_on_with(tmp_path, server, monkeypatch):
    monkeypatch.setattr("neurorecon.hub.download.PAUSE", 0)
    server.breaks, server.break_after = 3, 100_000
    target = download_file(f"{server.url}/weights.th", tmp_path / "weights.th", sha256=SHA256, progress=False)
    assert target.read_bytes() == CONTENT
    assert server.asked == [
        ("HEAD", None),
        ("GET", None),
        *(("GET", f"bytes={start}-") for start in (100_000, 200_000, 300_000)),
    ]


def test_a_server_that_knows_no_ranges_is_read_from_the_start(tmp_path, server, monkeypatch):
    monkeypatch.setattr("neurorecon.hub.download.PAUSE", 0)
    server.breaks, server.break_after, server.ranges = 1, 100_000, False
    target = download_file(f"{server.url}/weights.th", tmp_path / "weights.th", progress=False)
    assert target.read_bytes() == CONTENT


def test_a_connection_that_stays_broken_is_an_error_and_what_came_is_kept(tmp_path, server, monkeypatch):
    monkeypatch.setattr("neurorecon.hub.download.PAUSE", 0)
    server.breaks, server.break_after = 6, 0
    with pytest.raises(DownloadError, match="after 0 of 1024000 bytes"):
        download_file(f"{server.url}/weights.th", tmp_path / "weights.th", progress=False)
    assert not (tmp_path / "weights.th").exists()
    server.breaks, server.break_after = 1, 500_000
    assert download_file(f"{server.url}/weights.th", tmp_path / "weights.th", progress=False).read_bytes() == CONTENT


KILLED = """
import sys
from pathlib import Path
from neurorecon.hub.download import download_file
download_file(sys.argv[1], Path(sys.argv[2]), progress=False)
"""


def test_a_killed_download_leaves_nothing_broken_and_is_gone_on_with(tmp_path, server):
    server.stall.clear()
    server.breaks, server.break_after = 1, 400_000
    target = tmp_path / "weights.th"
    arguments = [sys.executable, "-c", KILLED, f"{server.url}/weights.th", str(target)]
    with subprocess.Popen(arguments) as process:
        for _ in range(400):
            time.sleep(0.05)
            if any(path.stat().st_size >= 262_144 for path in tmp_path.glob(".*.part")):
                break
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    server.stall.set()
    assert not target.exists()
    (part,) = tmp_path.glob(".*.part")
    kept = part.stat().st_size
    assert 0 < kept < len(CONTENT)
    server.asked.clear()
    assert download_file(f"{server.url}/weights.th", target, sha256=SHA256, progress=False).read_bytes() == CONTENT
    assert server.asked == [("HEAD", None), ("GET", f"bytes={kept}-")]
    assert left(tmp_path) == ["weights.th"]


def test_parts_of_a_file_that_changed_meanwhile_are_not_mixed(tmp_path, server, monkeypatch):
    monkeypatch.setattr("neurorecon.hub.download.PAUSE", 0)
    target = tmp_path / "weights.th"

    def change():
        server.content, server.tag = CONTENT[::-1] + b"more", '"second"'

    server.breaks, server.break_after, server.when_broken = 1, 100_000, change
    with pytest.raises(DownloadError, match="the file changed on the server during the download"):
        download_file(f"{server.url}/weights.th", target, progress=False)
    (part,) = tmp_path.glob(".*.part")
    assert part.stat().st_size == 100_000
    assert download_file(f"{server.url}/weights.th", target, progress=False).read_bytes() == CONTENT[::-1] + b"more"
    assert left(tmp_path) == ["weights.th"]


def test_a_wrong_file_is_removed(tmp_path, server, add):
    add(url=server.url, files=(hub.File("weights.th", "0" * 64),))
    with pytest.raises(InputError, match=f"differs from the published one.*\n.*{'0' * 64} but got {SHA256}"):
        hub.fetch("tiny", tmp_path, progress=False)
    assert left(tmp_path / "tiny") == []
    with pytest.raises(MissingFileError):
        hub.locate("tiny", folder=tmp_path)


def test_a_file_of_the_users_own_is_never_removed(tmp_path, server, add):
    add(url=server.url, files=(hub.File("weights.th", SHA256),))
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / "weights.th").write_bytes(b"my own")
    with pytest.raises(InputError, match="delete them and run the command again"):
        hub.fetch("tiny", tmp_path, progress=False)
    assert (tmp_path / "tiny" / "weights.th").read_bytes() == b"my own"


def test_a_damaged_file_in_the_cache_is_fetched_again(tmp_path, server, add):
    add(url=server.url, files=(hub.File("weights.th", SHA256),))
    place = hub.fetch("tiny", progress=False)
    (place / "weights.th").write_bytes(b"damaged")
    assert (hub.fetch("tiny", progress=False) / "weights.th").read_bytes() == CONTENT


def test_a_file_of_unknown_sha256_is_pinned_when_it_is_downloaded(tmp_path, server, add):
    add(url=server.url, files=(hub.File("weights.th"),))
    (state,) = hub.verify("tiny", folder=hub.fetch("tiny", tmp_path, progress=False))
    assert (state.state, SHA256 in state.detail) == ("good", True)
    (tmp_path / "tiny" / "weights.th").write_bytes(b"damaged")
    with pytest.raises(InputError, match="corrupt"):
        hub.fetch("tiny", tmp_path, progress=False)


def test_a_missing_file_and_a_silent_server_are_clear_errors(tmp_path, server, monkeypatch):
    monkeypatch.setattr("neurorecon.hub.download.PAUSE", 0)
    with pytest.raises(DownloadError, match=r"other\.th: the server answers 404"):
        download_file(f"{server.url}/other.th", tmp_path / "other.th", progress=False)
    with pytest.raises(DownloadError, match=r"no connection .*refused"):
        download_file("http://127.0.0.1:9/weights.th", tmp_path / "weights.th", progress=False)


def test_offline_is_said_in_one_sentence(tmp_path, server, add, monkeypatch):
    add(url=server.url, files=(hub.File("weights.th", SHA256),))
    place = hub.fetch("tiny", tmp_path / "mine", progress=False)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    for name in ("tiny", "clip-vit-l14"):
        with pytest.raises(InputError, match="HF_HUB_OFFLINE is set"):
            hub.fetch(name, progress=False)
    # What is here needs no network.
    assert hub.fetch("tiny", tmp_path / "mine", progress=False) == place


def test_bundled_weights_cannot_be_fetched():
    with pytest.raises(InputError, match="ship with neurorecon"):
        hub.fetch("bundled-clip")


def test_too_little_room_is_said_before_the_download(tmp_path, server, add):
    add(url=server.url, files=(hub.File("weights.th"),), parameters=10**17)
    with pytest.raises(InputError, match="not enough disk space for 'tiny'"):
        hub.fetch("tiny", tmp_path, progress=False)
    assert server.asked == []


FULL = """
import resource, signal, sys
from neurorecon.errors import InputError
from neurorecon import hub
from neurorecon.hub import catalog
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
item = hub.Item("tiny", "weights", "tiny", "MIT", "a test", (hub.File("weights.th"),), url=sys.argv[1])
catalog.read_table("weights")["tiny"] = item
try:
    hub.fetch("tiny", sys.argv[2], progress=False)
except InputError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="limits on the size of files are those of POSIX")
def test_a_disk_that_takes_no_more_is_one_clear_error_and_what_came_is_kept(tmp_path, server):
    arguments = [sys.executable, "-c", FULL, server.url, str(tmp_path)]
    found = subprocess.run(arguments, capture_output=True, text=True, timeout=60, check=True)
    assert "not enough disk space for 'tiny'" in found.stdout
    assert "choose another folder (--folder" in found.stdout
    assert not (tmp_path / "tiny" / "weights.th").exists()
    server.asked.clear()
    download_file(f"{server.url}/weights.th", tmp_path / "tiny" / "weights.th", sha256=SHA256, progress=False)
    assert server.asked[-1] == ("GET", "bytes=300000-")


# ---- Data sets


@pytest.fixture
def nowhere(monkeypatch):
    """Every request goes to a port of this machine on which nobody listens."""
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("name", "options"),
    [("yamada2015", {}), ("miyawaki2008", {"excerpt": True}), ("haxby2001", {"excerpt": True})],
)
def test_without_a_network_there_is_one_clear_error(nowhere, tmp_path, name, options, monkeypatch):
    monkeypatch.setattr("neurorecon.hub.download.PAUSE", 0)
    with pytest.raises(InputError, match="could not be downloaded") as caught:
        hub.fetch(name, tmp_path / "data", progress=False, **options)
    assert "raw.githubusercontent.com" in str(caught.value)
    command = f"neurorecon datasets download {name} --out {tmp_path / 'data'}"
    assert command + (" --excerpt" if options else "") in str(caught.value)
    assert "copy the files from another machine into" in str(caught.value)
    assert not any(path.is_file() for path in tmp_path.rglob("*"))


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", FETCHED)
def test_without_a_network_nilearn_says_so_too(nowhere, tmp_path, capsys, name):
    with pytest.raises(InputError, match="could not be downloaded"):
        hub.fetch(name, tmp_path / "data", progress=False)
    assert capsys.readouterr().out == ""


def test_what_cannot_be_downloaded_from_here(tmp_path):
    with pytest.raises(UnknownNameError, match="neurorecon datasets show nsd"):
        hub.fetch("nsd", tmp_path)
    with pytest.raises(InputError, match="does not take --subject or --images"):
        hub.fetch("haxby2001", tmp_path, excerpt=True, subjects=["subj1"])
    with pytest.raises(UnknownNameError, match="'subj7'"):
        hub.fetch("haxby2001", tmp_path, subjects=["subj7"])
    assert list(tmp_path.iterdir()) == []


def test_addresses_name_a_commit():
    for name in hub.downloadable():
        assert len(hub.find(name).url.split("/")[5]) == 40


@pytest.mark.parametrize(
    ("name", "folder"),
    [("yamada2015", "yamada2015_S2"), ("miyawaki2008", "miyawaki2008_V1"), ("haxby2001", "haxby2001")],
)
def test_digests_are_those_of_the_real_files(shared_data, name, folder):
    item = hub.find(name)
    for file in item.excerpt or item.files:
        content = (shared_data / folder / file.path).read_bytes()
        assert hashlib.sha256(content).hexdigest() == file.sha256
        assert len(content) == file.size


def test_a_data_set_arrives_whole_and_is_not_fetched_twice(tmp_path, server, add):
    files = (hub.File("weights.th", SHA256, len(CONTENT)),)
    add("data set", url=server.url, files=files)
    assert hub.fetch("tiny", tmp_path, progress=False) == tmp_path
    assert left(tmp_path) == ["weights.th"]
    asked = len(server.asked)
    hub.fetch("tiny", tmp_path, progress=False)
    assert len(server.asked) == asked


def test_files_of_the_same_names_in_the_folder_of_a_data_set_stay(tmp_path, server, add):
    """A damaged file and somebody's own look the same, so nothing is replaced; the others are not fetched either."""
    files = (hub.File("other.mat", SHA256, len(CONTENT)), hub.File("weights.th", SHA256, len(CONTENT)))
    add("data set", url=server.url, files=files)
    (tmp_path / "weights.th").write_bytes(b"my own")
    (tmp_path / "notes.txt").write_text("my own")
    with pytest.raises(InputError, match=r"were not changed[\s\S]*weights\.th[\s\S]*move or delete them"):
        hub.fetch("tiny", tmp_path, progress=False)
    assert (tmp_path / "weights.th").read_bytes() == b"my own"
    assert left(tmp_path) == ["notes.txt", "weights.th"]
    assert server.asked == []


def test_only_parts_of_the_same_file_are_deleted(tmp_path, server, monkeypatch):
    monkeypatch.setattr("neurorecon.hub.download.PAUSE", 0)
    hexadecimal = "0123456789ab"
    own = [".weights.th.part", ".weights.th.of-mine.part", f".other.th.{hexadecimal}.part", "weights.th.part"]
    for name in (*own, f".weights.th.{hexadecimal}.part"):
        (tmp_path / name).write_text("a part")
    download_file(f"{server.url}/weights.th", tmp_path / "weights.th", sha256=SHA256, progress=False)
    assert left(tmp_path) == sorted([*own, "weights.th"])


def test_a_damaged_file_of_the_hub_is_removed_with_its_blob_and_nothing_else(tmp_path, add, cache, monkeypatch):
    add(repository="lab/tiny", files=(hub.File("weights.th", SHA256),))
    place = cache(tmp_path / "home" / "hub", "lab/tiny", "c" * 40, {"weights.th": CONTENT, "notes.txt": b"others"})
    (place / "weights.th").resolve().write_bytes(b"damaged")
    seen = []

    def download(item, root, progress):
        seen.append(left(place))
        blobs = [path.read_bytes() for path in (place.parents[1] / "blobs").iterdir()]
        assert blobs == [b"others"]
        cache(tmp_path / "home" / "hub", "lab/tiny", "c" * 40, {"weights.th": CONTENT})

    monkeypatch.setattr("neurorecon.hub.download._from_hub", download)
    assert (hub.fetch("tiny", progress=False) / "weights.th").read_bytes() == CONTENT
    assert seen == [["notes.txt"]]


def test_a_data_set_that_is_not_the_published_one_is_refused(tmp_path, server, add):
    add("data set", url=server.url, files=(hub.File("weights.th", "0" * 64),))
    with pytest.raises(InputError, match="differs from the published one"):
        hub.fetch("tiny", tmp_path, progress=False)
    assert left(tmp_path) == []
    add("data set", url=server.url, files=(hub.File("other.mat", "0" * 64),))
    with pytest.raises(InputError, match="404"):
        hub.fetch("tiny", tmp_path, progress=False)


def test_weights_have_no_subjects():
    with pytest.raises(InputError, match="clip-vit-b32 does not take --subject or --images"):
        hub.fetch("clip-vit-b32", subjects=["subj1"])


def test_a_data_set_needs_a_folder():
    with pytest.raises(InputError, match="needs a folder"):
        hub.fetch("yamada2015")
