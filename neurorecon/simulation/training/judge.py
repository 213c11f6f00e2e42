"""Evaluate the bundled networks on held-out scenes against fixed requirements (bars), and write their model cards.

A bar is a measured number with a description and, optionally, its required minimum or maximum.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from neurorecon.models.probe import Probe
from neurorecon.simulation.training.loop import COUNTS, SEEDS, SIZE, Images
from neurorecon.simulation.training.perception import normalized

#: Classes that the probe predicts for the main object.
_ANSWERS = ("category", "kind", "color")

#: Name of :func:`frechet_ratio` in model cards.
FRECHET = "Frechet distance to real scenes over that of two sets of real ones"


@dataclass(frozen=True)
class Bar:
    """One measured number.

    Parameters
    ----------
    what : str
        Description.
    value : float
    least, most : float, optional
        Required minimum or maximum; neither if the number is only reported.
    """

    what: str
    value: float
    least: float | None = None
    most: float | None = None

    @property
    def met(self) -> bool | None:
        """Whether the requirement is met; None if there is none."""
        if self.least is None and self.most is None:
            return None
        low = self.least is None or self.value >= self.least
        return low and (self.most is None or self.value <= self.most)


def probe_bars(probe: Probe, held_out: Images) -> list[Bar]:
    """Return the accuracy of the probe on held-out scenes."""
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
        Bar("median distance of its place, in image widths", float(np.median(distance))),
    ]


def clip_bars(clip: Any, tokens: Tensor, held_out: Images) -> list[Bar]:
    """Return how often CLIP finds the image of a caption among 100 held-out images, and vice versa.

    Parameters
    ----------
    clip : open_clip.model.CLIP
    tokens : Tensor, shape (scene, caption, token)
    held_out : Images
        Images come first; frames of videos are ignored.
    """
    count = sum(scene.kind == "image" for scene in held_out.scenes) // 100 * 100
    image = clip_images(clip, held_out.pixels[:count])
    which = torch.randint(tokens.shape[1], (count,), generator=torch.Generator().manual_seed(0))
    text = clip_texts(clip, tokens[torch.arange(count), which])
    ranks = np.concatenate([_ranks(text[n : n + 100] @ image[n : n + 100].T) for n in range(0, count, 100)])
    back = np.concatenate([_ranks(image[n : n + 100] @ text[n : n + 100].T) for n in range(0, count, 100)])
    return [
        Bar("caption to image among 100, top 1", float((ranks < 1).mean()), 0.75),
        Bar("caption to image among 100, top 5", float((ranks < 5).mean()), 0.95),
        Bar("image to caption among 100, top 1", float((back < 1).mean())),
    ]


def reconstruction_bars(probe: Probe, scenes: np.ndarray, reconstructed: np.ndarray, least: float) -> list[Bar]:
    """Compare reconstructions with their scenes, both uint8, shape (scene, y, x, rgb)."""
    before, after = probe.answers(scenes), probe.answers(reconstructed)
    faces = np.isin(before.category, ["face"])
    buildings = np.isin(before.category, ["building"])
    return [
        Bar("PSNR in dB, mean over scenes", float(psnr(scenes, reconstructed).mean()), least),
        Bar("the probe names the same category in both", _share(before.category, after.category), 0.95),
        Bar("the probe names the same kind in both", _share(before.kind, after.kind)),
        Bar("PSNR of faces", float(psnr(scenes[faces], reconstructed[faces]).mean())),
        Bar("PSNR of buildings", float(psnr(scenes[buildings], reconstructed[buildings]).mean())),
    ]


def generation_bars(
    probe: Probe, clip: Any, tokens: Tensor, held_out: Images, generated: np.ndarray, name: str
) -> list[Bar]:
    """Return how well generated images match the scenes on which they were conditioned.

    Parameters
    ----------
    probe : Probe
    clip : open_clip.model.CLIP
    tokens : Tensor, shape (scene, caption, token)
        Captions of these scenes.
    held_out : Images
        At least twice as many scenes as generated images, starting with those on which the images were conditioned.
    generated : array, shape (image, y, x, rgb)
        uint8.
    name : str
        Name of the condition, for the descriptions.
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
    """Return the peak signal-to-noise ratio of uint8 images in dB, shape (image,)."""
    error = np.square(first.astype(np.float32) - second.astype(np.float32)).reshape(len(first), -1).mean(axis=1)
    return 10.0 * np.log10(255.0**2 / np.maximum(error, 1e-3))


def layout_likeness(first: np.ndarray, second: np.ndarray, cells: int = 8) -> float:
    """Return the mean over images of the correlation of their colors, averaged on a coarse grid."""
    grids = []
    for images in (first, second):
        count, height, width, _ = images.shape
        blocks = images.astype(np.float64).reshape(count, cells, height // cells, cells, width // cells, 3)
        grid = blocks.mean(axis=(2, 4)).reshape(count, -1)
        grids.append(grid - grid.mean(axis=1, keepdims=True))
    one, two = grids
    return float(((one * two).sum(axis=1) / np.linalg.norm(one, axis=1) / np.linalg.norm(two, axis=1)).mean())


def frechet_ratio(probe: Probe, made: np.ndarray, real: np.ndarray) -> float:
    """Return the Frechet distance of images to real scenes, relative to the distance between two sets of real scenes.

    Parameters
    ----------
    probe : Probe
        Its pooled features are compared.
    made : array, shape (image, y, x, rgb)
        uint8.
    real : array, shape (image, y, x, rgb)
        Twice as many scenes. The distance of `made` to the second half is divided by that of the first half to the
        second.
    """
    first, second = (probe.features(half) for half in np.split(real, 2))
    return frechet_distance(probe.features(made), second) / frechet_distance(first, second)


def frechet_distance(first: np.ndarray, second: np.ndarray) -> float:
    """Return the Frechet distance between two sets of features (image, feature), each modeled as a Gaussian.

    Source: Heusel et al. (2017), NeurIPS, equation 6.
    """
    means = first.mean(axis=0) - second.mean(axis=0)
    one, two = np.cov(first, rowvar=False), np.cov(second, rowvar=False)
    # The trace of the square root of a product of two covariances is the sum of the square roots of its eigenvalues.
    eigenvalues = np.linalg.eigvals(one @ two).real.clip(min=0.0)
    return float(means @ means + np.trace(one) + np.trace(two) - 2.0 * np.sqrt(eigenvalues).sum())


@torch.no_grad()
def clip_images(clip: Any, pixels: np.ndarray, batch: int = 200) -> Tensor:
    """Return unit image embeddings of uint8 images, shape (image, channel)."""
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


#: Title and role of each network, by its folder.
_WHAT = {
    "probe": (
        "Category probe",
        "A residual network with group normalization that names the main object of an image, its color and its "
        "place. It judges the other networks, shares nothing with CLIP and never saw a generated image.",
    ),
    "clip": (
        "CLIP",
        "open_clip's `CLIP` with small towers and a closed vocabulary of words, in the role of OpenAI's ViT-L/14 and "
        "ViT-B/32; the hidden states of its text tower play the role of Stable Diffusion's text encoder.",
    ),
    "autoencoder": (
        "Autoencoder",
        "diffusers' `AutoencoderKL` at a quarter of the resolution, in the role of Stable Diffusion's.",
    ),
    "vdvae": ("VDVAE", "The very deep variational autoencoder of Child (2021), small, in the role of imagenet64's."),
    "text_diffusion": (
        "Latent diffusion, text-conditioned",
        "diffusers' `UNet2DConditionModel` with v-prediction, in the role of Stable Diffusion v1-4. It is the text "
        "branch of the dual-guided network, trained together with it.",
    ),
    "dual_diffusion": (
        "Latent diffusion, guided by image and text",
        "The image branch that makes the text-conditioned UNet a dual-guided one, in the role of Versatile Diffusion. "
        "ResNets and text transformers are read from `../text_diffusion`.",
    ),
}

#: Number of columns in the samples of a card.
COLUMNS = 12


def line(bar: Bar) -> str:
    """Return a bar as one line of text."""
    asked = _asked(bar)
    verdict = {None: "", True: "met", False: "NOT MET"}[bar.met]
    return f"{bar.what}: {bar.value:.3f} {asked} {verdict}".rstrip()


def write(folder: Path, found: Sequence[Bar], samples: dict[str, np.ndarray]) -> None:
    """Write ``README.md``, ``bars.json`` and ``samples.png`` beside the weights."""
    title, role = _WHAT[folder.name]
    facts = json.loads((folder / "training.json").read_text(encoding="utf-8"))
    weights = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    (folder / "bars.json").write_text(
        json.dumps([{"what": bar.what, "value": round(bar.value, 4), "met": bar.met} for bar in found], indent=2)
        + "\n",
        encoding="utf-8",
    )
    image(samples, folder / "samples.png")
    (folder / "README.md").write_text(_text(title, role, facts, weights, found, samples), encoding="utf-8")


def image(samples: dict[str, np.ndarray], file: Path, scale: int = 2) -> None:
    """Draw sets of images below one another, with their names, and save them as a PNG file."""
    from PIL import Image, ImageDraw

    rows = {name: _grid(images, scale) for name, images in samples.items()}
    label, gap = 22, 8
    height = sum(grid.shape[0] + label + gap for grid in rows.values())
    sheet = Image.new("RGB", (max(grid.shape[1] for grid in rows.values()), height), "white")
    pen = ImageDraw.Draw(sheet)
    top = 0
    for name, grid in rows.items():
        pen.text((4, top + 4), name, fill="black", font_size=14)
        sheet.paste(Image.fromarray(grid), (0, top + label))
        top += grid.shape[0] + label + gap
    sheet.save(file, optimize=True)


def _grid(images: np.ndarray, scale: int) -> np.ndarray:
    lines = [images[start : start + COLUMNS] for start in range(0, len(images), COLUMNS)]
    framed = [
        np.concatenate([np.pad(one, ((1, 1), (1, 1), (0, 0)), constant_values=255) for one in part], axis=1)
        for part in lines
    ]
    widest = max(part.shape[1] for part in framed)
    padded = [np.pad(part, ((0, 0), (0, widest - part.shape[1]), (0, 0)), constant_values=255) for part in framed]
    return np.concatenate(padded).repeat(scale, axis=0).repeat(scale, axis=1)


def _text(
    title: str, role: str, facts: dict[str, Any], weights: int, found: Sequence[Bar], samples: dict[str, np.ndarray]
) -> str:
    images, videos = COUNTS["train"]
    met = {None: "", True: "yes", False: "**no**"}
    rows = "\n".join(f"| {bar.what} | {bar.value:.3f} | {_asked(bar)} | {met[bar.met]} |" for bar in found)
    data = (
        f"{images:,} images and {videos:,} frames of videos: procedural scenes of seed {SEEDS['train']} at {SIZE} px, "
        "none of them in the embedded data set"
    )
    runs = "; then ".join(_run(run) for run in facts["runs"])
    return f"""# {title}

{role}

![samples](samples.png)

From top to bottom: {"; ".join(samples)}

| | |
|---|---|
| data | {data} |
| judged on | held-out scenes of seed {SEEDS["held-out"]} |
| training | {runs} |
| size | {weights / 1e6:.1f} MB, half precision |
| license | BSD-3-Clause, as neurorecon |
| made and judged by | `python -m neurorecon.simulation.training {facts["name"]}` (figures alone: `--only judge`) |

| measured on held-out scenes | value | asked for | met |
|---|---|---|---|
{rows}
"""


def _asked(bar: Bar) -> str:
    return f">= {bar.least:g}" if bar.least is not None else f"<= {bar.most:g}" if bar.most is not None else ""


def _run(run: dict[str, Any]) -> str:
    unfinished = "" if run["steps"] == run["steps_planned"] else f" (of {run['steps_planned']:,} planned)"
    steps = f"{run['steps']:,} steps{unfinished} of {run['batch']} scenes with AdamW"
    part = f" for {run['part']}" if "part" in run else ""
    return f"{steps}{part}, {run['hours']} hours on {run['device']}"
