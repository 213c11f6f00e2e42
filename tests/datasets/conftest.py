"""Fixtures of the tests of readers: Miyawaki 2008 in miniature, in both layouts of the distributors."""

import nibabel
import numpy as np
import pytest
from scipy.io import savemat

from neurorecon.datasets.miyawaki2008 import FIGURES

AFFINE = np.diag([3.0, 3.0, 3.0, 1.0])
SHAPE = (5, 6, 4)


def draw_figure(name):
    """Draw a figure in the middle of the 10 by 10 patches."""
    lit = np.array([[patch == "#" for patch in row] for row in FIGURES[name].split("/")], dtype=np.uint8)
    pattern = np.zeros((10, 10), dtype=np.uint8)
    y, x = (10 - lit.shape[0]) // 2, (10 - lit.shape[1]) // 2
    pattern[y : y + lit.shape[0], x : x + lit.shape[1]] = lit
    return pattern


def _write_excerpt(folder, n_voxels=30, **replace):
    """Write ``V1_mean_figure.mat``: one run of shapes, one of letters."""
    rng = np.random.default_rng(0)
    names = list(FIGURES)
    order = [*range(5), *range(5), *range(5, 10), *range(5, 10)]
    patterns = np.stack([draw_figure(names[index]).ravel(order="F") for index in order], axis=1)
    content = {"I2": patterns, "R2": rng.standard_normal((n_voxels, 20))} | replace
    folder.mkdir(parents=True, exist_ok=True)
    savemat(folder / "V1_mean_figure.mat", {key: value for key, value in content.items() if value is not None})
    return patterns, content["R2"]


def _write_layout(folder, n_random=3, n_figure=2, blocks=4):
    """Write nilearn's layout with few runs; volumes are noise about 100 with a trend."""
    rng = np.random.default_rng(1)
    for part in ("func", "label", "mask"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    mask = np.zeros(SHAPE, dtype=np.uint8)
    mask[1:4, 1:5, 1:3] = 1
    nibabel.Nifti1Image(mask, AFFINE).to_filename(folder / "mask" / "mask.nii.gz")
    parts = {"V1d": slice(1, 2), "V1v": slice(2, 3), "V2d": slice(3, 5), "lag0to1": slice(1, 3)}
    for side, half in (("LH", slice(0, 2)), ("RH", slice(2, 5))):
        for name, rows in parts.items():
            roi = np.zeros(SHAPE, dtype=np.uint8)
            roi[half, rows, :] = 1
            nibabel.Nifti1Image(roi, AFFINE).to_filename(folder / "mask" / f"{side}{name}.nii.gz")
    names = list(FIGURES)
    for kind, n_runs, length in (("random", n_random, 3), ("figure", n_figure, 6)):
        for run in range(1, n_runs + 1):
            rows = [np.full((4, 100), -1)]
            for block in range(blocks):
                pattern = (
                    rng.integers(0, 2, (10, 10))
                    if kind == "random"
                    else draw_figure(names[(run * blocks + block) % 10])
                )
                rows += [np.tile(pattern.ravel(order="F"), (length, 1)), np.full((length, 100), -1)]
            label = np.concatenate(rows).astype(int)
            volumes = 100 + rng.standard_normal((*SHAPE, len(label))) + np.arange(len(label)) / 10
            nibabel.Nifti1Image(volumes.astype(np.float32), AFFINE).to_filename(
                folder / "func" / f"data_{kind}_run{run:02d}.nii.gz"
            )
            np.savetxt(folder / "label" / f"data_{kind}_run{run:02d}_label.csv", label, fmt="%d", delimiter=",")


@pytest.fixture(scope="session")
def write_excerpt():
    return _write_excerpt


@pytest.fixture(scope="session")
def write_layout():
    return _write_layout


@pytest.fixture(scope="session")
def excerpt(tmp_path_factory):
    """Folder with the excerpt; not to be written into."""
    folder = tmp_path_factory.mktemp("excerpt")
    _write_excerpt(folder)
    return folder


@pytest.fixture(scope="session")
def layout(tmp_path_factory):
    """Folder with nilearn's layout; not to be written into."""
    folder = tmp_path_factory.mktemp("miyawaki2008")
    _write_layout(folder)
    return folder
