"""How the settings of the bundled networks were chosen: on training images that the decoders had not seen.

    pytest -m benchmark -s tests/benchmarks/test_system_settings.py -k takagi

Of each subject's training images one in 24 is held out, the decoders are fitted to the others, and each setting
generates the held-out images. The setting with the largest mean of pixcorr, two-way identification on
CLIP and the probe's verdicts is that of the preset. MindDiffuser changes images until CLIP finds what was decoded, so
identification is on the probe's features there. Held-out responses are single trials; test responses are means over
three, so test scores are higher. For videos, one in 24 clips of each subject is held out, and the middle frames are
scored; ``-k structure`` chooses what structure is trained on and its voxels, and ``-k redraw`` the strength at which
first frames are then redrawn. ``SCENES`` names a store that is there; by default it is built.
"""

from __future__ import annotations

import functools
import itertools
import os

import numpy as np
import pytest

import neurorecon as nr
from neurorecon.decoders.samples import Recordings, stored_target
from neurorecon.features.extract import ensure_targets
from neurorecon.metrics.base import load_metric
from neurorecon.systems.base import correlate_rows

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


@pytest.mark.benchmark
def test_training_of_structure(store):
    """Mind-Animator: structure learned from clips or images, from groups of ROIs that all readers of videos have.

    One clip in 8 is held out.
    """
    scores = {}
    for learned, roi in itertools.product(("clips", "images"), (None, "early", "ventral")):
        options = {"structure": learned, "rois": {} if roi is None else {"vqvae_first": roi}}
        system = nr.load_system("mind-animator", device="cpu", without=("clip_text_20", "motion"), **options)
        found = []
        for subject in ("subj01", "subj02"):
            train = Recordings.read(store, subject, None, task="videos", split="train")
            rows = np.arange(len(train.table)) % 8 == 0
            decoded = system.fit(store, subject, samples=train.take(~rows)).decode(train.take(rows).labeled_responses())
            true = store.targets("vqvae_first", stimuli=decoded.stimuli.tolist()).values
            pair = (values.reshape(len(true), -1).T for values in (decoded["vqvae_first"].values, true))
            found.append(correlate_rows(*pair).mean())
        scores[learned, roi] = np.mean(found)
        print(learned, roi, "r of the decoded first frame:", np.round(found, 3), flush=True)
    chosen = nr.load_system("mind-animator").settings
    assert max(scores, key=scores.get) == (chosen["structure"], chosen["rois"]["vqvae_first"])


#: Moments to which decoded targets are scaled, and the voxels that motion is decoded from.
RENORM = {
    "none": "none",
    "semantics": {"clip_text_20": "train"},
    "semantics, motion": {"clip_text_20": "train", "motion": "train"},
    "all": "train",
}
ROIS = {"all": {}, "MT, MST": {"motion": ("MT", "MST")}, "dorsal": {"motion": ("V3A", "V3B", "MT", "MST")}}
VIDEOS = {
    "rois": tuple(ROIS),
    "redraw": (0.0, 0.5, 0.75, 0.9),
    "strength": (0.2, 0.3, 0.5, 0.75),
    "invert": (False, True),
    "guidance": (2.0, 3.0, 5.0),
    "renorm": tuple(RENORM),
}


#: Strengths of the last choice, with structure from images.
REDRAW = (0.3, 0.4, 0.5, 0.6, 0.75)


@pytest.fixture(scope="module")
def score_videos(store):
    """Return what scores a system: means over subjects and held-out clips, by metric."""
    metrics = {metric: load_metric(metric) for metric in ("pixcorr", "two_way_clip", "probe")}
    of_frames = {metric: load_metric(metric) for metric in ("ssim_frames", "direction_agreement")}
    categories = store.stimuli.set_index("id")["category"]

    @functools.cache
    def held_out(subject, fit):
        """Return a fitted system, and the decoded targets of one in 24 training clips that it was not fitted to."""
        train = Recordings.read(store, subject, None, task="videos", split="train")
        rows = np.arange(len(train.table)) % 24 == 0
        system = nr.load_system("mind-animator", device="cpu", **FITS[fit])
        system.fit(store, subject, samples=train.take(~rows))
        return system, system.decode(train.take(rows).labeled_responses())

    def score(fit, **settings):
        rows = []
        for subject in ("subj01", "subj02"):
            system, decoded = held_out(subject, fit)
            made = system.set_params(**settings).generate(decoded, seed=0).values
            stimuli, middle = decoded.stimuli.tolist(), made.shape[1] // 2
            seen = np.asarray(stored_target(store, "frames", stimuli).values, dtype=np.float32)
            context = {"categories": categories.loc[stimuli].to_numpy(str)}
            values = [m.values(seen[:, middle], made[:, middle], context) for m in metrics.values()]
            values += [m.values(seen, made, context) for m in of_frames.values()]
            # The direction of frames that stand still is undefined, and agrees with none.
            rows.append([float(np.nan_to_num(one).mean()) for one in values])
        means = np.mean(rows, axis=0)
        print(fit, settings, means.round(3), round(means.mean(), 4), flush=True)
        return means.mean()

    return score


#: Systems by their fit: structure from clips and all voxels, and as it is now.
FITS = {
    (renorm, rois): {"structure": "clips", "renorm": RENORM[renorm], "rois": ROIS[rois]}
    for renorm, rois in itertools.product(RENORM, ROIS)
} | {"now": {}}


@pytest.mark.benchmark
def test_settings_of_videos(score_videos):
    scores = {}

    def score(setting):
        key = tuple(sorted(setting.items()))
        if key not in scores:
            chosen = dict(setting)
            scores[key] = score_videos((chosen.pop("renorm"), chosen.pop("rois")), **chosen)
        return scores[key]

    best = {"rois": "MT, MST", "renorm": "semantics", "redraw": 0.75, "strength": 0.3, "invert": False, "guidance": 3.0}
    score({**best, "redraw": 0.0, "strength": 0.75})  # without drawing first frames again
    score({**best, "strength": 0.0})  # without the network of videos
    for name, values in VIDEOS.items():
        best = max(({**best, name: value} for value in values), key=score)
    system = nr.load_system("mind-animator")
    preset = {name: system.settings[name] for name in ("strength", "invert", "guidance")}
    print("chosen:", best, "preset:", preset, system.default_rois, system.bundled["renorm"])
    assert {name: best[name] for name in preset} == preset
    assert ROIS[best["rois"]] == system.default_rois
    scaled = RENORM[best["renorm"]]
    assert {name for name, how in system.bundled["renorm"].items() if how == "train"} == set(scaled)


@pytest.mark.benchmark
def test_redraw(score_videos):
    """The strength at which first frames are redrawn, chosen again since structure is learned from images."""
    best = max(REDRAW, key=lambda redraw: score_videos("now", redraw=redraw))
    assert best == nr.load_system("mind-animator").settings["redraw"]
