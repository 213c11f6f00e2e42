import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neurorecon.errors import InputError
from neurorecon.provenance import collect, to_json, to_json_types

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def test_record_is_json_and_names_what_matters():
    record = collect(
        "neurorecon maps --roi MT", store="scenes.icechunk", snapshot="8ZK2", digests={"responses": "ab"}, seed=3,
        simulated=True, extra={"alpha": np.float32(0.5), "rois": ("V1", "MT"), "none": np.nan},
    )  # fmt: skip
    assert json.loads(to_json(record)) == record
    assert record["command"] == "neurorecon maps --roi MT"
    assert record["snapshot"] == "8ZK2"
    assert record["seed"] == 3
    assert record["simulated"] is True
    assert record["digests"] == {"responses": "ab"}
    assert record["extra"] == {"alpha": 0.5, "rois": ["V1", "MT"], "none": None}
    assert record["versions"]["numpy"] == np.__version__
    assert "neurorecon" in record["versions"]


def test_time_follows_source_date_epoch(monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "86400")
    assert collect("x")["time"] == "1970-01-02T00:00:00Z"
    assert to_json(collect("x")) == to_json(collect("x"))


@pytest.mark.parametrize("epoch", ["yesterday", "1e5", "99999999999999999999"])
def test_bad_source_date_epoch_is_one_clear_error(monkeypatch, epoch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", epoch)
    with pytest.raises(InputError, match="SOURCE_DATE_EPOCH"):
        collect("x")


@pytest.mark.parametrize(
    ("given_name", "kept"),
    [
        ("stores/scenes.icechunk", "stores/scenes.icechunk"),
        ("/srv/lab/person/scenes.icechunk", "scenes.icechunk"),
        ("https://user:secret@host.org/data.zarr?token=1", "https://host.org/data.zarr"),
        ("s3://bucket/scenes.icechunk", "s3://bucket/scenes.icechunk"),
        ("file:///srv/lab/scenes.icechunk", "scenes.icechunk"),
    ],
)
def test_store_is_named_without_machine_or_password(given_name, kept):
    assert collect("x", store=given_name)["store"] == kept


@given(JSON)
def test_json_values_stay_as_they_are(value):
    assert to_json_types(value) == value


@pytest.mark.parametrize("value", [float("nan"), float("inf"), np.float64("-inf")])
def test_numbers_that_json_lacks_become_null(value):
    assert to_json_types({"x": [value]}) == {"x": [None]}
