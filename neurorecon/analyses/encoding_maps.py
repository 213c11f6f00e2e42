"""Encoding maps of subjects: blocks of voxels are computed, here or on a cluster, and become tables and scores."""

from __future__ import annotations

import functools
import uuid
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from neurorecon.analyses import design
from neurorecon.analyses.areas import roi_masks
from neurorecon.analyses.encoding import names_of, winning_band
from neurorecon.analyses.encoding_blocks import EncodingJob, EncodingScores, compute_products, compute_voxels, gathered
from neurorecon.analyses.maps_result import VoxelwiseMap
from neurorecon.parallel import Compute, Results, ResultsFolder, connect, run
from neurorecon.parallel.jobs import FOLDER
from neurorecon.stats import false_discovery_rate
from neurorecon.store.store import Store


def encoding_maps(
    store: Store,
    settings: Mapping[str, dict[str, Any]],
    asked: Mapping[str, Any],
    *,
    delays: Sequence[int] | None,
    scheduler: Any,
    threads: int,
    results: str | Path | None,
    block: int | None,
    progress: bool,
) -> list[VoxelwiseMap]:
    """Compute the encoding maps of subjects.

    Parameters
    ----------
    store : Store
        Open.
    settings : mapping of str to dict
        What was chosen for each subject, by its name.
    asked : mapping
        What was asked for: all that decides the numbers, beside the store.
    delays, scheduler, threads, results, block, progress
        As for :func:`neurorecon.analyses.maps.maps`.

    Returns
    -------
    list of VoxelwiseMap
    """
    jobs = [_job(store, chosen, delays, block) for chosen in settings.values()]
    kept = _results(store, asked, results, scheduler, jobs)
    with connect(scheduler, threads=threads) as client:
        # On a cluster the blocks of all subjects are under way together; here a subject at a time is in memory.
        for together in [jobs] if client is not None else [[job] for job in jobs]:
            _compute(together, kept, client, threads, progress)
    return [_as_map(store, job, kept, settings[job.subject]) for job in jobs]


def _job(store: Store, chosen: Mapping[str, Any], delays: Sequence[int] | None, block: int | None) -> EncodingJob:
    subject, task, roi = chosen["subject"], chosen["task"], chosen["roi"]
    return EncodingJob(
        store=store,
        subject=subject,
        task=task,
        roi=roi if roi is None or isinstance(roi, str) else tuple(roi),
        bands=tuple(chosen["bands"]),
        delays=design.choose_delays(store, subject, task, delays),
        series=task in store.series(subject),
        n_voxels=chosen["voxels"],
        n_train=len(design.load_samples(store, subject, roi, "train", task, slice(0, 0)).shown),
        n_permutations=chosen["n_permutations"],
        seed=chosen["seed"],
        device=chosen["device"],
        block=block,
    )


def _results(
    store: Store,
    asked: Mapping[str, Any],
    parent: str | Path | None,
    scheduler: Any,
    jobs: Sequence[EncodingJob],
) -> Results:
    """Return where blocks are kept: in memory where that is all that is needed."""
    if scheduler is None and (parent is None or all(len(job.blocks()) == 1 for job in jobs)):
        return Results()
    digests = store.digests()
    inputs = {
        **asked,
        "analysis": "encoding maps",
        "store": store.digest,
        # Of data without digests nobody can say whether they are the same ones.
        "once": "" if all(digests.values()) else uuid.uuid4().hex,
    }
    return ResultsFolder.of(inputs, FOLDER if parent is None else parent)


def _compute(jobs: Sequence[EncodingJob], kept: Results, client: Any, threads: int, progress: bool) -> None:
    """Compute the blocks that are missing, and before them what they take; that is deleted at the end."""
    missing = {job: {name: part for name, part in job.blocks().items() if not kept.has(name)} for job in jobs}
    unfinished = {job: blocks for job, blocks in missing.items() if blocks}
    # In this process nobody else reads the products, so they need no files.
    products = Results() if client is None else kept
    wanted = {name: task for job in unfinished for name, task in job.products().items()}
    compute = Compute(scheduler=client, threads=threads, progress=progress)
    run(compute_products, wanted, products, compute, label="products")
    todo = {name: part for blocks in unfinished.values() for name, part in blocks.items()}
    fit = functools.partial(compute_voxels, products)
    run(fit, todo, kept, compute, label="voxel blocks")
    for job in jobs:
        for name in job.products():
            products.remove(name)


def _as_map(store: Store, job: EncodingJob, kept: Results, settings: dict[str, Any]) -> VoxelwiseMap:
    subject, roi, task, bands = job.subject, settings["roi"], job.task, list(job.bands)
    table = store.voxels(subject, roi)
    rois = roi_masks(store, subject, table)
    fit = gathered(kept, job.blocks(), rois)
    split = fit.test.split
    assert split is not None
    found = table.assign(r2=fit.test.observed)
    for band, values in zip(bands, split.observed, strict=True):
        found[f"r2_{band}"] = values
    ceiling = store.noise_ceiling(subject, roi, task)
    if ceiling is not None:
        found["noise_ceiling"] = ceiling
    rejected, q = false_discovery_rate(fit.test.p, settings["level"])
    # Below zero the mean predicts better than the model, even where chance does worse still.
    rejected &= fit.test.observed > 0
    found = found.assign(p=fit.test.p, q=q, significant=rejected, alpha=fit.alpha)
    found["winning_band"] = names_of(bands, winning_band(split.observed, rejected))
    train, test = (job.samples(name, slice(0, 0)) for name in ("train", "test"))
    complete = {
        **settings,
        "delays": list(job.delays),
        "delay_seconds": [delay * store.series(subject).get(task, 0.0) for delay in job.delays],
        "train_stimuli": len(train.stimuli),
        "test_stimuli": len(test.stimuli),
        "train_samples": len(train.shown),
        "test_samples": len(test.shown),
        "significant_voxels": int(rejected.sum()),
    }
    rows = _roi_rows(bands, rois, fit, found)
    scores = _scores(subject, bands, rois, fit, len(test.stimuli))
    return VoxelwiseMap(subject, "encoding", task, bands, found, rows, scores, complete)


def _roi_rows(
    bands: list[str],
    rois: Mapping[str, np.ndarray],
    fit: EncodingScores,
    found: pd.DataFrame,
) -> pd.DataFrame:
    rows = []
    assert fit.test.groups is not None
    p = dict(zip(rois, fit.test.groups.p, strict=True))
    for roi, score in fit.rois.items():
        mask = rois[roi]
        winners = found["winning_band"].to_numpy()[mask]
        for number, band in enumerate(bands):
            rows.append(
                {
                    "roi": roi,
                    "band": band,
                    "value": score.bands[number],
                    "low": score.low[number],
                    "high": score.high[number],
                    "joint": score.joint,
                    "p": p[roi],
                    "ceiling": found["noise_ceiling"].to_numpy()[mask].mean() if "noise_ceiling" in found else np.nan,
                    "n": score.voxels,
                    "significant": int((winners != "").sum()),
                    "wins": int((winners == band).sum()),
                }
            )
    return pd.DataFrame(rows)


def _scores(
    subject: str, bands: Sequence[str], rois: Iterable[str], fit: EncodingScores, stimuli: int
) -> list[dict[str, Any]]:
    tested = fit.test.groups
    assert tested is not None
    rows = []
    for number, roi in enumerate(rois):
        if roi in fit.rois:
            rows.append(
                {
                    "name": f"{subject} {roi} mean joint R2",
                    "value": float(tested.observed[number]),
                    "null_mean": float(tested.null[number].mean()),
                    "null_max": float(tested.null[number].max()),
                    "p": float(tested.p[number]),
                    "n": stimuli,
                    "voxels": fit.rois[roi].voxels,
                    "bands": dict(zip(bands, map(float, fit.rois[roi].bands), strict=True)),
                }
            )
    return rows
