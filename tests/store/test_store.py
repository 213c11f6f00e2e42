import pickle
import shutil

import numpy as np
import pandas as pd
import pytest

import neurorecon as nr
from neurorecon.errors import InputError, MissingFileError, StoreError, UnknownNameError
from neurorecon.features.extract import extract
from neurorecon.store.build import roi_order


def _raw(reader, subject="subj01"):
    """Responses as the reader gives them, in the order in which the store keeps voxels."""
    data = reader.subject(subject)
    order = roi_order(data.rois, len(data.voxels))
    return data, order, data.read_responses(0, len(data.samples))[:, order]


def test_everything_the_reader_gave_comes_back(store, reader):
    for name in reader.subjects:
        data, order, values = _raw(reader, name)
        for task in store.tasks(name):
            rows = (data.samples["task"] == task).to_numpy()
            np.testing.assert_array_equal(store.responses(name, task=task), values[rows])
        pd.testing.assert_frame_equal(
            store.samples(name).astype({"stimulus": object, "task": object, "split": object}),
            data.samples.astype({"stimulus": object, "task": object, "split": object}),
            check_dtype=False,
        )
        for roi, mask in data.rois.items():
            np.testing.assert_array_equal(store.roi_masks(name)[roi], mask[order])
        np.testing.assert_array_equal(store.truth(name)["pattern"], data.truth["pattern"][:, order])
    stimuli = reader.stimuli()
    assert store.stimuli["captions"].tolist() == stimuli["captions"].tolist()
    np.testing.assert_array_equal(store.images(), reader.read_images(0, len(stimuli)))
    np.testing.assert_array_equal(store.frames(), reader.read_frames(0, 12))


def test_voxels_of_an_roi_lie_together(store, reader):
    scattered = np.flatnonzero(next(iter(reader.subject("subj01").rois.values())))
    assert (np.diff(scattered) > 1).any()
    assert (np.diff(np.flatnonzero(store.roi_masks("subj01")["MT"])) == 1).all()


def test_responses_are_lazy_and_labeled(store):
    values = store.responses("subj01", roi=["V1", "MT"], split="train", time=slice(0, 12), average="stimulus")
    assert values.dims == ("sample", "voxel")
    assert values.dtype == np.float32
    assert hasattr(values.data, "dask")
    assert set(values["split"].values) == {"train"}
    assert (values["time"].values < 12).all()
    assert {"i", "j", "k", "rois", "repeats"} <= set(values.coords)


def test_averages_agree_with_pandas(store):
    samples = store.samples("subj02")
    samples = samples[samples["task"] == "images"]
    single = store.responses("subj02", task="images").values
    averaged = store.responses("subj02", split="test", task="images", average="stimulus")
    for row, stimulus in enumerate(averaged["stimulus"].values):
        trials = single[(samples["stimulus"] == stimulus).to_numpy()]
        assert len(trials) == 3
        np.testing.assert_allclose(averaged[row], trials.mean(axis=0), atol=1e-6)


def test_delays_take_later_volumes_of_the_run(store):
    plain = store.responses("subj01", roi="V1", task="videos")
    delayed = store.responses("subj01", roi="V1", task="videos", delays=(1, 2))
    voxels = plain.sizes["voxel"]
    assert delayed["delay"].values.tolist() == [1] * voxels + [2] * voxels
    first = plain.values[[1, 2]]
    np.testing.assert_array_equal(delayed.values[0], first.ravel())
    assert delayed.sizes["sample"] == plain.sizes["sample"] - 4 * 2  # four runs, the last two volumes of each


def test_noise_ceilings_belong_to_a_task(store):
    ceiling = store.noise_ceiling("subj01", roi="V1", task="images")
    assert ceiling.shape == (store.rois("subj01")["V1"],)
    assert ((ceiling >= 0) & (ceiling <= 1)).all()
    with pytest.raises(InputError, match="several tasks"):
        store.noise_ceiling("subj01")
    assert "noise_ceiling" in store.responses("subj01", task="videos").coords


@pytest.fixture
def with_targets(tmp_path, recipe):
    from neurorecon.store.build import build_store

    opened = nr.open_store(build_store(recipe(), tmp_path / "targets.icechunk", progress=False))
    return extract(opened, ["category"], progress=False)


def test_pairs_are_aligned_on_the_stimulus(with_targets):
    X, Y = with_targets.pairs("subj01", target="category", roi="MT", split="train")
    assert X.sizes["sample"] == Y.sizes["sample"] == 18  # of the images; the videos are another task
    assert X["stimulus"].values.tolist() == Y["stimulus"].values.tolist()
    table = with_targets.stimuli.set_index("id")["category"]
    codes = table.loc[X["stimulus"].values.tolist()].to_numpy()
    names = sorted(set(codes))
    np.testing.assert_array_equal(Y.values, (codes[:, None] == np.array(names)).astype(np.float32))


def test_targets_by_split_and_by_stimulus(with_targets):
    test = with_targets.targets("category", split="test")
    assert test.dims == ("stimulus", "feature")
    ids = test["stimulus"].values[::-1].tolist()
    np.testing.assert_array_equal(with_targets.targets("category", stimuli=ids), test[::-1])
    assert "made_by" in test.attrs or "source" in test.attrs or "extractor" in test.attrs
    with pytest.raises(UnknownNameError, match="neurorecon features --target clip"):
        with_targets.targets("clip")


def test_an_older_state_can_be_opened(with_targets):
    import icechunk

    from neurorecon.store.backend import icechunk_storage

    repository = icechunk.Repository.open(icechunk_storage(with_targets.location))
    before = next(item.id for item in repository.ancestry(branch="main") if item.message == "miniature: complete")
    older = nr.open_store(with_targets.location, snapshot=before)
    assert older.targets_available == []
    assert older.snapshot == before
    with pytest.raises(UnknownNameError, match="unknown snapshot"):
        nr.open_store(with_targets.location, snapshot="ABC")


@pytest.mark.parametrize("space", ["volume", "surface"])
def test_values_go_back_into_the_brain(tmp_path, recipe, space):
    from neurorecon.store.build import build_store

    path = build_store(recipe(space=space, videos=0, subjects=1), tmp_path / "space.icechunk", progress=False)
    opened = nr.open_store(path)
    table = opened.voxels("subj01", roi="V1")
    values = np.arange(1.0, len(table) + 1)
    image = opened.unmask(values, "subj01", roi="V1")
    if space == "volume":
        data = image.get_fdata()
        np.testing.assert_array_equal(data[table["i"], table["j"], table["k"]], values)
        assert np.isfinite(data).sum() == len(values)
    else:
        for side in ("left", "right"):
            rows = (table["hemisphere"] == side).to_numpy()
            np.testing.assert_array_equal(image.data.parts[side][table["vertex"][rows]], values[rows])
    with pytest.raises(InputError, match="do not match the voxels"):
        opened.unmask(values[:-1], "subj01", roi="V1")


def test_names_that_do_not_exist(store):
    with pytest.raises(UnknownNameError, match="unknown subject 'subj09'"):
        store.responses("subj09")
    with pytest.raises(UnknownNameError, match="unknown task"):
        store.responses("subj01", task="music")
    with pytest.raises(UnknownNameError, match="way to average"):
        store.responses("subj01", average="run")
    with pytest.raises(InputError, match="do not exist"):
        store.images(["image0000", "nothing"])


def test_places_without_a_store(tmp_path):
    with pytest.raises(MissingFileError, match="no store at this location"):
        nr.open_store(tmp_path / "nothing.icechunk")
    (tmp_path / "empty.zarr").mkdir()
    with pytest.raises(StoreError, match="cannot read this Zarr hierarchy"):
        nr.open_store(tmp_path / "empty.zarr")
    (tmp_path / "text.icechunk").mkdir()
    (tmp_path / "text.icechunk" / "file").write_text("no store")
    with pytest.raises(StoreError, match="cannot read this store"):
        nr.open_store(tmp_path / "text.icechunk")


def test_a_file_is_no_store(tmp_path):
    path = tmp_path / "recipe.toml"
    path.write_text('name = "a"')
    with pytest.raises(StoreError, match="a store is a folder"):
        nr.open_store(path)


def test_stores_are_built_under_their_own_suffix(tmp_path, recipe):
    with pytest.raises(InputError, match=r"NAME\.icechunk"):
        nr.build(recipe(), tmp_path / "new.txt", progress=False)
    assert not list(tmp_path.iterdir())


def test_a_store_travels_by_its_place_and_its_snapshot(store, tmp_path, monkeypatch):
    shutil.copytree(store.location, tmp_path / "own.icechunk")
    monkeypatch.chdir(tmp_path)
    before = nr.open_store("own.icechunk")
    packed = pickle.dumps(before)
    assert len(packed) < 1000
    extract(before, ["category"], progress=False)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    arrived = pickle.loads(packed)
    assert arrived.snapshot == before.snapshot
    assert "category" not in arrived.targets_available
    np.testing.assert_array_equal(arrived.responses("subj01", "V1"), store.responses("subj01", "V1"))
    assert pickle.loads(packed) is arrived  # opened once in each process


def test_a_notebook_shows_samples_and_targets(store):
    shown = store._repr_html_()
    kind = "simulated" if store.simulated else "measured"
    for part in (store.name, f"{kind} responses", store.snapshot, store.location):
        assert str(part) in shown
    for subject in store.subjects:
        assert f"<td>{subject}</td>" in shown
        assert f"<td>{store.voxel_count(subject)}</td>" in shown
