"""The scenes that bundled networks learn from: drawn once, and never those of the embedded data set."""

import numpy as np
import pytest

from neurorecon.datasets.recipe import load_recipe
from neurorecon.errors import InputError
from neurorecon.simulation.drawing.render import render
from neurorecon.simulation.scene import sample_scene
from neurorecon.simulation.training import loop as scenes


@pytest.fixture
def few(monkeypatch):
    monkeypatch.setattr(scenes, "COUNTS", {"train": (6, 2), "held-out": (3, 1)})
    monkeypatch.setattr(scenes, "_BLOCK", 3)


def test_scenes_are_drawn_once_and_read_again(few, tmp_path):
    drawn = scenes.images("train", tmp_path, progress=False)
    files = {file: file.stat().st_mtime_ns for file in (tmp_path / "scenes").glob("*.npy")}
    again = scenes.images("train", tmp_path, progress=False)
    assert {file: file.stat().st_mtime_ns for file in (tmp_path / "scenes").glob("*.npy")} == files
    np.testing.assert_array_equal(drawn.pixels, again.pixels)
    assert drawn.pixels.shape == (8, 64, 64, 3)
    np.testing.assert_array_equal(drawn.pixels[4], render(drawn.scenes[4], size=64, time=0.0))


def test_captions_belong_to_the_scenes(few, tmp_path):
    found = scenes.images("held-out", tmp_path, progress=False)
    assert [scene.kind for scene in found.scenes] == ["image"] * 3 + ["video"]
    assert len(found) == len(found.captions) == 4


def test_the_embedded_data_set_has_another_seed():
    embedded = load_recipe("scenes").options.get("seed", 0)
    assert embedded not in scenes.SEEDS.values()
    assert len(set(scenes.SEEDS.values())) == len(scenes.SEEDS)


def test_no_scene_is_one_of_the_embedded_test_stimuli():
    def key(scene):
        return scene.setting, tuple(
            (item.kind, item.color, round(item.x, 6), round(item.size, 6)) for item in scene.objects
        )

    embedded = {key(sample_scene(0, index)) for index in range(1000, 1100)}
    learned = {key(sample_scene(scenes.SEEDS["train"], index)) for index in range(1000)}
    assert not embedded & learned


def test_an_unknown_set_is_refused(tmp_path):
    with pytest.raises(InputError, match="unknown set of scenes"):
        scenes.images("validation", tmp_path)
