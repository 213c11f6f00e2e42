"""A small made-up brain: voxels at a random sample of occipital vertices, two ROIs, three bands."""

from types import SimpleNamespace

import numpy as np
import pytest

from neurorecon.figures.mesh import HEMISPHERES, load_mesh

BANDS = ("gabor", "category", "motion")

#: Left-hemisphere centers (mm) and radii of two ROIs.
ROIS = {"V1": ((-8, -92, 2), 20.0), "MT": ((-46, -72, 4), 11.0)}


@pytest.fixture(scope="session")
def brain():
    random = np.random.default_rng(0)
    values, winner, mask, rois = {}, {}, {}, {name: {} for name in ROIS}
    for side in HEMISPHERES:
        place = load_mesh("fsaverage5", "pial", side).coordinates
        occipital = np.flatnonzero(place[:, 1] < -60)
        voxels = random.choice(occipital, 1250, replace=False)
        values[side] = np.full(len(place), np.nan)
        values[side][voxels] = np.clip(random.normal(0.2, 0.1, len(voxels)), 0, None)
        winner[side] = np.full(len(place), -1)
        winner[side][voxels] = random.integers(0, len(BANDS), len(voxels))
        mask[side] = values[side] > 0.15
        for name, (center, radius) in ROIS.items():
            mirrored = np.array(center) * ((1, 1, 1) if side == "left" else (-1, 1, 1))
            rois[name][side] = np.linalg.norm(place - mirrored, axis=1) < radius
    return SimpleNamespace(values=values, winner=winner, mask=mask, rois=rois, bands=BANDS)


@pytest.fixture
def words():
    """Return all text of a figure, line breaks as spaces."""

    def collect(figure):
        texts = [text.get_text() for text in figure.texts]
        for axes in figure.axes:
            texts += [text.get_text() for text in axes.texts]
            texts += [axes.get_xlabel(), axes.get_ylabel()]
        for legend in figure.legends:
            texts += [text.get_text() for text in legend.get_texts()] + [legend.get_title().get_text()]
        return " | ".join(texts).replace("\n", " ")

    return collect
