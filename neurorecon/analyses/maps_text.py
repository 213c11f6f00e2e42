"""The table that ``neurorecon maps`` prints."""

from __future__ import annotations

import textwrap

import pandas as pd

from neurorecon.analyses.maps import VoxelwiseMap
from neurorecon.analyses.maps_normalized import rois_with_normalized
from neurorecon.figures.style import band_label
from neurorecon.store.store import Store

#: Columns of a table.
WIDTH = 110


def as_text(found: VoxelwiseMap, store: Store) -> str:
    """Return the ROIs of a map as a table a person can read, at most :data:`WIDTH` columns."""
    label = "SIMULATED responses" if store.simulated else "measured responses"
    settings = found.settings
    lines = [
        "",
        f"{found.subject} · {store.name} ({label}) · {found.task}: {settings['train_stimuli']} training and "
        f"{settings['test_stimuli']} test stimuli, {settings['voxels']:,} voxels",
    ]
    lines += _band_lines(found, store)
    if found.kind == "encoding":
        return "\n".join([*lines, *_encoding_lines(found)])
    return "\n".join([*lines, *_decoding_lines(found)])


def _band_lines(found: VoxelwiseMap, store: Store) -> list[str]:
    roles = [band if band_label(band) == band else f"{band}: {band_label(band)}" for band in found.bands]
    unused = [name for name in store.targets_available if name not in found.bands]
    also = f" (--bands chooses; also in the store: {', '.join(unused)})" if unused else ""
    return textwrap.wrap(f"bands {'; '.join(roles)}{also}", WIDTH, subsequent_indent="  ")


def _encoding_lines(found: VoxelwiseMap) -> list[str]:
    settings = found.settings
    seconds = [value for value in settings["delay_seconds"] if value]
    how = "banded ridge" + (
        f", features delayed by {', '.join(f'{value:g}' for value in seconds)} s" if seconds else ""
    )
    lines = [
        f"encoding: {how}; R2 on test stimuli, mean over all voxels of the ROI",
        f"{'roi':<8}{'voxels':>7}{'ceiling':>8}{'joint R2':>9}{'/ceil.':>7}{'p':>6}"
        + "".join(f"{band[:10]:>11}" for band in found.bands)
        + f"{'signif.':>8}  wins",
    ]
    rois = rois_with_normalized(found)
    for roi, rows in rois.groupby("roi", sort=False) if len(rois) else ():
        first = rows.iloc[0]
        line = (
            f"{roi:<8}{first['n']:>7}{_or_dash(first['ceiling'], 8)}{first['joint']:>9.3f}"
            f"{_or_dash(first['normalized_joint'], 7)}{first['p']:>6.3f}"
            + "".join(f"{value:>11.3f}" for value in rows["value"])
            + f"{first['significant']:>8}  "
        )
        lines.append(line + _winners(rows, WIDTH - len(line)))
    lines.append(
        f"{settings['significant_voxels']:,} of {settings['voxels']:,} voxels significant "
        f"(permutation test, {settings['n_permutations']} permutations, FDR {settings['level']:g})"
    )
    return lines


def _or_dash(value: float, width: int) -> str:
    """Return a number of two digits, a dash for NaN."""
    return f"{value:>{width}.2f}" if value == value else f"{'-':>{width}}"


def _winners(rows: pd.DataFrame, width: int) -> str:
    """Return how many voxels each band wins, the most first, as far as there is room."""
    winners = rows[rows["wins"] > 0].sort_values("wins", ascending=False, kind="stable")
    texts = [f"{row.band} {row.wins}" for row in winners.itertuples()]
    whole = ", ".join(texts)
    if len(whole) <= width:
        return whole
    kept = next((number for number in range(len(texts) - 1, 0, -1) if len(", ".join(texts[:number])) + 3 <= width), 1)
    return ", ".join(texts[:kept]) + " …"


def _decoding_lines(found: VoxelwiseMap) -> list[str]:
    what = {"decoding": "RMS weight of a voxel in the decoder", "haufe": "strength of the Haufe pattern"}[found.kind]
    lines = [f"{found.kind}: {what}; mean over the ROI's voxels (mean of the null in brackets), significant voxels"]
    for score in found.scores:
        lines.append(
            f"  {score['name']}: {score['value']:.3f} (null mean {score['null_mean']:.3f}, p = {score['p']:.3f})"
        )
    header = f"{'roi':<8}{'voxels':>7}" + "".join(f"{band[:18]:>26}" for band in found.bands)
    lines.append(header)
    for roi, rows in found.rois.groupby("roi", sort=False) if len(found.rois) else ():
        cells = "".join(f"{row.value:>12.4f} ({row.null:.4f}) {row.significant:>4}" for row in rows.itertuples())
        lines.append(f"{roi:<8}{rows.iloc[0]['n']:>7}{cells}")
    return lines
