"""Which targets of a store are the bands."""

import numpy as np
import pytest

import neurorecon as nr
from neurorecon.analyses.design import choose_bands
from neurorecon.analyses.maps import voxelwise_maps
from neurorecon.errors import InputError, UnknownNameError


def test_bands_that_are_named_are_taken(miniature):
    store = miniature(subjects=1)
    assert choose_bands(store, ["motion", "gabor", "motion"]) == ["motion", "gabor"]
    with pytest.raises(UnknownNameError, match="unknown target 'clip'"):
        choose_bands(store, ["gabor", "clip"])
    with pytest.raises(InputError, match="nothing to predict from"):
        choose_bands(store, [])


def test_stores_without_networks_have_their_three_bands(miniature):
    assert choose_bands(miniature(subjects=1), None) == ["category", "gabor", "motion"]


def test_networks_come_first_and_each_role_has_one_band(miniature):
    store = miniature(("gabor", "category", "motion", "clip_image", "vqvae"), subjects=1)
    assert choose_bands(store, None) == ["clip_image", "vqvae", "gabor", "motion"]


def test_a_store_of_own_targets_has_them_all(miniature):
    store = miniature((), subjects=1, seed=5)
    for name in ("loudness", "depth"):
        values = np.random.default_rng(0).normal(size=(len(store.stimuli), 3))
        store = nr.add_target(store, name, values, made_by={"model": "random numbers", "source": "this test"})
    assert choose_bands(store, None) == ["depth", "loudness"]


def test_default_bands_are_those_that_the_task_has(miniature):
    store = miniature(subjects=1)
    assert choose_bands(store, None, "subj01", "images") == ["category", "gabor"]
    assert choose_bands(store, None, "subj01", "videos") == ["category", "gabor", "motion"]
    assert choose_bands(store, None, "subj01") == ["category", "gabor"]  # images come first
    found = voxelwise_maps(store, task="images", n_permutations=19)
    assert (found.task, found.bands) == ("images", ["category", "gabor"])
    with pytest.raises(InputError, match="cannot be analyzed with these bands"):
        voxelwise_maps(store, task="images", bands=["motion"])


def test_the_table_says_what_the_bands_are_and_what_else_there_is(miniature):
    store = miniature(subjects=1)
    text = voxelwise_maps(store, task="images", n_permutations=19).text(store)
    assert "bands category: semantic (categories); gabor: low-level (Gabor)" in text
    assert "also in the store: motion" in text.replace("\n  ", " ")
    assert max(map(len, text.splitlines())) <= 110
