"""Inputs that carry more than their values: masks, tensors, missing trials, declared axes, links, labels."""

from __future__ import annotations

import os

import h5py
import nibabel
import numpy as np
import pandas as pd
import pytest
import xarray

import neurorecon as nr
from neurorecon.datasets.arrays.reader import MemoryReader, given_in_memory
from neurorecon.errors import InputError, MissingFileError


@pytest.fixture
def data():
    """Responses (sample, voxel) and the stimulus of each sample."""
    rng = np.random.default_rng(0)
    return rng.standard_normal((12, 5)).astype(np.float32), [f"s{number % 6}" for number in range(12)]


def _read(responses, samples, **options):
    given = {name: options.pop(name) for name in ("voxels", "mask", "stimuli", "images", "rois") if name in options}
    reader = MemoryReader(given_in_memory(responses, samples, **given), MemoryReader.Options(**options))
    subject = reader.subject("subj01")
    return subject, subject.read_responses(0, len(subject.samples))


def test_masked_responses_are_missing_not_stored(data):
    responses, stimuli = data
    masked = np.ma.masked_greater(responses, 1.5)
    subject, found = _read(masked, stimuli)
    complete = ~masked.mask.any(axis=0)
    assert 0 < complete.sum() < 5
    np.testing.assert_array_equal(found, responses[:, complete])
    assert f"{5 - complete.sum()}" in " ".join(subject.report.values())
    with pytest.raises(InputError, match=r"no voxel of subj01 can be used"):
        _read(np.ma.masked_where(np.eye(12, 5, dtype=bool), responses), stimuli)


def test_tensors_and_tables_are_accepted(data):
    torch = pytest.importorskip("torch")
    responses, stimuli = data
    for other in (torch.tensor(responses, requires_grad=True), pd.DataFrame(responses, dtype="Float32")):
        np.testing.assert_array_equal(_read(other, stimuli)[1], responses)


def test_tensors_build_a_store(data, tmp_path):
    torch = pytest.importorskip("torch")
    responses, stimuli = data
    nr.build_from_arrays(tmp_path / "a.icechunk", torch.tensor(responses), {"stimulus": stimuli}, progress=False)
    store = nr.open_store(tmp_path / "a.icechunk")
    np.testing.assert_array_equal(store.responses("subj01").values, responses)


@pytest.mark.parametrize("missing", [None, np.nan, pd.NA, "n/a", ""])
def test_samples_without_a_stimulus_are_rest_whatever_says_so(data, missing):
    responses, stimuli = data
    stimuli[3] = missing
    for samples in (stimuli, {"stimulus": stimuli}, pd.Series(stimuli, dtype=object)):
        subject, found = _read(responses, samples)
        np.testing.assert_array_equal(found, np.delete(responses, 3, axis=0))
        assert set(subject.samples["stimulus"]) == {f"s{number}" for number in range(6)}


def test_split_of_nan_counts_as_missing(data):
    responses, stimuli = data
    split = pd.array(["train"] * 10 + [pd.NA, "train"], dtype="string")
    with pytest.raises(InputError, match="a sample has no split"):
        _read(responses, pd.DataFrame({"stimulus": stimuli, "split": split}))


def test_a_trial_without_responses_is_named(lab):
    lab.responses[7] = np.nan
    lab.write()
    with pytest.raises(InputError) as caught:
        lab.open().subject("subj01")
    for words in ("1 samples of subj01 have no responses", "responses.npy: no finite value in row 8", "'stimulus'"):
        assert words in str(caught.value)
    lab.samples.loc[7, "stimulus"] = ""  # what the message advises
    lab.write()
    assert len(lab.open().subject("subj01").samples) == 11


def test_a_declared_order_of_axes_is_kept_or_refused(data, lab):
    square = np.random.default_rng(0).standard_normal((12, 12))
    stimuli = data[1]
    named = xarray.DataArray(square, dims=("voxel", "sample"))
    with pytest.raises(InputError, match=r"axes of the responses of subj01 are swapped(.|\n)*transpose = true"):
        _read(named, stimuli)
    np.testing.assert_allclose(_read(named, stimuli, transpose=True)[1], square.T, rtol=1e-6)
    np.testing.assert_allclose(_read(named.transpose(), stimuli)[1], square.T, rtol=1e-6)
    root = lab.write()
    (root / "responses.npy").unlink()
    (root / "voxels.csv").unlink()
    (root / "mask.nii.gz").unlink()
    with h5py.File(root / "responses.h5", "w") as file:
        file["responses"] = square.T  # as MATLAB stores its (sample, voxel)
        file["responses"].attrs["MATLAB_class"] = np.bytes_("double")
    with pytest.raises(InputError, match=r"are ambiguous(.|\n)*transpose = true"):
        lab.open()
    subject = lab.open(transpose=True).subject("subj01")
    np.testing.assert_allclose(subject.read_responses(0, 12), square, rtol=1e-6)


#: What is put in the place of the responses of the second subject.
BROKEN = {
    "annex": (lambda path: path.symlink_to("../.git/annex/objects/a/b"), "datalad get"),
    "nowhere": (lambda path: path.symlink_to("gone.npy"), "a link that leads nowhere"),
    "loop": (lambda path: path.symlink_to(path.name), "in a circle"),
    "pipe": (lambda path: os.mkfifo(path), "a named pipe"),
    "empty": (lambda path: path.touch(), "an empty file"),
    "folder": (lambda path: path.mkdir(), "a folder"),
}


@pytest.mark.parametrize("kind", BROKEN)
@pytest.mark.parametrize("name", ["responses.npy", "samples.csv", "mask.nii.gz"])
def test_a_subject_whose_files_are_not_there_is_not_left_out(lab, kind, name):
    make, words = BROKEN[kind]
    root = lab.write()
    for subject in ("sub01", "sub02"):
        (root / subject).mkdir()
        for file in ("responses.npy", "samples.csv", "mask.nii.gz"):
            (root / subject / file).write_bytes((root / file).read_bytes())
    for file in ("responses.npy", "samples.csv", "mask.nii.gz"):
        (root / file).unlink()
    (root / "sub02" / name).unlink()
    make(root / "sub02" / name)
    with pytest.raises(InputError, match=words) as caught:
        lab.open()
    assert str(root / "sub02" / name) in str(caught.value)


def test_a_folder_of_a_subject_that_is_a_link_to_nothing(lab):
    root = lab.write()
    (root / "sub02").symlink_to("../elsewhere/sub02")
    with pytest.raises(MissingFileError, match="sub02 is a link that leads nowhere"):
        lab.open()


def test_images_that_a_table_names_elsewhere(lab):
    root = lab.write()
    (root / "images.npy").unlink()
    (root / "images").mkdir()
    pd.DataFrame({"id": ["s0"], "file": ["../../secret.png"]}).to_csv(root / "stimuli.csv", index=False)
    with pytest.raises(InputError, match="lies outside of its folder"):
        lab.open()


@pytest.mark.parametrize("in_memory", [True, False])
def test_a_mask_of_probabilities_is_refused(lab, data, in_memory):
    values = np.geomspace(1e-16, 1, 27).reshape(3, 3, 3)
    image = nibabel.Nifti1Image(values, np.eye(4))
    image.to_filename(lab.write() / "mask.nii.gz")
    with pytest.raises(InputError, match=r"is not a mask(.|\n)*binarize_img"):
        _read(data[0], data[1], mask=image) if in_memory else lab.open()


def test_sessions_that_do_not_fit_are_refused(data):
    with pytest.raises(InputError, match=r"2147483648 in row 1(.|\n)*2,147,483,647"):
        _read(data[0], pd.DataFrame({"stimulus": data[1], "session": 2**31}))


def test_float_images_are_read_as_bytes(data):
    eight = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3), dtype=np.uint8)
    stimuli = {"id": [f"s{number}" for number in range(6)]}
    given = given_in_memory(data[0], data[1], stimuli, images=eight / 255)
    np.testing.assert_array_equal(MemoryReader(given).read_images(0, 6), eight)
    given = given_in_memory(data[0], data[1], stimuli, images=eight.astype(float))
    with pytest.raises(InputError, match="the images is ambiguous"):
        MemoryReader(given).read_images(0, 6)


def test_hidden_files_of_editors_and_of_macos_are_no_data(lab):
    from PIL import Image

    root = lab.write()
    (root / ".#samples.csv").symlink_to("user@host.1234")  # Emacs
    (root / "images.npy").unlink()
    (root / "stimuli.csv").unlink()
    (root / "images").mkdir()
    for number in range(6):
        Image.new("RGB", (8, 8)).save(root / "images" / f"s{number}.png")
        (root / "images" / f"._s{number}.png").write_bytes(b"\0\5\x16\7Mac OS X")
    assert lab.open().stimuli()["id"].tolist() == [f"s{number}" for number in range(6)]
