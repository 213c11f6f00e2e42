"""The contract suite passes decoders that keep the contract, and names what is wrong with the others."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.base import BaseEstimator
from sklearn.linear_model import Ridge
from sklearn.utils.validation import check_is_fitted

from neurorecon.decoders.persistence import Persistent
from neurorecon.decoders.targets import Targets
from neurorecon.decoders.validation import check_inputs
from neurorecon.errors import InputError
from neurorecon.testing import ContractError, Problem, check_decoder, decoder_checks


class GoodDecoder(Persistent, BaseEstimator):
    """Ridge regression of scikit-learn, in a few lines."""

    def __init__(self, alpha=1.0):
        self.alpha = alpha

    def fit(self, X, y=None, groups=None):
        x = check_inputs(self, X, "float32", reset=True)
        targets = Targets(y, "float32")
        if targets.n_samples != len(x) or (groups is not None and np.shape(groups) != (len(x),)):
            raise InputError("different numbers of samples")
        values = np.concatenate([block for _, block in self.blocks(targets)], axis=1)
        if not np.isfinite(values).all():
            raise InputError("targets are not finite")
        fitted = Ridge(self.alpha).fit(x, values)
        self.weights_, self.means_ = fitted.coef_.reshape(values.shape[1], -1), np.atleast_1d(fitted.intercept_)
        self.target_shape_ = targets.shape
        return self

    def blocks(self, targets):
        return targets.blocks()

    def predict(self, X):
        check_is_fitted(self)
        x = check_inputs(self, X, "float32", reset=False)
        return (x @ self.weights_.T + self.means_).reshape(len(x), *self.target_shape_)

    def score(self, X, y):
        predicted, y = self.predict(X), np.asarray(y, dtype=np.float64)
        return 1 - ((y - predicted) ** 2).sum(0) / ((y - y.mean(0)) ** 2).sum(0)


class Renaming(GoodDecoder):
    def __init__(self, alpha=1.0):
        self.alpha = alpha
        self.strength_ = 2 * alpha


class Eager(GoodDecoder):
    def predict(self, X):
        return super().predict(X) if hasattr(self, "weights_") else np.zeros((len(X), 2))


class Flat(GoodDecoder):
    def predict(self, X):
        return super().predict(X).reshape(len(X), -1)


class Stubborn(GoodDecoder):
    def predict(self, X):
        return np.zeros_like(super().predict(X))


class Correlated(GoodDecoder):
    def score(self, X, y):
        return np.sqrt(super().score(X, y))


class Unscored(GoodDecoder):
    def score(self, X, y):
        return 1 / 0


class Noisy(GoodDecoder):
    def fit(self, X, y=None, groups=None):
        super().fit(X, y, groups)
        self.means_ = self.means_ + np.float32(np.random.default_rng().random())
        return self


class Remembering(GoodDecoder):
    def fit(self, X, y=None, groups=None):
        before = getattr(self, "n_fits_", 0)
        super().fit(X, y, groups)
        self.n_fits_ = before + 1
        self.means_ = self.means_ + np.float32(before)
        return self


class Seeding(GoodDecoder):
    def fit(self, X, y=None, groups=None):
        np.random.seed(0)  # noqa: NPY002
        return super().fit(X, y, groups)


class Centering(GoodDecoder):
    def fit(self, X, y=None, groups=None):
        if isinstance(y, np.ndarray) and y.dtype.kind == "f" and y.flags.writeable and y.ndim == 3:
            y -= y.mean(axis=0)
        return super().fit(X, y, groups)


class Loading(GoodDecoder):
    def fit(self, X, y=None, groups=None):
        scale = np.float32(1 if isinstance(y, np.ndarray) else 2)
        super().fit(X, y, groups)
        self.means_ = scale * self.means_
        return self


class Standardizing(GoodDecoder):
    def predict(self, X):
        return super().predict(X - np.asarray(X).mean(axis=0))


class Numbered(GoodDecoder):
    def fit(self, X, y=None, groups=None):
        super().fit(X, y, groups)
        labels = np.asarray(groups)
        self.means_ = self.means_ + (labels.max() if labels.dtype.kind == "i" else 0)
        return self


class Leaking(GoodDecoder):
    def fit(self, X, y=None, groups=None):
        super().fit(X, y, groups)
        self.validation_rows_ = np.arange(5)
        return self


class Hiding(GoodDecoder):
    def fit(self, X, y=None, groups=None):
        super().fit(X, y, groups)
        self._shift = 1.0
        return self

    def predict(self, X):
        return super().predict(X) + np.float32(getattr(self, "_shift", 0))


class Fragile(GoodDecoder):
    def __getstate__(self):
        return {name: value for name, value in super().__getstate__().items() if name != "weights_"} | {
            "weights_": self.__dict__.get("weights_", np.zeros(1)) * 2
        }


class Trusting(GoodDecoder):
    def fit(self, X, y=None, groups=None):
        return super().fit(X, np.nan_to_num(y, posinf=0) if isinstance(y, np.ndarray) and y.dtype.kind == "f" else y)


class Returning(GoodDecoder):
    def fit(self, X, y=None, groups=None):
        super().fit(X, y, groups)
        return self.weights_


BROKEN = {
    Renaming: ("parameters", "may not be there before fit"),
    Eager: ("unfitted", "NotFittedError"),
    Flat: ("shapes", "has to return the shape"),
    Stubborn: ("learns", "with an R2 of 0.5"),
    Correlated: ("score", "score has to be R2"),
    Noisy: ("determinism", "fitted again"),
    Remembering: ("refit", "forget the first"),
    Seeding: ("global_state", "the random numbers of NumPy"),
    Centering: ("inputs_stay", "may not write into y"),
    Loading: ("storage", "Targets in a dask array"),
    Standardizing: ("rows", "alone and together with others"),
    Numbered: ("groups", "named by text"),
    Leaking: ("groups", "groups that are trained on"),
    Hiding: ("save", "loaded has to predict the same"),
    Fragile: ("pickle", "after pickling"),
    Trusting: ("errors", "Infinite targets has to raise"),
    Returning: ("learns", "fit has to return the decoder itself"),
}


def test_a_good_decoder_passes():
    assert check_decoder(GoodDecoder()) == [str(check) for check in decoder_checks()]


@pytest.mark.parametrize("decoder", BROKEN, ids=lambda decoder: decoder.__name__)
def test_a_broken_decoder_fails_the_right_check(decoder):
    failing, said = BROKEN[decoder]
    check = next(check for check in decoder_checks() if str(check) == failing)
    with pytest.raises(ContractError) as caught:
        check(decoder())
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_all_failures_are_reported():
    with pytest.raises(ContractError, match=r"(?s)Flat does not keep the contract\nshapes: .*"):
        check_decoder(Flat())

    with pytest.raises(ContractError, match="score: the decoder raised ZeroDivisionError") as caught:
        check_decoder(Unscored())
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_the_problem_is_learnable_and_its_stimuli_repeat():
    problem = Problem()
    assert np.unique(problem.groups, return_counts=True)[1].tolist() == [2] * 24
    assert problem.y.shape == (48, 2, 3)
    first, second = (np.array([np.flatnonzero(problem.groups == g)[n] for g in range(24)]) for n in (0, 1))
    np.testing.assert_array_equal(problem.y[first], problem.y[second])
    assert not np.array_equal(problem.X[first], problem.X[second])
