"""The images that ROIs prefer, on the embedded data set; ten minutes.

    pytest -m benchmark -s tests/benchmarks/test_roi_optimal.py

``SCENES`` names a store that is there; by default it is built. Settings are 1.5 typical deviations,
5 % of the stimuli, text tokens alone); the judge, the category probe, took no part in any of them.
"""

from __future__ import annotations

import os

import pytest

import neurorecon as nr
from neurorecon.features.extract import ensure_targets

ROIS = ["FFA", "PPA", "EBA", "OPA", "RSC"]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    place = os.environ.get("SCENES")
    found = nr.open_store(place) if place else nr.build("scenes", tmp_path_factory.mktemp("scenes") / "s.icechunk")
    return ensure_targets(found, ["vdvae", "clip_vision", "clip_text", "clip_image"])


@pytest.mark.benchmark
@pytest.mark.parametrize("subject", ["subj01", "subj02"])
@pytest.mark.parametrize(("method", "floor"), [("stimuli", 18), ("pattern", 15)])
def test_judge_sees_what_rois_prefer(store, subject, method, floor):
    found = nr.roi_optimal(store, ROIS, subject=subject, method=method, targets=["clip_text"], seeds=20)
    print(found.text(store))
    right = found.table.groupby("roi")["expected"].sum()
    assert (right[["FFA", "PPA", "EBA"]] >= floor).all(), right
    predicted = found.responses
    assert all(predicted.loc[roi].drop(roi).mean() < predicted.loc[roi, roi] for roi in ROIS)
