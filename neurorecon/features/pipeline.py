"""Batches on their way through an extractor: one is read and prepared while the one before is computed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from queue import Empty, Full, Queue
from threading import Event, Thread
from typing import TypeVar

import numpy as np

from neurorecon.errors import InputError
from neurorecon.features.base import Extractor
from neurorecon.features.reading import StimulusReader

Item = TypeVar("Item")

#: A batch: its first row among those of the target, and the one behind its last.
Part = tuple[int, int]

#: Batches that wait between two steps.
_WAITING = 2

#: Seconds after which a waiting thread looks whether it is still needed.
_LOOK = 0.1


def prefetched(source: Iterator[Item], waiting: int = _WAITING) -> Iterator[Item]:
    """Run an iterator in a thread of its own, a few items ahead.

    Parameters
    ----------
    source : iterator
        What it raises is raised here, behind the items before.
    waiting : int
        Items that may wait; bounds the memory.
    """
    queue: Queue[tuple[str, object]] = Queue(waiting)
    unwanted = Event()

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
            for item in source:
                if not put("item", item):
                    return
            put("end", None)
        except BaseException as error:  # whatever it is, the reader of the items has to see it
            put("error", error)

    thread = Thread(target=work, name="neurorecon-prefetch", daemon=True)
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


def computed(extractor: Extractor, reader: StimulusReader, rows: np.ndarray, parts: Sequence[Part]) -> Iterator:
    """Yield the target of each part, in order; reading, preparing and computing overlap."""

    def prepare() -> Iterator:
        for start, stop in parts:
            yield extractor.prepare(reader.batch(rows[start:stop]))

    def compute() -> Iterator[np.ndarray]:
        ready = prefetched(prepare())
        try:
            for prepared in ready:
                yield np.asarray(extractor.compute(prepared), dtype=np.float32)
        finally:
            ready.close()  # type: ignore[attr-defined]

    return prefetched(compute())


def parts_of(start: int, stop: int, block: int, size: int) -> list[Part]:
    """Split rows into batches that do not reach across blocks, so that a resumed run has the same ones."""
    found = []
    for first in range(start, stop, block):
        last = min(first + block, stop)
        found += [(begin, min(begin + size, last)) for begin in range(first, last, size)]
    return found


class Stream:
    """Gives rows of a target to the writer, which asks for block after block.

    Parameters
    ----------
    begin : callable
        Given the parts still to do, an iterator of their values.
    shape : tuple of int
        Of the whole target.
    size : int
        Rows of a part.
    name : str
        The target, for messages.
    done : callable
        Told the number of rows after each part.
    """

    def __init__(
        self,
        begin: Callable[[list[Part]], Iterator[np.ndarray]],
        shape: tuple[int, ...],
        size: int,
        name: str,
        done: Callable[[int], None],
    ) -> None:
        self._begin, self._shape, self._size, self._name, self._done = begin, shape, size, name, done
        self._values: Iterator[np.ndarray] | None = None
        self.started_at = shape[0]

    def read(self, start: int, stop: int) -> np.ndarray:
        """Return rows of the target, float32, shape (stimulus, ...)."""
        if self._values is None:
            self.started_at = start
            parts = parts_of(start, self._shape[0], stop - start, self._size)
            self._values = self._begin(parts)
        block = np.empty((stop - start, *self._shape[1:]), dtype=np.float32)
        filled = 0
        while filled < len(block):
            values = next(self._values)
            _check(values, self._shape[1:], self._name)
            block[filled : filled + len(values)] = values
            filled += len(values)
            self._done(len(values))
        return block

    def close(self) -> None:
        """Stop what still works ahead."""
        if self._values is not None and hasattr(self._values, "close"):
            self._values.close()


def _check(values: np.ndarray, shape: tuple[int, ...], name: str) -> None:
    if values.shape[1:] != shape:
        raise InputError(
            f"the target {name!r} has another shape for some stimuli",
            given=str(values.shape[1:]),
            expected=str(shape),
            todo="mend the extractor: every stimulus has to have as many values",
        )
    if not np.isfinite(values).all():
        raise InputError(
            f"the target {name!r} holds values that are not numbers",
            given=f"{int((~np.isfinite(values)).sum())} of {values.size} in one batch",
            expected="finite numbers",
            todo="take --precision float32 or bfloat16 where it was float16; else mend the extractor",
        )


def _drain(queue: Queue) -> None:
    """Make room, so that a thread that waits to put something ends."""
    while True:
        try:
            queue.get_nowait()
        except Empty:
            return
