from pathlib import Path

import pytest

import neurorecon as nr
from neurorecon.datasets.recipe import Recipe
from neurorecon.registry import DATASETS
from neurorecon.store.build import build_store
from neurorecon.testing.miniature import MiniatureReader


def miniature(**options):
    DATASETS.register("miniature", MiniatureReader)
    return Recipe(name="miniature", reader="miniature", options=options)


@pytest.fixture(scope="session")
def built(tmp_path_factory) -> Path:
    return build_store(miniature(), tmp_path_factory.mktemp("stores") / "miniature.icechunk", progress=False)


@pytest.fixture
def store(built):
    return nr.open_store(built)


@pytest.fixture
def recipe():
    return miniature


@pytest.fixture(scope="session")
def reader():
    return miniature().open()
