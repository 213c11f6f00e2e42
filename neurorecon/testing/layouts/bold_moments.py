"""A miniature of BOLD Moments: short videos, and simulated responses of a few voxels, in the spaces of version B."""

from __future__ import annotations

import json
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from neurorecon.testing.layouts import mark_simulated
from neurorecon.testing.layouts.cc2017 import AFFINE, write_video

#: Frame rate and frames of the videos, and shape of the volumes (97 x 115 x 97 in MNI152 at 2 mm).
RATE, FRAMES, SHAPE = 30, 90, (6, 7, 5)

#: Vertices of a hemisphere: those of fsaverage5 (163,842 in the release), and grayordinates of a CIFTI file.
VERTICES, GRAYORDINATES = 10242, 91282

#: ROIs of a hemisphere, and the rows of voxels (y) that they take; BA2 does not respond to videos.
ROIS = {"V1v": (0,), "V1d": (1,), "V2v": (2,), "EBA": (3,), "FFA": (4,), "BA2": (5,)}

#: What can be chosen with ``neurorecon datasets miniature bold_moments``.
CHOICES = {"spaces": ("MNI152", "fsLR32k", "fsaverage")}


def write_bold_moments(
    folder: str | Path,
    *,
    seed: int = 0,
    subjects: Sequence[int] = (1, 2),
    spaces: Sequence[str] = ("MNI152",),
    videos: tuple[int, int] = (24, 8),
    repeats: tuple[int, int] = (3, 10),
) -> Path:
    """Write videos, their descriptions, and responses under the names of ds005165.

    Parameters
    ----------
    folder : path
        Folder to write; created if it does not exist.
    seed : int
        Random seed.
    subjects : sequence of int
        Numbers of the subjects.
    spaces : sequence of {"MNI152", "fsLR32k", "fsaverage"}
        Spaces of the responses. Those of fsLR32k have as many grayordinates as real ones (0.7 MB a sample).
    videos, repeats : (int, int)
        Number of training and of test videos, and of presentations of each.

    Returns
    -------
    Path
        The folder.
    """
    folder = Path(folder)
    mark_simulated(folder)
    rng = np.random.default_rng(seed)
    numbers = [*range(1, videos[0] + 1), *range(1001, 1001 + videos[1])]
    patterns = rng.uniform(-1, 1, (2, 6, 8, 3))
    strength = rng.uniform(-1, 1, (len(numbers), 2))
    level = rng.uniform(-1, 1, len(numbers))
    scenes = 128 + 28 * level[:, None, None, None] + 48 * np.tensordot(strength, patterns, axes=1)
    stimuli, content = folder / "derivatives" / "stimuli_metadata", {}
    for number, scene in zip(numbers, scenes, strict=True):
        write_video(stimuli / "mp4_h264" / f"{number:04d}.mp4", scene[None], FRAMES, RATE)
        content[f"{number:04d}"] = {
            "bmd_matrixfilename": f"vid_idx{number:04d}",
            "set": "train" if number <= 1000 else "test",
            "text_descriptions": [f"Colors scroll to the right, {number}.", "A pattern moves."],
        }
    (stimuli / "annotations.json").write_text(json.dumps(content), encoding="utf-8")
    # What is seen is in the sign of the patterns, how strong they are in its square.
    signal = np.concatenate([strength, level[:, None], 2 * strength**2], axis=1)
    signal = (signal - signal.mean(axis=0)) / signal.std(axis=0)
    parts = {"train": (slice(0, videos[0]), repeats[0]), "test": (slice(videos[0], None), repeats[1])}
    for subject in subjects:
        for place, space in enumerate(spaces):
            own = np.random.default_rng([seed, subject, place])
            responsive = _responsive(space)
            weights = own.standard_normal((signal.shape[1], len(responsive))) * responsive
            betas = {}
            for task, (part, number) in parts.items():
                clean = (signal[part] @ weights)[:, None]
                noise = own.standard_normal((len(clean), number, len(responsive)))
                order = [f"vid{one:04d}" for one in numbers[part]]
                betas[task] = clean + noise, order
            _write(folder / "derivatives" / "versionB" / space / "GLM", f"sub-{subject:02d}", space, betas)
    return folder


def _mask() -> np.ndarray:
    mask = np.ones(SHAPE, dtype=bool)
    mask[:, :, 0] = False
    return mask


def _responsive(space: str) -> np.ndarray:
    """Return which voxels respond to videos, bool, shape (voxel,)."""
    if space == "MNI152":
        return np.argwhere(_mask())[:, 1] < 5
    number = GRAYORDINATES if space == "fsLR32k" else 2 * VERTICES
    return np.arange(number) % 50 == 0


def _write(base: Path, name: str, space: str, betas: dict[str, tuple[np.ndarray, list[str]]]) -> None:
    """Write the pickles of a subject, and in MNI space those of its ROIs and the mask of the group."""
    import nibabel

    for task, (values, order) in betas.items():
        stem = f"{name}_organized_betas_task-{task}"
        place = base / name / "prepared_betas"
        if space == "fsaverage":
            for side, part in (("left", slice(0, VERTICES)), ("right", slice(VERTICES, None))):
                _dump(place / f"{stem}_hemi-{side}_normalized.pkl", (values[:, :, part], order))
        elif space == "fsLR32k":
            _dump(place / f"{stem}_normalized.pkl", (values, order))
        else:
            image = nibabel.Nifti1Image(_mask().astype(np.uint8), AFFINE)
            _dump(place / f"{stem}_normalized.pkl", (values, order, image))
    if space == "MNI152":
        (base / "mask").mkdir(parents=True, exist_ok=True)
        nibabel.Nifti1Image(_mask().astype(np.uint8), AFFINE).to_filename(base / "mask" / "groupMask_space-MNI152.nii")
        places = np.argwhere(_mask())
        for roi, rows in ROIS.items():
            left = places[:, 0] >= SHAPE[0] // 2  # x falls with i
            for side, member in (("l", left), ("r", ~left)):
                flat = np.flatnonzero(member & np.isin(places[:, 1], rows))
                _dump(base / name / "ROIs" / f"ROI-{side}{roi}_indices.pkl", (places[flat], flat, image))
        general = np.flatnonzero(places[:, 1] < 5)
        parcel = base / "parcels" / "group_parcels" / "parcel-BMDgeneral_indices.pkl"
        _dump(parcel, (places[general], general, image))


def _dump(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(content, protocol=pickle.HIGHEST_PROTOCOL))
