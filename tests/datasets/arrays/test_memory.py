"""A store from arrays in memory: the same numbers and the same checks as from a folder."""

import nibabel
import numpy as np
import pandas as pd
import pytest

import neurorecon as nr
from neurorecon.datasets.recipe import Recipe
from neurorecon.errors import InputError, StoreError
from neurorecon.store.build import build_store

SPLIT = ["train"] * 4 + ["test"] * 2


def _given(lab):
    return {
        "responses": lab.responses,
        "samples": lab.samples.assign(split=SPLIT * 2),
        "stimuli": lab.stimuli,
        "images": lab.images,
        "voxels": lab.voxels,
        "mask": nibabel.Nifti1Image(np.ones((3, 3, 3), np.uint8), np.diag([2.0, 2.0, 2.0, 1.0])),
    }


def test_memory_and_folder_give_the_same_store(lab, tmp_path):
    store = nr.build_from_arrays(tmp_path / "lab.icechunk", **_given(lab), progress=False)
    lab.samples["split"] = SPLIT * 2
    recipe = Recipe(name="lab", reader="arrays", root=str(lab.write()))
    other = nr.open_store(build_store(recipe, tmp_path / "other.icechunk", progress=False))
    assert store.digests() == other.digests()
    assert store.space("subj01") == other.space("subj01")


def test_the_same_data_are_left_as_they_are_and_others_are_refused(lab, tmp_path):
    path, given = tmp_path / "lab.icechunk", _given(lab)
    first = nr.build_from_arrays(path, **given, progress=False).snapshot
    assert nr.build_from_arrays(path, **given, progress=False).snapshot == first
    changed = lab.responses.copy()
    changed[11, 4] += 1e-3
    others = [
        {"responses": changed},
        {"voxels": lab.voxels.assign(V1=[0, 0, 0, 1, 1])},
        {"units": "z"},
        {"images": None},
    ]
    for other in others:
        with pytest.raises(StoreError, match="already a different store"):
            nr.build_from_arrays(path, **(given | other), progress=False)
    assert nr.open_store(path).snapshot == first
    replaced = nr.build_from_arrays(path, **(given | others[0]), progress=False, overwrite=True)
    assert replaced.responses("subj01").values[11].max() == changed[11].max()


def test_a_list_of_stimuli_is_enough(lab, tmp_path):
    shown = np.repeat(np.arange(6), 2)
    in_v1 = np.array([True, False, True, False, False])
    store = nr.build_from_arrays(
        tmp_path / "least.icechunk", lab.responses, shown, images=lab.images, rois={"V1": in_v1}, progress=False
    )
    assert store.stimuli["id"].tolist() == ["0", "1", "2", "3", "4", "5"]
    np.testing.assert_array_equal(store.responses("subj01", "V1").values, lab.responses[:, in_v1])
    np.testing.assert_array_equal(store.images(["5"]).values, lab.images[5:])


def test_several_subjects(lab, tmp_path):
    samples = lab.samples.assign(split=SPLIT * 2)
    store = nr.build_from_arrays(
        tmp_path / "two.icechunk",
        {"anna": lab.responses, "ben": lab.responses[:, :3] + 1},
        samples,
        rois={"anna": {"V1": np.arange(5) < 2}, "ben": {"V1": np.arange(3) < 1}},
        roi_groups={"early": ["V1"]},
        progress=False,
    )
    assert store.subjects == ["anna", "ben"]
    np.testing.assert_array_equal(store.responses("ben", "early").values, lab.responses[:, :1] + 1)
    with pytest.raises(InputError, match="different subjects"):
        nr.build_from_arrays(tmp_path / "x.icechunk", {"anna": lab.responses}, {"anna": samples, "eve": samples})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"responses": [[1.0, 2.0], [3.0]]}, "cannot be converted to an array"),
        ({"samples": {"stimulus": ["s0"], "run": [1, 2]}}, "is not a table"),
        ({"samples": 3}, "a pandas DataFrame"),
        ({"images": "nowhere"}, "folder of the images does not exist"),
        ({"responses": {"sub 1": np.ones((12, 5))}}, "name of a subject is not allowed"),
        ({"rois": {"V1": [True, False]}}, "is not a mask of the voxels"),
        ({"mask": np.ones((3, 3, 3))}, "a NIfTI image, or the path"),
        ({"repetition_tme": 2.0}, "repetition_tme: Extra inputs"),
        ({"path": "lab.zarr"}, "NAME.icechunk"),
        ({"responses": np.array([["a"] * 5] * 12, dtype=object)}, "does not contain real numbers"),
        ({"stimuli": pd.DataFrame({"id": ["s0", "s0"]})}, "occur more than once"),
    ],
)
def test_mistakes(lab, tmp_path, change, message):
    given = {"path": tmp_path / "lab.icechunk", **_given(lab), "progress": False} | change
    with pytest.raises(InputError, match=message):
        nr.build_from_arrays(**given)
    assert not (tmp_path / "lab.icechunk").exists()
