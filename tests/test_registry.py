from importlib.metadata import EntryPoint

import pytest

from neurorecon import registry
from neurorecon.errors import InputError, UnknownNameError
from neurorecon.registry import DATASETS, DECODERS, FEATURES, SYSTEMS, Registry


@pytest.mark.parametrize("table", [DATASETS, FEATURES, DECODERS, SYSTEMS], ids=lambda table: table.kind)
def test_every_shipped_name_can_be_loaded(table):
    assert table._builtin
    for name in table._builtin:  # other tests register names of their own
        thing = table.load(name)
        assert callable(thing)
        assert getattr(thing, "name", name) == name


def test_unknown_names_list_the_known():
    with pytest.raises(UnknownNameError, match=r"unknown target 'gabr'[\s\S]*gabor, category, motion[\s\S]*'gabor'\?"):
        FEATURES.load("gabr")


def test_names_of_this_process():
    table = Registry("thing", "neurorecon.tests", {"ours": "math:pi"})
    table.register("mine", 3)
    table.register("mine", 3)  # the same again changes nothing
    assert table.names() == ["ours", "mine"]
    assert table.load("mine") == 3
    for taken in ("mine", "ours"):
        with pytest.raises(InputError, match=f"the name '{taken}' is already taken"):
            table.register(taken, 4)


def test_names_of_other_packages_come_after_ours(monkeypatch):
    points = [
        EntryPoint("theirs", "fractions:Fraction", "neurorecon.tests"),
        EntryPoint("ours", "fractions:Fraction", "neurorecon.tests"),
    ]
    monkeypatch.setattr(registry, "entry_points", lambda group: points)
    table = Registry("thing", "neurorecon.tests", {"ours": "decimal:Decimal"})
    assert table.names() == ["ours", "theirs"]
    assert table.load("theirs").__name__ == "Fraction"
    assert table.load("ours").__name__ == "Decimal"


def test_a_missing_package_is_named():
    table = Registry("thing", "neurorecon.tests", {"far": "no_such_package_anywhere.part:Thing"})
    with pytest.raises(InputError, match="pip install no_such_package_anywhere"):
        table.load("far")
