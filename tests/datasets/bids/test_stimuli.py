"""Images in one size, videos in frames and clips, captions, splits, and stimuli without files."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from neurorecon.datasets.bids.reader import BidsReader
from neurorecon.datasets.bids.stimuli import cut_videos, file_of
from neurorecon.errors import InputError, NeuroreconWarning
from neurorecon.io.images import fit_square
from neurorecon.testing import check_reader

EVENTS = "sub-01/ses-01/func/sub-01_ses-01_task-shapes_run-{}_events.tsv"


def _write_video(path, seconds, frames_per_second=5):
    """Write a GIF whose gray says how many seconds have passed, in tenths."""
    values = 10 * np.arange(seconds * frames_per_second) / frames_per_second
    images = [Image.fromarray(np.full((24, 32, 3), value, dtype=np.uint8)) for value in values]
    duration = 1000 // frames_per_second
    images[0].save(path, save_all=True, append_images=images[1:], duration=duration, loop=0)


def _video_events(root, videos, duration):
    for run, name in enumerate(videos, start=1):
        onsets = [10.0, 20.0 + duration]
        table = pd.DataFrame({"onset": onsets, "duration": duration, "trial_type": "video", "stim_file": name})
        table.to_csv(root / EVENTS.format(run), sep="\t", index=False)


@pytest.fixture
def videoed(own):
    """Two runs with a video each, shown twice."""
    for name in ("first", "second"):
        _write_video(own / "stimuli" / f"{name}.gif", 20)
    _video_events(own, ["first.gif", "second.gif"], 20.0)
    return own


def _options(**values):
    return BidsReader.Options(subjects=["01"], **values)


def test_images_are_those_of_the_files(small):
    reader = BidsReader(small)
    table = reader.stimuli()
    assert table["kind"].unique().tolist() == ["image"]
    assert set(table["category"]) == {"circle", "square", "triangle", "cross"}
    assert all(row.category in row.captions[0] for row in table.itertuples())
    assert reader.image_shape() == (64, 64, 3)
    with Image.open(small / "stimuli" / table["id"][5]) as image:
        np.testing.assert_array_equal(reader.read_images(5, 6)[0], np.asarray(image.convert("RGB")))


def _captions(own, rows):
    (own / "said.tsv").write_text("\n".join(["stimulus\tcaption", *rows]) + "\n")
    return BidsReader.Options(captions=str(own / "said.tsv"))


def test_captions_of_other_stimuli_are_refused(own):
    options = _captions(own, ["circle1.png\ta circle", "circle2.png\tanother"])
    with pytest.raises(InputError, match=r"said\.tsv has captions of none of the stimuli[\s\S]*circle1\.png"):
        BidsReader(own, options)


def test_captions_of_some_stimuli_are_reported_with_the_ids_that_match_none(own):
    options = _captions(own, ["circle/circle001.png\ta circle", "circle/circle001.png\tround", "circl\ttypo"])
    with pytest.warns(NeuroreconWarning, match=r"1 of 2 ids in .*said\.tsv are no stimulus: circl\."):
        reader = BidsReader(own, options)
    table = reader.stimuli().set_index("id")
    assert table.loc["circle/circle001.png", "captions"] == ["a circle", "round"]  # a row for each caption
    assert "have no caption" in reader.description.notes


@pytest.mark.parametrize(("fit", "gray"), [("pad", True), ("crop", False), ("stretch", False)])
def test_images_become_square(fit, gray):
    image = Image.fromarray(np.full((20, 40, 3), 250, dtype=np.uint8))
    found = fit_square(image, 32, fit)
    assert found.shape == (32, 32, 3)
    assert (found[0, 0] == 128).all() == gray
    assert (found[16, 16] == 250).all()


def test_transparent_images_lie_on_gray():
    image = Image.fromarray(np.zeros((8, 8, 4), dtype=np.uint8), mode="RGBA")
    assert (fit_square(image, 8, "pad") == 128).all()


def test_videos_in_blocks_are_whole(videoed):
    reader = BidsReader(videoed, _options(frames=4, image_size=16, split="none"))
    assert reader.stimuli()["id"].tolist() == ["first.gif", "second.gif"]
    assert reader.video_shape() == (4, 16, 16, 3)
    assert reader.frames_per_second() == pytest.approx(4 / 20)
    np.testing.assert_allclose(reader.read_frames(0, 1)[0, :, 8, 8, 0], [25, 75, 125, 175], atol=4)
    check_reader(reader)


def test_videos_in_time_series_are_clips_of_a_volume(videoed):
    reader = BidsReader(videoed, _options(samples="volume", frames=2, image_size=16, split={"runs": ["2"]}))
    table = reader.stimuli()
    assert len(table) == 20
    assert table["id"][3] == "first.gif#00003"
    assert reader.video_shape() == (2, 16, 16, 3)
    assert reader.frames_per_second() == pytest.approx(1.0)
    # The clip from 6 to 8 s: frames at 6.5 and 7.5 s.
    np.testing.assert_allclose(reader.read_frames(3, 4)[0, :, 8, 8, 0], [64, 74], atol=4)
    samples = reader.subject("sub-01").samples
    first = samples[samples["run"] == 1]
    assert first["stimulus"].tolist() == 2 * [f"first.gif#{clip:05d}" for clip in range(10)]
    assert first["repeat"].tolist() == [1] * 10 + [2] * 10
    assert samples.groupby("run")["split"].unique().map(list).tolist() == [["train"], ["test"]]
    check_reader(reader)


def test_a_video_that_is_shorter_than_its_event(videoed):
    _video_events(videoed, ["first.gif", "second.gif"], 30.0)
    with pytest.raises(InputError, match=r"shorter than its events(.|\n)*20.00 s"):
        BidsReader(videoed, _options(samples="volume", split="none"))


def test_videos_of_several_lengths(videoed):
    _write_video(videoed / "stimuli" / "second.gif", 10)
    with pytest.raises(InputError, match="differ in duration"):
        BidsReader(videoed, _options(split="none"))


def test_clips_are_parts_of_videos_alone():
    shown = pd.DataFrame({"stimulus": ["a.png", "b.mp4"], "onset": [0.0, 10.0], "duration": [3.0, 4.9]})
    cut = cut_videos(shown, 2.0)
    assert cut["stimulus"].tolist() == ["a.png", "b.mp4#00000", "b.mp4#00001"]
    assert cut["onset"].tolist() == [0.0, 10.0, 12.0]
    assert cut["duration"].tolist() == [3.0, 2.0, 2.0]
    assert [file_of(name) for name in ("b.mp4#00001", "a#1", "a.png")] == ["b.mp4", "a#1", "a.png"]


def test_trial_types_are_stimuli_without_images(own):
    for path in own.rglob("*_events.tsv"):
        pd.read_csv(path, sep="\t").drop(columns=["stim_file", "split"]).to_csv(path, sep="\t", index=False)
    reader = BidsReader(own)
    assert reader.stimuli()["id"].tolist() == ["circle", "cross", "square", "triangle"]
    assert reader.image_shape() is None
    assert set(reader.subject("sub-01").samples["split"]) == {"train"}
    check_reader(reader)


def test_button_presses_are_counted_and_modeled(own):
    for path in own.rglob("*_events.tsv"):
        table = pd.read_csv(path, sep="\t", na_values="n/a")
        press = table.iloc[3:8].assign(onset=table["onset"] + 1.0, trial_type="press", stim_file=None, split=None)
        pd.concat([table, press]).to_csv(path, sep="\t", index=False, na_rep="n/a")
    reader = BidsReader(own, _options(samples="glm", runs=["1"], least_squares="all"))
    data = reader.subject("sub-01")
    assert data.report["events that are no stimuli"] == "5 press"
    assert np.isfinite(data.read_responses(0, len(data.samples))).all()


def test_tasks_without_events_are_left_out(own):
    for path in list(own.rglob("*run-2*")):
        path.rename(path.with_name(path.name.replace("task-shapes_run-2", "task-rest")))
    for path in own.rglob("*task-rest_events.tsv"):
        path.unlink()
    reader = BidsReader(own)
    assert "Tasks without events, left out: rest" in reader.description.notes
    assert set(reader.subject("sub-01").samples["task"]) == {"shapes"}
    with pytest.raises(InputError, match="the events of"):
        BidsReader(own, BidsReader.Options(tasks=["rest"]))


@pytest.mark.parametrize(
    ("rule", "test"), [("none", 0), ({"stimuli": ["circle/*"]}, None), ({"column": "split"}, 8), ({}, 8)]
)
def test_splits(small, rule, test):
    reader = BidsReader(small, BidsReader.Options(split=rule))
    samples = reader.subject("sub-01").samples
    held_out = samples.loc[samples["split"] == "test", "stimulus"].unique()
    if test is None:
        assert all(name.startswith("circle/") for name in held_out)
    else:
        assert len(held_out) == test


def test_glmsingle_says_what_to_install(small):
    try:
        import glmsingle  # noqa: F401
    except ModuleNotFoundError:
        with pytest.raises(InputError, match="pip install glmsingle"):
            BidsReader(small, BidsReader.Options(samples="glmsingle"))
    else:
        pytest.skip("GLMsingle is installed")
