"""Targets are computed batch by batch, once, and never mixed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest

import neurorecon as nr
from neurorecon.errors import BundledWeightsWarning, InputError, StoreError, UnknownNameError
from neurorecon.features.extract import all_targets, ensure_targets, load_extractor
from neurorecon.registry import FEATURES


def test_a_target_of_a_lab(store, known, mean_color):
    known(mean_color)
    after = nr.extract(store, "mean_color", progress=False)
    found = after.targets("mean_color")
    expected = store.images().values.mean(axis=(1, 2))
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert found.dims == ("stimulus", "feature")
    assert found["feature"].values.tolist() == ["red", "green", "blue"]
    assert found.attrs["extractor"] == "mean_color"
    assert found.attrs["neurorecon_version"] == nr.__version__
    assert not [finding for finding in nr.check_store(after) if finding.problem]


def test_a_part_of_a_target_is_cut_out_of_it(store, known, mean_color, scaled):
    class Red(mean_color):
        name = "red"
        whole_factor = 1.0

        def __call__(self, batch):
            return super().__call__(batch)[:, :1]

        def feature_names(self, batch):
            return ["red"]

        def whole(self):
            return scaled(factor=self.whole_factor)

        def cut(self, values):
            return values[:, :1]

    known(scaled, Red)
    before = nr.extract(store, ["scaled"], progress=False)
    assert sum(mean_color.sizes) == 30 + 1
    after = nr.extract(before, ["red"], progress=False)
    assert sum(mean_color.sizes) == 30 + 1  # nothing was computed
    np.testing.assert_array_equal(after.targets("red"), after.targets("scaled")[:, :1])
    assert not [finding for finding in nr.check_store(after) if finding.problem]
    Red.whole_factor = 2.0  # the store holds another one
    again = nr.extract(nr.open_store(store.location), ["red"], overwrite=True, progress=False)
    assert again.snapshot == after.snapshot  # the part itself was made as before
    Red.version = 2
    again = nr.extract(again, ["red"], overwrite=True, progress=False)
    assert sum(mean_color.sizes) == 2 * (30 + 1)
    np.testing.assert_array_equal(again.targets("red"), after.targets("red"))


def test_batches_are_as_small_as_asked_for(store, known, mean_color):
    known(mean_color)
    one = nr.extract(store, ["mean_color"], batch=7, progress=False)
    assert max(mean_color.sizes) == 7
    assert sum(mean_color.sizes) == 30 + 1  # the first stimulus says what shape the target has
    again = nr.extract(one, [mean_color()], progress=False)  # an extractor stands for itself
    assert again is one
    assert sum(mean_color.sizes) == 31


def test_settings_reach_the_extractors_that_take_them(store, known, mean_color, scaled):
    known(mean_color, scaled)
    after = nr.extract(store, ["mean_color", "scaled"], factor=2.0, models="bundled", progress=False)
    np.testing.assert_allclose(after.targets("scaled"), 2 * after.targets("mean_color"))
    assert after.targets("scaled").attrs["factor"] == 2.0
    with pytest.raises(InputError, match=r"none of these targets takes this setting[\s\S]*factr=3[\s\S]*factor"):
        nr.extract(store, ["scaled"], factr=3, progress=False)
    assert load_extractor("scaled", factor=3).factor == 3


def test_a_target_made_otherwise_is_never_mixed(store, known, scaled):
    known(scaled)
    first = nr.extract(store, ["scaled"], progress=False)
    with pytest.raises(
        StoreError, match=r"made with other settings[\s\S]*factor = 1.0[\s\S]*factor = 2.0[\s\S]*--overwrite"
    ):
        nr.extract(first, ["scaled"], factor=2.0, progress=False)
    assert nr.open_store(store.location).snapshot == first.snapshot
    second = nr.extract(first, ["scaled"], factor=2.0, overwrite=True, progress=False)
    np.testing.assert_allclose(second.targets("scaled"), 2 * first.targets("scaled"))
    assert second.targets("scaled").attrs["factor"] == 2.0
    older = nr.open_store(store.location, snapshot=first.snapshot)
    np.testing.assert_array_equal(older.targets("scaled"), first.targets("scaled"))


def test_a_description_may_change_but_weights_may_not(store, known, scaled, monkeypatch):
    known(scaled)
    said = {"model": "mean", "preprocessing": "none", "source": "a test", "weights": "a", "weights_sha256": "1"}
    monkeypatch.setattr(scaled, "made_by", lambda self: said)
    first = nr.extract(store, ["scaled"], progress=False)
    monkeypatch.setattr(scaled, "made_by", lambda self: {**said, "source": "the same test", "weights": "b"})
    assert nr.extract(first, ["scaled"], progress=False) is first
    monkeypatch.setattr(scaled, "made_by", lambda self: {**said, "weights_sha256": "2"})
    with pytest.raises(StoreError, match="weights_sha256 = '1'"):
        nr.extract(first, ["scaled"], progress=False)


def test_a_newer_version_of_the_code_is_another_target(store, known, mean_color, monkeypatch):
    known(mean_color)
    first = nr.extract(store, ["mean_color"], progress=False)
    monkeypatch.setattr(mean_color, "version", 2)
    with pytest.raises(StoreError, match="extractor_version = 1"):
        nr.extract(first, ["mean_color"], progress=False)


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_values_that_are_not_numbers_are_refused(store, known, mean_color, monkeypatch, wrong):
    known(mean_color)
    monkeypatch.setattr(mean_color, "__call__", lambda self, batch: np.full((len(batch.images), 3), wrong, np.float32))
    with pytest.raises(InputError, match="contains NaN or infinite values"):
        nr.extract(store, ["mean_color"], progress=False)
    assert nr.open_store(store.location).snapshot == store.snapshot


def test_an_extractor_whose_shape_changes_is_refused(store, known, mean_color, monkeypatch):
    known(mean_color)
    monkeypatch.setattr(
        mean_color, "__call__", lambda self, batch: np.zeros((len(batch.images), len(batch.images)), np.float32)
    )
    monkeypatch.setattr(mean_color, "feature_names", lambda self, batch: None)
    with pytest.raises(InputError, match="differs in shape between stimuli"):
        nr.extract(store, ["mean_color"], progress=False)


def test_unknown_names_come_before_anything_is_written(store, known, mean_color):
    known(mean_color)
    with pytest.raises(UnknownNameError, match="unknown target 'clip'"):
        nr.extract(store, ["mean_color", "clip"], progress=False)
    assert nr.open_store(store.location).snapshot == store.snapshot


def test_speeds_are_told(store, known, mean_color):
    known(mean_color)
    told = []
    nr.extract(store, ["mean_color"], progress=False, report=told.append)
    assert [(speed.target, speed.stimuli) for speed in told] == [("mean_color", 30)]
    assert 0 < told[0].per_second == 30 / told[0].seconds


def test_all_means_what_the_store_allows(store, built, tmp_path):
    everything = set(all_targets(store))
    assert everything == set(FEATURES.builtin) - {"clip_bigg", "ip_adapter", "ip_adapter_sd15", "kandinsky_image"}
    from neurorecon.datasets.recipe import Recipe
    from neurorecon.store.build import build_store

    recipe = Recipe(name="images", reader="miniature", options={"subjects": 1, "videos": 0})
    images = nr.open_store(build_store(recipe, tmp_path / "images.icechunk", progress=False))
    videos = {name for name in FEATURES.builtin if FEATURES.load(name).needs == "frames"}
    assert videos >= {"motion", "vqvae_frames", "clip_image_mean"}
    assert set(all_targets(images)) == everything - videos
    with pytest.raises(StoreError, match="computed from frames, but this store has none"):
        nr.extract(images, ["motion"], progress=False)


_KILLED = """
    import sys, time
    import numpy as np
    import neurorecon as nr
    from neurorecon.features.base import Extractor
    from neurorecon.store import schema, writer

    schema.RESPONSE_CHUNKS = (2, 1024)    # many small blocks, a commit after each
    schema.BLOCK_BYTES = 2 * 4 * 96
    writer.COMMIT_EVERY = 0.0

    class Slow(Extractor):
        name, needs = "slow", "images"

        def __call__(self, batch):
            time.sleep(float(sys.argv[2]))
            return batch.images.reshape(len(batch.images), -1)[:, :96].astype(np.float32) / 7

        def made_by(self):
            return {"model": "slow", "preprocessing": "none", "source": "a test"}

    print("begun", flush=True)
    store = nr.extract(nr.open_store(sys.argv[1]), [Slow()], batch=3, progress=False)
    print(store.digests()["targets/slow/values"])
"""


def _start(path, pause):
    arguments = [sys.executable, "-c", textwrap.dedent(_KILLED), str(path), str(pause)]
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)


@pytest.mark.skipif(os.name == "nt", reason="processes are killed otherwise there")
def test_a_killed_extraction_goes_on_and_ends_the_same(store, tmp_path):
    import shutil

    whole = tmp_path / "whole.icechunk"
    shutil.copytree(store.location, whole)
    digest = _start(whole, 0).communicate(timeout=300)[0].split()[1]
    snapshots = os.path.join(store.location, "snapshots")
    before = len(os.listdir(snapshots))
    process = _start(store.location, 0.2)
    assert process.stdout.readline() == "begun\n"
    while len(os.listdir(snapshots)) < before + 3 and process.poll() is None:
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    assert process.communicate()[0] == "", "the extraction was over before it could be killed"
    half = nr.open_store(store.location)
    assert half.targets_available == []
    committed = half._root["targets/slow/values"].attrs["block_digests"]
    assert 0 < len(committed) < 15
    assert _start(store.location, 0).communicate(timeout=300)[0].split()[1] == digest
    after = nr.open_store(store.location)
    assert after._root["targets/slow/values"].attrs["block_digests"][: len(committed)] == committed
    assert not [finding for finding in nr.check_store(after) if finding.problem]


def test_targets_that_a_store_lacks_are_computed_and_named(store, known, mean_color, scaled, caplog):
    known(mean_color, scaled)
    caplog.set_level("INFO", "neurorecon")
    assert ensure_targets(store, ["images", "frames"]) is store
    first = ensure_targets(store, ["mean_color", "images", "scaled", "mean_color"], progress=False)
    assert {"mean_color", "scaled"} <= set(first.targets_available)
    (said,) = caplog.messages
    assert "mean_color of 30 stimuli (mean, version 1), scaled of 30 stimuli" in said
    other = nr.extract(first, "scaled", factor=3.0, overwrite=True, progress=False)
    assert ensure_targets(other, ["scaled"]) is other  # what is there is taken as it is
    assert len(caplog.messages) == 1


def test_targets_are_added_to_an_older_snapshot_unless_its_arrays_have_changed(
    store, known, mean_color, scaled, tmp_path
):
    known(mean_color, scaled)
    for names, message in ((["mean_colour"], "did you mean 'mean_color'"), (["nothing"], "unknown target 'nothing'")):
        with pytest.raises(UnknownNameError, match=message):
            ensure_targets(store, names)
    after = nr.extract(store, ["scaled", "gabor"], progress=False)
    assert ensure_targets(store, ["gabor"]).snapshot == after.snapshot  # two analyses of one script, one store
    nr.extract(store, "scaled", factor=3.0, overwrite=True, progress=False)
    message = r"without mean_color; arrays have changed since the snapshot [\s\S]*--target mean_color"
    with pytest.raises(StoreError, match=message):
        ensure_targets(after, ["mean_color"])
    assert "mean_color" in ensure_targets(store, ["mean_color"], progress=False).targets_available
    plain = nr.open_store(nr.export_store(after, tmp_path / "plain.zarr", progress=False))
    with pytest.raises(StoreError, match="plain Zarr is read only"):
        ensure_targets(plain, ["gabor", "mean_color"])
    assert ensure_targets(plain, ["gabor"]) is plain


def test_whose_networks_are_used_for_measured_data_has_to_be_said(store, monkeypatch, random_models):
    monkeypatch.setattr(type(store), "simulated", False)
    with pytest.raises(InputError, match=r"not said whose weights[\s\S]*--models published"):
        ensure_targets(store, ["clip_image"], progress=False)
    with pytest.warns(BundledWeightsWarning, match="clip_image: made by the bundled networks"):
        after = ensure_targets(store, ["clip_image"], models="bundled", progress=False)
    assert after.targets("clip_image").shape == (30, 128)
    again = ensure_targets(after, ["vqvae"], models=random_models, progress=False)
    assert again.targets("vqvae").attrs["weights_origin"] == "own"
