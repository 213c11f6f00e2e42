import os
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest

import neurorecon as nr
from neurorecon.datasets.base import SubjectData
from neurorecon.errors import InputError, StoreError, StoreLockedError
from neurorecon.registry import DATASETS
from neurorecon.store import schema
from neurorecon.store.build import build_store
from neurorecon.store.writer import WriterLock
from neurorecon.testing.miniature import MiniatureReader


def _tree(path):
    return {
        str(item.relative_to(path)): item.stat().st_mtime_ns
        for item in path.rglob("*")
        if item.is_file() and not item.name.endswith(".lock")
    }


def test_the_same_recipe_gives_the_same_digests(tmp_path, recipe, store):
    again = nr.open_store(build_store(recipe(), tmp_path / "again.icechunk", progress=False))
    assert again.digests() == store.digests()
    assert again.digest == store.digest
    other = nr.open_store(build_store(recipe(seed=1), tmp_path / "other.icechunk", progress=False))
    assert other.digests()["subj01/responses"] != store.digests()["subj01/responses"]


def test_a_finished_store_is_left_as_it_is(tmp_path, recipe):
    path = build_store(recipe(), tmp_path / "a.icechunk", progress=False)
    before = _tree(path)
    build_store(recipe(), path, progress=False)
    assert _tree(path) == before


def test_another_recipe_does_not_overwrite_unless_told(tmp_path, recipe):
    path = build_store(recipe(), tmp_path / "a.icechunk", progress=False)
    old, before = nr.open_store(path), _tree(path)
    with pytest.raises(StoreError, match="already a different store"):
        build_store(recipe(seed=5), path, progress=False)
    assert _tree(path) == before
    build_store(recipe(seed=5), path, overwrite=True, progress=False)
    new = nr.open_store(path)
    assert new.digest != old.digest
    assert nr.open_store(path, snapshot=old.snapshot).digest == old.digest


def test_chunks_codec_and_dimension_names(store):
    import zarr

    array = store._root["subj01/responses"]
    assert array.metadata.dimension_names == ("sample", "voxel")
    assert isinstance(array.compressors[0], zarr.codecs.BloscCodec)
    assert array.compressors[0].cname.value == "lz4"
    assert schema.chunks_of((30_000, 15_724), np.dtype("float32")) == (750, 1024)
    assert schema.block_rows((30_000, 15_724), (750, 1024), np.dtype("float32")) % 750 == 0


def test_one_writer_at_a_time(tmp_path, recipe):
    path = tmp_path / "locked.icechunk"
    with WriterLock(path), pytest.raises(StoreLockedError, match="another process is writing"):
        build_store(recipe(), path, progress=False)
    assert not path.exists()
    build_store(recipe(), path, progress=False)


def test_a_folder_with_other_things_is_left_alone(tmp_path, recipe):
    path = tmp_path / "mine.icechunk"
    path.mkdir()
    (path / "thesis.docx").write_text("precious")
    with pytest.raises(StoreError, match="nothing in it was changed"):
        build_store(recipe(), path, progress=False)
    assert (path / "thesis.docx").read_text() == "precious"


class _Broken(MiniatureReader):
    """Breaks in one way that a test names."""

    fault = ""

    def stimuli(self):
        table = super().stimuli()
        return table.assign(id="same") if self.fault == "duplicate" else table

    def subject(self, name):
        data = super().subject(name)
        samples, read = data.samples, data.read_responses
        if self.fault == "nan" and name == "subj02":

            def read(start, stop):
                values = data.read_responses(start, stop)
                values[-1, 3] = np.nan
                return values

        if self.fault == "overlap":
            samples = samples.assign(split=np.where(np.arange(len(samples)) % 5 > 0, "train", "test"))
        if self.fault == "unknown":
            samples = samples.assign(stimulus="nothing")
        if self.fault == "column":
            samples = samples.drop(columns="time")
        if self.fault == "shape":
            read = lambda start, stop: data.read_responses(start, stop)[:1]  # noqa: E731
        return SubjectData(samples, data.voxels, data.rois, data.space, read, data.repetition_time)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("duplicate", "stimuli occur twice"),
        ("nan", "responses of subj02 contain NaN or infinity"),
        ("overlap", "in more than one split"),
        ("unknown", "not in the table of stimuli"),
        ("column", "lack columns"),
        ("shape", "have the wrong shape"),
    ],
)
def test_bad_data_leaves_nothing_behind(tmp_path, fault, message, monkeypatch):
    from neurorecon.datasets.recipe import Recipe

    monkeypatch.setattr(_Broken, "fault", fault)
    DATASETS.register("broken", _Broken)
    path = tmp_path / "broken.icechunk"
    with pytest.raises(InputError, match=message):
        build_store(Recipe(name="broken", reader="broken"), path, progress=False)
    assert not path.exists()


def test_bad_data_leaves_an_older_store_as_it_was(tmp_path, recipe, monkeypatch):
    from neurorecon.datasets.recipe import Recipe

    path = build_store(recipe(), tmp_path / "a.icechunk", progress=False)
    digest = nr.open_store(path).digest
    monkeypatch.setattr(_Broken, "fault", "nan")
    DATASETS.register("broken", _Broken)
    with pytest.raises(InputError, match="contain NaN"):
        build_store(Recipe(name="broken", reader="broken"), path, overwrite=True, progress=False)
    assert nr.open_store(path).digest == digest


def test_groups_of_rois_are_checked_before_anything_is_written(tmp_path, recipe):
    wrong = recipe().model_copy(update={"roi_groups": {"ventral": ["FFA"]}})
    with pytest.raises(InputError, match="group of ROIs 'ventral'"):
        build_store(wrong, tmp_path / "a.icechunk", progress=False)
    assert not (tmp_path / "a.icechunk").exists()


_SLOW_BUILD = """
    import sys, time
    from neurorecon.datasets.recipe import Recipe
    from neurorecon.registry import DATASETS
    from neurorecon.store import build, schema, writer
    from neurorecon.testing.miniature import MiniatureReader

    schema.RESPONSE_CHUNKS = (5, 16)      # many small blocks, a commit after each
    schema.BLOCK_BYTES = schema.CHUNK_BYTES = 1024
    writer.COMMIT_EVERY = 0.0
    pause = float(sys.argv[2])

    class Slow(MiniatureReader):
        def read_images(self, start, stop):
            time.sleep(pause)
            return super().read_images(start, stop)

        def subject(self, name):
            data = super().subject(name)
            def read(start, stop):
                time.sleep(pause)
                return data.read_responses(start, stop)
            return data.__class__(data.samples, data.voxels, data.rois, data.space, read, data.repetition_time)

    DATASETS.register("slow", Slow)
    build.build_store(Recipe(name="slow", reader="slow"), sys.argv[1], progress=False)
    print("done")
"""


def _start(path, pause):
    code = textwrap.dedent(_SLOW_BUILD)
    return subprocess.Popen([sys.executable, "-c", code, str(path), str(pause)], stdout=subprocess.PIPE, text=True)


def _commits(path):
    """Return how many states a store has, the empty one of its beginning included."""
    return len(list((path / "snapshots").glob("*")))


def test_a_killed_build_goes_on_and_ends_the_same(tmp_path):
    whole = tmp_path / "whole.icechunk"
    assert _start(whole, 0).communicate(timeout=500)[0] == "done\n"
    killed = tmp_path / "killed.icechunk"
    for commits in (3, 6):  # counted, not timed: how soon they come depends on what else the machine does
        process = _start(killed, 0.1)
        while _commits(killed) < commits and process.poll() is None:
            time.sleep(0.02)
        assert process.poll() is None, "the build was over before it could be killed"
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        with pytest.raises(StoreError, match="no finished store here"):
            nr.open_store(killed)
    assert _start(killed, 0).communicate(timeout=500)[0] == "done\n"
    assert nr.open_store(killed).digests() == nr.open_store(whole).digests()
    # The finished parts were gone on with, not written again.
    assert not [finding for finding in nr.check_store(nr.open_store(killed)) if finding.problem]
