"""Colors: one for each band that never changes between figures, and color maps that print.

Bands take the Okabe-Ito palette (Okabe & Ito 2008, "Color Universal Design"), which people with any of the
common color vision deficiencies can tell apart. R2 and other one-sided quantities take a perceptually
uniform map; weights and patterns a diverging one, symmetric around zero.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

from neurorecon.errors import UnknownNameError

#: The color of each known band. Those that are used side by side differ for color-blind readers too.
BAND_COLORS: dict[str, str] = {
    "gabor": "#0072B2",
    "category": "#D55E00",
    "motion": "#009E73",
    "clip": "#CC79A7",
    "clip_image": "#CC79A7",
    "clip_vision": "#882255",
    "clip_text": "#E69F00",
    "vqvae": "#56B4E9",
    "vdvae": "#4B2E83",
    "layout": "#8C6D31",
}

#: What figures call a band: the role that it plays, and the target that plays it.
BAND_LABELS: dict[str, str] = {
    "clip_image": "semantic (CLIP)",
    "clip_image_mean": "semantic (CLIP, mean of frames)",
    "clip_vision": "semantic (CLIP tokens)",
    "clip_text": "semantic (CLIP, captions)",
    "category": "semantic (categories)",
    "vqvae": "structure (VQ-VAE)",
    "vqvae_frames": "structure (VQ-VAE, all frames)",
    "vdvae": "low-level (VDVAE)",
    "gabor": "low-level (Gabor)",
    "motion": "motion (energy)",
    "optical_flow": "motion (optical flow)",
}

#: Colors of bands that are not in :data:`BAND_COLORS` (Paul Tol's "muted" and "bright" schemes).
FURTHER_COLORS = (
    "#882255", "#44AA99", "#DDCC77", "#661100", "#AA3377", "#117733", "#EE6677", "#88CCEE", "#999933",
    "#4477AA",
)  # fmt: skip

#: What a map shows, as it is written into the figure.
QUANTITIES: dict[str, str] = {
    "encoding": "Encoding model: variance of each voxel that the features explain (not decoder weights)",
    "decoding": "Decoder weights: how the decoder reads each voxel (not where the information is)",
    "haufe": "Haufe pattern of the decoder: covariance of voxel and decoded target (Haufe et al. 2014)",
}

#: Quantities that run to both sides of zero.
SIGNED = ("decoding", "haufe")

INK = "#1a1a1a"
GRAY = "#6b6b6b"
LIGHT = "#d9d9d9"

#: Color maps: where values run from none to much, and where they run to both sides of zero.
SEQUENTIAL = "inferno"
DIVERGING = "RdBu_r"


def band_colors(names: Iterable[str]) -> dict[str, str]:
    """Give each band its color.

    Known bands (:data:`BAND_COLORS`) always have theirs. Others take one that their name alone selects, and
    the next free one where two bands of the same figure would clash.

    Parameters
    ----------
    names : iterable of str
        Names of the bands, in the order of the figure.

    Returns
    -------
    dict of str to str
        Hexadecimal colors.
    """
    names = list(names)
    colors = {name: BAND_COLORS[name.lower()] for name in names if name.lower() in BAND_COLORS}
    for name in names:
        if name in colors:
            continue
        start = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big")
        order = [FURTHER_COLORS[(start + step) % len(FURTHER_COLORS)] for step in range(len(FURTHER_COLORS))]
        free = [color for color in order if color not in colors.values()]
        colors[name] = free[0] if free else order[0]
    return {name: colors[name] for name in names}


def band_label(name: str) -> str:
    """Return what figures call a band: its role and its target, e.g. ``semantic (CLIP)``; other names as they are."""
    return BAND_LABELS.get(name.lower(), name)


def quantity_note(quantity: str | None) -> str:
    """Return the sentence that says which quantity a figure shows; empty for None."""
    if quantity is None:
        return ""
    if quantity not in QUANTITIES:
        raise UnknownNameError("quantity", quantity, QUANTITIES)
    return QUANTITIES[quantity]


def default_colormap(quantity: str | None) -> str:
    """Return the color map that suits a quantity."""
    return DIVERGING if quantity in SIGNED else SEQUENTIAL


def color_map(name: str) -> Any:
    """Return a color map of matplotlib by its name; the default one without its black end.

    Black is the color of outlines and letters, so a value of zero must not have it. The map stays
    perceptually uniform, as a part of one that is.
    """
    import numpy as np
    from matplotlib import colormaps
    from matplotlib.colors import ListedColormap

    if name not in colormaps:
        raise UnknownNameError("color map", name, sorted(colormaps))
    if name != SEQUENTIAL:
        return colormaps[name]
    return ListedColormap(colormaps[name](np.linspace(0.13, 0.97, 256)), name=f"{name}-without-black")


def nice_limits(
    low: float, high: float, *, vmin: float | None, vmax: float | None, quantity: str | None
) -> tuple[float, float]:
    """Choose the ends of a color scale.

    Parameters
    ----------
    low, high : float
        Range of the data (robust: a few outliers should not set it).
    vmin, vmax : float or None
        What the caller fixed.
    quantity : str or None
        Weights and patterns have zero in the middle, unless `vmin` says that none is negative; explained variance
        begins at zero, as what lies below
        explains nothing.

    Returns
    -------
    (float, float)
        Ends with at most two significant digits.
    """
    if quantity in SIGNED and (vmin is None or vmin < 0):
        given = [abs(value) for value in (vmin, vmax) if value is not None]
        end = max(given) if given else _round_up(max(abs(low), abs(high)))
        return -end, end
    starts_at_zero = low >= 0 or quantity == "encoding"
    bottom = vmin if vmin is not None else (0.0 if starts_at_zero else -_round_up(-low))
    top = vmax if vmax is not None else (_round_up(high) if high > 0 else 0.0)
    return (bottom, top) if top > bottom else (bottom, bottom + 1e-6 + abs(bottom))


def _round_up(value: float) -> float:
    import math

    if value <= 0 or not math.isfinite(value):
        return 1.0
    step = 10 ** math.floor(math.log10(value)) / 10
    for factor in (10, 12, 15, 20, 25, 30, 40, 50, 60, 80, 100):
        if factor * step >= value * (1 - 1e-9):
            return float(round(factor * step, 12))
    return float(value)
