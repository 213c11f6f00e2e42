"""Filters against skimage's Gabor kernels, sinusoids of known energy, and gratings that drift."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.filters import gabor_kernel

from neurorecon.errors import InputError
from neurorecon.features.gabor import GaborBank
from neurorecon.features.images import luminance, opponent_colors, pool, resize
from neurorecon.features.motion import MotionBank

SIZE = 64
BANK = GaborBank(SIZE, frequencies=(4.0, 8.0, 16.0), orientations=8)
MOTION = MotionBank(GaborBank(SIZE, (2.0, 4.0, 8.0), 4), (0.5, 1.0), frames=8, frames_per_second=4.0)
ROWS, COLUMNS = np.mgrid[:SIZE, :SIZE] / SIZE


def grating(frequency: float, angle: float, phase: float = 0.0) -> np.ndarray:
    return np.cos(2 * np.pi * frequency * (COLUMNS * np.cos(angle) + ROWS * np.sin(angle)) - phase)


def drifting(frequency: float, angle: float, rate: float) -> np.ndarray:
    times = np.arange(MOTION.frames) / MOTION.frames_per_second
    return np.stack([grating(frequency, angle, 2 * np.pi * rate * time) for time in times])


@pytest.mark.parametrize("channel", range(BANK.channels))
def test_tuning_peaks_at_the_preferred_frequency_and_orientation(channel: int) -> None:
    image = grating(BANK.channel_frequency[channel], BANK.channel_orientation[channel], phase=0.7)
    energy = BANK.energy(image[None])[0, :, 10:-10, 10:-10].mean(axis=(1, 2))
    assert energy.argmax() == channel
    assert energy[channel] == pytest.approx(1.0, abs=0.03)  # amplitude 1 at the peak of the transfer function


def test_energy_does_not_depend_on_phase() -> None:
    energies = [BANK.energy(grating(8, np.pi / 4, phase)[None])[0, 10, 16, 16] for phase in (0, 1, 2, 3)]
    assert np.ptp(energies) < 0.02 * np.mean(energies)


@pytest.mark.parametrize(("frequency", "number"), [(8.0, 0), (8.0, 3), (16.0, 5), (4.0, 2)])
def test_energy_equals_that_of_skimage_kernels(frequency: float, number: int) -> None:
    random = np.random.default_rng(3)
    image = random.standard_normal((SIZE, SIZE))
    image -= image.mean()
    angle = number * np.pi / BANK.orientations
    # skimage describes the same Gaussian in space: sigma_x = 1 / (2 pi sigma_f).
    sigma = 1.0 / (2 * np.pi * (frequency / SIZE) / 3 / np.sqrt(2 * np.log(2)))
    kernel = gabor_kernel(frequency / SIZE, theta=angle, sigma_x=sigma, sigma_y=sigma, n_stds=4)
    kernel = 2 * kernel  # the bank counts the amplitude of a cosine, of which the kernel sees one half
    padded = np.zeros((SIZE, SIZE), complex)
    half = kernel.shape[0] // 2
    if kernel.shape[0] > SIZE:
        kernel = kernel[half - 31 : half + 32, half - 31 : half + 32]
        half = 31
    padded[: kernel.shape[0], : kernel.shape[1]] = kernel
    padded = np.roll(padded, (-half, -half), axis=(0, 1))
    filtered = np.fft.ifft2(np.fft.fft2(image) * np.fft.fft2(padded))
    expected = np.abs(filtered[::2, ::2]) ** 2
    channel = list(BANK.frequencies).index(frequency) * BANK.orientations + number
    found = BANK.energy(image[None])[0, channel]
    inside = slice(8, -8)  # away from the border, which the two continue differently
    # The Gaussian of the lowest frequency reaches the mean of the image, which the bank leaves out.
    tolerance = 0.15 if frequency == 4.0 else 0.03
    difference = np.abs(found[inside, inside] - expected[inside, inside])
    assert difference.max() < tolerance * expected[inside, inside].max()


def test_energy_of_many_images_is_that_of_each() -> None:
    images = np.random.default_rng(0).random((5, SIZE, SIZE))
    together = BANK.energy(images)
    assert together.shape == (5, BANK.channels, SIZE // 2, SIZE // 2)
    for image, energy in zip(images, together, strict=True):
        np.testing.assert_allclose(BANK.energy(image[None])[0], energy, rtol=1e-4, atol=1e-7)


def test_uniform_images_have_no_energy_whatever_their_brightness() -> None:
    assert BANK.energy(np.full((1, SIZE, SIZE), 0.8)).max() < 1e-10


def test_the_border_of_a_image_is_no_edge() -> None:
    ramp = COLUMNS[None]  # black on the left, white on the right: a step where the image would wrap
    step = np.roll(ramp, SIZE // 2, axis=2)  # the same step, in the middle
    assert BANK.energy(ramp).max() < 0.1 * BANK.energy(step).max()


@pytest.mark.parametrize("direction", range(8))
@pytest.mark.parametrize("rate", [0.5, 1.0])
def test_a_drifting_grating_excites_its_own_direction(direction: int, rate: float) -> None:
    angle = direction * np.pi / 4
    energy = MOTION.energy(drifting(4.0, angle, rate)[None])[0, :, 10:-10, 10:-10].mean(axis=(1, 2))
    best = int(energy.argmax())
    assert MOTION.channel_direction[best] == pytest.approx(angle)
    assert MOTION.channel_frequency[best] == 4.0
    assert MOTION.channel_rate[best] == rate
    opposite = np.isclose(MOTION.channel_direction, (angle + np.pi) % (2 * np.pi))
    same_filter = opposite & (MOTION.channel_frequency == 4.0) & (MOTION.channel_rate == rate)
    assert energy[best] > 10 * energy[same_filter].max()


def test_speed_is_rate_over_frequency() -> None:
    np.testing.assert_allclose(MOTION.channel_speed * MOTION.channel_frequency, MOTION.channel_rate)


def test_a_video_that_stands_still_has_no_motion_energy() -> None:
    still = np.repeat(np.random.default_rng(1).random((1, 1, SIZE, SIZE)), MOTION.frames, axis=1)
    assert MOTION.energy(still).max() < 1e-12


def test_reversing_a_video_reverses_its_directions() -> None:
    video = np.random.default_rng(2).random((1, MOTION.frames, SIZE, SIZE))
    forward = MOTION.energy(video)[0].reshape(-1, 8, 32, 32)
    backward = MOTION.energy(video[:, ::-1])[0].reshape(-1, 8, 32, 32)
    np.testing.assert_allclose(np.roll(backward, 4, axis=1), forward, rtol=1e-3, atol=1e-7)


def test_luminance_and_opponent_colors() -> None:
    pixels = np.array([[255, 255, 255], [255, 0, 0], [0, 255, 0], [0, 0, 255], [90, 90, 90]], dtype=np.uint8)
    np.testing.assert_allclose(luminance(pixels), [1, 0.2126, 0.7152, 0.0722, 90 / 255], rtol=1e-5)
    red_green, blue_yellow = opponent_colors(pixels).T
    np.testing.assert_allclose(red_green, [0, 1, -1, 0, 0], atol=1e-6)
    np.testing.assert_allclose(blue_yellow, [0, -0.5, -0.5, 1, 0], atol=1e-6)


@settings(max_examples=30, deadline=None)
@given(rows=st.integers(1, 90), columns=st.integers(1, 90), size=st.integers(1, 64))
def test_resampling_keeps_constants_and_when_it_shrinks_the_mean(rows: int, columns: int, size: int) -> None:
    np.testing.assert_allclose(resize(np.full((rows, columns), 0.3), size), 0.3, rtol=1e-5)
    if rows >= size and columns >= size:
        image = np.random.default_rng(rows * 91 + columns).random((rows, columns))
        assert resize(image, size).mean() == pytest.approx(image.mean(), rel=1e-4)


def test_pooling_averages_over_cells() -> None:
    maps = np.arange(64.0).reshape(8, 8)
    expected = maps.reshape(2, 4, 2, 4).mean(axis=(1, 3))
    np.testing.assert_allclose(pool(maps, 2), expected, rtol=1e-6)


@pytest.mark.parametrize(
    "build",
    [
        lambda: GaborBank(64, (30.0,), 4),
        lambda: GaborBank(63, (4.0,), 4),
        lambda: GaborBank(64, (), 4),
        lambda: MotionBank(GaborBank(64, (4.0,), 4), (2.5,), 8, 4.0),
        lambda: BANK.energy(np.zeros((2, 32, 32))),
        lambda: MOTION.energy(np.zeros((2, 5, 64, 64))),
        lambda: luminance(np.zeros((4, 4))),
    ],
)
def test_what_cannot_be_done_is_refused(build) -> None:
    with pytest.raises(InputError):
        build()
