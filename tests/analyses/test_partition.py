"""Variance partitioning on stores: a data set of a few kilobytes, and what was planted in the simulated brain."""

import numpy as np
import pytest

from neurorecon.analyses import design
from neurorecon.analyses.encoding import fold_groups
from neurorecon.analyses.partition import partition_variance
from neurorecon.decoders.banded import BandedRidge
from neurorecon.decoders.samples import load_samples
from neurorecon.decoders.validation import r2_score
from neurorecon.errors import InputError


def test_models_are_banded_ridge_on_the_same_folds(miniature):
    store = miniature(subjects=1, images=60)
    found = partition_variance(store, task="images", bands=["category", "gabor"], n_bootstraps=40)
    train, test = (load_samples(store, "subj01", None, split, "images") for split in ("train", "test"))
    within, across = design.grams(store, ["category", "gabor"], train.stimuli, test.stimuli)
    for combination, r2 in zip(found.partition.combinations, found.partition.model_r2, strict=True):
        rows = [["category", "gabor"].index(band) for band in combination]
        model = BandedRidge().fit_kernels(within[rows], train.responses, groups=fold_groups(train, False))
        predicted = model.predict_kernels(across[rows])
        # Against the mean of the test responses, as in encoding maps.
        shifted = test.responses - test.responses.mean(axis=0) + train.responses.mean(axis=0)
        np.testing.assert_allclose(r2, r2_score(shifted, predicted), atol=1e-3)


def test_tables_hold_what_the_arrays_do(miniature):
    store = miniature(subjects=1, videos=30, images=60)
    found = partition_variance(store, task="videos", bands=["category", "motion"], n_bootstraps=40)
    table, parts = found.table, ["unique_category", "unique_motion", "common_category_motion"]
    np.testing.assert_allclose(table[parts].sum(axis=1), table["r2"], atol=1e-9)
    np.testing.assert_array_equal(table["unique_motion"], found.partition.of("motion"))
    masks = store.roi_masks("subj01")
    for row in found.rois.itertuples():
        names = row.bands.split("+")
        values = found.partition.of(*names)[masks[row.roi]]
        assert row.value == pytest.approx(values.mean(), abs=1e-9)
        assert row.low <= row.value <= row.high
        assert row.n == masks[row.roi].sum()
    assert found.chosen["delays"] == [1, 2, 3, 4]
    assert ("noise_ceiling" in table) == ("normalized_unique_motion" in table)
    again = partition_variance(store, task="videos", bands=["category", "motion"], n_bootstraps=40)
    np.testing.assert_array_equal(found.partition.interval.low, again.partition.interval.low)


def test_one_band_cannot_be_partitioned(miniature):
    with pytest.raises(InputError, match="cannot be partitioned over these bands"):
        partition_variance(miniature(subjects=1), bands=["gabor"])
