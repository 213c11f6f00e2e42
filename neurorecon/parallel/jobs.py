"""Run independent jobs, keep their results, and stream results in order.

:func:`run` computes jobs whose results are kept: in memory, or a file for each, written whole or not at all and read
with its digest compared. An interrupted run, even a killed one, resumes from there. :func:`imap` streams results in
order and keeps nothing. Whoever computes, the jobs are the same and each one computes with the same number of threads,
so that the numbers are the same to the bit.

joblib and dask hand out jobs too. What they lack, and is here: results that outlive the process under the digest of all
that decides them, the same number of threads on every machine, and errors that name the job.
"""

from __future__ import annotations

import functools
import itertools
import json
import logging
import re
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from hashlib import blake2b
from importlib import metadata
from pathlib import Path
from queue import Empty, Full, Queue
from typing import Any, NoReturn, TypeVar

import numpy as np

from neurorecon.errors import InputError, NeuroreconError, StoreError
from neurorecon.io.files import remove_leftovers, write_error, write_json
from neurorecon.io.tensors import load, save
from neurorecon.parallel.workers import (
    AHEAD,
    JobError,
    Ranks,
    check_scheduler,
    choose_card,
    connect,
    default_threads,
    finished,
    launched,
    pinned,
    result_of,
    wait_for,
)
from neurorecon.provenance import to_json

#: Where results are kept until they are asked for again, in the folder in which a command runs.
FOLDER = Path(".neurorecon") / "results"

#: Packages whose versions can change a number.
_PACKAGES = ("numpy", "scipy", "scikit-learn", "himalaya", "torch")

#: After which half-written files are deleted: nobody writes for a day.
_FORGOTTEN_SECONDS = 86_400

#: Jobs under way at least, where workers write their results: jobs that wait take no memory, and more workers may come.
AT_LEAST = 64

#: Seconds within which a file that a worker wrote has to show here: network file systems take their time.
_VISIBLE_SECONDS = 60

#: Seconds after which a thread that waits checks whether it is still needed.
_LOOK = 0.1

#: Items that :func:`map_threads` computes at a time, at most; bounds the memory.
_MOST_ITEMS = 8

_AGAIN = "run the same command again: it computes what is damaged or missing"

Arrays = dict[str, np.ndarray]

#: What computes a job: given what says which job it is, it returns named arrays.
JobFunction = Callable[[Any], Arrays]

Item = TypeVar("Item")

logger = logging.getLogger("neurorecon")


@dataclass(frozen=True)
class Compute:
    """Who computes. It decides no number but for the last bits, and is no setting of an analysis.

    Parameters
    ----------
    scheduler : None, str, path or distributed.Client
        None: this process, or for streams all processes that ``accelerate launch`` started together. ``"local"``:
        processes of this machine. Else a dask cluster: its address (``"tcp://host:8786"``), the file that its scheduler
        wrote, or a client.
    threads : int, optional
        Threads of each job, wherever it is computed. They decide the last bits of the numbers, and therefore belong to
        the inputs of a :class:`ResultsFolder`. By default those of :func:`~neurorecon.parallel.workers.default_threads`
        in :func:`run`; :func:`imap` then leaves the libraries as they are set.
    folder : path, optional
        Where the folders of all computations lie, so that the same call resumes where it was interrupted. By default
        ``.neurorecon/results`` where there is a scheduler; without one, results are kept in memory.
    progress : bool
        Show progress bars on stderr.
    """

    scheduler: Any = None
    threads: int | None = None
    folder: str | Path | None = None
    progress: bool = False

    def __post_init__(self) -> None:
        if self.threads is not None and self.threads < 1:
            raise InputError("threads is a number of 1 or more", given=self.threads)

    @property
    def n_threads(self) -> int:
        """Threads of each job of :func:`run`."""
        return default_threads() if self.threads is None else self.threads

    @property
    def keeps_files(self) -> bool:
        """Whether results are kept in files: somebody asked for it, or other processes compute them."""
        return self.scheduler is not None or self.folder is not None


# -- results ----------------------------------------------------------------------------------------------------------


class Results:
    """Results of jobs, by the name of the job, in memory.

    For jobs that are few and small, or where nobody asks for a folder: the results are gone with the process.
    """

    #: Whether another process can read what is here.
    shared = False

    def __init__(self) -> None:
        self._held: dict[str, Arrays] = {}

    def prepare(self) -> None:
        """Make the place where results are kept, where there is one."""

    def has(self, name: str) -> bool:
        """Return whether the result of a job is there, intact."""
        return name in self._held

    def put(self, name: str, arrays: Arrays) -> None:
        """Keep the result of a job."""
        self._held[name] = arrays

    def get(self, name: str) -> Arrays:
        """Return the result of a job."""
        return self._held[name]

    def remove(self, name: str) -> None:
        """Forget the result of a job."""
        self._held.pop(name, None)


class ResultsFolder(Results):
    """Results of jobs in a folder that all workers see, a file for each.

    The folder belongs to one computation: its name is the digest of everything that goes in (data, settings, code), so
    what lies in it can be taken as it is. An update of neurorecon changes the code: let computations finish before it.

    Parameters
    ----------
    path : path
        The folder; it is made before the first result is written.
    """

    shared = True

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).absolute()

    @classmethod
    def of(cls, inputs: Mapping[str, Any], parent: str | Path = FOLDER) -> ResultsFolder:
        """Return the folder of a computation.

        Parameters
        ----------
        inputs : mapping
            All that decides its numbers (JSON types): digest of the store, settings, boundaries of jobs. Digests of
            the code and versions of libraries are added.
        parent : path
            Where the folders of all computations lie.
        """
        everything = to_json({**inputs, "code": code_digest(), "libraries": _versions()})
        found = cls(Path(parent) / blake2b(everything.encode(), digest_size=12).hexdigest())
        found._inputs = everything
        return found

    _inputs: str | None = None

    def prepare(self) -> None:
        """Make the folder, and write down what it holds the results of."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            remove_leftovers(self.path / "*", _FORGOTTEN_SECONDS)  # of workers that were killed while they wrote
            if self._inputs is not None and not (self.path / "inputs.json").exists():
                write_json(self.path / "inputs.json", json.loads(self._inputs))
        except OSError as error:
            raise write_error(self.path, error, "the results cannot be written here") from error

    def has(self, name: str) -> bool:
        """Return whether the result of a job is there, intact; a damaged one is removed with a warning."""
        path = self.path_of(name)
        if not path.is_file():
            return False
        try:
            load(path)
        except InputError:
            logger.warning("the result of %s is damaged and is computed again (%s)", name, path.name)
            path.unlink(missing_ok=True)
            return False
        return True

    def put(self, name: str, arrays: Arrays) -> None:
        """Write the result of a job: all of it, or nothing."""
        save(self.path_of(name), arrays, what="the result of a job cannot be written")

    def get(self, name: str) -> Arrays:
        """Read the result of a job.

        Raises
        ------
        InputError
            Where its file is not there or damaged.
        """
        return load(self.path_of(name), todo=_AGAIN)[0]

    def remove(self, name: str) -> None:
        """Delete the file of a job."""
        self.path_of(name).unlink(missing_ok=True)

    def path_of(self, name: str) -> Path:
        """Return the file of a job."""
        return self.path / f"{re.sub(r'[^A-Za-z0-9_.+-]+', '_', name)}.safetensors"


class Stored:
    """A result that jobs take as input; it is read where it is used, and never travels.

    Parameters
    ----------
    results : Results
        Where it is.
    name : str
        The job.
    """

    def __init__(self, results: Results, name: str) -> None:
        self.results, self.name = results, name

    def load(self, keep: bool = False) -> Arrays:
        """Return its arrays.

        Parameters
        ----------
        keep : bool
            Keep them for the next job of this process; one result is kept at a time.
        """
        if not keep or not isinstance(self.results, ResultsFolder):
            return self.results.get(self.name)
        with _LOADING:
            return _loaded(str(self.results.path_of(self.name)))


#: Threads of one worker may want the same input at the same time: it is read once.
_LOADING = threading.Lock()


@functools.lru_cache(maxsize=1)
def _loaded(path: str) -> Arrays:
    return load(path, todo=_AGAIN)[0]


@functools.cache
def code_digest() -> str:
    """Return a digest of all of neurorecon's own code: results of other code are not taken for results of this one."""
    folder = Path(__file__).parents[1]
    digest = blake2b(digest_size=16)
    for path in sorted(folder.rglob("*.py")):
        digest.update(str(path.relative_to(folder)).encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _versions() -> dict[str, str]:
    return {name: metadata.version(name) for name in _PACKAGES}


# -- jobs whose results are kept --------------------------------------------------------------------------------------


def run(
    function: JobFunction,
    jobs: Mapping[str, Any],
    results: Results | None = None,
    compute: Compute = Compute(),
    *,
    label: str = "jobs",
) -> Results:
    """Compute all jobs whose result is not there yet, and commit each result on its own.

    Parameters
    ----------
    function : callable
        Given a value of `jobs`, it returns a dict of NumPy arrays. On a cluster it travels to the workers, so large
        arrays come in as :class:`Stored` results, or from a store.
    jobs : mapping of str to object
        What says which job it is, by the job's name. Neither may depend on who computes.
    results : Results, optional
        Where results are kept and looked for; by default in memory.
    compute : Compute
        Who computes, with how many threads, and whether a progress bar is shown.
    label : str
        Name of the jobs in the progress bar.

    Returns
    -------
    Results
        With all jobs.

    Raises
    ------
    JobError
        Where a job cannot be computed, or its workers died; results computed before are kept.
    InputError
        Where there is no such scheduler.
    """
    from tqdm import tqdm

    check_scheduler(compute.scheduler)
    kept = Results() if results is None else results
    missing = {name: job for name, job in jobs.items() if not kept.has(name)}
    threads = compute.n_threads
    if missing:
        kept.prepare()
    with tqdm(
        total=len(jobs),
        initial=len(jobs) - len(missing),
        desc=label,
        unit="job",
        disable=not compute.progress,
        leave=False,
    ) as bar:
        if missing and compute.scheduler is None:
            with pinned(threads):
                for name, job in missing.items():
                    kept.put(name, _computed(function, name, job))
                    bar.update()
        elif missing:
            with connect(compute.scheduler, threads=threads) as client:
                for _ in _on_cluster(client, function, missing, kept, threads):
                    bar.update()
    return kept


def _computed(function: JobFunction, name: str, job: Any) -> Arrays:
    try:
        return function(job)
    except Exception as error:
        _raise_named(error, name)


def _raise_named(error: Exception, name: str) -> NoReturn:
    """Say which job it was; what is no mistake of the caller keeps its type and traceback."""
    if isinstance(error, NeuroreconError) and not isinstance(error, JobError):
        raise JobError(f"the job {name} cannot be computed: {error}") from error
    if not isinstance(error, JobError):
        error.add_note(f"while computing the job {name}")
    raise error


def _on_cluster(
    client: Any, function: JobFunction, jobs: Mapping[str, Any], results: Results, threads: int
) -> Iterator[str]:
    """Yield the name of each job when its result is there."""
    import cloudpickle
    import distributed

    packed = cloudpickle.dumps((function, results if results.shared else None, threads, code_digest()))
    todo = iter(jobs.items())
    waiting: dict[str, tuple[str, Any]] = {}
    completed = distributed.as_completed(loop=client.loop)

    def submit() -> None:
        # Workers come and go, so their number is asked for each time.
        most = max(AT_LEAST if results.shared else 1, AHEAD * sum(client.nthreads().values()))
        while len(waiting) < most:
            name, job = next(todo, ("", None))
            if not name:
                return
            key = f"job-{uuid.uuid4().hex}"
            waiting[key] = name, client.submit(compute_job, packed, name, job, key=key, pure=False)
            completed.add(waiting[key][1])

    try:
        submit()
        for future in finished(client, completed):
            name = waiting[future.key][0]
            try:
                arrays: Arrays | None = result_of(future, name)
            except Exception as error:
                _raise_named(error, name)
            if arrays is not None:
                results.put(name, arrays)
            elif isinstance(results, ResultsFolder):
                _wait_for(results, name)
            del waiting[future.key]
            submit()
            yield name
    finally:
        client.cancel([future for _, future in waiting.values()])


def _wait_for(results: ResultsFolder, name: str) -> None:
    """Wait until a file that a worker wrote shows in this machine's view of the folder."""
    until = time.monotonic() + _VISIBLE_SECONDS
    while not results.path_of(name).is_file():
        if time.monotonic() > until:
            raise JobError(
                f"the result of the job {name} does not show where it was written",
                given=str(results.path_of(name)),
                expected="one folder that this machine and all workers see",
                todo="run the command in a folder of the shared file system",
            )
        time.sleep(0.2)


def compute_job(packed: bytes, name: str, job: Any) -> Arrays | None:
    """Compute a job in a worker; write its result where results are shared, else return it."""
    function, results, threads = _unpacked(packed)
    if results is not None and results.has(name):
        return None  # written by a worker that died before it was heard
    with pinned(threads):
        arrays = _computed(function, name, job)
    if results is None:
        return arrays
    results.put(name, arrays)
    return None


@functools.lru_cache(maxsize=8)
def _unpacked(packed: bytes) -> tuple[JobFunction, ResultsFolder | None, int]:
    import cloudpickle

    function, results, threads, code = cloudpickle.loads(packed)
    _require_same_code(code)
    if results is not None and not results.path.is_dir():
        raise StoreError(
            "a worker does not see the folder of the results",
            given=str(results.path),
            expected="a folder of the file system that this machine and all workers share",
            todo="run the command, and start the workers, where all machines see the same files",
        )
    return function, results, threads


def _require_same_code(code: str) -> None:
    if code != code_digest():
        raise StoreError(
            "a worker has another version of neurorecon than the command",
            given=f"code {code_digest()}",
            expected=f"code {code}",
            todo="start workers from the same installation, and start them again after it changed",
        )


# -- streams ----------------------------------------------------------------------------------------------------------


def imap(
    function: Callable[..., Any],
    items: Iterable[Any],
    *,
    prepare: Callable[..., Any] | None = None,
    setup: Callable[[], Any] | None = None,
    compute: Compute = Compute(),
) -> Iterator[Any]:
    """Yield what a function makes of each item, in order; nothing is kept, and few results wait.

    In one process, each step works ahead in a thread of its own: while `function` computes an item, the next one is
    prepared and the result before is consumed. In processes that were launched together, every process makes the same
    call; each computes its share of the items of the first process, which alone yields results. The others yield none.

    Parameters
    ----------
    function : callable
        Given an item, it returns its result. On a cluster it travels to the workers.
    items : iterable
        Small, for they travel too. Those of the first process count.
    prepare : callable, optional
        What can be done ahead, such as reading: its result for an item is given to `function` in the place of the item.
    setup : callable, optional
        Called once in each process that computes, for instance to open a store and a network. What it returns is given
        to `prepare` and `function` as a first argument.
    compute : Compute
        Who computes. Of its fields, `folder` and `progress` mean nothing here.

    Yields
    ------
    object
        The result of each item.

    Raises
    ------
    JobError
        Where workers died, or the scheduler was lost. What the functions raise is raised as it is.
    """
    steps = _Steps(function, prepare, setup, compute.threads)
    if compute.scheduler is not None:
        yield from _from_workers(steps, items, compute)
        return
    ranks = launched()
    yield from (_here(steps, items) if ranks is None else _among(ranks, steps, items))


@dataclass(frozen=True)
class _Steps:
    """What is done with each item of a stream."""

    function: Callable[..., Any]
    prepare: Callable[..., Any] | None
    setup: Callable[[], Any] | None
    threads: int | None

    def begin(self) -> tuple[Callable[[Any], Any] | None, Callable[[Any], Any]]:
        """Return the two steps of an item, `prepare` and `function`, bound to what `setup` returned."""
        if self.setup is None:
            return self.prepare, self.function
        state = self.setup()
        prepare = None if self.prepare is None else functools.partial(self.prepare, state)
        return prepare, functools.partial(self.function, state)

    def pinned(self) -> AbstractContextManager[None]:
        """Compute with the threads that were asked for; leave the libraries as they are set where none were."""
        return nullcontext() if self.threads is None else pinned(self.threads)


def _here(steps: _Steps, items: Iterable[Any]) -> Iterator[Any]:
    """Yield the result of each item; each step runs ahead in a thread."""
    prepare, function = steps.begin()

    def results() -> Iterator[Any]:
        ready: Any = iter(items) if prepare is None else prefetch(map(prepare, items))
        try:
            with steps.pinned():  # OpenMP counts the threads of each thread that calls it
                for item in ready:
                    yield function(item)
        finally:
            if prepare is not None:
                ready.close()

    return prefetch(results())


def _among(ranks: Ranks, steps: _Steps, items: Iterable[Any]) -> Iterator[Any]:
    """Yield the result of each item in the first process: its own ones in turn with those of the other processes."""
    agreed: list[Any] = ranks.broadcast(list(items) if ranks.rank == 0 else None)
    if not agreed:
        return
    own = _here(steps, agreed[ranks.rank :: ranks.number])
    try:
        if ranks.rank > 0:
            for value in own:
                ranks.send(value)
            return
        for number in range(len(agreed)):
            sender = number % ranks.number
            yield next(own) if sender == 0 else ranks.receive(sender)
    finally:
        own.close()  # type: ignore[attr-defined]


def _from_workers(steps: _Steps, items: Iterable[Any], compute: Compute) -> Iterator[Any]:
    """Yield the result of each item, computed by the workers of a cluster."""
    import cloudpickle

    packed = cloudpickle.dumps((code_digest(), steps))
    waiting: deque[tuple[int, Any]] = deque()
    todo = enumerate(items)
    with connect(compute.scheduler, threads=compute.threads or 1) as client:

        def submit(most: int) -> None:
            for number, item in itertools.islice(todo, most):
                waiting.append((number, client.submit(compute_item, packed, item, pure=False)))

        try:
            submit(max(1, AHEAD * sum(client.nthreads().values())))
            while waiting:
                number, future = waiting.popleft()
                wait_for(client, future)
                value = result_of(future, f"number {number}")
                submit(1)
                yield value
        finally:
            client.cancel([future for _, future in waiting])


def compute_item(packed: bytes, item: Any) -> Any:
    """Compute an item of a stream in a worker."""
    with _OPENING:
        if packed not in _OPENED:
            _OPENED.clear()  # one network at a time: the memory of a card is short
            choose_card()
            _OPENED[packed] = _Opened(packed)
        opened = _OPENED[packed]
    with opened.lock, opened.steps.pinned():
        return opened.function(item if opened.prepare is None else opened.prepare(item))


class _Opened:
    """The steps of a stream in a worker, and a lock: its threads take turns."""

    def __init__(self, packed: bytes) -> None:
        import cloudpickle

        self.steps: _Steps
        code, self.steps = cloudpickle.loads(packed)
        _require_same_code(code)
        self.prepare, self.function = self.steps.begin()
        self.lock = threading.Lock()


_OPENED: dict[bytes, _Opened] = {}
_OPENING = threading.Lock()


# -- threads of this process ------------------------------------------------------------------------------------------


def map_threads(function: Callable[[np.ndarray], np.ndarray], items: Sequence[np.ndarray] | np.ndarray) -> np.ndarray:
    """Return what a function makes of each item, stacked in their order, computed in threads on all cores.

    NumPy releases Python's lock while it filters.

    Parameters
    ----------
    function : callable
        Given one item; called from several threads, so it may keep nothing between calls.
    items : sequence of array, or array of shape (item, ...)
        One or more, e.g. the images of a batch.

    Returns
    -------
    array, shape (item, ...)
        The same bits whatever the number of threads.
    """
    from joblib import cpu_count

    threads = min(cpu_count(), _MOST_ITEMS, len(items))
    if threads < 2:
        return np.stack([function(item) for item in items])
    with ThreadPoolExecutor(threads) as pool:
        return np.stack(list(pool.map(function, items)))


def prefetch(iterator: Iterator[Item], waiting: int = 2) -> Iterator[Item]:
    """Run an iterator in a thread of its own, a few items ahead.

    Parameters
    ----------
    iterator : iterator
        What it raises is raised here, after the items before.
    waiting : int
        Items that may wait; bounds the memory.
    """
    queue: Queue[tuple[str, object]] = Queue(waiting)
    unwanted = threading.Event()

    def put(kind: str, item: object) -> bool:
        while not unwanted.is_set():
            try:
                queue.put((kind, item), timeout=_LOOK)
                return True
            except Full:
                continue
        return False

    def work() -> None:
        try:
            for item in iterator:
                if not put("item", item):
                    return
            put("end", None)
        except BaseException as error:  # whatever it is, the reader of the items has to see it
            put("error", error)
        finally:
            if hasattr(iterator, "close"):
                iterator.close()  # in the thread that ran it

    thread = threading.Thread(target=work, name="neurorecon-prefetch", daemon=True)
    thread.start()
    try:
        while True:
            kind, item = queue.get()
            if kind == "end":
                return
            if kind == "error":
                assert isinstance(item, BaseException)
                raise item
            yield item  # type: ignore[misc]
    finally:
        unwanted.set()
        _drain(queue)
        thread.join()


def _drain(queue: Queue) -> None:
    """Make room, so that a thread that waits to put something ends."""
    while True:
        try:
            queue.get_nowait()
        except Empty:
            return
