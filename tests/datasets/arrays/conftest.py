"""A folder of arrays and tables with few samples, written piece by piece so that a test can spoil one of them."""

from types import SimpleNamespace

import nibabel
import numpy as np
import pandas as pd
import pytest

from neurorecon.datasets.arrays.reader import ArraysReader

SAMPLES, VOXELS, STIMULI = 12, 5, 6
AFFINE = np.diag([2.0, 2.0, 2.0, 1.0])


@pytest.fixture
def lab(tmp_path):
    """Arrays, tables, and what writes them and opens the folder."""
    rng = np.random.default_rng(0)
    parts = SimpleNamespace(
        root=tmp_path,
        responses=rng.standard_normal((SAMPLES, VOXELS)).astype(np.float32),
        samples=pd.DataFrame({"stimulus": [f"s{number}" for number in [*range(STIMULI)] * 2]}),
        stimuli=pd.DataFrame({"id": [f"s{number}" for number in range(STIMULI)], "category": list("aabbcc")}),
        voxels=pd.DataFrame({"i": [0, 1, 2, 0, 1], "j": [0, 0, 1, 1, 2], "k": [1] * 5, "V1": [1, 1, 0, 0, 0]}),
        images=rng.integers(0, 256, (STIMULI, 8, 10, 3), dtype=np.uint8),
    )

    def write():
        np.save(tmp_path / "responses.npy", parts.responses)
        parts.samples.to_csv(tmp_path / "samples.csv", index=False)
        parts.stimuli.to_csv(tmp_path / "stimuli.csv", index=False)
        parts.voxels.to_csv(tmp_path / "voxels.csv", index=False)
        if parts.images is not None:
            np.save(tmp_path / "images.npy", parts.images)
        nibabel.Nifti1Image(np.ones((3, 3, 3), np.uint8), AFFINE).to_filename(tmp_path / "mask.nii.gz")
        return tmp_path

    parts.write = write
    parts.open = lambda **options: ArraysReader(tmp_path, ArraysReader.Options(**options))
    return parts
