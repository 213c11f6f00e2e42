"""The Gabor target."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from neurorecon.features.base import StimulusBatch
from neurorecon.features.gabor import GaborExtractor


def batch(images: np.ndarray) -> StimulusBatch:
    return StimulusBatch(pd.DataFrame({"id": [str(n) for n in range(len(images))]}), images=images)


def grating(frequency: float, degrees: float, size: int = 64) -> np.ndarray:
    y, x = np.mgrid[:size, :size] / size
    angle = np.deg2rad(degrees)
    wave = 0.5 + 0.5 * np.cos(2 * np.pi * frequency * (x * np.cos(angle) + y * np.sin(angle)))
    return np.repeat((255 * wave).astype(np.uint8)[..., None], 3, axis=2)


def test_shape_names_and_dependence_on_the_batch() -> None:
    images = np.random.default_rng(0).integers(0, 256, (5, 64, 64, 3), dtype=np.uint8)
    extractor = GaborExtractor()
    values = extractor(batch(images))
    assert values.dtype == np.float32
    assert values.shape == (5, len(extractor.feature_names(batch(images))))
    assert 400 <= values.shape[1] <= 1500
    np.testing.assert_array_equal(extractor(batch(images[2:4])), values[2:4])


@pytest.mark.parametrize(("frequency", "degrees"), [(4, 0), (8, 45), (8, 90), (16, 135)])
@pytest.mark.parametrize("size", [64, 128])
def test_the_name_of_the_strongest_feature_describes_the_grating(frequency: int, degrees: int, size: int) -> None:
    stimulus = batch(grating(frequency, degrees, size)[None])
    extractor = GaborExtractor()
    best = extractor.feature_names(stimulus)[int(extractor(stimulus)[0].argmax())]
    assert best.startswith(f"{frequency} c/p {degrees} deg")


def test_a_contrast_in_one_corner_is_found_there() -> None:
    image = np.full((64, 64, 3), 128, dtype=np.uint8)
    image[40:, 40:] = grating(8, 0)[40:, 40:]
    stimulus = batch(image[None])
    extractor = GaborExtractor()
    best = extractor.feature_names(stimulus)[int(extractor(stimulus)[0].argmax())]
    assert best.endswith(("y6 x6", "y5 x6", "y6 x7", "y7 x6", "y7 x7"))


def test_uniform_images_give_zeros() -> None:
    assert GaborExtractor()(batch(np.full((1, 64, 64, 3), 200, dtype=np.uint8))).max() < 1e-3
