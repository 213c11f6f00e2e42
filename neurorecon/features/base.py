"""What turns stimuli into a target: one class with a name, what it needs, and a function of a batch.

An extractor knows nothing of stores. It is handed small batches, so its memory does not depend on how many
stimuli there are. Labs add their own with the entry-point group ``neurorecon.features``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import pandas as pd

from neurorecon.errors import InputError
from neurorecon.features.pixels import pixels

#: What a target is computed from.
Needs = Literal["images", "frames", "captions", "categories", "table"]

#: Stimuli handed to an extractor at a time, where it does not say otherwise.
BATCH = 128


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

    A subclass that needs settings takes them as keyword arguments of its constructor, with defaults; a user gives them
    by name (``nr.extract(store, ["vdvae"], groups=15)``). It is pickled where other processes compute with it.

    Parameters
    ----------
    categories : list of str, optional
        All categories of the store, sorted, so that a batch is coded like the whole.
    """

    #: Name of the target in the store.
    name: ClassVar[str]
    #: What a batch has to hold. ``"frames"`` restricts the target to films, ``"captions"`` to stimuli that have some.
    needs: ClassVar[Needs]
    #: Raised whenever the numbers change; stored with the array, so that old values are never mixed with new ones.
    version: ClassVar[int] = 1
    #: Names of the axes behind the stimulus, e.g. ``("token", "channel")``; None for the usual ones.
    dims: ClassVar[tuple[str, ...] | None] = None

    def __init__(self, categories: list[str] | None = None) -> None:
        self.categories = categories or []

    @abstractmethod
    def __call__(self, batch: StimulusBatch) -> np.ndarray:
        """Return the target of a batch, float32, shape (stimulus, feature) or (stimulus, ..., feature)."""

    @abstractmethod
    def made_by(self) -> dict[str, Any]:
        """Return how the numbers come about: model, weights, layer, preprocessing, source (JSON types).

        Whatever changes a number belongs in here; what only describes goes into :meth:`layout`.
        """

    @property
    def batch(self) -> int:
        """Stimuli at a time."""
        return BATCH

    def layout(self) -> dict[str, Any]:
        """Return what else is stored with the array, e.g. where the layers begin that it joins (JSON types)."""
        return {}

    def feature_names(self, batch: StimulusBatch) -> list[str] | None:
        """Return a name for each feature, or None."""
        return None

    def whole(self) -> Extractor | None:
        """Return a target that holds all numbers of this one, or None.

        Where the store has it, made with the same weights, this one is cut out of it and not computed again.
        """
        return None

    def cut(self, values: np.ndarray) -> np.ndarray:
        """Return this target, given that of :meth:`whole` for the same stimuli, shape (stimulus, ...)."""
        raise NotImplementedError(f"{type(self).__name__} is no part of another target")

    def meet(self, later: Sequence[Extractor]) -> None:
        """Learn which targets this process computes afterwards, to hand them what they can use too."""
        return

    def prepare(self, batch: StimulusBatch) -> Any:
        """Do what can be done ahead, in another thread, while :meth:`compute` is busy with the batch before."""
        return batch

    def compute(self, prepared: Any) -> np.ndarray:
        """Return the target of a batch that went through :meth:`prepare`."""
        return self(prepared)

    def transform(
        self, stimuli: Any, *, batch: int | None = None, frames_per_second: float | None = None
    ) -> np.ndarray:
        """Return the target of stimuli that are in no store.

        Parameters
        ----------
        stimuli : array or sequence
            By what the target needs: pictures as an array (stimulus, y, x, rgb), uint8 or float from 0 to 1, or a
            sequence of such arrays or PIL images; films as an array (stimulus, frame, y, x, rgb) or a sequence of
            films; captions as a sequence of strings, or of lists of them; categories as a sequence of names.
        batch : int, optional
            Stimuli at a time.
        frames_per_second : float, optional
            Of films; some targets need it.

        Returns
        -------
        array, float32, shape (stimulus, ...)

        Raises
        ------
        InputError
            Where there are no stimuli, or they are not of the kind that the target needs.
        """
        if not hasattr(stimuli, "__len__") or isinstance(stimuli, str) or not len(stimuli):
            raise InputError(
                f"the target {self.name!r} is computed from a sequence of stimuli",
                given=repr(stimuli)[:60],
                expected="one stimulus or more, along the first axis",
                todo="put a single one into a list",
            )
        parts = _batches(stimuli, self.needs, batch or self.batch, frames_per_second)
        return np.concatenate([np.asarray(self.compute(self.prepare(part)), dtype=np.float32) for part in parts])


def dims_of(extractor: Extractor, axes: int) -> list[str]:
    """Return the names of the axes behind the stimulus."""
    if extractor.dims is not None:
        return list(extractor.dims)
    return usual_dims(axes)


def usual_dims(axes: int) -> list[str]:
    """Name the axes behind the stimulus of an array that says nothing else."""
    names = {
        1: ["feature"],
        2: ["token", "channel"],
        3: ["channel", "y", "x"],
        4: ["frame", "channel", "y", "x"],
    }
    return names.get(axes, [f"axis{axis}" for axis in range(axes)])


def _batches(stimuli: Any, needs: Needs, size: int, rate: float | None) -> Iterator[StimulusBatch]:
    """Split stimuli into batches; those whose pictures differ in size go one by one."""
    if needs in ("images", "frames"):
        stimuli = [_film(one) if needs == "frames" else pixels(one) for one in stimuli]
        if len({one.shape for one in stimuli}) > 1:
            size = 1
    for start in range(0, len(stimuli), size):
        part = list(stimuli[start : start + size])
        yield _batch(part, needs, start, rate)


def _film(film: Any) -> np.ndarray:
    return pixels(film) if isinstance(film, np.ndarray) else np.stack([pixels(frame) for frame in film])


def _batch(part: list[Any], needs: Needs, start: int, rate: float | None) -> StimulusBatch:
    captions: list[list[str]] = [[] for _ in part]
    categories = [""] * len(part)
    if needs == "captions":
        captions = [[one] if isinstance(one, str) else list(one) for one in part]
    elif needs in ("categories", "table"):
        categories = [str(one) for one in part]
    table = pd.DataFrame(
        {
            "id": [str(start + number) for number in range(len(part))],
            "kind": "film" if needs == "frames" else "image",
            "category": categories,
            "captions": captions,
        }
    )
    return StimulusBatch(
        table,
        images=np.stack(part) if needs == "images" else None,
        frames=np.stack(part) if needs == "frames" else None,
        frames_per_second=rate,
    )
