"""Which function paints which place."""

from __future__ import annotations

from collections.abc import Callable

from neurorecon.datasets.scenes.drawing import nature, town
from neurorecon.datasets.scenes.drawing.backdrop import Backdrop

#: The painter of each setting; the walls of a room are painted by the room itself, which is an object.
PAINT: dict[str, Callable[[Backdrop], None]] = {
    "meadow": nature.meadow,
    "beach": nature.beach,
    "street": town.street,
    "city square": town.city_square,
    "snow": nature.snow,
    "desert": nature.desert,
    "lake": nature.lake,
    "forest": nature.forest,
    "sky": nature.sky,
    "underwater": nature.underwater,
    "table": town.table,
    "workshop": town.workshop,
}
