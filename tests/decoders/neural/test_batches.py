import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neurorecon.decoders.neural.data import Batches, Rows, SampleReader, rows_of_targets, split_samples
from neurorecon.errors import InputError


@settings(max_examples=40, deadline=None)
@given(
    n_samples=st.integers(1, 60),
    batch_size=st.integers(1, 70),
    window=st.integers(1, 70),
    share=st.floats(0.2, 1),
    seed=st.one_of(st.none(), st.integers(0, 99)),
)
def test_an_epoch_has_every_sample_once_in_batches_of_one_window(n_samples, batch_size, window, share, seed):
    rows = np.flatnonzero(np.random.default_rng(0).random(n_samples) < share)
    if not len(rows):
        return
    batches = Batches(rows, batch_size, window, seed)
    for epoch in (0, 1):
        batches.epoch = epoch
        found = list(batches)
        assert len(found) == len(batches)
        assert all(len({row // window for row in batch}) == 1 for batch in found)
        assert max(map(len, found)) <= batch_size
        assert sorted(np.concatenate(found)) == rows.tolist()


def test_the_order_follows_from_seed_and_epoch_alone():
    def order(seed, epoch, earlier=0):
        batches = Batches(np.arange(100), 10, 25, seed)
        for batches.epoch in range(earlier):
            list(batches)
        batches.epoch = epoch
        return np.concatenate(list(batches)).tolist()

    assert order(3, 5) == order(3, 5, earlier=5)
    assert order(3, 5) != order(3, 6)
    assert order(3, 5) != order(4, 5)
    assert order(None, 5) == list(range(100))


@settings(max_examples=30, deadline=None)
@given(
    n_groups=st.integers(2, 15),
    repeats=st.integers(1, 4),
    fraction=st.floats(0.01, 0.99),
    seed=st.integers(0, 99),
)
def test_groups_are_either_trained_or_validated_on(n_groups, repeats, fraction, seed):
    groups = np.random.default_rng(seed).permutation(np.repeat(np.arange(n_groups), repeats))
    train, held_out = split_samples(len(groups), groups, None, fraction, seed)
    assert sorted([*train, *held_out]) == list(range(len(groups)))
    assert not set(groups[train]) & set(groups[held_out])
    assert len(set(groups[held_out])) == min(n_groups - 1, int(np.ceil(fraction * n_groups)))


def test_samples_to_validate_on_can_be_chosen():
    for validation in ([7, 3], np.isin(np.arange(8), [3, 7])):
        train, held_out = split_samples(8, None, validation, 0.5, 0)
        assert held_out.tolist() == [3, 7]
        assert train.tolist() == [0, 1, 2, 4, 5, 6]
    assert [len(part) for part in split_samples(8, None, None, 0, 0)] == [8, 0]
    with pytest.raises(InputError, match="on both sides"):
        split_samples(8, np.arange(8) // 2, [0, 2], 0.5, 0)
    for wrong in ([8], [-1], [0.5], np.zeros(7, bool)):
        with pytest.raises(InputError, match="mask or indices"):
            split_samples(8, None, wrong, 0.5, 0)
    for groups, fraction in ((np.zeros(8), 0.1), (None, 1.0), (None, -0.1)):
        with pytest.raises(InputError, match="no samples can be held out"):
            split_samples(8, groups, None, fraction, 0)


def test_targets_on_disk_are_read_a_window_at_a_time(tmp_path):
    import dask.array
    import xarray
    import zarr

    read = []

    def load(block):
        read.append(block.shape)
        return block

    y = np.random.default_rng(0).standard_normal((60, 3, 4)).astype(np.float32)
    chunked = dask.array.from_array(y, chunks=(10, 3, 4)).map_blocks(load, dtype=y.dtype, meta=y[:0])
    stored = zarr.create_array(tmp_path / "y.zarr", shape=y.shape, chunks=(10, 3, 2), dtype=y.dtype)
    stored[:] = y
    inputs = Rows(np.arange(60.0)[:, None], "float32")
    batches = Batches(np.arange(60), 8, 20, seed=1)
    for lazy in (chunked, xarray.DataArray(chunked, dims=("sample", "y", "x")), stored):
        read.clear()
        samples = SampleReader(inputs, rows_of_targets({"a": lazy, "b": y}, "float32"), window=20)
        for rows in batches:
            x, found = samples.__getitems__(rows)
            np.testing.assert_array_equal(x[:, 0], rows)
            np.testing.assert_array_equal(found["a"], y[rows])
            np.testing.assert_array_equal(found["b"], y[rows])
        if lazy is not stored:
            assert len(read) == 6  # each chunk once, not once a batch


def test_windows_are_whole_chunks(monkeypatch):
    import dask.array

    monkeypatch.setattr("neurorecon.decoders.neural.data.READ_VALUES", 5 * 250)
    y = np.zeros((1000, 5))
    inputs = Rows(np.zeros((1000, 1)), "float32")
    assert SampleReader(inputs, rows_of_targets(y, "float32")).window == 1000
    for chunk, window in ((100, 200), (400, 400), (7, 245)):
        lazy = dask.array.from_array(y, chunks=(chunk, 5))
        assert SampleReader(inputs, rows_of_targets(lazy, "float32")).window == window
