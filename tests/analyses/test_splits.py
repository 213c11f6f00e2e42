"""Split columns: hard test sets, no near-identical stimuli on both sides, and a store that follows a column."""

import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

import neurorecon as nr
from neurorecon.analyses.splits import (
    SplitSettings,
    clusters,
    compute_splits,
    far_and_matched,
    kernel_features,
    mmd,
    random_folds,
    random_mmd,
    spanning_tree,
    write_splits,
)
from neurorecon.errors import InputError, StoreError, UnknownNameError
from neurorecon.io.tensors import combine

#: What the rows of the target of these tests are said to be made by.
MADE = {"model": "random", "source": "a test"}


def _units(number, features=6, seed=0, groups=4):
    """Return unit vectors in groups, (stimulus, feature)."""
    generator = np.random.default_rng(seed)
    values = generator.standard_normal((groups, features))[np.arange(number) % groups]
    values = values + 0.4 * generator.standard_normal((number, features))
    return values / np.linalg.norm(values, axis=1, keepdims=True)


def _build(path, number=80, *, order=None, same=(), seed=0, subjects=2):
    """Return a store of images with a target ``clip_image``; `same` are pairs of images that differ a little."""
    generator = np.random.default_rng(seed)
    ids = np.array([f"s{row:03d}" for row in range(number)])
    images = generator.integers(0, 256, (number, 16, 16, 3), dtype=np.uint8)
    for one, other in same:
        images[other] = np.clip(images[one].astype(int) + 1, 0, 255)
    values = _units(number, seed=seed)
    order = np.arange(number) if order is None else order
    # The last tenth is the test split that the store is built with, shown three times.
    shown = np.concatenate([ids[order], np.repeat(ids[-(number // 10) :], 2)])
    test = np.isin(shown, ids[-(number // 10) :])
    names = [f"subj{subject + 1:02d}" for subject in range(subjects)]
    responses = {name: generator.standard_normal((len(shown), 30)).astype(np.float32) for name in names}
    samples = {"stimulus": shown, "split": np.where(test, "test", "train"), "run": 1 + np.arange(len(shown)) // 20}
    stimuli = {"id": ids[order], "category": np.array(["cat", "dog", "a cup"])[order % 3]}
    store = nr.build_from_arrays(
        path, responses, samples, stimuli, images=images[order], image_size=16, progress=False, simulated=True
    )
    return nr.add_target(store, "clip_image", values[order].astype(np.float32), made_by=MADE)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return Path(_build(tmp_path_factory.mktemp("splits") / "base.icechunk", same=[(3, 41), (41, 60)]).location)


@pytest.fixture
def own(base, tmp_path):
    """A copy without columns, for one test."""
    return nr.open_store(shutil.copytree(base, tmp_path / "x.icechunk"))


@pytest.fixture(scope="module")
def location(base):
    store = nr.open_store(shutil.copytree(base, base.with_name("x.icechunk")))
    for kind in ("random", "cluster_k4", "tau", "leave-category"):
        store = nr.split(store, kind)
    return store.location


@pytest.fixture
def store(location):
    return nr.open_store(location)


# -- the numbers ------------------------------------------------------------------------------------------------------


@given(st.integers(10, 60), st.integers(2, 5), st.integers(0, 5), st.randoms(use_true_random=False))
@settings(max_examples=30, deadline=None)
def test_folds_are_equal_parts_of_whole_sets_whatever_the_order(number, folds, seed, random):
    ids = [f"s{row:03d}" for row in range(number)]
    sets = np.array([random.randrange(row + 1) if random.random() < 0.2 else row for row in range(number)])
    for _ in range(number):  # members of a set have the number of its first member
        sets = sets[sets]
    found = dict(zip(ids, random_folds(ids, sets, folds, seed), strict=True))
    assert all(found[ids[row]] == found[ids[first]] for row, first in enumerate(sets))
    singles = np.bincount(random_folds(ids, np.arange(number), folds, seed), minlength=folds)
    assert singles.max() - singles.min() <= 1
    assert (
        random_folds(ids, np.arange(number), folds, seed).tolist()
        == random_folds(ids, np.arange(number), folds, seed).tolist()
    )


@given(st.integers(0, 20), st.integers(30, 90), st.floats(0.08, 0.3))
@settings(max_examples=25, deadline=None)
def test_far_stimuli_are_far_and_sets_stay_whole(seed, number, share):
    values = _units(number, seed=seed)
    sets = np.arange(number)
    sets[[4, 9]] = 0
    try:
        chosen, tau = far_and_matched(values, sets, share, None, seed)
    except InputError:
        return  # where no test set of this size matches
    assert (cdist(values[chosen], values[~chosen], "cosine") > tau - 1e-12).all()
    assert len(set(chosen[[0, 4, 9]])) == 1
    size = round(share * number)
    assert 0.9 * size <= chosen.sum() <= size + 1
    mapped = kernel_features(values, seed)
    assert mmd(mapped, chosen) <= random_mmd(mapped, size, seed)
    again, same_tau = far_and_matched(values, sets, share, None, seed)
    assert (again == chosen).all()
    assert same_tau == tau


def test_a_larger_tau_is_kept_where_it_is_asked_for_and_refused_where_it_is_impossible():
    values = _units(120)
    nearest = np.sort(cdist(values, values, "cosine") + 9 * np.eye(120), axis=1)[:, 0]
    tau = float(np.quantile(nearest, 0.6))
    chosen, used = far_and_matched(values, np.arange(120), 0.1, tau, 0)
    assert used == tau
    assert cdist(values[chosen], values[~chosen], "cosine").min() > tau
    with pytest.raises(InputError, match="too few stimuli are farther"):
        far_and_matched(values, np.arange(120), 0.1, 1.9, 0)


def test_the_spanning_tree_is_that_of_scipy():
    from scipy.sparse.csgraph import minimum_spanning_tree

    values = _units(50)
    distances = cdist(values, values, "cosine")
    one, other, lengths = spanning_tree(values)
    np.testing.assert_allclose(np.sort(lengths), np.sort(minimum_spanning_tree(distances).data), atol=1e-12)
    np.testing.assert_allclose(lengths, distances[one, other], atol=1e-12)


def test_kernel_features_approximate_the_kernel_and_its_mmd():
    values = _units(200, groups=2)
    mapped = kernel_features(values, 0, 8000)
    generator = np.random.default_rng(0)
    one, other = generator.integers(0, 200, (2, 2000))
    width = np.median(np.linalg.norm(values[one] - values[other], axis=1)[one != other])
    kernel = np.exp(-cdist(values, values, "sqeuclidean") / 2 / width**2)
    np.testing.assert_allclose(mapped @ mapped.T, kernel, atol=0.08)
    chosen = np.arange(200) % 2 == 0
    exact = np.sqrt(kernel[chosen][:, chosen].mean() - 2 * kernel[chosen].mean() + kernel.mean())
    assert mmd(mapped, chosen) == pytest.approx(exact, rel=0.02)
    assert mmd(mapped, chosen) > 3 * random_mmd(mapped, 100, 0)  # one of two groups is no random set


def test_clusters_are_those_of_the_groups_from_the_largest_on():
    truth = np.repeat([0, 1, 2], [20, 40, 30])
    generator = np.random.default_rng(1)
    values = np.eye(3)[truth] + 0.05 * generator.standard_normal((90, 3))
    found = clusters(values / np.linalg.norm(values, axis=1, keepdims=True), np.arange(90), 3, 0)
    assert (found == np.array([2, 0, 1])[truth]).all()
    with pytest.raises(InputError, match="too few stimuli"):
        clusters(values[:5], np.arange(5), 3, 0)


# -- columns ----------------------------------------------------------------------------------------------------------


def test_every_stimulus_is_in_one_split_and_the_same_stimuli_never_straddle(store):
    names = store.split_columns
    assert names == [*(f"cluster_k4_{one}" for one in range(4)), "leave_a_cup", "leave_cat", "leave_dog",
                     *(f"random_{one}" for one in range(5)), "tau"]  # fmt: skip
    tables = {name: store.with_split(name).stimuli.set_index("id")["split"] for name in names}
    for name, splits in tables.items():
        assert set(splits) <= {"train", "test", ""}
        assert {"train", "test"} <= set(splits)
        # A copy of an image of another category is left out of the column that tests on the other one.
        assert len(set(splits[["s003", "s041", "s060"]]) - {""}) == 1, name
        assert not [text for text in store.with_split(name).cautions("subj01", "images") if "under another" in text]
    for kind in ("random", "cluster_k4"):
        tested = pd.concat([splits == "test" for name, splits in tables.items() if name.startswith(kind)], axis=1)
        assert (tested.sum(axis=1) == 1).all()
    categories = store.stimuli.set_index("id")["category"]
    cups = tables["leave_a_cup"]
    assert (cups[categories == "a cup"] == "test").all()
    assert sorted(cups.index[cups == ""]) == ["s003", "s060"]  # those of the set that are no cups


def test_distances_in_the_record_are_those_of_scipy(store):
    values = store.targets("clip_image").to_numpy().astype(float)
    for name in store.split_columns:
        about = store.about_split(name)
        splits = store.with_split(name).stimuli["split"].to_numpy()
        nearest = cdist(values[splits == "test"], values[splits == "train"], "cosine").min(axis=1)
        assert about["measured"]["image"]["distance"] == pytest.approx(np.median(nearest), abs=1e-4)
        counts = {key: int((splits == value).sum()) for key, value in
                  (("train", "train"), ("test", "test"), ("left_out", ""))}  # fmt: skip
        assert about["sizes"] == {"image": counts}
    assert store.about_split("tau")["measured"]["image"]["distance_min"] >= round(
        store.about_split("tau")["measured"]["image"]["tau"], 4
    )


def test_columns_do_not_depend_on_the_order_of_stimuli(tmp_path, store):
    order = np.random.default_rng(3).permutation(80)
    other = _build(tmp_path / "x.icechunk", order=order, same=[(3, 41), (41, 60)])
    for kind in ("random", "cluster_k4", "tau", "leave-category"):
        found = compute_splits(other, SplitSettings(kind=kind))
        for name, values in found.columns.items():
            own = dict(zip(other.stimuli["id"], values, strict=True))
            assert own == store.with_split(name).stimuli.set_index("id")["split"].to_dict(), name
            assert found.about[name] == store.about_split(name)


def test_images_and_videos_are_divided_separately(videos):
    found = compute_splits(videos, SplitSettings(kind="random"))
    kinds = videos.stimuli["kind"]
    for values in found.columns.values():
        assert {*values[kinds == "image"]} == {*values[kinds == "video"]} == {"train", "test"}
    assert set(found.table["stimuli"]) == {"image", "video"}
    assert any("only 5 test images" in text or "only 4 test images" in text for text in found.warnings)
    with pytest.raises(InputError, match="compared in the space of a target of CLIP"):
        compute_splits(videos, SplitSettings(kind="tau"))
    # In a time series, stimuli of one run cannot be told apart: decoders are warned, encoding maps refused.
    divided = write_splits(found, videos).with_split("random_0")
    (caution,) = [text for text in divided.cautions("subj01", "videos") if "overlap" in text]
    assert "random_0" in caution
    assert not [text for text in divided.cautions("subj01", "images") if "overlap" in text]
    with pytest.raises(InputError, match="trained on or tested as a whole"):
        nr.maps(divided, "subj01", bands=["mine"], task="videos", n_permutations=5)


@pytest.fixture
def videos(tmp_path):
    from neurorecon.datasets.recipe import Recipe
    from neurorecon.registry import DATASETS
    from neurorecon.store.build import build_store
    from neurorecon.testing.miniature import MiniatureReader

    DATASETS.register("miniature", MiniatureReader)
    recipe = Recipe(name="miniature", reader="miniature", options={})
    store = nr.open_store(build_store(recipe, tmp_path / "m.icechunk", progress=False))
    return nr.add_target(store, "mine", np.random.default_rng(0).standard_normal((36, 4)), made_by=MADE)


# -- a store that follows a column ------------------------------------------------------------------------------------


def test_a_store_follows_its_column(store):
    task = store.tasks("subj01")[0]
    divided = store.with_split("tau")
    splits = divided.stimuli.set_index("id")["split"]
    samples = divided.samples("subj01")
    assert (samples["split"] == splits[samples["stimulus"]].to_numpy()).all()
    assert divided.split_column == "tau"
    assert store.split_column is None
    counts = {row["split"]: row for row in divided.sample_counts("subj01")}
    assert counts["test"]["samples"] == (samples["split"] == "test").sum()
    assert sum(row["number"] for row in divided.stimulus_counts()) == 80
    responses, rows = divided.pairs("subj01", "clip_image", split="test", task=task)
    assert set(responses["stimulus"].values) == set(rows["stimulus"].values) == set(splits.index[splits == "test"])
    assert divided.images(split="test").sizes["stimulus"] == (splits == "test").sum()
    again = pickle.loads(pickle.dumps(divided))
    assert (again.split_column, again.digest, again.snapshot) == ("tau", divided.digest, divided.snapshot)
    assert (again.stimuli["split"] == divided.stimuli["split"]).all()
    assert nr.open_store(store.location, split_column="tau").digest == divided.digest
    assert divided.with_split(None).digest == store.digest
    assert len({store.with_split(name).digest for name in [None, *store.split_columns]}) == 1 + len(store.split_columns)
    assert "tau" in repr(divided)
    assert divided.label == "base (split tau)"
    with pytest.raises(UnknownNameError, match="neurorecon split --kind"):
        store.with_split("ood")


def test_left_out_stimuli_are_neither_trained_on_nor_tested(store):
    divided = store.with_split("leave_a_cup")
    rows = divided.samples("subj01")["stimulus"] == "s003"
    assert rows.any()
    for average in (None, "stimulus"):
        shown = [divided.responses("subj01", split=split, average=average)["stimulus"].values
                 for split in ("train", "test", None)]  # fmt: skip
        assert "s003" not in np.concatenate(shown)
    assert len(shown[2]) == 78
    found = nr.classify(divided, "subj01", cross_validate="stimulus", n_permutations=5)
    assert "s003" not in str(found.tables())
    assert divided.stimulus_counts()[-1] == {"kind": "image", "split": "left out", "number": 2}


def test_new_columns_leave_the_digest_of_the_content_and_of_fits(store, own):
    fresh = own
    before = fresh.digest
    fresh = nr.split(fresh, "random")
    assert fresh.digest == before == store.digest
    after = fresh.with_split("random_0").digest
    fresh = nr.split(fresh, "cluster_k4")
    assert fresh.with_split("random_0").digest == after
    assert after == combine({
        "content": before, "stimuli/splits/random_0": fresh.digests()["stimuli/splits/random_0"],
    })  # fmt: skip


def test_noise_ceilings_are_those_of_the_new_test_averages(own, tmp_path):
    """Half of the variance of a trial is signal; averages of few trials have a lower ceiling than those of three."""
    values = own.targets("clip_image").to_numpy()
    samples, generator = own.samples("subj01"), np.random.default_rng(2)
    signal = dict(zip(own.stimuli["id"], values @ generator.standard_normal((6, 200)), strict=True))
    noisy = np.stack([signal[name] for name in samples["stimulus"]])
    noisy = (noisy / noisy.std(axis=0) + generator.standard_normal(noisy.shape)).astype(np.float32)
    table = {name: samples[name] for name in ("stimulus", "split", "run")}
    store = nr.build_from_arrays(
        tmp_path / "y.icechunk", noisy, table, {"id": own.stimuli["id"]}, progress=False, simulated=True
    )
    split_table = pd.DataFrame({"stimulus": store.stimuli["id"], "mine": ["train"] * 40 + ["test"] * 40})
    split_table.to_csv(tmp_path / "mine.csv", index=False)
    divided = nr.split(store, table=tmp_path / "mine.csv", column="mine").with_split("mine")
    built, found = (one.noise_ceiling("subj01").mean() for one in (store, divided))
    assert built == pytest.approx(1 / (1 + 1 / 3), abs=0.12)  # three repeats
    mean = (32 * 1 + 8 * (1 / 3)) / 40  # of the variance of noise: 32 of the test stimuli were shown once
    ncsnr = store.ncsnr("subj01")
    assert found == pytest.approx((ncsnr**2 / (ncsnr**2 + mean)).mean(), abs=0.06)
    assert found < built - 0.1
    assert divided.mean_ceilings("subj01")["images"] == pytest.approx(found, abs=1e-3)
    assert "built-in split, repeats as in mine" in divided.about_ceilings("subj01")["images"]
    assert "mine" not in store.about_ceilings("subj01")["images"]


def test_a_check_recomputes_columns_and_an_export_copies_them(store, tmp_path):
    names = {finding.array for finding in nr.check_store(store) if not finding.problem}
    assert {f"stimuli/splits/{name}" for name in store.split_columns} <= names
    copy = nr.open_store(nr.export_store(store, tmp_path / "x.zarr", progress=False), split_column="tau")
    assert copy.digest == store.with_split("tau").digest
    assert copy.split_columns == store.split_columns
    assert (copy.stimuli["split"] == store.with_split("tau").stimuli["split"]).all()
    with pytest.raises(StoreError, match="read-only"):
        nr.split(copy, "random", seed=1)


def test_another_column_of_the_same_name_needs_replace(own):
    store = nr.split(own, "random")
    assert nr.split(store, "random").snapshot == store.snapshot  # nothing to do
    with pytest.raises(StoreError, match="another split column 'random_0'"):
        nr.split(store, "random", seed=1)
    assert nr.open_store(store.location).snapshot == store.snapshot
    other = nr.split(store, "random", seed=1, replace=True)
    assert other.about_split("random_0")["seed"] == 1
    assert other.with_split("random_0").digest != store.with_split("random_0").digest


def test_a_write_that_fails_leaves_the_store_as_it_was(own, monkeypatch):
    store = own
    found, written = compute_splits(store, SplitSettings(kind="random")), []

    from neurorecon.store.writer import StoreWriter

    put = StoreWriter.put

    def interrupted(self, path, *arguments, **options):
        put(self, path, *arguments, **options)
        written.append(path)
        if len(written) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(StoreWriter, "put", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_splits(found, store)
    monkeypatch.undo()
    assert len(written) == 3
    left = nr.open_store(store.location)
    assert left.split_columns == []
    assert left.snapshot == store.snapshot
    assert write_splits(found, store).split_columns == [f"random_{one}" for one in range(5)]


def test_leaks_of_a_users_own_column_are_cautions(own, tmp_path):
    store = own
    table = pd.DataFrame({"stimulus": store.stimuli["id"], "mine": ["train"] * 40 + ["test"] * 30 + [""] * 10})
    table.to_csv(tmp_path / "mine.csv", index=False)
    found = compute_splits(store, SplitSettings(table=tmp_path / "mine.csv", column="mine"))
    assert "2 test stimuli are training stimuli under another id" in " ".join(found.warnings)
    store = write_splits(found, store)
    task = store.tasks("subj01")[0]
    (caution,) = [text for text in store.with_split("mine").cautions("subj01", task) if "under another id" in text]
    assert "judged by images (s041 = s003, s060 = s003)" in caution
    assert not [text for text in store.cautions("subj01", task) if "under another id" in text]
    # Rows of a target that comes later are compared for the column, too.
    rows = np.random.default_rng(0).standard_normal((80, 3)).astype(np.float32)
    rows[50] = rows[7]
    store = nr.add_target(store.with_split("mine"), "later", rows, made_by=MADE)
    assert store.split_column == "mine"
    assert any("target later (s050 = s007)" in text for text in store.cautions("subj01", task))
    assert not any("later" in text for text in store.with_split(None).cautions("subj01", task))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("stimulus,mine\ns000,train\ns001,test\ns001,test\n", "stimuli occur twice"),
        ("stimulus,mine\ns000,train\ns999,test\n", "some stimuli are not in the store"),
        ("stimulus,mine\ns000,train\ns001,dev\n", "does not divide the stimuli"),
        ("stimulus,mine\ns000,train\ns001,train\n", "does not divide the stimuli"),
        ("name,mine\ns000,train\ns001,test\n", "no column holds the ids"),
    ],
)
def test_tables_that_cannot_be_used(store, tmp_path, content, message):
    (tmp_path / "mine.csv").write_text(content)
    with pytest.raises(InputError, match=message):
        nr.split(store, table=tmp_path / "mine.csv", column="mine")


def test_a_subject_without_test_stimuli_is_one_error(tmp_path):
    ids = [f"s{row:02d}" for row in range(20)]
    samples = {
        "subj01": {"stimulus": ids, "split": ["train"] * 15 + ["test"] * 5},
        "subj02": {"stimulus": ids[5:], "split": ["train"] * 10 + ["test"] * 5},
    }
    responses = {name: np.arange(3.0 * len(rows["stimulus"])).reshape(-1, 3) for name, rows in samples.items()}
    store = nr.build_from_arrays(
        tmp_path / "x.icechunk", responses, {name: pd.DataFrame(rows) for name, rows in samples.items()},
        {"id": ids, "category": ["first"] * 5 + ["second"] * 8 + ["third"] * 7}, progress=False,
    )  # fmt: skip
    with pytest.raises(InputError, match="subj02 saw no test stimulus of the split 'leave_first'"):
        nr.split(store, "leave-category")
    assert nr.split(store, "leave-category", categories=["second", "third"]).split_columns == [
        "leave_second", "leave_third",
    ]  # fmt: skip
    with pytest.raises(UnknownNameError):
        nr.split(store, "leave-category", categories=["fourth"])


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": "ood"},
        {"kind": "cluster_k1"},
        {"share": 0.0},
        {"share": 0.6},
        {"tau": -0.1},
        {"column": "x"},
        {"table": "x.csv"},
    ],
)
def test_settings_that_are_refused(wrong):
    with pytest.raises((InputError, UnknownNameError)):
        SplitSettings(**{"kind": "tau", **wrong})


# -- analyses ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("column", ["random_0", "cluster_k4_0", "tau", "leave_cat"])
def test_random_responses_are_at_chance_in_every_split(store, column):
    """Responses of this store are noise: over subjects and metrics, scores are what their nulls are."""
    divided = store.with_split(column)
    scores = [
        score
        for subject in store.subjects
        for score in nr.reconstruct(
            divided, "linear-pixels", subject, metrics=["pixcorr", "two_way"], n_permutations=199, controls=False
        ).scores
    ]
    assert min(score.p for score in scores) > 0.01
    for score in scores:
        assert abs(score.value - score.null_mean) < max(score.null_max - score.null_mean, 0.02) * 1.5
    (found,) = nr.maps(divided, "subj01", bands=["clip_image"], n_permutations=99)
    assert (found.tables()["voxels"]["p"] < 0.05).mean() < 0.2  # of 30 voxels, 1.5 by chance, 6 or more once in 400


def test_results_say_by_which_split_they_were_made(store, tmp_path):
    divided = store.with_split("tau")
    found = nr.reconstruct(divided, "linear-pixels", "subj01", n_permutations=9, controls=False)
    assert "base (split tau)" in found.text(divided)
    assert found.chosen["test_stimuli"] == (divided.stimuli["split"] == "test").sum()
    nr.write(found, divided, tmp_path, nr.record_of(divided, "a test"), figures=False)
    record = json.loads(next(tmp_path.glob("*.json")).read_text())
    assert record["split_column"] == "tau"
    assert record["digests"]["store"] == divided.digest
    (images,) = tmp_path.glob("*.zarr")
    from neurorecon.analyses.evaluate import load_images

    with pytest.raises(InputError, match="made with another split"):
        nr.evaluate(load_images(images), store, metrics=["pixcorr"], n_permutations=9)
    again = nr.evaluate(load_images(images), divided, metrics=["pixcorr"], n_permutations=9)
    assert again.scores[0].value == pytest.approx(next(s.value for s in found.scores if "pixcorr" in s.name))


def test_fits_of_another_split_are_not_used(store, tmp_path):
    fitted = nr.load_system("linear-pixels").fit(store.with_split("tau"), "subj01")
    assert fitted.provenance_["split_column"] == "tau"
    with pytest.raises(InputError, match="fitted to the training stimuli of another split"):
        nr.reconstruct(store, fitted, "subj01", n_permutations=9)
    options = {"n_permutations": 9, "controls": False, "metrics": ["pixcorr"]}
    nr.reconstruct(store.with_split("tau"), fitted, "subj01", **options)
    for column in ("tau", "random_0", None):
        nr.reconstruct(store.with_split(column), "linear-pixels", "subj01", folder=tmp_path, **options)
    assert len(list(tmp_path.iterdir())) == 3


def test_later_sessions(tmp_path):
    """Stimuli of the last fifth of the sessions; those that were shown before, too, are left out."""
    generator = np.random.default_rng(0)
    ids = [f"s{row:02d}" for row in range(40)]
    shown = [*ids, "s00", "s01"]
    session = [*np.repeat(np.arange(1, 11), 4), 9, 10]
    samples = {"stimulus": shown, "session": session, "split": ["train"] * 42}
    samples["split"][8:16] = ["test"] * 8
    store = nr.build_from_arrays(
        tmp_path / "sessions.icechunk", generator.standard_normal((42, 5)).astype(np.float32), samples, {"id": ids},
        images=generator.integers(0, 256, (40, 16, 16, 3), dtype=np.uint8), image_size=16, progress=False,
    )  # fmt: skip
    found = nr.split(store, "session").with_split("session").stimuli.set_index("id")["split"]
    assert found[found == "test"].index.tolist() == ids[32:]
    assert found[found == ""].index.tolist() == ["s00", "s01"]
    alone = nr.build_from_arrays(
        tmp_path / "one.icechunk", generator.standard_normal((40, 5)).astype(np.float32),
        {"stimulus": ids, "split": ["train"] * 30 + ["test"] * 10}, {"id": ids},
        images=generator.integers(0, 256, (40, 16, 16, 3), dtype=np.uint8), image_size=16, progress=False,
    )  # fmt: skip
    with pytest.raises(InputError, match="no task has two sessions"):
        nr.split(alone, "session")
