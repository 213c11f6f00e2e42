import pytest
from hypothesis import given
from hypothesis import strategies as st

from neurorecon import errors
from neurorecon.errors import InputError, NeuroreconError, UnknownNameError


def test_a_message_says_what_was_given_expected_and_to_do():
    error = InputError("this is wrong", given=3, expected="more than 3", todo="add 1")
    assert str(error).splitlines() == [
        "this is wrong",
        "  given:    3",
        "  expected: more than 3",
        "  to do:    add 1",
    ]
    assert str(InputError("alone")) == "alone"
    assert "  given:    0" in str(InputError("zero counts", given=0))


def test_every_error_is_ours_and_a_value_error():
    items = [item for item in vars(errors).values() if isinstance(item, type) and issubclass(item, Exception)]
    found = [item for item in items if not issubclass(item, Warning)]
    assert len(found) >= 6
    assert all(issubclass(item, errors.NeuroreconWarning) for item in items if item not in found)
    for item in found:
        assert issubclass(item, NeuroreconError)
        assert item is NeuroreconError or issubclass(item, ValueError)


@pytest.mark.parametrize(
    ("name", "todo"), [("MTT", "did you mean 'MT'?"), ("zzzz", "use one of the names above"), ("v1", "names above")]
)
def test_an_unknown_name_gets_the_nearest_known_one(name, todo):
    message = str(UnknownNameError("ROI", name, ["V1", "MT", "FFA"]))
    assert f"unknown ROI '{name}'" in message
    assert "one of: V1, MT, FFA" in message
    assert todo in message


def test_an_unknown_name_where_nothing_exists():
    assert "(none exist)" in str(UnknownNameError("target", "gabor", []))


@given(st.text(max_size=20), st.lists(st.text(max_size=10), max_size=5))
def test_any_name_gives_a_message_that_lists_all_known(name, known):
    message = str(UnknownNameError("thing", name, known))
    assert repr(name) in message
    for item in known:
        assert item in message
