"""Whose weights a band is made by, in records, tables, figures and info; bundled networks on measured data."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pandas as pd
import pytest

import neurorecon as nr
from neurorecon.analyses.map_figures import weights_note
from neurorecon.analyses.results import with_weights
from neurorecon.errors import BundledWeightsWarning, InputError
from neurorecon.models.load import source
from neurorecon.provenance import weights_label, weights_record
from neurorecon.store.check import as_text, describe

SHA = "0123456789abcdef" * 4
CLIP = {"model": "CLIP", "weights": "bundled-clip", "weights_sha256": SHA, "licence": "BSD-3-Clause", "layer": "proj"}


@pytest.mark.parametrize(
    ("made_by", "label", "origin"),
    [
        (CLIP, "bundled/clip 01234567", "bundled"),
        ({**CLIP, "weights": "clip-vit-b32", "licence": "MIT"}, "published/clip-vit-b32 01234567", "published"),
        ({**CLIP, "weights": "clip", "licence": "not stated (own weights)"}, "own/clip 01234567", "own"),
        ({**CLIP, "weights": "clip", "weights_origin": "bundled"}, "bundled/clip 01234567", "bundled"),
        ({"model": "own features", "file": "a.npy", "file_sha256": SHA}, "a.npy 01234567", "file"),
        ({"model": "DINOv2", "source": "a paper", "weights_sha256": SHA}, "DINOv2 01234567", "added"),
        ({"model": "Gabor pyramid", "extractor_version": 2}, "Gabor pyramid, version 2", "method"),
        ({"model": "a script", "source": "a paper"}, "a script", "method"),
        ({}, "not stated", "method"),
    ],
)
def test_every_target_says_what_made_it(made_by, label, origin):
    assert weights_label(made_by) == label
    found = weights_record(made_by)
    assert found["origin"] == origin
    assert found.get("sha256") == (made_by.get("weights_sha256") or made_by.get("file_sha256"))
    json.dumps(found, allow_nan=False)


def test_a_copy_of_the_bundled_weights_is_bundled(tmp_path):
    import shutil

    bundled = source("clip", "bundled")
    shutil.copytree(bundled.folder, tmp_path / "clip")
    assert source("clip", tmp_path).record()["weights_origin"] == "bundled"
    assert bundled.record()["weights_origin"] == "bundled"


def test_tables_name_the_weights_of_each_row():
    labels = {"a": "bundled/a 1", "b": "b.csv 2"}
    assert with_weights(pd.DataFrame({"band": ["b", "a"]}), labels)["weights"].tolist() == ["b.csv 2", "bundled/a 1"]
    both = "a: bundled/a 1; b: b.csv 2"
    assert with_weights(pd.DataFrame({"bands": ["a", "a+b"]}), labels)["weights"].tolist() == ["a: bundled/a 1", both]
    assert with_weights(pd.DataFrame({"r2": [0.1, 0.2]}), labels)["weights"].tolist() == [both, both]
    assert list(with_weights(pd.DataFrame({"r2": [0.1]}), {})) == ["r2"]


@pytest.fixture
def measured(tmp_path):
    """A store of measured responses, so to speak: 60 trials of images of noise, on a grid with one ROI."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, (60, 32, 32, 3), dtype=np.uint8)
    grid = {axis: np.arange(12) // step % 4 for axis, step in (("i", 1), ("j", 4))} | {"k": np.zeros(12, dtype=int)}
    return nr.build_from_arrays(
        tmp_path / "lab.icechunk", rng.standard_normal((60, 12)).astype(np.float32), np.arange(60).astype(str),
        images=images, voxels=grid, rois={"V1": np.arange(12) < 8}, affine=np.eye(4).tolist(), shape=[4, 4, 1],
        test_share=0.25, progress=False,
    )  # fmt: skip


def test_measured_data_need_a_choice_of_weights(measured):
    for compute in (
        lambda: nr.extract(measured, ["gabor", "clip_image", "vqvae"], progress=False),
        lambda: nr.extract(measured, "all", progress=False),
        lambda: nr.load_extractor("clip_image"),
    ):
        with pytest.raises(InputError, match="--models published, or --models FOLDER") as error:
            compute()
        assert "clip_image" in str(error.value)
    assert nr.open_store(measured.location).targets_available == []
    nr.extract(measured, ["gabor"], progress=False)  # no network, no question


def test_bundled_networks_on_measured_data_warn_and_every_file_names_them(measured, tmp_path):
    with pytest.warns(BundledWeightsWarning, match=r"clip_image: made by the bundled networks[\s\S]*\.14[\s\S]*\.59"):
        store = nr.extract(measured, ["clip_image"], models="bundled", device="cpu", progress=False)
    np.save(tmp_path / "alexnet.npy", np.random.default_rng(1).standard_normal((60, 4)))
    store = nr.add_target(store, "alexnet", tmp_path / "alexnet.npy")
    with pytest.warns(BundledWeightsWarning, match="clip_image"):
        found = nr.maps(store, bands=["clip_image", "alexnet"], n_permutations=19)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        nr.maps(store, bands=["alexnet"], n_permutations=19)
    files = nr.write(found, store, tmp_path / "out", nr.record_of(store, "a test"), formats=["svg"])
    sha = source("clip", "bundled").sha256
    file_sha = store.targets("alexnet").attrs["file_sha256"]
    labels = [f"clip_image: bundled/clip {sha[:8]}", f"alexnet: alexnet.npy {file_sha[:8]}"]
    (written,) = [json.loads(path.read_text()) for path in files if path.suffix == ".json"]
    assert written["weights"]["clip_image"]["sha256"] == sha
    assert written["weights"]["alexnet"] == {"origin": "file", "name": "alexnet.npy", "sha256": file_sha}
    assert "drawn scenes only" in written["warnings"][0]
    for path in files:
        if path.suffix in (".html", ".svg"):  # each has its record
            assert sha in path.read_text()
        if path.suffix == ".csv":
            assert sha[:8] in path.read_text()
    note = weights_note(found[0], store)
    assert note == f"Features: {'; '.join(labels)}."
    assert weights_note(found[0], store, "alexnet") == f"Features: {labels[1]}."
    texts = [text.get_text() for text in found[0].figures(store)["rois"]().texts]
    assert any(all(label in " ".join(text.split()) for label in labels) for text in texts)
    facts = describe(store)
    assert facts["targets"]["clip_image"]["weights"]["sha256"] == sha
    lines = as_text(facts).splitlines()
    assert any("clip_image" in line and f"bundled/clip {sha[:8]}" in line for line in lines)
    assert any("alexnet" in line and f"alexnet.npy {file_sha[:8]}" in line for line in lines)
    assert max(map(len, lines)) <= 110
