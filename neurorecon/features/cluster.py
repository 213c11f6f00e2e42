"""Workers of a dask cluster compute batches; the process that calls writes them.

Workers open the store themselves, so it has to lie where all of them can read it, and so do the weights.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from neurorecon.errors import StoreError
from neurorecon.features.base import Extractor
from neurorecon.features.pipeline import Part
from neurorecon.features.reading import StimulusReader
from neurorecon.features.schedulers import Scheduler
from neurorecon.tasks.clusters import choose_card, connect
from neurorecon.tasks.stores import StoreReference

#: Batches under way for each thread of a worker, so that none waits for work.
_AHEAD = 2


class Cluster(Scheduler):
    """The workers of a dask cluster.

    Parameters
    ----------
    client : distributed.Client
        Connected.
    device : str, optional
        Where networks run on each worker; left out, each takes the best device it has.
    """

    def __init__(self, client: Any, device: str | None = None) -> None:
        super().__init__(device)
        self.client = client

    def compute(
        self,
        extractor: Extractor,
        reader: StimulusReader,
        rows: np.ndarray,
        parts: Sequence[Part],
        shape: tuple[int, ...],
    ) -> Iterator[np.ndarray]:
        """Yield the target of each part of the rows, in order."""
        job = _packed(extractor, reader)
        waiting: deque[Any] = deque()
        todo = iter(parts)
        try:
            for _ in range(_AHEAD * sum(self.client.nthreads().values())):
                self._submit(job, rows, todo, waiting)
            while waiting:
                values = waiting.popleft().result()
                self._submit(job, rows, todo, waiting)
                yield values
        finally:
            self.client.cancel(list(waiting))

    def _submit(self, job: bytes, rows: np.ndarray, todo: Iterator[Part], waiting: deque[Any]) -> None:
        for start, stop in todo:
            waiting.append(self.client.submit(compute_rows, job, rows[start:stop], pure=False))
            return


@contextmanager
def open_cluster(scheduler: Any, device: str | None) -> Iterator[Cluster]:
    """Connect to a cluster, or start one on this machine.

    Parameters
    ----------
    scheduler : str, path or distributed.Client
        As for :func:`neurorecon.tasks.clusters.connect`.
    device : str, optional
        Where networks run.
    """
    # Dask's workers compute with one thread each (it sets OMP_NUM_THREADS), so as many as there are cores or cards.
    with connect(scheduler) as client:
        yield Cluster(client, device)


# -- in a worker ------------------------------------------------------------------------------------------------------


class _Job:
    """An extractor and a store, opened once in each worker."""

    def __init__(self, packed: bytes) -> None:
        import cloudpickle

        store, self.extractor, made_by = cloudpickle.loads(packed)
        self.reader = StimulusReader(store.open(), self.extractor.needs)
        self.lock = threading.Lock()
        found = self.extractor.made_by()
        if found != made_by:
            different = sorted(key for key in made_by if found.get(key) != made_by[key])
            raise StoreError(
                "a worker would compute this target otherwise",
                given=", ".join(f"{key} = {found.get(key)!r}" for key in different),
                expected=", ".join(f"{key} = {made_by[key]!r}" for key in different),
                todo="give all workers the same weights and the same version of neurorecon",
            )


_JOBS: dict[bytes, _Job] = {}
_LOCK = threading.Lock()


def compute_rows(packed: bytes, rows: np.ndarray) -> np.ndarray:
    """Compute the target of some stimuli, in a worker."""
    with _LOCK:
        if packed not in _JOBS:
            _JOBS.clear()  # one network at a time: the memory of a card is short
            choose_card()
            _JOBS[packed] = _Job(packed)
        job = _JOBS[packed]
    with job.lock:
        return np.asarray(job.extractor.compute(job.extractor.prepare(job.reader.batch(rows))), dtype=np.float32)


def _packed(extractor: Extractor, reader: StimulusReader) -> bytes:
    import cloudpickle

    packed: bytes = cloudpickle.dumps((StoreReference(reader.store), extractor, extractor.made_by()))
    return packed
