"""Jobs in this process and on the workers of a cluster: the same numbers, committed one by one."""

from __future__ import annotations

import functools
import json
import os
import signal
import threading
import time

import numpy as np
import pytest

from neurorecon.errors import InputError, StoreError
from neurorecon.parallel import Compute, JobError, Results, ResultsFolder, Stored, connect, run, workers
from neurorecon.parallel.jobs import _on_cluster, code_digest, compute_job
from neurorecon.parallel.workers import AHEAD

distributed = pytest.importorskip("distributed")

#: One thread: the bits do not depend on the machine.
ONE = Compute(threads=1)

JOBS = {f"subj01 voxels {start}": start for start in range(0, 60, 10)}


@pytest.fixture(scope="module")
def client():
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0") as cluster,
        distributed.Client(cluster, set_as_default=False) as connected,
    ):
        yield connected


@pytest.fixture
def folder(tmp_path):
    return ResultsFolder.of({"test": "jobs"}, tmp_path / "results")


# Functions are made inside of functions, so that they travel to workers, which cannot import a test.
def _products():
    def products(start):
        random = np.random.default_rng(start)
        x = random.standard_normal((60, 41)).astype(np.float32)
        return {"products": x.T @ x, "values": np.linalg.svd(x, compute_uv=False), "start": np.array(start)}

    return products


def _counted(path):
    """Count calls in a file, a line each."""
    inner = _products()

    def counted(start):
        with open(path, "a") as file:
            file.write(f"{start}\n")
        return inner(start)

    return counted


def _same(first, second):
    for name in JOBS:
        one, other = first.get(name), second.get(name)
        assert one.keys() == other.keys()
        for key, values in one.items():
            assert values.dtype == other[key].dtype
            np.testing.assert_array_equal(values, other[key])


@pytest.mark.parametrize("kept", ["memory", "folder"])
def test_workers_and_this_process_compute_the_same_bits(client, folder, kept):
    here = run(_products(), JOBS, compute=ONE)
    there = run(_products(), JOBS, folder if kept == "folder" else None, Compute(client, threads=1))
    _same(here, there)
    assert isinstance(there, ResultsFolder) == (kept == "folder")
    np.testing.assert_allclose(here.get("subj01 voxels 20")["values"][0] ** 2,
                               np.linalg.eigvalsh(here.get("subj01 voxels 20")["products"])[-1], rtol=1e-4)  # fmt: skip


def test_a_worker_killed_midway_costs_nothing_but_its_job(client, folder, tmp_path):
    inner, marker = _counted(str(tmp_path / "calls")), str(tmp_path / "killed")

    def deadly(start):
        if start == 30 and not os.path.exists(marker):
            open(marker, "w").close()
            os.kill(os.getpid(), signal.SIGKILL)
        return inner(start)

    _same(run(deadly, JOBS, folder, Compute(client, threads=1)), run(_products(), JOBS, compute=ONE))
    assert os.path.exists(marker)
    assert sorted(map(int, (tmp_path / "calls").read_text().split())) == sorted(JOBS.values())


def test_a_job_that_kills_every_worker_is_named(client, folder):
    def deadly(start):
        if start == 30:
            os.kill(os.getpid(), signal.SIGKILL)
        return {}

    def allow(failures, dask_scheduler=None):
        dask_scheduler.allowed_failures = failures

    client.run_on_scheduler(allow, 0)
    try:
        with pytest.raises(JobError, match=r"workers that computed the job subj01 voxels 30 died"):
            run(deadly, {"subj01 voxels 30": 30}, folder, Compute(client))
    finally:
        client.run_on_scheduler(allow, 3)


def test_a_cluster_whose_workers_are_all_gone_is_not_waited_for_forever(folder, monkeypatch):
    monkeypatch.setattr(workers, "WORKER_SECONDS", 1)
    monkeypatch.setattr(workers, "_ASK_SECONDS", 0.1)
    with (
        distributed.LocalCluster(n_workers=1, threads_per_worker=1, processes=True, dashboard_address=":0") as cluster,
        distributed.Client(cluster, set_as_default=False) as alone,
    ):

        def leave(job):
            time.sleep(60)
            return {"job": np.array(job)}

        gone = threading.Timer(2, cluster.scale, (0,))
        gone.start()
        with pytest.raises(JobError, match="all workers of the cluster are gone"):
            run(leave, {"one": 1, "two": 2}, folder, Compute(alone))
        gone.join()


def test_a_rerun_computes_only_what_is_missing(folder, tmp_path):
    calls = tmp_path / "calls"
    run(_counted(str(calls)), JOBS, folder, ONE)
    folder.remove("subj01 voxels 20")
    run(_counted(str(calls)), JOBS, folder, ONE)
    assert calls.read_text().split() == ["0", "10", "20", "30", "40", "50", "20"]
    again = ResultsFolder.of({"test": "jobs"}, tmp_path / "results")
    assert again.path == folder.path
    run(_counted(str(calls)), JOBS, again, ONE)
    assert len(calls.read_text().split()) == 7
    left, current = folder.path / ".block.aaaaaaaa.part", folder.path / ".block.bbbbbbbb.part"
    left.mkdir()
    current.mkdir()
    os.utime(left, (0, 0))
    folder.prepare()
    assert not left.exists()
    assert current.exists()
    assert ResultsFolder.of({"test": "other jobs"}, tmp_path / "results").path != folder.path
    assert json.loads((folder.path / "inputs.json").read_text())["code"] == code_digest()


def test_damaged_results_are_computed_again(folder, tmp_path, caplog):
    calls = tmp_path / "calls"
    run(_counted(str(calls)), JOBS, folder, ONE)
    flipped, cut, empty = (folder.path_of(f"subj01 voxels {start}") for start in (0, 10, 20))
    content = bytearray(flipped.read_bytes())
    content[-5] ^= 1
    flipped.write_bytes(content)
    cut.write_bytes(cut.read_bytes()[:-10])
    empty.write_bytes(b"")
    for name in list(JOBS)[:3]:
        with pytest.raises(InputError, match="cannot be read"):
            folder.get(name)
    with caplog.at_level("WARNING", logger="neurorecon"):
        run(_counted(str(calls)), JOBS, folder, ONE)
    assert calls.read_text().split()[6:] == ["0", "10", "20"]
    assert caplog.text.count("is damaged and will be recomputed") == 3
    _same(folder, run(_products(), JOBS, compute=ONE))


@pytest.mark.parametrize("where", ["here", "workers"])
def test_an_error_says_which_job(request, folder, where):
    def wrong(start):
        if start == 20:
            raise InputError("voxels without variance")
        if start == 50:
            raise ValueError("a bug")
        return {}

    scheduler = request.getfixturevalue("client") if where == "workers" else None
    with pytest.raises(JobError, match=r"job subj01 voxels 20 cannot be computed: voxels without variance"):
        run(wrong, {"subj01 voxels 20": 20}, folder, Compute(scheduler))
    with pytest.raises(ValueError, match="a bug") as caught:
        run(wrong, {"subj01 voxels 50": 50}, folder, Compute(scheduler))
    assert "while computing the job subj01 voxels 50" in caught.value.__notes__
    assert run(wrong, {"subj01 voxels 0": 0}, folder, Compute(scheduler)).get("subj01 voxels 0") == {}


@pytest.mark.parametrize("where", ["here", "workers"])
def test_what_was_committed_before_an_interruption_is_kept(request, folder, tmp_path, where):
    inner = _counted(str(tmp_path / "calls"))

    def slow(start):
        time.sleep(0.3)
        return inner(start)

    scheduler = request.getfixturevalue("client") if where == "workers" else None
    timer = threading.Thread(target=_interrupt_after, args=(folder, "subj01 voxels 0"))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        run(slow, JOBS, folder, Compute(scheduler, threads=1))
    timer.join()
    # A worker ends the job that it is at; only then is it settled which ones are there.
    while scheduler is not None and any(scheduler.run(_running).values()):
        time.sleep(0.05)
    there = [name for name in JOBS if folder.has(name)]
    assert 0 < len(there) < len(JOBS)
    (tmp_path / "calls").unlink()
    run(inner, JOBS, folder, ONE)
    assert [f"subj01 voxels {start}" for start in (tmp_path / "calls").read_text().split()] == [
        name for name in JOBS if name not in there
    ]


def _running(dask_worker):
    """Return how many threads of a worker are taken, by cancelled jobs too."""
    return len(dask_worker.state.all_running_tasks)


def _interrupt_after(folder, name):
    while not folder.path_of(name).exists():
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGINT)


def test_inputs_are_read_from_the_folder_by_workers(client, folder):
    folder.prepare()
    folder.put("kernel", {"kernel": np.arange(12.0).reshape(3, 4)})

    def rows(kernel, row):
        return {"sum": kernel.load(keep=True)["kernel"][row].sum(keepdims=True)}

    function = functools.partial(rows, Stored(folder, "kernel"))
    found = run(function, {f"row {row}": row for row in range(3)}, folder, Compute(client))
    assert [float(found.get(f"row {row}")["sum"][0]) for row in range(3)] == [6, 22, 38]
    held = Results()
    held.put("kernel", {"kernel": np.ones((3, 4))})
    found = run(functools.partial(rows, Stored(held, "kernel")), {"row 0": 0})
    assert found.get("row 0")["sum"] == 4


def test_only_so_many_jobs_are_under_way(client):
    class Counting:
        most = under_way = 0

        def __getattr__(self, name):
            return getattr(client, name)

        def submit(self, *arguments, **options):
            self.under_way += 1
            self.most = max(self.most, self.under_way)
            return client.submit(*arguments, **options)

    counting, jobs = Counting(), {f"job {number}": number for number in range(15)}
    for _ in _on_cluster(counting, _products(), jobs, Results(), 1):
        counting.under_way -= 1
    assert 2 <= counting.most <= AHEAD * 2 + 1  # the one that is submitted before the finished one is yielded


@pytest.mark.parametrize("where", ["here", "workers"])
def test_jobs_compute_with_the_threads_that_were_asked_for(request, where):
    def counts(_):
        import scipy.linalg  # loaded within the job: it brings a BLAS of its own
        from threadpoolctl import threadpool_info

        assert scipy.linalg is not None
        return {"threads": np.array([library["num_threads"] for library in threadpool_info()])}

    scheduler = request.getfixturevalue("client") if where == "workers" else None
    for threads in (2, 1):
        found = run(counts, {"job": 0}, None, Compute(scheduler, threads=threads)).get("job")["threads"]
        assert len(found)
        assert (found == threads).all()


def test_a_scheduler_by_its_file_and_by_its_address(client, tmp_path):
    path = tmp_path / "scheduler.json"
    # What a scheduler writes when it starts; the client's own call fails where workers have reported metrics already.
    path.write_text(json.dumps({"type": "Scheduler", "address": client.scheduler.address, "workers": {}}))
    for scheduler in (str(path), client.scheduler.address):
        found = run(_products(), {"subj01 voxels 0": 0}, None, Compute(scheduler, threads=1))
        np.testing.assert_array_equal(found.get("subj01 voxels 0")["start"], 0)


def test_schedulers_that_are_not_there(tmp_path, monkeypatch):
    for name in ("dask", str(tmp_path / "absent.json")):
        with pytest.raises(InputError, match=r"no such scheduler[\s\S]*scheduler-file"):
            run(_products(), JOBS, None, Compute(name))
    for content in ("", "[]", '{"id": 1}', '{"address": "nowhere"}'):
        (tmp_path / "other.json").write_text(content)
        with pytest.raises(InputError, match="names no dask scheduler"):
            run(_products(), JOBS, None, Compute(tmp_path / "other.json"))
    monkeypatch.setattr(workers, "CONNECT_SECONDS", 1)
    (tmp_path / "gone.json").write_text('{"address": "tcp://127.0.0.1:9"}')
    for scheduler in ("tcp://127.0.0.1:9", tmp_path / "gone.json", "nonsense://127.0.0.1:9"):
        with pytest.raises(InputError, match=r"no dask cluster answers[\s\S]*dask scheduler"), connect(scheduler):
            pass


def test_a_scheduler_without_workers(monkeypatch):
    monkeypatch.setattr(workers, "WORKER_SECONDS", 1)
    with (
        distributed.LocalCluster(n_workers=0, processes=False, dashboard_address=":0", protocol="tcp") as cluster,
        pytest.raises(InputError, match=r"has no workers[\s\S]*dask worker tcp://"),
        connect(cluster.scheduler_address),
    ):
        pass


def test_workers_elsewhere_are_refused(folder):
    import cloudpickle

    packed = cloudpickle.dumps((_products(), folder, 1, code_digest()))
    with pytest.raises(StoreError, match="does not see the folder of the results"):
        compute_job(packed, "subj01 voxels 0", 0)
    folder.prepare()
    with pytest.raises(StoreError, match="another version of neurorecon"):
        compute_job(cloudpickle.dumps((_products(), folder, 1, "older")), "subj01 voxels 0", 0)
    assert compute_job(packed, "subj01 voxels 0", 0) is None
    assert folder.has("subj01 voxels 0")
