"""What turns stimuli into a target: one class with a name, what it needs, and a function of a batch.

An extractor knows nothing of stores. It is handed small batches, so its memory does not depend on how many
stimuli there are. Labs add their own with the entry-point group ``neurorecon.features``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import pandas as pd


@dataclass(frozen=True)
class StimulusBatch:
    """A few stimuli, as an extractor sees them.

    Parameters
    ----------
    table : DataFrame
        One row a stimulus, with ``id``, ``kind``, ``category`` and ``captions`` (list of str).
    labels : DataFrame or None
        Numeric labels of the data set, one row a stimulus.
    images : array or None
        uint8, shape (stimulus, y, x, rgb). None where the extractor did not ask for them.
    frames : array or None
        uint8, shape (stimulus, frame, y, x, rgb). None where the extractor did not ask for them.
    frames_per_second : float or None
        Frame rate of the films.
    """

    table: pd.DataFrame
    labels: pd.DataFrame | None = None
    images: np.ndarray | None = None
    frames: np.ndarray | None = None
    frames_per_second: float | None = None


class Extractor(ABC):
    """Base class of the targets that neurorecon can compute.

    ``categories`` is the sorted list of all categories of the store, so that a batch is coded like the whole.
    """

    #: Name of the target in the store.
    name: ClassVar[str]
    #: What a batch has to hold. ``"frames"`` restricts the target to films.
    needs: ClassVar[Literal["images", "frames", "table"]]
    #: Raised whenever the numbers change; stored with the array, so that old values are never mixed with new ones.
    version: ClassVar[int] = 1

    def __init__(self, categories: list[str] | None = None) -> None:
        self.categories = categories or []

    @abstractmethod
    def __call__(self, batch: StimulusBatch) -> np.ndarray:
        """Return the target of a batch, float32, shape (stimulus, feature) or (stimulus, ..., feature)."""

    @abstractmethod
    def made_by(self) -> dict[str, Any]:
        """Return how the numbers come about: model, weights, layer, preprocessing, source."""

    def feature_names(self, batch: StimulusBatch) -> list[str] | None:
        """Return a name for each feature, or None."""
        return None
