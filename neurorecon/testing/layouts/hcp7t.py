"""A miniature of HCP's videos at 7 T: short videos with their own table of films, and simulated responses."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from neurorecon.testing.layouts import mark_simulated
from neurorecon.testing.layouts.cc2017 import cortex_models, responsive, simulate, write_series, write_video

#: Frame rate of the real videos.
RATE = 24

#: Names of the videos and directions of their runs.
MOVIES = {1: ("CC1", "AP"), 2: ("HO1", "PA"), 3: ("CC2", "PA"), 4: ("HO2", "AP")}

#: Films of the miniature (s): two in every run, the second one the same in all, with rest around them.
FILMS = ((4, 12), (14, 20))

#: Length of the videos and of the runs (s).
VIDEO, RUN = 22, 26

#: Seconds from an image to its response.
DELAY = 4


def write_hcp7t(
    folder: str | Path,
    *,
    seed: int = 0,
    subjects: Sequence[str] = ("100610", "102311"),
    movies: Sequence[int] = (1, 2, 3, 4),
) -> Path:
    """Write videos and runs under the names of the release, and ``clips.csv`` with the times of the short films.

    Parameters
    ----------
    folder : path
        Folder to write; created if it does not exist.
    seed : int
        Random seed.
    subjects : sequence of str
        Names of the subjects.
    movies : sequence of int
        Numbers of the movies.

    Returns
    -------
    Path
        The folder.
    """
    folder = Path(folder)
    mark_simulated(folder)
    generator = np.random.default_rng(seed)
    repeated = generator.integers(0, 256, (FILMS[1][1] - FILMS[1][0], 6, 8, 3))
    scenes = {}
    for movie in movies:
        scenes[movie] = np.zeros((VIDEO, 6, 8, 3), dtype=int)  # black while subjects rest
        scenes[movie][slice(*FILMS[0])] = generator.integers(0, 256, (FILMS[0][1] - FILMS[0][0], 6, 8, 3))
        scenes[movie][slice(*FILMS[1])] = repeated
        write_video(folder / "stimuli" / f"7T_MOVIE{movie}_{MOVIES[movie][0]}_v2.mp4", scenes[movie], RATE, RATE)
    rows = [
        f"{movie},{start},{stop},{'test' if start == FILMS[1][0] else 'train'}"
        for movie in movies
        for start, stop in FILMS
    ]
    (folder / "clips.csv").write_text("\n".join(["movie,start,stop,split", *rows]) + "\n", encoding="utf-8")
    models, visual = cortex_models(), responsive()
    for subject in subjects:
        patterns = generator.standard_normal((6 * 8 * 3, len(models))) * visual / 4
        for movie in movies:
            name = f"tfMRI_MOVIE{movie}_7T_{MOVIES[movie][1]}"
            signal = (scenes[movie].reshape(VIDEO, -1) / 128.0 - 1) @ patterns
            series = simulate(signal, DELAY, RUN - VIDEO - DELAY, generator)
            write_series(
                folder / subject / "MNINonLinear" / "Results" / name / f"{name}_Atlas_MSMAll_hp2000_clean.dtseries.nii",
                series,
                models,
                1.0,
            )
    return folder
