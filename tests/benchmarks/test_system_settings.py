"""How the settings of the bundled networks were chosen: on training images that the decoders had not seen.

    pytest -m benchmark -s tests/benchmarks/test_system_settings.py -k takagi

Of each subject's training images one in 24 is held out, the decoders are fitted to the others, and each setting
generates the held-out images. The setting with the largest mean of pixcorr, two-way identification on
CLIP and the probe's verdicts is that of the preset. MindDiffuser changes images until CLIP finds what was decoded, so
identification is on the probe's features there. Held-out responses are single trials; test responses are means over
three, so test scores are higher. For videos, one in 48 clips of each subject is held out, and the middle frames are
scored. ``SCENES`` names a store that is there; by default it is built.
"""

from __future__ import annotations

import itertools
import os

import numpy as np
import pytest

import neurorecon as nr
from neurorecon.decoders.samples import Recordings
from neurorecon.features.extract import ensure_targets
from neurorecon.metrics.base import load_metric

METRICS = {
    "brain-diffuser": ("pixcorr", "two_way_clip", "probe"),
    "takagi": ("pixcorr", "two_way_clip", "probe"),
    "mind-diffuser": ("pixcorr", "two_way_probe", "probe"),
}
GRIDS = {
    "brain-diffuser": {
        "strength": (0.42, 0.5, 0.62),
        "text_ratio": (0.4, 0.6, 0.8),
        "guidance": (2.0, 3.0),
        "eta": (0.0, 1.0),
    },
    "mind-diffuser": {
        "strength": (0.42, 0.5, 0.6),
        "guidance": (2.0, 3.0),
        "pull": (0.05, 0.1, 0.2),
        "embedding": (0.1, 0.5),
    },
    "takagi": {"strength": (0.34, 0.42, 0.5, 0.62), "guidance": (2.0, 3.0, 5.0), "eta": (0.0, 1.0)},
}
START = {
    "brain-diffuser": {"strength": 0.5, "guidance": 3.0, "steps": 20, "eta": 1.0, "text_ratio": 0.6},
    "takagi": {"strength": 0.42, "guidance": 3.0, "steps": 20, "eta": 0.0},
    "mind-diffuser": {"strength": 0.6, "guidance": 3.0, "steps": 12, "pull": 0.2, "embedding": 0.5},
}
#: Parameters that are varied together, the others as they are.
TOGETHER = {
    "brain-diffuser": (("strength", "eta"), ("guidance", "text_ratio")),
    "takagi": (("strength", "eta"), ("guidance",)),
    "mind-diffuser": (("strength", "guidance"), ("pull", "embedding")),
}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    place = os.environ.get("SCENES")
    found = nr.open_store(place) if place else nr.build("scenes", tmp_path_factory.mktemp("scenes") / "s.icechunk")
    names = ["vdvae", "clip_vision", "clip_text", "clip_text_sd", "vqvae", "clip_text_15", "clip_layers"]
    return ensure_targets(found, [*names, "clip_text_20", "vqvae_first", "motion"])


@pytest.mark.benchmark
@pytest.mark.parametrize("name", GRIDS)
def test_settings(store, name):
    held_out = {}
    for subject in ("subj01", "subj02"):
        train = Recordings.read(store, subject, "visual", task="images", split="train")
        rows = np.arange(len(train.table)) % 24 == 0
        system = nr.load_system(name, device="cpu").fit(store, subject, samples=train.take(~rows))
        seen = train.take(rows)
        held_out[subject] = system, system.decode(seen.labeled_responses()), seen.stimuli.tolist()
    metrics = {metric: load_metric(metric) for metric in METRICS[name]}
    categories = store.stimuli.set_index("id")["category"]
    grid = GRIDS[name]
    best = dict(START[name])
    scores = {}

    def score(setting):
        """Return the mean over metrics, subjects and stimuli."""
        key = tuple(sorted(setting.items()))
        if key not in scores:
            rows = []
            for system, decoded, stimuli in held_out.values():
                seen = np.asarray(store.images(stimuli))
                context = {"categories": categories.loc[stimuli].to_numpy(str)}
                images = system.set_params(**setting).generate(decoded, seed=0).values
                rows.append([float(np.nanmean(m.values(seen, images, context))) for m in metrics.values()])
            scores[key] = np.mean(rows, axis=0)
            print(setting, scores[key].round(3), round(scores[key].mean(), 4), flush=True)
        return scores[key].mean()

    for pair in TOGETHER[name]:
        values = itertools.product(*(grid[one] for one in pair))
        options = [dict(zip(pair, found, strict=True)) for found in values]
        best = max(({**best, **option} for option in options), key=score)
    preset = nr.load_system(name).bundled
    print("chosen:", best, "preset:", preset)
    assert best == preset


#: Moments to which decoded targets are scaled.
RENORM = {
    "none": "none",
    "semantics": {"clip_text_20": "train"},
    "all": "train",
}


@pytest.mark.benchmark
def test_settings_of_videos(store):
    metrics = {metric: load_metric(metric) for metric in ("pixcorr", "two_way_clip", "probe")}
    categories = store.stimuli.set_index("id")["category"]
    held_out = {}
    for subject in ("subj01", "subj02"):
        train = Recordings.read(store, subject, None, task="videos", split="train")
        rows = np.arange(len(train.table)) % 48 == 0
        for name, renorm in RENORM.items():
            system = nr.load_system("mind-animator", device="cpu", renorm=renorm)
            system.fit(store, subject, samples=train.take(~rows))
            held_out[subject, name] = system, system.decode(train.take(rows).labeled_responses())
    scores = {}

    def score(setting):
        """Return the mean over metrics, subjects and clips."""
        key = tuple(sorted(setting.items()))
        if key not in scores:
            rows = []
            for (_, name), (system, decoded) in held_out.items():
                if name != setting["renorm"]:
                    continue
                chosen = {name: value for name, value in setting.items() if name != "renorm"}
                frames = system.set_params(**chosen).generate(decoded, seed=0).values
                middle, stimuli = frames.shape[1] // 2, decoded.stimuli.tolist()
                seen, context = np.asarray(store.images(stimuli)), {"categories": categories.loc[stimuli].to_numpy(str)}
                rows.append([float(np.nanmean(m.values(seen, frames[:, middle], context))) for m in metrics.values()])
            scores[key] = np.mean(rows, axis=0)
            print(setting, scores[key].round(3), round(scores[key].mean(), 4), flush=True)
        return scores[key].mean()

    best = {"renorm": "semantics", "strength": 0.75, "invert": False, "guidance": 3.0}
    grid = {
        "renorm": tuple(RENORM),
        "strength": (0.3, 0.5, 0.75, 0.9),
        "invert": (False, True),
        "guidance": (2.0, 3.0, 5.0),
    }
    for together in (("renorm",), ("strength", "invert"), ("guidance",)):
        values = itertools.product(*(grid[one] for one in together))
        best = max(({**best, **dict(zip(together, found, strict=True))} for found in values), key=score)
    preset = nr.load_system("mind-animator").bundled
    print("chosen:", best, "preset:", preset)
    assert {**best, "renorm": None} == {name: preset.get(name) if name != "renorm" else None for name in best}
    assert preset["renorm"]["clip_text_20"] == ("none" if best["renorm"] == "none" else "train")
