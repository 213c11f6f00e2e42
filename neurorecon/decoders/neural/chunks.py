"""Networks that read the voxels in chunks, each of which is a token: GRU, convolutions, transformer.

Voxels have an order (a store sorts them by ROI), but no grid. arXiv 2412.13237 therefore passes the vector of responses
through a bidirectional GRU. What it leaves open (size of the chunks, widths, depth, loss, training) are parameters
here, and their defaults are ours. Convolutions or a transformer can read the same tokens, as the paper asks.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any

from neurorecon.decoders.neural.mlp import MLPDecoder
from neurorecon.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from torch import nn


class ChunkDecoder(MLPDecoder):
    """Base class of decoders that read chunks of voxels as tokens, and decode targets from all of them by a perceptron.

    Parameters
    ----------
    chunk : int
        Number of voxels of a token. Zeros fill up the last one.
    width : int
        Channels of a token.
    depth : int
        Number of layers.
    shared : bool
        Whether all chunks have the same weights before the first layer, as in a sequence, or each its own, as each
        consists of voxels of its own.
    **training
        Parameters of :class:`MLPDecoder`, whose hidden layers read the tokens, and of :class:`NeuralDecoder`.
    """

    def __init__(
        self, chunk: int = 50, *, width: int = 64, depth: int = 1, shared: bool = False, **training: Any
    ) -> None:
        super().__init__(**training)
        self.chunk = chunk
        self.width = width
        self.depth = depth
        self.shared = shared

    def weight_product(self) -> np.ndarray:
        """Refuse: between the linear layers of tokens and of the perceptron are others.

        Raises
        ------
        InputError
            Always.
        """
        raise InputError(
            "this network is no sequence of linear layers, so its weights have no product",
            given=type(self).__name__,
            expected="MLPDecoder, SemanticDecoder or MotionDecoder",
            todo="map its gradients: --kind gradient",
        )

    @abstractmethod
    def build_layers(self, tokens: int) -> nn.Module:
        """Build layers from tokens (sample, token, channel) to tokens of the same shape."""

    def build_hidden(self, n_inputs: int) -> tuple[nn.Module, int]:
        """Build tokens, the layers that read them, and the hidden layers of the perceptron; return their width."""
        from torch import nn

        from neurorecon.decoders.neural.layers import Tokens

        for name in ("chunk", "width", "depth"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be positive", given=getattr(self, name), expected="1 or more")
        embed = Tokens(n_inputs, self.chunk, self.width, shared=self.shared)
        hidden, width = super().build_hidden(embed.tokens * self.width)
        return nn.Sequential(embed, self.build_layers(embed.tokens), nn.Flatten(), hidden), width


class GRUDecoder(ChunkDecoder):
    """Decode targets with a bidirectional GRU over chunks of voxels.

    Parameters
    ----------
    chunk, width, depth, shared, **training
        As in :class:`ChunkDecoder`; `width` is even, half of it for each direction.
    """

    def build_layers(self, tokens: int) -> nn.Module:
        """Build the GRU."""
        from neurorecon.decoders.neural.layers import BidirectionalGRU

        if self.width % 2:
            raise InputError(
                "a bidirectional GRU has as many channels in both directions",
                given=f"width={self.width}",
                expected="an even number",
            )
        return BidirectionalGRU(self.width, self.depth, self.dropout)


class CNNDecoder(ChunkDecoder):
    """Decode targets with convolutions over chunks of voxels.

    Parameters
    ----------
    kernel : int
        Number of neighboring tokens that a convolution sees; odd.
    chunk, width, depth, shared, **training
        As in :class:`ChunkDecoder`.
    """

    def __init__(self, chunk: int = 50, *, kernel: int = 3, **training: Any) -> None:
        super().__init__(chunk, **training)
        self.kernel = kernel

    def build_layers(self, tokens: int) -> nn.Module:
        """Build residual convolutions."""
        from torch import nn

        from neurorecon.decoders.neural.layers import Convolution, Residual

        if self.kernel < 1 or self.kernel % 2 == 0:
            raise InputError("a convolution has a token in its middle", given=f"kernel={self.kernel}", expected="odd")
        return nn.Sequential(*(Residual(Convolution(self.width, self.kernel, self.dropout)) for _ in range(self.depth)))


class TransformerDecoder(ChunkDecoder):
    """Decode targets with a transformer over chunks of voxels.

    Parameters
    ----------
    heads : int
        Number of attention heads, a divisor of `width`.
    chunk, width, depth, shared, **training
        As in :class:`ChunkDecoder`.
    """

    def __init__(self, chunk: int = 50, *, heads: int = 4, **training: Any) -> None:
        super().__init__(chunk, **training)
        self.heads = heads

    def build_layers(self, tokens: int) -> nn.Module:
        """Build positions and transformer layers, with normalization first."""
        from torch import nn

        from neurorecon.decoders.neural.layers import Positions

        if self.heads < 1 or self.width % self.heads:
            raise InputError(
                "attention heads share the channels of a token",
                given=f"heads={self.heads}, width={self.width}",
                expected="a divisor of the width",
            )
        layer = nn.TransformerEncoderLayer(
            self.width, self.heads, 2 * self.width, self.dropout, "gelu", batch_first=True, norm_first=True
        )
        layers = nn.TransformerEncoder(layer, self.depth, nn.LayerNorm(self.width), enable_nested_tensor=False)
        return nn.Sequential(Positions(tokens, self.width), layers)
