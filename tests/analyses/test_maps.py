"""Voxel-wise maps: settings, blocks of voxels, nulls, cross-validation; one map, anyone who computed it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn.kernel_ridge import KernelRidge
from sklearn.metrics import r2_score
from sklearn.model_selection import GroupKFold

import neurorecon as nr
from neurorecon.analyses import design, encoding, maps
from neurorecon.analyses.design import EncodingSettings
from neurorecon.analyses.encoding import MOST_VALUES, voxels_of_a_block
from neurorecon.analyses.map_figures import outlines_of
from neurorecon.decoders.banded import ALPHAS
from neurorecon.decoders.banded_search import candidate_mixtures
from neurorecon.decoders.kernels import delayed_kernel
from neurorecon.decoders.nested import nested_cross_validation
from neurorecon.decoders.samples import load_samples
from neurorecon.decoders.validation import group_folds
from neurorecon.errors import InputError, UnknownNameError
from neurorecon.stats import refit_permutation_test_kernels

distributed = pytest.importorskip("distributed")

SETTINGS = {"bands": ["category", "gabor"], "n_permutations": 19, "threads": 1, "task": "images"}


@pytest.fixture(scope="module")
def store(miniature):
    return miniature(subjects=2)


@pytest.fixture(scope="module")
def block(store):
    return -(-len(store.voxels("subj01")) // 3)


@pytest.fixture(scope="module")
def in_blocks(store, block):
    return nr.maps(store, voxel_block=block, **SETTINGS)


@pytest.fixture(scope="module")
def client():
    with (
        distributed.LocalCluster(n_workers=1, threads_per_worker=1, processes=True, dashboard_address=":0") as cluster,
        distributed.Client(cluster, set_as_default=False) as connected,
    ):
        yield connected


def _same(first, second):
    for one, other in zip(first, second, strict=True):
        pd.testing.assert_frame_equal(one.table, other.table, check_exact=True)
        pd.testing.assert_frame_equal(one.rois, other.rois, check_exact=True)
        assert one.scores == other.scores
        assert one.record() == other.record()


def test_blocks_make_the_map_of_one_block(store, block, in_blocks):
    whole = nr.maps(store, **SETTINGS)
    assert [found.subject for found in whole] == store.subjects
    for one, other in zip(whole, in_blocks, strict=True):
        assert len(one.table) > block
        for column in ("r2", "r2_category", "r2_gabor", "p", "q", "alpha"):
            np.testing.assert_allclose(other.table[column], one.table[column], atol=1e-4)
        np.testing.assert_array_equal(other.table["significant"], one.table["significant"])
        for column in ("value", "low", "high", "joint", "p", "n", "significant", "wins"):
            np.testing.assert_allclose(other.rois[column], one.rois[column], atol=1e-4)
        for first, second in zip(one.scores, other.scores, strict=True):
            assert second.value == pytest.approx(first.value, abs=1e-4)
            assert (second.p, second.extra["voxels"]) == (first.p, first.extra["voxels"])


def test_a_cluster_computes_the_same_bits_and_keeps_its_blocks(store, block, in_blocks, client, tmp_path, monkeypatch):
    def compute(**options):
        return nr.maps(store, voxel_block=block, results=tmp_path, **SETTINGS, **options)

    _same(compute(scheduler=client), in_blocks)
    (folder,) = [path for path in tmp_path.iterdir() if path.is_dir()]
    kept = sorted(path.name for path in folder.glob("*.safetensors"))
    assert len(kept) == 6  # three blocks for each of two subjects; the products of the features are gone
    assert all("voxels" in name for name in kept)

    computed = []
    whole = encoding.compute_voxels
    monkeypatch.setattr(maps, "compute_voxels", lambda p, b: computed.append(b.start) or whole(p, b))
    (folder / kept[1]).unlink()
    (folder / kept[5]).write_bytes(b"damaged")
    _same(compute(), in_blocks)
    assert computed == [block, 2 * block]
    again = compute(fdr=0.5)  # the mask comes after the blocks
    assert len(computed) == 2
    assert sum(found.table["significant"].sum() for found in again) >= sum(
        found.table["significant"].sum() for found in in_blocks
    )


def test_nothing_is_written_where_nobody_asked_for_it(store, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    nr.maps(store, "subj01", results=tmp_path, **SETTINGS)  # one block
    assert list(tmp_path.iterdir()) == []


def test_the_size_of_a_block_follows_the_samples_not_the_workers():
    assert voxels_of_a_block(100) == 4096
    assert voxels_of_a_block(9000) == 17408
    assert voxels_of_a_block(30_000) * 30_000 <= MOST_VALUES
    assert voxels_of_a_block(10_000_000) == 1024
    assert all(voxels_of_a_block(samples) % 1024 == 0 for samples in range(1, 40_000, 997))


def test_blocks_and_threads_are_numbers_of_one_or_more(store):
    for wrong in ({"threads": 0}, {"voxel_block": 0}):
        with pytest.raises(InputError, match="a number of 1 or more"):
            nr.maps(store, **{**SETTINGS, **wrong})


# -- the null of models that are fitted again -------------------------------------------------------------------------


@pytest.mark.parametrize("task", ["images", "videos"])
def test_refits_are_those_of_the_function_on_the_same_kernels(miniature, task):
    store = miniature(subjects=1, images=60, videos=30)
    bands = ["category", "gabor"]
    settings = {"bands": bands, "task": task, "n_permutations": 19, "seed": 2, "threads": 1}
    found, by_order = (nr.maps(store, null=null, **settings)[0] for null in ("refit", "order"))
    chosen = design.select(store, "subj01", EncodingSettings(bands=bands, task=task))
    train, test = (load_samples(store, "subj01", None, split, task) for split in ("train", "test"))
    within, across = design.grams(store, bands, train.stimuli, test.stimuli)
    seen, shown = train.at_delays(chosen.delays), test.at_delays(chosen.delays)
    kernels = np.stack([delayed_kernel(gram, seen, seen) for gram in within])
    tests = np.stack([delayed_kernel(gram, shown, seen) for gram in across])
    groups = encoding.fold_groups(train, chosen.series)
    spread = train.responses.std(axis=0)
    measured = test.responses / spread
    y = (train.responses - train.responses.mean(axis=0)) / spread
    # The mixture, too, is chosen in each permutation, among these.
    candidates = [[0.5, 0.5], [1, 0], [0, 1]]
    model = nr.BandedRidge(n_iter=candidates, random_state=2).fit_kernels(kernels, y, groups=groups)
    wanted = refit_permutation_test_kernels(
        kernels, y, tests, measured - measured.mean(axis=0), alphas=model.alphas,
        cv=group_folds(len(y), groups, 5), units=groups, candidates=candidates, n_permutations=19, seed=2,
    )  # fmt: skip
    # Two alphas or mixtures of nearly the same loss trade places in the last bits, which differ between processors.
    same = np.isclose(found.table["alpha"], wanted.alphas) & (np.abs(found.table["r2"] - wanted.observed) < 1e-4)
    assert same.mean() >= 0.95
    np.testing.assert_allclose(found.table["r2"], wanted.observed, atol=0.02)
    assert (found.table["p"] == wanted.p).mean() >= 0.9
    np.testing.assert_allclose(found.table["p"], wanted.p, atol=0.051)  # one permutation
    assert np.isclose(wanted.mixtures, model.mixtures_, atol=1e-6).mean() >= 0.95
    assert np.isclose(wanted.alphas, model.alphas_).mean() >= 0.95
    # The other test has a model of more mixtures, whose predictions are counted from features of zero.
    assert np.corrcoef(found.table["r2"], by_order.table["r2"])[0, 1] > 0.95
    masks = store.roi_masks("subj01")
    for roi, rows in found.rois.groupby("roi"):
        assert rows["joint"].iloc[0] == pytest.approx(found.table["r2"][masks[roi]].mean(), abs=1e-3)
    assert not found.table["p"].equals(by_order.table["p"])
    assert found.record()["null"] == "refit"
    assert found.record()["refit"].startswith("alpha and mixture of bands")
    assert "19 permutations of training stimuli, with models fitted again" in " ".join(found.text(store).split())


def test_refits_of_one_band_are_those_of_scikit_learn(miniature):
    """One band, one permutation by hand: kernel ridge with the alpha that the folds choose."""
    store = miniature(subjects=1, images=60)
    found = nr.voxelwise_maps(store, bands=["category"], task="images", null="refit", n_permutations=9, threads=1)
    train, test = (load_samples(store, "subj01", None, split, "images") for split in ("train", "test"))
    within, across = design.grams(store, ["category"], train.stimuli, test.stimuli)
    n = len(train.shown)
    center = np.eye(n) - 1 / n
    kernel = center @ within[0] @ center
    scale = np.trace(kernel) / n
    new = (across[0] - within[0].mean(axis=0)) @ center
    y = (train.responses - train.responses.mean(axis=0)).astype(float)
    for voxel in range(0, y.shape[1], 7):
        ridge = KernelRidge(alpha=found.table["alpha"].iloc[voxel], kernel="precomputed")
        predicted = ridge.fit(kernel / scale, y[:, voxel]).predict(new / scale)
        measured = test.responses[:, voxel] - test.responses[:, voxel].mean()
        assert found.table["r2"].iloc[voxel] == pytest.approx(r2_score(measured, predicted), abs=1e-4)


# -- cross-validation -------------------------------------------------------------------------------------------------


def _folds_by_hand(store, task, bands, average, column):
    """Return R2 of himalaya's models, a fold of held-out samples at a time, with features delayed one by one."""
    from himalaya.kernel_ridge import MultipleKernelRidgeCV

    responses = store.responses("subj01", task=task, average=average)
    y, ids = responses.values.astype(np.float64), responses["stimulus"].values.tolist()
    labels = pd.factorize(responses[column].values)[0]
    held = np.empty(len(labels), dtype=int)
    for number, (_, test) in enumerate(encoding.outer_folds(labels, EncodingSettings(cross_validate=column))):
        held[test] = number
    features = []
    for band in bands:
        unique = list(dict.fromkeys(ids))
        values = store.targets(band, stimuli=unique).values.reshape(len(unique), -1).astype(float)
        spread = values.std(axis=0)
        values = np.where(spread > 1e-8, (values - values.mean(axis=0)) / np.where(spread > 1e-8, spread, 1), 0)
        features.append(values[[unique.index(name) for name in ids]])
    if average is None:  # whole runs
        for label in np.unique(held):
            y[held == label] -= y[held == label].mean(axis=0)
    predicted, measured = np.empty_like(y), np.empty_like(y)
    for label in np.unique(held):
        train, test = np.flatnonzero(held != label), np.flatnonzero(held == label)
        kernels, tests = [], []
        for values in features:
            x = values[train] - values[train].mean(axis=0)
            kernel = x @ x.T
            scale = np.trace(kernel) / len(train)
            kernels.append(kernel / scale)
            tests.append((values[test] - values[train].mean(axis=0)) @ x.T / scale)
        model = MultipleKernelRidgeCV(
            kernels="precomputed", solver="random_search", fit_intercept=True,
            cv=list(GroupKFold(5).split(train, groups=labels[train])),
            solver_params={"n_iter": candidate_mixtures(len(bands)), "alphas": np.array(ALPHAS), "progress_bar": False},
        )  # fmt: skip
        with np.errstate(divide="ignore"):  # bands of no weight
            model.fit(np.stack(kernels), y[train] - y[train].mean(axis=0))
        predicted[test] = model.predict(np.stack(tests))
        measured[test] = y[test] - y[train].mean(axis=0)
    return r2_score(measured, predicted, multioutput="raw_values")


@pytest.mark.parametrize(("column", "average"), [("stimulus", "stimulus"), ("run", None)])
def test_held_out_samples_are_predicted_as_himalaya_does(miniature, column, average):
    store = miniature(subjects=1, images=60)
    bands = ["category", "gabor"]
    found = nr.voxelwise_maps(store, bands=bands, task="images", cross_validate=column, n_permutations=99, threads=1)
    wanted = _folds_by_hand(store, "images", bands, average, column)
    np.testing.assert_allclose(found.table["r2"], wanted, atol=0.02)
    assert np.median(np.abs(found.table["r2"] - wanted)) < 5e-3
    assert found.table["r2"].mean() > 0.2
    assert (found.table["p"] <= 0.05).mean() > 0.7
    of = "single samples" if column == "run" else "averages over the repeats of each stimulus"
    assert found.record()["noise_ceiling"]["of"] == of
    record = found.record()
    assert (record["cross_validate"], record["null"]) == (column, "order")
    assert "held out in" in found.text(store)


def test_runs_of_a_time_series_are_held_out_in_nested_folds(miniature):
    store = miniature(subjects=1, images=60, videos=30)
    bands = ["category", "motion"]
    found = nr.voxelwise_maps(store, bands=bands, task="videos", cross_validate="run", n_permutations=19, threads=1)
    settings = EncodingSettings(bands=bands, task="videos", cross_validate="run")
    samples = design.load_all_samples(store, "subj01", settings, "videos", slice(None))
    within, _ = design.grams(store, bands, samples.stimuli, [])
    seen = samples.at_delays(found.chosen["delays"])
    kernels = np.stack([delayed_kernel(gram, seen, seen) for gram in within])
    y = samples.responses.astype(np.float64)
    for run in np.unique(samples.runs):
        y[samples.runs == run] -= y[samples.runs == run].mean(axis=0)
    wanted = nested_cross_validation(
        nr.BandedRidge(), y=y / y.std(axis=0), kernels=kernels, groups=samples.runs,
        outer=group_folds(len(y), samples.runs, 4),
    )  # fmt: skip
    # Contributions of stimuli are counted from features of zero, not from their mean over the samples of a fold.
    np.testing.assert_allclose(found.table["r2"], wanted.r2, atol=5e-3)
    split = found.table[[f"r2_{band}" for band in bands]].to_numpy().T
    np.testing.assert_allclose(split, wanted.split_r2, atol=5e-3)
    np.testing.assert_allclose(found.table["alpha"], np.exp(np.log(wanted.alphas).mean(axis=0)), rtol=1e-5)
    masks = store.roi_masks("subj01")
    for score in found.scores:
        mask = masks[score.name.split()[1]]
        np.testing.assert_allclose(score.extra["folds"], wanted.fold_r2[:, mask].mean(axis=1), atol=5e-3)
    assert found.chosen["folds"] == 4
    assert found.chosen["stimuli_met_in_training"] == 30
    assert "30 of 30 stimuli occur in several folds" in found.text(store)


def test_blocks_of_cross_validated_voxels_make_one_map(miniature):
    store = miniature(subjects=1, images=60)
    settings = {"bands": ["category"], "task": "images", "cross_validate": "stimulus", "n_permutations": 19}
    whole, parts = (nr.voxelwise_maps(store, voxel_block=block, **settings) for block in (None, 15))
    np.testing.assert_allclose(parts.table["r2"], whole.table["r2"], atol=1e-4)
    np.testing.assert_allclose(parts.rois["value"], whole.rois["value"], atol=1e-4)


def test_a_store_without_a_test_split_has_maps_by_cross_validation(tmp_path):
    generator = np.random.default_rng(0)
    stimuli = [f"image{number:02}" for number in range(24)]
    features = generator.standard_normal((24, 3))
    samples = pd.DataFrame({"stimulus": stimuli * 3, "run": np.repeat([1, 2, 3], 24), "split": "train"})
    signal = np.tile(features @ generator.standard_normal((3, 6)), (3, 1))
    responses = signal + generator.standard_normal(signal.shape)
    responses[:, 3:] = generator.standard_normal((72, 3))
    store = nr.build_from_arrays(tmp_path / "own.icechunk", responses, samples, progress=False)
    store = nr.add_target(store, "own", features, made_by={"model": "random numbers", "source": "this test"})
    with pytest.raises(InputError, match=r"maps need held-out stimuli[\s\S]*--cross-validate run"):
        nr.maps(store, bands=["own"])
    for column in ("run", "stimulus"):
        found = nr.voxelwise_maps(store, bands=["own"], cross_validate=column, n_permutations=99)
        assert (found.table["p"][:3] <= 0.02).all()
        assert (found.table["p"][3:] > 0.02).all()
    with pytest.raises(InputError, match="samples of one session only"):
        nr.maps(store, bands=["own"], cross_validate="session")


def test_what_cannot_be_cross_validated(miniature):
    store = miniature(subjects=1)
    with pytest.raises(InputError, match="stimuli of a time series cannot be held out"):
        nr.maps(store, task="videos", cross_validate="stimulus")
    with pytest.raises(InputError, match="are tested by the order of the held-out stimuli"):
        nr.maps(store, null="refit", cross_validate="run")
    with pytest.raises(InputError, match="options of encoding maps"):
        nr.maps(store, kind="haufe", null="refit")
    with pytest.raises(UnknownNameError, match="run, session, stimulus"):
        nr.maps(store, cross_validate="category")
    with pytest.raises(UnknownNameError, match="order, refit"):
        nr.maps(store, null="shuffle")


def test_refits_with_few_test_stimuli_test_the_covariance_and_show_r2(miniature, monkeypatch):
    store = miniature(subjects=1, images=60)
    settings = {"bands": ["category", "gabor"], "task": "images", "null": "refit", "n_permutations": 19, "threads": 1}
    many = nr.maps(store, **settings)[0]
    monkeypatch.setattr("neurorecon.analyses.encoding.FEW_STIMULI", 100)
    few = nr.maps(store, **settings)[0]
    assert [found.record()["exchange"]["statistic"] for found in (many, few)] == ["R2", "covariance"]
    # R2 in the table does not depend on what is tested.
    np.testing.assert_allclose(few.table["r2"], many.table["r2"], atol=1e-6)
    assert not few.table["p"].equals(many.table["p"])


def test_rois_that_divide_others_anew_are_not_outlined(miniature, monkeypatch):
    """Rings of eccentricity would cut through V1; an ROI inside another one, such as V1v in V1, has its border."""
    brain = miniature(subjects=1, space="surface")
    found = nr.voxelwise_maps(brain, task="images", n_permutations=19)
    known = dict(brain.roi_masks("subj01"))
    odd = np.arange(len(found.table)) % 2 == 1
    more = {"ring": (known["V1"] | known["MT"]) & odd, "half": known["V1"] & odd, "outside": ~known["V1"] & odd}
    monkeypatch.setattr(type(brain), "roi_masks", lambda self, subject: {**known, **more})
    found = replace(found, rois=pd.DataFrame({"roi": [*known, *more]}))
    assert list(outlines_of(found, brain)) == [*known, "half", "outside"]
