"""Builds of the data sets of 2026 that are killed go on, and end with the same bits."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from importlib import import_module

import pytest

import neurorecon as nr
from neurorecon.errors import StoreError

#: Options that keep the builds small.
OPTIONS = {
    "things": {"image_size": 16, "subjects": ["sub-01"], "voxels": "rois"},
    "laion_fmri": {"image_size": 16, "subjects": ["sub-01"]},
    "bold_moments": {"image_size": 16, "subjects": ["sub-01"]},
    "nsd": {"image_size": 16, "subjects": ["subj01"], "task": ["core", "synthetic", "imagery"]},
}

#: What the miniatures are written with.
WRITTEN = {"nsd": {"tasks": ("core", "synthetic", "imagery")}}

_BUILD = """
    import json, sys, time
    from dataclasses import replace
    from neurorecon.datasets.recipe import Recipe
    from neurorecon.registry import DATASETS
    from neurorecon.store import build, schema, writer

    name, root, options, pause, *stores = sys.argv[1:]
    schema.RESPONSE_CHUNKS = (50, 512)    # several blocks, a commit after each
    schema.BLOCK_BYTES = schema.CHUNK_BYTES = 2**16
    writer.COMMIT_EVERY = 0.0
    reader = DATASETS.load(name)
    subject = reader.subject

    def slow(self, who):
        data = subject(self, who)
        def read(start, stop):
            time.sleep(float(pause))
            return data.read_responses(start, stop)
        return replace(data, read_responses=read)

    reader.subject = slow
    for store in stores:
        recipe = Recipe(name=name, reader=name, root=root, options=json.loads(options))
        build.build_store(recipe, store, progress=False)
    print("done")
"""


@pytest.mark.parametrize("name", OPTIONS)
def test_a_killed_build_goes_on_and_ends_the_same(name, tmp_path):
    root = tmp_path / "root"
    getattr(import_module(f"neurorecon.testing.layouts.{name}"), f"write_{name}")(root, **WRITTEN.get(name, {}))
    killed, whole = tmp_path / "killed.icechunk", tmp_path / "whole.icechunk"

    def start(pause, *stores):
        arguments = [name, root, json.dumps(OPTIONS[name]), pause, *stores]
        command = [sys.executable, "-c", textwrap.dedent(_BUILD), *map(str, arguments)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    process = start(0.5, killed)
    while len(list((killed / "snapshots").glob("*"))) < 3 and process.poll() is None:  # counted, not timed
        time.sleep(0.02)
    assert process.poll() is None, "the build was over before it could be killed"
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    with pytest.raises(StoreError, match="no finished store here"):
        nr.open_store(killed)
    assert start(0, killed, whole).communicate(timeout=500)[0] == "done\n"
    assert nr.open_store(killed).digests() == nr.open_store(whole).digests()
    assert not [finding for finding in nr.check_store(nr.open_store(killed)) if finding.problem]
