"""LAION-fMRI: what is read equals what was written; splits are the published ones."""

import json
import shutil

import h5py
import nibabel
import numpy as np
import pandas as pd
import pytest

from neurorecon.datasets.laion_fmri import LaionFmriReader
from neurorecon.errors import InputError, UnknownNameError
from neurorecon.testing.layouts.laion_fmri import OWN, SESSIONS, SHARED, write_laion_fmri
from neurorecon.testing.layouts.nsd import draw, invent

FUNC = "derivatives/glmsingle-tedana/sub-01/ses-02/func/sub-01_ses-02_task-images_"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Not to be written into."""
    return write_laion_fmri(tmp_path_factory.mktemp("laion_fmri"))


def _open(folder, **options):
    return LaionFmriReader(folder, LaionFmriReader.Options(image_size=32, **options))


def test_responses_are_those_of_the_volumes(folder):
    data = _open(folder, voxels="brain", split="ood").subject("sub-01")
    trials = pd.read_csv(folder / (FUNC + "desc-SingletrialBetas_trials.tsv"), sep="\t")
    rows = np.flatnonzero(data.samples["session"] == 2)
    assert data.samples["stimulus"].iloc[rows].tolist() == trials["label"].tolist()
    image = nibabel.load(folder / (FUNC + "space-T1w_stat-effect_desc-SingletrialBetas_statmap.nii.gz"))
    i, j, k = data.voxels[["i", "j", "k"]].to_numpy().T
    found = data.read_responses(int(rows[0]), int(rows[-1]) + 1)
    np.testing.assert_array_equal(found, image.get_fdata(dtype=np.float32)[i, j, k].T)
    roi = nibabel.load(folder / "derivatives/rois/sub-01/face/sub-01_space-T1w_res-1pt8_label-FFA1_mask.nii.gz")
    np.testing.assert_array_equal(data.rois["FFA1"], roi.get_fdata()[i, j, k] > 0)
    np.testing.assert_allclose(
        data.voxels["nc_12rep"], 100 * data.voxels["ncsnr"] ** 2 / (data.voxels["ncsnr"] ** 2 + 1 / 12), atol=1e-3
    )


@pytest.mark.parametrize(("split", "pool"), [("random_2", "subject"), ("tau", "shared"), ("ood", "subject")])
def test_splits_are_the_published_ones(folder, split, pool):
    reader = _open(folder, split=split, pool=pool)
    for name in reader.subjects:
        samples = reader.subject(name).samples
        where = folder / "splits" / ("shared" if pool == "shared" else name) / f"{split}.json"
        (variant,) = json.loads(where.read_text())["variants"]
        found = samples.groupby("split")["stimulus"].agg(set)
        assert found["train"] == set(variant["train_ids"])
        assert found["test"] == set(variant["test_ids"])
        outside = {stimulus for stimulus in samples["stimulus"] if "OOD" in stimulus}
        assert found.get("ood", outside) == outside == (found["test"] if split == "ood" else found["ood"])


def test_an_image_that_cannot_be_decoded_is_named(folder, tmp_path):
    """When it is read: opening reads none of the 25,000."""
    own = shutil.copytree(folder, tmp_path / "own")
    (place,) = (own / "stimuli").glob("*.h5")
    with h5py.File(place, "a") as file:
        file["images"][3] = np.arange(9, dtype=np.uint8)
    reader = _open(own)
    with pytest.raises(InputError, match=r"image 3 of .* cannot be decoded"):
        reader.read_images(0, len(reader.stimuli()))


def test_tau_of_one_subject(folder):
    samples = _open(folder, split="tau", subjects=["sub-03"]).subject("sub-03").samples
    assert set(samples["split"]) == {"train", "test", "ood"}
    assert len(samples) == SESSIONS * (sum(SHARED.values()) + OWN)


def test_means_and_standardized_sessions(folder):
    single, mean = (_open(folder, samples=kind).subject("sub-01") for kind in ("repeat", "average"))
    values, found = single.read_responses(0, 999), mean.read_responses(0, 999)
    for row in (0, 17, 59):
        rows = (single.samples["stimulus"] == mean.samples["stimulus"][row]).to_numpy()
        assert mean.samples["trials"][row] == rows.sum() == SESSIONS
        np.testing.assert_allclose(found[row], values[rows].mean(axis=0), atol=1e-5)
    scaled = _open(folder, scaling="session").subject("sub-01")
    standard = scaled.read_responses(0, 999)
    train = ((scaled.samples["session"] == 3) & (scaled.samples["split"] == "train")).to_numpy()
    np.testing.assert_allclose(standard[train].mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(standard[train].std(axis=0), 1, atol=1e-4)


def test_images_and_captions_are_those_of_the_stimuli(folder):
    reader = _open(folder)
    stimuli = reader.stimuli()
    metadata = pd.read_csv(folder / "stimuli/task-images_metadata.csv")
    scenes = invent(len(metadata), np.random.default_rng(0))
    for row in (0, len(stimuli) - 1):
        number = metadata.index[metadata["image_name"] == stimuli["id"][row]][0]
        small = draw(scenes, number).reshape(32, 2, 32, 2, 3).mean(axis=(1, 3))
        assert np.abs(reader.read_images(row, row + 1)[0].astype(float) - small).mean() < 6
        assert stimuli["captions"][row] == [text.strip() for text in scenes.captions(number)[:3]]
    assert set(stimuli["category"]) == {"LAION-natural", "NSD", "OOD shape"}
    assert _open(folder, images=False).image_shape() is None


def test_noise_ceilings_as_fractions(folder, tmp_path):
    own = shutil.copytree(folder, tmp_path / "own")
    expected = _open(own).subject("sub-01").voxels
    for path in (own / "derivatives/glmsingle-tedana/sub-01").glob("*Noiseceiling*"):
        image = nibabel.load(path)
        nibabel.Nifti1Image(image.get_fdata(dtype=np.float32) / 100, image.affine).to_filename(path)
    data = _open(own).subject("sub-01")
    np.testing.assert_allclose(data.voxels["ncsnr"], expected["ncsnr"], rtol=1e-4)
    assert data.report["noise ceilings"] == "fractions in the files, stored as percent"


def test_rois_of_the_first_version(folder, tmp_path):
    own = shutil.copytree(folder, tmp_path / "own")
    for path in list((own / "derivatives/rois/sub-01").rglob("*.nii.gz")):
        target = (
            own
            / "derivatives/atlases/sub-01/rois"
            / f"{path.name.split('label-')[1].removesuffix('_mask.nii.gz')}.nii.gz"
        )
        target.parent.mkdir(parents=True, exist_ok=True)
        path.rename(target)
    assert set(_open(own).subject("sub-01").rois) == set(_open(folder).subject("sub-01").rois)


def test_what_is_not_there(folder):
    with pytest.raises(UnknownNameError, match="sub-02"):
        _open(folder).subject("sub-02")
    assert len(_open(folder, sessions=[2]).subject("sub-01").samples) == sum(SHARED.values()) + OWN
