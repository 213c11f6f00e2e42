"""Estimate what encoding maps take on a cluster, before anything is computed: jobs, bytes moved, memory per worker.

The blocks come from the functions that a run uses, and sizes from shapes. No data are read.
``neurorecon plan`` prints it for the shapes of a study, ``neurorecon maps --dry-run`` for a store.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

from neurorecon.analyses import design
from neurorecon.analyses.design import EncodingSettings, covered_rois, select
from neurorecon.analyses.encoding import block_names, voxels_of_a_block
from neurorecon.store.store import Store

#: Bootstrap resamples behind the intervals of ROIs, by default.
BOOTSTRAPS = EncodingSettings.n_bootstraps

#: Memory of a worker that has loaded all libraries, mostly torch; measured by tests/benchmarks/test_scale.py.
PROCESS = 900 * 2**20

#: Working arrays that the search of banded ridge may take at once (see neurorecon/decoders).
SEARCH = 2 * 2**29

#: Share of the samples in the training part of a fold.
_FOLD = 0.8

_SINGLE, _DOUBLE = 4, 8


@dataclass(frozen=True)
class Subject:
    """The shapes of one subject's data.

    Parameters
    ----------
    name : str
        Of the subject.
    voxels : int
        Of the selection.
    trials : int
        Stored samples of all splits.
    train, test : int
        Samples that are analyzed, after averaging over repeats.
    train_stimuli, test_stimuli : int
        Different stimuli.
    delays : int
        Delays of the features; 1 for trials.
    rois : int
        ROIs that the selection covers.
    """

    name: str
    voxels: int
    trials: int
    train: int
    test: int
    train_stimuli: int
    test_stimuli: int
    delays: int = 1
    rois: int = 30


@dataclass(frozen=True)
class Task:
    """One job of the graph, and what it takes.

    Parameters
    ----------
    name : str
        As in the folder of results; products of features are called by a digest of their stimuli there, and subjects
        who saw the same ones share them.
    needs : tuple of str
        Tasks whose results it takes.
    store_bytes, input_bytes, result_bytes : int
        Decoded bytes that it reads from the store, bytes that it reads of other tasks' results, bytes that it writes.
    memory : int
        Most bytes of its process.
    """

    name: str
    needs: tuple[str, ...]
    store_bytes: int
    input_bytes: int
    result_bytes: int
    memory: int


@dataclass(frozen=True)
class Plan:
    """All jobs of a run.

    Parameters
    ----------
    products, blocks : list of Task
        Products of features, one for each subject and band; and blocks of voxels.
    settings : dict
        Assumptions.
    """

    products: list[Task]
    blocks: list[Task]
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def tasks(self) -> list[Task]:
        """All tasks, in the order in which they are handed out."""
        return self.products + self.blocks

    @property
    def memory(self) -> int:
        """Most bytes of a worker that computes one task at a time."""
        return max(task.memory for task in self.tasks)


def plan(
    subjects: Iterable[Subject], features: Sequence[int], *, n_permutations: int = 1000, voxel_block: int | None = None
) -> Plan:
    """Return what encoding maps of these subjects take.

    Parameters
    ----------
    subjects : iterable of Subject
        Shapes of the data.
    features : sequence of int
        Number of features of each band.
    n_permutations : int
        Of the test.
    voxel_block : int, optional
        Voxels of a block; by default as a run would choose.
    """
    bands = [f"band{number + 1}" for number in range(len(features))]
    products, blocks = [], []
    for subject in subjects:
        needs = tuple(f"{subject.name} products of {band}" for band in bands)
        products += [_products(name, subject, width) for name, width in zip(needs, features, strict=True)]
        size = sum(task.result_bytes for task in products[-len(bands) :])
        parts = block_names(subject.name, subject.voxels, voxel_block or voxels_of_a_block(subject.train))
        for name, (start, stop) in parts.items():
            blocks.append(_voxels(name, needs, size, subject, stop - start, len(bands), n_permutations))
    return Plan(products, blocks, {"features": list(features), "n_permutations": n_permutations})


def plan_maps(store: Store, subjects: Sequence[str] | None, settings: EncodingSettings) -> Plan:
    """Return what :func:`neurorecon.maps` takes for a store.

    Parameters
    ----------
    store : Store
        Open.
    subjects : sequence of str, optional
        By default all.
    settings : EncodingSettings
        What would be mapped.
    """
    products, blocks = [], []
    for subject in subjects or store.subjects:
        chosen = select(store, subject, settings)
        shape = Subject(
            subject,
            chosen.voxels,
            int((store.samples(subject)["task"] == chosen.task).sum()),
            len(chosen.train.shown),
            len(chosen.test.shown),
            len(chosen.train.stimuli),
            len(chosen.test.stimuli),
            len(chosen.delays),
            len(covered_rois(store, subject, store.voxels(subject, settings.rois))),
        )
        features = [prod(store.targets(band).shape[1:]) for band in chosen.bands]
        found = plan([shape], features, n_permutations=settings.n_permutations, voxel_block=settings.voxel_block)
        products += found.products
        blocks += found.blocks
    return Plan(products, blocks, {"n_permutations": settings.n_permutations})


def _products(name: str, subject: Subject, features: int) -> Task:
    train, stimuli = subject.train_stimuli, subject.train_stimuli + subject.test_stimuli
    result = stimuli * train * _DOUBLE
    block = min(design.FEATURE_BLOCK, features) * stimuli
    # The products so far and those of one block of features; the block as it was read, standardized, and weighted.
    memory = PROCESS + 2 * result + block * (2 * _SINGLE + 4 * _DOUBLE)
    return Task(name, (), stimuli * features * _SINGLE, 0, result, memory)


def _voxels(
    name: str, needs: tuple[str, ...], products: int, subject: Subject, voxels: int, bands: int, n_permutations: int
) -> Task:
    # Trials of both splits lie in the same chunks, which are read once.
    read = subject.trials * voxels * _SINGLE
    return Task(
        name, needs, read, products, _result_bytes(subject, voxels, bands, n_permutations),
        PROCESS + max(_while_fitting(subject, voxels, bands, products), _while_scoring(subject, voxels, bands)),
    )  # fmt: skip


def _result_bytes(subject: Subject, voxels: int, bands: int, n_permutations: int) -> int:
    of_voxels = (3 + bands) * voxels * _DOUBLE  # R2, p, alpha; the share of each band
    of_rois = subject.rois * (1 + n_permutations + 1 + 2 * bands * (BOOTSTRAPS + 1)) * _DOUBLE
    return of_voxels + of_rois


def _while_fitting(subject: Subject, voxels: int, bands: int, products: int) -> int:
    kernel = subject.train**2
    responses = subject.train * voxels * _SINGLE
    kernels = bands * kernel * (_DOUBLE + _SINGLE)  # as computed, and scaled
    fold = int((bands + 3) * _FOLD**2 * kernel * _SINGLE)  # of a fold; their sum, its vectors, and room to find them
    # Responses, standardized, as the search has them, and the weights that it finds.
    return products + kernels + fold + 4 * responses + min(SEARCH, 4 * responses)


def _while_scoring(subject: Subject, voxels: int, bands: int) -> int:
    responses = (subject.train + 2 * subject.test) * voxels * _SINGLE
    contributions = bands * subject.delays * subject.test_stimuli * voxels * _SINGLE
    predicted = bands * subject.test * voxels * _SINGLE
    # In each resample: the energy of the responses, and for each band its gain, its share, and all shares as one array.
    shares = (1 + 3 * bands) * (BOOTSTRAPS + 1) * voxels * _SINGLE
    return responses + max(2 * contributions + 2 * predicted, 2 * predicted + shares)


def as_text(found: Plan, workers: int, memory: int | None = None) -> str:
    """Return a plan as a table a person can read.

    Parameters
    ----------
    found : Plan
        From :func:`plan`.
    workers : int
        Workers, each with one job at a time.
    memory : int, optional
        Memory of each worker, in bytes.
    """
    lines = [f"{'':<20}{'jobs':>7}{'store read':>14}{'results read':>14}{'written':>10}{'memory':>11}{'rounds':>8}"]
    for label, tasks in (("products of features", found.products), ("blocks of voxels", found.blocks)):
        sums = [sum(getattr(task, name) for task in tasks) for name in ("store_bytes", "input_bytes", "result_bytes")]
        most = max(task.memory for task in tasks)
        lines.append(
            f"{label:<20}{len(tasks):>7,}{_size(sums[0]):>14}{_size(sums[1]):>14}{_size(sums[2]):>10}"
            f"{_size(most):>11}{-(-len(tasks) // workers):>8,}"
        )
    edges = sum(len(task.needs) for task in found.tasks)
    share = sum(task.store_bytes + task.input_bytes for task in found.tasks) / workers
    lines += [
        "",
        f"{len(found.tasks):,} jobs, {edges:,} dependencies; {_size(share)} read by each of {workers} workers",
        f"on the shared disk during the computation: {_size(sum(task.result_bytes for task in found.tasks))}; "
        f"afterwards: {_size(sum(task.result_bytes for task in found.blocks))}",
    ]
    if memory is not None:
        fits = "fits into" if found.memory <= memory else "does NOT fit into"
        lines.append(f"{_size(found.memory)} per worker {fits} {_size(memory)}")
        if found.memory > memory:
            lines.append("give workers more memory, or make blocks smaller: --voxel-block")
    return "\n".join(lines)


def _size(count: float) -> str:
    for unit, power in (("TiB", 40), ("GiB", 30), ("MiB", 20)):
        if count >= 2**power:
            return f"{count / 2**power:.1f} {unit}"
    return f"{count / 2**10:.0f} KiB"
