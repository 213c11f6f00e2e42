"""Connect to the workers of a dask cluster: processes of this machine, a scheduler's address, or its file."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from neurorecon.errors import InputError

#: Seconds within which a scheduler has to answer.
CONNECT_SECONDS = 20

#: Seconds to wait for the first worker of a scheduler that answers.
WORKER_SECONDS = 300

LOCAL = "local"

logger = logging.getLogger("neurorecon")


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


def _first_line(error: BaseException) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def _workers(threads: int) -> int:
    """Return how many workers this machine takes: one a graphics card, else what its cores allow."""
    import torch
    from joblib import cpu_count

    return torch.cuda.device_count() or max(1, int(cpu_count()) // threads)


def choose_card() -> None:
    """Give each worker of this machine a graphics card of its own; their names are numbers. Outside of one, nothing."""
    import distributed
    import torch

    try:
        name = distributed.get_worker().name
    except ValueError:
        return
    if torch.cuda.device_count() > 1 and isinstance(name, int):
        torch.cuda.set_device(name % torch.cuda.device_count())
