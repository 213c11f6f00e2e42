"""Batches are prepared while others are computed, in order and in bounded memory."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from neurorecon.features.pipeline import computed, parts_of, prefetched
from neurorecon.features.reading import StimulusReader, rows_of


def _threads():
    return [thread for thread in threading.enumerate() if thread.name == "neurorecon-prefetch"]


def test_items_come_in_order_and_few_are_ahead():
    made = []

    def source():
        for number in range(20):
            made.append(number)
            yield number

    items = prefetched(source(), waiting=2)
    assert next(items) == 0
    time.sleep(0.3)
    assert len(made) <= 1 + 2 + 1  # taken, waiting, in the hands of the thread
    assert list(items) == list(range(1, 20))
    assert not _threads()


def test_what_the_source_raises_comes_behind_the_items_before():
    def source():
        yield 1
        raise ZeroDivisionError("here")

    items = prefetched(source())
    assert next(items) == 1
    with pytest.raises(ZeroDivisionError, match="here"):
        next(items)
    assert not _threads()


def test_who_stops_early_leaves_no_thread_behind():
    items = prefetched(iter(range(1000)))
    assert next(items) == 0
    items.close()
    assert not _threads()


def test_batches_do_not_reach_across_blocks():
    assert parts_of(4, 11, 4, 3) == [(4, 7), (7, 8), (8, 11)]
    whole = parts_of(0, 11, 4, 3)
    assert whole == [(0, 3), (3, 4), *parts_of(4, 11, 4, 3)]


def test_preparing_overlaps_with_computing(store, mean_color):
    prepared, waited = [], []

    class Watched(mean_color):
        def prepare(self, batch):
            prepared.append(batch)
            return batch

        def compute(self, batch):
            # The batch behind this one is prepared while this one is computed, but for the last.
            number = len(waited)
            deadline = time.monotonic() + 60
            while len(prepared) < min(number + 2, 10) and time.monotonic() < deadline:
                time.sleep(0.01)
            waited.append(len(prepared) - number)
            return self(batch)

    extractor = Watched()
    rows = rows_of(store, extractor)
    values = list(computed(extractor, StimulusReader(store, "images"), rows, parts_of(0, len(rows), 30, 3)))
    assert len(values) == 10
    assert min(waited[:-1]) >= 2
    assert max(waited) <= 5  # memory is bounded
    np.testing.assert_allclose(np.concatenate(values), store.images().values.mean(axis=(1, 2)), rtol=1e-6)


def test_readers_give_the_rows_that_were_asked_for(store):
    images, frames = StimulusReader(store, "images"), StimulusReader(store, "frames")
    everything, films = store.images().values, store.frames().values
    for rows in ([0, 1, 2], [5], [28, 29], [3, 3, 1], [0, 29]):
        np.testing.assert_array_equal(images.batch(np.array(rows)).images, everything[rows])
    batch = frames.batch(np.array([25, 29, 24]))
    np.testing.assert_array_equal(batch.frames, films[[1, 5, 0]])
    assert batch.frames_per_second == 2.0
    assert batch.table["id"].tolist() == ["film0001", "film0005", "film0000"]
    assert batch.images is None
