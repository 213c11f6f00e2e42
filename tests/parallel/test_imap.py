"""Streams: in order, a few results ahead, the same here and on the workers of a cluster."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from neurorecon.errors import InputError, StoreError
from neurorecon.parallel import Compute, JobError, imap, jobs, map_threads, prefetch, workers

distributed = pytest.importorskip("distributed")


@pytest.fixture(scope="module")
def client():
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0") as cluster,
        distributed.Client(cluster, set_as_default=False) as connected,
    ):
        yield connected


def _threads():
    return [thread for thread in threading.enumerate() if thread.name == "neurorecon-prefetch"]


def test_items_come_in_order_and_few_are_ahead():
    made = []

    def source():
        for number in range(20):
            made.append(number)
            yield number

    items = prefetch(source(), waiting=2)
    assert next(items) == 0
    time.sleep(0.3)
    assert len(made) <= 1 + 2 + 1  # taken, waiting, in the hands of the thread
    assert list(items) == list(range(1, 20))
    assert not _threads()


def test_what_the_source_raises_comes_behind_the_items_before():
    def source():
        yield 1
        raise ZeroDivisionError("here")

    items = prefetch(source())
    assert next(items) == 1
    with pytest.raises(ZeroDivisionError, match="here"):
        next(items)
    assert not _threads()


def test_who_stops_early_leaves_no_thread_behind():
    items = prefetch(iter(range(1000)))
    assert next(items) == 0
    items.close()
    assert not _threads()


# Functions are made inside of functions, so that they travel to workers, which cannot import a test.
def _steps():
    def setup():
        return {"process": os.getpid(), "calls": 0, "factor": 2.0}

    def prepare(state, item):
        return np.full(3, item) * state["factor"]

    def function(state, prepared):
        state["calls"] += 1
        return prepared + 1, state["process"], state["calls"]

    return function, {"prepare": prepare, "setup": setup}


@pytest.mark.parametrize("where", ["here", "workers"])
def test_results_come_in_order_and_setup_runs_once_in_each_process(request, where):
    compute = Compute(request.getfixturevalue("client")) if where == "workers" else Compute()
    function, steps = _steps()
    found = list(imap(function, range(40), **steps, compute=compute))
    np.testing.assert_array_equal(
        [values for values, _, _ in found], np.repeat(np.arange(40.0), 3).reshape(40, 3) * 2 + 1
    )
    processes = {process for _, process, _ in found}
    assert (processes == {os.getpid()}) == (where == "here")
    for process in processes:
        calls = [call for _, own, call in found if own == process]
        assert sorted(calls) == list(range(1, len(calls) + 1))
    assert list(imap(function, [], **steps, compute=compute)) == []


def test_a_function_alone(client):
    for compute in (Compute(), Compute(client), Compute("local", threads=1)):
        assert list(imap(lambda item: item**2, iter(range(5)), compute=compute)) == [0, 1, 4, 9, 16]


@pytest.mark.parametrize("where", ["here", "workers"])
@pytest.mark.parametrize("step", ["function", "prepare", "setup"])
def test_what_a_step_raises_reaches_the_caller(request, where, step):
    def fail(*_):
        raise StoreError("broken")

    compute = Compute(request.getfixturevalue("client")) if where == "workers" else Compute()
    function, steps = _steps()
    arguments = {"function": function, **steps, step: fail}
    with pytest.raises(StoreError, match="broken"):
        list(imap(items=range(3), **arguments, compute=compute))
    assert not _threads()


@pytest.mark.parametrize("where", ["here", "workers"])
def test_steps_compute_with_the_threads_that_were_asked_for(request, where):
    def counts(_):
        import scipy.linalg  # loaded within the job: it brings a BLAS of its own
        from threadpoolctl import threadpool_info

        assert scipy.linalg is not None
        return {library["num_threads"] for library in threadpool_info()}

    scheduler = request.getfixturevalue("client") if where == "workers" else None
    for threads in (2, 1):
        assert list(imap(counts, [0], compute=Compute(scheduler, threads=threads))) == [{threads}]


def test_who_stops_early_cancels_what_waits(client):
    def slow(item):
        time.sleep(0.05)
        return item

    for compute in (Compute(), Compute(client)):
        stream = imap(slow, range(1000), compute=compute)
        assert next(stream) == 0
        stream.close()
        assert not _threads()


def test_a_job_that_kills_every_worker_is_one_error(client):
    def deadly(item):
        os.kill(os.getpid(), signal.SIGKILL)

    def allow(failures, dask_scheduler=None):
        dask_scheduler.allowed_failures = failures

    client.run_on_scheduler(allow, 0)
    try:
        with pytest.raises(JobError, match="died"):
            list(imap(deadly, [0], compute=Compute(client)))
    finally:
        client.run_on_scheduler(allow, 3)


def test_a_cluster_whose_workers_are_all_gone_is_not_waited_for_forever(monkeypatch):
    monkeypatch.setattr(workers, "WORKER_SECONDS", 1)
    monkeypatch.setattr(workers, "_ASK_SECONDS", 0.1)
    with (
        distributed.LocalCluster(n_workers=1, threads_per_worker=1, processes=True, dashboard_address=":0") as cluster,
        distributed.Client(cluster, set_as_default=False) as alone,
    ):
        gone = threading.Timer(2, cluster.scale, (0,))
        gone.start()
        with pytest.raises(JobError, match="all workers of the cluster are gone"):
            list(imap(lambda _: time.sleep(60), [1, 2], compute=Compute(alone)))
        gone.join()


def test_workers_of_another_version_are_refused():
    import cloudpickle

    steps = jobs._Steps(abs, None, None, None)
    assert jobs.compute_item(cloudpickle.dumps((jobs.code_digest(), steps)), -1) == 1
    with pytest.raises(StoreError, match="another version of neurorecon"):
        jobs.compute_item(cloudpickle.dumps(("older", steps)), -1)


def test_schedulers_that_are_not_there():
    with pytest.raises(InputError, match="no such scheduler"):
        list(imap(abs, [1], compute=Compute("slurm")))


def _launch(script, number):
    """Start processes as accelerate launch and torchrun do; return their exit codes, outputs and errors."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"WORLD_SIZE": str(number), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", script],
            env={**os.environ, **shared, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(number)
    ]
    printed = [process.communicate(timeout=300) for process in processes]
    return [(process.returncode, out, err) for process, (out, err) in zip(processes, printed, strict=True)]


_SHARED = """
import os
from neurorecon.parallel import imap, is_first_process
from neurorecon.parallel.workers import launched

launched("cpu")
found = []
for items in (range(7), [], [1]):
    mine = items if is_first_process() else ["ignored"]
    found.append(list(imap(lambda state, item: (item**2, state), mine, setup=os.getpid)))
print(found if is_first_process() else found == [[], [], []], os.getpid(), sep="|")
"""


@pytest.mark.skipif(os.name == "nt", reason="gloo is started otherwise there")
def test_processes_that_were_launched_share_the_items_of_the_first_one():
    ended = _launch(_SHARED, 3)
    assert [code for code, _, _ in ended] == [0, 0, 0], ended
    said, processes = zip(*(out.strip().split("|") for _, out, _ in ended), strict=True)
    assert said[1:] == ("True", "True")
    expected = [(number**2, int(processes[number % 3])) for number in range(7)]
    assert said[0] == str([expected, [], [(1, int(processes[0]))]])


_DEADLY = """
import os, signal
from neurorecon.parallel import JobError, imap
from neurorecon.parallel.workers import launched

ranks = launched("cpu")

def deadly(item):
    if item == 5:
        os.kill(os.getpid(), signal.SIGKILL)
    return item

found = []
try:
    for item in imap(deadly, range(8)):
        found.append(item)
except JobError as error:
    print(found == list(range(len(found))) and len(found) < 6, error)
"""


@pytest.mark.skipif(os.name == "nt", reason="gloo is started otherwise there")
def test_a_launched_process_that_dies_is_one_error_behind_the_results_before():
    first, second = _launch(_DEADLY, 2)
    assert second[0] == -signal.SIGKILL
    assert first[0] == 0, first
    assert first[1].startswith("True process 1 of this launch ended before its work was done")


@pytest.mark.parametrize("number", [1, 2, 23])
def test_threads_give_what_a_loop_gives(number):
    items = np.random.default_rng(0).random((number, 3, 4))
    np.testing.assert_array_equal(map_threads(lambda one: one.sum(axis=0), items), items.sum(axis=1))


def test_what_goes_wrong_with_one_item_in_a_thread_is_raised():
    with pytest.raises(ZeroDivisionError):
        map_threads(lambda one: np.array(1 / int(one)), [np.array(2), np.array(0), np.array(1)])
