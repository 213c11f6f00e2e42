"""THINGS-fMRI: what is read equals what was written, from the table and from volumes; options do what they say."""

import shutil

import h5py
import nibabel
import numpy as np
import pandas as pd
import pytest

from neurorecon.datasets import things
from neurorecon.datasets.things import ThingsReader
from neurorecon.errors import NeuroreconWarning, UnknownNameError
from neurorecon.testing.layouts.nsd import draw, invent
from neurorecon.testing.layouts.things import SESSIONS, TEST, TRAIN, write_things

TABLE = "betas_csv/sub-01_ResponseData.h5"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Not to be written into."""
    return write_things(tmp_path_factory.mktemp("things"), subjects=(1,))


@pytest.fixture
def own(folder, tmp_path):
    """To be written into."""
    return shutil.copytree(folder, tmp_path / "own")


def _open(folder, **options):
    return ThingsReader(folder, ThingsReader.Options(image_size=32, **options))


def _table(folder):
    with h5py.File(folder / TABLE) as file:
        return file["ResponseData/block0_values"][()]


def test_responses_are_those_of_the_table(folder, monkeypatch):
    monkeypatch.setattr(things, "BLOCK_BYTES", 100_000)  # many pieces
    values = _table(folder)
    data = _open(folder, voxels="brain").subject("sub-01")
    np.testing.assert_array_equal(data.read_responses(10, 40), values.T[10:40].astype(np.float32))
    table = pd.read_csv(folder / "betas_csv/sub-01_StimulusMetadata.csv")
    assert data.samples["stimulus"].tolist() == table["stimulus"].str.removesuffix(".jpg").tolist()
    assert data.samples["split"].tolist() == table["trial_type"].tolist()
    assert data.samples.groupby("stimulus")["repeat"].max().value_counts().to_dict() == {1: SESSIONS * TRAIN, 3: TEST}
    voxels = pd.read_csv(folder / "betas_csv/sub-01_VoxelMetadata.csv")
    np.testing.assert_array_equal(data.voxels[["i", "j", "k"]], voxels[["voxel_x", "voxel_y", "voxel_z"]])
    np.testing.assert_array_equal(data.rois["lFFA"], voxels["lFFA"] == 1)
    ceiling = 100 * data.voxels["ncsnr"] ** 2 / (data.voxels["ncsnr"] ** 2 + 1)
    np.testing.assert_allclose(ceiling, voxels["nc_singletrial"], atol=1e-3)
    whole = 100 * data.voxels["ncsnr"] ** 2 / (data.voxels["ncsnr"] ** 2 + 1 / SESSIONS)
    np.testing.assert_allclose(whole, data.voxels["nc_testset"], atol=1e-3)


def test_volumes_hold_the_same(folder):
    table, volumes = (_open(folder, responses=kind).subject("sub-01") for kind in ("table", "volume"))
    pd.testing.assert_frame_equal(table.samples, volumes.samples)
    pd.testing.assert_frame_equal(table.voxels, volumes.voxels)
    np.testing.assert_allclose(volumes.read_responses(0, 96), table.read_responses(0, 96), atol=1e-6)
    image = nibabel.load(folder / "betas_vol/sub-01/ses-things01/sub-01_ses-things01_run-01_betas.nii.gz")
    i, j, k = volumes.voxels[["i", "j", "k"]].to_numpy().T
    np.testing.assert_array_equal(volumes.read_responses(1, 2)[0], image.get_fdata()[i, j, k, 2])  # after a catch trial


def test_means_over_presentations(folder):
    single, mean = (_open(folder, samples=kind).subject("sub-01") for kind in ("repeat", "average"))
    values, found = single.read_responses(0, 96), mean.read_responses(0, 80)
    for row in (0, 30, 73, 79):
        rows = (single.samples["stimulus"] == mean.samples["stimulus"][row]).to_numpy()
        assert mean.samples["trials"][row] == rows.sum()
        np.testing.assert_allclose(found[row], values[rows].mean(axis=0), atol=1e-6)
    assert (mean.samples["trials"] == 3).sum() == TEST


def test_images_are_those_of_the_stimuli(folder):
    reader = _open(folder)
    scenes = invent(TEST + SESSIONS * TRAIN, np.random.default_rng(0))
    stimuli = reader.stimuli()
    number = int(stimuli["id"][5][-3:-1])
    assert stimuli["category"][5].removesuffix("2") == scenes.name(number)
    small = draw(scenes, number).reshape(32, 2, 32, 2, 3).mean(axis=(1, 3))
    assert np.abs(reader.read_images(5, 6)[0].astype(float) - small).mean() < 6
    assert _open(folder, images="none").image_shape() is None


def test_concepts_of_test_images_can_be_left_out(folder):
    kept, left = (_open(folder, test_concepts=what).subject("sub-01") for what in ("keep", "leave_out"))
    concepts = _open(folder).stimuli().set_index("id")["category"]
    tested = set(concepts[kept.samples["stimulus"][kept.samples["split"] == "test"]])
    rows = (~concepts[kept.samples["stimulus"]].isin(tested).to_numpy()) | (kept.samples["split"] == "test").to_numpy()
    assert 0 < rows.sum() < len(rows)
    assert left.samples["stimulus"].tolist() == kept.samples["stimulus"][rows].tolist()
    np.testing.assert_array_equal(left.read_responses(0, 99), kept.read_responses(0, 99)[rows])


def test_which_voxels(folder):
    rois, cortex, brain = (_open(folder, voxels=which).subject("sub-01") for which in ("rois", "cortex", "brain"))
    assert len(rois.voxels) < len(cortex.voxels) < len(brain.voxels)
    assert rois.rois["rois"].all()
    assert np.any([member for name, member in rois.rois.items() if name[0] != "g" and name != "rois"], axis=0).all()
    assert "glasser-p9-46v" in cortex.rois  # the name has a line break in the table
    assert "LO1 (prf)" not in cortex.rois  # without a voxel


def test_bad_voxels_are_dropped_or_kept(own):
    with h5py.File(own / TABLE, "r+") as file:
        values = file["ResponseData/block0_values"]
        values[5, 40] = np.nan
        values[7, :32] = 1.0  # constant in a session
    dropped, kept = (_open(own, voxels="brain", bad_voxels=what).subject("sub-01") for what in ("drop", "keep"))
    assert dropped.report["voxels dropped"] == "1 not finite, 1 constant, of 960 voxels"
    assert len(kept.voxels) - len(dropped.voxels) == 2
    assert kept.read_responses(40, 41)[0, 5] == 0


def test_without_its_mask_the_table_has_no_positions(own):
    (own / "brainmasks/sub-01_space-T1w_brainmask.nii.gz").unlink()
    data = _open(own).subject("sub-01")
    assert data.space.kind == "none"
    assert "brainmasks" in data.report["positions"]


def test_volumes_without_the_tables(own):
    shutil.rmtree(own / "betas_csv")
    data = _open(own, responses="volume", voxels="brain").subject("sub-01")
    assert list(data.rois) == ["brain"]
    assert len(data.voxels) == 960
    assert data.report["ROIs"].startswith("unknown without")


def test_captions_of_a_table(own):
    known = _open(own).stimuli()["id"][3]
    (own / "captions.csv").write_text(f"stimulus,caption1,caption2\n{known},A dog.,Another\n")
    with pytest.warns(NeuroreconWarning, match="stimuli have no caption"):
        reader = _open(own, captions="captions.csv")
    assert reader.stimuli()["captions"][3] == ["A dog.", "Another"]
    assert "stimuli have no caption" in reader.description.notes


def test_what_is_not_there(folder):
    with pytest.raises(UnknownNameError, match="sub-07"):
        _open(folder).subject("sub-07")
