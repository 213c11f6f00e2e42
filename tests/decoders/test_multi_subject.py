import itertools

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from neurorecon.decoders import MultiSubjectRidge, RidgeDecoder, load_decoder
from neurorecon.decoders.shared_latents import PRIORS, averaging, merge_bases, orthonormal, shared_decoder
from neurorecon.decoders.validation import group_folds
from neurorecon.errors import InputError, UnknownNameError

ALPHAS = 10.0 ** np.arange(1, 7)
TOLERANCE = {"float32": 1e-4, "float64": 1e-8}


class World:
    """Subjects whose voxels mix the same few latents of the stimuli, each in its own way, with noise."""

    def __init__(self, seed, n_latents=8, n_targets=60):
        self.generator = np.random.default_rng(seed)
        self.loadings = self.generator.standard_normal((n_latents, n_targets)) / np.sqrt(n_targets)
        self.mixings = {}

    def stimuli(self, number):
        latents = self.generator.standard_normal((number, len(self.loadings))) * np.linspace(6, 1.5, len(self.loadings))
        return latents @ self.loadings + self.generator.standard_normal((number, self.loadings.shape[1]))

    def responses(self, subject, targets, n_voxels=100, noise=4.0):
        if subject not in self.mixings:
            self.mixings[subject] = self.generator.standard_normal((len(self.loadings), n_voxels))
        signal = 2 * targets @ self.loadings.T @ self.mixings[subject]
        return signal + noise * self.generator.standard_normal(signal.shape)

    def data(self, sizes):
        y = {name: self.stimuli(size) for name, size in sizes.items()}
        voxels = dict(zip(sizes, range(80, 80 + 10 * len(sizes), 10), strict=True))
        return {name: self.responses(name, each, voxels[name]) for name, each in y.items()}, y


@pytest.fixture(scope="module")
def world():
    return World(0)


@pytest.fixture(scope="module")
def trained(world):
    X, y = world.data({"subj01": 300, "subj02": 260, "subj05": 280})
    model = MultiSubjectRidge(alpha=ALPHAS, n_latents=16, adapt_samples=40, cv=4)
    return model.fit(X, y), X, y


def test_little_data_of_a_new_subject_goes_further_and_much_no_less_far(world, trained):
    model, _, _ = trained
    test = world.stimuli(300)
    x_test = world.responses("subj08", test, 120)
    gains = {}
    for n_samples in (20, 40, 80, 600):
        y = world.stimuli(n_samples)
        x = world.responses("subj08", y)
        alone = RidgeDecoder(ALPHAS, cv=4).fit(x, y).score(x_test, test)
        gains[n_samples] = model.adapt("subj08", x, y).score("subj08", x_test, test) - alone
    assert gains[20] > 0.02
    assert gains[40] > 0.02
    assert gains[80] > 0.01
    assert gains[600] > -0.002


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(40, 60, 12), (60, 20, 12), (30, 50, 70)])
def test_one_subject_with_all_latents_is_the_ridge_decoder(world, dtype, shape):
    n_samples, n_voxels, n_targets = shape
    generator = np.random.default_rng(1)
    X, Y = generator.standard_normal((n_samples, n_voxels)), generator.standard_normal((n_samples, 2, n_targets // 2))
    alone = RidgeDecoder(ALPHAS, dtype=dtype, cv=3).fit(X, Y)
    model = MultiSubjectRidge(alpha=ALPHAS, dtype=dtype, cv=3, adapt_samples=None).fit({"subj01": X}, {"subj01": Y})
    np.testing.assert_allclose(model.predict("subj01", X), alone.predict(X), atol=TOLERANCE[dtype])
    assert model.subjects_["subj01"]["alpha"] == alone.alpha_
    # Without a decoder learned from others, so is a new subject, where the latents span its targets.
    if model.basis_.shape[0] == n_targets:
        model.adapt("subj02", X[:, :15], Y)
        again = RidgeDecoder(ALPHAS, dtype=dtype, cv=3).fit(X[:, :15], Y)
        np.testing.assert_allclose(model.predict("subj02", X[:, :15]), again.predict(X[:, :15]), atol=1e-4)
        assert np.isinf(model.subjects_["subj02"]["prior"])


def test_latents_are_the_leading_directions_of_what_is_explained(trained):
    model, X, y = trained
    explained = [RidgeDecoder(ALPHAS, cv=4, dtype="float64").fit(X[name], y[name]).predict(X[name]) for name in X]
    pooled = np.concatenate([each - each.mean(axis=0) for each in explained])
    expected = np.linalg.svd(pooled, full_matrices=False)[2][:16]
    np.testing.assert_allclose(model.basis_ @ model.basis_.T, np.eye(16), atol=1e-5)
    np.testing.assert_allclose(np.linalg.svd(model.basis_[:8] @ expected.T)[1], 1, atol=1e-3)


def test_bases_merge_into_that_of_all_rows():
    generator = np.random.default_rng(2)
    from neurorecon.decoders.solvers import Backend

    for n_targets in (6, 40):
        parts = [generator.standard_normal((9, n_targets)) for _ in range(3)]
        merged = None
        for part in parts:
            merged = merge_bases(merged, part, None, Backend())
        _, singular, directions = np.linalg.svd(np.concatenate(parts), full_matrices=False)
        np.testing.assert_allclose(np.linalg.norm(merged, axis=1), singular, rtol=1e-8)
        overlap = orthonormal(merged, Backend()) @ directions.T
        np.testing.assert_allclose(np.abs(overlap), np.eye(len(overlap)), atol=1e-6)


def concatenated_problem(repeats=2):
    """Two subjects with 30 shared stimuli, each shown twice, and 10 of their own."""
    world = World(3, n_targets=10)
    shared = world.stimuli(30)
    X, y, groups = {}, {}, {}
    for number, name in enumerate(("subj01", "subj02", "subj07")):
        ids = np.concatenate([np.arange(30), 100 * (number + 1) + np.arange(10)])
        targets = np.concatenate([shared, world.stimuli(10)])
        order = world.generator.permutation(np.repeat(np.arange(40), repeats))
        y[name], groups[name] = targets[order], np.char.add("image", ids[order].astype(str))
        X[name] = world.responses(name, y[name], 40 + 10 * number)
    return X, y, groups, world, shared


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_concatenated_voxels_are_sklearns_ridge_of_the_shared_stimuli(dtype):
    X, y, groups, _, shared = concatenated_problem()
    fitted = {name: X[name] for name in ("subj01", "subj02")}
    model = MultiSubjectRidge("concatenated", alpha=50.0, dtype=dtype).fit(
        fitted, {name: y[name] for name in fitted}, {name: groups[name] for name in fitted}
    )
    names = [f"image{number}" for number in range(30)]
    means = {
        name: np.stack([X[name][groups[name] == image].mean(axis=0) for image in names])
        for name in ("subj01", "subj02")
    }
    theirs = Ridge(50.0).fit(np.concatenate(list(means.values()), axis=1), shared)
    new = {name: each[:9] + 1.0 for name, each in means.items()}
    expected = theirs.predict(np.concatenate(list(new.values()), axis=1))
    np.testing.assert_allclose(model.predict(new), expected, atol=TOLERANCE[dtype] * np.abs(shared).max())
    assert sorted(model.stimuli_) == sorted(names)


def test_subjects_are_aligned_to_the_concatenation_by_shared_stimuli():
    X, y, groups, world, _ = concatenated_problem()
    first = {name: X[name] for name in ("subj01", "subj02")}
    model = MultiSubjectRidge("concatenated", alpha=50.0, dtype="float64").fit(
        first, {name: y[name] for name in first}, {name: groups[name] for name in first}
    )
    model.adapt("subj07", X["subj07"], groups=groups["subj07"])
    test = world.stimuli(100)
    for name in ("subj01", "subj07"):
        responses = world.responses(name, test)
        assert model.score(name, responses, test) > 0.15
        # The same as to regress what all voxels together say of the shared stimuli.
        means = averaging(groups[name].astype(object), np.unique(model.stimuli_)) @ X[name]
        together = model.scores_ @ model.basis_
        theirs = Ridge(50.0).fit(means, together + model.joint_mean_)
        np.testing.assert_allclose(model.predict(name, responses), theirs.predict(responses), atol=1e-8)


def test_saved_and_adapted_elsewhere(tmp_path, world, trained):
    model, X, _ = trained
    loaded = load_decoder(model.save(tmp_path / "model", provenance={"store": "nsd"}))
    assert loaded.predict("subj02", X["subj02"]).tobytes() == model.predict("subj02", X["subj02"]).tobytes()
    y = world.stimuli(50)
    x = world.responses("subj09", y, 70)
    expected = model.adapt("subj09", x, y).predict("subj09", x)
    np.testing.assert_array_equal(loaded.adapt("subj09", x, y).predict("subj09", x), expected)
    np.testing.assert_array_equal(load_decoder(loaded.save(tmp_path / "two")).predict("subj09", x), expected)


def test_constant_voxels_change_nothing(trained, world):
    model, _, _ = trained
    y = world.stimuli(50)
    x = world.responses("subj10", y, 30)
    with_constants = np.concatenate([x, np.full((50, 3), 7.0)], axis=1)
    plain = model.adapt("subj10", x, y).predict("subj10", x)
    np.testing.assert_allclose(
        model.adapt("subj10", with_constants, y).predict("subj10", with_constants), plain, atol=1e-4
    )


def test_wrong_subjects_and_data_are_explained(trained):
    model, X, y = trained
    x, targets = X["subj01"], y["subj01"]
    holes = x.copy()
    holes[:, 3] = np.nan
    fit = MultiSubjectRidge(alpha=1.0).fit
    for call, message in [
        (lambda: model.predict("subj03", x), "unknown subject 'subj03'"),
        (lambda: model.predict("subj02", x), "other voxels than those fitted"),
        (lambda: model.predict("subj01", holes), "in 1 of 80 voxels"),
        (lambda: model.predict("subj01"), "need responses"),
        (lambda: model.predict({"subj01": x}), "one subject at a time"),
        (lambda: model.adapt("subj01", x, targets), "part of the fit"),
        (lambda: model.adapt("subj08", x, targets[:5]), "different numbers of samples"),
        (lambda: model.adapt("subj08", x, targets[:, :5]), "different shape from those fitted"),
        (lambda: model.adapt("subj08", np.ones_like(x), targets), "do not vary"),
        (lambda: fit({"subj01": holes}, {"subj01": targets}), "contain NaN"),
        (lambda: fit({"subj01": x}, {"subj1": targets}), "unknown subject 'subj01'"),
        (lambda: fit({"subj01": x}, {"subj01": targets, "subj02": targets}), "unknown subject 'subj02'"),
        (lambda: fit(x, targets), "must be a dict"),
        (lambda: fit({"subj01": x, "subj02": x}, {"subj01": targets, "subj02": targets[:, 1:]}), "different targets"),
        (lambda: fit({"subj01": x}, {"subj01": targets}, {"subj01": np.arange(3)}), "one label for each sample"),
        (lambda: MultiSubjectRidge("joined").fit(X, y), "unknown method"),
        (lambda: MultiSubjectRidge(n_latents=0).fit(X, y), "at least one latent"),
        (lambda: MultiSubjectRidge("concatenated").fit(X, y), "which stimuli subjects share"),
    ]:
        with pytest.raises(InputError, match=message):
            call()
    with pytest.raises(UnknownNameError, match="adapt the decoder to a new subject first"):
        model.predict("subj03", x)


def test_targets_that_differ_and_stimuli_not_shared_are_explained():
    X, y, groups, _, _ = concatenated_problem()
    model = MultiSubjectRidge("concatenated", alpha=50.0)
    with pytest.raises(InputError, match="targets of the same stimuli differ"):
        model.fit(X, y | {"subj02": y["subj02"] + 1}, groups)
    with pytest.raises(InputError, match="share too few stimuli"):
        model.fit(X, y, groups | {"subj02": np.char.add("other", groups["subj02"])})
    model.fit(X, y, groups)
    with pytest.raises(InputError, match="the same stimuli in the same order"):
        model.predict({name: each[: 4 + number] for number, (name, each) in enumerate(X.items())})
    with pytest.raises(InputError, match="share too few stimuli"):
        model.adapt("subj08", X["subj01"], groups=np.arange(80))


def test_alpha_and_trust_are_what_is_best_for_the_other_subjects():
    """Against an explicit search: each subject in turn is new, and known by pieces of its samples."""
    world = World(5, n_latents=4, n_targets=12)
    X, y = world.data({"subj01": 60, "subj02": 60, "subj03": 60})
    alphas = (1e2, 1e4, 1e6)
    model = MultiSubjectRidge(alpha=alphas, n_latents=6, adapt_samples=20, dtype="float64").fit(X, y)
    basis = model.basis_
    size = np.mean([x.var(axis=0).sum() for x in X.values()])
    pairs = {}
    for name, x in X.items():
        latents = y[name] @ basis.T
        for others, piece in group_folds(len(x), None, 3):
            for alpha in alphas:
                alpha_here = alpha / size * x[piece].var(axis=0).sum()
                found = Ridge(alpha_here).fit(x[piece], latents[piece]).predict(x[others])
                pair = found - found.mean(axis=0), latents[others] - latents[others].mean(axis=0)
                pairs.setdefault((name, alpha), []).append(pair)
    errors = {}
    for alpha, prior in itertools.product(alphas, PRIORS):
        total = 0.0
        for new in X:
            known = [pair for name in X if name != new for pair in pairs[name, alpha]]
            decoder = shared_decoder(sum(a.T @ a for a, _ in known), sum(a.T @ b for a, b in known), prior)
            total += sum(((b - a @ decoder) ** 2).sum() for a, b in pairs[new, alpha])
        errors[alpha, prior] = total
    alpha, prior = min(errors, key=errors.get)
    assert model.learned_["prior"] == prior
    assert model.learned_["ratio"] == pytest.approx(alpha / size)
    targets = world.stimuli(20)
    x = world.responses("subj08", targets, 70)
    model.adapt("subj08", x, targets)
    assert model.subjects_["subj08"]["alpha"] == pytest.approx(alpha / size * x.var(axis=0).sum())
    assert model.subjects_["subj08"]["prior"] == prior
    # More data of the new subject speak for themselves.
    targets = world.stimuli(60)
    model.adapt("subj08", world.responses("subj08", targets, 70), targets)
    assert model.subjects_["subj08"]["alpha"] in alphas


def test_one_subject_teaches_with_the_alpha_that_is_best_for_its_pieces():
    world = World(6, n_latents=4, n_targets=12)
    X, y = world.data({"subj01": 120})
    alphas = (1e-3, 1e3, 1e5, 1e9)
    model = MultiSubjectRidge(alpha=alphas, n_latents=6, adapt_samples=30, dtype="float64").fit(X, y)
    assert model.learned_ == {}
    latents, x, size = y["subj01"] @ model.basis_.T, X["subj01"], X["subj01"].var(axis=0).sum()
    products, errors = [], []
    for alpha in alphas:
        total, error = 0.0, 0.0
        for others, piece in group_folds(len(x), None, 4):
            ridge = Ridge(alpha / size * x[piece].var(axis=0).sum()).fit(x[piece], latents[piece])
            found, true = ridge.predict(x[others]), latents[others]
            found, true = found - found.mean(axis=0), true - true.mean(axis=0)
            total, error = total + found.T @ found, error + ((true - found) ** 2).sum()
        products.append(total)
        errors.append(error)
    np.testing.assert_allclose(model.predicted_products_, products[int(np.argmin(errors))], rtol=1e-6)
    assert np.argmin(errors) not in (0, len(alphas) - 1)


def test_more_latents_than_choose_alpha(world, monkeypatch):
    X, y = world.data({"subj01": 90, "subj02": 90, "subj03": 90})
    model = MultiSubjectRidge(alpha=[1e4], n_latents=12, adapt_samples=30, dtype="float64")
    whole = model.fit(X, y).predicted_products_
    monkeypatch.setattr("neurorecon.decoders.shared_latents.LEADING", 5)
    np.testing.assert_allclose(model.fit(X, y).predicted_products_, whole, rtol=1e-9)
