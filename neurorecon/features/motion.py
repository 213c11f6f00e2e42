"""Motion target: log-compressed motion energy by direction, rate and scale, on a grid."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, ClassVar, Literal

import numpy as np

from neurorecon.errors import InputError
from neurorecon.features.base import Extractor, StimulusBatch
from neurorecon.features.threads import for_each
from neurorecon.filters import MotionBank, gabor_bank, luminance, pool, resize

#: Side of the frames that the filters see.
_SIZE = 64

#: Cycles per picture, and cells on each side of the grid over which energy is averaged.
_SCALES = ((2.0, 4), (4.0, 4), (8.0, 6))

#: Orientations of the moving gratings; each moves in two directions.
_ORIENTATIONS = 4

#: Temporal frequencies in cycles per frame; films of 4 frames a second have .5 and 1.2 Hz.
_RATES = (0.125, 0.3)

#: Energy at which log(1 + energy / knee) turns from linear to logarithmic.
_KNEE = 3e-6


class MotionExtractor(Extractor):
    """Motion energy (Adelson & Bergen, 1985; as a pyramid, Nishimoto et al., 2011, Current Biology).

    Three scales, two temporal frequencies, eight directions and a grid: 1,088 features, of films only. There are no
    filters at 0 Hz, and the mean over frames is subtracted, so a film that stands still has zeros throughout.
    """

    name: ClassVar[str] = "motion"
    needs: ClassVar[Literal["images", "frames", "table"]] = "frames"

    def __call__(self, batch: StimulusBatch) -> np.ndarray:
        """Return the target of a batch, float32, shape (stimulus, feature)."""
        assert batch.frames is not None
        if batch.frames.shape[1] < 3:
            raise InputError(
                "these films are too short for motion energy",
                given=f"{batch.frames.shape[1]} frames",
                expected="3 frames or more",
                todo="leave the target 'motion' out, or read more frames of each film",
            )
        return for_each(_features, batch.frames).astype(np.float32)

    def made_by(self) -> dict[str, Any]:
        """Return how the numbers come about."""
        return {
            "model": "motion-energy pyramid",
            "preprocessing": f"luminance, resampled to {_SIZE} x {_SIZE} pixels, mean over frames removed",
            "cycles_per_picture": [frequency for frequency, _ in _SCALES],
            "cycles_per_frame": list(_RATES),
            "directions": 2 * _ORIENTATIONS,
            "grid": [cells for _, cells in _SCALES],
            "nonlinearity": f"log(1 + energy / {_KNEE})",
            "source": "Adelson & Bergen (1985), J. Opt. Soc. Am. A; Nishimoto et al. (2011), Current Biology",
        }

    def feature_names(self, batch: StimulusBatch) -> list[str]:
        """Return names such as ``4 c/p 0.125 c/f 45 deg y1 x0``."""
        return [
            f"{frequency:g} c/p {rate:g} c/f {180 * direction / _ORIENTATIONS:g} deg y{row} x{column}"
            for frequency, cells in _SCALES
            for rate in _RATES
            for direction in range(2 * _ORIENTATIONS)
            for row in range(cells)
            for column in range(cells)
        ]


def _features(film: np.ndarray) -> np.ndarray:
    """Return the features of one film, whose filtering fits into the cache of the processor; shape (feature,)."""
    energy = _bank(len(film)).energy(resize(luminance(film), _SIZE)[None])[0]
    scales = energy.reshape(len(_SCALES), -1, *energy.shape[1:])
    pooled = [pool(maps, cells).ravel() for maps, (_, cells) in zip(scales, _SCALES, strict=True)]
    return np.asarray(np.log1p(np.concatenate(pooled) / np.float32(_KNEE)))


@lru_cache(maxsize=8)
def _bank(frames: int) -> MotionBank:
    spatial = gabor_bank(_SIZE, tuple(frequency for frequency, _ in _SCALES), _ORIENTATIONS)
    return MotionBank(spatial, _RATES, frames, frames_per_second=1.0)
