"""What was seen beside what was reconstructed from the brain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

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
    per_line: int = 10,
    title: str | None = None,
    note: str | None = None,
    width: str | float = "double",
    simulated: bool = False,
) -> Figure:
    """Show rows of images, one column a stimulus.

    Parameters
    ----------
    rows : mapping of str to array, shape (image, y, x) or (image, y, x, rgb)
        Label of the row, e.g. ``"seen"`` and ``"reconstructed"``, and its images: uint8, or numbers where 0 is
        black and 1 white (values beyond are clipped).
    captions : sequence of str, optional
        Above each column.
    scores : mapping of str to sequence of float, optional
        For some rows, the score of each image, written below it.
    score_label : str, optional
        What the scores are; written below the panel.
    per_line : int
        Columns side by side; more go into further blocks below.
    title, note : str, optional
        Above and below.
    width : str or float
        ``"single"``, ``"one-and-a-half"``, ``"double"``, or millimeters.
    simulated : bool
        Writes "simulated data" into the corner.

    Returns
    -------
    matplotlib.figure.Figure
    """
    images = {name: _images(name, given) for name, given in rows.items()}
    count = _check_counts(images, captions, scores)
    with journal_style():
        full = width_mm(width)
        probe = new_figure(full, 30)
        left = max(text_size_mm(probe, name, 7)[0] for name in images) + 3.5
        per_line = min(per_line, count)
        size = (full - left - 1.5 + _GAP) / per_line - _GAP
        # Few images need not be huge.
        size = min(size, 26.0)
        heights = {
            name: size * row.shape[1] / row.shape[2] + (_SCORE if scores and name in scores else 0.0) + _GAP
            for name, row in images.items()
        }
        block = sum(heights.values()) + (_CAPTION if captions is not None else 0.0) + _BLOCK
        text = " ".join(part for part in (_score_text(scores, score_label), note) if part)
        text = wrap_mm(probe, text, full - 3, 6) if text else ""
        top = 6.5 if title or simulated else 4.5  # save_figure may still add the words
        blocks = -(-count // per_line)
        figure = new_figure(full, top + blocks * block + (2.75 * (text.count("\n") + 1) + 1 if text else 0))
        for number in range(blocks):
            chosen = range(number * per_line, min((number + 1) * per_line, count))
            _draw_block(figure, images, chosen, captions, scores, heights, (left, top + number * block, size))
        if title:
            text_mm(figure, 1.5, 1.2, title, fontsize=8, weight="bold")
        if text:
            text_mm(figure, 1.5, top + blocks * block, text, fontsize=6, color=GRAY, linespacing=1.25)
        if simulated:
            tag_simulated(figure)
    return figure


def _draw_block(
    figure: Figure,
    images: Mapping[str, np.ndarray],
    chosen: range,
    captions: Sequence[str] | None,
    scores: Mapping[str, Sequence[float]] | None,
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
            # The pixels of small images are the data; larger ones are only enlarged for print.
            smooth = "nearest" if max(row.shape[1:3]) <= 32 else "bicubic"
            axes.imshow(row[index], cmap="gray", vmin=0, vmax=1, interpolation=smooth, aspect="auto")
            axes.axis("off")
            if scores and name in scores:
                text_mm(
                    figure,
                    x + size / 2,
                    y + tall + 0.3,
                    _number(scores[name][index]),
                    ha="center",
                    fontsize=6,
                )
        y += heights[name]


def _images(name: str, images: np.ndarray) -> np.ndarray:
    images = np.asarray(images)
    gray = images.ndim == 3
    color = images.ndim == 4 and images.shape[-1] == 3
    if not (gray or color) or 0 in images.shape:
        raise InputError(
            f"the row {name!r} holds no images",
            given=f"an array of shape {images.shape}",
            expected="shape (image, y, x) or (image, y, x, 3)",
        )
    if images.dtype == np.uint8:
        return images.astype(np.float32) / 255
    if images.dtype == bool:
        return images.astype(np.float32)
    if not np.isfinite(images).all():
        raise InputError(f"the row {name!r} holds numbers that are not finite", expected="0 (black) to 1 (white)")
    if np.issubdtype(images.dtype, np.integer):
        raise InputError(
            f"the numbers of the row {name!r} cannot be read as gray levels",
            given=str(images.dtype),
            expected="uint8 (0 to 255), or floats between 0 and 1",
        )
    return np.clip(images.astype(np.float32), 0, 1)


def _check_counts(
    images: Mapping[str, np.ndarray],
    captions: Sequence[str] | None,
    scores: Mapping[str, Sequence[float]] | None,
) -> int:
    if not images:
        raise InputError("a panel needs rows of images", given="none")
    counts = {name: len(row) for name, row in images.items()}
    if captions is not None:
        counts["captions"] = len(captions)
    for name, values in (scores or {}).items():
        if name not in images:
            raise InputError("scores of a row that is not there", given=name, expected=", ".join(images))
        counts[f"scores of {name}"] = len(values)
    if len(set(counts.values())) != 1:
        raise InputError(
            "the rows of a panel do not have the same number of images",
            given=", ".join(f"{name}: {count}" for name, count in counts.items()),
            expected="one image, caption and score per column",
        )
    return next(iter(counts.values()))


def _score_text(scores: Mapping[str, Sequence[float]] | None, label: str | None) -> str:
    if not scores:
        return ""
    means = ", ".join(f"{name} {_number(float(np.nanmean(values)))}" for name, values in scores.items())
    return f"Below the images: {label or 'score'} (mean of all shown: {means})."


def _shorten(figure: Figure, text: str, width: float) -> str:
    if text_size_mm(figure, text, 6)[0] <= width * 0.97:
        return text
    while text and text_size_mm(figure, text + "…", 6)[0] > width * 0.97:
        text = text[:-1]
    return text.rstrip() + "…"


def _number(value: float) -> str:
    return "–" if not np.isfinite(value) else f"{value:.2f}".replace("-", "−")
