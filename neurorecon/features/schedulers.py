"""Who computes: this process alone, the workers of a dask cluster, or all processes that accelerate launched.

Whoever computes, the batches are the same ones and one process writes, so the numbers are the same too.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from neurorecon.features import pipeline
from neurorecon.features.base import Extractor
from neurorecon.features.pipeline import Part
from neurorecon.features.reading import StimulusReader
from neurorecon.store.store import Store
from neurorecon.tasks.clusters import check_scheduler


class Scheduler:
    """The process that calls computes alone, and writes.

    Parameters
    ----------
    device : str, optional
        Where networks run.
    """

    #: Whether this process writes into the store; the others only compute.
    writes = True

    def __init__(self, device: str | None = None) -> None:
        self.device = device

    def agree(self, names: list[str]) -> list[str]:
        """Return the targets to compute, as the process that writes has it."""
        return names

    def compute(
        self,
        extractor: Extractor,
        reader: StimulusReader,
        rows: np.ndarray,
        parts: Sequence[Part],
        shape: tuple[int, ...],
    ) -> Iterator[np.ndarray]:
        """Yield the target of each part of the rows, in order; `shape` is that of one stimulus."""
        return pipeline.computed(extractor, reader, rows, parts)

    def finish(self) -> None:
        """Say that a target is complete."""

    def help(self, store: Store, extractor: Extractor, rows: np.ndarray) -> None:
        """Compute this process' share of a target that another one writes."""

    def wait(self) -> None:
        """Wait for the other processes."""


def is_first_process() -> bool:
    """Whether this is the only process of a launch, or the one of them that speaks."""
    return int(os.environ.get("RANK", "0")) == 0


@contextmanager
def open_scheduler(scheduler: Any = None, device: str | None = None) -> Iterator[Scheduler]:
    """Open what computes, and close it.

    Parameters
    ----------
    scheduler : str, path or distributed.Client, optional
        ``"local"``, the address of a dask scheduler, the file it wrote, or a client. Left out: this process, or all
        that ``accelerate launch`` (or ``torchrun``) started together.
    device : str, optional
        Where networks run; left out, each process takes the best one it has.
    """
    if scheduler is None:
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            from neurorecon.features.processes import Processes

            yield Processes(device)
        else:
            yield Scheduler(device)
        return
    check_scheduler(scheduler)
    from neurorecon.features.cluster import open_cluster

    with open_cluster(scheduler, device) as cluster:
        yield cluster
