"""What captions mean to CLIP, and to the text encoder that Stable Diffusion is conditioned on."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from neurorecon.features.base import Needs, StimulusBatch
from neurorecon.features.network import NetworkExtractor
from neurorecon.models.load import Source
from neurorecon.models.load_clip import ClipSettings, TextEncoder, Tokenizer, clip_settings, text_encoder

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Captions:
    """The captions of a batch as tokens.

    Parameters
    ----------
    tokens : Tensor, shape (caption, token)
    stimulus : int array, shape (caption,)
        Which stimulus of the batch each belongs to.
    """

    tokens: Tensor
    stimulus: np.ndarray


class CaptionExtractor(NetworkExtractor):
    """Base class of targets of captions: what a network makes of each caption, averaged over those of a stimulus.

    Stimuli without a caption have no such target.
    """

    needs: ClassVar[Needs] = "captions"
    dims: ClassVar[tuple[str, ...] | None] = ("token", "channel")

    @property
    @abstractmethod
    def tokenizer(self) -> Tokenizer:
        """What turns captions into tokens."""

    @abstractmethod
    def states(self, tokens: Tensor) -> Tensor:
        """Return what the network makes of captions, shape (caption, token, channel)."""

    @property
    def batch(self) -> int:
        """Stimuli at a time; each has up to five captions."""
        return 32

    def prepare(self, batch: StimulusBatch) -> Captions:
        """Return the captions as tokens."""
        captions = batch.table["captions"].tolist()
        tokens = self.tokenizer([caption for found in captions for caption in found])
        return Captions(tokens, np.repeat(np.arange(len(captions)), [len(found) for found in captions]))

    def forward(self, prepared: Captions, device: str) -> Tensor:
        """Return the mean over the captions of each stimulus, shape (stimulus, token, channel)."""
        import torch

        states = self.states(prepared.tokens.to(device)).float()
        # One row at a time, so that the last bits do not depend on what else is in the batch.
        parts = [states[torch.from_numpy(rows)].mean(dim=0) for rows in _rows_by_stimulus(prepared.stimulus)]
        return torch.stack(parts)


class ClipTextExtractor(CaptionExtractor):
    """All text tokens, in the space that CLIP shares with pictures, over the length of the sentence's embedding.

    The last hidden states go through the last layer norm and the projection; every token is divided by the norm of the
    one that ends the sentence, and the result is averaged over captions: 77 x 768 for ViT-L/14. So Brain-Diffuser has
    it (Ozcelik & VanRullen, 2023, arXiv 2303.05334), after Versatile Diffusion.
    """

    name: ClassVar[str] = "clip_text"

    @cached_property
    def settings(self) -> ClipSettings:
        """What is known of the network."""
        return clip_settings(self.models)

    @property
    def source(self) -> Source:
        """Where the weights come from."""
        return self.settings.source

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """What turns captions into tokens."""
        return self.settings.tokenizer()

    def load(self, device: str) -> Any:
        """Return the network on a device."""
        return self.settings.load(device)

    def states(self, tokens: Tensor) -> Tensor:
        """Return normalized tokens, shape (caption, token, channel)."""
        import torch

        from neurorecon.models.text_tower import TextTower, end_positions, projected

        states = projected(self.network, TextTower(self.network)(tokens))
        ends = states[torch.arange(len(tokens)), end_positions(tokens, self.tokenizer.end)]
        return states / ends.norm(dim=-1)[:, None, None]

    def description(self) -> dict[str, Any]:
        """Return how the numbers come about, but for weights and precision."""
        return {
            "model": "CLIP, text tower",
            "layer": "last hidden states -> ln_final -> text_projection, each token over the norm of the end token; "
            "mean over captions",
            "preprocessing": self.tokenizer.description,
            "source": "Ozcelik & VanRullen (2023), arXiv 2303.05334; Radford et al. (2021), arXiv 2103.00020",
        }


class ConditionExtractor(CaptionExtractor):
    """The condition of latent diffusion: hidden states of its text encoder, averaged over captions (77 x 768).

    They are taken behind the last layer norm and before the projection, as Stable Diffusion v1-4 is trained with.
    """

    name: ClassVar[str] = "clip_text_sd"
    #: How many tokens are kept; None for all.
    tokens: ClassVar[int | None] = None

    @cached_property
    def encoder(self) -> TextEncoder:
        """The text encoder, not loaded yet."""
        return text_encoder(self.models)

    @property
    def source(self) -> Source:
        """Where the weights come from."""
        return self.encoder.source

    @property
    def tokenizer(self) -> Tokenizer:
        """What turns captions into tokens."""
        return self.encoder.tokenizer

    def load(self, device: str) -> Any:
        """Return the network on a device."""
        return self.encoder.load(device)

    def states(self, tokens: Tensor) -> Tensor:
        """Return hidden states, shape (caption, token, channel)."""
        hidden: Tensor = self.network(tokens)[:, : self.tokens]
        return hidden

    def description(self) -> dict[str, Any]:
        """Return how the numbers come about, but for weights and precision."""
        kept = "all tokens" if self.tokens is None else f"the first {self.tokens} tokens"
        return {
            "model": "text encoder of latent diffusion",
            "layer": f"last hidden states behind the last layer norm, {kept}; mean over captions",
            "preprocessing": self.tokenizer.description,
            "source": "Rombach et al. (2022), arXiv 2112.10752",
        }


class FirstTokensExtractor(ConditionExtractor):
    """Base class of targets that are the first tokens of the condition."""

    def whole(self) -> ConditionExtractor:
        """Return the condition with all of its tokens."""
        return ConditionExtractor(self.categories, models=self.models, device=self.device, precision=self._precision)

    def cut(self, values: np.ndarray) -> np.ndarray:
        """Return the first tokens of the condition, shape (stimulus, token, channel)."""
        return values[:, : self.tokens]


class ConditionOf15Extractor(FirstTokensExtractor):
    """The first 15 tokens of the condition: what MindDiffuser decodes (Lu et al., 2023, arXiv 2308.04249)."""

    name: ClassVar[str] = "clip_text_15"
    tokens: ClassVar[int | None] = 15


class ConditionOf20Extractor(FirstTokensExtractor):
    """The first 20 tokens of the condition: what Mind-Animator decodes (Lu et al., 2024, arXiv 2405.03280)."""

    name: ClassVar[str] = "clip_text_20"
    tokens: ClassVar[int | None] = 20


def _rows_by_stimulus(stimulus: np.ndarray) -> list[np.ndarray]:
    return [np.flatnonzero(stimulus == number) for number in np.unique(stimulus)]
