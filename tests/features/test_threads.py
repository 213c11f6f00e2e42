"""Work on several stimuli at a time gives what a loop gives."""

from __future__ import annotations

import numpy as np
import pytest

from neurorecon.features.threads import for_each


@pytest.mark.parametrize("number", [1, 2, 23])
def test_results_are_in_the_order_of_the_stimuli(number: int) -> None:
    stimuli = np.random.default_rng(0).random((number, 3, 4))
    np.testing.assert_array_equal(for_each(lambda one: one.sum(axis=0), stimuli), stimuli.sum(axis=1))


def test_what_goes_wrong_with_one_stimulus_is_raised() -> None:
    with pytest.raises(ZeroDivisionError):
        for_each(lambda one: np.array(1 / int(one)), [np.array(2), np.array(0), np.array(1)])
