"""Masks and labels are whole numbers, or a threshold is asked for; nilearn binarizes a second time."""

from __future__ import annotations

import nibabel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from neurorecon.errors import InputError
from neurorecon.io.atlases import Atlas, read_mask, read_rois
from neurorecon.io.grid import Grid
from neurorecon.io.volumes import as_mask, open_volumes, whole_numbers
from neurorecon.io.volumes import read_mask as read_volume_mask

AFFINE = np.diag([2.0, 2.0, 2.0, 1.0])


def _probabilities():
    """194 voxels that are not 0, of which 36 are 1."""
    values = np.zeros((8, 8, 8))
    values.flat[:194] = np.geomspace(1e-16, 0.99, 194)
    values.flat[:36] = 1.0
    return values


@pytest.fixture
def saved(tmp_path):
    """Return what saves a volume and returns its path."""

    def save(values, name="mask.nii.gz", dtype=None):
        image = nibabel.Nifti1Image(values if dtype is None else np.asarray(values, dtype), AFFINE)
        image.to_filename(tmp_path / name)
        return tmp_path / name

    return save


@pytest.fixture
def grid(saved) -> Grid:
    """The grid of a run."""
    return open_volumes([saved(np.ones((8, 8, 8, 2)), "run.nii.gz")], "T1w")[0]


def test_fractions_ask_for_a_threshold(saved, grid):
    path = saved(_probabilities())
    for read in (read_volume_mask, lambda path: read_mask(grid, path)):
        with pytest.raises(InputError, match=r"194 values are not 0, \d+ are above 0\.5(.|\n)*binarize_img"):
            read(path)
    with pytest.raises(InputError, match=r"not whole numbers(.|\n)*threshold"):
        read_rois(grid, {"V1": str(path)}, path.parent, "sub-01")
    found = read_rois(grid, {"V1": Atlas(path=str(path), threshold=0.9999)}, path.parent, "sub-01")
    assert found["V1"].sum() == 36


def test_what_the_message_advises_works(saved):
    from nilearn.image import binarize_img

    path = saved(_probabilities())
    binary = binarize_img(path, threshold=0.9999, two_sided=False)
    binary.to_filename(path)
    mask, affine = read_volume_mask(path)
    assert mask.sum() == 36
    np.testing.assert_array_equal(affine, AFFINE)


def test_negative_numbers_are_no_mask(saved):
    with pytest.raises(InputError, match="negative numbers, from -1 to 1"):
        read_volume_mask(saved(np.arange(512).reshape(8, 8, 8) % 3 - 1.0))


def test_labels_scaled_in_the_header_stay_labels(tmp_path):
    values = np.arange(512).reshape(8, 8, 8) % 4
    image = nibabel.Nifti1Image(values.astype(float), AFFINE)
    image.header.set_data_dtype(np.int16)  # nibabel chooses a slope, so that 1 becomes 0.99999
    path = tmp_path / "scaled.nii.gz"
    image.to_filename(path)
    assert nibabel.load(path).dataobj.slope not in (0, 1)
    mask, _ = read_volume_mask(path)
    np.testing.assert_array_equal(mask, values > 0)
    np.testing.assert_array_equal(whole_numbers(values * (1 + 1e-8)), values)


@pytest.mark.parametrize(
    "name", ["NA", "nan", "ecc4+", "V1 dorsal", "TE1.0/TE1.1", "S_calcarine", "#3", "007", "null", "Ctx, left"]
)
@pytest.mark.parametrize("kind", ["labels.tsv", "labels.csv", "recipe"])
def test_labels_keep_their_names(saved, grid, tmp_path, name, kind):
    path = saved(np.arange(512).reshape(8, 8, 8) % 3, "dseg.nii.gz", np.int16)
    labels = {"1": name, "2": "other"}
    if kind != "recipe":
        separator = "," if kind.endswith("csv") else "\t"
        cell = f'"{name}"' if "," in name else name
        (tmp_path / kind).write_text(f"index{separator}name\n1{separator}{cell}\n2{separator}other\n")
        labels = kind
    found = read_rois(grid, {"a": Atlas(path=str(path), labels=labels)}, tmp_path, "sub-01")
    assert list(found) == sorted([name, "other"])
    assert found[name].sum() == (np.arange(512) % 3 == 1).sum()


@settings(max_examples=100, deadline=None)
@given(
    hnp.arrays(np.float64, 12, elements=st.one_of(st.sampled_from([0.0, 1.0, 2.0, np.nan]), st.floats(0, 3, width=32)))
)
def test_a_mask_is_what_nilearn_takes_for_one_or_refused(values):
    """Whole numbers are the same as nilearn's mask of values above 0; everything else asks for a threshold."""
    clean = np.nan_to_num(values)
    if np.abs(clean - np.rint(clean)).max() > 1e-6:
        with pytest.raises(InputError, match="is not a mask"):
            as_mask(values, "it")
    else:
        np.testing.assert_array_equal(as_mask(values, "it"), clean > 0.5)
