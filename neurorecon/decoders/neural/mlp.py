"""Multilayer perceptron decoder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils.validation import check_is_fitted

from neurorecon.decoders.neural.base import NeuralDecoder, sum_over_targets
from neurorecon.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor, nn


class MLPDecoder(NeuralDecoder):
    """Decode targets from responses with a multilayer perceptron.

    Parameters
    ----------
    hidden : sequence of int
        Widths of the hidden layers. An empty sequence is linear regression.
    activation : {"gelu", "relu", "silu", "tanh"}
        Activation function of the hidden layers.
    normalize : bool
        Whether to apply layer normalization to hidden layers.
    residual : bool
        Whether to add a residual connection around hidden layers with equal input and output widths.
    dropout : float
        Dropout probability of hidden layers.
    input_dropout : float
        Dropout probability of voxels.
    loss : str or dict of str to float
        ``"mse"``, ``"mae"``, ``"cosine"``, ``"info_nce"``, ``"soft_clip"``, or a weight for each of several losses; see
        :mod:`neurorecon.decoders.neural.layers`. It is summed over several targets.
    loss_per : str, optional
        Parts of the target that count alike in the loss, however many values they have: ``"group"`` for ``vdvae``,
        ``"layer"`` for ``clip_layers``, as for `alpha_per` of :class:`~neurorecon.decoders.RidgeDecoder`. By default,
        all values count alike.
    temperature : float
        Temperature of the contrastive losses.
    **training
        Parameters of :class:`NeuralDecoder`, e.g. epochs, batches, optimizer, schedule, validation and device.

    Attributes
    ----------
    weights_, history_, best_epoch_, ...
        Those of :class:`NeuralDecoder`.

    Examples
    --------
    >>> import numpy as np
    >>> from neurorecon.decoders import MLPDecoder
    >>> generator = np.random.default_rng(0)
    >>> X = generator.standard_normal((200, 10))
    >>> y = np.maximum(X[:, :3], 0)
    >>> decoder = MLPDecoder(hidden=(32,), max_epochs=40, learning_rate=0.01).fit(X[:150], y[:150])
    >>> decoder.predict(X[150:]).shape
    (50, 3)
    """

    _weights: np.ndarray | None = None

    def __init__(
        self,
        hidden: Sequence[int] = (1024,),
        *,
        activation: Literal["gelu", "relu", "silu", "tanh"] = "gelu",
        normalize: bool = True,
        residual: bool = True,
        dropout: float = 0.0,
        input_dropout: float = 0.0,
        loss: str | Mapping[str, float] = "mse",
        loss_per: str | None = None,
        temperature: float = 0.07,
        **training: Any,
    ) -> None:
        super().__init__(**training)
        self.hidden = hidden
        self.activation = activation
        self.normalize = normalize
        self.residual = residual
        self.dropout = dropout
        self.input_dropout = input_dropout
        self.loss = loss
        self.loss_per = loss_per
        self.temperature = temperature

    def fit(
        self,
        X: ArrayLike,
        y: Any = None,
        groups: ArrayLike | None = None,
        *,
        validation: ArrayLike | None = None,
        checkpoint: str | Path | None = None,
    ) -> NeuralDecoder:
        """Train the network; parameters are those of :meth:`NeuralDecoder.fit`."""
        self._weights = None if self.loss_per is None else weights_of_parts(y, self.loss_per)
        return super().fit(X, y, groups, validation=validation, checkpoint=checkpoint)

    def build_network(self, input_shape: tuple[int, ...], target_shape: Any) -> nn.Module:
        """Build the perceptron; inputs with several axes are flattened."""
        from torch import nn

        from neurorecon.decoders.neural.layers import Heads, weights_of_losses

        weights_of_losses(self.loss)
        if any(width < 1 for width in self.hidden):
            raise InputError(
                "widths of hidden layers must be positive", given=f"hidden={self.hidden!r}", expected="1 or more"
            )
        for name in ("dropout", "input_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise InputError(
                    f"{name} must be a probability", given=getattr(self, name), expected="0 or more, and below 1"
                )
        hidden, width = self.build_hidden(int(np.prod(input_shape)))
        return nn.Sequential(nn.Flatten(), nn.Dropout(self.input_dropout), hidden, Heads(width, target_shape))

    def build_hidden(self, n_inputs: int) -> tuple[nn.Module, int]:
        """Build the hidden layers, from (sample, input) to (sample, channel), and return their number of channels."""
        from neurorecon.decoders.neural.layers import perceptron

        widths = [int(width) for width in self.hidden]
        layers = perceptron(
            n_inputs,
            widths,
            activation=self.activation,
            normalize=self.normalize,
            dropout=self.dropout,
            residual=self.residual,
        )
        return layers, widths[-1] if widths else n_inputs

    def weight_product(self) -> np.ndarray:
        """Return the mean over predicted values of the product of the weights of all linear layers, (input,).

        Normalization, activation and residual connections are left out, so this is not how predictions change with the
        inputs, which :meth:`gradients` returns. Mind-Animator's code maps it (Lu et al., 2024, arXiv 2405.03280).
        """
        import torch
        from torch import nn

        from neurorecon.decoders.neural.layers import Heads

        check_is_fitted(self)
        (heads,) = (layer for layer in self.network_.modules() if isinstance(layer, Heads))
        last = [layer for layer in heads.layers if isinstance(layer, nn.Linear)]
        with torch.no_grad():
            found = torch.cat([layer.weight for layer in last]).mean(dim=0)
            for layer in reversed(list(self.network_.modules())):
                if isinstance(layer, nn.Linear) and layer not in last:
                    found = found @ layer.weight
        product: np.ndarray = found.cpu().numpy()
        return product

    def compute_loss(self, outputs: Any, targets: Any) -> Tensor:
        """Return the weighted sum of the losses, summed over targets."""
        from neurorecon.decoders.neural.layers import weighted_loss

        def loss(values: Tensor, measured: Tensor) -> Tensor:
            if self._weights is not None:
                roots = values.new_tensor(np.sqrt(self._weights))
                values, measured = values.flatten(1) * roots, measured.flatten(1) * roots
            return weighted_loss(values, measured, self.loss, self.temperature)

        found: Tensor = sum_over_targets(loss, outputs, targets)
        return found


def weights_of_parts(y: Any, part: str) -> np.ndarray:
    """Return weights of the values of a target with which its parts count alike, (value,), of mean 1.

    Parameters
    ----------
    y : DataArray, dims (sample, ...)
        With an attribute such as ``group_boundaries``.
    part : str
        Name of the parts, e.g. ``"group"``.

    Raises
    ------
    InputError
        If the target has no such parts.
    """
    boundaries = getattr(y, "attrs", {}).get(f"{part}_boundaries")
    if boundaries is None or boundaries[-1] != np.prod(y.shape[1:]):
        raise InputError(
            "the target does not consist of parts that could count alike",
            given=f"loss_per={part!r}, and a target without {part}_boundaries",
            expected="an xarray target such as vdvae, from store.targets",
            todo="set loss_per=None",
        )
    sizes = np.diff(boundaries)
    return np.repeat(sizes.sum() / len(sizes) / sizes, sizes)
