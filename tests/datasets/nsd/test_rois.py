"""Every label of every ROI file, beside nibabel's reading of it."""

import nibabel
import numpy as np
import pytest

from neurorecon.datasets.nsd.layout import NsdOptions
from neurorecon.datasets.nsd.reader import NsdReader
from neurorecon.datasets.nsd.rois import LABELS, label_names

ROI = "nsddata/ppdata/subj02/func1pt8mm/roi"


def _open(folder, **options):
    return NsdReader(folder, NsdOptions(**options))


@pytest.fixture(scope="module")
def data(small):
    return _open(small, mask="brain").subject("subj02")


def _labels(folder, data, name):
    volume = np.asarray(nibabel.load(folder / ROI / f"{name}.nii.gz").dataobj)
    i, j, k = data.voxels[["i", "j", "k"]].to_numpy().T
    return volume[i, j, k]


@pytest.mark.parametrize("file", list(LABELS))
def test_each_label_is_an_roi(small, data, file):
    labels = _labels(small, data, file)
    prefix = {"Kastner2015": "Kastner_", "HCP_MMP1": "HCP_"}.get(file, "")
    for number, name in enumerate(LABELS[file], start=1):
        named = name if file == "Kastner2015" and number > 7 else prefix + name
        if (labels == number).any():
            np.testing.assert_array_equal(data.rois[named], labels == number)
        else:
            assert named not in data.rois


def test_unions_and_overlaps(small, data):
    rois = data.rois
    np.testing.assert_array_equal(rois["V1"], rois["V1v"] | rois["V1d"])
    np.testing.assert_array_equal(rois["FFA"], rois["FFA-1"] | rois["FFA-2"])
    assert (rois["FFA-1"] & rois["FBA-1"]).any()
    assert (rois["V1"] <= rois["nsdgeneral"]).all()
    assert list(rois)[-1] == "nsdgeneral"


def test_low_and_high_are_kastner_overwritten_by_the_drawn_rois(small, data):
    """MindDiffuser: LVC is V1 to V3 and hV4, HVC the other nine ROIs; what was drawn by hand comes first."""
    drawn, atlas = _labels(small, data, "prf-visualrois"), _labels(small, data, "Kastner2015")
    merged = np.where(drawn > 0, drawn, atlas)
    np.testing.assert_array_equal(data.rois["LVC"], (merged >= 1) & (merged <= 7))
    np.testing.assert_array_equal(data.rois["HVC"], (merged >= 8) & (merged <= 23))
    assert not (data.rois["LVC"] & data.rois["HVC"]).any()
    assert (data.rois["VO1"] & data.rois["LVC"]).any()  # VO1 of the atlas that is hV4 by hand


def test_files_of_the_hemispheres(small, own):
    data = _open(own, hemisphere_rois=True).subject("subj02")
    np.testing.assert_array_equal(data.rois["lh.V1"] | data.rois["rh.V1"], data.rois["V1"])
    left = data.voxels["i"].to_numpy() < 6
    np.testing.assert_array_equal(data.rois["lh.FFA-1"], data.rois["FFA-1"] & left)
    for name in ("floc-faces", "nsdgeneral"):  # where only the two halves were downloaded
        (own / ROI / f"{name}.nii.gz").unlink()
    found, expected = _open(own).subject("subj02"), _open(small).subject("subj02")
    assert set(found.rois) == set(expected.rois)
    np.testing.assert_array_equal(found.rois["FFA"], expected.rois["FFA"])


def test_names_come_from_the_color_table_where_there_is_one(own):
    folder = own / "nsddata/freesurfer/subj02/label"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "floc-faces.mgz.ctab").write_text("0 Unknown\n1 OFA-1 255 0 0 0\n2 FFA-1\n")
    (folder / "Kastner2015.mgz.ctab").write_text("0 Unknown\n1 V1v\n13 TO1(MT)\n17 V3a\n")
    rois = _open(own).subject("subj02").rois
    assert {"OFA-1", "FFA-1", "floc-faces_3"} <= set(rois)
    assert {"Kastner_V1v", "TO1", "V3A", "Kastner2015_8"} <= set(rois)
    assert "FFA-2" not in rois


def test_other_files_carry_their_name(own):
    source = nibabel.load(own / ROI / "streams.nii.gz")
    source.to_filename(own / ROI / "corticalsulc.nii.gz")
    folder = own / "nsddata/freesurfer/fsaverage/label"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "corticalsulc.mgz.ctab").write_text("0 Unknown\n1 CalcS\n2 IPS\n")
    rois = _open(own).subject("subj02").rois
    np.testing.assert_array_equal(rois["corticalsulc_CalcS"], rois["early"])
    assert {"corticalsulc_IPS", "corticalsulc_4"} <= set(rois)


def test_tables_of_labels_are_whole():
    assert [len(LABELS[name]) for name in ("prf-visualrois", "Kastner2015", "HCP_MMP1", "streams")] == [7, 25, 180, 7]
    assert len(set(LABELS["HCP_MMP1"])) == 180
    assert label_names("HCP_MMP1", [])[1] == "HCP_V1"
    assert label_names("Kastner2015", [])[13] == "TO1"
