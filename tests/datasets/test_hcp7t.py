"""HCP's videos at 7 T: clips and their volumes, the repeated film, kinds of files, and faults."""

import shutil

import nibabel
import numpy as np
import pytest

from neurorecon.datasets.hcp7t import FILMS, Hcp7tReader, read_films
from neurorecon.datasets.videos import PARCEL_GROUPS
from neurorecon.errors import InputError, MissingFileError, UnknownNameError
from neurorecon.testing.layouts.cc2017 import VERTICES, cortex_models, frame_number, write_series
from neurorecon.testing.layouts.hcp7t import write_hcp7t

RUN = "100610/MNINonLinear/Results/tfMRI_MOVIE{0}/tfMRI_MOVIE{0}_Atlas_MSMAll_hp2000_clean.dtseries.nii"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Not to be written into."""
    return write_hcp7t(tmp_path_factory.mktemp("hcp7t"))


@pytest.fixture
def own(folder, tmp_path):
    """One subject and two movies, to be written into."""
    left_out = shutil.ignore_patterns("102311", "*MOVIE3*", "*MOVIE4*")
    copied = shutil.copytree(folder, tmp_path / "own", ignore=left_out)
    films = [line for line in (folder / "clips.csv").read_text().splitlines() if line[0] in "m12"]
    (copied / "clips.csv").write_text("\n".join(films))
    return copied


def _open(folder, **options):
    return Hcp7tReader(folder, Hcp7tReader.Options(image_size=32, **options))


def _prepared(folder, name, order=4):
    """A run by numpy: a polynomial is removed voxel by voxel, then a z-score over the run."""
    run = nibabel.load(folder / RUN.format(name)).get_fdata()
    t = np.linspace(0, 1, len(run))
    run = np.stack([voxel - np.polyval(np.polyfit(t, voxel, order), t) for voxel in run.T], axis=1)
    return (run - run.mean(axis=0)) / run.std(axis=0)


def test_published_times_are_3040_clips(tmp_path):
    films = read_films(tmp_path)
    lengths = (films["stop"] - films["start"]).groupby(films["movie"]).sum()
    assert lengths.tolist() == [728, 792, 745, 775]
    test = films[films["split"] == "test"]
    assert (test["stop"] - test["start"]).tolist() == [76] * 4
    assert test["start"].tolist() == [films[-1][0] for films in FILMS.values()]


@pytest.mark.parametrize("delay", [0, 3, 4])
def test_a_response_follows_its_clip(folder, delay):
    data = _open(folder, hrf_delay=delay, voxels="all").subject("100610")
    samples = data.samples
    found = data.read_responses(0, len(samples))
    for movie, name in ((1, "1_7T_AP"), (3, "3_7T_PA")):
        run = _prepared(folder, name)
        train = ((samples["run"] == movie) & (samples["split"] == "train")).to_numpy()
        assert samples["stimulus"][train].tolist() == [f"movie{movie}_{second:04d}" for second in range(4, 12)]
        assert samples["time"][train].tolist() == list(range(4, 12))
        np.testing.assert_allclose(found[train], run[4 + delay : 12 + delay], atol=2e-4)
        test = ((samples["run"] == movie) & (samples["split"] == "test")).to_numpy()
        np.testing.assert_allclose(found[test], run[14 + delay : 20 + delay], atol=2e-4)


def test_the_last_film_is_the_test_set_in_all_runs(folder):
    reader = _open(folder)
    table = reader.stimuli()
    assert table["id"].tolist()[-6:] == [f"test_{place:03d}" for place in range(1, 7)]
    assert len(table) == 4 * 8 + 6
    samples = reader.subject("102311").samples
    test = samples[samples["split"] == "test"]
    assert set(test.groupby("stimulus")["run"].agg(tuple)) == {(1, 2, 3, 4)}
    assert set(test.groupby("stimulus")["session"].agg(tuple)) == {(1, 1, 2, 2)}
    assert set(test.groupby("stimulus")["repeat"].agg(tuple)) == {(1, 2, 3, 4)}
    mean = _open(folder, samples="average").subject("102311")
    assert mean.samples["stimulus"].is_unique
    assert set(zip(mean.samples["split"], mean.samples["trials"], strict=True)) == {("train", 1), ("test", 4)}
    single = reader.subject("102311").read_responses(0, len(samples))
    own = (samples["stimulus"] == "test_003").to_numpy()
    place = mean.samples.index[mean.samples["stimulus"] == "test_003"][0]
    np.testing.assert_allclose(mean.read_responses(place, place + 1)[0], single[own].mean(axis=0), atol=1e-6)


def test_frames_are_every_third(folder):
    reader = _open(folder)
    place = reader.stimuli()["id"].tolist().index("movie2_0007")
    frames = reader.read_frames(place, place + 1)[0]
    assert [frame_number(frame) for frame in frames] == [7 * 24 + 3 * number for number in range(8)]
    assert reader.frames_per_second() == 8


def test_parcels_and_groups(folder):
    data = _open(folder).subject("100610")
    assert {"V1", "MT", "MST", "cortex"} <= set(data.rois)
    assert data.rois["MT"].sum() == sum(len(side["MT"]) for side in VERTICES.values())
    assert PARCEL_GROUPS["MT+"] == ["MT", "MST", "V4t", "FST"]
    with pytest.raises(InputError, match="reliable voxels of 100610 are unknown"):
        _open(folder, voxels="reliable").subject("100610")


def test_kinds_of_files(folder, tmp_path):
    shutil.copytree(folder / "stimuli", tmp_path / "stimuli")
    (tmp_path / "clips.csv").write_text("movie,start,stop,split\n1,4,12,train\n1,14,20,test\n")
    run = tmp_path / RUN.format("1_7T_AP").replace("_Atlas_MSMAll_hp2000_clean", "_Atlas_1.6mm_MSMAll")
    rng = np.random.default_rng(0)
    write_series(run, rng.standard_normal((26, 52)).astype(np.float32), cortex_models(59292), 1.0)
    with pytest.raises(InputError, match=r"another mesh[\s\S]*59,292 vertices[\s\S]*parcels"):
        _open(tmp_path).subject("100610")
    data = _open(tmp_path, parcels="none", files="1.6mm").subject("100610")
    assert set(data.rois) == {"cortex"}
    assert data.report["runs missing"] == "3: MOVIE2, MOVIE3, MOVIE4"
    with pytest.raises(MissingFileError, match=r"tfMRI_MOVIE1_7T_AP_Atlas\.dtseries\.nii"):
        _open(tmp_path, files="2mm")
    shutil.copy(folder / RUN.format("1_7T_AP"), run.with_name("tfMRI_MOVIE1_7T_AP_Atlas.dtseries.nii"))
    assert "V1" in _open(tmp_path).subject("100610").rois  # 2 mm comes first


def _shorter(own):
    path = own / RUN.format("1_7T_AP")
    image = nibabel.load(path)
    values, time = np.array(image.get_fdata(dtype=np.float32))[:15], nibabel.cifti2.SeriesAxis(0, 1.0, 15)
    nibabel.Cifti2Image(values, (time, image.header.get_axis(1))).to_filename(path)


def _films(text):
    return lambda own: (own / "clips.csv").write_text(f"movie,start,stop,split\n{text}\n")


FAULTS = {
    "no responses": (lambda own: [path.unlink() for path in own.glob("100610/**/*.nii")], "does not contain", "MOVIE1"),
    "no video": (lambda own: (own / "stimuli/7T_MOVIE2_HO1_v2.mp4").unlink(), "movie 2 is missing", "7T_MOVIE2_HO1_v2"),
    "a short run": (_shorter, "shorter than its video", "20 volumes or more"),
    "a short video": (_films("1,4,99,train\n2,4,9,train"), "shorter than its films", "99 s or more"),
    "a wrong film": (_films("7,4,9,train"), "films that cannot be", "movies 1 to 4"),
    "unequal test films": (_films("1,4,9,test\n2,4,8,test"), "films that cannot be", "the same test film"),
    "a cut file": (lambda own: (own / RUN.format("2_7T_PA")).write_bytes(b"x" * 700), "cannot be read", "MOVIE2"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_one_error_that_names_the_file(own, fault):
    change, said, expected = FAULTS[fault]
    change(own)
    with pytest.raises(InputError, match=said) as caught:
        _open(own).subject("100610")
    assert caught.match(expected)
    assert str(own) in str(caught.value)


def test_options_that_make_no_sense(own):
    with pytest.raises(UnknownNameError, match="999999"):
        _open(own, subjects=["999999"])
    with pytest.raises(UnknownNameError, match="999999"):
        _open(own).subject("999999")
    with pytest.raises(InputError, match="a multiple of the repetition time, 1 s"):
        _open(own, hrf_delay=3.5)
