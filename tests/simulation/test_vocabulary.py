from neurorecon.simulation import vocabulary as v
from neurorecon.simulation.drawing.backgrounds import PAINT
from neurorecon.simulation.drawing.render import DRAW


def test_every_category_has_kinds_and_every_kind_a_painter() -> None:
    assert len(v.CATEGORIES) == 8
    assert len(v.KINDS) >= 20
    assert set(v.KINDS.values()) == set(v.CATEGORIES)
    assert all(len(v.kinds_of(category)) >= 3 for category in v.CATEGORIES)
    assert set(DRAW) == set(v.KINDS)
    assert set(PAINT) == set(v.SETTINGS) - {"room"}  # a room is an object that paints its own walls


def test_names_in_the_tables_exist() -> None:
    for kind, traits in v.TRAITS.items():
        assert set(traits.settings) <= set(v.SETTINGS), kind
        assert set(traits.colors) <= set(v.COLORS), kind
        assert 0 < traits.fill <= 1
        assert traits.size[0] <= traits.size[1] <= 1
        assert traits.size[1] * traits.aspect <= 1.05, kind
    for name, setting in v.SETTINGS.items():
        assert set(setting.companions) <= set(v.KINDS), name
        assert 0 <= setting.horizon[0] <= setting.horizon[1] <= 1


def test_colors_can_be_told_apart() -> None:
    values = list(v.COLORS.values())
    for number, first in enumerate(values):
        for second in values[:number]:
            assert sum((a - b) ** 2 for a, b in zip(first, second, strict=True)) > 25**2
