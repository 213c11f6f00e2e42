"""Yamada 2015 from MATLAB files: what is read equals what was written, and what cannot be read is said."""

import h5py
import numpy as np
import pytest
from scipy.io import savemat
from scipy.signal import detrend
from scipy.stats import zscore

from neurorecon.datasets.runs import REST, find_blocks
from neurorecon.datasets.yamada2015 import Yamada2015Reader, place_voxels, shape_name
from neurorecon.errors import InputError, MissingFileError, UnknownNameError
from neurorecon.testing.layouts.yamada2015 import write_yamada2015

FIGURES = "S2_figureImage.mat"
KEPT = "S2_outlierVoxInd.mat"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Not to be written into."""
    return write_yamada2015(tmp_path_factory.mktemp("yamada2015"))


@pytest.fixture
def own(tmp_path):
    """To be written into."""
    return write_yamada2015(tmp_path)


@pytest.fixture(scope="session")
def real(shared_data):
    folder = shared_data / "yamada2015_S2"
    if not (folder / FIGURES).is_file():
        pytest.skip(f"the excerpt of Yamada 2015 is not beside the checkout: no file in {folder}")
    return folder


def _open(folder, **options):
    return Yamada2015Reader(folder, Yamada2015Reader.Options(**options))


def _by_hand(folder, lag, prepare=lambda run: run):
    """Block means by loops over the labels alone."""
    with h5py.File(folder / FIGURES) as file:
        data, labels = file["D/data"][()].T, file["D/labels"][()].ravel()
        edges = file["D/inds_runs"][()].astype(int)
    rows, shown = [], []
    for first, last in edges:
        run, what = prepare(data[first - 1 : last]), labels[first - 1 : last]
        volume = 0
        while volume < len(what):
            stop = volume
            while stop < len(what) and what[stop] == what[volume]:
                stop += 1
            if what[volume] > 2000:
                rows.append(run[volume + lag : stop + lag].mean(axis=0))
                shown.append(int(what[volume]) - 2001)
            volume = stop
    return np.array(rows), shown


def test_block_means_are_those_of_the_raw_volumes(folder):
    reader = _open(folder, detrend=False, standardize=False, outliers="keep", lag=3)
    data = reader.subject("S2")
    rows, shown = _by_hand(folder, lag=3)
    names = ["square", "small_frame", "large_frame", "plus", "cross"]
    assert reader.stimuli()["id"].tolist() == names
    assert data.samples["stimulus"].tolist() == [names[code] for code in shown]
    np.testing.assert_allclose(data.read_responses(0, 30), rows, rtol=1e-6)
    np.testing.assert_array_equal(data.read_responses(7, 23), data.read_responses(0, 30)[7:23])


def test_detrending_and_standardizing_are_those_of_scipy(folder):
    rows, _ = _by_hand(folder, 2, lambda run: zscore(detrend(run, axis=0, type="linear"), axis=0))
    data = _open(folder, outliers="keep").subject("S2")
    np.testing.assert_allclose(data.read_responses(0, 30), rows, atol=1e-5)


def test_samples(folder):
    data = _open(folder).subject("S2")
    table = data.samples
    assert len(table) == 30
    assert table["run"].tolist() == [1] * 10 + [2] * 10 + [3] * 10
    assert table["time"].tolist()[:3] == [20.0, 44.0, 68.0]
    assert set(table["split"]) == {"train"}
    assert table.groupby("stimulus")["repeat"].max().tolist() == [6] * 5
    volumes = _open(folder, samples="volume").subject("S2").samples
    assert len(volumes) == 180
    assert volumes["time"].tolist()[:2] == [20.0, 22.0]


def test_what_is_shown_last_has_no_response():
    runs = [np.array([REST, 0, 0, REST, 1, 1])]
    assert [(block.code, block.volumes) for block in find_blocks(runs, 1, "block")] == [
        (0, slice(2, 4)),
        (1, slice(5, 6)),
    ]
    assert [block.code for block in find_blocks(runs, 2, "block")] == [0]
    assert [block.onset for block in find_blocks(runs, 0, "volume")] == [1, 2, 4, 5]


def test_voxels_rois_and_what_is_left_out(folder):
    kept, every = _open(folder).subject("S2"), _open(folder, outliers="keep").subject("S2")
    assert len(kept.voxels) == 39
    assert len(every.voxels) == 40
    assert kept.report["voxels left out by the authors"] == "1 of 40"
    assert {name: int(mask.sum()) for name, mask in every.rois.items()} == {
        "V1d": 20, "lh.V1d": 10, "V1": 40, "lh.V1": 20, "V1v": 20, "lh.V1v": 10, "rh.V1d": 10, "rh.V1": 20,
        "rh.V1v": 10,
    }  # fmt: skip
    assert every.space.kind == "volume"
    assert np.diag(every.space.affine)[:3].tolist() == [3.0, 3.0, 3.0]
    assert every.space.shape == [4, 4, 3]


def test_positions_come_back_in_millimeters(folder):
    data = _open(folder, outliers="keep").subject("S2")
    with h5py.File(folder / FIGURES) as file:
        wanted = file["D/xyz"][()]
    affine = np.array(data.space.affine)
    found = data.voxels[["i", "j", "k"]].to_numpy() @ affine[:3, :3].T + affine[:3, 3]
    np.testing.assert_allclose(found, wanted)


@pytest.mark.parametrize("change", [[0.4, 0, 0], [0, 0, -1.7]])
def test_positions_off_the_grid_make_no_volume(change):
    grid = np.stack(np.meshgrid([0.0, 3, 6], [0.0, 3], [0.0, 3], indexing="ij"), axis=-1).reshape(-1, 3)
    assert place_voxels(grid)[0].kind == "volume"
    grid[5] += change
    space, table, report = place_voxels(grid)
    # One step of a different length could be a finer grid, on which all others lie only if it divides theirs.
    assert space.kind == "none"
    assert list(table.columns) == []
    assert len(table) == len(grid)
    assert "no regular grid" in report["space"]


def test_a_voxel_that_is_constant_in_a_run_is_dropped_or_kept(own):
    with h5py.File(own / FIGURES, "r+") as file:
        file["D/data"][3, 130:260] = 512
        file["D/data"][4, 7] = np.nan
    dropped, kept = _open(own).subject("S2"), _open(own, bad_voxels="keep").subject("S2")
    assert len(dropped.voxels) == 37
    assert dropped.report["voxels dropped"] == "1 not finite, 1 constant, of 39 voxels"
    assert len(kept.voxels) == 39
    assert "kept, as zeros where not finite" in " ".join(kept.report)
    assert np.isfinite(kept.read_responses(0, 30)).all()
    assert not kept.read_responses(10, 20)[:, 3].any()


def test_shape_names():
    assert [shape_name(name) for name in ("square8x8", "smallFrame8x8", "cross", "8x8")] == [
        "square", "small_frame", "cross", "8x8",
    ]  # fmt: skip


def _delete(name):
    def change(folder):
        with h5py.File(folder / FIGURES, "r+") as file:
            del file[name]

    return change


def _replace(name, make):
    def change(folder):
        with h5py.File(folder / FIGURES, "r+") as file:
            values = make(file[name][()])
            del file[name]
            file[name] = values

    return change


def _cut(folder):
    path = folder / FIGURES
    path.write_bytes(path.read_bytes()[:20_000])


def _write_kept(**content):
    return lambda folder: savemat(folder / KEPT, content)


def _set(values, place, value):
    values = values.copy()
    values[place] = value
    return values


FAULTS = {
    "cut": (_cut, InputError, "cannot be read", "damaged or incomplete"),
    "text": (lambda folder: (folder / FIGURES).write_text("x"), InputError, "cannot be read", "1 bytes"),
    "no data": (_delete("D/data"), InputError, "without D/data", "D with data"),
    "no D": (_delete("D"), InputError, "without D/data, D/labels", "NeuralCodeConverter|download yamada2015"),
    "axes swapped": (_replace("D/data", np.transpose), InputError, "axes are swapped", r"\(40, 390\)"),
    "text in place of data": (
        _replace("D/data", lambda v: np.full(v.shape, b"a")), InputError, "cannot be used", "numbers of shape",
    ),
    "one label missing": (_replace("D/labels", lambda v: v[:, :-1]), InputError, "389 labels", "voxel, volume"),
    "labels do not fit conditions": (
        _replace("D/labels", lambda values: np.roll(values, 1)), InputError, "D/inds_conds", "agreement",
    ),
    "a gap between runs": (
        _replace("D/inds_runs", lambda values: _set(values, (1, 0), 140)), InputError, "inds_runs", "without gaps",
    ),
    "positions that are not finite": (
        _replace("D/xyz", lambda values: _set(values, (0, 0), np.nan)), InputError, "D/xyz", "finite numbers",
    ),
    "no list of voxels": (lambda folder: (folder / KEPT).unlink(), MissingFileError, "is missing", "outliers = 'keep'"),
    "a list that is no file": (lambda folder: (folder / KEPT).write_text("x"), InputError, "cannot be read", "1 bytes"),
    "another list": (_write_kept(other=[1, 2]), InputError, "without afterOutlierVoxInd", "from 1"),
    "voxels beyond the end": (_write_kept(afterOutlierVoxInd=[1, 900]), InputError, "1 to 900", "1 to 40"),
    "no voxel kept": (_write_kept(afterOutlierVoxInd=np.zeros((1, 0))), InputError, "no usable", "vary in every run"),
    "another folder": (lambda folder: (folder / FIGURES).unlink(), MissingFileError, "does not contain", FIGURES),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_one_error_that_names_the_file(own, fault):
    change, kind, said, expected = FAULTS[fault]
    change(own)
    with pytest.raises(kind, match=said) as caught:
        Yamada2015Reader(own)
    assert str(own) in str(caught.value)
    assert caught.match(expected)


def test_unknown_subject_and_option(folder):
    with pytest.raises(UnknownNameError, match="'S3'"):
        Yamada2015Reader(folder).subject("S3")
    with pytest.raises(ValueError, match="lag"):
        Yamada2015Reader.Options(lag=-1)


def test_real_data(real):
    data = Yamada2015Reader(real).subject("S2")
    assert (len(data.samples), len(data.voxels), data.space.shape) == (40, 899, [15, 15, 15])
    assert data.samples.groupby(["run", "stimulus"]).size().tolist() == [2] * 20
    left = data.voxels["i"].to_numpy() * 3.0 - 22.5 <= 1.5
    assert left[data.rois["lh.V1"]].all()
    assert data.rois["V1"].all()
