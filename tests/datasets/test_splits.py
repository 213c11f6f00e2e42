"""Splits that any reader may use."""

import numpy as np
import pandas as pd
import pytest

from neurorecon.datasets.splits import cluster_texts, hold_out_groups, hold_out_sessions, hold_out_stimuli
from neurorecon.errors import InputError


def test_by_stimulus():
    assert hold_out_stimuli(["a", "b", "a", "c"], {"a"}).tolist() == ["test", "train", "test", "train"]
    assert hold_out_stimuli(np.array([3, 1]), {1}).tolist() == ["train", "test"]


def test_by_session_no_stimulus_is_on_both_sides_of_any_subject():
    samples = {
        "one": pd.DataFrame({"stimulus": list("abcab"), "session": [1, 1, 2, 2, 3]}),
        "two": pd.DataFrame({"stimulus": list("bdx"), "session": [1, 1, 3]}),
    }
    found = hold_out_sessions(samples, [3])
    assert found["one"].tolist() == ["train", "", "train", "train", "test"]
    assert found["two"].tolist() == ["", "train", "test"]


def test_by_group_whole_groups_in_the_same_order_until_the_share_is_reached():
    groups = np.repeat(np.arange(10), 7)
    held_out = hold_out_groups(groups, 0.25, seed=1)
    assert len(held_out) == 3
    assert held_out == hold_out_groups(groups, 0.25, seed=1)
    assert len(hold_out_groups(groups, 0.999)) == 9  # something is left to train on
    with pytest.raises(InputError, match="in the same cluster"):
        hold_out_groups([1, 1, 1], 0.5)


def test_clusters_of_captions_are_what_the_captions_speak_of():
    words = ["a red train on the rails", "a dog in the grass", "slices of pizza"]
    texts = [[words[number % 3], f"{words[number % 3]} again"] for number in range(30)]
    clusters = cluster_texts(texts, 3)
    assert [len(set(clusters[start::3])) for start in range(3)] == [1, 1, 1]
    assert len(set(clusters)) == 3
    with pytest.raises(InputError, match="1 without captions"):
        cluster_texts([*texts, [" "]], 3)
    with pytest.raises(InputError, match="as many stimuli as clusters"):
        cluster_texts(texts[:2], 3)
