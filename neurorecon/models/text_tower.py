"""The text tower of CLIP as a separate network: hidden states, the text condition of latent diffusion.

It is a module of its own because ``nn.Module`` requires torch at import.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class TextTower(nn.Module):
    """Hidden states of the text tower of open_clip's ``CLIP``, after the final layer norm and before the projection.

    Parameters
    ----------
    clip : open_clip.model.CLIP
        Modules of its text tower are shared, not copied; the vision tower is dropped.
    """

    def __init__(self, clip: Any) -> None:
        super().__init__()
        self.token_embedding = clip.token_embedding
        self.positional_embedding = clip.positional_embedding
        self.transformer = clip.transformer
        self.ln_final = clip.ln_final
        self.register_buffer("attn_mask", clip.attn_mask, persistent=False)
        self.eval()

    def forward(self, tokens: Tensor) -> Tensor:
        """Map tokens (sentence, token) to hidden states (sentence, token, channel)."""
        x = self.token_embedding(tokens) + self.positional_embedding
        x = self.transformer(x, attn_mask=self.attn_mask)
        hidden: Tensor = self.ln_final(x)
        return hidden


class HiddenStates(nn.Module):
    """Hidden states of transformers' ``CLIPTextModel``, after the final layer norm.

    Parameters
    ----------
    network : transformers.CLIPTextModel
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, tokens: Tensor) -> Tensor:
        """Map tokens (sentence, token) to hidden states (sentence, token, channel)."""
        hidden: Tensor = self.network(input_ids=tokens).last_hidden_state
        return hidden


def projected(clip: Any, hidden: Tensor) -> Tensor:
    """Project hidden states (..., channel) of the text tower into the joint embedding space of images and text."""
    projection = clip.text_projection
    if projection is None:
        return hidden
    values: Tensor = projection(hidden) if isinstance(projection, nn.Linear) else hidden @ projection
    return values


def end_positions(tokens: Tensor, end: int) -> Tensor:
    """Return the position of the first end token of each sentence, shape (sentence,)."""
    return (tokens == end).int().argmax(dim=1).to(torch.long)
