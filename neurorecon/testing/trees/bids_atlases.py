"""Areas of the miniature BIDS data set, in every format that atlases come in."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from neurorecon.testing.trees.bids_design import VOXELS
from neurorecon.testing.trees.bids_images import (
    AFFINE,
    FSAVERAGE5,
    SHAPE,
    brain_models,
    in_grayordinates,
    vertices,
    volume_mask,
)

#: Name and color of each label; 0 is none.
AREAS = {"V1": (1.0, 0.2, 0.2), "V2": (0.2, 1.0, 0.2), "LO": (0.2, 0.2, 1.0)}


def area_of_voxel() -> np.ndarray:
    """Return the label of each voxel, int (voxel,): 1 V1, 2 V2, 3 LO, 0 none."""
    return np.array([1, 2, 3, 0])[np.arange(VOXELS) * 4 // VOXELS]


def write_atlases(folder: Path, kinds: Sequence[str]) -> None:
    """Write the areas: NIfTI with a table of labels and a mask, annot and label GIFTI, dlabel."""
    folder.mkdir(parents=True, exist_ok=True)
    if "volume" in kinds:
        _write_volumes(folder)
    if "surface" in kinds:
        _write_surfaces(folder)
    if "grayordinates" in kinds:
        _write_grayordinates(folder)


def _write_volumes(folder: Path) -> None:
    import nibabel

    labels = np.zeros(SHAPE, dtype=np.int16)
    labels[volume_mask()] = area_of_voxel()
    nibabel.Nifti1Image(labels, AFFINE).to_filename(folder / "areas_dseg.nii.gz")
    table = pd.DataFrame({"index": range(1, len(AREAS) + 1), "name": list(AREAS)})
    table.to_csv(folder / "areas_dseg.tsv", sep="\t", index=False)
    visual = (labels > 0).astype(np.uint8)
    nibabel.Nifti1Image(visual, AFFINE).to_filename(folder / "visual_mask.nii.gz")


def _write_surfaces(folder: Path) -> None:
    from nibabel.freesurfer import write_annot
    from nibabel.gifti import GiftiDataArray, GiftiImage, GiftiLabel, GiftiLabelTable

    half = VOXELS // 2
    colors = [(0, 0, 0, 0), *((*(int(255 * part) for part in color), 0) for color in AREAS.values())]
    for letter, side, part in (("L", "lh", slice(None, half)), ("R", "rh", slice(half, None))):
        labels = np.zeros(FSAVERAGE5, dtype=np.int32)
        labels[vertices(FSAVERAGE5)] = area_of_voxel()[part]
        table = np.array([[*color, 0] for color in colors])
        write_annot(folder / f"{side}.areas.annot", labels, table, ["unknown", *AREAS], fill_ctab=True)
        names = GiftiLabelTable()
        for key, name in enumerate(["???", *AREAS]):
            label: Any = GiftiLabel(key, 1.0, 1.0, 1.0, 1.0)
            label.label = name  # nibabel writes it; its class does not declare it
            names.labels.append(label)
        array = GiftiDataArray(labels, intent="NIFTI_INTENT_LABEL", datatype="int32")
        GiftiImage(labeltable=names, darrays=[array]).to_filename(folder / f"hemi-{letter}_areas.label.gii")


def _write_grayordinates(folder: Path) -> None:
    import nibabel
    from nibabel.cifti2 import LabelAxis

    table = {0: ("???", (0.0, 0.0, 0.0, 0.0))}
    table |= {key: (name, (*color, 1.0)) for key, (name, color) in enumerate(AREAS.items(), start=1)}
    labels = area_of_voxel()[in_grayordinates()].astype(np.float32)[None]
    image = nibabel.Cifti2Image(labels, (LabelAxis(["areas"], [table]), brain_models()))
    image.nifti_header.set_intent("ConnDenseLabel")
    image.to_filename(folder / "areas.dlabel.nii")
