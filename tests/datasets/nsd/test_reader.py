"""What the reader says, beside what nibabel, h5py, SciPy and pandas read from the same files."""

import gzip
import json
import shutil

import h5py
import nibabel
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy.io import loadmat

from neurorecon.datasets.nsd.layout import NsdOptions
from neurorecon.datasets.nsd.reader import NsdReader

BETAS = "nsddata_betas/ppdata/{}/func1pt8mm/betas_fithrf_GLMdenoise_RR"


def _open(folder, **options):
    return NsdReader(folder, NsdOptions(**options))


@pytest.fixture(scope="module")
def reader(nsd):
    return _open(nsd)


@pytest.fixture(scope="module")
def design(nsd):
    return loadmat(nsd / "nsddata" / "experiments" / "nsd" / "nsd_expdesign.mat")


def _shown(design, subject, trials):
    """The published formula, 1-based as in MATLAB: subjectim[sub - 1, masterordering[t] - 1], minus 1 for nsdId."""
    order = design["masterordering"][0, :trials]
    return design["subjectim"][subject - 1, order - 1].astype(int) - 1


@pytest.mark.parametrize("subject", ["subj02", "subj05"])
def test_trials_show_the_images_of_the_design(reader, design, subject):
    samples = reader.subject(subject).samples
    shown = _shown(design, int(subject[-1]), len(samples))
    assert samples["stimulus"].tolist() == [f"nsd{number:05d}" for number in shown]
    shared = design["masterordering"][0, : len(samples)] <= design["sharedix"].size
    assert (samples["split"] == np.where(shared, "test", "train")).all()
    assert set(shown[shared] + 1) <= set(design["sharedix"].ravel())


def test_runs_and_times_follow_the_pattern_of_stimuli(reader, design):
    samples = reader.subject("subj02").samples
    rows = iter(samples.itertuples())
    for session, runs in enumerate(design["stimpattern"][:2], start=1):
        for run, slots in enumerate(runs, start=1):
            for slot in np.flatnonzero(slots):
                row = next(rows)
                assert (row.session, row.run, row.time) == (session, run, 4.0 * slot)
    assert next(rows, None) is None


def test_repeats_are_counted_and_agree_with_the_table_of_images(reader, nsd):
    samples = reader.subject("subj05").samples.reset_index(names="trial")
    table = pd.read_csv(nsd / "nsddata/experiments/nsd/nsd_stim_info_merged.csv", index_col=0).set_index("nsdId")
    for row in samples.itertuples():
        assert table.loc[int(row.stimulus[3:]), f"subject5_rep{row.repeat - 1}"] == row.trial + 1


@pytest.mark.parametrize("subject", ["subj02", "subj05"])
def test_responses_are_those_of_nibabel(nsd, reader, subject, tmp_path):
    data = reader.subject(subject)
    values = [
        nibabel.load(nsd / BETAS.format(subject) / f"betas_session0{session}.nii.gz").get_fdata() for session in (1, 2)
    ]
    volumes = np.concatenate(values, axis=3)
    i, j, k = data.voxels[["i", "j", "k"]].to_numpy().T
    expected = (volumes[i, j, k].T / 300).astype(np.float32)
    np.testing.assert_array_equal(data.read_responses(0, len(data.samples)), expected)
    mask = nibabel.load(nsd / f"nsddata/ppdata/{subject}/func1pt8mm/roi/nsdgeneral.nii.gz")
    assert set(zip(i, j, k, strict=True)) == set(zip(*np.nonzero(mask.get_fdata() > 0), strict=True))
    np.testing.assert_allclose(data.space.affine, mask.affine)
    ncsnr = nibabel.load(nsd / BETAS.format(subject) / "ncsnr.nii.gz").get_fdata()
    np.testing.assert_allclose(data.voxels["ncsnr"], ncsnr[i, j, k], rtol=1e-6)


def test_nifti_and_hdf5_are_the_same(nsd, reader, tmp_path):
    """The HDF5 files were taken above; without them the NIfTI files are."""
    copy = shutil.copytree(nsd, tmp_path / "nsd")
    for path in copy.rglob("*.hdf5"):
        if "betas" in path.name:
            path.unlink()
    one, other = reader.subject("subj05"), _open(copy, subjects=("subj05",)).subject("subj05")
    number = len(one.samples)
    np.testing.assert_array_equal(one.read_responses(0, number), other.read_responses(0, number))


def test_hdf5_in_chunks_of_trials_is_the_same(nsd, reader, tmp_path):
    copy = shutil.copytree(nsd, tmp_path / "nsd")
    for path in (copy / BETAS.format("subj02")).glob("*.hdf5"):
        with h5py.File(path, "r+") as file:
            values = file["betas"][:]
            del file["betas"]
            file.create_dataset("betas", data=values, chunks=(7, *values.shape[1:]), compression="gzip")
    one, other = reader.subject("subj02"), _open(copy, subjects=("subj02",)).subject("subj02")
    np.testing.assert_array_equal(one.read_responses(5, 200), other.read_responses(5, 200))


def test_slices_in_any_order_and_over_sessions(reader):
    data = reader.subject("subj02")
    whole = data.read_responses(0, 240)
    for start, stop in ((200, 240), (0, 3), (110, 131), (239, 400), (7, 7)):
        np.testing.assert_array_equal(data.read_responses(start, stop), whole[start:stop])


def test_averages_are_means_over_the_trials_of_a_image(nsd, reader):
    trials, means = reader.subject("subj05"), _open(nsd, samples="average").subject("subj05")
    values = pd.DataFrame(trials.read_responses(0, 240))
    expected = values.groupby(trials.samples["stimulus"].to_numpy(), sort=False).mean()
    assert means.samples["stimulus"].tolist() == expected.index.tolist()
    np.testing.assert_allclose(means.read_responses(0, len(expected)), expected, rtol=1e-4, atol=1e-5)
    assert (means.samples["repeat"] == 1).all()


def test_standardized_within_sessions(nsd, reader):
    trials, scores = reader.subject("subj02"), _open(nsd, scaling="session-all").subject("subj02")
    for session in (slice(0, 120), slice(120, 240)):
        values = trials.read_responses(session.start, session.stop).astype(float)
        expected = (values - values.mean(axis=0)) / values.std(axis=0)
        np.testing.assert_allclose(scores.read_responses(session.start, session.stop), expected, atol=1e-4)


def test_sessions_that_are_absent_are_named(reader, nsd):
    assert reader.subject("subj02").report["sessions missing"] == "3 of 1-3"
    second = _open(nsd, sessions=(2,)).subject("subj02")
    np.testing.assert_array_equal(second.read_responses(0, 9), reader.subject("subj02").read_responses(120, 129))
    assert second.samples["session"].unique().tolist() == [2]


def test_images_are_those_of_the_file(reader, nsd):
    stimuli = reader.stimuli()
    with h5py.File(nsd / "nsddata_stimuli/stimuli/nsd/nsd_stimuli.hdf5") as file:
        expected = file["imgBrick"][:]
    ids = [int(name[3:]) for name in stimuli["id"]]
    assert ids == sorted(set(ids))
    np.testing.assert_array_equal(reader.read_images(0, len(ids)), expected[ids])
    smaller = _open(nsd, image_size=20)
    assert smaller.image_shape() == (20, 20, 3)
    image = Image.fromarray(expected[ids[3]]).resize((20, 20), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(smaller.read_images(3, 4)[0], np.asarray(image))


def test_captions_are_joined_on_the_coco_id_and_kept_as_they_are(reader, nsd):
    table = pd.read_csv(nsd / "nsddata/experiments/nsd/nsd_stim_info_merged.csv", index_col=0).set_index("nsdId")
    texts = {}
    for split in ("train", "val"):
        for row in json.loads((nsd / f"annotations/captions_{split}2017.json").read_text())["annotations"]:
            texts.setdefault(row["image_id"], []).append(row["caption"])
    for row in reader.stimuli().itertuples():
        assert row.captions == texts[table.loc[int(row.id[3:]), "cocoId"]]
        assert row.category in row.captions[0]
    assert any(caption.endswith(" ") for caption in row.captions)


def test_labels_are_shares_of_the_image(reader):
    labels, stimuli = reader.labels(), reader.stimuli()
    assert labels.idxmax(axis=1).tolist() == [f"category:{name}" for name in stimuli["category"]]
    assert labels.max(axis=1).between(0.01, 0.5).all()


def test_without_coco_captions_are_empty(nsd, tmp_path):
    copy = shutil.copytree(nsd, tmp_path / "nsd", ignore=shutil.ignore_patterns("annotations", "*.pkl"))
    reader = _open(copy)
    assert reader.labels() is None
    assert reader.stimuli()["captions"].tolist() == [[]] * len(reader.stimuli())
    assert set(reader.stimuli()["category"]) == {""}
    for path in (copy / "nsddata/experiments/nsd").glob("nsd_stim_info*"):
        path.unlink()
    assert _open(copy).stimuli().equals(reader.stimuli())


def test_the_pickled_table_says_the_same(nsd, reader, tmp_path):
    copy = shutil.copytree(nsd, tmp_path / "nsd", ignore=shutil.ignore_patterns("*merged.csv"))
    assert _open(copy).stimuli().equals(reader.stimuli())


def _behavior(nsd, subject, trials):
    return pd.read_csv(nsd / f"nsddata/ppdata/{subject}/behav/responses.tsv", sep="\t").iloc[:trials]


def test_behavior_is_a_part_of_the_samples(reader, nsd):
    samples = reader.subject("subj05").samples
    file = _behavior(nsd, "subj05", len(samples))
    names = ["TRIAL", "ISOLD", "ISCORRECT", "RT", "CHANGEMIND", "MEMORYRECENT", "MEMORYFIRST", "ISOLDCURRENT",
             "ISCORRECTCURRENT", "TOTAL1", "TOTAL2", "BUTTON", "MISSINGDATA"]  # fmt: skip
    assert samples.columns[7:].tolist() == names
    pd.testing.assert_frame_equal(samples[names], file[names], check_dtype=False)
    assert samples["RT"].isna().any()
    assert samples["MEMORYRECENT"].isna().any()
    assert (samples["ISOLD"] == (samples["repeat"] > 1)).all()


def test_behavior_of_averages_is_that_of_their_trials(nsd, reader):
    trials, means = reader.subject("subj02").samples, _open(nsd, samples="average").subject("subj02").samples
    assert means.columns[7:].tolist() == ["trials", "ISCORRECT", "RT"]
    for row in means.itertuples():
        own = trials[trials["stimulus"] == row.stimulus]
        assert row.trials == len(own)
        np.testing.assert_allclose([row.ISCORRECT, row.RT], own[["ISCORRECT", "RT"]].mean(), equal_nan=True)


def test_trials_without_behavior_have_none(nsd, tmp_path):
    copy = shutil.copytree(nsd, tmp_path / "nsd")
    path = copy / "nsddata/ppdata/subj02/behav/responses.tsv"
    table = pd.read_csv(path, sep="\t")
    table[table["SESSION"] != 2].to_csv(path, sep="\t", index=False)
    (copy / "nsddata/ppdata/subj05/behav/responses.tsv").unlink()
    reader = _open(copy)
    samples = reader.subject("subj02").samples
    assert samples["TRIAL"].isna().tolist() == (samples["session"] == 2).tolist()
    assert len(reader.subject("subj05").samples.columns) == 7


def test_masks(small, reader):
    nsd = small
    rois = reader.subject("subj02").rois
    found = _open(nsd, mask="V1 + ecc4+").subject("subj02")
    assert len(found.voxels) == (rois["V1"] | rois["ecc4+"]).sum()
    assert len(_open(nsd, mask="faces").subject("subj02").voxels) == sum(
        rois[name].sum() for name in ("OFA", "FFA-1", "FFA-2")
    )
    brain = nibabel.load(nsd / "nsddata/ppdata/subj02/func1pt8mm/brainmask.nii.gz").get_fdata()
    assert len(_open(nsd, mask="brain").subject("subj02").voxels) == brain.sum()
    file = _open(nsd, mask="nsddata/ppdata/subj02/func1pt8mm/roi/streams.nii.gz").subject("subj02")
    assert len(file.voxels) == np.logical_or.reduce([rois[f] for f in ("early", "midventral", "midparietal",
                                                                       "ventral", "parietal")]).sum()  # fmt: skip


def test_description_says_what_was_done(nsd):
    description = _open(nsd, scaling="session", samples="average").description
    assert description.simulated
    assert "standard deviations" in description.units
    assert "means over the trials" in description.notes
    assert "betas_fithrf_GLMdenoise_RR" in description.notes


def test_headers_are_those_of_the_tools_that_wrote_nsd(nsd):
    """Those of nsd_savenifti.m, make_nii.m and save_nii_hdr.m (cvnlab/nsdcode), not of nibabel."""
    folder = nsd / "nsddata_betas/ppdata/subj02/func1pt8mm/betas_fithrf_GLMdenoise_RR"
    raw = gzip.decompress((folder / "betas_session01.nii.gz").read_bytes())
    shape, pixdim = np.frombuffer(raw, "<i2", 8, 40), np.frombuffer(raw, "<f4", 8, 76)
    assert shape.tolist() == [4, 12, 14, 10, 120, 1, 1, 1]
    np.testing.assert_allclose(pixdim[:5], [0, 1.8, 1.8, 1.8, 4 / 3], rtol=1e-6)
    assert np.frombuffer(raw, "<i2", 2, 70).tolist() == [4, 16]  # int16
    assert np.frombuffer(raw, "<f4", 2, 112).tolist() == [0, 0]  # no scaling: the factor of 300 is in no header
    assert np.frombuffer(raw, "<i2", 2, 252).tolist() == [0, 1]  # qform and sform
    assert raw[123] == 0  # no units
    np.testing.assert_allclose(np.frombuffer(raw, "<f4", 4, 280), [1.8, 0, 0, -1.8 * 5.5])
    assert len(raw) == 352 + 12 * 14 * 10 * 120 * 2
    image = nibabel.load(folder / "ncsnr.nii.gz")
    assert np.isnan(np.asarray(image.dataobj)[0, 0, 0])  # outside of the brain
    assert float(np.nanmax(nibabel.load(folder / "meanbeta.nii.gz").dataobj)) == 300  # times 300, though float
    with h5py.File(folder / "betas_session01.hdf5") as file:
        assert file["betas"].chunks == (120, 1, 1, 1)
