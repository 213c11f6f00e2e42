"""An extractor under test, and what is asked of it again and again."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from neurorecon.testing.examples import Examples


@dataclass
class Trial:
    """An extractor under test.

    Parameters
    ----------
    extractor : Extractor
    others : sequence of Extractor
        The same extractor with other settings.
    examples : Examples
    tolerance : float
    """

    extractor: Any
    others: Sequence[Any]
    examples: Examples
    tolerance: float

    def run(self, stimuli: Any = None, batch: int | None = None) -> np.ndarray:
        """Return the target of the examples, or of other stimuli."""
        chosen = self.stimuli if stimuli is None else stimuli
        found: np.ndarray = self.extractor.transform(
            chosen, batch=batch, frames_per_second=self.examples.frames_per_second
        )
        return found

    @property
    def stimuli(self) -> Any:
        """The examples that suit the extractor: a copy, so that nothing an extractor does to it is passed on."""
        return copy.deepcopy(self.examples.of(self.extractor.needs))

    @cached_property
    def values(self) -> np.ndarray:
        """The target of the examples, computed at once."""
        return self.run()

    def first_batch(self) -> Any:
        """Return the batch that the extractor sees first, as ``transform`` makes it."""
        seen: list[Any] = []
        extractor = pickle.loads(pickle.dumps(self.extractor))

        def keep(batch: Any) -> Any:
            seen.append(batch)
            return type(extractor).prepare(extractor, batch)

        extractor.prepare = keep
        extractor.transform(self.stimuli, frames_per_second=self.examples.frames_per_second)
        return seen[0]
