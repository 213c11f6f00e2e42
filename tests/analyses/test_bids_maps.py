"""Brain maps as a BIDS derivative: values, names and records are those of the results, in every space."""

import json

import nibabel
import numpy as np
import pandas as pd
import pytest

from neurorecon.analyses.bids_maps import export_maps, label
from neurorecon.analyses.design import EncodingSettings
from neurorecon.analyses.results import Result, write
from neurorecon.errors import InputError, MissingFileError
from neurorecon.space import Space

MAPS = {"r2": np.linspace(0, 1, 6), "clip_image unique": np.linspace(1, 2, 6)}


class _Result(Result):
    def brain_maps(self):
        return MAPS

    def voxels(self, store):
        return store.table


class _Store:
    """As much of a store as writing maps takes."""

    subjects, targets_available, snapshot, simulated = (), (), None, True

    def __init__(self, space, table):
        self._space, self.table = space, table

    def space(self, subject):
        return self._space


def _volume():
    table = pd.DataFrame(np.argwhere(np.ones((1, 2, 3))), columns=["i", "j", "k"])
    return _Store(Space("volume", affine=np.diag([2.0, 2, 2, 1]).tolist(), shape=[1, 2, 3]), table)


def _surface():
    table = pd.DataFrame({"hemisphere": ["left"] * 3 + ["right"] * 3, "vertex": [0, 5, 9] * 2})
    return _Store(Space("surface", mesh="fsaverage5", vertices={"left": 10242, "right": 10242}), table)


def _grayordinates():
    table = pd.DataFrame({"structure": "CIFTI_STRUCTURE_CORTEX_LEFT", "vertex": np.arange(6) * 7})
    table[["i", "j", "k"]] = -1
    vertices = {"CIFTI_STRUCTURE_CORTEX_LEFT": 32492}
    return _Store(Space("grayordinates", mesh="fs_LR", vertices=vertices), table)


@pytest.fixture
def results(tmp_path):
    """Return what writes the maps of one subject in a space."""

    def make(store):
        result = _Result(
            subject="sub-01", task="images", settings=EncodingSettings(), chosen={"task": "images"}, kind="encoding"
        )
        record = {"command": "neurorecon maps", "simulated": True, "versions": {"neurorecon": "0.1"}}
        write(result, store, tmp_path / "results", record, figures=False)
        return tmp_path / "results"

    return make


@pytest.mark.parametrize(
    ("store", "names"),
    [
        (_volume(), ["sub-01_task-images_stat-{}_desc-encoding_statmap.nii.gz"]),
        (
            _surface(),
            [f"sub-01_task-images_hemi-{side}_space-fsaverage_den-10k_stat-{{}}_desc-encoding_statmap.shape.gii"
             for side in "LR"],
        ),
        (_grayordinates(), ["sub-01_task-images_space-fsLR_stat-{}_desc-encoding_statmap.dscalar.nii"]),
    ],
    ids=["volume", "surface", "grayordinates"],
)  # fmt: skip
def test_every_map_is_a_file_with_a_sidecar(results, tmp_path, store, names):
    files = export_maps(results(store), tmp_path / "bids")
    wanted = {name.format(stat) for name in names for stat in ("r2", "clipImageUnique")}
    images = {path.name: path for path in files if path.suffix != ".json"}
    assert set(images) == wanted
    for stat, values in zip(("r2", "clipImageUnique"), MAPS.values(), strict=True):
        parts = [nibabel.load(images[name.format(stat)]) for name in names]
        if store.space("").kind == "surface":
            assert {part.darrays[0].intent for part in parts} == {2005}  # NIFTI_INTENT_SHAPE
            found = np.concatenate([part.darrays[0].data[[0, 5, 9]] for part in parts])
        else:
            found = np.asarray(parts[0].dataobj).ravel()
        np.testing.assert_allclose(found, values, rtol=1e-6)
    sidecars = [json.loads(path.read_text()) for path in files if path.name.endswith("_statmap.json")]
    assert {sidecar["MapName"] for sidecar in sidecars} == set(MAPS)
    assert all(sidecar["neurorecon"]["command"] == "neurorecon maps" for sidecar in sidecars)
    assert all(sidecar["SimulatedData"] for sidecar in sidecars)
    description = json.loads((tmp_path / "bids" / "dataset_description.json").read_text())
    assert description["DatasetType"] == "derivative"
    assert "SIMULATED" in description["Name"]


def test_changed_files_and_wrong_folders_are_refused(results, tmp_path):
    folder = results(_volume())
    with pytest.raises(MissingFileError, match="no brain maps"):
        export_maps(tmp_path, tmp_path / "bids")
    with pytest.raises(InputError, match="which holds files"):
        export_maps(folder, folder)
    image = folder / "sub-01_encoding_maps.nii.gz"
    image.write_bytes(image.read_bytes() + b"\0")
    with pytest.raises(InputError, match="not the file that was written"):
        export_maps(folder, tmp_path / "bids")
    assert not (tmp_path / "bids").exists()


def test_maps_of_one_label_are_refused(results, tmp_path, monkeypatch):
    monkeypatch.setitem(MAPS, "r-2", MAPS["r2"])
    monkeypatch.setitem(MAPS, "r 2", MAPS["r2"])
    with pytest.raises(InputError, match="same name"):
        export_maps(results(_volume()), tmp_path / "bids")
    assert not (tmp_path / "bids").exists()


def test_labels():
    assert label("clip_image r2 (normalized)") == "clipImageR2Normalized"
    assert label("??") == "map"
