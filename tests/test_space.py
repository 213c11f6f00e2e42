"""Values go back into the brain, through the files that other programs read."""

import nibabel
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neurorecon.errors import InputError
from neurorecon.space import Space, hemispheres

AFFINE = [[-2.0, 0.0, 0.0, 8.0], [0.0, 2.5, 0.0, -20.0], [0.0, 0.0, 3.0, 4.0], [0.0, 0.0, 0.0, 1.0]]
SHAPE = [5, 4, 3]
VERTICES = {"left": 10242, "right": 10242}


def _volume(number, seed=0):
    picked = np.random.default_rng(seed).choice(np.prod(SHAPE), number, replace=False)
    return pd.DataFrame(dict(zip("ijk", np.unravel_index(picked, SHAPE), strict=True)))


def _surface(number, seed=0):
    random = np.random.default_rng(seed)
    vertex = random.choice(10242, number, replace=False)
    return pd.DataFrame({"hemisphere": random.choice(["left", "right"], number), "vertex": vertex})


def _grayordinates():
    """Cortical vertices and voxels of a nucleus, in mixed order."""
    structures = ["CIFTI_STRUCTURE_CORTEX_LEFT", "CIFTI_STRUCTURE_THALAMUS_RIGHT", "CIFTI_STRUCTURE_CORTEX_RIGHT"]
    rows = []
    for number in range(18):
        structure = structures[number % 3]
        cortex = "CORTEX" in structure
        place = (-1, -1, -1) if cortex else (number % 5, number // 5, 1)
        rows.append((structure, number * 3 if cortex else -1, *place))
    return pd.DataFrame(rows, columns=["structure", "vertex", "i", "j", "k"])


@given(st.integers(1, 60), st.integers(0, 2**32 - 1), st.integers(0, 3))
@settings(max_examples=25, deadline=None)
def test_volumes_come_back_from_nifti(number, seed, maps):
    voxels = _volume(number, seed)
    shape = (maps, number) if maps else (number,)
    values = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
    image = Space("volume", affine=AFFINE, shape=SHAPE).unmask(values, voxels)
    again = nibabel.Nifti1Image.from_bytes(image.to_bytes())
    data = again.get_fdata(dtype=np.float32)
    assert data.shape == (*SHAPE, maps)[: 4 if maps else 3]
    np.testing.assert_array_equal(data[voxels["i"], voxels["j"], voxels["k"]].T, values)
    assert np.isfinite(data).sum() == values.size
    np.testing.assert_array_equal(again.affine, AFFINE)


def test_what_lies_outside_gets_the_fill():
    data = Space("volume", affine=AFFINE, shape=SHAPE).unmask(np.ones(4), _volume(4), fill=0.0).get_fdata()
    assert data.sum() == 4
    assert np.isfinite(data).all()


@given(st.integers(1, 200), st.integers(0, 2**32 - 1), st.integers(0, 2))
@settings(max_examples=10, deadline=None)
def test_surfaces_come_back(number, seed, maps):
    voxels = _surface(number, seed)
    shape = (maps, number) if maps else (number,)
    values = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
    parts = Space("surface", mesh="fsaverage5", vertices=VERTICES).unmask(values, voxels).data.parts
    assert {side: len(part) for side, part in parts.items()} == VERTICES
    for side, part in parts.items():
        rows = (voxels["hemisphere"] == side).to_numpy()
        np.testing.assert_array_equal(part[voxels["vertex"][rows]].T, values[..., rows])
    assert sum(np.isfinite(part).sum() for part in parts.values()) == values.size


def test_surfaces_are_read_back_from_gifti(tmp_path):
    voxels = _surface(30)
    values = np.arange(30, dtype=np.float32)
    image = Space("surface", mesh="fsaverage5", vertices=VERTICES).unmask(values, voxels)
    image.data.to_filename(tmp_path / "map.gii")
    for side, name in (("left", "hemi-L"), ("right", "hemi-R")):
        rows = (voxels["hemisphere"] == side).to_numpy()
        found = nibabel.load(tmp_path / f"map_{name}.gii").darrays[0].data
        np.testing.assert_array_equal(found[voxels["vertex"][rows]], values[rows])


@pytest.mark.parametrize("maps", [None, 2])
def test_grayordinates_come_back_from_cifti(tmp_path, maps):
    voxels = _grayordinates()
    shape = (len(voxels),) if maps is None else (maps, len(voxels))
    values = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    vertices = {"CIFTI_STRUCTURE_CORTEX_LEFT": 100, "CIFTI_STRUCTURE_CORTEX_RIGHT": 100}
    space = Space("grayordinates", affine=AFFINE, shape=SHAPE, vertices=vertices)
    space.unmask(values, voxels).to_filename(tmp_path / "map.dscalar.nii")
    again = nibabel.load(tmp_path / "map.dscalar.nii")
    data, axis = again.get_fdata(dtype=np.float32), again.header.get_axis(1)
    assert data.shape == (maps or 1, len(voxels))
    rows = np.atleast_2d(values)
    for column, (structure, vertex, place) in enumerate(zip(axis.name, axis.vertex, axis.voxel, strict=True)):
        same = (voxels["structure"] == structure).to_numpy()
        if vertex >= 0:
            same = same & (voxels["vertex"] == vertex).to_numpy()
        else:
            same = same & (voxels[["i", "j", "k"]] == place).all(axis=1).to_numpy()
        assert same.sum() == 1
        np.testing.assert_array_equal(data[:, column], rows[:, same][:, 0])


def test_hemispheres_of_every_space():
    surface = _surface(20)
    assert hemispheres(Space("surface"), surface).tolist() == surface["hemisphere"].tolist()
    # x = 8 - 2 i: the fifth plane lies on the midline.
    volume = pd.DataFrame({"i": [0, 3, 4, 5, 9], "j": 0, "k": 0})
    assert hemispheres(Space("volume", affine=AFFINE), volume).tolist() == ["right", "right", "", "left", "left"]
    found = hemispheres(Space("grayordinates"), _grayordinates())
    assert found[:3].tolist() == ["left", "right", "right"]
    brainstem = pd.DataFrame({"structure": ["CIFTI_STRUCTURE_BRAIN_STEM"]})
    assert hemispheres(Space("grayordinates"), brainstem).tolist() == [""]
    assert hemispheres(Space("none"), pd.DataFrame(index=range(3))) is None


def test_hemispheres_agree_with_nibabel():
    voxels = _volume(40)
    image = Space("volume", affine=AFFINE, shape=SHAPE).unmask(np.ones(40), voxels)
    x = nibabel.affines.apply_affine(image.affine, voxels[["i", "j", "k"]])[:, 0]
    expected = np.select([x < 0, x > 0], ["left", "right"], "")
    np.testing.assert_array_equal(hemispheres(Space("volume", affine=AFFINE), voxels), expected)


@pytest.mark.parametrize("shape", [(3,), (5,), (2, 3), (1, 2, 4), ()])
def test_values_that_do_not_fit(shape):
    with pytest.raises(InputError, match=r"do not match the voxels[\s\S]*\(4,\) or \(map, 4\)"):
        Space("volume", affine=AFFINE, shape=SHAPE).unmask(np.zeros(shape), _volume(4))


def test_arrays_without_geometry():
    with pytest.raises(InputError, match="no positions"):
        Space().unmask(np.zeros(4), pd.DataFrame(index=range(4)))


def test_a_space_survives_json():
    import json

    space = Space("volume", affine=AFFINE, shape=SHAPE, vertices={})
    assert Space.from_dict(json.loads(json.dumps(space.to_dict()))) == space
