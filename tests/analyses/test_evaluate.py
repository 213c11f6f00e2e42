import dataclasses
import json

import numpy as np
import pandas as pd
import pytest
import scipy.stats
import xarray
from PIL import Image

import neurorecon as nr
from neurorecon.analyses.design import EvaluateSettings
from neurorecon.analyses.evaluate import exchange_orders, load_images
from neurorecon.analyses.reconstruct import reconstruct
from neurorecon.errors import BundledWeightsWarning, InputError, MissingFileError, UnknownNameError
from neurorecon.metrics import load_metric


@pytest.fixture
def store(miniature):
    return miniature(subjects=1, images=24)


def noisy(store, noise=0.2):
    """Images of the test set with noise, as another toolbox might give them."""
    ids = [name for name in store.stimuli["id"][store.stimuli["split"] == "test"] if name.startswith("image")]
    seen = store.images(ids).values / 255
    values = np.clip(seen + noise * np.random.default_rng(0).standard_normal(seen.shape), 0, 1)
    return xarray.DataArray(values, dims=("stimulus", "y", "x", "rgb"), coords={"stimulus": ids})


def test_scores_of_images_from_anywhere(store):
    found = nr.evaluate(noisy(store), store, n_permutations=99, baseline="train")
    assert [score.name for score in found.scores] == ["pixcorr", "two_way"]
    assert found.scores[0].value > 0.7
    assert found.scores[0].p == 0.01
    assert found.scores[0].baseline < 0.5
    assert found.scores[1].value == 1
    assert found.tables()["stimuli"].columns.tolist() == ["stimulus", "pixcorr", "two_way"]


def test_our_own_reconstructions_score_as_they_did(store, tmp_path):
    made = reconstruct(store, task="images", n_permutations=19, seed=3)
    record = nr.record_of(store, "a test")
    files = nr.write(made, store, tmp_path, record)
    again = nr.evaluate(
        load_images(next(file for file in files if file.suffix == ".npz")), store, n_permutations=19, seed=3
    )
    for one, other in zip(made.scores, again.scores, strict=True):
        assert dataclasses.replace(one, name=f"subj01 {other.name}", baseline=None) == dataclasses.replace(
            other, name=f"subj01 {other.name}", baseline=None
        )
    written = nr.write(again, store, tmp_path / "again", record)
    assert {"images.json", "images_stimuli.csv", "images_reconstructions.npz", "images_panel.png"} <= {
        file.name for file in written
    }


def test_order_and_type_do_not_matter(store):
    images = noisy(store)
    turned = (images[::-1] * 255).round().astype(np.uint8)
    one, other = (nr.evaluate(given, store, n_permutations=9) for given in (images, turned))
    np.testing.assert_allclose(one.values["pixcorr"], other.values["pixcorr"][::-1], atol=1e-3)


def test_images_of_another_size_are_compared_at_the_size_of_the_stimuli(store):
    images = noisy(store, 0.0)
    large = xarray.DataArray(
        np.repeat(np.repeat(images.values, 4, axis=1), 4, axis=2), dims=images.dims, coords=images.coords
    )
    found = nr.evaluate(large, store, n_permutations=9)
    assert found.record()["compared_at"] == [8, 8]
    assert found.values["pixcorr"].min() > 0.95
    assert found.reconstructed.shape[1:] == (32, 32, 3)


def test_exchange_within_a_category(store):
    free, within = (nr.evaluate(noisy(store), store, n_permutations=9, exchange=how) for how in (None, "category"))
    assert free.scores[0].null_mean != within.scores[0].null_mean


def test_the_table_has_one_row_for_each_metric(store, monkeypatch, tmp_path):
    """Interval against scipy's bootstrap, and the rest against what each metric says of itself."""
    monkeypatch.setitem(nr.METRICS._added, "distance", lambda seen, found: abs(seen.mean() - found.mean()))
    names = ["pixcorr", "mse", "two_way_clip", "top2_of_4_among_reconstructions", "distance"]
    found = nr.evaluate(noisy(store, 0.5), store, metrics=names, n_permutations=99)
    table = found.table.set_index("metric")
    assert table.index.tolist() == names
    assert table["higher is better"].tolist() == [True, False, True, True, True]
    assert table["weights"].tolist()[:2] == ["", ""]
    assert table.loc["two_way_clip", "weights"].startswith("bundled/clip ")
    np.testing.assert_array_equal(table["chance"], [np.nan, np.nan, 0.5, 0.5, np.nan])
    assert table.loc["distance", ["low", "high", "p", "null mean"]].isna().all()
    for name in ("pixcorr", "mse"):
        values = found.values[name]
        expected = scipy.stats.bootstrap((values,), np.mean, n_resamples=9999, method="percentile", rng=1)
        spread = values.std() / np.sqrt(len(values))
        np.testing.assert_allclose(table.loc[name, "mean"], values.mean())
        limits = table.loc[name, ["low", "high"]].astype(float)
        np.testing.assert_allclose(limits, expected.confidence_interval, atol=0.1 * spread)
    # Undefined values are left out, of the mean and of the interval.
    holes = noisy(store, 0.5)
    holes[2] = 0.5
    one = nr.evaluate(holes, store, metrics=["pixcorr"], n_permutations=9).table.iloc[0]
    assert (one["n"], one["n_undefined"]) == (5, 1)
    assert one["low"] < one["mean"] < one["high"]
    files = {file.name: file for file in nr.write(found, store, tmp_path, nr.record_of(store, "a test"), figures=False)}
    written = pd.read_csv(files["images_metrics.csv"]).set_index("metric")
    np.testing.assert_allclose(written["mean"], table["mean"], rtol=1e-5)
    assert written.loc["two_way_clip", "weights"] == table.loc["two_way_clip", "weights"]
    assert r"n\_undefined" in files["images_metrics.tex"].read_text()


def test_means_by_category_are_those_of_their_stimuli(store):
    found = nr.evaluate(noisy(store), store, n_permutations=9)
    categories = store.stimuli.set_index("id")["category"].loc[found.stimuli].to_numpy()
    table = found.tables()["categories"].set_index("category")
    assert table["n"].sum() == len(found.stimuli)
    for name in set(categories):
        assert table.loc[name, "pixcorr"] == pytest.approx(found.values["pixcorr"][categories == name].mean())


def test_names_that_survive_are_those_that_the_judge_sees(store, monkeypatch):
    seen = []
    network = nr.METRICS.load("probe").network

    class Judge(type(network)):
        def read(self, prepared):
            seen.append(len(prepared))
            dark = prepared.mean(axis=(1, 2, 3)) < 128
            return {**super().read(prepared), "category": np.where(dark, "person", "animal")}

    metric = dataclasses.replace(nr.METRICS.load("probe"), network=Judge())
    monkeypatch.setitem(nr.METRICS._builtin, "probe", "")
    monkeypatch.setitem(nr.METRICS._added, "probe", metric)
    images = noisy(store)
    found = nr.evaluate(images, store, metrics=["probe"], n_permutations=9)
    assert sum(seen) == 2 * len(found.stimuli)  # each image once
    judged = np.where((images.values * 255).round().mean(axis=(1, 2, 3)) < 128, "person", "animal")
    assert (found.named["probe"] == judged).mean() > 0.8  # they are resampled for the probe
    table = found.tables()["names"]
    assert table.columns.tolist() == ["metric", "name", "n", "recall", "precision", "f1", "mistaken for"]
    assert (table["recall"] * table["n"]).sum() == pytest.approx(found.values["probe"].sum())
    report = found.pages(store, nr.record_of(store, "a test"))["report"]()
    assert "Names that survive" in report
    assert nr.evaluate(images, store, n_permutations=9).named == {}


def test_too_few_stimuli_are_refused_before_anything_is_generated(store, monkeypatch):
    with pytest.raises(
        InputError, match=r"too few stimuli for the metric 'top3_of_50'[\s\S]*6 stimuli[\s\S]*50 or more"
    ):
        nr.evaluate(noisy(store), store, metrics=["top3_of_50"])
    system = nr.load_system("linear-pixels")
    monkeypatch.setattr(type(system), "fit", lambda *args, **kwargs: pytest.fail("fitted"))
    for how in (None, "stimulus"):
        with pytest.raises(InputError, match="too few stimuli for the metric '50_way'"):
            reconstruct(store, system, task="images", metrics=["50_way"], cross_validate=how)


def test_tables_of_subjects_are_joined(miniature):
    store = miniature(subjects=2, images=24)
    both = pd.concat(
        [reconstruct(store, subject=name, task="images", n_permutations=9).table for name in store.subjects]
    )
    assert both[["subject", "metric"]].to_numpy().tolist() == [
        [name, metric] for name in store.subjects for metric in ("pixcorr", "two_way")
    ]


def test_single_samples_stand_in_the_table(store):
    table = reconstruct(store, task="images", n_permutations=9, single_trials=True).table
    assert table[["metric", "of"]].to_numpy().tolist() == [
        ["pixcorr", "stimuli"], ["two_way", "stimuli"], ["pixcorr", "single samples"]
    ]  # fmt: skip
    assert table["low"].notna().tolist() == [True, True, False]


def test_a_metric_of_the_whole_set_has_no_null_of_exchanged_pairs(store, monkeypatch):
    monkeypatch.setitem(nr.METRICS._added, "distance", lambda seen, found: abs(seen.mean() - found.mean()))
    found = nr.evaluate(noisy(store), store, metrics=["distance"], n_permutations=9)
    score = found.scores[0]
    assert (score.n, score.n_permutations) == (6, 0)
    assert np.isnan(score.p)
    assert found.values == {}
    assert list(found.figures(store)) == ["panel"]


def test_a_metric_may_need_captions(store, monkeypatch):
    def lengths(seen, reconstructed, captions):
        return np.array([len(words[0]) for words in captions], dtype=float)

    monkeypatch.setitem(nr.METRICS._added, "length", nr.METRICS.load("pixcorr").__class__(lengths, needs=("captions",)))
    found = nr.evaluate(noisy(store), store, metrics=["length"], n_permutations=9)
    captions = store.stimuli.set_index("id")["captions"].loc[found.stimuli]
    assert found.values["length"].tolist() == [len(words[0]) for words in captions]


def test_metrics_on_networks_name_their_weights(store, tmp_path):
    found = nr.evaluate(noisy(store), store, metrics=["two_way_clip", "probe"], n_permutations=19)
    assert found.record()["metric_weights"]["two_way_clip"]["weights"] == "bundled-clip"
    assert "two_way_clip: bundled/clip" in found.text(store)
    files = {file.name: file for file in nr.write(found, store, tmp_path, nr.record_of(store, "a test"), figures=False)}
    weights = json.loads(files["images.json"].read_text())["weights"]
    assert weights["probe"]["sha256"] == nr.METRICS.load("probe").network.record()["weights_sha256"]
    assert files["images_stimuli.csv"].read_text().count("probe: bundled/probe") == 6


def test_networks_that_know_drawn_scenes_do_not_judge_measured_data_unasked(store, monkeypatch):
    monkeypatch.setattr(type(store), "simulated", False)
    images = noisy(store)
    with pytest.raises(InputError, match=r"not said whose weights[\s\S]*two_way_clip[\s\S]*--models published"):
        nr.evaluate(images, store, metrics=["pixcorr", "two_way_clip"])
    with pytest.warns(BundledWeightsWarning, match="two_way_clip: made by the bundled networks"):
        nr.evaluate(images, store, metrics=["two_way_clip"], models="bundled", n_permutations=9)
    for name in ("probe", "two_way_probe"):
        with pytest.raises(InputError, match="judges drawn scenes only"):
            nr.evaluate(images, store, metrics=[name], models="bundled")
    assert nr.evaluate(images, store, n_permutations=9).record()["metric_weights"] == {}


def test_mistakes(store):
    images = noisy(store)
    with pytest.raises(InputError, match=r"1 of 6 images belong to no stimulus[\s\S]*image9"):
        nr.evaluate(images.assign_coords(stimulus=["image9", *images["stimulus"].values[1:]]), store)
    with pytest.raises(InputError, match="more than one image"):
        nr.evaluate(images.assign_coords(stimulus=["image0018"] * 6), store)
    with pytest.raises(InputError, match="do not say which stimuli"):
        nr.evaluate(images.drop_vars("stimulus"), store)
    with pytest.raises(UnknownNameError, match="unknown baseline"):
        nr.evaluate(images, store, baseline="test")
    videos = xarray.DataArray(
        np.zeros((1, 4, 8, 8, 3)), dims=("stimulus", "frame", "y", "x", "rgb"), coords={"stimulus": ["video0000"]}
    )
    with pytest.raises(InputError, match="does not compare videos"):
        nr.evaluate(videos, store, metrics=["pixcorr"])


def test_videos_from_anywhere(store, tmp_path):
    ids = [name for name in store.stimuli["id"][store.stimuli["split"] == "test"] if name.startswith("video")]
    seen = store.frames(ids).values / 255
    values = np.clip(seen + 0.1 * np.random.default_rng(0).standard_normal(seen.shape), 0, 1)
    videos = xarray.DataArray(values, dims=("stimulus", "frame", "y", "x", "rgb"), coords={"stimulus": ids})
    names = ["ssim_frames", "epe", "two_way_v_top1", "clip_pcc_gated"]
    found = nr.evaluate(videos, store, metrics=names, n_permutations=19, baseline="train")
    assert [score.name for score in found.scores] == names
    assert found.table["weights"].str.contains("bundled").tolist() == [False, False, True, True]
    assert found.scores[0].value > found.scores[0].null_max
    assert found.scores[0].value > found.scores[0].baseline
    assert found.scores[1].value < found.scores[1].baseline
    for name in names:
        np.testing.assert_allclose(found.values[name], load_metric(name).values(seen, values), atol=1e-3)
    assert [score.name for score in nr.evaluate(videos, store, n_permutations=9).scores] == ["ssim_frames", "epe"]
    np.savez(tmp_path / "videos.npz", stimulus=ids, reconstructed=values)
    again = nr.evaluate(load_images(tmp_path / "videos.npz"), store, metrics=names, n_permutations=19)
    np.testing.assert_array_equal(again.values["epe"], found.values["epe"])
    files = {file.name for file in nr.write(found, store, tmp_path, nr.record_of(store, "a test"))}
    assert {"images.json", "images_stimuli.csv", "images_panel.png"} <= files
    with pytest.raises(InputError, match="do not have the frames"):
        nr.evaluate(videos[:, :2], store, metrics=["epe"])


def test_folders_and_files_of_images(store, tmp_path):
    images = (noisy(store) * 255).round().astype(np.uint8)
    folder = tmp_path / "theirs"
    folder.mkdir()
    for name, image in zip(images["stimulus"].values, images.values, strict=True):
        Image.fromarray(image).save(folder / f"{name}.png")
    (folder / "notes.txt").write_text("not an image")
    found = load_images(folder)
    xarray.testing.assert_equal(found, images.sortby("stimulus"))
    np.savez(tmp_path / "theirs.npz", stimulus=images["stimulus"].values, images=images.values)
    xarray.testing.assert_equal(load_images(tmp_path / "theirs.npz"), images)


def test_folders_and_files_that_are_none(tmp_path):
    with pytest.raises(MissingFileError, match="no images here"):
        load_images(tmp_path / "nothing")
    with pytest.raises(InputError, match="holds no images"):
        load_images(tmp_path)
    for number, side in enumerate((4, 5)):
        Image.new("RGB", (side, side)).save(tmp_path / f"image{number}.png")
    with pytest.raises(InputError, match="not images of one size"):
        load_images(tmp_path)
    (tmp_path / "image2.png").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"cannot be read[\s\S]*image2.png"):
        load_images(tmp_path)
    np.savez(tmp_path / "a.npz", stimulus=["a"])
    with pytest.raises(InputError, match="no images with their stimuli"):
        load_images(tmp_path / "a.npz")
    np.savez(tmp_path / "b.npz", stimulus=["a"], reconstructed=np.zeros((2, 4, 4, 3)))
    with pytest.raises(InputError, match="these arrays are no images"):
        load_images(tmp_path / "b.npz")
    (tmp_path / "c.npz").write_bytes(b"no archive")
    with pytest.raises(InputError, match="cannot be read"):
        load_images(tmp_path / "c.npz")


# -- how pairs are exchanged ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    """Return what builds a store of images in the order of presentation, each shown once, and noisy copies."""

    def build(images, runs, sessions=1):
        ids = [f"s{number:03d}" for number in range(len(images))]
        samples = pd.DataFrame({"stimulus": ids, "run": runs, "time": 4.0 * np.arange(len(ids)), "split": "train"})
        samples["session"] = sessions
        responses = np.random.default_rng(1).standard_normal((len(ids), 5)).astype(np.float32)
        made = nr.build_from_arrays(
            tmp_path_factory.mktemp("shown") / "s.icechunk", responses, samples, {"id": ids}, images=images,
            progress=False,
        )  # fmt: skip
        noise = np.random.default_rng(2).standard_normal(images.shape)
        values = np.clip(images / 255 + 0.3 * noise, 0, 1)[::-1]  # in another order than that of presentation
        return made, xarray.DataArray(values, dims=("stimulus", "y", "x", "rgb"), coords={"stimulus": ids[::-1]})

    return build


def _random_images(number):
    return np.random.default_rng(0).integers(0, 256, (number, 4, 4, 3), dtype=np.uint8)


def _drifting_images(number):
    levels = np.random.default_rng(0).standard_normal((number, 4, 4, 3)).cumsum(axis=0)
    return np.clip(128 + 12 * levels, 0, 255).astype(np.uint8)


def test_few_pairs_are_exchanged_in_all_orders(shown):
    store, images = shown(_random_images(4), [1, 1, 1, 1])
    found = nr.evaluate(images, store, n_permutations=1000)
    assert found.record()["n_permutations"] == found.scores[0].n_permutations == 23
    assert found.scores[0].p == pytest.approx(1 / 24)
    assert found.record()["exchange"]["smallest_p"] == pytest.approx(1 / 24)
    assert "\nwarning: few orders are possible: p is at least 0.042" in found.text(store)


def test_pairs_stay_in_sessions_that_show_different_images(shown):
    sessions = np.repeat([1, 2, 3], 4)
    store, images = shown(_random_images(12), np.repeat([1, 2, 3], 4), sessions)
    settings = EvaluateSettings(n_permutations=99)
    ids = images["stimulus"].values.tolist()
    orders, exchange = exchange_orders(store, "subj01", ids, settings)
    assert exchange.unit == "session"
    assert (sessions[::-1][orders] == sessions[::-1]).all()
    found = nr.evaluate(images, store, n_permutations=99)
    assert found.record()["exchange"]["unit"] == "session"
    assert "null: stimuli trade places within their session" in found.text(store)
    free = nr.evaluate(images, store, n_permutations=99, exchange="stimulus")
    assert free.record()["exchange"]["unit"] == "stimulus"
    assert any("sessions show different stimuli" in text for text in free.record()["warnings"])


def test_similar_images_in_a_row_are_shifted_within_runs(shown):
    runs = np.repeat([1, 2], [24, 26])
    store, images = shown(_drifting_images(50), runs)
    ids = images["stimulus"].values.tolist()
    orders, exchange = exchange_orders(store, "subj01", ids, EvaluateSettings(n_permutations=99))
    assert exchange.unit == "shift"
    for order in orders[:5]:
        presented = np.array([int(ids[place][1:]) for place in order])[::-1]  # in the order of presentation
        assert (np.diff(presented[:24]) % 24 == 1).all()
        assert (np.diff(presented[24:]) % 26 == 1).all()
    found = nr.evaluate(images, store, n_permutations=99)
    assert np.isfinite(found.scores[0].p)
    few, short = shown(_drifting_images(30), np.repeat([1], 30))
    untested = nr.evaluate(short, few, n_permutations=99)
    assert np.isnan(untested.scores[0].p)
    assert "too few for a test" in untested.text(few)
    asked = nr.evaluate(short, few, n_permutations=99, exchange="shift")
    assert asked.scores[0].n_permutations == 29
    assert asked.scores[0].p >= 1 / 30
