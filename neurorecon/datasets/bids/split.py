"""Which stimuli are for training and which for testing."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatch
from typing import Literal

import numpy as np
import pandas as pd

from neurorecon.datasets.bids.options import Split
from neurorecon.datasets.splits import TRAIN, hold_out_stimuli
from neurorecon.errors import InputError, UnknownNameError


def split_stimuli(shown: pd.DataFrame, rule: Split | Literal["none"]) -> dict[str, str]:
    """Return the split of each stimulus.

    Parameters
    ----------
    shown : DataFrame
        One row a presentation, over all subjects: ``stimulus``, the labels ``session_label`` and ``run_label``, and
        the columns of the events.
    rule : Split or "none"
        From the options; by ``"none"`` all stimuli are for training, to be cross-validated.

    Raises
    ------
    InputError
        Where the rule names what is not there, or a stimulus would be in two splits.
    """
    if rule == "none":
        return dict.fromkeys(shown["stimulus"], TRAIN)
    values = _values(shown, rule)
    pairs = pd.DataFrame({"stimulus": shown["stimulus"], "split": values}).drop_duplicates()
    double = pairs["stimulus"][pairs["stimulus"].duplicated()]
    if len(double):
        raise InputError(
            "stimuli are in more than one split",
            given=f"{len(double)}, e.g. {', '.join(double.iloc[:3])}, by the rule {_words(rule)}",
            expected="train and test without a stimulus in common",
            todo="choose another rule in [options.split]: a score on stimuli seen in training says nothing; "
            'or split = "none" to cross-validate',
        )
    return dict(zip(pairs["stimulus"], pairs["split"], strict=True))


def _values(shown: pd.DataFrame, rule: Split) -> np.ndarray:
    if rule.runs is not None:
        return hold_out_stimuli(shown["run_label"], _known(shown["run_label"], rule.runs, "run"))
    if rule.sessions is not None:
        return hold_out_stimuli(shown["session_label"], _known(shown["session_label"], rule.sessions, "session"))
    if rule.stimuli is not None:
        for pattern in rule.stimuli:
            if not any(fnmatch(name, pattern) for name in shown["stimulus"]):
                raise UnknownNameError("stimulus", pattern, sorted(set(shown["stimulus"]))[:20])
        held_out = {name for name in shown["stimulus"] for pattern in rule.stimuli if fnmatch(name, pattern)}
        return hold_out_stimuli(shown["stimulus"], held_out)
    column = rule.column or ("split" if "split" in shown else None)
    if column is None:
        return np.full(len(shown), TRAIN)
    if column not in shown:
        raise UnknownNameError("column of the events", column, shown.columns)
    if shown[column].isna().any():
        name = shown["stimulus"][shown[column].isna()].iloc[0]
        raise InputError(
            f"the column {column!r} of the events does not say the split of every stimulus",
            given=f"nothing for {name!r}",
            expected="train or test for each event that shows a stimulus",
            todo="fill the column, or choose another rule in [options.split]",
        )
    return shown[column].astype(str).to_numpy()


def _known(labels: pd.Series, wanted: Sequence[str], word: str) -> list[str]:
    names = [name.removeprefix("run-").removeprefix("ses-") for name in wanted]
    for name in names:
        if name not in set(labels):
            raise UnknownNameError(word, name, sorted(set(labels)))
    return names


def _words(rule: Split) -> str:
    given = [f"{key} = {value}" for key, value in rule if value is not None]
    return given[0] if given else "column = 'split'"
