"""Refinement by the likelihood of the measured response: what it gains, and how its settings were chosen.

    pytest -m benchmark -s tests/benchmarks/test_refined.py -k gains
    pytest -m benchmark -s tests/benchmarks/test_refined.py -k settings

``SCENES`` names a store of the embedded data set that is there; by default it is built. ``RESULTS`` names a folder that
keeps images, so that an interrupted run resumes; ``SEEDS`` is the number of seeds (4). Scores of each image are written
there, too (``values.csv``). Of each subject's training images one in 24 is held out for the choice of settings.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import neurorecon as nr
from neurorecon.decoders.samples import Recordings
from neurorecon.features.extract import ensure_targets
from neurorecon.metrics.base import load_metric
from neurorecon.parallel import Compute
from neurorecon.systems.decoded import RESPONSES
from neurorecon.systems.generation import generate_parts

METRICS = ("pixcorr", "ssim_gray2d", "two_way_clip", "probe")
SUBJECTS = ("subj01", "subj02")
SEEDS = int(os.environ.get("SEEDS", "4"))
PUBLISHED = ("brain-diffuser", "takagi", "mind-diffuser")
OPTIONS = {"device": "cpu"}

#: Rows of the table of gains, all of the same fit: settings of a refinement of brain-diffuser, text share .8.
REFINED = {
    "unrefined": {"best_of": 1},
    "random of 8": {"best_of": 8, "strengths": (0.42, 0.55), "rank": "random"},
    "best of 8": {"best_of": 8, "strengths": (0.42, 0.55)},
    "average": {"best_of": 8, "strengths": (0.42, 0.55), "average": 4, "again": (0.5,)},
    "neurorecon": {},
}

#: Settings that are compared on held-out training images.
GRID = [
    {"average": 0},
    *({"average": number, "again": (strength,)} for number in (2, 4) for strength in (0.3, 0.5)),
    *({"average": 4, "again": (0.5, strength)} for strength in (0.3, 0.42)),
    *({"average": 4, "again": (0.5, 0.3), "step": step} for step in (0.05, 0.1, 0.2)),
    *({"average": 4, "again": (0.5,), "gradient": gradient} for gradient in (0.05,)),
]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    place = os.environ.get("SCENES")
    found = nr.open_store(place) if place else nr.build("scenes", tmp_path_factory.mktemp("scenes") / "s.icechunk")
    return ensure_targets(found, ("vdvae", "clip_vision", "clip_text", "clip_text_sd", "vqvae", "clip_text_15"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return Path(os.environ.get("RESULTS") or tmp_path_factory.mktemp("results"))


def values_of(store, images, stimuli):
    """Return the scores of each image by metric; `images` of shape (stimulus, y, x, rgb)."""
    seen, context = np.asarray(store.images(stimuli)), {}
    context["categories"] = store.stimuli.set_index("id")["category"].loc[stimuli].to_numpy(str)
    return {name: load_metric(name).values(seen, images, context) for name in METRICS}


def generated(folder, row, system, decoded):
    """Return images, (stimulus, seed, y, x, rgb), kept in a folder, and CPU seconds an image, NaN if they were kept."""
    begin = time.process_time()
    images = generate_parts(system, decoded, range(SEEDS), Compute(folder=folder / "parts"))
    seconds = (time.process_time() - begin) / SEEDS / len(images)
    print(f"{row:24s} {seconds:.2f} CPU s an image", flush=True)
    return images, seconds


def fitted(store, subject, name, train, folder, **settings):
    """Return a fitted system, kept in a folder."""
    system = nr.load_system(name, **settings)
    return system.fit(store, subject, samples=train, folder=folder / f"{subject}_{name}_{len(train.table)}")


def difference(table, one, other, metric):
    """Return the mean paired difference over images, its 95 % interval and one-sided p."""
    wide = table[metric].unstack("row")
    values = (wide[one] - wide[other]).to_numpy()
    draws = values[np.random.default_rng(0).integers(0, len(values), (10_000, len(values)))].mean(axis=1)
    low, high = np.percentile(draws, [2.5, 97.5])
    return values.mean(), low, high, (1 + int((draws <= 0).sum())) / (1 + len(draws))


@pytest.mark.benchmark
def test_gains(store, folder):
    rows, seconds = [], {}
    for subject in SUBJECTS:
        train = Recordings.read(store, subject, "visual", task="images", split="train")
        test = Recordings.read(store, subject, "visual", task="images", split="test").labeled_responses()
        own = fitted(store, subject, "neurorecon", train, folder, device="cpu")
        decoded = own.decode(test)
        made = {}
        plain = {**nr.load_system("refined").defaults, "options": own.settings["options"]}
        for row, settings in REFINED.items():
            given = {**plain, **settings} if settings else dict.fromkeys(plain)
            made[row] = generated(folder, row, own.set_params(**given), decoded)
        for name in PUBLISHED:
            system = fitted(store, subject, name, train, folder, **OPTIONS)
            made[name] = generated(folder, name, system, system.decode(test))
        for row, (images, cost) in made.items():
            seconds.setdefault(row, []).append(cost)
            values = [values_of(store, images[:, seed], decoded.stimuli.tolist()) for seed in range(SEEDS)]
            scores = {name: np.mean([one[name] for one in values], axis=0) for name in METRICS}
            rows.append(pd.DataFrame({"subject": subject, "row": row, "stimulus": decoded.stimuli, **scores}))
    table = pd.concat(rows).set_index(["subject", "stimulus", "row"])
    table.to_csv(folder / "values.csv")
    print(table.groupby(["subject", "row"], sort=False).mean().round(3))
    pairs = [("best of 8", "random of 8"), ("average", "best of 8"), *(("neurorecon", name) for name in PUBLISHED)]
    found = {}
    for subject in SUBJECTS:
        for one, other in pairs:
            for metric in METRICS:
                mean, low, high, p = found[subject, one, other, metric] = difference(
                    table.loc[subject], one, other, metric
                )
                print(f"{subject} {one} - {other} {metric}: {mean:+.4f} [{low:+.4f}, {high:+.4f}] p {p:.4f}")
    for (_, one, other, metric), (mean, low, high, p) in found.items():
        if metric in ("two_way_clip", "probe"):
            assert high >= 0, (one, other, metric)  # not lower beyond the interval
        elif one == "average":
            assert mean > 0.01 or metric != "ssim_gray2d"
        else:
            assert low > 0, (one, other, metric)
            assert p < 0.01 or one != "neurorecon"
    assert np.mean(seconds["neurorecon"]) < 4 * np.mean(seconds["brain-diffuser"])


@pytest.mark.benchmark
def test_settings(store, folder):
    held_out = []
    for subject in SUBJECTS:
        train = Recordings.read(store, subject, "visual", task="images", split="train")
        rows = np.arange(len(train.table)) % 24 == 0
        system = fitted(store, subject, "neurorecon", train.take(~rows), folder, device="cpu")
        held_out.append((system, system.decode(train.take(rows).labeled_responses())))
    best = []
    for settings in GRID:
        scores = []
        for system, decoded in held_out:
            images = system.set_params(**{"average": None, "again": None, "step": None, "gradient": None, **settings})
            values = values_of(store, images.generate(decoded).values, decoded.stimuli.tolist())
            scores.append([float(np.nanmean(found)) for found in values.values()])
        means = np.mean(scores, axis=0)
        best.append((float(means.mean()), settings))
        print(settings, dict(zip(METRICS, means.round(4).tolist(), strict=True)), round(best[-1][0], 4), flush=True)
    print("best:", max(best, key=lambda found: found[0]))
    assert RESPONSES in held_out[0][1]
