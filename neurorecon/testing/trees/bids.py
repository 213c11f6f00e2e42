"""A miniature BIDS data set with fMRIPrep derivatives: events, confounds, volumes, surfaces, grayordinates, atlases.

The same simulated time series are written in every space, so that readers of all of them can be compared.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from neurorecon.testing.trees.bids_atlases import write_atlases
from neurorecon.testing.trees.bids_design import (
    confound_table,
    draw_stimuli,
    event_table,
    simulate_run,
)
from neurorecon.testing.trees.bids_images import TIMES, WRITERS
from neurorecon.testing.trees.simulated_marker import mark_simulated

#: Subjects of the miniature.
SUBJECTS = ("01", "02")

#: Sessions, and runs in each.
SESSIONS, RUNS = ("01", "02"), ("1", "2", "3")

#: Name of the task.
TASK = "shapes"


def write_bids(
    folder: str | Path,
    *,
    seed: int = 0,
    subjects: Sequence[str] = SUBJECTS,
    sessions: Sequence[str] = SESSIONS,
    runs: Sequence[str] = RUNS,
    kinds: Sequence[str] = ("volume",),
) -> Path:
    """Write a raw BIDS data set with ``derivatives/fmriprep``.

    Two subjects see pictures of colored shapes in two sessions of three runs; training pictures once, eight test
    pictures in every other run. 96 voxels answer to shape or color; noise, drift and head motion are added.

    Parameters
    ----------
    folder : path
        Made where it does not exist.
    seed : int
        The same seed gives the same files.
    subjects, sessions, runs : sequence of str
        Labels.
    kinds : sequence of {"volume", "surface", "grayordinates"}
        Spaces to write: ``MNI152NLin2009cAsym``, ``fsaverage5``, ``fsLR`` of density 91k.

    Returns
    -------
    Path
        The folder.
    """
    root = Path(folder)
    preprocessed = root / "derivatives" / "fmriprep"
    preprocessed.mkdir(parents=True, exist_ok=True)
    stimuli = draw_stimuli(root / "stimuli", seed, len(sessions) * len(runs))
    _write_descriptions(root, preprocessed, subjects)
    write_atlases(preprocessed / "atlases", kinds)
    for number, subject in enumerate(subjects):
        for place, (session, run) in enumerate((session, run) for session in sessions for run in runs):
            name = f"sub-{subject}_ses-{session}_task-{TASK}_run-{run}"
            rng = np.random.default_rng([seed, 1, number, place])
            events = event_table(stimuli, place, rng)
            raw = _func(root, subject, session)
            events.to_csv(raw / f"{name}_events.tsv", sep="\t", index=False, na_rep="n/a")
            confounds = confound_table(rng)
            out = _func(preprocessed, subject, session)
            confounds.to_csv(out / f"{name}_desc-confounds_timeseries.tsv", sep="\t", index=False, na_rep="n/a")
            _write_json(out / f"{name}_desc-confounds_timeseries.json", {})
            series = simulate_run(events, stimuli, confounds, np.random.default_rng([seed, 2, number]), rng)
            for kind in kinds:
                WRITERS[kind](out, name, series)
    return root


def _func(root: Path, subject: str, session: str) -> Path:
    folder = root / f"sub-{subject}" / f"ses-{session}" / "func"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _write_descriptions(root: Path, preprocessed: Path, subjects: Sequence[str]) -> None:
    mark_simulated(root)
    _write_json(
        root / "dataset_description.json",
        {"Name": "Shapes (miniature)", "BIDSVersion": "1.9.0", "License": "CC0"},
    )
    _write_json(
        preprocessed / "dataset_description.json",
        {
            "Name": "fMRIPrep - fMRI PREProcessing workflow",
            "BIDSVersion": "1.4.0",
            "DatasetType": "derivative",
            "GeneratedBy": [{"Name": "fMRIPrep", "Version": "23.2.0"}],
        },
    )
    _write_json(root / f"task-{TASK}_bold.json", {**TIMES, "TaskName": TASK})
    table = pd.DataFrame({"participant_id": [f"sub-{subject}" for subject in subjects]})
    table.to_csv(root / "participants.tsv", sep="\t", index=False)


def _write_json(path: Path, values: dict[str, Any]) -> None:
    path.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
