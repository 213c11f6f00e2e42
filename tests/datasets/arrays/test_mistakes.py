"""Each mistake gives one error: what was given, what was expected, what to do; and nothing is unpickled."""

import json
import pickle
import struct
import zipfile

import nibabel
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from neurorecon.errors import InputError


class Hostile:
    """Writes a file when it is unpickled."""

    def __init__(self, folder):
        self.file = str(folder / "unpickled")

    def __reduce__(self):
        return (open, (self.file, "w"))


def _objects(folder):
    return np.array([Hostile(folder), 1.0], dtype=object)


def _replace(folder, name, values, save=np.save):
    for old in folder.glob("responses.*"):
        old.unlink()
    save(folder / name, values)


def _cut(path, size):
    path.write_bytes(path.read_bytes()[:size])


def _grow_in_header(folder):
    """A member whose header promises more than there is."""
    with zipfile.ZipFile(folder / "responses.npz", "w") as archive:
        text = b"{'descr': '<f4', 'fortran_order': False, 'shape': (12, 5000000), }".ljust(117) + b"\n"
        archive.writestr("responses.npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + b"\0" * 240)
    (folder / "responses.npy").unlink()


def _pickled_zarr(folder):
    (folder / "responses.npy").unlink()
    (folder / "responses.zarr").mkdir()
    metadata = {
        "zarr_format": 2,
        "shape": [12, 5],
        "chunks": [12, 5],
        "dtype": "<f4",
        "compressor": None,
        "fill_value": 0,
        "order": "C",
        "filters": [{"id": "pickle", "protocol": 5}],
    }
    (folder / "responses.zarr" / ".zarray").write_text(json.dumps(metadata))
    (folder / "responses.zarr" / "0.0").write_bytes(pickle.dumps(Hostile(folder)))


def _edit(folder, name, **columns):
    table = pd.read_csv(folder / f"{name}.csv", dtype=str, keep_default_na=False)
    table.assign(**columns).to_csv(folder / f"{name}.csv", index=False)


def _mask(folder, values, affine=None):
    nibabel.Nifti1Image(values, np.eye(4) if affine is None else affine).to_filename(folder / "mask.nii.gz")


def _folder_of_images(folder, sizes):
    (folder / "images.npy").unlink()
    (folder / "images").mkdir()
    for number, size in enumerate(sizes):
        Image.new("RGB", size).save(folder / "images" / f"s{number}.png")


def _drop(folder, name):
    (folder / name).unlink()


S = [f"s{number}" for number in range(6)]

#: What is spoiled in the folder, the options, and what the message has to say.
MISTAKES = {
    "no responses": (lambda f: _drop(f, "responses.npy"), {}, ["contains no responses", "responses.npy"]),
    "no samples": (lambda f: _drop(f, "samples.csv"), {}, ["contains no table of samples", "samples.csv"]),
    "responses twice": (lambda f: (f / "responses.h5").touch(), {}, ["contains responses more than once"]),
    "npy of objects": (lambda f: _replace(f, "responses.npy", _objects(f)), {}, ["Python objects", "any code"]),
    "pickle called npy": (
        lambda f: (f / "responses.npy").write_bytes(pickle.dumps(Hostile(f))),
        {},
        ["cannot be read", "damaged"],
    ),
    "npz of objects": (
        lambda f: _replace(f, "responses.npz", _objects(f), lambda path, values: np.savez(path, responses=values)),
        {},
        ["Python objects", "any code"],
    ),
    "npz that promises more": (_grow_in_header, {}, ["responses.npz cannot be read", "longer or shorter"]),
    "zarr that unpickles": (_pickled_zarr, {}, ["codec that unpickles"]),
    "npy cut": (lambda f: _cut(f / "responses.npy", 200), {}, ["responses.npy cannot be read", "200 bytes"]),
    "npy empty": (lambda f: _cut(f / "responses.npy", 0), {}, ["responses.npy cannot be read"]),
    "text": (lambda f: _replace(f, "responses.npy", np.full((12, 5), "a")), {}, ["does not contain real numbers"]),
    "complex": (
        lambda f: _replace(f, "responses.npy", np.ones((12, 5), complex)),
        {},
        ["does not contain real numbers", "complex"],
    ),
    "no voxels": (lambda f: _replace(f, "responses.npy", np.ones((12, 0))), {}, ["responses.npy"]),
    "volumes": (lambda f: _replace(f, "responses.npy", np.ones((12, 2, 2, 2))), {}, ["number of axes", "mask"]),
    "swapped axes": (
        lambda f: _replace(f, "responses.npy", np.ones((5, 12))),
        {},
        ["are swapped", "(5, 12)", "transpose = true"],
    ),
    "swapped by the recipe": (lambda f: None, {"transpose": True}, ["are swapped", "transpose = false"]),
    "too few rows": (lambda f: _replace(f, "responses.npy", np.ones((11, 5))), {}, ["does not match", "11 samples"]),
    "too many voxels": (lambda f: _replace(f, "responses.npy", np.ones((12, 6))), {}, ["voxels.csv", "5 rows for 6"]),
    "all constant": (lambda f: _replace(f, "responses.npy", np.ones((12, 5))), {}, ["no voxel", "5 constant"]),
    "all NaN": (lambda f: _replace(f, "responses.npy", np.full((12, 5), np.nan)), {}, ["no voxel", "5 not finite"]),
    "unknown key": (
        lambda f: _replace(
            f, "responses.npz", np.ones((12, 5)), lambda path, values: np.savez(path, a=values, b=values)
        ),
        {},
        ["unknown array", "one of: a, b", "responses_key"],
    ),
    "no column stimulus": (
        lambda f: pd.DataFrame({"stim": S * 2}).to_csv(f / "samples.csv"),
        {},
        ["unknown column", "'stimulus'", "samples.csv"],
    ),
    "semicolons": (
        lambda f: (f / "samples.csv").write_text("stimulus;run\ns1;1\n"),
        {},
        ["separated by semicolons", "commas", "decimals with a point"],
    ),
    "table of nothing": (lambda f: (f / "samples.csv").write_text(""), {}, ["samples.csv cannot be read"]),
    "table of a heading": (lambda f: (f / "samples.csv").write_text("stimulus,run\n"), {}, ["no rows"]),
    "table with a long line": (
        lambda f: (f / "samples.csv").write_text("stimulus\ns1\ns2,3,4\n"),
        {},
        ["samples.csv cannot be read", "line 3"],
    ),
    "column twice": (lambda f: (f / "samples.csv").write_text("stimulus,run,run\ns1,1,1\n"), {}, ["two columns 'run'"]),
    "table in bytes": (lambda f: (f / "samples.csv").write_bytes(b"stimulus\n\xff\xfe"), {}, ["cannot be read"]),
    "unknown stimulus": (
        lambda f: _edit(f, "samples", stimulus=["face", *S[1:], *S]),
        {},
        ["not in the table of stimuli", "face"],
    ),
    "stimulus twice": (lambda f: _edit(f, "stimuli", id=[*S[:5], "s0"]), {}, ["stimuli occur more than once", "s0"]),
    "stimulus without a name": (lambda f: _edit(f, "stimuli", id=[*S[:5], ""]), {}, ["column 'id'", "row 6"]),
    "no stimulus at all": (lambda f: _edit(f, "samples", stimulus=""), {}, ["contains no stimuli"]),
    "run is text": (lambda f: _edit(f, "samples", run=["one"] * 12), {}, ["column 'run'", "'one'", "line 2"]),
    "run is zero": (lambda f: _edit(f, "samples", run=[1] * 11 + [0]), {}, ["column 'run'", "row 12"]),
    "run is a fraction": (lambda f: _edit(f, "samples", run=[1.5] * 12), {}, ["column 'run'", "integers"]),
    "time is negative": (lambda f: _edit(f, "samples", time=[-1.0] * 12), {}, ["column 'time'", "0 or more"]),
    "time is missing": (lambda f: _edit(f, "samples", time=[""] * 12), {}, ["column 'time'", "finite numbers"]),
    "repeats from zero": (lambda f: _edit(f, "samples", repeat=[0] * 6 + [1] * 6), {}, ["column 'repeat'"]),
    "repeats with a gap": (
        lambda f: _edit(f, "samples", repeat=[1] * 6 + [3] * 6),
        {},
        ["not numbered consecutively", "repeat = 1, 3", "'s0'"],
    ),
    "repeats twice": (
        lambda f: _edit(f, "samples", repeat=[1] * 12),
        {},
        ["not numbered consecutively", "repeat = 1, 1"],
    ),
    "train and test overlap": (
        lambda f: _edit(f, "samples", split=["train"] * 6 + ["test"] * 6),
        {},
        ["in more than one split", "s0 (test, train)"],
    ),
    "no training": (lambda f: _edit(f, "samples", split="test"), {}, ["no training samples"]),
    "split half empty": (lambda f: _edit(f, "samples", split=["train"] * 11 + [""]), {}, ["has no split", "row 12"]),
    "two splits": (lambda f: None, {"test_share": 0.5, "test_stimuli": ["s1"]}, ["in two ways"]),
    "unknown test stimulus": (lambda f: None, {"test_stimuli": ["s9"]}, ["test_stimuli contains", "s9"]),
    "half a volume in a run": (
        lambda f: _edit(f, "samples", time=[0, 2, 4, 7, 8, 10, 12, 14, 16, 18, 20, 22], split="train"),
        {"repetition_time": 2.0},
        ["are not consecutive", "4 s, then 7 s"],
    ),
    "run in two pieces": (
        lambda f: _edit(f, "samples", run=[1] * 4 + [2] * 4 + [1] * 4, split="train"),
        {"repetition_time": 2.0},
        ["are not consecutive", "after another run"],
    ),
    "voxels of another table": (
        lambda f: pd.read_csv(f / "voxels.csv").iloc[:4].to_csv(f / "voxels.csv", index=False),
        {},
        ["voxels.csv", "5"],
    ),
    "voxel twice": (lambda f: _edit(f, "voxels", i=0, j=0), {}, ["positions of voxels occur more than once", "0 0 1"]),
    "voxel outside": (lambda f: _edit(f, "voxels", k=3), {}, ["outside the volume", "[0, 0, 3]"]),
    "voxel outside the mask": (
        lambda f: _mask(f, np.eye(3, dtype=np.uint8)[:, :, None].repeat(3, 2)),
        {},
        ["outside the mask", "mask.nii.gz"],
    ),
    "mask of nothing": (
        lambda f: _mask(f, np.zeros((3, 3, 3), np.uint8)),
        {},
        ["not a usable mask", "0 nonzero voxels"],
    ),
    "mask with four axes": (lambda f: _mask(f, np.ones((3, 3, 3, 2), np.uint8)), {}, ["not a usable mask"]),
    "mask cut": (lambda f: _cut(f / "mask.nii.gz", 40), {}, ["mask.nii.gz cannot be read"]),
    "mask of another size": (
        lambda f: _drop(f, "voxels.csv"),
        {},
        ["mask.nii.gz does not match", "27 nonzero voxels", "for 5"],
    ),
    "positions without a volume": (lambda f: _drop(f, "mask.nii.gz"), {}, ["their volume is unknown"]),
    "volume that is flat": (
        lambda f: _drop(f, "mask.nii.gz"),
        {"affine": [[0.0] * 4] * 4, "shape": [3, 3, 3]},
        ["affine and shape", "invertible"],
    ),
    "half a volume": (lambda f: _drop(f, "mask.nii.gz"), {"shape": [3, 3, 3]}, ["affine and shape", "affine = None"]),
    "volume and surface": (lambda f: _edit(f, "voxels", vertex=1), {}, ["both in a volume and on a surface"]),
    "ncsnr is negative": (lambda f: _edit(f, "voxels", ncsnr=-1), {}, ["column 'ncsnr'"]),
    "unknown ROI column": (lambda f: None, {"rois": ["V2"]}, ["unknown column", "'V2'"]),
    "ROI that is none": (lambda f: None, {"rois": ["j"]}, ["'j' is not an ROI"]),
    "ROI twice": (lambda f: _edit(f, "voxels", roi="V1"), {}, ["defines the ROI 'V1' twice"]),
    "images of 16 bits": (lambda f: np.save(f / "images.npy", np.ones((6, 8, 8, 3), np.uint16)), {}, ["uint16", "257"]),
    "colors first": (
        lambda f: np.save(f / "images.npy", np.ones((6, 3, 8, 8), np.uint8)),
        {},
        ["color axis", "transpose(0, 2, 3, 1)"],
    ),
    "an image too many": (
        lambda f: np.save(f / "images.npy", np.ones((7, 8, 8, 3), np.uint8)),
        {},
        ["does not match the table of stimuli", "7 images, for 6"],
    ),
    "an image too few": (lambda f: _folder_of_images(f, [(8, 8)] * 5), {}, ["image of the stimulus 's5' is miss"]),
    "images of two sizes": (
        lambda f: _folder_of_images(f, [(8, 8)] * 5 + [(9, 8)]),
        {},
        ["differ in size", "s5.png has 9 x 8", "image_size"],
    ),
    "image that is none": (
        lambda f: (_folder_of_images(f, [(8, 8)] * 6), (f / "images" / "s3.png").write_text("no")),
        {},
        ["s3.png cannot be read"],
    ),
    "kind is unknown": (lambda f: _edit(f, "stimuli", kind="movie"), {}, ["column 'kind'", "movie"]),
    "videos without frames": (lambda f: _edit(f, "stimuli", kind="video"), {}, ["column 'kind'", "frames.npy"]),
    "frames without a rate": (
        lambda f: (np.save(f / "frames.npy", np.ones((6, 2, 8, 8, 3), np.uint8)), _drop(f, "images.npy")),
        {},
        ["frame rate", "frames_per_second"],
    ),
    "frames without colors": (
        lambda f: (np.save(f / "frames.npy", np.ones((6, 2, 8, 8), np.uint8)), _drop(f, "images.npy")),
        {"frames_per_second": 2.0},
        ["(video, frame, y, x, 3)"],
    ),
    "labels of others": (
        lambda f: pd.DataFrame({"id": [*S[:5], "s9"], "size": 1}).to_csv(f / "labels.csv", index=False),
        {},
        ["labels.csv does not match", "s5, s9"],
    ),
    "labels of text": (
        lambda f: pd.DataFrame({"id": S, "size": "big"}).to_csv(f / "labels.csv", index=False),
        {},
        ["labels.csv: the column 'size'", "'big'"],
    ),
    "about nothing": (lambda f: (f / "about.toml").write_text("author = 3"), {}, ["about.toml", "author: Extra"]),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_clear_error(lab, name, tmp_path):
    spoil, options, said = MISTAKES[name]
    spoil(lab.write())
    with pytest.raises(InputError) as caught:
        lab.open(**options).subject("subj01")
    message = str(caught.value)
    for words in said:
        assert words in message
    for part in ("  given:    ", "  expected: ", "  to do:    "):
        assert part in message
    assert not (tmp_path / "unpickled").exists()


def test_what_is_hostile_would_have_been_seen(tmp_path):
    pickle.loads(pickle.dumps(Hostile(tmp_path))).close()
    assert (tmp_path / "unpickled").exists()


def test_subjects_have_to_agree_on_the_split(lab):
    for name, split in (("sub01", ["train"] * 5 + ["test"]), ("sub02", ["test"] + ["train"] * 5)):
        (lab.root / name).mkdir()
        np.save(lab.root / name / "responses.npy", lab.responses[:6])
        table = lab.samples.iloc[:6].assign(split=split)
        table.to_csv(lab.root / name / "samples.csv", index=False)
    with pytest.raises(InputError, match=r"in more than one split[\s\S]*s0 \(test, train\); s5"):
        lab.open()
