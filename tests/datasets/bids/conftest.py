"""Fixtures of the tests of the BIDS reader: the miniature, in all spaces, and copies of it to damage."""

import shutil

import pytest

from neurorecon.datasets.bids.reader import BidsReader
from neurorecon.testing.layouts.bids import write_bids

ATLASES = "derivatives/fmriprep/atlases/"

#: The ROIs of the miniature, by the kind of space.
ROIS = {
    "volume": {"rois": {"path": ATLASES + "rois_dseg.nii.gz", "labels": ATLASES + "rois_dseg.tsv"}},
    "surface": {"rois": [ATLASES + "lh.rois.annot", ATLASES + "rh.rois.annot"]},
    "grayordinates": {"rois": ATLASES + "rois.dlabel.nii"},
}


@pytest.fixture(scope="session")
def tree(tmp_path_factory):
    """One subject, two runs of one session, in all spaces; not to be written into."""
    folder = tmp_path_factory.mktemp("bids")
    return write_bids(folder, subjects=["01"], sessions=["01"], runs=["1", "2"], kinds=list(ROIS))


@pytest.fixture(scope="session")
def small(tmp_path_factory):
    """Two subjects, two runs of one session, volumes alone; not to be written into."""
    return write_bids(tmp_path_factory.mktemp("small"), sessions=["01"], runs=["1", "2"])


@pytest.fixture
def own(small, tmp_path):
    """A copy of the small data set that a test may damage."""
    return shutil.copytree(small, tmp_path / "bids")


@pytest.fixture(scope="session")
def open_tree(tree):
    """Open the miniature in a kind of space."""

    def make(kind="volume", **options):
        return BidsReader(tree, BidsReader.Options(kind=kind, **options))

    return make


@pytest.fixture(scope="session")
def rois():
    return ROIS
