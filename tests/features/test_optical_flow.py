"""The optical-flow target: photographs that move in known ways, and the true velocities of scenes."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from skimage import data

import neurorecon as nr
from neurorecon.datasets.recipe import Recipe
from neurorecon.errors import InputError
from neurorecon.features.base import StimulusBatch
from neurorecon.features.images import pool, resize, sample
from neurorecon.features.optical_flow import OpticalFlowExtractor
from neurorecon.registry import DATASETS
from neurorecon.simulation.drawing.render import object_map
from neurorecon.simulation.scene import Scene, sample_scene
from neurorecon.simulation.stimuli import frame_times, render_video
from neurorecon.testing.miniature import MiniatureReader

EXTRACTOR = OpticalFlowExtractor()


def batch(*videos: np.ndarray, rate: float = 4.0) -> StimulusBatch:
    table = pd.DataFrame({"id": [str(n) for n in range(len(videos))]})
    return StimulusBatch(table, frames=np.stack(videos), frames_per_second=rate)


def cells(values: np.ndarray, name: str) -> np.ndarray:
    """Return the values called `name` on the grid, shape (..., 4, 4)."""
    names = EXTRACTOR.feature_names(batch(np.zeros((2, 8, 8, 3), dtype=np.uint8)))
    chosen = [number for number, full in enumerate(names) if full.startswith(f"{name} y")]
    return values[..., chosen].reshape(*values.shape[:-1], 4, 4)


def video(
    velocity: tuple[float, float] = (0.0, 0.0),
    *,
    acceleration: float = 0.0,
    zoom: float = 0.0,
    turn: float = 0.0,
    rate: float = 4.0,
    seconds: float = 2.0,
    size: tuple[int, int] = (64, 64),
) -> np.ndarray:
    """Return a photograph that moves (widths/s), grows (1/s) and turns clockwise (radians/s); uint8."""
    photograph = np.moveaxis(data.chelsea()[:, 60:360].astype(np.float32), 2, 0)[None]
    rows, columns = 4 * size[0], 4 * size[1]
    y, x = np.meshgrid((np.arange(rows) + 0.5) / columns, (np.arange(columns) + 0.5) / columns, indexing="ij")
    x, y = x - 0.5, y - rows / columns / 2
    frames = []
    for time in (np.arange(round(seconds * rate)) + 0.5) / rate - seconds / 2:
        left, up = x - velocity[0] * time - acceleration * time**2 / 2, y - velocity[1] * time
        along, across = math.cos(turn * time), math.sin(turn * time)
        scale = 180 * math.exp(-zoom * time)
        where_x = 150 + scale * (along * left + across * up)
        where_y = 150 + scale * (along * up - across * left)
        seen = sample(photograph, where_x[None].astype(np.float32), where_y[None].astype(np.float32))[0]
        frames.append(np.moveaxis(resize(seen, size), 0, -1))
    return np.rint(np.stack(frames)).astype(np.uint8)


def test_shape_names_and_dependence_on_the_batch() -> None:
    frames = np.random.default_rng(0).integers(0, 256, (4, 8, 64, 64, 3), dtype=np.uint8)
    values = EXTRACTOR(batch(*frames))
    assert values.dtype == np.float32
    assert values.shape == (4, 288) == (4, len(EXTRACTOR.feature_names(batch(*frames))))
    np.testing.assert_array_equal(EXTRACTOR(batch(*frames[1:3])), values[1:3])


@pytest.mark.parametrize("degrees", range(0, 360, 45))
@pytest.mark.parametrize("speed", [0.08, 0.3])
def test_direction_and_speed_of_a_photograph_are_recovered(degrees: int, speed: float) -> None:
    angle = math.radians(degrees)
    values = EXTRACTOR(batch(video((speed * math.cos(angle), speed * math.sin(angle)))))[0]
    x, y = cells(values, "rightward")[1:3, 1:3].mean(), cells(values, "downward")[1:3, 1:3].mean()
    assert math.hypot(x, y) == pytest.approx(speed, rel=0.1)
    assert math.cos(math.atan2(y, x) - angle) > 0.99
    toward = [cells(values, f"toward {other} deg").mean() for other in range(0, 360, 45)]
    assert 45 * int(np.argmax(toward)) == degrees
    assert max(toward) > 0.7 * sum(toward)


@pytest.mark.parametrize("sign", [1, -1])
def test_zoom_is_divergence_and_turning_is_curl(sign: int) -> None:
    grows, turns = EXTRACTOR(batch(video(zoom=sign * 0.12), video(turn=sign * 0.12)))
    inner = np.s_[1:3, 1:3]
    assert cells(grows, "divergence")[inner].mean() == pytest.approx(sign * 0.24, rel=0.12)
    assert cells(turns, "curl")[inner].mean() == pytest.approx(sign * 0.24, rel=0.12)
    assert abs(cells(grows, "curl")[inner].mean()) < 0.03
    assert abs(cells(turns, "divergence")[inner].mean()) < 0.03
    # Clockwise: the upper half goes to the right.
    assert np.sign(cells(turns, "rightward")[0].mean()) == sign


def test_change_is_acceleration() -> None:
    values = EXTRACTOR(batch(video((0.1, 0.0), acceleration=0.15)))[0]
    assert cells(values, "change of rightward")[1:3, 1:3].mean() == pytest.approx(0.15, rel=0.12)
    assert abs(cells(values, "change of downward")[1:3, 1:3].mean()) < 0.02
    assert cells(values, "change of speed")[1:3, 1:3].mean() == pytest.approx(0.15, rel=0.2)


@pytest.mark.parametrize(
    ("rate", "size"), [(8.0, (64, 64)), (24.0, (64, 64)), (30.0, (96, 96)), (4.0, (48, 48)), (15.0, (72, 128))]
)
def test_units_do_not_depend_on_frame_rate_size_or_shape(rate: float, size: tuple[int, int]) -> None:
    values = EXTRACTOR(batch(video((0.2, -0.1), rate=rate, seconds=1.0, size=size), rate=rate))[0]
    assert cells(values, "rightward")[1:3, 1:3].mean() == pytest.approx(0.2, rel=0.08)
    assert cells(values, "downward")[1:3, 1:3].mean() == pytest.approx(-0.1, rel=0.08)


def test_halves_that_move_apart_are_told_apart() -> None:
    left, right = video((-0.2, 0.0)), video((0.2, 0.0))
    both = np.concatenate([left[:, :, :32], right[:, :, 32:]], axis=2)
    values = EXTRACTOR(batch(both))[0]
    assert cells(values, "toward 180 deg")[:, 0].mean() > 5 * cells(values, "toward 0 deg")[:, 0].mean()
    assert cells(values, "toward 0 deg")[:, 3].mean() > 5 * cells(values, "toward 180 deg")[:, 3].mean()


def test_speed_by_direction_sums_up_to_speed() -> None:
    values = EXTRACTOR(batch(video((0.1, 0.05), zoom=0.1)))[0]
    total = sum(cells(values, f"toward {degrees} deg") for degrees in range(0, 360, 45))
    np.testing.assert_allclose(total, cells(values, "speed"), rtol=1e-4)


def test_videos_that_stand_still_give_zeros() -> None:
    assert np.abs(EXTRACTOR(batch(video()))).max() < 1e-6


def test_two_frames_are_enough_and_have_no_change() -> None:
    values = EXTRACTOR(batch(video((0.2, 0.0))[:2]))[0]
    assert np.isfinite(values).all()
    assert cells(values, "rightward")[1:3, 1:3].mean() == pytest.approx(0.2, rel=0.1)
    assert np.abs(cells(values, "change of speed")).max() == 0


@pytest.mark.parametrize(("frames", "rate"), [(1, 4.0), (8, None)])
def test_without_a_second_frame_or_a_rate_there_is_no_flow(frames: int, rate: float | None) -> None:
    with pytest.raises(InputError, match="optical flow cannot be computed"):
        EXTRACTOR(batch(np.zeros((frames, 64, 64, 3), dtype=np.uint8), rate=rate))


def true_velocity(scene: Scene, frames: int) -> np.ndarray:
    """Return the velocity of what is seen at each pixel, in widths per second, shape (pair, 2, y, x)."""
    places = (np.arange(64) + 0.5) / 64 - 0.5
    place = np.stack(np.meshgrid(places, places))
    velocities = np.array([*(item.velocity for item in scene.objects), (0.0, 0.0)])
    pan, zoom = np.array(scene.camera[:2])[:, None, None], scene.camera[2]
    times, result = frame_times(frames), []
    for now, then in pairwise(times):
        own = np.moveaxis(velocities[object_map(scene, 64, float(now))], 2, 0)
        world = place / math.exp(zoom * now) + pan * now + own * (then - now)
        result.append(((world - pan * then) * math.exp(zoom * then) - place) / (then - now))
    return np.stack(result)


def test_flow_of_the_scenes_is_the_velocity_of_their_camera_and_objects() -> None:
    scenes = [sample_scene(5, number, "video") for number in range(16)]
    values = EXTRACTOR(batch(*(render_video(scene, frames=4) for scene in scenes)))
    truth = np.stack([pool(true_velocity(scene, frames=4), 4).mean(axis=0) for scene in scenes])
    for axis, name in enumerate(("rightward", "downward")):
        assert np.corrcoef(cells(values, name).ravel(), truth[:, axis].ravel())[0, 1] > 0.85
    # Where the camera alone moves, all cells move like it, the other way.
    pans = [n for n, scene in enumerate(scenes) if scene.camera[0] and scene.main.velocity == (0.0, 0.0)]
    assert len(pans) >= 5
    found = cells(values, "rightward").mean(axis=(1, 2))[pans]
    np.testing.assert_allclose(found, [-scenes[number].camera[0] for number in pans], rtol=0.1)


def test_the_target_comes_into_a_store_by_its_name(tmp_path) -> None:
    DATASETS.register("miniature", MiniatureReader)
    recipe = Recipe(name="tiny", reader="miniature", options={"subjects": 1})
    store = nr.extract(nr.build(recipe, tmp_path / "tiny.icechunk", progress=False), ["optical_flow"], progress=False)
    target = store.targets("optical_flow")
    assert target.shape == (12, 288)
    assert target.attrs["unit"] == "picture widths, seconds"
