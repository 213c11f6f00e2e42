"""BOLD Moments: what is read equals what was written, in every space; images in pickles are passed over."""

import pickle
import shutil

import numpy as np
import pytest

from neurorecon.datasets.bold_moments import BoldMomentsReader
from neurorecon.errors import UnknownNameError
from neurorecon.testing.layouts.bold_moments import FRAMES, ROIS, VERTICES, write_bold_moments
from neurorecon.testing.layouts.cc2017 import frame_number

BETAS = "derivatives/versionB/{}/GLM/sub-01/prepared_betas/sub-01_organized_betas_task-{}_normalized.pkl"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Not to be written into."""
    where = tmp_path_factory.mktemp("bold_moments")
    return write_bold_moments(where, spaces=("MNI152", "fsaverage"), subjects=(1,), videos=(6, 3), repeats=(3, 4))


def _open(folder, **options):
    return BoldMomentsReader(folder, BoldMomentsReader.Options(image_size=32, **options))


def test_responses_are_those_of_the_pickles(folder):
    data = _open(folder).subject("sub-01")
    for task, repeats in (("train", 3), ("test", 4)):
        values, order, _ = pickle.loads((folder / BETAS.format("MNI152", task)).read_bytes())
        rows = np.flatnonzero(data.samples["split"] == task)
        found = data.read_responses(int(rows[0]), int(rows[-1]) + 1)
        for repeat in range(repeats):
            own = (data.samples["repeat"].iloc[rows] == repeat + 1).to_numpy()
            assert data.samples["stimulus"].iloc[rows][own].tolist() == order
            np.testing.assert_array_equal(found[own], values[:, repeat].astype(np.float32))
    mean = _open(folder, samples="average").subject("sub-01")
    assert mean.samples["trials"].tolist() == [3] * 6 + [4] * 3
    np.testing.assert_allclose(mean.read_responses(6, 9), values.mean(axis=1), atol=1e-5)


def test_rois_are_those_of_the_pickles(folder):
    data = _open(folder).subject("sub-01")
    places = data.voxels[["i", "j", "k"]].to_numpy()
    for side, roi in (("l", "FFA"), ("r", "V1v")):
        path = folder / f"derivatives/versionB/MNI152/GLM/sub-01/ROIs/ROI-{side}{roi}_indices.pkl"
        wanted = {tuple(place) for place in pickle.loads(path.read_bytes())[0]}
        assert wanted < {tuple(place) for place in places[data.rois[roi]]}  # both hemispheres
    chosen = _open(folder, voxels="BMDgeneral").subject("sub-01")
    assert len(chosen.voxels) == data.rois["BMDgeneral"].sum()
    assert set(ROIS) - {"BA2"} <= set(chosen.rois)


def test_surfaces(folder):
    data = _open(folder, space="fsaverage").subject("sub-01")
    assert data.space.mesh == "fsaverage5"
    path = folder / BETAS.format("fsaverage", "train").replace("_normalized", "_hemi-right_normalized")
    values, _ = pickle.loads(path.read_bytes())
    right = (data.voxels["hemisphere"] == "right").to_numpy()
    assert right.sum() == VERTICES
    np.testing.assert_array_equal(data.read_responses(0, 6)[:, right], values[:, 0].astype(np.float32))


def test_grayordinates_are_those_of_the_cortex(tmp_path):
    folder = write_bold_moments(tmp_path, spaces=("fsLR32k",), subjects=(1,), videos=(2, 1), repeats=(2, 2))
    data = _open(folder, space="fsLR32k").subject("sub-01")
    assert len(data.voxels) == 59412
    assert {"V1", "MT", "FFC"} <= set(data.rois)
    values, _ = pickle.loads((folder / BETAS.format("fsLR32k", "train")).read_bytes())
    np.testing.assert_array_equal(data.read_responses(0, 2), values[:, 0, :59412].astype(np.float32))


def test_frames_span_the_video(folder):
    reader = _open(folder, frames=6)
    assert [frame_number(frame) for frame in reader.read_frames(7, 8)[0]] == list(range(0, FRAMES, 15))
    assert reader.frames_per_second() == 2
    assert reader.stimuli()["captions"][7] == ["Colors scroll to the right, 1002.", "A pattern moves."]


def test_bad_voxels_are_dropped_or_kept(folder, tmp_path):
    own = shutil.copytree(folder, tmp_path / "own")
    path = own / BETAS.format("MNI152", "test")
    values, order, image = pickle.loads(path.read_bytes())
    values[1, 2, 5] = np.nan
    values[:, 3, 9] = 1.0
    path.write_bytes(pickle.dumps((values, order, image)))
    dropped, kept = (_open(own, bad_voxels=what).subject("sub-01") for what in ("drop", "keep"))
    assert len(kept.voxels) - len(dropped.voxels) == 2
    assert dropped.report["voxels dropped"].startswith("2 not finite or constant")
    assert np.isfinite(kept.read_responses(0, 99)).all()


def test_what_is_not_there(folder):
    with pytest.raises(UnknownNameError, match="sub-09"):
        _open(folder).subject("sub-09")
