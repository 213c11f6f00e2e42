"""Names of the figures of Miyawaki 2008, found by their patterns.

The files number nothing and name nothing: a figure is known by its patches. The names are the paper's.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

#: Patches along each side of a pattern.
PATCHES = 10

#: What is lit, without the dark margin; rows are separated by slashes.
FIGURES: dict[str, str] = {
    "square": "####/####/####/####",
    "small_frame": "####/#..#/#..#/####",
    "large_frame": "########/########/##....##/##....##/##....##/##....##/########/########",
    "plus": "...##.../...##.../...##.../########/########/...##.../...##.../...##...",
    "x": "##....##/###..###/.######./..####../..####../.######./###..###/##....##",
    "n": "####/#..#/#..#/#..#/#..#",
    "e": "####/#..#/####/#.../####",
    "u": "#..#/#..#/#..#/#..#/####",
    "r": "####/#.../#.../#.../#...",
    "o": "####/#..#/#..#/#..#/####",
}


def figure_name(pattern: np.ndarray) -> str | None:
    """Name a pattern, or return None where it is none of the figures.

    Parameters
    ----------
    pattern : array, shape (y, x)
        0 or 1.

    Returns
    -------
    str or None
        A key of :data:`FIGURES`. The place of the figure in the pattern does not matter.
    """
    rows, columns = np.flatnonzero(pattern.any(axis=1)), np.flatnonzero(pattern.any(axis=0))
    if not rows.size:
        return None
    lit = pattern[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    drawn = "/".join("".join("#" if patch else "." for patch in row) for row in lit)
    return next((name for name, known in FIGURES.items() if known == drawn), None)


def stimulus_table(patterns: np.ndarray, n_random: int = 0) -> pd.DataFrame:
    """Make the table of stimuli: random patterns first, then figures.

    Parameters
    ----------
    patterns : array, shape (stimulus, y, x)
        Distinct patterns, 0 or 1.
    n_random : int
        How many of them, from the first, are random patterns.

    Returns
    -------
    DataFrame
        Columns ``id``, ``kind``, ``category``, ``captions``. Random patterns are ``random0001`` and on. A
        figure is called by its name; one that has none is ``figure01`` and on, and one whose name is taken
        (the same figure at another place) gets a number, e.g. ``plus_2``.
    """
    rows = []
    used: dict[str, int] = {}
    for number, pattern in enumerate(patterns, start=1):
        if number <= n_random:
            rows.append((f"random{number:04d}", "image", "random", ["a random pattern of black and white patches"]))
            continue
        category = figure_name(pattern) or f"figure{number - n_random:02d}"
        used[category] = used.get(category, 0) + 1
        identifier = category if used[category] == 1 else f"{category}_{used[category]}"
        rows.append((identifier, "image", category, [_caption(category)]))
    return pd.DataFrame(rows, columns=["id", "kind", "category", "captions"])


def _caption(category: str) -> str:
    """Say what the figure shows."""
    if category.startswith("figure"):
        return "a figure of white patches on black"
    if category in ("n", "e", "u", "r", "o"):
        return f"the letter {category} in white patches on black"
    name = {"small_frame": "small white frame", "large_frame": "large white frame", "x": "white X"}
    return f"a {name.get(category, f'white {category}')} on black"
