"""Run independent blocks: in this process, or on the workers of a dask cluster; what is there is not computed again.

Whoever computes, the blocks are the same ones and every block computes with the same number of threads, so that the
numbers are the same to the bit. Each result is committed on its own; a run that was interrupted, or killed, goes on
from there.
"""

from __future__ import annotations

import functools
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NoReturn

from neurorecon.errors import InputError, NeuroreconError, StoreError
from neurorecon.tasks import clusters
from neurorecon.tasks.clusters import check_scheduler, connect
from neurorecon.tasks.results import Arrays, Results, ResultsFolder, code_digest
from neurorecon.tasks.threads import default_threads, pinned

#: Blocks under way for each thread of a worker, so that none waits for work.
AHEAD = 2

#: Blocks under way at least, where workers write what they find: what waits takes no memory, and more workers may come.
AT_LEAST = 64

#: Seconds within which a file that a worker wrote has to show here: network file systems take their time.
_VISIBLE_SECONDS = 60

#: Seconds between two looks at what has finished, and between two questions whether there are workers.
_POLL_SECONDS, _ASK_SECONDS = 0.02, 5.0

#: What computes a block: given what says which block it is, it returns named arrays.
BlockFunction = Callable[[Any], Arrays]


class BlockError(InputError):
    """A block could not be computed; the message says which one."""


def run(
    function: BlockFunction,
    blocks: Mapping[str, Any],
    results: Results | None = None,
    scheduler: Any = None,
    progress: bool = False,
    *,
    threads: int | None = None,
    label: str = "blocks",
) -> Results:
    """Compute all blocks whose result is not there yet.

    Parameters
    ----------
    function : callable
        Given a value of `blocks`, it returns a dict of NumPy arrays. On a cluster it travels to the workers, so large
        arrays come in as :class:`~neurorecon.tasks.results.Stored` results, or from a store that it opens.
    blocks : mapping of str to object
        What says which block it is, by the block's name. Neither may depend on who computes.
    results : Results, optional
        Where results are kept and looked for; by default in memory.
    scheduler : None, str, path or distributed.Client
        This process, or as for :func:`neurorecon.tasks.clusters.connect`.
    progress : bool
        Show a progress bar on stderr.
    threads : int, optional
        Threads of each block, see :func:`neurorecon.tasks.threads.default_threads`. They decide the last bits of the
        numbers, and therefore belong to the inputs of a :class:`~neurorecon.tasks.results.ResultsFolder`.
    label : str
        Name of the blocks in the progress bar.

    Returns
    -------
    Results
        With all blocks.

    Raises
    ------
    BlockError
        Where a block cannot be computed, or its workers died; those computed before are kept.
    InputError
        Where there is no such scheduler.
    """
    from tqdm import tqdm

    check_scheduler(scheduler)
    kept = Results() if results is None else results
    missing = [name for name in blocks if not kept.has(name)]
    pinned_to = default_threads() if threads is None else threads
    if missing:
        kept.prepare()
    with tqdm(
        total=len(blocks),
        initial=len(blocks) - len(missing),
        desc=label,
        unit="block",
        disable=not progress,
        leave=False,
    ) as bar:
        if missing and scheduler is None:
            with pinned(pinned_to):
                for name in missing:
                    kept.put(name, _computed(function, name, blocks[name]))
                    bar.update()
        elif missing:
            with connect(scheduler, threads=pinned_to) as client:
                todo = {name: blocks[name] for name in missing}
                for _ in _on_cluster(client, function, todo, kept, pinned_to):
                    bar.update()
    return kept


def _computed(function: BlockFunction, name: str, block: Any) -> Arrays:
    try:
        return function(block)
    except Exception as error:
        _raise_named(error, name)


def _raise_named(error: Exception, name: str) -> NoReturn:
    """Say which block it was; what is no mistake of the caller keeps its type and traceback."""
    if isinstance(error, NeuroreconError) and not isinstance(error, BlockError):
        raise BlockError(f"the block {name} cannot be computed: {error}") from error
    if not isinstance(error, BlockError):
        error.add_note(f"while computing the block {name}")
    raise error


def _on_cluster(
    client: Any, function: BlockFunction, blocks: Mapping[str, Any], results: Results, threads: int
) -> Iterator[str]:
    """Yield the name of each block when its result is there."""
    import cloudpickle
    import distributed

    job = cloudpickle.dumps((function, results if results.shared else None, threads, code_digest()))
    todo = iter(blocks.items())
    waiting: dict[str, tuple[str, Any]] = {}
    completed = distributed.as_completed(loop=client.loop)

    def submit() -> None:
        # Workers come and go, so their number is asked for each time.
        most = max(AT_LEAST if results.shared else 1, AHEAD * sum(client.nthreads().values()))
        while len(waiting) < most:
            name, block = next(todo, ("", None))
            if not name:
                return
            key = f"block-{uuid.uuid4().hex}"
            waiting[key] = name, client.submit(compute_block, job, name, block, key=key, pure=False)
            completed.add(waiting[key][1])

    try:
        submit()
        for future in _finished(client, completed):
            name = waiting[future.key][0]
            arrays = _gathered(future, name)
            if arrays is not None:
                results.put(name, arrays)
            elif isinstance(results, ResultsFolder):
                _wait_for(results, name)
            del waiting[future.key]
            submit()
            yield name
    finally:
        client.cancel([future for _, future in waiting.values()])


def _finished(client: Any, completed: Any) -> Iterator[Any]:
    """Yield futures as they finish; raise where no worker is left and none comes, for dask would wait forever."""
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
            elif now - heard > clusters.WORKER_SECONDS:
                raise BlockError(
                    "all workers of the cluster are gone",
                    given=f"no worker for {clusters.WORKER_SECONDS} s, {completed.count()} blocks under way",
                    expected="at least one worker",
                    todo="start workers and run the same command: it goes on from what was committed",
                )


def _gathered(future: Any, name: str) -> Arrays | None:
    import asyncio
    from concurrent.futures import CancelledError

    from distributed.scheduler import KilledWorker

    try:
        arrays: Arrays | None = future.result()
        return arrays
    except KilledWorker as error:
        raise BlockError(
            f"the workers that computed the block {name} died, one after the other",
            given=str(error).splitlines()[0],
            expected="workers with memory for a block and its inputs",
            todo="give workers more memory (the batch system may have killed them), or fewer voxels a block; "
            "the same command goes on from what was committed",
        ) from error
    except (CancelledError, asyncio.CancelledError, OSError) as error:
        if isinstance(error, OSError) and not type(error).__module__.startswith("distributed"):
            _raise_named(error, name)
        raise BlockError(
            f"the scheduler was lost while the block {name} was computed",
            given=str(error).splitlines()[0] if str(error) else type(error).__name__,
            expected="a scheduler that lives as long as the command",
            todo="start it again, and run the same command: it goes on from what was committed",
        ) from error
    except Exception as error:
        _raise_named(error, name)


def _wait_for(results: ResultsFolder, name: str) -> None:
    """Wait until a file that a worker wrote shows in this machine's view of the folder."""
    until = time.monotonic() + _VISIBLE_SECONDS
    while not results.path_of(name).is_file():
        if time.monotonic() > until:
            raise BlockError(
                f"the result of the block {name} does not show where it was written",
                given=str(results.path_of(name)),
                expected="one folder that this machine and all workers see",
                todo="run the command in a folder of the shared file system",
            )
        time.sleep(0.2)


# -- in a worker ------------------------------------------------------------------------------------------------------


def compute_block(job: bytes, name: str, block: Any) -> Arrays | None:
    """Compute a block in a worker; write it where results are shared, else return it."""
    function, results, threads = _unpacked(job)
    if results is not None and results.has(name):
        return None  # written by a worker that died before it was heard
    with pinned(threads):
        arrays = _computed(function, name, block)
    if results is None:
        return arrays
    results.put(name, arrays)
    return None


@functools.lru_cache(maxsize=8)
def _unpacked(job: bytes) -> tuple[BlockFunction, ResultsFolder | None, int]:
    import cloudpickle

    function, results, threads, code = cloudpickle.loads(job)
    if code != code_digest():
        raise StoreError(
            "a worker has another version of neurorecon than the command",
            given=f"code {code_digest()}",
            expected=f"code {code}",
            todo="start workers from the same installation, and start them again after it changed",
        )
    if results is not None and not results.path.is_dir():
        raise StoreError(
            "a worker does not see the folder of the results",
            given=str(results.path),
            expected="a folder of the file system that this machine and all workers share",
            todo="run the command, and start the workers, where all machines see the same files",
        )
    return function, results, threads
