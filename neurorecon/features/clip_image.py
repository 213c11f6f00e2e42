"""CLIP's image embedding: of a picture, of a film's middle frame, and on average over the frames of a film."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from neurorecon.features.base import Needs, StimulusBatch
from neurorecon.features.clip_vision import ClipPictures
from neurorecon.features.network import pictures_at_a_time

if TYPE_CHECKING:
    from torch import Tensor


class ClipImageExtractor(ClipPictures):
    """The image embedding: 512 values for ViT-B/32, not normalized. Of a film, that of the middle frame.

    Mind-Animator (Lu et al., 2024, arXiv 2405.03280) aligns responses with it.
    """

    name: ClassVar[str] = "clip_image"
    role: ClassVar[str] = "clip-b32"
    dims: ClassVar[tuple[str, ...] | None] = ("feature",)

    def forward(self, prepared: np.ndarray, device: str) -> Tensor:
        """Return the embeddings, shape (stimulus, feature)."""
        embedding: Tensor = self.network.encode_image(self.preprocessing.normalize(prepared, device))
        return embedding

    def description(self) -> dict[str, Any]:
        """Return how the numbers come about, but for weights and precision."""
        return {
            "model": "CLIP, vision tower",
            "layer": "image embedding, not normalized",
            "frames": "middle",
            "preprocessing": self.preprocessing.describe(),
            "source": "Radford et al. (2021), arXiv 2103.00020; Lu et al. (2024), arXiv 2405.03280",
        }


class ClipImageMeanExtractor(ClipImageExtractor):
    """The image embedding of a film: the mean over those of its frames."""

    name: ClassVar[str] = "clip_image_mean"
    needs: ClassVar[Needs] = "frames"

    #: Frames of a film, for the size of a batch; films of other lengths only change the memory.
    _FRAMES = 8

    @property
    def batch(self) -> int:
        """Films at a time."""
        return pictures_at_a_time(self.settings.size, self._FRAMES)

    def prepare(self, batch: StimulusBatch) -> np.ndarray:
        """Return the frames in the size of the network, uint8, shape (film, frame, y, x, rgb)."""
        assert batch.frames is not None
        films, frames = batch.frames.shape[:2]
        prepared = self.preprocessing.prepare(batch.frames.reshape(films * frames, *batch.frames.shape[2:]))
        return prepared.reshape(films, frames, *prepared.shape[1:])

    def forward(self, prepared: np.ndarray, device: str) -> Tensor:
        """Return the mean embeddings, shape (film, feature)."""
        flat = super().forward(prepared.reshape(-1, *prepared.shape[2:]), device)
        return flat.float().unflatten(0, prepared.shape[:2]).mean(dim=1)

    def description(self) -> dict[str, Any]:
        """Return how the numbers come about, but for weights and precision."""
        return {**super().description(), "frames": "mean over all frames"}
