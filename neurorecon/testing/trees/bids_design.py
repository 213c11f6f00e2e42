"""What is shown in the miniature BIDS data set, and how its 96 voxels answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

#: Seconds between volumes, and the time within a volume that slices were shifted to.
REPETITION_TIME, START_TIME = 2.0, 1.0

#: Volumes of a run, trials of a run, seconds that a picture is shown.
VOLUMES, TRIALS, DURATION = 76, 18, 2.0

#: Test pictures, and how many of them are shown in a run.
TEST, TEST_IN_RUN = 8, 4

#: Voxels, a quarter each: V1, V2, LO, none.
VOXELS = 96

#: Scanner units by which a preferred picture would raise a voxel if it were shown for as long as responses take.
GAIN = 60.0

SHAPES = ("circle", "square", "triangle", "cross")
COLORS = {"red": (220, 50, 40), "green": (50, 180, 70), "blue": (50, 80, 220), "yellow": (230, 210, 50)}

#: Pixels on each side of a picture.
SIZE = 64

MOTION = ("trans_x", "trans_y", "trans_z", "rot_x", "rot_y", "rot_z")


def draw_stimuli(folder: Path, seed: int, runs: int) -> pd.DataFrame:
    """Draw the pictures and write them with their table ``stimuli.tsv``.

    Returns
    -------
    DataFrame
        Columns ``stim_file``, ``category``, ``caption``, ``color``, ``size``, ``split``; training pictures first.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng([seed, 0])
    train = runs * (TRIALS - TEST_IN_RUN)
    rows = []
    for number in range(train + TEST):
        shape = SHAPES[number % len(SHAPES)]
        color = list(COLORS)[rng.integers(len(COLORS))]
        size = float(rng.uniform(0.25, 0.45))
        file = f"{shape}/{shape}{number + 1:03d}.png"
        (folder / shape).mkdir(exist_ok=True)
        _draw(shape, COLORS[color], size, rng.uniform(0.45, 0.55, 2)).save(folder / file)
        caption = f"a {'large' if size > 0.35 else 'small'} {color} {shape}"
        rows.append((file, shape, caption, color, size, "train" if number < train else "test"))
    table = pd.DataFrame(rows, columns=["stim_file", "category", "caption", "color", "size", "split"])
    table[["stim_file", "category", "caption"]].to_csv(folder / "stimuli.tsv", sep="\t", index=False)
    return table


def _draw(shape: str, color: tuple[int, int, int], size: float, center: np.ndarray) -> Any:
    from PIL import Image, ImageDraw

    image = Image.new("RGB", (SIZE, SIZE), (128, 128, 128))
    pen = ImageDraw.Draw(image)
    (x, y), r = center * SIZE, size * SIZE
    if shape == "circle":
        pen.ellipse([x - r, y - r, x + r, y + r], fill=color)
    elif shape == "square":
        pen.rectangle([x - r, y - r, x + r, y + r], fill=color)
    elif shape == "triangle":
        pen.polygon([(x, y - r), (x - r, y + r), (x + r, y + r)], fill=color)
    else:
        pen.rectangle([x - r, y - r / 3, x + r, y + r / 3], fill=color)
        pen.rectangle([x - r / 3, y - r, x + r / 3, y + r], fill=color)
    return image


def event_table(stimuli: pd.DataFrame, place: int, rng: np.random.Generator) -> pd.DataFrame:
    """Return the events of a run: rest, then trials every 6 or 8 s.

    Parameters
    ----------
    stimuli : DataFrame
        From :func:`draw_stimuli`.
    place : int
        Number of the run, over all sessions.
    rng : Generator
        For the order and the gaps.
    """
    train, new = np.flatnonzero(stimuli["split"] == "train"), TRIALS - TEST_IN_RUN
    test = np.flatnonzero(stimuli["split"] == "test")
    presented = [*train[place * new : (place + 1) * new], *test[place % 2 :: TEST // TEST_IN_RUN]]
    shown = rng.permutation(presented)
    onsets = 8.0 + np.cumsum([0.0, *rng.choice([6.0, 8.0], TRIALS - 1)])
    rows = stimuli.iloc[shown]
    trials = pd.DataFrame(
        {
            "onset": onsets,
            "duration": DURATION,
            "trial_type": rows["category"].to_numpy(),
            "stim_file": rows["stim_file"].to_numpy(),
            "split": rows["split"].to_numpy(),
            "response_time": (0.4 + 0.05 * (shown % 7)).round(2),
            "response": [None if place % 5 == 0 else ("right", "left")[place % 2] for place in shown],
        }
    )
    nothing = dict.fromkeys(("stim_file", "split", "response_time", "response"))
    rest = pd.DataFrame([{"onset": 0.0, "duration": 8.0, "trial_type": "rest", **nothing}])
    return pd.concat([rest.astype(trials.dtypes.to_dict()), trials], ignore_index=True)


def confound_table(rng: np.random.Generator) -> pd.DataFrame:
    """Return confounds as fMRIPrep names them; derivatives have no first value."""
    motion = pd.DataFrame(rng.standard_normal((VOLUMES, len(MOTION))).cumsum(axis=0) / 50, columns=list(MOTION))
    table = pd.DataFrame({"global_signal": rng.standard_normal(VOLUMES) + 900})
    for name in ("csf", "white_matter"):
        table[name] = rng.standard_normal(VOLUMES) + 800
    table["framewise_displacement"] = motion.diff().abs().sum(axis=1, min_count=1)
    table["std_dvars"] = 1.0 + rng.standard_normal(VOLUMES) / 10
    table.loc[0, "std_dvars"] = np.nan
    time = (np.arange(VOLUMES) + 0.5) / VOLUMES
    for number in range(2):
        table[f"cosine{number:02d}"] = np.sqrt(2 / VOLUMES) * np.cos(np.pi * (number + 1) * time)
    for name in MOTION:
        table[name] = motion[name]
        table[f"{name}_derivative1"] = motion[name].diff()
        table[f"{name}_power2"] = motion[name] ** 2
        table[f"{name}_derivative1_power2"] = motion[name].diff() ** 2
    return table


def simulate_run(
    events: pd.DataFrame,
    stimuli: pd.DataFrame,
    confounds: pd.DataFrame,
    subject: np.random.Generator,
    rng: np.random.Generator,
) -> np.ndarray:
    """Return the time series of a run.

    Parameters
    ----------
    events, stimuli, confounds : DataFrame
        Of the run.
    subject : Generator
        Draws the tuning of the voxels; the same for all runs of a subject.
    rng : Generator
        Draws the noise.

    Returns
    -------
    array, shape (volume, voxel), float32
        Scanner units about 1,000; a preferred picture raises them by about 2 %.
    """
    times = START_TIME + REPETITION_TIME * np.arange(VOLUMES)
    trials = events[events["trial_type"] != "rest"]
    shown = stimuli.set_index("stim_file").loc[trials["stim_file"]]
    answers = _tuning(shown, subject)
    signal = _response(times[:, None] - trials["onset"].to_numpy()) @ answers
    drift = np.cos(np.pi * np.arange(VOLUMES) / VOLUMES)[:, None] * rng.normal(0, 8, VOXELS)
    motion = confounds[list(MOTION)].to_numpy() @ rng.normal(0, 10, (len(MOTION), VOXELS))
    noise = rng.normal(0, 5, (VOLUMES, VOXELS))
    level = subject.uniform(900, 1100, VOXELS)
    return (level + GAIN * signal + drift + motion + noise).astype(np.float32)


def _response(seconds: np.ndarray) -> np.ndarray:
    """Return the hemodynamic response so many seconds after the onset of a picture (Glover 1999, auditory cortex)."""
    from scipy.stats import gamma

    fine = (np.arange(20) + 0.5) * DURATION / 20
    since = seconds[..., None] - fine
    shape = gamma.pdf(since, 7, scale=0.9) - 0.35 * gamma.pdf(since, 13, scale=0.9)
    return shape.mean(axis=-1) * DURATION


def _tuning(shown: pd.DataFrame, subject: np.random.Generator) -> np.ndarray:
    """Return the amplitude of every trial in every voxel: V1 and V2 see color and size, LO sees shape."""
    color = np.array([COLORS[name] for name in shown["color"]]) / 255
    low = np.column_stack([color, 4 * shown["size"].to_numpy() - 1.4])
    low = low @ subject.normal(0, 1, (low.shape[1], VOXELS))
    kinds = np.array([[shape == name for name in SHAPES] for shape in shown["category"]], dtype=float)
    high = kinds @ subject.normal(0, 1, (len(SHAPES), VOXELS))
    area = np.arange(VOXELS) * 4 // VOXELS
    return np.where(area < 2, low, np.where(area == 2, high, 0.0))
