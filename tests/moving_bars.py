"""Videos of a moving bar, a system that decodes where it is and how it moves, and brains that know both or one."""

import numpy as np

import neurorecon as nr
from neurorecon.analyses.shuffle import FRAMES, frames_shuffled, shuffle
from neurorecon.decoders.ridge import RidgeDecoder
from neurorecon.metrics import METRICS, Metric
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
    """The same with the frames of each clip in random order: there is no order to find."""

    name = "unordered-bar"

    def generate(self, decoded, *, seed=0):
        return as_images(frames_shuffled(super().generate(decoded, seed=seed).values, 1_000_000), decoded.stimuli)


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


def bar_store(path, *, subjects=1, clips=70, train=50, velocity=True, seed=0):
    """Build a store whose subjects see clips of their own; their responses hold the place, and the velocity if told."""
    rng = np.random.default_rng(seed)
    names = [f"subj{number:02d}" for number in range(1, subjects + 1)]
    total = clips * subjects
    place, speed = rng.uniform(6, 10, (total, 1)), rng.uniform(-1, 1, (total, 1))
    ids = np.array([f"clip{number:05d}" for number in range(total)])
    responses, samples = {}, {}
    for number, name in enumerate(names):
        own = slice(number * clips, (number + 1) * clips)
        known = np.concatenate([place[own] - 8, speed[own] * velocity], axis=1) @ rng.standard_normal((2, 30))
        responses[name] = (known + 0.3 * rng.standard_normal(known.shape)).astype(np.float32)
        samples[name] = {"stimulus": ids[own], "split": np.where(np.arange(clips) < train, "train", "test")}
    store = nr.build_from_arrays(
        path, responses, samples, {"id": ids, "kind": ["video"] * total, "category": ["bar"] * total},
        frames=np.round(255 * bars(place, speed)).astype(np.uint8), frames_per_second=4.0, progress=False,
        simulated=True,
    )  # fmt: skip
    for name, values in (("place", place), ("velocity", speed)):
        store = nr.add_target(store, name, values, made_by={"model": name, "source": "tests"})
    return store


def register():
    """Register the metrics of bars."""
    METRICS.register("course", Metric(course, of="video"))
    METRICS.register("jerk", Metric(jerk, higher_is_better=False, of="video"))


def unregister():
    """Take the metrics of bars out again."""
    for name in ("course", "jerk"):
        del METRICS._added[name]


def shuffle_p(store, system):
    """Return p of each subject by (row, metric): velocity exchanged between clips, and frames shuffled.

    p of B permutations is one of 1 / (1 + B), ..., 1. To each, less than the distance to the next is added, so that p
    of a valid test are uniform from 0 to 1.
    """
    found = {}
    for subject in store.subjects:
        table = shuffle(
            store, system, subject, targets=["velocity", FRAMES], metrics=["course", "jerk"],
            n_permutations=PERMUTATIONS, n_derangements=0, n_bootstraps=1,
        ).table  # fmt: skip
        for row in table.itertuples():
            found.setdefault((row.target, row.metric), []).append(row.p)
    spread = np.random.default_rng(0).uniform(0, 1 / (1 + PERMUTATIONS), len(store.subjects))
    return {key: np.array(values) - spread for key, values in found.items()}
