"""First stages of gru-two-stage: how the settings of networks were chosen, and one at the published size.

    pytest -m benchmark -s tests/benchmarks/test_first_stages.py -k subj01

Of the training images one in six is held out, and each network learns from the others. What is printed is the
correlation of decoded and true latents over the held-out images, mean over the latents of each resolution; held-out
responses are single trials, so test scores are higher. ``SCENES`` names a store that is there; by default it is built.
"""

from __future__ import annotations

import os
import time

import numpy as np
import pytest

import neurorecon as nr
from neurorecon.decoders import GRUDecoder
from neurorecon.decoders.samples import Recordings
from neurorecon.features.extract import ensure_targets
from neurorecon.systems.gru_two_stage import NETWORKS

GRID = {
    "ridge": [{}],
    "gru": [
        {"input_dropout": 0.5},
        {"input_dropout": 0.7},
        {"input_dropout": 0.8},
        {"loss_per": None},
        {"shared": True},
    ],
    "cnn": [{"input_dropout": 0.5}, {"input_dropout": 0.7}],
    "transformer": [{"input_dropout": 0.5}, {"input_dropout": 0.7}],
    "mlp": [{"input_dropout": 0.5}, {"input_dropout": 0.7}],
}


@pytest.mark.benchmark
@pytest.mark.parametrize("subject", ["subj01", "subj02"])
def test_settings(subject, tmp_path):
    place = os.environ.get("SCENES")
    store = nr.open_store(place) if place else nr.build("scenes", tmp_path / "scenes.icechunk")
    store = ensure_targets(store, ["vdvae"])
    train = Recordings.read(store, subject, "visual", task="images", split="train")
    rows = np.arange(len(train.table)) % 6 == 0
    seen = train.take(rows)
    true = seen.target("vdvae")
    scores = {}
    for kind, settings in GRID.items():
        for setting in settings:
            system = nr.load_system(
                "gru-two-stage", first_stage_decoder=kind, network=setting, first_stage_only=True, device="cpu"
            )
            begin = time.process_time()
            decoded = system.fit(store, subject, samples=train.take(~rows)).decode(seen.labeled_responses())["vdvae"]
            seconds = time.process_time() - begin
            starts = system.targets["vdvae"].part(true).attrs["group_boundaries"]
            sides = np.repeat([shape[-1] for shape in true.attrs["group_shapes"][: len(starts) - 1]], np.diff(starts))
            one, other = (
                values[:, : len(sides)] - values[:, : len(sides)].mean(0) for values in (decoded, true.values)
            )
            norms = np.linalg.norm(one, axis=0) * np.linalg.norm(other, axis=0)
            found = (np.asarray(one) * other).sum(0) / np.where(norms > 0, norms, np.inf)
            scores[kind, str(setting)] = [float(found[sides == side].mean()) for side in np.unique(sides)]
            print(kind, setting, np.round(scores[kind, str(setting)], 3), f"{seconds:.0f} s of CPU", flush=True)
    best = max(GRID["gru"], key=lambda setting: np.mean(scores["gru", str(setting)]))
    assert best == {"input_dropout": NETWORKS["gru"][1]["input_dropout"]}
    chosen = np.array(scores["gru", str(best)])
    assert (chosen > np.array(scores["ridge", "{}"])).all()  # at every resolution


@pytest.mark.benchmark
def test_published_size():
    """The 15,724 voxels of nsdgeneral in subject 1, and the 13,344 values of 15 groups; one epoch of 640 samples."""
    generator = np.random.default_rng(0)
    X = generator.standard_normal((704, 15_724), dtype=np.float32)
    y = generator.standard_normal((704, 13_344), dtype=np.float32)
    decoder = GRUDecoder(**{**NETWORKS["gru"][1], "loss_per": None, "max_epochs": 1}, validation_fraction=64 / 704)
    begin = time.perf_counter()
    decoder.fit(X, y)
    seconds = time.perf_counter() - begin
    weights = sum(values.size for values in decoder.weights_.values())
    print(
        f"{weights:,} weights, {seconds:.0f} s for 640 samples: {seconds * 8859 / 640 / 60:.1f} minutes an epoch of NSD"
    )
    assert np.isfinite(decoder.predict(X[:4])).all()
