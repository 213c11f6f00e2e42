"""CLIP: open_clip's model with small towers, trained to tell which sentence goes with which scene."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from neurorecon.models.clip import WordTokenizer
from neurorecon.simulation.training.loop import Loss, Plan

PLAN = Plan("clip", steps=1_000, batch=128, learning_rate=1e-3, weight_decay=0.05, warmup=120, average=0.99)

#: Tokens of a sentence; the longest caption has 35 words.
CONTEXT = 40

#: Mean and standard deviation of the pixels (red, green, blue), those of OpenAI's CLIP.
MEAN = (0.48145466, 0.4578275, 0.40821073)

STD = (0.26862954, 0.26130258, 0.27577711)

#: Largest shift of an image in training, in pixels.
_SHIFT = 3


def config(words: int) -> dict[str, Any]:
    """Return the configuration of open_clip's model for a vocabulary of so many tokens."""
    return {
        "embed_dim": 128,
        "vision_cfg": {"image_size": 64, "patch_size": 8, "width": 128, "layers": 6, "head_width": 32},
        "text_cfg": {"context_length": CONTEXT, "vocab_size": words, "width": 128, "heads": 4, "layers": 3},
    }


def make(settings: dict[str, Any]) -> nn.Module:
    """Return a network with random weights."""
    from open_clip.model import CLIP

    torch.manual_seed(PLAN.seed)
    network: nn.Module = CLIP(**settings)
    return network


def loss(pixels: np.ndarray, tokens: Tensor, device: str) -> Loss:
    """Return the contrastive loss of a batch (Radford et al., 2021), one of its captions for each scene.

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
    """Return uint8 images (scene, y, x, rgb) as CLIP takes them, float32 (scene, rgb, y, x)."""
    images = torch.from_numpy(pixels).to(device).permute(0, 3, 1, 2).float() / 255.0
    mean, std = (torch.tensor(values, device=device).view(1, 3, 1, 1) for values in (MEAN, STD))
    return (images - mean) / std


def shifted(images: Tensor, generator: torch.Generator) -> Tensor:
    """Move all images of a batch by the same few pixels, with the border repeated."""
    down, right = (int(n) for n in torch.randint(2 * _SHIFT + 1, (2,), generator=generator))
    height, width = images.shape[-2:]
    padded = functional.pad(images, (_SHIFT,) * 4, mode="replicate")
    return padded[..., down : down + height, right : right + width]


def tokenized(captions: list[list[str]], tokenizer: WordTokenizer) -> Tensor:
    """Return the tokens of five captions of each scene, shape (scene, caption, token)."""
    flat = tokenizer([text for found in captions for text in _five(found)])
    return flat.reshape(len(captions), 5, -1)


def _five(found: list[str]) -> list[str]:
    return [found[n % len(found)] for n in range(5)]
