from dataclasses import replace

import numpy as np
import pytest
from skimage.registration import phase_cross_correlation

from neurorecon.errors import InputError
from neurorecon.simulation.drawing.render import object_map, render
from neurorecon.simulation.scene import Scene, sample_scene
from neurorecon.simulation.stimuli import frame_times, render_video


def _videos(count: int) -> list[Scene]:
    return [sample_scene(14, index, "video") for index in range(count)]


def test_the_middle_frame_is_the_image_of_the_scene() -> None:
    scene = sample_scene(3, 1, "video")
    video = render_video(scene)
    assert video.shape == (8, 64, 64, 3)
    assert video.dtype == np.uint8
    assert np.array_equal(video[4], render(scene))
    assert frame_times(8, 4.0).tolist() == [-1.0, -0.75, -0.5, -0.25, 0.0, 0.25, 0.5, 0.75]
    assert render_video(scene, frames=3, frames_per_second=2, size=32).shape == (3, 32, 32, 3)


def test_every_video_moves() -> None:
    for scene in _videos(24):
        video = render_video(scene, frames=3, frames_per_second=2, size=32).astype(int)
        assert np.abs(np.diff(video, axis=0)).mean() > 0.8, scene


def test_objects_move_at_their_stated_velocity() -> None:
    checked = 0
    for scene in _videos(80):
        vx, vy = scene.main.velocity
        if np.hypot(vx, vy) < 0.05 or scene.category == "face":
            continue
        scene = replace(scene, objects=scene.objects[:1], camera=(0.0, 0.0, 0.0))
        if abs(scene.main.x) + scene.main.width / 2 + 0.3 * abs(vx) > 0.5:
            continue
        centers = []
        for time in (-0.25, 0.25):
            rows, columns = np.nonzero(object_map(scene, 96, time) == 0)
            centers.append((columns.mean() / 96, rows.mean() / 96))
        # Arms and wings beat, so that the center of the silhouette sways around the path.
        assert 2 * (centers[1][0] - centers[0][0]) == pytest.approx(vx, abs=0.07)
        assert 2 * (centers[1][1] - centers[0][1]) == pytest.approx(vy, abs=0.13)
        checked += 1
    assert checked >= 8


def test_a_camera_that_pans_right_moves_the_image_left() -> None:
    """Compare with the shift that scikit-image measures."""
    scene = next(s for s in _videos(200) if s.main.kind == "house")
    still = replace(scene, objects=tuple(replace(i, velocity=(0.0, 0.0)) for i in scene.objects))
    pan = replace(still, camera=(0.2, -0.1, 0.0))
    before, after = (render(pan, 128, time).mean(-1) for time in (0.0, 0.25))
    inner = slice(16, 112)
    shift, _, _ = phase_cross_correlation(before[inner, inner], after[inner, inner], upsample_factor=10)
    # 0.2 widths per second for 0.25 s are 6.4 pixels to the left, which takes 6.4 to the right to undo.
    assert shift[1] == pytest.approx(6.4, abs=1.0)
    assert shift[0] == pytest.approx(-3.2, abs=1.0)


def test_zoom_enlarges() -> None:
    scene = next(s for s in _videos(200) if s.main.kind == "church")
    closer = replace(scene, objects=(replace(scene.main, x=0.0),), camera=(0.0, 0.0, 0.15))
    roi = [np.mean(object_map(closer, 96, time) == 0) for time in (-1.0, 0.0, 1.0)]
    assert roi[0] < roi[1]
    height = [np.ptp(np.nonzero((object_map(closer, 192, time) == 0).any(1))[0]) for time in (-1.0, 0.0)]
    assert height[1] / height[0] == pytest.approx(np.exp(0.15), abs=0.04)


def test_legs_move_while_walking_and_rest_in_images() -> None:
    scene = next(s for s in _videos(300) if s.main.kind == "man" and s.main.velocity[0])
    frames = []
    for time in (0.0, 0.5):  # walk on the spot: the camera goes along
        item = scene.main
        alone = replace(scene, objects=(item,), camera=(item.velocity[0], 0.0, 0.0))
        frames.append(object_map(alone, 96, time) == 0)
    assert np.mean(frames[0] != frames[1]) > 0.005
    image = sample_scene(14, 3, "image")
    people = next(s for s in (sample_scene(14, i) for i in range(200)) if s.main.kind == "man")
    assert np.array_equal(object_map(people, 64, 0.0) == 0, object_map(people, 64, 0.5) == 0)
    assert image.camera == (0.0, 0.0, 0.0)


@pytest.mark.parametrize(("frames", "rate"), [(0, 4.0), (8, 0.0)])
def test_videos_without_frames_are_refused(frames: int, rate: float) -> None:
    with pytest.raises(InputError, match="frame"):
        render_video(sample_scene(0, 0, "video"), frames, rate)
