"""Write decoded categories: tables, brain image, figures, and the record of how they were made."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np

from neurorecon.analyses.classification import Classification
from neurorecon.analyses.maps_files import write_brain_images
from neurorecon.io.files import write_bytes, write_json
from neurorecon.store.store import Store


def write_classification(
    found: Classification, store: Store, out: str | Path, record: Mapping[str, Any], *, figures: bool = True
) -> list[Path]:
    """Write decoded categories into a folder.

    Parameters
    ----------
    found : Classification
        From :func:`neurorecon.classify`.
    store : Store
        The store that it was made from.
    out : path
        The folder; made where it does not exist.
    record : mapping
        From :func:`neurorecon.record_of`; goes into every file that can hold it.
    figures : bool
        Draw figures too.

    Returns
    -------
    list of Path
        JSON of scores and settings; CSV of samples, confusions and voxels; the map of F, p and q as NIfTI, GIFTI or
        CIFTI, as the space is; figures.
    """
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    stem = folder / f"{found.subject}_classify"
    own = {**record, "extra": found.settings}
    files = [
        write_json(f"{stem}.json", {**record, "settings": found.settings, "scores": found.scores}),
        write_bytes(f"{stem}_samples.csv", found.samples.to_csv(index=False, float_format="%.6g").encode()),
        write_bytes(f"{stem}_confusion.csv", found.confusion.to_csv().encode()),
        write_bytes(f"{stem}_voxels.csv", found.table.to_csv(float_format="%.6g").encode()),
        # It asks for subject, kind, table and maps, all of which a classification has.
        *write_brain_images(cast(Any, found), store, stem, own),
    ]
    if figures:
        from neurorecon.figures import save_figure

        for name, figure in figures_of(found, store).items():
            files += save_figure(figure, f"{stem}_{name}", own)
    return files


def figures_of(found: Classification, store: Store) -> dict[str, Any]:
    """Return the figures by name: the accuracy in its null, and, for a volume, the map slice by slice."""
    from neurorecon.figures import null_histogram, volume

    score = found.scores[0]
    figures: dict[str, Any] = {
        "null_accuracy": null_histogram(
            score["value"], found.null["accuracy"], score["p"], "accuracy", simulated=store.simulated
        )
    }
    space = store.space(found.subject)
    if space.kind == "volume":
        voxels = store.voxels(found.subject).iloc[found.table.index.to_numpy()]
        significant = space.unmask(found.table["significant"].to_numpy(dtype=float), voxels, fill=0.0)
        figures["slices_f"] = volume(
            space.unmask(found.table["f"].to_numpy(), voxels),
            label="F of category",
            cmap="inferno",
            vmin=0.0,
            mask=significant.get_fdata() > 0,
            title=f"F of category · {found.subject} · {store.name}, {found.task}",
            note=f"{', '.join(found.categories)}. Significant: q (FDR) at most {found.settings['level']:g}.",
            simulated=store.simulated,
        )
    return figures


def as_text(found: Classification, store: Store) -> str:
    """Return what was found as a text for a terminal."""
    label = "SIMULATED responses" if store.simulated else "measured responses"
    settings = found.settings
    lines = [
        f"\n{found.subject} · {store.name} ({label}) · {found.task}",
        f"Linear support vector machine, {len(found.categories)} categories, {settings['voxels']:,} voxels, "
        f"{settings['samples']} samples, leave one {settings['cross_validate']} out ({settings['folds']} folds).",
    ]
    if settings["stimuli_met_in_training"] and settings["stimuli"] > len(found.categories):
        lines.append(
            f"{settings['stimuli_met_in_training']} of {settings['stimuli']} stimuli occur in several folds: for those "
            "the stimulus may be told rather than its category (--cross-validate stimulus)."
        )
    lines.append(f"{'score':<40}{'value':>8}{'null mean':>11}{'null max':>10}{'p':>8}{'n':>6}{'one guess':>12}")
    lines += [
        f"{score['name'].split(' ', 1)[1].replace('_', ' '):<40}{score['value']:>8.3f}{score['null_mean']:>11.3f}"
        f"{score['null_max']:>10.3f}{score['p']:>8.3f}{score['n']:>6}{score['baseline']:>12.3f}"
        for score in found.scores
    ]
    right = np.diag(found.confusion.to_numpy()) / found.confusion.to_numpy().sum(axis=1)
    parts = [f"{name} {value:.2f}" for name, value in zip(found.categories, right, strict=True)]
    lines += [
        "by category: " + ", ".join(parts),
        f"{int(found.table['significant'].sum()):,} of {len(found.table):,} voxels differ between categories "
        f"(F, permutation, FDR {settings['level']:g})",
    ]
    return "\n".join(lines)
