"""A data set that another package registers, for builds that are disturbed: small, slow, with a commit a block.

The environment says how slow (``SLOW_PAUSE``, seconds a block) and where the process ends itself (``SLOW_KILL``:
``"reset_branch 2 after"`` is behind the second call of that method of Icechunk).
"""

import os
import signal
import time

import icechunk

from neurorecon.store import schema, writer
from neurorecon.testing.miniature import MiniatureReader

schema.RESPONSE_CHUNKS = (8, 24)
schema.BLOCK_BYTES = schema.CHUNK_BYTES = 2048
writer.COMMIT_EVERY = 0.0


def _pause():
    time.sleep(float(os.environ.get("SLOW_PAUSE", "0")))


class SlowReader(MiniatureReader):
    """The miniature, a block at a time."""

    name = "slow"

    def read_images(self, start, stop):
        _pause()
        return super().read_images(start, stop)

    def subject(self, name):
        data = super().subject(name)

        def read(start, stop):
            _pause()
            return data.read_responses(start, stop)

        return data.__class__(data.samples, data.voxels, data.rois, data.space, read, data.repetition_time, data.truth)


def _end_at(name, number, when):
    owner = icechunk.Session if name == "commit" else icechunk.Repository
    method, calls = getattr(owner, name), []

    def ending(*arguments, **options):
        calls.append(name)
        if len(calls) == number and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        found = method(*arguments, **options)
        if len(calls) == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return found

    setattr(owner, name, ending)


if "SLOW_KILL" in os.environ:
    name, number, when = os.environ["SLOW_KILL"].split()
    _end_at(name, int(number), when)
