"""A miniature of Yamada 2015: the two MATLAB files of a subject, with simulated responses of a few voxels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from neurorecon.testing.layouts import mark_simulated

#: Names and labels of the conditions, as in the real file: rest before the run, rest, five shapes.
CONDITIONS = {
    "test pre rest": 1,
    "test rest": 2,
    "square8x8": 2001,
    "smallFrame8x8": 2002,
    "largeFrame8x8": 2003,
    "plus8x8": 2004,
    "cross8x8": 2005,
}

#: Voxel size and origin in millimeters, as in the real file.
STEP, ORIGIN = 3.0, (-22.5, -70.5, -31.5)

#: Delay of the simulated responses, in volumes.
LAG = 2


def write_yamada2015(folder: str | Path, *, seed: int = 0, voxels: int = 40, runs: int = 3, blocks: int = 10) -> Path:
    """Write ``S2_figureImage.mat`` (MATLAB v7.3) and ``S2_outlierVoxInd.mat`` (v5).

    Parameters
    ----------
    folder : path
        Folder to write; created if it does not exist.
    seed : int
        Random seed.
    voxels, runs, blocks : int
        Number of voxels, of runs, and of blocks per run. The last voxel is marked as an outlier.

    Returns
    -------
    Path
        The folder.
    """
    from scipy.io import savemat

    folder = Path(folder)
    mark_simulated(folder)
    generator = np.random.default_rng(seed)
    labels = np.concatenate([_run_labels(blocks, generator) for _ in range(runs)])
    _write_recording(folder / "S2_figureImage.mat", labels, _responses(labels, runs, voxels, generator), runs)
    kept = np.arange(1, voxels, dtype=np.uint16)
    savemat(folder / "S2_outlierVoxInd.mat", {"afterOutlierVoxInd": kept[None]})
    return folder


def _run_labels(blocks: int, generator: np.random.Generator) -> np.ndarray:
    """Return the labels of a run: ten volumes of rest, then six of a shape and six of rest per block."""
    shapes = list(CONDITIONS.values())[2:]
    order = np.concatenate([generator.permutation(shapes) for _ in range(-(-blocks // len(shapes)))])[:blocks]
    parts = [np.full(10, 1)]
    for shape in order:
        parts += [np.full(6, shape), np.full(6, 2)]
    return np.concatenate(parts)


def _responses(labels: np.ndarray, runs: int, voxels: int, generator: np.random.Generator) -> np.ndarray:
    """Return integers like those of a scanner, (voxel, volume): one pattern per shape, drift and noise."""
    patterns = {label: generator.standard_normal(voxels) * (label > 2) for label in CONDITIONS.values()}
    shown = np.stack([patterns[label] for label in labels], axis=1)
    late = np.concatenate([_late(part) for part in np.split(shown, runs, axis=1)], axis=1)
    drift = np.tile(np.linspace(0, 20, labels.size // runs), runs)
    level = generator.uniform(500, 900, (voxels, 1))
    return np.round(level + drift + 8 * late + 6 * generator.standard_normal(shown.shape))


def _late(part: np.ndarray) -> np.ndarray:
    return np.pad(part, ((0, 0), (LAG, 0)))[:, : part.shape[1]]


def _write_recording(path: Path, labels: np.ndarray, data: np.ndarray, runs: int) -> None:
    """Write the structures D and P as MATLAB's ``save -v7.3`` does: axes reversed, cells as references."""
    import h5py

    voxels, volumes = data.shape
    edges = np.arange(runs + 1) * (volumes // runs)
    number = np.arange(voxels)
    place = np.stack([number % 4, number // 4 % 4, number // 16], axis=1)
    with h5py.File(path, "w", userblock_size=512) as file:
        cells = file.create_group("#refs#")
        part = _structure(file, "D")
        _array(part, "data", data)
        _array(part, "labels", labels[None])
        _array(part, "inds_blocks", np.stack([np.arange(1, volumes + 1)] * 2, axis=1))
        _array(part, "inds_runs", np.stack([edges[:-1] + 1, edges[1:]], axis=1))
        _array(part, "xyz", place * STEP + np.array(ORIGIN))
        _array(part, "tvals", np.ones((voxels, 1)))
        _text(part, "sbj_id", "S2")
        _cell(cells, part, "labels_names", list(CONDITIONS), (-1, 1))
        shown = [np.flatnonzero(labels == label)[:, None] + 1 for label in CONDITIONS.values()]
        _cell(cells, part, "inds_conds", shown, (1, -1))
        quarters = np.array_split(number, 4)
        _cell(cells, part, "rois_names", [f"VOX_S2_{side}_V1{half}" for side in ("LH", "RH") for half in "dv"], (-1, 1))
        _cell(cells, part, "rois_inds", [quarter[:, None] + 1 for quarter in quarters], (-1, 1))
        _array(_structure(_structure(file, "P"), "fMRI"), "TR", np.array([[2.0]]))


def _structure(parent: Any, name: str) -> Any:
    group = parent.create_group(name)
    group.attrs["MATLAB_class"] = np.bytes_("struct")
    return group


def _array(parent: Any, name: str, values: np.ndarray) -> Any:
    written = parent.create_dataset(name, data=np.asarray(values, dtype=np.float64))
    written.attrs["MATLAB_class"] = np.bytes_("double")
    return written


def _text(parent: Any, name: str, text: str) -> Any:
    written = parent.create_dataset(name, data=np.array([[ord(letter)] for letter in text], dtype=np.uint16))
    written.attrs["MATLAB_class"] = np.bytes_("char")
    written.attrs["MATLAB_int_decode"] = np.int32(2)
    return written


def _cell(cells: Any, parent: Any, name: str, values: Sequence[Any], shape: tuple[int, int]) -> None:
    """Write a cell array as references to its contents, which are stored in `cells`."""
    import h5py

    references = []
    for value in values:
        label = f"r{len(cells)}"
        item = _text(cells, label, value) if isinstance(value, str) else _array(cells, label, value)
        references.append(item.ref)
    array = np.array(references, dtype=h5py.ref_dtype).reshape(shape)
    written = parent.create_dataset(name, data=array, dtype=h5py.ref_dtype)
    written.attrs["MATLAB_class"] = np.bytes_("cell")
