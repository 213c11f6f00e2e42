"""What a killed build left behind is removed when one has ended well; what any state of the store needs stays."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import neurorecon as nr
from neurorecon.datasets.base import SubjectData
from neurorecon.datasets.recipe import Recipe
from neurorecon.errors import StoreError, StoreLockedError
from neurorecon.registry import DATASETS
from neurorecon.store import writer
from neurorecon.store.build import build_store
from neurorecon.store.writer import StoreWriter
from neurorecon.testing.miniature import MiniatureReader

#: With 60 samples of noise each, responses are most of what a store takes: 4.8 MB a subject.
VOXELS = 20_000

#: 40 kB that compression makes no smaller.
NOISE = np.random.default_rng(0).random(5000)


class NoisyReader(MiniatureReader):
    """Subjects with many voxels of noise."""

    def subject(self, name):
        data = super().subject(name)
        number = np.arange(VOXELS)
        voxels = data.voxels.iloc[number % len(data.voxels)].reset_index(drop=True)
        rois = {roi: mask[number % len(mask)] for roi, mask in data.rois.items()}

        def read(start, stop):
            return np.random.default_rng([start, stop]).standard_normal((stop - start, VOXELS), dtype=np.float32)

        return SubjectData(data.samples, voxels, rois, data.space, read, data.repetition_time)


def _recipe():
    DATASETS.register("noisy", NoisyReader)
    return Recipe(name="noisy", reader="noisy")


def _kill(path, subject):
    """Build in a process of its own, which is killed when it has written a subject and not committed it."""
    found = subprocess.run([sys.executable, __file__, path, subject], capture_output=True, text=True, timeout=300)
    assert found.returncode == -signal.SIGKILL, found.stderr


def _size(path):
    return sum(item.stat().st_size for item in Path(path).rglob("*") if item.is_file())


def _write_and_fail(writing):
    writing.put("lost", ["x"], NOISE)
    writing.stream("wrong", ["x"], (2,), "float32", lambda start, stop: np.zeros(3))


def _chunks(path):
    return {item.name for item in (Path(path) / "chunks").rglob("*") if item.is_file()}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return build_store(_recipe(), tmp_path_factory.mktemp("whole") / "noisy.icechunk", progress=False)


@pytest.mark.skipif(os.name == "nt", reason="processes are killed otherwise there")
def test_a_build_that_was_killed_twice_takes_no_more_room_than_one_that_was_not(tmp_path, whole, monkeypatch):
    path = tmp_path / "noisy.icechunk"
    _kill(path, "subj01")
    _kill(path, "subj02")
    left = _chunks(path)
    build_store(_recipe(), path, progress=False)
    assert left - _chunks(path), "no kill left anything behind"
    assert _size(path) < 1.03 * _size(whole)
    assert len(_chunks(path)) == len(_chunks(whole))
    assert nr.open_store(path).digests() == nr.open_store(whole).digests()
    assert not [finding for finding in nr.check_store(nr.open_store(path)) if finding.problem]


def test_states_that_were_published_stay(tmp_path, recipe):
    path = build_store(recipe(), tmp_path / "a.icechunk", progress=False)
    old = nr.open_store(path)
    build_store(recipe(seed=5), path, overwrite=True, progress=False)
    with StoreWriter(path) as writing:
        assert writing.collect() == 0
    assert nr.open_store(path, snapshot=old.snapshot).digest == old.digest
    assert not [finding for finding in nr.check_store(nr.open_store(path, snapshot=old.snapshot)) if finding.problem]


def test_what_an_unfinished_build_has_committed_stays(tmp_path, recipe):
    path = build_store(recipe(), tmp_path / "a.icechunk", progress=False)
    with StoreWriter(path) as writing:
        writing.checkout(writer.BUILD)
        writing.restart()
        writing.put("kept", ["x"], NOISE)
        writing.commit("of a build that is not done")
        writing.put("lost", ["x"], NOISE[::-1])
    with StoreWriter(path) as writing:
        assert writing.collect() > 10_000
    with StoreWriter(path) as writing:
        writing.checkout(writer.BUILD)
        assert writing.root["kept"][0] == NOISE[0]
        assert "lost" not in writing.root


def test_only_a_writer_after_one_that_failed_looks_for_leftovers(tmp_path, recipe, monkeypatch):
    path = build_store(recipe(), tmp_path / "a.icechunk", progress=False)
    collected = []
    collect = StoreWriter.collect
    monkeypatch.setattr(StoreWriter, "collect", lambda self: collected.append(collect(self)) or collected[-1])
    with StoreWriter(path):
        pass
    assert collected == []
    with pytest.raises(StoreError, match="wrong shape"), StoreWriter(path) as writing:
        _write_and_fail(writing)
    assert collected == []
    with StoreWriter(path), pytest.raises(StoreLockedError), StoreWriter(path):
        pass  # refused: nobody removes chunks while another process writes
    assert len(collected) == 1
    assert collected[0] > 10_000
    with StoreWriter(path):
        pass
    assert len(collected) == 1


def test_tables_that_are_there_already_are_not_written_again(tmp_path, recipe):
    path = build_store(recipe(), tmp_path / "a.icechunk", progress=False)
    values = np.array(["one", "two", ""], dtype=object)
    with StoreWriter(path) as writing:
        writing.put("text", ["x"], values, {"units": "none"})
        first = writing.commit("text")
        writing.put("text", ["x"], values, {"units": "none"})
        assert writing.commit("the same") == first
        for other in ((["y"], values, {"units": "none"}), (["x"], values, {"units": "s"}), (["x"], values[::-1], {})):
            writing.put("text", *other)
            assert writing.commit("other") != first
            first = nr.open_store(path).snapshot
        assert writing.root["text"][0] == ""


if __name__ == "__main__":
    commit = StoreWriter.commit

    def killed(self, message):
        if message.startswith(f"{sys.argv[2]}: "):
            os.kill(os.getpid(), signal.SIGKILL)
        return commit(self, message)

    writer.COMMIT_EVERY = 1e9
    StoreWriter.commit = killed
    build_store(_recipe(), sys.argv[1], progress=False)
