"""Audits of reconstructions: against values from other code, and on systems whose answer is known."""

import json

import numpy as np
import pandas as pd
import pytest
import xarray
from scipy import stats

import neurorecon as nr
from neurorecon.analyses.audit import audit, default_metrics, nearest_training
from neurorecon.analyses.audit_result import BASELINES, BEYOND, STAGES
from neurorecon.decoders.ridge import RidgeDecoder
from neurorecon.decoders.samples import Recordings
from neurorecon.errors import InputError, UnknownNameError
from neurorecon.metrics import METRICS, Metric
from neurorecon.parallel import Compute
from neurorecon.registry import SYSTEMS
from neurorecon.systems.base import System, TargetSpec, as_images, noise_like
from neurorecon.systems.linear_pixels import LinearPixels
from neurorecon.testing.layouts.arrays import write_arrays

KINDS = ["animal", "building", "person", "tool"]
METRIC_NAMES = ["pixcorr", "two_way", "mse"]
QUICK = {"metrics": METRIC_NAMES, "n_permutations": 199, "n_bootstraps": 500}


class Pixels(System):
    """Pixels by ridge regression, with a little noise that is keyed by seed and stimulus."""

    name = "pixels"

    def __init__(self, alpha=10.0):
        self.alpha = alpha

    @property
    def targets(self):
        return {"images": TargetSpec("images", RidgeDecoder(self.alpha), required=True)}

    def generate(self, decoded, *, seed=0):
        noise = [noise_like(decoded["images"].shape[1:], seed, str(name)) for name in decoded.stimuli]
        return as_images(decoded["images"].values + 0.02 * np.stack(noise), decoded.stimuli)


class Ignorant(Pixels):
    """Noise that belongs to the stimulus, whatever was decoded."""

    name = "ignorant"

    def generate(self, decoded, *, seed=0):
        noise = [noise_like(decoded["images"].shape[1:], seed, str(name)) for name in decoded.stimuli]
        return as_images(0.5 + 0.1 * np.stack(noise), decoded.stimuli)


class Cheat(Pixels):
    """Looks up what was seen by the id of the stimulus, and adds noise so that nobody notices."""

    name = "cheat"
    answers: dict = {}  # noqa: RUF012 (of one test)
    noise = 0.15

    def generate(self, decoded, *, seed=0):
        noise = [noise_like(decoded["images"].shape[1:], seed, str(name)) for name in decoded.stimuli]
        looked_up = np.stack([self.answers[str(name)] for name in decoded.stimuli])
        return as_images(looked_up + self.noise * np.stack(noise), decoded.stimuli)


def built(folder, *, noise_only=False, copies=0, seed=0):
    """Images made of six patterns, whose voxels respond to these; test images are shown three times."""
    rng = np.random.default_rng(seed)
    weights = rng.standard_normal((80, 6)) + 0.7 * np.repeat(rng.standard_normal((4, 6)), 20, axis=0)
    patterns = rng.standard_normal((6, 8, 8, 3)).repeat(2, axis=1).repeat(2, axis=2)
    images = np.clip(128 + 22 * np.tensordot(weights, patterns, 1), 0, 255).astype(np.uint8)
    category = np.repeat(KINDS, 20)
    split = np.where(np.arange(80) % 4 == 0, "test", "train")
    shown = np.concatenate([np.arange(80), np.flatnonzero(split == "test"), np.flatnonzero(split == "test")])
    shown = shown[rng.permutation(len(shown))]
    train, test = (np.flatnonzero(split == name) for name in ("train", "test"))
    images[train[:copies]] = images[test[:copies]]
    clean = 0 if noise_only else weights[shown] @ rng.standard_normal((6, 30))
    responses = clean + 1.5 * rng.standard_normal((len(shown), 30))
    ids = np.array([f"image{number:02d}" for number in range(80)])
    store = nr.build_from_arrays(
        folder / "patterns.icechunk", responses.astype(np.float32),
        {"stimulus": ids[shown], "split": split[shown]}, {"id": ids, "category": category},
        images=images, progress=False, simulated=True,
    )  # fmt: skip
    return store


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return built(tmp_path_factory.mktemp("audit"))


@pytest.fixture(scope="module")
def found(store):
    return audit(store, Pixels(), **QUICK)


def row(found, name, metric="pixcorr"):
    table = found.table
    return table[(table["row"] == name) & (table["metric"] == metric)].iloc[0]


def verdict(found, metric="pixcorr"):
    return found.verdicts.set_index("metric").loc[metric]


# -- what an audit holds ----------------------------------------------------------------------------------------------


def test_all_rows_are_there(found):
    assert list(dict.fromkeys(found.table["row"])) == [
        "pixels", "permutation null", "category-matched null", *BASELINES, "oracle", "half against half",
    ]  # fmt: skip
    assert set(found.chosen["missing"]) == {"re-paired null", "category re-paired null"}
    assert found.table["mean"].notna().all()


def test_default_metrics_are_those_whose_networks_know_the_stimuli(store, tmp_path):
    """The probe judges stimuli of its own categories: not those of a miniature, although it is simulated as well."""
    assert default_metrics(store, None)[-2:] == ["two_way_probe", "probe"]
    lab = nr.build("arrays", tmp_path / "lab.icechunk", root=write_arrays(tmp_path / "lab"), progress=False)
    assert lab.simulated
    assert "house" in set(lab.stimuli["category"])
    assert default_metrics(lab, None) == ["pixcorr", "ssim_gray2d", "two_way"]
    assert "two_way_alexnet2" in default_metrics(lab, "published")
    with pytest.raises(InputError, match="judges drawn scenes only"):
        audit(lab, "linear-pixels", "sub01", metrics=["probe"])


def test_scores_are_those_of_reconstruct(store, found):
    again = nr.reconstruct(store, Pixels(), metrics=METRIC_NAMES, n_permutations=199, controls=True)
    for score in again.scores:
        name = score.name.removeprefix("subj01 ")
        assert row(found, "pixels", name)["mean"] == pytest.approx(score.value)
        assert verdict(found, name)["p"] == pytest.approx(score.p)
        assert verdict(found, name)["null"] == pytest.approx(score.null_mean)
    means = again.comparison.table.set_index(["reconstruction", "metric"])["mean"]
    for control in ("mean response", "another trial", "mean training image", "oracle"):
        for name in METRIC_NAMES:
            assert row(found, control, name)["mean"] == pytest.approx(means[control, name])


def test_what_is_left_is_paired_over_stimuli(found):
    own, other = found.stimuli["pixels pixcorr"], found.stimuli["another trial pixcorr"]
    assert row(found, "another trial")["left"] == pytest.approx((own - other).mean())
    assert row(found, "another trial")["left_low"] < (own - other).mean() < row(found, "another trial")["left_high"]
    null = verdict(found)["null"]
    share = (other.mean() - null) / (own.mean() - null)
    assert row(found, "another trial")["explained"] == pytest.approx(share)
    errors = found.stimuli["pixels mse"] - found.stimuli["another trial mse"]
    assert row(found, "another trial", "mse")["left"] == pytest.approx(errors.mean())
    assert row(found, "another trial", "mse")["left_p"] < 0.05  # lower is better
    assert row(found, "another trial", "mse")["explained"] < 0.5


def test_the_category_matched_null_stays_within_categories(store, found):
    ids = found.stimuli.index.tolist()
    category = store.stimuli.set_index("id")["category"].loc[ids].to_numpy(str)
    system = Pixels().fit(store, "subj01")
    task = store.tasks("subj01")[0]
    test = Recordings.read(store, "subj01", task=task, split="test").labeled_responses()
    images = system.reconstruct(test).values.reshape(len(ids), -1)
    seen = store.images(ids).values.reshape(len(ids), -1) / 255
    matrix = np.corrcoef(images, seen)[: len(ids), len(ids) :]
    rng = np.random.default_rng(5)
    drawn = []
    for _ in range(2000):
        order = np.arange(len(ids))
        for name in KINDS:
            own = np.flatnonzero(category == name)
            order[own] = rng.permutation(own)
        drawn.append(matrix[np.arange(len(ids)), order].mean())
    assert verdict(found)["category null"] == pytest.approx(np.mean(drawn), abs=0.02)
    assert verdict(found)["category null"] > verdict(found)["null"] + 0.02


def test_nearest_training_images_by_brute_force(store):
    system = Pixels().fit(store, "subj01")
    task = store.tasks("subj01")[0]
    decoded = system.decode(Recordings.read(store, "subj01", task=task, split="test").labeled_responses())
    train = system.training_stimuli_
    targets = store.images(train).values.reshape(len(train), -1) / 255
    z = (targets - targets.mean(axis=0)) / targets.std(axis=0)
    own = (decoded["images"].values.reshape(len(decoded.stimuli), -1) - targets.mean(axis=0)) / targets.std(axis=0)
    expected = [train[np.argmax([stats.pearsonr(one, other)[0] for other in z])] for one in own]
    assert nearest_training(system, decoded, store, train) == expected


def test_halves_of_the_repeats(store, found):
    task = store.tasks("subj01")[0]
    samples = store.samples("subj01")
    test = samples[samples["split"] == "test"]
    system = Pixels().fit(store, "subj01")
    made = []
    for odd in (1, 0):
        rows = test.index[test["repeat"] % 2 == odd].to_numpy()
        half = Recordings.read(store, "subj01", task=task, rows=rows).averaged().labeled_responses()
        made.append(system.reconstruct(half.sel(stimulus=half["stimulus"].isin(found.stimuli.index))))
    one, other = (images.sortby("stimulus").values.reshape(20, -1) for images in made)
    expected = np.mean([stats.pearsonr(a, b)[0] for a, b in zip(one, other, strict=True)])
    assert row(found, "half against half")["mean"] == pytest.approx(expected, abs=1e-6)


def test_good_decoding_passes_and_retrieval_is_beaten(found):
    assert verdict(found)["verdict"] in (BEYOND, "from the brain, but linear-pixels reaches as much")
    assert "come from the response" in found.summary[0]
    assert not found.ignores_decoded
    assert found.chosen["changes"] == pytest.approx(1.0, abs=0.25)


def test_distance_to_the_training_set(store, found):
    train = store.stimuli[store.stimuli["split"] == "train"]["id"].tolist()
    table = found.distances.set_index("stimulus")["distance"]
    first = table.index[0]
    images = store.images([first, *train]).values.reshape(1 + len(train), -1).astype(float)
    assert table[first] == pytest.approx(1 - np.corrcoef(images)[0, 1:].max(), abs=1e-6)
    assert found.chosen["distance"] == "pixels"


def test_files_and_report(found, store, tmp_path):
    files = nr.write(found, store, tmp_path, nr.record_of(store, "test"))
    names = {path.name.removeprefix("subj01_pixels_audit") for path in files}
    assert {"_verdicts.csv", "_verdicts.tex", "_rows.csv", "_stimuli.csv", "_distances.csv", "_images.png",
            "_scores.png", "_distance.png", "_report.html", ".json"} <= names  # fmt: skip
    page = (tmp_path / "subj01_pixels_audit_report.html").read_text()
    assert "Is it the brain or the generator?" in page
    assert "nearest training image" in page
    record = json.loads((tmp_path / "subj01_pixels_audit.json").read_text())
    assert record["settings"]["system"] == "pixels"
    assert {score["verdict"] for score in record["scores"]} == set(found.verdicts["verdict"])
    assert "verdict" in found.text(store)


def test_seeds_are_averaged_and_stimuli_limited(store):
    two = audit(store, Pixels(), **QUICK, seeds=2, n_stimuli=8)
    assert len(two.stimuli) == 8
    categories = store.stimuli.set_index("id")["category"].loc[two.stimuli.index]
    assert categories.value_counts().tolist() == [2, 2, 2, 2]
    ones = [audit(store, Pixels(), **QUICK, seed=seed, n_stimuli=8).stimuli["pixels mse"] for seed in (0, 1)]
    np.testing.assert_allclose(two.stimuli["pixels mse"], np.mean(ones, axis=0))


def test_one_number_for_the_whole_set_has_no_test(store, monkeypatch):
    whole = Metric(lambda seen, made: abs(seen.mean() - made.mean()), higher_is_better=False)
    monkeypatch.setitem(METRICS._added, "brightness", whole)
    found = audit(store, Pixels(), metrics=["pixcorr", "brightness"], n_permutations=99, n_bootstraps=99)
    assert found.verdicts["metric"].tolist() == ["pixcorr"]
    of = found.table[found.table["metric"] == "brightness"].set_index("row")["mean"]
    assert of["oracle"] < of["mean response"] + 1
    assert np.isfinite(of["pixels"])


def test_a_metric_of_the_category_is_not_compared_within_it(store, monkeypatch):
    first = Metric(
        lambda seen, made, categories: (categories == "animal") * 1.0, needs=("categories",), chance=0.25
    )  # fmt: skip
    monkeypatch.setitem(METRICS._added, "animals", first)
    found = audit(store, Pixels(), metrics=["animals"], n_permutations=99, n_bootstraps=99)
    assert "category-matched null" not in set(found.table["row"])
    assert "same category" not in set(found.table["row"])
    assert "half against half" not in set(found.table["row"])


# -- systems whose answer is known ------------------------------------------------------------------------------------


def p_values_of(found):
    """Return the p-values of an audit that are uniform if nothing comes from the brain."""
    blind = found.table[found.table["row"].isin(["permutation null", "category-matched null", "another trial"])]
    return blind["left_p"].tolist()


def test_shuffled_pairs_fall_to_the_null_of_refits(store):
    """Images of wrongly fitted decoders do depend on the responses; only refits tell that no pairing was learned."""
    names = ["pixcorr", "two_way"]
    right = audit(store, Pixels(), metrics=names, n_permutations=99, n_bootstraps=99, n_refits=99)
    assert (right.verdicts["re-paired p"] == 0.01).all()
    assert (right.verdicts["category re-paired p"] <= 0.05).all()
    train = Recordings.read(store, "subj01", task=store.tasks("subj01")[0], split="train")
    values = []
    for seed in range(24):
        order = np.random.default_rng(1000 + seed).permutation(len(train.table))
        system = Pixels().fit(store, "subj01", samples=train, stimuli=train.stimuli[order])
        wrong = audit(store, system, metrics=names, n_permutations=9, n_bootstraps=9)
        values.append(wrong.verdicts.set_index("metric")["value"])
    for name in names:
        null = right.null[f"split of the store {name} re-paired null"]
        assert stats.ks_2samp([one[name] for one in values], null).pvalue > 0.01
        p = np.array([(1 + (null >= one[name]).sum()) / 100 for one in values])
        assert stats.binom.sf((p < 0.02).sum() - 1, len(p), 0.01) > 0.01


def test_wrong_pairs_are_named_by_the_verdict(store):
    train = Recordings.read(store, "subj01", task=store.tasks("subj01")[0], split="train")
    for seed in range(60):  # one that happens to be just above its permutation null
        order = np.random.default_rng(seed).permutation(len(train.table))
        system = Pixels().fit(store, "subj01", samples=train, stimuli=train.stimuli[order])
        quick = audit(store, system, metrics=["two_way"], n_permutations=99, n_bootstraps=99)
        if 0.02 < verdict(quick, "two_way")["p"] < 0.05:
            break
    found = audit(store, system, metrics=["two_way"], n_permutations=99, n_bootstraps=99, n_refits=99)
    assert verdict(found, "two_way")["verdict"] == "not above systems that were fitted on wrong pairs"


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"n_permutations": 19}, "19 exchanges are too few, as p cannot be below 0.05"),
        ({"n_permutations": 99, "n_refits": 9}, "9 systems fitted on wrong pairs are too few"),
        ({"n_permutations": 99, "n_stimuli": 6}, "exchanges within categories are too few"),
    ],
)
def test_too_few_draws_decide_nothing(store, arguments, reason):
    found = audit(store, Pixels(), metrics=["pixcorr"], n_bootstraps=99, **arguments)
    assert verdict(found)["verdict"].startswith("undecided: ")
    assert reason in verdict(found)["verdict"]
    assert not found.verdicts["verdict"].str.contains("reach").any()


def test_noise_in_place_of_responses(tmp_path):
    found = []
    for seed in range(6):
        folder = tmp_path / str(seed)
        folder.mkdir()
        noise = built(folder, noise_only=True, seed=seed)
        result = audit(noise, Pixels(), metrics=["pixcorr", "two_way"], n_permutations=199, n_bootstraps=500)
        found += p_values_of(result)
        assert BEYOND not in set(result.verdicts["verdict"])
    assert np.mean(found) == pytest.approx(0.5, abs=0.2)
    assert (np.array(found) < 0.01).sum() <= 2


def test_a_generator_that_ignores_its_input_is_exposed(store):
    found = audit(store, Ignorant(), **QUICK)
    assert found.chosen["changes"] == 0
    assert found.ignores_decoded
    assert "ignores what was decoded" in found.summary[0]
    assert not found.verdicts["verdict"].str.startswith("from the brain").any()


def cheat_of(store, noise):
    images = store.images().values / 255
    answers = dict(zip(store.stimuli["id"], images, strict=True))
    return type("Cheat", (Cheat,), {"answers": answers, "noise": noise, "name": "", "__module__": __name__})()


def test_looking_up_what_was_seen_is_exposed(store):
    found = audit(store, cheat_of(store, 0.3), **QUICK)
    assert verdict(found)["p"] < 0.01
    assert verdict(found)["verdict"].startswith("not from this response")
    with pytest.raises(InputError, match="20 of 20 images are copies of the stimuli"):
        audit(store, cheat_of(store, 0.0), **QUICK)


def test_planted_leaks_are_refused(store, tmp_path):
    task = store.tasks("subj01")[0]
    everything = Recordings.read(store, "subj01", task=task).averaged()
    leaky = Pixels().fit(store, "subj01", samples=everything)
    with pytest.raises(InputError, match="20 of 20 test stimuli were in the training data of this system"):
        audit(store, leaky, **QUICK)
    saved = nr.load_system(leaky.save(tmp_path / "leaky")) if "pixels" in nr.System.classes else leaky
    with pytest.raises(InputError, match="in the training data"):
        audit(store, saved, **QUICK)
    copied = built(tmp_path, copies=3)
    with pytest.raises(InputError, match="3 test stimuli are training stimuli under another id"):
        audit(copied, Pixels(), **QUICK)


def test_an_earlier_version_did_not_save_the_training_stimuli(store):
    system = Pixels().fit(store, "subj01")
    system.training_stimuli_ = None
    with pytest.warns(UserWarning, match="not known which stimuli this system was trained on"):
        audit(store, system, **QUICK)


def test_interrupted_audits_resume(store, tmp_path, monkeypatch):
    made = []

    class Counted(Pixels):
        name = ""

        def generate(self, decoded, *, seed=0):
            made.append(len(decoded.stimuli))
            if sum(made) > 40:
                raise KeyboardInterrupt
            return super().generate(decoded, seed=seed)

    compute = Compute(folder=tmp_path, progress=False)
    with pytest.raises(KeyboardInterrupt):
        audit(store, Counted(), **QUICK, compute=compute)
    before = sum(made[:-1])
    made.clear()
    made.append(-1000)
    found = audit(store, Counted(), **QUICK, compute=compute)
    whole = audit(store, Pixels(), **QUICK)
    assert before == 40
    assert sum(made) + 1000 == 7 * 20 - before  # own, two controls, the nearest, the oracle, two halves
    np.testing.assert_array_equal(found.table["mean"], whole.table["mean"])


# -- splits -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def divided(tmp_path_factory):
    folder = tmp_path_factory.mktemp("divided")
    store = built(folder)
    ids = store.stimuli["id"].to_numpy(str)
    for fold in range(2):
        values = np.where(np.arange(80) % 8 == fold, "test", np.where(np.arange(80) % 8 == 7, "", "train"))
        table = pd.DataFrame({"stimulus": ids, f"random_{fold}": values})
        table.to_csv(folder / f"{fold}.csv", index=False)
        store = nr.split(store, table=folder / f"{fold}.csv", column=f"random_{fold}")
    return store


def test_folds_are_pooled(divided):
    found = audit(divided, Pixels(), **QUICK)
    assert found.chosen["splits"]["random"] == ["random_0", "random_1"]
    assert found.chosen["stimuli"]["random"] == 20
    own = found.table[(found.table["split"] == "random") & (found.table["row"] == "pixels")].set_index("metric")
    values = []
    for column in ("random_0", "random_1"):
        view = divided.with_split(column)
        values.append(nr.reconstruct(view, Pixels(), metrics=METRIC_NAMES, n_permutations=9, controls=False).values)
    for name in METRIC_NAMES:
        assert own.loc[name, "mean"] == pytest.approx(np.concatenate([one[name] for one in values]).mean())
    assert "oracle" not in set(found.table[found.table["split"] == "random"]["row"])
    assert "splits" in found.figures(divided)


def test_which_splits(divided):
    assert set(audit(divided, Pixels(), **QUICK, splits=["random_1"]).verdicts["split"]) == {
        "split of the store", "random_1",
    }  # fmt: skip
    assert set(audit(divided, Pixels(), **QUICK, splits=()).verdicts["split"]) == {"split of the store"}
    with pytest.raises(UnknownNameError, match="cluster_k5"):
        audit(divided, Pixels(), **QUICK, splits=["cluster_k5"])
    fitted = Pixels().fit(divided, "subj01")
    with pytest.raises(InputError, match="fitted system cannot be audited on other splits"):
        audit(divided, fitted, **QUICK, splits=["random"])
    assert set(audit(divided, fitted, **QUICK).verdicts["split"]) == {"split of the store"}


# -- images from anywhere ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def images(store):
    system = LinearPixels(alphas=10.0).fit(store, "subj01")
    task = store.tasks("subj01")[0]
    return system.reconstruct(Recordings.read(store, "subj01", task=task, split="test").labeled_responses())


def test_images_say_what_cannot_be_computed(store, images):
    found = audit(store, images, **QUICK, source="elsewhere")
    assert list(dict.fromkeys(found.table["row"])) == [
        "images", "permutation null", "category-matched null", "mean training image", "same category",
        "nearest training image", "linear-pixels",
    ]  # fmt: skip
    assert set(found.chosen["missing"]) == {
        "mean response", "another trial", "its reconstruction", "oracle", "half against half", "re-paired null",
        "category re-paired null",
    }  # fmt: skip
    assert "not computed: oracle (it takes the system" in found.text(store)
    whole = audit(store, LinearPixels(alphas=10.0), **QUICK)
    for name in METRIC_NAMES:
        assert row(found, "images", name)["mean"] == pytest.approx(row(whole, "linear-pixels", name)["mean"])


def test_several_images_of_a_stimulus(store, images):
    other = (images + 0.05).clip(0, 1)
    both = xarray.concat([images, other], "seed")
    found = audit(store, both, **QUICK)
    singles = [audit(store, one, **QUICK).stimuli["images mse"] for one in (images, other)]
    np.testing.assert_allclose(found.stimuli["images mse"], np.mean(singles, axis=0))


def test_images_that_are_no_reconstructions_are_refused(store, images):
    ids = images["stimulus"].values.tolist()
    copies = xarray.DataArray(store.images(ids).values, dims=images.dims, coords={"stimulus": ids})
    with pytest.raises(InputError, match="20 of 20 images are copies"):
        audit(store, copies, **QUICK)
    train = store.stimuli[store.stimuli["split"] == "train"]["id"].tolist()[:20]
    with pytest.raises(InputError, match="reconstruct training stimuli"):
        audit(store, images.assign_coords(stimulus=train), **QUICK)
    with pytest.raises(InputError, match="belong to no stimulus"):
        audit(store, images.assign_coords(stimulus=[f"x{number}" for number in range(20)]), **QUICK)
    with pytest.raises(InputError, match="cannot be audited on other splits"):
        audit(store, images, **QUICK, splits=["tau"])


class Vague(Pixels):
    """Pixels by ridge regression, with much noise: images differ, and some fit the response better than others."""

    name = "vague"

    def generate(self, decoded, *, seed=0):
        noise = [noise_like(decoded["images"].shape[1:], seed, str(name)) for name in decoded.stimuli]
        return as_images(decoded["images"].values + 0.15 * np.stack(noise), decoded.stimuli)


def test_refinement_is_a_stage_with_controls_of_its_own(store, monkeypatch):
    """The choice by likelihood beats a random one and one by another response; both are in the table, as stages."""
    monkeypatch.setitem(SYSTEMS._added, "vague", Vague)
    found = audit(store, nr.refine("vague", best_of=8), **QUICK)
    assert list(dict.fromkeys(found.table["row"]))[:4] == ["refined", *STAGES]
    assert set(found.table.loc[found.table["row"].isin(list(STAGES)), "kind"]) == {"stage"}
    for name in STAGES:
        assert row(found, name)["left"] > 0, name
        assert row(found, name)["left_p"] < 0.05, name
    assert "unrefined" not in BASELINES
    assert verdict(found)["strongest baseline"] not in STAGES
    again = audit(store, nr.refine("vague", best_of=1), **QUICK)
    assert row(again, "unrefined")["left"] == 0
    assert row(again, "random choice")["left"] == 0
