"""The category probe: a small convolutional network that classifies the main object, its color and its position.

It judges reconstructions and generated images, so it is trained only on drawn scenes and independently of CLIP (see
:mod:`neurorecon.simulation.training.probe`). Frechet distances between sets of images are computed on its pooled
features.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from neurorecon.errors import InputError


@dataclass(frozen=True)
class ProbeConfig:
    """Classes and architecture of the probe.

    Parameters
    ----------
    kinds, colors : tuple of str
        Classes of the main object.
    categories : tuple of str
        Super-category of each kind.
    widths : tuple of int
        Numbers of channels at 1/2, 1/4, 1/8 and 1/16 of the resolution.
    size : int
        Image size in pixels per side.
    """

    kinds: tuple[str, ...]
    colors: tuple[str, ...]
    categories: tuple[str, ...]
    widths: tuple[int, ...] = (24, 48, 96, 128)
    size: int = 64


@dataclass(frozen=True)
class Answers:
    """Predictions of the probe for the main object of images.

    Parameters
    ----------
    kind, category, color : array of str, shape (image,)
        Predicted classes.
    place : array, shape (image, 2)
        Predicted center (x, y), from 0 (top left) to 1.
    """

    kind: np.ndarray
    category: np.ndarray
    color: np.ndarray
    place: np.ndarray


class Probe(nn.Module):
    """A residual network with group normalization and three heads.

    Parameters
    ----------
    config : ProbeConfig
    """

    def __init__(self, config: ProbeConfig) -> None:
        super().__init__()
        self.config = config
        first = config.widths[0]
        self.stem = nn.Conv2d(3, first, 5, stride=2, padding=2, bias=False)
        pairs = zip((first, *config.widths), config.widths, strict=False)
        self.stages = nn.Sequential(
            *(
                nn.Sequential(_Residual(before, after, stride=1 if n == 0 else 2), _Residual(after, after))
                for n, (before, after) in enumerate(pairs)
            )
        )
        self.norm = nn.GroupNorm(8, config.widths[-1])
        self.kind = nn.Linear(config.widths[-1], len(config.kinds))
        self.color = nn.Linear(config.widths[-1], len(config.colors))
        self.place = nn.Sequential(nn.Flatten(), nn.Linear(config.widths[-1] * (config.size // 16) ** 2, 2))

    def maps(self, images: Tensor) -> Tensor:
        """Return the last feature maps (image, channel, y, x) of images (image, rgb, y, x) from -1 to 1."""
        found: Tensor = functional.silu(self.norm(self.stages(self.stem(images))))
        return found

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return logits of kind and color, and the position (x, y) of the main object.

        Parameters
        ----------
        images : Tensor, shape (image, rgb, y, x)
            From -1 to 1.
        """
        maps = self.maps(images)
        pooled = maps.mean(dim=(-2, -1))
        return self.kind(pooled), self.color(pooled), self.place(maps)

    @torch.no_grad()
    def features(self, images: np.ndarray, batch: int = 128) -> np.ndarray:
        """Return the pooled features of uint8 images (image, y, x, rgb), shape (image, feature)."""
        parts = [self.pooled(images[n : n + batch]) for n in range(0, len(images), batch)]
        return torch.cat(parts).double().cpu().numpy()

    def pooled(self, images: np.ndarray) -> Tensor:
        """Return the pooled features of a batch of uint8 images (image, y, x, rgb)."""
        return self.depths(images)[-1]

    def depths(self, images: np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
        """Return maps of the first and of the second last stage, (image, channel, y, x), and the pooled features.

        Parameters
        ----------
        images : array, uint8, shape (image, y, x, rgb)
        """
        maps = [self.stem(self._images(images))]
        for stage in self.stages:
            maps.append(stage(maps[-1]))
        return maps[1], maps[-2], functional.silu(self.norm(maps[-1])).mean(dim=(-2, -1))

    def categories(self, pooled: Tensor) -> np.ndarray:
        """Return the category of the main object from :meth:`pooled`, array of str, shape (image,)."""
        return np.array(self.config.categories)[self.kind(pooled).argmax(dim=1).cpu().numpy()]

    def kinds(self, pooled: Tensor) -> np.ndarray:
        """Return the kind of the main object (``"dog"``) from :meth:`pooled`, array of str, shape (image,)."""
        return np.array(self.config.kinds)[self.kind(pooled).argmax(dim=1).cpu().numpy()]

    @torch.no_grad()
    def answers(self, images: np.ndarray, batch: int = 128) -> Answers:
        """Classify uint8 images (image, y, x, rgb).

        Raises
        ------
        InputError
            If the images are not uint8 or have another size.
        """
        parts = [self(self._images(images[n : n + batch])) for n in range(0, len(images), batch)]
        kinds, colors, places = (torch.cat(values).cpu().numpy() for values in zip(*parts, strict=True))
        number = kinds.argmax(axis=1)
        return Answers(
            kind=np.array(self.config.kinds)[number],
            category=np.array(self.config.categories)[number],
            color=np.array(self.config.colors)[colors.argmax(axis=1)],
            place=places,
        )

    def _images(self, images: np.ndarray) -> Tensor:
        size = self.config.size
        if images.dtype != np.uint8 or images.shape[1:] != (size, size, 3):
            raise InputError(
                "the images do not match the input of the probe",
                given=f"{images.dtype} {images.shape}",
                expected=f"uint8, shape (image, {size}, {size}, 3)",
                todo="resize the images first",
            )
        weight = self.kind.weight
        tensor = torch.from_numpy(np.ascontiguousarray(images)).to(weight.device).permute(0, 3, 1, 2)
        return tensor.to(weight.dtype) / 127.5 - 1.0

    def save(self, folder: str | Path) -> None:
        """Write ``model.safetensors`` and ``config.json`` to a folder."""
        from safetensors.torch import save_file

        home = Path(folder)
        home.mkdir(parents=True, exist_ok=True)
        save_file({key: value.contiguous() for key, value in self.state_dict().items()}, home / "model.safetensors")
        (home / "config.json").write_text(json.dumps(asdict(self.config), indent=2) + "\n")

    @classmethod
    def load(cls, folder: str | Path) -> Probe:
        """Load a probe written by :meth:`save`, in float32 and evaluation mode."""
        from safetensors.torch import load_file

        home = Path(folder)
        found = json.loads((home / "config.json").read_text())
        values: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in found.items()
        }
        config = ProbeConfig(**values)
        network = cls(config)
        state = {key: value.float() for key, value in load_file(home / "model.safetensors").items()}
        network.load_state_dict(state)
        return network.eval()


class _Residual(nn.Module):
    """Two 3 x 3 convolutions, each after normalization and SiLU, with a shortcut (He et al., 2016)."""

    def __init__(self, before: int, after: int, stride: int = 1) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(8, before)
        self.conv1 = nn.Conv2d(before, after, 3, stride=stride, padding=1, bias=False)
        self.norm2 = nn.GroupNorm(8, after)
        self.conv2 = nn.Conv2d(after, after, 3, padding=1, bias=False)
        same = stride == 1 and before == after
        self.shortcut = nn.Identity() if same else nn.Conv2d(before, after, 1, stride=stride, bias=False)

    def forward(self, maps: Tensor) -> Tensor:
        active = functional.silu(self.norm1(maps))
        new = self.conv2(functional.silu(self.norm2(self.conv1(active))))
        shortcut: Tensor = self.shortcut(maps)
        return shortcut + new
