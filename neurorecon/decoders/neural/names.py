"""One target, or several by name: inside all have names, outside the only one has none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from neurorecon.decoders.neural.rows import ONLY


def plain(named: Mapping[str, Any]) -> Any:
    """Return the only one, or all by name."""
    return named[ONLY] if set(named) == {ONLY} else dict(named)


def named_values(value: Any) -> dict[str, Any]:
    """Return values by name; the only one has the name that stands for none."""
    return dict(value) if isinstance(value, Mapping) else {ONLY: value}
