"""The figures that networks are held against, checked on cases with a known answer."""

import numpy as np
import pytest
from scipy.linalg import sqrtm
from skimage.metrics import peak_signal_noise_ratio

from neurorecon.simulation.training.judge import Bar, frechet_distance, layout_likeness, psnr


def test_frechet_distance_agrees_with_the_matrix_square_root():
    random = np.random.default_rng(0)
    first = random.normal(size=(200, 6)) @ random.normal(size=(6, 6))
    second = random.normal(size=(150, 6)) @ random.normal(size=(6, 6)) + 0.5
    one, two = np.cov(first, rowvar=False), np.cov(second, rowvar=False)
    difference = first.mean(axis=0) - second.mean(axis=0)
    expected = difference @ difference + np.trace(one + two - 2 * sqrtm(one @ two).real)
    assert frechet_distance(first, second) == pytest.approx(expected, rel=1e-6)
    assert frechet_distance(first, first) == pytest.approx(0.0, abs=1e-6)


def test_psnr_agrees_with_scikit_image():
    random = np.random.default_rng(0)
    first, second = random.integers(0, 256, (2, 3, 16, 16, 3), dtype=np.uint8)
    expected = [peak_signal_noise_ratio(a, b, data_range=255) for a, b in zip(first, second, strict=True)]
    np.testing.assert_allclose(psnr(first, second), expected, rtol=1e-5)


def test_layouts_are_alike_where_only_details_differ():
    random = np.random.default_rng(0)
    coarse = random.integers(40, 200, (4, 8, 8, 3)).repeat(8, axis=1).repeat(8, axis=2)
    noisy = (coarse + random.integers(-20, 20, coarse.shape)).astype(np.uint8)
    assert layout_likeness(coarse.astype(np.uint8), noisy) > 0.99
    assert abs(layout_likeness(coarse.astype(np.uint8), noisy[::-1])) < 0.5


@pytest.mark.parametrize(
    ("bar", "met"),
    [(Bar("", 0.9, 0.8), True), (Bar("", 0.7, 0.8), False), (Bar("", 4.0, None, 3.0), False), (Bar("", 1.0), None)],
)
def test_a_bar_is_met_or_not_or_only_reported(bar, met):
    assert bar.met is met
