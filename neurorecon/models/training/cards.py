"""Model cards: what a bundled network was made from, what it can do, and how that looks."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from neurorecon.models.training.bars import Bar
from neurorecon.models.training.scenes import COUNTS, SEEDS, SIZE

#: Title and role of each network, by its folder.
_WHAT = {
    "probe": (
        "Category probe",
        "A residual network with group normalization that names the main object of a picture, its color and its "
        "place. It judges the other networks, shares nothing with CLIP and never saw a generated picture.",
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

#: Pictures beside each other in the image of a card.
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
    picture(samples, folder / "samples.png")
    (folder / "README.md").write_text(_text(title, role, facts, weights, found, samples), encoding="utf-8")


def picture(samples: dict[str, np.ndarray], file: Path, scale: int = 2) -> None:
    """Draw sets of pictures below each other, each with its name."""
    from PIL import Image, ImageDraw

    rows = {name: _grid(pictures, scale) for name, pictures in samples.items()}
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


def _grid(pictures: np.ndarray, scale: int) -> np.ndarray:
    lines = [pictures[start : start + COLUMNS] for start in range(0, len(pictures), COLUMNS)]
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
    images, films = COUNTS["train"]
    met = {None: "", True: "yes", False: "**no**"}
    rows = "\n".join(f"| {bar.what} | {bar.value:.3f} | {_asked(bar)} | {met[bar.met]} |" for bar in found)
    data = (
        f"{images:,} pictures and {films:,} frames of films: procedural scenes of seed {SEEDS['train']} at {SIZE} px, "
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
| made and judged by | `python -m neurorecon.models.training {facts["name"]}` (`--only judge` for the figures alone) |

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
