"""A transformer that continues a video from its first frame. Importing this module imports torch.

The consistency motion generator of Mind-Animator (Lu et al., 2024, arXiv 2405.03280): tokens of a frame attend to those
of the first frame and of the frame itself, and to tokens of what drives the motion, and become those of the next frame.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from neurorecon.decoders.neural.layers import Tokens


class Attention(nn.Module):
    """Attention of tokens to tokens of the same or of another sequence, with several heads.

    Not ``nn.MultiheadAttention``, which wants its mask added to the scores and returns weights that nobody needs.
    """

    def __init__(self, width: int, heads: int, inner: int) -> None:
        super().__init__()
        self._heads = heads
        self.query, self.key_value = nn.Linear(width, inner), nn.Linear(width, 2 * inner)
        self.out = nn.Linear(inner, width)

    def forward(self, tokens: Tensor, others: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return tensor, shape (sample, token, channel).

        Parameters
        ----------
        tokens : tensor, shape (sample, token, channel)
        others : tensor, shape (sample, other, channel)
        mask : bool tensor, shape (token, other), optional
            Which of the others each token sees.
        """
        query, key, value = (
            part.unflatten(-1, (self._heads, -1)).transpose(1, 2)
            for part in (self.query(tokens), *self.key_value(others).chunk(2, dim=-1))
        )
        found = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        attended: Tensor = self.out(found.transpose(1, 2).flatten(2))
        return attended


class Gated(nn.Module):
    """A perceptron whose hidden layer is a product (Shazeer, 2020, arXiv 2002.05202: GEGLU).

    What changes in a frame is the product of its content and of how it moves.
    """

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.hidden, self.out = nn.Linear(width, 2 * hidden), nn.Linear(hidden, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return tensor, shape (sample, token, channel)."""
        values, gate = self.hidden(tokens).chunk(2, dim=-1)
        found: Tensor = self.out(values * functional.gelu(gate))
        return found


class Block(nn.Module):
    """Attention to tokens of frames, attention to what drives the motion, and a perceptron, each with a residual."""

    def __init__(self, width: int, heads: int, feedforward: int, dropout: float, inner: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3))
        self.frames, self.memory = Attention(width, heads, inner), Attention(width, heads, inner)
        self.perceptron = Gated(width, feedforward)
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Tensor, memory: Tensor, mask: Tensor) -> Tensor:
        """Return tensor, shape (sample, token, channel)."""
        normal = self.norms[0](tokens)
        tokens = tokens + self.dropout(self.frames(normal, normal, mask))
        tokens = tokens + self.dropout(self.memory(self.norms[1](tokens), memory))
        found: Tensor = tokens + self.dropout(self.perceptron(self.norms[2](tokens)))
        return found


class FrameTransformer(nn.Module):
    """Predict each frame from the first one, the previous one, and what drives the motion.

    Parameters
    ----------
    inputs : int
        Number of values that drive the motion, e.g. voxels.
    shape : tuple of int
        (frame, channel, y, x).
    patch : int or None
        Side of the square of latents that is a token; None for one token for each frame, as in the released code.
    width, depth, heads, feedforward : int
        Channels of a token, number of blocks, attention heads, and width of their perceptrons.
    inner : int or None
        Channels within attention, shared by the heads; None for `width`.
    memory : int
        Number of tokens of what drives the motion. With one, attention to it would not depend on the frame.
    dropout : float
    first : bool
        Whether the first frame is decoded, too, by a linear layer.
    """

    def __init__(
        self,
        inputs: int,
        shape: tuple[int, int, int, int],
        *,
        patch: int | None,
        width: int,
        depth: int,
        heads: int,
        feedforward: int,
        memory: int,
        dropout: float,
        first: bool,
        inner: int | None = None,
    ) -> None:
        super().__init__()
        frames, _, rows, columns = shape
        self.shape, self._cells = shape, (1, 1) if patch is None else (rows // patch, columns // patch)
        tokens, values = int(np.prod(self._cells)), int(np.prod(self.shape[1:])) // int(np.prod(self._cells))
        self.drive = Tokens(inputs, -(-inputs // memory), width, shared=False)
        self.of_drive = nn.Parameter(0.02 * torch.randn(self.drive.tokens, width))
        # A frame that is one token as wide as its latents is not embedded, as in the released code.
        self.embed = nn.Identity() if patch is None and values == width else nn.Linear(values, width)
        self.place = nn.Parameter(0.02 * torch.randn(tokens, width))
        self.time = nn.Parameter(0.02 * torch.randn(frames - 1, 1, width))
        self.blocks = nn.ModuleList(Block(width, heads, feedforward, dropout, inner or width) for _ in range(depth))
        self.last = nn.LayerNorm(width)
        self.change = nn.Linear(width, values)
        # Without training, frames stay as they are: the network learns what changes.
        nn.init.zeros_(self.change.weight)
        nn.init.zeros_(self.change.bias)
        self.first = nn.Linear(inputs, int(np.prod(self.shape[1:]))) if first else None

    def forward(self, inputs: Tensor, frames: Tensor, sees: Tensor, times: Tensor) -> Tensor:
        """Return the frame after each of some frames.

        Parameters
        ----------
        inputs : tensor, shape (sample, input)
        frames : tensor, shape (sample, frame, channel, y, x)
        sees : bool tensor, shape (frame, frame)
            Which of these frames each frame sees.
        times : int tensor, shape (frame,)
            Their numbers in the video.

        Returns
        -------
        tensor, shape (sample, frame, channel, y, x)
        """
        tokens = self.embed(self._to_patches(frames)) + self.place + self.time[times]
        count, places = tokens.shape[1:3]
        mask = sees.repeat_interleave(places, 0).repeat_interleave(places, 1)
        tokens, memory = tokens.flatten(1, 2), self.drive(inputs) + self.of_drive
        for block in self.blocks:
            tokens = block(tokens, memory, mask)
        changes = self.change(self.last(tokens)).unflatten(1, (count, places))
        return frames + self._from_patches(changes)

    def start(self, inputs: Tensor) -> Tensor:
        """Return the decoded first frame, shape (sample, channel, y, x)."""
        assert self.first is not None, "the first frame is decoded"
        found: Tensor = self.first(inputs).unflatten(1, self.shape[1:])
        return found

    def continued(self, inputs: Tensor, first: Tensor) -> Tensor:
        """Continue a first frame, (sample, channel, y, x), frame by frame: (sample, frame, channel, y, x)."""
        found, device = [first], inputs.device
        sees = torch.tensor([[True, False], [True, True]], device=device)
        for number in range(len(self.time)):
            kept = torch.tensor([0, number] if number else [0], device=device)
            frames = torch.stack([found[int(place)] for place in kept], dim=1)
            found.append(self(inputs, frames, sees[: len(kept), : len(kept)], kept)[:, -1].to(first.dtype))
        return torch.stack(found, dim=1)

    def _to_patches(self, frames: Tensor) -> Tensor:
        """Return the values of each patch, (sample, frame, patch, value)."""
        rows, columns = self._cells
        patches: Any = frames.unflatten(-1, (columns, -1)).unflatten(-3, (rows, -1))
        return patches.permute(0, 1, 3, 5, 2, 4, 6).flatten(4).flatten(2, 3)

    def _from_patches(self, patches: Tensor) -> Tensor:
        """Return frames, (sample, frame, channel, y, x), from the values of their patches."""
        (channels, height, width), (rows, columns) = self.shape[1:], self._cells
        grid = patches.unflatten(2, (rows, columns)).unflatten(-1, (channels, height // rows, width // columns))
        return grid.permute(0, 1, 4, 2, 5, 3, 6).flatten(5, 6).flatten(3, 4)


def seen_frames(frames: int, share: float, device: torch.device) -> Tensor:
    """Return which frames each frame sees when it becomes the next one: bool tensor, shape (frame, frame).

    The first frame and itself, so that frame i comes from frames 0 and i - 1; and each of those between with a
    probability of `share`, drawn anew in every call (Mind-Animator, section 3.2).
    """
    number = torch.arange(frames, device=device)
    between = (number[None] < number[:, None]) & (torch.rand(frames, frames, device=device) < share)
    return between | (number[None] == number[:, None]) | (number[None] == 0)
