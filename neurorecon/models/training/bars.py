"""What the bundled networks can do on held-out scenes, beside what they have to.

Every bar is one number, the least or the most that it has to be, and a sentence.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from neurorecon.models.probe import Probe
from neurorecon.models.training.clip import normalized
from neurorecon.models.training.scenes import Pictures

#: What the probe says of a main object.
_ANSWERS = ("category", "kind", "color")

#: What :func:`frechet_ratio` is called in a card.
FRECHET = "Frechet distance to real scenes over that of two sets of real ones"


@dataclass(frozen=True)
class Bar:
    """One measured figure.

    Parameters
    ----------
    what : str
        A sentence.
    value : float
    least, most : float, optional
        What is asked for; neither where a figure is only reported.
    """

    what: str
    value: float
    least: float | None = None
    most: float | None = None

    @property
    def met(self) -> bool | None:
        """Whether the bar is met; None where nothing is asked for."""
        if self.least is None and self.most is None:
            return None
        low = self.least is None or self.value >= self.least
        return low and (self.most is None or self.value <= self.most)


def probe_bars(probe: Probe, held_out: Pictures) -> list[Bar]:
    """Return how often the probe is right about scenes that it never saw."""
    said = probe.answers(held_out.pixels)
    mains = [scene.main for scene in held_out.scenes]
    still = np.array([scene.kind == "image" for scene in held_out.scenes])
    places = np.array([(main.x + 0.5, main.y + 0.5) for main in mains])
    distance = np.linalg.norm(said.place - places, axis=1)[still]
    return [
        Bar(
            "accuracy of the main object, 8 categories", _share(said.category, [main.category for main in mains]), 0.95
        ),
        Bar("accuracy of the main object, 38 kinds", _share(said.kind, [main.kind for main in mains])),
        Bar("accuracy of its color, 14 names", _share(said.color, [main.color for main in mains])),
        Bar("median distance of its place, in picture widths", float(np.median(distance))),
    ]


def clip_bars(clip: Any, tokens: Tensor, held_out: Pictures) -> list[Bar]:
    """Return how often CLIP finds the picture of a caption among 100 held-out ones.

    Parameters
    ----------
    clip : open_clip.model.CLIP
    tokens : Tensor, shape (scene, caption, token)
    held_out : Pictures
        Pictures come first; frames of films are left out.
    """
    count = sum(scene.kind == "image" for scene in held_out.scenes) // 100 * 100
    image = clip_images(clip, held_out.pixels[:count])
    which = torch.randint(tokens.shape[1], (count,), generator=torch.Generator().manual_seed(0))
    text = clip_texts(clip, tokens[torch.arange(count), which])
    ranks = np.concatenate([_ranks(text[n : n + 100] @ image[n : n + 100].T) for n in range(0, count, 100)])
    back = np.concatenate([_ranks(image[n : n + 100] @ text[n : n + 100].T) for n in range(0, count, 100)])
    return [
        Bar("caption to picture among 100, top 1", float((ranks < 1).mean()), 0.75),
        Bar("caption to picture among 100, top 5", float((ranks < 5).mean()), 0.95),
        Bar("picture to caption among 100, top 1", float((back < 1).mean())),
    ]


def reconstruction_bars(probe: Probe, scenes: np.ndarray, rebuilt: np.ndarray, least: float) -> list[Bar]:
    """Return how close reconstructions are to their scenes, both uint8, shape (scene, y, x, rgb)."""
    before, after = probe.answers(scenes), probe.answers(rebuilt)
    faces = np.isin(before.category, ["face"])
    buildings = np.isin(before.category, ["building"])
    return [
        Bar("PSNR in dB, mean over scenes", float(psnr(scenes, rebuilt).mean()), least),
        Bar("the probe names the same category in both", _share(before.category, after.category), 0.95),
        Bar("the probe names the same kind in both", _share(before.kind, after.kind)),
        Bar("PSNR of faces", float(psnr(scenes[faces], rebuilt[faces]).mean())),
        Bar("PSNR of buildings", float(psnr(scenes[buildings], rebuilt[buildings]).mean())),
    ]


def generation_bars(
    probe: Probe, clip: Any, tokens: Tensor, held_out: Pictures, generated: np.ndarray, name: str
) -> list[Bar]:
    """Return whether generated pictures show what they were asked for.

    Parameters
    ----------
    probe : Probe
    clip : open_clip.model.CLIP
    tokens : Tensor, shape (scene, caption, token)
        Captions of the scenes that the pictures were made for.
    held_out : Pictures
        At least twice as many pictures as were generated; the first ones are those asked for.
    generated : array, shape (picture, y, x, rgb)
    name : str
        What they were made from.
    """
    count = len(generated)
    mains = [scene.main for scene in held_out.scenes[:count]]
    said = probe.answers(generated)
    image, text = clip_images(clip, generated), clip_texts(clip, tokens[:count, 0])
    size = min(50, count)
    ranks = np.concatenate(
        [_ranks(image[n : n + size] @ text[n : n + size].T) for n in range(0, count - size + 1, size)]
    )
    return [
        Bar(
            f"{name}: the probe names the main object right, 8 categories",
            _share(said.category, [m.category for m in mains]),
            0.85,
        ),
        Bar(f"{name}: the probe names the main object right, 38 kinds", _share(said.kind, [m.kind for m in mains])),
        Bar(f"{name}: the probe names its color right", _share(said.color, [m.color for m in mains]), 0.80),
        Bar(f"{name}: CLIP picks the caption among {size}, top 1", float((ranks < 1).mean()), 0.80),
        Bar(f"{name}: {FRECHET}", frechet_ratio(probe, generated, held_out.pixels[: 2 * count]), None, 3.0),
    ]


def psnr(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the peak signal-to-noise ratio of uint8 pictures in dB, shape (picture,)."""
    error = np.square(first.astype(np.float32) - second.astype(np.float32)).reshape(len(first), -1).mean(axis=1)
    return 10.0 * np.log10(255.0**2 / np.maximum(error, 1e-3))


def layout_likeness(first: np.ndarray, second: np.ndarray, cells: int = 8) -> float:
    """Return the mean correlation over pictures of their colors, averaged on a coarse grid."""
    grids = []
    for pictures in (first, second):
        count, height, width, _ = pictures.shape
        blocks = pictures.astype(np.float64).reshape(count, cells, height // cells, cells, width // cells, 3)
        grid = blocks.mean(axis=(2, 4)).reshape(count, -1)
        grids.append(grid - grid.mean(axis=1, keepdims=True))
    one, two = grids
    return float(((one * two).sum(axis=1) / np.linalg.norm(one, axis=1) / np.linalg.norm(two, axis=1)).mean())


def frechet_ratio(probe: Probe, made: np.ndarray, real: np.ndarray) -> float:
    """Return how far pictures are from scenes in the features of a probe, in units of what scenes differ by.

    Parameters
    ----------
    probe : Probe
    made : array, shape (picture, y, x, rgb)
    real : array, shape (picture, y, x, rgb)
        Twice as many. The distance of `made` to the second half is divided by that of the first half to the second.
    """
    first, second = (probe.features(half) for half in np.split(real, 2))
    return frechet_distance(probe.features(made), second) / frechet_distance(first, second)


def frechet_distance(first: np.ndarray, second: np.ndarray) -> float:
    """Return the Frechet distance between two sets of features (picture, feature), each taken for a Gaussian.

    Source: Heusel et al. (2017), NeurIPS, equation 6.
    """
    means = first.mean(axis=0) - second.mean(axis=0)
    one, two = np.cov(first, rowvar=False), np.cov(second, rowvar=False)
    # The trace of the square root of a product of two covariances is the sum of the roots of its eigenvalues.
    eigenvalues = np.linalg.eigvals(one @ two).real.clip(min=0.0)
    return float(means @ means + np.trace(one) + np.trace(two) - 2.0 * np.sqrt(eigenvalues).sum())


@torch.no_grad()
def clip_images(clip: Any, pixels: np.ndarray, batch: int = 200) -> Tensor:
    """Return unit image embeddings of uint8 pictures, shape (picture, channel)."""
    parts = [clip.encode_image(normalized(pixels[n : n + batch]), normalize=True) for n in range(0, len(pixels), batch)]
    return torch.cat(parts)


@torch.no_grad()
def clip_texts(clip: Any, tokens: Tensor, batch: int = 200) -> Tensor:
    """Return unit text embeddings, shape (text, channel)."""
    parts = [clip.encode_text(tokens[n : n + batch], normalize=True) for n in range(0, len(tokens), batch)]
    return torch.cat(parts)


def _ranks(similarity: Tensor) -> np.ndarray:
    """Return how many columns beat the diagonal, for each row."""
    right = similarity.diagonal()[:, None]
    ranks: np.ndarray = (similarity > right).sum(dim=1).numpy()
    return ranks


def _share(given: Any, wanted: Any) -> float:
    return float((np.asarray(given) == np.asarray(wanted)).mean())
