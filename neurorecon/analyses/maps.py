"""Voxel-wise maps: what each voxel encodes, or what a decoder makes of it, with statistics."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypedDict, Unpack

import numpy as np
import pandas as pd

from neurorecon.analyses import design
from neurorecon.analyses.areas import roi_masks
from neurorecon.analyses.bands import choose_bands
from neurorecon.analyses.decoding import DecodingFit, decoding_samples, fit_decoding, peak_delays
from neurorecon.analyses.encoding_maps import encoding_maps
from neurorecon.analyses.maps_result import KINDS, Kind, VoxelwiseMap
from neurorecon.errors import InputError, UnknownNameError
from neurorecon.parallel import check_scheduler, connect, default_threads
from neurorecon.stats import false_discovery_rate
from neurorecon.store.store import Store

__all__ = ["KINDS", "Kind", "MapOptions", "VoxelwiseMap", "maps", "voxelwise_maps"]


class MapOptions(TypedDict, total=False):
    """What :func:`maps` and :func:`voxelwise_maps` may be told; described at :func:`maps`."""

    bands: Sequence[str] | None
    kind: Kind
    task: str | None
    delays: Sequence[int] | None
    n_permutations: int
    level: float
    seed: int
    device: str
    scheduler: Any
    threads: int | None
    results: str | Path | None
    voxel_block: int | None
    progress: bool


def voxelwise_maps(
    store: Store,
    subject: str | None = None,
    roi: str | Iterable[str] | None = None,
    **options: Unpack[MapOptions],
) -> VoxelwiseMap:
    """Map what each voxel of one subject encodes, or what a linear decoder makes of it.

    Parameters
    ----------
    store : Store
        From :func:`neurorecon.open_store`.
    subject : str, optional
        By default the first.
    roi : str or list of str, optional
        As in :meth:`Store.responses`; by default all voxels.
    **options
        Of :func:`maps`: ``bands``, ``kind``, ``task``, ``delays``, ``n_permutations``, ``level``, ``seed``,
        ``device``, ``scheduler``, ``threads``, ``results``, ``voxel_block``, ``progress``.

    Returns
    -------
    VoxelwiseMap
    """
    return maps(store, store.subjects[0] if subject is None else subject, roi, **options)[0]


def maps(
    store: Store,
    subjects: str | Sequence[str] | None = None,
    roi: str | Iterable[str] | None = None,
    *,
    bands: Sequence[str] | None = None,
    kind: Kind = "encoding",
    task: str | None = None,
    delays: Sequence[int] | None = None,
    n_permutations: int = 1000,
    level: float = 0.05,
    seed: int = 0,
    device: str = "cpu",
    scheduler: Any = None,
    threads: int | None = None,
    results: str | Path | None = None,
    voxel_block: int | None = None,
    progress: bool = False,
) -> list[VoxelwiseMap]:
    """Map what each voxel of several subjects encodes, or what a linear decoder makes of it.

    Parameters
    ----------
    store : Store
        From :func:`neurorecon.open_store`.
    subjects : str or sequence of str, optional
        By default all.
    roi : str or list of str, optional
        As in :meth:`Store.responses`; by default all voxels.
    bands : sequence of str, optional
        Targets of the store, one band each; by default one for each role (:data:`~neurorecon.analyses.bands.ROLES`):
        ``clip_image``, ``vqvae``, ``vdvae`` and ``motion`` where the store holds them.
    kind : {"encoding", "decoding", "haufe"}
        Encoding: banded ridge from all bands to each voxel, R2 on the test stimuli, split over bands by the product
        measure. Decoding: weight of each voxel in a ridge decoder of each target. Haufe: the pattern that goes
        with these weights.
    task : str, optional
        By default the one with the most training stimuli that have all bands.
    delays : sequence of int, optional
        Of the features in samples, for time series; by default those of 2 to 8 s.
    n_permutations : int
        Of the test stimuli (encoding), or of the training stimuli (decoding, haufe).
    level : float
        False discovery rate.
    seed : int
        Of permutations and resampling.
    device : str
        Where regressions are solved, e.g. ``"cuda"``.
    scheduler : None, str, path or distributed.Client
        Who computes the blocks: this process, ``"local"`` processes of this machine, or a dask cluster by its
        address or by the file of its scheduler. The numbers are the same to the bit.
    threads : int, optional
        Threads of each block, wherever it is computed; by default the cores of this machine. They decide the last bits.
    results : path, optional
        Folder in which finished blocks are kept, so that the same call resumes. By default
        ``.neurorecon/results`` where there is a scheduler; in this process nothing is kept.
    voxel_block : int, optional
        Voxels of a block (encoding); by default by the number of samples, see docs/scale.md.
    progress : bool
        Show progress bars on stderr.

    Returns
    -------
    list of VoxelwiseMap
        One a subject.

    Raises
    ------
    UnknownNameError, InputError
        Where a name does not exist or the store does not hold what is needed.
    """
    check_scheduler(scheduler)
    _check_settings(kind, n_permutations, level, threads, voxel_block)
    names = [subjects] if isinstance(subjects, str) else list(subjects or store.subjects)
    asked = {
        "roi": roi if roi is None or isinstance(roi, str) else list(roi),
        "kind": kind,
        "task": task,
        "bands": None if bands is None else list(bands),
        "n_permutations": n_permutations,
        "level": level,
        "seed": seed,
        "device": device,
        "threads": default_threads() if threads is None else threads,
    }
    settings = {name: _settings(store, name, asked) for name in names}
    shared: dict[str, Any] = {"threads": asked["threads"], "progress": progress}
    if kind == "encoding":
        decides = {**asked, "delays": None if delays is None else list(delays), "voxel_block": voxel_block}
        decides.pop("level")  # of the mask, which comes after the blocks
        shared |= {"delays": delays, "results": results, "block": voxel_block}
        return encoding_maps(store, settings, decides, scheduler=scheduler, **shared)
    with connect(scheduler, threads=shared["threads"]) as client:
        shared |= {"scheduler": client, "results": results}
        return [_decoding_map(store, chosen, shared) for chosen in settings.values()]


def _check_settings(kind: str, n_permutations: int, level: float, threads: int | None, voxel_block: int | None) -> None:
    if kind not in KINDS:
        raise UnknownNameError("kind of map", kind, KINDS)
    if n_permutations < 1 or not 0 < level < 1:
        raise InputError(
            "these settings make no test",
            given=f"n_permutations={n_permutations}, level={level}",
            expected="at least 1 permutation and a level between 0 and 1",
            todo="1000 permutations and a level of .05 are customary",
        )
    for name, value in (("threads", threads), ("voxel_block", voxel_block)):
        if value is not None and value < 1:
            raise InputError(f"{name} is a number of 1 or more", given=value)


def _settings(store: Store, subject: str, asked: dict[str, Any]) -> dict[str, Any]:
    """Return what is chosen for a subject where nothing was asked for."""
    table = store.voxels(subject, asked["roi"])
    chosen = choose_bands(store, asked["bands"], subject, asked["task"])
    picked = design.choose_task(store, subject, chosen, asked["task"])
    _require_test(store, subject, picked)
    return {"subject": subject, **asked, "task": picked, "bands": chosen, "voxels": len(table)}


def _require_test(store: Store, subject: str, task: str) -> None:
    samples = store.samples(subject)
    splits = set(samples.loc[samples["task"] == task, "split"])
    if not {"train", "test"} <= splits:
        raise InputError(
            f"maps need held-out stimuli, and the task {task!r} has none",
            given=f"splits: {', '.join(sorted(splits))}",
            expected="a split 'train' and a split 'test'",
            todo="choose another task, or use: neurorecon reconstruct --cross-validate category",
        )


def _decoding_map(store: Store, chosen: dict[str, Any], computing: dict[str, Any]) -> VoxelwiseMap:
    subject, roi, task, bands, kind = (chosen[name] for name in ("subject", "roi", "task", "bands", "kind"))
    train, test = (decoding_samples(store, subject, roi, split, task) for split in ("train", "test"))
    table = store.voxels(subject, roi)
    found, rows, scores = table.copy(), [], []
    rois = roi_masks(store, subject, table)
    for band in bands:
        fit = fit_decoding(
            store,
            band,
            train,
            test,
            kind=kind,
            series=task in store.series(subject),
            n_permutations=chosen["n_permutations"],
            seed=chosen["seed"],
            device=chosen["device"],
            **computing,
        )
        rejected, q = false_discovery_rate(fit.p, chosen["level"])
        found[f"{kind}_{band}"] = fit.value
        found[f"p_{band}"], found[f"q_{band}"], found[f"significant_{band}"] = fit.p, q, rejected
        rows += [_decoding_row(roi, mask, fit, rejected) for roi, mask in rois.items() if mask.any()]
        scores.append(_decoding_score(subject, fit))
    settings = {
        **chosen,
        "delays": list(peak_delays(store, subject, task)),
        "train_stimuli": int(train[1]["stimulus"].nunique()),
        "test_stimuli": int(test[1]["stimulus"].nunique()),
    }
    return VoxelwiseMap(subject, kind, task, bands, found, pd.DataFrame(rows), scores, settings)


def _decoding_row(roi: str, mask: np.ndarray, fit: DecodingFit, rejected: np.ndarray) -> dict[str, Any]:
    return {
        "roi": roi,
        "band": fit.target,
        "value": fit.value[mask].mean(),
        "null": fit.null_mean[mask].mean(),
        "n": int(mask.sum()),
        "significant": int(rejected[mask].sum()),
    }


def _decoding_score(subject: str, fit: DecodingFit) -> dict[str, Any]:
    return {
        "name": f"{subject} {fit.target} mean correlation of decoded and true features",
        "value": fit.correlation,
        "null_mean": fit.correlation_null_mean,
        "p": fit.correlation_p,
        "n": fit.stimuli,
        "alpha": fit.alpha,
    }
