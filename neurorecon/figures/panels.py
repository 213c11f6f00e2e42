"""Panels of images, and videos side by side: the stimuli next to their reconstructions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from neurorecon.errors import InputError
from neurorecon.figures.style import (
    GRAY,
    axes_mm,
    journal_style,
    new_figure,
    tag_simulated,
    text_mm,
    text_size_mm,
    width_mm,
    wrap_mm,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_GAP, _BLOCK, _SCORE, _CAPTION = 0.7, 2.2, 3.0, 3.2


def panel(
    rows: Mapping[str, np.ndarray],
    *,
    captions: Sequence[str] | None = None,
    scores: Mapping[str, Sequence[float]] | None = None,
    score_label: str | None = None,
    below: Mapping[str, Sequence[str]] | None = None,
    per_line: int = 10,
    title: str | None = None,
    note: str | None = None,
    width: str | float = "double",
    simulated: bool = False,
) -> Figure:
    """Plot rows of images, one column per stimulus.

    Parameters
    ----------
    rows : mapping of str to array, shape (image, y, x) or (image, y, x, rgb)
        Images by label of the row, e.g. ``"seen"`` and ``"reconstructed"``: uint8, or floats from 0 (black) to 1
        (white), clipped to this range.
    captions : sequence of str, optional
        Caption above each column.
    scores : mapping of str to sequence of float, optional
        Scores by row: one per image, written below it.
    score_label : str, optional
        Name of the score, for the note below the panel.
    below : mapping of str to sequence of str, optional
        Text by row, in place of scores: one per image, written below it.
    per_line : int
        Number of columns per block; further columns go into blocks below.
    title, note : str, optional
        Text above and below the panel.
    width : str or float
        ``"single"``, ``"one-and-a-half"``, ``"double"``, or a number of millimeters.
    simulated : bool
        Whether to write "simulated data" in the corner.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    InputError
        If a row does not hold images, or the rows, captions and scores differ in length.

    Examples
    --------
    >>> import numpy as np
    >>> from neurorecon.figures import panel
    >>> images = np.random.default_rng(0).random((3, 16, 16, 3))
    >>> figure = panel({"seen": images, "reconstructed": images}, title="Perfect")
    >>> len(figure.axes) > 0
    True
    """
    images = {name: _images(name, given) for name, given in rows.items()}
    count = _check_counts(images, captions, below or scores)
    texts = below or {name: [_number(value) for value in values] for name, values in (scores or {}).items()}
    with journal_style():
        full = width_mm(width)
        probe = new_figure(full, 30)
        left = max(text_size_mm(probe, name, 7)[0] for name in images) + 3.5
        per_line = min(per_line, count)
        size = (full - left - 1.5 + _GAP) / per_line - _GAP
        # Keep a few images from becoming huge.
        size = min(size, 26.0)
        heights = {
            name: size * row.shape[1] / row.shape[2] + (_SCORE if name in texts else 0.0) + _GAP
            for name, row in images.items()
        }
        block = sum(heights.values()) + (_CAPTION if captions is not None else 0.0) + _BLOCK
        text = " ".join(part for part in (_score_text(scores, score_label), note) if part)
        text = wrap_mm(probe, text, full - 3, 6) if text else ""
        top = 6.5 if title or simulated else 4.5  # save_figure may still add "simulated data"
        blocks = -(-count // per_line)
        figure = new_figure(full, top + blocks * block + (2.75 * (text.count("\n") + 1) + 1 if text else 0))
        for number in range(blocks):
            chosen = range(number * per_line, min((number + 1) * per_line, count))
            _draw_block(figure, images, chosen, captions, texts, heights, (left, top + number * block, size))
        if title:
            text_mm(figure, 1.5, 1.2, title, fontsize=8, weight="bold")
        if text:
            text_mm(figure, 1.5, top + blocks * block, text, fontsize=6, color=GRAY, linespacing=1.25)
        if simulated:
            tag_simulated(figure)
    return figure


#: Sizes of videos that are shown side by side: each is at least and at most so wide (pixels).
_WIDE = 160, 256


def side_by_side(videos: Mapping[str, np.ndarray], *, simulated: bool = False) -> np.ndarray:
    """Return videos as one, side by side, each below its label; frame i shows frame i of each.

    Parameters
    ----------
    videos : mapping of str to array, shape (frame, y, x, rgb)
        By label, all of one shape: uint8, or floats from 0 (black) to 1 (white), clipped to this range. Small ones are
        enlarged pixel by pixel, large ones reduced to 256 pixels.
    simulated : bool
        Whether to write "simulated data" below them.

    Returns
    -------
    array, uint8, shape (frame, y, x, rgb)
        Sides have an even number of pixels, as most encoders of videos need.

    Raises
    ------
    InputError
        If these are not videos of one shape.
    """
    from PIL import Image, ImageDraw, ImageFont

    given = {name: (_images(name, frames) * 255).round().astype(np.uint8) for name, frames in videos.items()}
    shapes = {frames.shape for frames in given.values()}
    if len(shapes) != 1 or len(next(iter(shapes))) != 4:
        raise InputError(
            "videos side by side have one shape",
            given=", ".join(f"{name} {frames.shape}" for name, frames in given.items()) or "none",
            expected="(frame, y, x, 3), the same for all",
        )
    number, tall, wide, _ = shapes.pop()
    factor = max(1, -(-_WIDE[0] // wide)) if wide <= _WIDE[1] else _WIDE[1] / wide
    size = round(wide * factor), round(tall * factor)
    gap, line, font = 6, 20, ImageFont.load_default(13)
    full = len(given) * (size[0] + gap) + gap, line + size[1] + (line if simulated else gap)
    page = Image.new("RGB", tuple(side + side % 2 for side in full), "white")
    draw = ImageDraw.Draw(page)
    lefts = {name: gap + place * (size[0] + gap) for place, name in enumerate(given)}
    for name, left in lefts.items():
        draw.text((left + size[0] / 2, line / 2), name, fill="black", font=font, anchor="mm")
    if simulated:
        draw.text((page.width / 2, line * 1.5 + size[1]), "simulated data", fill="gray", font=font, anchor="mm")
    found = np.repeat(np.asarray(page)[None], number, axis=0)
    how = Image.Resampling.NEAREST if factor >= 1 else Image.Resampling.LANCZOS
    for name, left in lefts.items():
        for frame, image in zip(found, given[name], strict=True):
            frame[line : line + size[1], left : left + size[0]] = np.asarray(Image.fromarray(image).resize(size, how))
    return found


def _draw_block(
    figure: Figure,
    images: Mapping[str, np.ndarray],
    chosen: range,
    captions: Sequence[str] | None,
    texts: Mapping[str, Sequence[str]],
    heights: Mapping[str, float],
    place: tuple[float, float, float],
) -> None:
    left, y, size = place
    if captions is not None:
        for column, index in enumerate(chosen):
            x = left + column * (size + _GAP) + size / 2
            text_mm(figure, x, y + _CAPTION - 0.6, _shorten(figure, str(captions[index]), size), ha="center",
                    va="bottom", fontsize=6, color=GRAY)  # fmt: skip
        y += _CAPTION
    for name, row in images.items():
        tall = size * row.shape[1] / row.shape[2]
        text_mm(figure, left - 1.5, y + tall / 2, name, ha="right", va="center", fontsize=7)
        for column, index in enumerate(chosen):
            x = left + column * (size + _GAP)
            axes = axes_mm(figure, x, y, size, tall)
            # Show the pixels of small images as they are; larger images are only resampled for print.
            smooth = "nearest" if max(row.shape[1:3]) <= 32 else "bicubic"
            axes.imshow(row[index], cmap="gray", vmin=0, vmax=1, interpolation=smooth, aspect="auto")
            axes.axis("off")
            if name in texts:
                text = _shorten(figure, texts[name][index], size)
                text_mm(figure, x + size / 2, y + tall + 0.3, text, ha="center", fontsize=6)
        y += heights[name]


def _images(name: str, images: np.ndarray) -> np.ndarray:
    images = np.asarray(images)
    gray = images.ndim == 3
    color = images.ndim == 4 and images.shape[-1] == 3
    if not (gray or color) or 0 in images.shape:
        raise InputError(
            f"the row {name!r} does not hold images",
            given=f"an array of shape {images.shape}",
            expected="shape (image, y, x) or (image, y, x, 3)",
        )
    if images.dtype == np.uint8:
        return images.astype(np.float32) / 255
    if images.dtype == bool:
        return images.astype(np.float32)
    if not np.isfinite(images).all():
        raise InputError(f"the images of the row {name!r} hold NaN or infinity", expected="0 (black) to 1 (white)")
    if np.issubdtype(images.dtype, np.integer):
        raise InputError(
            f"the images of the row {name!r} have an unsupported dtype",
            given=str(images.dtype),
            expected="uint8 (0 to 255), or floats between 0 and 1",
        )
    return np.clip(images.astype(np.float32), 0, 1)


def _check_counts(
    images: Mapping[str, np.ndarray],
    captions: Sequence[str] | None,
    scores: Mapping[str, Sequence[Any]] | None,
) -> int:
    if not images:
        raise InputError("a panel needs at least one row of images", given="none")
    counts = {name: len(row) for name, row in images.items()}
    if captions is not None:
        counts["captions"] = len(captions)
    for name, values in (scores or {}).items():
        if name not in images:
            raise InputError("scores are given for an unknown row", given=name, expected=", ".join(images))
        counts[f"scores of {name}"] = len(values)
    if len(set(counts.values())) != 1:
        raise InputError(
            "the rows of a panel differ in length",
            given=", ".join(f"{name}: {count}" for name, count in counts.items()),
            expected="one image, caption and score per column",
        )
    return next(iter(counts.values()))


def _score_text(scores: Mapping[str, Sequence[float]] | None, label: str | None) -> str:
    if not scores:
        return ""
    means = ", ".join(f"{name} {_number(float(np.nanmean(values)))}" for name, values in scores.items())
    return f"Below the images: {label or 'score'} (mean of those shown: {means})."


def _shorten(figure: Figure, text: str, width: float) -> str:
    if text_size_mm(figure, text, 6)[0] <= width * 0.97:
        return text
    while text and text_size_mm(figure, text + "…", 6)[0] > width * 0.97:
        text = text[:-1]
    return text.rstrip() + "…"


def _number(value: float) -> str:
    return "–" if not np.isfinite(value) else f"{value:.2f}".replace("-", "−")
