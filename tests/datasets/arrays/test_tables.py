"""What may be left out of the tables, and what becomes of it."""

import nibabel
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from neurorecon.errors import InputError, NeuroreconWarning
from neurorecon.io.tables import read_table


def test_the_least_is_responses_and_stimuli(tmp_path, lab):
    np.save(tmp_path / "responses.npy", lab.responses)
    lab.samples.to_csv(tmp_path / "samples.csv", index=False)
    reader = lab.open()
    data = reader.subject("subj01")
    assert reader.stimuli()["id"].tolist() == [f"s{number}" for number in range(6)]
    assert reader.image_shape() is None
    assert data.samples["repeat"].tolist() == [1] * 6 + [2] * 6
    assert data.samples["time"].tolist() == [float(number) for number in range(12)]
    assert set(data.samples["task"]) == {"images"}
    assert data.samples.groupby("stimulus")["split"].nunique().max() == 1
    assert data.samples["split"].value_counts().to_dict() == {"train": 10, "test": 2}
    assert data.report == {"split": "1 of 6 stimuli, drawn with seed 0, are held out"}
    assert data.space.kind == "none"
    assert list(data.rois) == ["all"]


def test_splits(lab):
    lab.write()
    drawn = [lab.open(test_share=0.5, seed=seed).subject("subj01").samples for seed in range(4)]
    held_out = [set(table["stimulus"][table["split"] == "test"]) for table in drawn]
    assert {len(one) for one in held_out} == {3}
    assert len(set(map(frozenset, held_out))) > 1
    named = lab.open(test_stimuli=["s1", "s4"]).subject("subj01").samples
    assert set(named["stimulus"][named["split"] == "test"]) == {"s1", "s4"}
    lab.stimuli["split"] = ["train"] * 5 + ["test"]
    lab.write()
    stated = lab.open().subject("subj01")
    assert set(stated.samples["stimulus"][stated.samples["split"] == "test"]) == {"s5"}
    assert stated.report["split"] == "as the table of stimuli says"


def test_rest_is_left_out(lab):
    lab.samples.loc[[2, 11], "stimulus"] = ""
    lab.write()
    data = lab.open().subject("subj01")
    assert len(data.samples) == 10
    np.testing.assert_array_equal(data.read_responses(0, 10), np.delete(lab.responses, [2, 11], axis=0))
    assert data.report["samples without a stimulus, left out"] == "2"


def test_rois_are_columns_or_names(lab):
    lab.voxels["roi"] = ["V2+early", "early", "", "FFA", "FFA + faces"]
    lab.voxels["eccentricity"] = [0.5, 1, 1, 2, 3]
    lab.write()
    data = lab.open().subject("subj01")
    members = {name: np.flatnonzero(member).tolist() for name, member in data.rois.items()}
    assert members == {"V2": [0], "early": [0, 1], "FFA": [3, 4], "faces": [4], "V1": [0, 1]}
    assert data.report["columns of voxels, not used"] == "eccentricity"


def test_a_mask_says_where_voxels_lie(lab):
    mask = np.zeros((4, 3, 2), np.uint8)
    mask[[0, 3, 1, 1, 2], [0, 2, 1, 0, 2], [0, 1, 1, 0, 1]] = 1
    lab.voxels = lab.voxels[["V1"]]
    affine = np.diag([-2.0, 2.0, 2.0, 1.0])
    nibabel.Nifti1Image(mask, affine).to_filename(lab.write() / "mask.nii.gz")
    data = lab.open().subject("subj01")
    image = data.space.unmask(data.read_responses(0, 1)[0], data.voxels, fill=0.0)
    np.testing.assert_array_equal(np.asarray(image.dataobj)[mask > 0], lab.responses[0])
    np.testing.assert_array_equal(image.affine, affine)


def test_vertices_lie_on_a_mesh(lab):
    lab.voxels = pd.DataFrame({"hemisphere": ["lh", "rh", "left", "right", "L"], "vertex": [5, 5, 6, 641, 0]})
    lab.write()
    data = lab.open(mesh="fsaverage3").subject("subj01")
    assert data.voxels["hemisphere"].tolist() == ["left", "right", "left", "right", "left"]
    assert data.space.vertices == {"left": 642, "right": 642}


@pytest.mark.parametrize("what", ["drop", "keep"])
def test_bad_voxels(lab, what):
    lab.samples["session"] = [1] * 6 + [2] * 6
    lab.responses[3, 0] = np.nan
    lab.responses[6:, 2] = 4.0  # constant in the second session only
    lab.responses[1, 4] = np.inf
    lab.write()
    data = lab.open(bad_voxels=what).subject("subj01")
    if what == "drop":
        assert data.report["voxels dropped"] == "2 not finite, 1 constant, of 5 voxels"
        np.testing.assert_array_equal(data.read_responses(0, 12), lab.responses[:, [1, 3]])
        assert data.voxels["i"].tolist() == [1, 0]
        assert data.rois["V1"].tolist() == [True, False]
    else:
        assert data.report["voxels kept, as zeros where not finite"] == "2 not finite, 1 constant, of 5 voxels"
        expected = np.where(np.isfinite(lab.responses), lab.responses, 0)
        np.testing.assert_array_equal(data.read_responses(0, 12), expected)


def test_time_series(lab):
    lab.samples = pd.DataFrame(
        {"stimulus": ["", *"aabb", "", *"bbaa", "", ""], "run": [1] * 6 + [2] * 6, "split": "train"}
    )
    lab.stimuli = pd.DataFrame({"id": ["a", "b"]})
    lab.images = lab.images[:2]
    lab.write()
    data = lab.open(repetition_time=1.5).subject("subj01")
    assert data.repetition_time == {"images": 1.5}
    assert data.samples["repeat"].tolist() == [1, 1, 1, 1, 2, 2, 2, 2]
    assert data.samples["time"].tolist() == [1.5, 3.0, 4.5, 6.0, 0.0, 1.5, 3.0, 4.5]


def test_images_of_a_folder(lab):
    lab.images, images = None, lab.images
    lab.stimuli["file"] = ["", "", "", "", "", "other.png"]
    folder = lab.write() / "images"
    folder.mkdir()
    for number in range(5):
        Image.fromarray(images[number]).save(folder / f"s{number}.png")
    Image.fromarray(images[5]).save(folder / "other.png")
    reader = lab.open()
    assert reader.image_shape() == (8, 10, 3)
    np.testing.assert_array_equal(reader.read_images(0, 6), images)
    assert lab.open(image_size=16).read_images(1, 3).shape == (2, 16, 16, 3)


def test_videos_come_behind_the_images(lab):
    frames = np.random.default_rng(1).integers(0, 256, (2, 5, 8, 10, 3), dtype=np.uint8)
    lab.stimuli["kind"] = ["video", "image", "image", "video", "image", "image"]
    lab.images = lab.images[[1, 2, 4, 5]]
    np.save(lab.write() / "frames.npy", frames)
    reader = lab.open(frames_per_second=4.0)
    assert reader.stimuli()["id"].tolist() == ["s1", "s2", "s4", "s5", "s0", "s3"]
    np.testing.assert_array_equal(reader.read_images(2, 6), np.concatenate([lab.images[2:], frames[:, 2]]))
    np.testing.assert_array_equal(reader.read_frames(1, 2), frames[1:])
    samples = reader.subject("subj01").samples
    assert set(samples["task"][samples["stimulus"].isin(["s0", "s3"])]) == {"videos"}


def test_labels_and_captions_follow_their_stimulus(lab):
    lab.stimuli["caption1"] = ["one", "", "three", "", "", "<b>six</b>"]
    lab.stimuli["caption2"] = ["uno", "due", "", "", "", ""]
    labels = pd.DataFrame({"stimulus": [f"s{number}" for number in range(5, -1, -1)], "size": [5, 4, 3, 2, 1, 0]})
    labels.to_csv(lab.write() / "labels.csv", index=False)
    with pytest.warns(NeuroreconWarning, match="2 of 6 stimuli have no caption: s3, s4"):
        reader = lab.open()
    assert "2 of 6 stimuli have no caption" in reader.description.notes
    assert reader.stimuli()["captions"].tolist() == [["one", "uno"], ["due"], ["three"], [], [], ["<b>six</b>"]]
    assert reader.labels()["size"].tolist() == [0, 1, 2, 3, 4, 5]


def test_parquet_is_read_or_the_package_is_named(lab):
    path = lab.write() / "samples.parquet"
    try:
        import pyarrow  # noqa: F401
    except ModuleNotFoundError:
        path.write_bytes(b"PAR1")
        with pytest.raises(InputError, match="pip install pyarrow"):
            read_table(path)
    else:
        table = lab.samples.assign(session=np.arange(12))
        table.to_parquet(path)
        assert read_table(path).integers("session", 0).tolist() == list(range(12))


def test_numbers_name_stimuli_without_a_point(lab):
    from neurorecon.io.tables import as_table

    table = as_table({"stimulus": [1.0, np.nan, 12.0]}, "a table")
    assert table.text("stimulus").tolist() == ["1", "", "12"]


def test_a_plus_at_the_end_of_a_name_belongs_to_it(lab):
    names = ["ecc4", "ecc4+", "ecc4+ + V1", "ecc4+V1", "NA"]
    lab.voxels = lab.voxels.drop(columns="V1").assign(roi=names)
    lab.write()
    subject = lab.open().subject("subj01")
    assert {name: np.flatnonzero(member).tolist() for name, member in subject.rois.items()} == {
        "ecc4": [0, 3],
        "ecc4+": [1, 2],
        "V1": [2, 3],
        "NA": [4],
    }


def test_stimuli_that_are_missing_are_rest(lab):
    lab.samples["stimulus"] = lab.samples["stimulus"].where(lab.samples.index != 3, "n/a")
    lab.write()
    subject = lab.open().subject("subj01")
    assert len(subject.samples) == 11
    assert subject.report["samples without a stimulus, left out"] == "1"
    lab.stimuli["id"] = ["n/a", "s1", "s2", "s3", "s4", "s5"]
    lab.write()
    with pytest.raises(InputError, match="the column 'id' cannot be used"):
        lab.open()
