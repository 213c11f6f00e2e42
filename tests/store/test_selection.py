import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from neurorecon.errors import InputError, UnknownNameError
from neurorecon.store import selection

#: A busy machine is no failure.
PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

ROIS = {
    "V1": np.array([1, 1, 0, 0, 0, 0], bool),
    "V2": np.array([0, 1, 1, 0, 0, 0], bool),
    "ecc4+": np.array([0, 0, 0, 1, 0, 0], bool),
    "a.b": np.array([0, 0, 0, 0, 1, 0], bool),
    "none": np.zeros(6, bool),
}
GROUPS = {"early": ["V1", "V2"], "all": ["early", "ecc4+", "absent"], "round": ["round"], "lost": ["absent"]}
SIDES = np.array(["left", "right", "left", "right", "left", "right"])


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("V1", [0, 1]),
        ("V1+V2", [0, 1, 2]),
        (["V1", "ecc4+"], [0, 1, 3]),
        ("ecc4+", [3]),
        ("ecc4++V1", [0, 1, 3]),
        ("V1+ecc4+", [0, 1, 3]),
        ("a.b", [4]),
        ("early", [0, 1, 2]),
        ("all", [0, 1, 2, 3]),
        ("lh.V1", [0]),
        ("rh.early", [1]),
        ("lh.V1+rh.V2", [0, 1]),
        (" V1 + V2 ", [0, 1, 2]),
    ],
)
def test_expressions(expression, expected):
    mask = selection.roi_mask(expression, ROIS, GROUPS, SIDES)
    assert np.flatnonzero(mask).tolist() == expected


@PATIENT
@given(st.lists(st.sampled_from(["V1", "V2", "ecc4+", "a.b", "early"]), min_size=1, max_size=4))
def test_a_union_is_the_list_of_its_parts(names):
    joined = selection.roi_mask("+".join(names), ROIS, GROUPS, SIDES)
    np.testing.assert_array_equal(joined, selection.roi_mask(names, ROIS, GROUPS, SIDES))
    parts = [selection.roi_mask(name, ROIS, GROUPS, SIDES) for name in names]
    np.testing.assert_array_equal(joined, np.logical_or.reduce(parts))


@PATIENT
@given(st.text(max_size=12))
def test_any_text_selects_or_says_why(text):
    try:
        mask = selection.roi_mask(text, ROIS, GROUPS, SIDES)
    except InputError as error:
        message = str(error)
    else:
        message = "expected" if mask.any() else "nothing was selected without an error"
    assert "expected" in message


def test_an_unknown_name_lists_what_exists_and_proposes_the_closest():
    with pytest.raises(UnknownNameError, match=r"one of: V1, V2.*early \(group\)"):
        selection.roi_mask("V9", ROIS, GROUPS)
    with pytest.raises(UnknownNameError, match=r"did you mean 'V1'.*case"):
        selection.roi_mask("v1", ROIS, GROUPS)


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ([], "no ROI is given"),
        ("", "no ROI is given"),
        ([3], "no ROI is given"),
        ("none", "contains no voxels"),
        ("round", "contains itself"),
        ("lost", "unknown ROI in the group 'lost'"),
    ],
)
def test_bad_expressions(expression, message):
    with pytest.raises(InputError, match=message):
        selection.roi_mask(expression, ROIS, GROUPS, SIDES)


def test_hemispheres_have_to_be_known():
    with pytest.raises(InputError, match="does not know the hemispheres"):
        selection.roi_mask("lh.V1", ROIS, GROUPS, None)


def _table(runs, stimuli=None):
    rows = [("videos", 1, run, 2.0 * volume) for run, length in enumerate(runs, 1) for volume in range(length)]
    table = pd.DataFrame(rows, columns=["task", "session", "run", "time"])
    table["stimulus"] = [f"s{number}" for number in range(len(table))] if stimuli is None else stimuli
    table["split"] = "train"
    return table


def test_time_counts_from_the_onset_of_each_run():
    table = _table([4, 3])
    assert selection.select_samples(table, time=slice(2, 6)).tolist() == [1, 2, 5, 6]
    assert selection.select_samples(table, time=(None, 2)).tolist() == [0, 4]
    assert selection.select_samples(table, split="train", task="videos").tolist() == list(range(7))


SAMPLE_TABLES = st.lists(
    st.tuples(st.sampled_from(["train", "test"]), st.sampled_from(["images", "videos"]), st.integers(0, 9)),
    min_size=1,
    max_size=20,
).map(lambda rows: pd.DataFrame(rows, columns=["split", "task", "time"]).astype({"time": float}))


@PATIENT
@given(
    SAMPLE_TABLES,
    st.sampled_from([None, "train", "test"]),
    st.sampled_from([None, "images", "videos"]),
    st.one_of(st.none(), st.tuples(st.integers(0, 9), st.integers(0, 9))),
)
def test_samples_are_those_of_pandas_or_an_error_says_why(table, split, task, time):
    rows = table
    for column, value in (("split", split), ("task", task)):
        rows = rows if value is None else rows[rows[column] == value]
    rows = rows if time is None else rows[(rows["time"] >= time[0]) & (rows["time"] < time[1])]
    if len(rows):
        found = selection.select_samples(table, split, task, time if time is None else slice(*time))
        assert found.tolist() == rows.index.tolist()
    else:
        with pytest.raises(InputError, match=r"unknown (split|task)|contains no samples"):
            selection.select_samples(table, split, task, time)


@PATIENT
@given(st.sampled_from(["V1", "V2", "ecc4+", "early", "all"]), st.lists(st.booleans(), min_size=6, max_size=6))
def test_the_hemispheres_of_an_roi_make_the_roi(name, left):
    sides = np.where(left, "left", "right")
    whole = selection.roi_mask(name, ROIS, GROUPS, sides)
    for side, hemisphere in (("left", "lh"), ("right", "rh")):
        expected = whole & (sides == side)
        if expected.any():
            np.testing.assert_array_equal(selection.roi_mask(f"{hemisphere}.{name}", ROIS, GROUPS, sides), expected)
        else:
            with pytest.raises(InputError, match="contains no voxels"):
                selection.roi_mask(f"{hemisphere}.{name}", ROIS, GROUPS, sides)
    np.testing.assert_array_equal(selection.roi_mask(f"lh.{name}+rh.{name}", ROIS, GROUPS, sides), whole)


@PATIENT
@given(st.lists(st.integers(0, 50), min_size=1, max_size=12, unique=True))
def test_a_slice_or_positions_pick_the_same(positions):
    positions = np.array(positions)
    picked = selection.contiguous(positions)
    values = np.arange(60)
    np.testing.assert_array_equal(values[picked], positions)
    assert isinstance(picked, slice) == bool((np.diff(positions) == 1).all())


def test_samples_that_do_not_exist():
    table = _table([4])
    with pytest.raises(InputError, match="no sample"):
        selection.select_samples(table, time=slice(100, 120))
    with pytest.raises(UnknownNameError, match="unknown split 'tset'"):
        selection.select_samples(table, split="tset")
    with pytest.raises(InputError, match="cannot have a step"):
        selection.select_samples(table, time=slice(0, 4, 2))


@PATIENT
@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=5),
    st.lists(st.integers(0, 5), min_size=1, max_size=3, unique=True),
)
def test_delays_never_leave_the_run(runs, delays):
    table = _table(runs)
    everything = np.arange(len(table))
    kept, shifted = selection.delayed_positions(table, everything, delays, {"videos": 2.0})
    assert shifted.shape == (len(delays), len(kept))
    run = table["run"].to_numpy()
    for row, delay in zip(shifted, delays, strict=True):
        np.testing.assert_array_equal(row, kept + delay)
        np.testing.assert_array_equal(run[row], run[kept])
    assert len(kept) == sum(max(0, length - max(delays)) for length in runs)


@pytest.mark.parametrize("delays", [(-1,), (1, 1), (0.5,)])
def test_delays_are_different_whole_numbers(delays):
    with pytest.raises(InputError, match="these delays cannot be used"):
        selection.delayed_positions(_table([5]), np.arange(5), delays, {"videos": 2.0})


def test_delays_need_a_time_series():
    with pytest.raises(InputError, match="single-trial estimates"):
        selection.delayed_positions(_table([5]), np.arange(5), (1,), {})


@PATIENT
@given(st.lists(st.sampled_from("abcde"), min_size=1, max_size=30), st.integers(0, 2**32 - 1))
def test_averages_are_those_of_pandas(stimuli, seed):
    table = _table([len(stimuli)], stimuli)
    values = np.random.default_rng(seed).standard_normal((len(stimuli), 3)).astype(np.float32)
    weights, averaged = selection.average_by_stimulus(table)
    expected = pd.DataFrame(values).groupby(np.array(stimuli), sort=False)
    np.testing.assert_allclose(weights @ values, expected.mean().to_numpy(), atol=1e-6)
    assert averaged["stimulus"].tolist() == list(expected.groups)
    assert averaged["repeats"].tolist() == expected.size().tolist()


def test_neighbors_are_read_as_a_slice():
    assert selection.contiguous(np.array([3, 4, 5])) == slice(3, 6)
    np.testing.assert_array_equal(selection.contiguous(np.array([3, 5])), [3, 5])


def test_delays_do_not_reach_over_volumes_that_were_left_out():
    table = _table([6]).assign(time=[0.0, 2.0, 4.0, 20.0, 22.0, 24.0])
    kept, shifted = selection.delayed_positions(table, np.arange(6), (1,), {"videos": 2.0})
    np.testing.assert_array_equal(kept, [0, 1, 3, 4])
    np.testing.assert_array_equal(shifted, [[1, 2, 4, 5]])
