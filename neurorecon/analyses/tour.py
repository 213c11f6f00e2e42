"""The tour: what ``neurorecon demo`` shows of the toolkit on the embedded data set, as files and one report."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from neurorecon.analyses import maps_figures
from neurorecon.analyses.maps import VoxelwiseMap, voxelwise_maps
from neurorecon.analyses.maps_files import write_maps
from neurorecon.analyses.reconstruct import Reconstruction, reconstruct, write_reconstruction
from neurorecon.analyses.reconstruct import figures_of as reconstruction_figures
from neurorecon.analyses.record import record_of
from neurorecon.figures.style import band_label
from neurorecon.store.store import Store

#: The area that the tour looks at closely.
AREA = "MT"

#: Pictures and film frames shown in the report.
PICTURES, FILMS = 20, 4


def tour(
    store: Store, out: str | Path, *, command: str, say: Callable[[str], None] = print, seed: int = 0
) -> tuple[list[Path], list[dict[str, Any]]]:
    """Map one area and the whole cortex, rebuild pictures linearly, and write a report that opens offline.

    Parameters
    ----------
    store : Store
        The embedded store.
    out : path
        Folder for the files.
    command : str
        Goes into the record of every file.
    say : callable
        Told what is being done.
    seed : int
        Of permutations and resampling.

    Returns
    -------
    files : list of Path
        The report first.
    scores : list of dict
        All scores beside their nulls.
    """
    folder, subject = Path(out), store.subjects[0]
    record = record_of(store, command, seed=seed)
    say(f"maps of {AREA} ...")
    area = voxelwise_maps(store, subject, AREA, seed=seed)
    files = write_maps(area, store, folder / AREA, record)
    say("maps of the whole cortex ...")
    cortex = [voxelwise_maps(store, name, seed=seed) for name in store.subjects]
    files += write_maps(cortex, store, folder / "cortex", record)
    say("maps of the whole cortex from pictures ...")
    pictures = voxelwise_maps(store, subject, task="images", seed=seed)
    files += write_maps(pictures, store, folder / "pictures", record)
    say("linear reconstruction ...")
    rebuilt = reconstruct(store, "linear-pixels", subject, seed=seed)
    files += write_reconstruction(rebuilt, store, folder / "reconstruction", record)
    say("report ...")
    report = write_report(folder / "report.html", store, area, [*cortex, pictures], rebuilt, record)
    scores = [score for found in (area, *cortex, pictures) for score in found.scores] + rebuilt.scores
    return [report, *files], scores


def write_report(
    path: Path,
    store: Store,
    area: VoxelwiseMap,
    cortex: list[VoxelwiseMap],
    rebuilt: Reconstruction,
    record: dict[str, Any],
) -> Path:
    """Write the report of the tour: stimuli, maps, reconstruction; one file that loads nothing.

    Of the maps of the whole cortex, the first one of each task is shown.
    """
    from neurorecon.figures import Picture, Section, Table, report

    tasks = {found.task: found for found in reversed(cortex)}
    shown = [found for found in cortex if tasks[found.task] is found]
    sections = [
        Section("Stimuli", _stimuli_text(store), [Picture(figure, caption) for figure, caption in _stimuli(store)]),
        *(_map_section(found, store, record, whole_page=found is shown[0]) for found in shown),
        Section(
            f"A closer look at {AREA}",
            f"The same model on the voxels of {AREA} alone, as `neurorecon maps --roi {AREA}` makes it.",
            [_area_table(Table, area)],
        ),
        Section(
            "Linear reconstruction",
            "Ridge regression from voxels to pixels: the baseline of all systems. Nothing in these pictures was made "
            "up by a generative model; what is blurred here is not in the responses in linear form.",
            [
                *(Picture(figure) for figure in reconstruction_figures(rebuilt, store).values()),
                _score_table(Table, rebuilt),
            ],
        ),
    ]
    return report(
        path,
        "neurorecon: the tour",
        sections,
        record,
        lead="All responses in this report are simulated: the brain is a model, and what was planted in it is known. "
        "The same commands run on measured data.",
    )


def _map_section(found: VoxelwiseMap, store: Store, record: dict[str, Any], *, whole_page: bool) -> Any:
    """Return the section on one map of the whole cortex; the interactive page is large, so one map has it."""
    from neurorecon.figures import Page, Picture, Section, Table

    what = _TASKS.get(found.task, found.task)
    figures = maps_figures.plan(found, store)
    page = maps_figures.interactive_page(found, store, record) if whole_page else None
    return Section(
        f"What each voxel encodes: {what}",
        f"Banded ridge regression predicts the response of each voxel to the {what} from bands of features: "
        f"{_bands_text(found.bands)}. R² on held-out {what} is split over the bands by the product measure. "
        f"p-values come from permutations of the held-out {what}; maps show voxels below a false discovery "
        f"rate of 5 %. {_WHY.get(found.task, '')}",
        [
            *(Picture(figures[name](), caption) for name, caption in _MAP_FIGURES.items() if name in figures),
            *([Page(page, "Choose a map; point at the cortex to read its values.", 700)] if page else []),
            _area_table(Table, found),
        ],
    )


#: Tasks of the embedded data set, as the report calls them.
_TASKS = {"images": "pictures", "films": "films"}

#: What a reader of the winning bands has to know.
_WHY = {
    "films": "Motion energy holds the contrast energy that early areas respond to, which latents of networks hold in "
    "part only: with few films it wins there as well.",
    "images": "Pictures have no motion. There are more of them than of films, so weak bands show.",
}

#: What a band holds, for readers of the report.
_BAND_TEXTS = {
    "clip_image": "what CLIP makes of the picture or the middle frame",
    "category": "how much of each category of objects is to be seen",
    "vqvae": "the latents of the autoencoder that latent diffusion works on",
    "vdvae": "the latents of a very deep variational autoencoder, from layout to texture",
    "gabor": "Gabor energy",
    "motion": "motion energy",
}

_MAP_FIGURES = {
    "cortex_bands": "The band that explains most of each significant voxel.",
    "flat_r2": "Joint R² of all bands on the flattened cortex.",
    "areas": "Split R² by area and band, beside the noise ceiling.",
}


def _bands_text(bands: list[str]) -> str:
    texts = [f"{band_label(name)}, {_BAND_TEXTS[name]}" if name in _BAND_TEXTS else band_label(name) for name in bands]
    return "; ".join(texts)


def _stimuli_text(store: Store) -> str:
    kinds = store.stimuli["kind"].value_counts()
    parts = [f"{number:,} {'pictures' if kind == 'image' else 'films'}" for kind, number in kinds.items()]
    return f"{' and '.join(parts)}, drawn by a program; five captions and a table of contents go with each."


def _stimuli(store: Store) -> list[tuple[Any, str]]:
    """Return figures of some stimuli: one picture per category and strips of films."""
    from neurorecon.figures import panel

    table = store.stimuli
    pictures = table[(table["kind"] == "image") & (table["split"] == "test")]
    picked = _spread(pictures, PICTURES)
    shown = panel(
        {"": store.images(picked["id"].tolist()).values},
        captions=[str(name) for name in picked["category"]],
        title="Pictures of the test set",
        simulated=store.simulated,
    )
    found = [(shown, "Some pictures, with the category of their main object.")]
    films = table[(table["kind"] == "film") & (table["split"] == "test")]
    if len(films):
        picked = _spread(films, FILMS)
        frames = store.frames(picked["id"].tolist()).values
        strips = dict(zip([f"film {number + 1}" for number in range(len(frames))], frames, strict=True))
        seconds = [f"{number / (store.frames_per_second or 1):.2f} s" for number in range(frames.shape[1])]
        strip = panel(strips, captions=seconds, title="Films of the test set", simulated=store.simulated)
        found.append((strip, "Frames of some films: objects and camera move."))
    return found


def _spread(table: pd.DataFrame, number: int) -> pd.DataFrame:
    """Return rows of all categories in turn."""
    turn = table.groupby("category", sort=True).cumcount()
    return table.assign(turn=turn).sort_values(["turn", "category"], kind="stable").head(number)


def _area_table(table: Any, found: VoxelwiseMap) -> Any:
    wide = found.areas.pivot_table(index="roi", columns="band", values="value", sort=False)[found.bands]
    first = found.areas.groupby("roi", sort=False).first()
    rows = [
        [
            roi,
            int(first.loc[roi, "n"]),
            first.loc[roi, "ceiling"],
            first.loc[roi, "joint"],
            first.loc[roi, "p"],
        ]
        + [float(value) for value in wide.loc[roi]]
        + [int(first.loc[roi, "significant"])]
        for roi in wide.index
    ]
    columns = ["area", "voxels", "noise ceiling", "joint R²", "p", *map(band_label, found.bands), "significant"]
    numbers = ["noise ceiling", "joint R²", "p", *map(band_label, found.bands)]
    caption = f"{found.subject}: mean over all voxels of the area; R² of each band is its share of the joint R²."
    return table(columns, rows, caption, dict.fromkeys(numbers, ".3f"))


def _score_table(table: Any, rebuilt: Reconstruction) -> Any:
    rows = [
        [
            score["name"].replace("_", " "),
            score["value"],
            score["null_mean"],
            score["null_max"],
            score["p"],
            score["n"],
            np.nan if score["baseline"] is None else score["baseline"],
        ]
        for score in rebuilt.scores
    ]
    columns = ["score", "value", "null mean", "null max", "p", "stimuli", "mean training picture"]
    numbers = ["value", "null mean", "null max", "p", "mean training picture"]
    return table(columns, rows, "Scores beside their permutation null.", dict.fromkeys(numbers, ".3f"))
