"""Algonauts 2021: what is read equals what was written, pickles run no code, and faults are one error."""

import pickle
import shutil

import nibabel
import numpy as np
import pytest

from neurorecon.datasets.algonauts2021 import ROIS, Algonauts2021Reader
from neurorecon.errors import InputError, MissingFileError, UnknownNameError
from neurorecon.testing.layouts.algonauts2021 import SHAPE, VOXELS, write_algonauts2021
from neurorecon.testing.layouts.cc2017 import frame_number

MINI, FULL = "participants_data_v2021/mini_track/sub01", "participants_data_v2021/full_track/sub01"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Not to be written into."""
    return write_algonauts2021(tmp_path_factory.mktemp("algonauts2021"), videos=10)


@pytest.fixture
def own(folder, tmp_path):
    """To be written into."""
    return shutil.copytree(folder, tmp_path / "own")


def _open(folder, **options):
    return Algonauts2021Reader(folder, Algonauts2021Reader.Options(image_size=32, **options))


def _content(path):
    return pickle.loads(path.read_bytes())


def test_responses_are_those_of_the_files(folder):
    data = _open(folder).subject("sub01")
    assert list(data.rois) == list(ROIS)
    assert data.space.kind == "none"
    found = data.read_responses(0, 30)
    for roi in ("V1", "PPA"):
        values = _content(folder / MINI / f"{roi}.pkl")["train"]
        for repeat in range(3):
            rows = (data.samples["repeat"] == repeat + 1).to_numpy()
            assert data.samples["stimulus"][rows].tolist() == [f"video{number:04d}" for number in range(1, 11)]
            np.testing.assert_array_equal(found[rows][:, data.rois[roi]], values[:, repeat].astype(np.float32))
    mean = _open(folder, samples="average", test=0.3).subject("sub01")
    np.testing.assert_allclose(mean.read_responses(0, 10), found.reshape(3, 10, -1).mean(axis=0), atol=1e-6)
    assert mean.samples["trials"].tolist() == [3] * 10
    assert mean.samples["split"].tolist() == ["train"] * 7 + ["test"] * 3


def test_the_whole_brain_has_places(folder):
    data = _open(folder, track="full").subject("sub01")
    content = _content(folder / FULL / "WB.pkl")
    assert data.space.shape == list(SHAPE)
    i, j, k = data.voxels[["i", "j", "k"]].to_numpy().T
    assert content["voxel_mask"][i, j, k].all()
    volume = np.zeros(SHAPE)
    volume[content["voxel_mask"]] = content["train"][4, 1]
    np.testing.assert_allclose(data.read_responses(14, 15)[0], volume[i, j, k], rtol=1e-6)


def test_without_its_grid_the_whole_brain_has_no_places(own):
    (own / "example.nii").unlink()
    assert _open(own, track="full").subject("sub01").space.kind == "none"
    nibabel.Nifti1Image(np.zeros((3, 3, 3), dtype=np.float32), np.eye(4)).to_filename(own / "example.nii")
    with pytest.raises(InputError, match=r"another grid[\s\S]*\(3, 3, 3\)"):
        _open(own, track="full")


def test_frames(folder):
    reader = _open(folder)
    assert [frame_number(frame) for frame in reader.read_frames(3, 4)[0]] == list(range(8))
    assert reader.frames_per_second() == 30
    wide = _open(folder, frame_step=3)
    assert [frame_number(frame) for frame in wide.read_frames(0, 1)[0]] == list(range(0, 24, 3))
    assert len(reader.stimuli()) == 10  # the video without responses is left out


def test_bad_voxels_are_dropped_or_kept(own):
    content = _content(own / MINI / "V2.pkl")
    content["train"][:, 1, 0] = 2.0
    content["train"][3, 0, 1] = np.nan
    (own / MINI / "V2.pkl").write_bytes(pickle.dumps(content))
    dropped, kept = (_open(own, bad_voxels=what).subject("sub01") for what in ("drop", "keep"))
    number = VOXELS * len(ROIS)
    assert dropped.report["voxels dropped"] == f"1 not finite, 1 constant, of {number} voxels"
    assert (len(dropped.voxels), len(kept.voxels)) == (number - 2, number)
    assert np.isfinite(kept.read_responses(0, 30)).all()


class Harmful:
    def __reduce__(self):
        return (print, ("this code must not run",))


def _write(name, content):
    return lambda own: (own / name).write_bytes(pickle.dumps(content))


FAULTS = {
    "code": (_write(f"{MINI}/V3.pkl", {"train": Harmful()}), "V3.pkl cannot be read", "could run code"),
    "no train": (_write(f"{MINI}/V3.pkl", {"test": np.ones((2, 3, 4))}), "does not hold responses", "video, repeat"),
    "other videos": (_write(f"{MINI}/V3.pkl", {"train": np.ones((9, 3, 4))}), "files of sub01 do not match", "V3"),
    "no mask": (_write(f"{FULL}/WB.pkl", {"train": np.ones((10, 3, 4))}), "where its voxels are", "no voxel_mask"),
    "a cut file": (lambda own: (own / MINI / "V1.pkl").write_bytes(b"\x80\x04\x95"), "V1.pkl cannot be read", "pickle"),
    "a video too few": (
        lambda own: [path.unlink() for path in sorted(own.glob("Algonauts*/*"))[-2:]], "1 videos are missing", "0001_",
    ),
    "no responses": (lambda own: shutil.rmtree(own / "participants_data_v2021"), "does not contain", "WB.pkl"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_one_error(own, fault, capsys):
    change, said, expected = FAULTS[fault]
    change(own)
    with pytest.raises(InputError, match=said) as caught:
        _open(own, track="full" if fault == "no mask" else "mini").subject("sub01")
    assert caught.match(expected)
    assert "must not run" not in capsys.readouterr().out


def test_what_is_not_there(own):
    with pytest.raises(UnknownNameError, match="sub07"):
        _open(own, subjects=["sub07"])
    with pytest.raises(UnknownNameError, match="sub07"):
        _open(own).subject("sub07")
    (own / MINI / "STS.pkl").unlink()
    assert _open(own).subject("sub01").report["ROIs missing"] == "1: STS"
    shutil.rmtree(own / "participants_data_v2021" / "full_track")
    with pytest.raises(MissingFileError, match="change track"):
        _open(own, track="full")
