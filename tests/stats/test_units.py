import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neurorecon.errors import InputError
from neurorecon.stats.permutation import UnitPermutations


@settings(max_examples=40, deadline=None)
@given(sizes=st.lists(st.integers(1, 3), min_size=3, max_size=8), seed=st.integers(0, 999))
def test_units_move_as_wholes_to_places_of_units_of_their_size(sizes, seed):
    sizes = [*sizes, sizes[0]]  # at least two may trade places
    generator = np.random.default_rng(seed)
    units = generator.permutation(np.repeat(np.arange(len(sizes)), sizes))
    names = np.array([f"stimulus {number}" for number in range(len(sizes))])[units]
    for rows in UnitPermutations(len(units), 4, seed, names):
        np.testing.assert_array_equal(np.sort(rows), np.arange(len(units)))
        for unit in range(len(sizes)):
            places = np.flatnonzero(units == unit)
            (came,) = set(units[rows[places]])
            # The first repeat comes to the place of a first repeat, and so on.
            np.testing.assert_array_equal(rows[places], np.flatnonzero(units == came))


def test_units_stay_within_their_session():
    session = np.repeat([0, 1], 6)
    units = np.repeat(np.arange(6), 2)
    for rows in UnitPermutations(12, 20, 0, units, within=session):
        np.testing.assert_array_equal(session[rows], session)


def test_orders_are_those_of_the_stimuli_where_each_sample_is_a_unit():
    orders = UnitPermutations(5, 7, 3)
    np.testing.assert_array_equal(np.stack(list(orders)), orders.orders)


def test_what_cannot_be_permuted_is_refused():
    with pytest.raises(InputError, match="no two of these units"):
        UnitPermutations(6, 3, 0, units=[0, 1, 1, 2, 2, 2])
    with pytest.raises(InputError, match="different labels in `within`"):
        UnitPermutations(4, 3, 0, units=[0, 0, 1, 1], within=[0, 1, 0, 1])
    with pytest.raises(InputError, match="one label for each training sample"):
        UnitPermutations(4, 3, 0, units=[0, 1])
