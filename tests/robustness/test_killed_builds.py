"""A build that is killed loses nothing that was committed, wherever it is killed."""

import os
import random
import signal
import time

import pytest

import neurorecon as nr
from neurorecon.errors import NeuroreconError

#: SIGKILLs that one build has to live through, spread over it.
KILLS = 10

#: Where Icechunk is between two states: its method, which call of it, and whether before or behind it.
MOMENTS = [
    "create_branch 1 before",
    "create_branch 1 after",
    "reset_branch 1 after",
    "commit 1 before",
    "commit 1 after",
    "commit 9 before",
    "commit 9 after",
    "reset_branch 2 before",
    "reset_branch 2 after",
    "delete_branch 1 after",
]


def _files(path):
    return sum(len(files) for _, _, files in os.walk(path))


def test_a_build_killed_at_ten_random_moments_ends_the_same(command, recipe, whole, same, tmp_path):
    path, generator = tmp_path / "slow.icechunk", random.Random(20260101)
    for part in range(KILLS):
        # The build is killed when it has written so much; what a kill made useless counts too, so not to the end.
        moment = round(0.9 * whole.files * (part + generator.random()) / KILLS)
        build = command("build", recipe, SLOW_PAUSE="0.02")
        while _files(path) < moment and build.poll() is None:
            time.sleep(0.005)
        time.sleep(generator.uniform(0, 0.03))
        assert build.poll() is None, f"the build was over before its kill {part}: {build.stderr}"
        os.kill(build.pid, signal.SIGKILL)
        assert build.wait() == -signal.SIGKILL
        # Readers never see half a store.
        with pytest.raises(NeuroreconError, match=r"no finished store|no store at|cannot read this"):
            nr.open_store(path)
    assert command("build", recipe, "--quiet").wait() == 0
    same(path)
    # It went on behind its commits: ten builds from the beginning would have written several times as much.
    assert _files(path) < 2 * whole.files


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_build_killed_between_two_states_ends_the_same(command, recipe, whole, same, tmp_path, moment):
    path = tmp_path / "slow.icechunk"
    assert command("build", recipe, "--quiet", SLOW_KILL=moment).wait() == -signal.SIGKILL
    before = _files(path)
    again = command("build", recipe, "--quiet")
    assert again.wait() == 0, again.stderr
    if moment.startswith(("reset_branch 2", "delete_branch")):
        assert _files(path) - before < whole.files / 2, "a build that was all but finished was begun anew"
    same(path)


def test_a_killed_overwrite_leaves_the_old_store_in_place(command, recipe, whole, tmp_path):
    path = tmp_path / "slow.icechunk"
    assert command("build", recipe, "--quiet").wait() == 0
    old = nr.open_store(path)
    recipe.write_text(recipe.read_text() + "seed = 1\n")
    assert command("build", recipe, "--overwrite", "--quiet", SLOW_KILL="commit 12 after").wait() == -signal.SIGKILL
    assert nr.open_store(path).snapshot == old.snapshot
    assert nr.open_store(path).digests() == whole.digests
    assert command("build", recipe, "--overwrite", "--quiet").wait() == 0
    assert nr.open_store(path).digest != old.digest
    assert nr.open_store(path, snapshot=old.snapshot).digest == old.digest


def test_two_builds_at_once(command, recipe, same, refused, tmp_path):
    path = tmp_path / "slow.icechunk"
    both = [command("build", recipe, "--quiet", SLOW_PAUSE="0.02") for _ in range(2)]
    loser, winner = sorted(both, key=lambda build: -build.wait())
    assert winner.code == 0, winner.stderr
    refused(loser, "another process is writing to this store", f'"pid": {winner.pid}', "run the command again")
    same(path)
    before = nr.open_store(path).snapshot
    assert command("build", recipe, "--quiet").wait() == 0
    assert nr.open_store(path).snapshot == before
