"""Who computes: this process, workers of a dask cluster, or processes that accelerate launched; threads and devices.

Connecting, losing and leaving workers is dask's and torch.distributed's business. What is here decides which of them
computes, says in one sentence what went wrong, and makes every worker compute with the same number of threads.
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

#: Seconds within which a scheduler has to answer.
CONNECT_SECONDS = 20

#: Seconds to wait for the first worker of a scheduler that answers.
WORKER_SECONDS = 300

#: Jobs under way for each thread of a worker, so that no thread waits for work.
AHEAD = 2

#: Threads beyond which matrix products of the size of a block gain little.
MOST_THREADS = 16

LOCAL = "local"

#: Seconds between two looks at what has finished, and between two checks that there are workers.
_POLL_SECONDS, _ASK_SECONDS = 0.02, 5.0

#: How long a launched process waits for another one; a batch can take long on slow machines.
_PATIENCE = timedelta(hours=12)

_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")

logger = logging.getLogger("neurorecon")


class JobError(InputError):
    """A job could not be computed; the message says which one."""


# -- threads and devices ----------------------------------------------------------------------------------------------


def default_threads() -> int:
    """Return the threads of a job where none are asked for: the cores of this machine, or ``OMP_NUM_THREADS``.

    The process that hands out the jobs decides, and its workers follow, because the number of threads decides the last
    bits of a matrix product: a map computed on a cluster has the bits of one computed here.
    """
    from joblib import cpu_count

    asked = os.environ.get("OMP_NUM_THREADS", "")
    cores = int(cpu_count())
    return max(1, min(MOST_THREADS, cores, int(asked) if asked.isdigit() else cores))


@contextmanager
def pinned(threads: int) -> Iterator[None]:
    """Make BLAS, OpenMP and torch compute with this many threads.

    Libraries that are loaded meanwhile find the number in the environment. Lazy arrays are read by threads of this
    process: in a worker, dask would otherwise hand them to the cluster and wait for it while it occupies a worker.

    Parameters
    ----------
    threads : int
        Of each library.
    """
    import dask.config
    from threadpoolctl import threadpool_limits

    before = {name: os.environ.get(name) for name in _VARIABLES}
    os.environ.update({name: str(threads) for name in _VARIABLES})
    torch = sys.modules.get("torch")
    earlier = None if torch is None else torch.get_num_threads()
    try:
        with threadpool_limits(threads), dask.config.set(scheduler="threads", num_workers=threads):
            if torch is not None:  # its MKL is linked into it, out of sight of threadpoolctl
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
    """Return the device to compute on, and check that this machine has it.

    Parameters
    ----------
    device : str, optional
        ``"cpu"``, ``"cuda"``, ``"cuda:1"`` or ``"mps"``; by default the graphics card where there is one. Where
        `allowed` has it, ``"torch"`` is torch on the processor and ``"cpu"`` is NumPy.
    allowed : sequence of str
        Kinds of devices on which the computation can run.

    Returns
    -------
    str
        The device, as it was given where it was given.

    Raises
    ------
    InputError
        Where the computation cannot run on the device, or this machine has no such device.
    """
    name = None if device is None else str(device)
    if name in ("cpu", "torch") and name in allowed:
        return name  # commands that use NumPy alone do not load torch
    import torch

    present = ["cpu", *(f"cuda:{number}" for number in range(torch.cuda.device_count()))]
    present += ["mps"] if torch.backends.mps.is_available() else []
    present = [name for name in present if name.partition(":")[0] in allowed]
    if name is None:
        return "cuda" if "cuda:0" in present else present[-1]
    if name in present or (name == "cuda" and "cuda:0" in present):
        return name
    given, todo = repr(name), "check the spelling, or leave the device out to take the default"
    if name.startswith("cuda"):
        given += "" if "cuda:0" in present else ", and torch finds no graphics card"
        todo = "use device='cpu', or check `python -c 'import torch; print(torch.cuda.device_count())'`"
    elif name == "mps" and "mps" not in allowed:
        todo = "use device='cpu': mps lacks the double precision that the factorization needs"
    usable = [*present, "torch"] if "torch" in allowed else present
    raise InputError(
        "the computation cannot run on this device",
        given=given,
        expected=f"one of: {', '.join(usable)}",
        todo=todo,
    )


def choose_card() -> None:
    """Give each dask worker of this machine a graphics card of its own; outside of a worker, do nothing."""
    import distributed
    import torch

    try:
        name = distributed.get_worker().name
    except ValueError:
        return
    if torch.cuda.device_count() > 1 and isinstance(name, int):  # workers of one machine are named by numbers
        torch.cuda.set_device(name % torch.cuda.device_count())


# -- dask clusters ----------------------------------------------------------------------------------------------------


def check_scheduler(scheduler: Any) -> Any:
    """Return what names a scheduler, or say why it names none. Nothing is connected.

    Parameters
    ----------
    scheduler : None, str, path or distributed.Client
        ``None`` (this process), ``"local"``, an address such as ``tcp://host:8786``, the file that
        ``dask scheduler --scheduler-file`` wrote, or a client.

    Returns
    -------
    None, str, Path or distributed.Client
        A path for a file.

    Raises
    ------
    InputError
        Where it is none of these.
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
        expected="'local', the address of a dask scheduler, e.g. tcp://host:8786, or the file that it wrote",
        todo="start one with: dask scheduler --scheduler-file scheduler.json",
    )


def _require_address(path: Path) -> None:
    try:
        address = json.loads(path.read_text(encoding="utf-8"))["address"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            "this file names no dask scheduler",
            given=f"{path} ({type(error).__name__})",
            expected="the JSON file that `dask scheduler --scheduler-file` writes, with its address in it",
            todo="start a scheduler with: dask scheduler --scheduler-file scheduler.json",
        ) from error
    if "://" not in str(address):
        raise InputError("this file names no dask scheduler", given=f"{path}, address {address!r}")


@contextmanager
def connect(scheduler: Any, *, threads: int = 1) -> Iterator[Any]:
    """Connect to a cluster, or start one on this machine, and close at the end what was opened here.

    Parameters
    ----------
    scheduler : None, str, path or distributed.Client
        As for :func:`check_scheduler`; a client is left open, ``None`` is passed on.
    threads : int
        Threads that each worker of ``"local"`` will compute with: so many fewer workers are started.

    Yields
    ------
    distributed.Client or None

    Raises
    ------
    InputError
        Where no scheduler answers, or none of its workers.
    """
    scheduler = check_scheduler(scheduler)
    if scheduler is None:
        yield None
        return
    import distributed

    if isinstance(scheduler, distributed.Client):
        yield scheduler
    elif scheduler == LOCAL:
        # One thread of dask's for each worker: libraries start their own.
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
            given=f"{scheduler} ({_first_line(error)})",
            expected="a scheduler that runs, and can be reached from here",
            todo="check the address; start one with: dask scheduler --scheduler-file scheduler.json",
        ) from error
    with client:
        try:
            if not client.nthreads():
                logger.info("%s has no workers yet; waiting for the first one ...", scheduler)
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
        Connected.
    completed : distributed.as_completed
        With the futures; more may be added meanwhile.

    Raises
    ------
    JobError
        Where no worker is left and none comes; dask would wait forever.
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
    """Wait until one job is finished; raises as :func:`finished` does."""
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
        given=f"no worker for {WORKER_SECONDS} s, and jobs under way",
        expected="at least one worker",
        todo="start workers and run the same command: it resumes from what was committed",
    )


def result_of(future: Any, name: str) -> Any:
    """Return what a job returned; what it raised is raised here.

    Parameters
    ----------
    future : distributed.Future
        Of the job.
    name : str
        Of the job, for messages.

    Raises
    ------
    JobError
        Where the workers that computed the job died, or the scheduler was lost.
    """
    import asyncio
    from concurrent.futures import CancelledError

    from distributed.scheduler import KilledWorker

    try:
        return future.result()
    except KilledWorker as error:
        raise JobError(
            f"the workers that computed the job {name} died, one after the other",
            given=_first_line(error),
            expected="workers with enough memory for a job and its inputs",
            todo="give workers more memory (the batch system may have killed them), or make jobs smaller; "
            "the same command resumes from what was committed",
        ) from error
    except (CancelledError, asyncio.CancelledError, OSError) as error:
        if isinstance(error, OSError) and not type(error).__module__.startswith("distributed"):
            raise  # by the job itself
        raise JobError(
            f"the scheduler was lost while the job {name} was computed",
            given=_first_line(error),
            expected="a scheduler that lives as long as the command",
            todo="start it again, and run the same command: it resumes from what was committed",
        ) from error


def _first_line(error: BaseException) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def _workers(threads: int) -> int:
    """Return how many workers this machine takes: one for each graphics card, or else what its cores allow."""
    import torch
    from joblib import cpu_count

    return torch.cuda.device_count() or max(1, int(cpu_count()) // threads)


# -- processes that were launched together ----------------------------------------------------------------------------


class Ranks:
    """The processes that ``accelerate launch`` or ``torchrun`` started together, each with a device of its own.

    Every process runs the same command. The first one writes and speaks.

    Parameters
    ----------
    device : str, optional
        Where networks run; left out, each process takes the card that accelerate gives it.

    Attributes
    ----------
    rank, number : int
        Which process this is, and how many there are.
    device : str
        Where networks of this process run. Pass it on by name: torch's current card is one of each thread.
    """

    def __init__(self, device: str | None = None) -> None:
        import torch.distributed
        from accelerate import PartialState

        state = PartialState(cpu=device == "cpu")
        self.device = device or str(state.device)
        self.rank, self.number = state.process_index, state.num_processes
        # Results travel through the memory of the host, whatever the devices are.
        self._group: Any = torch.distributed.new_group(backend="gloo", timeout=_PATIENCE)

    def broadcast(self, message: Any = None) -> Any:
        """Return the message of the first process, in all processes."""
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
        """Return the next value that another process sends to the first one."""
        import torch.distributed

        values: list[Any] = [None]
        with _reached(f"process {rank}"):
            torch.distributed.recv_object_list(values, src=rank, group=self._group)
        return values[0]


@contextmanager
def _reached(process: str) -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # gloo's for a connection that was closed, or that says nothing for too long
        raise JobError(
            f"{process} of this launch ended before its work was done",
            given=_first_line(error),
            expected="processes that live as long as the command",
            todo="see the error of that process; the same command resumes from what was committed",
        ) from error


def launched(device: str | None = None) -> Ranks | None:
    """Return the processes that were launched together with this one; None where it is alone.

    Parameters
    ----------
    device : str, optional
        As for :class:`Ranks`; the first call of a process decides.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) < 2:
        return None
    if not _RANKS:
        _RANKS.append(Ranks(device))
    return _RANKS[0]


#: A process is part of one launch: it joins the others once.
_RANKS: list[Ranks] = []


def is_first_process() -> bool:
    """Return whether this is the only process of a launch, or the one of them that speaks."""
    return int(os.environ.get("RANK", "0")) == 0
