"""Betas on the average surface, beside nibabel's reading of them."""

import nibabel
import numpy as np
import pytest

from neurorecon.datasets.nsd.layout import NsdOptions
from neurorecon.datasets.nsd.reader import NsdReader
from neurorecon.testing.layouts.nsd import write_nsd

LABELS = "nsddata/freesurfer/fsaverage/label"
BETAS = "nsddata_betas/ppdata/subj03/fsaverage/betas_assumehrf"


@pytest.fixture(scope="module")
def surface(tmp_path_factory):
    folder = tmp_path_factory.mktemp("nsd-surface")
    return write_nsd(folder, subjects=("subj03",), sessions=1, spaces=("fsaverage",), betas=("betas_assumehrf",))


def _values(path):
    with path.open("rb") as file:
        return np.asarray(nibabel.MGHImage.from_stream(file).dataobj)


def test_both_hemispheres_are_those_of_nibabel(surface):
    data = NsdReader(surface, NsdOptions(space="fsaverage", betas="betas_assumehrf")).subject("subj03")
    found = data.read_responses(0, 120)
    assert data.space.vertices == {"left": 10242, "right": 10242}
    for side, name in (("lh", "left"), ("rh", "right")):
        rows = (data.voxels["hemisphere"] == name).to_numpy()
        vertices = data.voxels["vertex"].to_numpy()[rows]
        betas = _values(surface / BETAS / f"{side}.betas_session01.mgh")
        np.testing.assert_array_equal(found[:, rows], betas[vertices, 0, 0].T.astype(np.float32))
        mask = nibabel.load(surface / LABELS / f"{side}.nsdgeneral.mgz").get_fdata()
        np.testing.assert_array_equal(vertices, np.flatnonzero(mask.ravel() > 0))
        ncsnr = _values(surface / BETAS / f"{side}.ncsnr.mgh").ravel()
        np.testing.assert_allclose(data.voxels["ncsnr"][rows], ncsnr[vertices])
    assert abs(found.mean() - 1) < 0.5  # percent signal change as they are, not divided by 300


def test_labels_on_the_subjects_own_surface_are_left_out_and_named(surface):
    folder = surface / "nsddata/freesurfer/subj03/label"
    folder.mkdir(parents=True)
    for side in ("lh", "rh"):
        nibabel.MGHImage(np.zeros((77, 1, 1), np.int32), np.eye(4)).to_filename(folder / f"{side}.floc-other.mgz")
        (folder / "floc-other.mgz.ctab").write_text("0 Unknown\n1 OTHER\n")
    data = NsdReader(surface, NsdOptions(space="fsaverage", betas="betas_assumehrf")).subject("subj03")
    assert data.report["ROIs not on fsaverage"] == "floc-other"
