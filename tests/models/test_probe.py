"""The category probe: what it says, and how it is kept."""

import json

import numpy as np
import pytest
import torch

from neurorecon.errors import InputError
from neurorecon.models.probe import Probe, ProbeConfig

CONFIG = ProbeConfig(
    kinds=("cat", "dog", "car"),
    colors=("red", "blue"),
    categories=("animal", "animal", "vehicle"),
    widths=(8, 8, 16, 16),
)


@pytest.fixture
def probe():
    torch.manual_seed(0)
    return Probe(CONFIG).eval()


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (5, 64, 64, 3), dtype=np.uint8)


def test_answers_are_names_and_places(probe, images):
    said = probe.answers(images)
    assert set(said.kind) <= set(CONFIG.kinds)
    assert set(said.color) <= set(CONFIG.colors)
    assert said.place.shape == (5, 2)
    table = dict(zip(CONFIG.kinds, CONFIG.categories, strict=True))
    assert [table[kind] for kind in said.kind] == said.category.tolist()


def test_answers_do_not_depend_on_the_batch(probe, images):
    whole, parts = probe.features(images), probe.features(images, batch=2)
    np.testing.assert_allclose(whole, parts, atol=1e-5)
    assert whole.shape == (5, 16)


def test_what_is_saved_is_read_again(probe, images, tmp_path):
    probe.save(tmp_path)
    read = Probe.load(tmp_path)
    assert read.config == CONFIG
    np.testing.assert_array_equal(read.features(images), probe.features(images))
    assert json.loads((tmp_path / "config.json").read_text())["kinds"] == list(CONFIG.kinds)


@pytest.mark.parametrize("wrong", [np.zeros((2, 32, 32, 3), np.uint8), np.zeros((2, 64, 64, 3), np.float32)])
def test_images_of_another_sort_are_refused(probe, wrong):
    with pytest.raises(InputError, match="do not match the input of the probe"):
        probe.answers(wrong)
