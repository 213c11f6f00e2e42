"""Layers of neural decoders. Imported late, as they need torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor, nn

from neurorecon.errors import UnknownNameError

ACTIVATIONS = {"gelu": nn.GELU, "relu": nn.ReLU, "silu": nn.SiLU, "tanh": nn.Tanh}


class Residual(nn.Module):
    """Adds what a block makes of its input to the input."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block

    def forward(self, values: Tensor) -> Tensor:
        """Return tensor, shape (sample, width)."""
        return values + self.block(values)


class Heads(nn.Module):
    """One linear layer for each target, each in the shape of its target.

    Parameters
    ----------
    width : int
        Of what comes in.
    target_shape : tuple of int, or dict of str to tuple
        Shape of one target, or of several by name.
    """

    def __init__(self, width: int, target_shape: Any) -> None:
        super().__init__()
        several = isinstance(target_shape, Mapping)
        self._names = list(target_shape) if several else None
        self._shapes = [tuple(shape) for shape in target_shape.values()] if several else [tuple(target_shape)]
        # A list: names of targets may hold dots, which names of layers may not.
        self.layers = nn.ModuleList(nn.Linear(width, int(np.prod(shape))) for shape in self._shapes)

    def forward(self, values: Tensor) -> Tensor | dict[str, Tensor]:
        """Return tensor, shape (sample, ...), or several by name."""
        pairs = zip(self.layers, self._shapes, strict=True)
        found = [layer(values).reshape(len(values), *shape) for layer, shape in pairs]
        return found[0] if self._names is None else dict(zip(self._names, found, strict=True))


def perceptron(
    width: int,
    hidden: Sequence[int],
    *,
    activation: str = "gelu",
    normalize: bool = True,
    dropout: float = 0.0,
    residual: bool = True,
) -> nn.Sequential:
    """Return hidden layers: each linear, normalized, bent, dropped out.

    Parameters
    ----------
    width : int
        Of what comes in.
    hidden : sequence of int
        Width of each layer.
    activation : {"gelu", "relu", "silu", "tanh"}
        What bends.
    normalize : bool
        Whether layers are normalized (Ba, Kiros & Hinton, 2016. arXiv:1607.06450).
    dropout : float
        Share of values that are dropped in training.
    residual : bool
        Whether a layer as wide as the one before adds to it.
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
