"""What captions mean to CLIP, and to the text encoder that Stable Diffusion is conditioned on."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from neurorecon.features.base import Extractor, Needs, StimulusBatch
from neurorecon.features.network import NetworkExtractor
from neurorecon.models.load import Source
from neurorecon.models.load_clip import ClipSettings, TextEncoder, Tokenizer, clip_settings, text_encoder

if TYPE_CHECKING:
    from torch import Tensor

#: Memory for what one target leaves to another; beyond it, the other one computes for itself.
_KEPT_BYTES = 128 * 2**20


@dataclass(frozen=True)
class Captions:
    """The captions of a batch as tokens.

    Parameters
    ----------
    tokens : Tensor, shape (caption, token)
    stimulus : int array, shape (caption,)
        Which stimulus of the batch each belongs to.
    ids : tuple of str
        Of the stimuli.
    """

    tokens: Tensor
    stimulus: np.ndarray
    ids: tuple[str, ...]


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
        stimulus = np.repeat(np.arange(len(captions)), [len(found) for found in captions])
        return Captions(tokens, stimulus, tuple(batch.table["id"]))

    def forward(self, prepared: Captions, device: str) -> Tensor:
        """Return the mean over the captions of each stimulus, shape (stimulus, token, channel)."""
        return _means(self.states(prepared.tokens.to(device)), prepared.stimulus)


class ClipTextExtractor(CaptionExtractor):
    """All text tokens, in the space that CLIP shares with pictures, over the length of the sentence's embedding.

    The last hidden states go through the last layer norm and the projection; every token is divided by the norm of the
    one that ends the sentence, and the result is averaged over captions: 77 x 768 for ViT-L/14. So Brain-Diffuser has
    it (Ozcelik & VanRullen, 2023, arXiv 2303.05334), after Versatile Diffusion.
    """

    name: ClassVar[str] = "clip_text"

    #: Computed after this target from the same hidden states, so that it is handed them.
    _condition: ConditionExtractor | None = None

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

    def meet(self, later: Sequence[Extractor]) -> None:
        """Look for the condition of latent diffusion, where the same network computes it."""
        from neurorecon.models.text_tower import TextTower

        self._condition = None
        for other in later:
            if type(other) is ConditionExtractor and self._same_network(other):
                self._condition = other if isinstance(other.network, TextTower) else None

    def _same_network(self, other: ConditionExtractor) -> bool:
        mine, others = ((one.source.record(), one.precision, one.place) for one in (self, other))
        return mine == others

    def forward(self, prepared: Captions, device: str) -> Tensor:
        """Return the mean over the captions of each stimulus, shape (stimulus, token, channel)."""
        tokens = prepared.tokens.to(device)
        hidden = self._hidden(tokens)
        if self._condition is not None:
            self._condition.keep(prepared.ids, _means(hidden, prepared.stimulus))
        return _means(self._normalized(hidden, tokens), prepared.stimulus)

    def states(self, tokens: Tensor) -> Tensor:
        """Return normalized tokens, shape (caption, token, channel)."""
        return self._normalized(self._hidden(tokens), tokens)

    def _hidden(self, tokens: Tensor) -> Tensor:
        from neurorecon.models.text_tower import TextTower

        hidden: Tensor = TextTower(self.network)(tokens)
        return hidden

    def _normalized(self, hidden: Tensor, tokens: Tensor) -> Tensor:
        import torch

        from neurorecon.models.text_tower import end_positions, projected

        states = projected(self.network, hidden)
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

    @cached_property
    def _kept(self) -> dict[tuple[str, ...], np.ndarray]:
        """What another target has computed of this one, by the stimuli of a batch."""
        return {}

    def keep(self, ids: tuple[str, ...], values: Tensor) -> None:
        """Remember the target of a batch until it is asked for, as long as there is room."""
        found = values.float().cpu().numpy()
        if (len(self._kept) + 1) * found.nbytes <= _KEPT_BYTES:
            self._kept[ids] = found

    def compute(self, prepared: Captions) -> np.ndarray:
        """Return the target of a prepared batch, float32, shape (stimulus, token, channel)."""
        kept = self._kept.pop(prepared.ids, None)
        return super().compute(prepared) if kept is None else kept

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


def _means(states: Tensor, stimulus: np.ndarray) -> Tensor:
    """Return the mean over the captions of each stimulus, given those of all captions (caption, token, channel)."""
    import torch

    states = states.float()
    # One stimulus at a time, so that the last bits do not depend on what else is in the batch.
    return torch.stack([states[torch.from_numpy(rows)].mean(dim=0) for rows in _rows_by_stimulus(stimulus)])


def _rows_by_stimulus(stimulus: np.ndarray) -> list[np.ndarray]:
    return [np.flatnonzero(stimulus == number) for number in np.unique(stimulus)]
