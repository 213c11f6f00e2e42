"""The example for data of your own runs as it is written, and finds what was planted."""

import runpy
import sys
from pathlib import Path

import pytest

import neurorecon as nr
from neurorecon.figures.style import FORMATS, read_provenance

#: The whole script runs before the first test: half a minute, and many times that where others compute as well.
pytestmark = pytest.mark.timeout(3600)

EXAMPLE = Path(__file__).parents[2] / "analyses" / "plot_03_own_data.py"


@pytest.fixture(scope="module")
def example(tmp_path_factory):
    """Everything that the script leaves behind: its names, and its files in ``OUT``."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [str(EXAMPLE), str(tmp_path_factory.mktemp("own") / "out")])
        yield runpy.run_path(str(EXAMPLE))


def test_rois_and_images_are_found(example):
    rois = example["found"].rois.set_index("roi")["value"]
    assert min(rois["FFA"], rois["PPA"]) > 0.2
    assert example["identification"].mean() > 0.8


def test_files_say_how_they_were_made(example):
    out, store = example["OUT"], nr.open_store(example["OUT"] / "lab.icechunk")
    assert store.simulated
    for name in ("rois", "picked"):
        for suffix in FORMATS:
            record = read_provenance(out / f"{name}.{suffix}")
            assert record["simulated"] is True
            assert record["snapshot"] == store.snapshot
