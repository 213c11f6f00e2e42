"""Decoding fits in blocks of targets: the predictions of one decoder, anyone who computed them."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import Ridge

import neurorecon as nr
from neurorecon.datasets.recipe import Recipe
from neurorecon.decoders import RidgeDecoder
from neurorecon.decoders import smoother as target_blocks
from neurorecon.decoders.smoother import predict_target_blocks
from neurorecon.errors import InputError
from neurorecon.registry import DATASETS
from neurorecon.testing.miniature import MiniatureReader


@pytest.fixture(scope="module")
def problem(tmp_path_factory):
    """A store, responses to its training stimuli (some shown twice), the target itself and responses to others."""
    DATASETS.register("miniature", MiniatureReader)
    recipe = Recipe(name="miniature", reader="miniature", targets=["gabor"], options={"subjects": 1})
    store = nr.build(recipe, tmp_path_factory.mktemp("targets") / "m.icechunk", progress=False)
    stimuli = store.target_stimuli("gabor").tolist()
    stimuli += stimuli[:3]
    random = np.random.default_rng(0)
    x, x_test = random.standard_normal((len(stimuli), 40)), random.standard_normal((5, 40))
    y = store.targets("gabor", stimuli=stimuli).values.astype(np.float64)
    return store, stimuli, x, x_test, y


def test_blocks_are_what_scikit_learn_predicts(problem):
    store, stimuli, x, x_test, y = problem
    found = predict_target_blocks(x, store, "gabor", stimuli, x_test, 30.0, block=7, dtype="float64")
    assert len(found.names) == -(-y[0].size // 7)
    assert found.array().shape == (5, *y.shape[1:])
    expected = Ridge(alpha=30.0).fit(x, y.reshape(len(y), -1)).predict(x_test)
    np.testing.assert_allclose(found.array().reshape(5, -1), expected, atol=1e-8)
    single = predict_target_blocks(x, store, "gabor", stimuli, x_test, 30.0)
    np.testing.assert_allclose(single.array().reshape(5, -1), expected, atol=1e-4)


def test_a_strength_for_each_target(problem):
    store, stimuli, x, x_test, y = problem
    decoder = RidgeDecoder([1.0, 30.0, 1000.0], alpha_per="target", cv=3, dtype="float64").fit(x, y, groups=stimuli)
    assert len(np.unique(decoder.alpha_)) > 1
    found = predict_target_blocks(x, store, "gabor", stimuli, x_test, decoder.alpha_, block=9, dtype="float64")
    np.testing.assert_allclose(found.array(), decoder.predict(x_test), atol=1e-8)


def test_a_rerun_computes_only_the_blocks_that_are_missing(problem, tmp_path, monkeypatch):
    store, stimuli, x, x_test, _ = problem
    computed = []
    whole = target_blocks.predict_block
    monkeypatch.setattr(target_blocks, "predict_block", lambda *given: computed.append(given[-1]) or whole(*given))

    def predict(alpha):
        return predict_target_blocks(x, store, "gabor", stimuli, x_test, alpha, block=7, results=tmp_path)

    first = predict(30.0)
    blocks = list(first.names)
    before = first.array()
    first.results.remove(blocks[1])
    np.testing.assert_array_equal(predict(30.0).array(), before)
    assert computed == [*first.names.values(), first.names[blocks[1]]]
    predict(31.0)
    assert len(computed) == 2 * len(blocks) + 1


def test_what_does_not_fit_is_refused(problem):
    store, stimuli, x, x_test, _ = problem
    with pytest.raises(InputError, match="different numbers of samples"):
        predict_target_blocks(x[1:], store, "gabor", stimuli, x_test, 30.0)
    with pytest.raises(InputError, match="alpha does not match the targets"):
        predict_target_blocks(x, store, "gabor", stimuli, x_test, [1.0, 2.0, 3.0])
