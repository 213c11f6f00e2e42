"""Batches are prepared while others are computed, in order and in bounded memory."""

from __future__ import annotations

import time

import numpy as np

import neurorecon as nr
from neurorecon.features.extract import StimulusReader, parts_of


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
            while 1 < len(prepared) < min(number + 2, 11) and time.monotonic() < deadline:
                time.sleep(0.01)
            waited.append(len(prepared) - number)
            return self(batch)

    after = nr.extract(store, [Watched()], batch=3, progress=False)
    del prepared[0], waited[0]  # of the first stimulus alone, which shows the shape of the target
    assert min(waited[:-1]) >= 2
    assert max(waited) <= 5  # memory is bounded
    np.testing.assert_allclose(after.targets("mean_color"), store.images().values.mean(axis=(1, 2)), rtol=1e-6)


def test_readers_give_the_rows_that_were_asked_for(store):
    images, frames = StimulusReader(store, "images"), StimulusReader(store, "frames")
    everything, videos = store.images().values, store.frames().values
    for rows in ([0, 1, 2], [5], [28, 29], [3, 3, 1], [0, 29]):
        np.testing.assert_array_equal(images.batch(np.array(rows)).images, everything[rows])
    batch = frames.batch(np.array([25, 29, 24]))
    np.testing.assert_array_equal(batch.frames, videos[[1, 5, 0]])
    assert batch.frames_per_second == 2.0
    assert batch.table["id"].tolist() == ["video0001", "video0005", "video0000"]
    assert batch.images is None
