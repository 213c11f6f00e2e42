"""A decoder under test, and what is asked of it again and again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from neurorecon.errors import InputError
from neurorecon.testing.contract import ContractError, expect
from neurorecon.testing.problems import Problem


@dataclass
class Trial:
    """A decoder under test.

    Parameters
    ----------
    decoder : estimator
        Made with the settings to test; it is not fitted itself, copies of it are.
    problem : Problem
    tolerance, least_r2 : float
    """

    decoder: Any
    problem: Problem
    tolerance: float
    least_r2: float

    @property
    def copy(self) -> Any:
        """The decoder, not fitted."""
        from sklearn.base import clone

        return clone(self.decoder)

    def fit(self, y: Any = None, X: Any = None, groups: Any = None) -> Any:
        """Return a copy that is fitted to the problem, or to another."""
        problem = self.problem
        fitted = self.copy
        returned = fitted.fit(
            problem.X if X is None else X,
            problem.y if y is None else y,
            groups=problem.groups if groups is None else groups,
        )
        expect(returned is fitted, "fit has to return the decoder itself.")
        return fitted

    @cached_property
    def fitted(self) -> Any:
        """A copy that is fitted to the problem; checks may not change it."""
        return self.fit()

    @cached_property
    def predicted(self) -> np.ndarray:
        """What it predicts of the new samples."""
        found: np.ndarray = self.fitted.predict(self.problem.X_new)
        return found

    def expect_same(self, decoder: Any, sentence: str) -> None:
        """Expect a decoder to predict the same bits."""
        found = np.asarray(decoder.predict(self.problem.X_new))
        expect(found.dtype == self.predicted.dtype and np.array_equal(found, self.predicted), sentence)


def expect_refused(call: Callable[[], Any], what: str) -> None:
    """Expect an InputError of a call."""
    try:
        call()
    except InputError:
        return
    except Exception as error:
        raise ContractError(
            f"{what.capitalize()} has to raise neurorecon.errors.InputError, but raises {type(error).__name__}."
        ) from error
    raise ContractError(f"{what.capitalize()} has to raise neurorecon.errors.InputError, but is taken.")


def mean_r2(measured: np.ndarray, predicted: np.ndarray) -> float:
    """Return the mean R2 over targets, (sample, ...), as scikit-learn has it."""
    from sklearn.metrics import r2_score

    number = len(measured)
    return float(r2_score(measured.reshape(number, -1), np.asarray(predicted).reshape(number, -1)))
