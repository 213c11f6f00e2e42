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

from neurorecon.errors import InputError, MissingFileError
from neurorecon.models import zoo
from neurorecon.models.zoo.download import download

CONTENT = bytes(range(256)) * 4000  # what the server hands out
SHA256 = hashlib.sha256(CONTENT).hexdigest()


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_fetched_checked_and_not_fetched_again(tmp_path, server, add, monkeypatch):
    add(url=server.url, files=(zoo.WeightFile("weights.th", SHA256, len(CONTENT)),))
    place = zoo.pull("tiny", tmp_path / "mine", progress=False)
    assert place == tmp_path / "mine" / "tiny" == zoo.locate("tiny", folder=tmp_path / "mine")
    assert (place / "weights.th").read_bytes() == CONTENT
    assert left(place) == ["weights.th"]
    asked = len(server.asked)
    assert zoo.pull("tiny", tmp_path / "mine", progress=False) == place
    assert len(server.asked) == asked
    assert zoo.pull("tiny", progress=False) == tmp_path / "home" / "neurorecon" / "tiny" == zoo.locate("tiny")
    monkeypatch.setenv("NEURORECON_WEIGHTS", str(tmp_path / "named"))
    shutil.rmtree(tmp_path / "home")
    assert zoo.pull("tiny", progress=False) == tmp_path / "named" / "tiny"


def test_a_broken_connection_is_gone_on_with(tmp_path, server, monkeypatch):
    monkeypatch.setattr("neurorecon.models.zoo.download.PAUSE", 0)
    server.breaks, server.break_after = 3, 100_000
    target = download(f"{server.url}/weights.th", tmp_path / "weights.th", sha256=SHA256, progress=False)
    assert target.read_bytes() == CONTENT
    assert server.asked == [
        ("HEAD", None),
        ("GET", None),
        *(("GET", f"bytes={start}-") for start in (100_000, 200_000, 300_000)),
    ]


def test_a_server_that_knows_no_ranges_is_read_from_the_start(tmp_path, server, monkeypatch):
    monkeypatch.setattr("neurorecon.models.zoo.download.PAUSE", 0)
    server.breaks, server.break_after, server.ranges = 1, 100_000, False
    target = download(f"{server.url}/weights.th", tmp_path / "weights.th", progress=False)
    assert target.read_bytes() == CONTENT


def test_a_connection_that_stays_broken_is_an_error_and_what_came_is_kept(tmp_path, server, monkeypatch):
    monkeypatch.setattr("neurorecon.models.zoo.download.PAUSE", 0)
    server.breaks, server.break_after = 6, 0
    with pytest.raises(InputError, match="0 of 1024000 bytes are here"):
        download(f"{server.url}/weights.th", tmp_path / "weights.th", progress=False)
    assert not (tmp_path / "weights.th").exists()
    server.breaks, server.break_after = 1, 500_000
    assert download(f"{server.url}/weights.th", tmp_path / "weights.th", progress=False).read_bytes() == CONTENT


KILLED = """
import sys
from pathlib import Path
from neurorecon.models.zoo.download import download
download(sys.argv[1], Path(sys.argv[2]), progress=False)
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
    assert download(f"{server.url}/weights.th", target, sha256=SHA256, progress=False).read_bytes() == CONTENT
    assert server.asked == [("HEAD", None), ("GET", f"bytes={kept}-")]
    assert left(tmp_path) == ["weights.th"]


def test_parts_of_a_file_that_changed_meanwhile_are_not_mixed(tmp_path, server, monkeypatch):
    monkeypatch.setattr("neurorecon.models.zoo.download.PAUSE", 0)
    target = tmp_path / "weights.th"

    def change():
        server.content, server.tag = CONTENT[::-1] + b"more", '"second"'

    server.breaks, server.break_after, server.when_broken = 1, 100_000, change
    with pytest.raises(InputError, match="it changed while it was being fetched"):
        download(f"{server.url}/weights.th", target, progress=False)
    (part,) = tmp_path.glob(".*.part")
    assert part.stat().st_size == 100_000
    assert download(f"{server.url}/weights.th", target, progress=False).read_bytes() == CONTENT[::-1] + b"more"
    assert left(tmp_path) == ["weights.th"]


def test_a_wrong_file_is_thrown_away(tmp_path, server, add):
    add(url=server.url, files=(zoo.WeightFile("weights.th", "0" * 64),))
    with pytest.raises(InputError, match=f"thrown away\n.*sha256 {SHA256}\n.*sha256 {'0' * 64}"):
        zoo.pull("tiny", tmp_path, progress=False)
    assert left(tmp_path / "tiny") == []
    with pytest.raises(MissingFileError):
        zoo.locate("tiny", folder=tmp_path)


def test_a_file_of_the_users_own_is_never_thrown_away(tmp_path, server, add):
    add(url=server.url, files=(zoo.WeightFile("weights.th", SHA256),))
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / "weights.th").write_bytes(b"my own")
    with pytest.raises(InputError, match="delete them and run the same command again"):
        zoo.pull("tiny", tmp_path, progress=False)
    assert (tmp_path / "tiny" / "weights.th").read_bytes() == b"my own"


def test_a_damaged_file_in_the_cache_is_fetched_again(tmp_path, server, add):
    add(url=server.url, files=(zoo.WeightFile("weights.th", SHA256),))
    place = zoo.pull("tiny", progress=False)
    (place / "weights.th").write_bytes(b"damaged")
    assert (zoo.pull("tiny", progress=False) / "weights.th").read_bytes() == CONTENT


def test_a_missing_file_and_a_silent_server_are_clear_errors(tmp_path, server, monkeypatch):
    monkeypatch.setattr("neurorecon.models.zoo.download.PAUSE", 0)
    with pytest.raises(InputError, match=r"other\.th: the server answers 404"):
        download(f"{server.url}/other.th", tmp_path / "other.th", progress=False)
    with pytest.raises(InputError, match=r"no connection .*refused"):
        download("http://127.0.0.1:9/weights.th", tmp_path / "weights.th", progress=False)


def test_offline_is_said_in_one_sentence(tmp_path, server, add, monkeypatch):
    add(url=server.url, files=(zoo.WeightFile("weights.th", SHA256),))
    place = zoo.pull("tiny", tmp_path / "mine", progress=False)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    for name in ("tiny", "clip-vit-l14"):
        with pytest.raises(InputError, match="HF_HUB_OFFLINE is set"):
            zoo.pull(name, progress=False)
    # What is here needs no network.
    assert zoo.pull("tiny", tmp_path / "mine", progress=False) == place


def test_bundled_weights_cannot_be_fetched():
    with pytest.raises(InputError, match="come with neurorecon"):
        zoo.pull("bundled-clip")


def test_too_little_room_is_said_before_the_download(tmp_path, server, add):
    add(url=server.url, files=(zoo.WeightFile("weights.th"),), parameters=10**17)
    with pytest.raises(InputError, match="no room for the weights 'tiny'"):
        zoo.pull("tiny", tmp_path, progress=False)
    assert server.asked == []


FULL = """
import resource, signal, sys
from neurorecon.errors import InputError
from neurorecon.models import zoo
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
files = (zoo.WeightFile("weights.th"),)
zoo.ZOO["tiny"] = zoo.Weights("tiny", "tiny", "published", None, files, "MIT", "a test", url=sys.argv[1])
try:
    zoo.pull("tiny", sys.argv[2], progress=False)
except InputError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="limits on the size of files are those of POSIX")
def test_a_disk_that_takes_no_more_is_one_clear_error_and_what_came_is_kept(tmp_path, server):
    arguments = [sys.executable, "-c", FULL, server.url, str(tmp_path)]
    found = subprocess.run(arguments, capture_output=True, text=True, timeout=60, check=True)
    assert "there is no room for the weights 'tiny'" in found.stdout
    assert "--folder DIR" in found.stdout
    assert not (tmp_path / "tiny" / "weights.th").exists()
    server.asked.clear()
    download(f"{server.url}/weights.th", tmp_path / "tiny" / "weights.th", sha256=SHA256, progress=False)
    assert server.asked[-1] == ("GET", "bytes=300000-")
