"""A tiny VDVAE and noise to teach it with."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from neurorecon.models.vdvae import VDVAE
from neurorecon.models.vdvae_config import SMALL

TINY = replace(
    SMALL,
    image_size=32,
    width=8,
    z_dim=4,
    bottleneck_multiple=0.5,
    encoder_blocks="32d2,16x1,16d2,8x1,8d8,1x1",
    decoder_blocks="1x1,8m1,16m8,16x1,32m16",
    custom_widths="16:12,8:16,1:16",
)


@pytest.fixture
def shipped():
    torch.manual_seed(1)
    network = VDVAE(TINY)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return network.eval()


@pytest.fixture
def pixels():
    return np.random.default_rng(0).integers(0, 256, (24, 32, 32, 3), dtype=np.uint8)
