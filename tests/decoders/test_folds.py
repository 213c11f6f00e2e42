import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import GroupKFold, KFold, ShuffleSplit

from neurorecon.decoders import group_folds
from neurorecon.errors import InputError


@settings(max_examples=60, deadline=None)
@given(groups=st.lists(st.integers(0, 9), min_size=2, max_size=40), cv=st.integers(2, 7))
def test_groups_stay_together_and_all_samples_are_scored_once(groups, cv):
    groups = np.array(groups)
    if len(np.unique(groups)) < 2:
        with pytest.raises(InputError, match="at least two folds"):
            group_folds(len(groups), groups, cv)
        return
    folds = group_folds(len(groups), groups, cv)
    assert len(folds) == min(cv, len(np.unique(groups)))
    for train, test in folds:
        assert not set(groups[train]) & set(groups[test])
        assert len(train) + len(test) == len(groups)
    np.testing.assert_array_equal(np.sort(np.concatenate([test for _, test in folds])), np.arange(len(groups)))


def test_folds_are_sklearns():
    groups = np.array(["a", "b", "a", "c", "d", "c", "e"])
    for splitter, labels in ((GroupKFold(3), groups), (KFold(3), None)):
        expected = list(splitter.split(np.zeros(7), groups=labels))
        for (train, test), (their_train, their_test) in zip(group_folds(7, labels, 3), expected, strict=True):
            np.testing.assert_array_equal(train, their_train)
            np.testing.assert_array_equal(test, their_test)


def test_a_splitter_may_be_given_but_not_one_that_splits_groups():
    splitter = ShuffleSplit(4, random_state=0)
    assert len(group_folds(20, None, splitter)) == 4
    with pytest.raises(InputError, match="both sides"):
        group_folds(20, np.arange(20) // 10, splitter)
    with pytest.raises(InputError, match="no training or no test samples"):
        group_folds(4, None, [(np.arange(0), np.arange(4))])


@pytest.mark.parametrize(
    "groups",
    [
        np.array(["a", "a", np.nan, "b"], dtype=object),
        ["a", "a", np.nan, "b"],
        [1.0, 1.0, np.nan, 2.0],
        ["a", "a", None, "b"],
        pd.Series(["a", "a", pd.NA, "b"], dtype="string"),
        ["a", "a", "n/a", "b"],
    ],
    ids=lambda groups: type(groups).__name__,
)
def test_a_sample_without_a_group_is_refused(groups):
    with pytest.raises(InputError, match=r"samples without a label(.|\n)*for sample 3; 1 of 4"):
        group_folds(4, groups, 2)


def test_groups_of_text_and_numbers_may_be_mixed():
    groups = np.array(["a", 1, "a", 1, 2.5, "b"], dtype=object)
    for train, test in group_folds(6, groups, 2):
        assert not set(map(str, groups[train])) & set(map(str, groups[test]))
