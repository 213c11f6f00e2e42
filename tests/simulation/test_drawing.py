import hashlib
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from neurorecon.errors import InputError
from neurorecon.simulation.drawing.pen import light_of
from neurorecon.simulation.drawing.render import object_map, render
from neurorecon.simulation.scene import Scene, sample_scene
from neurorecon.simulation.vocabulary import COLORS, KINDS, LIGHTINGS, TRAITS


def _scene_of(kind: str, stimulus: str = "image") -> Scene:
    index = 0
    while True:
        scene = sample_scene(12, index, stimulus)
        if scene.main.kind == kind:
            return scene
        index += 1


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_drawn_and_stands_out(kind: str) -> None:
    scene = _scene_of(kind)
    image = render(scene)
    assert image.shape == (64, 64, 3)
    assert image.dtype == np.uint8
    assert image.std() > 8
    if KINDS[kind] == "room":
        return
    empty = render(replace(scene, objects=scene.objects[1:]))
    main = scene.main
    center, half = (main.x + 0.5, main.y + 0.5), (main.width / 2, main.size / 2)
    rows = slice(max(0, int(64 * (center[1] - half[1]))), int(64 * (center[1] + half[1])) + 1)
    columns = slice(max(0, int(64 * (center[0] - half[0]))), int(64 * (center[0] + half[0])) + 1)
    changed = np.abs(image.astype(int) - empty).max(-1) > 24
    assert changed[rows, columns].mean() > 0.6 * TRAITS[kind].fill * main.visible
    # Away from the object only its shadow and its mirror image change.
    outside = changed.copy()
    outside[rows, columns] = False
    if TRAITS[kind].place == "air":
        assert outside.mean() < 0.02


@pytest.mark.parametrize("kind", ["woman", "boat", "kitchen", "man face"])
def test_large_images_show_the_same_as_small_ones(kind: str) -> None:
    scene = _scene_of(kind)
    small, large = render(scene, 64), render(scene, 256)
    assert large.shape == (256, 256, 3)
    reduced = large.reshape(64, 4, 64, 4, 3).mean((1, 3))
    assert np.abs(reduced - small).mean() < 6
    assert np.corrcoef(reduced.ravel(), small.ravel())[0, 1] > 0.98


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_drawn_large(kind: str) -> None:
    if list(KINDS).index(kind) % 3 == 0:  # a third of them, to save time
        assert render(_scene_of(kind), 256).std() > 8


_DIGEST = (
    "import hashlib;from neurorecon.simulation.scene import sample_scene;"
    "from neurorecon.simulation.drawing.render import render;"
    "print(hashlib.sha256(b''.join(render(sample_scene(4,i,'video'),time=.5).tobytes() for i in range(12)))"
    ".hexdigest())"
)


def test_same_bits_in_another_process() -> None:
    pixels = b"".join(render(sample_scene(4, index, "video"), time=0.5).tobytes() for index in range(12))
    there = subprocess.run([sys.executable, "-c", _DIGEST], capture_output=True, text=True, check=True)
    assert there.stdout.strip() == hashlib.sha256(pixels).hexdigest()


def test_order_of_drawing_leaves_no_trace() -> None:
    scenes = [sample_scene(9, index) for index in range(10)]
    first = [render(scene) for scene in scenes]
    again = [render(scene) for scene in reversed(scenes)][::-1]
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))


def test_the_main_object_covers_enough_to_be_named() -> None:
    shares = [np.mean(object_map(sample_scene(10, index), 32) == 0) for index in range(64)]
    assert min(shares) > 0.03
    assert np.median(shares) > 0.1


def test_near_things_hide_far_ones() -> None:
    scene = _scene_of("house")
    house = replace(scene.main, x=0.0, depth=0.6)
    man = replace(_scene_of("man").main, x=0.0, y=0.1, size=0.5, depth=0.1)
    seen = object_map(replace(scene, objects=(house, man)))
    assert seen[38, 32] == 1
    assert np.mean(seen == 1) > 0.05
    behind = object_map(replace(scene, objects=(replace(house, depth=0.05), man)))
    assert np.mean(behind == 1) < np.mean(seen == 1)


def test_color_of_the_main_object_is_seen() -> None:
    for kind in ("car", "bus", "house", "cup"):
        scene = replace(_scene_of(kind), lighting="noon")
        mask = object_map(scene) == 0
        found = {}
        for color in ("red", "blue", "yellow", "green"):
            painted = replace(scene, objects=(replace(scene.main, color=color),))
            found[color] = render(painted)[mask].mean(0)
        for color, mean in found.items():
            distances = {other: np.linalg.norm(mean - np.array(COLORS[other])) for other in found}
            assert min(distances, key=distances.__getitem__) == color, (kind, color)


def test_light_colors_the_scene() -> None:
    scene = _scene_of("barn")
    mean = {name: render(replace(scene, lighting=name)).mean((0, 1)) for name in LIGHTINGS}
    assert mean["night"].mean() < mean["dusk"].mean() < mean["noon"].mean()
    assert mean["sunset"][0] - mean["sunset"][2] > mean["noon"][0] - mean["noon"][2]
    assert mean["night"][2] > mean["night"][0]
    assert light_of("noon", False, 1).side == 1


def test_mirrored_things_look_the_other_way() -> None:
    scene = _scene_of("car")
    car = replace(scene.main, x=0.0)
    right = object_map(replace(scene, objects=(replace(car, facing=1),)), 128) == 0
    left = object_map(replace(scene, objects=(replace(car, facing=-1),)), 128) == 0
    agree = np.mean(right == left[:, ::-1])
    assert agree > 0.99
    assert not np.array_equal(right, left)


@pytest.mark.parametrize("size", [0, 7, 4096])
def test_impossible_sizes_are_refused(size: int) -> None:
    with pytest.raises(InputError, match="pixels"):
        render(sample_scene(0, 0), size)
