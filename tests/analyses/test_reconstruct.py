import json

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler

import neurorecon as nr
from neurorecon.analyses.reconstruct import reconstruct
from neurorecon.errors import InputError, UnknownNameError
from neurorecon.registry import SYSTEMS
from neurorecon.store import selection
from neurorecon.systems.base import as_images, noise_like


@pytest.mark.parametrize("how", [None, "category", "stimulus"])
def test_shapes_and_scores(miniature, how):
    store = miniature(subjects=1, images=40)
    found = reconstruct(store, task="images", cross_validate=how, n_permutations=29)
    number = 10 if how is None else 40
    assert len(found.stimuli) == len(set(found.stimuli)) == number
    assert found.seen.shape == found.reconstructed.shape == (number, *store.images().shape[1:])
    np.testing.assert_allclose(found.seen, store.images(found.stimuli).values / 255, atol=1e-6)
    assert found.reconstructed.min() >= 0
    assert found.reconstructed.max() <= 1
    assert {name: len(values) for name, values in found.values.items()} == {"pixcorr": number, "two_way": number}
    for score in found.scores:
        null = found.null[score.name.removeprefix("subj01 ")]
        assert len(null) == 29
        assert score.null_mean == pytest.approx(null.mean())
        assert score.p == pytest.approx((1 + (null >= score.value - 1e-12).sum()) / 30)
    assert json.loads(json.dumps(found.record()))["voxels"] == 40


@pytest.mark.parametrize("single_trials", [False, True])
def test_some_of_the_test_stimuli(miniature, single_trials):
    store = miniature(subjects=1, images=40)
    arguments = {"task": "images", "n_permutations": 9, "single_trials": single_trials}
    whole = reconstruct(store, **arguments)
    some = reconstruct(store, n_stimuli=4, **arguments)
    assert len(some.stimuli) == 4
    rows = [whole.stimuli.index(name) for name in some.stimuli]
    np.testing.assert_allclose(some.reconstructed, whole.reconstructed[rows], atol=1e-6)
    np.testing.assert_allclose(some.values["pixcorr"], whole.values["pixcorr"][rows], atol=1e-6)
    # Spread over categories: no category has two while another one has none.
    categories = store.stimuli.set_index("id")["category"]
    assert categories[some.stimuli].nunique() == min(4, categories[whole.stimuli].nunique())
    assert some.record()["test_stimuli"] == 4
    assert reconstruct(store, n_stimuli=400, **arguments).stimuli == whole.stimuli


def test_the_first_sessions_are_trained_on(tmp_path):
    random = np.random.default_rng(0)
    ids = np.array([f"image{number:02d}" for number in range(30)])
    rows = np.concatenate([np.tile(np.arange(24), 2), np.tile(np.arange(24, 30), 2)])  # training images in two sessions
    table = {
        "stimulus": ids[rows], "split": np.where(rows < 24, "train", "test"), "run": 1,
        "session": np.repeat([1, 2, 1, 2], [24, 24, 6, 6]),
    }  # fmt: skip
    images = random.integers(0, 256, (30, 8, 8, 3), dtype=np.uint8)
    responses = {"subj01": random.standard_normal((len(rows), 12)).astype(np.float32)}
    store = nr.build_from_arrays(
        tmp_path / "two.icechunk", responses, {"subj01": table}, {"id": ids}, images=images, progress=False
    )
    arguments = {"task": "images", "n_permutations": 9, "center": None, "scale": None}
    found = reconstruct(store, train_sessions=1, **arguments)
    first = np.flatnonzero((table["split"] == "train") & (table["session"] == 1))
    alone = nr.load_system("linear-pixels").fit(store, "subj01", task="images", samples=first)
    test = store.responses("subj01", task="images", split="test", average="stimulus")
    np.testing.assert_allclose(found.reconstructed, alone.reconstruct(test).sel(stimulus=found.stimuli), atol=1e-5)
    whole = reconstruct(store, **arguments)
    assert np.abs(whole.reconstructed - found.reconstructed).max() > 1e-3
    np.testing.assert_allclose(
        whole.reconstructed, reconstruct(store, train_sessions=2, **arguments).reconstructed, atol=1e-5
    )
    with pytest.raises(InputError, match="fewer sessions"):
        reconstruct(store, **arguments, train_sessions=3)
    with pytest.raises(InputError, match="uses all stimuli"):
        reconstruct(store, **arguments, train_sessions=1, cross_validate="stimulus")


def test_responses_that_saw_other_images_reconstruct_nothing(miniature, monkeypatch):
    """Pairs of responses and images are exchanged; identification then is at chance."""
    store = miniature(subjects=1, images=80)
    right = reconstruct(store, task="images", n_permutations=199)
    images = type(store).images
    order = np.random.default_rng(0).permutation(80)
    ids = store.stimuli["id"].tolist()[:80]
    other = dict(zip(ids, np.array(ids)[order], strict=True))

    def exchanged(self, names):
        return images(self, [other[name] for name in names]).assign_coords(stimulus=list(names))

    monkeypatch.setattr(type(store), "images", exchanged)
    wrong = reconstruct(store, task="images", n_permutations=199)
    assert [score.name for score in wrong.scores] == [score.name for score in right.scores]
    assert abs(wrong.scores[1].value - 0.5) < 0.15
    assert all(score.p > 0.02 for score in wrong.scores)


def test_decoded_targets_have_a_table(miniature, tmp_path):
    """Of the images themselves: profiles and patterns by numpy, from what was decoded again."""
    store = miniature(subjects=1, images=40)
    system = nr.load_system("linear-pixels").fit(store, "subj01", task="images")
    found = reconstruct(store, system, task="images", n_permutations=29)
    decoded = system.decode(store.responses("subj01", task="images", split="test", average="stimulus"))
    order = [decoded.stimuli.tolist().index(name) for name in found.stimuli]
    one = store.images(found.stimuli).values.reshape(10, -1) / 255
    other = decoded["images"].values[order].reshape(10, -1).astype(float)
    assert len(found.features) == 1
    row = found.features.iloc[0]
    assert (row["target"], row["part"], row["features"]) == ("images", "all", one.shape[1])
    profiles = [np.corrcoef(a, b)[0, 1] for a, b in zip(one.T, other.T, strict=True)]
    assert row["profile"] == pytest.approx(np.nanmean(profiles), abs=1e-5)
    mean = decoded.training["images"][0].reshape(-1)
    patterns = [np.corrcoef(a - mean, b - mean)[0, 1] for a, b in zip(one, other, strict=True)]
    assert row["pattern"] == pytest.approx(np.mean(patterns), abs=1e-5)
    assert "decoded images: profile correlation" in found.text(store)
    files = {file.name: file for file in nr.write(found, store, tmp_path, nr.record_of(store, "a test"), figures=False)}
    written = pd.read_csv(files["subj01_linear-pixels_features.csv"])
    assert written.loc[0, "profile"] == pytest.approx(row["profile"], rel=1e-4)
    assert "pattern\\_raw" in files["subj01_linear-pixels_features.tex"].read_text()
    # Neither single samples nor cross-validation have one.
    assert reconstruct(store, task="images", n_permutations=9, single_trials=True).features is None
    assert reconstruct(store, task="images", n_permutations=9, cross_validate="category").features is None


def test_the_same_seed_gives_the_same_images(miniature):
    store = miniature(subjects=1, images=40)
    first, second = (reconstruct(store, task="images", n_permutations=9, seed=4) for _ in range(2))
    np.testing.assert_array_equal(first.reconstructed, second.reconstructed)
    np.testing.assert_equal([score.row() for score in first.scores], [score.row() for score in second.scores])


def test_wrong_names(miniature):
    store = miniature(subjects=1)
    for arguments, message in (
        ({"system": "nothing"}, "unknown system"),
        ({"task": "music"}, "unknown task"),
        ({"cross_validate": "mood"}, "unknown column to cross-validate over"),
        ({"subject": "subj09"}, "unknown subject"),
        ({"roi": "V9"}, "unknown ROI"),
    ):
        with pytest.raises(UnknownNameError, match=message):
            reconstruct(store, n_permutations=5, **arguments)


def test_without_a_test_split_it_says_what_to_do(miyawaki_folder, tmp_path):
    store = nr.build("miyawaki2008", tmp_path / "m.icechunk", root=miyawaki_folder, progress=False)
    with pytest.raises(InputError, match=r"no held-out stimuli[\s\S]*--cross-validate category"):
        reconstruct(store)


@pytest.mark.parametrize("how", [None, "stimulus"])
def test_any_metric_and_options(miniature, how):
    store = miniature(subjects=1, images=24)
    found = reconstruct(
        store, task="images", metrics=["mse", "3_way"], options={"alphas": 10.0}, cross_validate=how, n_permutations=9
    )
    assert list(found.values) == ["mse", "3_way"]
    assert found.record()["metrics"] == ["mse", "3_way"]
    assert found.record()["options"]["alphas"] == 10.0
    assert found.record()["null"] == ("exchanged pairs" if how is None else "refitted for each permutation")
    error = next(score for score in found.scores if score.name.endswith("mse"))
    null = found.null[error.name.removeprefix("subj01 ")]
    assert error.p == pytest.approx((1 + (null <= error.value + 1e-12).sum()) / 10)  # small errors are the evidence
    with pytest.raises(UnknownNameError, match=r"unknown metric[\s\S]*ssim_gray2d"):
        reconstruct(store, metrics=["ssim"])


def test_pairs_are_exchanged_within_a_category(miniature):
    """The null of a category alone is as good as the reconstructions of this data set, which has nothing else."""
    store = miniature(subjects=1, images=40)
    free, within = (
        reconstruct(store, task="images", n_permutations=199, exchange=column) for column in ("stimulus", "category")
    )
    np.testing.assert_array_equal(free.reconstructed, within.reconstructed)
    assert free.scores[0].value == within.scores[0].value
    assert free.scores[0].null_mean != within.scores[0].null_mean
    assert within.settings.exchange == "category"
    with pytest.raises(InputError, match="more than one value in run"):  # test images are shown in several runs
        reconstruct(store, task="images", n_permutations=9, exchange="run")
    with pytest.raises(UnknownNameError, match="way to exchange pairs"):
        reconstruct(store, task="images", n_permutations=9, exchange="mood")


def test_responses_are_centered_where_sessions_are_confounded(miniature, monkeypatch):
    store = miniature(subjects=1, images=40)
    arguments = {"task": "images", "n_permutations": 9, "options": {"alphas": 100.0}}
    plain = reconstruct(store, **arguments)
    assert plain.record()["centering"] == {
        "center": None, "scale": None, "reason": "sessions are not confounded",
    }  # fmt: skip
    asked = reconstruct(store, center="run", scale="run", **arguments)
    why = "asked for; sessions are not confounded"
    assert asked.record()["centering"] == {"center": "run", "scale": "run", "reason": why}
    # Independently: scikit-learn on responses that are standardized here.
    samples = store.samples("subj01")
    whole = store.responses("subj01", task="images")
    values = np.array(whole.values, dtype=np.float64)
    for _, rows in samples[samples["task"] == "images"].reset_index(drop=True).groupby(["session", "run"]):
        part = values[rows.index]
        values[rows.index] = (part - part.mean(axis=0)) / part.std(axis=0)
    frame = pd.DataFrame(values).assign(stimulus=whole["stimulus"].values.astype(str), split=whole["split"].values)
    train, test = (
        frame[frame["split"] == split].drop(columns="split").groupby("stimulus", sort=False).mean()
        for split in ("train", "test")
    )
    scaler = StandardScaler().fit(train)
    images = {split: store.images(table.index.tolist()).values / 255 for split, table in (("train", train),)}["train"]
    ridge = Ridge(alpha=100.0).fit(scaler.transform(train), images.reshape(len(train), -1))
    expected = np.clip(ridge.predict(scaler.transform(test)), 0, 1).reshape(asked.reconstructed.shape)
    assert test.index.tolist() == asked.stimuli
    np.testing.assert_allclose(asked.reconstructed, expected, atol=1e-4)
    assert np.abs(asked.reconstructed - plain.reconstructed).max() > 1e-3
    monkeypatch.setattr(selection, "confounded_sessions", lambda samples: "each session shows other stimuli")
    automatic = reconstruct(store, **arguments).record()["centering"]
    assert automatic["center"] == automatic["scale"] == "session"
    assert automatic["reason"] == "sessions are confounded: each session shows other stimuli"
    assert reconstruct(store, center=None, scale=None, **arguments).record()["centering"]["center"] is None
    with pytest.raises(UnknownNameError, match="session, run, auto"):
        reconstruct(store, center="mood", **arguments)


class Noisy(nr.System):
    """Reconstructs pixels, with noise that depends on the seed and the stimulus."""

    name = "noisy"

    @property
    def targets(self):
        return {"images": nr.TargetSpec("images", nr.RidgeDecoder(100.0), required=True)}

    def generate(self, decoded, *, seed=0):
        images = decoded["images"].values.copy()
        for image, stimulus in zip(images, decoded.stimuli, strict=True):
            image += 0.1 * noise_like(image.shape, seed, str(stimulus))
        return as_images(images, decoded.stimuli)


@pytest.mark.parametrize("arguments", [{}, {"single_trials": True}, {"cross_validate": "category"}])
def test_scores_are_averaged_over_seeds(miniature, arguments):
    store = miniature(subjects=1, images=40)
    arguments = {"task": "images", "n_permutations": 29, "controls": False, **arguments}
    each = [reconstruct(store, Noisy(), seed=seed, **arguments) for seed in (3, 4)]
    both = reconstruct(store, Noisy(), seed=3, seeds=2, **arguments)
    assert both.record()["seeds"] == [3, 4]
    np.testing.assert_array_equal(both.reconstructed, each[0].reconstructed)
    np.testing.assert_array_equal(both.all_seeds[:, 1], each[1].reconstructed)
    for name, values in both.values.items():
        np.testing.assert_allclose(values, np.mean([one.values[name] for one in each], axis=0))
    for score, *of_seeds in zip(both.scores, *(one.scores for one in each), strict=True):
        assert score.name == of_seeds[0].name
        assert score.extra["seed_values"] == pytest.approx([one.value for one in of_seeds])
        assert score.value == pytest.approx(np.mean([one.value for one in of_seeds]))
        key = score.name.removeprefix("subj01 ")
        assert score.p == pytest.approx((1 + (both.null[key] >= score.value - 1e-12).sum()) / 30)
    key = both.scores[0].name.removeprefix("subj01 ")
    np.testing.assert_allclose(both.null[key], np.mean([_null(store, arguments, seed, key) for seed in (3, 4)], axis=0))


def _null(store, arguments, seed, key):
    """Return the null of one seed under the permutations of seed 3."""
    from neurorecon.analyses import evaluate

    original, evaluate.stimulus_permutations = evaluate.stimulus_permutations, None
    try:
        evaluate.stimulus_permutations = lambda n, number, _, within: original(n, number, 3, within)
        return reconstruct(store, Noisy(), seed=seed, **arguments).null[key]
    finally:
        evaluate.stimulus_permutations = original


def test_a_fitted_system_is_used_as_it_is(miniature, tmp_path):
    store = miniature(subjects=1, images=40)
    system = nr.load_system("linear-pixels").fit(store, "subj01", "V1", task="images", folder=tmp_path / "fit")
    expected = reconstruct(store, roi="V1", task="images", n_permutations=9)
    for given in (system, str(tmp_path / "fit")):
        found = reconstruct(store, given, n_permutations=9)
        np.testing.assert_array_equal(found.reconstructed, expected.reconstructed)
        assert found.record()["roi"] == "V1"
    with pytest.raises(InputError, match=r"other voxels|do not match the voxels"):
        reconstruct(store, system, roi="V2", n_permutations=9)
    with pytest.raises(InputError, match="a fitted system"):
        reconstruct(store, system, cross_validate="category", n_permutations=9)


class TestMean(nr.System):
    """Reconstructs nothing but the mean response of all stimuli that are decoded together."""

    __test__ = False
    name = "test-mean"

    def __init__(self, renorm="test"):
        self.renorm = renorm

    @property
    def targets(self):
        return {"images": nr.TargetSpec("images", nr.RidgeDecoder(100.0, renorm=self.renorm), required=True)}

    def generate(self, decoded, *, seed=0):
        return as_images(decoded["images"].values, decoded.stimuli)


def test_moments_of_the_test_set_are_left_alone_where_one_stimulus_is_held_out(miniature):
    store = miniature(subjects=1, images=24)
    arguments = {"task": "images", "cross_validate": "stimulus", "n_permutations": 9}
    found = reconstruct(store, TestMean(), **arguments)
    assert found.record()["renorm"].startswith("train instead of test in images")
    np.testing.assert_array_equal(found.reconstructed, reconstruct(store, TestMean("train"), **arguments).reconstructed)
    assert "renorm" not in reconstruct(store, TestMean(), task="images", n_permutations=9).record()
    # Responses are averaged, so there are no scores of single samples, and no refitted null.
    assert [score.name for score in found.scores] == ["subj01 pixcorr", "subj01 two_way"]
    assert found.record()["null"] == "exchanged pairs"


def test_the_former_name_of_the_reconstructions(miniature):
    found = reconstruct(miniature(subjects=1, images=24), task="images", n_permutations=9)
    with pytest.warns(DeprecationWarning, match=r"use \.reconstructed"):
        assert found.rebuilt is found.reconstructed
    with pytest.warns(DeprecationWarning, match=r"use \.values\['pixcorr'\]"):
        assert found.pixel_correlation is found.values["pixcorr"]
    assert not hasattr(found, "mean_squared_error")


def test_devices_and_options_that_a_system_lacks(miniature):
    store = miniature(subjects=1, images=24)
    with pytest.raises(UnknownNameError, match="alphas, standardize"):
        reconstruct(store, options={"alpha": 1.0})
    assert reconstruct(store, task="images", device="torch", n_permutations=9).record()["options"]["device"] == "torch"
    with pytest.raises(InputError, match="no choice of device"):
        nr.reconstruct(store, "test-mean-registered", device="cuda")


@pytest.fixture(autouse=True)
def _registered(monkeypatch):
    monkeypatch.setitem(SYSTEMS._added, "test-mean-registered", TestMean)


@pytest.mark.parametrize("how", [None, "stimulus"])
def test_few_stimuli_are_exchanged_in_all_orders(miniature, how):
    store = miniature(subjects=1, images=8)
    found = reconstruct(store, task="images", n_permutations=19, cross_validate=how, exchange="stimulus")
    orders = 1 if how is None else 19  # two test images have one other order; eight images have many
    assert found.record()["n_permutations"] == orders
    assert {score.n_permutations for score in found.scores} <= {0, orders}
    assert found.record()["exchange"]["smallest_p"] == pytest.approx(1 / (1 + orders))
    assert ("warning: few orders are possible" in found.text(store)) == (how is None)
