"""The figures of maps and of partitions: cortex, flat map or slices, a bar per ROI and band, an interactive page."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from neurorecon.analyses.design import EncodingSettings
from neurorecon.figures.style import band_label
from neurorecon.provenance import weights_label
from neurorecon.store.store import Store

if TYPE_CHECKING:
    from neurorecon.analyses.maps import VoxelwiseMap
    from neurorecon.analyses.partition import Partition

#: Bars of up to so many ROIs fit into one column of a journal.
FEW_ROIS = 3

#: Millimeters along the cortex that borders of ROIs reach beyond the voxels, as colors do.
BORDER_REACH = 3.0

#: Maps of a smaller share of the voxels than this are close-ups.
CLOSE_UP = 0.25

#: Strengths (RMS weights, lengths of patterns) are never negative, so they take the color map of R2.
_STRENGTH = "inferno"

#: The bar of a partition that belongs to no single band.
_COMMON = "several bands"

_WHAT = {
    "encoding": "Split R²",
    "decoding": "RMS decoder weight",
    "weights": "Mean |weight|",
    "haufe": "Haufe pattern",
    "importance": "Importance",
    "gradient": "Mean |gradient|",
    "product": "|Mean product of weights|",
}


def figures_of(found: VoxelwiseMap, store: Store) -> dict[str, Callable[[], Any]]:
    """Return what draws each figure of a map, by name."""
    figures: dict[str, Callable[[], Any]] = {}
    if len(found.rois):
        figures["rois"] = partial(bars, found, store)
    space = store.space(found.subject)
    if space.kind == "surface":
        figures |= _surface_figures(found, store)
    elif space.kind == "volume":
        for column, (label, band) in _quantities(found).items():
            figures[f"slices_{column}"] = partial(_slices, found, store, column, label, band)
    return figures


def pages_of(found: VoxelwiseMap, store: Store, record: Mapping[str, Any]) -> dict[str, Callable[[], str]]:
    """Return what makes a self-contained page on which to choose a map and read values; nothing without a geometry."""
    pages: dict[str, Callable[[VoxelwiseMap, Store, Mapping[str, Any]], str]]
    pages = {"surface": _surface_page, "volume": _volume_page}
    kind = store.space(found.subject).kind
    if not _quantities(found):  # networks have no map of single voxels
        return {}
    return {"interactive": partial(pages[kind], found, store, record)} if kind in pages else {}


def title_of(found: VoxelwiseMap, store: Store, what: str) -> str:
    """Return the title of a figure: what, of whom, from which data."""
    return f"{what} · {found.subject} · {store.label}, {found.task}"


def level_of(found: VoxelwiseMap) -> str:
    """Return which voxels are called significant, in words: the level and the test."""
    settings: Any = found.settings  # all maps have a false discovery rate
    exchange = found.chosen.get("exchange", {})
    test = f" ({exchange['permutations']} permutations: {exchange['unit']})" if "permutations" in exchange else ""
    return f"q (FDR) at most {settings.fdr:g}{test}"


def weights_note(found: VoxelwiseMap | Partition, store: Store, band: str | None = None) -> str:
    """Return what the bands of a figure were made by: of one band, or of all."""
    made_by = found.made_by(store)
    shown = [band] if band in made_by else list(made_by)
    return f"Features: {'; '.join(f'{name}: {weights_label(made_by[name])}' for name in shown)}." if shown else ""


def bars(found: VoxelwiseMap, store: Store) -> Any:
    """Draw a bar for each ROI and band."""
    from neurorecon.figures.scores import band_bars

    table = found.rois.dropna(axis=1, how="all")
    note = "Mean over all voxels of the ROI."
    if isinstance(found.settings, EncodingSettings):
        held_out = "test stimuli" if found.settings.cross_validate is None else "held-out samples"
        note += f" Whiskers: {100 * found.settings.confidence:g}% jackknife intervals over {held_out}."
        if table.get("q_band") is not None:
            table["star"] = ((table["q_band"] <= found.settings.fdr) & (table["value"] > 0)).astype(float)
            note += f" *: {level_of(found)}, corrected over ROIs and bands."
    note = f"{note} {weights_note(found, store)}"
    wanted = ("roi", "band", "value", "low", "high", "star", "ceiling", "joint", "joint_low", "joint_high", "n")
    columns = [name for name in wanted if name in table]
    return band_bars(
        table[columns],
        bands=found.bands,
        label=_WHAT[found.kind],
        quantity=found.kind,
        title=title_of(found, store, _WHAT[found.kind] + " by ROI"),
        note=note,
        width="double" if table["roi"].nunique() > FEW_ROIS else "single",
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
    """Return the ROIs of the map as bool masks over vertices.

    Vertices without a voxel belong to the ROIs of the nearest one, as far as its color reaches: borders then run
    around ROIs, not around every vertex that was left out. ROIs that divide those before them anew, such as rings of
    eccentricity across V1 to hV4, are left out: their borders would cut through the others.
    """
    from neurorecon.figures.mesh import nearest_source

    space, voxels = store.space(found.subject), store.voxels(found.subject)
    selected = np.zeros(len(voxels), dtype=bool)
    selected[found.table.index.to_numpy()] = True
    rois = dict.fromkeys(found.rois["roi"]) if len(found.rois) else {}
    masks: dict[str, np.ndarray] = {}
    for roi in rois:
        mask = store.roi_masks(found.subject)[roi] & selected
        parts = [mask & other for other in masks.values()]
        divided = bool(parts) and np.array_equal(np.any(parts, axis=0), mask)
        if not divided or any(np.array_equal(part, mask) for part in parts):
            masks[roi] = mask
    outlines: dict[str, dict[str, np.ndarray]] = {roi: {} for roi in masks}
    for side in ("left", "right"):
        rows = (voxels["hemisphere"] == side).to_numpy()
        vertices = voxels["vertex"].to_numpy()[rows]
        measured = np.zeros(space.vertices[side], dtype=bool)
        measured[vertices] = True
        nearest, _ = nearest_source(measured, space.mesh or "fsaverage5", side, BORDER_REACH)
        for roi, mask in masks.items():
            member = np.zeros(space.vertices[side], dtype=bool)
            member[vertices] = mask[rows]
            outlines[roi][side] = np.where(nearest >= 0, member[nearest], False)
    return outlines


def _significant(found: VoxelwiseMap, band: str | None) -> tuple[np.ndarray, str]:
    """Return which voxels are colored, and why, in words.

    Of the maps of a system, all voxels are colored where none was tested or none is significant: weights hardly ever
    are, and an empty cortex would not show how a decoder reads it.
    """
    column = "significant" if band is None else f"significant_{band}"
    values = found.table.get(f"{found.kind}_{band}")
    known = None if values is None else values.notna().to_numpy()
    if column not in found.table:
        assert known is not None, "joint maps are tested"
        return known, "all voxels; they are not tested"
    significant = found.table[column].to_numpy(dtype=bool)
    if found.kind in ("weights", "gradient", "product", "importance") and known is not None and not significant.any():
        return known, f"all voxels; none is significant, {level_of(found)}"
    return significant, level_of(found)


def _quantities(found: VoxelwiseMap) -> dict[str, tuple[str, str | None]]:
    """Return the maps to draw: column -> (label, band)."""
    if found.kind == "encoding":
        pooled = isinstance(found.settings, EncodingSettings) and found.settings.cross_validate is not None
        return {"r2": ("Joint R²", None), **({"r": ("Correlation r", None)} if pooled else {})} | {
            f"r2_{band}": (f"Split R², {band_label(band)}", band) for band in found.bands
        }
    columns = {f"{found.kind}_{band}": (f"{_WHAT[found.kind]}, {band_label(band)}", band) for band in found.bands}
    return {column: about for column, about in columns.items() if column in found.table}


def _surface_figures(found: VoxelwiseMap, store: Store) -> dict[str, Callable[[], Any]]:
    figures: dict[str, Callable[[], Any]] = {}
    # A close-up has one figure of each sort: where the ROI lies and which bands win, the joint R2 of its voxels on the
    # flat map, and the bars. The maps of single bands are on the interactive page.
    whole = len(found.table) > CLOSE_UP * len(store.voxels(found.subject))
    for column, (label, band) in _quantities(found).items():
        joint = band is None or found.kind != "encoding"
        if whole or joint:
            figures[f"flat_{column}"] = partial(_values_figure, found, store, "flat", column, label, band)
        if whole and joint:
            figures[f"cortex_{column}"] = partial(_values_figure, found, store, "cortex", column, label, band)
    if found.kind == "encoding":
        if whole:
            figures["flat_bands"] = partial(_winner_figure, found, store, "flat_bands")
        figures["cortex_bands"] = partial(_winner_figure, found, store, "cortex_bands")
    return figures


def _common(found: VoxelwiseMap, store: Store) -> dict[str, Any]:
    return {
        "mesh": store.space(found.subject).mesh or "fsaverage5",
        "outlines": outlines_of(found, store),
        "simulated": store.simulated,
    }


def _values_figure(found: VoxelwiseMap, store: Store, how: str, column: str, label: str, band: str | None) -> Any:
    import neurorecon.figures.surface as surface

    values = by_hemisphere(found, store, found.table[column].to_numpy())
    significant, why = _significant(found, band)
    shown = by_hemisphere(found, store, significant, 0.0)
    return getattr(surface, how)(
        values,
        label=label,
        quantity=found.kind,
        mask={side: part > 0 for side, part in shown.items()},
        vmin=0.0,
        cmap=None if found.kind == "encoding" else _STRENGTH,
        title=title_of(found, store, label),
        note=f"Colored: {why}. {weights_note(found, store, band)}",
        **_common(found, store),
    )


def _winner_figure(found: VoxelwiseMap, store: Store, how: str) -> Any:
    import neurorecon.figures.surface as surface

    codes = {band: number for number, band in enumerate(found.bands)}
    winner = by_hemisphere(found, store, found.table["winning_band"].map(codes).fillna(-1).to_numpy(), -1.0)
    title = title_of(found, store, "Winning band")
    note = f"Colored: {level_of(found)}, and the best band exceeds the second. {weights_note(found, store)}"
    return getattr(surface, how)(winner, found.bands, title=title, note=note, **_common(found, store))


def _slices(found: VoxelwiseMap, store: Store, column: str, label: str, band: str | None) -> Any:
    from neurorecon.figures.volumes import volume

    space, voxels = store.space(found.subject), found.voxels(store)
    significant, why = _significant(found, band)
    mask = space.unmask(significant.astype(float), voxels, fill=0.0).get_fdata() > 0
    return volume(
        space.unmask(found.table[column].to_numpy(), voxels),
        label=label,
        quantity=found.kind,
        mask=mask,
        vmin=0.0,
        cmap=None if found.kind == "encoding" else _STRENGTH,
        title=title_of(found, store, label),
        note=f"Colored: {why}. {weights_note(found, store, band)}",
        simulated=store.simulated,
    )


def _volume_page(found: VoxelwiseMap, store: Store, record: Mapping[str, Any]) -> str:
    from neurorecon.figures.volumes import interactive_volume

    column, (label, _) = next(iter(_quantities(found).items()))
    image = store.space(found.subject).unmask(found.table[column].to_numpy(), found.voxels(store))
    return interactive_volume(
        image,
        label=label,
        title=title_of(found, store, label),
        note=weights_note(found, store),
        simulated=store.simulated,
        provenance=record,
    )


def _surface_page(found: VoxelwiseMap, store: Store, record: Mapping[str, Any]) -> str:
    from neurorecon.figures.viewer import interactive

    maps: dict[str, dict[str, np.ndarray]] = {}
    options: dict[str, dict[str, Any]] = {}
    for column, (label, _) in _quantities(found).items():
        maps[label] = by_hemisphere(found, store, found.table[column].to_numpy())
        options[label] = {"quantity": found.kind, "vmin": 0.0}
        if found.kind != "encoding":
            options[label]["cmap"] = _STRENGTH
    if found.kind == "encoding":
        codes = {band: number for number, band in enumerate(found.bands)}
        winner = found.table["winning_band"].map(codes).fillna(np.nan).to_numpy()
        maps["Winning band"] = by_hemisphere(found, store, winner)
        options["Winning band"] = {"categories": found.bands}
    others = {"r": "Correlation r", "noise_ceiling": "Noise ceiling (R²)", "q": "q (false discovery rate)"}
    for column, label in others.items():
        if column in found.table and found.table[column].notna().any():
            maps[label] = by_hemisphere(found, store, found.table[column].to_numpy())
    return interactive(
        maps,
        options=options,
        mesh=store.space(found.subject).mesh or "fsaverage5",
        outlines=outlines_of(found, store),
        title=title_of(found, store, "Voxel-wise maps"),
        note=weights_note(found, store),
        simulated=store.simulated,
        provenance=record,
    )


def partition_bars(found: Partition, store: Store) -> Any:
    """Draw for each ROI what every band explains alone, and what several have in common."""
    from neurorecon.figures.scores import band_bars

    single = found.rois[found.rois["bands"].isin(found.bands)].rename(columns={"bands": "band"})
    common = single.groupby("roi", sort=False, as_index=False).agg(
        {"value": "sum", "joint": "first", "ceiling": "first", "n": "first"}
    )
    common = common.assign(band=_COMMON, value=common["joint"] - common["value"], low=np.nan, high=np.nan)
    assert isinstance(found.settings, EncodingSettings)
    how = "jackknife" if found.task in store.series(found.subject) else "bootstrap"
    table = pd.concat([single, common]).dropna(axis=1, how="all")
    columns = [name for name in ("roi", "band", "value", "low", "high", "ceiling", "joint", "n") if name in table]
    return band_bars(
        table[columns],
        rois=list(dict.fromkeys(found.rois["roi"])),
        bands=[*found.bands, _COMMON],
        label="R²",
        title=f"Unique and common variance by ROI · {found.subject} · {store.label}, {found.task}",
        note=f"Bars of bands: R² that no other band explains, mean over all voxels of the ROI; whiskers: "
        f"{100 * found.settings.confidence:g}% {how} intervals over test stimuli. {weights_note(found, store)}",
        width="double" if found.rois["roi"].nunique() > FEW_ROIS else "single",
        simulated=store.simulated,
    )
