"""False positive rates of encoding maps and of comparisons of reconstructions on pure noise, and coverage of intervals.

They are the tables of docs/validation.md.

``pytest -m benchmark -s tests/benchmarks/test_false_positives.py``; ``NEURORECON_EXPERIMENTS`` (200) sets how many
experiments of 30 voxels each are simulated. Three minutes on one core.
"""

import os

import numpy as np
import pytest

from neurorecon.analyses.controls import derangement
from neurorecon.metrics import pixcorr, two_way
from neurorecon.stats import bootstrap_means, bootstrap_p
from tests.noise_designs import COVERED, DESIGNS, coverage, p_values

pytestmark = pytest.mark.benchmark

EXPERIMENTS = int(os.environ.get("NEURORECON_EXPERIMENTS", "200"))


def test_false_positive_rates():
    print(
        "\n| design: what trades places | valid | rate at .05 | rate at .01 | standard error |\n|---|---|---|---|---|"
    )
    for name, (unit, valid, design) in DESIGNS.items():
        random = np.random.default_rng(0)
        p = np.array([p_values(random, unit, **design) for _ in range(EXPERIMENTS)])
        rates = (p <= 0.05).mean(axis=1)
        error = rates.std(ddof=1) / np.sqrt(EXPERIMENTS)
        said = "yes" if valid else "no (refused or warned of)"
        print(f"| {name} | {said} | {rates.mean():.3f} | {(p <= 0.01).mean():.3f} | {error:.3f} |", flush=True)
        assert not valid or rates.mean() <= 0.05 + 3.1 * max(error, 1e-9) + 0.01


def test_coverage_of_intervals():
    print("\n| samples | R2 | covered (of .95) |\n|---|---|---|")
    for name, design in COVERED.items():
        truth, rate = coverage(**design, experiments=5 * EXPERIMENTS)
        print(f"| {name} | {truth:.2f} | {rate:.3f} |", flush=True)
        assert rate >= 0.91


def test_a_system_without_information_does_not_beat_its_controls():
    """Images are mixtures of six patterns, and so is what the system makes, of others."""
    print("\n| stimuli | metric | control | p <= .05 | p <= .01 |\n|---|---|---|---|---|")
    experiments, random = 3 * EXPERIMENTS, np.random.default_rng(0)
    for stimuli in (50, 100):
        p = {(metric, control): [] for metric in (pixcorr, two_way) for control in ("another trial", "mean response")}
        for number in range(experiments):
            patterns = random.standard_normal((6, 60))
            seen, made = random.standard_normal((2, stimuli, 6)) @ patterns
            seen += 0.3 * random.standard_normal(seen.shape)
            # The same image for all: the mean of what was made, and a mean that images have in common.
            mean = np.repeat(made.mean(axis=0, keepdims=True) + patterns.mean(axis=0), stimuli, axis=0)
            images = {"another trial": made[derangement(stimuli, number)], "mean response": mean}
            for metric, control in p:
                differences = metric(seen, made) - metric(seen, images[control])
                means = bootstrap_means(differences[:, None], n_bootstraps=1999, seed=number)
                p[metric, control].append(float(bootstrap_p(means)[0]))
        for (metric, control), values in p.items():
            rates = [np.mean(np.array(values) <= level) for level in (0.05, 0.01)]
            print(f"| {stimuli} | {metric.__name__} | {control} | {rates[0]:.3f} | {rates[1]:.3f} |", flush=True)
            assert rates[0] <= 0.05 + 3.1 * np.sqrt(0.05 * 0.95 / experiments) + 0.01
