"""A small store with latents of the autoencoder, and a package that registers a system."""

from pathlib import Path

import pytest

import neurorecon as nr
from neurorecon.datasets.recipe import Recipe

OPTIONS = {"subjects": 1, "voxels": 300, "train_images": 60, "test_images": 16, "train_videos": 0, "test_videos": 0}


@pytest.fixture(scope="session")
def scenes(tmp_path_factory):
    """A store of one subject with 76 images and their latents."""
    recipe = Recipe(name="scenes-small", reader="scenes", targets=["gabor", "vqvae"], options=OPTIONS)
    return nr.build(recipe, tmp_path_factory.mktemp("scenes") / "s.icechunk", progress=False)


@pytest.fixture
def third_party(monkeypatch):
    """Install the package beside this file, as pip would: its module and its metadata are on the path."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent / "third_party"))
