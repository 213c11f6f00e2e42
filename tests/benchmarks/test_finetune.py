"""What fine-tuning gains on a narrow store, and what it costs: one category of scenes, a network that knows eight.

    pytest -m benchmark -s tests/benchmarks/test_finetune.py

The dual-guided network is fine-tuned on the training images of stores/scenes-one-category.toml. The oracle generates
the test images, which took no part, from their true targets; the system reconstructs them from two brains. Both are
compared with the same network without the adapter, image by image. ``NARROW`` names a store that is there; by default
it is built, without videos. ``TUNED`` names a folder in which the fine-tuning resumes.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest

import neurorecon as nr
from neurorecon.analyses.controls import true_targets
from neurorecon.datasets.recipe import load_recipe
from neurorecon.features.extract import ensure_targets
from neurorecon.metrics.base import load_metric
from neurorecon.stats.bootstrap import bootstrap_interval

ROOT = Path(nr.__file__).parents[1]

METRICS = ("pixcorr", "two_way_clip", "probe")

#: The text ratio is that of the system. The learning rate and the number of epochs were chosen once, not searched.
SETTINGS = {"learning_rate": 1e-3, "epochs": 3, "text_ratio": 0.6}

SEEDS = (0,)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    place = os.environ.get("NARROW")
    if place is None:
        recipe = load_recipe(ROOT / "stores" / "scenes-one-category.toml")
        recipe = recipe.model_copy(
            update={"targets": [], "options": {**recipe.options, "train_videos": 0, "test_videos": 0}}
        )
        place = nr.build(recipe, tmp_path_factory.mktemp("narrow") / "s.icechunk").location
    return ensure_targets(nr.open_store(place), ["vdvae", "clip_vision", "clip_text"])


@pytest.mark.benchmark
def test_the_oracle_improves_and_brains_do_not_lose(store, tmp_path):
    import torch

    torch.set_num_threads(1)
    began = time.process_time()
    out = Path(os.environ.get("TUNED", tmp_path))
    found = nr.finetune(store, out=out, network="dual-diffusion", progress=True, **SETTINGS)
    spent = time.process_time() - began
    print(found.text(store), found.history.to_string(), f"{spent / 60:.1f} minutes of one core", sep="\n")
    assert spent < 15 * 60
    assert found.chosen["change_interval"][1] < 0
    metrics = {name: load_metric(name) for name in METRICS}
    categories = store.stimuli.set_index("id")["category"]

    def scores(system, decoded):
        """Return the values of each metric, mean over seeds, (stimulus,)."""
        stimuli = decoded.stimuli.tolist()
        seen, context = np.asarray(store.images(stimuli)), {"categories": categories.loc[stimuli].to_numpy(str)}
        images = [system.generate(decoded, seed=seed).values for seed in SEEDS]
        return {name: np.mean([m.values(seen, one, context) for one in images], axis=0) for name, m in metrics.items()}

    for subject in store.subjects:
        system = nr.load_system("brain-diffuser", device="cpu").fit(store, subject, "visual")
        test = store.responses(subject, "visual", task="images", split="test", average="stimulus")
        given = {f"brain of {subject}": system.decode(test)}
        if subject == store.subjects[0]:
            given = {"oracle": true_targets(system, store, test["stimulus"].values), **given}
        for what, decoded in given.items():
            before = scores(system.set_params(adapter=None), decoded)
            after = scores(system.set_params(adapter=str(out)), decoded)
            for name in METRICS:
                change = bootstrap_interval(after[name] - before[name])
                print(
                    f"{what:<16} {name:<13} {before[name].mean():.3f} -> {after[name].mean():.3f}, "
                    f"change {change.estimate:+.3f} ({change.low:+.3f} to {change.high:+.3f})"
                )
                if what == "oracle" and name == "pixcorr":
                    assert change.low > 0
                if what != "oracle":
                    assert change.high > 0  # not worse beyond the interval
