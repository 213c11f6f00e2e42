"""Schedulers, workers, threads and devices.

Dask and torch.distributed manage connections to workers. This module chooses between them, turns their errors into
clear messages, and makes every worker use the same number of threads.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from neurorecon.errors import InputError
from neurorecon.io.files import first_line

#: Seconds to wait for a scheduler to answer.
CONNECT_SECONDS = 20

#: Seconds to wait for the first worker once the scheduler has answered.
WORKER_SECONDS = 300

#: Jobs submitted per worker thread, so that no thread waits for work.
AHEAD = 2

#: More threads than this hardly speed up matrix products of the size of a block.
MOST_THREADS = 16

LOCAL = "local"

#: Seconds between checks for finished jobs, and between checks for live workers.
_POLL_SECONDS, _ASK_SECONDS = 0.02, 5.0

#: Seconds between checks for a live parent.
_PARENT_SECONDS = 0.5

#: How long a launched process waits for another one: a batch can take long on slow machines.
_PATIENCE = timedelta(hours=12)

_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")

logger = logging.getLogger("neurorecon")


class JobError(InputError):
    """A job failed; the message names it."""


# -- threads and devices ----------------------------------------------------------------------------------------------


def default_threads() -> int:
    """Return the default number of threads per job: the cores of this machine, or ``OMP_NUM_THREADS`` if it is lower.

    The number of threads affects the last bits of a matrix product. The process that submits the jobs therefore sets
    it for all workers, so that a map computed on a cluster equals one computed locally to the bit.
    """
    from joblib import cpu_count

    asked = os.environ.get("OMP_NUM_THREADS", "")
    cores = int(cpu_count())
    return max(1, min(MOST_THREADS, cores, int(asked) if asked.isdigit() else cores))


@contextmanager
def pinned(threads: int) -> Iterator[None]:
    """Limit BLAS, OpenMP and torch to this many threads, as a context manager.

    Libraries loaded inside the block read the number from the environment. Dask arrays are read by threads of this
    process; in a worker, dask would otherwise submit them to the cluster and wait while occupying the worker.

    Parameters
    ----------
    threads : int
        Threads per library.
    """
    import dask.config
    from threadpoolctl import threadpool_limits

    before = {name: os.environ.get(name) for name in _VARIABLES}
    os.environ.update({name: str(threads) for name in _VARIABLES})
    torch = sys.modules.get("torch")
    earlier = None if torch is None else torch.get_num_threads()
    try:
        with threadpool_limits(threads), dask.config.set(scheduler="threads", num_workers=threads):
            if torch is not None:  # threadpoolctl cannot see the MKL that is linked into torch
                torch.set_num_threads(threads)
            yield
    finally:
        if torch is not None and earlier is not None:
            torch.set_num_threads(earlier)
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def choose_device(device: str | None = None, allowed: Sequence[str] = ("cpu", "cuda", "mps")) -> str:
    """Return the device to compute on, after checking that it is available.

    Parameters
    ----------
    device : str, optional
        ``"cpu"``, ``"cuda"``, ``"cuda:1"`` or ``"mps"``. Defaults to the GPU if there is one. If `allowed` contains
        ``"torch"``, that is torch on the CPU, and ``"cpu"`` is NumPy.
    allowed : sequence of str
        Device types on which the computation can run.

    Returns
    -------
    str
        The device, spelled as given.

    Raises
    ------
    InputError
        If the computation cannot run on the device, or this machine does not have it.
    """
    name = None if device is None else str(device)
    if name in ("cpu", "torch") and name in allowed:
        return name  # commands that only use NumPy need not import torch
    import torch

    present = ["cpu", *(f"cuda:{number}" for number in range(torch.cuda.device_count()))]
    present += ["mps"] if torch.backends.mps.is_available() else []
    present = [name for name in present if name.partition(":")[0] in allowed]
    if name is None:
        return "cuda" if "cuda:0" in present else present[-1]
    if name in present or (name == "cuda" and "cuda:0" in present):
        return name
    given, todo = repr(name), "check the spelling, or omit the device to use the default"
    if name.startswith("cuda"):
        given += "" if "cuda:0" in present else ", and torch finds no GPU"
        todo = "use device='cpu', or check `python -c 'import torch; print(torch.cuda.device_count())'`"
    elif name == "mps" and "mps" not in allowed:
        todo = "use device='cpu'; mps lacks the double precision that the factorization needs"
    usable = [*present, "torch"] if "torch" in allowed else present
    raise InputError(
        "the computation cannot run on this device",
        given=given,
        expected=f"one of: {', '.join(usable)}",
        todo=todo,
    )


def choose_card() -> None:
    """Assign a GPU to each dask worker of this machine; outside of a worker, do nothing."""
    import distributed
    import torch

    try:
        name = distributed.get_worker().name
    except ValueError:
        return
    if torch.cuda.device_count() > 1 and isinstance(name, int):  # local workers are numbered
        torch.cuda.set_device(name % torch.cuda.device_count())


# -- processes on this machine ----------------------------------------------------------------------------------------


def in_processes(number: int, **options: Any) -> Any:
    """Return joblib's ``Parallel`` with processes that end when this one ends, whatever ends it.

    Parameters
    ----------
    number : int
        Processes; -1 for one per core. In a process that joblib started, nothing is started: joblib would take threads,
        and figures, for instance, cannot be drawn by several threads.
    **options
        Further options of :class:`joblib.Parallel`.

    Returns
    -------
    joblib.Parallel
    """
    from joblib import Parallel
    from joblib.parallel import get_active_backend

    if get_active_backend()[0].nesting_level:
        number = 1
    return Parallel(n_jobs=number, initializer=end_with, initargs=(os.getpid(),), **options)


def end_with(parent: int) -> None:
    """End this process within a second after its parent has ended, even if the parent was killed.

    joblib's processes wait for work for minutes, and finish what they do, when nobody is left to receive it. A thread
    looks who the parent is. The signal that Linux can send instead (``PR_SET_PDEATHSIG``) belongs to the *thread* that
    started the process, and comes when only that thread ends.

    Parameters
    ----------
    parent : int
        Process id of the parent. If it is no longer the parent, this process ends at once.
    """

    def watch() -> None:
        while _is_parent(parent):
            time.sleep(_PARENT_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, name="end with the parent", daemon=True).start()


def _is_parent(process: int) -> bool:
    if os.name == "nt":  # where a process keeps the id of its parent for ever
        import psutil

        return bool(psutil.pid_exists(process))
    return os.getppid() == process


# -- dask clusters ----------------------------------------------------------------------------------------------------


def check_scheduler(scheduler: Any) -> Any:
    """Check a scheduler without connecting to it.

    Parameters
    ----------
    scheduler : None, str, path or distributed.Client
        ``None`` (this process), ``"local"``, an address such as ``tcp://host:8786``, a file written by
        ``dask scheduler --scheduler-file``, or a client.

    Returns
    -------
    None, str, Path or distributed.Client
        The scheduler; a scheduler file is returned as a path.

    Raises
    ------
    InputError
        If it is none of these.
    """
    if scheduler is None or scheduler == LOCAL or hasattr(scheduler, "submit"):
        return scheduler
    name = str(scheduler)
    if "://" in name:
        return name
    path = Path(name)
    if path.is_file():
        _require_address(path)
        return path
    raise InputError(
        "there is no such scheduler",
        given=repr(name),
        expected="'local', the address of a dask scheduler (e.g. tcp://host:8786), or its scheduler file",
        todo="start one with: dask scheduler --scheduler-file scheduler.json",
    )


def _require_address(path: Path) -> None:
    try:
        address = json.loads(path.read_text(encoding="utf-8"))["address"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            "this file names no dask scheduler",
            given=f"{path} ({type(error).__name__})",
            expected="a JSON file written by `dask scheduler --scheduler-file`, with the address of the scheduler",
            todo="start a scheduler with: dask scheduler --scheduler-file scheduler.json",
        ) from error
    if "://" not in str(address):
        raise InputError("this file names no dask scheduler", given=f"{path}, address {address!r}")


@contextmanager
def connect(scheduler: Any, *, threads: int = 1) -> Iterator[Any]:
    """Connect to a cluster, or start one on this machine, as a context manager that closes what it opened.

    Parameters
    ----------
    scheduler : None, str, path or distributed.Client
        See :func:`check_scheduler`. A client is left open; ``None`` yields ``None``.
    threads : int
        Threads per job. With ``"local"``, one worker is started per this many cores.

    Yields
    ------
    distributed.Client or None

    Raises
    ------
    InputError
        If the scheduler does not answer or has no workers.
    """
    scheduler = check_scheduler(scheduler)
    if scheduler is None:
        yield None
        return
    import distributed

    if isinstance(scheduler, distributed.Client):
        yield scheduler
    elif scheduler == LOCAL:
        # One dask thread per worker, as libraries start their own threads.
        with (
            distributed.LocalCluster(
                n_workers=_workers(threads), threads_per_worker=1, dashboard_address=":0"
            ) as cluster,
            distributed.Client(cluster, set_as_default=False) as client,
        ):
            yield client
    else:
        with _connected(scheduler) as client:
            yield client


@contextmanager
def _connected(scheduler: str | Path) -> Iterator[Any]:
    import distributed

    options = {"scheduler_file": str(scheduler)} if isinstance(scheduler, Path) else {"address": scheduler}
    try:
        client = distributed.Client(**options, timeout=CONNECT_SECONDS, set_as_default=False)
    except (OSError, TimeoutError, ValueError) as error:
        raise InputError(
            "no dask cluster answers",
            given=f"{scheduler} ({first_line(error)})",
            expected="a running scheduler that this machine can reach",
            todo="check the address; start one with: dask scheduler --scheduler-file scheduler.json",
        ) from error
    with client:
        try:
            if not client.nthreads():
                logger.info("%s has no workers yet; waiting for the first one", scheduler)
            client.wait_for_workers(1, timeout=WORKER_SECONDS)
        except TimeoutError as error:
            told = f"--scheduler-file {scheduler}" if isinstance(scheduler, Path) else scheduler
            raise InputError(
                "the dask scheduler has no workers",
                given=f"{scheduler}, {WORKER_SECONDS} s after it answered",
                expected="at least one worker",
                todo=f"start some with: dask worker {told}; or wait until the batch system has started them",
            ) from error
        yield client


def finished(client: Any, completed: Any) -> Iterator[Any]:
    """Yield futures as they finish.

    Parameters
    ----------
    client : distributed.Client
        Connected client.
    completed : distributed.as_completed
        The futures. More may be added while iterating.

    Raises
    ------
    JobError
        If all workers are gone and none joins in time (dask would wait forever).
    """
    heard = asked = time.monotonic()
    while completed.count():
        if completed.has_ready():
            yield next(completed)
            heard = time.monotonic()
            continue
        time.sleep(_POLL_SECONDS)
        now = time.monotonic()
        if now - asked > _ASK_SECONDS:
            asked = now
            if client.nthreads():
                heard = now
            elif now - heard > WORKER_SECONDS:
                raise _no_workers()


def wait_for(client: Any, future: Any) -> None:
    """Wait until a job has finished; raise a JobError if all workers are gone, as :func:`finished` does."""
    ended = threading.Event()
    future.add_done_callback(lambda _: ended.set())
    heard = time.monotonic()
    while future.status == "pending" and not ended.wait(_ASK_SECONDS):
        now = time.monotonic()
        if client.nthreads():
            heard = now
        elif now - heard > WORKER_SECONDS:
            raise _no_workers()


def _no_workers() -> JobError:
    return JobError(
        "all workers of the cluster are gone",
        given=f"no worker for {WORKER_SECONDS} s, with jobs pending",
        expected="at least one worker",
        todo="start workers and run the same command again; it resumes from the stored results",
    )


def result_of(future: Any, name: str) -> Any:
    """Return the result of a job, or raise its exception.

    Parameters
    ----------
    future : distributed.Future
        Future of the job.
    name : str
        Name of the job, for messages.

    Returns
    -------
    object
        The return value of the job.

    Raises
    ------
    JobError
        If the workers that computed the job died, or the scheduler was lost.
    """
    import asyncio
    from concurrent.futures import CancelledError

    from distributed.scheduler import KilledWorker

    try:
        return future.result()
    except KilledWorker as error:
        raise JobError(
            f"the workers that computed the job {name} died, one after the other",
            given=first_line(error),
            expected="workers with enough memory for a job and its inputs",
            todo="give workers more memory (the batch system may have killed them) or make jobs smaller, and run the "
            "same command again; it resumes from the stored results",
        ) from error
    except (CancelledError, asyncio.CancelledError, OSError) as error:
        if isinstance(error, OSError) and not type(error).__module__.startswith("distributed"):
            raise  # raised by the job itself
        raise JobError(
            f"the connection to the scheduler was lost while computing the job {name}",
            given=first_line(error),
            expected="a scheduler that runs as long as the command",
            todo="restart the scheduler and run the same command again; it resumes from the stored results",
        ) from error


def _workers(threads: int) -> int:
    """Return the number of local workers: one per GPU, or as many as the cores allow."""
    import torch
    from joblib import cpu_count

    return torch.cuda.device_count() or max(1, int(cpu_count()) // threads)


# -- processes that were launched together ----------------------------------------------------------------------------


class Ranks:
    """The processes started together by ``accelerate launch`` or ``torchrun``, each with its own device.

    Every process runs the same command. Only the first one writes files and prints.

    Parameters
    ----------
    device : str, optional
        Device for networks. By default, each process uses the GPU that accelerate assigns to it.

    Attributes
    ----------
    rank, number : int
        Rank of this process, and number of processes.
    device : str
        Device for networks in this process. Pass it on explicitly: torch's current GPU is set per thread.
    """

    def __init__(self, device: str | None = None) -> None:
        import torch.distributed
        from accelerate import PartialState

        if "TORCHELASTIC_RUN_ID" in os.environ:  # the parent is torchrun or accelerate, not a shell that may end
            end_with(os.getppid())
        state = PartialState(cpu=device == "cpu")
        self.device = device or str(state.device)
        self.rank, self.number = state.process_index, state.num_processes
        # Results are exchanged through host memory, whatever the devices are.
        self._group: Any = torch.distributed.new_group(backend="gloo", timeout=_PATIENCE)

    def broadcast(self, message: Any = None) -> Any:
        """Send a message from the first process to all others, and return it in all of them."""
        import torch.distributed

        messages = [message]
        with _reached("another process" if self.rank == 0 else "the first process"):
            torch.distributed.broadcast_object_list(messages, src=0, group=self._group)
        return messages[0]

    def send(self, value: Any) -> None:
        """Send a value to the first process."""
        import torch.distributed

        with _reached("the first process"):
            torch.distributed.send_object_list([value], dst=0, group=self._group)

    def receive(self, rank: int) -> Any:
        """Receive the next value that another process sent to the first one."""
        import torch.distributed

        values: list[Any] = [None]
        with _reached(f"process {rank}"):
            torch.distributed.recv_object_list(values, src=rank, group=self._group)
        return values[0]


@contextmanager
def _reached(process: str) -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # raised by gloo if a connection is closed or times out
        raise JobError(
            f"{process} of this launch ended before its work was done",
            given=first_line(error),
            expected="processes that run as long as the command",
            todo="see the error of that process, then run the same command again; it resumes from the stored results",
        ) from error


def launched(device: str | None = None) -> Ranks | None:
    """Return the processes launched together with this one, or None if it runs alone.

    Parameters
    ----------
    device : str, optional
        See :class:`Ranks`. Only the first call in a process takes effect.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) < 2:
        return None
    if not _RANKS:
        _RANKS.append(Ranks(device))
    return _RANKS[0]


#: A process belongs to one launch, and joins the process group once.
_RANKS: list[Ranks] = []


def is_first_process() -> bool:
    """Return whether this process should print: it runs alone, or is the first one of a launch."""
    return int(os.environ.get("RANK", "0")) == 0
