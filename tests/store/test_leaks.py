"""Test stimuli that are training stimuli under another id are found while a store is built."""

import logging
import time

import numpy as np
import pandas as pd
import pytest

import neurorecon as nr
from neurorecon.features.own import add_target
from neurorecon.store.check import as_text, describe
from neurorecon.store.leaks import (
    Watch,
    identical_rows,
    row_digests,
    same_sets,
    same_stimuli,
    small_gray,
    straddling,
)
from neurorecon.store.selection import confounded_sessions


def _smooth(number, side=32, seed=0):
    from scipy.ndimage import gaussian_filter

    noise = np.random.default_rng(seed).standard_normal((number, side, side, 3))
    images = gaussian_filter(noise, (0, side / 16, side / 16, 0))
    return np.clip(128 + 200 * images / images.std() / 3, 0, 255).astype(np.uint8)


def _as_jpeg(image):
    import io

    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=75)
    return np.asarray(Image.open(buffer))


def _build(path, images, **kwargs):
    """60 test images after 120 training images."""
    shown = [f"s{number:03d}" for number in range(180)]
    responses = np.random.default_rng(1).standard_normal((180, 6)).astype(np.float32)
    samples = {"stimulus": shown, "split": ["train"] * 120 + ["test"] * 60}
    return nr.build_from_arrays(
        path, responses, samples, {"id": shown}, images=images, image_size=images.shape[1], progress=False, **kwargs
    )


@pytest.mark.parametrize("change", ["none", "noise", "brighter", "jpeg"])
def test_images_in_both_splits_are_found_and_recorded(tmp_path, caplog, change):
    """Case 43: 20 of 60 test images are training images under other ids."""
    images = _smooth(180, side=64)
    copies = images[:20].astype(int)
    if change == "noise":
        copies = copies + np.random.default_rng(2).integers(-2, 3, copies.shape)
    if change == "brighter":
        copies = copies * 0.8 + 20
    if change == "jpeg":
        copies = np.stack([_as_jpeg(image) for image in images[:20]])
    images[120:140] = np.clip(copies, 0, 255).astype(np.uint8)
    with caplog.at_level(logging.WARNING, logger="neurorecon"):
        store = _build(tmp_path / "x.icechunk", images)
    assert "20 test stimuli are training stimuli under another id, judged by images (s120 = s000" in caplog.text
    (caution,) = store.cautions("subj01", store.tasks("subj01")[0])
    assert "scores on them are not valid" in caution
    assert caution in as_text(describe(store))


def test_other_images_are_not(tmp_path, caplog):
    store = _build(tmp_path / "x.icechunk", _smooth(180))
    assert store.cautions("subj01", store.tasks("subj01")[0]) == []
    assert caplog.text == ""


def test_miniatures_and_blank_images_are_no_leaks(store):
    for subject in store.subjects:
        for task in store.tasks(subject):
            assert not [text for text in store.cautions(subject, task) if "test stimul" in text]
    blank = np.full((4, 8, 8, 3), 7, np.uint8)
    watch = Watch(lambda start, stop: blank[start:stop], 4)
    watch(0, 4)
    assert watch.leaks(blank, list("abcd"), np.array(["train", "train", "test", "test"])) == []


def test_videos_are_compared_by_their_frames():
    videos = np.stack([_smooth(6, seed=seed) for seed in range(5)])
    videos[4] = videos[1]
    videos[3, 3] = videos[0, 3]  # one frame in common is not a video in common
    watch = Watch(lambda start, stop: videos[start:stop], 5)
    watch(3, 5)  # the rows before were written by an earlier run
    splits = np.array(["train", "train", "train", "test", "test"])
    assert watch.leaks(videos, list("abcde"), splits) == [["e", "b", 1.0]]


def test_many_images_take_a_second():
    small = np.random.default_rng(0).integers(0, 256, (11_000, 16, 16, 3), dtype=np.uint8)
    small[10_500] = small[77]
    watch = Watch(lambda start, stop: small[start:stop], len(small))
    for start in range(0, len(small), 500):
        watch(start, start + 500)
    splits = np.repeat(["train", "test"], [10_000, 1000])
    begun = time.perf_counter()
    found = watch.leaks(small, [str(number) for number in range(len(small))], splits)
    assert found == [["10500", "77", 1.0]]
    assert time.perf_counter() - begun < 20


def test_two_objects_on_one_background_are_two_images():
    """Smooth backgrounds correlate whatever is in front of them."""
    y, x = np.mgrid[:64, :64]
    images = np.repeat((100 + 2 * y)[None, ..., None], 3, axis=0).repeat(3, axis=-1).astype(np.uint8)
    for number, (middle, width) in enumerate([(27, 5), (27, 5), (28, 4)]):
        images[number][((y - middle) / 15) ** 2 + ((x - 37) / width) ** 2 < 1] = 175
    small = small_gray(images)
    assert small[0] @ small[2] > 0.98
    watch = Watch(lambda start, stop: images[start:stop], 3)
    watch(0, 3)
    assert watch.leaks(images, list("abc"), np.array(["train", "test", "test"])) == [["b", "a", 1.0]]


def test_the_same_stimuli_are_found_whatever_their_split():
    images = _smooth(150, side=64)
    images[[70, 140]] = images[3]
    images[20] = np.clip(images[90] * 0.8 + 20, 0, 255)
    images[65] = _as_jpeg(images[64])
    images[[10, 11]] = 7  # blank images say nothing
    ids = [f"s{number:03d}" for number in range(150)]
    pairs = same_stimuli(lambda start, stop: images[start:stop], ids)
    sets = [["s003", "s070", "s140"], ["s020", "s090"], ["s064", "s065"]]
    assert same_sets(pairs) == sets
    assert len(pairs) == 4
    splits = dict.fromkeys(ids, "train") | dict.fromkeys(["s070", "s140", "s020"], "test") | {"s064": ""}
    found = [["s070", "s003"], ["s140", "s003"], ["s020", "s090"]]
    assert straddling(pairs, splits) == found
    assert straddling(pairs, dict.fromkeys(ids, "test")) == []


def test_sets_join_pairs_in_any_order():
    assert same_sets([["a", "b"], ["d", "c"], ["e", "f"], ["b", "c"]]) == [["a", "b", "c", "d"], ["e", "f"]]


def test_small_versions_correlate_like_images():
    images = _smooth(3, side=50)
    small = small_gray(images)
    assert small.shape == (3, 256)
    np.testing.assert_allclose((small**2).sum(axis=1), 1, rtol=1e-5)


def test_identical_rows_of_targets(tmp_path, caplog):
    splits = {f"s{number}": "train" if number < 20 else "test" for number in range(30)}
    rows = np.random.default_rng(0).standard_normal((30, 4)).astype(np.float32)
    assert identical_rows(row_digests(rows, list(splits), 7), splits) == []
    rows[[21, 25]] = rows[[3, 4]]
    rows[[1, 28]] = 0  # without motion
    assert identical_rows(row_digests(rows, list(splits), 7), splits) == [["s21", "s3"], ["s25", "s4"]]
    categories = np.eye(3, dtype=np.float32)[np.arange(30) % 3]
    assert identical_rows(row_digests(categories, list(splits), 7), splits) == []
    store = _build(tmp_path / "x.icechunk", _smooth(180))
    values = np.random.default_rng(0).standard_normal((180, 4)).astype(np.float32)
    values[150] = values[5]
    with caplog.at_level(logging.WARNING, logger="neurorecon"):
        store = add_target(store, "mine", values, made_by={"model": "random", "source": "a test"})
    assert "1 test stimulus is a training stimulus under another id, judged by target mine (s150 = s005)" in caplog.text
    assert any("target mine" in text for text in store.cautions("subj01", store.tasks("subj01")[0]))
    store = add_target(
        store, "mine", np.arange(720.0).reshape(180, 4), made_by={"model": "m", "source": "s"}, overwrite=True
    )
    assert store.cautions("subj01", store.tasks("subj01")[0]) == []


def _sessions(session, stimulus, split):
    return confounded_sessions(pd.DataFrame({"session": session, "stimulus": stimulus, "split": split}))


def test_confounded_sessions():
    stimuli, two = np.tile(np.arange(40), 2), np.repeat([1, 2], 40)
    split = np.where(stimuli < 30, "train", "test")
    assert _sessions(two, stimuli, split) is None  # each stimulus in both sessions
    assert _sessions(np.ones(80), stimuli, split) is None
    assert "shown in one session only" in _sessions(two, stimuli + 40 * (two == 2), split)
    apart = _sessions(two, np.tile(np.arange(20), 4), np.where(two == 1, "train", "test"))
    assert apart == "test and training samples come from different sessions for the most part (test: 2)"


def test_sessions_that_differ_in_categories():
    """Judged beside random assignments: sessions of a few samples differ by chance."""
    generator, sessions = np.random.default_rng(0), np.repeat(np.arange(4), 30)
    shown = {"session": sessions, "stimulus": np.tile(np.arange(30), 4), "split": "train"}

    def confounded(category):
        return confounded_sessions(pd.DataFrame({**shown, "category": category}))

    assert confounded(generator.permutation(np.tile(["face", "house"], 60))) is None
    assert confounded(np.repeat(["face"], 120)) is None
    assert confounded(np.repeat(["face", "house", "cat", "face"], 30)) == (
        "sessions show different categories (3; 4 of 4 sessions show one only)"
    )
    mostly = np.where(generator.random(120) < np.where(sessions % 2, 0.1, 0.9), "face", "house")
    assert "0 of 4 sessions show one only" in confounded(mostly)
    assert confounded(np.where(generator.random(120) < np.where(sessions % 2, 0.4, 0.6), "face", "house")) is None
    # What has no known category says nothing.
    assert confounded(np.where(sessions == 3, "", generator.permutation(np.tile(["face", "house"], 60)))) is None
    # Each of 60 categories is shown twice: hardly two sessions share one, in any order.
    assert confounded(generator.permutation(np.repeat(np.arange(60), 2))) is None
