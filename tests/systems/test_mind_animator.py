"""Mind-Animator on a small store: contract, what each target changes, presets, ablations."""

from __future__ import annotations

import pytest

import neurorecon as nr
from neurorecon.datasets.recipe import Recipe
from neurorecon.systems.mind_animator import ENERGY, FRAMES, SEMANTICS, STRUCTURE
from neurorecon.testing import system_checks

NAME = "mind-animator"
#: The store is built once.
pytestmark = pytest.mark.xdist_group("mind-animator")

_SHORT = {"max_epochs": 4, "batch_size": 8, "learning_rate": 3e-3}
#: One pass of the network, and decoders that are fitted in a moment.
TINY = {
    SEMANTICS: {"hidden": [32], "head": [32], **_SHORT},
    STRUCTURE: {"hidden": [64], **_SHORT},
    FRAMES: {"width": 16, "depth": 1, "heads": 2, "feedforward": 16, "patch": 4, "memory": 4, **_SHORT},
}
QUICK = {"steps": 1, "device": "cpu", "motion": "frames", "linear": (), "network": TINY}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Forty training and four test clips of one subject, with the targets of the system."""
    options = {"subjects": 1, "voxels": 300, "train_images": 1, "test_images": 1, "train_videos": 40, "test_videos": 4}
    options |= {"signal": 4.0, "test_video_repeats": 2, "test_image_repeats": 1}
    targets = [SEMANTICS, STRUCTURE, FRAMES, ENERGY, "clip_text_embedding", "clip_image"]
    recipe = Recipe(name="clips", reader="scenes", targets=targets, options=options)
    return nr.build(recipe, tmp_path_factory.mktemp("clips") / "s.icechunk", progress=False)


@pytest.mark.parametrize("check", system_checks(), ids=str)
def test_contract(store, check):
    check(nr.load_system(NAME, **QUICK), store)
