"""Whether p of the shuffle test of videos is uniform where no motion comes from the brain.

``pytest -m benchmark -s tests/benchmarks/test_motion_null.py``; ``NEURORECON_EXPERIMENTS`` (1000) sets how many
subjects see moving bars. The embedded data set takes much longer than these.
"""

import os

import numpy as np
import pytest
from scipy.stats import kstest

import neurorecon as nr
from neurorecon.datasets.recipe import Recipe
from neurorecon.decoders.samples import Recordings
from neurorecon.metrics import load_metric
from neurorecon.stats import permutation_p, stimulus_permutations
from tests.moving_bars import FRAMES, Bar, Unordered, shuffle_p

pytestmark = pytest.mark.benchmark

EXPERIMENTS = int(os.environ.get("NEURORECON_EXPERIMENTS", "1000"))

#: Test clips of one experiment on the embedded data set, among which motion is exchanged.
CLIPS = 12


def test_moving_bars():
    print("\n| brain, frames | exchanged | metric | p <= .05 | uniform (KS) |\n|---|---|---|---|---|")
    for label, velocity, system, valid, found_in in (
        ("no motion in the brain", False, Bar(), ["velocity"], [FRAMES]),
        ("motion in the brain, frames in no order", True, Unordered(), [FRAMES], []),
        ("motion in the brain", True, Bar(), [], ["velocity", FRAMES]),
    ):
        for (row, metric), p in shuffle_p(system, velocity=velocity, subjects=EXPERIMENTS, seed=5).items():
            uniform, rate = kstest(p, "uniform").pvalue, (p <= 0.05).mean()
            print(f"| {label} | {row} | {metric} | {rate:.3f} | {uniform:.2g} |", flush=True)
            if row in valid:
                assert uniform > 0.001
                assert rate <= 0.05 + 3.1 * np.sqrt(0.05 * 0.95 / EXPERIMENTS)
            elif row in found_in and metric == "jerk":
                assert rate > 0.5


@pytest.mark.parametrize("removed", [True, False], ids=["motion removed", "motion in the brain"])
def test_embedded_videos(removed, tmp_path):
    """Motion of clips by the autoencoder, exchanged within groups of clips, all pairs of which are generated once.

    What moves is also seen in contrast energy, from which motion energy is decoded in part. So without motion areas the
    end-point error may still tell whose motion it is, but the direction must not: contrast has none.
    """
    options = {"subjects": 4, "train_images": 1, "test_images": 1, "train_videos": 300, "test_videos": 60}
    options |= {"test_image_repeats": 1, "test_video_repeats": 6, "without": ("motion",) if removed else ()}
    recipe = Recipe(name="clips", reader="scenes", targets=["vqvae_first", "motion"], options=options)
    store = nr.build(recipe, tmp_path / "clips.icechunk", progress=False)
    metrics = {name: load_metric(name) for name in ("epe", "direction_agreement")}
    found = {name: [] for name in metrics}
    for number, subject in enumerate(store.subjects):
        system = nr.load_system("mind-animator", first_stage_only=True, device="cpu").fit(store, subject, task="videos")
        test = Recordings.read(store, subject, task="videos", split="test")
        order = np.random.default_rng(number).permutation(len(test.table))
        for start in range(0, len(order) - CLIPS + 1, CLIPS):
            decoded = system.decode(test.take(order[start : start + CLIPS]).labeled_responses())
            seen, place = store.frames(decoded.stimuli.tolist()).values, np.arange(CLIPS)
            values = {name: np.empty((CLIPS, CLIPS)) for name in metrics}
            for shift in range(CLIPS):
                other = (place + shift) % CLIPS
                videos = system.generate(decoded.permute("motion", other)).values
                for name, metric in metrics.items():
                    values[name][place, other] = metric.values(seen, videos)
            for name, metric in metrics.items():
                sign = 1.0 if metric.higher_is_better else -1.0
                null = [sign * np.nanmean(values[name][place, one]) for one in stimulus_permutations(CLIPS, 999, start)]
                found[name].append(float(permutation_p(sign * np.nanmean(np.diagonal(values[name])), np.array(null))))
    for name, p in found.items():
        print(f"\n{'removed' if removed else 'in the brain'} {name}: p {np.round(np.sort(p), 3)}", flush=True)
    if removed:
        assert kstest(found["direction_agreement"], "uniform").pvalue > 0.001
