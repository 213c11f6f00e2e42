"""Fixtures of all tests."""

from pathlib import Path

import pytest

#: Excerpts of public data sets, kept beside the checkout and never committed.
SHARED_DATA = Path(__file__).resolve().parents[1].parent / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data():
    """Folder with excerpts of real data; tests that need it are skipped where it is absent."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"real data are not beside the checkout: no folder {SHARED_DATA}")
    return SHARED_DATA


@pytest.fixture(scope="session")
def miyawaki_folder(shared_data):
    """Folder with the V1 excerpt of Miyawaki 2008."""
    folder = shared_data / "miyawaki2008_V1"
    if not (folder / "V1_mean_figure.mat").is_file():
        pytest.skip(f"the excerpt of Miyawaki 2008 is not beside the checkout: no file in {folder}")
    return folder
