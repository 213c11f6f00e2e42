"""Pictures on their way into a network: one place that turns any input into the same numbers.

Pictures may come as uint8 (0 to 255), as float (0 to 1) or as PIL images. All are brought to uint8 first, resampled by
PIL, and scaled once: networks that were fed pictures scaled twice see black, without any error.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from neurorecon.errors import InputError

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

#: Ways to resample, as PIL names them. All of them average where pictures shrink (antialiasing).
Resampling = Literal["bilinear", "bicubic", "lanczos"]

#: Pictures resampled at a time; PIL lets go of Python's lock while it works.
_THREADS = 8

#: Float pictures may leave 0..1 by this much, as those that were resampled in float do.
_OUTSIDE = 1e-4


@dataclass(frozen=True)
class Preprocessing:
    """How pictures of any size become the input of a network.

    Parameters
    ----------
    size : int
        Pixels on each side.
    resampling : {"bilinear", "bicubic", "lanczos"}
        How PIL resamples them. Pictures that have the size already are left as they are.
    fit : {"crop", "squeeze"}
        What happens to oblong pictures: the shorter side is brought to `size` and the middle is cut out (CLIP), or
        both sides are brought to `size` (Stable Diffusion, VDVAE).
    mean, std : tuple of float
        Of red, green and blue, on the scale 0 to 1; subtracted, and divided by.
    """

    size: int
    resampling: Resampling = "bicubic"
    fit: Literal["crop", "squeeze"] = "crop"
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)

    def prepare(self, pictures: Any) -> np.ndarray:
        """Return pictures in the size of the network.

        Parameters
        ----------
        pictures : array of shape (picture, y, x, rgb), or sequence of arrays or PIL images
            uint8, float from 0 to 1, or PIL.

        Returns
        -------
        array, uint8, shape (picture, y, x, rgb)
        """
        listed = pixels(pictures) if isinstance(pictures, np.ndarray) else [pixels(picture) for picture in pictures]
        if len(listed) and all(picture.shape == (self.size, self.size, 3) for picture in listed):
            return np.stack(listed) if isinstance(listed, list) else listed
        with ThreadPoolExecutor(_THREADS) as pool:
            return np.stack(list(pool.map(self._resampled, listed)))

    def normalize(self, prepared: np.ndarray, device: Any = "cpu") -> Tensor:
        """Return prepared pictures as the network takes them.

        Parameters
        ----------
        prepared : array, uint8, shape (picture, y, x, rgb)
            From :meth:`prepare`.
        device : torch device
            Pixels travel there as bytes, and are scaled there.

        Returns
        -------
        Tensor, float32, shape (picture, rgb, y, x)
        """
        import torch

        values = to_tensor(prepared, device).permute(0, 3, 1, 2).float().div(255.0)
        mean, std = (torch.tensor(found, device=device).view(1, 3, 1, 1) for found in (self.mean, self.std))
        return values.sub(mean).div(std).contiguous()

    def describe(self) -> str:
        """Return what is done, in words; stored with the target."""
        fit = "shorter side to {0}, middle {0} x {0}" if self.fit == "crop" else "both sides to {0}"
        scale = "" if (self.mean, self.std) == ((0, 0, 0), (1, 1, 1)) else f", minus {self.mean}, over {self.std}"
        return f"uint8; {self.resampling} with antialiasing (PIL), {fit.format(self.size)}; 0 to 1{scale}"

    def _resampled(self, picture: np.ndarray) -> np.ndarray:
        from PIL import Image

        image = Image.fromarray(picture)
        wanted = self._resampled_size(image.size)
        if wanted != image.size:
            image = image.resize(wanted, getattr(Image.Resampling, self.resampling.upper()))
        return np.asarray(_middle(image, self.size))

    def _resampled_size(self, size: tuple[int, int]) -> tuple[int, int]:
        if self.fit == "squeeze":
            return self.size, self.size
        short, long = min(size), max(size)
        grown = int(self.size * long / short)  # cut off, as torchvision does
        return (self.size, grown) if size[0] <= size[1] else (grown, self.size)


def pixels(pictures: Any) -> np.ndarray:
    """Return pictures as uint8, whatever they came as.

    Parameters
    ----------
    pictures : array of shape (..., y, x, rgb), or PIL image
        uint8, float from 0 to 1, or PIL in any mode (alpha is dropped, gray becomes three equal colors).

    Returns
    -------
    array, uint8, shape (..., y, x, rgb)

    Raises
    ------
    InputError
        Where the type, the range or the color axis is another. Float pictures on the scale 0 to 255 are refused
        rather than guessed at.
    """
    if hasattr(pictures, "convert"):
        return np.asarray(pictures.convert("RGB"))
    values = np.asarray(pictures)
    if values.ndim < 3 or values.shape[-1] != 3:
        raise InputError(
            "pictures have their colors on the last axis",
            given=f"an array of shape {values.shape}",
            expected="shape (..., y, x, 3): red, green, blue",
            todo="move the color axis to the end; repeat a gray picture three times; drop an alpha channel",
        )
    if values.dtype == np.uint8:
        return values
    if values.dtype.kind != "f" or not _in_range(values):
        found = f" from {values.min():g} to {values.max():g}" if values.size and values.dtype.kind in "iuf" else ""
        raise InputError(
            "these pixels cannot be told",
            given=f"{values.dtype}{found}",
            expected="uint8 from 0 to 255, or float from 0 to 1",
            todo="convert them, e.g. with pictures.astype('uint8') where they run from 0 to 255",
        )
    return np.rint(np.clip(values, 0.0, 1.0) * 255.0).astype(np.uint8)


def _in_range(values: np.ndarray) -> bool:
    return not values.size or bool(values.min() >= -_OUTSIDE and values.max() <= 1.0 + _OUTSIDE)


def to_tensor(array: np.ndarray, device: Any) -> Tensor:
    """Bring an array to a device; torch warns of arrays that cannot be written to, so those are copied."""
    import torch

    return torch.from_numpy(np.require(array, requirements=["C", "W"])).to(device)


def _middle(image: Image, size: int) -> Image:
    width, height = image.size
    if (width, height) == (size, size):
        return image
    left, top = round((width - size) / 2.0), round((height - size) / 2.0)
    return image.crop((left, top, left + size, top + size))
