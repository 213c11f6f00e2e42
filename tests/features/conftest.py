"""A store of a few kilobytes to extract into, and extractors to do it with."""

from __future__ import annotations

import shutil
from typing import ClassVar

import numpy as np
import pytest

import neurorecon as nr
from neurorecon.datasets.recipe import Recipe
from neurorecon.features.base import Extractor
from neurorecon.registry import DATASETS
from neurorecon.store.build import build_store
from neurorecon.testing.miniature import MiniatureReader


@pytest.fixture(scope="session")
def built(tmp_path_factory):
    DATASETS.register("miniature", MiniatureReader)
    recipe = Recipe(name="miniature", reader="miniature", options={"subjects": 1, "images": 24, "videos": 6})
    return build_store(recipe, tmp_path_factory.mktemp("stores") / "miniature.icechunk", progress=False)


@pytest.fixture
def store(built, tmp_path):
    """A store for one test, which may write into it: 24 images, 6 videos."""
    shutil.copytree(built, tmp_path / "miniature.icechunk")
    return nr.open_store(tmp_path / "miniature.icechunk")


class MeanColor(Extractor):
    """The mean color of an image. Its constructor is that of all extractors: it takes no settings."""

    name = "mean_color"
    needs = "images"
    sizes: ClassVar[list[int]] = []

    def __call__(self, batch):
        self.sizes.append(len(batch.images))
        return batch.images.mean(axis=(1, 2)).astype(np.float32)

    def made_by(self):
        return {"model": "mean", "preprocessing": "none", "source": "a test"}

    def feature_names(self, batch):
        return ["red", "green", "blue"]


class Scaled(MeanColor):
    """The mean color times a factor, which is a setting."""

    name = "scaled"

    def __init__(self, categories=None, *, factor=1.0, models="bundled"):
        super().__init__(categories)
        self.factor = factor

    def __call__(self, batch):
        return np.float32(self.factor) * super().__call__(batch)

    def made_by(self):
        return {**super().made_by(), "factor": self.factor}


@pytest.fixture
def mean_color():
    MeanColor.sizes = []
    return MeanColor


@pytest.fixture
def scaled():
    return Scaled


@pytest.fixture
def known(monkeypatch):
    """Register extractors for one test."""
    from neurorecon.registry import FEATURES

    def register(*extractors):
        for extractor in extractors:
            monkeypatch.setitem(FEATURES._added, extractor.name, extractor)

    return register
