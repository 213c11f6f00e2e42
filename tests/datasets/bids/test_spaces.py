"""The same data in volumes, on surfaces and in grayordinates, and the way back to where they were."""

import shutil
import tracemalloc

import nibabel
import numpy as np
import pandas as pd
import pytest

from neurorecon.datasets.bids.reader import BidsReader
from neurorecon.errors import InputError, MissingFileError
from neurorecon.io import volumes
from neurorecon.io.grid import surface_grid
from neurorecon.testing.layouts.bids import in_grayordinates


def _samples(reader):
    data = reader.subject("sub-01")
    return data, data.read_responses(0, len(data.samples))


@pytest.mark.parametrize("samples", ["block", "glm"])
def test_samples_are_the_same_in_every_space(open_tree, rois, samples):
    options = {"samples": samples, "runs": ["1"], "confounds": ["trans_?"]}
    found = {kind: _samples(open_tree(kind, rois=rois[kind], **options)) for kind in rois}
    volume, values = found["volume"]
    for kind, order in (("surface", np.arange(96)), ("grayordinates", in_grayordinates())):
        data, other = found[kind]
        pd.testing.assert_frame_equal(data.samples, volume.samples)
        np.testing.assert_allclose(other, values[:, order], atol=1e-5)
        assert set(data.rois) == {"V1", "V2", "LO", "brain"}
        for name, member in volume.rois.items():
            np.testing.assert_array_equal(data.rois[name], member[order])


def test_values_go_back_to_the_voxels_of_the_run(tree, open_tree):
    reader = open_tree("volume", detrend=False, standardize="none", lag=5.0, window=2.0)
    data, values = _samples(reader)
    image = data.space.unmask(values[0], data.voxels, fill=0)
    path = next(tree.rglob("*run-1*preproc_bold.nii.gz"))
    run = nibabel.load(path)
    np.testing.assert_array_equal(image.affine, run.affine)
    volume = round((data.samples["time"][0] + 5 - 1) / 2)
    np.testing.assert_allclose(image.get_fdata(), run.get_fdata()[..., volume], rtol=1e-6)


def test_values_go_back_to_the_grayordinates_of_the_run(tree, open_tree):
    data, values = _samples(open_tree("grayordinates", detrend=False, standardize="none", lag=5.0, window=2.0))
    image = data.space.unmask(values[0], data.voxels)
    run = nibabel.load(next(tree.rglob("*run-1*dtseries.nii")))
    volume = round((data.samples["time"][0] + 5 - 1) / 2)
    for name, columns, part in image.header.get_axis(1).iter_structures():
        for other, theirs, places in run.header.get_axis(1).iter_structures():
            if name == other:
                np.testing.assert_array_equal(part.vertex, places.vertex)
                np.testing.assert_array_equal(part.voxel, places.voxel)
                np.testing.assert_allclose(image.get_fdata()[0, columns], run.get_fdata()[volume, theirs], rtol=1e-6)


def test_vertices_of_a_mesh_of_ones_own_are_kept_as_cortex():
    grid = surface_grid([120, 130], "fsnative")
    assert grid.space.kind == "grayordinates"
    image = grid.space.unmask(np.arange(250.0), grid.table)
    axis = image.header.get_axis(1)
    assert axis.nvertices == {"CIFTI_STRUCTURE_CORTEX_LEFT": 120, "CIFTI_STRUCTURE_CORTEX_RIGHT": 130}
    assert surface_grid([10242, 10242], "fsaverage5").space.mesh == "fsaverage5"
    assert surface_grid([163842, 163842], "fsaverage").space.mesh == "fsaverage7"


@pytest.mark.parametrize(
    ("kind", "given"),
    [
        ("surface", ["hemi-L_rois.label.gii", "hemi-R_rois.label.gii"]),
        ("volume", {"path": "rois_dseg.nii.gz", "labels": {"1": "V1", "2": "V2", "3": "LO"}}),
    ],
)
def test_atlases_in_other_formats(tree, rois, kind, given):
    root = tree / "derivatives/fmriprep"

    def options(atlas, folder):
        def place(path):
            return [folder + item for item in path] if isinstance(path, list) else folder + path

        spec = {**atlas, "path": place(atlas["path"])} if isinstance(atlas, dict) else place(atlas)
        return BidsReader.Options(kind=kind, rois={"rois": spec})

    found = BidsReader(root, options(given, "atlases/")).subject("sub-01").rois
    wanted = BidsReader(tree, BidsReader.Options(kind=kind, rois=rois[kind])).subject("sub-01").rois
    assert found.keys() == wanted.keys()
    for name, member in wanted.items():
        np.testing.assert_array_equal(found[name], member)


def test_rois_may_overlap_and_serve_as_the_mask(open_tree, rois):
    atlases = rois["volume"] | {"visual": "derivatives/fmriprep/atlases/visual_mask.nii.gz"}
    data = open_tree("volume", rois=atlases, mask="rois").subject("sub-01")
    assert len(data.voxels) == 72
    np.testing.assert_array_equal(data.rois["visual"], data.rois["V1"] | data.rois["V2"] | data.rois["LO"])
    only = open_tree("volume", mask="derivatives/fmriprep/atlases/visual_mask.nii.gz").subject("sub-01")
    pd.testing.assert_frame_equal(only.voxels, data.voxels)


@pytest.mark.parametrize(
    ("kind", "rois", "said"),
    [
        ("volume", {"a": "atlases/none.nii.gz"}, "none.nii.gz is missing"),
        ("volume", {"a": "atlases/rois_dseg.nii.gz"}, "have no names"),
        ("volume", {"a": "atlases/rois.dlabel.nii"}, "cannot be used as a mask or atlas of these runs"),
        ("surface", {"a": "atlases/visual_mask.nii.gz"}, "cannot be used as a mask or atlas of these runs"),
        ("grayordinates", {"a": "atlases/lh.rois.annot"}, "belongs to a different mesh"),
        ("surface", {"a": "atlases/rois.dlabel.nii"}, "belongs to a different mesh"),
        ("volume", {"a": {"path": "atlases/rois_dseg.nii.gz", "labels": "atlases/none.tsv"}}, "none.tsv is missing"),
        ("volume", {"a": {"path": "atlases/rois_dseg.nii.gz", "labels": {"one": "V1"}}}, "integers"),
        ("volume", {"a": {"path": "atlases/rois_dseg.nii.gz", "threshold": 9.0}}, "is empty"),
        (
            "volume",
            {
                "V1": "atlases/visual_mask.nii.gz",
                "b": {"path": "atlases/rois_dseg.nii.gz", "labels": "atlases/rois_dseg.tsv"},
            },
            "an ROI of the same name",
        ),
    ],
)
def test_atlases_that_do_not_fit(tree, kind, rois, said):
    reader = BidsReader(tree / "derivatives/fmriprep", BidsReader.Options(kind=kind, rois=rois))
    with pytest.raises(InputError, match=said):
        reader.subject("sub-01")


def test_an_atlas_on_another_grid_is_refused(own):
    path = own / "derivatives/fmriprep/atlases/visual_mask.nii.gz"
    image = nibabel.load(path)
    moved = image.affine.copy()
    moved[0, 3] += 4
    nibabel.Nifti1Image(np.asarray(image.dataobj), moved).to_filename(path)
    reader = BidsReader(own, BidsReader.Options(rois={"visual": "derivatives/fmriprep/atlases/visual_mask.nii.gz"}))
    with pytest.raises(InputError, match="a different grid than the runs"):
        reader.subject("sub-01")


def test_several_spaces_need_a_choice(tree):
    with pytest.raises(InputError, match=r"several spaces(.|\n)*fsLR den-91k \(grayordinates\)(.|\n)*fsaverage5"):
        BidsReader(tree)
    assert BidsReader(tree, BidsReader.Options(space="fsaverage5")).subject("sub-01").space.kind == "surface"
    with pytest.raises(InputError, match=r"unknown space(.|\n)*MNI152NLin2009cAsym res-2"):
        BidsReader(tree, BidsReader.Options(space="T1w"))


def test_voxels_that_do_not_vary_are_dropped_or_kept(own):
    for path in own.rglob("sub-01*run-2*preproc_bold.nii.gz"):
        image = nibabel.load(path)
        data = np.asarray(image.dataobj).copy()
        data[1, 1, 1, 5] = np.nan
        data[1, 1, 2] = 7.0
        nibabel.Nifti1Image(data, image.affine, image.header).to_filename(path)
    data = BidsReader(own).subject("sub-01")
    assert len(data.voxels) == 94
    assert data.report["voxels dropped"] == "1 not finite, 1 constant, of 96 voxels"
    kept = BidsReader(own, BidsReader.Options(bad_voxels="keep")).subject("sub-01")
    assert len(kept.voxels) == 96
    assert np.isfinite(kept.read_responses(0, len(kept.samples))).all()


def test_a_missing_hemisphere(tree, tmp_path):
    folder = shutil.copytree(tree, tmp_path / "bids")
    next(folder.rglob("*run-1*hemi-R*.func.gii")).unlink()
    with pytest.raises(MissingFileError, match="a hemisphere of"):
        BidsReader(folder, BidsReader.Options(kind="surface"))


def test_a_run_is_read_in_pieces(tmp_path, monkeypatch):
    """Peak memory is that of the voxels asked for and of one piece, not of the run."""
    shape, length = (40, 40, 30), 60
    path = tmp_path / "run.nii.gz"
    values = np.random.default_rng(0).integers(0, 2000, (*shape, length), dtype=np.int16)
    image = nibabel.Nifti1Image(values, np.eye(4))
    image.header.set_slope_inter(0.5, 10.0)
    image.to_filename(path)
    rows = np.flatnonzero(np.arange(np.prod(shape)) % 20 == 3)
    wanted = np.asarray(nibabel.load(path).dataobj).reshape(-1, length)[rows].T
    monkeypatch.setattr(volumes, "PIECE_BYTES", 2**21)
    tracemalloc.start()
    found = volumes.read_volumes([path], rows)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    np.testing.assert_allclose(found, wanted, rtol=1e-6)
    assert peak < found.nbytes + 8 * 2**20 < 4 * np.prod(shape) * length
