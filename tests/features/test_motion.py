"""The motion target."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from neurorecon.errors import InputError
from neurorecon.features.base import StimulusBatch
from neurorecon.features.motion import MotionExtractor


def batch(frames: np.ndarray) -> StimulusBatch:
    table = pd.DataFrame({"id": [str(n) for n in range(len(frames))]})
    return StimulusBatch(table, frames=frames, frames_per_second=4.0)


def drifting(frequency: float, degrees: float, cycles_per_frame: float, size: int = 64) -> np.ndarray:
    y, x = np.mgrid[:size, :size] / size
    angle = np.deg2rad(degrees)
    place = frequency * (x * np.cos(angle) + y * np.sin(angle))
    waves = [0.5 + 0.5 * np.cos(2 * np.pi * (place - cycles_per_frame * frame)) for frame in range(8)]
    return np.repeat((255 * np.stack(waves)).astype(np.uint8)[..., None], 3, axis=3)


def test_shape_names_and_dependence_on_the_batch() -> None:
    frames = np.random.default_rng(0).integers(0, 256, (4, 8, 64, 64, 3), dtype=np.uint8)
    extractor = MotionExtractor()
    values = extractor(batch(frames))
    assert values.dtype == np.float32
    assert values.shape == (4, len(extractor.feature_names(batch(frames))))
    assert 300 <= values.shape[1] <= 1100
    np.testing.assert_array_equal(extractor(batch(frames[1:3])), values[1:3])


@pytest.mark.parametrize("degrees", [0, 45, 90, 135, 180, 225, 270, 315])
@pytest.mark.parametrize("size", [64, 96])
def test_the_name_of_the_strongest_feature_describes_the_motion(degrees: int, size: int) -> None:
    stimulus = batch(drifting(4, degrees, 0.125, size)[None])
    extractor = MotionExtractor()
    best = extractor.feature_names(stimulus)[int(extractor(stimulus)[0].argmax())]
    assert best.startswith(f"4 c/p 0.125 c/f {degrees} deg")


def test_videos_that_stand_still_give_zeros() -> None:
    image = np.random.default_rng(1).integers(0, 256, (1, 1, 64, 64, 3), dtype=np.uint8)
    assert MotionExtractor()(batch(np.repeat(image, 8, axis=1))).max() < 1e-6


def test_a_single_frame_is_no_video() -> None:
    with pytest.raises(InputError, match="too short"):
        MotionExtractor()(batch(np.zeros((1, 2, 64, 64, 3), dtype=np.uint8)))
