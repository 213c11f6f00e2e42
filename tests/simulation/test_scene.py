import hashlib
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neurorecon.errors import InputError
from neurorecon.simulation.drawing.render import object_map
from neurorecon.simulation.scene import Scene, SceneObject, label_table, sample_scene, visible_shares
from neurorecon.simulation.vocabulary import CATEGORIES, COLORS, KINDS, LIGHTINGS, SETTINGS, TRAITS

_DIGEST = (
    "import hashlib;from neurorecon.simulation.scene import sample_scene;"
    "print(hashlib.sha256(repr([sample_scene(3,i,k) for k in ('image','video') for i in (0,5,70000)])"
    ".encode()).hexdigest())"
)


def test_another_process_samples_the_same_scenes() -> None:
    scenes = [sample_scene(3, i, k) for k in ("image", "video") for i in (0, 5, 70000)]
    here = hashlib.sha256(repr(scenes).encode()).hexdigest()
    there = subprocess.run([sys.executable, "-c", _DIGEST], capture_output=True, text=True, check=True)
    assert there.stdout.strip() == here


def test_random_access_equals_sequence() -> None:
    sequence = [sample_scene(1, index, "video") for index in range(24)]
    assert [sample_scene(1, index, "video") for index in reversed(range(24))] == sequence[::-1]


def test_seeds_indices_and_kinds_differ() -> None:
    scenes = {
        repr(sample_scene(seed, index, kind).objects)
        for seed in (0, 1)
        for index in range(40)
        for kind in ("image", "video")
    }
    assert len(scenes) == 160


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**40), st.integers(0, 10**7), st.sampled_from(["image", "video"]))
def test_scenes_keep_to_the_vocabulary(seed: int, index: int, kind: str) -> None:
    scene = sample_scene(seed, index, kind)
    assert scene.setting in SETTINGS
    assert scene.lighting in LIGHTINGS
    assert scene.indoor == SETTINGS[scene.setting].indoor
    assert 0 <= scene.openness <= 1
    assert 0 <= scene.horizon <= 1
    assert scene.category == scene.objects[0].category
    for item in scene.objects:
        assert KINDS[item.kind] == item.category
        assert item.color in COLORS
        assert item.color in TRAITS[item.kind].colors
        assert 0 <= item.depth <= 1
        assert 0 < item.size <= 1
        assert 0 <= item.visible <= 1
        assert item.facing in (-1, 1)
    main = scene.objects[0]
    assert main.visible > 0.6
    assert abs(main.x) < 0.5
    assert abs(main.y) < 0.5
    if kind == "image":
        assert scene.camera == (0, 0, 0)
        assert all(item.velocity == (0, 0) for item in scene.objects)
    else:
        assert main.velocity != (0, 0) or scene.camera != (0, 0, 0)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6))
def test_things_on_the_ground_stand_on_it_in_one_perspective(index: int) -> None:
    scene = sample_scene(5, index)
    for item in scene.objects:
        if TRAITS[item.kind].place in ("ground", "water"):
            assert item.ground > scene.horizon
            assert item.ground == pytest.approx(scene.horizon + (1 - scene.horizon) * (1 - item.depth))
    on_ground = [item for item in scene.objects if TRAITS[item.kind].place in ("ground", "water")]
    if scene.setting != "room" and TRAITS[scene.main.kind].place in ("ground", "water"):
        eye = [TRAITS[i.kind].height * (i.ground - scene.horizon) / i.size for i in on_ground]
        assert np.allclose(eye, eye[0])


@pytest.mark.parametrize("kind", ["image", "video"])
def test_categories_are_balanced_in_every_block(kind: str) -> None:
    for start in (0, 8, 4000):
        block = [sample_scene(2, start + offset, kind).category for offset in range(8)]
        assert sorted(block) == sorted(CATEGORIES)
    orders = {tuple(sample_scene(2, 8 * block + offset, kind).category for offset in range(8)) for block in range(5)}
    assert len(orders) > 1


def test_all_kinds_settings_and_lightings_occur() -> None:
    scenes = [sample_scene(0, index) for index in range(800)]
    kinds = Counter(scene.main.kind for scene in scenes)
    assert set(kinds) == set(KINDS)
    assert {scene.setting for scene in scenes} == set(SETTINGS)
    assert {scene.lighting for scene in scenes} == set(LIGHTINGS)


@pytest.mark.parametrize("bad", [(-1, 0, "image"), (0, -1, "image"), (0, 0, "movie")])
def test_bad_requests_are_refused(bad: tuple[int, int, str]) -> None:
    with pytest.raises(InputError, match="expected"):
        sample_scene(*bad)


def test_visible_share_counts_what_is_outside_and_what_is_hidden() -> None:
    def thing(x: float, depth: float, kind: str = "bus") -> SceneObject:
        return SceneObject(kind, KINDS[kind], "red", x, 0.0, 0.4, depth, 1)

    assert visible_shares([thing(0.0, 0.5)]) == pytest.approx([1.0])
    assert visible_shares([thing(0.5, 0.5)]) == pytest.approx([0.5], abs=0.01)
    hidden, near = visible_shares([thing(0.0, 0.5), thing(0.0, 0.1)])
    assert near == pytest.approx(1.0)
    assert hidden == pytest.approx(1 - TRAITS["bus"].fill, abs=0.02)


def _covered(scene: Scene) -> np.ndarray:
    """Return the share of the image that each category covers as drawn, shape (category,)."""
    seen = object_map(scene, 32)
    shares = np.zeros(len(CATEGORIES))
    for number, item in enumerate(scene.objects):
        shares[CATEGORIES.index(item.category)] += np.mean(seen == number)
    return shares


def test_labels_agree_with_what_is_drawn() -> None:
    scenes = [sample_scene(6, index) for index in range(120)]
    labels = label_table(scenes)
    assert list(labels.columns[:8]) == [f"category:{name}" for name in CATEGORIES]
    assert labels.shape == (120, 12)
    assert all(kind.kind == "f" for kind in labels.dtypes)
    assert labels.to_numpy().min() >= 0
    assert labels.to_numpy().max() <= 1 + 1e-9
    drawn = np.stack([_covered(scene) for scene in scenes])
    stated = labels.iloc[:, :8].to_numpy()
    for number in range(8):
        assert np.corrcoef(drawn[:, number], stated[:, number])[0, 1] > 0.98
    assert np.abs(drawn - stated).mean() < 0.004
    assert np.abs(drawn - stated).max() < 0.1


def test_layout_labels_follow_the_scene() -> None:
    scenes = [sample_scene(8, index) for index in range(64)]
    labels = label_table(scenes)
    assert list(labels["layout:indoor"]) == [float(scene.indoor) for scene in scenes]
    assert list(labels["layout:horizon"]) == [scene.horizon for scene in scenes]
    indoors = labels["layout:indoor"] == 1
    assert labels.loc[indoors, "layout:openness"].max() < labels.loc[~indoors, "layout:openness"].median()
    assert label_table([]).shape == (0, 12)
