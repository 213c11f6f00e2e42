"""Training of the networks that see and describe scenes: the autoencoder and CLIP.

The autoencoder is diffusers' ``AutoencoderKL`` at a quarter of the resolution, in the role of Stable Diffusion's. CLIP
is open_clip's model with small towers.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from neurorecon.models.clip import WordTokenizer
from neurorecon.simulation.training.loop import Loss, Plan

# -- autoencoder --------------------------------------------------------------------------------------------------

AUTOENCODER_PLAN = Plan(
    "autoencoder", steps=12_000, batch=4, learning_rate=1.5e-3, weight_decay=1e-4, warmup=100, average=0.998
)

AUTOENCODER_CONFIG: dict[str, Any] = {
    "in_channels": 3,
    "out_channels": 3,
    "down_block_types": ["DownEncoderBlock2D"] * 3,
    "up_block_types": ["UpDecoderBlock2D"] * 3,
    "block_out_channels": [16, 32, 80],
    "layers_per_block": 1,
    "latent_channels": 6,
    "norm_num_groups": 8,
    "sample_size": 64,
    "mid_block_add_attention": False,
}

#: Weight of the Kullback-Leibler divergence of each latent value, just enough to keep the latents near unit scale.
_DIVERGENCE = 1e-6

#: Weight of errors in the opponent colors, which are smaller than those in luminance and would be learned last.
_HUE = 10.0


def make_autoencoder(config: dict[str, Any] | None = None) -> nn.Module:
    """Return a network with random weights."""
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

    torch.manual_seed(AUTOENCODER_PLAN.seed)
    network: nn.Module = AutoencoderKL(**(config or AUTOENCODER_CONFIG))
    return network


def autoencoder_loss(pixels: np.ndarray, device: str) -> Loss:
    """Return the loss: absolute and squared error of the reconstruction from a sampled latent.

    Parameters
    ----------
    pixels : array, shape (scene, y, x, rgb)
        uint8.
    device : str
    """

    def compute(network: Any, rows: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        images = scaled(pixels[np.sort(rows.numpy())], device)
        flip = torch.rand(len(images), 1, 1, 1, generator=generator).to(device) < 0.5
        images = torch.where(flip, images.flip(-1), images)
        moments = network.quant_conv(network.encoder(images))
        mean, logvar = moments.chunk(2, dim=1)
        logvar = logvar.clamp(-30.0, 10.0)
        noise = torch.randn(mean.shape, generator=generator).to(device)
        decoded = network.decoder(network.post_quant_conv(mean + (0.5 * logvar).exp() * noise))
        difference = decoded - images
        squared = difference.square().mean()
        divergence = 0.5 * (mean.square() + logvar.exp() - 1.0 - logvar).sum(dim=(1, 2, 3)).mean()
        red, green, blue = difference.unbind(dim=1)
        hue = (red - green).square().mean() + (0.5 * (red + green) - blue).square().mean()
        total = difference.abs().mean() + 10.0 * squared + _HUE * hue + _DIVERGENCE * divergence
        # Pixels range from -1 to 1, so the peak value is 2.
        quality = 10.0 * torch.log10(4.0 / squared.detach())
        return {"loss": total, "psnr": quality, "divergence": divergence.detach()}

    return compute


def scaled(pixels: np.ndarray, device: str = "cpu") -> Tensor:
    """Return uint8 images (scene, y, x, rgb) as float32 from -1 to 1, (scene, rgb, y, x)."""
    return torch.from_numpy(pixels).to(device).permute(0, 3, 1, 2).float() / 127.5 - 1.0


# -- CLIP ---------------------------------------------------------------------------------------------------------

CLIP_PLAN = Plan("clip", steps=1_000, batch=128, learning_rate=1e-3, weight_decay=0.05, warmup=120, average=0.99)

#: Number of tokens of a sentence; the longest caption has 35 words.
CONTEXT = 40

#: Mean and standard deviation of red, green and blue in OpenAI's CLIP.
MEAN = (0.48145466, 0.4578275, 0.40821073)

STD = (0.26862954, 0.26130258, 0.27577711)

#: Maximum shift of images in training, in pixels.
_SHIFT = 3


def clip_config(words: int) -> dict[str, Any]:
    """Return the configuration of open_clip's model for a number of tokens in the vocabulary."""
    return {
        "embed_dim": 128,
        "vision_cfg": {"image_size": 64, "patch_size": 8, "width": 128, "layers": 6, "head_width": 32},
        "text_cfg": {"context_length": CONTEXT, "vocab_size": words, "width": 128, "heads": 4, "layers": 3},
    }


def make_clip(settings: dict[str, Any]) -> nn.Module:
    """Return a network with random weights."""
    from open_clip.model import CLIP

    torch.manual_seed(CLIP_PLAN.seed)
    network: nn.Module = CLIP(**settings)
    return network


def clip_loss(pixels: np.ndarray, tokens: Tensor, device: str) -> Loss:
    """Return the contrastive loss (Radford et al., 2021), with one random caption per scene.

    Parameters
    ----------
    pixels : array, shape (scene, y, x, rgb)
        uint8.
    tokens : Tensor, shape (scene, caption, token)
    device : str
    """

    def compute(network: Any, rows: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        which = torch.randint(tokens.shape[1], (len(rows),), generator=generator)
        texts = tokens[rows, which].to(device)
        images = shifted(normalized(pixels[rows.numpy()], device), generator)
        image, text, scale = network(images, texts)
        logits = scale * image @ text.T
        target = torch.arange(len(rows), device=device)
        total = 0.5 * (functional.cross_entropy(logits, target) + functional.cross_entropy(logits.T, target))
        right = (logits.argmax(dim=0) == target).float().mean()
        return {"loss": total, "top1": right, "scale": scale.detach()}

    return compute


def normalized(pixels: np.ndarray, device: str = "cpu") -> Tensor:
    """Normalize uint8 images (scene, y, x, rgb) for CLIP; return float32 (scene, rgb, y, x)."""
    images = torch.from_numpy(pixels).to(device).permute(0, 3, 1, 2).float() / 255.0
    mean, std = (torch.tensor(values, device=device).view(1, 3, 1, 1) for values in (MEAN, STD))
    return (images - mean) / std


def shifted(images: Tensor, generator: torch.Generator) -> Tensor:
    """Shift all images of a batch by the same random number of pixels, repeating the border."""
    down, right = (int(n) for n in torch.randint(2 * _SHIFT + 1, (2,), generator=generator))
    height, width = images.shape[-2:]
    padded = functional.pad(images, (_SHIFT,) * 4, mode="replicate")
    return padded[..., down : down + height, right : right + width]


def tokenized(captions: list[list[str]], tokenizer: WordTokenizer) -> Tensor:
    """Tokenize five captions of each scene; return shape (scene, caption, token)."""
    flat = tokenizer([text for found in captions for text in _five(found)])
    return flat.reshape(len(captions), 5, -1)


def _five(found: list[str]) -> list[str]:
    return [found[n % len(found)] for n in range(5)]
