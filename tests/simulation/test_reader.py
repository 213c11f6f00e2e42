"""The reader of the embedded data set: contract, slices, repeatability, and whether planted truth is found."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import time
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from neurorecon.errors import InputError
from neurorecon.simulation.cortex import COMPONENTS
from neurorecon.simulation.reader import ScenesReader, image_design, run_bounds, video_design
from neurorecon.store.selection import confounded_sessions
from neurorecon.testing import check_reader

TINY = {
    "subjects": 2,
    "voxels": 150,
    "train_images": 24,
    "test_images": 6,
    "train_videos": 12,
    "test_videos": 8,
    "train_video_repeats": 2,
    "test_video_repeats": 3,
}


def make(**changes: object) -> ScenesReader:
    return ScenesReader(None, ScenesReader.Options(**{**TINY, **changes}))


@pytest.fixture(scope="module")
def reader() -> ScenesReader:
    return make()


@pytest.fixture(scope="module")
def whole(reader: ScenesReader) -> np.ndarray:
    subject = reader.subject("subj01")
    return subject.read_responses(0, len(subject.samples))


def test_it_keeps_the_contract(reader: ScenesReader) -> None:
    check_reader(reader)


def test_every_option_is_described_and_unknown_ones_are_refused() -> None:
    assert all(field.description for field in ScenesReader.Options.model_fields.values())
    with pytest.raises(ValidationError):
        make(voxel=3)
    with pytest.raises(ValidationError, match="unknown: speed; known: gabor, color, category, layout, motion"):
        make(without=["speed"])
    with pytest.raises(ValidationError, match="unknown: sky; known: person"):
        make(categories=["face", "sky"])
    with pytest.raises(ValidationError, match="at least 1 item"):
        make(categories=[])
    with pytest.raises(InputError, match="has no stimuli"):
        make(train_images=0, test_images=0, train_videos=0, test_videos=0)


def test_tables(reader: ScenesReader) -> None:
    table, labels = reader.stimuli(), reader.labels()
    assert table["id"].tolist()[:2] == ["image00001", "image00002"]
    assert table["id"].tolist()[-1] == "video0020"
    assert (table["kind"] == "video").sum() == 20
    assert all(len(captions) == 5 for captions in table["captions"])
    assert len(labels) == len(table)
    assert {"category:face", "layout:openness"} <= set(labels.columns)


def test_main_objects_are_of_the_categories_that_are_asked_for() -> None:
    reader = make(categories=["tool", "face"])
    assert set(reader.stimuli()["category"]) == {"face", "tool"}
    assert ScenesReader.Options(categories=["tool", "face", "face"]) == reader.Options(categories=["face", "tool"])
    assert reader.options.categories == ("face", "tool")


def test_responses_without_motion_are_as_strong_as_what_is_left(reader: ScenesReader) -> None:
    whole, still = reader.subject("subj01").truth, make(without=["motion"]).subject("subj01").truth
    assert not still["share_motion"].any()
    np.testing.assert_allclose(still["ncsnr"], whole["ncsnr"])
    left = np.sqrt(1 - whole["share_motion"])
    np.testing.assert_allclose(still["video_snr"], whole["video_snr"] * left, atol=1e-7)
    np.testing.assert_array_equal(still["noise_only"], whole["noise_only"])
    assert make(without=list(COMPONENTS)).subject("subj01").truth["noise_only"].all()


def test_test_stimuli_are_not_training_stimuli(reader: ScenesReader) -> None:
    samples = reader.subject("subj01").samples
    stimuli = samples.groupby("split")["stimulus"].agg(set)
    assert not stimuli["train"] & stimuli["test"]
    images = reader.read_images(0, 30).reshape(30, -1)
    assert len(np.unique(images, axis=0)) == 30


def test_videos_show_their_middle_frame_as_image(reader: ScenesReader) -> None:
    np.testing.assert_array_equal(reader.read_images(30, 50), reader.read_frames(0, 20)[:, 4])


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_responses_do_not_depend_on_slices(reader: ScenesReader, whole: np.ndarray, data: st.DataObject) -> None:
    subject = reader.subject("subj01")
    start = data.draw(st.integers(0, len(whole)))
    stop = data.draw(st.integers(start, len(whole)))
    np.testing.assert_array_equal(subject.read_responses(start, stop), whole[start:stop])


def test_images_do_not_depend_on_slices(reader: ScenesReader) -> None:
    together = reader.read_images(0, 50)
    for start, stop in ((0, 1), (7, 12), (28, 33), (49, 50)):
        np.testing.assert_array_equal(make().read_images(start, stop), together[start:stop])


def test_another_process_computes_the_same_bits(whole: np.ndarray) -> None:
    code = (
        "import hashlib\n"
        "from neurorecon.simulation.reader import ScenesReader\n"
        f"subject = ScenesReader(None, ScenesReader.Options(**{TINY!r})).subject('subj01')\n"
        # Read backward, in pieces.
        "size = len(subject.samples)\n"
        "parts = [subject.read_responses(max(0, stop - 17), stop) for stop in range(size, 0, -17)]\n"
        "print(hashlib.sha256(b''.join(part.tobytes() for part in parts[::-1])).hexdigest())\n"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert printed.stdout.strip() == hashlib.sha256(whole.tobytes()).hexdigest()


def test_subjects_and_seeds_differ(reader: ScenesReader, whole: np.ndarray) -> None:
    other = reader.subject("subj02").read_responses(0, len(whole))
    assert not np.array_equal(whole, other)
    assert not np.array_equal(reader.read_images(0, 3), make(seed=1).read_images(0, 3))


def test_image_design_is_that_of_nsd() -> None:
    design = image_design(seed=0, train=1000, test=100, repeats=3)
    assert len(design) == 1300
    assert (design.groupby("session").size() <= 750).all()
    runs = design.groupby(["session", "run"])
    assert runs.size().between(58, 63).all()
    assert (runs["time"].first() == 0).all()
    assert (runs["time"].diff().dropna() == 4.0).all()
    test = design[design["split"] == "test"]
    assert (test.groupby("number").size() == 3).all()
    assert (test.groupby("number")["repeat"].apply(list).apply(sorted).map(tuple) == (1, 2, 3)).all()
    assert design.loc[design["split"] == "train", "number"].is_unique
    # Repeats are spread: a third of the experiment lies between them on average.
    first, last = (test[test["repeat"] == repeat].index.to_numpy().mean() for repeat in (1, 3))
    assert last - first > 600


def test_video_runs_are_repeated_in_the_same_order() -> None:
    design = video_design(0, first=1900, train=1000, test=240, train_repeats=2, test_repeats=6, first_session=4)
    assert len(design) == 1000 * 2 + 240 * 6
    bounds = run_bounds(design)
    lengths = np.diff(bounds)
    assert ((lengths >= 60) & (lengths <= 80)).all()
    order: dict[tuple[str, int], list[tuple[int, ...]]] = {}
    for start, stop in pairwise(bounds):
        run = design.iloc[start:stop]
        assert run["repeat"].nunique() == 1
        assert (np.diff(run["time"]) == 2.0).all()
        order.setdefault((run["split"].iloc[0], run["repeat"].iloc[0]), []).append(tuple(run["number"]))
    assert all(runs == order[split, 1] for (split, _), runs in order.items())
    assert len(order["test", 1]) == 4
    assert design["session"].min() == 4
    assert confounded_sessions(design.rename(columns={"number": "stimulus"})) is None
    sessions = design.groupby("session")["split"].agg(lambda part: (part == "test").mean())
    assert sessions.between(0.25, 0.65).all()


@settings(max_examples=25, deadline=None)
@given(train=st.integers(0, 900), test=st.integers(0, 200), repeats=st.integers(1, 4), seed=st.integers(0, 9))
def test_designs_of_any_size_are_complete(train: int, test: int, repeats: int, seed: int) -> None:
    design = image_design(seed, train, test, repeats)
    counts = np.bincount(design["number"].to_numpy(dtype=int), minlength=train + test)
    assert (counts == np.r_[np.ones(train, int), np.full(test, repeats)]).all()
    assert not design.duplicated(["session", "run", "time"]).any()
    assert run_bounds(design)[-1] == len(design)


def test_videos_are_detrended_and_scaled_by_run(reader: ScenesReader, whole: np.ndarray) -> None:
    samples = reader.subject("subj01").samples
    videos = samples[samples["task"] == "videos"]
    for _, run in videos.groupby(["session", "run"]):
        values = whole[run.index]
        np.testing.assert_allclose(values.mean(axis=0), 0, atol=1e-5)
        np.testing.assert_allclose(values.std(axis=0), 1, atol=1e-4)
        slope = np.polyfit(run["time"], values, 1)[0]
        np.testing.assert_allclose(slope, 0, atol=1e-5)


def test_the_planted_signal_to_noise_ratio_is_found_from_repeats() -> None:
    reader = make(train_images=8, test_images=64, test_image_repeats=12, voxels=300, train_videos=0, test_videos=0)
    subject = reader.subject("subj01")
    responses = subject.read_responses(0, len(subject.samples)).astype(float)
    samples = subject.samples
    test = samples[samples["split"] == "test"].sort_values(["stimulus", "repeat"])
    trials = responses[test.index].reshape(64, 12, -1)
    noise = trials.var(axis=1, ddof=1).mean(axis=0)
    signal = trials.mean(axis=1).var(axis=0, ddof=1) - noise / 12
    found = np.sqrt(np.clip(signal, 0, None) / noise)
    truth = subject.truth
    visual = ~truth["noise_only"]
    # The signal has variance 1 over 8 training images, and another one over these: compare up to a factor.
    assert np.corrcoef(found[visual], truth["ncsnr"][visual])[0, 1] > 0.8
    assert np.median(found[visual]) == pytest.approx(np.median(truth["ncsnr"][visual]), rel=0.3)
    assert found[~visual].mean() < 0.1
    assert (truth["ncsnr"][~visual] == 0).all()


def test_a_run_of_a_few_clips_is_read_too() -> None:
    reader = make(train_videos=1, test_videos=3, test_video_repeats=2)
    subject = reader.subject("subj01")
    assert np.isfinite(subject.read_responses(0, len(subject.samples))).all()


def test_without_signal_repeats_are_unrelated() -> None:
    reader = make(signal=0.0, train_videos=0, test_videos=0, train_images=0, test_images=24)
    subject = reader.subject("subj01")
    responses = subject.read_responses(0, len(subject.samples))
    test = subject.samples.sort_values(["stimulus", "repeat"])
    first, second, _ = np.moveaxis(responses[test.index].reshape(24, 3, -1), 1, 0)
    correlations = [np.corrcoef(a, b)[0, 1] for a, b in zip(first.T, second.T, strict=True)]
    assert abs(np.mean(correlations)) < 0.1


def test_the_size_of_nsd_opens_lazily() -> None:
    reader = make(train_images=27_000, test_images=1000, voxels=15_000, train_videos=0, test_videos=0, subjects=1)
    begin = time.monotonic()
    subject = reader.subject("subj01")
    assert len(subject.samples) == 30_000
    assert len(subject.voxels) == 15_000
    assert reader.read_images(20_000, 20_002).shape == (2, 64, 64, 3)
    assert time.monotonic() - begin < 20
