"""CC2017 from the files of the release: what is read equals what was written, and faults are one error."""

import gzip

import nibabel
import numpy as np
import pytest
from scipy import stats

from neurorecon.datasets.cc2017 import Cc2017Reader
from neurorecon.errors import InputError, MissingFileError, UnknownNameError
from neurorecon.testing.layouts.cc2017 import VERTICES, frame_number, write_cc2017

FMRI = "Subject01/video_fmri_dataset/subject1/fmri"
STIMULI = "Stimuli/video_fmri_dataset/stimuli"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Not to be written into."""
    return write_cc2017(tmp_path_factory.mktemp("cc2017"), files=("cifti", "mni"), tests=2, repeats=3)


@pytest.fixture
def own(tmp_path):
    """To be written into."""
    return write_cc2017(tmp_path, segments=2, tests=1, repeats=2, clips=6)


def _open(folder, **options):
    return Cc2017Reader(folder, Cc2017Reader.Options(image_size=32, **options))


def _series(folder, name):
    path = folder / FMRI / name.split("_")[0] / "cifti" / f"{name}_Atlas.dtseries.nii"
    return nibabel.load(path).get_fdata()


def _by_hand(run, first, order=4, clips=10):
    """As the preparation script of Mind-Animator: volumes by number, a polynomial voxel by voxel, a z-score."""
    values = run[[first + place for place in range(clips)]]
    t = np.linspace(0, 1, clips)
    values = np.stack([voxel - np.polyval(np.polyfit(t, voxel, order), t) for voxel in values.T], axis=1)
    return (values - values.mean(axis=0)) / values.std(axis=0)


def test_responses_are_those_of_the_authors_preparation(folder):
    data = _open(folder, voxels="all").subject("subject1")
    samples = data.samples
    found = data.read_responses(0, len(samples))
    for name, first in (("seg1_1", 1), ("seg3_2", 1), ("test1_3", 1), ("test2_1", 2)):
        video, repeat = name.split("_")
        rows = samples["stimulus"].str.startswith(f"{video[:-1]}0{video[-1]}_") & (samples["session"] == int(repeat))
        np.testing.assert_allclose(found[rows], _by_hand(_series(folder, name), first), atol=2e-4)
    np.testing.assert_array_equal(data.read_responses(7, 33), found[7:33])


def test_averages_are_means_over_presentations(folder):
    single, mean = _open(folder).subject("subject1"), _open(folder, samples="average").subject("subject1")
    assert mean.samples["stimulus"].is_unique
    assert set(zip(mean.samples["split"], mean.samples["trials"], strict=True)) == {("train", 2), ("test", 3)}
    rows = single.read_responses(0, 120)
    for place in (0, 29, 49):
        own = (single.samples["stimulus"] == mean.samples["stimulus"][place]).to_numpy()
        np.testing.assert_allclose(mean.read_responses(place, place + 1)[0], rows[own].mean(axis=0), atol=1e-6)


@pytest.mark.parametrize(("delay", "first", "clips"), [(-2, 0, 10), (2, 2, 10), (8, 5, 10), (12, 7, 8)])
def test_the_delay_moves_the_volumes(folder, delay, first, clips):
    data = _open(folder, hrf_delay=delay, voxels="all").subject("subject1")
    own = ((data.samples["session"] == 1) & (data.samples["run"] == 1)).to_numpy()
    assert data.samples["stimulus"][own].tolist() == [f"seg01_{place:03d}" for place in range(1, clips + 1)]
    wanted = _by_hand(_series(folder, "seg1_1"), first, clips=clips)
    np.testing.assert_allclose(data.read_responses(0, len(own))[own], wanted, atol=2e-4)


def test_clips_show_every_eighth_frame(folder):
    reader = _open(folder)
    table = reader.stimuli()
    assert table["id"].tolist()[:2] + table["id"].tolist()[-1:] == ["seg01_001", "seg01_002", "test02_010"]
    place = table["id"].tolist().index("seg02_004")
    frames = reader.read_frames(place, place + 1)[0]
    assert [frame_number(frame) for frame in frames] == [3 * 60 + 8 * number for number in range(8)]
    assert reader.frames_per_second() == 3.75


def test_parcels_are_rois_of_both_hemispheres(folder):
    data = _open(folder).subject("subject1")
    assert data.space.kind == "grayordinates"
    for name in ("V1", "MT", "MST", "4"):
        own = data.voxels[data.rois[name]]
        for side in ("LEFT", "RIGHT"):
            vertices = own["vertex"][own["structure"] == f"CIFTI_STRUCTURE_CORTEX_{side}"]
            assert tuple(vertices) == VERTICES[side][name]
    assert data.rois["cortex"].all()
    assert "V1" not in _open(folder, parcels="none").subject("subject1").rois


def test_reliable_voxels_are_those_of_a_loop_over_segments(folder):
    data = _open(folder, reliable=20).subject("subject1")
    z = np.zeros((3, 48))
    for number in range(3):
        one, other = (_by_hand(_series(folder, f"seg{number + 1}_{repeat}"), 1) for repeat in (1, 2))
        z[number] = [np.arctanh(np.corrcoef(one[:, voxel], other[:, voxel])[0, 1]) for voxel in range(48)]
    best = np.argsort(stats.ttest_1samp(z, 0, alternative="greater").pvalue)[:20]
    assert set(np.flatnonzero(data.rois["reliable"])) == set(best)
    alone = _open(folder, reliable=20, voxels="reliable").subject("subject1")
    assert alone.voxels["vertex"].tolist() == data.voxels["vertex"][data.rois["reliable"]].tolist()
    np.testing.assert_allclose(
        alone.read_responses(0, 9), data.read_responses(0, 9)[:, data.rois["reliable"]], atol=1e-6
    )


def test_volumes_have_two_kinds_of_names(folder):
    names = sorted(path.name for path in (folder / FMRI / "seg1" / "mni").iterdir())
    assert names == ["seg1_1.mni.nii.gz", "seg1_2_mni.nii.gz"]
    data = _open(folder, files="mni").subject("subject1")
    assert data.space.kind == "volume"
    assert len(data.samples) == 120
    wanted = _open(folder, voxels="all").subject("subject1").read_responses(0, 120)
    np.testing.assert_allclose(data.read_responses(0, 120), wanted, atol=1e-5)


def test_a_presentation_that_does_not_exist_leaves_no_gap(own):
    (own / FMRI / "test1" / "cifti" / "test1_1_Atlas.dtseries.nii").unlink()
    data = _open(own).subject("subject1")
    test = data.samples[data.samples["split"] == "test"]
    assert set(test["repeat"]) == {1}
    assert set(test["session"]) == {2}
    assert "test1_1" in data.report["runs missing"] or "seg3_1" in data.report["runs missing"]


def test_bad_voxels_are_dropped_or_kept(own):
    path = own / FMRI / "seg1" / "cifti" / "seg1_1_Atlas.dtseries.nii"
    image = nibabel.load(path)
    values = np.array(image.get_fdata(dtype=np.float32))  # not the file itself, which is overwritten
    values[:, 3] = 7.0
    values[2, 5] = np.nan
    nibabel.Cifti2Image(values, image.header).to_filename(path)
    dropped = _open(own).subject("subject1")
    kept = _open(own, bad_voxels="keep").subject("subject1")
    assert dropped.report["voxels dropped"] == "1 not finite, 1 constant, of 48 voxels"
    assert (len(dropped.voxels), len(kept.voxels)) == (46, 48)
    responses = kept.read_responses(0, len(kept.samples))
    assert np.isfinite(responses).all()
    assert not responses[:6, 3].any()


def _longer(own):
    path = own / FMRI / "seg1" / "cifti" / "seg1_1_Atlas.dtseries.nii"
    image = nibabel.load(path)
    time = nibabel.cifti2.SeriesAxis(0, 2.0, 14)
    values = np.resize(image.get_fdata(), (14, image.shape[1]))
    nibabel.Cifti2Image(values.astype(np.float32), (time, image.header.get_axis(1))).to_filename(path)


def _other_mesh(own):
    from neurorecon.testing.layouts.cc2017 import cortex_models, write_series

    path = own / FMRI / "seg2" / "cifti" / "seg2_1_Atlas.dtseries.nii"
    write_series(path, np.ones((11, 52), np.float32), cortex_models(59292), 2.0)


FAULTS = {
    "no responses": (
        lambda own: [path.unlink() for path in own.glob("Subject01/**/*.nii")], "does not contain", "seg1_1",
    ),
    "no video": (lambda own: (own / STIMULI / "seg2.mp4").unlink(), "the video seg2 is missing", "purr.purdue.edu"),
    "no video file": (lambda own: (own / STIMULI / "seg2.mp4").write_text("x"), "seg2.mp4 cannot be read", "complete"),
    "too many volumes": (_longer, "as many volumes as its video", "11 or 12 volumes"),
    "a cut file": (
        lambda own: (own / FMRI / "seg1/cifti/seg1_1_Atlas.dtseries.nii").write_bytes(b"x" * 700),
        "cannot be read", "seg1_1",
    ),
    "another mesh": (_other_mesh, "seg2_1_Atlas.dtseries.nii has other grayordinates", "the 52 grayordinates of"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_one_error_that_names_the_file(own, fault):
    change, said, expected = FAULTS[fault]
    change(own)
    with pytest.raises(InputError, match=said) as caught:
        _open(own).subject("subject1")
    assert caught.match(expected)
    assert str(own) in str(caught.value)


def test_a_truncated_volume(tmp_path):
    write_cc2017(tmp_path, segments=1, tests=1, repeats=1, clips=6, files=("mni",))
    path = next((tmp_path / FMRI / "seg1" / "mni").iterdir())
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes())[:3000]))
    with pytest.raises(InputError, match=rf"{path.name} cannot be read"):
        _open(tmp_path, files="mni").subject("subject1")


def test_options_that_make_no_sense(own):
    with pytest.raises(UnknownNameError, match="subject4"):
        _open(own, subjects=["subject4"])
    with pytest.raises(UnknownNameError, match="subject2"):
        _open(own).subject("subject2")
    with pytest.raises(MissingFileError, match="/mni/"):
        _open(own, files="mni")
    with pytest.raises(InputError, match="a multiple of the repetition time"):
        _open(own, hrf_delay=3.0)
    with pytest.raises(InputError, match="reliable voxels of subject1 are unknown"):
        _open(own, reliable=0, voxels="reliable").subject("subject1")
    with pytest.raises(MissingFileError, match=r"no\.dlabel\.nii is missing"):
        _open(own, parcels="no.dlabel.nii").subject("subject1")
