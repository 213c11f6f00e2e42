"""Several processes, each with a graphics card of its own, as ``accelerate launch`` or ``torchrun`` starts them.

Every process runs the same command. Each computes its share of the batches in turn; the first one collects them, in
order, and writes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any

import numpy as np

from neurorecon.features import pipeline
from neurorecon.features.base import Extractor
from neurorecon.features.pipeline import Part
from neurorecon.features.reading import StimulusReader
from neurorecon.features.schedulers import Scheduler
from neurorecon.store.store import Store

#: How long a process waits for another one; slow networks on slow machines take long for a batch.
_PATIENCE = timedelta(hours=12)


class Processes(Scheduler):
    """All processes of one launch.

    Parameters
    ----------
    device : str, optional
        Where networks run; left out, each process takes the card that accelerate gives it.
    """

    def __init__(self, device: str | None = None) -> None:
        import torch.distributed
        from accelerate import PartialState

        state = PartialState(cpu=device == "cpu")
        super().__init__(device or str(state.device))
        self._rank, self._number = state.process_index, state.num_processes
        self.writes = state.is_main_process
        # Results travel through the memory of the host, whatever the devices are.
        self._group: Any = torch.distributed.new_group(backend="gloo", timeout=_PATIENCE)
        self._begun = False

    def agree(self, names: list[str]) -> list[str]:
        """Return the targets to compute, as the process that writes has it."""
        agreed: list[str] = self._told(names)
        return agreed

    def compute(
        self,
        extractor: Extractor,
        reader: StimulusReader,
        rows: np.ndarray,
        parts: Sequence[Part],
        shape: tuple[int, ...],
    ) -> Iterator[np.ndarray]:
        """Yield the target of each part of the rows, in order: own ones in turn with those of the other processes."""
        self._told((list(parts), shape))
        self._begun = True
        own = pipeline.computed(extractor, reader, rows, parts[:: self._number])
        try:
            for number, (start, stop) in enumerate(parts):
                sender = number % self._number
                yield next(own) if sender == 0 else self._received((stop - start, *shape), sender)
        finally:
            own.close()  # type: ignore[attr-defined]

    def finish(self) -> None:
        """Say that a target is complete, also where nothing was left to compute."""
        if not self._begun:
            self._told(None)
        self._begun = False

    def help(self, store: Store, extractor: Extractor, rows: np.ndarray) -> None:
        """Compute this process' share of a target, and send it to the one that writes."""
        import torch

        told = self._told(None)
        if told is None:
            return
        parts, _ = told
        reader = StimulusReader(store, extractor.needs)
        for values in pipeline.computed(extractor, reader, rows, parts[self._rank :: self._number]):
            torch.distributed.send(torch.from_numpy(np.ascontiguousarray(values)), dst=0, group=self._group)

    def wait(self) -> None:
        """Wait for the other processes."""
        import torch

        torch.distributed.barrier(group=self._group)

    def _told(self, message: Any) -> Any:
        """Return what the first process says."""
        import torch

        said = [message]
        torch.distributed.broadcast_object_list(said, src=0, group=self._group)
        return said[0]

    def _received(self, shape: tuple[int, ...], sender: int) -> np.ndarray:
        import torch

        values = torch.empty(shape, dtype=torch.float32)
        torch.distributed.recv(values, src=sender, group=self._group)
        return values.numpy()
