"""Which samples a store joins: of one task and one kind, and in a time series those of the response."""

import numpy as np
import pandas as pd
import pytest

import neurorecon as nr
from neurorecon.decoders.samples import choose_shown_task, choose_task
from neurorecon.errors import InputError, UnknownNameError
from neurorecon.features.own import add_target
from neurorecon.store import selection
from neurorecon.store.responses import standardize


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """A time series: 4 runs of 100 volumes, one video each, whose responses peak 4 to 6 s after the video."""
    generator = np.random.default_rng(0)
    features = generator.standard_normal((400, 3)).astype(np.float32)
    shown = [f"v{number}" for number in range(400)]
    runs = np.repeat(np.arange(1, 5), 100)
    drive = features @ generator.standard_normal((3, 20))
    responses = generator.standard_normal((400, 20)) * 2
    for run in range(1, 5):
        for delay, weight in ((2, 1.0), (3, 0.8)):
            rows = np.flatnonzero(runs == run)
            responses[rows[delay:]] += weight * drive[rows[:-delay]]
    path = tmp_path_factory.mktemp("videos") / "videos.icechunk"
    store = nr.build_from_arrays(
        path,
        responses.astype(np.float32),
        {"stimulus": shown, "run": runs, "split": np.where(runs == 4, "test", "train")},
        repetition_time=2.0,
        progress=False,
    )
    return add_target(store, "mine", features, stimuli=shown, made_by={"model": "random", "source": "a test"})


def _decoded(store, **options):
    X, Y = store.pairs("subj01", "mine", split="train", **options)
    new, seen = store.pairs("subj01", "mine", split="test", **options)
    decoder = nr.RidgeDecoder(alpha=[1.0, 10.0, 100.0]).fit(X.values, Y.values, groups=X["run"].values)
    predicted = decoder.predict(new.values)
    return np.mean([np.corrcoef(predicted[:, column], seen.values[:, column])[0, 1] for column in range(3)])


def test_pairs_of_a_time_series_are_responses_to_the_stimulus(videos):
    """Volumes as they were recorded show the response to earlier stimuli: they decode nothing."""
    X, _ = videos.pairs("subj01", "mine")
    raw = videos.responses("subj01").values
    assert X.sizes == {"sample": 400 - 4 * 3, "voxel": 20}
    np.testing.assert_allclose(X.values[:97], (raw[2:99] + raw[3:100]) / 2, atol=1e-6)
    assert X.attrs["delays"] == [2, 3]
    assert X.attrs["window"] == "mean of the volumes 4 to 6 s after each sample"
    assert X.attrs["samples"] == "volumes, one every 2 s"
    assert abs(_decoded(videos, delays=())) < 0.1
    assert _decoded(videos) > 0.5
    assert _decoded(videos, average=None) > 0.5
    assert _decoded(videos, delays=(2, 3)) > 0.5


def test_volumes_are_read_as_recorded_and_averages_as_responses(videos):
    assert videos.responses("subj01").sizes["sample"] == 400
    assert videos.responses("subj01").attrs["delays"] == []
    averaged = videos.responses("subj01", average="stimulus")
    np.testing.assert_array_equal(averaged.values, videos.pairs("subj01", "mine")[0].values)
    side_by_side = videos.pairs("subj01", "mine", delays=(2, 3))[0]
    assert side_by_side.sizes["voxel"] == 40
    assert side_by_side.attrs["delays"] == [2, 3]
    assert "window" not in side_by_side.attrs


def test_an_unknown_interval_is_asked_for(tmp_path):
    """Rows that look like volumes, built without repetition_time."""
    shown = np.repeat([f"s{number}" for number in range(12)], 3)
    responses = np.random.default_rng(0).standard_normal((36, 5)).astype(np.float32)
    samples = {"stimulus": shown, "run": np.repeat([1, 2, 3], 12), "split": np.repeat(["train", "test"], [24, 12])}
    store = nr.build_from_arrays(tmp_path / "x.icechunk", responses, samples, progress=False)
    store = add_target(store, "mine", np.eye(12), made_by={"model": "one-hot", "source": "a test"})
    with pytest.raises(InputError, match="repetition_time"):
        store.pairs("subj01", "mine")
    assert store.pairs("subj01", "mine", delays=())[0].sizes["sample"] == 12


def test_tasks_are_never_joined_unless_asked(store):
    """The README's example joined trial estimates of images and volumes of videos."""
    images = store.responses("subj01", split="train")
    assert set(images["task"].values) == {"images"}
    assert images.attrs["task"] == "images"
    assert images.attrs["samples"] == "trial estimates"
    np.testing.assert_array_equal(images, store.responses("subj01", split="train", task="images"))
    with pytest.raises(InputError, match="different kinds, in different units"):
        store.responses("subj01", task=["images", "videos"])
    with pytest.raises(UnknownNameError, match="unknown task"):
        store.responses("subj01", task=["images", "music"])
    with pytest.raises(InputError, match="no task is named"):
        store.responses("subj01", task=[])


def test_the_default_task_is_that_of_maps_and_reconstructions(store, tmp_path):
    import shutil

    shutil.copytree(store.location, tmp_path / "own.icechunk")
    own = nr.extract(nr.open_store(tmp_path / "own.icechunk"), ["category", "gabor", "motion"], progress=False)
    for target, task in (("gabor", "images"), ("category", "images"), ("motion", "videos")):
        X, _ = own.pairs("subj01", target)
        assert set(X["task"].values) == {task}
        assert choose_task(own, "subj01", [target], None) == task
        assert choose_shown_task(own, "subj01", [target], None) == task
    assert choose_shown_task(own, "subj01", ["images"], None) == "images"
    assert choose_shown_task(own, "subj01", ["frames"], None) == "videos"


def test_equal_kinds_can_be_joined(tmp_path):
    responses = np.random.default_rng(0).standard_normal((40, 5)).astype(np.float32)
    shown = [f"s{number}" for number in range(40)]
    samples = {"stimulus": shown, "task": np.repeat(["rest", "work"], [16, 24]), "split": ["train", "test"] * 20}
    store = nr.build_from_arrays(tmp_path / "x.icechunk", responses, samples, progress=False)
    assert store.responses("subj01").sizes["sample"] == 24
    assert store.responses("subj01", task=["rest", "work"]).sizes["sample"] == 40


def _ranked(rows, *having):
    table = pd.DataFrame(rows, columns=["task", "stimulus", "split"])
    kinds = {name: "video" if name.startswith("v") else "image" for name in table["stimulus"]}
    return selection.rank_tasks(table, kinds, [set(names) for names in having])


def test_tasks_in_order():
    images = [("faces", f"i{number}", "train") for number in range(3)]
    videos = [("videos", f"v{number}", "train") for number in range(9)]
    assert _ranked(videos + images) == [("faces", True), ("videos", True)]  # images come first
    assert _ranked(videos + images, ["v0", *(row[1] for row in videos)])[0] == ("videos", True)
    assert _ranked(videos + images, ["v0", "v1", "i0"]) == [("videos", False), ("faces", False)]
    more = [("places", f"p{number}", "train") for number in range(5)]
    assert _ranked(images + more)[0] == ("places", True)
    untrained = [("test", f"t{number}", "test") for number in range(50)]
    assert _ranked(images + untrained)[0] == ("faces", True)
    assert _ranked([*untrained[:2], ("other", "o", "test")])[0] == ("test", True)


def test_samples_are_centered_and_scaled_within_sessions():
    generator = np.random.default_rng(0)
    sessions = np.array([0, 0, 0, 1, 1, 1, 1])
    values = generator.standard_normal((7, 4)) * np.array([[1.0], [5.0]])[sessions] + 10 * sessions[:, None]
    values[:3, 0] = 7.0
    centered = standardize(values, sessions, None)
    scaled = standardize(values, sessions, sessions)
    kept = standardize(values, None, sessions)
    for session in (0, 1):
        rows = sessions == session
        np.testing.assert_allclose(centered[rows].mean(axis=0), 0, atol=1e-5)
        np.testing.assert_allclose(scaled[rows][:, 1:].std(axis=0), 1, rtol=1e-4)
        np.testing.assert_allclose(kept[rows].mean(axis=0), values[rows].mean(axis=0), rtol=1e-4)
    assert (scaled[:3, 0] == 0).all()
