import dataclasses
import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neurorecon.analyses import design
from neurorecon.analyses.design import ClassifySettings, DecodingSettings, EncodingSettings
from neurorecon.decoders import samples
from neurorecon.decoders.kernels import delayed_kernel
from neurorecon.decoders.samples import SampleTable, choose_delays, choose_task, load_samples, same_order
from neurorecon.errors import InputError, UnknownNameError
from neurorecon.parallel import Compute


def _samples(runs, shown):
    number = int(max(shown)) + 1
    return SampleTable(
        np.zeros((len(shown), 1), dtype=np.float32), pd.DataFrame(), np.array(runs), list("s" * number), np.array(shown)
    )


def _delayed(features, runs, delays):
    """Delay features run by run as himalaya's tutorials do: copies shifted down, filled with zeros, side by side."""
    parts = []
    for run in pd.unique(pd.Series(runs)):
        part = features[np.asarray(runs) == run]
        copies = []
        for delay in delays:
            copy = np.zeros_like(part)
            copy[delay:] = part[: len(part) - delay] if delay < len(part) else part[:0]
            copies.append(copy)
        parts.append(np.concatenate(copies, axis=1))
    return np.concatenate(parts)


@st.composite
def _sequences(draw):
    lengths = draw(st.lists(st.integers(1, 7), min_size=1, max_size=3))
    runs = np.repeat(np.arange(len(lengths)), lengths)
    shown = draw(st.lists(st.integers(0, 4), min_size=len(runs), max_size=len(runs)))
    return _samples(runs, shown)


@given(_sequences(), _sequences(), st.lists(st.integers(0, 8), min_size=1, max_size=4, unique=True), st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_the_delayed_kernel_is_the_product_of_delayed_features(train, test, delays, seed):
    features = np.random.default_rng(seed).standard_normal((5, 3))
    explicit_train = _delayed(features[train.shown], train.runs, delays)
    explicit_test = _delayed(features[test.shown], test.runs, delays)
    seen, held_out = train.at_delays(delays), test.at_delays(delays)
    gram = features @ features.T
    np.testing.assert_allclose(delayed_kernel(gram, seen, seen), explicit_train @ explicit_train.T, atol=1e-9)
    np.testing.assert_allclose(delayed_kernel(gram, held_out, seen), explicit_test @ explicit_train.T, atol=1e-9)


@given(_sequences(), st.lists(st.integers(0, 8), min_size=1, max_size=4))
def test_delays_never_cross_runs(samples, delays):
    found = samples.at_delays(delays)
    for row, delay in zip(found, delays, strict=True):
        for sample, stimulus in enumerate(row):
            ago = sample - delay
            if ago >= 0 and samples.runs[ago] == samples.runs[sample]:
                assert stimulus == samples.shown[ago]
            else:
                assert stimulus == -1


def _table(*runs):
    rows = [(1, run, stimulus) for run, stimuli in enumerate(runs) for stimulus in stimuli]
    return pd.DataFrame(rows, columns=["session", "run", "stimulus"])


@pytest.mark.parametrize(
    ("runs", "same"),
    [
        (["abc", "abc"], True),
        (["abc", "de", "abc"], True),
        (["abc", "acb"], False),
        (["abc", "bca"], False),  # the same neighbors, but another beginning
        (["aba"], False),
        (["abc"], True),
    ],
)
def test_whether_repeats_come_in_the_same_order(runs, same):
    assert same_order(_table(*runs)) is same


def test_the_products_are_those_of_standardized_features(miniature, monkeypatch):
    store = miniature(subjects=1)
    train, test = (store.targets("gabor", split=split)["stimulus"].values.tolist() for split in ("train", "test"))
    values = store.targets("gabor", stimuli=[*train, *test]).values.astype(float)
    mean, spread = values[: len(train)].mean(axis=0), values[: len(train)].std(axis=0)
    standardized = np.where(spread > 1e-8, (values - mean) / np.where(spread > 1e-8, spread, 1), 0)
    for block in (4096, 100):  # the block size changes nothing
        monkeypatch.setattr(design, "FEATURE_BLOCK", block)
        within, across = design.grams(store, ["gabor"], train, test)
        np.testing.assert_allclose(within[0], standardized[: len(train)] @ standardized[: len(train)].T, rtol=1e-6)
        np.testing.assert_allclose(
            across[0], standardized[len(train) :] @ standardized[: len(train)].T, rtol=1e-6, atol=1e-6
        )


def test_features_that_are_not_standardized_keep_their_relative_scale(miniature):
    store = miniature(subjects=1)
    ids = store.target_stimuli("gabor").tolist()
    train, test = ids[::2], ids[1::2]
    within, across = design.grams(store, ["gabor"], train, test, standardize=False)
    values = store.targets("gabor", stimuli=[*train, *test]).values.astype(np.float64)
    values -= values[: len(train)].mean(axis=0)
    np.testing.assert_allclose(within[0], values[: len(train)] @ values[: len(train)].T, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(across[0], values[len(train) :] @ values[: len(train)].T, rtol=1e-9, atol=1e-9)
    standardized, _ = design.grams(store, ["gabor"], train, test)
    assert np.corrcoef(within.ravel(), standardized.ravel())[0, 1] < 0.999


def test_groups_of_latents_count_alike():
    weights = design.feature_weights({"group_boundaries": [0, 2, 6]}, 6)
    np.testing.assert_allclose([(weights[:2] ** 2).sum(), (weights[2:] ** 2).sum()], 1)
    np.testing.assert_array_equal(design.feature_weights({}, 6), 1)


def test_every_resolution_counts_alike_into_however_many_groups_it_is_split():
    shapes = [[2, 2, 2], [2, 2, 2], [1, 4, 4]]
    weights = design.feature_weights({"group_boundaries": [0, 8, 16, 32], "group_shapes": shapes}, 32)
    np.testing.assert_allclose([(weights[:16] ** 2).sum(), (weights[16:] ** 2).sum()], 1)
    assert len(set(weights[:16])) == 1


def test_latents_without_a_place_count_nothing_beside_others():
    shapes = [[2, 1, 1], [2, 1, 1], [2, 2, 2]]
    weights = design.feature_weights({"group_boundaries": [0, 2, 4, 12], "group_shapes": shapes}, 12)
    assert not weights[:4].any()
    np.testing.assert_allclose((weights[4:] ** 2).sum(), 1)
    alone = design.feature_weights({"group_boundaries": [0, 2, 4], "group_shapes": shapes[:2]}, 4)
    np.testing.assert_allclose((alone**2).sum(), 1)


def test_the_task_follows_from_the_bands(miniature):
    store = miniature(subjects=1)
    assert choose_task(store, "subj01", ["gabor", "category"], None) == "images"  # 18 training images, 8 videos
    assert choose_task(store, "subj01", ["gabor", "motion"], None) == "videos"
    assert choose_task(store, "subj01", ["gabor"], "videos") == "videos"
    with pytest.raises(InputError, match=r"cannot be analyzed with these bands[\s\S]*one of: videos"):
        choose_task(store, "subj01", ["motion"], "images")
    with pytest.raises(InputError, match="'music' cannot be analyzed"):
        choose_task(store, "subj01", ["gabor"], "music")


def test_delays_cover_the_response_in_a_time_series(miniature):
    store = miniature(subjects=1)  # videos: one volume every 2 s
    assert choose_delays(store, "subj01", "videos", None) == (1, 2, 3, 4)
    assert choose_delays(store, "subj01", "videos", [2, 3]) == (2, 3)
    assert choose_delays(store, "subj01", "images", None) == (0,)
    with pytest.raises(InputError, match="delays need a time series"):
        choose_delays(store, "subj01", "images", [1])
    for wrong in ([], [1, -1]):
        with pytest.raises(InputError, match="these delays cannot be used"):
            choose_delays(store, "subj01", "videos", wrong)


def test_samples_are_averaged_over_repeats(miniature):
    store = miniature(subjects=1)
    videos = load_samples(store, "subj01", "V1", "train", "videos")
    assert len(videos.shown) == len(videos.stimuli) == 8
    assert len(set(videos.runs)) == 1
    single = store.responses("subj01", "V1", "train", task="videos").values
    np.testing.assert_allclose(videos.responses, (single[:8] + single[8:]) / 2, atol=1e-6)


def test_delays_reach_into_the_rest_that_was_left_out():
    # Volumes 0, 1, 2, 6, 7 of one run: what was shown at 2 is not what was seen one volume before 6.
    samples = SampleTable(
        np.zeros((5, 1), np.float32),
        pd.DataFrame(),
        np.zeros(5, dtype=int),
        list("abcde"),
        np.arange(5),
        np.array([0, 1, 2, 6, 7]),
    )
    np.testing.assert_array_equal(samples.at_delays([1, 4]), [[-1, 0, 1, -1, 3], [-1, -1, -1, 2, -1]])


def test_samples_of_one_time_are_refused():
    samples = SampleTable(
        np.zeros((2, 1)), pd.DataFrame(), np.zeros(2, dtype=int), ["a"], np.zeros(2, int), np.zeros(2, int)
    )
    with pytest.raises(InputError, match="the same time"):
        samples.at_delays([1])


# -- settings and selections ------------------------------------------------------------------------------------------


def test_settings_stay_as_they_were_made():
    bands = ["gabor", "motion"]
    settings = EncodingSettings(roi=["V1", "V2"], bands=bands, delays=range(1, 3))
    bands.append("category")
    assert (settings.bands, settings.delays) == (("gabor", "motion"), (1, 2))
    assert settings.rois == ["V1", "V2"]
    assert EncodingSettings(roi="V1+V2").rois == "V1+V2"
    assert EncodingSettings().rois is None
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.fdr = 0.1
    assert dataclasses.replace(settings, fdr=0.1).bands == settings.bands
    record = json.loads(json.dumps(settings.record()))
    assert record["bands"] == ["gabor", "motion"]
    assert (record["null"], record["cross_validate"], record["n_bootstraps"]) == ("order", None, 2000)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda: EncodingSettings(n_permutations=0), "n_permutations is out of range[\\s\\S]*from 1 to"),
        (lambda: EncodingSettings(fdr=1.0), "fdr is out of range[\\s\\S]*above 0 and below 1"),
        (lambda: EncodingSettings(confidence=0.0), "confidence is out of range[\\s\\S]*0.95"),
        (lambda: EncodingSettings(n_bootstraps=0), "n_bootstraps is out of range"),
        (lambda: DecodingSettings(fdr=-0.1), "fdr is out of range"),
        (lambda: ClassifySettings(C=0.0), "C is out of range[\\s\\S]*above 0"),
        (lambda: EncodingSettings(device="tpu"), "unknown device 'tpu'"),
    ],
)
def test_settings_that_test_nothing_are_refused(wrong, said):
    with pytest.raises(InputError, match=said):
        wrong()


def test_names_in_settings_are_known_ones():
    with pytest.raises(UnknownNameError, match="weights, haufe"):
        DecodingSettings(pattern="filters")
    with pytest.raises(UnknownNameError, match="run, session, stimulus"):
        ClassifySettings(cross_validate="category")
    with pytest.raises(InputError, match="threads is a number of 1 or more"):
        Compute(threads=0)


@pytest.mark.parametrize(("task", "roi"), [("images", None), ("videos", ["V1", "MT"])])
def test_both_splits_are_read_at_once_and_hold_the_same_bits(miniature, monkeypatch, task, roi):
    store = miniature(subjects=1, images=60, videos=30)
    settings = EncodingSettings(task=task, roi=roi, bands=["gabor"])
    chosen = design.select(store, "subj01", settings)
    apart = [load_samples(store, "subj01", roi, split, task, slice(3, 9)) for split in ("train", "test")]
    calls = []
    read = type(store).responses
    monkeypatch.setattr(type(store), "responses", lambda *args, **kwargs: calls.append(1) or read(*args, **kwargs))
    together = design.load_both(store, chosen, settings, slice(3, 9))
    assert len(calls) == 1
    for one, other in zip(together, apart, strict=True):
        np.testing.assert_array_equal(one.responses, other.responses)
        np.testing.assert_array_equal(one.shown, other.shown)
        np.testing.assert_array_equal(one.runs, other.runs)
        assert one.stimuli == other.stimuli
    assert chosen.train.responses.size == 0
    assert chosen.voxels == len(store.voxels("subj01", roi))
    assert chosen.series == (task == "videos")


def test_splits_that_are_averaged_otherwise_are_read_apart(miniature, monkeypatch):
    store = miniature(subjects=1, images=60, videos=30)
    settings = EncodingSettings(task="videos", bands=["gabor"])
    for module in (design, samples):
        monkeypatch.setattr(module, "same_order", lambda part: (part["split"] == "train").all())
    chosen = design.select(store, "subj01", settings)
    train, test = design.load_both(store, chosen, settings, slice(None))
    assert len(train.shown) == len(set(train.shown))  # repeats are averaged
    assert len(test.shown) > len(set(test.shown))
