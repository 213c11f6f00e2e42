"""Tables are joined by names, not by luck: whatever order rows come in, each response keeps its stimulus and voxel."""

import numpy as np
import pandas as pd
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from neurorecon.datasets.arrays.content import put_together
from neurorecon.datasets.arrays.reader import given_in_memory
from neurorecon.datasets.arrays.tables import ArraysOptions, choose_splits, read_samples
from neurorecon.datasets.runs import read_by_part
from neurorecon.io.tables import as_table

SAMPLES, VOXELS, STIMULI = 14, 4, 7


def _lab():
    """Return arrays and tables in which every number says what it belongs to."""
    rng = np.random.default_rng(0)
    shown = np.concatenate([np.arange(STIMULI), rng.permutation(STIMULI)])
    samples = pd.DataFrame(
        {
            "stimulus": [f"s{number}" for number in shown],
            "session": [1] * STIMULI + [2] * STIMULI,
            "repeat": [1] * STIMULI + [2] * STIMULI,
            "time": np.arange(SAMPLES, dtype=float),
            "split": np.where(shown < 5, "train", "test"),
        }
    )
    stimuli = pd.DataFrame(
        {
            "id": [f"s{number}" for number in range(STIMULI)],
            "category": [f"kind{number % 3}" for number in range(STIMULI)],
            "caption": [f"number {number}" for number in range(STIMULI)],
        }
    )
    voxels = pd.DataFrame({"i": np.arange(VOXELS), "j": 0, "k": 1, "V1": [1, 0, 1, 0], "ncsnr": np.arange(VOXELS) / 4})
    labels = pd.DataFrame({"stimulus": stimuli["id"], "size": np.arange(STIMULI) * 10.0})
    images = np.repeat(np.arange(STIMULI, dtype=np.uint8), 12).reshape(STIMULI, 2, 2, 3)
    responses = rng.standard_normal((SAMPLES, VOXELS)).astype(np.float32)
    return responses, samples, stimuli, voxels, labels, images


def _joined(responses, samples, stimuli, voxels, labels, images, **options):
    """Return one row for each sample and voxel, with all that the tables say of them, in an order of its own."""
    grid = {"affine": np.eye(4).tolist(), "shape": [VOXELS, 2, 2]}
    given_arrays = given_in_memory(
        responses,
        samples,
        stimuli,
        voxels=voxels,
        labels=labels,
        images=images,
        affine=grid["affine"],
        shape=grid["shape"],
    )
    content = put_together(given_arrays, ArraysOptions(**grid, **options))
    data = content.subject("subj01")
    ids = content.stimuli.table["id"]
    table = content.stimuli.table.assign(
        size=content.labels["size"], pixel=content.images.read(0, STIMULI)[:, 0, 0, 0], caption=0
    )
    table["caption"] = [row[0] for row in table.pop("captions")]
    rows = data.samples.merge(table, left_on="stimulus", right_on="id", validate="many_to_one")
    assert len(ids) == STIMULI
    assert len(rows) == SAMPLES
    values = pd.DataFrame(data.read_responses(0, SAMPLES)).assign(sample=np.arange(SAMPLES))
    long = values.melt("sample", var_name="voxel", value_name="response")
    places = data.voxels.assign(voxel=np.arange(VOXELS), V1=data.rois["V1"])
    found = long.merge(rows.assign(sample=np.arange(SAMPLES)), on="sample").merge(places, on="voxel")
    found = found.drop(columns=["sample", "voxel"])
    return found.sort_values(["stimulus", "repeat", "i"]).reset_index(drop=True)


EXPECTED = _joined(*_lab())


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.permutations(range(SAMPLES)),
    st.permutations(range(VOXELS)),
    st.permutations(range(STIMULI)),
    st.permutations(range(STIMULI)),
    st.booleans(),
)
def test_rows_in_any_order_give_the_same_data(order, places, shuffled, labeled, transpose):
    responses, samples, stimuli, voxels, labels, images = _lab()
    moved = responses[order][:, places]
    found = _joined(
        moved.T if transpose else moved,
        samples.iloc[order],
        stimuli.iloc[shuffled],
        voxels.iloc[places],
        labels.iloc[labeled],
        images[shuffled],
        transpose=transpose,
    )
    pd.testing.assert_frame_equal(found, EXPECTED)


def test_a_response_in_the_wrong_place_would_be_seen():
    responses, *others = _lab()
    found = _joined(responses[::-1], *others)
    assert not found.equals(EXPECTED)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.permutations(range(SAMPLES)), st.integers(0, 100))
def test_the_split_that_is_drawn_does_not_depend_on_the_order(order, seed):
    tables = []
    for rows in (list(order), list(range(SAMPLES))):
        table = as_table(_lab()[1].drop(columns="split").iloc[rows], "the samples")
        samples = read_samples(table, {f"s{number}": "images" for number in range(STIMULI)}, None)
        found, _ = choose_splits([samples], np.array([f"s{number}" for number in range(STIMULI)]), None, 0.3, [], seed)
        tables.append(found[0].groupby("stimulus")["split"].agg(set).to_dict())
    assert tables[0] == tables[1]


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.integers(0, 5), max_size=6), st.integers(0, 40), st.integers(0, 40))
def test_parts_are_read_as_one(lengths, start, stop):
    parts = [
        100 * number + np.arange(2 * length, dtype=np.float64).reshape(length, 2)
        for number, length in enumerate(lengths)
    ]
    whole = np.concatenate([np.empty((0, 2)), *parts])
    read = read_by_part(lengths, parts.__getitem__, 2)
    np.testing.assert_array_equal(read(start, stop), whole[start:stop].astype(np.float32))
