"""Processes that a command has started end when it ends, also if it is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest

pytestmark = pytest.mark.skipif(os.name == "nt", reason="there is no SIGKILL there")

#: Seconds within which all processes have to be gone.
SECONDS = 5.0

# The processes of a script share one pipe. They write each line in one piece: `print` writes the end of the line by
# itself where output is unbuffered, so that lines of two processes can end up in one.

#: Starts two processes of joblib, as figures and stimuli are drawn in; each says who it is, and works for minutes.
JOBLIB = """
    import os, time
    from joblib import delayed
    from neurorecon.parallel import in_processes

    def work(seconds):
        os.write(1, b"%d\\n" % os.getpid())
        time.sleep(seconds)

    in_processes(2)(delayed(work)({seconds}) for _ in range(2))
    os.write(1, b"idle\\n")
    time.sleep(600)
"""

#: Starts two workers of dask, as `--scheduler local` does.
DASK = """
    import os, time
    from neurorecon.parallel import connect

    def work(number):
        os.write(1, b"%d\\n" % os.getpid())
        time.sleep(600)

    if __name__ == "__main__":
        from joblib import cpu_count
        with connect("local", threads=max(1, cpu_count() // 2)) as client:
            number = len(client.nthreads())
            os.write(1, b"workers %d\\n" % number)
            futures = client.map(work, range(number), pure=False)
            client.gather(futures)
"""

#: What torchrun and accelerate launch start: the command in each process waits for the others.
RANK = """
    import os, time
    from neurorecon.parallel.workers import Ranks

    os.write(1, b"%d\\n" % os.getpid())
    ranks = Ranks("cpu")
    os.write(1, b"joined\\n")
    time.sleep(600)
"""


def _alive(process):
    try:
        with open(f"/proc/{process}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        if not os.path.isdir("/proc/self"):
            return subprocess.run(["ps", "-p", str(process)], capture_output=True).returncode == 0
        return False


def _children(process):
    found = subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    below: dict[int, list[int]] = {}
    for line in found.splitlines():
        child, parent = map(int, line.split())
        below.setdefault(parent, []).append(child)
    todo, all_of_them = [process], []
    while todo:
        todo += (found := below.get(todo.pop(), []))
        all_of_them += found
    return all_of_them


@pytest.fixture
def start(tmp_path):
    """Start a script; return its process. What it leaves behind is killed at the end."""
    started = []

    def run(*arguments):
        process = subprocess.Popen(
            [sys.executable, *arguments],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"},
        )
        started.append((process, []))
        return process

    run.started = started
    yield run
    for process, children in started:
        for child in [*children, *_children(process.pid), process.pid]:
            if _alive(child):
                os.kill(child, signal.SIGKILL)
        process.wait()
        process.stdout.close()


def _kill(start, process):
    """Kill a process, and return those of its children that live on."""
    children = _children(process.pid)
    assert len(children) >= 2
    start.started[-1][1].extend(children)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    until = time.monotonic() + SECONDS
    while any(map(_alive, children)) and time.monotonic() < until:
        time.sleep(0.05)
    return [child for child in children if _alive(child)]


def _script(tmp_path, text):
    path = tmp_path / "script.py"
    path.write_text(textwrap.dedent(text))
    return str(path)


@pytest.mark.parametrize("seconds", [0, 600])
def test_processes_of_joblib(start, tmp_path, seconds):
    """At work, and waiting for more work, which joblib's own processes do for five minutes."""
    process = start(_script(tmp_path, JOBLIB.format(seconds=seconds)))
    lines = {process.stdout.readline().strip() for _ in range(3 if seconds == 0 else 2)}
    assert ("idle" in lines) == (seconds == 0)
    assert _kill(start, process) == []


def test_workers_of_dask(start, tmp_path):
    process = start(_script(tmp_path, DASK))
    said = process.stdout.readline().split()
    assert said[0] == "workers"
    assert all(process.stdout.readline().strip() for _ in range(int(said[1])))
    assert _kill(start, process) == []


def test_processes_of_torchrun(start, tmp_path):
    pytest.importorskip("accelerate")
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    process = start(*torchrun, _script(tmp_path, RANK))
    assert sum("joined" in process.stdout.readline() for _ in range(4)) == 2
    assert _kill(start, process) == []
