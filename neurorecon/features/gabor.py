"""Gabor target: log-compressed contrast energy at several scales and orientations, on a grid."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from neurorecon.features.base import Extractor, Needs, StimulusBatch
from neurorecon.features.threads import for_each
from neurorecon.filters import gabor_bank, luminance, pool, resize

#: Side of the pictures that the filters see.
_SIZE = 64

#: Cycles per picture, and cells on each side of the grid over which energy is averaged.
_SCALES = ((2.0, 4), (4.0, 6), (8.0, 8), (16.0, 8))
_ORIENTATIONS = 8

#: Energy at which log(1 + energy / knee) turns from linear to logarithmic.
_KNEE = 2e-4


class GaborExtractor(Extractor):
    """Energy of a Gabor pyramid of the luminance (Kay et al., 2008, Nature; Nishimoto et al., 2011, Curr. Biol.).

    Four scales, eight orientations, and a grid that is finer at fine scales: 1,440 features. Pictures of any size
    are resampled to 64 x 64. Of a film, the middle frame is taken.
    """

    name: ClassVar[str] = "gabor"
    needs: ClassVar[Needs] = "images"

    def __call__(self, batch: StimulusBatch) -> np.ndarray:
        """Return the target of a batch, float32, shape (stimulus, feature)."""
        assert batch.images is not None
        return for_each(_features, batch.images).astype(np.float32)

    def made_by(self) -> dict[str, Any]:
        """Return how the numbers come about."""
        return {
            "model": "Gabor pyramid",
            "preprocessing": f"luminance, resampled to {_SIZE} x {_SIZE} pixels",
            "cycles_per_picture": [frequency for frequency, _ in _SCALES],
            "orientations": _ORIENTATIONS,
            "grid": [cells for _, cells in _SCALES],
            "nonlinearity": f"log(1 + energy / {_KNEE})",
            "source": "Kay et al. (2008), Nature; Nishimoto et al. (2011), Current Biology",
        }

    def feature_names(self, batch: StimulusBatch) -> list[str]:
        """Return names such as ``4 c/p 45 deg y1 x0``."""
        return [
            f"{frequency:g} c/p {180 * orientation / _ORIENTATIONS:g} deg y{row} x{column}"
            for frequency, cells in _SCALES
            for orientation in range(_ORIENTATIONS)
            for row in range(cells)
            for column in range(cells)
        ]


def _features(picture: np.ndarray) -> np.ndarray:
    """Return the features of one picture, whose filtering fits into the cache of the processor; shape (feature,)."""
    bank = gabor_bank(_SIZE, tuple(frequency for frequency, _ in _SCALES), _ORIENTATIONS)
    energy = bank.energy(resize(luminance(picture), _SIZE)[None])[0]
    scales = energy.reshape(len(_SCALES), _ORIENTATIONS, *energy.shape[1:])
    pooled = [pool(maps, cells).ravel() for maps, (_, cells) in zip(scales, _SCALES, strict=True)]
    return np.asarray(np.log1p(np.concatenate(pooled) / np.float32(_KNEE)))
