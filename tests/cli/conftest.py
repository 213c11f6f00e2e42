"""A small embedded store, built by the command line itself; two ways to call commands: in process, and as a user."""

import json
import logging
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from neurorecon.errors import StoreLockedError
from neurorecon.store.writer import WriterLock

SMALL = """
name = "small"
reader = "scenes"
targets = ["gabor", "category", "motion"]
[options]
subjects = 2
voxels = 200
train_images = 24
test_images = 8
train_videos = 30
test_videos = 12
test_video_repeats = 3
"""


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory):
    """A folder that all test processes of this session share."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


def _user(*arguments, cwd, **options):
    """Run the command as a user does, in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "neurorecon.cli", *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=300,
        **options,
    )


@pytest.fixture(scope="session")
def user():
    return _user


@pytest.fixture(scope="session")
def once(shared_folder):
    """Return what makes a folder once for all test processes, and what the command that made it printed."""

    def make(name, build):
        folder = shared_folder / name
        done = folder / "printed.json"
        while not done.exists():
            try:
                with WriterLock(shared_folder / f"{name}-tests"):
                    if not done.exists():
                        folder.mkdir(exist_ok=True)
                        found = build(folder)
                        assert found.returncode == 0, found.stderr
                        done.write_text(json.dumps({"stdout": found.stdout, "stderr": found.stderr}))
            except StoreLockedError:
                time.sleep(0.2)  # another process makes it
        return folder, SimpleNamespace(**json.loads(done.read_text()))

    return make


@pytest.fixture(scope="session")
def small(once):
    """The small store, its recipe, and what the build printed; not to be written into."""
    folder, printed = once("command-line", _build)
    return SimpleNamespace(recipe=folder / "small.toml", path=folder / "small.icechunk", printed=printed)


def _build(folder: Path) -> subprocess.CompletedProcess:
    (folder / "small.toml").write_text(SMALL)
    return _user("build", "small.toml", cwd=folder)


@pytest.fixture
def own(small, tmp_path):
    """A copy of the small store and its recipe for one test, which may write into it."""
    shutil.copytree(small.path, tmp_path / "small.icechunk")
    shutil.copy(small.recipe, tmp_path)
    return SimpleNamespace(recipe=tmp_path / "small.toml", path=tmp_path / "small.icechunk")


@pytest.fixture
def call(tmp_path, monkeypatch):
    """Call a command in this process, in an empty folder; what it returns has exit_code, stdout and stderr."""
    from neurorecon.cli.main import app

    monkeypatch.chdir(tmp_path)
    root, own = logging.getLogger(), logging.getLogger("neurorecon")
    handlers, levels = root.handlers[:], (root.level, own.level)

    def run(*arguments):
        # The record of a result holds the command as it was typed.
        monkeypatch.setattr(sys, "argv", ["neurorecon", *map(str, arguments)])
        return CliRunner().invoke(app, list(map(str, arguments)))

    yield run
    root.handlers[:] = handlers
    root.setLevel(levels[0])
    own.setLevel(levels[1])


@pytest.fixture(scope="session")
def state():
    """Return all that identifies the state of a store."""
    import neurorecon as nr

    def read(path):
        store = nr.open_store(path)
        return store.snapshot, store.digest, sorted(str(item) for item in path.rglob("*"))

    return read


@pytest.fixture
def printed_commands():
    """Return the four commands of the first page that lead from a data set's folder to maps, as lists of arguments."""
    text = (Path(__file__).parents[2] / "docs" / "start.md").read_text(encoding="utf-8")

    def commands(name: str) -> list[list[str]]:
        block = text[text.index(f"neurorecon datasets miniature {name} ") :].partition("```")[0]
        found = [line.removeprefix("neurorecon ").replace("stores/", "").split() for line in block.splitlines()]
        assert [arguments[0] for arguments in found] == ["datasets", "build", "features", "maps"]
        return found

    return commands
