"""Which stimulus is shown when: sessions and runs of single trials with images, and of films without a break."""

from __future__ import annotations

import numpy as np
import pandas as pd

#: Trials of a session, of a run, and seconds between them, as in NSD (Allen et al., 2022, Nature Neurosci.).
TRIALS_PER_SESSION = 750
TRIALS_PER_RUN = 63
TRIAL_SECONDS = 4.0

#: Clips of a run at most, and runs of a session; a clip lasts for one volume.
CLIPS_PER_RUN = 80
RUNS_PER_SESSION = 9
REPETITION_TIME = 2.0

#: Columns of the design: those of samples, with the number of the stimulus in place of its id.
_COLUMNS = ["number", "task", "session", "run", "repeat", "split", "time"]


def image_design(seed: int, train: int, test: int, repeats: int) -> pd.DataFrame:
    """Lay out the trials with images.

    Training images are shown once. All test images are shown before any is shown again, in random order, at random
    places among the training images.

    Parameters
    ----------
    seed : int
    train, test : int
        Numbers of images: ``0:train`` and ``train:train + test``.
    repeats : int
        Of test images.

    Returns
    -------
    DataFrame
        One row a trial: ``number``, ``task``, ``session``, ``run``, ``repeat``, ``split`` and ``time``.
    """
    random = np.random.default_rng(np.random.SeedSequence([seed, 0xDE]))
    blocks = []
    for repeat, images in enumerate(np.array_split(np.arange(train), max(1, repeats)), start=1):
        shown = random.permutation(np.arange(train, train + test)) if repeat <= repeats else np.zeros(0, int)
        block = np.concatenate([images, shown])
        # Training images stay in their order (scenes are random anyway): neighboring trials show neighboring
        # stimuli, so a data set of any size is drawn run by run.
        is_test = random.permutation(np.arange(len(block)) >= len(images))
        order = np.empty(len(block), dtype=int)
        order[~is_test], order[is_test] = images, shown
        blocks.append(pd.DataFrame({"number": order, "repeat": np.where(is_test, repeat, 1)}))
    table = pd.concat(blocks, ignore_index=True)
    table["task"] = "images"
    table["split"] = np.where(table["number"] < train, "train", "test")
    trial = np.arange(len(table))
    table["session"] = trial // TRIALS_PER_SESSION + 1
    run, time = np.zeros(len(table), dtype=int), np.zeros(len(table))
    for session in range(1, int(table["session"].max() if len(table) else 0) + 1):
        rows = np.flatnonzero(table["session"] == session)
        for number, part in enumerate(np.array_split(rows, -(-len(rows) // TRIALS_PER_RUN)), start=1):
            run[part] = number
            time[part] = np.arange(len(part)) * TRIAL_SECONDS
    return table.assign(run=run, time=time)[_COLUMNS]


def film_design(
    first: int, train: int, test: int, train_repeats: int, test_repeats: int, first_session: int
) -> pd.DataFrame:
    """Lay out the runs of films: every run is shown again with its clips in the same order.

    Parameters
    ----------
    first : int
        Number of the first film among the stimuli; training films come before test films.
    train, test : int
        How many films.
    train_repeats, test_repeats : int
    first_session : int
        Number of the first session with films.

    Returns
    -------
    DataFrame
        One row a volume, as in :func:`image_design`.
    """
    runs = []
    for split, films, repeats in (
        ("train", np.arange(first, first + train), train_repeats),
        ("test", np.arange(first + train, first + train + test), test_repeats),
    ):
        if not len(films):
            continue
        segments = np.array_split(films, -(-len(films) // CLIPS_PER_RUN))
        for repeat in range(1, repeats + 1):
            runs += [(split, repeat, segment) for segment in segments]
    parts = []
    for index, (split, repeat, segment) in enumerate(runs):
        session, run = divmod(index, RUNS_PER_SESSION)
        parts.append(
            pd.DataFrame(
                {
                    "number": segment,
                    "task": "films",
                    "session": first_session + session,
                    "run": run + 1,
                    "repeat": repeat,
                    "split": split,
                    "time": np.arange(len(segment)) * REPETITION_TIME,
                }
            )
        )
    return pd.concat(parts, ignore_index=True)[_COLUMNS] if parts else pd.DataFrame(columns=_COLUMNS)


def run_bounds(design: pd.DataFrame) -> np.ndarray:
    """Return where runs begin, and where the last one ends: int array, shape (run + 1,)."""
    if not len(design):
        return np.zeros(1, dtype=int)
    keys = design[["session", "run"]].to_numpy(dtype=int)
    change = np.flatnonzero((np.diff(keys, axis=0) != 0).any(axis=1)) + 1
    return np.concatenate([[0], change, [len(design)]])
