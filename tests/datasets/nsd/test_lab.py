"""NSD as labs have it: hemispheres and names from its files, parts of it, other spaces, folders chosen wrongly."""

import json
import shutil

import h5py
import nibabel
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from neurorecon.datasets.nsd.layout import NsdOptions
from neurorecon.datasets.nsd.reader import NsdReader
from neurorecon.errors import InputError, MissingFileError, NeuroreconWarning, UnknownNameError
from neurorecon.space import hemispheres, volume_order
from neurorecon.testing.layouts import nsd as layout
from neurorecon.testing.layouts import write_layout

ROI = "nsddata/ppdata/subj02/func1pt8mm/roi"
BETAS = "nsddata_betas/ppdata/subj02/func1pt8mm/betas_fithrf_GLMdenoise_RR"
IMAGES = "nsddata_stimuli/stimuli/nsd/nsd_stimuli.hdf5"


def _subject(root, name="subj02", **options):
    return NsdReader(root, NsdOptions(**options)).subject(name)


def _labels(path):
    return np.asarray(nibabel.load(path).dataobj)


def _rewrite(path, change):
    image = nibabel.load(path)
    values = change(np.asarray(image.dataobj))
    path.unlink()
    nibabel.Nifti1Image(values, image.affine).to_filename(path)


# -- hemispheres ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("moved", [-1, 0, 1])
def test_hemispheres_are_those_of_the_files(own, moved):
    """The midline of a volume is not where x is 0: the files lh.* and rh.* decide."""
    for path in (own / ROI).glob("[!lr]*.nii.gz"):
        whole = _labels(path)
        border = whole.shape[0] // 2 + moved
        left = (np.arange(whole.shape[0]) < border)[:, None, None]
        for side, member in (("lh", left), ("rh", ~left)):
            _rewrite(
                path.with_name(f"{side}.{path.name}"), lambda _, m=member, w=whole: np.where(m, w, np.minimum(w, 0))
            )
    data = _subject(own)
    sides = hemispheres(data.space, data.voxels)
    i, j, k = data.voxels[["i", "j", "k"]].to_numpy().T
    for side, name in (("lh", "left"), ("rh", "right")):
        labels = _labels(own / ROI / f"{side}.prf-visualrois.nii.gz")[i, j, k]
        v1 = np.isin(labels, [1, 2])
        np.testing.assert_array_equal(data.rois["V1"] & (sides == name), v1)
        assert (sides[_labels(own / ROI / f"{side}.nsdgeneral.nii.gz")[i, j, k] > 0] == name).all()
    assert data.voxel_columns == ("hemisphere",)


def test_every_column_of_an_odd_volume_has_a_hemisphere(tmp_path, monkeypatch):
    monkeypatch.setitem(layout.VOLUMES, "func1pt8mm", ((13, 14, 10), 1.8))
    root = layout.write_nsd(tmp_path, subjects=("subj02",), sessions=2)
    data = _subject(root)
    i, j, k = data.voxels[["i", "j", "k"]].to_numpy().T
    x = data.space.affine[0][0] * i + data.space.affine[0][3]
    assert (np.abs(x) < 1e-5).any(), "no voxel is on the midline"
    left = _labels(root / ROI / "lh.nsdgeneral.nii.gz")[i, j, k] > 0
    np.testing.assert_array_equal(hemispheres(data.space, data.voxels), np.where(left, "left", "right"))


def test_voxels_that_no_hemisphere_file_labels_follow_the_closer_side(own):
    data = _subject(own, mask="brain")
    sides, i = hemispheres(data.space, data.voxels), data.voxels["i"].to_numpy()
    np.testing.assert_array_equal(sides, np.where(i < 6, "left", "right"))


def test_without_such_files_positions_decide(own):
    for path in (own / ROI).glob("[lr]h.*"):
        path.unlink()
    data = _subject(own)
    assert data.voxel_columns == ()
    np.testing.assert_array_equal(hemispheres(data.space, data.voxels) == "left", data.voxels["i"] < 6)


# -- names ------------------------------------------------------------------------------------------------------------


def test_names_of_volumes_come_from_the_templates(own):
    general = _labels(own / ROI / "nsdgeneral.nii.gz")
    values = np.zeros(general.shape, np.int16)
    inside = np.argwhere(general > 0)
    for number in (1, 2, 3, 7):
        values[tuple(inside[10 * number : 10 * number + 5].T)] = number
    nibabel.Nifti1Image(values, nibabel.load(own / ROI / "nsdgeneral.nii.gz").affine).to_filename(
        own / ROI / "MTL.nii.gz"
    )
    folder = own / "nsddata" / "templates"
    (folder / "MTL.ctab").write_text("# labels\n0 Unknown 0 0 0 0\n1 ERC 10 20 30 0\n2 area 35 1 2 3 0\n3 PHC\n")
    rois = _subject(own).rois
    found = {name: int(member.sum()) for name, member in rois.items() if name.startswith("MTL")}
    assert found == {"MTL_ERC": 5, "MTL_area 35": 5, "MTL_PHC": 5, "MTL_7": 5}


def test_labels_of_one_name_are_one_roi(own):
    table = own / "nsddata/freesurfer/subj02/label/streams.mgz.ctab"
    table.write_text("0 Unknown\n1 early\n2 mid\n3 mid\n4 mid\n5 ventral\n6 lateral\n7 parietal\n")
    data = _subject(own)
    i, j, k = data.voxels[["i", "j", "k"]].to_numpy().T
    np.testing.assert_array_equal(data.rois["mid"], np.isin(_labels(own / ROI / "streams.nii.gz")[i, j, k], [2, 3, 4]))


def test_a_map_among_the_rois_is_refused(own):
    _rewrite(own / ROI / "floc-faces.nii.gz", lambda values: values * np.float32(0.3))
    with pytest.raises(InputError, match="whole numbers") as caught:
        _subject(own)
    assert "floc-faces.nii.gz" in str(caught.value)


# -- what is missing --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        (
            lambda root: shutil.rmtree(root / "annotations"),
            {"captions": "no captions_train2017.json and no captions_val"},
        ),
        (
            lambda root: (root / "annotations/captions_val2017.json").unlink(),
            {"captions": "none of 3"},
        ),
        (
            lambda root: [path.unlink() for path in (root / "nsddata/experiments/nsd").glob("nsd_stim_info*")],
            {"captions": "nsd_stim_info_merged.csv", "categories": "nsd_stim_info_merged.csv"},
        ),
        (
            lambda root: [path.unlink() for path in (root / "annotations").glob("instances*")],
            {"categories": "no instances_train2017.json"},
        ),
    ],
    ids=["annotations", "one file", "table of images", "instances"],
)
def test_captions_that_are_missing_are_reported(own, broken, words):
    broken(own)
    reader = NsdReader(own, NsdOptions())
    report = reader.subject("subj02").report
    without = int((reader.stimuli()["captions"].map(len) == 0).sum())
    assert set(report) & {"captions", "categories"} >= set(words)
    for key, text in words.items():
        if key == "captions" and text.startswith("none of"):
            text = f"none of {without} of {len(reader.stimuli())} images"
        assert text in report[key]


def test_complete_annotations_are_not_reported(small):
    assert not {"captions", "categories"} & set(_subject(small).report)


def test_betas_that_are_still_multiplied_by_300_are_noticed(own):
    for path in (own / BETAS).glob("betas_session*"):
        _rewrite(path, lambda values: values.astype(np.float32))
    with pytest.warns(NeuroreconWarning, match="implausible scale"):
        report = _subject(own).report
    assert report["scale of the betas"].startswith("2 of 2 sessions vary by")
    assert "divide floating-point betas by 300" in report["scale of the betas"]


def test_integers_that_were_divided_are_noticed_too(own):
    for path in (own / BETAS).glob("betas_session*"):
        _rewrite(path, lambda values: np.round(values / 300).astype(np.int16))
    with pytest.warns(NeuroreconWarning, match="implausible scale"):
        assert "integers" in _subject(own).report["scale of the betas"]


@pytest.mark.parametrize("scaled", [1.0, 1 / 300])
def test_plausible_betas_are_not_warned_of(own, scaled):
    for path in (own / BETAS).glob("betas_session*"):
        _rewrite(path, lambda values: values if scaled == 1 else (values * scaled).astype(np.float32))
    assert "scale of the betas" not in _subject(own).report


# -- sessions ---------------------------------------------------------------------------------------------------------


def test_sessions_that_a_subject_does_not_have_are_left_out(nsd, tmp_path, monkeypatch):
    from neurorecon.datasets.nsd import layout as files

    nsd = shutil.copytree(nsd, tmp_path / "nsd")
    for path in (nsd / BETAS.replace("subj02", "subj05")).glob("betas_session02.*"):
        path.unlink()
    monkeypatch.setitem(files.SESSIONS, 5, 1)
    reader = NsdReader(nsd, NsdOptions(sessions="1-2"))
    found = {name: reader.subject(name) for name in reader.subjects}
    assert {name: set(data.samples["session"]) for name, data in found.items()} == {"subj02": {1, 2}, "subj05": {1}}
    assert found["subj05"].report["sessions"] == "1; subj05 has 1, so not 2"
    assert "sessions" not in found["subj02"].report
    with pytest.raises(InputError, match="subj05 has none of these sessions"):
        NsdReader(nsd, NsdOptions(sessions="2"))


def test_sessions_that_should_be_there_are_still_an_error(small):
    with pytest.raises(MissingFileError, match="without 3"):
        NsdReader(small, NsdOptions(sessions="1-37"))


# -- the root ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("part", ["nsddata", "nsddata_betas/ppdata", "nsddata_stimuli"])
def test_a_root_that_is_too_low(small, part):
    with pytest.raises(MissingFileError, match="too low") as caught:
        NsdReader(small / part, NsdOptions())
    assert f"use --root {small}" in str(caught.value)


def test_a_root_that_is_too_high(small, tmp_path):
    (tmp_path / "disk" / "NSD").mkdir(parents=True)
    (tmp_path / "disk" / "NSD" / "nsddata").symlink_to(small / "nsddata")
    for root in (tmp_path, tmp_path / "disk"):
        with pytest.raises(MissingFileError, match="too high") as caught:
            NsdReader(root, NsdOptions())
        assert f"use --root {tmp_path / 'disk' / 'NSD'}" in str(caught.value)
        assert "nsddata/nsddata" not in str(caught.value)


# -- images -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shown(small):
    """The numbers of the images that the subject saw, and the images as h5py reads them."""
    numbers = [int(name[3:]) for name in NsdReader(small, NsdOptions()).stimuli()["id"]]
    with h5py.File(small / IMAGES) as file:
        return numbers, file["imgBrick"][numbers]


def test_without_images(own):
    (own / IMAGES).unlink()
    with pytest.raises(MissingFileError, match='images = "none"'):
        NsdReader(own, NsdOptions())
    reader = NsdReader(own, NsdOptions(images="none"))
    assert reader.image_shape() is None
    assert len(reader.stimuli()) > 100
    assert reader.subject("subj02").read_responses(0, 2).shape[0] == 2


def test_images_from_files(small, shown, tmp_path):
    numbers, images = shown
    for number, image in zip(numbers, images, strict=True):
        Image.fromarray(image).save(tmp_path / f"pic{number}.png")
    order = np.random.default_rng(0).permutation(numbers)
    pd.DataFrame({"nsdId": order, "file": [f"pic{number}.png" for number in order]}).to_csv(tmp_path / "a.csv")
    options = {"images": str(tmp_path), "image_table": str(tmp_path / "a.csv")}
    reader = NsdReader(small, NsdOptions(**options))
    np.testing.assert_array_equal(reader.read_images(0, len(numbers)), images)
    assert reader.image_shape() == (64, 64, 3)
    assert NsdReader(small, NsdOptions(**options, image_size=16)).image_shape() == (16, 16, 3)
    with pytest.raises(MissingFileError, match="some of the images are missing"):
        NsdReader(small, NsdOptions(images=str(tmp_path)))  # no table, and not NSD's names


def test_images_under_the_names_of_nsd_count_from_1(small, shown, tmp_path):
    numbers, images = shown
    for place, (number, image) in enumerate(zip(numbers, images, strict=True), start=1):
        Image.fromarray(image).save(tmp_path / f"shared{place:04d}_nsd{number + 1:05d}.png")
    reader = NsdReader(small, NsdOptions(images=str(tmp_path)))
    np.testing.assert_array_equal(reader.read_images(0, len(numbers)), images)
    (tmp_path / f"shared0001_nsd{numbers[0] + 1:05d}.png").unlink()
    with pytest.raises(MissingFileError, match=f"nsdId {numbers[0]}"):
        NsdReader(small, NsdOptions(images=str(tmp_path)))


@pytest.mark.parametrize("kind", ["hdf5", "npy"])
def test_images_from_a_part_of_the_file(small, shown, tmp_path, kind):
    numbers, images = shown
    order = np.random.default_rng(0).permutation(len(numbers))
    part = tmp_path / f"part.{kind}"
    if kind == "npy":
        np.save(part, images[order])
    else:
        with h5py.File(part, "w") as file:
            file["imgBrick"] = images[order]
    table = pd.DataFrame({"nsdId": np.array(numbers)[order]})
    table.to_csv(tmp_path / "ids.csv", index=False)
    options = {"images": str(part), "image_table": str(tmp_path / "ids.csv")}
    reader = NsdReader(small, NsdOptions(**options))
    np.testing.assert_array_equal(reader.read_images(0, len(numbers)), images)
    np.testing.assert_array_equal(reader.read_images(3, 5), images[3:5])
    table[:-1].to_csv(tmp_path / "ids.csv", index=False)
    with pytest.raises(InputError, match="image"):
        NsdReader(small, NsdOptions(**options))
    with pytest.raises(InputError, match="image_table"):
        NsdReader(small, NsdOptions(images=str(part)))


# -- voxels -----------------------------------------------------------------------------------------------------------


def test_a_mask_by_signal_to_noise(small):
    data, every = _subject(small, min_ncsnr=0.5), _subject(small)
    i, j, k = data.voxels[["i", "j", "k"]].to_numpy().T
    ncsnr = _labels(small / BETAS / "ncsnr.nii.gz")
    inside = (_labels(small / ROI / "nsdgeneral.nii.gz") > 0) & (ncsnr >= 0.5)
    assert 0 < len(data.voxels) < len(every.voxels)
    assert set(zip(i, j, k, strict=True)) == set(zip(*np.nonzero(inside), strict=True))
    with pytest.raises(InputError, match="no voxel of subj02 reaches min_ncsnr"):
        _subject(small, min_ncsnr=1e6)


def test_a_mask_by_signal_to_noise_needs_it(own):
    (own / BETAS / "ncsnr.nii.gz").unlink()
    with pytest.raises(MissingFileError, match="ncsnr"):
        _subject(own, min_ncsnr=0.5)


def test_maps_become_columns(small):
    data = _subject(small, voxel_maps=("prf_*", "floc_facestval"))
    assert data.voxel_columns == ("hemisphere", "prf_angle", "prf_eccentricity", "floc_facestval")
    i, j, k = data.voxels[["i", "j", "k"]].to_numpy().T
    folder = small / "nsddata/ppdata/subj02/func1pt8mm"
    for name in data.voxel_columns[1:]:
        np.testing.assert_array_equal(data.voxels[name], _labels(folder / f"{name}.nii.gz")[i, j, k])
    with pytest.raises(MissingFileError, match="no map 'prf_size'"):
        _subject(small, voxel_maps=("prf_size",))


def test_all_voxels_of_the_mask_in_the_order_of_numpy(own):
    """What weights that were trained elsewhere expect: ``betas[nsdgeneral > 0]``, zero voxels included."""
    mask = _labels(own / ROI / "nsdgeneral.nii.gz") > 0
    zero = tuple(np.argwhere(mask)[[3, 50]].T)
    for path in sorted((own / BETAS).glob("betas_session*")):

        def blank(values):
            values = values.copy()
            values[zero] = 0
            return values

        _rewrite(path, blank)
    data = _subject(own, bad_voxels="keep")
    expected = np.concatenate(
        [_labels(path)[mask].T / np.float32(300) for path in sorted((own / BETAS).glob("betas_session*"))]
    )
    order = volume_order(data.space, data.voxels)
    np.testing.assert_array_equal(data.read_responses(0, len(data.samples))[:, order], expected.astype(np.float32))
    assert (expected == 0).all(axis=0).sum() == 2


# -- z-scores ---------------------------------------------------------------------------------------------------------


def test_z_scores_do_not_know_test_trials(own):
    """Test trials are changed; what is stored of the training trials stays the same."""
    before = _subject(own, scaling="session")
    train = (before.samples["split"] == "train").to_numpy()
    old = before.read_responses(0, len(train))

    def change(values, rows):
        values = values.copy()
        values[..., rows] = 9 * values[..., rows] + 300
        return values

    for session, path in enumerate(sorted((own / BETAS).glob("betas_session*"))):
        test = np.flatnonzero(~train[120 * session : 120 * (session + 1)])
        _rewrite(path, lambda values, rows=test: change(values, rows))
    after = _subject(own, scaling="session")
    np.testing.assert_array_equal(after.read_responses(0, len(train))[train], old[train])
    assert before.report["z-scores"] == "mean and standard deviation of the training trials of a session"
    for session in (slice(0, 120), slice(120, 240)):
        part = old[session][train[session]]
        np.testing.assert_allclose(part.mean(axis=0), 0, atol=1e-5)
        np.testing.assert_allclose(part.std(axis=0), 1, atol=1e-4)


def test_sessions_of_test_trials_alone_are_said(small):
    data = _subject(small, scaling="session", split="sessions", test_sessions=(2,))
    assert data.report["z-scores"].endswith("of all trials in sessions 2, which have no training trials")
    values = data.read_responses(0, len(data.samples))[(data.samples["session"] == 2).to_numpy()]
    np.testing.assert_allclose(values.std(axis=0), 1, atol=1e-4)


# -- other spaces -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def spaces(tmp_path_factory):
    folder = tmp_path_factory.mktemp("nsd-spaces")
    return layout.write_nsd(folder, subjects=("subj03",), sessions=2, spaces=("MNI", "nativesurface", "fsaverage"))


def test_betas_in_mni_space(spaces):
    data = _subject(spaces, "subj03", space="MNI", mask="brain", betas="betas_fithrf")  # NSD has no others there
    folder = spaces / "nsddata_betas/ppdata/subj03/MNI/betas_fithrf"
    image = nibabel.load(folder / "betas_session01.nii.gz")
    values = np.asarray(image.dataobj)
    i, j, k = data.voxels[["i", "j", "k"]].to_numpy().T
    np.testing.assert_array_equal(data.read_responses(0, 120), (values[i, j, k].T / 300).astype(np.float32))
    assert set(zip(i, j, k, strict=True)) == set(zip(*np.nonzero(values[..., 0]), strict=True))
    np.testing.assert_allclose(data.space.affine, image.affine)
    with pytest.raises(MissingFileError, match='set mask to "brain"'):
        _subject(spaces, "subj03", space="MNI", betas="betas_fithrf")
    with pytest.raises(MissingFileError, match="MNI/betas_fithrf"):
        _subject(spaces, "subj03", space="MNI", mask="brain")


def test_betas_on_the_subjects_own_surface(spaces):
    data = _subject(spaces, "subj03", space="nativesurface", voxel_maps=("prfangle",))
    labels = spaces / "nsddata/freesurfer/subj03/label"
    found = data.read_responses(0, 120)
    assert data.space.mesh == "nativesurface"
    assert data.space.vertices == dict(zip(("left", "right"), layout.VERTICES["nativesurface"], strict=True))
    for side, name in (("lh", "left"), ("rh", "right")):
        rows = (data.voxels["hemisphere"] == name).to_numpy()
        vertices = data.voxels["vertex"].to_numpy()[rows]
        folder = spaces / "nsddata_betas/ppdata/subj03/nativesurface/betas_fithrf_GLMdenoise_RR"
        with h5py.File(folder / f"{side}.betas_session01.hdf5") as file:
            np.testing.assert_array_equal(found[:, rows], (file["betas"][:][:, vertices] / 300).astype(np.float32))
        mask = nibabel.load(labels / f"{side}.nsdgeneral.mgz").get_fdata().ravel() > 0
        np.testing.assert_array_equal(vertices, np.flatnonzero(mask))
        angle = nibabel.load(labels / f"{side}.prfangle.mgz").get_fdata().ravel()
        np.testing.assert_allclose(data.voxels["prfangle"][rows], angle[vertices])
        v1 = np.isin(nibabel.load(labels / f"{side}.prf-visualrois.mgz").get_fdata().ravel()[vertices], [1, 2])
        np.testing.assert_array_equal(data.rois["V1"][rows], v1)


def test_rois_of_subjects_are_not_on_the_average_surface(spaces):
    rois = _subject(spaces, "subj03", space="fsaverage").rois
    assert {"Kastner_V1v", "HCP_V1", "nsdgeneral", "early"} <= set(rois)
    assert not {"V1v", "FFA-1", "ecc4+"} & set(rois)


def test_miniatures_by_choice(tmp_path):
    files = write_layout("nsd", tmp_path / "a", choices={"subjects": ["subj08"], "formats": ["hdf5"]})
    names = {path.name for path in files}
    assert "betas_session01.hdf5" in names
    assert not any(name.startswith("betas_session") and name.endswith(".nii.gz") for name in names)
    assert [path.name for path in (tmp_path / "a/nsddata/ppdata").iterdir()] == ["subj08"]
    with pytest.raises(UnknownNameError, match="fsaverage6"):
        write_layout("nsd", tmp_path / "b", choices={"spaces": ["fsaverage6"]})
    with pytest.raises(InputError, match="comes in one form"):
        write_layout("arrays", tmp_path / "b", choices={"spaces": ["MNI"]})
    assert not (tmp_path / "b").exists()


def test_deep_annotations_are_damaged(own):
    path = own / "annotations/captions_val2017.json"
    path.write_text('{"annotations": [' + "[" * 100_000 + "]" * 100_000 + "]}")
    with pytest.raises(InputError, match=r"captions_val2017\.json cannot be read"):
        NsdReader(own, NsdOptions())
    assert json.loads((own / "annotations/captions_train2017.json").read_text())
