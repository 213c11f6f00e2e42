"""Haxby 2001 in both layouts: what is read equals what nilearn reads, and what cannot be read is said."""

import gzip

import nibabel
import numpy as np
import pytest
from nilearn.maskers import NiftiMasker

from neurorecon.datasets.haxby2001 import Haxby2001Reader
from neurorecon.errors import InputError, MissingFileError, UnknownNameError
from neurorecon.testing.layouts.haxby2001 import write_haxby2001


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Nilearn's layout; not to be written into."""
    return write_haxby2001(tmp_path_factory.mktemp("haxby2001"))


@pytest.fixture(scope="module")
def excerpt(tmp_path_factory):
    """The layout of the excerpt; not to be written into."""
    return write_haxby2001(tmp_path_factory.mktemp("haxby2001_excerpt"), layout="excerpt")


@pytest.fixture
def own(tmp_path):
    """To be written into."""
    return write_haxby2001(tmp_path, subjects=1, runs=2)


@pytest.fixture(scope="session")
def real(shared_data):
    folder = shared_data / "haxby2001"
    if not (folder / "bold.nii.gz").is_file():
        pytest.skip(f"the excerpt of Haxby 2001 is not beside the checkout: no file in {folder}")
    return folder


def _open(folder, **options):
    return Haxby2001Reader(folder, Haxby2001Reader.Options(**options))


def _by_nilearn(bold, mask, labels, runs, lag):
    """Block means of what nilearn's masker makes of the volumes."""
    masker = NiftiMasker(mask_img=str(mask), standardize=None)
    volumes = masker.fit_transform(str(bold))
    from nilearn.signal import clean

    rows, names = [], []
    for run in np.unique(runs):
        inside = runs == run
        cleaned = clean(volumes[inside], detrend=True, standardize="zscore_sample", ensure_finite=False)
        cleaned *= np.sqrt(inside.sum() / (inside.sum() - 1))  # standard deviations over n, not n - 1
        what, start = labels[inside], 0
        for stop in [*(np.flatnonzero(what[1:] != what[:-1]) + 1), len(what)]:
            if what[start] != "rest":
                rows.append(cleaned[start + lag : stop + lag].mean(axis=0))
                names.append(str(what[start]))
            start = stop
    voxels = masker.inverse_transform(np.arange(volumes.shape[1], dtype=float) + 1).get_fdata()
    return np.array(rows), names, voxels


@pytest.mark.parametrize("layout", ["nilearn", "excerpt"])
def test_block_means_are_those_of_nilearn(folder, excerpt, layout):
    if layout == "nilearn":
        bold, mask = folder / "subj2" / "bold.nii.gz", folder / "subj2" / "mask4_vt.nii.gz"
        table = np.loadtxt(folder / "subj2" / "labels.txt", dtype=str, skiprows=1)
        data = _open(folder).subject("subj2")
    else:
        bold, mask = excerpt / "bold.nii.gz", excerpt / "mask.nii.gz"
        table = np.loadtxt(excerpt / "attributes_literal.txt", dtype=str)
        data = _open(excerpt).subject("subj1")
    rows, names, voxels = _by_nilearn(bold, mask, table[:, 0], table[:, 1].astype(int), lag=2)
    assert data.samples["stimulus"].tolist() == names
    order = voxels[data.voxels["i"], data.voxels["j"], data.voxels["k"]].astype(int) - 1
    np.testing.assert_allclose(data.read_responses(0, len(rows)), rows[:, order], atol=1e-4)


def test_samples_and_rois(folder):
    reader = _open(folder, subjects=["subj2"])
    assert reader.subjects == ["subj2"]
    data = reader.subject("subj2")
    assert len(data.samples) == 32
    assert data.samples["run"].unique().tolist() == [1, 2, 3, 4]
    assert data.samples["time"].tolist()[:2] == [15.0, 50.0]
    assert data.samples["repeat"].max() == 4
    assert {name: int(mask.sum()) for name, mask in data.rois.items()} == {
        "vt": 32, "face_vt": 16, "house_vt": 24, "face_vt_small": 8, "house_vt_small": 8, "brain": 32,
    }  # fmt: skip
    bold = nibabel.load(folder / "subj2" / "bold.nii.gz")
    assert data.space.shape == list(bold.shape[:3])
    np.testing.assert_allclose(data.space.affine, bold.affine)


def test_the_brain_holds_what_is_bright_and_all_rois(folder):
    data = _open(folder, voxels="brain").subject("subj1")
    first = nibabel.load(folder / "subj1" / "bold.nii.gz").get_fdata()[..., 0]
    assert len(data.voxels) == (first > 0.2 * np.percentile(first, 98)).sum()
    assert data.rois["vt"].sum() == 32


def test_images_stand_for_categories(folder, excerpt):
    reader = _open(folder)
    assert reader.image_shape() == (80, 80, 3)
    images = reader.read_images(0, 8)
    assert len({image.tobytes() for image in images}) == 8
    assert reader.stimuli()["id"].tolist()[:2] == ["face", "house"]
    without = _open(excerpt)
    assert without.image_shape() is None
    with pytest.raises(NotImplementedError):
        without.read_images(0, 1)
    assert "no images are on file" in without.description.notes


def test_numbers_and_words_are_the_same_labels(excerpt, tmp_path):
    for name in ("bold.nii.gz", "mask.nii.gz", "attributes.txt"):
        (tmp_path / name).write_bytes((excerpt / name).read_bytes())
    assert _open(tmp_path).subject("subj1").samples.equals(_open(excerpt).subject("subj1").samples)


def test_a_run_without_labels_is_left_out(own):
    labels = own / "subj1" / "labels.txt"
    lines = labels.read_text().splitlines()
    labels.write_text("\n".join(["rest 1" if line.endswith(" 1") else line for line in lines]))
    data = _open(own).subject("subj1")
    assert data.samples["run"].unique().tolist() == [1]
    assert data.report["runs without labels, left out"] == "2"


def test_voxels_that_cannot_be_used(own):
    path = own / "subj1" / "bold.nii.gz"
    image = nibabel.load(path)
    values = np.asarray(image.dataobj).copy()
    values[2, 1, 1, :] = 7
    nibabel.Nifti1Image(values, image.affine).to_filename(path)
    assert _open(own).subject("subj1").report["voxels dropped"] == "0 not finite, 1 constant, of 32 voxels"
    kept = _open(own, bad_voxels="keep").subject("subj1")
    assert len(kept.voxels) == 32
    assert (np.abs(kept.read_responses(0, 16)).max(axis=0) == 0).sum() == 1


def _nifti(name, make):
    def change(folder):
        path = folder / "subj1" / name
        image = nibabel.load(path)
        values, affine = make(np.asarray(image.dataobj).copy(), image.affine.copy())
        nibabel.Nifti1Image(values, affine).to_filename(path)

    return change


def _text(make):
    def change(folder):
        path = folder / "subj1" / "labels.txt"
        path.write_text(make(path.read_text()))

    return change


def _cut(folder):
    path = folder / "subj1" / "bold.nii.gz"
    path.write_bytes(path.read_bytes()[:3000])


def _no_images_of_cats(folder):
    for path in (folder / "stimuli" / "cats").iterdir():
        path.unlink()


def _bad_image(folder):
    (folder / "stimuli" / "cats" / "cats1.jpg").write_bytes(b"no image")


FAULTS = {
    "gzip cut": (_cut, InputError, "bold.nii.gz cannot be read", "damaged or incomplete"),
    "no gzip": (
        lambda folder: (folder / "subj1" / "bold.nii.gz").write_bytes(gzip.compress(b"x" * 400)),
        InputError, "bold.nii.gz cannot be read", "a complete, undamaged file",
    ),
    "one volume": (_nifti("bold.nii.gz", lambda v, a: (v[..., 0], a)), InputError, "not a series", "x, y, z, volume"),
    "a volume missing": (
        _nifti("bold.nii.gz", lambda v, a: (v[..., 1:], a)), InputError, "236 rows for 235", "one row",
    ),
    "mask of another shape": (
        _nifti("mask4_vt.nii.gz", lambda v, a: (v[1:], a)), InputError, "a different grid", "shape",
    ),
    "mask with swapped axes": (
        _nifti("mask4_vt.nii.gz", lambda v, a: (v.swapaxes(0, 1), a)), InputError, "a different grid", "another order",
    ),
    "mask with another affine": (
        _nifti("mask4_vt.nii.gz", lambda v, a: (v, a + np.eye(4))), InputError, "a different grid", "affine",
    ),
    "empty mask": (_nifti("mask4_vt.nii.gz", lambda v, a: (0 * v, a)), InputError, "not a usable mask", "nonzero"),
    "no mask": (
        lambda folder: (folder / "subj1" / "mask4_vt.nii.gz").unlink(), MissingFileError, "mask4_vt.nii.gz is missing",
        "download haxby2001",
    ),
    "no labels": (
        lambda folder: (folder / "subj1" / "labels.txt").unlink(), MissingFileError, "labels.txt is missing", "runs",
    ),
    "labels without header": (
        _text(lambda text: text.split("\n", 1)[1]), InputError, "the first line 'rest 0'", "two words",
    ),
    "a word too many": (_text(lambda text: text + "face 1 2\n"), InputError, "line 238: 'face 1 2'", "two words"),
    "a run in pieces": (
        _text(lambda text: text.replace("rest 1", "rest 0")), InputError, "cannot be divided into runs", "consecutive",
    ),
    "nothing but rest": (
        _text(lambda text: "labels chunks\n" + "rest 0\n" * 118 + "rest 1\n" * 118), InputError, "contains no stimuli",
        "categories",
    ),
    "no image of a category": (_no_images_of_cats, InputError, "no image of the category 'cat'", "cats"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_one_error_that_names_the_file(own, fault):
    change, kind, said, expected = FAULTS[fault]
    change(own)
    with pytest.raises(kind, match=said) as caught:
        Haxby2001Reader(own)
    assert str(own) in str(caught.value)
    assert caught.match(expected)


def test_a_image_that_is_none_is_named(own):
    _bad_image(own)
    with pytest.raises(InputError, match=r"cats1\.jpg cannot be read"):
        Haxby2001Reader(own).read_images(0, 8)


def test_another_folder_and_another_subject(tmp_path, folder):
    with pytest.raises(MissingFileError, match="one of two layouts"):
        Haxby2001Reader(tmp_path)
    with pytest.raises(UnknownNameError, match="'subj9'"):
        _open(folder, subjects=["subj9"])


def test_real_data(real):
    data = Haxby2001Reader(real).subject("subj1")
    assert (len(data.samples), len(data.voxels), data.space.shape) == (96, 530, [40, 20, 1])
    assert data.samples.groupby("run")["stimulus"].nunique().tolist() == [8] * 12
    np.testing.assert_allclose(data.space.affine, nibabel.load(real / "bold.nii.gz").affine)
