"""Layers and losses of torch decoders. Importing this module imports torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from neurorecon.errors import InputError, UnknownNameError

ACTIVATIONS = {"gelu": nn.GELU, "relu": nn.ReLU, "silu": nn.SiLU, "tanh": nn.Tanh}


class Residual(nn.Module):
    """Residual connection: the input plus the output of a block."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block

    def forward(self, values: Tensor) -> Tensor:
        """Return tensor, shape (sample, width)."""
        return values + self.block(values)


class Heads(nn.Module):
    """Output layers: a linear layer for each target, reshaped to the target.

    Parameters
    ----------
    width : int
        Width of the input.
    target_shape : tuple of int, or dict of str to tuple
        Shape of one target, or of several by name.
    """

    def __init__(self, width: int, target_shape: Any) -> None:
        super().__init__()
        several = isinstance(target_shape, Mapping)
        self._names = list(target_shape) if several else None
        self._shapes = [tuple(shape) for shape in target_shape.values()] if several else [tuple(target_shape)]
        # Not a ModuleDict, as names of targets may contain dots.
        self.layers = nn.ModuleList(nn.Linear(width, int(np.prod(shape))) for shape in self._shapes)

    def forward(self, values: Tensor) -> Tensor | dict[str, Tensor]:
        """Return tensor, shape (sample, ...), or several by name."""
        pairs = zip(self.layers, self._shapes, strict=True)
        found = [layer(values).reshape(len(values), *shape) for layer, shape in pairs]
        return found[0] if self._names is None else dict(zip(self._names, found, strict=True))


class SubjectInputs(nn.Module):
    """A linear layer for each subject, from its voxels to latents that all share.

    Parameters
    ----------
    voxels : sequence of int
        Of each subject.
    width : int
        Number of latents.
    dropout : float
        Dropout probability of voxels.
    """

    def __init__(self, voxels: Sequence[int], width: int, dropout: float = 0.0) -> None:
        super().__init__()
        self._width = width
        self.layers = nn.ModuleList(nn.Linear(size, width) for size in voxels)
        self.dropout = nn.Dropout(dropout)

    def forward(self, values: Tensor) -> Tensor:
        """Return latents, (sample, latent), of voxels and then the number of the subject, (sample, voxel + 1)."""
        subjects, values = values[:, -1].round().long(), self.dropout(values[:, :-1])
        found: Tensor | None = None
        for number in subjects.unique().tolist():
            layer, rows = self.layers[number], subjects == number
            latents = layer(values[rows, : layer.in_features])
            if found is None:
                found = latents.new_empty(len(values), self._width)
            found[rows] = latents
        assert found is not None, "a batch has samples"
        return found


class Tokens(nn.Module):
    """Cut voxels into chunks, and embed each chunk as a token.

    Parameters
    ----------
    voxels : int
        Number of voxels.
    chunk : int
        Voxels of a token; zeros fill up the last one.
    width : int
        Channels of a token.
    shared : bool
        Whether all chunks have the same weights.
    """

    def __init__(self, voxels: int, chunk: int, width: int, *, shared: bool) -> None:
        super().__init__()
        self.voxels, self.tokens, self._chunk = voxels, -(-voxels // chunk), chunk
        self._missing = self.tokens * chunk - voxels
        # As in nn.Linear: uniform, with the variance 1 / (3 inputs).
        shape = (1 if shared else self.tokens, chunk, width)
        self.weight = nn.Parameter((2 * torch.rand(shape) - 1) / chunk**0.5)
        self.bias = nn.Parameter((2 * torch.rand(width) - 1) / chunk**0.5)

    def forward(self, values: Tensor) -> Tensor:
        """Return tokens, shape (sample, token, channel), of voxels, shape (sample, voxel)."""
        chunks = functional.pad(values, (0, self._missing)).unflatten(1, (self.tokens, self._chunk))
        return torch.einsum("stv,tvc->stc", chunks, self.weight.expand(self.tokens, -1, -1)) + self.bias


class BidirectionalGRU(nn.Module):
    """GRU over tokens in both directions, half of the channels for each (Cho et al., 2014. arXiv:1406.1078)."""

    def __init__(self, width: int, depth: int, dropout: float) -> None:
        super().__init__()
        between = dropout if depth > 1 else 0.0
        self.gru = nn.GRU(width, width // 2, depth, batch_first=True, dropout=between, bidirectional=True)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the states, shape (sample, token, channel)."""
        states: Tensor = self.gru(tokens)[0]
        return states


class Convolution(nn.Module):
    """Normalization, activation and convolution over neighboring tokens."""

    def __init__(self, width: int, kernel: int, dropout: float) -> None:
        super().__init__()
        self.norm, self.dropout = nn.LayerNorm(width), nn.Dropout(dropout)
        self.convolution = nn.Conv1d(width, width, kernel, padding=kernel // 2)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return tensor, shape (sample, token, channel)."""
        active = functional.gelu(self.norm(tokens)).transpose(1, 2)
        return self.dropout(self.convolution(active).transpose(1, 2))


class Positions(nn.Module):
    """Add a learned vector to each token."""

    def __init__(self, tokens: int, width: int) -> None:
        super().__init__()
        self.positions = nn.Parameter(0.02 * torch.randn(tokens, width))

    def forward(self, tokens: Tensor) -> Tensor:
        """Return tensor, shape (sample, token, channel)."""
        return tokens + self.positions


def perceptron(
    width: int,
    hidden: Sequence[int],
    *,
    activation: str = "gelu",
    normalize: bool = True,
    dropout: float = 0.0,
    residual: bool = True,
) -> nn.Sequential:
    """Return hidden layers, each of which is linear, normalization, activation and dropout.

    Parameters
    ----------
    width : int
        Width of the input.
    hidden : sequence of int
        Width of each layer.
    activation : {"gelu", "relu", "silu", "tanh"}
        Activation function.
    normalize : bool
        Whether to apply layer normalization (Ba, Kiros & Hinton, 2016. arXiv:1607.06450).
    dropout : float
        Dropout probability.
    residual : bool
        Whether to add a residual connection around layers with equal input and output widths.
    """
    if activation not in ACTIVATIONS:
        raise UnknownNameError("activation", activation, ACTIVATIONS)
    layers: list[nn.Module] = []
    for size in hidden:
        parts: list[nn.Module] = [nn.Linear(width, size)]
        parts += [nn.LayerNorm(size)] if normalize else []
        parts += [ACTIVATIONS[activation]()]
        parts += [nn.Dropout(dropout)] if dropout else []
        block = nn.Sequential(*parts)
        layers.append(Residual(block) if residual and layers and size == width else block)
        width = size
    return nn.Sequential(*layers)


#: Temperature of contrastive losses: the initial value in the training of CLIP (Radford et al., 2021).
TEMPERATURE = 0.07


def mse(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the mean squared error over samples and values."""
    return functional.mse_loss(outputs, targets)


def mae(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the mean absolute error over samples and values."""
    return functional.l1_loss(outputs, targets)


def cosine(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return 1 minus the cosine similarity of outputs and targets, averaged over samples."""
    return (1 - functional.cosine_similarity(_vectors(outputs), _vectors(targets))).mean()


def info_nce(outputs: Tensor, targets: Tensor, temperature: float = TEMPERATURE) -> Tensor:
    """Return the contrastive loss, which identifies each sample among those of its batch, in both directions.

    Repeats of a stimulus in a batch count as different samples. :func:`soft_clip` accounts for their similarity.

    Parameters
    ----------
    outputs, targets : tensor, shape (sample, ...)
        Of the same shape; only directions count, not lengths.
    temperature : float
        What cosines are divided by.

    References
    ----------
    van den Oord, Li & Vinyals (2018). Representation learning with contrastive predictive coding.
    arXiv:1807.03748. In both directions: Radford et al. (2021). Learning transferable visual models from
    natural language supervision. ICML.
    """
    logits = _cosines(outputs, targets) / temperature
    own = torch.arange(len(logits), device=logits.device)
    return (functional.cross_entropy(logits, own) + functional.cross_entropy(logits.T, own)) / 2


def soft_clip(outputs: Tensor, targets: Tensor, temperature: float = TEMPERATURE) -> Tensor:
    """Return the contrastive loss with soft labels given by the similarity of the targets.

    Parameters
    ----------
    outputs, targets : tensor, shape (sample, ...)
        Of the same shape; only directions count, not lengths.
    temperature : float
        What cosines are divided by.

    References
    ----------
    Scotti et al. (2023). Reconstructing the mind's eye: fMRI-to-image with contrastive learning and diffusion
    priors. NeurIPS. Equation 2.
    """
    wanted = (_cosines(targets, targets) / temperature).softmax(dim=1)
    logits = _cosines(outputs, targets) / temperature
    return (functional.cross_entropy(logits, wanted) + functional.cross_entropy(logits.T, wanted)) / 2


LOSSES = {"mse": mse, "mae": mae, "cosine": cosine, "info_nce": info_nce, "soft_clip": soft_clip}

_CONTRASTIVE = ("info_nce", "soft_clip")


def weights_of_losses(loss: str | Mapping[str, float]) -> dict[str, float]:
    """Return the weights of losses by name.

    Parameters
    ----------
    loss : str or dict of str to float
        A name, or names with weights.

    Raises
    ------
    UnknownNameError
        If a loss does not exist.
    InputError
        If a weight is negative, or all are zero.
    """
    weights = {loss: 1.0} if isinstance(loss, str) else dict(loss)
    for name in weights:
        if name not in LOSSES:
            raise UnknownNameError("loss", name, LOSSES)
    if not all(weight >= 0 for weight in weights.values()) or not any(weights.values()):
        raise InputError("weights of losses must be non-negative, and not all 0", given=repr(loss))
    return weights


def weighted_loss(
    outputs: Tensor, targets: Tensor, loss: str | Mapping[str, float] = "mse", temperature: float = TEMPERATURE
) -> Tensor:
    """Return the weighted sum of named losses.

    Parameters
    ----------
    outputs, targets : tensor, shape (sample, ...)
        Outputs of the network, and targets.
    loss : str or dict of str to float
        One of ``"mse"``, ``"mae"``, ``"cosine"``, ``"info_nce"``, ``"soft_clip"``, or several with weights.
    temperature : float
        Temperature of the contrastive losses.
    """
    total = outputs.new_zeros(())
    for name, weight in weights_of_losses(loss).items():
        settings = {"temperature": temperature} if name in _CONTRASTIVE else {}
        total = total + weight * LOSSES[name](outputs, targets, **settings)
    return total


def _vectors(values: Tensor) -> Tensor:
    return values.reshape(len(values), -1)


def _cosines(one: Tensor, other: Tensor) -> Tensor:
    return functional.normalize(_vectors(one)) @ functional.normalize(_vectors(other)).T
