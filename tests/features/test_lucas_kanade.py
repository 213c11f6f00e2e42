"""Optical flow against known motion of photographs, and against scikit-image."""

from __future__ import annotations

import numpy as np
import pytest
from skimage import data
from skimage.registration import optical_flow_ilk

from neurorecon.errors import InputError
from neurorecon.features.images import interpolate, luminance, resize, sample
from neurorecon.features.optical_flow import LucasKanade

PHOTOGRAPHS = {"astronaut": data.astronaut, "chelsea": data.chelsea, "coffee": data.coffee}


def moved(photograph: str, x: float, y: float, frames: int = 2, size: tuple[int, int] = (64, 64)) -> np.ndarray:
    """Return frames whose content moves by `x` and `y` pixels each; multiples of .25 are exact."""
    gray = luminance(PHOTOGRAPHS[photograph]())
    rows, columns = size[0] * 4, size[1] * 4
    top, left = (gray.shape[0] - rows) // 2, (gray.shape[1] - columns) // 2
    steps = [(round(4 * y * frame), round(4 * x * frame)) for frame in range(frames)]
    return np.stack([resize(gray[top - j : top - j + rows, left - i : left - i + columns], size) for j, i in steps])


@pytest.mark.parametrize("photograph", PHOTOGRAPHS)
@pytest.mark.parametrize(("x", "y"), [(0.25, 0.0), (-1.0, 0.5), (2.0, 3.0), (0.0, -5.0)])
def test_the_shift_of_a_photograph_is_recovered(photograph: str, x: float, y: float) -> None:
    flow = LucasKanade()(moved(photograph, x, y))
    assert flow.shape == (1, 2, 64, 64)
    assert flow.dtype == np.float32
    inside = flow[0, :, 8:-8, 8:-8]
    error = np.hypot(inside[0] - x, inside[1] - y)
    assert np.median(error) < 0.05 * np.hypot(x, y) + 0.01
    assert error.mean() < 0.15 * np.hypot(x, y)


def test_every_pair_of_frames_is_solved_as_if_it_were_alone() -> None:
    video = moved("chelsea", 1.5, 0.5, frames=5, size=(48, 64))
    video[3] = video[1]
    flows = LucasKanade()(video)
    assert flows.shape == (4, 2, 48, 64)
    for number, flow in enumerate(flows):
        np.testing.assert_allclose(LucasKanade()(video[number : number + 2])[0], flow, atol=2e-3)


def test_flow_is_that_of_scikit_image_where_nothing_leaves_the_image() -> None:
    video = moved("astronaut", 1.0, -0.5)
    down, across = optical_flow_ilk(video[0], video[1], radius=5, gaussian=True)
    ours = LucasKanade(smoothing=0.1, ridge=1e-9, iterations=10)(video)[0]
    inside = np.s_[8:-8, 8:-8]
    assert np.median(np.hypot(ours[0] - across, ours[1] - down)[inside]) < 0.02
    # On average the pixels here are nearer to the truth: scikit-image also matches what has left the image.
    truth = np.array([1.0, -0.5])[:, None, None]
    error = np.hypot(*(LucasKanade()(video)[0] - truth)).mean()
    assert error < np.hypot(across - 1.0, down + 0.5).mean()


def test_identical_frames_and_frames_without_texture_do_not_move() -> None:
    still = np.repeat(moved("coffee", 0, 0)[:1], 3, axis=0)
    assert np.abs(LucasKanade()(still)).max() < 1e-6
    plain = np.stack([np.full((64, 64), value) for value in (0.4, 0.5)])
    assert np.abs(LucasKanade()(plain)).max() < 0.02


def test_maps_are_read_between_pixels() -> None:
    y, x = np.mgrid[:5, :7].astype(np.float32)
    maps = np.stack([x, y, 2 * x - y])[None]
    across = np.array([[[0.0, 2.25, 6.0, 9.0, -1.0]]], dtype=np.float32)
    down = np.array([[[0.0, 3.5, 4.0, 1.0, -2.0]]], dtype=np.float32)
    inside_x, inside_y = np.clip(across, 0, 6), np.clip(down, 0, 4)
    expected = np.stack([inside_x, inside_y, 2 * inside_x - inside_y], axis=1)
    np.testing.assert_allclose(sample(maps, across, down), expected, atol=1e-6)


def test_interpolation_to_fewer_pixels_reads_at_their_centers() -> None:
    ramp = np.arange(12, dtype=np.float32)[None] * np.ones((8, 1), dtype=np.float32)
    np.testing.assert_allclose(interpolate(ramp, (2, 3)), [[1.5, 5.5, 9.5]] * 2)
    assert resize(ramp, (4, 6)).shape == (4, 6)


@pytest.mark.parametrize(
    "build",
    [
        lambda: LucasKanade(window=0),
        lambda: LucasKanade()(np.zeros((1, 64, 64))),
        lambda: LucasKanade()(np.zeros((2, 8, 64))),
    ],
)
def test_what_cannot_be_done_is_refused(build) -> None:
    with pytest.raises(InputError, match="optical flow"):
        build()
