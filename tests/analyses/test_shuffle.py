"""The shuffle test, on a system whose targets carry known scores."""

import numpy as np
import pytest
from scipy.stats import kstest

import neurorecon as nr
from neurorecon.analyses.shuffle import ALL, FRAMES, frames_shuffled, shuffle
from neurorecon.decoders.ridge import RidgeDecoder
from neurorecon.errors import InputError, UnknownNameError
from neurorecon.metrics import METRICS, Metric
from neurorecon.parallel import Compute
from neurorecon.systems.base import System, TargetSpec, as_images, noise_like
from tests.moving_bars import Bar, Unordered, bars, course, shuffle_p, simulated


class TwoTargets(System):
    """The left half of the image comes from one target, the right half from the other; a third one is ignored."""

    name = "two-halves"

    def __init__(self, noise=0.02):
        self.noise = noise

    @property
    def targets(self):
        return {name: TargetSpec(name, RidgeDecoder(5.0)) for name in ("left", "right", "ignored")}

    def generate(self, decoded, *, seed=0):
        halves = [decoded[name].values.reshape(-1, 12, 6, 3) for name in ("left", "right")]
        noise = np.stack([noise_like((12, 12, 3), seed, str(name)) for name in decoded.stimuli])
        return as_images(np.concatenate(halves, axis=2) + self.noise * noise, decoded.stimuli)


def half(columns):
    """The correlation of one half of the image."""

    def correlation(seen, made):
        pairs = zip(seen[:, :, columns].reshape(len(seen), -1), made[:, :, columns].reshape(len(made), -1), strict=True)
        return np.array([np.corrcoef(one, other)[0, 1] for one, other in pairs])

    return Metric(correlation)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    rng = np.random.default_rng(0)
    weights = rng.standard_normal((70, 8))
    images = np.clip(128 + 25 * np.tensordot(weights, rng.standard_normal((8, 12, 12, 3)), 1), 0, 255).astype(np.uint8)
    responses = weights @ rng.standard_normal((8, 30)) + rng.standard_normal((70, 30))
    ids = [f"image{number:02d}" for number in range(70)]
    store = nr.build_from_arrays(
        tmp_path_factory.mktemp("shuffle") / "halves.icechunk", responses.astype(np.float32),
        {"stimulus": ids, "split": np.where(np.arange(70) < 50, "train", "test")},
        {"id": ids, "category": ["animal", "tool"] * 35}, images=images, progress=False, simulated=True,
    )  # fmt: skip
    pixels = images / np.float32(255)
    made_by = {"model": "half of the image", "source": "tests"}
    for name, values in (("left", pixels[:, :, :6]), ("right", pixels[:, :, 6:]), ("ignored", pixels[:, :2, :2])):
        store = nr.add_target(store, name, values.reshape(70, -1), made_by=made_by)
    return store


@pytest.fixture(scope="module", autouse=True)
def metrics():
    METRICS.register("left_half", half(slice(0, 6)))
    METRICS.register("right_half", half(slice(6, 12)))
    yield
    for name in ("left_half", "right_half"):
        del METRICS._added[name]


@pytest.fixture(scope="module")
def found(store):
    return shuffle(store, TwoTargets(), metrics=["left_half", "right_half"], n_permutations=39, n_bootstraps=500)


def cell(found, target, metric):
    table = found.table.set_index(["target", "metric"])
    return table.loc[(target, metric)]


def test_each_target_carries_its_half(found):
    for target, metric, other in (("left", "left_half", "right_half"), ("right", "right_half", "left_half")):
        own = cell(found, target, metric)
        assert own["p"] == 1 / 40
        assert own["drop"] > 0.4
        assert own["low"] > 0.2
        assert own["value"] - own["exchanged"] == pytest.approx(own["drop"])
        still = cell(found, target, other)
        assert still["drop"] == pytest.approx(0, abs=1e-12)
        assert still["p"] == 1.0
        assert cell(found, ALL, metric)["drop"] == pytest.approx(own["drop"], abs=0.05)


def test_a_target_that_the_generator_ignores_carries_nothing(found):
    for metric in ("left_half", "right_half"):
        row = cell(found, "ignored", metric)
        np.testing.assert_allclose(row[["drop", "low", "high"]].astype(float), 0, atol=1e-12)
        assert row["p"] == 1


def test_the_values_are_those_of_reconstruct(store, found):
    again = nr.reconstruct(store, TwoTargets(), metrics=["left_half"], n_permutations=9, controls=True)
    assert cell(found, "left", "left_half")["value"] == pytest.approx(again.scores[0].value)
    other = again.comparison.table.set_index(["reconstruction", "metric"]).loc[("another trial", "left_half"), "mean"]
    assert cell(found, ALL, "left_half")["exchanged"] == pytest.approx(other, abs=0.1)


def test_only_what_is_asked_for(store):
    found = shuffle(
        store, TwoTargets(), targets=["left"], metrics=["left_half"], n_permutations=3, n_stimuli=10, n_derangements=0
    )
    assert found.table["target"].tolist() == ["left"]
    assert len(found.stimuli) == 10
    assert found.table["deranged"].isna().all()
    with pytest.raises(UnknownNameError, match="middle"):
        shuffle(store, TwoTargets(), targets=["middle"], metrics=["left_half"])


def test_it_resumes(store, tmp_path):
    made = []

    class Counted(TwoTargets):
        name = ""

        def generate(self, decoded, *, seed=0):
            made.append(1)
            if len(made) == 7:
                raise KeyboardInterrupt
            return super().generate(decoded, seed=seed)

    settings = {"metrics": ["left_half"], "targets": ["left"], "n_permutations": 4, "n_derangements": 0}
    compute = Compute(folder=tmp_path, progress=False)
    with pytest.raises(KeyboardInterrupt):
        shuffle(store, Counted(), **settings, compute=compute)
    found = shuffle(store, Counted(), **settings, compute=compute)
    whole = shuffle(store, TwoTargets(), **settings)
    assert len(made) == 5 * 3 + 1  # own and four permutations in three parts each, and the one that was cut off
    np.testing.assert_array_equal(found.table["exchanged"], whole.table["exchanged"])


def test_files(found, store, tmp_path):
    files = nr.write(found, store, tmp_path, nr.record_of(store, "test"))
    names = {path.name.removeprefix("subj01_two-halves_shuffle") for path in files}
    assert {"_targets.csv", "_targets.tex", "_stimuli.csv", "_drops.png", ".json"} <= names
    assert "p is at least 0.025" in found.text(store)


# -- videos -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    place, velocity, responses = simulated(np.random.default_rng(0), 70)
    ids = [f"clip{number:02d}" for number in range(70)]
    store = nr.build_from_arrays(
        tmp_path_factory.mktemp("clips") / "bars.icechunk",
        responses.astype(np.float32),
        {"stimulus": ids, "split": np.where(np.arange(70) < 50, "train", "test")},
        {"id": ids, "kind": ["video"] * 70, "category": ["bar"] * 70},
        frames=np.round(255 * bars(place, velocity)).astype(np.uint8), frames_per_second=4.0, progress=False,
        simulated=True,
    )  # fmt: skip
    for name, values in (("place", place), ("velocity", velocity)):
        store = nr.add_target(store, name, values, made_by={"model": name, "source": "tests"})
    return store


@pytest.fixture
def of_courses():
    METRICS.register("course", Metric(course, of="video"))
    yield
    del METRICS._added["course"]


def test_the_order_of_frames_is_tested_with_and_without_the_motion_decoder(clips, of_courses):
    found = shuffle(clips, Bar(), metrics=["course"], without=["velocity"], n_permutations=39, n_bootstraps=500)
    assert found.table["target"].tolist() == ["place", "velocity", ALL, FRAMES, f"{FRAMES} without velocity"]
    frames, still = (cell(found, name, "course") for name in (FRAMES, f"{FRAMES} without velocity"))
    assert frames["p"] == 1 / 40
    assert frames["value"] > 0.8
    assert frames["low"] > 0.3
    assert abs(frames["exchanged"]) < 0.2  # frames at random have no course
    assert still["value"] == still["drop"] == 0
    assert still["p"] == 1  # the test does not reject where motion was not decoded
    assert cell(found, "velocity", "course")["p"] == 1 / 40
    assert cell(found, "place", "course")["drop"] < 0.1 * cell(found, "velocity", "course")["drop"]


@pytest.mark.parametrize(
    ("velocity", "system", "uniform", "rejects"),
    [
        # No velocity in the brain: exchanging what is decoded of it is a valid test. Shuffling frames is none, because
        # bars that move at a wrong velocity move steadily all the same, as what was seen does.
        (False, Bar(), ["velocity"], [FRAMES]),
        # Frames in no order: shuffling them is valid.
        (True, Unordered(), [FRAMES], []),
        # Velocity in the brain: both find it.
        (True, Bar(), [], ["velocity", FRAMES]),
    ],
    ids=["no motion in the brain", "frames in no order", "motion in the brain"],
)
def test_p_is_uniform_where_there_is_nothing_to_find(velocity, system, uniform, rejects):
    """Of independent subjects; `tests/benchmarks/test_motion_null.py` has many of them."""
    found = shuffle_p(system, velocity=velocity, subjects=30)
    for row in uniform:
        for metric in ("course", "jerk"):
            assert kstest(found[row, metric], "uniform").pvalue > 0.01, (row, metric)
    for row in rejects:
        assert kstest(found[row, "jerk"], "uniform").pvalue < 1e-4, row
        assert (found[row, "jerk"] <= 0.05).mean() > 0.5, row


def test_frames_are_shuffled_for_each_clip():
    videos = np.arange(200)[:, None] * 10.0 + np.arange(3)
    shuffled = frames_shuffled(videos, 1)
    np.testing.assert_array_equal(np.sort(shuffled, axis=1), videos)
    orders = {tuple(row % 10) for row in shuffled}
    assert len(orders) == 6  # the identity is a draw, too
    np.testing.assert_array_equal(frames_shuffled(videos, 1), shuffled)
    assert (frames_shuffled(videos, 2) != shuffled).any()


def test_only_videos_have_frames(store, clips, of_courses):
    with pytest.raises(UnknownNameError, match="frames"):
        shuffle(store, TwoTargets(), targets=["frames"], metrics=["left_half"])
    with pytest.raises(InputError, match="only videos have frames"):
        shuffle(store, TwoTargets(), without=["left"], metrics=["left_half"])
    with pytest.raises(UnknownNameError, match="color"):
        shuffle(clips, Bar(), without=["color"], metrics=["course"])
