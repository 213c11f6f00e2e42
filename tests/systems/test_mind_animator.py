"""Mind-Animator on a small store: contract, what each target changes, presets, ablations."""

from __future__ import annotations

import numpy as np
import pytest

import neurorecon as nr
from neurorecon.datasets.recipe import Recipe
from neurorecon.errors import InputError, UnknownNameError
from neurorecon.systems.base import Decoded
from neurorecon.systems.mind_animator import ENERGY, FRAMES, SEMANTICS, STRUCTURE
from neurorecon.testing import system_checks

NAME = "mind-animator"
#: The store is built once.
pytestmark = pytest.mark.xdist_group("mind-animator")

#: Two passes of the network, and decoders that are fitted in a moment.
TINY = {
    SEMANTICS: {"hidden": [16], "head": [16], "max_epochs": 2},
    STRUCTURE: {"hidden": [16], "max_epochs": 2},
    FRAMES: {"width": 16, "depth": 1, "heads": 2, "feedforward": 16, "patch": 4, "memory": 4, "max_epochs": 2},
}
QUICK = {"steps": 2, "strength": 0.3, "device": "cpu", "motion": "frames", "linear": (), "network": TINY}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Sixty training and eight test clips of one subject, with the targets of the system."""
    options = {"subjects": 1, "voxels": 300, "train_images": 8, "test_images": 8, "train_videos": 60, "test_videos": 8}
    targets = [SEMANTICS, STRUCTURE, FRAMES, ENERGY, "clip_text_embedding", "clip_image"]
    recipe = Recipe(name="clips", reader="scenes", targets=targets, options=options)
    return nr.build(recipe, tmp_path_factory.mktemp("clips") / "s.icechunk", progress=False)


@pytest.mark.parametrize("check", system_checks(), ids=str)
def test_contract(store, check):
    check(nr.load_system(NAME, **QUICK), store)
