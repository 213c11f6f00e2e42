"""A system of another package that takes its time, and writes down what it does: for tests of interruptions."""

import os
import time
from pathlib import Path

import numpy as np

from neurorecon import RidgeDecoder, System, TargetSpec
from neurorecon.systems.base import as_images, noise_like


def note(what):
    """Append a line to the file that the environment names."""
    with Path(os.environ["SLOW_LOG"]).open("a") as log:
        log.write(f"{what}\n")


class SlowRidge(RidgeDecoder):
    def fit(self, X, y, groups=None, sample_weight=None):
        found = super().fit(X, y, groups, sample_weight)
        note(f"fitted {np.asarray(y).shape[1:]}")
        time.sleep(float(os.environ.get("SLOW_SECONDS", "0")))
        return found


class SlowSystem(System):
    """Pixels, with noise of its own for each seed and stimulus."""

    name = "slow"

    def __init__(self, alpha=100.0, noise=0.05):
        self.alpha = alpha
        self.noise = noise

    @property
    def targets(self):
        return {
            "images": TargetSpec("images", SlowRidge(self.alpha), required=True),
            "gabor": TargetSpec("gabor", SlowRidge(self.alpha)),
        }

    def generate(self, decoded, *, seed=0):
        images = decoded["images"].values.copy()
        for image, stimulus in zip(images, decoded.stimuli, strict=True):
            image += self.noise * noise_like(image.shape, seed, str(stimulus))
            note(f"generated {seed} {stimulus}")
            time.sleep(float(os.environ.get("SLOW_SECONDS", "0")))
        return as_images(images, decoded.stimuli)
