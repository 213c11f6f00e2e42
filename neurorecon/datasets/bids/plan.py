"""What is known of a run before its values are read: times, events, confounds, and the samples that it will give."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from neurorecon.datasets.bids.confounds import Confounds
from neurorecon.datasets.bids.events import Shown
from neurorecon.datasets.bids.files import RunFiles
from neurorecon.datasets.bids.grid import Header
from neurorecon.errors import InputError

#: Header and sidecar may differ by so much (rounding in headers).
TOLERANCE = 0.01


@dataclass(frozen=True)
class Times:
    """When the volumes of a run were taken.

    Parameters
    ----------
    length : int
        Volumes.
    repetition_time : float
        Seconds between them.
    start : float
        Seconds from the onset of a volume to the time that its slices were shifted to (``StartTime``).
    """

    length: int
    repetition_time: float
    start: float = 0.0

    @property
    def volumes(self) -> np.ndarray:
        """Seconds of each volume from the onset of the run, (volume,)."""
        return self.start + self.repetition_time * np.arange(self.length)

    @property
    def seconds(self) -> float:
        """Length of the run."""
        return self.length * self.repetition_time


@dataclass(frozen=True)
class RunPlan:
    """A run whose tables and headers were read and found in order.

    Parameters
    ----------
    files : RunFiles
    times : Times
    shown : Shown
        Its events.
    confounds : Confounds
    """

    files: RunFiles
    times: Times
    shown: Shown
    confounds: Confounds

    @property
    def name(self) -> str:
        """For messages."""
        return self.files.path.name

    @property
    def kept(self) -> np.ndarray:
        """Volumes that are not scrubbed, int (kept_volume,)."""
        return np.arange(self.times.length) if self.confounds.kept is None else self.confounds.kept


@dataclass(frozen=True)
class RunSamples:
    """The samples that a run gives.

    Parameters
    ----------
    table : DataFrame
        ``stimulus``, ``presentation`` (row of the shown stimuli) and ``time`` (s).
    unrecorded : int
        Presentations whose response was not recorded: at the end of the run, or scrubbed.
    """

    table: pd.DataFrame
    unrecorded: int


def times_of(run: RunFiles, header: Header, metadata: Mapping[str, object], given: float | None) -> Times:
    """Return when the volumes of a run were taken: by the options, else the sidecar, else the header.

    Raises
    ------
    InputError
        Where neither says it, or they contradict each other.
    """
    stated = _seconds(run, metadata, "RepetitionTime")
    start = _seconds(run, metadata, "StartTime") or 0.0
    if given is not None:
        return Times(header.length, given, start)
    found = stated or header.repetition_time
    if not found:
        raise InputError(
            f"the time between the volumes of {run.path.name} is not known",
            given="no RepetitionTime in a sidecar (*_bold.json), none in the header",
            expected="seconds, in one of them",
            todo="write it into the sidecar, or into [options]: repetition_time = 2.0",
        )
    if stated and header.repetition_time and abs(stated - header.repetition_time) > TOLERANCE * stated:
        raise InputError(
            f"sidecar and header of {run.path.name} contradict each other",
            given=f"RepetitionTime {stated:g} s in the sidecar, {header.repetition_time:g} s in the header",
            expected="one time between volumes",
            todo="find out which is right, and say so in [options]: repetition_time = ...",
        )
    return Times(header.length, float(found), start)


def _seconds(run: RunFiles, metadata: Mapping[str, object], key: str) -> float | None:
    value = metadata.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1000:
        raise InputError(
            f"the sidecar of {run.path.name} says something else than seconds",
            given=f"{key}: {value!r}",
            expected="a number of seconds",
            todo="mend the sidecar",
        )
    return float(value)
