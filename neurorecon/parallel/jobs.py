"""Run independent jobs, keep their results, and stream results in order.

:func:`run` computes jobs and keeps their results, either in memory or in one file per job. Files are written
atomically, and their digests are checked on reading, so that an interrupted (or killed) run can resume. :func:`imap`
streams results in order and keeps nothing. The jobs and their number of threads do not depend on the scheduler, so
results are identical to the bit wherever they are computed.

joblib and dask distribute jobs, too. This module adds results that outlive the process, stored under a digest of
everything that determines them; the same number of threads on every machine; and errors that name the job.
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

#: Where results are kept, relative to the working directory of the command.
FOLDER = Path(".neurorecon") / "results"

#: Packages whose versions can change a number.
_PACKAGES = ("numpy", "scipy", "scikit-learn", "himalaya", "torch")

#: Age after which temporary files count as abandoned: no write takes a day.
_FORGOTTEN_SECONDS = 86_400

#: Minimum number of submitted jobs if workers write their results: queued jobs take no memory, and workers may join.
AT_LEAST = 64

#: Seconds to wait until a file written by a worker becomes visible here: network file systems lag.
_VISIBLE_SECONDS = 60

#: Seconds after which a waiting thread checks whether it is still needed.
_LOOK = 0.1

#: Maximum number of items that :func:`map_threads` computes at a time; bounds the memory.
_MOST_ITEMS = 8

_AGAIN = "run the same command again; it recomputes damaged and missing results"

Arrays = dict[str, np.ndarray]

#: Computes a job: takes the description of the job and returns named arrays.
JobFunction = Callable[[Any], Arrays]

Item = TypeVar("Item")

logger = logging.getLogger("neurorecon")


@dataclass(frozen=True)
class Compute:
    """Where and how jobs are computed. Affects at most the last bits of results, so it is not an analysis setting.

    Parameters
    ----------
    scheduler : None, str, path or distributed.Client
        None uses this process (for streams, all processes that ``accelerate launch`` started). ``"local"`` starts
        processes on this machine. A dask cluster is given by its address (``"tcp://host:8786"``), its scheduler file,
        or a client.
    threads : int, optional
        Threads per job, on every machine. They affect the last bits of results and are therefore part of the inputs
        of a :class:`ResultsFolder`. By default, :func:`run` uses
        :func:`~neurorecon.parallel.workers.default_threads`, and :func:`imap` does not change the libraries' settings.
    folder : path, optional
        Parent of the folders with results, from which the same call resumes after an interruption. By default
        ``.neurorecon/results`` if a scheduler is given; otherwise results are kept in memory.
    progress : bool
        Whether to show progress bars on stderr.
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
        """Threads per job of :func:`run`."""
        return default_threads() if self.threads is None else self.threads

    @property
    def keeps_files(self) -> bool:
        """Whether results are kept in files, because a folder was given or other processes compute them."""
        return self.scheduler is not None or self.folder is not None

    def limited(self) -> AbstractContextManager[None]:
        """Keep the libraries to `threads` threads in this process; None leaves their settings as they are."""
        return nullcontext() if self.threads is None else pinned(self.threads)


# -- results ----------------------------------------------------------------------------------------------------------


class Results:
    """Results of jobs in memory, by job name. They are lost when the process ends."""

    #: Whether other processes can read the results.
    shared = False

    def __init__(self) -> None:
        self._held: dict[str, Arrays] = {}

    def prepare(self) -> None:
        """Create the storage if needed."""

    def has(self, name: str) -> bool:
        """Return whether the result of a job is available and intact."""
        return name in self._held

    def put(self, name: str, arrays: Arrays) -> None:
        """Store the result of a job."""
        self._held[name] = arrays

    def get(self, name: str) -> Arrays:
        """Return the result of a job."""
        return self._held[name]

    def remove(self, name: str) -> None:
        """Discard the result of a job."""
        self._held.pop(name, None)


class ResultsFolder(Results):
    """Results of jobs in a shared folder, one file per job.

    A folder belongs to one computation. It is named by a digest of all inputs (data, settings, code), so any result in
    it is valid. Updating neurorecon changes the code digest; let running computations finish first.

    Parameters
    ----------
    path : path
        Folder on a file system that all workers share. Created before the first result is written.
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
            Everything that determines the results (JSON types): digest of the store, settings, boundaries of jobs. A
            digest of the code and the versions of libraries are added.
        parent : path
            Parent of the folders of all computations.

        Returns
        -------
        ResultsFolder
        """
        everything = to_json({**inputs, "code": code_digest(), "libraries": _versions()})
        found = cls(Path(parent) / blake2b(everything.encode(), digest_size=12).hexdigest())
        found._inputs = everything
        return found

    _inputs: str | None = None

    def prepare(self) -> None:
        """Create the folder and record its inputs in ``inputs.json``."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            remove_leftovers(self.path / "*", _FORGOTTEN_SECONDS)  # from workers killed while writing
            if self._inputs is not None and not (self.path / "inputs.json").exists():
                write_json(self.path / "inputs.json", json.loads(self._inputs))
        except OSError as error:
            raise write_error(self.path, error, "the results cannot be written to this folder") from error

    def has(self, name: str) -> bool:
        """Return whether the result of a job is available; remove a damaged one and warn."""
        path = self.path_of(name)
        if not path.is_file():
            return False
        try:
            load(path)
        except InputError:
            logger.warning("the result of %s is damaged and will be recomputed (%s)", name, path.name)
            path.unlink(missing_ok=True)
            return False
        return True

    def put(self, name: str, arrays: Arrays) -> None:
        """Write the result of a job atomically."""
        save(self.path_of(name), arrays, what="the result of a job cannot be written")

    def get(self, name: str) -> Arrays:
        """Read the result of a job.

        Raises
        ------
        InputError
            If its file is missing or damaged.
        """
        return load(self.path_of(name), todo=_AGAIN)[0]

    def remove(self, name: str) -> None:
        """Delete the file of a job."""
        self.path_of(name).unlink(missing_ok=True)

    def path_of(self, name: str) -> Path:
        """Return the path of the file of a job."""
        return self.path / f"{re.sub(r'[^A-Za-z0-9_.+-]+', '_', name)}.safetensors"


class Stored:
    """A result used as input to other jobs. It is read by the worker that needs it and never sent over the network.

    Parameters
    ----------
    results : Results
        Results that contain it.
    name : str
        Name of the job that computed it.
    """

    def __init__(self, results: Results, name: str) -> None:
        self.results, self.name = results, name

    def load(self, keep: bool = False) -> Arrays:
        """Return its arrays.

        Parameters
        ----------
        keep : bool
            Cache the arrays for the next job in this process. One result is cached at a time.

        Returns
        -------
        dict of str to array
        """
        if not keep or not isinstance(self.results, ResultsFolder):
            return self.results.get(self.name)
        with _LOADING:
            return _loaded(str(self.results.path_of(self.name)))


#: Several threads of a worker may need the same input at the same time; it is read once.
_LOADING = threading.Lock()


@functools.lru_cache(maxsize=1)
def _loaded(path: str) -> Arrays:
    return load(path, todo=_AGAIN)[0]


@functools.cache
def code_digest() -> str:
    """Return a digest of neurorecon's source code, so that results of different code are never mixed."""
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
    """Compute all jobs without a result yet, and store each result as soon as it is computed.

    Parameters
    ----------
    function : callable
        Takes a value of `jobs` and returns a dict of NumPy arrays. It is pickled and sent to workers, so pass large
        arrays as :class:`Stored` results or read them from a store.
    jobs : mapping of str to object
        Description of each job, by job name. Must not depend on the scheduler.
    results : Results, optional
        Existing results, to which new ones are added. By default, results are kept in memory.
    compute : Compute
        Scheduler, number of threads, and whether to show a progress bar.
    label : str
        Label of the progress bar.

    Returns
    -------
    Results
        Results of all jobs.

    Raises
    ------
    JobError
        If a job fails or its workers die. Results computed so far are kept.
    InputError
        If the scheduler does not exist.
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
    """Add the name of the job to an error; unexpected errors keep their type and traceback."""
    if isinstance(error, NeuroreconError) and not isinstance(error, JobError):
        raise JobError(f"the job {name} cannot be computed: {error}") from error
    if not isinstance(error, JobError):
        error.add_note(f"while computing the job {name}")
    raise error


def _on_cluster(
    client: Any, function: JobFunction, jobs: Mapping[str, Any], results: Results, threads: int
) -> Iterator[str]:
    """Yield the name of each job when its result is available."""
    import cloudpickle
    import distributed

    packed = cloudpickle.dumps((function, results if results.shared else None, threads, code_digest()))
    todo = iter(jobs.items())
    waiting: dict[str, tuple[str, Any]] = {}
    completed = distributed.as_completed(loop=client.loop)

    def submit() -> None:
        # Workers join and leave, so count them each time.
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
    """Wait until a file that a worker wrote becomes visible on this machine."""
    until = time.monotonic() + _VISIBLE_SECONDS
    while not results.path_of(name).is_file():
        if time.monotonic() > until:
            raise JobError(
                f"the result of the job {name} is not visible on this machine",
                given=str(results.path_of(name)),
                expected="a folder on a file system shared by this machine and all workers",
                todo="run the command in a folder on the shared file system",
            )
        time.sleep(0.2)


def compute_job(packed: bytes, name: str, job: Any) -> Arrays | None:
    """Compute a job in a worker; write its result if results are shared, otherwise return it."""
    function, results, threads = _unpacked(packed)
    if results is not None and results.has(name):
        return None  # written by a worker that died before reporting it
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
            expected="a folder on a file system shared by this machine and all workers",
            todo="start the command and the workers on a shared file system",
        )
    return function, results, threads


def _require_same_code(code: str) -> None:
    if code != code_digest():
        raise StoreError(
            "a worker has another version of neurorecon than the command",
            given=f"code {code_digest()}",
            expected=f"code {code}",
            todo="start workers from the same installation, and restart them after updates",
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
    """Apply a function to each item and yield the results in order, without keeping them.

    In a single process, each step runs ahead in its own thread: while `function` computes an item, the next one is
    prepared and the previous result is consumed. Under ``accelerate launch``, every process makes the same call and
    computes its share of the items. Only the first process yields results.

    Parameters
    ----------
    function : callable
        Takes an item and returns its result. It is pickled and sent to workers.
    items : iterable
        Small objects, as they are sent to workers. Under ``accelerate launch``, the items of the first process are
        used.
    prepare : callable, optional
        Takes an item and returns the argument of `function`, e.g. by reading a file. Runs ahead of `function`.
    setup : callable, optional
        Called once in each process, e.g. to open a store and load a network. Its return value is passed to `prepare`
        and `function` as their first argument.
    compute : Compute
        Scheduler and number of threads. `folder` and `progress` are ignored.

    Yields
    ------
    object
        The result of each item.

    Raises
    ------
    JobError
        If workers die or the scheduler is lost. Exceptions of the functions are raised unchanged.
    """
    steps = _Steps(function, prepare, setup, compute.threads)
    if compute.scheduler is not None:
        yield from _from_workers(steps, items, compute)
        return
    ranks = launched()
    yield from (_here(steps, items) if ranks is None else _among(ranks, steps, items))


@dataclass(frozen=True)
class _Steps:
    """The functions that process each item of a stream."""

    function: Callable[..., Any]
    prepare: Callable[..., Any] | None
    setup: Callable[[], Any] | None
    threads: int | None

    def begin(self) -> tuple[Callable[[Any], Any] | None, Callable[[Any], Any]]:
        """Return `prepare` and `function`, bound to the return value of `setup`."""
        if self.setup is None:
            return self.prepare, self.function
        state = self.setup()
        prepare = None if self.prepare is None else functools.partial(self.prepare, state)
        return prepare, functools.partial(self.function, state)

    def pinned(self) -> AbstractContextManager[None]:
        """Limit threads to the number requested, if any."""
        return nullcontext() if self.threads is None else pinned(self.threads)


def _here(steps: _Steps, items: Iterable[Any]) -> Iterator[Any]:
    """Yield the result of each item; each step runs ahead in a thread."""
    prepare, function = steps.begin()

    def results() -> Iterator[Any]:
        ready: Any = iter(items) if prepare is None else prefetch(map(prepare, items))
        try:
            with steps.pinned():  # OpenMP limits apply per calling thread
                for item in ready:
                    yield function(item)
        finally:
            if prepare is not None:
                ready.close()

    return prefetch(results())


def _among(ranks: Ranks, steps: _Steps, items: Iterable[Any]) -> Iterator[Any]:
    """Yield results in the first process, alternating between its own and those of the other processes."""
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
            _OPENED.clear()  # GPU memory holds one network at a time
            choose_card()
            _OPENED[packed] = _Opened(packed)
        opened = _OPENED[packed]
    with opened.lock, opened.steps.pinned():
        return opened.function(item if opened.prepare is None else opened.prepare(item))


class _Opened:
    """The steps of a stream in a worker, and a lock, as its threads take turns."""

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
    """Apply a function to each item in threads on all cores, and stack the results.

    Threads are enough where NumPy releases the global interpreter lock, as in filtering.

    Parameters
    ----------
    function : callable
        Takes one item. Called from several threads, so it must not keep state between calls.
    items : sequence of array, or array of shape (item, ...)
        One or more items, e.g. the images of a batch.

    Returns
    -------
    array, shape (item, ...)
        Independent of the number of threads, to the bit.
    """
    from joblib import cpu_count

    threads = min(cpu_count(), _MOST_ITEMS, len(items))
    if threads < 2:
        return np.stack([function(item) for item in items])
    with ThreadPoolExecutor(threads) as pool:
        return np.stack(list(pool.map(function, items)))


def prefetch(iterator: Iterator[Item], waiting: int = 2) -> Iterator[Item]:
    """Run an iterator in its own thread, a few items ahead.

    Parameters
    ----------
    iterator : iterator
        Its exceptions are raised here, after the preceding items.
    waiting : int
        Maximum number of items in the queue; bounds the memory.

    Yields
    ------
    object
        The items of `iterator`, in order.
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
        except BaseException as error:  # the consumer of the items has to see it
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
    """Empty the queue, so that a blocked thread can end."""
    while True:
        try:
            queue.get_nowait()
        except Empty:
            return
