"""Every reader that neurorecon ships keeps the contract."""

import pytest

from neurorecon.datasets.miyawaki2008 import Miyawaki2008Reader
from neurorecon.registry import DATASETS
from neurorecon.testing import reader_checks

#: Small options by which a reader without files is checked.
SMALL_SCENES = {
    "subjects": 1,
    "voxels": 300,
    "train_images": 12,
    "test_images": 4,
    "train_films": 0,
    "test_films": 6,
    "train_film_repeats": 1,
    "test_film_repeats": 2,
    "image_size": 32,
}


@pytest.fixture(scope="module")
def readers(excerpt, layout):
    """Readers by name, opened when a test first asks for them."""
    opened = {}

    def scenes():
        cls = DATASETS.load("scenes")
        return cls(None, cls.Options(**SMALL_SCENES))

    makers = {
        "miyawaki2008 (excerpt)": lambda: Miyawaki2008Reader(excerpt),
        "miyawaki2008 (NIfTI, blocks)": lambda: Miyawaki2008Reader(layout),
        "miyawaki2008 (NIfTI, volumes)": lambda: Miyawaki2008Reader(
            layout, Miyawaki2008Reader.Options(samples="volume", lag=0, detrend=False)
        ),
        "scenes": scenes,
    }

    def get(name):
        if name not in opened:
            opened[name] = makers[name]()
        return opened[name]

    return get


@pytest.mark.parametrize("check", reader_checks(), ids=str)
@pytest.mark.parametrize(
    "name",
    ["miyawaki2008 (excerpt)", "miyawaki2008 (NIfTI, blocks)", "miyawaki2008 (NIfTI, volumes)", "scenes"],
)
def test_contract(readers, name, check):
    check(readers(name), max_samples=4 if name == "scenes" else 8)  # drawing and filming takes time


@pytest.mark.parametrize("check", reader_checks(), ids=str)
def test_contract_on_real_data(miyawaki_folder, check):
    check(Miyawaki2008Reader(miyawaki_folder))


def test_every_registered_reader_is_checked_here():
    """A reader that is added to the registry has to be added to the tests above."""
    assert {"scenes", "miyawaki2008"} == set(DATASETS._builtin)
