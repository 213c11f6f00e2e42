"""The time series of the miniature BIDS data set as fMRIPrep writes them: NIfTI, GIFTI, CIFTI."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from neurorecon.testing.trees.bids_design import REPETITION_TIME, START_TIME, VOXELS

#: What the sidecars say of time.
TIMES = {"RepetitionTime": REPETITION_TIME, "StartTime": START_TIME, "SliceTimingCorrected": True}

#: Grid of the volumes; the midplane runs through it.
SHAPE = (8, 7, 6)
AFFINE = np.array([[2.0, 0, 0, -7.5], [0, 2.0, 0, -90.5], [0, 0, 2.0, -8.5], [0, 0, 0, 1]])

#: Vertices of each hemisphere of fsaverage5, and of fsLR 32k.
FSAVERAGE5, FS_LR = 10242, 32492

#: In grayordinates, so many voxels of each hemisphere lie in cortex, the others in the thalamus.
IN_CORTEX = 40


def volume_mask() -> np.ndarray:
    """Return the brain, bool (x, y, z), with one true value for each voxel."""
    mask = np.zeros(SHAPE, dtype=bool)
    mask[1:7, 1:5, 1:5] = True
    assert mask.sum() == VOXELS
    return mask


def vertices(mesh: int) -> np.ndarray:
    """Return the vertices of half the voxels, in either hemisphere: int (voxel,)."""
    return np.linspace(100, mesh - 100, VOXELS // 2).astype(int)


def brain_models() -> Any:
    """Return where the voxels lie in grayordinates."""
    from nibabel.cifti2 import BrainModelAxis

    cortex = vertices(FS_LR)[:IN_CORTEX]
    parts = [BrainModelAxis.from_surface(cortex, FS_LR, f"CIFTI_STRUCTURE_CORTEX_{side}") for side in ("LEFT", "RIGHT")]
    left = np.argwhere(volume_mask())[: VOXELS - 2 * IN_CORTEX]
    thalamus = BrainModelAxis(
        ["CIFTI_STRUCTURE_THALAMUS_LEFT"] * len(left), voxel=left, affine=AFFINE, volume_shape=SHAPE
    )
    return parts[0] + parts[1] + thalamus


def in_grayordinates() -> np.ndarray:
    """Return which voxel each grayordinate holds: int (grayordinate,)."""
    half = VOXELS // 2
    left, right = np.arange(IN_CORTEX), half + np.arange(IN_CORTEX)
    return np.concatenate([left, right, np.setdiff1d(np.arange(VOXELS), [*left, *right])])


def write_volume(folder: Path, name: str, series: np.ndarray) -> None:
    """Write ``desc-preproc_bold.nii.gz``, its sidecar and its brain mask."""
    import nibabel

    mask = volume_mask()
    data = np.zeros((*SHAPE, len(series)), dtype=np.float32)
    data[mask] = series.T
    image = nibabel.Nifti1Image(data, AFFINE)
    image.header.set_xyzt_units("mm", "sec")
    image.header.set_zooms((2, 2, 2, REPETITION_TIME))
    stem = f"{name}_space-MNI152NLin2009cAsym_res-2"
    image.to_filename(folder / f"{stem}_desc-preproc_bold.nii.gz")
    _sidecar(folder / f"{stem}_desc-preproc_bold.json")
    nibabel.Nifti1Image(mask.astype(np.uint8), AFFINE).to_filename(folder / f"{stem}_desc-brain_mask.nii.gz")


def write_surface(folder: Path, name: str, series: np.ndarray) -> None:
    """Write a pair of ``bold.func.gii``: an array a volume, zeros where there is no voxel."""
    from nibabel.gifti import GiftiDataArray, GiftiImage

    half = VOXELS // 2
    for side, part in (("L", series[:, :half]), ("R", series[:, half:])):
        data = np.zeros((len(series), FSAVERAGE5), dtype=np.float32)
        data[:, vertices(FSAVERAGE5)] = part
        arrays = [GiftiDataArray(row, intent="NIFTI_INTENT_TIME_SERIES", datatype="float32") for row in data]
        stem = f"{name}_hemi-{side}_space-fsaverage5_bold"
        GiftiImage(darrays=arrays).to_filename(folder / f"{stem}.func.gii")
        _sidecar(folder / f"{stem}.json")


def write_grayordinates(folder: Path, name: str, series: np.ndarray) -> None:
    """Write ``den-91k_bold.dtseries.nii``."""
    import nibabel
    from nibabel.cifti2 import SeriesAxis

    time = SeriesAxis(start=0.0, step=REPETITION_TIME, size=len(series))
    image = nibabel.Cifti2Image(series[:, in_grayordinates()], (time, brain_models()))
    image.nifti_header.set_intent("ConnDenseSeries")
    stem = f"{name}_space-fsLR_den-91k_bold"
    image.to_filename(folder / f"{stem}.dtseries.nii")
    _sidecar(folder / f"{stem}.json")


def _sidecar(path: Path) -> None:
    path.write_text(json.dumps({**TIMES, "SkullStripped": False}, indent=2) + "\n", encoding="utf-8")


#: By kind of space.
WRITERS: dict[str, Callable[[Path, str, np.ndarray], None]] = {
    "volume": write_volume,
    "surface": write_surface,
    "grayordinates": write_grayordinates,
}
