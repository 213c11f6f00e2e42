"""Bad input: one error that names the file, what was found, what was expected and what to do."""

import gzip
import pickle
import shutil

import nibabel
import numpy as np
import pandas as pd
import pytest
from scipy.io import loadmat, savemat

from neurorecon.datasets.nsd.layout import NsdOptions
from neurorecon.datasets.nsd.reader import NsdReader
from neurorecon.errors import InputError, MissingFileError

DESIGN = "nsddata/experiments/nsd/nsd_expdesign.mat"
TABLE = "nsddata/experiments/nsd/nsd_stim_info_merged.csv"
ROI = "nsddata/ppdata/subj02/func1pt8mm/roi"
BETAS = "nsddata_betas/ppdata/subj02/func1pt8mm/betas_fithrf_GLMdenoise_RR"
FIRST = f"{BETAS}/betas_session01.nii.gz"
IMAGES = "nsddata_stimuli/stimuli/nsd/nsd_stimuli.hdf5"


def _cut(path, share=0.5):
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])


def _volume(path, change, affine=None):
    image = nibabel.load(path)
    values = change(np.asarray(image.dataobj))
    path.unlink()
    nibabel.Nifti1Image(values, image.affine if affine is None else affine).to_filename(path)


def _design(root, **change):
    content = {key: value for key, value in loadmat(root / DESIGN).items() if key[0] != "_"}
    content |= {key: value(content[key]) for key, value in change.items()}
    savemat(root / DESIGN, {key: value for key, value in content.items() if value is not None})


def _text(path, old, new):
    path.write_text(path.read_text().replace(old, new, 1))


def _column(path, name, value):
    pd.read_csv(path, sep="\t").assign(**{name: value}).to_csv(path, sep="\t", index=False)


def _emptied(folder):
    """Leave what DataLad leaves of a subdataset that was not installed."""
    shutil.rmtree(folder)
    folder.mkdir()
    (folder.parent / ".gitmodules").touch()


def _link(path, target):
    path.unlink()
    path.symlink_to(target)


def _flip(path):
    content = bytearray(gzip.decompress(path.read_bytes()))
    packed = bytearray(gzip.compress(bytes(content)))
    packed[len(packed) // 2] ^= 0xFF
    path.write_bytes(bytes(packed))


def _with_one_repeat_wrong(order):
    order = order.copy()
    order[0, 0] = 9999
    return order


def _wide(values):
    return np.concatenate([values, values[:1]])


SHIFTED = np.diag([1.8, 1.8, 1.8, 1.0])

#: What is done to the tree, options, words of the message.
MISTAKES = {
    "no design": (lambda root: (root / DESIGN).unlink(), {}, ["nsd_expdesign.mat", "--root"]),
    "design cut": (lambda root: _cut(root / DESIGN), {}, ["nsd_expdesign.mat", "cannot be read"]),
    "design lacks": (lambda root: _design(root, sharedix=lambda _: None), {}, ["lacks sharedix"]),
    "order out of range": (lambda root: _design(root, masterordering=_with_one_repeat_wrong), {}, ["9999", "1 to 120"]),
    "ids from 0": (lambda root: _design(root, subjectim=lambda ids: ids - ids.min()), {}, ["design", "cannot be used"]),
    "other shared images": (lambda root: _design(root, sharedix=lambda ids: ids + 1), {}, ["sharedix", "subjectim"]),
    "pattern of fewer trials": (
        lambda root: _design(root, stimpattern=lambda pattern: pattern[:, :3]),
        {},
        ["session 1", "120 trials", "90 by"],
    ),
    "no betas": (lambda root: None, {"space": "func1mm"}, ["func1mm", "func1pt8mm/betas_fithrf_GLMdenoise_RR"]),
    "unknown subject": (lambda root: None, {"subjects": ("subj09",)}, ["unknown subject 'subj09'", "subj02"]),
    "session that is not there": (lambda root: None, {"sessions": "1-3"}, ["subj02", "without 3"]),
    "unknown ROI": (lambda root: None, {"mask": "FFA-9"}, ["unknown ROI 'FFA-9'", "FFA-1"]),
    "no ROI files": (
        lambda root: [path.unlink() for path in (root / ROI).iterdir()],
        {},
        ["there is nothing in", "the ROI files", "brain"],
    ),
    "no such mask file": (lambda root: None, {"mask": "mine.nii.gz"}, ["mine.nii.gz is missing"]),
    "empty mask": (
        lambda root: _volume(root / ROI / "nsdgeneral.nii.gz", np.zeros_like),
        {"mask": f"{ROI}/nsdgeneral.nii.gz"},
        ["is empty", "another mask"],
    ),
    "betas cut": (lambda root: _cut(root / FIRST), {}, ["betas_session01.nii.gz", "cannot be read", "download"]),
    "betas of no bytes": (lambda root: (root / FIRST).write_bytes(b""), {}, ["betas_session01.nii.gz", "0 bytes"]),
    "betas without trials": (lambda root: _volume(root / FIRST, lambda v: v[..., 0]), {}, ["wrong shape", "trial"]),
    "betas with fewer trials": (
        lambda root: _volume(root / FIRST, lambda v: v[..., :100]),
        {},
        ["do not match the design", "100 trials", "120"],
    ),
    "betas with swapped axes": (
        lambda root: _volume(root / FIRST, lambda v: v.transpose(2, 1, 0, 3)),
        {},
        ["a different grid", "another order"],
    ),
    "betas on a different grid": (
        lambda root: _volume(root / FIRST, _wide),
        {},
        ["betas_session01.nii.gz is on a different grid than nsdgeneral.nii.gz"],
    ),
    "betas elsewhere": (lambda root: _volume(root / FIRST, lambda v: v, SHIFTED), {}, ["a different grid", "affine"]),
    "ROI elsewhere": (
        lambda root: _volume(root / ROI / "floc-faces.nii.gz", lambda v: v, SHIFTED),
        {},
        ["floc-faces.nii.gz is on a different grid than nsdgeneral.nii.gz"],
    ),
    "betas of integers of 4 bytes": (
        lambda root: _volume(root / FIRST, lambda v: v.astype(np.int32)),
        {},
        ["unsupported data type", "int32", "int16"],
    ),
    "no images": (lambda root: (root / IMAGES).unlink(), {}, ["nsd_stimuli.hdf5", "39.6 GB"]),
    "images cut": (lambda root: _cut(root / IMAGES), {}, ["nsd_stimuli.hdf5", "cannot be read"]),
    "table lacks a column": (lambda root: _text(root / TABLE, "cocoId", "coco"), {}, ["merged.csv", "cocoId"]),
    "table of other shared images": (lambda root: _text(root / TABLE, "True", "False"), {}, ["23", "24", "sharedix"]),
    "behavior of another subject": (
        lambda root: _text(root / "nsddata/ppdata/subj02/behav/responses.tsv", "\t1\t1\t1\t", "\t1\t1\t1\t1"),
        {},
        ["responses.tsv", "contradict each other", "session 1, trial 1"],
    ),
    "captions cut": (
        lambda root: _cut(root / "annotations/captions_val2017.json"),
        {},
        ["captions_val2017.json", "cannot be read"],
    ),
    "no annotations there": (lambda root: None, {"annotations": "coco"}, ["annotations", "captions_train2017.json"]),
    "no session to test on": (
        lambda root: None,
        {"split": "sessions", "test_sessions": (3,)},
        ["unknown session to test on '3'"],
    ),
    "unknown category": (
        lambda root: None,
        {"split": "category", "test_category": "elephant"},
        ["unknown category 'elephant'", "pizza"],
    ),
    "no table of clusters": (
        lambda root: None,
        {"split": "clusters", "cluster_table": "clusters.csv"},
        ["cluster_table", "clusters.csv"],
    ),
    "table of clusters with semicolons": (
        lambda root: (root / "clusters.csv").write_text("nsdId;cluster\n0;1\n"),
        {"split": "clusters", "cluster_table": "clusters.csv"},
        ["another separator", "semicolons"],
    ),
    "table of categories with text as ids": (
        lambda root: (root / "own.csv").write_text("nsdId,category\nzero,odd\n"),
        {"split": "category", "test_category": "odd", "category_table": "own.csv"},
        ["'nsdId'", "'zero' in row 1 (line 2)"],
    ),
    "an image with a crop that is code": (
        lambda root: _text(root / TABLE, '"(0.0, 0.0,', '"(print(1), 0.0,'),
        {},
        ["merged.csv", "cropBox", "(line "],
    ),
    "reaction times of text": (
        lambda root: _column(root / "nsddata/ppdata/subj02/behav/responses.tsv", "RT", "slow"),
        {},
        ["responses.tsv", "'RT'", "'slow'"],
    ),
    "images in another encoding": (
        lambda root: (root / TABLE).write_text((root / TABLE).read_text(), encoding="utf-16"),
        {},
        ["merged.csv", "UTF-16"],
    ),
    "a row of the table of images is cut": (
        lambda root: _text(root / TABLE, ",train2017,", "\n,train2017,"),
        {},
        ["merged.csv", "cells in line"],
    ),
    "behavior with a line cut": (
        lambda root: _cut(root / "nsddata/ppdata/subj02/behav/responses.tsv"),
        {},
        ["responses.tsv", "cells in line", "separated by tabs"],
    ),
    "behavior with commas": (
        lambda root: _text(root / "nsddata/ppdata/subj02/behav/responses.tsv", "\t", ","),
        {},
        ["responses.tsv", "cells"],
    ),
    "betas of a subject not installed": (
        lambda root: (root / "nsddata_betas/ppdata/subj03").mkdir(),
        {},
        ["there is nothing in", "subj03", "datalad get -n", "name the subjects"],
    ),
    "images not installed": (
        lambda root: _emptied(root / "nsddata_stimuli"),
        {},
        ["there is nothing in", "nsddata_stimuli", "datalad get -n"],
    ),
    "design not installed": (
        lambda root: _emptied(root / "nsddata"),
        {},
        ["there is nothing in", "nsddata", "datalad get -n"],
    ),
    "design not fetched": (
        lambda root: _link(root / DESIGN, "../.git/annex/objects/a/b"),
        {},
        ["the content of", "nsd_expdesign.mat", "datalad get"],
    ),
    "captions not fetched": (
        lambda root: _link(root / "annotations/captions_val2017.json", "../.git/annex/objects/a/b"),
        {},
        ["the content of", "captions_val2017.json", "datalad get"],
    ),
    "all sessions are tested on": (
        lambda root: None,
        {"split": "sessions", "test_sessions": (1, 2)},
        ["without training or without test", "0 train"],
    ),
}


def test_a_subject_that_was_not_installed_may_be_left_out(own):
    (own / "nsddata_betas/ppdata/subj03").mkdir()
    assert NsdReader(own, NsdOptions(subjects=("subj02",))).subjects == ["subj02"]


@pytest.mark.parametrize("name", MISTAKES)
def test_one_clear_error(own, name):
    damage, options, words = MISTAKES[name]
    damage(own)
    with pytest.raises(InputError) as caught:
        NsdReader(own, NsdOptions(**options))
    message = str(caught.value)
    for part in ("given:", "expected:", "to do:", *words):
        assert part in message, message


def test_a_flipped_byte_shows_when_the_session_is_read(own):
    _flip(own / BETAS / "betas_session02.nii.gz")
    reader = NsdReader(own, NsdOptions())
    with pytest.raises(InputError, match=r"betas_session02\.nii\.gz cannot be read"):
        reader.subject("subj02").read_responses(0, 240)


def test_a_hostile_pickle_is_refused_and_not_run(own, tmp_path):
    class Hostile:
        def __reduce__(self):
            return open, (str(tmp_path / "ran"), "w")

    (own / TABLE).unlink()
    (own / TABLE).with_suffix(".pkl").write_bytes(pickle.dumps(Hostile()))
    with pytest.raises(InputError, match="not part of an array or a table"):
        NsdReader(own, NsdOptions())
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "wrong",
    [
        {"sessions": "one"},
        {"sessions": ()},
        {"space": "talairach"},
        {"split": "sessions"},
        {"split": "category"},
        {"test_repeats": 4},
        {"voxels": 3},
    ],
)
def test_options_are_checked(wrong):
    with pytest.raises(ValueError, match="validation error"):
        NsdOptions(**wrong)


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(MissingFileError, match="--root"):
        NsdReader(tmp_path / "nowhere", NsdOptions())


def _bad_voxels(own):
    """Make one voxel zero in session 2, one constant, one constant only at the beginning."""

    def change(values):
        inside = np.argwhere(nibabel.load(own / ROI / "nsdgeneral.nii.gz").get_fdata() > 0)
        values = values.copy()
        for number, (voxel, first, stop) in enumerate(zip(inside, (0, 7, 7), (120, 120, 60), strict=False)):
            values[(*voxel, slice(0, stop))] = first if number else 0
        return values

    _volume(own / BETAS / "betas_session02.nii.gz", change)


def test_voxels_without_data_are_dropped_and_counted(own):
    whole = NsdReader(own, NsdOptions()).subject("subj02")
    number = len(whole.voxels)
    _bad_voxels(own)
    data = NsdReader(own, NsdOptions()).subject("subj02")
    assert data.report["voxels dropped"] == f"0 not finite, 2 constant, of {number} voxels"
    assert len(data.voxels) == number - 2  # the third varies later, and stays
    kept = NsdReader(own, NsdOptions(bad_voxels="keep", scaling="session")).subject("subj02")
    assert "2 constant" in kept.report["voxels kept, as zeros where not finite"]
    assert np.isfinite(kept.read_responses(0, 240)).all()


def _places(data):
    return pd.MultiIndex.from_frame(data.voxels[["i", "j", "k"]])


def test_values_that_are_not_numbers(own):
    def change(values):
        values = values.astype(np.float32) / 300
        voxel = tuple(np.argwhere(nibabel.load(own / ROI / "nsdgeneral.nii.gz").get_fdata() > 0)[5])
        values[(*voxel, 77)] = np.nan
        return values

    before = NsdReader(own, NsdOptions()).subject("subj02")
    expected = pd.DataFrame(before.read_responses(0, 240).T, index=_places(before))
    _volume(own / FIRST, change)
    data = NsdReader(own, NsdOptions()).subject("subj02")
    assert data.report["voxels dropped"].startswith("1 not finite, 0 constant")
    assert len(data.voxels) == len(before.voxels) - 1
    np.testing.assert_allclose(data.read_responses(0, 240), expected.loc[_places(data)].to_numpy().T, rtol=1e-6)
    kept = NsdReader(own, NsdOptions(bad_voxels="keep")).subject("subj02").read_responses(77, 78)
    assert (kept == 0).sum() == 1


def test_no_usable_voxel(own):
    _volume(own / BETAS / "betas_session02.nii.gz", np.zeros_like)
    with pytest.raises(InputError, match="no voxel of subj02 can be used"):
        NsdReader(own, NsdOptions()).subject("subj02")
