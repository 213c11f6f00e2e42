"""Miniatures of NSD: one that all tests read, copies for those that change files."""

import shutil

import pytest

from neurorecon.testing.layouts.nsd import write_nsd


@pytest.fixture(scope="session")
def nsd(tmp_path_factory):
    """Two subjects, two of three sessions, betas as NIfTI and as HDF5; not to be written into."""
    folder = tmp_path_factory.mktemp("nsd")
    return write_nsd(folder, subjects=("subj02", "subj05"), sessions=2, formats=("nii.gz", "hdf5"))


@pytest.fixture(scope="session")
def small(tmp_path_factory):
    """One subject, two sessions, NIfTI; not to be written into."""
    return write_nsd(tmp_path_factory.mktemp("nsd-small"), subjects=("subj02",), sessions=2)


@pytest.fixture
def own(small, tmp_path):
    """A copy of the small one, to be written into."""
    return shutil.copytree(small, tmp_path / "own")
