"""Videos of a moving bar, a system that decodes where it is and how it moves, and brains that know both or one."""

import numpy as np

from neurorecon.analyses.shuffle import FRAMES, frames_shuffled
from neurorecon.decoders.ridge import RidgeDecoder
from neurorecon.stats import permutation_p, stimulus_permutations
from neurorecon.systems.base import System, TargetSpec, as_images

PERMUTATIONS = 19


class Bar(System):
    """A bar at a decoded place, which moves at a decoded velocity; without velocity it stands still."""

    name = "moving-bar"
    kinds = ("video",)

    @property
    def targets(self):
        return {name: TargetSpec(name, RidgeDecoder(1.0)) for name in ("place", "velocity")}

    def generate(self, decoded, *, seed=0):
        velocity = decoded.get("velocity", np.zeros((len(decoded.stimuli), 1)))
        return as_images(bars(np.asarray(decoded["place"]), np.asarray(velocity)), decoded.stimuli)


class Unordered(Bar):
    """The same with the frames of each clip in an order that belongs to the seed: there is no order to find."""

    name = "unordered-bar"

    def generate(self, decoded, *, seed=0):
        return as_images(frames_shuffled(super().generate(decoded).values, 1_000_000 + seed), decoded.stimuli)


def bars(place, velocity):
    """Return videos of five frames, (stimulus, frame, y, x, rgb)."""
    center = place[:, :, None] + velocity[:, :, None] * (np.arange(5) - 2)[:, None]
    bar = np.exp(-(((np.arange(16) - center) / 2) ** 2))
    return np.broadcast_to(bar[:, :, None, :, None], (len(place), 5, 16, 16, 3))


def centers(videos):
    """Return where the bar is in each frame, (stimulus, frame)."""
    weights = videos.mean(axis=(2, 4))
    return (weights * np.arange(16)).sum(-1) / weights.sum(-1)


def course(seen, made):
    """Return the correlation of the courses of the bars, (stimulus,)."""
    one, other = (centers(videos) - centers(videos).mean(1, keepdims=True) for videos in (seen, made))
    norms = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    return np.where(norms > 1e-6, (one * other).sum(1) / np.maximum(norms, 1e-6), 0.0)


def jerk(seen, made):
    """Return the mean distance of what bars do from frame to frame, (stimulus,): an end-point error."""
    return np.abs(np.diff(centers(seen)) - np.diff(centers(made))).mean(axis=1)


#: Metrics of bars, and whether more is better.
METRICS = {"course": (course, 1.0), "jerk": (jerk, -1.0)}


def simulated(rng, clips, velocity=True):
    """Return places, velocities and the responses of a brain that holds places and, if told, velocities."""
    place, speed = rng.uniform(6, 10, (clips, 1)), rng.uniform(-1, 1, (clips, 1))
    responses = np.concatenate([place - 8, speed * velocity], axis=1) @ rng.standard_normal((2, 30))
    return place, speed, responses + 0.3 * rng.standard_normal(responses.shape)


def shuffle_p(system, *, velocity, subjects, clips=34, train=20, seed=0):
    """Return p of many subjects by (row, metric): velocity exchanged between clips, and frames shuffled.

    The steps are those of :func:`neurorecon.shuffle`, on arrays: a store for each subject takes a second. p of B
    permutations is one of 1 / (1 + B), ..., 1. To each, less than the distance to the next is added, so that p of a
    valid test are uniform from 0 to 1.

    Parameters
    ----------
    system : System
    velocity : bool
        Whether responses hold the velocity of the bar, beside its place.
    subjects, clips, train : int
        Subjects, the clips that each sees, and how many of them decoders are trained on.
    """
    rng, found = np.random.default_rng(seed), {}
    for number in range(subjects):
        place, speed, responses = simulated(rng, clips, velocity)
        fitted = system.fit_arrays(responses[:train], {"place": place[:train], "velocity": speed[:train]})
        decoded, seen = fitted.decode(responses[train:]), bars(place[train:], speed[train:])
        first = number * (1 + PERMUTATIONS)
        own = fitted.generate(decoded, seed=first).values
        draws = {
            "velocity": [
                fitted.generate(decoded.permute("velocity", order), seed=first).values
                for order in stimulus_permutations(clips - train, PERMUTATIONS, first)
            ],
            FRAMES: [frames_shuffled(own, first + draw) for draw in range(PERMUTATIONS)],
        }
        for row, videos in draws.items():
            for name, (metric, sign) in METRICS.items():
                null = np.array([sign * metric(seen, one).mean() for one in videos])
                p = float(permutation_p(sign * metric(seen, own).mean(), null))
                found.setdefault((row, name), []).append(p - rng.uniform(0, 1 / (1 + PERMUTATIONS)))
    return {key: np.array(values) for key, values in found.items()}
