"""Runs commands of neurorecon in processes of their own, which need not import everything again.

Reads one JSON object a line. ``{"run": [...], "cwd": ..., "env": {...}, "out": FILE, "err": FILE}`` starts a command
and answers with its process id; ``{"poll": PID}`` answers with its exit code, negative for a signal, or null.
"""

import json
import os
import sys

import icechunk  # noqa: F401
import xarray  # noqa: F401
import zarr.codecs  # noqa: F401

from neurorecon.cli.main import run


def start(job):
    """Fork; the child becomes the command."""
    child = os.fork()
    if child:
        return child
    for number, name in ((1, "out"), (2, "err")):
        file = os.open(job[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.dup2(file, number)
        os.close(file)
    os.chdir(job["cwd"])
    os.environ.update(job["env"])
    sys.argv = ["neurorecon", *job["run"]]
    # The streams of this process are those of its parent, which answers on them: the child opens its own.
    sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w", buffering=1)
    code = 1
    try:
        run()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    except BaseException:
        sys.excepthook(*sys.exc_info())
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def poll(child):
    """Return the exit code of a child, or None while it runs."""
    found, status = os.waitpid(child, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if found else None


for line in sys.stdin:
    job = json.loads(line)
    print(json.dumps(start(job) if "run" in job else poll(job["poll"])), flush=True)
