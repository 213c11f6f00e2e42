"""Columns of samples that the store knows nothing of are kept as they are."""

import numpy as np
import pandas as pd
import pytest

import neurorecon as nr
from neurorecon.datasets.base import column_values, tidy_columns
from neurorecon.errors import InputError


def test_other_columns_go_into_the_store(lab, tmp_path):
    lab.samples["RT"] = [0.5, np.nan, *np.linspace(0.4, 0.9, 10)]
    lab.samples["answer"] = ["left", "", "right"] * 4
    lab.samples["code"] = ["01", "02", "03"] * 4
    lab.samples["is it old?"] = 1
    lab.samples.loc[3, "stimulus"] = ""
    store = nr.build("arrays", tmp_path / "a.icechunk", root=lab.write(), progress=False)
    samples = store.samples("subj01")
    expected = lab.samples.drop(index=3)
    assert samples.columns[7:].tolist() == ["RT", "answer", "code"]
    np.testing.assert_array_equal(samples["RT"], expected["RT"])
    assert samples["answer"].tolist() == expected["answer"].tolist()
    assert samples["code"].tolist() == expected["code"].tolist()
    assert store.report("subj01")["columns of samples, not used"] == "is it old?"
    assert store.responses("subj01", split="test")["answer"].dims == ("sample",)


def test_means_of_trials_with_an_ncsnr_have_a_noise_ceiling(lab, tmp_path):
    lab.samples = lab.samples.assign(trials=2, stimulus=[f"s{number}" for number in range(12)])
    lab.stimuli = pd.DataFrame({"id": lab.samples["stimulus"]})
    lab.images = None
    lab.voxels["ncsnr"] = 1.0
    store = nr.build("arrays", tmp_path / "a.icechunk", root=lab.write(), progress=False)
    np.testing.assert_allclose(store.noise_ceiling("subj01"), 2 / 3, rtol=1e-6)
    lab.samples["trials"] = 0
    with pytest.raises(InputError, match="'trials'"):
        nr.build("arrays", tmp_path / "b.icechunk", root=lab.write(), progress=False)


def test_names_that_mean_something_else_are_left_out():
    table = pd.DataFrame(columns=["Time", "roi", "truth_x", "../x", "good", "GOOD", "x" * 3], index=range(2))
    found, left_out = tidy_columns(table, table.columns)
    assert found.columns.tolist() == ["good", "xxx"]
    assert left_out == ["Time", "roi", "truth_x", "../x", "GOOD"]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["1", "2", ""], [1.0, 2.0, np.nan]),
        (["1.5", None, "n/a"], [1.5, np.nan, np.nan]),
        (["007", "8", "9"], ["007", "8", "9"]),
        (["a", None, "1"], ["a", "", "1"]),
        ([None, None, None], [np.nan] * 3),
        ([1, 2, 3], [1, 2, 3]),
        ([True, False, True], [True, False, True]),
        (pd.array([1, None, 3], dtype="Int64"), [1.0, np.nan, 3.0]),
    ],
)
def test_values_are_numbers_where_all_of_them_are(values, expected):
    found, _ = tidy_columns(pd.DataFrame({"x": values}), ["x"])
    stored = column_values(found["x"])
    np.testing.assert_array_equal(stored, expected)
