"""Images as networks take them: conversion to uint8, resampling, normalization.

Images may be uint8 (0 to 255), float (0 to 1) or PIL images. All are converted to uint8 first, by the rule of
:mod:`neurorecon.io.images`, resampled by PIL, and scaled exactly once, here: a network that gets images scaled twice
sees black, without any error.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from neurorecon.io.images import pixels

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor


#: Resampling filters of PIL. All of them antialias when images shrink.
Resampling = Literal["bilinear", "bicubic", "lanczos"]

#: Number of images resampled at a time; PIL releases the GIL.
_THREADS = 8


@dataclass(frozen=True)
class Preprocessing:
    """Resize and normalize images of any size for a network.

    Parameters
    ----------
    size : int
        Pixels per side.
    resampling : {"bilinear", "bicubic", "lanczos"}
        PIL's resampling filter. Images of the right size are not resampled.
    fit : {"crop", "squeeze"}
        How to make images square: resize the shorter side to `size` and crop the center (CLIP), or resize both sides
        to `size` (Stable Diffusion, VDVAE).
    mean, std : tuple of float
        Mean and standard deviation of red, green and blue, on the scale 0 to 1, for normalization.
    """

    size: int
    resampling: Resampling = "bicubic"
    fit: Literal["crop", "squeeze"] = "crop"
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)

    def prepare(self, images: Any) -> np.ndarray:
        """Resize images to the input size of the network.

        Parameters
        ----------
        images : array of shape (image, y, x, rgb), or sequence of arrays or PIL images
            uint8, float from 0 to 1, or PIL.

        Returns
        -------
        array, uint8, shape (image, y, x, rgb)
        """
        listed = pixels(images) if isinstance(images, np.ndarray) else [pixels(image) for image in images]
        if len(listed) and all(image.shape == (self.size, self.size, 3) for image in listed):
            return np.stack(listed) if isinstance(listed, list) else listed
        with ThreadPoolExecutor(_THREADS) as pool:
            return np.stack(list(pool.map(self._resampled, listed)))

    def normalize(self, prepared: np.ndarray, device: Any = "cpu") -> Tensor:
        """Normalize prepared images.

        Parameters
        ----------
        prepared : array, uint8, shape (image, y, x, rgb)
            Output of :meth:`prepare`.
        device : torch device
            Images are transferred as uint8 and scaled on the device.

        Returns
        -------
        Tensor, float32, shape (image, rgb, y, x)
        """
        import torch

        values = to_tensor(prepared, device).permute(0, 3, 1, 2).float().div(255.0)
        mean, std = (torch.tensor(found, device=device).view(1, 3, 1, 1) for found in (self.mean, self.std))
        return values.sub(mean).div(std).contiguous()

    def describe(self) -> str:
        """Return a description in words, which is stored with the target."""
        fit = "shorter side to {0}, middle {0} x {0}" if self.fit == "crop" else "both sides to {0}"
        scale = "" if (self.mean, self.std) == ((0, 0, 0), (1, 1, 1)) else f", minus {self.mean}, over {self.std}"
        return f"uint8; {self.resampling} with antialiasing (PIL), {fit.format(self.size)}; 0 to 1{scale}"

    def _resampled(self, pixels: np.ndarray) -> np.ndarray:
        from PIL import Image

        image = Image.fromarray(pixels)
        wanted = self._resampled_size(image.size)
        if wanted != image.size:
            image = image.resize(wanted, getattr(Image.Resampling, self.resampling.upper()))
        return np.asarray(_middle(image, self.size))

    def _resampled_size(self, size: tuple[int, int]) -> tuple[int, int]:
        if self.fit == "squeeze":
            return self.size, self.size
        short, long = min(size), max(size)
        grown = int(self.size * long / short)  # truncated, as in torchvision
        return (self.size, grown) if size[0] <= size[1] else (grown, self.size)


def to_tensor(array: np.ndarray, device: Any) -> Tensor:
    """Copy an array to a device; read-only arrays are copied first, because torch warns about them."""
    import torch

    return torch.from_numpy(np.require(array, requirements=["C", "W"])).to(device)


def _middle(image: Image, size: int) -> Image:
    width, height = image.size
    if (width, height) == (size, size):
        return image
    left, top = round((width - size) / 2.0), round((height - size) / 2.0)
    return image.crop((left, top, left + size, top + size))
