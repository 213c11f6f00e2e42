"""TAEF2, a small and quick autoencoder of photographs: 32 x 1/8 x 1/8 latents, 2.7 million parameters.

It was distilled from the autoencoder of FLUX.2 (https://github.com/madebyollin/taesd, MIT). Its three deepest blocks on
either side see the whole picture through a group norm, a branch that diffusers' ``AutoencoderTiny`` lacks.
"""

from __future__ import annotations

from functools import wraps
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_tiny import AutoencoderTiny
from diffusers.models.autoencoders.vae import AutoencoderTinyBlock
from torch import Tensor, nn

#: Groups of the norm, and channels of the branch for each channel of its block.
_GROUPS, _WIDER = 4, 4


class PooledBlock(AutoencoderTinyBlock):
    """A residual block of ``AutoencoderTiny`` behind a branch with a group norm.

    The norm divides by the standard deviation over the whole picture, so each pixel learns how strong a feature is
    elsewhere.

    Parameters
    ----------
    channels : int
        Channels in and out.
    activation : str
        Name of the activation in the block itself.
    """

    def __init__(self, channels: int, activation: str = "relu") -> None:
        super().__init__(channels, channels, activation)
        wide = _WIDER * channels
        self.pool = nn.Sequential(
            nn.Conv2d(channels, wide, kernel_size=1, bias=False),
            nn.GroupNorm(_GROUPS, wide),
            nn.ReLU(),
            nn.Conv2d(wide, channels, kernel_size=1, bias=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return features of the same shape, (batch, channel, y, x)."""
        out: Tensor = super().forward(x + self.pool(x))
        return out


class AutoencoderTinyF2(AutoencoderTiny):
    """diffusers' ``AutoencoderTiny`` with pooled blocks at the smallest size of encoder and decoder.

    Takes the parameters of ``AutoencoderTiny``, and is read and written like it::

        network = AutoencoderTinyF2.from_pretrained("taef2", torch_dtype=torch.float32)
        latents = network.encode(pictures).latents  # pictures from -1 to 1
        pictures = network.decode(latents).sample
    """

    # diffusers reads the names of the parameters from the signature.
    @wraps(AutoencoderTiny.__init__)  # type: ignore[misc]
    def __init__(self, *args: Any, **options: Any) -> None:
        AutoencoderTiny.__init__(self, *args, **options)
        activation = self.config["act_fn"]
        _pool_the_blocks(self.encoder.layers, self.config["num_encoder_blocks"][-1], activation, last=True)
        _pool_the_blocks(self.decoder.layers, self.config["num_decoder_blocks"][0], activation, last=False)


def _pool_the_blocks(layers: nn.Sequential, number: int, activation: str, *, last: bool) -> None:
    """Put pooled blocks in the places of the first or the last `number` blocks."""
    places = [place for place, layer in enumerate(layers) if isinstance(layer, AutoencoderTinyBlock)]
    for place in places[-number:] if last else places[:number]:
        first = next(layer for layer in layers[place].modules() if isinstance(layer, nn.Conv2d))
        with torch.device(first.weight.device):
            layers[place] = PooledBlock(first.in_channels, activation)
