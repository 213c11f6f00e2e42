"""Encoding maps in blocks of voxels: one map, anyone who computed it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import neurorecon as nr
from neurorecon.analyses import encoding_blocks, encoding_maps
from neurorecon.analyses.encoding_blocks import MOST_VALUES, voxels_of_a_block
from neurorecon.errors import InputError

distributed = pytest.importorskip("distributed")

SETTINGS = {"bands": ["category", "gabor"], "n_permutations": 19, "threads": 1, "task": "images"}


@pytest.fixture(scope="module")
def store(miniature):
    return miniature(subjects=2)


@pytest.fixture(scope="module")
def block(store):
    return -(-len(store.voxels("subj01")) // 3)


@pytest.fixture(scope="module")
def in_blocks(store, block):
    return nr.maps(store, voxel_block=block, **SETTINGS)


@pytest.fixture(scope="module")
def client():
    with (
        distributed.LocalCluster(n_workers=1, threads_per_worker=1, processes=True, dashboard_address=":0") as cluster,
        distributed.Client(cluster, set_as_default=False) as connected,
    ):
        yield connected


def _same(first, second):
    for one, other in zip(first, second, strict=True):
        pd.testing.assert_frame_equal(one.table, other.table, check_exact=True)
        pd.testing.assert_frame_equal(one.rois, other.rois, check_exact=True)
        assert one.scores == other.scores
        assert one.settings == other.settings


def test_blocks_make_the_map_of_one_block(store, block, in_blocks):
    whole = nr.maps(store, **SETTINGS)
    assert [found.subject for found in whole] == store.subjects
    for one, other in zip(whole, in_blocks, strict=True):
        assert len(one.table) > block
        for column in ("r2", "r2_category", "r2_gabor", "p", "q", "alpha"):
            np.testing.assert_allclose(other.table[column], one.table[column], atol=1e-4)
        np.testing.assert_array_equal(other.table["significant"], one.table["significant"])
        for column in ("value", "low", "high", "joint", "p", "n", "significant", "wins"):
            np.testing.assert_allclose(other.rois[column], one.rois[column], atol=1e-4)
        for first, second in zip(one.scores, other.scores, strict=True):
            assert second["value"] == pytest.approx(first["value"], abs=1e-4)
            assert (second["p"], second["voxels"]) == (first["p"], first["voxels"])


def test_a_cluster_computes_the_same_bits_and_keeps_its_blocks(store, block, in_blocks, client, tmp_path, monkeypatch):
    def compute(**options):
        return nr.maps(store, voxel_block=block, results=tmp_path, **SETTINGS, **options)

    _same(compute(scheduler=client), in_blocks)
    (folder,) = [path for path in tmp_path.iterdir() if path.is_dir()]
    kept = sorted(path.name for path in folder.glob("*.safetensors"))
    assert len(kept) == 6  # three blocks for each of two subjects; the products of the features are gone
    assert all("voxels" in name for name in kept)

    computed = []
    whole = encoding_blocks.compute_voxels
    monkeypatch.setattr(encoding_maps, "compute_voxels", lambda p, b: computed.append(b.start) or whole(p, b))
    (folder / kept[1]).unlink()
    (folder / kept[5]).write_bytes(b"damaged")
    _same(compute(), in_blocks)
    assert computed == [block, 2 * block]
    _same(compute(level=0.05), in_blocks)
    assert len(computed) == 2


def test_nothing_is_written_where_nobody_asked_for_it(store, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    nr.maps(store, "subj01", results=tmp_path, **SETTINGS)  # one block
    assert list(tmp_path.iterdir()) == []


def test_the_size_of_a_block_follows_the_samples_not_the_workers():
    assert voxels_of_a_block(100) == 4096
    assert voxels_of_a_block(9000) == 17408
    assert voxels_of_a_block(30_000) * 30_000 <= MOST_VALUES
    assert voxels_of_a_block(10_000_000) == 1024
    assert all(voxels_of_a_block(samples) % 1024 == 0 for samples in range(1, 40_000, 997))


def test_blocks_and_threads_are_numbers_of_one_or_more(store):
    for wrong in ({"threads": 0}, {"voxel_block": 0}):
        with pytest.raises(InputError, match="a number of 1 or more"):
            nr.maps(store, **{**SETTINGS, **wrong})
