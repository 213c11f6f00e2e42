"""Controls of reconstructions, and the comparison of a system with them, against values from other code."""

import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import xarray
from scipy import stats

import neurorecon as nr
from neurorecon.analyses import controls as module
from neurorecon.analyses.controls import (
    CONTROLS,
    compare,
    controls,
    decoded_control,
    derangement,
    mean_training_image,
    published_scores,
    true_targets,
    with_controls,
    with_mean_response,
)
from neurorecon.decoders.ridge import RidgeDecoder
from neurorecon.decoders.samples import Recordings
from neurorecon.errors import InputError, UnknownNameError
from neurorecon.metrics import load_metric, pixcorr, two_way
from neurorecon.systems.base import System, TargetSpec, as_images, noise_like
from neurorecon.systems.linear_pixels import LinearPixels


class Noisy(System):
    """Pixels, rescaled to the moments of the test set, plus noise that is keyed by seed and stimulus."""

    name = ""

    @property
    def targets(self):
        return {"images": TargetSpec("images", RidgeDecoder(alpha=10.0, renorm="test"), required=True)}

    def generate(self, decoded, *, seed=0):
        images = decoded["images"].values
        noise = [noise_like(images.shape[1:], seed, str(name)) for name in decoded.stimuli]
        return as_images(images + 0.1 * np.stack(noise), decoded.stimuli)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Images made of six patterns, and voxels that respond to these."""
    rng = np.random.default_rng(0)
    weights = rng.standard_normal((72, 6))
    patterns = rng.standard_normal((6, 6, 6, 3)).repeat(2, axis=1).repeat(2, axis=2)
    images = np.clip(128 + 25 * np.tensordot(weights, patterns, 1), 0, 255).astype(np.uint8)
    responses = weights @ rng.standard_normal((6, 30)) + 1.5 * rng.standard_normal((72, 30))
    ids = [f"image{number:02d}" for number in range(72)]
    kinds = ["animal", "building", "person", "tool"]
    split = np.where(np.arange(72) < 52, "train", "test")
    return nr.build_from_arrays(
        tmp_path_factory.mktemp("controls") / "patterns.icechunk", responses.astype(np.float32),
        {"stimulus": ids, "split": split}, {"id": ids, "category": [kinds[n % 4] for n in range(72)]},
        images=images, progress=False, simulated=True,
    )  # fmt: skip


@pytest.fixture(scope="module")
def task(store):
    return store.tasks("subj01")[0]


@pytest.fixture(scope="module")
def test(store, task):
    return Recordings.read(store, "subj01", task=task, split="test").labeled_responses()


@pytest.fixture(scope="module")
def linear(store):
    return LinearPixels(alphas=10.0).fit(store, "subj01")


@pytest.fixture(scope="module")
def noisy(store):
    return Noisy().fit(store, "subj01")


@pytest.fixture(scope="module")
def seen(store, test):
    return store.images(test["stimulus"].values.tolist()).values / 255


@pytest.fixture(scope="module")
def compared(store, linear, test):
    return compare(with_controls(linear, store, test), store, metrics=["pixcorr", "two_way", "mse"], n_permutations=99)


# -- what controls are ------------------------------------------------------------------------------------------------


def test_the_controls_of_linear_pixels(store, linear, test, seen, task):
    found = controls(linear, store, test, seed=3)
    assert list(found) == list(CONTROLS)
    for images in found.values():
        assert images["stimulus"].values.tolist() == test["stimulus"].values.tolist()
        assert images.shape == seen.shape
    np.testing.assert_allclose(found["oracle"], seen, atol=1e-6)
    # A ridge regression with an intercept predicts the mean target from the mean response.
    samples = store.samples("subj01")
    train = samples[samples["split"] == "train"]["stimulus"].unique()
    mean = (store.images(train.tolist()).values / 255).mean(axis=0)
    np.testing.assert_allclose(found["mean training image"], np.broadcast_to(mean, seen.shape), atol=1e-6)
    np.testing.assert_allclose(found["mean response"], found["mean training image"], atol=1e-5)
    order = derangement(len(test), 3)
    np.testing.assert_allclose(found["another trial"], linear.reconstruct(test[order]), atol=1e-6)
    np.testing.assert_allclose(mean_training_image(store, "subj01", task), mean, atol=1e-6)


def test_renormalization_by_the_test_set_has_a_mean_response_too(store, noisy, test):
    """Decoded alone, one constant pattern has no standard deviation to rescale by."""
    decoded = noisy.decode(with_mean_response(noisy, test))
    constant = decoded_control("mean response", noisy, store, decoded)["images"].values
    assert np.isfinite(constant).all()
    assert (constant == constant[:1]).all()
    images = controls(noisy, store, test, which=["mean response"])["mean response"].values
    assert (images != images[:1])[1:].any()  # the noise is of the stimulus


def test_noise_is_of_the_stimulus_whose_place_is_taken(store, noisy, test):
    found = controls(noisy, store, test, seed=5, which=["another trial"])["another trial"]
    decoded = noisy.decode(with_mean_response(noisy, test))
    order = derangement(len(test), 5)
    noise = np.stack([noise_like(found.shape[1:], 5, name) for name in test["stimulus"].values])
    expected = np.clip(decoded["images"].values[order] + 0.1 * noise, 0, 1)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_pieces_do_not_matter(store, noisy, test, monkeypatch):
    whole = with_controls(noisy, store, test, seeds=[0, 1])
    monkeypatch.setattr(module, "_CHUNK", 5)
    parts = with_controls(noisy, store, noisy.decode(with_mean_response(noisy, test)), seeds=[0, 1])
    for name, several in whole.items():
        for one, other in zip(several, parts[name], strict=True):
            xarray.testing.assert_identical(one, other)
    ids = test["stimulus"].values[[4, 2]].tolist()
    decoded = noisy.decode(with_mean_response(noisy, test))
    some = decoded_control("another trial", noisy, store, decoded, 1, ids)["images"]
    xarray.testing.assert_identical(
        some, decoded_control("another trial", noisy, store, decoded, 1)["images"].sel(stimulus=ids)
    )


def test_true_targets_are_those_of_the_store(store, linear, test):
    ids = test["stimulus"].values.tolist()
    found = true_targets(linear, store, ids)
    assert found.stimuli.tolist() == ids
    np.testing.assert_allclose(found["images"], store.images(ids).values / 255, atol=1e-7)
    assert found.training.keys() == linear.training_.keys()
    assert true_targets(LinearPixels(), store, ids).training == {}


def test_derangements_are_uniform_and_leave_nothing_in_place():
    drawn = [tuple(derangement(4, seed).tolist()) for seed in range(1800)]
    assert not any(order[place] == place for order in drawn for place in range(4))
    counts = pd.Series(drawn).value_counts()
    assert len(counts) == 9  # of the 24 permutations
    assert stats.chisquare(counts).pvalue > 0.001
    assert derangement(2, 0).tolist() == [1, 0]
    np.testing.assert_array_equal(derangement(30, 7), derangement(30, 7))
    with pytest.raises(InputError, match="cannot trade places"):
        derangement(1, 0)


# -- how they are compared --------------------------------------------------------------------------------------------


def row(table, **wanted):
    found = table.loc[np.logical_and.reduce([table[name] == value for name, value in wanted.items()])]
    assert len(found) == 1
    return found.iloc[0]


def test_means_are_those_of_the_metrics(compared, linear, store, test, seen):
    images = {"linear-pixels": linear.reconstruct(test), **controls(linear, store, test)}
    for name, image in images.items():
        np.testing.assert_allclose(compared.values[name]["pixcorr"], pixcorr(seen, image.values), atol=1e-6)
        np.testing.assert_allclose(compared.values[name]["two_way"], two_way(seen, image.values))
        found = row(compared.table, reconstruction=name, metric="two_way")
        assert found["mean"] == pytest.approx(two_way(seen, image.values).mean())
        assert found["kind"] == ("system" if name == "linear-pixels" else "control")
    assert row(compared.table, reconstruction="oracle", metric="pixcorr")["mean"] == pytest.approx(1)
    assert row(compared.table, reconstruction="linear-pixels", metric="pixcorr")["p"] == 0.01
    assert row(compared.table, reconstruction="mean response", metric="two_way")["p"] == 1
    assert row(compared.table, reconstruction="another trial", metric="two_way")["p"] > 0.01


@pytest.mark.parametrize("metric", ["pixcorr", "two_way", "mse"])
@pytest.mark.parametrize("control", CONTROLS)
def test_differences_are_paired(compared, metric, control):
    system, other = compared.values["linear-pixels"][metric], compared.values[control][metric]
    found = row(compared.differences, system="linear-pixels", control=control, metric=metric)
    assert found["difference"] == pytest.approx((system - other).mean())
    assert found["n"] == len(system)
    reference = stats.bootstrap(
        (system, other), lambda x, y, axis: np.mean(x - y, axis=axis), paired=True, n_resamples=10_000,
        method="percentile", rng=np.random.default_rng(1),
    )  # fmt: skip
    low, high = reference.confidence_interval
    np.testing.assert_allclose([found["low"], found["high"]], [low, high], atol=0.04 * (high - low))
    sign = -1 if metric == "mse" else 1
    expected = (1 + (sign * reference.bootstrap_distribution <= 0).sum()) / 10_001
    assert found["p"] == pytest.approx(expected, abs=0.02)
    assert found["p"] > 0.99 if control == "oracle" else found["p"] < 0.01


def test_scores_are_averaged_over_seeds_before_stimuli_are_resampled(store, noisy, test, seen):
    images = with_controls(noisy, store, test, seeds=range(3), which=["mean response"])
    images["noisy"] = images.pop("")
    found = compare(images, store, metrics=["pixcorr"], n_permutations=19)
    expected = np.mean([pixcorr(seen, one.values) for one in images["noisy"]], axis=0)
    np.testing.assert_allclose(found.values["noisy"]["pixcorr"], expected, atol=1e-6)
    found_row = row(found.table, reconstruction="noisy", metric="pixcorr")
    assert found_row["seeds"] == 3
    nulls = [
        load_metric("pixcorr").null(seen, one.values, nr.stats.stimulus_permutations(len(test), 19, 0))
        for one in images["noisy"]
    ]
    np.testing.assert_allclose(found.null["noisy pixcorr"], np.mean(nulls, axis=0), atol=1e-6)


def test_undefined_values_are_left_out(store, test, linear):
    images = {"half": linear.reconstruct(test), **controls(linear, store, test, which=["mean response"])}
    images["half"] = images["half"].copy(deep=True)
    images["half"][:4] = 0.5
    found = compare(images, store, metrics=["pixcorr"], n_permutations=19)
    scored = row(found.table, reconstruction="half", metric="pixcorr")
    assert (scored["n"], scored["n_undefined"]) == (len(test) - 4, 4)
    difference = row(found.differences, metric="pixcorr")
    assert difference["n"] == len(test) - 4
    values = found.values["half"]["pixcorr"] - found.values["mean response"]["pixcorr"]
    assert difference["difference"] == pytest.approx(np.nanmean(values))


def test_p_is_uniform_where_images_have_nothing_to_do_with_what_was_seen():
    rng, p = np.random.default_rng(0), {"pixcorr": [], "two_way": []}
    for trial in range(250):
        seen, made = rng.random((2, 10, 3, 3, 3))
        images = [xarray.DataArray(made, dims=("stimulus", "y", "x", "rgb"))]
        orders = nr.stats.stimulus_permutations(10, 99, trial)
        for name, values in p.items():
            values.append(module._over_seeds(load_metric(name), seen, images, orders, {})[2])
    for values in p.values():
        for level in (0.05, 0.25, 0.5, 0.75):
            share = np.mean(np.array(values) <= level)
            assert abs(share - level) < 3.3 * np.sqrt(level * (1 - level) / 250)


def test_a_metric_of_the_whole_set_has_neither_interval_nor_difference(store, linear, test, monkeypatch):
    monkeypatch.setitem(nr.METRICS._added, "distance", lambda seen, found: abs(seen.mean() - found.mean()))
    found = compare(with_controls(linear, store, test), store, metrics=["pixcorr", "distance"], n_permutations=9)
    scored = row(found.table, reconstruction="oracle", metric="distance")
    assert scored["mean"] == pytest.approx(0, abs=1e-6)
    assert np.isnan([scored["low"], scored["p"]]).all()
    assert set(found.differences["metric"]) == {"pixcorr"}


def test_the_order_of_the_stimuli_does_not_matter(store, linear, test):
    images = with_controls(linear, store, test)
    turned = {name: several if name == "oracle" else [one[::-1] for one in several] for name, several in images.items()}
    one, other = (compare(given, store, metrics=["pixcorr"], n_permutations=9) for given in (images, turned))
    assert row(one.table, reconstruction="oracle", metric="pixcorr")["mean"] == pytest.approx(
        row(other.table, reconstruction="oracle", metric="pixcorr")["mean"]
    )


def test_images_of_bytes_score_as_floats(store, linear, test):
    images = linear.reconstruct(test)
    given = {"float": images, "bytes": (images * 255).round().astype(np.uint8)}
    found = compare(given, store, metrics=["pixcorr", "mse", "two_way_clip"], n_permutations=9)
    for metric in found.values["float"]:
        one, other = (found.values[name][metric] for name in given)
        np.testing.assert_allclose(one, other, atol=2e-3)


# -- tables -----------------------------------------------------------------------------------------------------------


def test_what_is_written(store, linear, test, tmp_path):
    images = with_controls(linear, store, test, which=["mean response", "oracle"])
    found = compare(images, store, metrics=["pixcorr", "two_way_probe", "probe"], subject="subj01", n_permutations=19)
    files = {file.name: file for file in nr.write(found, store, tmp_path, nr.record_of(store, "a test"))}
    scores = pd.read_csv(files["subj01_comparison_scores.csv"])
    assert len(scores) == 9
    assert scores["weights"].fillna("").str.startswith("bundled/probe").tolist() == [False, True, True] * 3
    assert len(pd.read_csv(files["subj01_comparison_differences.csv"])) == 6
    stimuli = pd.read_csv(files["subj01_comparison_stimuli.csv"])
    np.testing.assert_allclose(stimuli["oracle pixcorr"], found.values["oracle"]["pixcorr"], atol=1e-5)
    record = json.loads(files["subj01_comparison.json"].read_text())
    assert record["weights"]["probe"]["name"] == "bundled-probe"
    assert record["settings"]["n_bootstraps"] == 10_000
    low = record["scores"][0]["low"]
    assert low == row(found.table, reconstruction="linear-pixels", metric="pixcorr")["low"]
    latex = files["subj01_comparison_scores.tex"].read_text()
    assert r"two\_way\_probe" in latex
    assert latex.count(r"\\") == 4
    text = found.text(store)
    assert "linear-pixels - mean response" in text
    assert "SIMULATED responses" in text
    assert "probe: bundled/probe" in text
    assert max(map(len, text.split("\nmeans over")[0].splitlines())) < 140


def test_published_scores_stand_beside_those_of_measured_nsd_alone():
    nsd = SimpleNamespace(reader="nsd", simulated=False)
    metrics = ["pixcorr", "ssim_gray2d", "two_way_clip"]
    weights = {"two_way_clip": {"weights": "clip-vit-l14", "weights_sha256": "0", "weights_origin": "published"}}
    found = published_scores(nsd, metrics, weights)
    assert set(found["metric"]) == {"pixcorr", "two_way_clip"}  # another SSIM is another metric
    taken = row(found, reconstruction="Takagi & Nishimoto 2023", metric="two_way_clip")
    assert (taken["mean"], taken["kind"]) == (0.821, "published")
    assert found["source"].str.contains("subject").all()
    assert found["mean"].between(0, 1).all()
    bundled = {"two_way_clip": {**weights["two_way_clip"], "weights_origin": "bundled"}}
    assert set(published_scores(nsd, metrics, bundled)["metric"]) == {"pixcorr"}
    assert published_scores(SimpleNamespace(reader="nsd", simulated=True), metrics, weights).empty
    assert published_scores(SimpleNamespace(reader="scenes", simulated=False), metrics, weights).empty


def test_published_scores_are_of_metrics_that_exist():
    nsd = SimpleNamespace(reader="nsd", simulated=False)
    names = [name for name in nr.METRICS.names() if name != "n_way"]
    import tomllib

    content = tomllib.loads((module.files("neurorecon.analyses") / "published.toml").read_text())
    stored = {
        metric for table in content["tables"].values() for values in table["scores"].values() for metric in values
    }
    assert stored <= set(names)
    assert set(published_scores(nsd, names, {})["metric"]) == stored


def test_tables_hold_published_rows(store, linear, test, monkeypatch):
    monkeypatch.setattr(type(store), "reader", "nsd")
    monkeypatch.setattr(type(store), "simulated", False)
    found = compare(with_controls(linear, store, test), store, metrics=["pixcorr"], n_permutations=9)
    assert (found.table["kind"] == "published").sum() == 9
    assert "Brain-IT (as tabulated" in found.text(store)
    assert r"Takagi \& Nishimoto" in found.latex()["scores"]
    assert set(found.differences["system"]) == {"linear-pixels"}


# -- mistakes ---------------------------------------------------------------------------------------------------------


def test_mistakes(store, linear, test):
    with pytest.raises(InputError, match="do not say which stimuli"):
        controls(linear, store, test.values)
    with pytest.raises(UnknownNameError, match="unknown control 'orakle'"):
        controls(linear, store, test, which=["orakle"])
    decoded = linear.decode(test)
    with pytest.raises(InputError, match="mean training response was not decoded"):
        controls(linear, store, decoded)
    assert list(controls(linear, store, decoded, which=["oracle"])) == ["oracle"]
    images = with_controls(linear, store, test, which=["oracle"])
    with pytest.raises(InputError, match="'oracle' belong to other stimuli"):
        compare({**images, "oracle": images["oracle"][0][1:]}, store)
    with pytest.raises(InputError, match="have to lie in"):
        compare({"x": images["oracle"][0] * 255}, store)
    with pytest.raises(InputError, match="nothing to compare"):
        compare({}, store)
    with pytest.raises(InputError, match="level is out of range"):
        compare(images, store, level=1.0)
    with pytest.raises(UnknownNameError, match="stimulus"):
        compare({"x": images["oracle"][0].assign_coords(stimulus=[f"x{n}" for n in range(len(test))])}, store)
    with pytest.raises(InputError, match="no training stimuli"):
        mean_training_image(store, "subj01", "videos of nobody")
