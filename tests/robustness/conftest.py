"""Commands in processes that can be killed, on a data set that builds slowly, in folders that give out."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

import neurorecon as nr

HERE = Path(__file__).parent

RECIPE = """
name = "slow"
reader = "slow"
[options]
subjects = 1
images = 32
videos = 6
voxels = 72
"""


class Command:
    """A command of neurorecon that runs, or ran, in a process of its own."""

    def __init__(self, ask, child, out, err):
        self._ask, self.pid, self._out, self._err = ask, child, out, err
        self.code = None

    def poll(self):
        """Return the exit code (negative: a signal ended it), or None while it runs."""
        if self.code is None:
            self.code = self._ask({"poll": self.pid})
        return self.code

    def wait(self, seconds=500):
        """Wait for the end; return the exit code."""
        until = time.monotonic() + seconds
        while self.poll() is None and time.monotonic() < until:
            time.sleep(0.01)
        assert self.code is not None, f"the command did not end within {seconds} s"
        return self.code

    @property
    def stdout(self):
        return self._out.read_text()

    @property
    def stderr(self):
        return self._err.read_text()


@pytest.fixture(scope="session")
def _server(tmp_path_factory):
    if os.name == "nt":
        pytest.skip("processes are killed, and disks are filled, otherwise there")
    folder = tmp_path_factory.mktemp("plugin")
    # A package that registers a reader, as a lab's own would: found by its metadata.
    metadata = folder / "slow_reader-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: slow-reader\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[neurorecon.datasets]\nslow = slow_reader:SlowReader\n")
    (folder / "slow_reader.py").write_text((HERE / "slow_reader.py").read_text())
    path = os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    with subprocess.Popen(
        [sys.executable, str(HERE / "server.py")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    ) as process:

        def ask(job):
            process.stdin.write(json.dumps(job) + "\n")
            process.stdin.flush()
            return json.loads(process.stdout.readline())

        yield ask
        process.stdin.close()


@pytest.fixture
def command(_server, tmp_path):
    """Start a command: ``command("build", ..., SLOW_PAUSE="0.1")``; capital keywords go into its environment."""
    started = []

    def start(*arguments, **environment):
        out, err = (tmp_path / f"{kind}{len(started)}" for kind in ("out", "err"))
        job = {"run": [str(part) for part in arguments], "cwd": str(tmp_path), "env": environment}
        found = Command(_server, _server({**job, "out": str(out), "err": str(err)}), out, err)
        started.append(found)
        return found

    yield start
    for one in started:
        if one.poll() is None:
            os.kill(one.pid, 9)
            one.wait()


@pytest.fixture
def recipe(tmp_path):
    """The recipe of the slow data set."""
    path = tmp_path / "slow.toml"
    path.write_text(RECIPE)
    return path


@pytest.fixture(scope="session")
def whole(_server, tmp_path_factory):
    """The slow store, built without a disturbance: its path, its digests, how many files and 4 KiB pages it took."""
    folder = tmp_path_factory.mktemp("whole")
    (folder / "slow.toml").write_text(RECIPE)
    out, err = folder / "out", folder / "err"
    job = {"run": ["build", "slow.toml", "-q"], "cwd": str(folder), "env": {}, "out": str(out), "err": str(err)}
    built = Command(_server, _server(job), out, err)
    assert built.wait() == 0, built.stderr
    path = folder / "slow.icechunk"
    sizes = [item.stat().st_size for item in path.rglob("*") if item.is_file()]
    pages = sum(-(-size // 4096) for size in sizes)
    return SimpleNamespace(path=path, digests=nr.open_store(path).digests(), files=len(sizes), pages=pages)


@pytest.fixture
def same(whole):
    """Assert that a store is what an undisturbed build makes, and intact."""

    def check(path):
        store = nr.open_store(path)
        assert store.digests() == whole.digests
        assert [finding for finding in nr.check_store(store) if finding.problem] == []

    return check


@pytest.fixture
def refused():
    """Assert that a command ended with one clear error that says all these words."""

    def check(found, *words):
        assert found.wait() == 2, found.stderr
        assert found.stdout == ""
        assert "Traceback" not in found.stderr
        assert found.stderr.count("neurorecon: error:") == 1
        for part in ("  given:    ", "  expected: ", "  to do:    ", *words):
            assert part in found.stderr, found.stderr

    return check
