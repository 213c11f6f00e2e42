"""Reconstruct stimuli from the responses of a store with one of the systems, and score them beside their nulls."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from neurorecon.analyses.decoding import decoding_samples, peak_delays
from neurorecon.errors import InputError, UnknownNameError
from neurorecon.io.files import write_bytes, write_json
from neurorecon.registry import SYSTEMS
from neurorecon.store.store import Store

#: Stimuli that a panel shows at most; more are thinned out evenly, best to worst.
SHOWN = 20


@dataclass(frozen=True)
class Reconstruction:
    """Stimuli reconstructed from the brain of one subject.

    Parameters
    ----------
    subject, system, task : str
        What was done.
    stimuli : list of str
        Ids of the reconstructed stimuli.
    seen, reconstructed : array, shape (stimulus, y, x, rgb)
        float32 in [0, 1]; reconstructions are averaged over samples of the same stimulus.
    pixel_correlation : array, shape (stimulus,)
        Of each with its stimulus.
    scores : list of dict
        Scores beside their permutation null.
    null : dict of str to array, shape (permutation,)
        The nulls.
    settings : dict
        Everything that was chosen.
    """

    subject: str
    system: str
    task: str
    stimuli: list[str]
    seen: np.ndarray
    reconstructed: np.ndarray
    pixel_correlation: np.ndarray
    scores: list[dict[str, Any]]
    null: dict[str, np.ndarray]
    settings: dict[str, Any]


def reconstruct(
    store: Store,
    system: str = "linear-pixels",
    subject: str | None = None,
    roi: str | Iterable[str] | None = None,
    *,
    task: str | None = None,
    cross_validate: str | None = None,
    n_permutations: int = 1000,
    seed: int = 0,
    device: str = "cpu",
) -> Reconstruction:
    """Reconstruct what a subject saw.

    Parameters
    ----------
    store : Store
        From :func:`neurorecon.open_store`; it has to hold images.
    system : str
        Name of a registered system.
    subject : str, optional
        By default the first.
    roi : str or list of str, optional
        As in :meth:`Store.responses`; by default all voxels.
    task : str, optional
        By default the one with the most stimuli.
    cross_validate : str, optional
        Leave one value of this out at a time: a column of the stimuli (``"category"``) or of the samples
        (``"session"``, ``"run"``, ``"stimulus"``). By default the model is fitted on the training split and the test
        split is reconstructed.
    n_permutations, seed : int
        Of the null.
    device : str
        Where regressions are solved.

    Returns
    -------
    Reconstruction

    Raises
    ------
    UnknownNameError, InputError
        Where a name does not exist, or the store has no test split and `cross_validate` was not given.
    """
    from neurorecon.systems.linear_pixels import LinearPixels

    name = subject if subject is not None else store.subjects[0]
    built = SYSTEMS.load(system)(device=device)
    if not isinstance(built, LinearPixels):
        raise InputError(
            f"the system {system!r} cannot be run from here yet",
            given=type(built).__name__,
            expected="a system of the sort of LinearPixels",
            todo="call the system's own fit and predict",
        )
    picked = _choose_task(store, name, task)
    settings: dict[str, Any] = {
        "subject": name,
        "system": system,
        "roi": roi if roi is None or isinstance(roi, str) else list(roi),
        "task": picked,
        "cross_validate": cross_validate,
        "n_permutations": n_permutations,
        "seed": seed,
        "device": device,
        "voxels": len(store.voxels(name, roi)),
        "delays": list(peak_delays(store, name, picked)),
    }
    if cross_validate is None:
        return _held_out(store, name, roi, picked, built, settings)
    return _cross_validated(store, name, roi, picked, built, cross_validate, settings)


def _choose_task(store: Store, subject: str, task: str | None) -> str:
    samples = store.samples(subject)
    if task is None:
        return str(samples.groupby("task", sort=False)["stimulus"].nunique().idxmax())
    if task not in store.tasks(subject):
        raise UnknownNameError("task", task, store.tasks(subject))
    return task


def _images(store: Store, ids: Iterable[str]) -> np.ndarray:
    """Return one image per id (repeats allowed); read once per stimulus."""
    codes, unique = pd.factorize(pd.Series(list(ids)))
    return store.images([str(name) for name in unique]).values[codes]


def _held_out(store: Store, subject: str, roi: Any, task: str, system: Any, settings: dict[str, Any]) -> Reconstruction:
    from neurorecon.systems.held_out import reconstruct_held_out

    samples = store.samples(subject)
    splits = set(samples.loc[samples["task"] == task, "split"])
    if not {"train", "test"} <= splits:
        raise InputError(
            f"the task {task!r} has no held-out stimuli",
            given=f"splits: {', '.join(sorted(splits))}",
            expected="a split 'train' and a split 'test', or a column to cross-validate over",
            todo="add --cross-validate category (or stimulus, run, session)",
        )
    train, test = (decoding_samples(store, subject, roi, split, task) for split in ("train", "test"))
    ids = test[1]["stimulus"].tolist()
    found = reconstruct_held_out(
        (train[0], _images(store, train[1]["stimulus"]), train[1]["stimulus"].to_numpy()),
        (test[0], _images(store, ids)),
        system=system,
        n_permutations=settings["n_permutations"],
        seed=settings["seed"],
    )
    settings |= {"train_samples": len(train[0]), "test_stimuli": len(ids), "alpha": found.alpha}
    scores = [_row(subject, score) for score in found.scores]
    return Reconstruction(
        subject,
        settings["system"],
        task,
        ids,
        found.seen,
        found.reconstructed,
        found.pixel_correlation,
        scores,
        found.null,
        settings,
    )


def _cross_validated(
    store: Store, subject: str, roi: Any, task: str, system: Any, column: str, settings: dict[str, Any]
) -> Reconstruction:
    from neurorecon.metrics.image import pixel_correlation
    from neurorecon.systems.cross_validation import cross_validate, cross_validated_null, reconstruction_scores

    delays = peak_delays(store, subject, task)
    found = store.responses(subject, roi, task=task, delays=delays)
    responses = found.values.reshape(found.sizes["sample"], max(1, len(delays)), -1).mean(axis=1)
    ids = found["stimulus"].values
    labels = _labels(store, found, ids, column)
    arguments: Any = {"stimuli": ids, "system": system}
    images = _images(store, ids)
    result = cross_validate(responses, images, labels, **arguments)
    null = cross_validated_null(
        responses,
        images,
        labels,
        n_permutations=settings["n_permutations"],
        seed=settings["seed"],
        **arguments,
    )
    settings |= {"samples": len(ids), "stimuli": len(result.stimuli), "alphas": result.alphas}
    scores = [_row(subject, score) for score in reconstruction_scores(result, null)]
    per_stimulus = pixel_correlation(result.seen, result.reconstructed)
    return Reconstruction(
        subject,
        settings["system"],
        task,
        [str(stimulus) for stimulus in result.stimuli],
        result.seen,
        result.reconstructed,
        per_stimulus,
        scores,
        null,
        settings,
    )


def _labels(store: Store, found: Any, ids: np.ndarray, column: str) -> np.ndarray:
    if column in ("stimulus", "session", "run"):
        return found[column].values.astype(str)
    table = store.stimuli.set_index("id")
    if column != "category":
        raise UnknownNameError("column to cross-validate over", column, ["category", "stimulus", "session", "run"])
    return table[column].loc[ids.tolist()].to_numpy().astype(str)


def _row(subject: str, score: Any) -> dict[str, Any]:
    row = asdict(score)
    return {**row, "name": f"{subject} {row['name']}"}


def write_reconstruction(found: Reconstruction, store: Store, out: str | Path, record: Mapping[str, Any]) -> list[Path]:
    """Write a reconstruction into a folder: panel and nulls as figures, scores, images, and how it was made."""
    from neurorecon.figures import save_figure

    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    stem = folder / f"{found.subject}_{found.system}"
    table = pd.DataFrame({"stimulus": found.stimuli, "pixel_correlation": found.pixel_correlation})
    files = [
        write_bytes(f"{stem}_stimuli.csv", table.to_csv(index=False, float_format="%.6g").encode()),
        write_json(f"{stem}.json", {**record, "settings": found.settings, "scores": found.scores}),
        write_bytes(
            f"{stem}_rebuilt.npz",
            _npz(stimulus=np.array(found.stimuli), seen=found.seen, reconstructed=found.reconstructed),
        ),
    ]
    for name, figure in figures_of(found, store).items():
        files += save_figure(figure, f"{stem}_{name}", record)
    return files


def _npz(**arrays: np.ndarray) -> bytes:
    import io

    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def figures_of(found: Reconstruction, store: Store) -> dict[str, Any]:
    """Return the figures of a reconstruction by name: the panel, and each score in its null."""
    from neurorecon.figures import null_histogram, panel

    order = np.argsort(-np.nan_to_num(found.pixel_correlation, nan=-2.0), kind="stable")
    picked = order[np.unique(np.linspace(0, len(order) - 1, min(SHOWN, len(order))).round().astype(int))]
    how = settings_sentence(found)
    shown = f"All {len(order)}" if len(picked) == len(order) else f"{len(picked)} of {len(order)}"
    figures: dict[str, Any] = {
        "panel": panel(
            {"seen": found.seen[picked], "reconstructed": found.reconstructed[picked]},
            scores={"reconstructed": found.pixel_correlation[picked].tolist()},
            score_label="pixel correlation",
            title=f"Seen and reconstructed · {found.subject} · {store.name}",
            note=f"{how} {shown} stimuli, from the best to the worst.",
            simulated=store.simulated,
        )
    }
    for score in found.scores:
        key = score["name"].split(" ", 1)[1]
        figures[f"null_{key}"] = null_histogram(
            score["value"], found.null[key], score["p"], key.replace("_", " "), simulated=store.simulated
        )
    return figures


def settings_sentence(found: Reconstruction) -> str:
    """Say in one sentence how the reconstructions were made."""
    column = found.settings["cross_validate"]
    how = f"leave one {column} out" if column else "fitted on the training split"
    return f"Ridge regression from {found.settings['voxels']:,} voxels to pixels, {how}."
