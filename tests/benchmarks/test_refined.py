"""Refinement by the likelihood of the measured response: what it gains, and how its settings were chosen.

    pytest -m benchmark -s tests/benchmarks/test_refined.py -k first_settings
    pytest -m benchmark -s tests/benchmarks/test_refined.py -k last_settings
    pytest -m benchmark -s tests/benchmarks/test_refined.py -k gains
    pytest -m benchmark -s tests/benchmarks/test_refined.py -k clusters

``SCENES`` names a store of the embedded data set that is there; by default it is built. ``RESULTS`` names a folder that
keeps images, so that an interrupted run resumes; ``SEEDS`` is the number of seeds (4). Scores of each image are written
there, too (``gains.csv``, ``clusters.csv``). ``SUBJECTS=subj01`` generates those of one subject, so that two runs can
share a folder; a last run of both subjects then finds all images there. Of each subject's training images one in 36 is
held out for the choice of settings: many are compared with one seed, and what improves the best of these with all.

Images that several rows have in common, the pool of the first round, are generated once.
"""

from __future__ import annotations

import copy
import functools
import os
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import neurorecon as nr
from neurorecon.decoders.samples import Recordings
from neurorecon.features.extract import ensure_targets
from neurorecon.io.tensors import block_digest
from neurorecon.metrics.base import load_metric
from neurorecon.parallel import Compute
from neurorecon.systems.brain_diffuser import BrainDiffuser
from neurorecon.systems.decoded import RESPONSES
from neurorecon.systems.generation import generate_parts

METRICS = ("pixcorr", "ssim_gray2d", "two_way_clip", "probe")
#: What decides among the last settings: CLIP pulls images there, so another network identifies them, too.
DECIDE = ("pixcorr", "ssim_gray2d", "two_way_clip", "two_way_probe")
SUBJECTS = os.environ.get("SUBJECTS", "subj01,subj02").split(",")
SEEDS = int(os.environ.get("SEEDS", "4"))
PUBLISHED = ("brain-diffuser", "takagi", "mind-diffuser")
OPTIONS = {"device": "cpu"}

#: Rows of the table of gains, all of the same fit: refinements with the options of neurorecon.
REFINED = {
    "neurorecon": {},
    "average": {"best_of": 8, "strengths": (0.42, 0.55), "average": 4, "again": (0.17,)},
    "best of 8": {"best_of": 8, "strengths": (0.42, 0.55)},
    "random of 8": {"best_of": 8, "strengths": (0.42, 0.55), "rank": "random"},
    "unrefined": {"best_of": 1},
}

#: Settings that are compared on held-out training images; what is not named is as in the best of them, the start.
START = {
    "options": {"text_ratio": 0.8, "steps": 8, "rois": {"vdvae": "LVC"}},
    "best_of": 6,
    "strengths": (0.55, 0.75),
    "average": 2,
    "again": (0.17,),
}
GRID = [
    {},
    {"options": {"rois": {}}},
    {"options": {"steps": 20}},
    {"average": 0},
    {"average": 3},
    {"again": (0.3,)},
    {"again": (0.5, 0.17), "best_of": 3},
    {"step": 0.2},
    {"again": (0.3,), "gradient": 0.05},
    *({"strengths": (0.42, 0.55), "best_of": 8, "average": number} for number in (2, 4)),
    *({"options": {"text_ratio": share}} for share in (0.6, 0.9)),
    {"options": {"guidance": 3.0}},
]

#: What is compared with all seeds. These need no images but those of one or two pools.
STEPPED = {"step": 0.2, "average": 3}
LAST = [
    {},
    {"step": 0.2},
    {"average": 3},
    STEPPED,
    *({**STEPPED, "pull": pull} for pull in (0.15, 0.3)),
    {**STEPPED, "pull": 0.15, "average": 4},
    *({**STEPPED, "pull": pull, "again": (0.25,)} for pull in (0.15, 0.3)),
]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    place = os.environ.get("SCENES")
    found = nr.open_store(place) if place else nr.build("scenes", tmp_path_factory.mktemp("scenes") / "s.icechunk")
    return ensure_targets(found, {name for system in PUBLISHED for name in nr.load_system(system).targets})


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return Path(os.environ.get("RESULTS") or tmp_path_factory.mktemp("results"))


@pytest.fixture(autouse=True)
def shared_pools(monkeypatch):
    """Keep what brain-diffuser generates from the same start with the same seeds, while a test runs."""
    original, kept = BrainDiffuser.variants, {}

    def variants(self, decoded, seeds, *, strengths=None, start=None, toward=None):
        if toward is not None or len(seeds) == 1:
            yield from original(self, decoded, seeds, strengths=strengths, start=start, toward=toward)
            return
        arrays = [array.values for _, array in sorted(decoded.items())] + ([] if start is None else [start])
        own = self.text_ratio, self.guidance, self.steps, self.strength if strengths is None else None
        key = (tuple(seeds), strengths, own, *decoded.stimuli, *(block_digest(one) for one in arrays))
        if key not in kept:
            kept[key] = list(original(self, decoded, seeds, strengths=strengths, start=start))
        yield from (images.copy() for images in kept[key])

    monkeypatch.setattr(BrainDiffuser, "variants", variants)
    return kept


def values_of(store, images, stimuli, metrics=METRICS):
    """Return the scores of each image by metric; `images` of shape (stimulus, y, x, rgb)."""
    seen, context = np.asarray(store.images(stimuli)), {}
    context["categories"] = store.stimuli.set_index("id")["category"].loc[stimuli].to_numpy(str)
    return {name: load_metric(name).values(seen, images, context) for name in metrics}


def generated(folder, system, decoded, seeds=SEEDS):
    """Return images, (stimulus, seed, y, x, rgb), kept in a folder."""
    return generate_parts(system, decoded, range(seeds), Compute(folder=folder / "parts"))


def seconds(system, decoded):
    """Return CPU seconds an image, of eight images with a seed of their own; the networks are loaded before."""
    system.generate(decoded.take(np.arange(1)), seed=1_000_000)
    begin = time.process_time()
    system.generate(decoded.take(np.arange(8)), seed=1_000_000)
    return (time.process_time() - begin) / 8


def fitted(store, subject, name, train, folder, **settings):
    """Return a fitted system, kept in a folder."""
    system = nr.load_system(name, **settings)
    return system.fit(store, subject, samples=train, folder=folder / f"{subject}_{name}_{len(train.table)}")


def refinements(own):
    """Yield the name of each row of the table, and the system with its settings."""
    plain = {**nr.load_system("refined").defaults, "options": own.settings["options"]}
    for row, settings in REFINED.items():
        yield row, copy.copy(own).set_params(**({**plain, **settings} if settings else dict.fromkeys(plain)))


def compare(store, folder, rows, name):
    """Return scores of each image, mean over seeds, by subject, stimulus and row; `rows` are by subject."""
    found = []
    for subject, systems in rows.items():
        for row, (system, decoded) in systems.items():
            images, stimuli = generated(folder, system, decoded), decoded.stimuli.tolist()
            values = [values_of(store, images[:, seed], stimuli) for seed in range(SEEDS)]
            scores = {metric: np.mean([one[metric] for one in values], axis=0) for metric in METRICS}
            found.append(pd.DataFrame({"subject": subject, "row": row, "stimulus": stimuli, **scores}))
            print(subject, row, found[-1][list(METRICS)].mean().round(4).to_dict(), flush=True)
    table = pd.concat(found).set_index(["subject", "stimulus", "row"])
    table.to_csv(folder / f"{name}.csv")
    return table


def difference(table, one, other, metric):
    """Return the mean paired difference over images, its 95 % interval and one-sided p."""
    wide = table[metric].unstack("row")
    values = (wide[one] - wide[other]).to_numpy()
    draws = values[np.random.default_rng(0).integers(0, len(values), (10_000, len(values)))].mean(axis=1)
    low, high = np.percentile(draws, [2.5, 97.5])
    return values.mean(), low, high, (1 + int((draws <= 0).sum())) / (1 + len(draws))


def differences(table, pairs):
    """Print and return the paired differences of rows, by subject and pooled."""
    found = {}
    parts = {subject: table.loc[[subject]] for subject in SUBJECTS} | ({"both": table} if len(SUBJECTS) > 1 else {})
    for subject, part in parts.items():
        for one, other in pairs:
            for metric in METRICS:
                mean, low, high, p = found[subject, one, other, metric] = difference(part, one, other, metric)
                print(f"{subject} {one} - {other} {metric}: {mean:+.4f} [{low:+.4f}, {high:+.4f}] p {p:.4f}")
    return found


@pytest.mark.benchmark
def test_gains(store, folder):
    rows = {}
    for subject in SUBJECTS:
        train = Recordings.read(store, subject, "visual", task="images", split="train")
        test = Recordings.read(store, subject, "visual", task="images", split="test").labeled_responses()
        own = fitted(store, subject, "neurorecon", train, folder, device="cpu")
        decoded = own.decode(test)
        rows[subject] = {row: (system, decoded) for row, system in refinements(own)}
        for name in PUBLISHED:
            system = fitted(store, subject, name, train, folder, **OPTIONS)
            rows[subject][name] = system, system.decode(test)
    timed = ("neurorecon", *PUBLISHED)  # the others take images from the pool of neurorecon
    cost = {row: float(np.mean([seconds(*rows[subject][row]) for subject in SUBJECTS])) for row in timed}
    table = compare(store, folder, rows, "gains")
    print(table.groupby(["subject", "row"], sort=False).mean().round(3))
    pairs = [("best of 8", "random of 8"), ("average", "best of 8"), *(("neurorecon", name) for name in PUBLISHED)]
    print("CPU seconds an image:", cost)
    for (_, one, other, metric), (mean, low, high, p) in differences(table, pairs).items():
        if one == "average":
            assert mean > 0.01 or metric != "ssim_gray2d"
        elif metric in ("two_way_clip", "probe"):
            assert high >= 0, (one, other, metric)  # not lower beyond the interval
        else:
            assert low > 0, (one, other, metric)
            assert p < 0.01 or one != "neurorecon"
    assert cost["neurorecon"] < 4 * cost["brain-diffuser"]


@pytest.mark.benchmark
def test_clusters(store, folder):
    """Clusters of CLIP embeddings that training never saw: 20 images of each, each with systems of its own."""
    split = nr.split(store, "cluster_k5")
    rows = {subject: {} for subject in SUBJECTS}
    tables = []
    for column in [name for name in split.split_columns if name.startswith("cluster_k5_")]:
        part = split.with_split(column)
        for subject in SUBJECTS:
            train = Recordings.read(part, subject, "visual", task="images", split="train")
            test = Recordings.read(part, subject, "visual", task="images", split="test")
            test = test.take(np.linspace(0, len(test.stimuli) - 1, 20).round().astype(int)).labeled_responses()
            for name in ("neurorecon", *PUBLISHED):
                system = fitted(part, subject, name, train, folder / column, device="cpu")
                rows[subject][name] = system, system.decode(test)
        tables.append(compare(part, folder, rows, column))
    table = pd.concat(tables)
    table.to_csv(folder / "clusters.csv")
    print(table.groupby(["subject", "row"], sort=False).mean().round(3))
    for (_, one, other, metric), (_, low, high, _) in differences(
        table, [("neurorecon", name) for name in PUBLISHED]
    ).items():
        assert (low > 0) if metric in ("pixcorr", "ssim_gray2d") else (high >= 0), (one, other, metric)


@pytest.fixture(scope="module")
def score(store, folder):
    """Return what scores settings, by metric: the mean over subjects, held-out images and seeds."""

    @functools.cache
    def held_out(subject, everywhere):
        train = Recordings.read(store, subject, "visual", task="images", split="train")
        rows = np.arange(len(train.table)) % 36 == 0
        rois = {} if everywhere else START["options"]["rois"]
        place = folder / f"held_out_{len(rois)}"
        system = fitted(store, subject, "neurorecon", train.take(~rows), place, device="cpu", rois=rois)
        decoded = system.decode(train.take(rows).labeled_responses())
        assert RESPONSES in decoded
        return system.set_params(rois=None), decoded

    usual = dict.fromkeys(nr.load_system("refined").defaults)

    def found(settings, seeds, metrics=METRICS):
        chosen, values = from_start(settings), []
        for subject in SUBJECTS:
            system, decoded = held_out(subject, not chosen["options"]["rois"])
            images = generated(folder, system.set_params(**{**usual, **chosen}), decoded, seeds)
            values += [values_of(store, images[:, seed], decoded.stimuli.tolist(), metrics) for seed in range(seeds)]
        means = {name: float(np.nanmean(np.concatenate([one[name] for one in values]))) for name in metrics}
        print(seeds, settings, {name: round(value, 4) for name, value in means.items()}, flush=True)
        return means

    return found


def from_start(settings):
    """Return all settings, those of the start where none are given."""
    return {
        "pull": 0.0,
        "step": 0.0,
        **START,
        **settings,
        "options": {**START["options"], **settings.get("options", {})},
    }


@pytest.mark.benchmark
def test_first_settings(score):
    assert max(GRID, key=lambda settings: sum(score(settings, 1).values())) == {}


@pytest.mark.benchmark
def test_last_settings(score):
    """The defaults are as good as the best: of 100 images with four seeds, a mean is known to .003 or so.

    They have five images in place of six, because six take more than four times as long as brain-diffuser. The probe's
    features identify images, too, in place of its verdicts, a share of which is known to .02 or so.
    """

    def mean(settings):
        found = score(settings, SEEDS, (*DECIDE, "probe"))
        return sum(found[name] for name in DECIDE) / len(DECIDE)

    own = nr.load_system("neurorecon").settings
    defaults = {name: own[name] for name in from_start({})}
    assert mean(defaults) > max(mean(settings) for settings in LAST) - 0.003
