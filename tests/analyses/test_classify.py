"""Decoded categories: the same as scikit-learn's, with nulls that hold, and a map that finds what was planted."""

import nibabel
import numpy as np
import pandas as pd
import pytest
from scipy.stats import f_oneway
from sklearn.model_selection import LeaveOneGroupOut, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

import neurorecon as nr
from neurorecon.analyses.classify import CategoryVariance, LeaveOneOut, relabel, units_of
from neurorecon.datasets.recipe import Recipe
from neurorecon.errors import InputError, UnknownNameError
from neurorecon.stats import permutation_p, stimulus_permutations
from neurorecon.testing.layouts.haxby2001 import write_haxby2001


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    return write_haxby2001(tmp_path_factory.mktemp("haxby2001"), layout="excerpt")


@pytest.fixture(scope="module")
def store(tree, tmp_path_factory):
    recipe = Recipe(name="haxby", reader="haxby2001", root=str(tree))
    return nr.build(recipe, tmp_path_factory.mktemp("stores") / "haxby.icechunk", progress=False)


@pytest.fixture(scope="module")
def found(store):
    return nr.classify(store, n_permutations=19)


def test_decoded_categories_are_those_of_scikit_learn(store, found):
    responses = store.responses("subj1").values.astype(float)
    samples = store.samples("subj1")
    machine = make_pipeline(StandardScaler(), SVC(kernel="linear", C=1.0))
    wanted = cross_val_predict(machine, responses, samples["stimulus"], groups=samples["run"], cv=LeaveOneGroupOut())
    assert found.samples["decoded"].tolist() == wanted.tolist()
    assert found.scores[0].value == pytest.approx((wanted == samples["stimulus"]).mean())


def test_scores_tables_and_settings(found):
    accuracy = found.scores[0]
    assert accuracy.name == "subj1 accuracy"
    assert accuracy.value > 0.5 > accuracy.null_max
    assert accuracy.p == permutation_p(accuracy.value, found.null["accuracy"]) == 1 / 20
    assert accuracy.baseline == 1 / 8
    assert found.confusion.to_numpy().sum() == 32
    assert (found.samples["category"] == found.samples["decoded"]).sum() == np.trace(found.confusion.to_numpy())
    assert found.chosen["folds"] == 4
    assert found.chosen["presentations"] == 32


def test_the_map_lies_where_the_responses_were(tree, store, found, tmp_path):
    files = nr.write(found, store, tmp_path, nr.record_of(store, "a test"), figures=False)
    image = nibabel.load(next(path for path in files if path.name.endswith("_maps.nii.gz")))
    bold = nibabel.load(tree / "bold.nii.gz")
    np.testing.assert_allclose(image.affine, bold.affine)
    assert image.shape == (*bold.shape[:3], 4)
    voxels, responses = store.voxels("subj1"), store.responses("subj1").values.astype(float)
    samples = store.samples("subj1")
    runs = samples["run"].to_numpy()
    centered = responses - np.stack([responses[runs == run].mean(axis=0) for run in runs])
    groups = [centered[(samples["stimulus"] == name).to_numpy()] for name in found.categories]
    # scipy counts no degrees of freedom for the means of the runs
    wanted = f_oneway(*groups).statistic * (32 - 8 - 3) / (32 - 8)
    values = image.get_fdata()[voxels["i"], voxels["j"], voxels["k"], 0]
    np.testing.assert_allclose(values, wanted, rtol=1e-4)


def test_figures_and_text(store, found, tmp_path):
    files = nr.write(found, store, tmp_path, nr.record_of(store, "a test"))
    assert {path.suffix for path in files} == {".json", ".csv", ".gz", ".png"}
    text = found.text(store)
    assert "leave one run out (4 folds)" in text
    assert "SIMULATED responses" in text


def test_two_categories_of_one_roi(store):
    found = nr.classify(store, roi="mask", categories=["house", "face"], n_permutations=5)
    assert found.categories == ["face", "house"]
    assert len(found.samples) == 8
    assert found.scores[0].baseline == 0.5


def test_p_values_of_noise_are_uniform():
    generator = np.random.default_rng(0)
    codes, runs = np.tile(np.arange(4), 8), np.repeat(np.arange(8), 4)
    noise = generator.standard_normal((32, 600)) + runs[:, None]
    units = units_of(np.arange(32), runs)
    variance = CategoryVariance(noise, runs)
    orders = stimulus_permutations(32, 99, 0, runs)
    p = permutation_p(variance.f(codes), np.array([variance.f(relabel(codes, units, order)) for order in orders]))
    assert 0.02 < (p <= 0.05).mean() < 0.08
    assert 0.45 < p.mean() < 0.56


def test_volumes_of_one_presentation_are_exchanged_together():
    generator = np.random.default_rng(1)
    stimuli = np.repeat(np.tile(np.arange(4), 6), 5)
    runs = np.repeat(np.arange(6), 20)
    units = units_of(stimuli, runs)
    assert len(units.first) == 24
    # The noise of a presentation is shared by its volumes: single volumes as units would find it significant.
    noise = np.repeat(generator.standard_normal((24, 400)), 5, axis=0) + 0.1 * generator.standard_normal((120, 400))
    variance = CategoryVariance(noise, runs)

    def share(of, number, labels):
        orders = stimulus_permutations(number, 59, 0, labels)
        null = np.array([variance.f(relabel(stimuli, of, order)) for order in orders])
        return (permutation_p(variance.f(stimuli), null) <= 0.05).mean()

    assert share(units, 24, runs[units.first]) < 0.09
    assert share(units_of(np.arange(120), runs), 120, runs) > 0.3


def test_a_voxel_that_does_not_vary_has_no_f():
    codes, runs = np.tile(np.arange(2), 4), np.repeat(np.arange(4), 2)
    values = np.ones((8, 2))
    values[:, 1] = np.random.default_rng(0).standard_normal(8)
    assert CategoryVariance(values, runs).f(codes)[0] == 0


def test_what_cannot_be_classified(store, miniature):
    with pytest.raises(UnknownNameError, match="unknown category 'faces'"):
        nr.classify(store, categories=["faces", "house"])
    with pytest.raises(InputError, match="fewer than two categories"):
        nr.classify(store, categories=["face"])
    with pytest.raises(UnknownNameError, match="run, session, stimulus"):
        nr.classify(store, cross_validate="category")
    with pytest.raises(InputError, match="samples of one group only"):
        nr.classify(store, cross_validate="session")
    with pytest.raises(InputError, match="is out of range"):
        nr.classify(store, n_permutations=0)
    with pytest.raises(InputError, match="recorded as a time series"):
        nr.classify(miniature(), task="videos")


def test_a_fold_of_a_single_category_is_refused():
    folds = LeaveOneOut.of(np.random.default_rng(0).standard_normal((4, 3)), np.array([0, 0, 1, 1]), 1.0)
    with pytest.raises(InputError, match="without one run, a single category is left"):
        folds.check(np.array([0, 0, 1, 1]), "run", ["face", "house"])


def test_stimuli_that_repeat_across_folds_are_told(miniature):
    store = miniature()
    found = nr.classify(store, task="images", n_permutations=3)
    assert found.chosen["stimuli_met_in_training"] == 6
    assert "6 of 24 stimuli occur in several folds" in found.text(store)
    apart = nr.classify(store, task="images", n_permutations=3, cross_validate="stimulus")
    assert apart.chosen["stimuli_met_in_training"] == 0
    assert apart.chosen["folds"] == 24


def _blocks(tmp_path, categories, rows=None):
    """Return a store of blocks: a row of categories for each run."""
    random = np.random.default_rng(2)
    runs, blocks = np.shape(categories)
    table = pd.DataFrame({
        "stimulus": [f"b{number:02d}" for number in range(runs * blocks)],
        "run": np.repeat(np.arange(1, runs + 1), blocks),
        "time": np.tile(20.0 * np.arange(blocks), runs),
    })  # fmt: skip
    table["split"] = "train"
    responses = random.standard_normal((len(table), 15)).astype(np.float32)
    rows = np.arange(len(table)) if rows is None else rows
    return nr.build_from_arrays(
        tmp_path / "blocks.icechunk", responses[rows], table.iloc[rows].reset_index(drop=True),
        {"id": table["stimulus"], "category": np.ravel(categories)},
        images=random.integers(0, 256, (len(table), 4, 4, 3), dtype=np.uint8), progress=False,
    )  # fmt: skip


def test_few_presentations_are_exchanged_in_all_orders(tmp_path):
    store = _blocks(tmp_path, [["face", "house"], ["house", "face"], ["face", "house"]])
    found = nr.classify(store, n_permutations=1000)
    # 2 ** 3 orders, one of which only calls faces houses and houses faces.
    assert found.chosen["n_permutations"] == 7
    assert all(score.n_permutations == 7 for score in found.scores)
    assert found.chosen["exchange"]["smallest_p"] == 2 / 8
    assert found.table["p"].min() >= 2 / 8
    assert min(score.p for score in found.scores) >= 2 / 8
    assert any("no voxel can be significant" in text for text in found.chosen["warnings"])
    text = found.text(store)
    assert "p is at least 0.25" in text
    assert "\nwarning: few orders are possible" in text
    assert not any("same order" in text for text in found.chosen["warnings"])


def test_the_same_order_in_all_runs_is_warned_of(tmp_path):
    rows = np.random.default_rng(0).permutation(20)  # a store may hold samples in any order
    store = _blocks(tmp_path, [["face", "house", "cat", "face", "cat"]] * 4, rows)
    found = nr.classify(store, n_permutations=9)
    assert any("categories in the same order" in text for text in found.chosen["warnings"])
    assert found.chosen["exchange"]["smallest_p"] == pytest.approx(0.1)


# -- sessions ---------------------------------------------------------------------------------------------------------

SESSIONS, VOXELS = 6, 30


def _sessions(tmp_path, shares, signal):
    """Return a store of sessions with large offsets and gains: two runs of 12 blocks, and a share of faces for each."""
    random = np.random.default_rng(3)
    session, run = np.repeat(np.arange(SESSIONS), 24), np.repeat(np.arange(2 * SESSIONS), 12)
    category = np.concatenate([
        random.permutation(np.where(np.arange(12) < round(12 * shares[number // 2]), "face", "house"))
        for number in range(2 * SESSIONS)
    ])  # fmt: skip
    pattern = random.standard_normal(VOXELS)
    responses = random.standard_normal((len(run), VOXELS)) + signal * np.outer(category == "face", pattern)
    responses *= np.linspace(0.3, 3, SESSIONS)[session, None]
    responses += 40 * random.standard_normal((SESSIONS, VOXELS))[session]
    names = [f"b{number:03d}" for number in range(len(run))]
    samples = {"stimulus": names, "session": session + 1, "run": run % 2 + 1, "split": ["train"] * len(run)}
    return nr.build_from_arrays(
        tmp_path / "sessions.icechunk", responses.astype(np.float32), samples, {"id": names, "category": category},
        images=random.integers(0, 256, (len(run), 4, 4, 3), dtype=np.uint8), progress=False,
    )  # fmt: skip


def _accuracy(found):
    return {score.name.split()[1]: score for score in found.scores}["mean_accuracy_of_categories"]


def test_offsets_of_sessions_are_removed_where_sessions_show_different_stimuli(tmp_path):
    store = _sessions(tmp_path, [0.5] * SESSIONS, 1.0)
    options = {"cross_validate": "session", "n_permutations": 39}
    raw = nr.classify(store, center=None, scale=None, **options)
    found = nr.classify(store, **options)
    assert _accuracy(raw).value < 0.6
    assert _accuracy(found).value > 0.9
    assert _accuracy(found).p == 1 / 40
    assert found.chosen["centering"]["center"] == found.chosen["centering"]["scale"] == "session"
    assert "144 of 144 stimuli were shown in one session only" in found.chosen["centering"]["reason"]
    assert found.chosen["warnings"] == []
    assert "Responses are centered within sessions and scaled within sessions (sessions are" in found.text(store)
    assert any("responses are not centered" in text for text in raw.chosen["warnings"])
    assert raw.settings.record()["center"] is None
    # What held-out samples are centered by has nothing to do with their categories: the same as by hand.
    responses, table = store.responses("subj01").values.astype(float), store.samples("subj01")
    for session in table["session"].unique():
        rows = (table["session"] == session).to_numpy()
        responses[rows] = (responses[rows] - responses[rows].mean(axis=0)) / responses[rows].std(axis=0)
    machine = make_pipeline(StandardScaler(), SVC(kernel="linear", C=1.0))
    seen = store.stimuli.set_index("id")["category"].loc[table["stimulus"]].to_numpy()
    wanted = cross_val_predict(machine, responses, seen, groups=table["session"], cv=LeaveOneGroupOut())
    assert (found.samples["decoded"] == wanted).mean() > 0.98  # in single precision


def test_sessions_are_not_taken_for_categories(tmp_path):
    """Nothing but offsets: sessions differ in how often they show faces, and tell what is to be guessed."""
    store = _sessions(tmp_path, [0.83, 0.17] * 3, 0.0)
    raw = nr.classify(store, center=None, scale=None, n_permutations=39)
    found = nr.classify(store, n_permutations=39)
    assert _accuracy(raw).value > 0.75  # of which a null within runs makes nothing: it keeps the offsets
    assert _accuracy(raw).p > 0.05
    # Centering makes held-out samples unlike the training samples of their session: the null is below one in two.
    assert _accuracy(found).value < 0.55
    assert 0.3 < _accuracy(found).null_mean < 0.5
    assert _accuracy(found).p > 0.05
    assert "sessions show different categories (2; 0 of 6 sessions show one only)" in store.confounded_sessions(
        "subj01", store.tasks("subj01")[0]
    )


def test_centering_a_session_of_one_category_is_warned_of(tmp_path):
    store = _sessions(tmp_path, [1, 0, 0.5, 0.5, 0.5, 0.5], 1.0)
    found = nr.classify(store, n_permutations=3)
    assert any("2 of 6 sessions show one category only: centering" in text for text in found.chosen["warnings"])
    own = found.samples["session"] <= 2
    right = (found.samples["category"] == found.samples["decoded"]).groupby(own).mean()
    assert right[False] > 0.9
    assert right[True] < 0.7
    nothing = nr.classify(store, n_permutations=3, center=None)
    assert not any("one category only" in text for text in nothing.chosen["warnings"])


def test_sessions_that_are_not_confounded_are_left_alone(store):
    found = nr.classify(store, n_permutations=3)
    assert found.chosen["centering"] == {"center": None, "scale": None, "reason": "sessions are not confounded"}
    assert "neither centered nor scaled (sessions are not confounded)" in found.text(store)
    asked = nr.classify(store, n_permutations=3, center="run", scale="run")
    assert asked.chosen["centering"] == {
        "center": "run",
        "scale": "run",
        "reason": "asked for; sessions are not confounded",
    }
    with pytest.raises(UnknownNameError, match="unknown column to center or scale within 'stimulus'"):
        nr.classify(store, center="stimulus")
