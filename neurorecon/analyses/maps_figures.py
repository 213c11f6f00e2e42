"""The figures of a map: cortex, flat map or slices, a bar per area and band, an interactive page."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from neurorecon.analyses.maps import VoxelwiseMap
from neurorecon.provenance import write_bytes
from neurorecon.store.store import Store

_WHAT = {"encoding": "Split R²", "decoding": "RMS decoder weight", "haufe": "Haufe pattern"}


def draw_maps(found: VoxelwiseMap, store: Store, stem: str | Path, record: Mapping[str, Any]) -> list[Path]:
    """Draw every figure of a map and write it; returns the files."""
    from neurorecon.figures import save_figure

    files: list[Path] = []
    for name, figure in figures_of(found, store).items():
        files += save_figure(figure, f"{stem}_{name}", record)
    page = interactive_page(found, store, record)
    if page is not None:
        files.append(write_bytes(f"{stem}_interactive.html", page.encode()))
    return files


def figures_of(found: VoxelwiseMap, store: Store) -> dict[str, Any]:
    """Return the figures of a map by name."""
    figures: dict[str, Any] = {}
    if len(found.areas):
        figures["areas"] = bars(found, store)
    space = store.space(found.subject)
    if space.kind == "surface":
        figures |= _surface_figures(found, store)
    elif space.kind == "volume":
        figures |= _volume_figures(found, store)
    return figures


def title_of(found: VoxelwiseMap, store: Store, what: str) -> str:
    """Return the title of a figure: what, of whom, from which data."""
    return f"{what} · {found.subject} · {store.name}, {found.task}"


def bars(found: VoxelwiseMap, store: Store) -> Any:
    """Draw a bar for each area and band."""
    from neurorecon.figures import band_bars

    table = found.areas.dropna(axis=1, how="all")
    note = "Mean over all voxels of the area."
    if found.kind == "encoding":
        note += " Whiskers: 95 % bootstrap over test stimuli."
    columns = [name for name in ("roi", "band", "value", "low", "high", "ceiling", "joint", "n") if name in table]
    return band_bars(
        table[columns],
        bands=found.bands,
        label=_WHAT[found.kind],
        quantity=found.kind,
        title=title_of(found, store, _WHAT[found.kind] + " by area"),
        note=note,
        simulated=store.simulated,
    )


def by_hemisphere(found: VoxelwiseMap, store: Store, values: np.ndarray, fill: float = np.nan) -> dict[str, np.ndarray]:
    """Return values on the vertices of each hemisphere, `fill` elsewhere."""
    sizes = store.space(found.subject).vertices
    spread = {}
    for side in ("left", "right"):
        rows = (found.table["hemisphere"] == side).to_numpy()
        spread[side] = np.full(sizes[side], fill)
        spread[side][found.table["vertex"].to_numpy()[rows]] = np.asarray(values, dtype=float)[rows]
    return spread


def outlines_of(found: VoxelwiseMap, store: Store) -> dict[str, dict[str, np.ndarray]]:
    """Return the areas of the map as bool masks over vertices."""
    areas = dict.fromkeys(found.areas["roi"]) if len(found.areas) else {}
    masks = store.roi_masks(found.subject)
    where = found.table.index.to_numpy()
    return {
        area: {side: part > 0 for side, part in by_hemisphere(found, store, masks[area][where], 0.0).items()}
        for area in areas
    }


def _significant(found: VoxelwiseMap, band: str | None) -> np.ndarray:
    column = "significant" if found.kind == "encoding" else f"significant_{band}"
    return found.table[column].to_numpy(dtype=bool)


def _quantities(found: VoxelwiseMap) -> dict[str, tuple[str, str | None]]:
    """Return the maps to draw: column -> (label, band)."""
    if found.kind == "encoding":
        return {"r2": ("Joint R²", None)} | {f"r2_{band}": (f"Split R², {band}", band) for band in found.bands}
    return {f"{found.kind}_{band}": (f"{_WHAT[found.kind]}, {band}", band) for band in found.bands}


def _surface_figures(found: VoxelwiseMap, store: Store) -> dict[str, Any]:
    from neurorecon.figures import cortex, cortex_bands, flat, flat_bands

    mesh, shown = store.space(found.subject).mesh or "fsaverage5", outlines_of(found, store)
    common: dict[str, Any] = {"mesh": mesh, "outlines": shown, "simulated": store.simulated}
    figures: dict[str, Any] = {}
    for column, (label, band) in _quantities(found).items():
        values = by_hemisphere(found, store, found.table[column].to_numpy())
        mask = {side: part > 0 for side, part in by_hemisphere(found, store, _significant(found, band), 0.0).items()}
        options = {**common, "label": label, "quantity": found.kind, "mask": mask, "vmin": 0.0}
        title = title_of(found, store, label)
        figures[f"flat_{column}"] = flat(values, title=title, **options)
        if band is None or found.kind != "encoding":
            figures[f"cortex_{column}"] = cortex(values, title=title, **options)
    if found.kind == "encoding":
        codes = {band: number for number, band in enumerate(found.bands)}
        winner = by_hemisphere(found, store, found.table["winning_band"].map(codes).fillna(-1).to_numpy(), -1.0)
        title = title_of(found, store, "Winning band")
        figures["flat_bands"] = flat_bands(winner, found.bands, title=title, **common)
        figures["cortex_bands"] = cortex_bands(winner, found.bands, title=title, **common)
    return figures


def _volume_figures(found: VoxelwiseMap, store: Store) -> dict[str, Any]:
    from neurorecon.figures import volume

    space, voxels = store.space(found.subject), store.voxels(found.subject).iloc[found.table.index.to_numpy()]
    figures = {}
    for column, (label, band) in _quantities(found).items():
        image = space.unmask(found.table[column].to_numpy(), voxels)
        mask = space.unmask(_significant(found, band).astype(float), voxels, fill=0.0).get_fdata() > 0
        figures[f"slices_{column}"] = volume(
            image,
            label=label,
            quantity=found.kind,
            mask=mask,
            vmin=0.0,
            title=title_of(found, store, label),
            simulated=store.simulated,
        )
    return figures


def interactive_page(found: VoxelwiseMap, store: Store, record: Mapping[str, Any]) -> str | None:
    """Return a self-contained page on which to choose a map and read values; None without a geometry."""
    kind = store.space(found.subject).kind
    if kind == "surface":
        return _surface_page(found, store, record)
    if kind == "volume":
        from neurorecon.figures import interactive_volume

        column, (label, _) = next(iter(_quantities(found).items()))
        voxels = store.voxels(found.subject).iloc[found.table.index.to_numpy()]
        image = store.space(found.subject).unmask(found.table[column].to_numpy(), voxels)
        return interactive_volume(
            image,
            label=label,
            title=title_of(found, store, label),
            simulated=store.simulated,
            provenance=record,
        )
    return None


def _surface_page(found: VoxelwiseMap, store: Store, record: Mapping[str, Any]) -> str:
    from neurorecon.figures import interactive

    maps: dict[str, dict[str, np.ndarray]] = {}
    options: dict[str, dict[str, Any]] = {}
    for column, (label, _) in _quantities(found).items():
        maps[label] = by_hemisphere(found, store, found.table[column].to_numpy())
        options[label] = {"quantity": found.kind, "vmin": 0.0}
    if found.kind == "encoding":
        codes = {band: number for number, band in enumerate(found.bands)}
        winner = found.table["winning_band"].map(codes).fillna(np.nan).to_numpy()
        maps["Winning band"] = by_hemisphere(found, store, winner)
        options["Winning band"] = {"categories": found.bands}
    for column, label in (("noise_ceiling", "Noise ceiling (R²)"), ("q", "q (false discovery rate)")):
        if column in found.table:
            maps[label] = by_hemisphere(found, store, found.table[column].to_numpy())
    return interactive(
        maps,
        options=options,
        mesh=store.space(found.subject).mesh or "fsaverage5",
        outlines=outlines_of(found, store),
        title=title_of(found, store, "Voxel-wise maps"),
        simulated=store.simulated,
        provenance=record,
    )
