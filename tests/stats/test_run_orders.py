"""Orders of ordered samples: equal runs trade places and are shifted in a circle; all orders where there are few."""

import numpy as np
import pytest

from neurorecon.errors import InputError
from neurorecon.stats.exchange import run_orders


def test_all_orders_of_few_runs():
    runs = np.repeat(["a", "b"], 3)
    orders = run_orders(runs, 100, 0)
    assert len({tuple(order) for order in orders}) == len(orders) == 2 * 3 * 3 - 1
    assert (np.arange(6) != orders).any(axis=1).all()  # the observed order counts already
    for order in orders:
        for part in (order[:3], order[3:]):
            assert len(set(runs[part])) == 1
            assert tuple(np.diff(part) % 3) == (1, 1)  # still in a circle
    whole = run_orders(runs, 100, 0, unit="run")
    assert whole.tolist() == [[3, 4, 5, 0, 1, 2]]


def test_one_run_has_as_many_shifts_as_samples():
    orders = run_orders(np.zeros(7), 1000, 0)
    assert sorted(orders[:, 0]) == [1, 2, 3, 4, 5, 6]


def test_draws_are_uniform_and_include_the_observed_order():
    runs = np.repeat([3, 1, 2], [4, 4, 6])  # 2 x 4 x 4 x 6 = 192 orders
    orders = run_orders(runs, 191, 0)
    assert len(orders) == 191
    assert len(np.unique(orders, axis=0)) < 191  # draws repeat
    every = run_orders(runs, 192, 0)
    assert len(np.unique(every, axis=0)) == len(every) == 191
    many = run_orders(np.repeat([0, 1, 2], 3), 161, 1)  # 3! x 27 = 162
    first = np.unique(run_orders(np.repeat([0, 1, 2], 3), 161, 2)[:, 0], return_counts=True)[1]
    assert first.min() > 5  # all nine samples come to the first place
    assert (np.sort(many, axis=1) == np.arange(9)).all()
    assert (orders[:, 8:] >= 8).all()  # runs of other lengths stay


def test_nothing_to_trade():
    with pytest.raises(InputError, match="cannot be permuted"):
        run_orders([0, 1, 1], 9, 0, unit="run")
