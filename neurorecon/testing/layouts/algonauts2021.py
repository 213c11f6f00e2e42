"""A miniature of Algonauts 2021: short videos, and simulated responses of a few voxels of each ROI."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from neurorecon.datasets.algonauts2021 import GRID, ROIS, WHOLE
from neurorecon.testing.layouts import mark_simulated
from neurorecon.testing.layouts.cc2017 import AFFINE, write_video

#: Frame rate of the videos, voxels of an ROI, and shape of the whole brain.
RATE, VOXELS, SHAPE = 30, 4, (6, 7, 5)


def write_algonauts2021(
    folder: str | Path, *, seed: int = 0, subjects: Sequence[int] = (1, 2), videos: int = 24, repeats: int = 3
) -> Path:
    """Write videos and responses of both tracks under the names of the challenge.

    Parameters
    ----------
    folder : path
        Folder to write; created if it does not exist.
    seed : int
        Random seed.
    subjects : sequence of int
        Numbers of the subjects.
    videos : int
        Number of videos; one more has no responses, as 102 of the challenge.
    repeats : int
        Presentations of each video.

    Returns
    -------
    Path
        The folder.
    """
    import nibabel

    folder = Path(folder)
    mark_simulated(folder)
    generator = np.random.default_rng(seed)
    scenes = generator.integers(0, 256, (videos + 1, 6, 8, 3))
    for number, scene in enumerate(scenes, start=1):
        path = folder / "AlgonautsVideos268_All_30fpsmax" / f"{number:04d}_scene.mp4"
        write_video(path, scene[None], RATE, RATE)
    nibabel.Nifti1Image(np.zeros(SHAPE, dtype=np.float32), AFFINE).to_filename(folder / GRID)
    signal = scenes[:videos].reshape(videos, -1) / 128.0 - 1
    mask = np.zeros(SHAPE, dtype=bool)
    mask.flat[::5] = True
    for subject in subjects:
        for track, sizes in (("mini_track", dict.fromkeys(ROIS, VOXELS)), ("full_track", {WHOLE: int(mask.sum())})):
            place = folder / "participants_data_v2021" / track / f"sub{subject:02d}"
            place.mkdir(parents=True, exist_ok=True)
            for roi, size in sizes.items():
                response = signal @ generator.standard_normal((signal.shape[1], size)) / 8
                noise = generator.standard_normal((videos, repeats, size))
                content = {"train": response[:, None] + noise, **({"voxel_mask": mask} if roi == WHOLE else {})}
                (place / f"{roi}.pkl").write_bytes(pickle.dumps(content, protocol=4))
    return folder
