"""CLIP's view of a picture, token by token, as Versatile Diffusion is guided by it (Brain-Diffuser)."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from neurorecon.features.base import Needs, StimulusBatch
from neurorecon.features.network import NetworkExtractor, pictures_at_a_time
from neurorecon.features.pixels import Preprocessing
from neurorecon.models.load import Source
from neurorecon.models.load_clip import ClipSettings, clip_settings

if TYPE_CHECKING:
    from torch import Tensor


class ClipPictures(NetworkExtractor):
    """Base class of targets that the vision tower of CLIP computes from pictures; of a film, from its middle frame."""

    needs: ClassVar[Needs] = "images"
    #: Role of the network: ViT-L/14 or ViT-B/32 among the published ones.
    role: ClassVar[str] = "clip"

    @cached_property
    def settings(self) -> ClipSettings:
        """What is known of the network."""
        return clip_settings(self.models, self.role)

    @property
    def source(self) -> Source:
        """Where the weights come from."""
        return self.settings.source

    @property
    def batch(self) -> int:
        """Stimuli at a time."""
        return pictures_at_a_time(self.settings.size)

    @cached_property
    def preprocessing(self) -> Preprocessing:
        """OpenAI's: bicubic, the middle cut out; as in open_clip's ``image_transform``."""
        return Preprocessing(self.settings.size, "bicubic", "crop", self.settings.mean, self.settings.std)

    def load(self, device: str) -> Any:
        """Return the network on a device."""
        return self.settings.load(device)

    def prepare(self, batch: StimulusBatch) -> np.ndarray:
        """Return the pictures in the size of the network, uint8."""
        assert batch.images is not None
        return self.preprocessing.prepare(batch.images)


class ClipVisionExtractor(ClipPictures):
    """All vision tokens, in the space that CLIP shares with text, over the length of the first one.

    The last hidden states go through the last layer norm and the projection; every token is divided by the norm of the
    picture's (CLS) token: 257 x 768 for ViT-L/14. So Brain-Diffuser has it (Ozcelik & VanRullen, 2023, arXiv
    2303.05334), after Versatile Diffusion.
    """

    name: ClassVar[str] = "clip_vision"
    dims: ClassVar[tuple[str, ...] | None] = ("token", "channel")

    def forward(self, prepared: np.ndarray, device: str) -> Tensor:
        """Return the tokens, shape (stimulus, token, channel)."""
        from neurorecon.features.clip_towers import vision_tokens

        tokens = vision_tokens(self.network, self.preprocessing.normalize(prepared, device))
        return tokens / tokens[:, :1].norm(dim=-1, keepdim=True)

    def description(self) -> dict[str, Any]:
        """Return how the numbers come about, but for weights and precision."""
        return {
            "model": "CLIP, vision tower",
            "layer": "last hidden states -> ln_post -> proj, each token over the norm of the CLS token",
            "preprocessing": self.preprocessing.describe(),
            "source": "Ozcelik & VanRullen (2023), arXiv 2303.05334; Radford et al. (2021), arXiv 2103.00020",
        }
