"""The decoders of Mind-Animator: semantics by contrast with text and video, and motion frame by frame.

Lu, Du, Wang, Wang, Zhu & He (2024), Animate your thoughts (Mind-Animator), arXiv 2405.03280. Its third decoder, that of
structure, is a perceptron: :class:`~neurorecon.decoders.MLPDecoder`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils.validation import check_is_fitted

from neurorecon.decoders.neural.base import NeuralDecoder
from neurorecon.decoders.neural.mlp import MLPDecoder
from neurorecon.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor, nn


class SemanticDecoder(MLPDecoder):
    """Decode the text condition through an embedding that is aligned with those of text and video.

    The loss of three modalities is that of Mind-Animator: ``align`` InfoNCE(f, text) + (1 - ``align``) InfoNCE(f,
    video) + MSE(f, text) + MSE(condition), with the embedding f of the responses.

    Parameters
    ----------
    head : sequence of int
        Widths of the layers between the embedding and the condition.
    align : float
        From 0 (video) to 1 (text).
    contrast : float
        Weight of both InfoNCE together.
    hidden, **training
        As in :class:`MLPDecoder`. `input_dropout` is the augmentation: voxels at random are 0 in a copy of the batch.

    Examples
    --------
    >>> import numpy as np
    >>> from neurorecon.decoders import SemanticDecoder
    >>> generator = np.random.default_rng(0)
    >>> X = generator.standard_normal((60, 10))
    >>> y = {"condition": X[:, :6].reshape(60, 2, 3), "text": X[:, :4], "video": X[:, 4:8]}
    >>> decoder = SemanticDecoder(hidden=(16,), head=(16,), max_epochs=2).fit(X, y)
    >>> decoder.predict(X)["condition"].shape
    (60, 2, 3)
    """

    def __init__(
        self,
        hidden: Sequence[int] = (512, 512, 512, 512),
        *,
        head: Sequence[int] = (2048, 4096),
        align: float = 0.5,
        contrast: float = 1.0,
        **training: Any,
    ) -> None:
        super().__init__(hidden, **training)
        self.head = head
        self.align = align
        self.contrast = contrast

    def fit(
        self,
        X: ArrayLike,
        y: Any = None,
        groups: ArrayLike | None = None,
        *,
        validation: ArrayLike | None = None,
        checkpoint: str | Path | None = None,
    ) -> NeuralDecoder:
        """Train the network.

        Parameters
        ----------
        X : array, shape (sample, voxel)
        y : dict of str to array
            Three targets in this order: the text condition, shape (sample, ...); the embedding of the text and that of
            the video, shape (sample, feature), in the same space.
        groups, validation, checkpoint
            As for :meth:`NeuralDecoder.fit`.
        """
        shapes = {name: np.shape(target) for name, target in y.items()} if isinstance(y, Mapping) else {}
        sizes = [shape[1:] for shape in list(shapes.values())[1:]]
        if len(shapes) != 3 or sizes[0] != sizes[1] or len(sizes[0]) != 1:
            raise InputError(
                "the semantic decoder needs a condition and the embeddings of text and video",
                given=", ".join(f"{name} {shape}" for name, shape in shapes.items()) or f"y of type {type(y).__name__}",
                expected="a dict of three: (sample, ...), and twice (sample, feature) with as many features",
                todo="compute both embeddings with the same CLIP",
            )
        if not 0 <= self.align <= 1 or self.contrast < 0:
            raise InputError(
                "a weight of the contrastive loss is out of range",
                given=f"align={self.align!r}, contrast={self.contrast!r}",
                expected="align from 0 to 1, contrast 0 or more",
            )
        return super().fit(X, y, groups, validation=validation, checkpoint=checkpoint)

    def build_network(self, input_shape: tuple[int, ...], target_shape: Any) -> nn.Module:
        """Build the embedding of responses, and the layers that turn it into the condition."""
        from torch import nn

        from neurorecon.decoders.neural.layers import Heads, perceptron

        (condition, shape), (_, embedding), _ = target_shape.items()
        hidden, width = self.build_hidden(int(np.prod(input_shape)))
        features, sizes = int(embedding[0]), [int(size) for size in self.head]
        embed = nn.Sequential(nn.Flatten(), nn.Dropout(self.input_dropout), hidden, nn.Linear(width, features))
        layers = perceptron(features, sizes, activation=self.activation, normalize=self.normalize, residual=False)
        last = Heads(sizes[-1] if sizes else features, {condition: shape})
        return nn.ModuleDict({"embed": embed, "condition": nn.Sequential(layers, last)})

    def forward(self, network: Any, inputs: Tensor, targets: Any) -> dict[str, Tensor]:
        """Return the condition under its name, and the embedding as ``"f"``."""
        found = network["embed"](inputs)
        return {**network["condition"](found), "f": found}

    def compute_loss(self, outputs: Any, targets: Any) -> Tensor:
        """Return the loss of three modalities."""
        from neurorecon.decoders.neural.layers import info_nce, mse

        (condition, wanted), (_, text), (_, video) = targets.items()
        f = outputs["f"]
        contrast = self.align * info_nce(f, text, self.temperature)
        contrast = contrast + (1 - self.align) * info_nce(f, video, self.temperature)
        return self.contrast * contrast + mse(f, text) + mse(outputs[condition], wanted)

    def validation_score(self, outputs: Any, targets: Any) -> Tensor:
        """Return the negative error of the condition, which is what is decoded."""
        from neurorecon.decoders.neural.layers import mse

        condition, wanted = next(iter(targets.items()))
        return -mse(outputs[condition], wanted)

    def to_predictions(self, outputs: Any) -> dict[str, Tensor]:
        """Return the condition."""
        return {name: values for name, values in outputs.items() if name != "f"}


class MotionDecoder(NeuralDecoder):
    """Decode the latents of all frames of a video: the consistency motion generator of Mind-Animator.

    A transformer predicts each frame from the first and the previous one and from several tokens of the inputs, by
    cross-attention. In training, frames see a random part of the earlier frames, too, drawn anew for each batch.

    Parameters
    ----------
    first : {"decode", "given"}
        Decode the first frame from the inputs by a linear layer; or take it from the inputs, whose last values are its
        latents, as they are. Then inputs are not standardized.
    patch : int or None
        Side of the square of latents that is a token. None: a frame is one token, as in the released code.
    width, depth, heads, feedforward : int
        Channels of a token, number of blocks, attention heads, and width of the perceptrons of blocks.
    inner : int or None
        Channels within attention, shared by the heads; None for `width`. 1,024 in the released code, whose tokens are
        16 times as wide.
    memory : int
        Number of tokens that the inputs are cut into.
    share : float
        Probability with which a frame sees an earlier one in training, beside the first and the previous frame.
    jitter : float
        Standard deviation of noise that is added to the frames that others are predicted from in training, because
        predicted frames are not exact.
    dropout : float
    **training
        Parameters of :class:`NeuralDecoder`. By default targets are not standardized: latents have unit scale, and the
        same value means the same in all frames.

    Examples
    --------
    >>> import numpy as np
    >>> from neurorecon.decoders import MotionDecoder
    >>> generator = np.random.default_rng(0)
    >>> X, y = generator.standard_normal((20, 10)), generator.standard_normal((20, 3, 2, 4, 4))
    >>> decoder = MotionDecoder(patch=2, width=8, depth=1, heads=2, memory=2, max_epochs=1).fit(X, y)
    >>> decoder.predict(X).shape
    (20, 3, 2, 4, 4)
    """

    def __init__(
        self,
        *,
        first: Literal["decode", "given"] = "decode",
        patch: int | None = 2,
        width: int = 512,
        depth: int = 4,
        heads: int = 8,
        feedforward: int = 1024,
        memory: int = 16,
        share: float = 0.5,
        jitter: float = 0.0,
        dropout: float = 0.1,
        inner: int | None = None,
        standardize_inputs: bool = True,
        standardize_targets: bool = False,
        **training: Any,
    ) -> None:
        super().__init__(standardize_inputs=standardize_inputs, standardize_targets=standardize_targets, **training)
        self.first = first
        self.patch = patch
        self.width = width
        self.depth = depth
        self.heads = heads
        self.feedforward = feedforward
        self.memory = memory
        self.share = share
        self.jitter = jitter
        self.dropout = dropout
        self.inner = inner

    def build_network(self, input_shape: tuple[int, ...], target_shape: Any) -> nn.Module:
        """Build the transformer."""
        from neurorecon.decoders.neural.frames import FrameTransformer

        shape, given = tuple(target_shape), self.first == "given"
        if len(shape) != 4 or shape[0] < 2 or any(side % (self.patch or 1) for side in shape[2:]):
            raise InputError(
                "these targets are no latents of frames that can be cut into patches",
                given=f"shape (sample, {', '.join(map(str, shape))}), patch={self.patch!r}",
                expected="(sample, frame, channel, y, x), two frames or more, sides that are multiples of the patch",
                todo="decode vqvae_frames, or choose another patch",
            )
        inputs = int(np.prod(input_shape)) - (int(np.prod(shape[1:])) if given else 0)
        for name in ("patch", "width", "depth", "heads", "feedforward", "memory", "inner"):
            value = getattr(self, name)
            if not (name in ("patch", "inner") and value is None) and (int(value) != value or value < 1):
                raise InputError(f"{name} must be a positive integer", given=repr(value), expected="1 or more")
        wrong = [
            f"{name}={getattr(self, name)!r}"
            for name, fits in (
                ("first", self.first in ("decode", "given")),
                ("heads", (self.inner or self.width) % self.heads == 0),
                ("memory", self.memory <= inputs),
                ("share", 0 <= self.share <= 1),
                ("jitter", self.jitter >= 0),
                ("dropout", 0 <= self.dropout < 1),
                ("standardize_inputs", not (given and self.standardize_inputs)),
                ("standardize_targets", not (given and self.standardize_targets)),
            )
            if not fits
        ]
        if wrong:
            raise InputError(
                "a parameter of the motion decoder is out of range",
                given=", ".join(wrong),
                expected="first 'decode' or 'given', the latter without standardization; heads that divide the width "
                "(within attention); "
                f"at most {inputs} tokens of inputs; shares from 0 to 1",
            )
        return FrameTransformer(
            inputs, shape, patch=self.patch, width=self.width, depth=self.depth, heads=self.heads,
            feedforward=self.feedforward, memory=self.memory, dropout=self.dropout, first=not given,
            inner=self.inner,
        )  # fmt: skip

    def weight_product(self) -> np.ndarray:
        """Return the mean over channels of the weights by which inputs enter their token, shape (input,).

        Mind-Animator's code maps the encoder of responses, and not the transformer that attends to it.
        """
        check_is_fitted(self)
        drive: Any = self.network_.drive
        product: np.ndarray = drive.weight.detach().mean(dim=-1).flatten()[: drive.voxels].cpu().numpy()
        return product

    def forward(self, network: Any, inputs: Tensor, targets: Any) -> Tensor:
        """Return the frames: each from the true one before it in training, else from the predicted one."""
        import torch

        from neurorecon.decoders.neural.frames import seen_frames

        inputs = inputs.flatten(1)
        if self.first == "given":
            _, *shape = network.shape
            drive, start = inputs.split([inputs.shape[1] - int(np.prod(shape)), int(np.prod(shape))], dim=1)
            start = start.unflatten(1, shape)
        else:
            drive, start = inputs, network.start(inputs)
        if targets is None:
            found: Tensor = network.continued(drive, start)
            return found
        before = targets[:, :-1]
        before = before + self.jitter * torch.randn_like(before) if self.jitter else before
        sees = seen_frames(before.shape[1], self.share, before.device)
        times = torch.arange(before.shape[1], device=before.device)
        return torch.cat([start[:, None], network(drive, before, sees, times)], dim=1)
