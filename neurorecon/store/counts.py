"""How much of what a store holds; counted once, when it is built, so that nobody has to read whole tables for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd


def count_stimuli(stimuli: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the number of stimuli of each kind and split.

    Parameters
    ----------
    stimuli : DataFrame
        With ``kind`` and ``split``; an empty split is that of stimuli that nobody saw.
    """
    found = stimuli.groupby(["kind", "split"], sort=False).size()
    return [
        {"kind": str(kind), "split": str(split) or "not shown", "number": int(number)}
        for (kind, split), number in found.items()
    ]


def count_samples(samples: pd.DataFrame) -> list[dict[str, Any]]:
    """Return samples, stimuli, repeats and runs of each task and split of a subject.

    Parameters
    ----------
    samples : DataFrame
        The sample table.
    """
    return [
        {
            "task": str(task),
            "split": str(split),
            "samples": len(part),
            "stimuli": int(part["stimulus"].nunique()),
            "repeats": int(part["repeat"].max()),
            "runs": int(part.groupby(["session", "run"]).ngroups),
        }
        for (task, split), part in samples.groupby(["task", "split"], sort=False)
    ]
