"""Where the areas of the miniature of NSD lie, and what their voxels respond to."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from neurorecon.testing.trees.nsd_pictures import FEATURES

#: Grids of the volumes (81 x 104 x 83 and 145 x 186 x 148 in NSD), and millimeters of a voxel.
VOLUMES = {"func1pt8mm": ((12, 14, 10), 1.8), "func1mm": ((16, 18, 13), 1.0)}

#: Vertices of a hemisphere (163,842 in NSD): the mesh fsaverage5.
VERTICES = 10242

#: Areas: file, label, and where they lie: from back to front and from bottom to top, in shares of visual cortex.
_AREAS: dict[str, dict[int, tuple[tuple[float, float], tuple[float, float]]]] = {
    "prf-visualrois": {
        1: ((0.0, 0.2), (0.0, 0.5)),
        2: ((0.0, 0.2), (0.5, 1.0)),
        3: ((0.2, 0.3), (0.0, 0.5)),
        4: ((0.2, 0.3), (0.5, 1.0)),
        5: ((0.3, 0.4), (0.0, 0.5)),
        6: ((0.3, 0.4), (0.5, 1.0)),
        7: ((0.4, 0.5), (0.0, 0.5)),
    },
    "floc-faces": {1: ((0.5, 0.6), (0.0, 0.3)), 2: ((0.6, 0.8), (0.0, 0.3)), 3: ((0.8, 1.0), (0.0, 0.3))},
    "floc-bodies": {1: ((0.5, 0.6), (0.1, 0.5)), 2: ((0.6, 0.8), (0.1, 0.5)), 3: ((0.8, 1.0), (0.1, 0.5))},
    "floc-places": {1: ((0.5, 0.6), (0.7, 1.0)), 2: ((0.6, 0.8), (0.7, 1.0)), 3: ((0.8, 1.0), (0.7, 1.0))},
    "floc-words": {1: ((0.5, 0.6), (0.5, 0.7)), 2: ((0.6, 0.8), (0.5, 0.7)), 3: ((0.8, 1.0), (0.5, 0.7))},
    "streams": {
        1: ((0.0, 0.4), (0.0, 1.0)),
        2: ((0.4, 0.5), (0.0, 0.5)),
        4: ((0.4, 0.5), (0.5, 1.0)),
        5: ((0.5, 1.0), (0.0, 0.5)),
        7: ((0.5, 1.0), (0.5, 1.0)),
    },
    "Kastner2015": {
        1: ((0.0, 0.25), (0.0, 0.5)),  # drawn by hand, V1 is smaller
        2: ((0.0, 0.25), (0.5, 1.0)),
        3: ((0.25, 0.3), (0.0, 0.5)),
        4: ((0.25, 0.3), (0.5, 1.0)),
        5: ((0.3, 0.35), (0.0, 0.5)),
        6: ((0.3, 0.35), (0.5, 1.0)),
        7: ((0.35, 0.45), (0.0, 0.5)),
        8: ((0.45, 0.6), (0.0, 0.5)),
        10: ((0.6, 0.8), (0.0, 0.5)),
        13: ((0.8, 1.0), (0.0, 0.5)),
        17: ((0.35, 0.6), (0.5, 1.0)),
        18: ((0.6, 0.8), (0.5, 1.0)),
        24: ((0.8, 1.0), (0.5, 1.0)),
    },
    "HCP_MMP1": {1: ((0.0, 0.2), (0.0, 1.0)), 4: ((0.2, 0.3), (0.0, 1.0)), 18: ((0.5, 1.0), (0.0, 0.5))},
}

#: Features that voxels of a file's areas respond to; all others respond to every category a little.
_TUNING = {
    "prf-visualrois": ("meadow", "sky", "street", "x", "y", "size"),
    "floc-faces": ("person",),
    "floc-bodies": ("person", "dog", "bird"),
    "floc-places": ("car", "train", "street"),
    "floc-words": ("pizza",),
}


@dataclass(frozen=True)
class Cortex:
    """The voxels of one space.

    Parameters
    ----------
    labels : dict of str to int array, shape (voxel,)
        Of each ROI file.
    left : bool array, shape (voxel,)
        Whether a voxel is in the left hemisphere.
    brain : bool array, shape (voxel,)
        Whether it is in the brain; all others are zero.
    """

    labels: dict[str, np.ndarray]
    left: np.ndarray
    brain: np.ndarray

    def weights(self, rng: np.random.Generator) -> np.ndarray:
        """Return the weight of each feature for each voxel, shape (feature, voxel)."""
        weights = np.zeros((len(FEATURES), len(self.left)))
        for file, names in _TUNING.items():
            rows = np.array([FEATURES.index(name) for name in names])
            here = np.flatnonzero(self.labels[file] > 0)
            weights[np.ix_(rows, here)] += rng.uniform(0.5, 1.0, (len(rows), len(here)))
        visual = self.labels["nsdgeneral"] > 0
        weights[:6, visual] += 0.2 * rng.standard_normal((6, int(visual.sum())))
        return weights


def volume_cortex(space: str) -> tuple[Cortex, np.ndarray]:
    """Return the voxels of a volume, x fastest, and its affine."""
    shape, size = VOLUMES[space]
    x, y, z = (index.ravel(order="F") for index in np.indices(shape))
    edge = np.min([x, y, z, *(length - 1 - index for length, index in zip(shape, (x, y, z), strict=True))], axis=0)
    # Visual cortex: all but the outer layers of the box.
    back, up = (y - 1) / (shape[1] - 3), (z - 2) / (shape[2] - 4)
    cortex = _areas(back, up, np.abs(x / (shape[0] - 1) - 0.5) * 2, x < shape[0] / 2, edge >= 1, z >= 2)
    affine = np.diag([size, size, size, 1.0])
    affine[:3, 3] = -size * (np.array(shape) - 1) / 2
    return cortex, affine


def surface_cortex() -> Cortex:
    """Return the vertices of both hemispheres, the left ones first."""
    index = np.tile(np.arange(VERTICES), 2)
    back, up = index % 101 / 101, index // 101 / 101
    left = np.arange(2 * VERTICES) < VERTICES
    visual = (index % 7 == 0) & (up < 1)
    return _areas(back, up, index % 13 / 13, left, np.ones_like(left), visual)


def _areas(
    back: np.ndarray, up: np.ndarray, out: np.ndarray, left: np.ndarray, brain: np.ndarray, visual: np.ndarray
) -> Cortex:
    inside = brain & visual & (back >= 0) & (back < 1) & (up >= 0) & (up < 1)
    labels: dict[str, np.ndarray] = {}
    for file, areas in _AREAS.items():
        labels[file] = np.zeros(len(back), dtype=np.int16)
        for number, ((rear, front), (bottom, top)) in areas.items():
            labels[file][inside & (back >= rear) & (back < front) & (up >= bottom) & (up < top)] = number
    eccentricity = np.digitize(out, [0.2, 0.4, 0.6, 0.8]) + 1
    labels["prf-eccrois"] = np.where(labels["prf-visualrois"] > 0, eccentricity, 0).astype(np.int16)
    labels["nsdgeneral"] = np.where(inside, 1, np.where(brain, -1, 0)).astype(np.int16)
    return Cortex(labels, left, brain)
